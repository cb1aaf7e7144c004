"""`unmask packs`: the embedded model packs, and what is known of one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from unmask.packs import Card, Metric, Pack

_FIGURES = 8  # of tasks other than detection


def packs(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|FOLDER]", help="Print a summary of this pack's card.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print whole cards as JSON: that of NAME, or all.")] = False,
) -> None:
    """List the embedded model packs, a line each; with a name, what it judges, how well, and what it does not cover."""
    import dataclasses
    import json as serialiser

    from rich.console import Console

    from unmask.packs import embedded_packs, load_pack
    from unmask.tables import terminal

    loaded = [load_pack(one) for one in (embedded_packs() if name is None else [name])]
    if json:
        cards = [dataclasses.asdict(pack.card) for pack in loaded]
        print(serialiser.dumps(cards if name is None else cards[0], indent=1, ensure_ascii=False))
        return
    console = Console()
    if name is None:
        lines = [
            (
                pack.card.name,
                pack.card.version,
                pack.card.task.replace("_", " "),
                f"{_megabytes(pack):.1f}",
                pack.card.licence.split(" (")[0],
            )
            for pack in loaded
        ]
        console.print(terminal(("Pack", "Version", "Task", "MB", "Licence"), lines, right={"MB"}))
        console.print("`unmask packs NAME` tells more. Forgery detectors are for `unmask inspect --pack`.", style="dim")
        return
    card = loaded[0].card
    console.print(terminal(("", ""), _summary(loaded[0]), title=f"{card.name} {card.version}"))
    rest = f"{len(card.metrics)} figures, training data, groups of people, behaviour under attack"
    console.print(f"The whole card ({rest}): unmask packs {name} --json", style="dim", markup=False)


def _megabytes(pack: "Pack") -> float:
    return pack.model_path.stat().st_size / 1e6


def _summary(pack: "Pack") -> list[tuple[str, str]]:
    """What a reader has to know first: the task, size, versions, main rates, limits."""
    card = pack.card
    rows = [
        ("task", f"{card.task.replace('_', ' ')}: {card.description}"),
        ("licence", card.licence),
        ("file", f"{_megabytes(pack):.1f} MB, SHA-256 {card.sha256[:16]}…"),
    ]
    if card.checked_versions:
        spans = (f"{library} {first} to {last}" for library, (first, last) in card.checked_versions.items())
        rows.append(("checked with", ", ".join(spans)))
    if card.calibration is not None:
        rows += _verdict_rows(card)
        unseen = " on kinds and sources that it had not seen" if card.calibration.held_out else ""
        rows.append(("Cllr", f"{card.calibration.cllr:.2f}{unseen}; 1 is no information, 0 perfect"))
    rows += _areas(card) if card.task == "forgery_detection" else _figures(card)
    return [*rows, *_under("not covered", card.limits)]


def _verdict_rows(card: "Card") -> list[tuple[str, str]]:
    """How many authentic faces a detector calls forged, by condition, and from what likelihood ratio on."""
    from unmask.evidence.likelihood import decision_for, lr_text, share

    assert card.calibration is not None
    lines = []
    for condition in [limit.condition for limit in card.calibration.conditions] or [""]:
        decision, limit = decision_for(card.calibration, condition), card.calibration.limit(condition)
        if decision is None:
            text = f"not judged: {'' if limit is None else limit.reason}"
        elif limit is None:
            text = f"not stated; forged from LR {lr_text(decision.forged_log10_lr)}"
        else:
            worst = f"worst source {share(limit.worst_false_alarms)} ({limit.worst_source})"
            text = f"from LR {lr_text(decision.forged_log10_lr)}: {share(limit.false_alarms)}, {worst}"
        lines.append(f"{condition}, {text}" if condition else text)
    return _under("false alarms", lines)


def _under(head: str, lines: Sequence[str]) -> list[tuple[str, str]]:
    """Rows of which the first alone has a head."""
    return [("" if number else head, line) for number, line in enumerate(lines)]


def _areas(card: "Card") -> list[tuple[str, str]]:
    """The AUC of a detector's families, without those of which there are too few faces."""
    from unmask.tables import LEAST

    metrics = [m for m in card.metrics if m.name == "auc" and m.condition in ("clean", "as is")]
    areas = sorted((m for m in metrics if min(m.n_real, m.n_forged) >= LEAST), key=lambda m: m.value)
    if not areas:
        return []
    low, middle, high = areas[0], areas[len(areas) // 2], areas[-1]
    text = f"{low.value:.2f} ({low.dataset}) to {high.value:.2f} ({high.dataset}), median {middle.value:.2f}"
    return [("AUC", f"{text}, of {len(areas)} families of forgery on held-out people")]


def _figures(card: "Card") -> list[tuple[str, str]]:
    """The first figure of each name, some of them."""
    first: dict[str, Metric] = {}
    for metric in card.metrics:
        first.setdefault(metric.name, metric)
    lines = []
    for metric in list(first.values())[:_FIGURES]:
        interval = "" if metric.low is None or metric.high is None else f" [{metric.low:.3f}, {metric.high:.3f}]"
        lines.append(f"{metric.name}, {metric.condition}: {metric.value:.3f}{interval} on {metric.dataset}")
    return _under("measured", lines)
