"""Calibrate a pack on the kinds of forgery and the photographs that it never saw, and measure it on the test split.

    PYTHONPATH=experiments python experiments/plain/recalibrate.py PACK OUT --data DATA \\
      [--synthetic DIR] [--taef2 DIR] [--work DIR] [--version VERSION] [--record FILE]

To a pack that was trained before a collection was at hand, all of that is new but what its card names: forged faces
of families that it was not trained on and real ones of other sources calibrate it, of all splits but test; of sources
that it was trained on those of the cal split. The network stays as it is. The record holds what verdicts the old
calibration and the new one give on the test split.
"""

import argparse
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from common import write_record

from unmask.cli.options import progress_bars
from unmask.datasets.face_store import StoredFace
from unmask.forging.families import kind_of
from unmask.lab.detection.calibration import QUALITY_EDGES, Scored, fit_calibration
from unmask.lab.detection.config import DetectionPaths
from unmask.lab.detection.evaluate import condition_shown, evaluate, quality_of
from unmask.lab.detection.export import LIMITS, MIN_FACE_PX, MIN_QUALITY, OWN_LIMITS, operating_points
from unmask.lab.detection.held_out import ALL_CONDITIONS, EvalImage, render
from unmask.lab.detection.left_out_scores import trained_on
from unmask.lab.detection.prepare import held_out_reconstructions
from unmask.lab.detection.systems import pack_scorer, resolve_system
from unmask.lab.run import versions
from unmask.lab.task import Evaluation
from unmask.packs import load_pack

_MOST = 90  # faces of every family and of every source


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("pack")
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--work", type=Path, default=Path("runs/work"))
    arguments.add_argument("--synthetic", type=Path)
    arguments.add_argument("--taef2", type=Path)
    arguments.add_argument("--version", default="0.1.1")
    arguments.add_argument("--record", type=Path)
    chosen = arguments.parse_args()
    paths = DetectionPaths(data=chosen.data, work=chosen.work, synthetic=chosen.synthetic, taef2=chosen.taef2)
    pack = load_pack(chosen.pack)
    card, scorer = pack.card, pack_scorer(pack)
    size, margin = card.input_size[0], card.crop_margin
    assert margin is not None and card.calibration is not None
    with progress_bars() as progress:
        faces = paths.faces(progress)
        known = trained_on(resolve_system(chosen.pack), [face.sample for face in faces])
        pictures = unseen_pictures(faces, known.families, known.sources)
        scored = []
        for number, condition in enumerate(ALL_CONDITIONS, start=1):
            held = render(pictures, condition, size, margin)
            logits, _ = scorer(np.stack([face.crop for face in held]))
            for picture, face, logit in zip(pictures, held, logits, strict=True):
                kind = kind_of(picture.face.sample) if face.label else ""
                shown = condition_shown(face, condition)
                scored.append(Scored(float(logit), quality_of(face), face.label, face.family, face.source, kind, shown))
            progress.update("scoring", number, len(ALL_CONDITIONS), f"{condition}, {len(held)} faces")
        families = sorted({face.family for face in scored if face.label})
        about = (
            f"faces of all splits but test, {' / '.join(ALL_CONDITIONS)}; forged: families the network was not trained "
            f"on ({', '.join(families)}); authentic: sources it was not trained on, and the cal split of the others"
        )
        calibration = fit_calibration(scored, QUALITY_EDGES, about, MIN_QUALITY, MIN_FACE_PX)
        drawn = held_out_reconstructions(paths, faces, "test", progress)
        results = {
            name: evaluate(faces, "test", scorer, size, margin, fitted, drawn, progress=progress)
            for name, fitted in (("before", card.calibration), ("after", calibration))
        }
        points = operating_points(faces, scorer, size, margin, sorted(known.families))
    blind = next(text for text in card.limits if text.startswith("Calibrated on"))
    card = replace(
        card,
        version=chosen.version,
        calibration=calibration,
        metrics=tuple(results["after"].metrics),
        operating_points=points,
        protocol={**card.protocol, "calibrated": {"on": about, "versions": versions()}},
        limits=(*OWN_LIMITS, blind, *LIMITS),
    )
    shutil.copytree(pack.folder, chosen.out)
    card.write(chosen.out / "card.json")
    if chosen.record:
        record = {
            "pack": f"{card.name} {pack.card.version}",
            "versions": versions(),
            "faces": dict(Counter(f"{face.family if face.label else face.source}" for face in scored)),
            "before": asdict(pack.card.calibration) if pack.card.calibration else None,
            "after": asdict(calibration),
            "rows": rows_of(results),
        }
        write_record(chosen.record, record)


_KEPT = ("auc", "cllr", "verdict_forged", "verdict_authentic")


def rows_of(results: Mapping[str, Evaluation]) -> list[dict[str, object]]:
    """What both calibrations give of every family, and of all reals, under every condition."""
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for name, result in results.items():
        for one in result.metrics:
            if one.name in _KEPT:
                row = rows.setdefault((one.dataset, one.condition), {"faces": one.dataset, "condition": one.condition})
                row[one.name if one.name == "auc" else f"{one.name}_{name}"] = round(one.value, 4)
    return list(rows.values())


def unseen_pictures(
    faces: Sequence[StoredFace], families: Collection[str], sources: Collection[str]
) -> list[EvalImage]:
    """The pictures that calibrate, see the module's head; at most `_MOST` of every family and source."""
    counts: Counter[str] = Counter()
    pictures = []
    for side in ("cal", "val", "train"):
        for face in faces:
            sample = face.sample
            if sample.split != side:
                continue
            name = sample.family if sample.label else sample.source
            new = name not in (families if sample.label else sources)
            # What it was trained on calibrates only as authentic faces of the cal split.
            if (new or (side == "cal" and not sample.label)) and counts[name] < _MOST and sample.family != "pggan":
                counts[name] += 1
                pictures.append(EvalImage(face.pixels(), face, sample.family, sample.source, None))
    return pictures


if __name__ == "__main__":
    main()
