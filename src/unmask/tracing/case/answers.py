"""Answers as they are typed: NAME=VALUE, NAME=?, NAME~VALUE:SHARE,..., NAME=@SCORES.csv; and their pictures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from unmask import delimited
from unmask.errors import DataError
from unmask.evidence.report import Report
from unmask.tracing.attributes.dictionary import Dictionary
from unmask.tracing.attributes.models import normal
from unmask.tracing.attributes.values import read_numbers

UNAVAILABLE = "?"


@dataclass(frozen=True)
class TypedAnswer:
    """An answer as typed; `value` None: not to be had."""

    attribute: str
    value: str | Mapping[str, float] | None


def parse_answer(text: str, dictionary: Dictionary) -> TypedAnswer:
    """Read one answer.

    Raises:
        DataError: it names no attribute or has no answer; says how to write one.
    """
    # Names may hold "=" themselves: the longest one that fits is meant.
    fitting = [name for name in dictionary.used if text.startswith((f"{name}=", f"{name}~"))]
    if not fitting:
        asked = text.partition("=")[0].partition("~")[0].strip()
        if text.strip() in dictionary.used:
            raise DataError(f"{asked}: no answer; write {asked}=VALUE, or {asked}=? if it is not to be had")
        alike = [name for name in dictionary.used if normal(name) == normal(asked)]
        if alike:
            raise DataError(f"{asked!r} is not an attribute of this register, but {alike[0]!r} is")
        raise DataError(f"{asked!r} is not an attribute of this register; it has {', '.join(dictionary.used)}")
    name = max(fitting, key=len)
    sign, value = text[len(name)], text[len(name) + 1 :].strip()
    if not value:
        raise DataError(f"{name}: an empty answer; write {name}=VALUE, or {name}=? if it is not to be had")
    if sign == "~":
        return TypedAnswer(name, _shares(name, value))
    if value == UNAVAILABLE:
        return TypedAnswer(name, None)
    if dictionary.used[name].kind == "score":
        if not value.startswith("@"):
            raise DataError(f"{name}: its answer is a file with a score per record: {name}=@FILE.csv")
        return TypedAnswer(name, read_scores(Path(value[1:]), dictionary.id))
    return TypedAnswer(name, value)


def read_answers(path: Path) -> list[str]:
    """Answers from a text file, one a line, as they are typed; empty lines and those that begin with # are passed over.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a text file with an answer a line") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8; give a text file with an answer a line") from error
    answers = [text for line in lines if (text := line.strip()) and not text.startswith("#")]
    if not answers:
        raise DataError(f"{path}: holds no answer; write one a line, as NAME=VALUE")
    return answers


def _shares(name: str, text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in text.split(","):
        value, _, share = part.rpartition(":")
        try:
            if value.strip() in shares:
                raise DataError(f"{name}: {value.strip()!r} is there twice")
            shares[value.strip()] = float(share)
        except ValueError:
            value = ""
        if not value.strip():
            raise DataError(f"{name}: an uncertain answer is written {name}~VALUE:0.7,VALUE:0.3, not {text!r}")
    return shares


def read_scores(path: Path, identifier: str) -> dict[str, float]:
    """Scores of records from delimited text with the columns of the identifier and "score".

    Raises:
        DataError: not there, without these columns, a score that is no number, or an identifier there twice.
    """
    rows = delimited.read_table(path, (identifier.casefold(), "score"))
    numbers = read_numbers("score", [row["score"] for row in rows.values()])
    scores: dict[str, float] = {}
    for (line, row), score in zip(rows.items(), numbers.numbers.tolist(), strict=True):
        one = row[identifier.casefold()]
        if one in scores:
            raise DataError(f"{path}: line {line}: its {identifier} is there twice")
        if math.isnan(score):
            raise DataError(f"{path}: line {line}: what it has is not a score")
        scores[one] = score
    return scores


@dataclass(frozen=True)
class AnswerPicture:
    """A picture that answers were taken from: its hash, and the probability that it shows what was."""

    sha256: str
    trust: float


def picture_of(path: Path) -> AnswerPicture:
    """A picture by its report from `unmask inspect --json`: the likelihood ratio, on even prior odds of a forgery.

    A picture that could not be judged is trusted as far as one about which nothing was found: one half.

    Raises:
        DataError: it is not such a report, or one of several pictures.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if len(lines) != 1:
            raise DataError(f"{path}: holds reports of {len(lines)} files; give the report of the one picture")
        report = Report.model_validate_json(lines[0])
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        cause = str(error).splitlines()[0]
        raise DataError(f"{path}: not a report of `unmask inspect --json`: {cause}") from error
    odds = 10.0 ** max(min(report.log10_lr or 0.0, 15.0), -15.0)  # no report supports more
    return AnswerPicture(report.sha256 or "", 1.0 / (1.0 + odds))
