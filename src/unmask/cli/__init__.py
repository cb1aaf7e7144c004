"""The command line: one command per question. What a command needs is imported only when it runs.

Exit codes: 0 every file was inspected, 1 some were refused, 2 wrong usage or installation, 3 a verdict of --fail-on,
70 a fault of Unmask, 130 interrupted. Of `verify`: 0 the same, 1 something differs, 4 media are missing or have
changed.
"""

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from unmask._version import __version__
from unmask.cli import case, data, federate, inspect, lab, packs, prompt, published, redteam, search, serve, trace
from unmask.cli.groups import Group
from unmask.errors import UnmaskError

if TYPE_CHECKING:  # newer Typers bring a click of their own
    import click


class _Root(Group):
    """The commands; `unmask photo.jpg` is `unmask inspect photo.jpg`."""

    def resolve_command(
        self, ctx: "click.Context", args: list[str]
    ) -> "tuple[str | None, click.Command | None, list[str]]":
        """Take a first word that is no command, but a file or what a picture or video is called, for a file."""
        if args and args[0] not in self.commands and (args[0] == "-" or os.path.exists(args[0]) or _is_media(args[0])):  # noqa: PTH110
            args = ["inspect", *args]
        return super().resolve_command(ctx, args)


def _is_media(word: str) -> bool:
    from unmask.media.kinds import MEDIA_EXTENSIONS

    return os.path.splitext(word)[1].lower() in MEDIA_EXTENSIONS  # noqa: PTH122


app = typer.Typer(
    name="unmask",
    cls=_Root,
    help="Visual-identity forensics: was this face forged, where, and how sure may one be?",
    no_args_is_help=True,
    context_settings={"auto_envvar_prefix": "UNMASK"},
    pretty_exceptions_enable=False,
)

_RUNTIME: tuple[Callable[..., None], ...] = (
    *(inspect.inspect, serve.serve, inspect.demo, packs.packs, lab.models),
    *(case.case, case.note, case.page, case.bundle, case.verify),
)
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
app.add_typer(search.app, name="search")
app.add_typer(federate.app, name="federate")
app.add_typer(redteam.app, name="redteam")
app.add_typer(prompt.app, name="prompt")


_FAULT = 70  # EX_SOFTWARE of sysexits.h; Python's own 1 is an answer of several commands
_TRACEBACK = "UNMASK_TRACEBACK"
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)  # of folders that users name


def main() -> None:
    """Entry point: run a command.

    A mistake in how it was called ends in one line and exit code 2, an error that nobody foresaw in one line and 70.
    """
    # Pydantic would read the metadata of every installed package in search of plugins, none of which is wanted here.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if isinstance(sys.stdout, io.TextIOWrapper):  # what its encoding lacks, as on Windows, must not end a command
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(windows_expand_args=False)  # names of exhibits are no patterns: img[1].jpg is not img1.jpg
    except UnmaskError as error:
        _end(str(error), 2)  # it may quote a file
    except OSError as error:
        if error.filename is not None and error.errno in _NOT_ALLOWED:
            _end(f"{error.filename}: {error.strerror}; give another path", 2)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            _end_with_fault(error)
        print(f"unmask: cannot write ({error.strerror}): make room and run again", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what standard output still holds cannot be written either
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        _end_with_fault(error)


def _end_with_fault(error: Exception) -> NoReturn:
    """Say in one line that an error is none of the user's, and how to see more of it."""
    if os.environ.get(_TRACEBACK):
        import traceback

        traceback.print_exception(error)
        more = "please report it with the lines above"
    else:
        more = f"set {_TRACEBACK}=1, run it again, and report what it prints"
    what = f"{type(error).__name__}: {error}".rstrip(": ").splitlines()
    _end(f"{what[0]}; this is a fault of Unmask: {more}", _FAULT)


def _end(message: str, code: int) -> NoReturn:
    from unmask.evidence.terminal import safe_text

    print(f"unmask: {safe_text(message)}", file=sys.stderr)
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"unmask {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            envvar="UNMASK_CONFIG",
            help="Values for options that are not given, a table a command.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if any(name.startswith("UNMASK_") for name in os.environ):
        from unmask.cli.config import check_variables

        check_variables(os.environ, context.command)  # type: ignore[arg-type]
    if config is not None:
        from unmask.cli.config import read_config

        context.default_map = read_config(config, context.command)  # type: ignore[arg-type]
