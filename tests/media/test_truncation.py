"""Pillow's setting for pictures that are cut short, which other libraries set for the whole process."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import media_samples as samples
import pytest
from media_samples import decode, refusal_of
from PIL import ImageFile

from unmask.errors import RefusalCode
from unmask.media.truncation import refusing_truncated


def setting() -> object:
    return ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.fixture
def accepting() -> Iterator[None]:
    """As WeasyPrint leaves Pillow."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    yield
    assert setting() is True
    ImageFile.LOAD_TRUNCATED_IMAGES = before


KINDS = ["jpeg", "jpeg cmyk", "png", "png deep", "webp", "tiff", "tiff deep", "tiff lzw", "bmp", "gif"]


@pytest.mark.parametrize("name", KINDS)
def test_pictures_that_are_cut_short_are_refused_whatever_was_set(name: str, accepting: None) -> None:
    data = samples.pictures()[name]
    whole = decode(data)
    for share in (0.5, 0.9):
        assert refusal_of(data[: int(len(data) * share)]).code is RefusalCode.CORRUPT
    assert setting() is True and (decode(data) == whole).all()


def test_damaged_pixels_are_refused_whatever_was_set(accepting: None) -> None:
    data = bytearray(samples.pictures()["png"])
    data[len(data) // 2] ^= 0xFF  # a wrong checksum
    assert refusal_of(bytes(data)).code is RefusalCode.CORRUPT


def test_other_threads_see_what_was_set(accepting: None) -> None:
    inside, seen = threading.Event(), threading.Event()

    def decoding() -> bool:
        inside.set()
        assert seen.wait(10)
        return bool(setting())

    with ThreadPoolExecutor(2) as threads:
        result = threads.submit(refusing_truncated, decoding)
        assert inside.wait(10)
        others = bool(setting())
        seen.set()
        assert result.result() is False and others is True


def test_what_is_set_meanwhile_stays_and_the_picture_is_decoded_again() -> None:
    seen: list[bool] = []

    def decoding() -> int:
        if not seen:
            ImageFile.LOAD_TRUNCATED_IMAGES = True
        seen.append(bool(setting()))
        return len(seen)

    try:
        assert refusing_truncated(decoding) == 2 and seen == [True, False]
        assert setting() is True
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def test_many_threads_leave_the_setting_as_it_was(accepting: None) -> None:
    data = samples.pictures()["png"]

    def refused(_: int) -> bool:
        return refusal_of(data[: len(data) // 2]).code is RefusalCode.CORRUPT

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(refused, range(64)))
