"""The data dictionary of a register: what each column is, what it costs to ask, and how often an answer is wrong.

A TOML file that `unmask trace profile` writes and people edit:

    id = "person"
    absent = 0.2                    # probability that the person is not in the register

    [attributes.eyes]
    kind = "categorical"
    error = 0.05                    # share of answers that are wrong
    availability = 0.9              # share of times that an answer is to be had
    cost = 1.0
    group = "photo"                 # answers with this group come from one source

    [groups.photo]
    error = 0.02                    # probability that the whole source is about someone else

The formalisation is ours (methods/titf): of the paper only the abstract could be read.
"""

import hashlib
import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from unmask.errors import DataError

Kind = Literal["categorical", "ordinal", "numeric", "string", "date", "score"]
Use = Literal["ask", "verify", "ignore"]
# An error of 0 would make one slip final, an error of 1 an answer worth nothing: neither is ever known from a sample.
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]

Ratio = Annotated[float, Field(ge=-300.0, le=300.0)]  # decimal logarithm of what a double can hold


EXCEL = "excel"  # the format of dates that are numbers of days since 1899-12-30
# One sign between all three, or none; a blank where the month is a name.
_DATE_FORMAT = re.compile(
    r"%Y(?P<first>[-/.]?)%m(?P=first)%d|%d(?P<last>[-/.])%m(?P=last)%[Yy]|%m(?P<us>[-/.])%d(?P=us)%[Yy]"
    r"|%y-%m-%d|%d%m%Y|%m%d%Y|%d %b %[Yy]|%b %d %Y"
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Attribute(_Strict):
    """A column of the register, as something one may ask about a person.

    Attributes:
        kind: "categorical": equal or not; "ordinal": `order` says which values are neighbours; "numeric": near or far,
            measured with a standard deviation of `spread`; "string" and "date": the same, nearly the same, or another;
            "score": how similar another method found each record to be (its answer is a file of scores).
        error: share of answers that are about something else than the person's true value.
        availability: share of times that an answer is to be had, in (0, 1].
        cost: of asking, in any unit that is the same for all.
        use: "ask": may be asked for; "verify": never asked for, taken if given (a national ID alone identifies);
            "ignore": as if the column were not there.
        group: answers with the same group come from one source and share its error.
        open: whether a value that no record has may be an answer; strings, dates and numbers always are.
        order: of "ordinal": all values, from low to high.
        spread: of "numeric" in its unit, of "ordinal" in steps: the standard deviation of an honest answer.
        levels: of "string" and "date": shares of honest answers that are the same, nearly the same, similar, other.
        confusion: of "categorical": for a true value, how often each value was answered, as counted.
        log10_lr: of "score": points (score, log10 of the likelihood ratio) from calibrated held-out scores, ascending.
        unlisted_log10_lr: of "score": that of records which the file of scores does not list.
        missing: texts that stand for "not recorded", as they are written; the usual words of offices if left out.
        decimal: of "numeric": the decimal sign of numbers written as text; the one that fits if left out.
        unit: of "numeric": what may stand behind the numbers ("cm").
        format: of "date": how dates are written, in the terms of `strptime` ("%d.%m.%Y"), or "excel" for numbers of
            days as Excel counts them; what fits if left out. YYYY-MM-DD is read in any case.
    """

    kind: Kind
    error: Share = 0.05
    availability: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    cost: Positive = 1.0
    use: Use = "ask"
    group: str | None = None
    open: bool = False
    order: tuple[str, ...] | None = None
    spread: Positive | None = None
    levels: tuple[Share, Share, Share, Share] | None = None
    confusion: dict[str, dict[str, Annotated[float, Field(ge=0.0, le=1e15)]]] | None = None
    log10_lr: tuple[tuple[FiniteFloat, Ratio], ...] | None = None
    unlisted_log10_lr: Ratio | None = None
    missing: tuple[str, ...] | None = None
    decimal: Literal[".", ","] | None = None
    unit: str | None = None
    format: str | None = None

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        for name, kinds in _OF_KINDS.items():
            if getattr(self, name) is not None and self.kind not in kinds:
                raise ValueError(f"{name} says nothing about kind {self.kind!r}, only about {' and '.join(kinds)}")
        if self.kind == "ordinal" and (not self.order or len(set(self.order)) != len(self.order)):
            raise ValueError("kind 'ordinal' needs order = [...]: every value once, from low to high")
        if self.kind == "numeric" and self.spread is None:
            raise ValueError("kind 'numeric' needs spread: the standard deviation of an honest answer, in its unit")
        if self.kind == "score":
            points = self.log10_lr or ()
            if len(points) < 2 or any(one[0] >= other[0] for one, other in pairwise(points)):
                raise ValueError(
                    "kind 'score' needs log10_lr = [[score, log10 LR], ...]: two points or more, ascending"
                )
        if self.format is not None and self.format != EXCEL and not _DATE_FORMAT.fullmatch(self.format):
            raise ValueError(
                'format says how dates are written, as "%d.%m.%Y" or "%m/%d/%y" or "%d %b %Y" for 31 Dec 1980; '
                'or it is "excel"'
            )
        if self.levels is not None and abs(sum(self.levels) - 1.0) > 1e-6:
            raise ValueError(f"levels are shares of all answers and must sum to 1, not {sum(self.levels):g}")
        return self


_OF_KINDS = {
    "order": ("ordinal",),
    "spread": ("numeric", "ordinal"),
    "levels": ("string", "date"),
    "confusion": ("categorical",),
    "log10_lr": ("score",),
    "unlisted_log10_lr": ("score",),
    "decimal": ("numeric",),
    "unit": ("numeric",),
    "format": ("date",),
}


class Group(_Strict):
    """A source of several answers: a photograph, a witness. `error`: probability that all of it is about another."""

    error: Share


class Dictionary(_Strict):
    """What the columns of a register are.

    Attributes:
        id: column of identifiers, one per person.
        absent: probability, before any answer, that the person is not in the register, in [0, 1).
        absentees: what an absent person's answers look like: "independent" multiplies frequencies; "tree" heeds the
            strongest dependencies between attributes (a Chow-Liu tree).
        attributes, groups: by name.
    """

    id: str
    absent: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    absentees: Literal["independent", "tree"] = "tree"
    attributes: dict[str, Attribute]
    groups: dict[str, Group] = {}

    @model_validator(mode="after")
    def _groups_are_known(self) -> Self:
        if self.id in self.attributes:
            raise ValueError(f"{self.id!r} is the identifier and cannot be an attribute as well")
        for name, attribute in self.attributes.items():
            if attribute.group is not None and attribute.group not in self.groups:
                raise ValueError(f"attribute {name!r} is of group {attribute.group!r}: add [groups.{attribute.group}]")
        return self

    @property
    def used(self) -> dict[str, Attribute]:
        """The attributes that are not ignored."""
        return {name: attribute for name, attribute in self.attributes.items() if attribute.use != "ignore"}

    def without_reading(self) -> "Dictionary":
        """The same, but nothing is said of how values are written."""
        unsaid = dict.fromkeys(("missing", "decimal", "unit", "format"))
        attributes = {name: attribute.model_copy(update=unsaid) for name, attribute in self.attributes.items()}
        return self.model_copy(update={"attributes": attributes})


def read_dictionary(path: Path) -> Dictionary:
    """Read a data dictionary.

    Raises:
        DataError: it is missing, not TOML, or says what cannot be; names the entry and the remedy.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such data dictionary; `unmask trace profile` writes one") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # not UTF-8, not TOML, or a number that Python does not read
        raise DataError(f"{path}: not a TOML file in UTF-8: {error}") from error
    try:
        return Dictionary.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{path}: {_first(error)}") from error


def dictionary_text(dictionary: Dictionary) -> str:
    """The dictionary as TOML, without what is as it is by default."""
    return tomli_w.dumps(_plain(dictionary.model_dump(exclude_defaults=True)))


def dictionary_digest(dictionary: Dictionary) -> str:
    """SHA-256 of what the dictionary says, however its file was written; a case knows it by that."""
    return hashlib.sha256(dictionary_text(dictionary).encode()).hexdigest()


def _plain(content: Any) -> Any:
    """Tuples as lists, for TOML."""
    if isinstance(content, dict):
        return {name: _plain(value) for name, value in content.items()}
    return [_plain(value) for value in content] if isinstance(content, list | tuple) else content


def _first(error: ValidationError) -> str:
    """The first complaint as one line that names its entry."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("greater_than", "less_than") and {"error", "levels"} & {*first["loc"][-2:]}:
        message += ", because one slip must not be final: after n trials without an error state 1 / (n + 2)"
    return f"{place}: {message}" if place else message
