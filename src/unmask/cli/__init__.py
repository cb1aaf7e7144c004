"""The command line: one command per question. What a command needs is imported only when it runs.

Exit codes: 0 every file was inspected, 1 some were refused, 2 wrong usage or installation, 130 interrupted.
"""

import errno
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from unmask._version import __version__
from unmask.cli import data, federate, inspect, lab, published, redteam, trace
from unmask.errors import UnmaskError

app = typer.Typer(
    name="unmask",
    help="Visual-identity forensics: was this face forged, where, and how sure may one be?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_RUNTIME: tuple[Callable[..., None], ...] = (inspect.inspect, inspect.demo, inspect.packs, lab.models)
_LAB: tuple[Callable[..., None], ...] = (lab.train, lab.evaluate, lab.compare, lab.export)
_DATA: tuple[Callable[..., None], ...] = (data.forge, data.manifest, data.synthesise)
for command in _RUNTIME:
    app.command()(command)
for command in _LAB:  # these put their options together themselves
    everything = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(context_settings=everything, add_help_option=False)(command)
for command in _DATA:
    app.command()(command)
app.command("import")(published.import_detector)  # a word of Python's own is no function's name
app.command()(published.calibrate)
app.add_typer(trace.app, name="trace")
app.add_typer(federate.app, name="federate")
app.add_typer(redteam.app, name="redteam")


_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)  # of folders that users name


def main() -> None:
    """Entry point: run a command; a mistake in how it was called ends in one line and exit code 2."""
    # Pydantic would read the metadata of every installed package in search of plugins, none of which is wanted here.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        app()
    except UnmaskError as error:
        from unmask.evidence.terminal import safe_text

        print(f"unmask: {safe_text(str(error))}", file=sys.stderr)  # it may quote a file
        sys.exit(2)
    except OSError as error:
        if error.filename is not None and error.errno in _NOT_ALLOWED:
            from unmask.evidence.terminal import safe_text

            print(f"unmask: {safe_text(f'{error.filename}: {error.strerror}')}; give another path", file=sys.stderr)
            sys.exit(2)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        print(f"unmask: cannot write ({error.strerror}): make room and run again", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what standard output still holds cannot be written either
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"unmask {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
