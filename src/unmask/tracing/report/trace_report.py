"""The report of a case: one type for the library, JSON, the terminal and the page.

`python -m unmask.tracing.report.trace_report` prints its JSON Schema.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from unmask.files import begins_with

TRACE_SCHEMA_VERSION: Literal["1.1"] = "1.1"

LIMITS = (
    "A probability here rests on the register, on the prior that the person is in it, and on the stated errors. "
    "If these are wrong, so is it.",
    "Errors of different answers are taken to be independent, except within a group.",
    "Expected bits are approximate, to about a hundredth, once answers are in and an absent person's answers are taken "
    "to depend on one another (absentees = tree); they are exact with absentees = independent and without groups.",
    "Records are taken as true: a stale or mistaken value counts against the right person.",
    "A person who is in no register can look like one who is: check the conclusion by other means before acting on it.",
)


class _ReportPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RegisterUse(_ReportPart):
    """The register: its file's SHA-256, the data dictionary's, and the prior that the person is not in it."""

    path: str
    sha256: str
    records: int
    dictionary_sha256: str
    absent: float
    absentees: str


class CandidateFinding(_ReportPart):
    """A record that it may be.

    `log10_lr`: of the answers, if it is this person against anybody not in the register. `shown`: what the register has
    in the columns that were asked to be shown, null where nothing is recorded; since 1.1.
    """

    id: str
    probability: float
    log10_lr: float
    shown: dict[str, str | None] = {}


class Asked(_ReportPart):
    """A question as shown: expected bits if its answer is to be had."""

    attribute: str
    bits: float
    availability: float
    cost: float


class Step(_ReportPart):
    """One answer and what it did.

    `bits`: by how much the entropy fell (a surprising answer can raise it). `weight`: log2 of the likelihood ratio for
    the record that leads in the end, against anybody. `overrode`: another question was ranked first.
    """

    attribute: str
    told: str | dict[str, float] | None
    trust: float
    picture: str | None
    time: str | None
    shown: tuple[Asked, ...]
    overrode: bool
    expected: float | None
    entropy_before: float
    entropy_after: float
    bits: float
    weight: float | None
    absent: float
    leader: str
    probability: float
    candidates: int


class Counterfactual(_ReportPart):
    """Where the leading record would stand if one answer were left out."""

    without: str
    probability: float
    absent: float


class CoreFinding(_ReportPart):
    """The core identification set: none of its answers can go; `exact` if no smaller set suffices.

    `indispensable`: see the docs.
    """

    names: tuple[str, ...]
    indispensable: tuple[str, ...]
    exact: bool


class Separator(_ReportPart):
    """An attribute in which the two likeliest records differ, with what is recorded of each."""

    attribute: str
    first: str
    second: str


class Rules(_ReportPart):
    """The stop rule and the policy, as used."""

    identified: float
    ratio: float
    weak: float | None
    absent: float
    least_bits: float
    budget: float | None
    policy: str


class TraceTool(_ReportPart):
    """What made the report, and the command that repeats it."""

    version: str
    command: str


class TraceReport(_ReportPart):
    """A case. `status` is "open" while there is something worth asking.

    Entropies are in bits and include "not in the register". `candidate_count` is the number of records that the
    conclusion names; `candidates` lists the likeliest ones, whether or not it names them.
    """

    schema_version: Literal["1.0", "1.1"] = TRACE_SCHEMA_VERSION
    tool: TraceTool
    searched: RegisterUse
    purpose: str
    rules: Rules
    status: Literal["open", "identified", "candidate_set", "not_in_register", "undetermined"]
    reason: str
    statement: str
    candidates: tuple[CandidateFinding, ...]
    candidate_count: int
    absent: float
    entropy_start: float
    entropy: float
    cost: float
    steps: tuple[Step, ...]
    next: tuple[Asked, ...]
    separators: tuple[Separator, ...]
    core_set: CoreFinding | None
    counterfactuals: tuple[Counterfactual, ...]
    notes: tuple[str, ...]
    limits: tuple[str, ...] = LIMITS


def report_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of `unmask trace find --json`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **TraceReport.model_json_schema(mode="serialization"),
    }


def is_report(path: Path) -> bool:
    """Whether a file holds a `TraceReport` as `unmask trace find --json` writes it.

    Raises:
        OSError: it cannot be read.
    """
    return begins_with(path, b'{\n "schema_version"', within=20)


if __name__ == "__main__":
    print(json.dumps(report_schema(), indent=1, ensure_ascii=False))
