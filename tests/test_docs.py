"""The documentation is complete and coherent: links, refusal codes, commands, the notebook."""

import json
import os
import re
from pathlib import Path

import pytest
import typer

from unmask import __version__
from unmask.cli import app
from unmask.errors import RefusalCode

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md"])
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that both GitHub and the site give to a page's headings."""
    titles = HEADING.findall(without_code(page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = without_code(page.read_text(encoding="utf-8"))
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text):
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def examples() -> list[tuple[str, str]]:
    """The lines to be typed in the README and the pages, as they stand there, each with its page's name."""
    lines = []
    for page in [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for kind, block in re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            if kind in ("", "sh", "text"):
                lines += [(page.name, line) for line in block.splitlines()]
    return lines


def test_the_examples_write_to_different_places() -> None:
    """Who follows README and pages in one folder is never refused because an example before has written there."""
    written: dict[str, set[str]] = {}
    typed = "\n".join(line for _, line in examples()).replace("\\\n", " ")
    for line in typed.splitlines():
        command = " ".join(line.partition(" #")[0].split())
        goes_on = "--resume" in command or command.startswith("unmask search index")
        if not command.startswith("unmask") or goes_on:
            continue
        for place in re.findall(r"(?:^unmask case|--(?:json|pdf|out|run|case)) ([\w./-]*[a-z][\w./-]*)", command):
            if not (place.endswith(".toml") and "--case" in command):  # a case file is read
                written.setdefault(place, set()).add(command)
    assert len(written) > 20
    assert {place: commands for place, commands in written.items() if len(commands) > 1} == {}


IDIOMS = {  # of POSIX shells: how they look in an example, and what the table of the quickstart begins a row with
    r"&&": "pip install . &&",
    r" < \S": "unmask inspect - <",
    r"^export ": "export ",
    r"^[A-Z_]+=\S+ \w": "RAY_ADDRESS=",
    r"\$(?!PWD\b)[A-Z_]{2,}": '"$UNMASK_SERVE_TOKEN"',
    r"\$PWD": '"$PWD:/data"',
    r"\$\(id ": '--user "$(id -u)',
    r"\\$": "a `\\`",
    r" \|\| ": "unmask … \\|\\| true",
    r"^curl ": "curl",
    r"^(?:unmask|pip) .*\*\.": "unmask inspect *",
    r"\$\((?!id )|^(?:mkdir|cat|test|grep|sed|cut|wc|basename) ": "nothing: such lines are for guides",
}


def test_the_quickstart_has_every_idiom_of_a_shell_in_powershell() -> None:
    text = (DOCS / "quickstart.md").read_text(encoding="utf-8")
    rows = [line.removeprefix("| ").removeprefix("`") for line in text.splitlines() if line.startswith("| ")]
    assert "docs/quickstart.md#windows-and-macos" in (ROOT / "README.md").read_text(encoding="utf-8")
    used = {(idiom, page, line) for page, line in examples() for idiom in IDIOMS if re.search(idiom, line)}
    assert len({idiom for idiom, _, _ in used}) > 6
    assert [one for one in used if not any(row.startswith(IDIOMS[one[0]]) for row in rows)] == []


def test_troubleshooting_has_every_refusal_code_with_a_meaning_and_a_remedy() -> None:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    entries = re.findall(r"^### `(\w+)`\n(.*?)(?=^#)", text, re.DOTALL | re.MULTILINE)
    assert [code for code, _ in entries] == [code.value for code in RefusalCode]
    assert all("**Meaning**" in body and "**What to do**" in body for _, body in entries)


def command_names(group: typer.core.TyperGroup, before: str) -> list[str]:
    names = []
    for name, command in group.commands.items():
        path = f"{before} {name}"
        names += command_names(command, path) if isinstance(command, typer.core.TyperGroup) else [path]
    return names


def test_the_page_of_questions_leads_to_every_command() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert [name for name in command_names(root, "unmask") if f"`{name}" not in page] == []


@pytest.mark.slow
def test_the_notebook_runs_and_names_no_place_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    work = tmp_path / "work"
    work.mkdir()
    book = nbformat.read(DOCS / "quickstart.ipynb", as_version=4)
    codes = [cell for cell in book.cells if cell.cell_type == "code"]
    assert codes and all(not cell.outputs and cell.execution_count is None for cell in codes)
    spec = {"resources": {"metadata": {"path": str(work)}}, "timeout": 600, "kernel_name": "python3"}
    nbclient.NotebookClient(book, **spec).execute()
    shown = json.dumps([cell.outputs for cell in codes])
    assert (work / "unmask-demo" / "report.html").is_file() and list((work / "unmask-demo" / "maps").glob("*.png"))
    assert "<iframe" in shown and "log10_lr" in shown
    assert str(tmp_path) not in shown and str(Path.home()) + os.sep not in shown and str(ROOT) not in shown


def test_pictures_are_small() -> None:
    pictures = [path for path in (DOCS / "images").iterdir() if path.suffix != ".md"]
    assert pictures and max(path.stat().st_size for path in pictures) < 150_000


def test_the_citation_names_this_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
