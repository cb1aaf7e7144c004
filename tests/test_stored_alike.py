"""The verdict on a video does not depend on how its pictures are stored."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from unmask.evidence.report import Report
from unmask.inspection import Inspector
from unmask.media.sources import Source

MEDIA = Path(__file__).parent / "media"
sys.path.insert(0, str(MEDIA))

from stored_videos import HLG, PQ, Way, enlarged, in_light_of, store, with_opacity, woven  # noqa: E402

pytestmark = pytest.mark.slow

SIDE = 576
TOLERANCE = 0.15
"""Of log10 LR: codecs of the same clip at high quality differ by up to 0.1."""
LOOSER = {"interlaced": 0.25}  # half of the lines are filled in

X264 = {"crf": "6", "preset": "veryfast"}
X265 = {"codec": "libx265", "pixel_format": "yuv420p10le"}
MPEG = {"b": "40000000"}


def turned(frames: list[np.ndarray]) -> list[np.ndarray]:
    return [np.ascontiguousarray(np.rot90(frame, -1)) for frame in frames]


def as_fields(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Interlaced: the second field of each picture is half a frame later."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.25]], np.float32)
    later = [cv2.warpAffine(one, half, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE) for one in frames]
    return woven([field for pair in zip(frames, later, strict=True) for field in pair])


WAYS = {
    "mkv, lossless": Way("matroska", "ffv1", options={}),
    "avi, mpeg4": Way("avi", "mpeg4", options={"qmin": "1", "qmax": "2"}),
    "mov, prores 4444": Way("mov", "prores_ks", "yuva444p10le", {}, prepare=with_opacity),
    "ts, h264": Way("mpegts", options=X264),
    "mp4, hevc, 10 bits": Way(**X265, options=X264),
    "webm, vp9": Way("webm", "libvpx-vp9", options={"crf": "4", "b": "0", "cpu-used": "8"}),
    "mxf, mpeg2": Way("mxf", "mpeg2video", options=MPEG),
    "bt.709": Way(options=X264, matrix=1),
    "bt.709, full range": Way(options=X264, matrix=1, full=True),
    "bt.601, full range": Way(options=X264, full=True),
    "not tagged": Way(options=X264, tagged=False),
    "4:4:4": Way(options=X264, pixel_format="yuv444p"),
    "rgb": Way(codec="libx264rgb", pixel_format="rgb24", options=X264, tagged=False),
    "rgb with opacity": Way("mov", "png", "rgba", {}, prepare=with_opacity, tagged=False),
    "turned": Way(options=X264, rotation=90, prepare=turned),
    "odd size": Way(
        "matroska", "ffv1", options={}, prepare=lambda frames: [one[: SIDE - 1, : SIDE - 3].copy() for one in frames]
    ),
    "interlaced": Way("mpegts", "mpeg2video", options=MPEG | {"flags": "+ildct+ilme"}, prepare=as_fields),
    "pq": Way(**X265, options=X264, matrix=9, curve=PQ, prepare=in_light_of(PQ)),
    "hlg": Way(**X265, options=X264, matrix=9, curve=HLG, prepare=in_light_of(HLG)),
}


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    yield Inspector(edit_pack=None)


@pytest.fixture(scope="module")
def clip(portrait: Path) -> list[np.ndarray]:
    """A real face, moving a little."""
    picture = np.asarray(Image.open(portrait).convert("RGB"))
    picture = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    moves = [np.array([[1, 0, number], [0, 1, 0.5 * number]], np.float32) for number in range(12)]
    return [cv2.warpAffine(picture, move, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE) for move in moves]


@pytest.fixture(scope="module")
def plain(clip: list[np.ndarray], inspector: Inspector) -> Report:
    return judged(clip, Way(options=X264), inspector)


def judged(clip: list[np.ndarray], way: Way, inspector: Inspector) -> Report:
    return inspector.inspect(Source("film", None, store(clip, way)))


@pytest.mark.parametrize("name", WAYS)
def test_the_verdict_does_not_depend_on_how_a_clip_is_stored(
    name: str, clip: list[np.ndarray], plain: Report, inspector: Inspector
) -> None:
    report = judged(clip, WAYS[name], inspector)
    assert report.verdict is plain.verdict
    assert report.log10_lr == pytest.approx(plain.log10_lr, abs=LOOSER.get(name, TOLERANCE))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(SIDE, 2 * SIDE), (2 * SIDE, SIDE)])
def test_nor_on_the_shape_of_its_pixels(width: int, height: int, clip: list[np.ndarray], inspector: Inspector) -> None:
    large = judged(clip, Way(options=X264, prepare=enlarged(2 * SIDE, 2 * SIDE)), inspector)
    way = Way(options=X264, pixel_shape=Fraction(height, width), prepare=enlarged(width, height))
    report = judged(clip, way, inspector)
    assert report.media is not None
    assert (report.media.width, report.media.height) == (2 * SIDE, 2 * SIDE)
    assert report.verdict is large.verdict
    assert report.log10_lr == pytest.approx(large.log10_lr, abs=TOLERANCE)


@pytest.fixture(scope="module")
def odd_files(clip: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small videos stored in every way, some of pixels that are not square, in the folders `whole` and `damaged`."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "whole").mkdir()
    (folder / "damaged").mkdir()
    for number, (name, way) in enumerate(WAYS.items()):
        shape = Fraction(4, 3) if number % 2 else None
        frames = clip[:4] if name in ("odd size", "interlaced") else [cv2.resize(one, (128, 128)) for one in clip[:4]]
        data = bytearray(store(frames, replace(way, pixel_shape=shape)))
        (folder / "whole" / f"{number}.mkv").write_bytes(data)
        data[len(data) // 2 : len(data) // 2 + 200] = b"\x5a" * 200
        (folder / "damaged" / f"{number}.mkv").write_bytes(data)
    return folder


@pytest.mark.parametrize(("jobs", "part"), [("1", "damaged"), ("2", "whole")])
def test_no_library_writes_to_the_terminal(jobs: str, part: str, odd_files: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.jsonl"
    command = [
        sys.executable,
        "-m",
        "unmask.cli",
        "inspect",
        odd_files / part,
        "--jobs",
        jobs,
        "--quiet",
        "--json",
        report,
    ]
    ran = subprocess.run(command, capture_output=True, env=os.environ | {"LC_ALL": "C.UTF-8"})
    assert all(line.startswith(b"unmask: ") for line in ran.stderr.splitlines())
    assert len(report.read_bytes().splitlines()) == len(WAYS)
