"""How often packs call authentic faces forged or authentic, by source and condition; and forgeries, by family.

    PYTHONPATH=experiments python experiments/plain/false_alarms.py RECORD.json PACK... --data DATA \\
      [--synthetic DIR] [--taef2 DIR] [--work DIR] [--split SPLIT]

Packs that hold the same network under two calibrations are scored once each; every one sees the same pictures. A pack
that the record has already is not scored again.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
from common import write_record

from unmask.cli.options import progress_bars
from unmask.evidence.likelihood import decide, likelihood_ratio
from unmask.evidence.report import Verdict
from unmask.lab.detection.config import DetectionPaths
from unmask.lab.detection.evaluate import condition_shown, quality_of
from unmask.lab.detection.held_out import ALL_CONDITIONS, EvalImage, render
from unmask.lab.detection.systems import pack_scorer
from unmask.lab.metrics import mean_interval
from unmask.lab.run import versions
from unmask.packs import load_pack

_MOST = 70  # faces of every family and source
_SAID = (Verdict.FORGED, Verdict.AUTHENTIC, Verdict.REFUSED)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("record", type=Path)
    arguments.add_argument("packs", nargs="+")
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--work", type=Path, default=Path("runs/work"))
    arguments.add_argument("--synthetic", type=Path)
    arguments.add_argument("--taef2", type=Path)
    arguments.add_argument("--split", default="test")
    chosen = arguments.parse_args()
    paths = DetectionPaths(data=chosen.data, work=chosen.work, synthetic=chosen.synthetic, taef2=chosen.taef2)
    packs = [load_pack(name) for name in chosen.packs]
    rows = []
    if chosen.record.is_file():
        old = json.loads(chosen.record.read_text(encoding="utf-8"))["rows"]
        measured = {row["pack"] for row in old} & {f"{pack.card.name} {pack.card.version}" for pack in packs}
        rows = [row for row in old if row["pack"] in measured]
        packs = [pack for pack in packs if f"{pack.card.name} {pack.card.version}" not in measured]
    with progress_bars() as progress:
        counts: Counter[str] = Counter()
        pictures = []
        for face in paths.faces(progress):
            sample = face.sample
            name = sample.family if sample.label else f"real {sample.source}"
            if sample.split == chosen.split and counts[name] < _MOST:
                counts[name] += 1
                pictures.append((name, EvalImage(face.pixels(), face, sample.family, sample.source, None)))
        for step, condition in enumerate(ALL_CONDITIONS):
            logits: dict[str, np.ndarray] = {}
            for number, pack in enumerate(packs):
                card = pack.card
                assert card.calibration is not None and card.crop_margin is not None
                held = render([picture for _, picture in pictures], condition, card.input_size[0], card.crop_margin)
                if card.sha256 not in logits:
                    logits[card.sha256] = pack_scorer(pack)(np.stack([face.crop for face in held]))[0]
                verdicts = []
                for face, logit in zip(held, logits[card.sha256], strict=True):
                    shown = condition_shown(face, condition)
                    ratio = likelihood_ratio(card.calibration, float(logit), quality_of(face), shown)
                    verdicts.append(decide(ratio, card.calibration, shown))
                for name in dict.fromkeys(name for name, _ in pictures):
                    own = [row for row, (other, _) in enumerate(pictures) if other == name]
                    subjects = [held[row].subject for row in own]
                    shares = {
                        verdict.value: mean_interval(
                            np.array([float(verdicts[row] is verdict) for row in own]), subjects, draws=400
                        )
                        for verdict in _SAID
                    }
                    rows.append(
                        {
                            "pack": f"{card.name} {card.version}",
                            "faces": name,
                            "condition": condition,
                            "number": len(own),
                            **{
                                key: [None if v is None else round(v, 4) for v in value]
                                for key, value in shares.items()
                            },
                        }
                    )
                done = step * len(packs) + number + 1
                progress.update("scoring", done, len(ALL_CONDITIONS) * len(packs), f"{condition}, {card.version}")
    write_record(chosen.record, {"split": chosen.split, "versions": versions(), "rows": rows})


if __name__ == "__main__":
    main()
