"""All detectors on the same held-out faces: families they know, families left out, worse pictures, groups of people.

    PYTHONPATH=experiments python experiments/leaderboard/measure.py RECORD.json --board DIR --data DATA --mesonet H5 \\
      --split test

DIR holds the runs that `train.sh` beside this makes: METHOD-all, and METHOD-FAMILY without that family, all of the same
size, margin, pairs, steps and seed. A family "left out" is one that the run never saw; PGGAN is never trained on, so
METHOD-all stands for its run. Two trivial baselines stand beside them: a linear classifier on the radial power
spectrum, trained on the training split with and without each family like the others, and MesoNet with the weights that
its authors published, which never saw any of this. Scores are kept in the work folder: a killed command goes on.
"""

import argparse
import csv
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import command, rounded, write_record

from unmask.cli.options import progress_bars
from unmask.datasets.face_store import StoredFace
from unmask.forgery.fusion import mean_ratio
from unmask.forgery.mesonet import MesoNet
from unmask.forgery.spectrum import SpectrumClassifier
from unmask.lab.detection.config import DetectionPaths, DetectionTrainConfig
from unmask.lab.detection.evaluate import families_of
from unmask.lab.detection.held_out import (
    CLEAN,
    CONDITIONS,
    EvalFace,
    EvalImage,
    eval_faces,
    make_eval_images,
    render,
    select_pairs,
)
from unmask.lab.detection.onnx_scoring import scorer_of_runs
from unmask.lab.detection.prepare import held_out_reconstructions
from unmask.lab.detection.reconstructions import Reconstructions
from unmask.lab.detection.scoring import Scorer, logits_of
from unmask.lab.detection.task import DetectionTask
from unmask.lab.metrics import (
    auc,
    cluster_bootstrap,
    difference,
    interval,
    mean_interval,
    of_two_classes,
    resampled,
    threshold_at,
)
from unmask.lab.onnx_export import write_onnx
from unmask.lab.run import config_of, versions
from unmask.lab.train import load_network
from unmask.provenance import sha256_of

METHODS = ("plain", "deepfidelity", "acmf", "hfc", "fedforgery")
TRIVIAL = ("radial spectrum", "MesoNet, published weights")
BASELINE = "plain"
MOST = 150  # reals of every source; of UTKFace all, where groups are counted
DRAWS = 400
FALSE_ALARMS = 0.1  # on the validation split's reals, where the threshold of the groups is set
SEXES = ("men", "women")
ANCESTRIES = ("White", "Black", "Asian", "Indian", "other")
AGES = ((0, 17), (18, 34), (35, 54), (55, 120))


@dataclass(frozen=True)
class Entry:
    """One trained thing: its detector's name, the family that it never saw ("" = all seen), how it scores.

    `mark` changes whenever its scores may.
    """

    detector: str
    without: str
    mark: str
    size: int
    scorer: Scorer


def entries(board: Path, families: Sequence[str]) -> Iterator[Entry]:
    """Every run of the board that is there.

    Raises:
        SystemExit: a run is not there, or not of the others' configuration.
    """
    common: set[tuple[Any, ...]] = set()
    for method in METHODS:
        for without in ("", *(family for family in families if family != "pggan")):
            folder = board / f"{method}-{without or 'all'}"
            if without == "selfblend":
                continue  # akin to swaps, and no generator: it is trained on by all
            weights = folder / "weights.safetensors"
            if not weights.is_file():
                raise SystemExit(f"{folder} is not there or not finished; experiments/leaderboard/train.sh makes it")
            config = config_of(folder)
            common.add((config.size, config.margin, config.pairs, config.steps, config.batch_pairs))
            if len(common) > 1 or config.without != ((without,) if without else ()):
                raise SystemExit(f"{folder} is of another configuration than the runs before it")
            yield Entry(method, without, sha256_of(weights), config.size, scorer_of_runs([folder]))


def longer(folder: Path, first: DetectionTrainConfig) -> Entry:
    """A run with all families and more steps, otherwise of the others' configuration, to stand beside them.

    Raises:
        SystemExit: it is of another configuration.
    """
    own = config_of(folder)
    wanted = replace(first, method=own.method, options=own.options, steps=own.steps)
    if own != wanted:
        raise SystemExit(f"{folder} is of another configuration than the board's runs")
    weights = sha256_of(folder / "weights.safetensors")
    return Entry(f"{own.method}, {own.steps:,} steps", "", weights, own.size, scorer_of_runs([folder]))


def in_torch(detector: Any) -> Scorer:
    """Score with a detector in plain torch."""
    return lambda crops: logits_of(detector, crops, torch.device("cpu"))


def spectra(
    faces: Sequence[StoredFace], paths: DetectionPaths, families: Sequence[str], size: int, margin: float
) -> list[Entry]:
    """The spectrum classifier: one for all families, one without each."""
    known = [family for family in families if family != "pggan"]
    drawn = Reconstructions.open(paths.work / "twins")
    training = eval_faces(faces, "train", known, CLEAN, size, margin, drawn, most=MOST)
    classifiers = []
    for without in ("", *(family for family in known if family != "selfblend")):
        some = [face for face in training if face.family != without]
        labels = np.array([face.label for face in some])
        classifier = SpectrumClassifier().fit(np.stack([face.crop for face in some]), labels)
        classifiers.append(Entry(TRIVIAL[0], without, f"spectrum-{without}", size, _without_map(classifier.logits)))
    return classifiers


def _without_map(logits: Callable[[np.ndarray], np.ndarray]) -> Scorer:
    return lambda crops: (logits(crops), np.zeros((len(crops), 1, 1), np.float32))


def scores(entry: Entry, condition: str, held: Sequence[EvalFace], rows: np.ndarray, cache: Path) -> np.ndarray:
    """Logits of all held-out faces, nan where they are not needed; kept in the cache."""
    crops = np.stack([held[row].crop for row in rows])
    path = cache / f"{hashlib.sha256(entry.mark.encode() + crops.tobytes()).hexdigest()[:24]}.npy"
    logits = np.full(len(held), np.nan)
    if path.is_file():
        logits[rows] = np.load(path)
        return logits
    logits[rows] = entry.scorer(crops)[0]
    np.save(path, logits[rows])
    print(time.strftime("%T"), condition, entry.detector, f"without {entry.without or 'nothing'}", flush=True)
    return logits


class Table:
    """Areas of all detectors on all families under one condition, and their differences from the baseline's."""

    def __init__(self, condition: str, families: Sequence[str], baseline: str = BASELINE) -> None:
        self.condition, self.families, self.baseline = condition, families, baseline
        self.rows: list[dict[str, Any]] = []
        self._logits: dict[tuple[str, str], np.ndarray] = {}

    def pairs(self, without: str, held: Sequence[EvalFace]) -> dict[str, np.ndarray]:
        """The faces, by number, that a run is asked about: of the family left out, or of every one."""
        numbers = {id(face): row for row, face in enumerate(held)}
        some = [without] if without else self.families
        pairs = {family: np.array([numbers[id(face)] for face in select_pairs(family, held)]) for family in some}
        return {family: rows for family, rows in pairs.items() if any(held[row].label for row in rows)}

    def add(self, detector: str, without: str, held: Sequence[EvalFace], logits: np.ndarray) -> None:
        """Measure one trained thing by its logits of all held-out faces."""
        self._logits[detector, without] = logits
        for family, own in self.pairs(without, held).items():
            labels, subjects = np.array([held[row].label for row in own]), [held[row].subject for row in own]
            unseen = family in (without, "pggan") or detector == TRIVIAL[1]
            # What never saw anything is compared with the run that did not see this family.
            first = self._logits.get((self.baseline, family if unseen else without), self._logits[self.baseline, ""])
            less = None
            if detector != self.baseline:
                ours, theirs = (of_two_classes(auc, labels, some[own]) for some in (logits, first))
                less = difference(ours, theirs)
            draws = resampled(subjects, DRAWS, seed=0)
            self.rows.append(
                {
                    "detector": detector,
                    "family": family,
                    "kind": "left out" if unseen else "known",
                    "condition": self.condition,
                    "auc": rounded(interval(auc, labels, logits[own], subjects, DRAWS)),
                    "difference": less and rounded((less(np.arange(len(own))), *cluster_bootstrap(less, draws))),
                    "real": int((labels == 0).sum()),
                    "forged": int(labels.sum()),
                }
            )

    def add_fused(self, held: Sequence[EvalFace]) -> None:
        """Measure every two detectors, and all, fused by the mean of their likelihood ratios, as a pack would be."""
        for members in (*combinations(METHODS, 2), METHODS):
            for without in dict.fromkeys(without for name, without in self._logits if name == self.baseline):
                logits = [self._logits[name, without] for name in members]
                self.add(" + ".join(members), without, held, fused(logits))


def fused(logits: Sequence[np.ndarray]) -> np.ndarray:
    """Logits (N,) of several detectors as one, as a pack fuses them; nan where one was not asked."""
    mean: np.ndarray = mean_ratio([torch.from_numpy(one) for one in logits]).numpy()
    return mean


def group_of(face: StoredFace) -> tuple[str, ...]:
    """Age, sex and ancestry as UTKFace's file names give them: AGE_SEX_ANCESTRY_DATE; what is not there is left out."""
    parts = Path(face.sample.path).name.split("_")
    numbers = [int(part) if part.isdigit() else -1 for part in parts[:3]]
    if len(parts) < 4:
        return ()
    ages = [f"age {low}-{high}" if high < 120 else f"age {low} up" for low, high in AGES if low <= numbers[0] <= high]
    sex = [SEXES[numbers[1]]] if 0 <= numbers[1] < len(SEXES) else []
    ancestry = [ANCESTRIES[numbers[2]]] if 0 <= numbers[2] < len(ANCESTRIES) else []
    return (*ages, *sex, *ancestry)


def false_alarms(
    entry: Entry, faces: Sequence[StoredFace], margin: float, split: str
) -> tuple[dict[str, dict[str, Any]], float]:
    """False alarms of every group of UTKFace's reals, at the threshold of the validation split's; and the latter."""

    def scored(which: str, sources: Sequence[str]) -> tuple[list[StoredFace], np.ndarray]:
        some = [
            face
            for face in faces
            if face.sample.split == which and not face.sample.label and face.sample.source in sources
        ]
        pictures = [EvalImage(face.pixels(), face, "real", face.sample.source, None) for face in some]
        crops = np.stack([face.crop for face in render(pictures, CLEAN, entry.size, margin)])
        return some, entry.scorer(crops)[0]

    everything = sorted({face.sample.source for face in faces})
    threshold = threshold_at(scored("val", everything)[1], FALSE_ALARMS)
    people, logits = scored(split, ["utkface"])
    rows: dict[str, list[int]] = {"all": list(range(len(people)))}
    for row, face in enumerate(people):
        for group in group_of(face):
            rows.setdefault(group, []).append(row)
    shares = {}
    for group, some in sorted(rows.items()):
        raised = (logits[some] > threshold).astype(float)
        share = mean_interval(raised, [people[row].sample.subject for row in some], DRAWS)
        shares[group] = {"share": rounded(share), "people": len(some)}
    return shares, threshold


def speed_of(metrics: Path) -> float:
    """Pairs a second of a run, from its metrics.csv."""
    with metrics.open(newline="", encoding="utf-8") as stream:
        return float(list(csv.DictReader(stream))[-1]["pairs_per_second"])


def cost(board: Path) -> dict[str, dict[str, float]]:
    """Parameters, median training minutes and latency of every method: the median of turns that all take in one run."""
    import onnxruntime  # after unmask, which switches its telemetry off

    costs: dict[str, dict[str, float]] = {}
    sessions: dict[str, Callable[[], Any]] = {}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            detector, config = load_network(board / f"{method}-all"), config_of(board / f"{method}-all")
            file, task = Path(folder) / f"{method}.onnx", DetectionTask()
            write_onnx(task.exported(detector), detector.size, task.outputs, file)
            session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
            one = np.random.default_rng(0).random((1, 3, detector.size, detector.size), np.float32)
            sessions[method] = partial(session.run, None, {"faces": one})
            speeds = [speed_of(metrics) for metrics in board.glob(f"{method}-*/metrics.csv")]
            costs[method] = {
                "parameters": float(sum(parameter.numel() for parameter in detector.parameters())),
                "file_mb": file.stat().st_size / 1e6,
                "training_minutes": config.steps * config.batch_pairs / statistics.median(speeds) / 60,
            }
        times: dict[str, list[float]] = {method: [] for method in METHODS}
        for turn in range(60):
            for method in METHODS:
                began = time.perf_counter()
                sessions[method]()
                if turn >= 10:
                    times[method].append(time.perf_counter() - began)
    for method, taken in times.items():
        costs[method]["latency_ms"] = 1000 * statistics.median(taken)
    return {method: {key: round(value, 2) for key, value in numbers.items()} for method, numbers in costs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write")
    parser.add_argument("--board", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--longer", type=Path, nargs="*", default=[], help="runs of more steps, to stand beside them")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/work"))
    parser.add_argument("--synthetic", type=Path)
    parser.add_argument("--taef2", type=Path)
    parser.add_argument("--split", choices=("val", "test"), required=True)
    parser.add_argument("--mesonet", type=Path, required=True, help="Meso4_DF.h5, as its authors published it")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    paths = DetectionPaths(data=chosen.data, work=chosen.work, synthetic=chosen.synthetic, taef2=chosen.taef2)
    split, cache = chosen.split, chosen.work / "leaderboard"
    cache.mkdir(exist_ok=True)
    with progress_bars() as progress:
        faces = paths.faces(progress)
        drawn = held_out_reconstructions(paths, faces, split, progress)
    families = families_of(faces, split)
    pictures = make_eval_images(faces, split, families, drawn, most=MOST)
    measured = list(entries(chosen.board, families))
    config = config_of(chosen.board / f"{BASELINE}-all")
    measured += [longer(folder, config) for folder in chosen.longer]
    measured += spectra(faces, paths, families, config.size, config.margin)
    peer = MesoNet(str(chosen.mesonet)).eval()
    measured.append(Entry(TRIVIAL[1], "", sha256_of(chosen.mesonet), peer.size, in_torch(peer)))
    rows: list[dict[str, Any]] = []
    for condition in CONDITIONS if split == "test" else CONDITIONS[:1]:
        sizes = {entry.size for entry in measured}
        by_size = {size: render(pictures, condition, size, config.margin) for size in sizes}
        table = Table(condition, families)
        for entry in measured:
            held = by_size[entry.size]
            needed = np.unique(np.concatenate(list(table.pairs(entry.without, held).values())))
            table.add(entry.detector, entry.without, held, scores(entry, condition, held, needed, cache))
        if split == "val":
            table.add_fused(by_size[config.size])
        rows += table.rows
    groups = {}
    if split == "test":
        for entry in measured:
            if not entry.without:
                shares, threshold = false_alarms(entry, faces, config.margin, split)
                groups[entry.detector] = {"threshold": round(threshold, 4), "groups": shares}
    record = {
        "command": command(),
        "versions": versions(),
        "split": split,
        "protocol": {
            name: getattr(config, name)
            for name in ("size", "margin", "pairs", "steps", "batch_pairs", "learning_rate", "seed")
        },
        "runs": {
            f"{entry.detector}-{entry.without or 'all'}": entry.mark for entry in measured if entry.detector in METHODS
        },
        "options": {method: config_of(chosen.board / f"{method}-all").options for method in METHODS},
        "rows": rows,
        "groups": groups,
        "cost": cost(chosen.board) if split == "test" else {},
    }
    write_record(chosen.record, record)


if __name__ == "__main__":
    main()
