"""A campaign as a self-contained HTML page: rates and curves, no pictures of attacked faces."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from unmask import __version__
from unmask.evidence.terminal import safe_text
from unmask.files import whole
from unmask.packs.strength import WORST
from unmask.provenance import library_versions
from unmask.redteam.attacks.contract import strength
from unmask.redteam.summary import Summary

REPORT = "report.json"
_WIDTH, _HEIGHT = 640.0, 190.0  # of a chart
_GOALS = {
    "impersonate": "taken for somebody else",
    "dodge": "not recognised any more",
    "hide": "forged, taken for real",
    "accuse": "real, taken for forged",
}
_CHARTS = {"l0": ", a part of the picture changed", "guidance": ", surroundings painted anew"}
_SETTINGS = ("seed", "steps", "queries")


def write_report(summary: Summary, folder: Path, command: str = "") -> None:
    """Write `report.json` and `report.html`.

    Args:
        summary: as `summary.summarise` makes it.
        folder: of the campaign.
        command: the command line that repeats it.

    Raises:
        DataError: they cannot be written there.
    """
    versions = library_versions(("torch", "numpy", "onnxruntime", "opencv-python-headless"), unmask=True)
    with whole(folder / REPORT) as part:
        text = json.dumps({**summary, "versions": versions, "command": command}, indent=1, ensure_ascii=False)
        part.write_text(text + "\n", encoding="utf-8")
    jinja = Environment(
        loader=ChoiceLoader([PackageLoader("unmask.redteam"), PackageLoader("unmask.evidence")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["safe_text"] = safe_text
    html = jinja.get_template("redteam.html.j2").render(
        title=f"Red team: {summary['target']}",
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        target=summary["target"],
        facts=_facts(summary, command),
        curves=_charts(summary["curves"], "epsilon"),
        curve_heads=("attack", "goal", "strength", "success", "95 % interval", "pictures"),
        curve_rows=curve_rows(summary),
        queries=_charts(summary["queries"], "queries"),
        auc_heads=("attack", "strength", "AUC", "95 % interval"),
        auc_rows=_auc_rows(summary),
        transfer=_transfer(summary["transfer"]),
        stealth_heads=(
            "attack",
            "strength",
            "PSNR, dB",
            "SSIM",
            "LPIPS",
            "KID",
            "noticed, AUC",
            "called forged",
            "face found",
            "still the same person",
        ),
        stealth_rows=_stealth_rows(summary),
        remarks=summary["remarks"],
    )
    with whole(folder / "report.html") as part:
        part.write_text(html, encoding="utf-8")


def curve_rows(summary: Summary) -> list[tuple[str, ...]]:
    """The curves as a table: attack, goal, strength, success, interval, pictures."""
    return [
        (
            curve["attack"],
            curve["goal"],
            strength(curve["norm"], point["epsilon"]),
            percent(point["rate"]),
            between(point["low"], point["high"], percent),
            str(point["pictures"]),
        )
        for curve in summary["curves"]
        for point in curve["points"]
    ]


def percent(value: float | None) -> str:
    """A share for people; a dash where there is none."""
    return "–" if value is None else f"{value:.0%}"


def between(low: float | None, high: float | None, shown: Any) -> str:
    """An interval for people; a dash where there is none."""
    return "–" if low is None or high is None else f"{shown(low)} to {shown(high)}"


def _number(digits: int) -> Any:
    return lambda value: "–" if value is None else f"{value:.{digits}f}"


def _facts(summary: Summary, command: str) -> list[tuple[str, str]]:
    settings = summary["settings"]
    facts = [("Victim", f"{summary['target']}, a {summary['kind']}")]
    for row in summary["clean"]:
        already = percent(row["already"][summary["target"]])
        text = f"{row['pictures']} pictures of {row['subjects']} people; {already} are so before any attack"
        facts.append((_GOALS[row["goal"]].capitalize(), text))
    for name, value in settings["thresholds"].items():
        facts.append((f"Threshold of {name}", _threshold(value)))
    if settings.get("impostors"):
        facts.append(("Impostor set", str(settings["impostors"])))
    if settings["skipped"]:
        facts.append(("Passed over", "; ".join(f"{name}: {why}" for name, why in settings["skipped"][:20])))
    if "painting" in settings:
        facts.append(("Painted by", ", ".join(f"{name} {value}" for name, value in settings["painting"].items())))
    facts.append(("Effort", ", ".join(f"{name} {settings[name]}" for name in _SETTINGS)))
    if command:
        facts.append(("Repeat with", command))
    return facts


def _threshold(value: Any) -> str:
    if not isinstance(value, Mapping):
        return f"logit {value:.3f}"
    missed = value["false_non_match_rate"]
    text = (
        f"cosine {value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f}) at a false-match rate of "
        f"{value['false_match_rate']:g}, on {value['impostor_pairs']} pairs of {value['people']} people"
    )
    return text if missed is None else f"{text}; {missed:.1%} of {value['genuine_pairs']} pairs of one person lie below"


def _charts(curves: Sequence[Mapping[str, Any]], axis: str) -> list[dict[str, Any]]:
    charts = []
    keys = dict.fromkeys((curve["goal"], _axis(curve)) for curve in curves)
    for goal, norm in keys:
        if norm == "none":
            continue  # one number is no curve; the table has it
        some = [c for c in curves if (c["goal"], _axis(c)) == (goal, norm) and c["points"]]
        places = sorted({point[axis] for curve in some for point in curve["points"]})
        if not places:
            continue
        top = max(places)
        lines = [_line(curve, axis, top, number * 360 // max(len(some), 1)) for number, curve in enumerate(some)]
        shown = [(v, f"{v:g}" if axis == "queries" or norm == "guidance" else strength(norm, v)) for v in places]
        ticks = [(round(value / top * _WIDTH, 1), text) for value, text in shown]
        kept = [(0.0, "0")]
        for tick in ticks:
            if tick[0] - kept[-1][0] > 40:
                kept.append(tick)
        title = _GOALS[goal].capitalize() + _CHARTS.get(norm, "")
        charts.append({"title": title, "lines": [x for x in lines if x], "ticks": kept})
    return charts


def _axis(curve: Mapping[str, Any]) -> str:
    """What a curve's strengths are; curves of one axis share a chart."""
    norm: str = curve.get("norm", "linf")
    return norm if norm in ("l0", "guidance", "none") else "linf"


def _line(curve: Mapping[str, Any], axis: str, top: float, hue: int) -> dict[str, Any] | None:
    known = [point for point in curve["points"] if point["rate"] is not None]
    if not known:
        return None

    def place(point: Mapping[str, Any], name: str) -> tuple[float, float]:
        return round(point[axis] / top * _WIDTH, 1), round((1 - point[name]) * _HEIGHT, 1)

    def joined(points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x},{y}" for x, y in points)

    nothing = {axis: 0, "rate": 0.0, "low": 0.0, "high": 0.0}  # what counts was not fooled without an attack
    known = [nothing, *known]
    dots = [place(point, "rate") for point in known]
    # One band over the other hides both: of several attacks only the worst of all has one; the table has the others'.
    drawn = axis == "queries" or curve["attack"] == WORST or _axis(curve) != "linf"
    bounded = [point for point in known if drawn and point["low"] is not None]
    band = [place(point, "low") for point in bounded] + [place(point, "high") for point in reversed(bounded)]
    return {"name": curve["attack"], "points": joined(dots), "dots": dots, "band": joined(band), "hue": hue}


def _auc_rows(summary: Summary) -> list[tuple[str, ...]]:
    two = _number(2)
    return [
        (
            row["attack"],
            "–" if row["attack"] == "clean" else strength(_norm(summary, row["attack"]), row["epsilon"]),
            two(row["auc"]),
            between(row["low"], row["high"], two),
        )
        for row in summary["auc"]
    ]


def _norm(summary: Summary, attack: str) -> str:
    return next((curve["norm"] for curve in summary["curves"] if curve["attack"] == attack), "linf")


def _transfer(transfer: Mapping[str, Any]) -> dict[str, Any]:
    columns = list(transfer["rows"][0]["cells"]) if transfer["rows"] else []
    rows = [
        {
            "name": f"{row['source']}, {_GOALS[row['goal']]}",
            "cells": [
                {"text": percent(row["cells"][name]["rate"]), "share": row["cells"][name]["rate"] or 0.0}
                for name in columns
            ],
        }
        for row in transfer["rows"]
    ]
    shown = f"{transfer['attack']} at {strength(transfer['norm'], transfer['epsilon'])}"
    caption = f"{shown}, made on the victim at the left, shown to the one above. The diagonal is the white box."
    if transfer["norm"] in ("guidance", "none"):
        caption = f"{shown}, made without the victim at the left, shown to the one above. The diagonal is held out."
    return {"columns": columns, "rows": rows, "caption": caption}


def _stealth_rows(summary: Summary) -> list[tuple[str, ...]]:
    noticed = {(row["attack"], row["epsilon"]): row for row in summary["noticed"]}
    rows: list[tuple[str, ...]] = []
    for row in summary["stealth"]:
        own = [r for r in summary["identity"] if (r["attack"], r["epsilon"]) == (row["attack"], row["epsilon"])]
        seen = noticed[row["attack"], row["epsilon"]]
        area = f"{_number(2)(seen['auc'])} ({between(seen['low'], seen['high'], _number(2))})"
        kept = ", ".join(f"{percent(r['kept'])} ({r['goal']})" for r in own) or "–"
        rows.append(
            (
                row["attack"],
                strength(row["norm"], row["epsilon"]),
                _number(1)(row["psnr"]),
                _number(3)(row["ssim"]),
                _number(3)(row["lpips"]),
                _number(4)(row["kid"]),
                area,
                percent(row["forged"]),
                percent(row["face"]),
                kept,
            )
        )
    return rows
