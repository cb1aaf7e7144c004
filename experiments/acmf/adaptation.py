"""Does adapting to a test video help, and is it the attention or the source data that helps? Transductive.

    PYTHONPATH=experiments python experiments/acmf/adaptation.py RECORD.json --data DATA [--work DIR] [--runs DIR]

A "video" is twelve frames of one test face, real or self-blended (family B of `sets`): windows a few pixels apart, each
of its own brightness and JPEG quality. The detector is the masking experiment's at one half, without the attention term
in training; with the same --runs and --steps it is read. Each arm adapts it to every video anew, with three seeds.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from acmf.sets import (
    SIZE,
    Arm,
    config_of,
    faces_of,
    options,
    pool_of,
    rows_of,
    self_blended,
    settings,
    sha256_of_faces,
    tensor_of,
    trained,
)
from common import Record, as_dict, crop_of, one_thread, paired_table
from torch import Tensor

from unmask.datasets.face_store import StoredFace
from unmask.forgery.acmf import ACMF, adapt
from unmask.forgery.acmf import Arm as Steps
from unmask.forging.degradation import jpeg
from unmask.lab.detection.feed import batches
from unmask.lab.metrics import auc
from unmask.networks.contract import Batch

DETECTOR = Arm(0.5)
SOURCE: Steps = "source"
ARMS: tuple[Steps, ...] = ("none", SOURCE, "consistency", "both")
FRAMES, ROOM = 12, 6  # ROOM: pixels by which the picture is larger than a frame
ADAPTATIONS = 3
SOURCE_BATCHES = 16
AREA, SPREAD = "video AUC on B", "standard deviation of a video's score"
TEXT = """## acmf: adaptation to a test video (transductive)

**Transductive**: every test video adapts a detector of its own, with labelled source data, before it is scored; these
numbers must not be put beside those of detectors that have seen no test frame. A "video" is twelve shifted, brightened
and re-encoded frames of one test face, real or self-blended; the detector has learned family A, masked at 0.5. AUC of
videos is the mean over three adaptation seeds, and the standard deviation that of a video's score in [0, 1] over them,
on average. In brackets the difference from steps on source data alone, by the detector's seed, with its 95 % interval.
"""


def video_of(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Frames uint8 (FRAMES, SIZE, SIZE, 3) of a picture uint8 (SIZE + ROOM, SIZE + ROOM, 3); no pixel is resampled."""
    frames = []
    for _ in range(FRAMES):
        top, left = rng.integers(0, ROOM + 1, 2)
        shown = pixels[top : top + SIZE, left : left + SIZE].astype(np.float32)
        lit = np.clip(shown * rng.uniform(0.92, 1.08) + rng.uniform(-8, 8) + 0.5, 0, 255).astype(np.uint8)
        frames.append(jpeg(lit, int(rng.integers(85, 99))))
    return np.stack(frames)


def videos_of(faces: Sequence[StoredFace], seed: int) -> tuple[Tensor, np.ndarray]:
    """Two videos of every face: (V, FRAMES, 3, SIZE, SIZE) in [0, 1], and labels (V,)."""
    videos = []
    for number, face in enumerate(faces):
        rng = np.random.default_rng([seed, 4, number])
        forged, _ = self_blended(rng, face)
        videos += [video_of(rng, crop_of(pixels, face, SIZE + ROOM)) for pixels in (face.pixels(), forged)]
    return tensor_of(np.concatenate(videos)).unflatten(0, (-1, FRAMES)), np.tile([0, 1], len(faces))


def logits_after(detector: ACMF, videos: Tensor, source: Sequence[Batch], arm: Steps, seed: int) -> np.ndarray:
    """Each video's mean logit (V,); its sigmoid is the video's score."""
    # Every video gets a generator of the same seed, so what looks at no frame ends the same for all.
    apart = arm in ("consistency", "both")
    parts = []
    for frames in videos if apart else [videos.flatten(0, 1)]:
        generator = torch.Generator().manual_seed(seed)
        logits = adapt(detector, frames, source, arm, generator).logit
        parts.append(logits.unflatten(0, (-1, FRAMES)).mean(1))
    return torch.cat(parts).double().numpy()


def main() -> None:
    arguments = options(__doc__ or "")
    arguments.add_argument("--subjects", type=int, default=10, help="of every source; each gives two videos")
    chosen = arguments.parse_args()
    one_thread()
    training = faces_of(chosen, "train")
    test = faces_of(chosen, "test", SIZE + ROOM, chosen.subjects)
    more = {"detector": as_dict(DETECTOR), "frames": FRAMES, "room": ROOM, "source_batches": SOURCE_BATCHES}
    record = Record(chosen.record, settings(chosen, **more), sha256_of_faces(training, test))
    for seed in range(chosen.seeds):
        left = [arm for arm in ARMS if not record.has(arm=arm, seed=seed)]
        if not left:
            continue
        pool = pool_of(training, seed)
        detector = trained(chosen, DETECTOR, pool, seed)
        config = config_of(DETECTOR, pool, chosen.steps, seed)
        source = list(islice(batches(pool, config, torch.device("cpu"), 0), SOURCE_BATCHES))
        videos, labels = videos_of(test, seed)
        for arm in left:
            logits = np.stack([logits_after(detector, videos, source, arm, draw) for draw in range(ADAPTATIONS)])
            areas = [auc(labels, row) for row in logits]
            spread = float((1 / (1 + np.exp(-logits))).std(axis=0, ddof=1).mean())
            apart = {"areas": [round(area, 5) for area in areas], "transductive": True}
            record.add(arm=arm, seed=seed, **{AREA: float(np.mean(areas)), SPREAD: spread}, **apart)


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    return f"{TEXT}\n{paired_table(rows_of(root, 'adaptation'), (AREA, SPREAD), SOURCE)}\n"


if __name__ == "__main__":
    main()
