"""The leaderboard's part of the results page, and its picture, from the record that `measure.py` wrote."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import read_record

from unmask.lab.detection.held_out import CLEAN, CONDITIONS
from unmask.tables import markdown, unless_few, with_few_note

FAMILIES = {
    "stylegan": "StyleGAN",
    "mobilestylegan": "MobileStyleGAN",
    "ciplab": "CIPLAB composites",
    "swap": "face swaps",
    "resynthesis": "re-synthesis",
    "pggan": "PGGAN",
}
NAMES = {
    "plain": "plain",
    "deepfidelity": "DeepFidelity",
    "acmf": "ACMF",
    "hfc": "HFC-MFFD",
    "fedforgery": "FedForgery's residual",
}
PICTURE = Path("docs", "images", "leaderboard.svg")
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#999999", "#555555")  # Okabe and Ito's, then greys
_TEXT = """## Leaderboard: five detectors under one protocol

Every detector was trained on the same {pairs:,} pairs for {steps} steps of {batch_pairs} pairs (seed {seed}), at
{size} px and margin {margin}, once with all families and once without each. "Left out" is the AUC on a family that the
run never saw, against reals of the same source and resolution; PGGAN is never trained on. Self-blends are trained on by
all. Means are over the six families, in the column "known" over the five that are ever trained on. The trivial
baselines are a linear classifier on the radial power spectrum, trained like the others, and MesoNet with its published
weights, which never saw any of this.

This is a short budget, the same for all, on two processor cores: it ranks what is learnt in that time from these data,
not the methods' published forms, and one seed says nothing about the spread between seeds. Each of the embedded pack's
two members had more than ten times the steps (`experiments/plain/run.sh`). Where a row names its steps, a longer run
with all families stands beside the others. plain, ACMF and FedForgery's classifier begin with ImageNet weights,
DeepFidelity and HFC-MFFD with random ones, for no registry package has theirs. Commands:
`experiments/leaderboard/train.sh`, and `measure.py` beside it.

![AUC of every detector on every family]({picture})
"""
_COLUMNS = (
    "detector",
    "known",
    "left out",
    "left out, JPEG 50",
    "left out, half size",
    "false alarms by group",
    "parameters, M",
    "training, minutes",
    "latency, ms",
)
_GROUPS = """### False alarms by group of people

Share of UTKFace's test reals above each detector's threshold, which lets 10 % of the validation split's reals through:
fixed before these people are seen. Ages, sexes and ancestries are the data set's own labels. Intervals of 95 % by
bootstrap over subjects.
"""
_DETAILS = """### Families that were left out, as is

AUC with its 95 % interval by bootstrap over subjects; after the semicolon the difference from `plain` on the same
faces, with its interval.
"""
_KNOWN = """### Families that were trained on, as is
"""


def _record(root: Path) -> dict[str, Any]:
    return read_record(root, "leaderboard/test")


def _value(rows: Sequence[Mapping[str, Any]], detector: str, family: str, kind: str, condition: str) -> Any:
    for row in rows:
        if (row["detector"], row["family"], row["kind"], row["condition"]) == (detector, family, kind, condition):
            return row
    return None


def _mean(rows: Sequence[Mapping[str, Any]], detector: str, kind: str, condition: str) -> str:
    """Mean AUC over the families that every detector can have in this column."""
    wanted = [family for family in FAMILIES if kind == "left out" or family != "pggan"]
    measured = [_value(rows, detector, family, kind, condition) for family in wanted]
    return "–" if None in measured else f"{np.mean([row['auc'][0] for row in measured]):.3f}"


def _detectors(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["detector"] for row in rows))


def _titled(name: str) -> str:
    """A detector's name in the page's words: "hfc" or "hfc, 1,200 steps"; others keep theirs."""
    method, comma, steps = name.partition(", ")
    return NAMES[method] + comma + steps if method in NAMES else name


def _per_family(rows: Sequence[Mapping[str, Any]], kind: str) -> str:
    detectors = [name for name in _detectors(rows) if _mean(rows, name, kind, CLEAN) != "–"]
    lines = []
    for family, title in FAMILIES.items():
        cells, counts = [], ""
        for name in detectors:
            row = _value(rows, name, family, kind, CLEAN)
            if row is None:
                cells.append("–")
                continue
            counts = f"{row['real']} / {row['forged']}"
            cells.append("{:.3f} [{:.3f}, {:.3f}]".format(*row["auc"]))
            if row["difference"] is not None:
                cells[-1] += "; {:+.3f} [{:+.3f}, {:+.3f}]".format(*row["difference"])
            cells[-1] = unless_few(cells[-1], row["real"], row["forged"])
        if counts:
            lines.append([title, *cells, counts])
    return with_few_note(markdown(["family", *map(_titled, detectors), "real / forged"], lines))


def overview(root: Path, method: str | None = None) -> str:
    """The leaderboard's first table: a row per detector, or those of one method; empty if it has none.

    Args:
        root: the repository's root.
        method: by its name in `unmask models`; None for all.
    """
    record = _record(root)
    rows = record["rows"]
    lines = []
    means = {name: _mean(rows, name, "left out", CLEAN) for name in _detectors(rows)}
    order = sorted(means, key=lambda name: (means[name] != "–", means[name]), reverse=True)
    for name in order:
        if method is not None and name.partition(", ")[0].lower() != method:
            continue
        cells = [_titled(name), _mean(rows, name, "known", CLEAN)]
        cells += [_mean(rows, name, "left out", condition) for condition in CONDITIONS]
        shares = [group["share"][0] for key, group in record["groups"][name]["groups"].items() if key != "all"]
        cells.append(f"{100 * min(shares):.0f} – {100 * max(shares):.0f} %")
        cost = record["cost"].get(name)
        if cost is None:
            cells += ["–"] * 3
        else:
            cells += [
                f"{cost['parameters'] / 1e6:.2f}",
                f"{cost['training_minutes']:.0f}",
                f"{cost['latency_ms']:.1f}",
            ]
        lines.append(cells)
    return markdown(_COLUMNS, lines) if lines else ""


def _groups(record: Mapping[str, Any]) -> str:
    names = list(record["groups"])
    lines = []
    order = ["all", *sorted(group for group in record["groups"][names[0]]["groups"] if group != "all")]
    for group in order:
        people = [record["groups"][name]["groups"][group] for name in names]
        cells = [
            unless_few("{:.0f} % [{:.0f}, {:.0f}]".format(*(100 * share for share in one["share"])), one["people"])
            for one in people
        ]
        lines.append([group, str(people[0]["people"]), *cells])
    return with_few_note(markdown(["people", "number", *map(_titled, names)], lines))


def section(root: Path) -> str:
    """The leaderboard's part of the results page; `root` is the repository's."""
    record = _record(root)
    head = _TEXT.format(**record["protocol"], picture=f"../images/{PICTURE.name}")
    note = (
        "Training minutes are the median of a detector's runs, each on one core of a shared machine of varying load.\n"
        "The latency is one face through ONNX Runtime on one thread, the median of turns that all detectors take in\n"
        "one run.\n"
    )
    parts = [head, overview(root), "", note, _DETAILS, _per_family(record["rows"], "left out"), "", _KNOWN]
    parts += [_per_family(record["rows"], "known"), "", _GROUPS, _groups(record)]
    return "\n".join(parts) + "\n"


def draw(root: Path) -> None:
    """Draw the picture: a row per family, a dot per detector where it was left out, a ring where it was known."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    # Text stays text, and the file is the same whenever it is drawn.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "unmask", "font.family": "sans-serif"})
    rows = _record(root)["rows"]
    detectors = [name for name in _detectors(rows) if _mean(rows, name, "left out", CLEAN) != "–"]
    figure, axes = pyplot.subplots(figsize=(8, 6))
    for place, name in enumerate(detectors):
        for row_number, family in enumerate(FAMILIES):
            height = row_number + (place - (len(detectors) - 1) / 2) * 0.11
            for kind in ("known", "left out"):
                row = _value(rows, name, family, kind, CLEAN)
                if row is None:
                    continue
                value, low, high = row["auc"]
                filled = kind == "left out"
                if filled:
                    axes.plot([low, high], [height, height], color=_COLOURS[place], linewidth=1.2)
                axes.plot(
                    [value],
                    [height],
                    marker="o",
                    markersize=5.5,
                    linestyle="none",
                    color=_COLOURS[place],
                    markerfacecolor=_COLOURS[place] if filled else "none",
                    label=_titled(name) if filled and family == "pggan" else None,
                )
    axes.axvline(0.5, color="#bbbbbb", linewidth=1)
    axes.set_yticks(range(len(FAMILIES)), list(FAMILIES.values()))
    axes.set_ylim(len(FAMILIES) - 0.5, -0.5)
    axes.set_xlim(0.15, 1.01)
    axes.set_xlabel(
        "AUC on held-out people\ndot and line: family left out, with its 95 % interval; ring: family trained on"
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=4, frameon=False, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(root / PICTURE, bbox_inches="tight", metadata={"Date": None})
