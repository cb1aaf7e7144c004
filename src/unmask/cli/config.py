"""A configuration file: values for options that are not given on the command line.

    [inspect]
    jobs = 4
    pack = ["plain", "my-pack"]
    no-map = true

A table is named after a command, of a group as `[trace.find]`; a key is an option without its dashes. What stands on
the command line goes first, then the environment, then the file.
"""

import tomllib
from pathlib import Path
from typing import Any

import click

from unmask.errors import DataError


def read_config(path: Path, root: click.Group) -> dict[str, Any]:
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
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"--config {path}: cannot be read ({error.strerror}): give a readable TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"--config {path}: is no TOML ({error}): mend it") from error
    return _defaults(path, values, root, "")


def _defaults(path: Path, values: dict[str, Any], group: click.Group, before: str) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for name, table in values.items():
        command = group.commands.get(name)
        if command is None or not isinstance(table, dict):
            known = ", ".join(sorted(group.commands))
            raise DataError(f"--config {path}: there is no command [{before}{name}]; known are {known}")
        if isinstance(command, click.Group):
            defaults[name] = _defaults(path, table, command, f"{before}{name}.")
            continue
        options = {
            word.removeprefix("--"): one
            for one in command.params
            if isinstance(one, click.Option)
            for word in one.opts
            if word.startswith("--")
        }
        for key in table:
            if key not in options or key == "help":
                known = ", ".join(sorted(set(options) - {"help"})) or "none"
                raise DataError(f"--config {path}: [{before}{name}] has no option {key!r}; known are {known}")
        defaults[name] = {options[key].name: value for key, value in table.items()}
    return defaults
