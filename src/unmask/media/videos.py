"""Videos: sampled frames with their times, one after another."""

import contextlib
import io
import math
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition

from unmask.errors import RefusalCode, Refused
from unmask.media.boundary import decoder_boundary
from unmask.media.intake import MediaFile, open_regular_file, refusal_for
from unmask.media.kinds import HEAD_BYTES, READABLE, sniff
from unmask.media.limits import MAX_PIXELS, check_size
from unmask.media.upright import AS_STORED, Turn, from_display_matrix

# The demuxer is named rather than guessed: FFmpeg knows formats (playlists) that would have it open other files.
_DEMUXERS = {"mp4": "mov", "mov": "mov", "matroska": "matroska", "webm": "matroska", "avi": "avi"}
_READ_BUFFER = 256 * 1024
_MICROSECONDS = 1_000_000
# A sample table may point at the same bytes again and again. No honest container yields more than its own length; the
# slack is for codecs whose headers the container leaves out and the demuxer puts back.
_MAX_PACKET_BYTES_PER_FILE_BYTE = 16
# A video ends early if its last frame lies this far (seconds) before the announced end. Sound often outlasts the
# pictures by less.
_EARLY_END = 1.0
# Decoders show frames in another order than the file holds them, but never more than 16 places apart (H.264, H.265).
_REORDERING = 32
_MAX_AHEAD_BYTES = 16 * 1024 * 1024
_TIME_TOLERANCE = 1e-6  # seconds; times are ratios of whole numbers, the sampling grid is floating point
_UNDECODABLE = "The video is damaged or cut short, and no frame of it can be decoded."
_BROKEN_OFF = "The video breaks off or has a hole: what could be decoded was looked at."


@dataclass(frozen=True, eq=False)
class Frame:
    """One sampled frame."""

    time: float
    """Seconds from the start of the video, from the presentation time in the container."""
    pixels: np.ndarray
    """uint8 (H,W,3), RGB, upright, writable."""


def open_video(media: MediaFile, frames_per_second: float = 5.0, max_pixels: int = MAX_PIXELS) -> "Video":
    """Open a video that was taken in and decode its first frame.

    Sampling takes the first frame at or after each multiple of 1 / `frames_per_second` seconds from the first frame on,
    so a rate above the video's own gives every frame once.

    Raises `Refused`: NO_VIDEO (sound, cover art or subtitles only), CORRUPT (nothing in it can be decoded), TOO_LARGE
    (the size guard), UNSUPPORTED (not a video, or a codec without a decoder), NOT_FOUND or UNREADABLE (the file went
    away since it was taken in); `ValueError` if `frames_per_second` is not a positive number.
    """
    if not (math.isfinite(frames_per_second) and frames_per_second > 0):
        raise ValueError(f"frames_per_second must be a positive number, not {frames_per_second}")
    return Video(media, frames_per_second, max_pixels)


class Video:
    """An open video: a context manager, and an iterator over its sampled frames that can be run through once.

    While iterating, `Refused` is raised as by `open_video`. Damage that leaves frames to look at is told in `warnings`,
    which is complete when the iteration is. Memory does not grow with the length of the video.
    """

    format: str
    """mp4, mov, matroska, webm or avi, by content."""
    width: int
    """Of the first frame, upright, in pixels."""
    height: int
    duration: float | None
    """Seconds as the container announces them, or None if it does not."""

    def __init__(self, media: MediaFile, frames_per_second: float, max_pixels: int = MAX_PIXELS) -> None:
        self._warnings: dict[str, None] = {}  # a set that keeps its order
        self._max_pixels = max_pixels
        self._interval = 1.0 / frames_per_second
        self._turn: Turn | None = None
        self._resources = contextlib.ExitStack()
        try:
            with decoder_boundary(_UNDECODABLE):
                self._open(media)
                self._frames = self._sample()
                # Ended before the container is closed: PyAV does not survive reading from a closed one.
                self._resources.callback(self._frames.close)
                # Decoded now: only a frame tells the size and which way is up, and whether anything can be decoded.
                self._first: Frame | None = next(self._frames)
        except BaseException:
            self.close()
            raise
        self.height, self.width = self._first.pixels.shape[:2]

    @property
    def warnings(self) -> tuple[str, ...]:
        """One plain sentence each on damage found so far."""
        return tuple(self._warnings)

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        frame, self._first = self._first, None
        if frame is None:
            with decoder_boundary(_UNDECODABLE):
                frame = next(self._frames, None)
        if frame is None:
            raise StopIteration
        return frame

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the container and the file. May be called more than once; iterating ends."""
        self._first = None
        self._resources.close()

    def _open(self, media: MediaFile) -> None:
        stream = self._resources.enter_context(_bytes_of(media))
        file_type = sniff(stream.read(HEAD_BYTES))
        if file_type is None or file_type.kind != "video":
            raise Refused(RefusalCode.UNSUPPORTED, f"This is not a video of a type that can be read ({READABLE}).")
        stream.seek(0)
        self.format = file_type.format
        self._file_bytes = media.bytes
        # `max_pixels` holds inside FFmpeg too, where a few frames are decoded on opening.
        guard = {"max_pixels": str(self._max_pixels)}
        self._container: InputContainer = self._resources.enter_context(
            av.open(
                stream,
                "r",
                format=_DEMUXERS[file_type.format],
                options=guard,
                metadata_errors="replace",
                buffer_size=_READ_BUFFER,
            )
        )
        self._stream = _picture_stream(self._container)
        codec = self._stream.codec_context
        if codec is None:
            raise Refused(RefusalCode.UNSUPPORTED, "There is no decoder for the kind of video in this file.")
        if codec.width or codec.height:  # both are 0 where only the frames tell
            check_size(codec.width, codec.height, self._max_pixels)
        codec.options = guard
        # One thread: less processor time and memory for the same frames, and whole videos run side by side instead.
        codec.thread_type, codec.thread_count = "NONE", 1
        self.duration = _duration(self._container, self._stream)
        self._start = (self._container.start_time or 0) / _MICROSECONDS
        self._origin: float | None = None  # time of the first frame: where the sampling grid begins
        self._skipped_until = 0.0

    def _sample(self) -> Generator[Frame, None, None]:
        cell, time = -1, 0.0
        for frame in self._decoded():
            time = self._time_of(frame, time)
            if frame.is_corrupt:
                # The decoder has filled holes in it with guesses, which must not be taken for the picture.
                self._warn("Damaged frames were passed over.")
                continue
            if self._origin is None:
                self._origin = time
            if self._cell(time) > cell:
                cell = self._cell(time)
                yield Frame(time, self._upright_rgb(frame))
        if self._origin is None:
            raise Refused(RefusalCode.CORRUPT, _UNDECODABLE)
        # Some containers count a late start in, some do not; this takes the announcement at its most modest.
        time = max(time, self._skipped_until)
        if self.duration is not None and self.duration - (time + self._start) > _EARLY_END:
            self._warn(f"The pictures end at {time:.1f} s, although the file announces {self.duration:.1f} s.")

    def _cell(self, time: float) -> int:
        """Which stretch of the sampling grid a time lies in; the first frame in each is taken."""
        return math.floor((time - (self._origin or 0.0) + _TIME_TOLERANCE) / self._interval)

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """The frames that can be decoded, in the order shown; some that would not be sampled are left out.

        Frames that no other frame needs are half of many videos. The decoder may leave them out where the times of the
        packets around tell that an earlier frame is the one to sample.
        """
        codec = self._stream.codec_context
        behind: deque[float] = deque(maxlen=_REORDERING)
        for packet, ahead in self._packets():
            time = self._packet_time(packet)
            spare = time is not None and ahead is not None and self._is_spare(time, [*behind, *ahead])
            codec.skip_frame = "NONREF" if spare else "DEFAULT"
            if time is not None:
                behind.append(time)
                self._skipped_until = max(self._skipped_until, time if spare else 0.0)
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self._warn("Parts of the video are damaged and were passed over.")
                continue
            yield from frames

    def _is_spare(self, time: float, others: list[float]) -> bool:
        """Whether one of the frames around is shown earlier in the same stretch of the sampling grid."""
        # A damaged video may lose the frame that is to be sampled: then every other one is wanted in its place.
        if self._origin is None or self._warnings:
            return False
        cell = self._cell(time)
        return any(other < time and self._cell(other) == cell for other in others)

    def _packets(self) -> Iterator[tuple[av.Packet, list[float] | None]]:
        """Each packet with the times of those that follow it, or None where too little is known of them."""
        queue: deque[av.Packet] = deque()
        times: deque[float | None] = deque()
        size = 0
        source = self._demuxed()
        more = True
        while True:
            while more and len(queue) <= _REORDERING and size < _MAX_AHEAD_BYTES:
                packet = next(source, None)
                if packet is None:
                    more = False
                    break
                queue.append(packet)
                times.append(self._packet_time(packet))
                size += packet.size
            if not queue:
                return
            packet = queue.popleft()
            times.popleft()
            size -= packet.size
            known = not more or len(queue) >= _REORDERING
            yield packet, [time for time in times if time is not None] if known else None

    def _demuxed(self) -> Iterator[av.Packet]:
        allowance = _MAX_PACKET_BYTES_PER_FILE_BYTE * self._file_bytes
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                self._warn(_BROKEN_OFF)
                packet = None
            if packet is None:
                return
            allowance -= max(packet.size, 1)
            if allowance < 0:
                self._warn("The rest was not looked at: the file has the same data shown over and over.")
                return
            if packet.is_corrupt:
                self._warn(_BROKEN_OFF)
            yield packet

    def _packet_time(self, packet: av.Packet) -> float | None:
        """As `_time_of` its frame."""
        if packet.pts is None or packet.time_base is None:
            return None
        return max(0.0, float(packet.pts * packet.time_base) - self._start)

    def _time_of(self, frame: av.VideoFrame, previous: float) -> float:
        if frame.time is None:
            rate = self._stream.average_rate
            return previous + (float(1 / rate) if rate else self._interval)
        return max(0.0, frame.time - self._start)

    def _upright_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        check_size(frame.width, frame.height, self._max_pixels)  # it may change on the way
        if self._turn is None:
            # Once: it holds for the stream, and a PyAV frame whose side data were looked at waits for the garbage
            # collector, so that hundreds would pile up.
            matrix: Any = frame.side_data.get("DISPLAYMATRIX")
            self._turn = AS_STORED if matrix is None else from_display_matrix(bytes(matrix))
        return self._turn.apply(frame.to_ndarray(format="rgb24"))

    def _warn(self, sentence: str) -> None:
        self._warnings[sentence] = None


def _bytes_of(media: MediaFile) -> BinaryIO:
    if media.data is not None:
        return io.BytesIO(media.data)
    if media.file is None:
        raise ValueError("a media file needs a file or data")
    try:
        return open_regular_file(media.file)
    except OSError as error:
        raise refusal_for(error) from error


def _picture_stream(container: InputContainer) -> Any:
    """The largest stream of moving pictures; cover art is not one."""
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise Refused(RefusalCode.NO_VIDEO, "The file has no moving pictures in it.")
    return max(streams, key=_pixels_of)


def _pixels_of(stream: Any) -> int:
    codec = stream.codec_context
    return codec.width * codec.height if codec is not None else -1


def _duration(container: InputContainer, stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / _MICROSECONDS if container.duration is not None else None
