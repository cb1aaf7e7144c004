"""Bad input, end to end: one command line over a folder of it, a typed result for each file, and on to the end."""

import json
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from unmask.evidence.report import Report

UNMASK = [sys.executable, "-m", "unmask.cli", "inspect"]


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG file that says it is grey and of this size, whatever its pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(count >> 20)) + packer.flush()


def turned_head(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """The portrait with its head turned to the picture's right, as if painted on an ellipsoid."""
    height, width = pixels.shape[:2]
    v, u = np.mgrid[:height, :width].astype(np.float32)
    x, y = (u - 159) / 62, (v - 115) / 85  # about the head, in half axes
    depth = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    from_x, from_depth = x * cos - depth * sin, x * sin + depth * cos
    rim = np.sign(from_x) * np.sqrt(np.clip(1 - y * y, 0, 1))  # stands for what the portrait does not show
    source = np.where(x * x + y * y < 1, 159 + 62 * np.where(from_depth > 0, from_x, rim), u)
    return cv2.remap(pixels, source.astype(np.float32), v, cv2.INTER_LINEAR)


def sound(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as output:
        track = output.add_stream("aac", rate=16000)
        for index in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, index * 1024
            output.mux(track.encode(frame))
        output.mux(track.encode(None))


def with_a_closed_file() -> list[str]:
    """What makes a command heed permissions: root does not, unless it lays down the right to pass over them."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    return [setpriv, "--bounding-set=-dac_override,-dac_read_search"] if setpriv else []


@pytest.fixture(scope="module")
def reports(
    tmp_path_factory: pytest.TempPathFactory, portrait: Path, tiny_pack: Path, make_video: Callable[..., Path]
) -> dict[str, Report]:
    """The report on each file of the folder, by name."""
    folder = tmp_path_factory.mktemp("bad")
    jpeg = portrait.read_bytes()
    with Image.open(portrait) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    face = pixels[32:224, 65:257]
    small = Image.fromarray(face)

    def save(name: str, shown: np.ndarray) -> None:
        Image.fromarray(shown).save(folder / name)

    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("this is no picture\n")
    (folder / "truncated.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "zero dimension.png").write_bytes(png(0, 7, zlib.compress(bytes(8))))
    (folder / "30000 pixels a side.png").write_bytes(png(30_000, 30_000, zlib.compress(bytes(100))))
    save("30000 pixels wide.png", np.full((40, 30_000, 3), 120, np.uint8))
    (folder / "bomb.png").write_bytes(png(20_000, 20_000, zeros(400_020_000)))
    small.save(folder / "animated.gif", save_all=True, append_images=[small.rotate(90)])
    gif = (folder / "animated.gif").read_bytes()
    (folder / "corrupt.gif").write_bytes(gif[:900] + b"\xff" * 200 + gif[1100:2000])
    sound(folder / "sound.mp4")
    grain = np.random.default_rng(0)  # so that the frames after the first take room in the file, too
    noisy = make_video(
        lambda _: np.clip(pixels + grain.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8), 4.0, name="clip.mkv"
    )
    clip = noisy.read_bytes()
    (folder / "cut.mkv").write_bytes(clip[: len(clip) * 7 // 10])
    (folder / "closed.jpg").write_bytes(jpeg)
    (folder / "closed.jpg").chmod(0)
    (folder / "broken link.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "inner").mkdir()
    (folder / "inner" / "loop").symlink_to(folder)
    Path(os.fsdecode(os.fsencode(folder) + b"/not utf-8 \xff.jpg")).write_bytes(jpeg)
    save("no face.png", np.full((64, 64, 3), 200, np.uint8))
    forty = [np.clip(face.astype(int) + 3 * (index - 20), 0, 255).astype(np.uint8) for index in range(40)]
    save("forty faces.png", np.vstack([np.hstack(forty[row * 8 : row * 8 + 8]) for row in range(5)]))
    save("upside down.png", np.ascontiguousarray(pixels[::-1, ::-1]))
    save("on its side.png", np.ascontiguousarray(np.rot90(pixels)))
    save("profile.png", turned_head(pixels, 70))
    save("other profile.png", np.ascontiguousarray(turned_head(pixels, 70)[:, ::-1]))
    save("the end.png", pixels)
    command = [*with_a_closed_file(), *UNMASK, str(folder), "--pack", str(tiny_pack), "--json", "-"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert all(line.startswith(b"unmask: ") for line in done.stderr.splitlines())  # refusals alone
    reports = [Report.model_validate_json(line) for line in done.stdout.splitlines()]
    by_name = {Path(report.path).name: report for report in reports}
    names = {path.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for path in folder.iterdir()}
    assert by_name.keys() == names - {"inner"} and len(reports) == len(by_name)
    return by_name


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("empty.jpg", "empty"),
        ("text.jpg", "unsupported"),
        ("truncated.jpg", "corrupt"),
        ("zero dimension.png", "corrupt"),
        ("30000 pixels a side.png", "too_large"),
        ("30000 pixels wide.png", "no_face"),
        ("bomb.png", "too_large"),
        ("corrupt.gif", "corrupt"),
        ("sound.mp4", "no_video"),
        ("broken link.jpg", "not_found"),
        ("loop.jpg", "not_found"),
        ("no face.png", "no_face"),
        ("upside down.png", "poor_quality"),
        ("on its side.png", "poor_quality"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_its_code(reports: dict[str, Report], name: str, code: str) -> None:
    report = reports[name]
    assert report.refusal is not None and report.refusal.code == code
    assert report.score is None and report.log10_lr is None


def test_a_file_without_permission_is_refused(reports: dict[str, Report]) -> None:
    if os.geteuid() == 0 and not with_a_closed_file():
        pytest.skip("root may read everything, and there is no setpriv")
    refusal = reports["closed.jpg"].refusal
    assert refusal is not None and refusal.code == "unreadable" and "permission" in refusal.message


@pytest.mark.parametrize("name", ["animated.gif", "cut.mkv", "not utf-8 \ufffd.jpg", "forty faces.png", "the end.png"])
def test_the_rest_is_judged(reports: dict[str, Report], name: str) -> None:
    assert reports[name].refusal is None and reports[name].log10_lr is not None


def test_what_was_passed_over_is_told(reports: dict[str, Report]) -> None:
    for name in ("animated.gif", "cut.mkv"):
        media = reports[name].media
        assert media is not None and media.warnings
    cut = reports["cut.mkv"].media
    assert cut is not None and cut.frames_sampled is not None and 5 <= cut.frames_sampled < 20


def test_forty_faces_are_forty_findings(reports: dict[str, Report]) -> None:
    faces = reports["forty faces.png"].faces
    assert len(faces) == 40 and all(face.log10_lr is not None for face in faces)


@pytest.mark.parametrize(
    ("name", "component"), [("upside down.png", "HeadPoseRoll"), ("on its side.png", "HeadPoseRoll")]
)
def test_a_turned_face_is_refused_for_its_pose(reports: dict[str, Report], name: str, component: str) -> None:
    (face,) = reports[name].faces
    assert face.quality.components[component] < 10
    assert face.refusal is not None and "head pose roll" in face.refusal.message


def test_a_face_in_profile_does_not_pass_for_a_frontal_one(reports: dict[str, Report]) -> None:
    (frontal,), (right,), (left,) = (
        reports[name].faces for name in ("the end.png", "profile.png", "other profile.png")
    )
    assert frontal.quality.yaw is not None and right.quality.yaw is not None and left.quality.yaw is not None
    assert abs(frontal.quality.yaw) < 10 and right.quality.yaw > 45 and left.quality.yaw < -45
    for face in (right, left):
        assert face.quality.components["HeadPoseYaw"] < 60 < 90 < frontal.quality.components["HeadPoseYaw"]
        assert face.quality.unified < 60 < frontal.quality.unified


@pytest.mark.slow
def test_a_folder_that_changes_while_it_is_read(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "folder", tmp_path / "out.jsonl"
    (folder / "z later").mkdir(parents=True)
    jpeg = portrait.read_bytes()
    for number in range(40):
        (folder / f"{number:02}.jpg").write_bytes(jpeg + bytes([number]))  # no two are the same: those are judged once
    (folder / "z later" / "old.jpg").write_bytes(jpeg)
    process = subprocess.Popen(
        [*UNMASK, str(folder), "--pack", str(tiny_pack), "--json", str(out), "--quiet"], stderr=subprocess.PIPE
    )
    while not (out.exists() and out.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    for number in range(35, 40):
        (folder / f"{number:02}.jpg").unlink()
    (folder / "34.jpg").write_bytes(b"")
    (folder / "z later" / "new.jpg").write_bytes(jpeg)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and all(line.startswith(b"unmask: ") for line in errors.splitlines())
    codes = {
        Path(report["path"]).name: (report["refusal"] or {}).get("code")
        for report in map(json.loads, out.read_bytes().splitlines())
    }
    expected = {f"{number:02}.jpg": None for number in range(34)} | {"34.jpg": "empty"}
    expected |= {f"{number:02}.jpg": "not_found" for number in range(35, 40)}
    assert codes == expected | {"new.jpg": None, "old.jpg": None}
