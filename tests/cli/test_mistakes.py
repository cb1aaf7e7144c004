"""What the command line says of mistakes, the user's and its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unmask import cli

Say = Callable[[list[str]], tuple[Any, str]]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Exit code and standard error of a command run in this process."""

    def run(args: list[str]) -> tuple[Any, str]:
        monkeypatch.setattr(sys, "argv", ["unmask", *args])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["inspct", "x"], "inspect"),
        (["trace", "fnd"], "find"),
        (["search", "indx"], "index"),
        (["redteam", "detecor"], "detector"),
        (["prompt", "lern"], "learn"),
    ],
)
def test_a_mistyped_command_is_corrected_once(words: list[str], meant: str, say: Say) -> None:
    code, err = say(words)
    assert code == 2 and err.count("Did you mean") == 1 and f"'{meant}'" in err


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("UNMASK_INSPECT_JOSB", "; did you mean UNMASK_INSPECT_JOBS?"),
        ("UNMASK_TRACE_FIND_POLICYY", "; did you mean UNMASK_TRACE_FIND_POLICY?"),
        ("UNMASK_TRAIN_STEPS", ": unset it"),  # its options are read by the method, and not from variables
    ],
)
def test_a_variable_that_is_no_option_is_refused(
    name: str, meant: str, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "4")
    code, err = say(["packs"])
    assert code == 2 and err == f"unmask: variable {name}: no command has such an option{meant}\n"


def test_variables_of_options_and_others_pass() -> None:
    from typer.main import get_command

    from unmask.cli.config import check_variables

    names = ["UNMASK_INSPECT_NO_MAP", "UNMASK_SERVE_TOKEN", "UNMASK_FEDERATE_RUN_CLIENTS", "UNMASK_DATA", "UNMASK_OWN"]
    check_variables(names, get_command(cli.app))  # type: ignore[arg-type]


def test_an_unforeseen_error_has_an_exit_code_of_its_own(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("first line\nsecond line")

    monkeypatch.setattr("unmask.packs.load_pack", broken)
    monkeypatch.delenv("UNMASK_TRACEBACK", raising=False)
    code, err = say(["packs", "plain"])
    assert code == 70 and err.count("\n") == 1
    assert err.startswith("unmask: ValueError: first line; this is a fault of Unmask: set UNMASK_TRACEBACK=1")
    monkeypatch.setenv("UNMASK_TRACEBACK", "1")
    code, err = say(["packs", "plain"])
    assert code == 70 and "Traceback" in err and "second line" in err and err.splitlines()[-1].startswith("unmask: ")


def test_a_refused_output_leaves_no_other(tmp_path: Path) -> None:
    register = tmp_path / "people.csv"
    register.write_text("id,eyes\na,brown\nb,blue\n")
    page, table = tmp_path / "case.html", tmp_path / "records.csv"
    words = ["trace", "find", str(register), "--answer", "eyes=brown", "--html", str(page), "--csv", str(table)]
    done = subprocess.run(
        [sys.executable, "-m", "unmask.cli", *words, "--json", str(tmp_path / "nowhere" / "case.json")],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 2 and "--json" in done.stderr and "no such folder" in done.stderr
    assert not page.exists() and not table.exists()
