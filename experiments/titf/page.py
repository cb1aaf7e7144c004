"""The part of the results page about tracing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import paired_table, read_record

from unmask.lab.metrics import seed_interval
from unmask.tables import markdown

HEAD = """## Tracing an identity

TITF's article could not be read beyond its abstract: no claim of it has a number to reproduce. In brackets after a
question stand the figures that this project had beforehand, measured by other code on tables of the same make.
Registers are tit1000 of the seed: 1000 records, 20 attributes of 2 to 40 values, three latent factors, no twins and no
gaps unless a line says so. {targets} people are drawn, and {held_out} more are held out of the register, so that they
are absent; prior of absence 0.2, stop at .95, not robust unless a line says so. {seeds} seeds; beside a value its
paired difference from the first line, with the 95 % interval over seeds. All arms of a table see the same people with
the same answers.
"""
SHOWN = {
    "answers": "answers",
    "cost": "asked",
    "top1": "top-1",
    "decided": "decided",
    "right_if_decided": "right if decided",
    "false_identified": "absent identified",
    "found_absent": "absent found",
    "missed": "present called absent",
    "calibration_error": "ECE",
    "overconfidence": "overconfidence",
    "core": "core set",
    "entropy_area": "bits x answers",
}
NOISY = ("answers", "top1", "decided", "right_if_decided", "false_identified", "missed", "calibration_error")
OPEN_SET = ("answers", "top1", "false_identified", "found_absent", "missed", "calibration_error")
ASKED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "exact",
        "Exact answers, nobody absent (2.97 answers by information gain, 3.17 static, 5.04 random):",
        ("answers", "entropy_area"),
    ),
    (
        "clusters",
        "Exact answers, 20 bits: two tell the cluster, and eight others, of its own, tell its records apart "
        "(9.9, 15.2, 15.3):",
        ("answers", "entropy_area"),
    ),
    (
        "5 % wrong",
        "5 % of answers wrong (answers / top-1: 3.52 / .990 by information gain, 3.65 / .980 static, 6.33 / .995 "
        "random, 3.06 / .955 by hard filtering):",
        NOISY,
    ),
    (
        "10 % wrong, 30 % not to be had",
        "10 % wrong and 30 % not to be had (4.59 / .995, 4.75 / 1.000, 7.32 / .970; hard filtering .900):",
        (*NOISY, "cost"),
    ),
    ("sweep", "Noise, as stated:", NOISY),
    (
        "misspecified",
        "Stated and real errors; overconfidence is the mean probability of those identified, less the share of them "
        "that is right:",
        ("answers", "right_if_decided", "overconfidence", "false_identified", "calibration_error"),
    ),
    (
        "absent, dependence 0",
        "People who are not in the register, attributes independent (65 % identified without the hypothesis, 2 % with "
        "it, at 4.1 instead of 3.5 answers):",
        OPEN_SET,
    ),
    *(
        (f"absent, dependence {strength}", f"The same, latent factors of strength {strength}:", OPEN_SET)
        for strength in ("0.5", "1", "2")
    ),
    ("lies", "People who lie about some attributes, always with the most frequent other value:", NOISY),
    ("twins", "Near-twins, who repeat another record in all but one to three attributes:", NOISY),
    ("size", "Size of the register:", ("answers", "top1", "false_identified", "calibration_error")),
)


def section(root: Path) -> str:
    """The experiment's part of the results page; `root` is the repository's."""
    rows: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}
    for name in ("policies", "errors", "absent"):
        record = read_record(root, f"titf/{name}")
        rows += record["rows"]
        settings |= record["settings"]
    setting = settings["5 % wrong: info_gain"]
    seeds = len({row["seed"] for row in rows})
    parts = [HEAD.format(targets=setting["targets"], held_out=setting["held_out"], seeds=seeds)]
    for table, text, metrics in ASKED:
        parts += [f"\n{text}\n", _table([row for row in rows if row["table"] == table], metrics)]
    parts += [
        "\nCore sets of exact values, 200 people a seed (least 2.13, greedy in hindsight 2.18, asked 2.88):\n",
        _cores([row for row in rows if row["table"] == "cores"]),
    ]
    return "\n".join(parts) + "\n"


def _table(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> str:
    shown = [{SHOWN.get(name, name): value for name, value in row.items()} for row in rows]
    return paired_table(shown, [SHOWN[name] for name in metrics], rows[0]["arm"])


def _cores(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        [name, "{:.3f} [{:.3f}, {:.3f}]".format(*seed_interval([row[name] for row in rows]))]
        for name in rows[0]
        if name not in ("table", "arm", "seed")
    ]
    return markdown(["", "mean over seeds [95 %]"], lines)
