"""Packs of prompts in an inspection: they name families of faces that may be forged, and change nothing else."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from rich.console import Console
from tiny_pack import write_pack
from tiny_prompt_pack import write_prompt_pack

from unmask.errors import PackError
from unmask.evidence.html import HtmlReport
from unmask.evidence.report import NamedFamily, NamingFinding, Report, Verdict
from unmask.evidence.terminal import TerminalReport
from unmask.inspection import Inspector
from unmask.packs import load_pack


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompt_pack(tmp_path_factory.mktemp("packs") / "families")


@pytest.fixture(scope="module")
def warm(portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portrait with more red: forged to the tiny pack."""
    with Image.open(portrait) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(float)
    path = tmp_path_factory.mktemp("pictures") / "warm.png"
    Image.fromarray(np.clip(pixels + np.array([90, 0, -90]), 0, 255).astype(np.uint8)).save(path)
    return path


def stripped(report: Report) -> Report:
    faces = [face.model_copy(update={"naming": None}) for face in report.faces]
    return report.model_copy(update={"faces": faces, "packs": [], "tool": None, "timings": {}, "run": None})


def test_a_family_is_named_and_nothing_else_changes(tiny_pack: Path, families: Path, warm: Path) -> None:
    inspector = Inspector([tiny_pack, families], edit_pack=None)
    report, alone = inspector.inspect(warm), Inspector(tiny_pack, edit_pack=None).inspect(warm)
    assert report.verdict is Verdict.FORGED and stripped(report) == stripped(alone)
    (face,) = report.faces
    assert face.naming is not None and face.opinions is None
    (naming,) = face.naming
    assert naming.pack == "families" and naming.likeliest == "warm"
    assert [one.name for one in naming.families] == ["warm", "cool"]
    assert sum(one.probability for one in naming.families) + naming.none == pytest.approx(1, abs=1e-5)
    assert [pack.name for pack in report.packs] == ["yunet", "tiny", "families"] and "name" in report.timings


def test_of_an_authentic_face_nothing_is_named(families: Path, warm: Path, tmp_path: Path) -> None:
    cool = write_pack(tmp_path / "cool", size=32, gain=-20.0)
    report = Inspector([cool, families], edit_pack=None).inspect(warm)
    assert report.verdict is Verdict.AUTHENTIC and report.faces[0].naming is None


def test_none_of_these_and_faces_that_are_too_small(tiny_pack: Path, warm: Path, tmp_path: Path) -> None:
    sure = write_prompt_pack(tmp_path / "sure", bias=50.0)
    far = write_prompt_pack(tmp_path / "far", min_face_px=4000.0)
    (face,) = Inspector([tiny_pack, sure], edit_pack=None).inspect(warm).faces
    assert face.naming is not None and face.naming[0].likeliest is None and face.naming[0].none > 0.99
    assert Inspector([tiny_pack, far], edit_pack=None).inspect(warm).faces[0].naming is None


def test_without_a_detector_the_embedded_one_decides(families: Path) -> None:
    inspector = Inspector(families, edit_pack=None)
    assert [card.name for card in inspector.cards] == ["yunet", "plain", "families"]
    with pytest.raises(PackError, match="given twice"):
        Inspector([families, families])


def test_a_video_is_named_by_the_frame_that_stands_for_it(
    tiny_pack: Path, families: Path, warm: Path, tmp_path: Path
) -> None:
    frame = cv2.imread(str(warm))
    assert frame is not None
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, frame.shape[1::-1])
    for _ in range(6):
        writer.write(frame)
    writer.release()
    (face,) = Inspector([tiny_pack, families], edit_pack=None).inspect(tmp_path / "a.avi").faces
    assert face.naming is not None and face.naming[0].likeliest == "warm"


def test_the_reports_say_it(tiny_pack: Path, families: Path, warm: Path, tmp_path: Path) -> None:
    inspector = Inspector([tiny_pack, families], edit_pack=None)
    report = inspector.inspect(warm)
    console = Console(width=200, record=True, file=(tmp_path / "text").open("w"))
    with TerminalReport(console) as table:
        table.add(report)
    printed = console.export_text()
    assert "family by families: warm, a face made warmer" in printed and "no part of the verdict" in printed
    with HtmlReport(tmp_path / "page.html", inspector.cards) as page:
        page.add(report)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "of which family" in text and "a face made warmer" in text and "none of these" in text
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_what_is_said_of_families_is_well_formed() -> None:
    best = NamedFamily(name="a", words="b", probability=0.6)
    NamingFinding(pack="p", likeliest="a", none=0.4, families=[best])
    NamingFinding(pack="p", likeliest=None, none=0.7, families=[best])
    for likeliest, none in ((None, 0.4), ("b", 0.4), ("a", 0.7)):
        with pytest.raises(ValidationError, match="likeliest"):
            NamingFinding(pack="p", likeliest=likeliest, none=none, families=[best])


def test_a_card_of_prompts_makes_sense(families: Path, tmp_path: Path) -> None:
    text = (families / "card.json").read_text(encoding="utf-8")
    for old, new in (('"temperature": 1.0', '"temperature": 0.0'), ('"background": 0', '"background": 2')):
        folder = write_prompt_pack(tmp_path / new[1:5])
        assert old in text
        (folder / "card.json").write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(PackError, match="naming needs"):
            load_pack(folder)
