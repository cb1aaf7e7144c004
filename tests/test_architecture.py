"""The house keeps its shape: which room may import which, and no torch where media are looked at."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "unmask"

# Imports point down this list. The last are the ground floor, small modules that everybody may import.
HOUSE = (
    *("cli", "web", "demo", "inspection"),
    *("tracing", "redteam", "federation", "prompting"),
    *("lab", "forging", "datasets", "edits", "retrieval", "forgery", "faces", "networks", "evidence", "packs", "media"),
    *("delimited", "tables", "records", "files", "interruption", "offline", "parallel", "plugins", "progress"),
    "provenance",
    *("errors", "installation", "_version", ""),
)
# Within tracing too imports point down.
TRACING = ("case", "report", "simulation", "tools", "inference", "registers", "attributes")
# Rooms that need torch, or that other extras serve: the runtime goes without.
LAB = ("tracing", "retrieval", "redteam", "federation", "prompting", "lab", "forging", "datasets")
HEAVY = ("torch", "torchvision", "timm", "lightning_fabric", "sklearn", "scipy", "lir", "onnx", "onnxscript", "pandas")

MODULES = sorted(SOURCE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = ("unmask", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(part for part in parts if part != "__init__")


def room_of(module: str) -> str:
    """ "unmask.media.images" -> "media"; the package itself -> ""."""
    return [*module.split("."), ""][1]


def part_of(module: str) -> str:
    """ "unmask.tracing.registers.memory" -> "registers"; the room's own module -> ""."""
    return [*module.split("."), "", ""][2]


NAMES = {module_name(path) for path in MODULES}


def imports(tree: ast.AST) -> Iterator[tuple[str, str | None, bool]]:
    """(module, name or None, at import time) of every import of our own modules."""
    late = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.unparse(outer.test))
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (
                    (full, None, id(node) not in late)
                    if full in NAMES
                    else (
                        str(node.module),
                        alias.name,
                        id(node) not in late,
                    )
                )
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, id(node) not in late


def own_imports(path: Path) -> list[tuple[str, str | None, bool]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [one for one in imports(tree) if one[0].split(".")[0] == "unmask"]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_down(path: Path) -> None:
    room = room_of(module_name(path))
    for module, _, _ in own_imports(path):
        target = room_of(module)
        if target == room or not room:  # `unmask/__init__.py` names what it offers
            continue
        assert HOUSE.index(target) > HOUSE.index(room), f"{path}: {module} is above {room}"
        if target in LAB and room not in LAB:
            assert room == "cli", f"{path}: the runtime must not import {module} of the lab"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_click_is_for_types_alone(path: Path) -> None:
    """Newer Typers bring a click of their own: another one's classes are none of theirs, and it may not be there."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    early = [module for module, _, at_run_time in imports(tree) if module.split(".")[0] == "click" and at_run_time]
    assert not early, f"{path}: take it from typer or typer.core"


def test_no_cycles() -> None:
    graph = {
        module_name(path): {module for module, _, early in own_imports(path) if early and module in NAMES}
        for path in MODULES
    }
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert set(order) >= NAMES


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_private_names_stay_in_their_room(path: Path) -> None:
    room = room_of(module_name(path))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    foreign = {}
    for module, name, _ in own_imports(path):
        if room_of(module) != room:
            private = any(
                part.startswith("_") and not part.startswith("__") for part in (*module.split(".")[2:], name or "")
            )
            assert not private, f"{path} reaches into {module}: {name}"
            foreign[name or module.split(".")[-1]] = module
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in foreign:
            private = node.attr.startswith("_") and not node.attr.startswith("__")
            assert not private, f"{path}:{node.lineno} reaches into {foreign[node.value.id]}: {node.attr}"


@pytest.mark.parametrize("path", [path for path in MODULES if room_of(module_name(path)) == "tracing"], ids=module_name)
def test_within_tracing_imports_point_down(path: Path) -> None:
    part = part_of(module_name(path))
    for module, name, _ in own_imports(path):
        if room_of(module) != "tracing":
            continue
        target = part_of(module)
        assert TRACING.index(target) >= TRACING.index(part), f"{path}: {module} is above {part}"
        if target != part:
            assert name is None or not name.startswith("_"), f"{path} reaches into {module}: {name}"


@pytest.mark.parametrize("path", [path for path in MODULES if room_of(module_name(path)) == "tracing"], ids=module_name)
def test_within_tracing_only_reports_know_the_terminal(path: Path) -> None:
    imported = {name.split(".")[0] for name, _, _ in imports(ast.parse(path.read_text(encoding="utf-8")))}
    assert "rich" not in imported or part_of(module_name(path)) == "report"


def test_every_part_of_tracing_is_known() -> None:
    assert {part_of(name) for name in NAMES if room_of(name) == "tracing"} == {*TRACING, ""}


def test_every_room_is_known() -> None:
    rooms = {room_of(name) for name in NAMES}
    assert rooms <= set(HOUSE)


def loaded(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_an_inspection_loads_nothing_of_the_lab(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    args = ["unmask", "inspect", str(portrait), "--pack", str(tiny_pack), "--html", str(tmp_path / "r.html"), "--quiet"]
    code = (
        f"import sys, unmask.cli, unmask.inspection, unmask.inspection.batch, unmask.demo\nsys.argv = {args!r}\n"
        "try:\n    unmask.cli.main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code"
    )
    assert not loaded(code) & set(HEAVY)


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys, unmask.cli\nsys.argv = ['unmask', '--help']\n"
        "try:\n    unmask.cli.main()\nexcept SystemExit as end:\n    assert end.code == 0"
    )
    assert not loaded(code) & {*HEAVY, "cv2", "onnxruntime", "av", "PIL", "numpy", "pydantic", "jinja2"}
