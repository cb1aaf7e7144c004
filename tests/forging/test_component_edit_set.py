import csv
import hashlib
import json
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_faces import make_mesh, make_picture
from PIL import Image
from progress_log import ProgressLog

from unmask.datasets.layouts import read_layout
from unmask.datasets.manifest import SHARES, Sample, split_of
from unmask.edits.labels import all_sequences
from unmask.errors import DataError
from unmask.faces import identity
from unmask.forging import component_edit_set as sequential
from unmask.forging import seq_deepfake_writer as sequence_sets
from unmask.forging.component_edit_set import forge_component_edits
from unmask.forging.component_edits import EDITORS, PARTS
from unmask.forging.seq_deepfake_writer import EditSet, held_out_orders, write_seq_deepfake
from unmask.forging.source_faces import SeenFace
from unmask.media.synthetic_mark import band_height, read_mark, with_band

TRACK = "facial_components"
SIZE = 64
BAND = band_height(SIZE)
SEED = 5
HELD_OUT = 0.5
BALD = "03.png"
WIDE = "04.png"
"""Here the face is in the right half of a wide picture."""
SPLITS = {
    "train": ("02.png", BALD, WIDE, "05.png", "08.png", "10.png", "11.png"),
    "val": ("01.png", "09.png"),
    "test": ("00.png", "06.png", "07.png"),
}
"""Where the hash puts people of these names, the source being named "faces"."""


def find(pixels: np.ndarray) -> SeenFace | None:
    """A drawn face fills a square picture, and the right end of a wide one; tall ones have none."""
    side, wide = pixels.shape[:2]
    if wide < side:
        return None
    box = (wide - side + 0.24 * side, 0.16 * side, 0.52 * side, 0.68 * side)
    points = np.array([[0.40, 0.42], [0.60, 0.42], [0.50, 0.55], [0.43, 0.68], [0.57, 0.68]], np.float32) * side
    shift = np.array([wide - side, 0], np.float32)
    return SeenFace(box, points + shift, make_mesh(side, float(np.sin(float(pixels.mean())))) + shift)


def draw_faces(folder: Path, numbers: range | tuple[int, ...] = range(12), maps: bool = True) -> Path:
    """Drawn faces and, half as large as these, label maps with hair (13) over the brow, as grey or indexed pictures."""
    for name in ("images", "masks") if maps else ("images",):
        (folder / name).mkdir(parents=True)
    for number in numbers:
        name, picture = f"{number:02d}.png", make_picture(96, number)
        half = np.ones((48, 48), np.uint8)
        half[1:9, 12:36] = 4 if name == BALD else 13
        if name == WIDE:
            picture = np.concatenate([make_picture(96, 77)[:, :40], picture], axis=1)
            half = np.concatenate([np.full((48, 20), 13, np.uint8), half], axis=1)
        cv2.imwrite(str(folder / "images" / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if maps:
            labels = Image.fromarray(half)
            if number % 2:
                labels.putpalette([3 * index for index in range(20) for _ in range(3)])
            labels.save(folder / "masks" / name)
    return folder


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_faces(tmp_path_factory.mktemp("source") / "faces")


def forge(source: Path, out: Path, **options: Any) -> EditSet:
    """As `forge_component_edits`, every file a person: drawn faces have no embeddings."""
    usual = {"size": SIZE, "seed": SEED, "tools": "classical", "held_out": HELD_OUT, "people": "folder", "finder": find}
    return forge_component_edits(source, out, **{**usual, **options})


@pytest.fixture(scope="module")
def made(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> EditSet:
    return forge(faces, tmp_path_factory.mktemp("out") / "set", count=108)


@pytest.fixture(scope="module")
def small(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> EditSet:
    return forge(faces, tmp_path_factory.mktemp("out") / "small", count=12)


def out_of(result: EditSet) -> Path:
    return result.folder.parent


def tree(folder: Path) -> dict[str, str]:
    """Every file by name, with its hash."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]


def read(path: Path | str, how: int = cv2.IMREAD_COLOR) -> np.ndarray:
    pixels = cv2.imread(str(path), how)
    assert pixels is not None
    return pixels


def grey(path: Path | str) -> np.ndarray:
    """A mask, which is a grey file."""
    pixels = read(path, cv2.IMREAD_UNCHANGED)
    assert pixels.ndim == 2 and pixels.dtype == np.uint8
    return pixels


def names(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(PARTS[number - 1] for number in row["label"] if number)


# What is made


def test_the_set_has_the_files_of_the_layout_and_no_others(made: EditSet) -> None:
    assert made.folder.name == TRACK and made.skipped == () and made.people == 12
    expected = {"record.jsonl", "set.json"}
    for row in records(out_of(made)):
        split, name, edits = row["split"], f"{row['number']:06d}", names(row)
        files = [f"images/{split}/{'-'.join(edits) or 'original'}/{name}.png", f"annotations/{split}.csv"]
        files += [f"masks/{split}/{name}.png"] if edits else []
        for step in range(1, len(edits) + 1):
            files += [f"steps/{split}/{name}/{step}.png", f"steps/{split}/{name}/{step}-mask.png"]
        expected |= {f"{TRACK}/{file}" for file in [*files, row["original"]]}
        assert re.fullmatch(rf"originals/{split}/\d{{5}}\.png", row["original"])
    assert set(tree(out_of(made))) == expected


def test_all_pictures_have_one_size(made: EditSet) -> None:
    assert {read(path, cv2.IMREAD_UNCHANGED).shape[:2] for path in made.folder.rglob("*.png")} == {(SIZE + BAND, SIZE)}


def test_the_layouts_reader_reads_the_set_back(made: EditSet) -> None:
    samples = read_layout(out_of(made))
    assert samples == read_layout(made.folder)
    by_path = {Path(sample.path).relative_to(made.folder).as_posix(): sample for sample in samples}
    rows = records(out_of(made))
    assert len(samples) == len(by_path) == len(rows) == 108
    for row in rows:
        sample, edits = by_path[row["file"]], names(row)
        assert sample == Sample(
            path=str(made.folder / row["file"]),
            label=int(bool(edits)),
            family="stylemapgan" if edits else "real",
            source=f"seq-deepfake/{TRACK}",
            subject=f"{TRACK}/{row['split']}/{Path(row['original']).stem}",
            split=row["split"],
            sequence="-".join(edits),
            original=str(made.folder / row["original"]),
            mask=str(made.folder / row["mask"]) if edits else "",
            steps=str(made.folder / row["steps"]) if edits else "",
        )


def test_labels_agree_with_folders_and_with_the_record(made: EditSet) -> None:
    rows = {f"{TRACK}/{row['file']}": row for row in records(out_of(made))}
    listed = 0
    for split in ("train", "val", "test"):
        with (made.folder / "annotations" / f"{split}.csv").open(newline="") as stream:
            for line in csv.DictReader(stream):
                row, folder = rows[line["file_path"]], Path(line["file_path"]).parent.name
                assert line["label"] == str(row["label"]) and row["split"] == split
                assert folder == ("-".join(names(row)) or "original")
                assert names(row) == tuple(edit["part"] for edit in row["edits"])
                assert {edit["editor"] for edit in row["edits"]} <= set(EDITORS)
                listed += 1
    assert listed == len(rows)


def test_every_length_occurs_and_is_counted(made: EditSet) -> None:
    rows = records(out_of(made))
    lengths = Counter(len(names(row)) for row in rows)
    assert set(lengths) == set(range(6))
    assert made.lengths == {
        split: dict(sorted(Counter(len(names(row)) for row in rows if row["split"] == split).items()))
        for split in ("train", "val", "test")
    }
    assert made.empty_splits == ()


def test_the_tracks_five_parts_all_come_first_and_last_somewhere(made: EditSet) -> None:
    sequences = [names(row) for row in records(out_of(made)) if names(row)]
    assert {sequence[0] for sequence in sequences} == {sequence[-1] for sequence in sequences} == set(PARTS)


def test_hair_is_edited_where_the_label_map_shows_it_and_not_on_the_bald(made: EditSet) -> None:
    seen: Counter[str] = Counter()
    for row in records(out_of(made)):
        for step, part in enumerate(names(row), start=1):
            if part == "hair":
                rows, columns = np.nonzero(grey(made.folder / row["steps"] / f"{step}-mask.png")[BAND:] > 127)
                assert rows.max() < 0.3 * SIZE, row["person"]
                assert columns.min() > 0.15 * SIZE and columns.max() < 0.85 * SIZE, row["person"]
                assert abs(columns.mean() - 0.5 * SIZE) < 4, row["person"]
                seen[row["person"]] += 1
    assert seen[BALD] == 0 and seen[WIDE] > 0 and len(seen) == 11


def test_without_label_maps_hair_is_not_edited(tmp_path: Path) -> None:
    source = draw_faces(tmp_path / "faces", maps=False)
    forge(source, tmp_path / "nested", count=30)
    sequences = {names(row) for row in records(tmp_path / "nested")}
    assert {part for sequence in sequences for part in sequence} == set(PARTS) - {"hair"}
    assert {len(sequence) for sequence in sequences} == set(range(5))
    (tmp_path / "flat").mkdir()
    (source / "images").rename(tmp_path / "flat" / "faces")
    forge(tmp_path / "flat" / "faces", tmp_path / "other", count=30)
    assert tree(tmp_path / "other") == tree(tmp_path / "nested")


def test_nobody_is_on_two_sides_and_donors_are_others_of_the_same_side(made: EditSet) -> None:
    rows = records(out_of(made))
    side = {row["person"]: row["split"] for row in rows}
    assert side == {person: split for split, people in SPLITS.items() for person in people}
    transplanted = 0
    for row in rows:
        people = [file["path"] for file in row["files"]]
        assert people[0] == row["person"] and {side[person] for person in people} == {row["split"]}
        assert row["person"] not in people[1:]
        assert len(people) - 1 == sum(edit["editor"] == "transplant" for edit in row["edits"])
        transplanted += len(people) - 1
    assert transplanted > 50


def test_the_record_names_the_files_it_was_made_from_by_hash(made: EditSet, faces: Path) -> None:
    for row in records(out_of(made)):
        for file in row["files"]:
            assert file["sha256"] == hashlib.sha256((faces / "images" / file["path"]).read_bytes()).hexdigest()
            assert file["window"][0] == (42 if file["path"] == WIDE else 2) and file["window"][1:] == [0, 92]
        assert row["tool"].startswith("unmask ") and row["path"] == f"{TRACK}/{row['file']}"


def test_calibration_people_go_to_val_for_the_layout_knows_three_splits(made: EditSet) -> None:
    sides = {(split_of(f"faces/{row['person']}", SHARES), row["split"]) for row in records(out_of(made))}
    assert sides == {("train", "train"), ("cal", "val"), ("test", "test")}


def test_held_out_orders_are_in_the_test_split_alone(made: EditSet) -> None:
    held = held_out_orders(HELD_OUT, SEED)
    by_split: dict[str, set[bool]] = {}
    for row in records(out_of(made)):
        assert row["held_out"] == (tuple(row["label"]) in held)
        by_split.setdefault(row["split"], set()).add(row["held_out"])
    assert by_split == {"train": {False}, "val": {False}, "test": {False, True}}


def test_nothing_need_be_held_out(faces: Path, made: EditSet, tmp_path: Path) -> None:
    forge(faces, tmp_path / "set", count=24, held_out=0.0)
    rows = records(tmp_path / "set")
    assert not any(row["held_out"] for row in rows)
    held = held_out_orders(HELD_OUT, SEED)
    assert any(tuple(row["label"]) in held for row in rows if row["split"] == "train")


def test_masks_are_the_union_of_their_steps(made: EditSet) -> None:
    for row in records(out_of(made)):
        if names(row):
            steps = [grey(path) for path in sorted((made.folder / row["steps"]).glob("*-mask.png"))]
            assert len(steps) == len(names(row))
            union = grey(made.folder / row["mask"])
            assert np.array_equal(union, np.max(steps, axis=0)) and union.any() and not union[:BAND].any()


def test_the_last_step_is_the_picture(made: EditSet) -> None:
    for row in records(out_of(made)):
        if names(row):
            last = made.folder / row["steps"] / f"{len(names(row))}.png"
            assert last.read_bytes() == (made.folder / row["file"]).read_bytes()


def test_without_resynthesis_a_step_changes_nothing_outside_its_mask(faces: Path, tmp_path: Path) -> None:
    folder = forge(faces, tmp_path / "set", count=30, tools="none").folder
    rows = records(tmp_path / "set")
    for row in rows:
        before = read(folder / row["original"]).astype(int)
        for step in range(1, len(names(row)) + 1):
            after = read(folder / row["steps"] / f"{step}.png").astype(int)
            outside = grey(folder / row["steps"] / f"{step}-mask.png")[BAND:] == 0
            # What a mask of 256 steps leaves out can change a pixel by a rounding.
            assert np.abs(after - before)[BAND:][outside].max() <= 1
            before = after
        assert row["resynthesis"] == {"kind": "none", "passes": 0}
        if not names(row):
            assert (folder / row["file"]).read_bytes() == (folder / row["original"]).read_bytes()
    assert {len(names(row)) for row in rows} == set(range(6))


def test_the_whole_face_is_drawn_anew_after_each_step(made: EditSet) -> None:
    """By one tool: also what no mask covers differs from the untouched face."""
    for row in records(out_of(made)):
        if names(row):
            assert row["resynthesis"]["kind"] == "classical" and row["resynthesis"]["passes"] == len(names(row))
            outside = grey(made.folder / row["mask"])[BAND:] == 0
            change = read(made.folder / row["file"]).astype(int) - read(made.folder / row["original"])
            assert (change[BAND:][outside] != 0).any(axis=1).mean() > 0.9


def test_about_half_of_the_pictures_without_an_edit_are_drawn_anew_and_the_record_tells_which(
    made: EditSet,
) -> None:
    unedited = [row for row in records(out_of(made)) if not names(row)]
    passes = [row["resynthesis"]["passes"] for row in unedited]
    assert 0.25 < np.mean([number > 0 for number in passes]) < 0.75 and set(passes) <= set(range(6))
    for row, number in zip(unedited, passes, strict=True):
        data, original = (made.folder / row[name] for name in ("file", "original"))
        pixels, untouched = read(data)[BAND:], read(original)[BAND:]
        assert (row["mask"], row["steps"], row["edits"]) == ("", "", []) and len(row["files"]) == 1
        if number:
            assert (pixels != untouched).any(axis=2).mean() > 0.9
            assert read_mark(data.read_bytes()) == "algorithmicallyEnhanced"
        else:
            assert data.read_bytes() == original.read_bytes()


def test_made_pictures_are_marked_for_people_and_for_software_and_untouched_ones_are_not(made: EditSet) -> None:
    blank = np.zeros((SIZE, SIZE, 3), np.uint8)
    forged, real = (with_band(blank, text)[:BAND] for text in ("SYNTHETIC", "ORIGINAL"))
    checked = Counter[bool]()
    for row in records(out_of(made)):
        shown = {made.folder / row["original"]: False, made.folder / row["file"]: row["resynthesis"]["passes"] > 0}
        shown |= {made.folder / row["steps"] / f"{step}.png": True for step in range(1, len(names(row)) + 1)}
        for path, touched in shown.items():
            kind = "compositeSynthetic" if names(row) else "algorithmicallyEnhanced"
            assert read_mark(path.read_bytes()) == (kind if touched else None)
            assert np.array_equal(read(path)[:BAND], forged if touched else real)
            checked[touched] += 1
    assert checked[True] > 100 and checked[False] > 100


def test_an_original_is_the_frame_about_the_source_face(made: EditSet, faces: Path) -> None:
    for row in records(out_of(made)):
        left, top, side = row["files"][0]["window"]
        window = read(faces / "images" / row["person"])[top : top + side, left : left + side]
        expected = cv2.resize(window, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        assert np.array_equal(read(made.folder / row["original"])[BAND:], expected)


# The same order


def test_the_same_order_again_changes_nothing(small: EditSet, faces: Path) -> None:
    out = out_of(small)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in small.folder.rglob("*.png")}
    hashes, log = tree(out), ProgressLog()
    again = forge(faces, out, count=12, progress=log)
    assert tree(out) == hashes and again == small
    assert all((path.stat().st_mtime_ns, path.read_bytes()) == kept for path, kept in before.items())
    assert [step for step in log.steps if step[0] == "editing"] == [("editing", 12, 12)]
    log.check_bars_end()


def test_a_picture_depends_on_the_order_and_its_number_alone(
    small: EditSet, made: EditSet, faces: Path, tmp_path: Path
) -> None:
    """Not on how many there are; another seed makes others."""
    part, whole = tree(small.folder), tree(made.folder)
    pictures = [name for name in part if name.endswith(".png")]
    assert len(pictures) > 50 and all(whole[name] == part[name] for name in pictures)
    other = tree(forge(faces, tmp_path / "set", count=12, seed=6).folder)
    assert {name for name in other if name.startswith("images")} != {n for n in part if n.startswith("images")}


def test_six_pictures_a_face_are_made_unless_told(faces: Path, tmp_path: Path) -> None:
    source = draw_faces(tmp_path / "faces", (2, 5), maps=False)
    forge(source, tmp_path / "set")
    people = Counter(row["person"] for row in records(tmp_path / "set"))
    assert people == {"02.png": 6, "05.png": 6}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"seed": 6}, "made with seed 5, not 6; name another folder or delete it"),
        ({"count": 13}, "made with count 12, not 13; name another folder or delete it"),
        ({"size": 80}, "made with size 64, not 80; name another folder or delete it"),
        ({"tools": "none"}, "made with tools classical, not none; name another folder or delete it"),
        ({"held_out": 0.1}, "made with held_out 0.5, not 0.1; name another folder or delete it"),
        ({"people": "file"}, "made with people folder, not file; name another folder or delete it"),
    ],
)
def test_another_order_into_the_same_folder_is_refused(
    small: EditSet, faces: Path, options: dict[str, Any], reason: str
) -> None:
    before = tree(out_of(small))
    with pytest.raises(DataError, match=reason):
        forge(faces, out_of(small), **{"count": 12, **options})
    assert tree(out_of(small)) == before


def test_other_pictures_into_the_same_folder_are_refused(small: EditSet, faces: Path, tmp_path: Path) -> None:
    shutil.copytree(faces, tmp_path / "faces")
    (tmp_path / "faces" / "images" / "02.png").unlink()
    before = tree(out_of(small))
    with pytest.raises(DataError, match="made from other pictures; name another folder or delete it"):
        forge(tmp_path / "faces", out_of(small), count=12)
    assert tree(out_of(small)) == before


def test_a_folder_of_something_else_is_refused(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match="is no set of this command; name another folder or delete it"):
        forge(faces, tmp_path / "mine")
    assert tree(tmp_path / "mine").keys() == {"thesis.tex"}


# Interruptions


class _Killed(Exception):
    pass


@pytest.mark.parametrize("writes", [1, 7, 40])
def test_a_set_killed_while_it_writes_ends_as_one_made_at_once(
    small: EditSet, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    whole_write, out = sequence_sets.write_whole, tmp_path / "set"
    written: list[Path] = []

    def write(path: Path, data: bytes) -> None:
        if path.suffix == ".png":
            if len(written) >= writes:
                raise _Killed
            written.append(path)
        whole_write(path, data)

    monkeypatch.setattr(sequence_sets, "write_whole", write)
    with pytest.raises(_Killed):
        forge(faces, out, count=12)
    monkeypatch.undo()
    kept = {path: path.stat().st_mtime_ns for row in records(out) for path in (out / name for name in row_files(row))}
    forge(faces, out, count=12)
    assert tree(out) == tree(out_of(small))
    originals = {path for path in kept if "originals" in path.parts}  # one of these is of several pictures
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items() if path not in originals)


def row_files(row: dict[str, Any]) -> list[str]:
    steps = [f"{row['steps']}/{step}.png" for step in range(1, len(names(row)) + 1)]
    return [f"{TRACK}/{name}" for name in (row["file"], row["original"], *steps)]


@pytest.mark.parametrize("pictures", [1, 8])
def test_a_set_whose_making_fails_lists_what_is_finished_and_can_be_finished(
    small: EditSet, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: int
) -> None:
    make, out = sequential._Maker.make, tmp_path / "set"

    def failing(self: sequential._Maker, number: int) -> Any:
        if number == pictures:
            raise _Killed
        return make(self, number)

    monkeypatch.setattr(sequential._Maker, "make", failing)
    with pytest.raises(_Killed):
        forge(faces, out, count=12)
    monkeypatch.undo()
    rows = records(out)
    assert [row["number"] for row in rows] == list(range(pictures))
    assert listed(out) == {f"{TRACK}/{row['file']}" for row in rows}
    forge(faces, out, count=12)
    assert tree(out) == tree(out_of(small))


def listed(out: Path) -> set[str]:
    """The pictures that the annotations name."""
    lines = [line for table in out.rglob("*.csv") for line in table.read_text().splitlines()[1:]]
    return {line.split(",")[0] for line in lines}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_set_is_whole_as_far_as_it_goes_and_can_be_finished(
    small: EditSet, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """A signal between the files of one picture: it is finished, recorded and listed all the same."""
    whole_write, out = sequence_sets.write_whole, tmp_path / "set"

    def write(path: Path, data: bytes) -> None:
        whole_write(path, data)
        if path.parts[-4] == "images" and path.stem == "000006":
            signal.raise_signal(number)

    assert names(records(out_of(small))[6])  # so that the signal comes between its files
    monkeypatch.setattr(sequence_sets, "write_whole", write)
    with pytest.raises(KeyboardInterrupt):
        forge(faces, out, count=12)
    monkeypatch.undo()
    rows = records(out)
    assert [row["number"] for row in rows] == list(range(7)) and not list(out.rglob("*.part"))
    assert listed(out) == {f"{TRACK}/{row['file']}" for row in rows}
    assert all((out / name).is_file() for row in rows for name in row_files(row))
    forge(faces, out, count=12)
    assert tree(out) == tree(out_of(small))


def test_files_that_were_lost_are_made_again(small: EditSet, faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    shutil.copytree(out_of(small), out)
    edited = [row for row in records(out) if len(names(row)) > 1]
    (out / TRACK / edited[0]["steps"] / "2-mask.png").unlink()
    (out / TRACK / edited[1]["mask"]).unlink()
    (out / TRACK / edited[2]["original"]).unlink()
    lines = (out / "record.jsonl").read_bytes().splitlines(keepends=True)
    (out / "record.jsonl").write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    forge(faces, out, count=12)
    finished, whole = tree(out), tree(out_of(small))
    assert {k: v for k, v in finished.items() if k != "record.jsonl"} == {
        k: v for k, v in whole.items() if k != "record.jsonl"
    }
    assert sorted(map(json.dumps, records(out))) == sorted(map(json.dumps, records(out_of(small))))


def test_two_workers_make_the_same_bytes_as_one(faces: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        forge(faces, tmp_path / str(workers), count=6, workers=workers)
    one, two = (tree(tmp_path / name) for name in ("1", "2"))
    assert {**one, "record.jsonl": ""} == {**two, "record.jsonl": ""}
    one_by_one, together = (sorted(map(json.dumps, records(tmp_path / name))) for name in ("1", "2"))
    assert one_by_one == together  # they come in any order


# People


class _Embedder:
    """Tells people apart by the stripe that was painted over their pictures' lower rows."""

    def embed(self, pixels: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        assert pixels.shape == (SIZE, SIZE, 3) and landmarks.shape == (5, 2) and landmarks.min() > 0
        vector = np.zeros(256, np.float32)
        vector[round(float(pixels[-2:].mean()))] = 1
        return vector


def test_pictures_of_one_person_are_found_by_their_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are on one side and never give each other anything, whatever their files are called."""
    source = draw_faces(tmp_path / "faces", range(20), maps=False)
    person = {f"{number:02d}.png": f"{number % 10:02d}.png" for number in range(20)}
    for number in range(20):
        path = source / "images" / f"{number:02d}.png"
        picture = read(path)
        picture[-12:] = 20 + 23 * (number % 10)
        cv2.imwrite(str(path), picture)
    monkeypatch.setattr(identity, "FaceEmbedder", _Embedder)
    log = ProgressLog()
    result = forge(source, tmp_path / "set", people="file", progress=log, count=40)
    assert result.people == 10 and {stage for stage, _, _ in log.steps} == {
        *("finding faces", "telling people apart", "editing"),
    }
    log.check_bars_end()
    sides: dict[str, set[str]] = {}
    for row in records(tmp_path / "set"):
        shown = [file["path"] for file in row["files"]]
        assert row["person"] == person[shown[0]]
        assert person[shown[0]] not in {person[name] for name in shown[1:]}
        for name in shown:
            sides.setdefault(person[name], set()).add(row["split"])
    assert len(sides) == 10 and all(len(splits) == 1 for splits in sides.values())


def test_a_folder_is_a_person_if_so_told(tmp_path: Path) -> None:
    splits = {name: split_of(f"faces/{name}", SHARES) for name in (f"p{number}" for number in range(40))}
    kept = [name for split in ("train", "test") for name in [name for name in splits if splits[name] == split][:3]]
    for number, name in enumerate([*kept, *kept]):
        (tmp_path / "faces" / name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "faces" / name / f"{number}.png"), make_picture(96, number))
    result = forge(tmp_path / "faces", tmp_path / "set", count=12)
    assert result.people == 6 and result.empty_splits == ("val",)
    assert {row["person"] for row in records(tmp_path / "set")} == set(kept)
    for row in records(tmp_path / "set"):
        people = [file["path"].split("/")[0] for file in row["files"]]
        assert people[0] == row["person"] not in people[1:]
        assert {splits[person] for person in people} == {row["split"]}


def test_what_shows_no_face_is_passed_over_and_told(tmp_path: Path) -> None:
    source = draw_faces(tmp_path / "faces", (2, 5), maps=False)
    cv2.imwrite(str(source / "images" / "tall.png"), make_picture(96)[:, :60])
    shutil.copy(source / "images" / "02.png", source / "images" / "twin.png")
    (source / "images" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    result = forge(source, tmp_path / "set", count=2)
    assert {Path(path).name for path, _ in result.skipped} == {"tall.png", "twin.png", "broken.jpg"}
    assert {Path(path).name: why for path, why in result.skipped}["tall.png"] == "No face was found."
    assert result.people == 2


# Refusals


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"count": 0}, "count 0, workers 1: give one or more"),
        ({"workers": 0}, "workers 0: give one or more"),
        ({"seed": -1}, "seed -1: give a seed of 0 or more"),
        ({"size": 48}, "size 48: give a multiple of 16 from 64 to 1024"),
        ({"size": 100}, "size 100: give a multiple of 16 from 64 to 1024"),
        ({"size": 2048}, "size 2048: give a multiple of 16 from 64 to 1024"),
        ({"tools": "all"}, "tools 'all': give one of both, autoencoder, classical, none"),
        ({"people": "row"}, "people 'row': give file or folder"),
        ({"held_out": 0.95}, "held out 0.95: give a share from 0 to 0.9"),
        ({"held_out": -0.1}, "held out -0.1: give a share from 0 to 0.9"),
        ({"held_out": float("nan")}, "held out nan: give a share from 0 to 0.9"),
        ({"tools": "both"}, "needs the TAEF2 weights .* not in any folder named.*, or take --tools classical"),
        ({"tools": "autoencoder", "taef2": Path("nowhere")}, "not in nowhere; name.*, or take --tools classical"),
        ({"finder": lambda _: None}, r"no face in any of 12 files \(.*No face was found.*\); give a folder of face"),
    ],
)
def test_wrong_orders_name_the_remedy_and_make_nothing(
    faces: Path, tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        forge(faces, tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


def test_a_source_without_faces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such folder; give one with face pictures"):
        forge(tmp_path / "gone", tmp_path / "set")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no face in any of 0 files; give a folder of face pictures"):
        forge(tmp_path / "empty", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_set_inside_its_source_is_refused(faces: Path) -> None:
    for out in (faces, faces / "forged"):
        with pytest.raises(DataError, match="would then be edited again; name a folder outside"):
            forge(faces, out)


def test_a_person_alone_in_a_split_is_refused(tmp_path: Path) -> None:
    source = draw_faces(tmp_path / "faces", (2, 5, 1), maps=False)
    with pytest.raises(DataError, match="only one person fell into the split val, with nobody to give; add faces"):
        forge(source, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    draw_faces(tmp_path / "more", (9,), maps=False)
    shutil.copy(tmp_path / "more" / "images" / "09.png", source / "images")
    assert forge(source, tmp_path / "set", count=3).people == 4


def test_label_maps_are_part_of_the_order(tmp_path: Path) -> None:
    source = draw_faces(tmp_path / "faces", (2, 5))
    forge(source, tmp_path / "set", count=3)
    Image.fromarray(np.ones((48, 48), np.uint8)).save(source / "masks" / "05.png")
    with pytest.raises(DataError, match="holds a set made from other pictures"):
        forge(source, tmp_path / "set", count=3)
    shutil.rmtree(source / "masks")
    with pytest.raises(DataError, match="holds a set made from other pictures"):
        forge(source, tmp_path / "set", count=3)


def test_where_all_orders_of_a_length_are_held_out_a_face_gets_a_shorter_sequence(tmp_path: Path) -> None:
    """Faces without hair have four parts; of seed 24, nine tenths leave them no order of one length."""
    source, seed = draw_faces(tmp_path / "faces", maps=False), 24
    held = held_out_orders(0.9, seed)
    open_lengths = {
        np.count_nonzero(row) for row in all_sequences() if 5 not in row and tuple(row.tolist()) not in held
    }
    assert open_lengths < {0, 1, 2, 3, 4}
    made = forge(source, tmp_path / "set", count=40, seed=seed, held_out=0.9)
    assert set(made.lengths["train"]) <= open_lengths and sum(made.lengths["train"].values()) > 10


def test_a_label_map_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    source = draw_faces(tmp_path / "faces", (2, 5))
    (source / "masks" / "05.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"05\.png: not a readable label map .*; replace it"):
        forge(source, tmp_path / "set")


def test_a_label_map_is_laid_over_the_upright_picture(tmp_path: Path) -> None:
    """Whatever the file's EXIF orientation: the map shows what people see."""
    upright, turned = (draw_faces(tmp_path / name / "faces", (1, 2, 4, 5, 9)) for name in ("upright", "turned"))
    for folder, orientation in ((upright, None), (turned, 6)):
        with Image.open(upright / "images" / WIDE if orientation is None else folder / "images" / WIDE) as picture:
            stored = picture.convert("RGB") if orientation is None else picture.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = orientation or 1
        stored.save(folder / "images" / "04.jpg", quality=98, exif=exif)
        (folder / "images" / WIDE).unlink()
    masks = [
        [
            grey(path)
            for path in sorted((forge(folder, folder.parent / "set", count=15).folder / "masks").rglob("*.png"))
        ]
        for folder in (upright, turned)
    ]
    assert len(masks[0]) == len(masks[1]) > 0
    for first, second in zip(*masks, strict=True):
        assert np.mean(np.abs(first.astype(float) - second)) < 4


def test_a_face_without_its_label_map_is_refused(tmp_path: Path) -> None:
    source = draw_faces(tmp_path / "faces", (2, 5))
    (source / "masks" / "05.png").unlink()
    reason = r"masks/05\.png is missing: every face of the folder needs its label map, or none has one"
    with pytest.raises(DataError, match=reason):
        forge(source, tmp_path / "set")


def test_a_label_map_in_colour_is_refused(tmp_path: Path) -> None:
    source = draw_faces(tmp_path / "faces", (2, 5))
    Image.open(source / "masks" / "05.png").convert("RGB").save(source / "masks" / "05.png")
    with pytest.raises(DataError, match=r"05\.png: not a label map of one channel; give CelebAMask-HQ's"):
        forge(source, tmp_path / "set")


def test_a_picture_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    source = draw_faces(tmp_path / "faces", (2, 5), maps=False)

    def change(stage: str, done: int) -> None:
        if stage == "editing" and done == 0:
            for path in (source / "images").iterdir():
                cv2.imwrite(str(path), make_picture(90, 99))

    with pytest.raises(DataError, match="was changed while the set was made; begin again in another folder"):
        forge(source, tmp_path / "set", progress=ProgressLog(change))


# Its parts


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_a_share_of_the_orders_of_each_length_is_held_out(share: float) -> None:
    held = held_out_orders(share, 3)
    assert held <= {tuple(row) for row in all_sequences().tolist()}
    lengths = Counter(sum(map(bool, order)) for order in held)
    counts = {length: round(share * number) for length, number in ((2, 20), (3, 60), (4, 120), (5, 120))}
    assert lengths == Counter({length: number for length, number in counts.items() if number})


def test_held_out_orders_follow_from_the_seed() -> None:
    assert held_out_orders(0.2, 3) == held_out_orders(0.2, 3) != held_out_orders(0.2, 4)


def test_annotations_are_written_as_the_layout_has_them(tmp_path: Path) -> None:
    edited = {"file_path": "a, b.png", "label": "[1, 2, 0, 0, 0]", "original": "o.png", "mask": "m.png", "steps": "s"}
    untouched = {"file_path": "c.png", "label": "[0, 0, 0, 0, 0]"}
    table = tmp_path / TRACK / "annotations" / "train.csv"
    write_seq_deepfake([edited, {**untouched, "unknown": "left out"}], table)
    with table.open(newline="") as stream:
        back = list(csv.DictReader(stream))
    assert back == [edited, {**untouched, "original": "", "mask": "", "steps": ""}]


@pytest.mark.lab
@pytest.mark.parametrize("tools", ["autoencoder", "both"])
def test_an_autoencoder_draws_the_faces_anew(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tools: str
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in ("taef2_encoder.pth", "taef2_decoder.pth"):
        (weights / name).write_bytes(name.encode())
    asked: list[Path] = []

    def network(folder: Path) -> Callable[[np.ndarray, float, int], np.ndarray]:
        asked.append(folder)
        return lambda pixels, jitter, seed: 255 - pixels

    monkeypatch.setattr(sequential, "taef2_network", network)
    folder = forge(faces, tmp_path / "set", count=20, tools=tools, taef2=weights).folder
    assert asked == [weights]
    rows = records(tmp_path / "set")
    kinds = {row["resynthesis"]["kind"] for row in rows}
    assert kinds == ({"autoencoder"} if tools == "autoencoder" else {"autoencoder", "classical"})
    for row in rows:
        if not names(row):
            pixels, original = (read(folder / row[name])[BAND:].astype(int) for name in ("file", "original"))
            odd = row["resynthesis"]["kind"] == "autoencoder" and row["resynthesis"]["passes"] % 2
            assert np.abs(pixels - (255 - original if odd else original)).mean() < 30
    (weights / "taef2_decoder.pth").write_bytes(b"others")
    with pytest.raises(DataError, match=r"made with taef2 .*; name another folder or delete it"):
        forge(faces, tmp_path / "set", count=20, tools=tools, taef2=weights)
