"""Does adapting to a test video help, and is it the attention or the source data that helps? Transductive.

    PYTHONPATH=experiments python experiments/acmf/adaptation.py experiments/acmf/adaptation.json --data DATA

A "video" is twelve frames of one test face, real or self-blended: windows a few pixels apart, each of its own
brightness and JPEG quality. The detector is the masking experiment's at one half, without the attention term in
training; with the same --runs and --steps it is read. Each arm adapts it to every video anew, with three seeds.

Rules, written before the runs. The learning rate of adaptation is chosen for each detector among 1e-4 and 1e-5, on
validation subjects' videos, half of them forged with a low-pass decoder that no test holds: the greatest at which steps
on source data alone leave the videos' AUC within 0.01 of no adaptation, or 1e-5 if neither does. So the arm that the
claim is measured against is not damaged by its rate. (The reference code's is 1e-3; at that, and after 200 steps of
training, source data alone cost 0.08 of AUC.) The claim is said to reproduce if the 95 % paired interval of the
difference in AUC on self-blends, both less source, lies above 0; to be contradicted if it lies below 0; else this
experiment does not decide it.
"""

from collections import Counter
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
    pasted,
    pool_of,
    rows_of,
    self_blended,
    settings,
    sha256_of_faces,
    tensor_of,
    trained,
)
from common import (
    Forge,
    Laps,
    Record,
    as_dict,
    crop_of,
    has_record,
    minutes_of,
    one_thread,
    paired_table,
    seeds_of,
    without_record,
)
from torch import Tensor

from unmask.datasets.face_store import StoredFace
from unmask.forgery.acmf import ACMF, adapt
from unmask.forgery.acmf import Arm as Steps
from unmask.forging.degradation import jpeg
from unmask.forging.upsampling import Fingerprint
from unmask.lab.detection.feed import batches
from unmask.lab.metrics import auc
from unmask.networks.contract import Batch

TITLE = "acmf: adaptation to a test video (transductive)"
DETECTOR = Arm(0.5)
SOURCE: Steps = "source"
ARMS: tuple[Steps, ...] = ("none", SOURCE, "consistency", "both")
FRAMES, ROOM = 12, 6  # ROOM: pixels by which the picture is larger than a frame
ADAPTATIONS = 3
SOURCE_BATCHES = 16
AREA, SPREAD = "video AUC on self-blends", "standard deviation of a video's score"
RATES = (1e-4, 1e-5)  # the greatest first
HARMLESS = 0.01  # by how much steps on source data may change the videos' AUC
CHOOSING: Fingerprint = "blur"
TEXT = """## {title}

**Transductive**: every test video adapts a detector of its own, with labelled source data, before it is scored; these
numbers must not be put beside those of detectors that have seen no test frame. A "video" is twelve shifted, brightened
and re-encoded frames of one test face, real or self-blended; the detector has learned known decoders, masked at 0.5,
for {steps:,} steps. AUC of videos is the mean over three adaptation seeds, and the standard deviation that of a video's
score in [0, 1] over them, on average. The rate is chosen for each detector, on validation subjects' videos with another
forgery: the greatest of 1e-4 and 1e-5 at which steps on source data alone leave the AUC within {harmless:g} of no
adaptation. Chosen: {rates}. Rule, written before the runs: the claim is said to reproduce if the interval of "both"
less "source" lies above 0. In brackets the difference from steps on source data alone, by the detector's seed, with its
95 % interval. All runs took {cost}, beside those of the masking experiment.
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


def videos_of(faces: Sequence[StoredFace], forge: Forge, seed: int) -> tuple[Tensor, np.ndarray]:
    """Two videos of every face: (V, FRAMES, 3, SIZE, SIZE) in [0, 1], and labels (V,)."""
    videos = []
    for number, face in enumerate(faces):
        rng = np.random.default_rng([seed, 4, number])
        forged, _ = forge(rng, face)
        videos += [video_of(rng, crop_of(pixels, face, SIZE + ROOM)) for pixels in (face.pixels(), forged)]
    return tensor_of(np.concatenate(videos)).unflatten(0, (-1, FRAMES)), np.tile([0, 1], len(faces))


def logits_after(
    detector: ACMF, videos: Tensor, source: Sequence[Batch], arm: Steps, rate: float, seed: int
) -> np.ndarray:
    """Each video's mean logit (V,); its sigmoid is the video's score."""
    # Every video gets a generator of the same seed, so what looks at no frame ends the same for all.
    apart = arm in ("consistency", "both")
    parts = []
    for frames in videos if apart else [videos.flatten(0, 1)]:
        generator = torch.Generator().manual_seed(seed)
        logits = adapt(detector, frames, source, arm, generator, learning_rate=rate).logit
        parts.append(logits.unflatten(0, (-1, FRAMES)).mean(1))
    return torch.cat(parts).double().numpy()


def measured(
    detector: ACMF, videos: Tensor, labels: np.ndarray, source: Sequence[Batch], arm: Steps, rate: float
) -> tuple[list[float], float]:
    """AUC of each adaptation, and how much a video's score varies over them."""
    logits = np.stack([logits_after(detector, videos, source, arm, rate, draw) for draw in range(ADAPTATIONS)])
    spread = float((1 / (1 + np.exp(-logits))).std(axis=0, ddof=1).mean())
    return [auc(labels, row) for row in logits], spread


def chosen_rate(detector: ACMF, faces: Sequence[StoredFace], source: Sequence[Batch], seed: int) -> dict[str, float]:
    """The rate, and by how much source data alone change the videos' AUC at each, on validation subjects."""
    videos, labels = videos_of(faces, pasted(CHOOSING), seed)
    before = np.mean(measured(detector, videos, labels, source, "none", 0.0)[0])
    changes = {
        rate: float(np.mean(measured(detector, videos, labels, source, SOURCE, rate)[0]) - before) for rate in RATES
    }
    rate = next((rate for rate in RATES if abs(changes[rate]) <= HARMLESS), RATES[-1])
    return {"rate": rate, **{f"change at {rate:g} (validation)": change for rate, change in changes.items()}}


def main() -> None:
    laps, arguments = Laps(), options(__doc__ or "")
    arguments.add_argument("--subjects", type=int, default=20, help="of every source; each gives two videos")
    chosen = arguments.parse_args()
    one_thread()
    training = faces_of(chosen, "train")
    validation, test = (faces_of(chosen, split, SIZE + ROOM, chosen.subjects) for split in ("val", "test"))
    more = {"detector": as_dict(DETECTOR), "frames": FRAMES, "room": ROOM, "source_batches": SOURCE_BATCHES}
    known = settings(chosen, **more, rates=RATES, harmless=HARMLESS)
    record = Record(chosen.record, known, sha256_of_faces(training, validation, test))
    for seed in seeds_of(chosen):
        left = [arm for arm in ARMS if not record.has(arm=arm, seed=seed)]
        if not left:
            continue
        pool = pool_of(training, seed)
        detector = trained(chosen, DETECTOR, pool, seed)
        config = config_of(DETECTOR, pool, chosen.steps, seed)
        source = list(islice(batches(pool, config, torch.device("cpu"), 0), SOURCE_BATCHES))
        choice = chosen_rate(detector, validation, source, seed)
        videos, labels = videos_of(test, self_blended, seed)
        for arm in left:
            areas, spread = measured(detector, videos, labels, source, arm, choice["rate"])
            apart = {"areas": [round(area, 5) for area in areas], "transductive": True}
            row = {AREA: float(np.mean(areas)), SPREAD: spread, **apart, **choice}
            record.add(arm=arm, seed=seed, **row, **laps.lap())


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    if not has_record(root, "acmf/adaptation"):
        return without_record(TITLE)
    settings, rows = rows_of(root, "adaptation")
    counts = Counter(row["rate"] for row in rows if row["arm"] == SOURCE)
    text = TEXT.format(
        title=TITLE,
        steps=settings["steps"],
        harmless=HARMLESS,
        rates=", ".join(f"{rate:g} ({count} of {counts.total()} seeds)" for rate, count in sorted(counts.items())),
        cost=minutes_of(rows),
    )
    return f"{text}\n{paired_table(rows, (AREA, SPREAD), SOURCE)}\n"


if __name__ == "__main__":
    main()
