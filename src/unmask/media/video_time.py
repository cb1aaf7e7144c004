"""The clock of a video: when each frame is shown, even where its time stamps say something impossible.

A time stamp is a claim of the file. A single frame may be stamped days off, a clock may start anew in the middle, all
frames may bear the same stamp: players show such frames all the same, so they must not drop out of the sampling grid.
Stamps are followed as long as they go on plausibly from frame to frame; elsewhere frames are counted.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from statistics import median

import av

# Decoders show frames in another order than the file holds them, but never more than 16 places apart (H.264, H.265).
_REORDERING = 32
_MAX_AHEAD_BYTES = 16 * 1024 * 1024
# Seconds. Slow motion is stored with up to 480 frames a second; beyond that, the rate is a mistake or a trick. A single
# shorter step may be right, where the frame rate varies.
_SHORTEST_STEP = 0.0015
_EQUAL = 1e-6
# How far to go on for a frame that is counted: within these bounds, or else the default.
_SHORTEST_COUNT, _LONGEST_COUNT = 1 / 250, 60.0
_DEFAULT_COUNT = 1 / 25
# A step up to the first is never questioned; one beyond the second is a gap in the pictures, if it is not a mistake.
_SMALL_STEP = 1.0
_LEAP = 10.0
# How far the clocks of broadcast streams go astray as a matter of course.
_JITTER = 0.5
# How many times the usual step still counts as usual: the frame rate may vary.
_VARIATION = 10
_STEPS_KEPT = 16
_FEWEST_STEPS = 4


class LookAhead:
    """The packets of one stream with the stamps they bear, each with sight of those behind and ahead. An iterator.

    Memory is bounded by the number and bytes of the packets held.
    """

    def __init__(self, packets: Iterator[av.Packet]) -> None:
        """Take the packets in the order of the file."""
        self._source = packets
        self._queue: deque[tuple[av.Packet, float | None]] = deque()
        self._size = 0
        self._at_end = False
        self._behind: deque[float] = deque(maxlen=_REORDERING)
        self._seen: deque[float] = deque(maxlen=2 * _REORDERING)
        self._last_dts = -math.inf
        self.regular = True
        """Whether all stamps so far, those of the packets ahead included, may be what they seem: no two are the same,
        nothing leaps, and decoding times rise."""

    def __iter__(self) -> "LookAhead":
        return self

    def __next__(self) -> tuple[av.Packet, float | None]:
        while not self._at_end and len(self._queue) <= _REORDERING and self._size < _MAX_AHEAD_BYTES:
            packet = next(self._source, None)
            if packet is None:
                self._at_end = True
                break
            stamp = _stamp_of(packet)
            self._queue.append((packet, stamp))
            self._size += packet.size
            if self.regular and stamp is not None:
                self._check(packet, stamp)
        if not self._queue:
            raise StopIteration
        packet, stamp = self._queue.popleft()
        self._size -= packet.size
        return packet, stamp

    @property
    def sees_enough(self) -> bool:
        """Whether every packet whose frame could be shown before that of the current one is in sight."""
        return self._at_end or len(self._queue) >= _REORDERING

    def around(self) -> list[float]:
        """The stamps (seconds) of the last packets given to `leave`, and of those ahead."""
        return [*self._behind, *(stamp for _, stamp in self._queue if stamp is not None)]

    def leave(self, stamp: float) -> None:
        """Remember the stamp of a packet whose frame will be shown."""
        self._behind.append(stamp)

    def _check(self, packet: av.Packet, stamp: float) -> None:
        seen = self._seen
        if seen and (stamp in seen or abs(stamp - seen[-1]) > _LEAP):
            self.regular = False
        if len(seen) == seen.maxlen and stamp < seen[0]:
            self.regular = False
        seen.append(stamp)
        if packet.dts is not None:
            dts = float(packet.dts * packet.time_base)
            if dts - self._last_dts < _SHORTEST_STEP:
                self.regular = False
            self._last_dts = dts


def frame_stamp(frame: av.VideoFrame, stored_in_order: bool) -> float | None:
    """The time stamp of a frame, seconds on the file's own clock, or None if it has none.

    `stored_in_order`: the file holds no presentation times, as AVI, and what FFmpeg makes up for frames that are stored
    out of order is wrong. The decoding times of the packets that bring frames out are right, then.
    """
    stamp = frame.dts if stored_in_order else frame.pts
    return None if stamp is None or frame.time_base is None else float(stamp * frame.time_base)


def _stamp_of(packet: av.Packet) -> float | None:
    if packet.pts is None or packet.time_base is None:
        return None
    return float(packet.pts * packet.time_base)


class FrameClock:
    """Gives the frames of a video, in the order shown, times that rise from frame to frame.

    A stamp is followed if it lies a plausible step after the last one, by the clock in force or by that of the frame
    before, which may have started a new one. Any other frame is counted: it comes the usual step after the last.
    """

    def __init__(self, start: float, end: float | None, rate: Fraction | None, leaps: bool) -> None:
        """Set up for one video.

        Args:
            start: where its clock begins, seconds; times count from there.
            end: when it ends by its own account, seconds from the start.
            rate: frames per second by its own account.
            leaps: whether leaps of the clock are nothing out of the ordinary in this kind of file (broadcast streams):
                they are no gaps in the pictures, then.
        """
        self._offset = start  # stamp minus time
        self._end = end
        claimed = float(1 / rate) if rate else 0.0
        self._claimed_step = claimed if _SHORTEST_COUNT <= claimed <= _LONGEST_COUNT else None
        self._leaps = leaps
        self._aside: float | None = None  # stamp minus time of the last frame, if that was counted
        self._time: float | None = None
        self._last_stamp: float | None = None
        self._steps: deque[float] = deque(maxlen=_STEPS_KEPT)
        self.last_step = 0.0
        """From the last frame but one to the last, seconds."""
        self.irregular = False
        """Whether a frame had to be counted although it has a stamp, or no frame rate is known to count by. Trifles in
        streams whose clock `leaps` are left out."""
        self.gaps: list[tuple[float, float]] = []
        """The first few stretches (from, to) without pictures, seconds."""

    def by_stamp(self, stamp: float) -> float:
        """The time of a stamp by the clock in force, seconds."""
        return stamp - self._offset

    def tick(self, stamp: float | None, around: Callable[[], list[float]]) -> float:
        """The time of the next frame shown, seconds from the start; more than the last one's.

        Args:
            stamp: presentation time in the file, if it has one, seconds.
            around: gives the stamps of the packets around; called only where the stamp is out of the ordinary.
        """
        time = self._first(stamp, around) if self._time is None else self._next(stamp, around, self._time)
        if stamp is not None and self._last_stamp is not None:
            step = stamp - self._last_stamp
            # A leap says nothing of how fast frames follow each other.
            if step <= max(_LEAP, _VARIATION * (self._claimed_step or 0.0)):
                self._steps.append(step)
        self._last_stamp = stamp
        self.last_step = time - (time if self._time is None else self._time)
        self._time = time
        return time

    def _first(self, stamp: float | None, around: Callable[[], list[float]]) -> float:
        if stamp is None:
            return 0.0
        time = self.by_stamp(stamp)
        if 0 <= time <= _SMALL_STEP:
            return time
        latest = _LEAP if self._end is None else max(_LEAP, self._end)
        if time > latest or any(other < stamp - _SMALL_STEP for other in around()):
            # The first frame shown bears a stamp that is not the first.
            self.irregular = True
            self._aside = stamp
            return 0.0
        if time < 0:
            self._offset = stamp
            return 0.0
        return time

    def _next(self, stamp: float | None, around: Callable[[], list[float]], previous: float) -> float:
        if stamp is not None:
            for offset in (self._offset, self._aside):
                if offset is not None and self._goes_on(stamp, offset, previous, around):
                    self._offset, self._aside = offset, None
                    if stamp - offset - previous > _LEAP:
                        self._note_gap(previous, stamp - offset, around)
                    return stamp - offset
        time = previous + self._count_step(around)
        if stamp is None:
            self.irregular |= self._claimed_step is None
        else:
            self.irregular |= not (self._leaps and abs(self.by_stamp(stamp) - time) < _JITTER)
        self._aside = None if stamp is None else stamp - time
        return time

    def _goes_on(self, stamp: float, offset: float, previous: float, around: Callable[[], list[float]]) -> bool:
        step = stamp - offset - previous
        if _SHORTEST_STEP <= step <= _SMALL_STEP:
            return True
        if step <= _EQUAL:
            return False
        stamps = around()
        if step < _SHORTEST_STEP:
            return _usual_step(stamps) >= _SHORTEST_STEP
        if step <= _VARIATION * _usual_step(stamps):
            return True
        if step > _LEAP and self._leaps:
            return False
        if any(previous + offset + _EQUAL < other < stamp - _EQUAL for other in stamps):
            return False  # frames of an earlier stamp are still to come: this one's is the mistake
        if step <= _LEAP:
            return True
        goes_on = any(stamp < other <= stamp + _LEAP for other in stamps)
        return (goes_on or not any(other > stamp for other in stamps)) and self._covers(stamp - offset)

    def _covers(self, time: float) -> bool:
        return self._end is None or time <= self._end + _SMALL_STEP

    def _note_gap(self, start: float, end: float, around: Callable[[], list[float]]) -> None:
        if end - start > _VARIATION * _usual_step(around()) and len(self.gaps) < _STEPS_KEPT:
            self.gaps.append((start, end))

    def _count_step(self, around: Callable[[], list[float]]) -> float:
        """How far to go on for a frame that is counted: the mean of the last steps, without those that are mistakes."""
        steps = [step for step in self._steps if step >= 0]
        rising = [step for step in steps if step > _EQUAL]
        if len(steps) >= _FEWEST_STEPS and rising:
            limit = _VARIATION * median(rising)
            mean = math.fsum(kept := [step for step in steps if step <= limit]) / len(kept)
            if mean >= _SHORTEST_COUNT:
                return min(mean, _LONGEST_COUNT)
        usual = self._claimed_step or _usual_step(around())
        return min(usual, _LONGEST_COUNT) if usual >= _SHORTEST_COUNT else _DEFAULT_COUNT


def _usual_step(stamps: list[float]) -> float:
    """The median step between stamps that differ, seconds; 0 without any."""
    ordered = sorted(stamps)
    steps = [right - left for left, right in pairwise(ordered) if right - left > _EQUAL]
    return median(steps) if steps else 0.0
