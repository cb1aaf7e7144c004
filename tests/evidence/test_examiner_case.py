"""The examiner's case file: what is read of it, and how slips are refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.errors import DataError
from unmask.evidence.case_file import MOST_BYTES, TEMPLATE, read_case
from unmask.evidence.report import Case


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "case.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_all_keys_are_read_and_empty_ones_count_as_none(tmp_path: Path) -> None:
    text = 'case = "2026-17"\nexhibit = " A3 "\nexaminer = ""\nnotes = """\nfirst\nsecond\n"""\n'
    assert read_case(written(tmp_path, text)) == Case(case="2026-17", exhibit="A3", notes="first\nsecond")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert read_case(written(tmp_path, b'\xef\xbb\xbfcase = "1"\n')).case == "1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('examinor = "A"', "did you mean 'examiner'?"),
        ('Case = "1"', "did you mean 'case'?"),
        ('colour = "red"', "there is no key 'colour'; known are case, exhibit, examiner, laboratory, notes"),
        ("exhibit = 7", 'exhibit must be text, and is a number; write exhibit = "…"'),
        ("exhibit = 2026-11-30", "exhibit must be text, and is a date or time"),
        ("[case]\nnumber = 1", "case must be text, and is a table"),
        ("case = [1]", "case must be text, and is a list"),
        ("case = true", "case must be text, and is true or false"),
        ("case = ", "is no TOML"),
        (b"case = '\xff'", "is no TOML"),
        (TEMPLATE, "says nothing; fill in one of case,"),
        ("#" * (MOST_BYTES + 1), "has more than 100,000 bytes"),
    ],
)
def test_slips_are_refused_with_a_remedy(text: str | bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        read_case(written(tmp_path, text))
    assert words in str(refused.value) and "\n" not in str(refused.value).partition("(")[0]


def test_a_missing_file_names_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unmask case .*none\.toml"):
        read_case(tmp_path / "none.toml")


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_whatever_the_file_holds_it_is_read_or_refused(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        try:
            read_case(written(Path(folder), content))
        except DataError:
            return
