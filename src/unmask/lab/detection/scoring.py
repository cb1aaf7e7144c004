"""Scores of held-out faces: by a detector in training, in plain torch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from unmask.lab.detection.held_out import EvalFace, select_pairs
from unmask.lab.metrics import auc

Scorer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Crops uint8 (N, S, S, 3) -> logits (N,) and maps (N, h, w) in [0, 1]."""


@torch.no_grad()
def logits_of(detector: Any, crops: np.ndarray, device: torch.device, batch: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N,) and maps (N, h, w) in [0, 1] for crops uint8 (N, S, S, 3)."""
    logits, maps = [], []
    for start in range(0, len(crops), batch):
        x = torch.from_numpy(crops[start : start + batch]).to(device).permute(0, 3, 1, 2).float() / 255
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            out = detector(x)
        logits.append(out.logit.float().cpu().numpy())
        maps.append(out.map.float().sigmoid()[:, 0].cpu().numpy())
    return np.concatenate(logits), np.concatenate(maps)


def family_aucs(faces: Sequence[EvalFace], logits: np.ndarray, prefix: str = "") -> dict[str, float]:
    """AUC of every forged family against its reals, and the AUC between two sources of reals farthest from one half."""
    row = {id(face): value for face, value in zip(faces, logits, strict=True)}
    aucs = {}
    for family in sorted({face.family for face in faces if face.label}):
        some = select_pairs(family, faces)
        labels = np.array([face.label for face in some])
        if 0 < labels.sum() < len(labels):
            aucs[f"{prefix}auc_{family}"] = auc(labels, np.array([row[id(face)] for face in some]))
    sources = sorted({face.source for face in faces if not face.label and "@" not in face.source})
    worst = 0.5
    for a, first in enumerate(sources):
        for second in sources[a + 1 :]:
            x = [row[id(f)] for f in faces if not f.label and f.source == first]
            y = [row[id(f)] for f in faces if not f.label and f.source == second]
            area = auc(np.array([0] * len(x) + [1] * len(y)), np.array(x + y))
            worst = max(worst, area, 1 - area)
    aucs[f"{prefix}real_vs_real"] = worst
    return aucs
