"""What profiling, audit, linkage and trials come to, on the terminal."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.text import Text

from unmask.evidence.terminal import safe_text
from unmask.tables import terminal

if TYPE_CHECKING:  # each command loads what it shows, not what the others do
    from unmask.tracing.attributes.dictionary import Dictionary
    from unmask.tracing.simulation.trials import ShareInterval, TrialSummary
    from unmask.tracing.tools.audit import Audit, Exposure
    from unmask.tracing.tools.linkage import Duplicates
    from unmask.tracing.tools.profiling import ColumnProfile, Profile

_LISTED = 1  # most frequent values that fit a line


def print_profile(console: Console, profile: "Profile") -> None:
    """Print a profile as a table, and its notes."""
    heads = ("column", "kind", "use", "values", "known", "bits", "error", "frequent")
    title = f"{safe_text(Path(profile.register).name)}: {profile.records:,} records"
    rows = [_profiled(column, profile.dictionary) for column in profile.columns]
    table = terminal(heads, rows, title, right=("values", "known", "bits"))
    table.box, table.pad_edge = SIMPLE, False
    for head, column in zip(heads, table.columns, strict=True):
        if head == "kind":  # it is what to correct
            column.min_width = 11
        else:
            column.overflow = "ellipsis"
    console.print(table)
    for note in profile.notes:
        console.print(Text(f"- {safe_text(note)}"))


def _profiled(column: "ColumnProfile", dictionary: "Dictionary") -> tuple[str, ...]:
    attribute = dictionary.attributes.get(column.name)
    error = "" if attribute is None else f"{attribute.error:g}"
    if attribute is not None and attribute.spread is not None:
        error += f", spread {attribute.spread:g}"
    # Of what names a person nothing is shown, even if several records share it: they may be one person's.
    listed = () if column.use in ("id", "verify") else column.frequent[:_LISTED]
    frequent = ", ".join(f"{value} ({count:,})" for value, count in listed if count > 1)
    return (
        safe_text(column.name),
        safe_text(f"{column.kind} ({column.written})" if column.written else column.kind),
        column.use,
        f"{column.distinct:,}",
        f"{column.recorded:.0%}",
        f"{column.bits:.2f}",
        error,
        safe_text(frequent),
    )


def print_learned(console: Console, before: "Dictionary", after: "Dictionary") -> None:
    """Print what was learned, beside what was in the data dictionary before."""
    heads = ("attribute", "error", "before", "availability", "spread", "confusion")
    rows = [
        (
            safe_text(name),
            f"{now.error:.3f}",
            f"{before.attributes[name].error:.3f}",
            f"{now.availability:.3f}",
            "" if now.spread is None else f"{now.spread:g}",
            "" if now.confusion is None else "counted",
        )
        for name, now in after.attributes.items()
        if now != before.attributes[name]
    ]
    console.print(terminal(heads, rows, "Learned from observed answers"))


def print_exposure(console: Console, exposure: "Exposure") -> None:
    """Print what singles one person out."""
    if exposure.core is None:
        text = f"{exposure.id} cannot be singled out: {exposure.alike} records share all that is recorded"
    else:
        core = ", ".join(exposure.core) or "nobody else is there"
        text = f"{exposure.id} is singled out by {len(exposure.core)}: {core}"
    console.print(Text(safe_text(text)))
    console.print(Text(f"Indispensable: {safe_text(', '.join(exposure.indispensable)) or 'none'}."))


def print_audit(console: Console, audit: "Audit") -> None:
    """Print an audit as tables."""
    heads = ("facts", "sets", "mean", "best set", "on the best", "on any")
    rows = [
        (
            str(size.attributes),
            f"{size.subsets:,}",
            f"{size.mean:.1%}",
            safe_text(", ".join(size.best)),
            f"{size.best_share:.1%}",
            f"{size.anyhow:.1%}",
        )
        for size in audit.sizes
    ]
    title = f"Unique among {len(audit.kappas):,} people, by number of facts known"
    console.print(terminal(heads, rows, title, right=set(heads) - {"best set"}))
    if audit.deeper:
        drawn = ", ".join(f"{count} with {kappa}" for kappa, count in audit.sampled.items())
        console.print(f"{audit.deeper:,} need more facts than these; of {sum(audit.sampled.values())} drawn: {drawn}")
    for alike, count in audit.hidden.items():
        console.print(f"{count:,} cannot be singled out: {alike} records share all that is recorded")
    people = ", ".join(f"{count:,} with {kappa}" for kappa, count in audit.people.items())
    console.print(f"People by the fewest facts that single them out: {people or 'none'}")
    kept, every = safe_text(", ".join(audit.core)), len(audit.attributes)
    console.print(
        Text(f"The same records as all {every} attributes rule out {len(audit.core)} of them: {kept or 'none'}")
    )
    for name, share in audit.verifying.items():
        console.print(Text(f"{safe_text(name)} (verification only): {share:.1%} have a value of their own"))


def print_duplicates(console: Console, duplicates: "Duplicates") -> None:
    """Print the clusters, how many records go, and what was learned from them."""
    heads = ("stays", "go", "least match probability")
    rows = []
    for cluster in duplicates.clusters:
        # Not "100.0 %": nothing learned from data is certain.
        sure = "over 99.9%" if cluster.probability > 0.999 else f"{cluster.probability:.1%}"
        going = ", ".join(one for row, one in zip(cluster.rows, cluster.ids, strict=True) if row != cluster.kept)
        rows.append((safe_text(cluster.kept_id), safe_text(going), sure))
    title = (
        f"Records of one person: {len(duplicates.clusters):,} clusters in {duplicates.records:,} records, "
        f"of which {duplicates.superfluous:,} go"
    )
    console.print(terminal(heads, rows, title, right=heads[2:]))
    blocks = "; ".join(" and ".join(block) for block in duplicates.blocks)
    console.print(Text(f"Compared: records that agree in {safe_text(blocks)}."))
    console.print(f"That is an estimated {duplicates.recall:.1%} of duplicates; the others were not compared.")
    for name, error in duplicates.errors.items():
        console.print(Text(f"{safe_text(name)}: error {error:.3f} suggested (1 - m)"))
    for note in duplicates.notes:
        console.print(Text(f"- {safe_text(note)}"))


_LINES: Mapping[str, Callable[["TrialSummary"], str]] = {
    "answers": lambda line: f"{line.answers:.2f}",
    "cost": lambda line: f"{line.cost:.2f}",
    "top-1": lambda line: _interval(line.top1),
    "decided": lambda line: _interval(line.decided),
    "right if decided": lambda line: _interval(line.right_if_decided),
    "false ID of absent": lambda line: _interval(line.false_identified),
    "absent found": lambda line: _interval(line.found_absent),
    "present, called absent": lambda line: _interval(line.missed),
    "core set": lambda line: "–" if line.core is None else f"{line.core:.2f}",
    "bits x answers": lambda line: f"{line.entropy_area:.1f}",
    "calibration error": lambda line: f"{line.calibration_error:.3f}",
    "ms a step": lambda line: f"{line.ms_per_step:.1f}",
}


def print_summaries(console: Console, summaries: Mapping[str, "TrialSummary"]) -> None:
    """The protocol's table, a column per policy."""
    rows = [(name, *(text(summary) for summary in summaries.values())) for name, text in _LINES.items()]
    table = terminal(("", *summaries), rows, "Trials", right=summaries)
    table.box, table.pad_edge, table.padding = SIMPLE, False, (0, 0, 0, 1)
    console.print(table)


def _interval(share: "ShareInterval | None") -> str:
    return "–" if share is None else f"{share[0]:.3f} [{share[1]:.2f}, {share[2]:.2f}]"
