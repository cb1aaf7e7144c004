"""Peers, in one run, as ratios: the pack in ONNX Runtime, its network in eager torch, Xception-299 in eager torch.

Xception at 299 pixels is what most published detectors of face forgery run on. All three share the face finder and
one thread, take turns in a shuffled order, and are compared round by round. The torch networks have random weights:
their speed does not depend on them.
"""

import random
import time
from collections.abc import Callable

import numpy as np
import timm
import torch
from common import finish, parser, portrait, spread

from unmask.faces.alignment import context_crop
from unmask.faces.finding import FaceFinder
from unmask.forgery.fusion import Fused
from unmask.lab.methods import build
from unmask.packs import load_pack

Network = Callable[[np.ndarray], object]


def in_torch(model: torch.nn.Module, mean: float = 0.5, std: float = 0.5) -> Network:
    """The usual eager call, on uint8 (S, S, 3)."""
    model.eval()

    def run(crop: np.ndarray) -> object:
        with torch.inference_mode():
            return model((torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255 - mean) / std)

    return run


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--rounds", type=int, default=40)
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(chosen.seed)
    pack = load_pack(chosen.pack)
    # The first packs' cards name no options, only what their one method looked at.
    members = [
        build(run["method"], {**run.get("options", {"view": run.get("view")}), "weights": "none"}, (), run["size"])
        for run in pack.card.protocol["runs"]
    ]
    finder = FaceFinder()
    picture = portrait()

    def onnx(crop: np.ndarray) -> object:
        return pack.run(crop.transpose(2, 0, 1)[None].astype(np.float32) / 255)

    size = pack.card.input_size[0]
    networks: dict[str, tuple[int, Network]] = {
        "pack, ONNX Runtime": (size, onnx),
        "pack's network, eager torch": (size, in_torch(Fused(members), 0.0, 1.0)),
        "Xception-299, eager torch": (
            299,
            in_torch(timm.create_model("legacy_xception", pretrained=False, num_classes=2)),
        ),
    }
    network_times: dict[str, list[float]] = {name: [] for name in networks}
    pipeline_times: dict[str, list[float]] = {name: [] for name in networks}
    order = list(networks)
    shuffler = random.Random(chosen.seed)
    for turn in range(chosen.rounds + 2):
        shuffler.shuffle(order)
        for name in order:
            side, network = networks[name]
            start = time.perf_counter()
            face = finder.find(picture)[0]
            crop, _ = context_crop(picture, face.box, pack.card.crop_margin or 1.3, side)
            cropped = time.perf_counter()
            network(crop)
            end = time.perf_counter()
            if turn >= 2:
                network_times[name].append(end - cropped)
                pipeline_times[name].append(end - start)
    ours = next(iter(networks))
    results = {}
    for what, times in (("network", network_times), ("face finder and network", pipeline_times)):
        results[what] = {
            name: {
                "seconds": spread(values),
                "times_ours": spread([other / own for other, own in zip(values, times[ours], strict=True)]),
            }
            for name, values in times.items()
        }
    finish(chosen, "peers", results)


if __name__ == "__main__":
    main()
