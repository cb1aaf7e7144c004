"""Tables of things found by name: own ones, installed ones, and `module:Name`."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from unmask import plugins
from unmask.errors import DataError
from unmask.plugins import Entry, Table


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table[type]:
    points = [
        EntryPoint("zeta", "decimal:Decimal", "unmask.tests"),
        EntryPoint("counter", "decimal:Decimal", "unmask.tests"),
        EntryPoint("alpha", "fractions:Fraction", "unmask.tests"),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "unmask.tests" else [])
    return Table(
        "number",
        "unmask.tests",
        [
            Entry("ordered", "collections:OrderedDict", "keeps its order"),
            Entry("counter", "collections:Counter", "counts"),
            Entry("gone", "unmask.no_such_module:Thing"),
            Entry("renamed", "collections:NoSuchThing"),
        ],
    )


def test_own_names_come_first_and_are_not_replaced(table: Table[type]) -> None:
    assert table.names() == ("ordered", "counter", "gone", "renamed", "alpha", "zeta")
    assert table.own["counter"].summary == "counts"


@pytest.mark.parametrize(
    ("name", "found"),
    [("counter", "Counter"), ("zeta", "Decimal"), ("statistics:NormalDist", "NormalDist")],
)
def test_a_thing_is_loaded_by_name_or_in_full(table: Table[type], name: str, found: str) -> None:
    assert table.load(name).__name__ == found


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "ordered, counter"),
        ("gone", "no module unmask.no_such_module"),
        ("renamed", "collections has no NoSuchThing"),
        ("no_such_package:Thing", "no module no_such_package"),
        ("no_such_package.inner:Thing", "no module no_such_package"),
        (":Thing", "not module:Name"),
        ("./file:Thing", "not module:Name"),
        ("collections:", "not module:Name"),
    ],
)
def test_what_is_not_there_is_refused_with_a_remedy(table: Table[type], name: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        table.load(name)


def test_a_library_that_the_thing_needs_is_named(
    table: Table[type], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "needs_more.py").write_text("import no_such_library\n")
    with pytest.raises(DataError, match="needs the module no_such_library; install it"):
        table.load("needs_more:Thing")
    own: Table[type] = Table("shape", "unmask.none", (Entry("more", "needs_more:Thing"),))
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):  # the guard of the extras names the extra
        own.load("more")


def test_a_module_in_the_working_folder_is_found_and_its_faults_are_said(
    table: Table[type], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    (tmp_path / "lies_here.py").write_text("class Thing:\n    pass\n")
    (tmp_path / "torn_here.py").write_text("class Thing\n")
    assert table.load("lies_here:Thing").__name__ == "Thing"
    with pytest.raises(DataError, match=r"torn_here, line 1: expected ':'"):
        table.load("torn_here:Thing")
