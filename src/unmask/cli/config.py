"""Values for options that are not given on the command line: a configuration file, and variables of the environment.

    [inspect]
    jobs = 4
    pack = ["plain", "my-pack"]
    no-map = true

A table is named after a command, of a group as `[trace.find]`; a key is an option without its dashes. What stands on
the command line goes first, then the environment (`UNMASK_INSPECT_JOBS`), then the file.
"""

import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from typer.core import TyperGroup, TyperOption

from unmask.errors import DataError


def read_config(path: Path, root: TyperGroup) -> dict[str, Any]:
    """Read a configuration file.

    Args:
        path: TOML.
        root: the commands that it may have values for.

    Returns:
        The values as click's `default_map` has them: by command and name of parameter.

    Raises:
        DataError: it cannot be read, is not TOML, or names a command or an option that there is not.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows editors begin with a mark
    except OSError as error:
        raise DataError(f"--config {path}: cannot be read ({error.strerror}): give a readable TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"--config {path}: is no TOML ({error}): mend it") from error
    return _defaults(path, values, root, "")


def _defaults(path: Path, values: dict[str, Any], group: TyperGroup, before: str) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for name, table in values.items():
        command = group.commands.get(name)
        if command is None or not isinstance(table, dict):
            known = ", ".join(sorted(group.commands))
            raise DataError(f"--config {path}: there is no command [{before}{name}]; known are {known}")
        if isinstance(command, TyperGroup):
            defaults[name] = _defaults(path, table, command, f"{before}{name}.")
            continue
        options = {
            word.removeprefix("--"): one
            for one in command.params
            if isinstance(one, TyperOption)
            for word in one.opts
            if word.startswith("--")
        }
        for key in table:
            if key not in options or key == "help":
                known = ", ".join(sorted(set(options) - {"help"})) or "none"
                raise DataError(f"--config {path}: [{before}{name}] has no option {key!r}; known are {known}")
        defaults[name] = {
            options[key].name: [value] if options[key].multiple and not isinstance(value, list) else value
            for key, value in table.items()
        }
    return defaults


def check_variables(names: Iterable[str], root: TyperGroup) -> None:
    """Refuse variables of the environment that name an option which there is not, as a wrong key of a file is.

    Args:
        names: of all variables. Those that begin with `UNMASK_` and a command's name are for its options.
        root: the commands.

    Raises:
        DataError: a command has no such option; names the nearest.
    """
    known = _variables(root, "UNMASK_")
    commands = [f"UNMASK_{_in_capitals(name)}_" for name in root.commands]
    for name in sorted(names):
        begin = next(filter(name.startswith, commands), None)
        if begin is not None and name not in known:
            close = get_close_matches(name, [one for one in known if one.startswith(begin)], 1)
            remedy = f"; did you mean {close[0]}?" if close else ": unset it"
            raise DataError(f"variable {name}: no command has such an option{remedy}")


def _variables(group: TyperGroup, prefix: str) -> list[str]:
    """The variables that click reads for the options of a group's commands."""
    names: list[str] = []
    for name, command in group.commands.items():
        begin = f"{prefix}{_in_capitals(name)}_"
        if isinstance(command, TyperGroup):
            names += _variables(command, begin)
        names += [begin + one.name.upper() for one in command.params if isinstance(one, TyperOption) and one.name]
    return names


def _in_capitals(name: str) -> str:
    return name.upper().replace("-", "_")
