"""Where commands may write: never over an input, over one another, or over what is somebody else's."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unmask.errors import DataError
from unmask.files import Output, check_outputs, lock, whole

YES: Callable[[Path], bool] = lambda path: True  # noqa: E731


def refused(outputs: list[Output], *inputs: Path | str) -> str:
    with pytest.raises(DataError) as error:
        check_outputs(outputs, inputs)
    return str(error.value)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"a photograph")
    return path


def spellings(path: Path) -> dict[str, Path]:
    link, hard, folder = (path.with_name(name) for name in ("link", "hard", "folder"))
    link.symlink_to(path)
    hard.hardlink_to(path)
    folder.symlink_to(path.parent)
    return {
        "itself": path,
        "dots": path.parent / "." / ".." / path.parent.name / path.name,
        "link": link,
        "hard link": hard,
        "through a link to the folder": folder / path.name,
        "relative": Path(os.path.relpath(path)),
    }


def test_an_input_by_any_name_is_no_output(photo: Path) -> None:
    for name, path in spellings(photo).items():
        assert "is read here" in refused([Output("--json", path, YES, stream=True)], photo), name
        assert "is read here" in refused([Output("--json", photo, YES, stream=True)], path), name
    assert photo.read_bytes() == b"a photograph"


def test_standard_input_from_a_file_is_an_input(photo: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from unmask.files import Output, check_outputs\n"
        "check_outputs([Output('--json', Path(sys.argv[1]), lambda path: True)], ['-'])"
    )
    with photo.open("rb") as stream:
        done = subprocess.run([sys.executable, "-c", code, photo], stdin=stream, capture_output=True, text=True)
    assert done.returncode == 1 and "is read here" in done.stderr


def test_two_outputs_are_two_files(tmp_path: Path, photo: Path) -> None:
    new = tmp_path / "new"
    both = [Output("--json", new), Output("--html", tmp_path / "." / "new")]
    assert "--json writes the same file" in refused(both)
    existing = [Output("--json", photo, YES), Output("--html", spellings(photo)["hard link"], YES)]
    assert "--json writes the same file" in refused(existing)
    check_outputs([Output("--json", new), Output("--html", tmp_path / "other")])
    assert not new.exists()


def test_the_ending_of_another_option_is_refused(tmp_path: Path) -> None:
    assert "ends in .pdf is for --pdf; give one that ends in .html" in refused([Output("--html", tmp_path / "r.PDF")])
    assert "is for --json" in refused([Output("--csv", tmp_path / "r.jsonl")])
    for option, name in (("--html", "r.htm"), ("--json", "r.jsonl"), ("--json", "r.txt"), ("--out", "r.pdf")):
        check_outputs([Output(option, tmp_path / name)])


def test_what_is_somebody_elses_is_kept(photo: Path, tmp_path: Path) -> None:
    assert "is there already and is kept" in refused([Output("--json", photo)])
    assert "is there already and is kept" in refused([Output("--html", spellings(photo)["link"])])
    check_outputs([Output("--json", photo, lambda path: path.read_bytes() == b"a photograph")])
    (tmp_path / "empty").touch()
    check_outputs([Output("--json", tmp_path / "empty"), Output("--html", tmp_path / "out")])


def test_a_file_that_cannot_be_read_is_kept(tmp_path: Path, photo: Path) -> None:
    def unreadable(path: Path) -> bool:
        raise PermissionError(13, "no")

    assert "is kept" in refused([Output("--html", photo, unreadable)])


def test_folders_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/null")):
        assert "not a regular file" in refused([Output("--html", place, YES)])
        check_outputs([Output("--json", place, stream=True)])
    for stream in (True, False):
        assert "it is a folder" in refused([Output("--json", tmp_path, YES, stream)])


@pytest.mark.slow
def test_what_cannot_be_written_is_refused_before_anything_else_is(tmp_path: Path, photo: Path) -> None:
    page, lost = Output("--html", tmp_path / "page.html"), tmp_path / "nowhere" / "r.json"
    with pytest.raises(DataError, match=r"--json .*: cannot be written \(no such folder\)"):
        check_outputs([page, Output("--json", lost)])
    with pytest.raises(DataError, match="no such folder"):
        check_outputs([Output("--json", photo / "r.json")])
    check_outputs([Output("--json", lost, makes_folder=True)])
    if os.geteuid() != 0:  # who may write everything
        (tmp_path / "locked").mkdir(0o500)
        with pytest.raises(DataError, match="no permission"):
            check_outputs([Output("--json", tmp_path / "locked" / "r.json")])


def test_many_inputs_take_one_look_each(tmp_path: Path) -> None:
    names = [str(tmp_path / f"{number}.jpg") for number in range(20_000)]
    check_outputs([Output("--json", tmp_path / "out")], names)
    assert "is read here" in refused([Output("--json", tmp_path / "19999.jpg")], *names)


def test_a_lock_is_held_until_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("ab") as first:
        assert lock(first)
        with path.open("ab") as second:
            assert not lock(second)
    with path.open("ab") as third:
        assert lock(third)
    with Path("/dev/null").open("ab") as device:
        assert lock(device)


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    with whole(link) as part:
        part.write_text("text")
    assert link.is_symlink() and target.read_text() == "text"
