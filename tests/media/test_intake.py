import hashlib
import os
from pathlib import Path

import media_samples as samples
import pytest

from unmask.errors import RefusalCode, Refused
from unmask.media import intake
from unmask.media.intake import take_in
from unmask.media.sources import Source


def refusal_of(source: Source) -> Refused:
    with pytest.raises(Refused) as caught:
        take_in(source)
    return caught.value


def test_pictures_are_held_and_hashed(tmp_path: Path) -> None:
    data = samples.pictures()["png"]
    file = tmp_path / "liar.mp4"
    file.write_bytes(data)
    media = samples.taken_in_file(file)
    assert (media.kind, media.bytes, media.data, media.file) == ("image", len(data), data, file)
    assert media.sha256 == hashlib.sha256(data).hexdigest()
    assert samples.taken_in(data).sha256 == media.sha256
    assert repr(data)[:20] not in repr(media)


def test_videos_stay_in_their_file_and_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_HASH_CHUNK", 100)
    data = samples.video(frames=3)
    file = tmp_path / "film.jpg"
    file.write_bytes(data)
    media = samples.taken_in_file(file)
    assert (media.kind, media.bytes, media.data, media.file) == ("video", len(data), None, file)
    assert media.sha256 == hashlib.sha256(data).hexdigest()
    streamed = samples.taken_in(data)
    assert (streamed.sha256, streamed.bytes, streamed.data) == (media.sha256, len(data), data)


def test_empty_and_text_and_missing(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.jpg", tmp_path / "text.jpg"
    empty.write_bytes(b"")
    text.write_text("This is not a picture.\n" * 50)
    assert refusal_of(Source("empty", empty)).code is RefusalCode.EMPTY
    assert refusal_of(Source("empty", None, b"")).code is RefusalCode.EMPTY
    assert refusal_of(Source("text", text)).code is RefusalCode.UNSUPPORTED
    assert refusal_of(Source("missing", tmp_path / "missing.jpg")).code is RefusalCode.NOT_FOUND
    quoted = refusal_of(Source("quoted", Path(f"'{tmp_path / 'missing.jpg'}'")))
    assert quoted.code is RefusalCode.NOT_FOUND and "quotation marks" in quoted.message
    assert refusal_of(Source("under a file", text / "a.jpg")).code is RefusalCode.NOT_FOUND
    assert refusal_of(Source("folder", tmp_path)).code is RefusalCode.UNREADABLE


def test_huge_picture_files_are_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "huge.png"
    with file.open("wb") as stream:
        stream.write(samples.pictures()["png"])
        stream.truncate(600 * 1024**2)  # a sparse file
    refusal = refusal_of(Source("huge", file))
    assert refusal.code is RefusalCode.TOO_LARGE
    assert "512 MB" in refusal.message


def test_a_picture_that_grows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = samples.pictures()["png"]
    monkeypatch.setattr(intake, "MAX_PICTURE_BYTES", len(data))
    assert samples.taken_in(data).bytes == len(data)
    assert refusal_of(Source("grown", None, data + b"\0")).code is RefusalCode.TOO_LARGE


def test_a_file_that_becomes_a_pipe_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.png"
    os.mkfifo(file)
    checked = []
    require = intake._require_regular
    monkeypatch.setattr(intake, "_require_regular", lambda mode: checked.append(mode) if not checked else require(mode))
    assert refusal_of(Source("pipe", file)).code is RefusalCode.UNREADABLE
    assert len(checked) == 1


def test_read_errors_are_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(samples.pictures()["png"])

    def failing(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(intake, "_take_in_stream", failing)
    refusal = refusal_of(Source("a", file))
    assert refusal.code is RefusalCode.UNREADABLE
    assert refusal.message == "It cannot be read: Input/output error."


@pytest.mark.parametrize("kind", ["png", "video"])
def test_the_time_of_change_is_that_of_the_users_own_file(kind: str, tmp_path: Path) -> None:
    data = samples.pictures()["png"] if kind == "png" else samples.video()
    file = tmp_path / "media"
    file.write_bytes(data)
    os.utime(file, (1_000_000_000, 1_000_000_000))
    assert take_in(Source("media", file)).modified == 1_000_000_000
    assert take_in(Source("media", file, is_copy=True)).modified is None
    assert take_in(Source("media", None, data)).modified is None
