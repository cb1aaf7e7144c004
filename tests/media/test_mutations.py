"""Damaged and hostile files: at least 2,000 mutants of every kind of picture and video that we read."""

import ctypes
import faulthandler
import gc
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction

import media_samples as samples
import numpy as np
import odd_pictures
import odd_videos
import psutil
import pytest
from stored_videos import Way, store

from unmask.errors import RefusalCode, Refused
from unmask.media.images import decode_image
from unmask.media.videos import open_video

pytestmark = pytest.mark.slow

SEED = 20240607
PICTURE_MUTANTS, VIDEO_MUTANTS = 4000, 1050
SECONDS_PER_FILE = 5.0
SECONDS_UNTIL_HANGING = 240
GROWTH_ALLOWED = 64 * 1024**2
EXPECTED_CODES = {
    RefusalCode.CORRUPT,
    RefusalCode.UNSUPPORTED,
    RefusalCode.TOO_LARGE,
    RefusalCode.EMPTY,
    RefusalCode.NO_VIDEO,
}


def flip_bits(data: bytearray, chance: random.Random, _: bytes) -> bytearray:
    for _ in range(chance.choice([1, 2, 8, 64])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def edit_header(data: bytearray, chance: random.Random, _: bytes) -> bytearray:
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(4, min(len(data), 160))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
    return data


def stretch_a_number(data: bytearray, chance: random.Random, _: bytes) -> bytearray:
    width = chance.choice([2, 4])
    at = chance.randrange(4, min(len(data), 400) - width)
    data[at : at + width] = chance.choice([b"\xff" * width, b"\0" * width, b"\x7f" + b"\xff" * (width - 1)])
    return data


def cut_short(data: bytearray, chance: random.Random, _: bytes) -> bytearray:
    return data[: chance.randrange(len(data))]


def cut_out(data: bytearray, chance: random.Random, _: bytes) -> bytearray:
    start = chance.randrange(len(data))
    del data[start : start + chance.randint(1, 200)]
    return data


def overwrite(data: bytearray, chance: random.Random, _: bytes) -> bytearray:
    start = chance.randrange(len(data))
    length = min(chance.randint(1, 300), len(data) - start)
    data[start : start + length] = chance.randbytes(length)
    return data


def repeat(data: bytearray, chance: random.Random, _: bytes) -> bytearray:
    start = chance.randrange(len(data))
    piece = data[start : start + chance.randint(1, 300)]
    return data[:start] + piece * chance.randint(2, 5) + data[start:]


def splice(data: bytearray, chance: random.Random, other: bytes) -> bytearray:
    return data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


MUTATIONS: list[Callable[[bytearray, random.Random, bytes], bytearray]] = [
    flip_bits,
    edit_header,
    stretch_a_number,
    cut_short,
    cut_out,
    overwrite,
    repeat,
    splice,
]


def mutants(originals: dict[str, bytes], count: int) -> Iterator[tuple[str, bytes]]:
    """`count` mutants, spread evenly over the originals and the mutations; the same ones on every run."""
    chance = random.Random(SEED)
    names = sorted(originals)
    for number in range(count):
        name = names[number % len(names)]
        mutate = MUTATIONS[number // len(names) % len(MUTATIONS)]
        data = bytes(mutate(bytearray(originals[name]), chance, originals[chance.choice(names)]))
        yield f"mutant {number} of {name} by {mutate.__name__}", data


def look_at_picture(data: bytes) -> None:
    still = decode_image(samples.taken_in(data))
    assert still.pixels.dtype == np.uint8
    assert still.pixels.shape == (still.height, still.width, 3)


def look_at_video(data: bytes) -> None:
    with open_video(samples.taken_in(data)) as video:
        for frame in video:
            assert frame.time >= 0
            assert frame.pixels.dtype == np.uint8
            assert frame.pixels.ndim == 3
            assert frame.pixels.shape[2] == 3


def in_use(process: psutil.Process) -> int:
    """Bytes of memory, without what the C library keeps for later: training in the same process tells it to."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
    return int(process.memory_info().rss)


def survive(look: Callable[[bytes], None], originals: dict[str, bytes], count: int) -> Counter[str]:
    """Look at every mutant. Fails if anything but `Refused` escapes, one takes long, or memory grows meanwhile."""
    process = psutil.Process()
    outcomes: Counter[str] = Counter()
    before = 0
    for number, (name, data) in enumerate(mutants(originals, count)):
        if number == count // 4:  # by now every decoder has set up what it keeps
            before = in_use(process)
        started = time.process_time()  # a loaded machine makes no file slow
        try:
            look(data)
            outcomes["seen"] += 1
        except Refused as refusal:
            assert refusal.code in EXPECTED_CODES, name
            assert refusal.message.endswith("."), name
            outcomes[refusal.code] += 1
        except Exception as error:
            raise AssertionError(f"{name} let {error!r} escape") from error
        assert time.process_time() - started < SECONDS_PER_FILE, f"{name} took too long"
    assert in_use(process) - before < GROWTH_ALLOWED
    return outcomes


@pytest.fixture(autouse=True)
def _no_hanging() -> Iterator[None]:
    """A decoder that hangs in C cannot be interrupted; this ends the run and says where it was."""
    faulthandler.dump_traceback_later(SECONDS_UNTIL_HANGING, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


def test_mutated_pictures(capfd: pytest.CaptureFixture[str]) -> None:
    heic = odd_pictures.heic(samples.scene(192, 128), metadata=odd_pictures.exif((0x112, 3, 1, 6)))
    originals = samples.pictures() | {"heif": heic}
    outcomes = survive(look_at_picture, originals, PICTURE_MUTANTS)
    assert "".join(capfd.readouterr()) == ""
    assert outcomes.total() == PICTURE_MUTANTS
    # The mutants are neither all harmless nor all hopeless, and some are bombs.
    assert outcomes["seen"] > 100
    assert outcomes[RefusalCode.CORRUPT] > 100
    assert outcomes[RefusalCode.TOO_LARGE] > 10


def test_mutated_videos(capfd: pytest.CaptureFixture[str]) -> None:
    size = {"frames": 12, "rate": 12, "width": 48, "height": 32}
    interlaced = {"flags": "+ildct+ilme"}
    originals = {
        "mp4": samples.video("mp4", "libx264", **size),
        "mp4 fast start": samples.video("mp4", "libx264", fast_start=True, **size),
        "mov": samples.video("mov", "mpeg4", **size),
        "matroska": samples.video("matroska", "libx264", **size),
        "webm": samples.video("webm", "libvpx-vp9", **size),
        "avi": samples.video("avi", "mpeg4", **size),
        "mpegts": samples.video("mpegts", "libx264", **size),
        "mpegps": samples.video("vob", "mpeg2video", **(size | {"rate": 25})),
        "mxf": samples.video("mxf", "mpeg2video", **(size | {"rate": 25})),
        "flv": samples.video("flv", "flv", **size),
        "asf": samples.video("asf", "wmv2", **size),
        "margins": odd_videos.with_clean_aperture(samples.video("mp4", "libx264", **size), 40, 24, 2, -1),
        "pixels not square": store([samples.scene(48, 32)] * 12, Way("matroska", pixel_shape=Fraction(4, 3))),
        "opacity": store([np.dstack([samples.scene(48, 32)] * 2)[..., :4]] * 12, Way("mov", "qtrle", "argb", {})),
        "interlaced": store([samples.scene(48, 32)] * 12, Way("mpegts", "mpeg2video", options=interlaced)),
    }
    capfd.readouterr()  # what the encoders said
    outcomes = survive(look_at_video, originals, VIDEO_MUTANTS)
    assert "".join(capfd.readouterr()) == ""
    assert outcomes.total() == VIDEO_MUTANTS
    assert outcomes["seen"] > 20
    assert outcomes[RefusalCode.CORRUPT] > 20
