"""The stages of a face, and what is done once: pose, opinion, crop."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_pack import write_pack

from unmask.edits.prediction import EditPredictor
from unmask.errors import RefusalCode
from unmask.evidence.report import Media, Verdict
from unmask.inspection import Inspector, inspector, judging
from unmask.inspection.judging import (
    CroppedFace,
    FaceCrop,
    FaceObservation,
    JudgedFace,
    MeasuredFace,
    PackAnswer,
    PackScorer,
    ScoredFace,
)
from unmask.packs import load_pack

MakePack = Callable[..., Path]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], list[tuple[Any, ...]]]:
    """Lets every call of a function be noted, with its arguments."""

    def count(place: Any, name: str) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []
        function = getattr(place, name)

        def noting(*args: Any, **how: Any) -> Any:
            calls.append(args)
            return function(*args, **how)

        monkeypatch.setattr(place, name, noting)
        return calls

    return count


@pytest.fixture(scope="module")
def pixels(portrait: Path) -> np.ndarray:
    with Image.open(portrait) as picture:
        return np.asarray(picture.convert("RGB"))


def test_head_pose_is_solved_once_a_face_and_edits_go_by_it(
    tiny_pack: Path, make_reader: MakePack, portrait: Path, counted: Callable[..., list[Any]]
) -> None:
    one = Inspector(tiny_pack, edit_pack=make_reader(max_turn=1.0))
    solved = counted(np.linalg, "lstsq")
    (face,) = one.inspect(portrait).faces
    assert len(solved) == 1
    angles = (face.quality.yaw, face.quality.pitch, face.quality.roll)
    assert all(angle is not None and abs(angle) < 10 for angle in angles)
    assert face.sequence is not None and face.sequence.reason is not None
    assert f"turned by {max(abs(angle) for angle in angles if angle is not None):.0f} degrees" in face.sequence.reason


def test_the_opinion_of_a_track_is_computed_once(
    tiny_pack: Path, pixels: np.ndarray, make_video: Callable[..., Path], counted: Callable[..., list[Any]]
) -> None:
    one = Inspector(tiny_pack, edit_pack=None)
    path = make_video(lambda _: pixels, seconds=1.0)
    ratios = counted(judging, "likelihood_ratio")
    (face,) = one.inspect(path).faces
    assert face.track is not None and len(ratios) == len(face.track) + 1


@pytest.mark.parametrize(("pictures", "crops"), [(False, 0), (True, 1)])
def test_a_refused_face_is_cut_out_only_to_be_shown(
    make_pack: MakePack,
    tiny_pack: Path,
    tiny_edit_model: Path,
    portrait: Path,
    counted: Callable[..., list[Any]],
    pictures: bool,
    crops: int,
) -> None:
    import unmask.edits.prediction as reading

    one = Inspector([make_pack(min_face_px=200.0), write_pack_named(tiny_pack)], edit_pack=tiny_edit_model)
    cut, read = counted(judging, "context_crop"), counted(reading, "context_crop")
    inspection = one.examine(portrait, pictures=pictures)
    assert inspection.report.faces[0].refusal is not None
    assert (len(cut), len(read)) == (crops, 0) and len(inspection.pictures) == crops


def write_pack_named(beside: Path) -> Path:
    folder = beside.parent / "second"
    return folder if folder.exists() else write_pack(folder, size=32, name="second")


def test_a_pack_gets_no_crop_of_a_face_that_it_refuses(
    make_pack: MakePack, tiny_pack: Path, portrait: Path, counted: Callable[..., list[Any]]
) -> None:
    one = Inspector([write_pack_named(tiny_pack), make_pack(min_face_px=200.0)], edit_pack=None)
    cut = counted(judging, "context_crop")
    (face,) = one.inspect(portrait).faces
    assert face.refusal is None and face.opinions is not None and face.opinions[1].score is None
    assert len(cut) == 1


def test_edits_are_read_before_the_report_is_built(
    tiny_pack: Path, tiny_edit_model: Path, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.hstack([pixels, pixels])).save(tmp_path / "two.png")
    events: list[str] = []
    for place, name in ((EditPredictor, "explain"), (JudgedFace, "finding"), (PackScorer, "judge")):
        function = getattr(place, name)

        def noting(*args: Any, function: Any = function, name: str = name) -> Any:
            events.append(name)
            return function(*args)

        monkeypatch.setattr(place, name, noting)
    Inspector(tiny_pack, edit_pack=tiny_edit_model).inspect(tmp_path / "two.png")
    assert events == ["judge"] * 2 + ["explain"] * 2 + ["finding"] * 2


@pytest.mark.parametrize("stage", [MeasuredFace, FaceCrop, CroppedFace, ScoredFace, FaceObservation, JudgedFace])
def test_stages_do_not_change(stage: type) -> None:
    names = [field.name for field in fields(stage)]
    one = stage(*[None] * len(names))
    for name in names:
        with pytest.raises(FrozenInstanceError):
            setattr(one, name, 1)


def test_nothing_of_a_report_changes_after_it_was_built(
    make_pack: MakePack, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two faces, one of them refused, which a warning says."""
    small = np.pad(pixels[::2, ::2], ((0, 192), (0, 0), (0, 0)))
    Image.fromarray(np.hstack([pixels, small])).save(tmp_path / "two.png")
    built: list[tuple[Media, dict[str, Any]]] = []

    def building(**values: Any) -> Media:
        media = Media(**values)
        built.append((media, media.model_dump()))
        return media

    monkeypatch.setattr(inspector, "Media", building)
    report = Inspector(make_pack(min_face_px=60.0), edit_pack=None).inspect(tmp_path / "two.png")
    ((media, before),) = built
    assert report.media is media and media.model_dump() == before
    assert media.warnings == ["1 of 2 faces could not be judged"]


def test_libraries_are_looked_up_once(tiny_pack: Path, portrait: Path, counted: Callable[..., list[Any]]) -> None:
    looked_up = counted(inspector, "library_versions")
    one = Inspector(tiny_pack, edit_pack=None)
    first, second = one.inspect(portrait), one.inspect(portrait)
    assert first.tool.libraries == second.tool.libraries and "numpy" in first.tool.libraries
    assert len(looked_up) == 1


def test_a_calibration_without_information_refuses_instead_of_measuring_one(tiny_pack: Path) -> None:
    """Whatever the detector says there, the LR would be 1.0."""
    scorer = PackScorer(load_pack(tiny_pack), "tiny")
    card = scorer.calibration
    none = replace(card.bins[0], quality_min=0.0, quality_max=60.0, lower=0.0, upper=0.01)
    some = replace(card.bins[0], quality_min=60.0, quality_max=100.0, lower=-1.0, upper=1.0)
    scorer.calibration = replace(card, bins=(none, some))
    empty = scorer.judge(PackAnswer(8.0, 52.0, "still"))
    assert empty.opinion.verdict is Verdict.REFUSED and empty.opinion.log10_lr is None
    assert empty.refusal is not None and empty.refusal.code is RefusalCode.POOR_QUALITY
    assert (
        "quality 0 to 60; this one has 52" in empty.refusal.message and "of quality 60 or more" in empty.refusal.message
    )
    assert scorer.judge(PackAnswer(8.0, 70.0, "still")).refusal is None
    scorer.calibration = replace(card, bins=(replace(none, quality_max=100.0),))
    hopeless = scorer.judge(PackAnswer(8.0, 52.0, "still")).refusal
    assert hopeless is not None and hopeless.code is RefusalCode.CONDITION and "--pack" in hopeless.message


def test_the_limit_can_be_moved_by_an_option(tiny_pack: Path, portrait: Path) -> None:
    usual, strict = Inspector(tiny_pack, edit_pack=None), Inspector(tiny_pack, edit_pack=None, decide=1e6)
    one, other = usual.inspect(portrait), strict.inspect(portrait)
    assert one.log10_lr == other.log10_lr and other.verdict is Verdict.INCONCLUSIVE
    face = other.faces[0]
    assert face.decision is not None and (face.decision.set_by, face.decision.forged_log10_lr) == ("option", 6.0)
    assert other.inconclusive is not None and other.inconclusive.remedy and other.speaker == 0
    assert other.tool.options["decide"] == 1e6 and "--decide 1e+06" in other.tool.command
    with pytest.raises(ValueError, match="from 2 to"):
        Inspector(tiny_pack, decide=1.5)
