import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_faces import make_picture
from progress_log import ProgressLog

from unmask.datasets.manifest import Sample
from unmask.edits.labels import TRACKS
from unmask.errors import DataError
from unmask.faces import finding
from unmask.faces.alignment import Box, resize
from unmask.lab.edits import edited_faces as edited_faces_module
from unmask.lab.edits.edited_faces import (
    CELLS,
    NOT_KNOWN,
    PER_EDIT,
    UNION,
    EditedFaces,
    between_steps,
    crop_edited_faces,
    track_of,
)

SIDE = 96
SIZE = 32
MARGIN = 1.5
BOX = (32.0, 24.0, 32.0, 40.0)
WINDOW = (slice(14, 74), slice(18, 78))
"""What the context crop of MARGIN takes of a picture with a face in BOX: 60 pixels a side about (48, 44)."""
AREAS = {"nose": (40, 50, 42, 54), "lip": (56, 62, 38, 58), "eye": (30, 36, 34, 62)}
"""Rows and columns that an edit changes."""
EDITS = TRACKS["facial_components"].edits


def sample(path: Path | str = "a.png", sequence: str = "", **values: str) -> Sample:
    return Sample(
        **{
            "path": str(path),
            "label": int(bool(sequence)),
            "family": "stylemapgan" if sequence else "real",
            "source": "seq-deepfake/facial_components",
            "subject": Path(path).stem,
            "split": "train",
            "sequence": sequence,
            **values,
        }  # type: ignore[arg-type]
    )


# Vocabularies


def test_the_track_of_facial_components_is_known_by_its_names() -> None:
    track, sequences = track_of([sample(sequence="nose-eye-lip"), sample(), sample(sequence="hair")])
    assert track == TRACKS["facial_components"]
    assert sequences.dtype == np.uint8
    assert sequences.tolist() == [[1, 2, 4, 0, 0], [0] * 5, [5, 0, 0, 0, 0]]


def test_the_track_of_facial_attributes_is_known_by_its_names() -> None:
    track, sequences = track_of(
        [sample(sequence="Young-Bangs"), sample(sequence="Bangs-Eyeglasses-Beard-Smiling-Young")]
    )
    assert track == TRACKS["facial_attributes"]
    assert sequences.tolist() == [[5, 1, 0, 0, 0], [1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        (("", ""), "no row of these data has a sequence of edits; give a Seq-DeepFake folder"),
        ((), "no row of these data has a sequence of edits; give a Seq-DeepFake folder"),
        (("nose-ear", "eye"), r"edits ear, eye, nose are not those of one track; name one of them \(facial_comp"),
        (("nose", "Bangs"), r"edits Bangs, nose are not those of one track.*; facial_attributes: Bangs, Eyeglasses"),
        (("nose", "eye-lip-eye"), "row 2, b1.png: sequence 'eye-lip-eye': edit 2 stands twice; each can be made once"),
        (("nose-eye-eyebrow-lip-hair-nose",), "row 1, b0.png: sequence .*: 6 places; a sequence has at most 5"),
    ],
)
def test_faulty_sequences_are_refused(sequences: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        track_of([sample(f"b{number}.png", sequence) for number, sequence in enumerate(sequences)])


# Between the steps


def test_what_lies_between_the_steps_are_the_pictures_after_each_edit_but_the_last(tmp_path: Path) -> None:
    row, steps = sample("5.png", "nose-eye-lip", original="o.png", mask="m.png", steps="s/5"), Path("s/5")
    assert between_steps([row]) == [
        replace(row, path=str(steps / "1.png"), sequence="nose", mask=""),
        replace(row, path=str(steps / "2.png"), sequence="nose-eye", mask=""),
    ]


@pytest.mark.parametrize("row", [sample(), sample(sequence="nose", steps="s"), sample(sequence="nose-eye", mask="m")])
def test_nothing_lies_between_fewer_than_two_stored_steps(row: Sample) -> None:
    assert between_steps([row]) == []


# Preparing


@dataclass(frozen=True)
class _Face:
    box: Box


class _Finder:
    """Finds the one face of every picture that is not black, and a smaller one behind it; counts its calls."""

    calls = 0
    most: int | None = None

    def find(self, pixels: np.ndarray) -> list[_Face]:
        assert pixels.shape == (SIDE, SIDE, 3) and pixels.dtype == np.uint8
        if _Finder.calls == _Finder.most:
            raise KeyboardInterrupt
        _Finder.calls += 1
        return [_Face(BOX), _Face((0.0, 0.0, 8.0, 8.0))] if pixels.any() else []


@pytest.fixture(autouse=True)
def finder(monkeypatch: pytest.MonkeyPatch) -> type[_Finder]:
    monkeypatch.setattr(finding, "FaceFinder", _Finder)
    monkeypatch.setattr(_Finder, "calls", 0)
    monkeypatch.setattr(_Finder, "most", None)
    return _Finder


def write(path: Path, pixels: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels)
    return str(path)


def area_mask(edit: str) -> np.ndarray:
    mask: np.ndarray = np.zeros((SIDE, SIDE), np.uint8)
    top, bottom, left, right = AREAS[edit]
    mask[top:bottom, left:right] = 255
    return mask


def cropped(pixels: np.ndarray) -> np.ndarray:
    return resize(pixels[WINDOW], SIZE)


def on_cells(mask: np.ndarray) -> np.ndarray:
    return cv2.resize(mask[WINDOW], (CELLS, CELLS), interpolation=cv2.INTER_AREA)


def edited(folder: Path, number: int, sequence: str) -> tuple[Sample, np.ndarray, np.ndarray]:
    """An edited face with all that can be known of it, and its pixels after and before."""
    before = make_picture(SIDE, number)
    after, edits = before.copy(), sequence.split("-")
    for step, edit in enumerate(edits, start=1):
        after[area_mask(edit) > 0] ^= 64
        write(folder / "steps" / f"{number}" / f"{step}-mask.png", area_mask(edit))
    row = sample(
        write(folder / "images" / f"{number}.png", after),
        sequence,
        original=write(folder / "originals" / f"{number}.png", before),
        mask=write(folder / "masks" / f"{number}.png", np.max([area_mask(edit) for edit in edits], axis=0)),
        steps=str(folder / "steps" / f"{number}"),
    )
    return row, after, before


def prepare(samples: list[Sample], work: Path, size: int = SIZE) -> EditedFaces:
    return crop_edited_faces(samples, work, size, MARGIN)


def test_a_face_between_the_steps_has_the_masks_of_the_edits_made_by_then(tmp_path: Path) -> None:
    row, _, before = edited(tmp_path, 1, "lip-nose-eye")
    after = before.copy()
    for step, edit in enumerate(("lip", "nose"), start=1):
        after[area_mask(edit) > 0] ^= 64
        write(Path(row.steps) / f"{step}.png", after)
    faces = prepare(between_steps([row]), tmp_path / "work")
    assert faces.sequences.tolist() == [[4, 0, 0, 0, 0], [4, 1, 0, 0, 0]] and faces.paired.all()
    assert faces.states.tolist() == [PER_EDIT] * 2
    crops = faces.take(np.array([1]))
    assert np.array_equal(crops.faces[0], cropped(after)) and np.array_equal(crops.originals[0], cropped(before))
    for number, edit in enumerate(EDITS):
        expected = on_cells(area_mask(edit)) if edit in ("lip", "nose") else np.zeros((CELLS, CELLS))
        assert np.array_equal(crops.masks[0, number], expected)


def test_a_face_its_original_and_its_masks_are_cropped_alike(tmp_path: Path) -> None:
    row, after, before = edited(tmp_path, 1, "lip-nose")
    faces = prepare([row], tmp_path / "work")
    assert len(faces) == 1 and faces.track == TRACKS["facial_components"] and faces.samples == (row,)
    crops = faces.take(np.array([0]))
    assert crops.faces.dtype == crops.originals.dtype == crops.masks.dtype == np.uint8
    assert np.array_equal(crops.faces, cropped(after)[None])
    assert np.array_equal(crops.originals, cropped(before)[None])
    assert crops.masks.shape == (1, 5, CELLS, CELLS)
    assert not np.array_equal(crops.faces, crops.originals)


def test_where_steps_are_known_each_edit_has_its_own_mask_in_the_tracks_order(tmp_path: Path) -> None:
    row, _, _ = edited(tmp_path, 1, "lip-nose")
    faces = prepare([row], tmp_path / "work")
    (masks,) = faces.take(np.array([0])).masks
    for number, edit in enumerate(EDITS):
        expected = on_cells(area_mask(edit)) if edit in ("lip", "nose") else np.zeros((CELLS, CELLS), np.uint8)
        assert np.array_equal(masks[number], expected), edit
        assert masks[number].max() == (255 if edit in ("lip", "nose") else 0)
    assert faces.states.tolist() == [PER_EDIT] and faces.paired.tolist() == [True]
    assert faces.sequences.tolist() == [[4, 1, 0, 0, 0]]


def test_where_only_a_mask_is_known_it_stands_for_every_edit(tmp_path: Path) -> None:
    row, after, _ = edited(tmp_path, 1, "lip-nose")
    faces = prepare([replace(row, original="", steps="")], tmp_path / "work")
    crops = faces.take(np.array([0]))
    union = on_cells(np.maximum(area_mask("lip"), area_mask("nose")))
    assert all(np.array_equal(mask, union) for mask in crops.masks[0]) and len(crops.masks[0]) == 5
    assert faces.states.tolist() == [UNION] and faces.paired.tolist() == [False]
    assert np.array_equal(crops.originals, cropped(after)[None])  # in place of the original, the face itself


def test_where_only_the_original_is_known_the_difference_to_it_stands_for_every_edit(tmp_path: Path) -> None:
    """Differences as small as an encoder makes them are no edit."""
    row, after, before = edited(tmp_path, 1, "lip-nose")
    noise = np.random.default_rng(0).integers(-12, 13, after.shape)
    write(Path(row.path), np.clip(after + noise, 0, 255).astype(np.uint8))
    faces = prepare([replace(row, mask="", steps="")], tmp_path / "work")
    crops = faces.take(np.array([0]))
    union = on_cells(np.maximum(area_mask("lip"), area_mask("nose")))
    assert all(np.array_equal(mask, union) for mask in crops.masks[0])
    assert faces.states.tolist() == [UNION] and faces.paired.tolist() == [True]
    assert np.array_equal(crops.originals, cropped(before)[None])


def test_a_mask_says_more_than_the_difference_to_the_original(tmp_path: Path) -> None:
    row, _, _ = edited(tmp_path, 1, "lip-nose")
    write(Path(row.mask), area_mask("eye"))
    faces = prepare([replace(row, steps="")], tmp_path / "work")
    assert np.array_equal(faces.take(np.array([0])).masks[0, 0], on_cells(area_mask("eye")))
    assert faces.states.tolist() == [UNION] and faces.paired.tolist() == [True]


def test_where_nothing_is_known_the_state_says_so(tmp_path: Path) -> None:
    row, _, _ = edited(tmp_path, 1, "lip-nose")
    faces = prepare([replace(row, original="", mask="", steps="")], tmp_path / "work")
    assert faces.states.tolist() == [NOT_KNOWN] and faces.paired.tolist() == [False]
    assert not faces.take(np.array([0])).masks.any()


def test_of_an_untouched_face_all_is_known(tmp_path: Path) -> None:
    """It is its own original, also where a re-synthesised one names another picture."""
    row, _, before = edited(tmp_path, 1, "lip")
    plain = sample(row.original)
    redrawn = sample(write(tmp_path / "redrawn.png", cv2.GaussianBlur(before, (0, 0), 2)), original=row.original)
    faces = prepare([row, plain, redrawn], tmp_path / "work")
    assert faces.states.tolist() == [PER_EDIT] * 3 and faces.paired.tolist() == [True] * 3
    crops = faces.take(np.array([1, 2]))
    assert not crops.masks.any() and np.array_equal(crops.faces, crops.originals)
    assert faces.sequences[1:].tolist() == [[0] * 5] * 2


@pytest.fixture
def five(tmp_path: Path) -> list[Sample]:
    """Rows of which the second shows no face."""
    rows = [edited(tmp_path, number, sequence)[0] for number, sequence in enumerate(("nose", "lip", "eye-lip"))]
    rows.append(sample(rows[0].original, split="test"))
    rows.append(replace(edited(tmp_path, 4, "lip-eye-nose")[0], split="val", subject="somebody"))
    write(Path(rows[1].path), np.zeros((SIDE, SIDE, 3), np.uint8))
    return rows


def test_pictures_without_a_face_are_left_out(five: list[Sample], tmp_path: Path) -> None:
    faces = prepare(five, tmp_path / "work")
    assert len(faces) == 4 and faces.samples == (five[0], *five[2:])
    assert faces.rows.tolist() == [0, 2, 3, 4]
    assert faces.sequences.tolist() == [[1, 0, 0, 0, 0], [2, 4, 0, 0, 0], [0] * 5, [4, 2, 1, 0, 0]]
    expected = [cropped(cv2.cvtColor(_read(row.path), cv2.COLOR_BGR2RGB)) for row in faces.samples]
    assert np.array_equal(faces.take(np.arange(4)).faces, np.stack(expected))


def _read(path: str) -> np.ndarray:
    pixels = cv2.imread(path)
    assert pixels is not None
    return pixels


def test_pictures_none_of_which_shows_a_face_are_refused(five: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no face was found in any of 1 pictures; give pictures of faces"):
        prepare(five[1:2], tmp_path / "work")


def test_faces_of_a_split_are_taken_by_its_name(five: list[Sample], tmp_path: Path) -> None:
    faces = prepare(five, tmp_path / "work")
    assert faces.split("train").samples == (five[0], five[2])
    val = faces.split("val")
    assert val.samples == (five[4],) and val.subjects == ["somebody"] and val.sequences.tolist() == [[4, 2, 1, 0, 0]]
    assert np.array_equal(val.take(np.array([0])).masks, faces.take(np.array([3])).masks)
    with pytest.raises(DataError, match="no face of these data is in the split cal; give data that have some"):
        faces.split("cal")


def test_some_of_some_of_the_faces_are_still_the_right_ones(five: list[Sample], tmp_path: Path) -> None:
    everything = prepare(five, tmp_path / "work")
    some = everything.where(np.array([3, 1, 2])).where(np.array([2, 0]))
    assert len(some) == 2 and some.samples == (five[3], five[4]) and some.rows.tolist() == [3, 4]
    assert some.sequences.tolist() == [[0] * 5, [4, 2, 1, 0, 0]]
    assert some.states.tolist() == [PER_EDIT] * 2 and some.paired.tolist() == [True] * 2
    taken, whole = some.take(np.array([1, 0])), everything.take(np.array([3, 2]))
    for name in ("faces", "originals", "masks"):
        assert np.array_equal(getattr(taken, name), getattr(whole, name))


# Kept on disk


def arrays(faces: EditedFaces) -> list[bytes]:
    crops = faces.take(np.arange(len(faces)))
    kept = (crops.faces, crops.originals, crops.masks, faces.states, faces.paired, faces.sequences, faces.rows)
    return [np.ascontiguousarray(array).tobytes() for array in kept]


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_was_cropped_is_opened_again_without_looking_for_faces(
    five: list[Sample], tmp_path: Path, finder: type[_Finder]
) -> None:
    first = prepare(five, tmp_path / "work")
    assert finder.calls == 5
    before = tree(tmp_path / "work")
    again = prepare(five, tmp_path / "work")
    assert finder.calls == 5 and tree(tmp_path / "work") == before
    assert arrays(again) == arrays(first) and again.samples == first.samples


def test_other_rows_or_another_size_are_cropped_anew(five: list[Sample], tmp_path: Path, finder: type[_Finder]) -> None:
    prepare(five, tmp_path / "work")
    assert prepare(five, tmp_path / "work", size=48).stored.faces.shape == (5, 48, 48, 3)
    assert finder.calls == 10
    assert len(prepare(five[2:], tmp_path / "work")) == 3
    assert finder.calls == 13
    wider = crop_edited_faces(five, tmp_path / "work", SIZE, 2.0)
    assert finder.calls == 18
    assert not np.array_equal(wider.stored.faces, prepare(five, tmp_path / "work").stored.faces)


@pytest.mark.parametrize("finds", [0, 1, 2, 3, 4])
def test_what_a_kill_left_is_finished(
    five: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finder: type[_Finder], finds: int
) -> None:
    """In chunks of two rows: no chunk that is done is cropped again."""
    monkeypatch.setattr(edited_faces_module, "_CHUNK", 2)
    whole = prepare(five, tmp_path / "whole")
    monkeypatch.setattr(finder, "calls", 0)
    monkeypatch.setattr(finder, "most", finds)
    with pytest.raises(KeyboardInterrupt):
        prepare(five, tmp_path / "work")
    monkeypatch.setattr(finder, "calls", 0)
    monkeypatch.setattr(finder, "most", None)
    finished = prepare(five, tmp_path / "work")
    assert finder.calls == 5 - finds // 2 * 2
    assert arrays(finished) == arrays(whole) and tree(tmp_path / "work") == tree(tmp_path / "whole")


def test_progress_is_reported_after_every_chunk(
    five: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edited_faces_module, "_CHUNK", 2)
    log = ProgressLog()
    crop_edited_faces(five, tmp_path / "work", SIZE, MARGIN, progress=log)
    assert log.steps == [("cropping faces", done, 5) for done in (2, 4, 5)]


# Refusals


def no_step(row: Sample) -> None:
    (Path(row.steps) / "2-mask.png").unlink()


def no_picture(row: Sample) -> None:
    Path(row.path).write_bytes(b"no picture")


def no_original(row: Sample) -> None:
    Path(row.original).unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_step, "steps/2/2-mask.png: no mask that OpenCV can read; replace it, or drop the column"),
        (no_picture, "images/2.png: not a picture OpenCV can read; replace it or drop the row"),
        (no_original, "originals/2.png: not a picture OpenCV can read; replace it or drop the row"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    five: list[Sample], tmp_path: Path, spoil: Callable[[Sample], None], message: str
) -> None:
    spoil(five[2])
    with pytest.raises(DataError, match=message):
        prepare(five, tmp_path / "work")


def test_a_set_is_finished_once_its_files_are_mended(five: list[Sample], tmp_path: Path) -> None:
    mask = Path(five[2].steps) / "2-mask.png"
    data = mask.read_bytes()
    mask.unlink()
    with pytest.raises(DataError, match=r"2-mask\.png"):
        prepare(five, tmp_path / "work")
    mask.write_bytes(data)
    assert len(prepare(five, tmp_path / "work")) == 4


def test_rows_without_sequences_are_refused_before_anything_is_cropped(five: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row of these data has a sequence of edits"):
        prepare(five[3:4], tmp_path / "work")
    assert not (tmp_path / "work").exists()
