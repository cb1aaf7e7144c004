"""The cheap baseline: a frozen ImageNet trunk, mean and spread of several depths, a linear head on the pool's pairs.

    PYTHONPATH=experiments python experiments/plain/frozen.py NAME RUN... --data DATA --text WHAT [--pairs 6000] \\
      [--work DIR] [--synthetic DIR] [--taef2 DIR] [--split train]

It learns of the pool that the runs learned of, without what all of them lacked, and is measured as
`leave_out/measure.py` measures; the record is `leave_out/NAME.json`. The regularisation is chosen on a fifth of the
training pairs.
"""

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from common import one_thread
from leave_out.measure import measured, options
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.pairs_pool import Pool
from unmask.lab.detection.systems import EvaluatedSystem
from unmask.lab.metrics import auc
from unmask.lab.run import config_of
from unmask.networks.backbones import PACKAGED, imagenet_state, load_matching

_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)


class Trunk(torch.nn.Module):
    """EfficientNet-Lite0 with its ImageNet weights: mean and spread of the ends of all stages but the last two."""

    def __init__(self) -> None:
        super().__init__()
        import timm

        model = timm.create_model(PACKAGED, pretrained=False, num_classes=0, global_pool="", bn_eps=1e-3)
        load_matching(model, imagenet_state(), "of the backbone")
        self.model = model.eval().to(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward(self, crops: np.ndarray) -> np.ndarray:
        """Features float32 (N, F) of crops uint8 (N, S, S, 3)."""
        x = (torch.from_numpy(crops).permute(0, 3, 1, 2).float() - 127) / 128
        x = x.contiguous(memory_format=torch.channels_last)
        out = []
        with torch.autocast("cpu", torch.bfloat16):
            x = self.model.bn1(self.model.conv_stem(x))
            for stage in self.model.blocks[:5]:
                x = stage(x)
                deep = x.float()
                out += [deep.mean((2, 3)), deep.std((2, 3))]
        return torch.cat(out, 1).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the record")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--pairs", type=int, default=6000)
    options(parser)
    chosen = parser.parse_args()
    one_thread()
    began = time.monotonic()
    configs: list[DetectionTrainConfig] = [config_of(run) for run in chosen.runs]
    lacked = set.intersection(*({*config.without} for config in configs))
    config = replace(
        configs[0],
        before=(),
        before_sources=(),
        start=DetectionTrainConfig.start,
        without=tuple(sorted(lacked)),
        families=tuple(dict.fromkeys(name for one in configs for name in one.families)),
        kinds=tuple(dict.fromkeys(kind for one in configs for kind in one.kinds)),
    )
    pools = sorted((chosen.work / "pools").glob("*/plan.json"))
    assert len(pools) == 1, "name a work folder with one pool"
    pool, trunk = Pool.open(pools[0].parent), Trunk()
    rows = np.random.default_rng(0).permutation(pool.without(config.without, config.without_sources))[: chosen.pairs]
    features = np.concatenate(
        [trunk(np.concatenate(pool.pixels[np.sort(some)])) for some in np.split(rows, range(32, len(rows), 32))]
    )
    labels = np.tile([0, 1], len(rows))
    own = len(labels) * 4 // 5 // 2 * 2  # pairs stay together

    def fitted(strength: float, count: int):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
        return model.fit(features[:count], labels[:count])

    aucs = {c: auc(labels[own:], fitted(c, own).decision_function(features[own:])) for c in _STRENGTHS}
    model = fitted(max(aucs, key=lambda c: aucs[c]), len(labels))
    print(f"strengths: {aucs}", flush=True)

    def score(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = [model.decision_function(trunk(crops[start : start + 32])) for start in range(0, len(crops), 32)]
        return np.concatenate(logits), np.zeros((len(crops), 1, 1), np.float32)

    system = EvaluatedSystem("frozen trunk", score, config.size, config.margin, runs=(asdict(config),))
    cost = {"pairs": len(rows), "steps": 0, "seconds": round(time.monotonic() - began)}
    about = {
        **cost,
        "kinds": list(config.kinds),
        "began_with": [],
        "without_sources": list(config.without_sources),
        "aucs": {str(c): round(value, 4) for c, value in aucs.items()},
    }
    measured(chosen, [system], {"frozen trunk": about})


if __name__ == "__main__":
    main()
