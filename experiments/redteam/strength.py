"""How easily are the embedded forgery detectors fooled, at what strength?

Test-split volunteers (`volunteers.py`) and forgeries made of them are attacked by `unmask redteam pack --white-box`:
corruptions and Square as a black box, Auto-PGD with the gradients of the pack's graph. A pack whose graph has no
counterpart in torch is attacked as a black box alone. Nothing is chosen by these numbers.

One row of the record is one pack, by the SHA-256 of its model, attacked with some effort; what is in the record is not
attacked again, a killed campaign goes on where it stood. `--ship` writes the curves on the cards of the embedded packs;
without `--data` that is all it does.

    PYTHONPATH=experiments python experiments/redteam/strength.py experiments/redteam/strength.json \\
      --data DATA --work WORK --ship
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common import Record, command, one_thread, read_record
from pydantic import TypeAdapter
from redteam.volunteers import KINDS, attacked_set

import unmask.packs
from unmask.cli.options import progress_bars
from unmask.errors import DataError
from unmask.packs import Card, embedded_packs, load_pack
from unmask.packs.strength import StrengthCurve, in_levels, in_words
from unmask.progress import Progress
from unmask.provenance import sha256_of
from unmask.redteam.campaign import run
from unmask.redteam.pack_card import read_report, strength_curve
from unmask.redteam.report import write_report
from unmask.redteam.setup import Effort, plan_detector
from unmask.redteam.summary import summarise
from unmask.tables import markdown

BLACK_BOX, GRADIENTS = ("corruptions", "square"), ("apgd",)
TITLES = {"hide": "forged, taken for authentic", "accuse": "authentic, taken for forged"}
HEAD = """## {pack} {version}, success against strength

{real} authentic faces of volunteers of the test split and {forged} forgeries made of them ({kinds}), {people} groups of
people who share no picture. A face counts as forged from the first operating point of the pack's card on; "success" is
the share of the faces that were judged rightly before and are not any more, intervals are 95 %, groups resampled. Black
box: the worst of {black} with {queries} questions for a face. White box: the worst of these and of {white} with {steps}
gradients. AUC when all faces are attacked; of clean ones it is {clean}. `experiments/redteam/strength.py`, seed {seed}.
"""
ABSENT = "## {pack} {version}\n\nNot measured.\n"


def section(root: Path) -> str:
    """The curves of the embedded detectors, the last that was measured of each."""
    record = read_record(root, "redteam/strength")
    parts = []
    for _, card in detectors():
        rows = [row for row in record["rows"] if row["sha256"] == card.sha256]
        about = {"pack": card.name, "version": card.version}
        parts.append(table_of(rows[-1], about, record["settings"]) if rows else ABSENT.format(**about))
    return "\n".join(parts)


def table_of(row: dict[str, Any], about: dict[str, str], settings: dict[str, Any]) -> str:
    """One pack's curve under its heading."""
    curve = curve_of(row)
    lines = []
    for access in curve.accesses():
        for goal, title in TITLES.items():
            for epsilon, point in sorted(curve.worst(access, goal).items()):
                area = curve.auc(access, epsilon)
                success = f"{point.rate:.2f} [{point.low:.2f}, {point.high:.2f}]"
                auc = "–" if area is None else f"{area.value:.2f}"
                lines.append((access, title, in_levels(epsilon), success, str(point.pictures), auc))
    clean = curve.auc("black box", 0.0)
    head = HEAD.format(
        **about,
        real=curve.n_real,
        forged=curve.n_forged,
        people=curve.people,
        kinds=", ".join(settings["kinds"]),
        black=" and ".join(BLACK_BOX),
        white=" and ".join(GRADIENTS),
        queries=curve.queries,
        steps=curve.steps,
        clean="–" if clean is None else f"{clean.value:.2f}",
        seed=curve.seed,
    )
    heads = ("attacker", "goal", "strength", "success [95 %]", "faces", "AUC")
    return f"{head}\n{markdown(heads, lines)}\n"


def measure(name: str, table: Path, work: Path, effort: Effort, progress: Progress) -> StrengthCurve:
    """Attack a pack, or go on with it."""
    card = load_pack(name).card
    try:
        plan = plan_detector("pack", name, table, effort, progress=progress, white_box=True)
    except DataError as error:
        progress.note(f"{error}")
        blind = replace(effort, attacks=BLACK_BOX)
        plan = plan_detector("pack", name, table, blind, progress=progress)
    folder = work / f"{name}-{card.sha256[:12]}-{effort.most}-{effort.queries}-{effort.steps}"
    summary = summarise(plan, run(plan, folder, progress), folder)
    write_report(summary, folder, command())
    return strength_curve(read_report(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("--data", type=Path, help="folder of the known collections; without it nothing is attacked")
    parser.add_argument("--work", type=Path, default=Path("runs/strength"))
    parser.add_argument("--most", type=int, default=12, help="faces of each class")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ship", action="store_true", help="write the record's curves on the embedded packs' cards")
    chosen = parser.parse_args()
    one_thread()
    if chosen.data is not None:
        attack(chosen)
    if chosen.ship:
        rows = json.loads(chosen.record.read_text(encoding="utf-8"))["rows"]
        for name, card in detectors():
            own = [row for row in rows if row["sha256"] == card.sha256]
            if not own:
                raise SystemExit(f"{chosen.record} has no curve of {name} {card.version}; measure it with --data")
            ship(name, curve_of(own[-1]))


def detectors() -> list[tuple[str, Card]]:
    """The embedded forgery detectors and their cards."""
    cards = [(name, load_pack(name).card) for name in embedded_packs()]
    return [(name, card) for name, card in cards if card.task == "forgery_detection"]


def attack(chosen: argparse.Namespace) -> None:
    """Measure the curves that the record lacks."""
    with progress_bars() as progress:
        table = attacked_set(chosen.data, chosen.work, chosen.seed, progress)
        effort = Effort(
            attacks=(*BLACK_BOX, *GRADIENTS),
            steps=chosen.steps,
            queries=chosen.queries,
            transfer=GRADIENTS[0],
            most=chosen.most,
            seed=chosen.seed,
        )
        record = Record(chosen.record, {"seed": chosen.seed, "kinds": KINDS}, sha256_of(table), ("onnx2torch",))
        for name, card in detectors():
            key = {"sha256": card.sha256, **{key: getattr(chosen, key) for key in ("most", "queries", "steps")}}
            if not record.has(**key):
                curve = measure(name, table, chosen.work, effort, progress)
                record.add(pack=name, version=card.version, **key, curve=asdict(curve))


def curve_of(row: dict[str, Any]) -> StrengthCurve:
    """The curve in a row of the record."""
    return TypeAdapter(StrengthCurve).validate_python(row["curve"])


def ship(name: str, curve: StrengthCurve) -> None:
    """Put a curve on the card of an embedded pack."""
    path = Path(unmask.packs.__file__).parent / name / "card.json"
    replace(Card.read(path), strength=curve).write(path)
    print(f"{path}: {'; '.join(in_words(curve))}")


if __name__ == "__main__":
    main()
