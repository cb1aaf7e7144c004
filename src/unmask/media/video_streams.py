"""The tracks of a video file: which of them a player shows, and what decodes it."""

from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.stream import Disposition

from unmask.errors import RefusalCode, Refused
from unmask.media.limits import check_size
from unmask.media.video_crop import Margins, read_margins

# The demuxer is named rather than guessed: FFmpeg knows formats (playlists) that would have it open other files.
_DEMUXERS = {
    "mp4": "mov",
    "mov": "mov",
    "matroska": "matroska",
    "webm": "matroska",
    "avi": "avi",
    "mpegts": "mpegts",
    "mpegps": "mpeg",
    "mxf": "mxf",
    "flv": "flv",
    "asf": "asf",
    "ogg": "ogg",
}
LEAPING_CLOCKS = frozenset({"mpegts", "mpegps"})
"""Formats made for broadcast and disc, where the clock may leap or start anew at every splice."""
UNTIMED = frozenset({"avi"})
"""Formats that hold no presentation times."""
_READ_BUFFER = 256 * 1024
# The index of an AVI file may lead to any place, any number of times; the pictures lie one after the other anyway.
_READ_FROM_FRONT = frozenset({"avi"})
_MICROSECONDS = 1_000_000
_NOT_MOVING = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
# FFmpeg's own decoders pass over the opacity of these; the reference decoders do not.
_DECODERS_WITH_OPACITY = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def open_container(stream: BinaryIO, file_format: str, max_pixels: int) -> InputContainer:
    """Open a file of `file_format` (as `kinds.sniff` names it); the caller closes it."""
    return av.open(
        _Pipe(stream) if file_format in _READ_FROM_FRONT else stream,
        "r",
        format=_DEMUXERS[file_format],
        options=_guard(max_pixels),
        metadata_errors="replace",
        buffer_size=_READ_BUFFER,
    )


class _Pipe:
    """A file that can only be read from front to back."""

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read


def moving_pictures(container: InputContainer) -> list[Any]:
    """The tracks of moving pictures, in the order in which a player would choose them.

    First those that the file marks as default, each group in the file's order. Cover art, stills and thumbnails are no
    moving pictures.

    Raises:
        Refused: NO_VIDEO, if there are none.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & _NOT_MOVING]
    if not streams:
        raise Refused(RefusalCode.NO_VIDEO, "The file has no moving pictures in it.")
    return sorted(streams, key=lambda stream: not stream.disposition & Disposition.default)


def decoder_for(stream: Any, max_pixels: int) -> Any:
    """The codec context that decodes `stream`, set up.

    Raises:
        Refused: UNSUPPORTED, if there is no decoder; TOO_LARGE by the size guard, CORRUPT if there is no size.
    """
    codec = stream.codec_context
    if codec is None:
        raise Refused(RefusalCode.UNSUPPORTED, "There is no decoder for the kind of video in this file.")
    if codec.width or codec.height:  # both are 0 where only the frames tell
        check_size(codec.width, codec.height, max_pixels)
    if (
        stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1"
        and codec.name in _DECODERS_WITH_OPACITY
    ):
        codec = av.CodecContext.create(_DECODERS_WITH_OPACITY[codec.name], "r")
    codec.options = _guard(max_pixels)
    # One thread: less processor time and memory for the same frames, and whole videos run side by side instead.
    codec.thread_type, codec.thread_count = "NONE", 1
    return codec


def margins_of(container: InputContainer, stream: Any, data: BinaryIO, file_format: str) -> Margins | None:
    """What the container says is not to be shown of the pictures of `stream`; `data` is the file."""
    if file_format in ("mp4", "mov"):
        return read_margins(data, file_format, stream.id)
    place = sum(
        other.index < stream.index and not other.disposition & Disposition.attached_pic
        for other in container.streams.video
    )
    return read_margins(data, file_format, place)


def announced_duration(container: InputContainer, stream: Any) -> float | None:
    """How long the track lasts by the container's account, seconds, or None if that says nothing sensible."""
    own, whole = _lengths(container, stream)
    return whole if own is None else own


def announced_end(container: InputContainer, stream: Any) -> float | None:
    """When the last of `stream` may be shown by the container's account, seconds from its start, or None."""
    return max((length for length in _lengths(container, stream) if length is not None), default=None)


def _lengths(container: InputContainer, stream: Any) -> tuple[float | None, float | None]:
    """Of the track and of the whole container, seconds."""
    own = whole = None
    if stream.duration is not None and stream.time_base is not None:
        own = float(stream.duration * stream.time_base)
    if container.duration is not None:
        whole = container.duration / _MICROSECONDS
    return own if own is None or own > 0 else None, whole if whole is None or whole > 0 else None


def start_of(container: InputContainer) -> float:
    """Where the container's clock begins, seconds."""
    return (container.start_time or 0) / _MICROSECONDS


def size_in_words(stream: Any) -> str:
    """The size of a track's pictures."""
    codec = stream.codec_context
    return f"{codec.width} x {codec.height}" if codec is not None and codec.width else "unknown size"


def _guard(max_pixels: int) -> dict[str, str]:
    """`max_pixels` holds inside FFmpeg too, where a few frames are decoded on opening."""
    return {"max_pixels": str(max_pixels)}
