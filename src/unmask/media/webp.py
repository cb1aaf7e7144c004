"""What a WebP file says of itself around its pixels."""

from collections.abc import Iterator

_PIXELS = frozenset({b"ALPH", b"VP8 ", b"VP8L", b"ANIM", b"ANMF"})
_ANIMATION, _ALPHA = 0x02, 0x10


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk in order; one that is cut short by the end of the file is left out."""
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length > len(data):
            return
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)


def beyond_the_decoder(data: bytes) -> str | None:
    """A sentence if there are no pixels in it of a kind that is known."""
    if not any(name in data for name in _PIXELS):
        return "It is a WebP file without any picture of a kind that is known."
    return None


def without_metadata(data: bytes) -> bytes:
    """The same picture with nothing in it but what its pixels depend on."""
    kept = [(name, content) for name, content in chunks(data) if name in _PIXELS]
    names = {name for name, _ in kept}
    header = next((content for name, content in chunks(data) if name == b"VP8X"), b"")
    if len(header) >= 10 and names & {b"ALPH", b"ANMF"}:
        # Its flags tell what follows, and some of that has just gone.
        flags = (_ANIMATION if b"ANMF" in names else 0) | (header[0] & _ALPHA) | (_ALPHA if b"ALPH" in names else 0)
        kept.insert(0, (b"VP8X", bytes([flags, 0, 0, 0]) + header[4:10]))
    body = b"".join(
        name + len(content).to_bytes(4, "little") + content + bytes(len(content) & 1) for name, content in kept
    )
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


def exif(data: bytes) -> bytes | None:
    """The content of the EXIF chunk; some programs put a JPEG segment's name before it."""
    content = next((content for name, content in chunks(data) if name == b"EXIF"), None)
    return content.removeprefix(b"Exif\0\0") if content else None
