import io
import tracemalloc
import zlib
from typing import get_args

import cv2
import numpy as np
import pytest
from fake_faces import make_picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from unmask.media.synthetic_mark import (
    FORGED,
    REAL,
    SourceType,
    band_height,
    mark,
    read_mark,
    read_synthetic_mark,
    rows_of_band,
    text_height,
    with_band,
    without_band,
)

PICTURE = make_picture(96)
ADDRESS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><e:DigitalSourceType%s'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def encoded(kind: str) -> bytes:
    return cv2.imencode(f".{kind}", PICTURE)[1].tobytes()


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("term", get_args(SourceType))
def test_a_mark_is_read_back_and_leaves_the_pixels(kind: str, term: SourceType) -> None:
    plain = encoded(kind)
    assert read_mark(plain) is None
    marked = mark(plain, term)
    assert read_mark(marked) == term
    a, b = (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in (plain, marked))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_other_software_finds_the_mark(kind: str) -> None:
    with Image.open(io.BytesIO(mark(encoded(kind), "compositeSynthetic"))) as picture:
        picture.load()  # Pillow checks the sums of PNG's chunks
        text = picture.info["xmp"] if kind == "jpg" else picture.info["XML:com.adobe.xmp"]
    assert f"{ADDRESS}compositeSynthetic" in (text.decode() if isinstance(text, bytes) else text)


def test_a_marked_jpeg_is_what_it_always_was() -> None:
    """The faces of `unmask synthesise` stay the same to the byte."""
    packet = (
        b"http://ns.adobe.com/xap/1.0/\x00"
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        b'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    plain = encoded("jpg")
    segment = b"\xff\xe1" + (len(packet) + 2).to_bytes(2, "big") + packet
    assert mark(plain, "trainedAlgorithmicMedia") == plain[:2] + segment + plain[2:]


@pytest.mark.parametrize("form", [f'="{ADDRESS}print"/><x>', f">{ADDRESS}print</e:DigitalSourceType>"])
def test_marks_of_others_are_read(form: str) -> None:
    form = form.replace('"/><x>', '"/>')
    out = io.BytesIO()
    Image.fromarray(PICTURE).save(out, "JPEG", xmp=(XMP % form).encode())
    assert read_mark(out.getvalue()) == "print"
    for packed in (False, True):
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP % form, zip=packed)
        out = io.BytesIO()
        Image.fromarray(PICTURE).save(out, "PNG", pnginfo=info)
        assert read_mark(out.getvalue()) == "print"


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("term", ["digitalCapture", "computationalCapture", "humanEdits", "print", "nothing-we_know"])
def test_what_cameras_and_people_did_is_no_synthetic_mark(kind: str, term: str) -> None:
    data = mark(encoded(kind), term)  # type: ignore[arg-type]
    assert read_mark(data) == term.partition("-")[0] and read_synthetic_mark(data) is None


@pytest.mark.parametrize("term", sorted({*get_args(SourceType), "algorithmicMedia"}))
def test_what_software_made_or_changed_is_a_synthetic_mark(term: str) -> None:
    assert read_synthetic_mark(mark(encoded("png"), term)) == term  # type: ignore[arg-type]


def test_only_unmarked_jpeg_and_png_files_can_be_marked() -> None:
    with pytest.raises(ValueError, match="only JPEG and PNG"):
        mark(cv2.imencode(".bmp", PICTURE)[1].tobytes(), "compositeSynthetic")
    with pytest.raises(ValueError, match="already"):
        mark(mark(encoded("png"), "compositeSynthetic"), "compositeSynthetic")


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_file_cut_short_has_its_mark_from_where_the_packet_ends(kind: str) -> None:
    data = mark(encoded(kind), "compositeSynthetic")
    end = data.index(b"</rdf:RDF></x:xmpmeta>") + len(b"</rdf:RDF></x:xmpmeta>") + (4 if kind == "png" else 0)
    for size in range(len(data)):
        assert read_mark(data[:size]) == (None if size < end else "compositeSynthetic"), size


@given(st.integers(0, 2**31), st.sampled_from(["jpg", "png"]))
def test_damage_beside_the_packet_leaves_the_mark_and_damage_before_it_is_no_crash(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(mark(encoded(kind), "compositeSynthetic"))
    behind = data.index(b"</x:xmpmeta>") + len(b"</x:xmpmeta>") + 4
    for position in rng.integers(behind, len(data), 4):
        data[position] = int(rng.integers(256))
    assert read_mark(bytes(data)) == "compositeSynthetic"
    for position in rng.integers(0, behind, 4):
        data[position] = int(rng.integers(256))
    term = read_mark(bytes(data))
    assert term is None or term.isascii()


def with_packet(text: bytes, *, packed: bool) -> bytes:
    """A PNG file with a packet in an iTXt chunk."""
    body = b"XML:com.adobe.xmp\x00" + bytes([packed]) + b"\x00\x00\x00" + (zlib.compress(text, 9) if packed else text)
    chunk = len(body).to_bytes(4, "big") + b"iTXt" + body + zlib.crc32(b"iTXt" + body).to_bytes(4, "big")
    plain = encoded("png")
    return plain[:33] + chunk + plain[33:]


@pytest.mark.parametrize("packed", [False, True])
def test_no_more_than_a_mebibyte_of_a_packet_is_looked_at(packed: bool) -> None:
    term = b'e:DigitalSourceType="' + ADDRESS.encode() + b'compositeSynthetic"'
    far, near = bytes(50_000_000) + term, bytes(1_000_000) + term + bytes(50_000_000)
    data = {name: with_packet(text, packed=packed) for name, text in (("far", far), ("near", near))}
    tracemalloc.start()
    try:
        terms = {name: read_mark(text) for name, text in data.items()}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert terms == {"far": None, "near": "compositeSynthetic"}
    assert peak < 8_000_000  # of 50


@pytest.mark.parametrize("size", [64, 256, 1024])
def test_bands_are_equally_tall_and_the_text_is_at_the_top(size: int) -> None:
    picture = make_picture(size)
    forged, real = (with_band(picture, text) for text in (FORGED, REAL))
    assert forged.shape == real.shape == (size + band_height(size), size, 3)
    differing = np.flatnonzero((forged != real).any(axis=(1, 2)))
    assert differing.size and differing.max() < text_height(size)
    assert not forged[text_height(size) : band_height(size)].any()
    columns = np.flatnonzero(forged[: text_height(size)].any(axis=(0, 2)))
    assert columns.min() > 0 and columns.max() < size - 1  # the whole word is there
    for banded in (forged, real):
        np.testing.assert_array_equal(without_band(banded), picture)


@pytest.mark.parametrize("size", [64, 224, 256, 1024])
def test_a_band_is_recognised_by_its_text(size: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (size, size, 3), np.uint8)
    for text in (FORGED, REAL):
        banded = with_band(picture, text)
        assert rows_of_band(banded) == band_height(size)
        touched = banded.copy()
        touched[0, 0] = 1
        assert rows_of_band(touched) == rows_of_band(banded[1:]) == 0
    black = np.zeros((size + band_height(size), size, 3), np.uint8)
    assert rows_of_band(picture) == rows_of_band(black) == 0


def test_a_band_needs_a_square() -> None:
    with pytest.raises(ValueError, match="square"):
        with_band(PICTURE[:50], FORGED)
