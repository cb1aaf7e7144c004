"""A federation and its plan as self-contained HTML pages: who holds what, how it went, which client pulls where."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from unmask import __version__
from unmask.evidence.terminal import safe_text
from unmask.federation.contributions import CONTRIBUTIONS
from unmask.federation.plan import Plan
from unmask.files import whole

_WIDTH, _HEIGHT = 640.0, 190.0  # of a chart
_MOST = 40  # clients that a matrix of cosines shows


@dataclass(frozen=True)
class Cell:
    """A cell of a heat map: its text, and how dark it is, 0 to 1."""

    text: str
    share: float


@dataclass(frozen=True)
class HeatRow:
    """A row of a heat map."""

    name: str
    cells: tuple[Cell, ...]


def write_plan(plan: Plan, path: Path) -> None:
    """Draw who holds what.

    Raises:
        DataError: it cannot be written there.
    """
    holdings = [
        {"name": share.name, "families": dict(share.families), "counts": dict(counts)}
        for share, (_, counts) in zip(plan.shares, plan.table(), strict=True)
    ]
    columns, rows = _holdings(holdings)
    parts = [f"{len(plan.shares)} clients, split by {plan.split}"]
    if plan.split == "dirichlet":
        parts.append(f"alpha {plan.alpha:g}")
    if plan.held_out:
        parts.append(f"without {plan.held_out}, which nobody holds")
    _write(path, "plan.html.j2", "Federation plan", summary=", ".join(parts), columns=columns, rows=rows)


def write_report(folder: Path) -> None:
    """Write `report.html` of a finished run's folder, from its records."""
    about = json.loads((folder / "federation.json").read_text(encoding="utf-8"))
    records = json.loads((folder / "server" / "rounds.json").read_text(encoding="utf-8"))
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        metrics = list(csv.DictReader(stream))
    with (folder / "clients.csv").open(newline="", encoding="utf-8") as stream:
        heads, *clients = list(csv.reader(stream))
    columns, rows = _holdings(about["clients"])
    last = records[-1]
    secure = about["federation"]["secure_aggregation"]
    names = [] if secure else list(last["clients"])[:_MOST]
    cosines = [HeatRow(one, tuple(_cosine_cell(last["cosines"], one, other) for other in names)) for one in names]
    _write(
        folder / "report.html",
        "report.html.j2",
        "Federation",
        facts=_facts(about, records),
        curve=_curve(metrics),
        client_curve=_client_curve(records),
        gains=_gains(folder / CONTRIBUTIONS),
        clients=clients,
        client_heads=heads,
        secure=secure,
        cosines=cosines,
        cosine_columns=names,
        refused=[f"round {r['number']}: {why}" for r in records for why in r["refused"].values()],
        plan_columns=columns,
        plan_rows=rows,
    )


def _facts(about: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    settings = about["federation"]
    sent = sum(record["bytes_sent"] + record["bytes_received"] for record in records) / len(records) / 1e6
    seconds = sum(record["seconds"] for record in records)
    return [
        ("Clients", f"{len(about['clients'])}, split by {about['split']}"),
        ("Rounds", f"{len(records)}, {settings['local_steps']} steps of every client in each"),
        ("Averaged by", settings["aggregator"]),
        *([("Seen by the server", "the sum of a round's updates")] if settings["secure_aggregation"] else []),
        ("Normalisations", settings["normalisation"]),
        ("Time", f"{seconds:.0f} s, {seconds / len(records):.1f} s a round"),
        ("Traffic", f"{sent:.1f} MB a round, over all clients"),
        *([("Held by nobody", about["held_out"])] if about["held_out"] else []),
    ]


def _holdings(clients: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[HeatRow]]:
    """Clients by families: how many pictures each holds, or with what weight it makes them."""
    families = sorted({name for one in clients for name in (*one["families"], *one.get("counts", ()))} - {"real"})
    columns = [*(["real"] if any(one.get("counts") for one in clients) else []), *families]
    most = max((count for one in clients for count in one.get("counts", {}).values()), default=1)
    rows = []
    for one in clients:
        counts, weights = one.get("counts", {}), one["families"]
        cells = []
        for name in columns:
            if counts.get(name):
                cells.append(Cell(f"{counts[name]}", counts[name] / most))
            elif name in weights:
                cells.append(Cell(f"×{weights[name]:.2g}", float(weights[name])))
            else:
                cells.append(Cell("", 0.0))
        rows.append(HeatRow(one["name"], tuple(cells)))
    return columns, rows


def _cosine_cell(cosines: Mapping[str, float], one: str, other: str) -> Cell:
    if one == other:
        return Cell("", 0.0)
    value = cosines.get(f"{one} | {other}", cosines.get(f"{other} | {one}", 0.0))
    return Cell(f"{value:.2f}", max(0.0, value))


def _curve(metrics: Sequence[Mapping[str, str]]) -> dict[str, Any] | None:
    """AUC by round as a line chart: the mean over families first; none where no faces were watched."""
    families = [name for name in metrics[0] if name.startswith("auc_")]
    rounds = [float(row["step"]) for row in metrics]
    series = {name.removeprefix("auc_"): [float(row[name] or "nan") for row in metrics] for name in families}
    if not series:
        return None
    mean = [sum(values) / len(values) for values in zip(*series.values(), strict=True)]
    return _lines("AUC by round", {n: list(zip(rounds, v, strict=True)) for n, v in {"mean": mean, **series}.items()})


def _gains(path: Path) -> list[tuple[str, str, str]]:
    """Each client's name, its gain with the interval, and the families that gain and lose most by it."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    gains = []
    for row in sorted(rows, key=lambda row: -float(row["gain"])):
        families = sorted((float(v), name.removeprefix("gain_")) for name, v in row.items() if name.startswith("gain_"))
        extremes = [families[-1], families[0]] if len(families) > 1 else families
        limits = f" [{float(row['low']):+.3f}, {float(row['high']):+.3f}]" if row["low"] else ""
        gains.append(
            (
                row["client"],
                f"{float(row['gain']):+.3f}{limits}",
                ", ".join(f"{name} {value:+.3f}" for value, name in extremes),
            )
        )
    return gains


def _client_curve(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """AUC of the common weights on each client's validation faces: the mean over clients first."""
    series: dict[str, list[tuple[float, float]]] = {}
    means = []
    for record in records:
        aucs = {name: float(row["auc"]) for name, row in record["clients"].items() if "auc" in row}
        for name in list(aucs)[:_MOST]:
            series.setdefault(name, []).append((float(record["number"]), aucs[name]))
        if aucs:
            means.append((float(record["number"]), sum(aucs.values()) / len(aucs)))
    return _lines("AUC by round and client", {"mean": means, **series}) if means else None


def _lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any]:
    """A line chart of shares over rounds, as the templates' macro draws it."""
    rounds = [number for points in series.values() for number, _ in points]
    first, last = min(rounds), max(rounds)
    span = max(last - first, 1.0)

    def points(values: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{(x - first) / span * _WIDTH:.1f},{(1 - y) * _HEIGHT:.1f}" for x, y in values)

    return {
        "title": title,
        "ticks": [{"y": round((1 - tick) * _HEIGHT, 1), "text": f"{tick:.2f}"} for tick in (0, 0.25, 0.5, 0.75, 1)],
        "lines": [{"name": name, "points": points(values)} for name, values in series.items()],
        "first": f"round {first:.0f}",
        "last": f"round {last:.0f}",
    }


def _write(path: Path, template: str, title: str, **values: Any) -> None:
    jinja = Environment(
        loader=ChoiceLoader([PackageLoader("unmask.federation"), PackageLoader("unmask.evidence")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["safe_text"] = safe_text
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = jinja.get_template(template).render(title=title, version=__version__, written=written, **values)
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")
