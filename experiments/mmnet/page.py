"""What the records beside this script say, for the results page: MMNet and its rivals, and what its parts do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import paired_table, read_record
from mmnet import readers as arms

from unmask.lab.metrics import seed_interval
from unmask.tables import markdown

HEAD = """## MMNet: which parts were edited, in which order

Test split of a set made by `unmask forge --sequence` ({count} pictures of {size} px, people disjoint between splits,
lengths 0 to 5 alike in number, a fifth of the orders in the test split alone). Every arm: EfficientNet-Lite0 trunk,
{steps} steps of {batch} faces; of the same seed, all see the same faces in the same order. Mean over seeds; in brackets
the difference from a table's first line, seed by seed, with its 95 % interval (Student's t). The runs are short: what
is compared is what is learnt in that time. CSM is the share of faces whose whole sequence is right. Calling every face
untouched has CSM {nothing[csm]:.3f}, Adaptive {nothing[adaptive]:.3f}, Fixed {nothing[fixed]:.3f}.
"""
LENGTHS = [f"CSM, {length} edits" for length in range(6)]
STEPS = ["step last", *(f"step {back} before last" for back in range(1, 5))]
RECOVERY = {
    "l1_inside": "L1 inside the edits",
    "l1_outside": "L1 outside",
    "psnr_inside": "PSNR inside, dB",
    "psnr_outside": "PSNR outside, dB",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
}

SHORTER = """## MMNet's parts

The same set and test split, {steps} steps, without recovery unless a line says so. All arms of a seed begin with the
same trunk, that of the classifier of sequences after {begin:,} steps on faces drawn anew, so that so few steps tell
them apart. Whole sequences are near the share of untouched faces all the same: what differs is in parts and order.
"""
ASKED = (
    (
        "Without drawing the face anew after an edit there should be parts, but hardly an order (pairs: .5):",
        (arms.BASE, arms.NEVER),
        ("parts right", "order of pairs right", "adjacent swap", "CSM, joint"),
    ),
    (
        "Telling the regions how much fine detail and noise each cell holds (expected: order is learnt sooner):",
        (arms.BLIND, arms.BASE),
        ("CSM, joint", "Adaptive, joint", "parts right", "order of pairs right"),
    ),
    (
        "Readings of the same memory, each trained alone, and together (expected: together at least as good in CSM):",
        (arms.FORWARD, arms.BACKWARD, arms.REGIONS, arms.TOKENS, arms.BASE),
        ("CSM, joint", "Adaptive, joint", "parts right", "order of pairs right"),
    ),
    (
        "What is taught beside the tokens, one after another (the fourth line also reads regions, the last recovers):",
        (arms.BARE, arms.PRESENCE, arms.TOKENS, arms.BASE, arms.FULL),
        ("CSM, joint", "Adaptive, joint", "parts right", "order of pairs right"),
    ),
    (
        "Where, of those that are taught masks (expected: regions and recovery help):",
        (arms.TOKENS, arms.BASE, arms.FULL),
        ("area IoU",),
    ),
)


def _recovery(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for name, title in RECOVERY.items():
        pairs = [(row[f"{name}, recovered"], row[f"{name}, do nothing"]) for row in rows]
        ours, none = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
        difference = "{:+.4f} [{:+.4f}, {:+.4f}]".format(*seed_interval([one - other for one, other in pairs]))
        lines.append([title, str(len(pairs)), f"{ours:.4f}", f"{none:.4f}", difference])
    return markdown(["", "seeds", "recovered", "do nothing", "difference [95 %]"], lines)


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str], metrics: Sequence[str]) -> str:
    return paired_table([row for name in names for row in rows if row["arm"] == name], metrics, names[0])


def _record(root: Path, name: str) -> dict[str, Any]:
    return read_record(root, f"mmnet/{name}")


def section(root: Path) -> str:
    """The experiment's part of the results page; `root` is the repository's."""
    record = _record(root, "readers")
    rows, settings = record["rows"], record["settings"]
    nothing = {
        name: rows[0][f"{title}, nothing"]
        for name, title in (("csm", "CSM"), ("adaptive", "Adaptive"), ("fixed", "Fixed"))
    }
    full = [row for row in rows if row["arm"] == arms.FULL]
    measures = ("CSM", "CSM on orders seen", "CSM on orders not seen", "Adaptive", "Fixed")
    decodings = [
        {"arm": decoding, "seed": row["seed"], **{name: row[f"{name}, {decoding}"] for name in measures}}
        for decoding in ("greedy", "closed set", "joint")
        for row in full
    ]
    rivals = (arms.SHORTCUT, arms.FULL)
    parts = [
        HEAD.format(**settings, nothing=nothing),
        "Against a plain classifier over whole sequences, the shortcut, which can name no sequence that it was not "
        "shown:\n",
        _table(rows, rivals, [f"{name}, joint" for name in (*measures[:1], *measures[3:], *measures[1:3])]),
        "\nBy length:\n",
        _table(rows, rivals, LENGTHS),
        "\nHow MMNet's sequences are decoded: step by step, the best of those seen in training, the best of all 326:\n",
        paired_table(decodings, measures, "greedy"),
        "\nHow often a step is right, counted from the last (expected: the last is easiest):\n",
        _table(rows, (arms.SHORTCUT, arms.FULL), STEPS),
        "\nThe recovered face beside the edited one, to the untouched original (expected: better inside the edits):\n",
        _recovery(full),
    ]
    return "\n".join(parts) + "\n"


def parts_section(root: Path) -> str:
    """What MMNet's parts do, in shorter runs; `root` is the repository's."""
    record = _record(root, "arms")
    parts = [SHORTER.format(**record["settings"])]
    for text, names, metrics in ASKED:
        parts += [f"\n{text}\n", _table(record["rows"], names, metrics)]
    return "\n".join(parts) + "\n"
