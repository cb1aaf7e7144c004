"""Containers of broadcast, disc and the web of old: told by their first bytes, and read."""

import random
from pathlib import Path

import media_samples as samples
import pytest

from unmask.errors import RefusalCode, Refused
from unmask.media.kinds import HEAD_BYTES, sniff
from unmask.media.sources import Source, walk
from unmask.media.videos import open_video

KINDS = [
    ("mpegts", "libx264", "mpegts"),
    ("mpegts", "mpeg2video", "mpegts"),
    ("vob", "mpeg2video", "mpegps"),
    ("mpeg", "mpeg1video", "mpegps"),
    ("mxf", "mpeg2video", "mxf"),
    ("flv", "libx264", "flv"),
    ("flv", "flv", "flv"),
    ("asf", "wmv2", "asf"),
    ("ogg", "libvpx", "ogg"),
]


def made(container: str, codec: str) -> bytes:
    return samples.video(container, codec, frames=50)


def with_time_codes(stream: bytes) -> bytes:
    """A transport stream as Blu-ray and AVCHD hold it: four bytes before each packet."""
    return b"".join(bytes(4) + stream[at : at + 188] for at in range(0, len(stream), 188))


@pytest.mark.parametrize(("container", "codec", "expected"), KINDS)
def test_sampled_frames_with_their_times(container: str, codec: str, expected: str) -> None:
    with open_video(samples.taken_in(made(container, codec))) as video:
        frames = list(video)
    assert (video.format, video.width, video.height, video.warnings) == (expected, 64, 48, ())
    assert [frame.time for frame in frames] == pytest.approx([0.2 * number for number in range(10)], abs=0.002)
    for number, frame in enumerate(frames):
        assert float(frame.pixels[-8:, -8:].mean()) == pytest.approx(20 + 8 * (5 * number % 25), abs=6)


@pytest.mark.parametrize("lead", [0, 50, 188])
def test_transport_streams_of_every_cut(lead: int) -> None:
    stream = made("mpegts", "libx264")
    checked = b"".join(stream[at : at + 188] + bytes(16) for at in range(0, len(stream), 188))
    for data in (stream, with_time_codes(stream), checked):
        with open_video(samples.taken_in(data[lead:])) as video:
            assert video.format == "mpegts"
            assert len(list(video)) == 10


def test_a_name_in_ts_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_text("export const G = 'Greeting';\n" * 200)
    (tmp_path / "b.ts").write_bytes(made("mpegts", "libx264"))
    (tmp_path / "c.fasta").write_text("G" * 5000)
    sentence = b"$GPGGA,092750.000,5321.6802,N,00630.3372,W,1,8,1.03,61.7,M,55.2,M,,*76\n"
    (tmp_path / "e.log").write_bytes((sentence + b"$GPGSA,A,3,10,07,05,02,29,04,08,13,,,,,1.72,1.03,1.38*0A\n") * 40)
    (tmp_path / "f.txt").write_bytes((b"G123" + "é".encode("latin-1") * 184) * 40)
    (tmp_path / "d.m2ts").write_bytes(with_time_codes(made("mpegts", "libx264")))
    sources = [source for source in walk([tmp_path]) if isinstance(source, Source)]
    assert [Path(source.path).name for source in sources] == ["b.ts", "d.m2ts"]
    assert all(samples.taken_in_file(source.file).kind == "video" for source in sources if source.file)


def test_bytes_at_random_are_no_transport_stream() -> None:
    chance = random.Random(1)
    assert all(sniff(chance.randbytes(HEAD_BYTES)) is None for _ in range(2000))


MUSIC = {
    "ogg": b"OggS\0\2" + bytes(22) + b"\1vorbis" + bytes(500),
    "wma": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
    + bytes(100)
    + bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b"),
}


@pytest.mark.parametrize("kind", MUSIC)
def test_music_in_a_folder_is_passed_over(kind: str, tmp_path: Path) -> None:
    (tmp_path / f"song.{kind}").write_bytes(MUSIC[kind])
    assert list(walk([tmp_path])) == []
    with pytest.raises(Refused) as caught:
        samples.taken_in_file(tmp_path / f"song.{kind}")
    assert caught.value.code is RefusalCode.UNSUPPORTED
