"""`unmask.inspect` from Python: what it takes, and what a report can do."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unmask
from unmask.evidence.report import Report, Verdict
from unmask.evidence.rows import FACE_COLUMNS, file_row
from unmask.inspection import Inspector
from unmask.media.in_memory import IN_MEMORY, source_of

pytestmark = pytest.mark.slow


def numbers(report: Report) -> list[object]:
    return [(face.box, face.log10_lr, face.score) for face in report.faces]


@pytest.fixture(scope="module")
def options(tiny_pack: Path) -> dict[str, object]:
    return {"pack": tiny_pack, "edits": "none"}


def test_a_path_bytes_and_an_open_file_are_the_same_file(portrait: Path, options: dict[str, object]) -> None:
    by_path = unmask.inspect(portrait, **options)
    by_text = unmask.inspect(str(portrait), **options)
    by_bytes = unmask.inspect(portrait.read_bytes(), **options)
    with portrait.open("rb") as stream:
        by_file = unmask.inspect(stream, **options)
    by_buffer = unmask.inspect(io.BytesIO(portrait.read_bytes()), name="scene 4.jpg", **options)
    for report in (by_text, by_bytes, by_file, by_buffer):
        assert numbers(report) == numbers(by_path) and report.sha256 == by_path.sha256
    assert by_path.path == by_file.path == str(portrait)
    assert (by_bytes.path, by_buffer.path) == (IN_MEMORY, "scene 4.jpg")
    assert by_bytes.tool.command.endswith(" -") and by_path.tool.options["edit_pack"] is None


def test_pixels_are_judged_as_they_are(portrait: Path, options: dict[str, object]) -> None:
    with Image.open(portrait) as picture:
        pixels = np.asarray(picture.convert("RGB"))
        by_image = unmask.inspect(picture, **options)
    by_array = unmask.inspect(pixels, **options)
    assert numbers(by_array) == numbers(by_image) == numbers(unmask.inspect(portrait, **options))
    assert by_array.media is not None and by_array.media.format == "png" and by_array.path == IN_MEMORY
    strided = unmask.inspect(pixels[:, ::-1], **options)
    assert strided.verdict is not Verdict.REFUSED and numbers(strided) != numbers(by_array)
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    assert numbers(unmask.inspect(alpha, **options)) == numbers(by_array)


def test_the_orientation_of_an_image_is_applied_once(portrait: Path, tmp_path: Path) -> None:
    with Image.open(portrait) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6  # shown turned by a quarter
        picture.convert("RGB").save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as turned:
        source = source_of(turned)
        assert source.data is not None
        with Image.open(io.BytesIO(source.data)) as read:
            assert read.size == turned.size[::-1] and 0x0112 not in read.getexif()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "I;16", "RGBA"])
def test_images_of_all_modes_are_taken(mode: str, portrait: Path) -> None:
    with Image.open(portrait) as picture:
        converted = picture.convert("L").convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)
    assert source_of(converted).data is not None


@pytest.mark.parametrize(
    ("media", "error"),
    [
        (np.zeros((8, 8, 3)), ValueError),
        (np.zeros((8, 8, 2), np.uint8), ValueError),
        (np.zeros((0, 8, 3), np.uint8), ValueError),
        (io.StringIO("text"), TypeError),
        (3, TypeError),
        (None, TypeError),
    ],
)
def test_what_is_no_picture_is_an_error_that_says_what_to_give(media: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"uint8|rb"):
        source_of(media)


def test_bytes_that_are_no_picture_are_refused(options: dict[str, object]) -> None:
    for data in (b"", b"no picture"):
        assert unmask.inspect(data, **options).verdict is Verdict.REFUSED


def test_a_report_gives_a_frame_and_maps_and_shows_itself(
    portrait: Path, tiny_pack: Path, options: dict[str, object], tmp_path: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    report = unmask.inspect(portrait, **options)
    frame = report.to_frame()
    assert list(frame.columns) == list(FACE_COLUMNS) and len(frame) == 1
    assert frame["log10_lr"][0] == report.log10_lr and frame["face"].dtype == "Int64"
    assert frame["time"].isna().all()
    refused = unmask.inspect(b"", **options)
    row = refused.to_frame()
    assert row["face"].isna().all() and row["score"].isna().all() and row["path"][0] == refused.path
    columns = ["verdict", "refusal", "reason", "remedy"]  # as the CSV has them
    assert [row[name][0] for name in columns] == [file_row(refused)[name] for name in columns]
    assert row["refusal"][0] == "empty" and row.dtypes.equals(frame.dtypes)
    assert list(pandas.concat([frame, row])["verdict"]) == [report.verdict.value, "refused"]
    (path,) = report.save_maps(tmp_path / "maps")
    assert path.name.startswith("astronaut.jpg-") and path.is_file()
    html = report._repr_html_()
    assert html.startswith("<iframe srcdoc=") and "<script" not in html and html.count("<iframe") == 1
    shown = Inspector(tiny_pack, edit_pack=None).examine(portrait, pictures=True)._repr_html_()
    assert shown.count("data:image/jpeg") == 2
