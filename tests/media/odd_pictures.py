"""Pictures as other programs write them, made on the spot: odd samples, several pictures in a file, broken metadata."""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from media_samples import saved, scene
from PIL import Image

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
Tags = dict[int, tuple[int, Sequence[int] | bytes]]


@dataclass
class Page:
    """One image of a TIFF file: its entries (type and values by tag), its strips, and images below it."""

    tags: Tags
    strips: list[bytes]
    below: list["Page"] = field(default_factory=list)


def page(
    samples: np.ndarray, *, order: str = "<", photometric: int | None = None, planar: bool = False, **extra: int
) -> Page:
    """A page of the samples of an array, (H,W) or (H,W,C), as they are; `extra` are SHORT entries t254=1 by number."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    bits = samples.itemsize * 8
    formats = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    layers = [samples[..., channel] for channel in range(channels)] if planar else [samples]
    strips = [layer.astype(samples.dtype.newbyteorder(order)).tobytes() for layer in layers]
    tags: Tags = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits] * channels),
        259: (SHORT, [1]),
        262: (SHORT, [(2 if channels >= 3 else 1) if photometric is None else photometric]),
        277: (SHORT, [channels]),
        278: (LONG, [height]),
        284: (SHORT, [2 if planar else 1]),
        339: (SHORT, [formats] * channels),
    }
    tags |= {int(name[1:]): (SHORT, [value]) for name, value in extra.items()}
    return Page(tags, strips)


def packed_page(samples: np.ndarray, bits: int, photometric: int = 1) -> Page:
    """A grey page of 1, 2, 4 or 12 bits a sample, each row filled up to whole bytes."""
    places = np.arange(bits - 1, -1, -1)
    rows = (samples.astype(np.uint16)[..., None] >> places & 1).reshape(len(samples), -1).astype(np.uint8)
    made = page(samples.astype(np.uint8), photometric=photometric)
    made.tags[258] = (SHORT, [bits])
    made.strips = [np.packbits(rows, axis=1).tobytes()]
    return made


def deflated(made: Page) -> Page:
    """The same page, compressed."""
    made.tags[259] = (SHORT, [8])
    made.strips = [zlib.compress(strip) for strip in made.strips]
    return made


def tiff(*pages: Page, order: str = "<") -> bytes:
    """A TIFF file of pages one after another."""
    data = bytearray((b"MM\0*" if order == ">" else b"II*\0") + bytes(4))
    link = 4
    for made in pages:
        offset, link_after = _write_page(data, made, order)
        struct.pack_into(order + "I", data, link, offset)
        link = link_after
    return bytes(data)


def _write_page(data: bytearray, made: Page, order: str) -> tuple[int, int]:
    places = []
    for strip in made.strips:
        data += bytes(len(data) % 2)
        places.append(len(data))
        data += strip
    tags = dict(made.tags)
    tags.setdefault(273, (LONG, places))
    tags.setdefault(279, (LONG, [len(strip) for strip in made.strips]))
    if made.below:
        tags[330] = (LONG, [_write_page(data, below, order)[0] for below in made.below])
    entries = b""
    for tag, (kind, values) in sorted(tags.items()):
        if isinstance(values, bytes):
            raw, count = values, len(values) // (8 if kind == RATIONAL else 1)
        else:
            raw, count = struct.pack(f"{order}{len(values)}{'BBHI'[kind - 1]}", *values), len(values)
        if len(raw) > 4:
            data += bytes(len(data) % 2)
            place = struct.pack(order + "I", len(data))
            data += raw
            raw = place
        entries += struct.pack(order + "HHI", tag, kind, count) + raw.ljust(4, b"\0")
    data += bytes(len(data) % 2)
    offset = len(data)
    data += struct.pack(order + "H", len(entries) // 12) + entries + bytes(4)
    return offset, len(data) - 4


def png_chunk(name: bytes, body: bytes, *, good: bool = True) -> bytes:
    checksum = zlib.crc32(name + body) ^ (0 if good else 1)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def png(samples: np.ndarray, bits: int, colour: int, *chunks: bytes, interlace: int = 0) -> bytes:
    """A PNG of samples (H,W) or (H,W,C) below 2 ** `bits`; `chunks` stand before the pixels."""
    height, width = samples.shape[:2]
    if bits == 16:
        rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    elif bits == 8:
        rows = samples.astype(np.uint8).reshape(height, -1)
    else:
        unpacked = samples.astype(np.uint8)[..., None] >> np.arange(bits - 1, -1, -1) & 1
        rows = np.packbits(unpacked.reshape(height, -1), axis=1)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    pixels = zlib.compress(np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes())
    parts = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_with(data: bytes, *chunks: bytes) -> bytes:
    """A PNG with chunks put in behind its header."""
    return data[:33] + b"".join(chunks) + data[33:]


def jpeg_with(data: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with segments (marker and content) put in at its beginning."""
    parts = [bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments]
    return data[:2] + b"".join(parts) + data[2:]


def webp_with(data: bytes, *chunks: tuple[bytes, bytes], flags: int | None = None) -> bytes:
    """A WebP picture in the extended layout with chunks at its end, and the flags of its header as given."""
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = webp_chunk(b"VP8X", bytes([flags or 0, 0, 0, 0]) + size) + data[12:]
    body += b"".join(webp_chunk(name, content) for name, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def webp_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def bmp(
    rows: bytes,
    width: int,
    height: int,
    bits: int,
    *,
    compression: int = 0,
    masks: Sequence[int] = (),
    palette: bytes = b"",
    header: int = 40,
    colours: int = 0,
) -> bytes:
    """A BMP file of packed rows; a negative height is for rows from top to bottom."""
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(rows), 0, 0, colours, 0)
        info += struct.pack(f"<{len(masks)}I", *masks)
        info = info.ljust(header, b"\0")
    offset = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + info + palette + rows


def exif(*entries: tuple[int, int, int, int], order: str = "<", following: int = 0, count: int | None = None) -> bytes:
    """EXIF data of one directory: tag, type, count and the four bytes of the value as a number."""
    body = b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", 8)
    return (
        head + struct.pack(order + "H", len(entries) if count is None else count) + body + struct.pack("<I", following)
    )


def hevc_picture(pixels: np.ndarray) -> tuple[bytes, bytes]:
    """One picture as HEVC: the decoder's configuration record (box hvcC), and the slices with their lengths before."""
    height, width = pixels.shape[:2]
    encoder = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv444p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"x265-params": "qp=4:keyint=1:log-level=none", "preset": "ultrafast"}
    planes = np.asarray(Image.fromarray(pixels).convert("YCbCr"))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.moveaxis(planes, 2, 0)), "yuv444p")
    packets = [bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]]
    units = [unit.rstrip(b"\0") for unit in b"".join(packets).split(b"\0\0\1") if unit.strip(b"\0")]
    by_kind: dict[int, list[bytes]] = {}
    for unit in units:
        by_kind.setdefault(unit[0] >> 1 & 63, []).append(unit)
    arrays = b"".join(
        struct.pack(">BHH", 0x80 | kind, 1, len(by_kind[kind][0])) + by_kind[kind][0] for kind in (32, 33, 34)
    )
    profile = by_kind[33][0].replace(b"\0\0\3", b"\0\0")[3:15]
    record = b"\1" + profile + b"\xf0\0\xfc\xff\xf8\xf8\0\0\x0f\3" + arrays
    slices = b"".join(struct.pack(">I", len(unit)) + unit for kind in (19, 20) for unit in by_kind.get(kind, []))
    return record, slices


def box(name: bytes, *content: bytes, version: int | None = None, flags: int = 0) -> bytes:
    body = (b"" if version is None else struct.pack(">I", version << 24 | flags)) + b"".join(content)
    return struct.pack(">I", len(body) + 8) + name + body


def nclx(primaries: int, transfer: int) -> bytes:
    """What the numbers mean, as a box of HEIF: colours after ITU-T H.273, the matrix of JPEG, full range."""
    return box(b"colr", b"nclx", struct.pack(">HHHB", primaries, transfer, 6, 0x80))


def heic(
    *pictures: np.ndarray,
    primary: int = 0,
    properties: Sequence[bytes] = (),
    metadata: bytes = b"",
    major: bytes = b"heic",
    item: bytes = b"hvc1",
) -> bytes:
    """A HEIC file of pictures (H,W,3); `properties` (boxes) belong to each, `metadata` becomes an EXIF item."""
    coded = [hevc_picture(pixels) for pixels in pictures]
    kinds = [item] * len(coded) + ([b"Exif"] if metadata else [])
    bodies = [slices for _, slices in coded] + ([metadata] if metadata else [])
    boxes: list[bytes] = []
    owned: list[list[int]] = []
    for pixels, (record, _) in zip(pictures, coded, strict=True):
        own = [box(b"hvcC", record), box(b"ispe", struct.pack(">II", *pixels.shape[1::-1]), version=0)]
        own += [*properties, nclx(1, 13)] if all(kept[4:12] != b"colrnclx" for kept in properties) else properties
        owned.append([len(boxes) + 1 + number for number in range(len(own))])
        boxes += own
    association = struct.pack(">I", len(owned)) + b"".join(
        struct.pack(">HB", number + 1, len(own)) + bytes(0x80 | index for index in own)
        for number, own in enumerate(owned)
    )
    entries = b"".join(
        box(b"infe", struct.pack(">HH", number + 1, 0), kind, b"\0", version=2) for number, kind in enumerate(kinds)
    )

    def meta(start: int) -> bytes:
        places = b""
        for number, body in enumerate(bodies):
            places += struct.pack(">HHHII", number + 1, 0, 1, start, len(body))
            start += len(body)
        return box(
            b"meta",
            box(b"hdlr", bytes(4), b"pict", bytes(13), version=0),
            box(b"pitm", struct.pack(">H", primary + 1), version=0),
            box(b"iloc", b"\x44\0", struct.pack(">H", len(bodies)), places, version=0),
            box(b"iinf", struct.pack(">H", len(kinds)), entries, version=0),
            box(b"iprp", box(b"ipco", *boxes), box(b"ipma", association, version=0)),
            *([box(b"iref", box(b"cdsc", struct.pack(">HHH", len(kinds), 1, 1)), version=0)] if metadata else []),
            version=0,
        )

    head = box(b"ftyp", major, bytes(4), b"mif1", b"heic")
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", *bodies)


DISPLAY_P3 = {
    b"rXYZ": (0.51512, 0.2412, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.1571, 0.06657, 0.78407),
}


def display_p3() -> bytes:
    """A colour profile of the primaries of Display P3, version 2, written from the numbers."""
    return icc_profile(DISPLAY_P3)


def icc_profile(
    primaries: dict[bytes, tuple[float, float, float]], gamma: float = 2.2, transfer: int | None = None
) -> bytes:
    """A matrix profile of these primaries (relative to D50) and a gamma, perhaps with a transfer by number."""

    def numbers(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    name = b"desc" + bytes(4) + struct.pack(">I", 5) + b"Test\0" + bytes(78)
    tags = {name: b"XYZ " + bytes(4) + numbers(*values) for name, values in primaries.items()}
    tags |= {
        b"wtpt": b"XYZ " + bytes(4) + numbers(0.9642, 1, 0.8249),
        b"desc": name,
        b"cprt": b"text" + bytes(4) + b"none\0",
    }
    if transfer is not None:
        tags[b"cicp"] = b"cicp" + bytes([0, 0, 0, 0, 9, transfer, 0, 1])
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, bodies = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for tag, body in tags.items():
        body += bytes(-len(body) % 4)
        table += tag + struct.pack(">II", start + len(bodies), len(body))
        bodies += body
    size = start + len(bodies)
    header = struct.pack(">I", size) + bytes(4) + struct.pack(">I", 0x02100000) + b"mntrRGB XYZ "
    header += bytes(12) + b"acsp" + bytes(28) + numbers(0.9642, 1, 0.8249)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + bodies


def grey_scene() -> np.ndarray:
    """`scene` in grey, uint8 (H,W)."""
    return np.asarray(Image.fromarray(scene()).convert("L"))


def jpeg(quality: int = 95, **options: object) -> bytes:
    return saved(Image.fromarray(scene()), "JPEG", quality=quality, **options)


def bmp_rows(samples: np.ndarray) -> bytes:
    """The rows of an array from bottom to top, each filled up to whole words."""
    flipped = np.ascontiguousarray(samples[::-1])
    rows = flipped.astype(flipped.dtype.newbyteorder("<")).reshape(len(flipped), -1).view(np.uint8)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()


def collection() -> list[bytes]:
    """A file for each way in which a decoder may complain."""
    noise = np.random.default_rng(6).bytes(200)
    picture = Image.fromarray(scene())
    plain, grey = saved(picture, "PNG"), grey_scene()
    damaged = bytearray(jpeg())
    damaged[-60:-40] = noise[:20]
    arithmetic = bytearray(jpeg())
    arithmetic[arithmetic.index(b"\xff\xc0") + 1] = 0xC9
    small = page(scene()[::2, ::2].copy(), t254=1)
    small.below.append(page(scene()))
    spoilt = deflated(page(scene()))
    spoilt.strips = [noise]
    untidy = page(scene())
    untidy.tags |= {270: (ASCII, noise), 274: (SHORT, [9]), 34675: (UNDEFINED, noise), 65000: (UNDEFINED, noise)}
    return [
        jpeg(),
        bytes(damaged),
        bytes(arithmetic),
        jpeg()[:-200],
        jpeg_with(
            jpeg(), (0xE1, b"Exif\0\0" + noise), (0xE2, b"ICC_PROFILE\0\1\1" + noise), (0xED, noise), (0xEE, noise)
        ),
        jpeg_with(jpeg(), (0xE2, b"ICC_PROFILE\0\1\1" + display_p3())),
        png_with(plain, png_chunk(b"iCCP", noise), png_chunk(b"eXIf", noise), png_chunk(b"tEXt", noise, good=False)),
        plain[:-40],
        png(grey.astype(np.uint16) * 257, 16, 0),
        tiff(small),
        tiff(spoilt),
        tiff(untidy),
        tiff(deflated(untidy)),
        tiff(page(grey.astype(np.float32))),
        tiff(page(grey, photometric=32803)),
        tiff(page(scene(), t259=7)),
        tiff(page(scene(), t259=6)),
        tiff(packed_page(grey.astype(np.uint16) * 16, 12)),
        webp_with(saved(picture, "WEBP"), (b"EXIF", noise), (b"ICCP", noise), flags=0x2C),
        saved(picture, "WEBP")[:-100],
        saved(picture, "GIF")[:-300],
        saved(picture, "AVIF"),
        saved(picture, "AVIF")[:-200],
        heic(scene(192, 128), metadata=noise),
        heic(scene(192, 128))[:-300],
        heic(scene(192, 128), item=b"vvc1"),
        b"\xff\x0a" + noise,
        bmp(bmp_rows(scene()), 48, 32, 16, compression=3, masks=(0xF00, 0xF0, 0xF)),
        b"8BPS\0\1" + noise,
    ]
