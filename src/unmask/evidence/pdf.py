"""The page as a PDF file, laid out by WeasyPrint (extra `pdf`): page numbers, charts as vectors."""

import logging
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unmask.errors import MissingExtraError, UnmaskError
from unmask.evidence.html import CropPicture, HtmlReport
from unmask.evidence.report import Report
from unmask.evidence.whole_picture import WholePicture
from unmask.files import whole
from unmask.packs.card import Card


def check_pdf() -> None:
    """See that PDF files can be written, before the work begins.

    Raises:
        MissingExtraError: WeasyPrint is not installed.
        UnmaskError: the system lacks the library Pango, which WeasyPrint sets type with.
    """
    _weasyprint()


def _weasyprint() -> Any:
    from PIL import ImageFile

    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        import weasyprint
    except ModuleNotFoundError as error:
        if error.name != "weasyprint":
            raise
        raise MissingExtraError("pdf", "--pdf") from error
    except OSError as error:
        raise UnmaskError(
            "--pdf needs the library Pango of the system (on Debian: apt install libpango-1.0-0 libpangoft2-1.0-0); "
            f"{str(error).splitlines()[0]}"
        ) from error
    finally:
        # WeasyPrint has Pillow accept pictures that are cut short, in the whole process: who asked for it is not known.
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated
    for name in ("weasyprint", "fontTools"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # of rules for screens that do not matter on paper
    return weasyprint


class PdfReport:
    """Writes reports to a PDF file; a context manager. The file appears when it is whole.

    Args:
        path: the file.
        cards: as for `HtmlReport`.
        how: other arguments of `HtmlReport`.

    Raises (on leaving):
        DataError: it cannot be written.
    """

    def __init__(self, path: Path, cards: Iterable[Card] = (), **how: Any) -> None:
        self.path = path
        self._folder = tempfile.TemporaryDirectory()
        self._source = Path(self._folder.name) / "report.html"
        self._page = HtmlReport(self._source, cards, paper=True, **how)

    def __enter__(self) -> Self:
        self._page.__enter__()
        return self

    def add(
        self,
        report: Report,
        pictures: Sequence[CropPicture] = (),
        strips: Sequence[Sequence[bytes]] = (),
        whole: WholePicture | None = None,
    ) -> None:
        """Append the findings on one file; the arguments are those of `HtmlReport.add`."""
        self._page.add(report, pictures, strips, whole)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._folder:
            self._page.__exit__(kind, error, trace)
            lay_out(self._source, self.path)


def lay_out(page: Path, path: Path) -> None:
    """Write a page for paper, which `HtmlReport` wrote with `paper`, as a PDF file.

    Raises:
        DataError: it cannot be written.
        MissingExtraError: WeasyPrint is not installed.
    """
    weasyprint = _weasyprint()
    nothing_else = weasyprint.urls.URLFetcher(allowed_protocols=("data",))  # pictures within the page
    document = weasyprint.HTML(string=page.read_text(encoding="utf-8"), url_fetcher=nothing_else)
    with whole(path) as part:
        document.write_pdf(str(part))


if __name__ == "__main__":  # in a process of its own, which can be ended: python -m unmask.evidence.pdf PAGE FILE
    lay_out(Path(sys.argv[1]), Path(sys.argv[2]))
