"""Scoring a split with folds that share their members: plain torch, and ONNX Runtime with every crop once a network.

The folds are those of the embedded pack: six pairs of six networks of `plain` with random weights, all of which see the
same crops. Both ways take turns, crop by crop, so that their ratio holds on a busy machine; the exports are apart.
"""

import time

import numpy as np
import torch
from common import finish, parser, spread

from unmask.forgery.fusion import Fused
from unmask.forgery.plain import Plain
from unmask.lab.detection.onnx_scoring import OnnxDetector, onnx_scorer
from unmask.lab.detection.scoring import logits_of

FOLDS = ((0, 3), (1, 3), (2, 4), (2, 5), (0, 4), (1, 5))
CHUNK = 32


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--chunks", type=int, default=6, help=f"of {CHUNK} crops")
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(chosen.seed)
    networks = [Plain(weights="none").eval() for _ in range(6)]
    detectors = [OnnxDetector(network) for network in networks]
    rng = np.random.default_rng(chosen.seed)
    began = time.perf_counter()
    for detector in detectors:
        onnx_scorer([detector])(rng.integers(0, 256, (1, 224, 224, 3), np.uint8))
    exporting = time.perf_counter() - began
    before, after, apart = [], [], {"logit": 0.0, "map": 0.0}
    for _ in range(chosen.chunks):
        crops = rng.integers(0, 256, (CHUNK, 224, 224, 3), np.uint8)
        began = time.perf_counter()
        expected = [logits_of(Fused([networks[n] for n in fold]), crops, torch.device("cpu")) for fold in FOLDS]
        before.append((time.perf_counter() - began) / CHUNK)
        began = time.perf_counter()
        said = [onnx_scorer([detectors[n] for n in fold])(crops) for fold in FOLDS]
        after.append((time.perf_counter() - began) / CHUNK)
        for place, name in enumerate(apart):
            worst = max(float(np.abs(one[place] - two[place]).max()) for one, two in zip(said, expected, strict=True))
            apart[name] = max(apart[name], worst)
    results = {
        "folds": len(FOLDS),
        "networks": len(networks),
        "torch, seconds a crop": spread(before),
        "ONNX Runtime, seconds a crop": spread(after),
        "times as fast": spread([one / two for one, two in zip(before, after, strict=True)]),
        "seconds to export a network": exporting / len(networks),
        "apart at most": apart,
    }
    finish(chosen, "scoring", results)


if __name__ == "__main__":
    main()
