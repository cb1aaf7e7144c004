"""The examiner's case file: which case and exhibit a report belongs to, and who examined it.

    case = "2026-0417"
    exhibit = "A3"
    examiner = "A. Example"
    laboratory = "Example laboratory"
    notes = "Received on a USB stick; the original was not to be had."

It changes no number of a report: what it says stands beside them.
"""

import difflib
import tomllib
from pathlib import Path

from unmask.errors import DataError
from unmask.evidence.report import Case

MOST_BYTES = 100_000
TEMPLATE = """\
# The case of `unmask inspect FILE --case THIS_FILE`. It stands in every report of the run; it changes no number.
# A line may be left empty or taken out.
case = ""
exhibit = ""
examiner = ""
laboratory = ""
notes = '''
'''
"""
_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}


def read_case(path: Path) -> Case:
    """Read a case file.

    Args:
        path: TOML with the keys of `Case`, each a text; others than these are refused. An empty text counts as none.

    Raises:
        DataError: it is missing, too large, not TOML, has another key or something else than text, or says nothing.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"--case {path}: has more than {MOST_BYTES:,} bytes; give a case file, see `unmask case`")
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(
            f"--case {path}: cannot be read ({error.strerror}); `unmask case {path}` writes one to fill in"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"--case {path}: is no TOML ({error}); `unmask case OTHER.toml` writes one to copy") from error
    known = list(Case.model_fields)
    for key, value in values.items():
        if key not in known:
            close = difflib.get_close_matches(key.lower(), known, n=1)
            meant = f"did you mean {close[0]!r}? " if close else ""
            raise DataError(f"--case {path}: there is no key {key!r}; {meant}known are {', '.join(known)}")
        if not isinstance(value, str):
            kind = _KINDS.get(type(value), "a date or time")
            raise DataError(f'--case {path}: {key} must be text, and is {kind}; write {key} = "…", in quotes')
    case = Case(**{key: value.strip() for key, value in values.items() if value.strip()})
    if case == Case():
        raise DataError(f"--case {path}: says nothing; fill in one of {', '.join(known)}")
    return case
