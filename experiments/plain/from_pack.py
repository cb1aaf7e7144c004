"""Run folders out of a pack's members, to start training from: `python from_pack.py PACK STORE OUT...`.

A pack's graph has batch normalisation folded into the convolutions. Each folded convolution is loaded as it is, and the
normalisation behind it gets the mean and spread of its outputs on training crops as its running statistics, and the
inverse as its affine part: the network is the same function in evaluation, and almost the same on a batch's own
statistics. Half-precision weights are all that a pack holds.
"""

import argparse
import json
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from unmask.datasets.face_store import read_store
from unmask.faces.alignment import context_crop, scale_box
from unmask.forgery.plain import Plain
from unmask.forging.families import family
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.held_out import apply_condition
from unmask.lab.engine import save_weights
from unmask.packs import load_pack

_OWN = ("selfblend", "swap", "resynthesis", "stylegan", "ciplab", "mobilestylegan")
"""What cards from before cards listed it were trained on: families, but for those left out, and sources of reals."""


_SOURCES = ("celebamask", "ciplab", "ffhq", "utkface")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("pack")
    arguments.add_argument("store", type=Path)
    arguments.add_argument("out", nargs="+", type=Path, help="one run folder per member, in order")
    chosen = arguments.parse_args()
    pack = load_pack(chosen.pack)
    graph = onnx.load(pack.folder / "model.onnx").graph
    tensors = {t.name.removesuffix(".half"): numpy_helper.to_array(t).astype(np.float32) for t in graph.initializer}
    crops = training_crops(chosen.store, 160)
    for number, (folder, protocol) in enumerate(zip(chosen.out, pack.card.protocol["runs"], strict=True)):
        prefix = f"detector.members.{number}."
        if not any(name.startswith(prefix) for name in tensors):
            prefix = "detector."
        network = unfolded({n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}, crops)
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(network, folder / "weights.safetensors")
        known = {each.name for each in fields(DetectionTrainConfig)}
        families = [name for name in _OWN if name not in protocol.get("without", ())]
        kinds = sorted({family(name).kind for name in families})
        protocol = {"families": families, "kinds": kinds, "sources": _SOURCES, **protocol}
        options = {"view": protocol["view"]} if "view" in protocol else dict(protocol.get("options", {}))
        config = DetectionTrainConfig(
            **{n: v for n, v in protocol.items() if n in known and n != "options"}, options=options
        )
        record = {
            "protocol": json.loads(json.dumps(asdict(config))),
            "data_sha256": pack.card.training_data_sha256,
            "task": pack.card.task,
            "command": f"from_pack.py {chosen.pack}",
            "versions": {},
        }
        (folder / "run.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def training_crops(store: Path, count: int) -> torch.Tensor:
    """Some training faces of both classes, float32 (N, 3, 224, 224) in [0, 1]."""
    faces = [face for face in read_store(store) if face.sample.split == "train"]
    some = [faces[row] for row in np.random.default_rng(0).permutation(len(faces))[:count]]
    crops = []
    for face in some:
        pixels = apply_condition(face.pixels(), "clean")
        crops.append(context_crop(pixels, scale_box(face.box, len(pixels) / face.side), 1.4, 224)[0])
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def unfolded(tensors: dict[str, np.ndarray], crops: torch.Tensor) -> nn.Module:
    """A network of folded tensors, its normalisations set from the convolutions' outputs on some crops."""
    network = Plain(weights="none").eval()
    pairs = normalised_convolutions(network)
    state = network.state_dict()
    for name in state:
        if name in tensors:
            state[name] = torch.from_numpy(tensors[name].copy()).view(state[name].shape)
    network.load_state_dict(state)
    biases = {conv: torch.from_numpy(tensors[f"{conv}.weight_bias"].copy()) for conv in pairs}
    modules = dict(network.named_modules())
    for conv, norm in pairs.items():  # the identity plus the folded bias
        layer = modules[norm]
        layer.running_mean.zero_()
        layer.running_var.fill_(1 - layer.eps)
        layer.weight.fill_(1)
        layer.bias.copy_(biases[conv])
    sums: dict[str, list[torch.Tensor]] = {conv: [] for conv in pairs}
    hooks = [
        modules[conv].register_forward_hook(
            lambda _, __, out, conv=conv: sums[conv].append(
                torch.stack([out.mean((0, 2, 3)), out.square().mean((0, 2, 3))])
            )
        )
        for conv in pairs
    ]
    before = torch.cat([network(part).logit for part in crops.split(16)])
    for hook in hooks:
        hook.remove()
    for conv, norm in pairs.items():
        mean, square = torch.stack(sums[conv]).mean(0)
        variance = (square - mean**2).clamp(min=1e-6)
        layer = modules[norm]
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
        scale = (variance + layer.eps).sqrt()
        layer.weight.copy_(scale)
        layer.bias.copy_(biases[conv] + mean)
    after = torch.cat([network(part).logit for part in crops.split(16)])
    print(f"largest change of a logit: {float((before - after).abs().max()):.2e}; mean logit {float(after.mean()):.3f}")
    return network


def normalised_convolutions(network: nn.Module) -> dict[str, str]:
    """Every convolution that a normalisation follows, with the normalisation's name."""
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    modules = dict(network.named_modules())
    return {
        one: other
        for one, other in pairwise(names)
        if isinstance(modules[one], nn.Conv2d) and isinstance(modules[other], nn.BatchNorm2d)
    }


if __name__ == "__main__":
    main()
