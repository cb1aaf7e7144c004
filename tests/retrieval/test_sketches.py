"""What is seen in a query before it is searched with: on drawings and photographs made here, and on real ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from unmask.errors import RefusalCode, Refused
from unmask.retrieval.sketches import INVERTED, PAPER, PHOTOGRAPH, SMALL, TEXT, check_sketch


def drawing(size: int = 300, ink: int = 20, paper: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    """A house with a tree."""
    pixels = np.full((size, size, 3), paper, np.uint8)
    unit, colour = size // 10, (ink, ink, ink)
    points = np.array([[2, 9], [2, 5], [4, 3], [6, 5], [6, 9], [2, 9]]) * unit
    cv2.polylines(pixels, [points], False, colour, max(1, size // 100), cv2.LINE_AA)
    cv2.circle(pixels, (8 * unit, 4 * unit), unit, colour, max(1, size // 100), cv2.LINE_AA)
    cv2.line(pixels, (8 * unit, 5 * unit), (8 * unit, 9 * unit), colour, max(1, size // 100), cv2.LINE_AA)
    return pixels


def page_of_text(width: int, height: int, letters: int, lines: int) -> np.ndarray:
    page = Image.new("RGB", (width, height), "white")
    drawn, font = ImageDraw.Draw(page), ImageFont.load_default(letters)
    words = [
        "the",
        "quick",
        "brown",
        "fox",
        "jumps",
        "over",
        "the",
        "lazy",
        "dog",
        "and",
        "runs",
        "away",
        "from",
        "all",
        "of",
        "them",
    ]
    generator = np.random.default_rng(0)
    for line in range(lines):
        text = " ".join(generator.choice(words, 60))
        while drawn.textlength(text, font) > width - 2 * letters:
            text = text.rsplit(" ", 1)[0]
        drawn.text((letters, letters * (1 + 1.4 * line)), text, fill=(20, 20, 20), font=font)
    return np.asarray(page)


def test_a_plain_drawing_is_taken_as_it_is() -> None:
    pixels = drawing()
    checked = check_sketch(pixels)
    assert checked.notes == ()
    np.testing.assert_array_equal(checked.pixels, pixels)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_is_refused(level: int) -> None:
    noise = np.random.default_rng(0).normal(scale=3, size=(200, 300, 3))
    with pytest.raises(Refused) as refusal:
        check_sketch(np.clip(level + noise, 0, 255).astype(np.uint8))
    assert refusal.value.code is RefusalCode.EMPTY


@pytest.mark.parametrize("size", [40, 300, 1200, 4000])
def test_drawings_of_any_size_are_seen(size: int) -> None:
    assert check_sketch(drawing(size)).notes == ()


def test_white_on_black_is_inverted() -> None:
    checked = check_sketch(255 - drawing())
    assert checked.notes == (INVERTED,)
    np.testing.assert_array_equal(checked.pixels, drawing())


@pytest.mark.parametrize("paper", [(250, 240, 170), (170, 200, 240), (190, 190, 190), (180, 140, 100)])
def test_coloured_paper_becomes_white(paper: tuple[int, int, int]) -> None:
    checked = check_sketch(drawing(paper=paper))
    assert checked.notes == (PAPER,)
    assert checked.pixels[5, 5].min() >= 250
    assert checked.pixels.min() < 40


def test_a_photograph_is_called_one(portrait: Path) -> None:
    with Image.open(portrait) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    for one in (pixels, np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)):
        checked = check_sketch(one)
        assert checked.notes == (PHOTOGRAPH,)
        np.testing.assert_array_equal(checked.pixels, one)


@pytest.mark.parametrize(("width", "height", "letters"), [(1240, 1754, 28), (620, 877, 16), (2480, 3508, 50)])
@pytest.mark.parametrize("lines", [5, 30])
def test_a_page_of_text_is_called_one(width: int, height: int, letters: int, lines: int) -> None:
    assert TEXT in check_sketch(page_of_text(width, height, letters, lines)).notes


def test_a_small_drawing_on_a_large_page_is_called_so() -> None:
    page = np.full((1200, 900, 3), 255, np.uint8)
    page[100:300, 100:300] = drawing(200)
    assert check_sketch(page).notes == (SMALL,)


def few(folder: Path, count: int) -> list[np.ndarray]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in files[:: max(1, len(files) // count)]]


@pytest.mark.data
@pytest.mark.parametrize(
    ("place", "least", "most"),
    [
        ("sketch/pacs_small/sketch", 0.0, 0.01),
        ("sketch/cufs/CUHK_student_train/sketches", 0.0, 0.10),
        ("sketch/pacs_small/photo", 0.85, 1.0),
        ("sketch/cufs/CUHK_student_train/photos", 0.95, 1.0),
        ("faces/utkface_200", 0.95, 1.0),
    ],
)
def test_how_often_real_pictures_are_called_photographs(place: str, least: float, most: float, data_dir: Path) -> None:
    pictures = few(data_dir / place, 80)
    share = np.mean([PHOTOGRAPH in check_sketch(pixels).notes for pixels in pictures])
    assert least <= share <= most
