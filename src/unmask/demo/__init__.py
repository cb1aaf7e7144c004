"""The demonstration: a real photograph, a forgery made from it on the spot, and what is said of both."""

import io
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from unmask.demo.mirror_swap import mirror_swap
from unmask.errors import UnmaskError
from unmask.evidence.html import HtmlReport, is_html_report
from unmask.evidence.report import Report
from unmask.evidence.terminal import TerminalReport
from unmask.files import Output, begins_with, check_outputs
from unmask.inspection import Inspector
from unmask.media.synthetic_mark import FORGED, mark, with_band

DESCRIPTION = "FORGED FOR DEMONSTRATION BY UNMASK"
_PHOTOGRAPH = resources.files(__name__).joinpath("astronaut.jpg")


def photograph() -> np.ndarray:
    """The demonstration's photograph, uint8 (384, 384, 3) RGB, with one face."""
    with _PHOTOGRAPH.open("rb") as stream, Image.open(stream) as picture:
        return np.asarray(picture.convert("RGB"))


def run_demo(out: Path, pack: str | Path = "plain") -> tuple[Report, Report]:
    """Inspect the photograph and its forgery, print both verdicts, and write pictures and report to a folder.

    Args:
        out: the folder; made if need be. Gets `photograph.jpg`, `forgery.png` and `report.html`.
        pack: the forgery detector, a name or a folder.

    Returns:
        The reports on the photograph and on the forgery.

    Raises:
        UnmaskError: the folder cannot be written, or the pack cannot be loaded.
    """
    original, forgery, page = (out / name for name in ("photograph.jpg", "forgery.png", "report.html"))
    packaged = _PHOTOGRAPH.read_bytes()
    check_outputs(
        [
            Output("--out", original, lambda path: path.read_bytes() == packaged, makes_folder=True),
            Output("--out", forgery, is_forgery, makes_folder=True),
            Output("--out", page, is_html_report, makes_folder=True),
        ]
    )
    inspector = Inspector(pack)
    try:
        out.mkdir(parents=True, exist_ok=True)
        original.write_bytes(packaged)
        real = inspector.examine(original, pictures=True)
        if not real.report.faces:
            raise UnmaskError("no face was found in the demonstration photograph: the installation is damaged")
        forged, _ = mirror_swap(photograph(), np.array(real.report.faces[0].landmarks, np.float32))
        forgery.write_bytes(marked_png(forged))
        fake = inspector.examine(forgery, pictures=True)
        title = "Unmask demonstration: a photograph and a forgery made from it"
        with HtmlReport(page, inspector.cards, title=title) as html, TerminalReport() as table:
            for inspection in (real, fake):
                html.add(inspection.report, inspection.pictures, inspection.strips, inspection.whole)
                table.add(inspection.report)
    except OSError as error:
        raise UnmaskError(
            f"{out}: cannot write the demonstration ({error.strerror}): give --out another folder"
        ) from error
    print(f"\nPhotograph: NASA portrait of Eileen Collins, public domain. Report with maps: {page}")
    return real.report, fake.report


def marked_png(pixels: np.ndarray) -> bytes:
    """A forgery, uint8 (S, S, 3) RGB, as a PNG file that is marked for people and for software.

    The band of text and the source type are those of `media.synthetic_mark`; the description says whose work it is.
    """
    info = PngInfo()
    info.add_text("Description", DESCRIPTION)
    stream = io.BytesIO()
    Image.fromarray(with_band(pixels, FORGED)).save(stream, "PNG", pnginfo=info)
    return mark(stream.getvalue(), "compositeSynthetic")


def is_forgery(path: Path) -> bool:
    """Whether a file is a forgery of an earlier demonstration.

    Raises:
        OSError: it cannot be read.
    """
    return begins_with(path, DESCRIPTION.encode())
