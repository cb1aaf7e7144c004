"""Videos: sampled frames with their times, one after another."""

import contextlib
import io
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import av
import numpy as np

from unmask.errors import RefusalCode, Refused
from unmask.media.boundary import decoder_boundary
from unmask.media.intake import MediaFile, open_regular_file, refusal_for
from unmask.media.kinds import HEAD_BYTES, READABLE, sniff
from unmask.media.limits import MAX_PIXELS
from unmask.media.video_crop import Margins
from unmask.media.video_picture import Screen, Shape
from unmask.media.video_streams import (
    LEAPING_CLOCKS,
    UNTIMED,
    announced_duration,
    announced_end,
    decoder_for,
    margins_of,
    moving_pictures,
    open_container,
    size_in_words,
    start_of,
)
from unmask.media.video_time import FrameClock, LookAhead, frame_stamp

# A sample table may point at the same bytes again and again. No honest container yields more than its own length; the
# slack is for codecs whose headers the container leaves out and the demuxer puts back.
_MAX_PACKET_BYTES_PER_FILE_BYTE = 16
# Each attempt at a track that cannot be decoded reads the whole file.
_MOST_TRACKS_TRIED = 4
# A video ends early if its last frame lies this far (seconds) before the announced end. Sound often outlasts the
# pictures by less.
_EARLY_END = 1.0
# Frames a second from which it is told how few are looked at: slow motion is stored with up to 240.
_DENSE = 250
_TIME_TOLERANCE = 1e-6  # seconds; times are ratios of whole numbers, the sampling grid is floating point
_UNDECODABLE = "The video is damaged or cut short, and no frame of it can be decoded."
_BROKEN_OFF = "The video breaks off or has a hole: what could be decoded was looked at."


@dataclass(frozen=True, eq=False)
class Frame:
    """One sampled frame."""

    time: float
    """Seconds from the start of the video, from the presentation time in the container where that is plausible. More
    than the last frame's."""
    pixels: np.ndarray
    """uint8 (H,W,3), RGB, as a viewer shows it: upright, of square pixels, not interlaced, of an ordinary range of
    light; writable."""


class _Timed(NamedTuple):
    """A decoded frame, not yet a picture."""

    time: float
    frame: av.VideoFrame
    shape: Shape


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

    Of several video tracks the one is looked at that players show: the first of those marked as default, or else the
    first; if it cannot be decoded, the next that can.

    While iterating, `Refused` is raised as by `open_video`. Damage that leaves frames to look at, what was not looked
    at and what had to be guessed are told in `warnings`, which is complete when the iteration is. Memory does not grow
    with the length of the video.
    """

    format: str
    """mp4, mov, matroska, webm, avi, mpegts, mpegps, mxf, flv, asf or ogg, by content."""
    width: int
    """Of the first frame as shown, in pixels."""
    height: int
    duration: float | None
    """Seconds as the container announces them, or None if it does not."""

    def __init__(self, media: MediaFile, frames_per_second: float, max_pixels: int = MAX_PIXELS) -> None:
        self._warnings: dict[str, None] = {}  # a set that keeps its order
        self._max_pixels = max_pixels
        self._interval = 1.0 / frames_per_second
        self._resources = contextlib.ExitStack()
        try:
            # Decoded now: only a frame tells the size and which way is up, and whether anything can be decoded.
            self._first: Frame | None = self._open(media)
        except BaseException:
            self.close()
            raise
        self.height, self.width = self._first.pixels.shape[:2]

    @property
    def warnings(self) -> tuple[str, ...]:
        """One plain sentence each on what was found so far."""
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

    def _open(self, media: MediaFile) -> Frame:
        """Open the first track that can be decoded; its first frame."""
        data = self._resources.enter_context(_bytes_of(media))
        file_type = sniff(data.read(HEAD_BYTES))
        if file_type is None or file_type.kind != "video":
            raise Refused(RefusalCode.UNSUPPORTED, f"This is not a video of a type that can be read ({READABLE}).")
        self.format = file_type.format
        self._file_bytes = media.bytes
        refusals: list[Refused] = []
        for attempt in range(_MOST_TRACKS_TRIED):
            data.seek(0)
            resources = contextlib.ExitStack()
            self._warnings.clear()
            try:
                with decoder_boundary(_UNDECODABLE):
                    container = resources.enter_context(open_container(data, self.format, self._max_pixels))
                    tracks = moving_pictures(container)
                    if attempt >= len(tracks):
                        resources.close()
                        break
                    self._start(container, tracks[attempt], margins_of(container, tracks[attempt], data, self.format))
                    frames = self._sample()
                    # Ended before the container is closed: PyAV does not survive reading from a closed one.
                    resources.callback(frames.close)
                    first = next(frames)
            except Refused as refused:
                resources.close()
                refusals.append(refused)
            except BaseException:
                resources.close()
                raise
            else:
                self._resources.push(resources)
                self._frames = frames
                self._tell_of_other_tracks(tracks, attempt)
                return first
        raise refusals[0]

    def _start(self, container: Any, stream: Any, margins: Margins | None) -> None:
        self._container, self._stream = container, stream
        self._decoder = decoder_for(stream, self._max_pixels)
        self._screen = Screen(stream, self._decoder, margins, self._max_pixels, self._warn)
        self.duration = announced_duration(container, stream)
        self._begins = start_of(container)
        end = announced_end(container, stream)
        self._clock = FrameClock(self._begins, end, stream.average_rate, self.format in LEAPING_CLOCKS)
        self._untimed = self.format in UNTIMED
        self._origin: float | None = None  # time of the first frame: where the sampling grid begins
        self._skipped_until = 0.0
        self._damaged = self._interlaced = False
        self._encrypted = "enc_key_id" in stream.metadata  # so Matroska; MP4 marks the packets
        self._frames_stored = self._frames_sampled = 0

    def _tell_of_other_tracks(self, tracks: list[Any], chosen: int) -> None:
        if chosen > 0:
            self._warn("The video track that players show first cannot be decoded: another one was looked at.")
        others = [size_in_words(track) for number, track in enumerate(tracks) if number != chosen]
        if others:
            self._warn(f"Only one of {len(tracks)} video tracks was looked at; not looked at: {', '.join(others)}.")

    def _sample(self) -> Generator[Frame, None, None]:
        cell, time = -1, 0.0
        for before, (time, frame, shape), after in _with_neighbours(self._timed()):
            if frame.is_corrupt:
                # The decoder has filled holes in it with guesses, which must not be taken for the picture.
                self._warn_of_damage("Damaged frames were passed over.")
                continue
            if self._cell(time) > cell:
                cell = self._cell(time)
                self._frames_sampled += 1
                yield Frame(time, self._screen.show(frame, shape, before, after))
        if self._origin is None:
            if self._encrypted:
                raise Refused(RefusalCode.UNSUPPORTED, "The video is encrypted.")
            raise Refused(RefusalCode.CORRUPT, _UNDECODABLE)
        self._tell_of_time(max(time, self._skipped_until))

    def _tell_of_time(self, end: float) -> None:
        """Warn of what is wrong with the time stamps; `end` is the time of the last frame, seconds."""
        for start, resumed in self._clock.gaps:
            self._warn(f"There are no pictures between {start:.1f} s and {resumed:.1f} s.")
        if self._clock.irregular:
            self._warn(
                "The time stamps are irregular: frames were counted instead; "
                f"{self._frames_sampled} of {self._frames_stored} frames were looked at."
            )
            return
        shown_for = end - (self._origin or 0.0) + self._clock.last_step
        if self._frames_stored > _DENSE * shown_for > 0:
            self._warn(
                f"The file shows {self._frames_stored / shown_for:.0f} frames a second: "
                f"{self._frames_sampled} of {self._frames_stored} frames were looked at."
            )
        # Some containers count a late start in, some do not; this takes the announcement at its most modest.
        missing = 0.0 if self.duration is None else self.duration - (end + max(self._begins, 0.0))
        if missing > max(_EARLY_END, 2 * self._clock.last_step):
            self._warn(f"The pictures end at {end:.1f} s, although the file announces {self.duration:.1f} s.")

    def _cell(self, time: float) -> int:
        """Which stretch of the sampling grid a time lies in; the first frame in each is taken."""
        return math.floor((time - (self._origin or 0.0) + _TIME_TOLERANCE) / self._interval)

    def _timed(self) -> Iterator[_Timed]:
        """The frames that can be decoded, with their times, in the order shown; some that would not be sampled are left
        out.

        Frames that no other frame needs are half of many videos. The decoder may leave them out where the times of the
        packets around tell that an earlier frame is the one to sample.
        """
        packets = LookAhead(self._demuxed())
        for packet, stamp in packets:
            spare = stamp is not None and self._is_spare(stamp, packets)
            self._decoder.skip_frame = "NONREF" if spare else "DEFAULT"
            if stamp is not None and spare:
                self._skipped_until = max(self._skipped_until, self._clock.by_stamp(stamp))
            elif stamp is not None:
                packets.leave(stamp)
            try:
                frames = self._decoder.decode(packet)
            except av.FFmpegError:
                self._warn_of_damage("Parts of the video are damaged and were passed over.")
                continue
            for frame in frames:
                time = self._clock.tick(frame_stamp(frame, self._untimed), packets.around)
                self._interlaced |= frame.interlaced_frame
                if self._origin is None and not frame.is_corrupt:
                    self._origin = time
                yield _Timed(time, frame, self._screen.shape_of(frame))

    def _is_spare(self, stamp: float, packets: LookAhead) -> bool:
        """Whether one of the frames around is shown earlier in the same stretch of the sampling grid."""
        # A damaged video may lose the frame that is to be sampled: then every other one is wanted in its place. So is
        # each where stamps are not to be trusted, and where lines are filled in from the frames before and after.
        if self._origin is None or self._damaged or self._interlaced or self._untimed or self._clock.irregular:
            return False
        if not (packets.regular and packets.sees_enough):
            return False
        cell = self._cell(self._clock.by_stamp(stamp))
        return any(other < stamp and self._cell(self._clock.by_stamp(other)) == cell for other in packets.around())

    def _demuxed(self) -> Iterator[av.Packet]:
        allowance = _MAX_PACKET_BYTES_PER_FILE_BYTE * self._file_bytes
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                self._warn_of_damage(_BROKEN_OFF)
                packet = None
            if packet is None:
                return
            allowance -= max(packet.size, 1)
            if allowance < 0:
                self._warn_of_damage("The rest was not looked at: the file has the same data shown over and over.")
                return
            if packet.is_corrupt:
                self._warn_of_damage(_BROKEN_OFF)
            if packet.has_sidedata("encryption_info"):
                self._encrypted = True
                self._warn_of_damage("Encrypted parts of the video were passed over.")
                continue
            self._frames_stored += packet.size > 0 and not packet.is_discard
            if packet.size == 0 and packet.dts is not None:
                continue  # "the same picture again" (Theora); to the decoder it would be the end
            yield packet

    def _warn_of_damage(self, sentence: str) -> None:
        self._damaged = True
        self._warn(sentence)

    def _warn(self, sentence: str) -> None:
        self._warnings[sentence] = None


def _with_neighbours(frames: Iterator[_Timed]) -> Iterator[tuple[av.VideoFrame | None, _Timed, av.VideoFrame | None]]:
    """Each frame with the picture before it and the one after."""
    before: av.VideoFrame | None = None
    current: _Timed | None = None
    for following in frames:
        if current is not None:
            yield before, current, following.frame
            before = current.frame
        current = following
    if current is not None:
        yield before, current, None


def _bytes_of(media: MediaFile) -> BinaryIO:
    if media.data is not None:
        return io.BytesIO(media.data)
    if media.file is None:
        raise ValueError("a media file needs a file or data")
    try:
        return open_regular_file(media.file)
    except OSError as error:
        raise refusal_for(error) from error
