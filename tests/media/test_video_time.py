"""Frames whose time stamps are wrong, missing or equal are looked at all the same."""

import struct
from itertools import pairwise

import media_samples as samples
import odd_videos as odd
import pytest

from unmask.media.videos import Frame, Video, open_video

RATE = 25
COUNT = 50
REGULAR = [number / RATE for number in range(COUNT)]
EVERY_FIFTH = list(range(0, COUNT, 5))


def watched(data: bytes, frames_per_second: float = 5.0) -> tuple[Video, list[Frame]]:
    with open_video(samples.taken_in(data), frames_per_second) as video:
        frames = list(video)
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))
    return video, frames


def numbers(frames: list[Frame]) -> list[int]:
    return [odd.number_of(frame.pixels) for frame in frames]


def but(changes: dict[int, float]) -> list[float]:
    return [changes.get(number, stamp) for number, stamp in enumerate(REGULAR)]


IRREGULAR = {
    "one far off": but({7: 500.0}),
    "one to be sampled far off": but({10: 500.0}),
    "one too early": but({30: 0.1}),
    "the first far off": but({0: 500.0}),
    "several far off": [stamp + 300 * (number % 7 == 3) for number, stamp in enumerate(REGULAR)],
    "a run far off": [stamp + 300 * (20 <= number < 28) for number, stamp in enumerate(REGULAR)],
    "starts anew": [stamp - (number >= 25) for number, stamp in enumerate(REGULAR)],
    "all the same": [0.0] * COUNT,
    "all the same, far off": [77.0] * COUNT,
    "runs of the same": [number // 5 * 5 / RATE for number in range(COUNT)],
    "too fast": [number / 1000 for number in range(COUNT)],
}


@pytest.mark.parametrize("codec", ["mjpeg", "libx264"])
@pytest.mark.parametrize("name", IRREGULAR)
def test_frames_are_counted_where_stamps_are_irregular(name: str, codec: str) -> None:
    video, frames = watched(odd.stamped(IRREGULAR[name], codec=codec))
    assert numbers(frames) == EVERY_FIFTH
    assert [frame.time for frame in frames] == pytest.approx([number / RATE for number in EVERY_FIFTH], abs=0.002)
    assert len(video.warnings) == 1
    assert "irregular" in video.warnings[0]
    assert "10 of 50 frames" in video.warnings[0]


@pytest.mark.parametrize("name", ["one far off", "starts anew", "all the same"])
@pytest.mark.parametrize("container", ["matroska", "mp4"])
def test_frames_stored_out_of_order_are_counted_too(name: str, container: str) -> None:
    """Frames that no other needs must not be left out by stamps that cannot be trusted."""
    data = odd.stamped(IRREGULAR[name], container, "libx264", options={"bf": "3", "b-adapt": "0"})
    video, frames = watched(data)
    assert numbers(frames) == EVERY_FIFTH
    assert "irregular" in video.warnings[-1]


@pytest.mark.parametrize("stamps", [REGULAR[::-1], [stamp - 1 for stamp in REGULAR]], ids=["backwards", "negative"])
def test_stamps_written_into_the_blocks(stamps: list[float]) -> None:
    assert numbers(watched(odd.restamped(odd.stamped(REGULAR), stamps))[1]) == EVERY_FIFTH


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([30.0 * number for number in range(12)], list(range(12))),
        ([number / 240 for number in range(240)], [0, 48, 46, 44, 42]),  # numbers repeat after 50
        ([stamp + 20 for stamp in REGULAR], EVERY_FIFTH),
        ([stamp + number // 10 * 5 for number, stamp in enumerate(REGULAR)], EVERY_FIFTH),
        ([stamp + 0.0005 * (number % 9 == 4) for number, stamp in enumerate(REGULAR)], EVERY_FIFTH),
    ],
    ids=["time lapse", "slow motion", "late", "stops and goes", "jitter"],
)
def test_unusual_but_right(stamps: list[float], expected: list[int]) -> None:
    video, frames = watched(odd.stamped(stamps))
    assert numbers(frames) == expected
    assert video.warnings == ()
    for frame in frames:
        assert any(frame.time == pytest.approx(stamp - stamps[0], abs=0.001) for stamp in stamps)


def test_it_is_told_how_few_of_very_dense_frames_are_looked_at() -> None:
    video, frames = watched(odd.stamped([number / 500 for number in range(COUNT)]))
    assert len(frames) == 1
    assert video.warnings == ("The file shows 500 frames a second: 1 of 50 frames were looked at.",)


def test_frames_that_stand_still_after_a_leap_are_counted_by_their_rate() -> None:
    """The leap itself is no measure of how fast frames follow each other."""
    _, frames = watched(odd.stamped([stamp if stamp < 1 else 500.0 for stamp in REGULAR]))
    after = [frame.time for frame in frames if frame.time >= 500]
    assert numbers(frames)[: -len(after)] == [0, 5, 10, 15, 20] and numbers(frames)[-len(after)] == 25
    assert len(after) >= 4 and max(right - left for left, right in pairwise(after)) < 0.3


def test_a_gap_in_the_pictures_is_told() -> None:
    video, frames = watched(odd.stamped([stamp + 100 * (number >= 25) for number, stamp in enumerate(REGULAR)]))
    assert numbers(frames) == EVERY_FIFTH
    assert frames[5].time == pytest.approx(101.0)
    assert video.warnings == ("There are no pictures between 1.0 s and 101.0 s.",)


@pytest.mark.parametrize("lead", [0.0, 3000.0, 95443.0], ids=["same clock", "leap", "wrap"])
def test_transport_streams_one_after_the_other(lead: float) -> None:
    first = odd.stamped(REGULAR, "mpegts", "libx264", options={"g": "10"})
    second = odd.stamped([stamp + lead for stamp in REGULAR], "mpegts", "libx264", options={"g": "10"})
    for data in (first + second, second + first):
        video, frames = watched(data)
        assert numbers(frames) == EVERY_FIFTH * 2
        assert frames[-1].time == pytest.approx(3.8, abs=0.1)
        assert any("irregular" in warning for warning in video.warnings)


@pytest.mark.parametrize(("scale", "rate"), [(1, 1_000_000), (1, 2**32 - 1), (0, 0)])
def test_absurd_frame_rates(scale: int, rate: int) -> None:
    data = bytearray(odd.stamped(REGULAR, "avi", "mjpeg"))
    at = data.index(b"vids") + 20
    data[at : at + 8] = struct.pack("<II", scale, rate)
    assert numbers(watched(bytes(data))[1]) == EVERY_FIFTH


def test_an_avi_file_without_presentation_times() -> None:
    data = samples.video("avi", "libx264", frames=50, options={"bf": "3"})
    video, frames = watched(data)
    assert video.warnings == ()
    assert [round((float(frame.pixels[-8:, -8:].mean()) - 20) / 8) for frame in frames] == [0, 5, 10, 15, 20] * 2


def test_an_index_that_leads_astray() -> None:
    data = bytearray(odd.stamped(REGULAR, "avi", "mjpeg"))
    for at in range(data.index(b"idx1") + 16, len(data) - 8, 16):
        data[at : at + 4] = (4).to_bytes(4, "little")  # every frame is the first
    assert numbers(watched(bytes(data))[1]) == EVERY_FIFTH
