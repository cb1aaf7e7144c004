import io
import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import media_samples as samples
import numpy as np
import psutil
import pytest

from unmask.errors import RefusalCode, Refused
from unmask.media.intake import MediaFile
from unmask.media.videos import Frame, Video, open_video

KINDS = [
    ("mp4", "libx264", "mp4"),
    ("mov", "libx264", "mov"),
    ("mp4", "mpeg4", "mp4"),
    ("matroska", "libx264", "matroska"),
    ("webm", "libvpx-vp9", "webm"),
    ("avi", "mpeg4", "avi"),
]


def watched(data: bytes, frames_per_second: float = 5.0, **options: int) -> tuple[Video, list[Frame]]:
    with open_video(samples.taken_in(data), frames_per_second, **options) as video:
        return video, list(video)


def places(frames: list[Frame]) -> list[int]:
    """Which frames of a video with 25 a second these are."""
    return [round(frame.time * 25) for frame in frames]


def refusal_of(data: bytes, **options: int) -> Refused:
    with pytest.raises(Refused) as caught:
        watched(data, **options)
    return caught.value


@pytest.mark.parametrize(("container", "codec", "expected"), KINDS)
def test_sampled_frames_with_their_times(container: str, codec: str, expected: str) -> None:
    video, frames = watched(samples.video(container, codec, frames=50))
    assert (video.format, video.width, video.height) == (expected, 64, 48)
    assert video.duration == pytest.approx(2.0, abs=0.05)
    assert video.warnings == ()
    assert places(frames) == list(range(0, 50, 5))
    for frame in frames:
        assert frame.time == pytest.approx(round(frame.time * 25) / 25, abs=0.002)
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.shape == (48, 64, 3)
        assert frame.pixels.flags.writeable
        level = 20 + 8 * (round(frame.time * 25) % 25)
        assert np.abs(frame.pixels[-8:, -8:].astype(int) - level).max() <= 6
        assert np.abs(frame.pixels[4, 4].astype(int) - (220, 20, 20)).max() <= 16


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(1, [0]), (2, [0, 13]), (4, [0, 7, 13, 19]), (10, [0, 3, 5, 8, 10, 13, 15, 18, 20, 23]), (1000, list(range(25)))],
)
def test_sampling_rates(rate: float, expected: list[int]) -> None:
    assert places(watched(samples.video(), rate)[1]) == expected


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "libvpx-vp9"])
@pytest.mark.parametrize("rate", [0.5, 2.0, 5.0, 7.3])
def test_frames_left_out_are_never_those_to_sample(codec: str, rate: float) -> None:
    """Against all frames decoded, at an uneven frame rate and with frames stored out of order."""
    noise = np.random.default_rng(1)
    stream = io.BytesIO()
    with av.open(stream, "w", format="matroska") as output:
        try:
            track = output.add_stream(codec, rate=25, options={"bf": "3"} | ({"x265-params": "log-level=none"}))
        except ValueError:
            pytest.skip(f"this FFmpeg has no {codec}")
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        moment = 0
        for index in range(120):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 + 2 * (index % 100), np.uint8), format="rgb24")
            frame.time_base, frame.pts = Fraction(1, 25), moment
            moment += int(noise.choice([1, 1, 1, 2, 9]))
            output.mux(track.encode(frame))
        output.mux(track.encode(None))
    data = stream.getvalue()
    expected, cell = [], -1
    with av.open(io.BytesIO(data)) as whole:
        for frame in whole.decode(video=0):
            time = float(frame.time or 0.0)
            if math.floor((time + 1e-6) * rate) > cell:
                cell = math.floor((time + 1e-6) * rate)
                expected.append((round(time, 3), frame.to_ndarray(format="rgb24")))
    video, frames = watched(data, rate)
    assert video.warnings == ()
    assert [round(frame.time, 3) for frame in frames] == [time for time, _ in expected]
    for frame, (_, pixels) in zip(frames, expected, strict=True):
        assert np.array_equal(frame.pixels, pixels)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_impossible_sampling_rates(rate: float) -> None:
    with pytest.raises(ValueError, match="frames_per_second"):
        open_video(samples.taken_in(samples.video(frames=1)), rate)


def test_times_count_from_the_start_of_the_video() -> None:
    video, frames = watched(samples.video("matroska", start=Fraction(3)))
    assert [round(frame.time, 2) for frame in frames] == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert video.warnings == ()


@pytest.mark.parametrize(
    ("rotation", "corner", "size"),
    [(0, (0, 0), (64, 48)), (90, (-1, 0), (48, 64)), (180, (-1, -1), (64, 48)), (-90, (0, -1), (48, 64))],
)
def test_rotation_is_honoured(rotation: int, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """`rotation` is counter-clockwise, so at 90 degrees the red top-left corner is shown at the bottom left."""
    video, frames = watched(samples.video(rotation=rotation))
    assert (video.width, video.height) == size
    for frame in frames:
        assert frame.pixels.shape == (size[1], size[0], 3)
        red = [at for at in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if np.ptp(frame.pixels[at]) > 100]
        assert red == [corner]


def test_video_from_memory_and_from_a_file_agree(tmp_path: Path) -> None:
    data = samples.video()
    file = tmp_path / "http:caf\udce9.mp4"  # neither an address nor valid UTF-8 to FFmpeg
    file.write_bytes(data)
    with open_video(samples.taken_in_file(file)) as video:
        from_file = list(video)
    for left, right in zip(from_file, watched(data)[1], strict=True):
        assert left.time == right.time
        assert np.array_equal(left.pixels, right.pixels)


@pytest.mark.parametrize(
    "data", [samples.video(), samples.video()[:-900], samples.sound()], ids=["good", "cut", "sound"]
)
def test_files_are_closed(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "film.mp4"
    file.write_bytes(data)
    media = samples.taken_in_file(file)
    try:
        with open_video(media) as video:
            next(video)
    except Refused:
        pass
    assert str(file) not in [opened.path for opened in psutil.Process().open_files()]


def test_a_closed_video_is_at_its_end() -> None:
    video = open_video(samples.taken_in(samples.video()))
    next(video)
    video.close()
    video.close()
    assert list(video) == []


@pytest.mark.parametrize("cover", [None, samples.pictures()["jpeg"]], ids=["bare", "with cover art"])
@pytest.mark.parametrize("name", ["song.jpg", "song.mp4"])
def test_no_moving_pictures(cover: bytes | None, name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(samples.sound(cover=cover))
    with av.open(str(file)) as container:
        assert len(container.streams.video) == (cover is not None)
    media = samples.taken_in_file(file)
    assert media.kind == "video"
    with pytest.raises(Refused) as caught:
        open_video(media)
    assert caught.value.code is RefusalCode.NO_VIDEO


@pytest.mark.parametrize(
    "kind", [{"fast_start": True}, {"container": "matroska"}, {"container": "avi", "codec": "mpeg4"}]
)
def test_cut_in_the_middle(kind: dict) -> None:
    data = samples.video(frames=150, options={"g": "25"}, **kind)
    whole = watched(data)[1]
    video, frames = watched(data[: len(data) * 6 // 10])
    assert 3 < len(frames) < len(whole)
    assert video.warnings
    for cut, left in zip(frames[:-1], whole, strict=False):
        assert cut.time == left.time
        assert np.array_equal(cut.pixels, left.pixels)


def test_damage_in_the_middle_is_told_and_passed_over() -> None:
    data = bytearray(samples.video(fast_start=True, frames=150, options={"g": "50", "bf": "0", "crf": "5"}))
    whole = watched(bytes(data), 1000)[1]
    middle = len(data) * 6 // 10
    data[middle : middle + 300] = b"\x5a" * 300
    video, frames = watched(bytes(data), 1000)
    assert video.warnings
    assert 100 < len(frames) < len(whole)
    assert np.array_equal(frames[0].pixels, whole[0].pixels)


def test_index_at_the_end_cut_off() -> None:
    data = samples.video(frames=50)
    assert refusal_of(data[: len(data) * 9 // 10]).code is RefusalCode.CORRUPT


def test_nothing_decodable() -> None:
    data = bytearray(samples.video("matroska", "libvpx-vp9", frames=2))
    start = data.index(b"\x1f\x43\xb6\x75") + 8  # the first cluster
    data[start:] = b"\x55" * (len(data) - start)
    assert refusal_of(bytes(data)).code is RefusalCode.CORRUPT


def test_size_guard() -> None:
    data = samples.video(frames=2)
    assert refusal_of(data, max_pixels=64 * 48 - 1).code is RefusalCode.TOO_LARGE
    assert len(watched(data, max_pixels=64 * 48)[1]) == 1


def test_a_picture_is_not_a_video() -> None:
    with pytest.raises(Refused) as caught:
        open_video(samples.taken_in(samples.pictures()["png"]))
    assert caught.value.code is RefusalCode.UNSUPPORTED


def test_a_video_that_went_away(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        open_video(MediaFile("film", "0" * 64, 3, "video", None, tmp_path / "film.mp4"))
    assert caught.value.code is RefusalCode.NOT_FOUND


def test_tagged_colours_are_respected() -> None:
    """The same red stored by the BT.709 and by the BT.601 formula, each tagged as what it is."""
    red = av.VideoFrame.from_ndarray(np.full((48, 64, 3), (220, 20, 20), np.uint8), format="rgb24")
    for formula, tag in (("ITU709", "bt709"), ("ITU601", "smpte170m")):
        stream = io.BytesIO()
        with av.open(stream, "w", format="mp4") as output:
            track = output.add_stream("libx264", rate=25, options={"colorspace": tag, "crf": "5"})
            track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
            output.mux(track.encode(red.reformat(format="yuv420p", dst_colorspace=formula)))
            output.mux(track.encode(None))
        assert np.abs(watched(stream.getvalue())[1][0].pixels.astype(int) - (220, 20, 20)).max() <= 8, tag


def test_memory_does_not_grow_with_length() -> None:
    """Measured in a process of its own: encoders and other tests leave memory behind."""
    script = (
        "import sys, psutil\n"
        "from unmask.media.sources import Source; from unmask.media.intake import take_in\n"
        "from unmask.media.videos import open_video\n"
        "data, marks = sys.stdin.buffer.read(), []\n"
        "for frame in open_video(take_in(Source('-', None, data)), 1000):\n"
        "    marks.append(psutil.Process().memory_info().rss)\n"
        "print(len(marks), marks[-1] - marks[len(marks) // 4])"
    )
    data = samples.video(frames=400, width=320, height=240)
    ran = subprocess.run(
        [sys.executable, "-c", script],
        input=data,
        capture_output=True,
        check=True,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
    )
    count, growth = map(int, ran.stdout.split())
    assert count == 400
    assert growth < 8 * 1024**2  # 300 frames of 320 x 240 are 69 MB
    assert ran.stderr == b""
