"""Things that are found by name: the package's own in a small table, others installed beside it or named in full.

An entry is imported when it is asked for and not before, so that a table costs nothing to read. From outside the
package a thing comes as `module:Name` wherever a name is taken, or under a name of its own through an entry point:

    [project.entry-points."unmask.makers"]
    glow = "my_package.glow:Glow"
"""

import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Generic, TypeVar

from unmask.errors import DataError

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Entry:
    """One line of a table.

    Attributes:
        name: what users type.
        target: where the thing stands, as "module:Name".
        summary: one line for lists and help.
    """

    name: str
    target: str
    summary: str = ""


class Table(Generic[Thing]):
    """Things of one kind by name.

    Args:
        what: the kind in messages, in the singular ("layout").
        group: entry points of this group add to the table; a name of the package's own is never replaced.
        entries: the package's own, in the order in which they are listed and tried.
    """

    def __init__(self, what: str, group: str, entries: Iterable[Entry]) -> None:
        self.what, self.group = what, group
        self.own = {entry.name: entry for entry in entries}

    @cached_property
    def installed(self) -> dict[str, Entry]:
        """What other packages add, by name; read once."""
        points = sorted(entry_points(group=self.group), key=lambda point: point.name)
        return {point.name: Entry(point.name, point.value, "") for point in points if point.name not in self.own}

    def __contains__(self, name: str) -> bool:
        """Whether there is a thing of this name; for one of the package's own, nothing else is looked through."""
        return name in self.own or name in self.installed

    def names(self) -> tuple[str, ...]:
        """All names: the package's own in their order, then the installed ones by the alphabet."""
        return (*self.own, *self.installed)

    def load(self, name: str) -> Thing:
        """The thing of a name, imported if it was not.

        Args:
            name: of the table, or "module:Name".

        Raises:
            DataError: there is none of that name, or it cannot be imported; says what there is.
        """
        entry = self.own.get(name) or (Entry(name, name) if ":" in name else self.installed.get(name))
        if entry is None:
            raise DataError(
                f"no {self.what} {name}; name one of {', '.join(self.names())}, or module:Name of an installed package"
            )
        module, _, attribute = entry.target.partition(":")
        if not all((*module.split("."), attribute)):
            raise DataError(f"{self.what} {name}: not module:Name, as in my_package.my_module:Name; correct the name")
        here = str(Path.cwd())
        if name not in self.own and here not in sys.path:
            sys.path.append(here)  # a module in the folder where one works is found, as by `python -m`
        try:
            thing: Thing = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
                remedy = "install it, or correct the name"
                raise DataError(f"{self.what} {name}: no module {error.name}; {remedy}") from error
            if name in self.own:
                raise  # it needs an extra
            raise DataError(f"{self.what} {name}: needs the module {error.name}; install it") from error
        except AttributeError as error:
            raise DataError(f"{self.what} {name}: {module} has no {attribute}; correct the name") from error
        except SyntaxError as error:
            raise DataError(f"{self.what} {name}: {module}, line {error.lineno}: {error.msg}") from error
        return thing
