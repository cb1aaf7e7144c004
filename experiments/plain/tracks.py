"""Is a video's score the mean of its frames' logits, or do statistics over time tell more?

    PYTHONPATH=experiments python experiments/plain/tracks.py RECORD.json SYSTEM... --data DATA [--split train]

Clips of `FEWEST` frames or more, forged ones of every kind scored by those systems that never saw the kind, beside real
clips. The statistics of a clip are mean, spread and highest of the logits, their trend from first to last frame, how
much more the map shows at the mouth than elsewhere, and the spread of the map over time; a logistic regression on them
is fitted on the clips of the other kinds. The rule, written before the run: statistics are taken if their AUC is higher
than that of the mean in the mean over kinds and the 95 % interval of the difference, over clips, leaves out zero.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import command, rounded, write_record
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unmask.cli.options import progress_bars
from unmask.datasets.face_store import StoredFace
from unmask.forging.families import kind_of, real_sources
from unmask.lab.detection.config import DetectionPaths
from unmask.lab.detection.held_out import CLEAN, EvalImage, render
from unmask.lab.detection.left_out_scores import appoint, trained_on
from unmask.lab.detection.systems import resolve_system
from unmask.lab.metrics import auc, resampled
from unmask.lab.run import versions

FEWEST = 4
FEATURES = ("mean", "spread", "highest", "trend", "mouth against rest", "spread of the map")
_MOUTH = (slice(0.60, 0.80), slice(0.36, 0.64))
"""Where the mouth lies in a context crop of margin 1.4, in shares of its height and width."""
_DRAWS = 1000


@dataclass(frozen=True)
class Clip:
    """The frames of one video, in their order."""

    kind: str
    label: int
    subject: str
    frames: tuple[StoredFace, ...]


def clips_of(faces: Sequence[StoredFace], split: str) -> list[Clip]:
    """The clips of a split, real ones with every kind that stands beside their source."""
    groups: dict[tuple[str, int, str], list[StoredFace]] = defaultdict(list)
    beside: dict[str, set[str]] = defaultdict(set)
    own = [face for face in faces if face.sample.split == split]
    sources = {face.sample.source for face in own if not face.sample.label}
    for face in own:
        sample = face.sample
        groups[sample.family if sample.label else sample.source, sample.label, sample.subject].append(face)
    long = {key: some for key, some in groups.items() if len(some) >= FEWEST}
    for (_, label, _), some in long.items():
        if label:
            for source in real_sources(some[0].sample, sources):
                beside[source].add(kind_of(some[0].sample))
    clips = []
    for (name, label, subject), some in long.items():
        frames = tuple(sorted(some, key=lambda face: face.sample.path))
        for kind in [kind_of(some[0].sample)] if label else sorted(beside[name]):
            clips.append(Clip(kind, label, subject, frames))
    return clips


def statistics(logits: np.ndarray, maps: np.ndarray) -> list[float]:
    """A clip's numbers in the order of `FEATURES`, of logits (T,) and maps (T, h, w)."""
    height, width = maps.shape[1:]
    rows, columns = (
        slice(round(part.start * side), round(part.stop * side))
        for part, side in zip(_MOUTH, (height, width), strict=True)
    )
    mouth = maps[:, rows, columns].mean()
    inside = (rows.stop - rows.start) * (columns.stop - columns.start)
    rest = (maps.mean() * height * width - mouth * inside) / (height * width - inside)
    trend = float(np.polyfit(np.linspace(0, 1, len(logits)), logits, 1)[0])
    spread = float(maps.std(axis=0).mean())
    return [float(logits.mean()), float(logits.std()), float(logits.max()), trend, float(mouth - rest), spread]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("systems", nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/work"))
    parser.add_argument("--synthetic", type=Path)
    parser.add_argument("--split", choices=("train", "val", "test"), default="train")
    chosen = parser.parse_args()
    paths = DetectionPaths(data=chosen.data, work=chosen.work, synthetic=chosen.synthetic)
    systems = [resolve_system(name) for name in chosen.systems]
    with progress_bars() as progress:
        faces = paths.faces(progress)
        samples = [face.sample for face in faces]
        judges = appoint([trained_on(system, samples) for system in systems], samples, chosen.split, "kind", progress)
        clips = [clip for clip in clips_of(faces, chosen.split) if ("kind", clip.kind) in judges.groups]
        values = []
        for number, clip in enumerate(clips, start=1):
            pictures = [EvalImage(f.pixels(), f, f.sample.family, f.sample.source, None) for f in clip.frames]
            scored = []
            for judge in judges.groups["kind", clip.kind]:
                system = systems[judge]
                held = render(pictures, CLEAN, system.size, system.margin)
                scored.append(statistics(*system.scorer(np.stack([face.crop for face in held]))))
            values.append(np.mean(scored, axis=0))
            progress.update("scoring", number, len(clips), "clips")
    x, labels = np.array(values), np.array([clip.label for clip in clips])
    kinds = np.array([clip.kind for clip in clips])
    named = [k for k in dict.fromkeys(kinds.tolist()) if set(labels[kinds == k].tolist()) == {0, 1}]
    over_time = np.full(len(clips), np.nan)
    for kind in named:
        others = np.isin(kinds, named) & (kinds != kind)
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        over_time[kinds == kind] = model.fit(x[others], labels[others]).decision_function(x[kinds == kind])
    arms = {"mean of logits": x[:, 0], "statistics over time": over_time}

    def aucs(scores: np.ndarray, rows: np.ndarray) -> list[float]:
        out = []
        for kind in named:
            own = rows[kinds[rows] == kind]
            both = len(set(labels[own].tolist())) == 2
            out.append(auc(labels[own], scores[own]) if both else np.nan)
        return out

    everything = np.arange(len(clips))
    draws = list(resampled([clip.subject for clip in clips], _DRAWS, seed=0))
    drawn = {name: np.array([aucs(scores, rows) for rows in draws]) for name, scores in arms.items()}
    table = {}
    for name, scores in arms.items():
        per_kind = dict(zip(named, aucs(scores, everything), strict=True))
        limits = np.nanpercentile(drawn[name], [2.5, 97.5], axis=0)
        table[name] = {k: rounded([v, *limits[:, i]]) for i, (k, v) in enumerate(per_kind.items())}
        mean = np.nanmean(drawn[name], axis=1)
        table[name]["mean"] = rounded([float(np.mean(list(per_kind.values()))), *np.nanpercentile(mean, [2.5, 97.5])])
    one, other = (np.nanmean(drawn[name], axis=1) for name in arms)
    values_of = [table[name]["mean"][0] for name in arms]
    difference = rounded([values_of[1] - values_of[0], *np.nanpercentile(other - one, [2.5, 97.5])])
    record = {
        "command": command(),
        "versions": versions(),
        "split": chosen.split,
        "features": FEATURES,
        "clips": {k: [int((labels[kinds == k] == label).sum()) for label in (0, 1)] for k in named},
        "results": table,
        "difference": difference,
    }
    write_record(chosen.record, record)
    print(table, difference)


if __name__ == "__main__":
    main()
