"""Scores of whole splits by trained detectors: each exported once, run by ONNX Runtime, every crop once. Lab only.

On the CPU that is several times faster than plain torch and says the same (`tests/lab/detection/test_onnx_scoring.py`;
`benchmarks/scoring.py` measures it). Detectors in training, which change all the time, are scored by
`scoring.logits_of`.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.forgery.detector import Detector, DetectorOutput
from unmask.forgery.fusion import common_size, fuse
from unmask.lab.detection.scoring import Scorer
from unmask.lab.onnx_export import onnx_model
from unmask.lab.run import config_of
from unmask.lab.train import load_network
from unmask.offline import onnx_runtime
from unmask.provenance import sha256_of

_BATCH = 8  # larger ones are slower: they leave the processor's cache
_REMEMBERED = 8192  # crops whose scores are kept: all of one condition; their maps take 25 MB


class OnnxDetector:
    """A detector in ONNX Runtime; it is exported on first use, and remembers the crops that it has scored last.

    Args:
        detector: trained.
    """

    def __init__(self, detector: Detector) -> None:
        self.size = detector.size
        self._detector = detector.eval()
        self._remembered: OrderedDict[bytes, tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def outputs(self, crops: np.ndarray, digests: Sequence[bytes]) -> DetectorOutput:
        """What the detector says of crops uint8 (N, S, S, 3), whose `digests_of` are given."""
        new = {digest: row for row, digest in enumerate(digests) if digest not in self._remembered}
        scored = {digest: self._remembered[digest] for digest in digests if digest not in new}
        rows = list(new.values())
        for start in range(0, len(rows), _BATCH):
            some = rows[start : start + _BATCH]
            pixels = crops[some].transpose(0, 3, 1, 2).astype(np.float32) / 255
            for row, logit, heat in zip(some, *self._session.run(None, {"faces": pixels}), strict=True):
                scored[digests[row]] = (logit, heat)
        for digest, said in scored.items():
            self._remembered[digest] = said
            self._remembered.move_to_end(digest)
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        logits, maps = ([scored[digest][place] for digest in digests] for place in (0, 1))
        return DetectorOutput(torch.from_numpy(np.stack(logits)), torch.from_numpy(np.stack(maps)))

    @cached_property
    def _session(self) -> Any:
        runtime, model = onnx_runtime(), onnx_model(_Logits(self._detector), self.size, ("logit", "map"))
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class _Logits(nn.Module):
    """Logits (B,) and maps (B, 1, h, w) in logits, as members are fused."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        out = self.detector(faces)
        return out.logit.float(), out.map.float()


def digests_of(crops: np.ndarray) -> list[bytes]:
    """A digest of every crop, uint8 (N, S, S, 3)."""
    return [hashlib.blake2b(crop.tobytes(), digest_size=16).digest() for crop in crops]


def onnx_scorer(detectors: Sequence[OnnxDetector]) -> Scorer:
    """A scorer that fuses detectors as `Fused` does; a crop is shown to each of them once.

    Raises:
        DataError: they see faces at different sizes.
    """
    common_size([detector.size for detector in detectors])

    def score(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        digests = digests_of(crops)
        out = fuse([detector.outputs(crops, digests) for detector in detectors])
        return out.logit.numpy(), out.map.sigmoid()[:, 0].numpy()

    return score


def detectors_of(folders: Sequence[Path]) -> list[Detector]:
    """The averaged detectors of finished runs.

    Raises:
        DataError: a run is not finished, or of another task.
    """
    networks = [load_network(folder) for folder in folders]
    detectors: list[Detector] = [network for network in networks if isinstance(network, Detector)]
    if len(detectors) < len(networks):
        raise DataError(f"{', '.join(map(str, folders))}: not all of them are runs of forgery detectors")
    return detectors


def scorer_of_runs(folders: Sequence[Path]) -> Scorer:
    """A scorer over the averaged detectors of finished runs, fused. A run is exported once, whoever names it.

    Raises:
        DataError: a run is not finished, or of another task; or they see faces at different sizes.
    """
    detectors = detectors_of(folders)
    keys = [(sha256_of(folder / "weights.safetensors"), repr(config_of(folder))) for folder in folders]
    return onnx_scorer([_OF_RUNS.setdefault(key, OnnxDetector(one)) for key, one in zip(keys, detectors, strict=True)])


_OF_RUNS: dict[tuple[str, str], OnnxDetector] = {}
"""By the digest of a run's weights and its configuration."""
