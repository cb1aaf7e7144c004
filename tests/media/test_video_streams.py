"""Which track of a file is looked at, and what is said of the others."""

import av
import media_samples as samples
import odd_videos as odd
import pytest
from av.stream import Disposition

from unmask.errors import RefusalCode, Refused
from unmask.media.videos import Frame, Video, open_video

SMALL, LARGE = (64, 48), (128, 96)
PLAIN, DEFAULT = Disposition(0), Disposition.default


def watched(data: bytes) -> tuple[Video, list[Frame]]:
    with open_video(samples.taken_in(data)) as video:
        return video, list(video)


@pytest.mark.parametrize("container", ["matroska", "mp4", "mpegts"])
def test_without_a_default_track_the_first_is_looked_at(container: str) -> None:
    video, frames = watched(odd.tracks(container, (SMALL, PLAIN, "libx264"), (LARGE, PLAIN, "libx264")))
    assert (video.width, video.height, len(frames)) == (*SMALL, 5)
    assert video.warnings == ("Only one of 2 video tracks was looked at; not looked at: 128 x 96.",)


@pytest.mark.parametrize("container", ["matroska", "mp4"])
@pytest.mark.parametrize("sizes", [(SMALL, LARGE, SMALL), (LARGE, SMALL, LARGE)])
def test_the_default_track_is_looked_at(container: str, sizes: tuple[tuple[int, int], ...]) -> None:
    marks = (PLAIN, DEFAULT, PLAIN)
    data = odd.tracks(container, *((size, mark, "libx264") for size, mark in zip(sizes, marks, strict=True)))
    video, _ = watched(data)
    assert (video.width, video.height) == sizes[1]
    assert "one of 3 video tracks" in video.warnings[0]


@pytest.mark.parametrize(("container", "name"), [("matroska", b"V_MJPEG"), ("mov", b"jpeg")])
def test_where_the_default_track_has_no_decoder_another_is_looked_at(container: str, name: bytes) -> None:
    data = odd.tracks(container, (SMALL, DEFAULT, "mjpeg"), (LARGE, PLAIN, "libx264"))
    video, frames = watched(data.replace(name, name[:-4] + b"qqqq"))
    assert (video.width, video.height, len(frames)) == (*LARGE, 5)
    assert "cannot be decoded" in video.warnings[0]


def test_a_default_track_without_frames_is_skipped() -> None:
    video, frames = watched(odd.tracks("matroska", (SMALL, DEFAULT, "empty"), (LARGE, PLAIN, "libx264")))
    assert (video.width, video.height, len(frames)) == (*LARGE, 5)


def test_an_attached_picture_is_no_video_track() -> None:
    video, _ = watched(odd.tracks("mp4", (SMALL, Disposition.attached_pic, "mjpeg"), (LARGE, PLAIN, "libx264")))
    assert (video.width, video.height) == LARGE
    assert video.warnings == ()


@pytest.mark.parametrize("data", [odd.encrypted(), odd.with_key(samples.video("matroska"))], ids=["mp4", "matroska"])
def test_encrypted_video_is_unsupported_not_damaged(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        watched(data)
    assert caught.value.code is RefusalCode.UNSUPPORTED


@pytest.mark.parametrize("field", [b"udta", b"elst", b"vmhd"])
def test_damage_beside_the_pictures_does_not_matter(field: bytes) -> None:
    data = bytearray(samples.video("mp4", frames=50))
    at = data.find(field)
    if at < 0:
        pytest.skip("not written by this FFmpeg")
    data[at : at + 4] = b"zzzz"
    video, frames = watched(bytes(data))
    assert (len(frames), video.warnings) == (10, ())


def test_no_demuxer_that_opens_other_files_is_ever_used() -> None:
    """Playlists name other files; their first bytes are none that we read."""
    for text in (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n"):
        with pytest.raises(Refused) as caught:
            samples.taken_in(text)
        assert caught.value.code is RefusalCode.UNSUPPORTED
    assert {"hls", "concat"} <= av.formats_available
