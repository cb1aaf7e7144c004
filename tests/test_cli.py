"""The command line from outside: real processes, real files."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from tiny_pack import write_pack

import unmask
from unmask import cli
from unmask.errors import MissingExtraError
from unmask.evidence.report import Report, percent
from unmask.installation import install_line
from unmask.interruption import Interruption

pytestmark = pytest.mark.slow

UNMASK = [sys.executable, "-m", "unmask.cli"]


def run(*args: object, **how: object) -> subprocess.CompletedProcess:
    how = {"stdin": subprocess.DEVNULL, **how} if "input" not in how else how
    return subprocess.run([*UNMASK, *map(os.fspath, map(_text, args))], capture_output=True, timeout=120, **how)


def _text(value: object) -> str | bytes | Path:
    return value if isinstance(value, str | bytes | Path) else str(value)


def lines_of(text: bytes) -> list[dict]:
    assert text == b"" or text.endswith(b"\n")
    return [Report.model_validate_json(line).model_dump(mode="json") for line in text.splitlines()]


def steady(report: dict) -> dict:
    return {**report, "timings": None, "run": None, "identical_to": None}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, portrait: Path, make_video: Callable[..., Path]) -> Path:
    """A folder of good and hostile files."""
    folder = tmp_path_factory.mktemp("mixed")
    jpeg = portrait.read_bytes()
    (folder / "a good.jpg").write_bytes(jpeg)
    (folder / "b empty.jpg").touch()
    (folder / "c text.jpg").write_text("this is no picture\n")
    (folder / "d truncated.jpg").write_bytes(jpeg[: len(jpeg) // 50])
    (folder / "e broken link.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "f loop.jpg").symlink_to(folder / "f loop.jpg")
    (folder / "g inner").mkdir()
    (folder / "g inner" / "back").symlink_to(folder)
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(folder / "g inner" / "no face.png")
    with Image.open(portrait) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    clip = make_video(lambda _: pixels, seconds=1.0).read_bytes()
    (folder / "h clip.mp4").write_bytes(clip)
    (folder / "i cut clip.mp4").write_bytes(clip[:200])
    (folder / "notes.txt").write_text("passed over")
    (Path(os.fsdecode(os.fsencode(folder) + b"/z \xff\xfe.jpg"))).write_bytes(jpeg)
    return folder


EXPECTED = {
    "a good.jpg": None,
    "b empty.jpg": "empty",
    "c text.jpg": "unsupported",
    "d truncated.jpg": "corrupt",
    "e broken link.jpg": "not_found",
    "f loop.jpg": "not_found",
    "g inner/no face.png": "no_face",
    "h clip.mp4": None,
    "i cut clip.mp4": "corrupt",
    "z \ufffd\ufffd.jpg": None,
}


def test_one_photo(tiny_pack: Path, portrait: Path) -> None:
    done = run("inspect", portrait, "--pack", tiny_pack)
    assert done.returncode == 0 and done.stderr == b""
    assert b"astronaut.jpg" in done.stdout and b"1 file" in done.stdout


def test_a_mixed_folder_goes_on_to_its_end(tiny_pack: Path, mixed: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = run("inspect", mixed, "--pack", tiny_pack, "--json", "-", "--html", page)
    assert done.returncode == 1 and b"Traceback" not in done.stderr
    reports = lines_of(done.stdout)
    by_name = {Path(report["path"]).relative_to(mixed).as_posix(): report for report in reports}
    assert {name: (report["refusal"] or {}).get("code") for name, report in by_name.items()} == EXPECTED
    assert list(by_name) == sorted(EXPECTED)
    html = page.read_text(encoding="utf-8")
    assert html.rstrip().endswith("</html>") and html.count("data:image/jpeg") >= 3
    # The command given in the report repeats it, even where the name is not UTF-8.
    odd = by_name["z \ufffd\ufffd.jpg"]
    command = odd["tool"]["command"].replace("unmask", f"{sys.executable} -m unmask.cli", 1) + " --json -"
    again = subprocess.run(["bash", "-c", command], capture_output=True)
    assert steady(lines_of(again.stdout)[0]) == steady(odd)


def test_jobs_change_nothing_but_the_time(tiny_pack: Path, mixed: Path) -> None:
    one, two = (run("inspect", mixed, "--pack", tiny_pack, "--json", "-", "--jobs", jobs) for jobs in (1, 2))
    assert (one.returncode, two.returncode) == (1, 1)
    assert list(map(steady, lines_of(one.stdout))) == list(map(steady, lines_of(two.stdout)))


def test_second_opinions(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    """With two packs: table, page, workers and resume, and the command given repeats it all."""
    other = write_pack(tmp_path / "the other", size=32, gain=-1.0, name="other")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).write_bytes(portrait.read_bytes())
    packs = ("--pack", tiny_pack, "--pack", other)
    page, out = tmp_path / "report.html", tmp_path / "out.jsonl"
    done = run("inspect", folder, *packs, "--html", page, "--json", out, env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"second opinion, other: ") == 3
    assert page.read_text(encoding="utf-8").count("Opinions of the packs") == 3
    one = lines_of(out.read_bytes())
    assert [[opinion["pack"] for opinion in report["faces"][0]["opinions"]] for report in one] == [
        ["tiny", "other"]
    ] * 3

    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(lines[0] + lines[1][:40])  # as a kill would leave it
    done = run("inspect", folder, *packs, "--json", out, "--resume", "--jobs", "2", "--quiet")
    assert done.returncode == 0, done.stderr
    assert list(map(steady, lines_of(out.read_bytes()))) == list(map(steady, one))

    command = one[0]["tool"]["command"].replace("unmask", f"{sys.executable} -m unmask.cli", 1) + " --json -"
    again = subprocess.run(["bash", "-c", command], capture_output=True)
    assert steady(lines_of(again.stdout)[0]) == steady(one[0])
    done = run("inspect", folder, "--pack", tiny_pack, *packs)
    assert done.returncode == 2 and done.stdout == b"" and done.stderr.count(b"\n") == 1 and b"twice" in done.stderr


@pytest.fixture
def several(tmp_path: Path, portrait: Path) -> Path:
    """Three portraits by colour: one that is edited, one judged authentic, one of which nothing can be told."""
    folder = tmp_path / "several"
    folder.mkdir()
    with Image.open(portrait) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    for name, amount in (("a warm", 5), ("b cold", -60), ("c neutral", -15)):
        changed = np.clip(pixels + amount * np.array([1.0, 0.0, -1.0]), 0, 255).astype(np.uint8)
        Image.fromarray(changed).save(folder / f"{name}.png")
    return folder


def test_edits_are_printed_and_written(tiny_pack: Path, tiny_edit_model: Path, several: Path, tmp_path: Path) -> None:
    """Table, JSON and page, with workers and resume, and the command given repeats it."""
    packs = ("--pack", tiny_pack, "--edits", tiny_edit_model)
    page, out = tmp_path / "report.html", tmp_path / "out.jsonl"
    wide = {**os.environ, "COLUMNS": "160"}
    done = run("inspect", several, *packs, "--json", out, "--html", page, env=wide)
    assert done.returncode == 0 and done.stderr == b""
    reports = lines_of(out.read_bytes())
    sequences = [report["faces"][0]["sequence"] for report in reports]
    assert [sequence and sequence["outcome"] for sequence in sequences] == ["edits", None, "cannot_tell"]
    assert sequences[0]["best"]["edits"] == ["nose", "eye"] and sequences[0]["pack"] == "tiny-reader"
    assert [report["schema_version"] for report in reports] == ["1.6"] * 3
    nose, eye = (percent(step["present"]) for step in sequences[0]["steps"])
    numbers = f"exactly this {percent(sequences[0]['best']['posterior'])}, any edit {percent(sequences[0]['edited'])}"
    table = done.stdout.decode()
    assert [line.strip() for line in table.splitlines() if "edits:" in line] == [
        f"edits: nose ({nose}), then eye ({eye}); {numbers}; a hypothesis, not evidence",
        "edits: cannot tell. The reader is undecided whether any part was edited.",
    ]
    assert "tiny-reader 1" in table
    html = page.read_text(encoding="utf-8")
    assert html.count("nose → eye") >= 1 and html.count("Cannot tell.") == 1
    assert html.count("hypothesis, not evidence") == 2  # of a strip of three, all but the first
    # Crop and overlay of three faces; where the two edits are; the strip.
    assert html.count("data:image/jpeg") == 6 + 2 + 3
    assert "Knows nothing of edits." in html  # the reader's card

    other, again = tmp_path / "other.html", tmp_path / "again.jsonl"
    again.write_bytes(out.read_bytes().splitlines(keepends=True)[1])
    done = run("inspect", several, *packs, "--json", again, "--html", other, "--resume", "--jobs", "2", "--quiet")
    assert done.returncode == 0, done.stderr
    by_path = sorted(lines_of(again.read_bytes()), key=lambda report: report["path"])
    assert list(map(steady, by_path)) == list(map(steady, reports))
    assert other.read_text(encoding="utf-8").count("hypothesis, not evidence") == 2

    command = reports[0]["tool"]["command"].replace("unmask", f"{sys.executable} -m unmask.cli", 1) + " --json -"
    repeated = subprocess.run(["bash", "-c", command], capture_output=True)
    assert steady(lines_of(repeated.stdout)[0]) == steady(reports[0])


@pytest.mark.slow
def test_no_edits_are_read_where_none_are_asked_for(tiny_pack: Path, several: Path, tmp_path: Path) -> None:
    page, out = tmp_path / "report.html", tmp_path / "out.jsonl"
    done = run("inspect", several, "--pack", tiny_pack, "--edits", "none", "--json", out, "--html", page)
    assert done.returncode == 0 and b"edits" not in done.stdout
    for report in lines_of(out.read_bytes()):
        assert report["faces"][0]["sequence"] is None and report["tool"]["options"]["edit_pack"] is None
        assert [pack["name"] for pack in report["packs"]] == ["yunet", "tiny"] and "edits" not in report["timings"]
    assert "Edits of single parts" not in page.read_text(encoding="utf-8")


def test_a_pack_that_does_not_read_edits_is_one_line(
    tiny_pack: Path, make_reader: Callable[..., Path], portrait: Path, tmp_path: Path, say: Callable[..., Any]
) -> None:
    altered = make_reader()
    (altered / "model.onnx").write_bytes(b"")
    cases: list[tuple[object, str]] = [
        (tiny_pack, "pack 'tiny' is for forgery_detection, not edit_reading"),
        ("yunet", "pack 'yunet' is for face_detection, not edit_reading"),
        (make_reader(outputs=("a", "b", "c")), "pack 'tiny-reader' does not read edits"),
        (make_reader(metrics=()), "card of pack 'tiny-reader' is incomplete: metrics"),
        (altered, "model.onnx differs from the sha256 on its card"),
        (tmp_path / "nothing", "no model pack"),
    ]
    for pack, message in cases:
        out = tmp_path / "out.jsonl"
        code, error = say(
            ["inspect", str(portrait), "--pack", str(tiny_pack), "--edits", str(pack), "--json", str(out)]
        )
        (line,) = error.splitlines()
        assert code == 2 and line.startswith("unmask: ") and message in line
        assert not out.exists()


@pytest.mark.slow
def test_standard_input(tiny_pack: Path, portrait: Path) -> None:
    done = run("inspect", "-", "--pack", tiny_pack, "--json", "-", input=portrait.read_bytes())
    assert done.returncode == 0
    (report,) = lines_of(done.stdout)
    assert report["path"] == "-" and len(report["faces"]) == 1
    nothing = run("inspect", "-", "--pack", tiny_pack, "--json", "-")
    assert nothing.returncode == 1 and lines_of(nothing.stdout)[0]["refusal"]["code"] == "empty"


def test_a_missing_path_is_refused_and_the_rest_goes_on(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    done = run("inspect", tmp_path / "none.jpg", portrait, "--pack", tiny_pack, "--json", "-")
    assert done.returncode == 1
    assert [report["verdict"] == "refused" for report in lines_of(done.stdout)] == [True, False]


def test_a_name_that_looks_like_an_option(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    (tmp_path / "--quiet").write_bytes(portrait.read_bytes())
    done = run("inspect", "--pack", tiny_pack, "--json", "-", "--", "--quiet", cwd=tmp_path)
    (report,) = lines_of(done.stdout)
    assert report["path"] == "--quiet" and report["tool"]["command"].endswith(" -- --quiet")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "Missing argument"),
        (("x.jpg", "--jobs", "0"), "--jobs"),
        (("x.jpg", "--fps", "0"), "--fps"),
        (("x.jpg", "--resume"), "--json"),
        (("x.jpg", "--resume", "--json", "-"), "--json"),
        (("x.jpg", "--nonsense"), "--nonsense"),
        (("x.jpg", "--pack", "no-such-pack"), "no model pack 'no-such-pack'"),
        (("x.jpg", "--pack", "yunet"), "yunet"),
        (("x.jpg", "--edits", "no-such-reader"), "no model pack 'no-such-reader'"),
    ],
)
def test_wrong_usage(args: tuple[str, ...], message: str) -> None:
    done = run("inspect", *args, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 2 and done.stdout == b""
    assert message in done.stderr.decode() and "Traceback" not in done.stderr.decode()


@pytest.mark.slow
def test_a_report_that_cannot_be_written(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    for option in ("--json", "--html"):
        done = run("inspect", portrait, "--pack", tiny_pack, option, tmp_path / "no folder" / "out")
        assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and b"cannot be written" in done.stderr
    (tmp_path / "poem.txt").write_text("not a report\n")
    done = run("inspect", portrait, "--pack", tiny_pack, "--json", tmp_path / "poem.txt", "--resume")
    assert done.returncode == 2 and (tmp_path / "poem.txt").read_text() == "not a report\n"


def test_no_file_of_the_users_is_overwritten(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    photo, poem = tmp_path / "photo.jpg", tmp_path / "poem.txt"
    photo.write_bytes(portrait.read_bytes())
    poem.write_text("not a report\n")
    link, twice = tmp_path / "link", tmp_path / "twice"
    link.symlink_to(photo)
    before = {path: path.read_bytes() for path in (photo, poem)}
    cases: list[tuple[object, ...]] = [
        ("--json", photo),
        ("--html", photo),
        ("--html", link),
        ("--json", poem),
        ("--html", poem),
        ("--json", tmp_path / "new.jpg"),
        ("--html", "-"),
        ("--html", os.devnull),
        ("--json", twice, "--html", tmp_path / "." / "twice"),
    ]
    for words in cases:
        done = run("inspect", photo, "--pack", tiny_pack, *words)
        assert done.returncode == 2 and done.stdout == b"" and b"Traceback" not in done.stderr, words
        assert {path: path.read_bytes() for path in before} == before and link.is_symlink()
    assert Path(os.devnull).is_char_device() and not twice.exists() and not (tmp_path / "new.jpg").exists()
    with photo.open("rb") as stream:
        done = run("inspect", "-", "--pack", tiny_pack, "--json", photo, stdin=stream)
    assert done.returncode == 2 and photo.read_bytes() == before[photo]


def test_outputs_are_looked_at_before_anything_is_read(portrait: Path) -> None:
    done = run("inspect", portrait, "--pack", "no such pack", "--json", portrait)
    assert done.returncode == 2 and b"is how a picture" in done.stderr


def test_finished_reports_are_kept(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "out.jsonl", tmp_path / "out.html"
    args = ("inspect", portrait, "--pack", tiny_pack, "--quiet")
    assert run(*args, "--json", out, "--html", page).returncode == 0
    content = out.read_bytes()
    done = run(*args, "--json", out)
    assert done.returncode == 2 and out.read_bytes() == content and b"--resume" in done.stderr
    assert run(*args, "--html", page).returncode == 0  # the page is made from the reports, and can be made anew
    page.unlink()
    assert run(*args, "--json", out, "--html", page, "--resume").returncode == 0
    assert out.read_bytes() == content
    assert portrait.name in page.read_text(encoding="utf-8")  # what was finished before is on it too


def test_a_link_to_the_page_stays_a_link(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    link = tmp_path / "page.html"
    link.symlink_to(tmp_path / "place" / "page.html")
    assert run("inspect", portrait, "--pack", tiny_pack, "--quiet", "--html", link).returncode == 0
    assert link.is_symlink() and [path.name for path in (tmp_path / "place").iterdir()] == ["page.html"]


def test_resume_knows_a_file_by_all_its_paths(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "folder", tmp_path / "out.jsonl"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(portrait.read_bytes())
    (tmp_path / "link").symlink_to(folder)
    args = ("inspect", "--pack", tiny_pack, "--json", out, "--resume", "--quiet")
    assert run(*args, "folder", cwd=tmp_path).returncode == 0
    content = out.read_bytes()
    for spelling in ("./folder", "folder/", "folder/../folder", "link", folder, "folder/a.jpg", folder / "a.jpg"):
        done = run(*args, spelling, cwd=tmp_path)
        assert done.returncode == 0 and b"nothing to do" in done.stderr, spelling
    assert out.read_bytes() == content


def test_resume_takes_the_same_options_and_packs(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    args = ("inspect", portrait, "--json", out, "--quiet")
    assert run(*args, "--pack", tiny_pack).returncode == 0
    content = out.read_bytes()
    for words, difference in (
        (("--pack", tiny_pack, "--fps", "9"), b"--fps 5.0, now 9.0"),
        (("--pack", tiny_pack, "--pack", "plain"), b"packs "),
        (("--pack", tiny_pack, "--edits", "none"), b"packs "),
    ):
        done = run(*args, *words, "--resume")
        assert done.returncode == 2 and difference in done.stderr, done.stderr
        assert out.read_bytes() == content
    moved = tmp_path / "moved"  # another folder with the same model is the same pack
    moved.mkdir()
    for file in tiny_pack.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    assert run(*args, "--pack", moved, "--resume").returncode == 0


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_full_disk_is_one_line_and_costs_nothing_finished(
    option: str, tiny_pack: Path, many: Path, tmp_path: Path
) -> None:
    """A limit on file size stands for the disk: the write that passes it fails in its middle."""
    out = tmp_path / "out"
    args = ("inspect", many, "--pack", tiny_pack, "--quiet", option, out)
    limit = (200_000, 200_000)
    done = run(*args, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    errors = done.stderr.decode()
    assert done.returncode == 2 and errors.count("\n") == 1, errors
    assert errors.startswith(f"unmask: {out}: cannot") and "File too large" in errors
    if option == "--html":
        assert b"000.jpg" in (tmp_path / "out.part").read_bytes()
        return
    assert 0 < len(lines_of(out.read_bytes())) < 80
    done = run(*args, "--resume")
    assert done.returncode == 0
    assert [Path(report["path"]).name for report in lines_of(out.read_bytes())] == [f"{n:03}.jpg" for n in range(80)]


@pytest.mark.parametrize("options", [(), ("--json", "-")])
def test_a_full_disk_behind_standard_output_is_one_line(
    options: tuple[str, ...], tiny_pack: Path, portrait: Path, tmp_path: Path
) -> None:
    command = [*UNMASK, "inspect", str(portrait), "--pack", str(tiny_pack), *options]
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(
            command,
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=60,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        )
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and b"File too large" in done.stderr
    assert (tmp_path / "out").stat().st_size == 100


@pytest.mark.parametrize("resume", [False, True])
def test_progress_counts_to_the_end(
    resume: bool, tiny_pack: Path, portrait: Path, tmp_path: Path, say: Callable[..., Any], monkeypatch: Any
) -> None:
    """Also where a folder does not say how many files it holds, or some of them are done."""
    updates: list[tuple[str, int, int | None]] = []

    class Recorder:
        def update(self, stage: str, done: int, total: int | None = None, detail: str = "") -> None:
            updates.append((stage, done, total))

        def note(self, text: str) -> None: ...

    monkeypatch.setattr("unmask.cli.inspect._consoles", lambda *_, **__: (None, object()))
    monkeypatch.setattr("unmask.cli.inspect.progress_bars", lambda *_, **__: nullcontext(Recorder()))
    folder, out = tmp_path / "folder", tmp_path / "out.jsonl"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).write_bytes(portrait.read_bytes())
    if resume:
        say(["inspect", str(folder / "a.jpg"), "--pack", str(tiny_pack), "--json", str(out), "--quiet"])
        updates.clear()
    options = ["--pack", str(tiny_pack), "--json", str(out), "--quiet", *(["--resume"] if resume else [])]
    assert say(["inspect", str(folder), *options])[0] == 0
    count = 2 if resume else 3
    assert [done for _, done, _ in updates] == [*range(count + 1), count]
    assert {total for _, _, total in updates[:-1]} <= {None, count} and updates[-1] == ("files", count, count)


def test_an_empty_folder_says_so(tiny_pack: Path, tmp_path: Path) -> None:
    done = run("inspect", tmp_path, "--pack", tiny_pack)
    assert done.returncode == 2 and done.stdout == b"" and b"no pictures or videos there" in done.stderr


def test_a_missing_extra_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tiny_pack: Path
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise MissingExtraError("lab", "this command")

    monkeypatch.setattr("unmask.inspection.Inspector", missing)
    monkeypatch.setattr(sys, "argv", ["unmask", "inspect", "x.jpg"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f'unmask: this command needs the "lab" extra: {install_line("lab")}\n'


def test_version_and_packs() -> None:
    assert run("--version").stdout.decode().split() == ["unmask", unmask.__version__]
    cards = json.loads(run("packs", "--json").stdout)
    assert "yunet" in [card["name"] for card in cards]
    listed = run("packs").stdout
    assert b"yunet" in listed and b"covered" not in listed and listed.count(b"\n") < 2 * len(cards) + 4
    card = run("packs", "plain", env={**os.environ, "COLUMNS": "80"}).stdout.decode()
    assert card.count("\n") <= 42 and "unmask packs plain --json" in " ".join(card.split())
    for said in ("plain 0.2.0", "3.2 MB", "Apache-2.0", "checked with", "worst source 2.1 %", "AUC", "not covered"):
        assert said in card, said
    assert "gpen_inpaint" not in card  # one picture of it
    assert json.loads(run("packs", "plain", "--json").stdout)["name"] == "plain"
    assert run("packs", "no-such").returncode == 2


def test_a_file_without_a_command_is_inspected(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    done = run(portrait, "--pack", tiny_pack, "--json", "-")
    assert done.returncode == 0 and lines_of(done.stdout)[0]["path"] == str(portrait)
    assert run(tmp_path).returncode == 2 and b"no pictures or videos" in run(tmp_path).stderr
    assert b"not_found" in run("nowhere.jpg", "--pack", tiny_pack).stdout
    assert b"No such command" in run("inspct").stderr


def test_a_pack_that_there_is_not_suggests_detectors_alone(portrait: Path) -> None:
    done = run("inspect", portrait, "--pack", "no-such")
    assert done.returncode == 2 and done.stderr.endswith(b"or an embedded one: plain\n")
    done = run("inspect", portrait, "--pack", "mmnet")
    assert done.returncode == 2 and b"is for edit_reading, not forgery_detection" in done.stderr


def test_help_is_quick() -> None:
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time: other work on the machine does not count.
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.8


@pytest.fixture
def many(tmp_path: Path, portrait: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(80):
        (folder / f"{number:03}.jpg").write_bytes(portrait.read_bytes())
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_what_is_finished(number: signal.Signals, tiny_pack: Path, many: Path) -> None:
    out, page = many.parent / "out.jsonl", many.parent / "out.html"
    command = [*UNMASK, "inspect", str(many), "--pack", str(tiny_pack), "--json", str(out), "--html", str(page)]
    process = subprocess.Popen(
        [*command, "--jobs", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    children: list[psutil.Process] = []
    while not (out.exists() and out.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None, process.communicate()
        children = psutil.Process(process.pid).children(recursive=True)
        time.sleep(0.01)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does on Ctrl-C
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"interrupted" in errors and b"Traceback" not in errors
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    before = lines_of(out.read_bytes())
    assert 3 <= len(before) < 80
    html = page.read_text(encoding="utf-8")
    assert html.rstrip().endswith("</html>") and html.count("astronaut") == 0 and "000.jpg" in html

    with out.open("ab") as stream:
        stream.write(b'{"schema_version":"1.0","path":"torn')  # as a power cut would leave it
    done = subprocess.run([*command, "--resume", "--quiet"], capture_output=True)
    assert done.returncode == 0, done.stderr
    after = lines_of(out.read_bytes())
    assert after[: len(before)] == before
    assert [Path(report["path"]).name for report in after] == [f"{number:03}.jpg" for number in range(80)]


@pytest.mark.slow
def test_resume_inspects_a_changed_file_again(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    photo, out = tmp_path / "photo.jpg", tmp_path / "out.jsonl"
    photo.write_bytes(portrait.read_bytes())
    args = ("inspect", photo, tmp_path / "gone.jpg", "--pack", tiny_pack, "--json", out, "--resume", "--quiet")
    assert run(*args).returncode == 1
    done = run(*args)
    assert done.returncode == 1 and b"nothing to do" in done.stderr  # one file is still refused
    assert len(lines_of(out.read_bytes())) == 2
    with Image.open(portrait) as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photo)
    assert run(*args).returncode == 1
    reports = lines_of(out.read_bytes())
    assert [report["path"] for report in reports] == [str(photo), str(tmp_path / "gone.jpg"), str(photo)]
    assert reports[0]["sha256"] != reports[2]["sha256"]


@pytest.fixture(scope="module")
def slow(make_video: Callable[..., Path]) -> Path:
    """A video that takes seconds to inspect."""
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    return make_video(lambda _: noise, seconds=60.0)


@pytest.mark.slow
def test_workers_die_with_a_killed_parent(tiny_pack: Path, portrait: Path, slow: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    files = [str(portrait), str(slow), str(slow)]
    process = subprocess.Popen(
        [*UNMASK, "inspect", *files, "--pack", str(tiny_pack), "--json", str(out), "--quiet", "--fps", "10"]
    )
    while not (out.exists() and out.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.kill()
    process.wait()
    # At once, not when the video is done.
    assert psutil.wait_procs(children, timeout=2)[1] == []


def test_an_interruption_waits_for_a_record_to_be_written() -> None:
    written, before = [], signal.getsignal(signal.SIGINT)
    with Interruption() as interruption, pytest.raises(KeyboardInterrupt):
        with interruption.held_back():
            signal.raise_signal(signal.SIGTERM)
            written.append("whole")
        written.append("too late")
    assert written == ["whole"]
    with Interruption(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_a_closed_pipe_ends_quietly(tiny_pack: Path, many: Path) -> None:
    command = f"'{sys.executable}' -m unmask.cli inspect '{many}' --pack '{tiny_pack}' --json - | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
    assert len(lines_of(done.stdout)) == 1 and b"Traceback" not in done.stderr


@pytest.mark.slow
def test_demo(tiny_pack: Path, tmp_path: Path) -> None:
    done = run("demo", "--pack", tiny_pack, "--out", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    output = done.stdout.decode()
    assert "photograph.jpg" in output and "forgery.png" in output and "report.html" in output
    html = (tmp_path / "here" / "report.html").read_text(encoding="utf-8")
    assert html.count("data:image/jpeg") >= 4
    with Image.open(tmp_path / "here" / "forgery.png") as forgery:
        assert "digitalsourcetype/compositeSynthetic" in str(forgery.info["XML:com.adobe.xmp"])
    (tmp_path / "file").touch()
    done = run("demo", "--pack", tiny_pack, "--out", tmp_path / "file")
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
