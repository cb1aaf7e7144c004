"""`unmask search`, as a user types it."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from search_pictures import hatched

from unmask.installation import install_line

pytest.importorskip("faiss")
Photos = Callable[..., Path]
Say = Callable[[list[str]], tuple[Any, str]]
Run = Callable[[list[str]], tuple[int, str, str]]


@pytest.fixture
def query(tmp_path: Path) -> Path:
    path = tmp_path / "q.png"
    Image.fromarray(hatched(4)).save(path)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output and standard error of a command run in this process."""
    from unmask import cli

    def done(args: list[str]) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["unmask", *args])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return done


def test_from_a_folder_to_hits(run: Run, make_photos: Photos, search_pack: Path, query: Path, tmp_path: Path) -> None:
    photos, index = make_photos(12), tmp_path / "index"
    code, out, _ = run(["search", "index", str(photos), "--out", str(index), "--pack", str(search_pack)])
    assert code == 0 and "12 pictures of 12 files" in out
    page, lines = tmp_path / "hits.html", tmp_path / "hits.jsonl"
    command = ["search", "find", str(query), "--index", str(index), "--top", "3"]
    code, out, _ = run([*command, "--json", str(lines), "--html", str(page), "--order", "both"])
    assert code == 0 and "004.png" in out.replace("\n", "") and "clusters order" in out
    (answer,) = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [len(ranking["hits"]) for ranking in answer["rankings"]] == [3, 3]
    assert page.read_text().startswith("<!doctype html>")
    code, out, _ = run([*command, "--json", "-"])
    assert code == 0 and json.loads(out)["rankings"][0]["hits"][0]["path"].endswith("004.png")
    code, _, err = run([*command, "--json", str(lines)])
    assert code == 2 and "is there already and is kept" in err
    code, _, _ = run([*command, "--html", str(page), "--quiet"])  # a page of its own is replaced
    assert code == 0


def test_scores_of_one_drawing_for_tracing(
    run: Run, make_photos: Photos, search_pack: Path, query: Path, tmp_path: Path
) -> None:
    from unmask.tracing.case.answers import read_scores

    index, scores = tmp_path / "index", tmp_path / "scores.csv"
    run(["search", "index", str(make_photos(6)), "--out", str(index), "--pack", str(search_pack)])
    command = ["search", "find", "--index", str(index), "--scores", str(scores), "--identifier", "person"]
    code, _, _ = run([*command, str(query)])
    assert code == 0
    cosines = read_scores(scores, "person")
    assert set(cosines) == {f"{number:03}" for number in range(6)}
    assert max(cosines, key=lambda name: cosines[name]) == "004"
    assert all(-1 <= cosine <= 1 for cosine in cosines.values())
    code, _, _ = run([*command, str(query)])  # its own is replaced
    assert code == 0
    other = tmp_path / f"other{query.suffix}"
    other.write_bytes(query.read_bytes())
    code, _, err = run([*command, str(query), str(other)])
    assert code == 2 and "one drawing" in err
    scores.write_text("mine\n")
    code, _, err = run([*command, str(query)])
    assert code == 2 and "is kept" in err


@pytest.mark.lab
def test_drawings_of_photos(run: Run, make_photos: Photos, tmp_path: Path) -> None:
    out = tmp_path / "set"
    code, said, _ = run(["search", "draw", str(make_photos(3)), "--out", str(out), "--style", "xdog"])
    assert code == 0 and "3 photos with a drawing each" in said
    assert len(list((out / "sketches").iterdir())) == 3
    code, _, err = run(["search", "draw", str(tmp_path / "photos"), "--out", str(out), "--style", "oil"])
    assert code == 2 and "no style oil" in err


@pytest.mark.lab
def test_what_cannot_be_calibrated(run: Run, search_pack: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("mine\n")
    command = ["search", "calibrate", str(search_pack), str(tmp_path), "--out"]
    code, _, err = run([*command, str(tmp_path / "mine.toml")])
    assert code == 2 and "is kept" in err
    code, _, err = run([*command, str(tmp_path / "new.toml")])
    assert code == 2 and err.count("\n") == 1


def test_refused_drawings_end_in_one(run: Run, make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    run(["search", "index", str(make_photos(3)), "--out", str(index), "--pack", str(search_pack)])
    Image.new("RGB", (50, 50), "white").save(tmp_path / "blank.png")
    code, out, _ = run(["search", "find", str(tmp_path / "blank.png"), "--index", str(index)])
    assert code == 1 and "not searched: empty" in out


def test_an_empty_folder_is_wrong_usage(
    run: Run, make_photos: Photos, search_pack: Path, query: Path, tmp_path: Path
) -> None:
    index, empty = tmp_path / "index", tmp_path / "empty"
    empty.mkdir()
    code, _, err = run(["search", "index", str(empty), "--out", str(index), "--pack", str(search_pack)])
    assert code == 2 and "no pictures there; give a folder" in err and not index.exists()
    photos = make_photos(3)
    run(["search", "index", str(photos), "--out", str(index), "--pack", str(search_pack)])
    code, _, err = run(["search", "find", str(empty), "--index", str(index)])
    assert code == 2 and "no pictures there; give files or a folder" in err
    shutil.rmtree(photos)
    photos.mkdir()
    code, _, _ = run(["search", "index", str(photos), "--out", str(index)])
    assert code == 2
    code, out, _ = run(["search", "find", str(query), "--index", str(index)])  # what it held is kept
    assert code == 0 and "of 3" in out


def test_the_command_that_is_advised_makes_an_index_of_the_photos(
    run: Run, make_photos: Photos, query: Path, tmp_path: Path
) -> None:
    photos = make_photos(3).rename(tmp_path / "my photos")
    (tmp_path / "my photos.index").write_text("something else")
    find = ["search", "find", str(query), "--index", str(photos)]
    code, _, err = run(find)
    advised = shlex.split(err.partition("make one with: ")[2])
    assert code == 2 and advised[0] == "unmask" and err.count("\n") == 1
    code, out, _ = run(advised[1:])
    assert code == 0 and "3 pictures of 3 files" in out
    code, _, _ = run([*find[:-1], advised[-1]])
    assert code == 0
    (tmp_path / "my photos.index").unlink()
    Path(advised[-1]).rename(tmp_path / "my photos.index")
    code, _, err = run(find)
    assert code == 2 and err.rstrip().endswith(f"--index {shlex.quote(str(tmp_path / 'my photos.index'))}")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["index", "PHOTOS", "--out", "NEW", "--pack", "no-such-pack"], "no model pack 'no-such-pack'"),
        (["index", "PHOTOS", "--out", "NEW", "--pack", "plain"], "sketch_search"),
        (["index", "NOWHERE", "--out", "NEW"], "no folder of photos there"),
        (["find", "q.png", "--index", "NOWHERE"], "no search index there; make one with: unmask search index"),
    ],
)
def test_mistakes_end_in_one_line(args: list[str], message: str, say: Say, make_photos: Photos, tmp_path: Path) -> None:
    named = {"PHOTOS": str(make_photos(1)), "NEW": str(tmp_path / "new"), "NOWHERE": str(tmp_path / "nowhere")}
    code, err = say(["search", *(named.get(word, word) for word in args)])
    assert code == 2 and message in err and err.count("\n") == 1


def test_without_faiss_one_line_names_the_extra(
    say: Say, make_photos: Photos, search_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    command = ["search", "index", str(make_photos(1)), "--out", str(tmp_path / "index"), "--pack", str(search_pack)]
    code, err = say(command)
    assert code == 2 and install_line("search") in err
    assert not (tmp_path / "index").exists()


def test_a_search_loads_nothing_of_the_lab(make_photos: Photos, search_pack: Path, query: Path, tmp_path: Path) -> None:
    index = str(tmp_path / "index")
    code = (
        "import sys, unmask.cli\n"
        f"for args in (['index', {str(make_photos(9))!r}, '--out', {index!r}, '--pack', {str(search_pack)!r}],\n"
        f"             ['find', {str(query)!r}, '--index', {index!r}, '--html', {str(tmp_path / 'p.html')!r}]):\n"
        "    sys.argv = ['unmask', 'search', *args]\n"
        "    try:\n        unmask.cli.main()\n"
        "    except SystemExit as end:\n        assert not end.code, end.code\n"
        "heavy = {'torch', 'torchvision', 'timm', 'sklearn', 'scipy', 'pandas', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
