"""What a campaign against a pack measured, as the strength curve on the pack's card."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from unmask.errors import DataError
from unmask.lab.detection.pack_calibration import refuse_existing, unfinished_folder
from unmask.packs import Pack, load_pack
from unmask.packs.strength import WORST, Access, AttackedAuc, StrengthCurve, StrengthPoint
from unmask.redteam.attacks import ATTACKS
from unmask.redteam.campaign import CLEAN
from unmask.redteam.report import REPORT
from unmask.redteam.summary import WORST_BLACK_BOX, Summary


def put_on_card(campaign: Path, pack: str | Path, out: Path) -> Pack:
    """Write a pack anew with the strength curve of a campaign on its card.

    Args:
        campaign: folder of a finished `unmask redteam pack`.
        pack: the pack that was attacked, by name or folder; a curve that is on its card is replaced.
        out: folder of the new pack, which must not be there yet.

    Raises:
        DataError: the folder is there; there is no report of a campaign against this very model.
        PackError: no such pack, or an altered one.
    """
    refuse_existing(out)
    old = load_pack(pack, "forgery_detection")
    summary = read_report(campaign)
    if summary["settings"].get("pack_sha256") != old.card.sha256:
        raise DataError(f"{campaign}: it attacked another model than that of pack {old.card.name!r}; attack this one")
    card = replace(old.card, strength=strength_curve(summary))
    with unfinished_folder(out) as part:
        shutil.copytree(old.folder, part, dirs_exist_ok=True)
        card.write(part / "card.json")
    return load_pack(out)


def read_report(campaign: Path) -> Summary:
    """The report of a finished campaign against a pack.

    Raises:
        DataError: there is none, or it is one against something else.
    """
    try:
        summary = json.loads((campaign / REPORT).read_text(encoding="utf-8"))
        kind = summary["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{campaign}: no report of a finished campaign; run `unmask redteam pack PACK DATA --out DIR` to its end"
        ) from error
    if kind != "pack":
        raise DataError(f"{campaign}: a campaign against a {kind}; the card of a pack needs `unmask redteam pack`")
    return summary


def strength_curve(summary: Summary) -> StrengthCurve:
    """The curve of a summary of a campaign against a pack.

    Args:
        summary: as `read_report` has it.

    Raises:
        DataError: no attack that may change every pixel was tried, or the pack was wrong about all pictures before.
    """
    settings = summary["settings"]
    points = tuple(
        StrengthPoint(access=access, goal=curve["goal"], attack=name, **{k: point[k] for k in _POINT if k in point})
        for curve in summary["curves"]
        if curve["norm"] == "linf"
        for access, name in _accesses(curve["attack"], settings["attacks"])
        for point in curve["points"]
        if point["rate"] is not None
    )
    if not points:
        raise DataError("the campaign has no rate under any attack of every pixel: the card would say nothing")
    strengths = {(point.attack, point.epsilon) for point in points} | {(CLEAN, 0.0)}
    aucs = tuple(
        AttackedAuc(
            access=access, attack=name, epsilon=row["epsilon"], value=row["auc"], low=row["low"], high=row["high"]
        )
        for row in summary["auc"]
        for access, name in _accesses(row["attack"], settings["attacks"])
        if row["auc"] is not None and (name, row["epsilon"]) in strengths
    )
    counts = {row["goal"]: row["pictures"] for row in summary["clean"]}
    return StrengthCurve(
        points=points,
        aucs=aucs,
        threshold=round(float(settings["thresholds"][summary["target"]]), 4),
        queries=settings["queries"],
        steps=settings["steps"],
        seed=settings["seed"],
        n_real=counts["accuse"],
        n_forged=counts["hide"],
        people=summary["people"],
        data_sha256=settings["data"],
        command=summary["command"],
        versions=summary["versions"],
    )


_POINT = ("epsilon", "rate", "low", "high", "pictures")


def _accesses(attack: str, attacks: Iterable[str]) -> list[tuple[Access, str]]:
    """What the attacker had in a curve, and what it is called on a card; the worst of all may be both."""
    if attack == CLEAN:
        return [("black box", CLEAN)]
    if attack == WORST_BLACK_BOX:
        return [("black box", WORST)]
    if attack != WORST:
        return [("white box" if ATTACKS.load(attack).gradients else "black box", attack)]
    kinds = {ATTACKS.load(name).gradients for name in attacks}
    return [("white box" if True in kinds else "black box", WORST)]
