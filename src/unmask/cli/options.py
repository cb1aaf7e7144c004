"""What several commands share: options, the guard of the extras, progress bars, checks of what is written."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unmask.errors import MissingExtraError
from unmask.files import Output, check_outputs
from unmask.provenance import shell_line

if TYPE_CHECKING:
    from rich.console import Console

    from unmask.progress import Progress

PackOption = Annotated[str, typer.Option(metavar="NAME|FOLDER", help="Forgery detector: an embedded pack or a folder.")]
DataOption = Annotated[
    Path, typer.Option(metavar="DIR|CSV", envvar="UNMASK_DATA", help="Folder of known collections, or a manifest CSV.")
]
WorkOption = Annotated[
    Path, typer.Option(metavar="DIR", help="Where prepared faces, reconstructions and pairs are kept, for all runs.")
]
Taef2Option = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder with the TAEF2 autoencoder's weights.")]
WorkersOption = Annotated[int, typer.Option(min=1, max=256, help="Processes that prepare faces.")]


_WIDEST = 44  # characters of what stands before a progress bar
_LOGGED_EVERY = 30.0  # seconds


@contextmanager
def extra(name: str, needed_for: str) -> Iterator[None]:
    """Turn a missing library into one line that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("unmask"):
            raise
        raise MissingExtraError(name, needed_for) from error


def command_line() -> str:
    """The command that runs, quoted for a shell: it repeats what is printed or written."""
    return shell_line(["unmask", *sys.argv[1:]])


def print_json(text: str) -> None:
    """Print a line of JSON on standard output: as UTF-8, whatever the encoding of the terminal."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode() + b"\n")
    sys.stdout.buffer.flush()


@contextmanager
def progress_bars(console: "Console | None" = None, *, transient: bool = False) -> "Iterator[Progress]":
    """Bars, one for each stage, with counts, the time that is left, and notes above them.

    Where it is no terminal, the notes are shown, and of what takes long a line every half minute: for a log.

    Args:
        console: where to; standard error if left out.
        transient: whether the bars vanish at the end.
    """
    from rich.console import Console as ErrorConsole
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = console or ErrorConsole(stderr=True)
    with Bars(*columns, console=shown, transient=transient, disable=not shown.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        class Shown:
            said = time.monotonic()

            def update(self, stage: str, done: int, total: int | None = None, detail: str = "") -> None:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=total)
                text = f"{stage} ({detail})" if detail else stage
                text = text if len(text) <= _WIDEST else f"{text[: _WIDEST - 2]}…)"  # the bar needs the line's rest
                bars.update(tasks[stage], completed=done, total=total, description=text)
                if not shown.is_terminal and time.monotonic() - self.said >= _LOGGED_EVERY:
                    self.said = time.monotonic()
                    self._print(f"{text}: {done}" + ("" if total is None else f" of {total}"))

            def note(self, text: str) -> None:
                self._print(f"note: {text}")

            def _print(self, text: str) -> None:
                shown.print(text, markup=False, highlight=False, soft_wrap=True)

        yield Shown()


def weights_at_hand() -> Path | None:
    """The folder of weights beside the data, if there is one."""
    data = os.environ.get("UNMASK_DATA")
    folder = Path(data) / "weights" if data else None
    return folder if folder is not None and folder.is_dir() else None


def refuse_given(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Refuse options that were given where they would do nothing."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = next(one.opts[0] for one in context.command.params if one.name == name)
            raise typer.BadParameter(f"{option} {why}")


def check_result_file(
    option: str,
    path: Path | None,
    data: Path,
    replaces: Callable[[Path], bool] = lambda _: False,
    *,
    makes_folder: bool = False,
) -> None:
    """Refuse a result's file that is the data, or is there and may not be replaced, before the work begins."""
    if path is not None:
        check_outputs([Output(option, path, replaces, makes_folder=makes_folder)], [data])
