"""What the experiments share: sets of real faces with forgeries made on the spot, short runs, records, paired tables.

A record is one JSON file: the command, versions, the data's hash, everything that was set, and one row per arm and seed
with its numbers. An arm that is in the record is not run again, so a killed experiment goes on where it stood.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from scipy.stats import binomtest

from unmask.datasets.face_store import StoredFace, build_store, read_store
from unmask.datasets.layouts.collection import load_collection
from unmask.datasets.manifest import manifest_sha256
from unmask.faces.alignment import context_region, resize
from unmask.files import lock, whole
from unmask.forgery.detector import Detector, Learner
from unmask.forging.degradation import downscale
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.feed import Pairs
from unmask.lab.detection.held_out import CLEAN, HALF_RESOLUTION, EvalFace
from unmask.lab.detection.pairs_pool import MASK, Pool, PoolPlan
from unmask.lab.detection.scoring import logits_of
from unmask.lab.engine import fit
from unmask.lab.metrics import auc, seed_interval
from unmask.lab.run import Run, versions
from unmask.packs import Card
from unmask.packs.card import Metric
from unmask.provenance import shell_line
from unmask.tables import markdown

MARGIN = 1.4
CONDITIONS_BEFORE = {"as is": CLEAN, "half size": HALF_RESOLUTION}
"""What conditions are called in records and on cards of earlier versions, and their names today."""
SECONDS = "CPU seconds"
Forge = Callable[[np.random.Generator, StoredFace], tuple[np.ndarray, np.ndarray]]
"""A face -> the forged picture uint8 (N, N, 3) of the same window, and its mask float32 (N, N)."""
Degrade = Callable[[np.random.Generator, np.ndarray], np.ndarray]
"""What a crop uint8 (S, S, 3) goes through afterwards, whatever its label."""


def command() -> str:
    """The command that is running, without the places of things on this machine, and without a choice of seeds, arms or
    parts.

    Processes that run some of them each write one record.
    """
    root = Path(__file__).resolve().parent.parent
    words = ["python"]
    for before, word in zip(["", *sys.argv], sys.argv, strict=False):
        path = Path(word)
        if {before, word} & {"--only-seed", "--only-arm", "--part"}:
            continue
        if not path.is_absolute():
            words.append(word)
        elif path.resolve().is_relative_to(root):  # a script, or the record beside it
            words.append(path.resolve().relative_to(root).as_posix())
        else:
            words.append(before.lstrip("-").upper() if before.startswith("-") else path.name)
    return shell_line(words)


def parser(doc: str) -> argparse.ArgumentParser:
    """The options of every experiment: record, data, work folder for the face store and the runs, seeds."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("record", type=Path, help="JSON file to write; arms that it holds are not run again")
    options.add_argument("--data", type=Path, required=True, help="folder of known collections")
    options.add_argument("--work", type=Path, default=Path("runs/work"), help="where the face store is or will be")
    options.add_argument("--runs", type=Path, default=Path("runs/experiments"), help="where unfinished runs are kept")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--steps", type=int, default=150, help="optimiser steps of every arm")
    return options


def by_seed(options: argparse.ArgumentParser) -> None:
    """An option that picks seeds, so that several processes share the work and the record."""
    options.add_argument("--only-seed", type=int, action="append", help="run these seeds alone; repeatable")


def seeds_of(chosen: argparse.Namespace) -> Sequence[int]:
    """The seeds that this process runs."""
    return chosen.only_seed or range(chosen.seeds)


def at_size(face: StoredFace, size: int) -> StoredFace:
    """The face at the resolution at which its context crop is `size` pixels wide: what is forged then is not resampled.

    Smaller faces are enlarged, larger ones reduced by Lanczos's filter; the picture is kept without loss.
    """
    _, _, side = context_region((face.side, face.side), face.box, MARGIN)
    pixels = face.pixels()
    length = max(1, round(size / side * face.side))
    if length < face.side:
        pixels = downscale(pixels, length / face.side)
    else:
        pixels = cv2.resize(pixels, (length, length), interpolation=cv2.INTER_CUBIC)
    scale = len(pixels) / face.side
    x, y, w, h = (scale * value for value in face.box)
    encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].ravel()
    whole = (0, 0, len(pixels))
    return StoredFace(face.sample, encoded, whole, (x, y, w, h), face.landmarks * scale, face.mesh * scale)


def reals(data: Path, work: Path, split: str, sources: Sequence[str], size: int, most: int = 10**6) -> list[StoredFace]:
    """The first `most` real faces of a split from every one of some sources, brought to `size`.

    The store is made if it is not there.
    """
    if not list((work / "store").glob("part-*.npz")):
        build_store(load_collection(data), work / "store")
    chosen: dict[str, list[StoredFace]] = {source: [] for source in sources}
    for face in read_store(work / "store"):
        group = chosen.get(face.sample.source)
        if group is not None and len(group) < most and face.sample.split == split and not face.sample.label:
            brought = at_size(face, size)
            # Rounding leaves one face in a hundred a pixel off; resampling that one would set it apart.
            if context_region((brought.side, brought.side), brought.box, MARGIN)[2] == size:
                group.append(brought)
    return [face for group in chosen.values() for face in group]


def crop_of(pixels: np.ndarray, face: StoredFace, size: int) -> np.ndarray:
    """The context crop of a picture of the face's window; uint8 (size, size, 3)."""
    left, top, side = context_region(pixels.shape, face.box, MARGIN)
    return resize(np.ascontiguousarray(pixels[top : top + side, left : left + side]), size)


def _pair(
    rng: np.random.Generator, face: StoredFace, forge: Forge, size: int, degrade: Degrade | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crops of the real and the forged, degraded apart, and the mask on the map's grid."""
    forged, mask = forge(rng, face)
    crops = [crop_of(pixels, face, size) for pixels in (face.pixels(), forged)]
    if degrade is not None:
        crops = [degrade(rng, crop) for crop in crops]
    cells = crop_of(np.repeat((255 * mask).astype(np.uint8)[..., None], 3, 2), face, MASK)[..., 0]
    return crops[0], crops[1], np.minimum(cells, 254)


def make_pool(
    faces: Sequence[StoredFace],
    kinds: Mapping[str, Forge],
    pairs: int,
    size: int,
    seed: int,
    degrade: Degrade | None = None,
    shares: Mapping[str, float] | None = None,
) -> Pool:
    """Training pairs in memory: real and forged of the same face; the seed decides all.

    Kinds come in turn, or drawn by their `shares`.
    """
    plan = PoolPlan(pairs, seed, size, MARGIN, dict.fromkeys(kinds, 1.0), {"mixed": 1.0})
    pixels = np.empty((pairs, 2, size, size, 3), np.uint8)
    masks = np.empty((pairs, MASK, MASK), np.uint8)
    families = (np.arange(pairs) % len(kinds)).astype(np.uint8)
    if shares is not None:
        weights = np.array([shares[name] for name in kinds])
        families = (
            np.random.default_rng([seed, 4]).choice(len(kinds), pairs, p=weights / weights.sum()).astype(np.uint8)
        )
    order = np.random.default_rng([seed, 1]).permutation(pairs) % len(faces)
    forgers = list(kinds.values())
    for row in range(pairs):
        rng = np.random.default_rng([seed, 2, row])
        *pixels[row], masks[row] = _pair(rng, faces[order[row]], forgers[families[row]], size, degrade)
    zeros = np.zeros(pairs, np.uint8)
    return Pool(plan, pixels, masks, families, zeros, zeros)


def make_held(
    faces: Sequence[StoredFace],
    kinds: Mapping[str, Forge],
    size: int,
    seed: int,
    degrade: Degrade | None = None,
) -> list[EvalFace]:
    """Every face once as it is and once forged by every kind; the forgeries are the same for all arms of a seed."""
    held = []
    for number, face in enumerate(faces):
        for place, (kind, forge) in enumerate(kinds.items()):
            rng = np.random.default_rng([seed, 3, number, place])
            real, forged, mask = _pair(rng, face, forge, size, degrade)
            about = ("mixed", face.sample.subject)
            if place == 0:
                held.append(EvalFace(real, 0, "real", *about, real, face.box, face.landmarks, None))
            cells = mask.astype(np.float32) / 254
            held.append(EvalFace(forged, 1, kind, *about, forged, face.box, face.landmarks, cells))
    return held


def train(
    detector: Learner,
    pool: Pool,
    folder: Path,
    config: DetectionTrainConfig,
    validation: Sequence[EvalFace] = (),
) -> Learner:
    """A short run on one core; one that is finished is read, not run again. The detector is in evaluation mode."""
    weights = folder / "weights.safetensors"
    run = Run(folder, config, hashlib.sha256(pool.pixels.tobytes()).hexdigest(), detector.task, command())
    if not weights.is_file():
        fit(Fabric(accelerator="cpu", devices=1, precision="32-true"), detector, Pairs(pool, config, validation), run)
    # What was just trained is read back too: the file's precision is lower, and numbers must not depend on the order.
    detector.load_state_dict(load_file(weights))
    return detector.eval()


def score(detector: Detector, faces: Sequence[EvalFace]) -> np.ndarray:
    """Logits (N,) of held-out faces."""
    return logits_of(detector, np.stack([face.crop for face in faces]), torch.device("cpu"))[0]


def take_auc(faces: Sequence[EvalFace], logits: np.ndarray, family: str) -> float:
    """AUC of one kind of forgery against all reals."""
    rows = [row for row, face in enumerate(faces) if face.family in ("real", family)]
    return auc(np.array([faces[row].label for row in rows]), logits[rows])


class Record:
    """An experiment's JSON file."""

    def __init__(
        self, path: Path, settings: Mapping[str, Any], data_sha256: str, libraries: Sequence[str] = ()
    ) -> None:
        """Open, or begin; versions of `libraries` are kept beside those that every experiment uses.

        Raises:
            SystemExit: the file holds an experiment of other settings.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        head = {"settings": json.loads(json.dumps(settings)), "data_sha256": data_sha256}
        if path.is_file():
            self.content = json.loads(path.read_text(encoding="utf-8"))
            if any(self.content[key] != value for key, value in head.items()):
                raise SystemExit(f"{path} holds an experiment of other settings or data; name another file")
        else:
            self.content = {"command": command(), "versions": versions(*libraries), **head, "rows": []}

    def has(self, **key: Any) -> bool:
        """Whether there is a row with these values."""
        return any(all(row.get(name) == value for name, value in key.items()) for row in self.content["rows"])

    def add(self, **row: Any) -> None:
        """Add a row and write the file. Rows that another process has added meanwhile are kept."""
        with self.path.with_suffix(".lock").open("w") as stream:
            while not lock(stream):  # processes that share a record write it in turn
                time.sleep(0.05)
            if self.path.is_file():
                self.content["rows"] = json.loads(self.path.read_text(encoding="utf-8"))["rows"]
            self.content["rows"].append({key: round(v, 5) if isinstance(v, float) else v for key, v in row.items()})
            write_record(self.path, self.content)
        print(time.strftime("%T"), {key: v for key, v in row.items() if not isinstance(v, dict)}, flush=True)


class Laps:
    """Processor time of this process, by the rows that it was spent on; the rows' sum is the whole."""

    def __init__(self) -> None:
        self._before = 0.0

    def lap(self) -> dict[str, float]:
        """Seconds since the row before; for the first row, since the process began."""
        now = time.process_time()
        spent, self._before = now - self._before, now
        return {SECONDS: spent}


def minutes_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """What rows with `Laps` cost, for a page: "7 minutes of two cores"."""
    return f"{sum(row[SECONDS] for row in rows) / 120:.0f} minutes of two cores"


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record whole, a line for each of its rows."""
    rows = content.get("rows")
    text = json.dumps({**content, "rows": []} if rows else content, indent=1)
    if rows:
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        text = text.replace('"rows": []', f'"rows": [\n{lines}\n ]', 1)
    with whole(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def share_interval(count: int, total: int) -> list[float]:
    """A share with its exact 95 % interval (Clopper and Pearson), for a record."""
    limits = binomtest(count, total).proportion_ci(0.95)
    return [round(float(value), 4) for value in (count / total, limits.low, limits.high)]


def rounded(numbers: Sequence[float | None]) -> list[float | None]:
    """A value and its limits, where it has any, for a record."""
    return [None if number is None else round(number, 4) for number in numbers]


def has_record(root: Path, name: str) -> bool:
    """Whether a record is kept; one that was made by other rules is not, until the experiment has been run anew."""
    return (root / "experiments" / f"{name}.json").is_file()


def without_record(title: str) -> str:
    """The section of an experiment whose record is not there."""
    return f"## {title}\n\nThis experiment has not been run since its rules were changed.\n"


def read_record(root: Path, name: str) -> dict[str, Any]:
    """A record that is kept, with the conditions under the names that they have today.

    Args:
        root: the repository's.
        name: of the record below `experiments`, without its ending: "leaderboard/test".
    """
    text = (root / "experiments" / f"{name}.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text, object_hook=_with_conditions)
    return content


def _with_conditions(content: dict[str, Any]) -> dict[str, Any]:
    """Conditions are keys of results, or the value of `condition`."""
    return {
        CONDITIONS_BEFORE.get(key, key): CONDITIONS_BEFORE.get(value, value) if key == "condition" else value
        for key, value in content.items()
    }


def metrics_of(card: Card) -> list[Metric]:
    """A card's metrics, with the conditions under the names that they have today."""
    return [
        replace(metric, condition=CONDITIONS_BEFORE.get(metric.condition, metric.condition)) for metric in card.metrics
    ]


def data_hash(faces: Sequence[StoredFace]) -> str:
    """Of the manifest rows behind some faces."""
    return manifest_sha256([face.sample for face in faces])


@dataclass(frozen=True)
class Difference:
    """Mean over seeds of one arm's number, and of its paired difference from another arm's, with 95 % intervals."""

    arm: str
    seeds: int
    value: tuple[float, float, float]
    difference: tuple[float, float, float] | None


def paired(rows: Sequence[Mapping[str, Any]], metric: str, baseline: str) -> list[Difference]:
    """Every arm against the baseline, seed by seed, by Student's t over the seeds that both have."""
    arms = list(dict.fromkeys(row["arm"] for row in rows if metric in row))
    by = {(row["arm"], row["seed"]): float(row[metric]) for row in rows if metric in row}
    differences = []
    for arm in arms:
        seeds = [seed for name, seed in by if name == arm]
        value = seed_interval([by[arm, seed] for seed in seeds])
        both = [by[arm, seed] - by[baseline, seed] for seed in seeds if (baseline, seed) in by]
        differences.append(Difference(arm, len(seeds), value, None if arm == baseline else seed_interval(both)))
    return differences


def paired_table(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], baseline: str) -> str:
    """A Markdown table: a line per arm, for every metric its mean and its difference from the baseline's."""
    by_metric = {metric: {one.arm: one for one in paired(rows, metric, baseline)} for metric in metrics}
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        cells, seeds = [], 0
        for metric in metrics:
            one = by_metric[metric].get(arm)
            if one is None:
                cells.append("–")
                continue
            seeds = max(seeds, one.seeds)
            text = f"{one.value[0]:.3f}"
            if one.difference is not None:
                text += " ({:+.3f} [{:+.3f}, {:+.3f}])".format(*one.difference)
            cells.append(text)
        lines.append([arm, str(seeds), *cells])
    return markdown(["arm", "seeds", *metrics], lines)


def settings_of(chosen: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """What decides the outcome, for the record: not where things lie, nor how many seeds."""
    places = ("record", "data", "work", "runs", "seeds", "only_seed", "only_arm", "part")
    return {**{key: value for key, value in vars(chosen).items() if key not in places}, **more}


def config_for(method: str, size: int, pool: Pool, steps: int, seed: int, **more: Any) -> DetectionTrainConfig:
    """The configuration of a short run on a made pool: whole crops, a batch of 16 pairs."""
    families = tuple(pool.plan.families)
    return DetectionTrainConfig(
        method=method,
        families=families,
        size=size,
        window=size,
        margin=MARGIN,
        pairs=len(pool.pixels),
        steps=steps,
        seed=seed,
        **more,
    )


def one_thread() -> None:
    """Experiments are run side by side, one core each."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def as_dict(thing: Any) -> dict[str, Any]:
    """A dataclass for the record."""
    return json.loads(json.dumps(asdict(thing)))
