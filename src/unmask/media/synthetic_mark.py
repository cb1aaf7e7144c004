"""Marks on made pictures: for people a band of text above the picture, for software the IPTC digital source type.

The band must not teach a detector to read. So forged and real pictures of a set get an equally tall one: black, with
"SYNTHETIC" or "ORIGINAL" (that is: not forged) in white in its upper third. It is put above a square picture, never
over it, and `forging.forge_set` places faces so that no crop about the face reaches the text; `without_band` takes it
off. (Above rather than below: in the aligned pictures of most collections the face lies a little below the middle.)

The source type stands in an XMP packet (an APP1 segment in JPEG, an iTXt chunk in PNG), unseen by decoders.
Terms and their definitions: http://cv.iptc.org/newscodes/digitalsourcetype
"""

import re
import zlib
from typing import Literal

import cv2
import numpy as np

from unmask.media import jpeg, png

SourceType = Literal[
    "trainedAlgorithmicMedia",  # created using generative AI
    "compositeWithTrainedAlgorithmicMedia",  # a part was changed using generative AI
    "compositeSynthetic",  # several elements, at least one of them synthetic
    "algorithmicallyEnhanced",  # altered by an algorithm, the main content being the same
]
FORGED, REAL = "SYNTHETIC", "ORIGINAL"
SYNTHETIC_TERMS = frozenset(
    {
        *("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "compositeSynthetic"),
        *("algorithmicallyEnhanced", "algorithmicMedia", "virtualRecording"),
    }
)
"""The terms by which software made or changed the picture; others, such as "digitalCapture", speak of cameras, scans
and people at work."""

_PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" Iptc4xmpExt:DigitalSourceType='
    b'"http://cv.iptc.org/newscodes/digitalsourcetype/%s"/></rdf:RDF></x:xmpmeta>'
)
_TERM = re.compile(rb"DigitalSourceType\b[^<]{0,80}?https?://cv\.iptc\.org/newscodes/digitalsourcetype/(\w{1,64})")
_JPEG, _JPEG_XMP = b"\xff\xd8", b"http://ns.adobe.com/xap/1.0/\x00"
_PNG, _PNG_XMP = b"\x89PNG\r\n\x1a\n", b"XML:com.adobe.xmp\x00"
_PNG_HEADER = len(_PNG) + 25  # the signature and the IHDR chunk, which must come first
_MOST = 1 << 20  # bytes of a packet that are looked at


def mark(encoded: bytes, source_type: SourceType) -> bytes:
    """The same picture file with the source type in an XMP packet.

    Args:
        encoded: a whole JPEG or PNG file without an XMP packet.
        source_type: the term, without its address.

    Raises:
        ValueError: it is neither, or carries a packet already.
    """
    if xmp_packet(encoded) is not None:
        raise ValueError("the file carries an XMP packet already; mark it once, when it is encoded")
    packet = _PACKET % source_type.encode()
    if encoded.startswith(_JPEG):
        segment = _JPEG_XMP + packet
        return encoded[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + encoded[2:]
    if encoded.startswith(_PNG):
        body = _PNG_XMP + b"\x00\x00\x00\x00" + packet  # not packed; no language, no translated keyword
        chunk = len(body).to_bytes(4, "big") + b"iTXt" + body + zlib.crc32(b"iTXt" + body).to_bytes(4, "big")
        return encoded[:_PNG_HEADER] + chunk + encoded[_PNG_HEADER:]
    raise ValueError("only JPEG and PNG files can be marked")


def read_mark(encoded: bytes) -> str | None:
    """The digital source type of a JPEG or PNG file, whoever wrote it, as a term without its address; None if none."""
    return source_type_of(xmp_packet(encoded) or b"")


def source_type_of(packet: bytes) -> str | None:
    """The digital source type in an XMP packet, as a term without its address; None if there is none."""
    term = _TERM.search(packet)
    return term[1].decode() if term else None


def read_synthetic_mark(encoded: bytes) -> str | None:
    """The digital source type of a JPEG or PNG file if it is one of `SYNTHETIC_TERMS`; else None."""
    term = read_mark(encoded)
    return term if term in SYNTHETIC_TERMS else None


def text_height(size: int) -> int:
    """Height in pixels of the part of the band, at its top, that holds the text."""
    return max(8, size // 16)


def band_height(size: int) -> int:
    """Height in pixels of the band above a picture of a width."""
    return 3 * text_height(size)


def with_band(pixels: np.ndarray, text: str) -> np.ndarray:
    """A picture uint8 (S, S, 3) with a band of text above it, uint8 (S + `band_height(S)`, S, 3).

    Raises:
        ValueError: the picture is not square.
    """
    height, width = pixels.shape[:2]
    if height != width:
        raise ValueError(f"the picture is to be square, not {width} x {height}")
    band = np.zeros((band_height(width), width, 3), np.uint8)
    (_, capital), _ = cv2.getTextSize("S", cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    room = text_height(width)
    scale = 0.6 * room / capital
    (across, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    where = ((width - across) // 2, (room + high) // 2)
    cv2.putText(band, text, where, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([band, pixels])


def without_band(pixels: np.ndarray) -> np.ndarray:
    """The square picture below the band."""
    return pixels[-pixels.shape[1] :]


def rows_of_band(pixels: np.ndarray) -> int:
    """Height in pixels of the band above a picture as `with_band` draws it; 0 where there is none.

    Args:
        pixels: uint8 (H, W, 3), decoded from a file without loss.
    """
    height, width = pixels.shape[:2]
    rows = height - width
    if width < 1 or rows != band_height(width):
        return 0
    blank = np.zeros((width, width, 3), np.uint8)
    known = (with_band(blank, text)[:rows] for text in (FORGED, REAL))
    return rows if any(np.array_equal(pixels[:rows], band) for band in known) else 0


def xmp_packet(encoded: bytes) -> bytes | None:
    """The beginning of the XMP packet of a JPEG or PNG file; what is cut short or neither has none."""
    if encoded.startswith(_JPEG):
        return _jpeg_xmp(encoded)
    return _png_xmp(encoded) if encoded.startswith(_PNG) else None


def _jpeg_xmp(encoded: bytes) -> bytes | None:
    for marker, start, end in jpeg.segments(encoded):
        if marker == 0xE1 and encoded.startswith(_JPEG_XMP, start + 4, end):
            return encoded[start + 4 + len(_JPEG_XMP) : end]
    return None


def _png_xmp(encoded: bytes) -> bytes | None:
    for chunk in png.chunks(encoded):
        start = chunk.start + 8 + len(_PNG_XMP)
        if chunk.name != b"iTXt" or not encoded.startswith(_PNG_XMP, chunk.start + 8, chunk.end - 4):
            continue
        head = encoded[start : min(start + _MOST, chunk.end - 4)]
        text = head[2:].split(b"\x00", 2)[-1]  # behind the language and the translated keyword
        if head[:1] != b"\x01":  # not packed
            return text
        try:
            return zlib.decompressobj().decompress(text, _MOST)
        except zlib.error:
            return None
    return None
