"""The page as a PDF file: its length, its page numbers, and what stands in it."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from evidence_samples import CARD, make_face, make_report

from unmask.errors import MissingExtraError
from unmask.evidence.pdf import PdfReport, check_pdf
from unmask.evidence.report import Case
from unmask.inspection import Inspector

if find_spec("weasyprint") is None:  # not imported here: it has Pillow accept pictures that are cut short
    pytest.skip("the pdf extra is not installed", allow_module_level=True)
pypdf = pytest.importorskip("pypdf")

pytestmark = pytest.mark.slow


def text_of(path: Path) -> list[str]:
    return [page.extract_text() for page in pypdf.PdfReader(path).pages]


def test_a_case_of_one_picture_has_six_pages_at_most_with_their_numbers(portrait: Path, tmp_path: Path) -> None:
    inspector = Inspector()
    done = inspector.examine(portrait, pictures=True)
    notes = "\n".join(f"Line {number} of what the examiner has to say." for number in range(5))
    case = Case(case="2026-17", exhibit="A3", examiner="A. Example", laboratory="Example", notes=notes)
    out = tmp_path / "case.pdf"
    with PdfReport(out, inspector.cards, command="unmask inspect") as pdf:
        pdf.add(done.report.model_copy(update={"case": case}), done.pictures, done.strips)
    pages = text_of(out)
    assert len(pages) <= 6
    for number, text in enumerate(pages, start=1):
        assert f"Page {number} of {len(pages)}" in text and "Case 2026-17, exhibit A3" in text
    whole = "\n".join(pages)
    assert "Line 4 of what" in whole and (done.report.sha256 or "?") in whole
    before, annex = whole.split("Annex: raw figures")
    quality = done.report.faces[0].quality
    assert f"overall {quality.unified:.1f}" in annex and "auc by condition" in annex
    assert "under exposure prevention" in annex and "under exposure prevention" not in before.lower()
    assert len(pypdf.PdfReader(out).pages[1].images) >= 2  # the face and its map


def test_several_files_each_begin_a_page(tmp_path: Path) -> None:
    out = tmp_path / "two.pdf"
    with PdfReport(out, [CARD]) as pdf:
        for name in ("one.jpg", "two.jpg"):
            pdf.add(make_report(name, faces=[make_face()]), [np.zeros((32, 32, 3), np.uint8)])
    starts = [number for number, text in enumerate(text_of(out)) if "SHA-256" in text and "Kind" in text]
    assert len(starts) == 2 and starts[0] > 0


def test_a_missing_extra_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(MissingExtraError, match=r'needs the "pdf" extra: .*pip install .*\[pdf\]'):
        check_pdf()


def test_cut_pictures_are_refused_after_a_pdf_file_as_before() -> None:
    script = (
        "from unmask.evidence.pdf import check_pdf; check_pdf()\n"
        "from PIL import ImageFile; assert ImageFile.LOAD_TRUNCATED_IMAGES is False"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
