import contextlib
import io
import os
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import media_samples as samples
import pytest

from unmask.errors import RefusalCode, Refused
from unmask.media.intake import take_in
from unmask.media.kinds import FileType, sniff
from unmask.media.sources import RefusedSource, Source, walk


def names(sources: Iterator[Source | RefusedSource], top: Path) -> list[str]:
    return [os.path.relpath(source.path, top) for source in sources]


def outcome(source: Source | RefusedSource) -> str:
    if isinstance(source, RefusedSource):
        return source.refusal.code
    try:
        return take_in(source).kind
    except Refused as refusal:
        return refusal.code


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """For a while not root, whom no permission stops."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_folder_in_order_and_only_media(tmp_path: Path) -> None:
    picture = samples.pictures()["jpeg"]
    (tmp_path / "b").mkdir()
    for name in ("c.JPG", "a.png", "b/z.webp", "b/y.mp4"):
        (tmp_path / name).write_bytes(picture)
    (tmp_path / "no extension").write_bytes(picture)
    (tmp_path / "notes.txt").write_text("Get free pictures at the BMW shop.")
    (tmp_path / "drawing.psd").write_bytes(b"8BPS\0\1")
    sources = list(walk([tmp_path]))
    assert names(iter(sources), tmp_path) == ["a.png", "b/y.mp4", "b/z.webp", "c.JPG", "drawing.psd", "no extension"]
    assert [outcome(source) for source in sources] == ["image"] * 4 + ["unsupported", "image"]


def test_a_named_file_is_always_yielded_in_the_order_given(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("words")
    sources = list(walk([str(tmp_path / "missing.jpg"), text]))
    assert names(iter(sources), tmp_path) == ["missing.jpg", "notes.txt"]
    assert [outcome(source) for source in sources] == ["not_found", "unsupported"]


def test_what_is_named_twice_is_yielded_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    one, two = folder / "one.jpg", folder / "below" / "two.jpg"
    for path in (one, two):
        path.write_bytes(b"")
    other = folder / "notes.txt"  # named: whoever inspects it says that it is none
    other.write_text("")
    for paths, expected in (
        ([one, folder, one], [one, two]),
        ([folder, two, folder / "below"], [one, two]),
        ([folder, folder], [two, one]),
        ([folder, other, other], [two, one, other]),
        ([folder / "below", folder, folder / ".." / "folder" / "one.jpg"], [two, one]),
    ):
        assert [Path(source.path).name for source in walk(paths)] == [Path(path).name for path in expected]
    link = tmp_path / "link.jpg"
    link.symlink_to(one)
    assert [source.path for source in walk([one, link])] == [str(one), str(link)]
    (tmp_path / "elsewhere").symlink_to(folder / "below")  # ".." of a link is not where it stands
    (tmp_path / "one.jpg").write_bytes(b"")
    assert len(list(walk([tmp_path / "elsewhere" / ".." / "one.jpg", tmp_path / "one.jpg", one]))) == 2


def test_folders_are_read_when_their_turn_comes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "later/c.png", "later/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(samples.pictures()["png"])
    sources = walk([tmp_path])
    assert outcome(next(sources)) == "image"
    (tmp_path / "b.png").unlink()  # between listing and reading
    (tmp_path / "later" / "c.png").unlink()  # before its folder is listed
    (tmp_path / "later" / "e.png").write_bytes(b"")
    rest = list(sources)
    assert names(iter(rest), tmp_path) == ["b.png", "later/d.png", "later/e.png"]
    assert [outcome(source) for source in rest] == ["not_found", "image", "empty"]


def test_a_folder_that_goes_away_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "gone").mkdir()
    (tmp_path / "z.png").write_bytes(b"")
    sources = walk([tmp_path])
    next(sources)
    (tmp_path / "gone").rmdir()
    assert [outcome(source) for source in sources] == ["not_found", "empty"]


def test_link_loops_end_and_broken_links_are_told(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "a.png").write_bytes(samples.pictures()["png"])
    (inner / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(inner)
    (tmp_path / "broken.png").symlink_to("nowhere.png")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "link.png").symlink_to("inner/a.png")
    sources = list(walk([tmp_path]))
    assert names(iter(sources), tmp_path) == ["again/a.png", "broken.png", "link.png", "self.png"]
    assert [outcome(source) for source in sources] == ["image", "not_found", "image", "not_found"]


def test_links_to_the_same_folders_do_not_multiply(tmp_path: Path) -> None:
    for depth in range(30):  # 2 to the 30th paths lead to the bottom
        (tmp_path / str(depth)).mkdir()
        for link in ("left", "right"):
            (tmp_path / str(depth) / link).symlink_to(tmp_path / str(depth + 1))
    (tmp_path / "30").mkdir()
    (tmp_path / "30" / "a.png").write_bytes(b"")
    assert len(list(walk([tmp_path / "0"]))) == 1


def test_very_deep_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    depth = sys.getrecursionlimit() + 200
    try:
        for _ in range(depth):
            Path("d").mkdir()
            os.chdir("d")
        Path("a.png").write_bytes(b"")
        (source,) = walk([tmp_path])
        assert outcome(source) == "empty"
    finally:  # pytest's own tidying up recurses, and would fail in later runs too
        Path("a.png").unlink(missing_ok=True)
        while not Path.cwd().samefile(tmp_path):
            os.chdir("..")
            Path("d").rmdir()


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(name)).write_bytes(samples.pictures()["png"])
    (source,) = walk([tmp_path])
    assert isinstance(source, Source)
    assert source.path == f"{tmp_path}/caf\ufffd.png"
    assert source.path.encode("utf-8")
    assert take_in(source).path == source.path
    assert outcome(*walk([os.fsdecode(name)])) == "image"


def test_pipes_and_devices_do_not_hold_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    sources = list(walk([tmp_path, "/dev/zero", tmp_path / "pipe"]))
    assert [Path(source.path).name for source in sources] == ["pipe.jpg", "zero", "pipe"]
    assert [outcome(source) for source in sources] == ["unreadable"] * 3


def test_no_permission() -> None:
    # Not under tmp_path: the folders above that are closed to others as well.
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        (top / "a.png").write_bytes(samples.pictures()["png"])
        (top / "folder").mkdir()
        (top / "z.png").write_bytes(samples.pictures()["png"])
        for closed in (top / "a.png", top / "folder"):
            closed.chmod(0)
        with unprivileged():
            sources = [(source.path, type(source), outcome(source)) for source in walk([top])]
        (top / "folder").chmod(0o700)
        assert sources == [
            (f"{top}/a.png", Source, "unreadable"),
            (f"{top}/folder", RefusedSource, "unreadable"),
            (f"{top}/z.png", Source, "image"),
        ]


def test_impossible_names() -> None:
    assert [outcome(source) for source in walk(["a\0b.png", "\ud800.png", "x" * 5000])] == ["not_found"] * 3


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    data = samples.pictures()["png"]
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
    (source,) = walk(["-"])
    assert isinstance(source, Source)
    assert (source.path, source.file, source.data) == ("-", None, data)
    assert outcome(*walk(["-"])) == "empty"  # it can be read once only


def test_too_much_or_no_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmask.media.sources.MAX_STDIN_BYTES", 10)
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"x" * 11)))
    assert outcome(*walk(["-"])) == RefusalCode.TOO_LARGE
    monkeypatch.setattr(sys, "stdin", None)
    assert outcome(*walk(["-"])) == RefusalCode.UNREADABLE


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\0\0\0\x18ftypisom", FileType("video", "mp4")),
        (b"\0\0\0\x14ftypqt  ", FileType("video", "mov")),
        (b"\0\0\0\x08wide\0\0", FileType("video", "mov")),
        (b"\0\0\0\x10ftypheic", FileType("image", "heif")),
        (b"\0\0\0\x1cftypmif1\0\0\0\0miafmif1avif", FileType("image", "avif")),
        (b"\0\0\0\x18ftypXYZ \0\0\0\0mif1heic", FileType("image", "heif")),
        (b"\0\0\0\x18ftypisom\0\0\0\0mif1heic", FileType("video", "mp4")),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", None),
        (b"\xff\x0a\xfa\x1f", FileType("image", "jxl")),
        (b"Get free stuff", None),
        (b"BMW builds cars, and more", None),
        (b"RIFF\x10\0\0\0WAVEfmt ", None),
        (b"%PDF-1.7", None),
        (b"\xff\xd8", None),
        (b"", None),
    ],
)
def test_sniffing(head: bytes, expected: FileType | None) -> None:
    assert sniff(head) == expected
