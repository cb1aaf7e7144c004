"""What `unmask inspect` writes beside its table: checked before anything is read, and written file by file."""

import re
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import typer

from unmask._version import __version__
from unmask.cli.options import command_line
from unmask.errors import DataError
from unmask.files import Output, check_outputs

if TYPE_CHECKING:
    from unmask.evidence.html import HtmlReport
    from unmask.evidence.pdf import PdfReport
    from unmask.evidence.report import Report
    from unmask.evidence.terminal import Wording
    from unmask.packs import Card

_LOG_LINE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ unmask ")


@dataclass(frozen=True)
class Outputs:
    """The outputs that were asked for, each None if it was not.

    Attributes:
        json: JSON lines; "-" for standard output.
        html: the page.
        csv: a row a file.
        db: a database, a row a file and a row a face.
        log: what happened when.
        maps: a folder for the maps.
        pdf: the page as a PDF file.
    """

    json: str | None = None
    html: Path | None = None
    csv: Path | None = None
    db: Path | None = None
    log: Path | None = None
    maps: Path | None = None
    pdf: Path | None = None

    def check(self, paths: list[str], resume: bool) -> None:
        """Refuse outputs that would overwrite an input, one another, or what is not ours, before anything is read."""
        from unmask.media.kinds import MEDIA_EXTENSIONS

        files = {"--json": self.json, "--html": self.html, "--csv": self.csv, "--db": self.db, "--log": self.log}
        files["--pdf"] = self.pdf
        for option, place in files.items():
            if place is not None and Path(place).suffix.lower() in MEDIA_EXTENSIONS:
                raise DataError(f"{option} {place}: this is how a picture or video is called; give another name")
            if option != "--json" and str(place) == "-":
                raise typer.BadParameter(f"{option} writes a file; only --json can go to standard output")
        outputs = []
        if self.json is not None and self.json != "-":
            remedy = "continue it with --resume, give another name, or move it away"
            outputs.append(Output("--json", Path(self.json), lambda _: resume, not resume, remedy))
        if self.html is not None:
            from unmask.evidence.html import is_html_report, part_of

            outputs += [Output("--html", place, is_html_report) for place in (self.html, part_of(self.html))]
        if self.pdf is not None:
            from unmask.evidence.pdf import check_pdf

            check_pdf()
            outputs.append(Output("--pdf", self.pdf))
        if self.csv is not None:
            from unmask.evidence.rows import is_csv_report

            outputs.append(Output("--csv", self.csv, is_csv_report))
        if self.db is not None:
            from unmask.evidence.database import ENDINGS

            if self.db.suffix.lower() not in ENDINGS:
                raise DataError(f"--db {self.db}: the name says no kind of database; end it in {', '.join(ENDINGS)}")
            outputs.append(Output("--db", self.db, lambda _: True))  # its other tables are left alone
        if self.log is not None:
            outputs.append(Output("--log", self.log, is_run_log))
        check_outputs(outputs, paths)
        if self.maps is not None and self.maps.exists() and not self.maps.is_dir():
            raise DataError(f"--save-maps {self.maps}: is a file; give a folder")

    def pages(self, cards: "Iterable[Card]", wording: "Wording" = "verdict") -> "list[HtmlReport | PdfReport]":
        """What writes the page, as HTML and as PDF; each is a context manager."""
        made: list[Any] = []
        if self.html is not None:
            from unmask.evidence.html import HtmlReport

            made.append(HtmlReport(self.html, cards, command=command_line(), wording=wording))
        if self.pdf is not None:
            from unmask.evidence.pdf import PdfReport

            made.append(PdfReport(self.pdf, cards, command=command_line(), wording=wording))
        return made

    def rows(self, stack: ExitStack) -> "list[Callable[[Report], None]]":
        """Open what takes reports row by row; each function writes one report."""
        writers: list[Callable[[Report], None]] = []
        if self.csv is not None:
            from unmask.evidence.rows import CsvReport

            writers.append(stack.enter_context(CsvReport(self.csv)).add)
        if self.db is not None:
            from unmask.evidence.database import DatabaseReport

            writers.append(stack.enter_context(DatabaseReport(self.db)).add)
        if self.maps is not None:
            from unmask.evidence.map_files import save_maps

            folder = self.maps
            writers.append(lambda report: _discard(save_maps(report, folder)))
        return writers


def _discard(written: list[Path]) -> None:
    """What was written is not listed: there may be very many."""


def tell_refusal(report: "Report") -> None:
    """Tell on standard error that a file was refused: for runs without a table."""
    from unmask.evidence.terminal import safe_text

    if report.refusal is not None:
        path = "standard input" if report.path == "-" else report.path
        text = f"unmask: {path}: refused ({report.refusal.code}): {report.refusal.message}"
        print(safe_text(text, sys.stderr.encoding or "utf-8"), file=sys.stderr)


class Total:
    """How many files there are, counted by a thread while the work goes on; `files` is None until that is known.

    Args:
        paths: as the command got them.
        needed: whether anybody asks.
    """

    def __init__(self, paths: list[str], needed: bool) -> None:
        self.files: int | None = None if any(Path(path).is_dir() for path in paths) else len(paths)
        if needed and self.files is None:
            threading.Thread(target=self._count, args=(paths,), daemon=True).start()

    def _count(self, paths: list[str]) -> None:
        from unmask.media.sources import STANDARD_INPUT, walk

        others = [path for path in paths if path != STANDARD_INPUT]  # which can be read but once
        self.files = sum(1 for _ in walk(others)) + len(paths) - len(others)


class RunLog:
    """A log of runs, a line an event, appended to; a context manager.

    Each line is `TIME unmask EVENT WORDS`, the time in UTC. Events: `start`, `file`, `end`, `interrupted`, `failed`.

    Raises (on entering and writing):
        DataError: it cannot be written.
    """

    def __init__(self, path: Path, command: str) -> None:
        self.path = path
        self._command = command
        self._files = self._refused = 0
        self._stream: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._stream = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from error
        self._write("start", f"version={__version__} {self._command}")
        return self

    def add(self, report: "Report") -> None:
        """Note one file: its verdict, LR or refusal, seconds, hash and path."""
        from unmask.evidence.likelihood import lr_text

        said = f"LR={lr_text(report.log10_lr)}" if report.log10_lr is not None else ""
        if report.refusal is not None:
            said, self._refused = f"refusal={report.refusal.code}", self._refused + 1
        seconds = report.timings.get("total", 0.0)
        self._files += 1
        self._write(
            "file", f"{report.verdict} {said} seconds={seconds:.2f} sha256={report.sha256 or '-'} {report.path}"
        )

    def _write(self, event: str, words: str) -> None:
        from unmask.evidence.terminal import safe_text

        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert self._stream is not None
        try:
            self._stream.write(f"{now} unmask {event} {safe_text(words)}\n")
            self._stream.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot write the log ({error.strerror}): give a writable file")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is None:
            return
        event = "end"
        if kind is not None and kind is not typer.Exit:
            event = "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"
        elif isinstance(error, typer.Exit) and error.exit_code == 130:
            event = "interrupted"
        try:
            self._write(event, f"files={self._files} refused={self._refused}")
        finally:
            self._stream.close()


def is_run_log(path: Path) -> bool:
    """Whether a file was written by `RunLog`.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return _LOG_LINE.match(stream.read(64)) is not None
