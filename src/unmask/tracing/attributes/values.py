"""What the texts of a register say, in the styles that offices write them: words for "not recorded", numbers, dates.

One reading serves every back end, `profile`, and answers: of a column's distinct texts, which are few, never of its
rows. What is not said by the data dictionary is guessed from all texts of the column together, in the same way each
time, so that a dictionary which says it reads the same values. What a guess rests on, and where it may be wrong, is
noted. No message here holds a value: a value is somebody's.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from unmask.errors import DataError
from unmask.tracing.attributes.dictionary import EXCEL, Attribute

Where = Callable[[int], str]  # says, for a place among the texts, in which record that is

# Words for "not recorded": as they stand, for "Na" and "Null" are names and "none" may say that there is no beard; and
# in any case.
_AS_THEY_STAND = (
    *("NA", "na", "NULL", "null", "None", "NaN", "nan", "NAN", "NaT", "\\N"),
    *("-", "--", "---", "–", "—", "?", "??", "???", ".", "..", "...", "…", '""', "''"),
)
_IN_ANY_CASE = (
    *("n/a", "#n/a", "n.a.", "n. a.", "k.a.", "k. a.", "<na>", "(null)", "<null>", "[null]", "not available"),
    *("unknown", "unbekannt", "inconnu", "inconnue", "desconocido", "desconocida", "sconosciuto", "sconosciuta"),
    *("desconhecido", "desconhecida", "onbekend", "ukendt", "ukjent", "okänd", "nieznany", "nieznana"),
    *("keine angabe", "ohne angabe", "not recorded", "not known", "not stated", "no data"),
    *("#nv", "#value!", "#wert!", "#ref!", "#bezug!", "#div/0!", "#name?", "#null!", "#num!", "#zahl!"),
)
_NOT_RECORDED = frozenset(_AS_THEY_STAND) | {
    written for word in _IN_ANY_CASE for written in (word, word.upper(), word.capitalize(), word.title())
}
_NO_DATES = re.compile(r"0000([-/.])00\1(?:00)(?:[T ][0:.]*)?|00([-/.])00\2(?:0000|00)")  # as MySQL writes none

_WHOLE = re.compile(r"([+-]?\d+)[.,]00?")
_SPACES = " \u00a0\u2009\u202f"
_QUOTES = "'’"
_MEASURE = re.compile(
    rf"(?P<before>[€$£¥]|EUR|USD|GBP|CHF)?[{_SPACES}]*"
    rf"(?P<number>[+\-−]?(?:\d(?:[\d.,{_QUOTES}{_SPACES}]*\d)?|[.,]\d+))"
    rf"(?P<space>[{_SPACES}]*)(?P<after>[^\s\d.,+\-−{_QUOTES}][^\s\d]*)?"
)
# What may follow a number without a space; others only if it is the same word after every number.
_UNITS = frozenset(
    (
        *("mm", "cm", "m", "km", "in", "inch", "inches", "ft", "feet", "foot", "yd", "mi", "km/h", "mph"),
        *("g", "kg", "t", "lb", "lbs", "oz", "st", "%", "‰", "°", "°c", "°f", "k"),
        *("€", "$", "£", "¥", "eur", "usd", "gbp", "chf"),
        *("y", "yr", "yrs", "year", "years", "j.", "jahr", "jahre", "an", "ans", "años"),
        *("mon", "month", "months", "monat", "monate", "d", "day", "days", "tag", "tage"),
        *("h", "hrs", "hour", "hours", "std", "min", "s"),
    )
)
_FEET = re.compile(r"\d+ ?(?:ft\.?|feet|foot|['’′]) ?\d+(?:[.,]\d+)? ?(?:in\.?|inch(?:es)?|[\"”″]|'')?", re.IGNORECASE)
_FEW_NUMBERS = 3  # from which a word after all of them is their unit

_ZONE = r"(?:\s?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}))?"
_TIME = rf"(?:(?:[T ]|, )\s?\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:[.,]\d+)?)?(?:\s?[AaPp]\.?[Mm]\.?)?{_ZONE})?"
_YEAR_FIRST = re.compile(rf"(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}}){_TIME}")
_YEAR_LAST = re.compile(rf"(\d{{1,2}})([-/.]) ?(\d{{1,2}})\2 ?(\d{{4}}|\d{{2}}){_TIME}")
_COMPACT = re.compile(rf"(\d{{8}}){_TIME}")
_ISO = "%Y-%m-%d"
_CENTURY = 30  # years of two digits up to here are of this century, as Excel has them
_YEARS = range(1850, 2101)  # of eight digits that are a date
_DAY_NAMED = re.compile(rf"(\d{{1,2}})\.?[ -]([^\W\d_]{{3,}}\.?)[ -](\d{{4}}|\d{{2}}){_TIME}")
_MONTH_NAMED = re.compile(rf"([^\W\d_]{{3,}}\.?) (\d{{1,2}}),? (\d{{4}}){_TIME}")
_SERIAL = re.compile(r"(\d{4,5})(?:\.\d+)?")
_SERIAL_ZERO = date(1899, 12, 30)  # of Excel, from March 1900 on
_LEAST_SERIAL, _MOST_SERIAL = 2101, 73_050  # 1905, so that a year is none, to 2099
_DATED = re.compile(  # a column named like one of dates, in lower case with underscores
    r"(day|date)_of_\w+|(\w+_)?(date|dob|born|birth_?(day|date)|\w*datum|geburtstag)(_\w+)?|born_on|geb(oren)?(_am)?"
    r"|(date_)?naissance|(fecha_)?nacimiento|(data_)?nascita|birth"
)
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan january januar jän jänner",
            "feb february februar",
            "mar march märz mär mrz",
            "apr april",
            "may mai",
            "jun june juni",
            "jul july juli",
            "aug august",
            "sep sept september",
            "oct october okt oktober",
            "nov november",
            "dec december dez dezember",
        ),
        1,
    )
    for name in names.split()
}
_TRUTHS = {
    **dict.fromkeys(("yes", "y", "true", "t", "1", "ja", "j", "wahr", "oui", "sí", "si", "vrai"), True),
    **dict.fromkeys(("no", "n", "false", "f", "0", "nein", "falsch", "non", "faux"), False),
}


@dataclass(frozen=True)
class ParsedTexts:
    """A column's distinct texts as they were read.

    Attributes:
        values: (D,) in one form: numbers as Python writes them, days as YYYY-MM-DD, other texts as they are, without a
            ".0" behind numbers that are all whole; None: not recorded.
        attribute: what the data dictionary says of the column, and beside it what was guessed.
        notes: what was guessed and may be wrong.
    """

    values: list[str | None]
    attribute: Attribute
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Numbers:
    """Texts as numbers: (D,), NaN where one is none; decimal sign and unit that they have, if not "." and none."""

    numbers: np.ndarray
    decimal: str | None = None
    unit: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Days:
    """Texts as days: (D,), YYYY-MM-DD, None where one is none; the format that all have, if it is one."""

    days: list[str | None]
    format: str | None = None
    notes: tuple[str, ...] = ()


def read_texts(name: str, attribute: Attribute, texts: Sequence[str | None], where: Where) -> ParsedTexts:
    """Read a column's distinct texts.

    Args:
        name, attribute: of the column; any kind but "score".
        texts: (D,) distinct, without spaces around them; None is "not recorded".
        where: says, for a place in `texts`, in which record it is.

    Raises:
        DataError: a text is not of the attribute's kind; names the record and the remedy, never the text.
    """
    words, notes = not_recorded(name, attribute, texts)
    present = [None if text is None or text in words else text for text in texts]
    update: dict[str, object] = {"missing": tuple(sorted(words))} if words else {}
    if words and attribute.missing is None:
        notes += (missing_note(name, words),)
    if attribute.kind == "numeric":
        numbers = read_numbers(name, present, attribute.decimal, attribute.unit)
        unread = np.isnan(numbers.numbers)
        _refuse(name, present, unread, where, "is not a number", _mend_numbers(numbers))
        update |= {"decimal": attribute.decimal or numbers.decimal, "unit": attribute.unit or numbers.unit}
        values = [None if text is None else repr(float(n)) for text, n in zip(present, numbers.numbers, strict=True)]
        notes += numbers.notes
    elif attribute.kind == "date":
        days = read_days(name, plain_texts(present), attribute.format)
        unread = np.array([day is None for day in days.days], bool)
        _refuse(name, present, unread, where, "is not a date", _mend_days(attribute.format, days))
        update |= {"format": attribute.format or days.format}
        values, notes = days.days, notes + days.notes
    else:
        values = plain_texts(present)
        if attribute.kind == "ordinal":
            listed = {plain_text(value): value for value in attribute.order or ()}
            values = [value if value is None else listed.get(value, listed.get(plain_text(value))) for value in values]
            unknown = np.array([value is None for value in values], bool)
            _refuse(name, present, unknown, where, "is not in order = [...]", "add it there, or mend it")
    return ParsedTexts(values, attribute.model_copy(update=update), notes)


def _refuse(name: str, texts: Sequence[str | None], unread: np.ndarray, where: Where, what: str, remedy: str) -> None:
    for place in np.flatnonzero(unread).tolist():
        if texts[place] is not None:
            raise DataError(f"{name}: {where(place)} has what {what}; {remedy}")


def _mend_numbers(numbers: Numbers) -> str:
    return "; ".join((*numbers.notes, "mend it, leave it empty, or change the kind"))


def _mend_days(format: str | None, days: Days) -> str:
    if format is not None:
        return f"format = {format!r} in the data dictionary says how dates are written; mend one or the other"
    return "; ".join((*days.notes, "write YYYY-MM-DD, or say how with format in the data dictionary"))


def not_recorded(
    name: str, attribute: Attribute | None, texts: Iterable[str | None]
) -> tuple[frozenset[str], tuple[str, ...]]:
    """Which of a column's texts stand for "not recorded", and what to know of those that may, if nobody said so.

    Words that an attribute speaks of (`order`, `confusion`) are values. "-" is one where "+" is another, and "NA" among
    codes of two letters, as of countries.
    """
    if attribute is not None and attribute.missing is not None:
        return frozenset(attribute.missing).intersection(filter(None, texts)), ()
    words = {
        text
        for text in texts
        if text in _NOT_RECORDED or (text is not None and text.startswith("00") and _NO_DATES.fullmatch(text))
    }
    if not words:
        return frozenset(), ()
    if attribute is not None:
        words -= {*(attribute.order or ()), *(attribute.confusion or ())}
    others = {text for text in texts if text is not None} - words
    if "+" in others:
        words.discard("-")
    notes: tuple[str, ...] = ()
    if "NA" in words and others and all(len(text) == 2 and text.isalpha() and text.isupper() for text in others):
        words.discard("NA")
        notes = (f"{name}: 'NA' is kept as a value among others of two letters; else set missing = [\"NA\"]",)
    return frozenset(filter(None, words)), notes


def missing_note(name: str, words: Iterable[str], records: int | None = None) -> str:
    """What to know of words that were taken for "not recorded", in so many records."""
    listed = ", ".join(repr(word) for word in sorted(words))
    count = "" if records is None else f", in {records:,} records"
    return f'{name}: taken for "not recorded": {listed}{count}; if that is a value, set missing = []'


def plain_texts(texts: Sequence[str | None]) -> list[str | None]:
    """Texts that are no dates and no measures, those that say the same in one form, where all of a column can be.

    Whole numbers lose the ".0" that pandas writes beside empty cells; "yes" and "no" are written so, if there are more
    ways than two.
    """
    first = next((text for text in texts if text is not None), None)
    if first is None:
        return list(texts)
    if first.lstrip("+-")[:1].isdigit():
        plain = [text if text is None or text.isdecimal() else plain_text(text) for text in texts]
        if all(text is None or text.lstrip("+-").isdecimal() for text in plain):
            texts = plain
    if truth_of(first) is not None and len({*texts} - {None}) > 2:
        truths = [None if text is None else truth_of(text) for text in texts]
        if truths.count(None) == sum(text is None for text in texts):
            return [None if truth is None else "yes" if truth else "no" for truth in truths]
    return list(texts)


def plain_text(text: str) -> str:
    """A whole number without ".0" behind it; any other text as it is."""
    whole = _WHOLE.fullmatch(text)
    return text if whole is None else whole[1]


def truth_of(text: str) -> bool | None:
    """Whether a word says yes or no; None if it says neither."""
    return _TRUTHS.get(text.casefold())


# Numbers


def read_numbers(
    name: str, texts: Sequence[str | None], decimal: str | None = None, unit: str | None = None
) -> Numbers:
    """Texts as numbers, with the decimal sign and the unit given, or those that fit most of them.

    Thousands may be set apart by the other sign, spaces or apostrophes. A unit must be the same everywhere.
    """
    plain = np.array([number_in(text) for text in texts], float)
    if decimal is None and not any(text is not None for text, nan in zip(texts, np.isnan(plain), strict=True) if nan):
        return Numbers(plain, notes=_doubt(name, ".", texts))
    measures = [None if text is None else _MEASURE.fullmatch(text) for text in texts]
    units = [_unit(measure) for measure in measures]
    counted = Counter(one for one in units if one is not None)
    chosen = _common_unit(counted) if unit is None else unit.casefold()
    taken = [
        measure["number"].replace("−", "-") if measure is not None and one in ("", chosen) else None
        for measure, one in zip(measures, units, strict=True)
    ]
    sign = decimal or _decimal(taken)
    numbers = np.array([_signed(one, sign) for one in taken], float)
    if sign == ".":
        numbers = np.where(np.isnan(numbers), plain, numbers)
    notes = list(_doubt(name, sign, taken)) if decimal is None else []
    others = sorted(one for one in counted if one in _UNITS and one != chosen)
    if others:
        notes.append(f"{name}: units differ ({', '.join([*filter(None, [chosen]), *others])}); write all in one")
    elif chosen and unit is None and counted[""]:
        notes.append(f"{name}: some numbers have the unit {chosen}, others none; all are taken for {chosen}")
    if any(
        text is not None and _FEET.fullmatch(text) for text, nan in zip(texts, np.isnan(numbers), strict=True) if nan
    ):
        notes.append(f"{name}: feet and inches are two numbers; write one, in one unit")
    comma = sign == "," and any(one is not None and ("," in one or "." in one) for one in taken)
    return Numbers(numbers, "," if comma else None, chosen or None, tuple(notes))


def looks_measured(text: str) -> bool:
    """Whether a text is written like a number, with a unit or without, or like feet and inches."""
    return _unit(_MEASURE.fullmatch(text)) is not None or _FEET.fullmatch(text) is not None


def numbers_of(text: str, attribute: Attribute) -> set[float]:
    """What a number may be that is typed, or written as in the register; none if it is no number."""
    number = number_in(text)
    if not np.isnan(number):
        return {number}
    measure = _MEASURE.fullmatch(text.strip())
    if measure is None or _unit(measure) not in ("", (attribute.unit or "").casefold()):
        return set()
    signs = attribute.decimal or ".,"
    numbers = (_signed(measure["number"].replace("−", "-"), sign) for sign in signs)
    return {number for number in numbers if not np.isnan(number)}


def number_in(text: str | None) -> float:
    """A number as Python writes it; NaN if it is none."""
    try:
        number = float("nan" if text is None else text)
    except ValueError:
        return float("nan")
    return number if np.isfinite(number) else float("nan")


def _unit(measure: re.Match[str] | None) -> str | None:
    """The unit of a number, "" for none, in lower case; None if it is no number, or two units stand with it."""
    if measure is None or (measure["before"] and measure["after"]):
        return None
    unit = (measure["before"] or measure["after"] or "").casefold()
    known = not unit or unit in _UNITS or (measure["space"] and unit.rstrip(".").isalpha())
    return unit if known else None


def _common_unit(counted: Mapping[str, int]) -> str:
    """The unit that most numbers have; a word that is no known unit must be behind all of them."""
    unit = max((one for one in counted if one), key=counted.__getitem__, default="")
    everywhere = counted[unit] == sum(counted.values())
    if unit in _UNITS and (everywhere or len(unit) > 1 or not unit.isalpha()):  # "12a" is no number beside "12"
        return unit
    return unit if everywhere and counted[unit] >= _FEW_NUMBERS else ""


_GROUPED = {
    sign: re.compile(
        rf"[+-]?(?:\d+(?:{re.escape(sign)}\d*)?|{re.escape(sign)}\d+"
        rf"|[1-9]\d{{0,2}}(?P<apart>[{re.escape(other)}{_QUOTES}{_SPACES}])\d{{3}}(?:(?P=apart)\d{{3}})*"
        rf"(?:{re.escape(sign)}\d+)?)"
    )
    for sign, other in (".,", ",.")
}
_APART = {".": re.compile(rf"[,{_QUOTES}{_SPACES}]"), ",": re.compile(rf"[.{_QUOTES}{_SPACES}]")}


def _signed(number: str | None, sign: str) -> float:
    """A number with this decimal sign; NaN if it cannot be one."""
    if number is None or not _GROUPED[sign].fullmatch(number):
        return float("nan")
    return float(_APART[sign].sub("", number).replace(",", "."))


def _decimal(numbers: Sequence[str | None]) -> str:
    """The sign with which most numbers can be read; a point if both will do."""
    fits = {
        sign: sum(number is not None and bool(form.fullmatch(number)) for number in numbers)
        for sign, form in _GROUPED.items()
    }
    return "," if fits[","] > fits["."] else "."


_EITHER = re.compile(r"[+-]?[1-9]\d{0,2}([.,])\d{3}")


def _doubt(name: str, sign: str, numbers: Sequence[str | None]) -> tuple[str, ...]:
    """Whether all signs in numbers may be of decimals or of thousands."""
    signed = 0
    for number in numbers:
        if number is not None and ("." in number or "," in number):
            if not _EITHER.fullmatch(number):
                return ()
            signed += 1
    if not signed:
        return ()
    mark = "." if any(number is not None and "." in number for number in numbers) else ","
    taken = "decimals" if mark == sign else "thousands"
    other = "," if sign == "." else "."
    return (
        f"{name}: {mark!r} may set apart decimals or thousands, and is taken for {taken}; "
        f"say which: decimal = {sign!r} or decimal = {other!r}",
    )


# Dates


def read_days(name: str, texts: Sequence[str | None], format: str | None = None) -> Days:
    """Texts as days, in the format given or in those that fit; YYYY-MM-DD is read in any case.

    Times of day behind a date are passed over. Years of two digits are of 1930 to 2029, as Excel has them.
    """
    if _are_iso(texts):
        return Days(list(texts))
    if format == EXCEL or (format is None and _are_serial(name, texts)):
        return Days(
            [None if text is None else _serial_day(text) for text in texts],
            EXCEL,
            (f"{name}: numbers are taken for dates as Excel counts days",) if format is None else (),
        )
    written = [{} if text is None else _written(text) for text in texts]
    if format is not None:
        return Days([_isoformat(one, _ISO) or _isoformat(one, format) for one in written], format)
    forms: dict[tuple[str, ...], list[Written]] = {}
    for one in written:
        if one:
            forms.setdefault(tuple(one), []).append(one)
    chosen, notes = {}, []
    for formats, alike in forms.items():
        chosen[formats], doubts = _fitting(name, formats, alike)
        notes += doubts
    in_use = sorted(filter(None, set(chosen.values())))
    if any("%y" in format for format in in_use):
        notes.append(f"{name}: years of two digits are taken for 1930 to 2029")
    if len(in_use) > 1:
        notes.append(f"{name}: dates are written in several ways: {', '.join(in_use)}")
    days = [_isoformat(one, chosen[tuple(one)]) if one else None for one in written]
    return Days(days, in_use[0] if len(in_use) == 1 and in_use != [_ISO] else None, tuple(notes))


def _fitting(name: str, formats: Sequence[str], written: Sequence["Written"]) -> tuple[str, list[str]]:
    """Of the formats that dates may have, that in which most are days ("" if none are); and doubts on it."""
    days = [[_isoformat(one, format) is not None for one in written] for format in formats]
    first, *others = sorted(range(len(formats)), key=lambda place: -sum(days[place]))
    chosen, notes = formats[first] if any(days[first]) else "", []
    for other in others:
        only = [one and not another for one, another in zip(days[first], days[other], strict=True)]
        only_other = [another and not one for one, another in zip(days[first], days[other], strict=True)]
        if any(only_other):
            notes.append(f"{name}: in some dates the day comes first, in others the month; write all in one way")
        elif any(days[other]) and not any(only):
            notes.append(
                f"{name}: the day cannot be told from the month, for neither is above 12; dates are taken for "
                f"{chosen}; say which: format = {chosen!r} or {formats[other]!r}"
            )
    return chosen, notes


def looks_dated(text: str) -> bool:
    """Whether a text is a date in one of the ways in which it may be written."""
    written = _written(text)
    return any(_isoformat(written, format) for format in written)


def days_of(text: str, attribute: Attribute) -> set[str]:
    """The days that a typed one may be, YYYY-MM-DD: as in the register, or else in any way; none if it is no date."""
    written = _written(text.strip())
    day = _isoformat(written, attribute.format or _ISO)
    days = (_isoformat(written, format) for format in written)
    return {day} if day else {each for each in days if each}


Written = dict[str, tuple[int, int, int]]  # the formats that a date may have: its numbers in their order


def _written(text: str) -> Written:
    """The ways in which a date may be written; none if it is no date."""
    if form := _YEAR_FIRST.fullmatch(text):
        return {f"%Y{form[2]}%m{form[2]}%d": (int(form[1]), int(form[3]), int(form[4]))}
    if form := _YEAR_LAST.fullmatch(text):
        sign, year = form[2], "%Y" if len(form[4]) == 4 else "%y"
        numbers = (int(form[1]), int(form[3]), int(form[4]))
        forms = {f"%d{sign}%m{sign}{year}": numbers, f"%m{sign}%d{sign}{year}": numbers}
        return forms | {"%y-%m-%d": numbers} if sign == "-" and year == "%y" else forms
    if form := _COMPACT.fullmatch(text):
        digits = form[1]
        last = (int(digits[:2]), int(digits[2:4]), int(digits[4:]))
        return {"%Y%m%d": (int(digits[:4]), int(digits[4:6]), int(digits[6:])), "%d%m%Y": last, "%m%d%Y": last}
    return _named(text)


def _named(text: str) -> Written:
    """A date with the name of its month, English or German."""
    if form := _DAY_NAMED.fullmatch(text):
        month = _MONTHS.get(form[2].rstrip(".").casefold())
        year = "%Y" if len(form[3]) == 4 else "%y"
        return {} if month is None else {f"%d %b {year}": (int(form[1]), month, int(form[3]))}
    if form := _MONTH_NAMED.fullmatch(text):
        month = _MONTHS.get(form[1].rstrip(".").casefold())
        return {} if month is None else {"%b %d %Y": (month, int(form[2]), int(form[3]))}
    return {}


def _isoformat(written: Written, format: str) -> str | None:
    """A date in one of its formats, YYYY-MM-DD; None if it is not in it, or there is no such day."""
    if format not in written:
        return None
    parts = dict(zip(re.findall(r"%(\w)", format), written[format], strict=True))
    year = parts["Y"] if "Y" in parts else parts["y"] + (2000 if parts["y"] < _CENTURY else 1900)
    if "%" not in format[2:3] or year in _YEARS:  # digits without a sign may be any number
        try:
            return date(year, parts["b" if "b" in parts else "m"], parts["d"]).isoformat()
        except ValueError:
            return None
    return None


def _are_iso(texts: Sequence[str | None]) -> bool:
    """Whether all are days as YYYY-MM-DD."""
    try:
        return all(
            text is None or (len(text) == 10 and text[4] == text[7] == "-" and bool(date.fromisoformat(text)))
            for text in texts
        )
    except ValueError:
        return False


def _are_serial(name: str, texts: Sequence[str | None]) -> bool:
    """Whether the numbers of a column may be days as Excel counts them; only one named like dates may hold them."""
    if not _DATED.fullmatch(re.sub(r"\W+", "_", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)).lower()):
        return False
    return all(text is None or _serial_day(text) is not None for text in texts)


def _serial_day(text: str) -> str | None:
    number = _SERIAL.fullmatch(text)
    if number is None or not _LEAST_SERIAL <= int(number[1]) <= _MOST_SERIAL:
        return None
    return (_SERIAL_ZERO + timedelta(days=int(number[1]))).isoformat()
