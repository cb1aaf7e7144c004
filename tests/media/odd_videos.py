"""Videos that say odd things of themselves, made on the spot."""

import io
import struct
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_CLUSTER = b"\x1f\x43\xb6\x75"
TICKS = 1000  # a second, where stamps are set by hand


def grey(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Frame `index`, which `number_of` tells again."""
    return np.full((height, width, 3), 20 + 4 * (index % 50), np.uint8)


def number_of(pixels: np.ndarray) -> int:
    return round((float(pixels.mean()) - 19) / 4)


def stamped(
    stamps: Sequence[float | None],
    container: str = "matroska",
    codec: str = "mjpeg",
    *,
    rate: int = 25,
    options: dict[str, str] | None = None,
) -> bytes:
    """A video whose frame i, `grey(i)`, bears the stamp `stamps[i]` (seconds)."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as output:
        track = output.add_stream(codec, rate=rate, options={"bf": "0"} | (options or {}))
        track.width, track.height, track.pix_fmt = 64, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        packets = []
        for number in range(len(stamps)):
            frame = av.VideoFrame.from_ndarray(grey(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            packets += track.encode(frame)
        packets += track.encode(None)
        numbers = [round(packet.pts * packet.time_base * rate) for packet in packets]
        written = [stamps[number] for number in numbers]
        last = -TICKS
        for order, packet in enumerate(packets):
            # Decoding times rise, and lie at or before the stamps from there on if that can be.
            last = max(last + 1, round(min((s for s in written[order:] if s is not None), default=0) * TICKS) - 200)
            stamp = written[order]
            packet.time_base = Fraction(1, TICKS)
            packet.pts = None if stamp is None else round(stamp * TICKS)
            packet.dts = last
            output.mux(packet)
    return stream.getvalue()


def restamped(data: bytes, stamps: Sequence[float]) -> bytes:
    """A Matroska file with other stamps on its blocks, in the file's order: seconds, up to 32 from what they were."""
    edited = bytearray(data)
    at = data.index(_CLUSTER)
    began = 0
    for stamp in stamps:
        while data[at] != 0xA3:  # until a block
            inside = data.startswith(_CLUSTER, at)
            size, start = _ebml_size(data, at + (4 if inside else 1))
            if data[at] == 0xE7:
                began = int.from_bytes(data[start : start + size], "big")
            at = start if inside else start + size
        size, start = _ebml_size(data, at + 1)
        edited[start + 1 : start + 3] = (round(stamp * TICKS) - began).to_bytes(2, "big", signed=True)
        at = start + size
    return bytes(edited)


def _ebml_size(data: bytes, at: int) -> tuple[int, int]:
    """The size of an EBML element that is written at `at`, and where its content begins."""
    length = 9 - data[at].bit_length()
    return int.from_bytes(data[at : at + length], "big") & (1 << 7 * length) - 1, at + length


def tracks(
    container: str, *descriptions: tuple[tuple[int, int], av.stream.Disposition, str], frames: int = 25
) -> bytes:
    """A file with one video track per description: size, disposition and codec; none in a track of codec "empty"."""
    with tempfile.NamedTemporaryFile() as file:
        with av.open(file.name, "w", format=container) as output:
            opened = []
            for size, disposition, codec in descriptions:
                track = output.add_stream("libx264" if codec == "empty" else codec, rate=25)
                track.width, track.height = size
                track.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                track.disposition = disposition
                opened.append((track, size, codec))
            for number in range(frames):
                for track, size, codec in opened:
                    if codec != "empty":
                        frame = av.VideoFrame.from_ndarray(grey(number, *size), format="rgb24")
                        frame.pts, frame.time_base = number, Fraction(1, 25)
                        output.mux(track.encode(frame))
            for track, _, codec in opened:
                if codec != "empty":
                    output.mux(track.encode(None))
        return Path(file.name).read_bytes()


def encrypted() -> bytes:
    """An MP4 file under Common Encryption (ISO/IEC 23001-7)."""
    protection = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    with tempfile.NamedTemporaryFile() as file:
        with av.open(file.name, "w", format="mp4", container_options=protection) as output:
            track = output.add_stream("libx264", rate=25)
            track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
            for number in range(25):
                output.mux(track.encode(av.VideoFrame.from_ndarray(grey(number), format="rgb24")))
            output.mux(track.encode(None))
        return Path(file.name).read_bytes()


def with_pixel_crop(data: bytes, left: int, right: int, top: int, bottom: int) -> bytes:
    """A Matroska file whose first track has margins that are not to be shown."""
    sides = zip((b"\x54\xaa", b"\x54\xbb", b"\x54\xcc", b"\x54\xdd"), (bottom, top, left, right), strict=True)
    return _described(data, to_video=b"".join(_ebml(name, value.to_bytes(2, "big")) for name, value in sides))


def with_key(data: bytes) -> bytes:
    """A Matroska file whose first track says that it is encrypted, and has its pictures destroyed."""
    cipher = _ebml(b"\x47\xe1", b"\5") + _ebml(b"\x47\xe2", b"a key")
    encoding = _ebml(b"\x50\x31", b"\0") + _ebml(b"\x50\x33", b"\1") + _ebml(b"\x50\x35", cipher)
    marked = bytearray(_described(data, to_track=_ebml(b"\x6d\x80", _ebml(b"\x62\x40", encoding))))
    start = marked.index(_CLUSTER) + 8
    marked[start:] = b"\x55" * (len(marked) - start)
    return bytes(marked)


def _described(data: bytes, to_track: bytes = b"", to_video: bytes = b"") -> bytes:
    """A Matroska file with more elements in the description of its first track."""
    tracks = data.index(
        b"\x16\x54\xae\x6b", data.index(b"\x16\x54\xae\x6b") + 4
    )  # the first is in the table of contents
    size, entry = _ebml_size(data, tracks + 4)
    end = entry + size
    entry += 6 if data[entry] == 0xBF else 0  # a checksum
    entry_size, inside = _ebml_size(data, entry + 1)
    video = inside
    while data[video] != 0xE0:
        length = next(length for length in range(1, 5) if data[video] & 0x80 >> length - 1)
        detail_size, start = _ebml_size(data, video + length)
        video = start + detail_size
    video_size, start = _ebml_size(data, video + 1)
    after = start + video_size
    new_video = _ebml(b"\xe0", data[start:after] + to_video)
    new_entry = _ebml(b"\xae", data[inside:video] + new_video + data[after : inside + entry_size] + to_track)
    new_tracks = _ebml(b"\x16\x54\xae\x6b", new_entry + data[inside + entry_size : end])
    segment = data.index(b"\x18\x53\x80\x67")
    before = data[_ebml_size(data, segment + 4)[1] : tracks]
    return data[:segment] + _ebml(b"\x18\x53\x80\x67", before + new_tracks + data[end:])


def _ebml(name: bytes, content: bytes) -> bytes:
    return name + (len(content) | 1 << 56).to_bytes(8, "big") + content


def with_clean_aperture(data: bytes, width: int, height: int, right: int, down: int) -> bytes:
    """An MP4 file, H.264, its index at its end, of which a part is to be shown: its size, and its middle's offset."""
    box = struct.pack(">I4s8i", 40, b"clap", width, 1, height, 1, right, 1, down, 1)
    entry = data.index(b"avc1", data.index(b"stsd"))
    end = entry - 4 + int.from_bytes(data[entry - 4 : entry], "big")
    edited = bytearray(data[:end] + box + data[end:])
    for name in (b"avc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        at = data.rindex(name, 0, entry + 4) - 4
        edited[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + len(box)).to_bytes(4, "big")
    return bytes(edited)
