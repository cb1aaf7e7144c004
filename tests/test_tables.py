"""Tables of cells show what the cells hold, whatever that is."""

from pathlib import Path

from rich.console import Console

from unmask.tables import FEW, markdown, terminal, unless_few, with_few_note, write_csv


def shown(table: object, width: int = 60) -> list[str]:
    console = Console(width=width)
    with console.capture() as text:
        console.print(table)
    return [line.strip() for line in text.get().splitlines()]


def test_cells_are_neither_markup_nor_emoji() -> None:
    lines = shown(terminal(("[b]x", "y"), [("[red]1[/red]", ":cat:")], title="[i]t"))
    assert "[i]t" in lines[0]
    assert "│ [red]1[/red] │ :cat: │" in lines
    assert any("[b]x" in line for line in lines)


def test_numbers_stand_at_the_right_where_asked() -> None:
    lines = shown(terminal(("name", "count"), [("a", "1"), ("bcdefg", "12")], right=("count",)))
    assert "│ a      │     1 │" in lines
    assert "│ bcdefg │    12 │" in lines


def test_long_cells_are_folded_and_nothing_is_lost() -> None:
    text = "".join(shown(terminal(("x",), [("abcdefghij" * 3,)]), width=16))
    assert "".join(letter for letter in text if letter.isalpha() and letter != "x") == "abcdefghij" * 3


def test_markdown_and_csv_have_a_row_each(tmp_path: Path) -> None:
    assert markdown(("a", "b"), [("1", "2")]).splitlines() == ["| a | b |", "|---|---|", "| 1 | 2 |"]
    write_csv(tmp_path / "t.csv", ("a", "b"), [(1, 'say "hi"'), (2, "x,y")])
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\r\n1,"say ""hi"""\r\n2,"x,y"\r\n'


def test_numbers_of_too_few_stand_in_brackets_with_a_note() -> None:
    assert unless_few("0.64 [0.2, 1.0]", 147, 4) == "(0.64 [0.2, 1.0])†"
    assert unless_few("0.64", 147, 5) == unless_few("0.64", 0, 147) == unless_few("0.64") == "0.64"
    few, many = (markdown(("faces", "AUC"), [("a", unless_few("0.64", count))]) for count in (1, 5))
    assert with_few_note(few) == f"{few}\n\n{FEW}" and with_few_note(many) == many
