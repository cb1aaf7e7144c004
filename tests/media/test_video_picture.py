"""Frames as a viewer shows them: shape, light, colours, opacity, lines."""

import io
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import cv2
import media_samples as samples
import numpy as np
import odd_videos as odd
import pytest
from stored_videos import HLG, PQ, Way, enlarged, in_light_of, squeezed, store, woven

from unmask.errors import RefusalCode, Refused
from unmask.media.videos import Frame, Video, open_video

LOSSLESS = Way("matroska", "ffv1", options={})
DEEP = {"codec": "libx265", "pixel_format": "yuv420p10le", "options": {"crf": "2", "preset": "veryfast"}}


def watched(data: bytes, **options: int) -> tuple[Video, list[Frame]]:
    with open_video(samples.taken_in(data), **options) as video:
        return video, list(video)


def colours(width: int = 192, height: int = 144) -> np.ndarray:
    """A smooth picture of muted colours."""
    return cv2.resize(samples.scene(8, 6), (width, height), interpolation=cv2.INTER_CUBIC) // 2 + 50


def error(way: Way, picture: np.ndarray | None = None) -> float:
    """Mean difference of the picture shown from the one stored, levels."""
    picture = colours() if picture is None else picture
    _, frames = watched(store([picture] * 3, way))
    return float(np.abs(frames[0].pixels.astype(int) - picture).mean())


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p12le"])
def test_colours_by_matrix_range_and_depth(pixel_format: str, full: bool, matrix: int) -> None:
    way = replace(LOSSLESS, codec="libx264", options={"crf": "0"}, pixel_format=pixel_format, matrix=matrix, full=full)
    if "12" in pixel_format:
        way = replace(way, codec="libx265", options={"x265-params": "lossless=1"})
    quick = pixel_format == "yuv420p"
    assert error(way) < (2.0 if quick else 1.0)


@pytest.mark.parametrize("full", [False, True])
def test_grey_by_range(full: bool) -> None:
    """x265 says the range; FFmpeg takes grey for full range whatever is said."""
    picture = colours()[..., :1].repeat(3, 2)
    way = Way(
        codec="libx265",
        pixel_format="gray",
        options={"x265-params": f"lossless=1:range={'full' if full else 'limited'}"},
    )
    data = store([picture] * 3, way)
    level = picture.astype(float) if full else ((picture - 16.0) * 255 / 219).clip(0, 255)
    assert np.abs(watched(data)[1][0].pixels - level).mean() < 1


@pytest.mark.parametrize(("width", "height", "matrix"), [(192, 144, 5), (1280, 144, 1), (192, 720, 1)])
def test_colours_without_a_matrix_go_by_size(width: int, height: int, matrix: int) -> None:
    way = Way(options={"crf": "1", "preset": "ultrafast"}, matrix=matrix, tagged=False)
    assert error(way, colours(width, height)) < 2.5


@pytest.mark.parametrize(
    "way",
    [
        Way("matroska", "ffv1", "bgr0", {}, tagged=False),
        Way("mov", "png", "rgb24", {}, tagged=False),
        Way(codec="libx264rgb", pixel_format="rgb24", options={"crf": "0"}, tagged=False),
    ],
    ids=["bgr0", "rgb24", "gbrp"],
)
def test_colours_stored_as_such(way: Way) -> None:
    assert error(way) == 0


@pytest.mark.parametrize("number", [0, 3, 8, 11, 14])
def test_an_unknown_matrix_is_guessed_with_a_warning(number: int) -> None:
    data = bytearray(store([colours()] * 3, Way("mov", "prores_ks", "yuv422p10le", {}, matrix=1)))
    for at in [at for at in range(len(data)) if data[at : at + 4] == b"icpf"]:
        data[at + 20] = number  # matrix_coefficients in ProRes' frame header
    video, frames = watched(bytes(data))
    assert frames[0].pixels.shape == (144, 192, 3)
    assert bool(video.warnings) == (number not in (0, 3))


@pytest.mark.slow
@pytest.mark.parametrize("curve", [PQ, HLG])
def test_high_dynamic_range(curve: int) -> None:
    way = Way(**DEEP, matrix=9, curve=curve, prepare=in_light_of(curve))
    video, frames = watched(store([colours()] * 3, way))
    assert np.abs(frames[0].pixels.astype(int) - colours()).mean() < 8
    assert len(video.warnings) == 1
    assert "HDR" in video.warnings[0]


@pytest.mark.parametrize("shape", [Fraction(2), Fraction(1, 2), Fraction(4, 3), Fraction(16, 15)])
@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_pixels_that_are_not_square(container: str, shape: Fraction) -> None:
    size = (192 // shape, 144) if shape > 1 else (192, round(144 * shape))
    way = Way(container, options={"crf": "4", "preset": "veryfast"}, pixel_shape=shape)
    video, frames = watched(store([colours()] * 3, replace(way, prepare=squeezed(int(size[0]), int(size[1])))))
    assert (video.width, video.height) == (192, 144)
    assert np.abs(frames[0].pixels.astype(int) - colours()).mean() < 3
    assert "not square" in video.warnings[0]


def test_pixels_that_are_not_square_in_a_turned_video() -> None:
    way = Way(pixel_shape=Fraction(2), rotation=90, prepare=squeezed(96, 144))
    video, frames = watched(store([colours()] * 3, way))
    assert (video.width, video.height) == (144, 192)
    assert np.abs(frames[0].pixels.astype(int) - np.rot90(colours())).mean() < 4


@pytest.mark.parametrize("shape", [Fraction(10), Fraction(1, 10)])
def test_an_absurd_pixel_shape_is_ignored(shape: Fraction) -> None:
    video, frames = watched(store([colours()] * 3, Way(pixel_shape=shape)))
    assert frames[0].pixels.shape == (144, 192, 3)
    assert "cannot be meant" in video.warnings[0]


def test_the_size_guard_holds_for_what_is_shown() -> None:
    data = store([colours()] * 3, Way(pixel_shape=Fraction(2)))
    assert watched(data, max_pixels=2 * 192 * 144)[0].width == 384
    with pytest.raises(Refused) as caught:
        watched(data, max_pixels=2 * 192 * 144 - 1)
    assert caught.value.code is RefusalCode.TOO_LARGE


def test_interlaced_frames_are_filled_in() -> None:
    """A picture that moves sideways by 3 pixels from field to field: woven, its edges are combs."""
    bars = np.random.default_rng(1).integers(40, 216, (1, 60, 1), np.uint8)
    wide = cv2.resize(bars, (600, 144), interpolation=cv2.INTER_NEAREST)[..., None].repeat(3, 2)
    moving = [np.ascontiguousarray(wide[:, 3 * number : 3 * number + 192]) for number in range(50)]
    options = {"crf": "4", "preset": "veryfast", "flags": "+ildct+ilme"}
    video, frames = watched(store(moving, Way(options=options, prepare=woven)))
    assert video.warnings[0].startswith("The video is interlaced")
    for frame in frames:
        number = 2 * round(frame.time * 25)
        combed = np.abs(woven(moving[number : number + 2])[0].astype(int) - moving[number]).mean()
        assert np.abs(frame.pixels.astype(int) - moving[number]).mean() < 0.2 * combed


def see_through(way: Way) -> tuple[Video, list[Frame]]:
    left_clear = np.dstack([np.full((48, 64, 3), (200, 40, 40), np.uint8), np.zeros((48, 64), np.uint8)])
    left_clear[:, 32:, 3] = 255
    return watched(store([left_clear] * 5, way))


@pytest.mark.parametrize(
    "way",
    [
        Way("mov", "prores_ks", "yuva444p10le", {}),
        Way("mov", "qtrle", "argb", {}, tagged=False),
        Way("mov", "png", "rgba", {}, tagged=False),
        Way("matroska", "ffv1", "bgra", {}, tagged=False),
        Way("webm", "libvpx-vp9", "yuva420p", {"crf": "8", "b": "0"}),
        Way("webm", "libvpx", "yuva420p", {"auto-alt-ref": "0", "b": "1000000"}, tagged=False),
    ],
    ids=lambda way: way.codec,
)
def test_transparent_parts_are_laid_on_grey(way: Way) -> None:
    video, frames = see_through(way)
    assert np.abs(frames[0].pixels[8:40, 4:24].astype(int) - 128).max() <= 1
    assert np.abs(frames[0].pixels[8:40, 40:60].astype(int) - (200, 40, 40)).max() <= 8
    assert video.warnings == ("Transparent parts were laid on neutral grey.",)


@pytest.mark.parametrize("kind", ["matroska", "mp4"])
def test_margins_not_to_be_shown_are_cut_off(kind: str) -> None:
    picture = colours(64, 48)
    data = store([picture] * 5, Way(kind, options={"crf": "4", "preset": "veryfast"}))
    data = odd.with_clean_aperture(data, 40, 30, 2, -1) if kind == "mp4" else odd.with_pixel_crop(data, 14, 10, 8, 10)
    video, frames = watched(data)
    assert (video.width, video.height) == (40, 30)
    assert np.abs(frames[0].pixels.astype(int) - picture[8:38, 14:54]).mean() < 3
    assert "margins" in video.warnings[0]


def test_margins_that_leave_nothing_are_no_margins() -> None:
    data = odd.with_clean_aperture(store([colours(64, 48)] * 5, Way()), 0, -9, 0, 0)
    assert watched(data)[1][0].pixels.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("change", "sizes"),
    [
        (lambda way: replace(way, prepare=enlarged(128, 96)), [(48, 64), (96, 128)]),
        (lambda way: replace(way, pixel_shape=Fraction(2)), [(48, 64), (48, 128)]),
    ],
    ids=["size", "pixel shape"],
)
def test_changes_on_the_way(change: Callable[[Way], Way], sizes: list[tuple[int, int]]) -> None:
    way = Way("mpegts", options={"crf": "10", "preset": "veryfast", "bf": "2"})
    pictures = [odd.grey(number) for number in range(23)]  # so that no key frame of the second part is sampled
    parts = [store(pictures, one) for one in (way, change(way))]
    for data, expected in ((parts[0] + parts[1], sizes), (parts[1] + parts[0], sizes[::-1])):
        shapes = [frame.pixels.shape[:2] for frame in watched(data)[1]]
        assert shapes == [expected[0]] * 5 + [expected[1]] * 5


def test_a_frame_is_writable_whatever_was_done_to_it() -> None:
    for way in (Way(), Way(pixel_shape=Fraction(2)), LOSSLESS, Way("matroska", "ffv1", "bgra", {}, tagged=False)):
        frame = watched(store([colours()] * 2, way))[1][0]
        frame.pixels[0, 0] = 0
        assert frame.pixels.flags.c_contiguous
        assert io.BytesIO(frame.pixels.tobytes()).getbuffer().nbytes == frame.pixels.size
