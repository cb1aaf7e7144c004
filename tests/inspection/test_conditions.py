"""Faces judged by the condition they were published in."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_pack import make_card, write_pack

from unmask.errors import RefusalCode
from unmask.evidence.report import Verdict
from unmask.inspection import Inspector
from unmask.packs.card import CalibrationBin, ConditionLimit

SIZE = 160


def limit(condition: str, forged: float | None, authentic: float = 0.1) -> ConditionLimit:
    return ConditionLimit(
        condition=condition,
        decision_log10_lr=forged,
        authentic_log10_lr=authentic,
        reason="" if forged else "five in ten photographs look forged",
        false_alarms=0.01,
        worst_false_alarms=0.05,
        worst_source="web",
        authentic=0.5,
        misses=0.05,
        n_real=100,
        n_forged=100,
    )


def fit(condition: str, intercept: float) -> CalibrationBin:
    return CalibrationBin(
        quality_min=0, quality_max=100, slope=0, intercept=intercept, lower=-9, upper=9, n_real=9, n_forged=9,
        condition=condition,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log10 LR of 1 for what has no bins of its own, 2 for stills, 3 for frames; greyscale is not judged."""
    calibration = make_card(SIZE, "").calibration
    assert calibration is not None
    return write_pack(
        tmp_path_factory.mktemp("packs") / "by-condition",
        size=SIZE,
        name="by-condition",
        calibration=replace(
            calibration,
            bins=(fit("", 1.0), fit("still", 2.0), fit("video frame", 3.0)),
            conditions=(limit("still", 2.5), limit("video frame", 2.5), limit("greyscale", None)),
        ),
    )


@pytest.fixture(scope="module")
def pixels(portrait: Path) -> np.ndarray:
    with Image.open(portrait) as picture:
        return np.asarray(picture.convert("RGB"))


def save(pixels: np.ndarray, path: Path) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_a_still_is_judged_by_its_own_bins_and_limits(pack: Path, portrait: Path) -> None:
    (face,) = Inspector(pack).inspect(portrait).faces
    assert (face.condition, face.log10_lr, face.verdict) == ("still", 2.0, Verdict.INCONCLUSIVE)


def test_an_enlarged_face_goes_by_the_bins_for_all(pack: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    height, width = pixels.shape[:2]
    small = cv2.resize(pixels, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    path = save(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), tmp_path / "large.png")
    (face,) = Inspector(pack).inspect(path).faces
    assert (face.condition, face.log10_lr, face.verdict) == ("enlarged", 1.0, Verdict.FORGED)


def test_a_condition_that_cannot_be_judged_is_refused_with_the_reason(
    pack: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    report = Inspector(pack).inspect(save(grey, tmp_path / "grey.png"))
    (face,) = report.faces
    assert face.verdict is Verdict.REFUSED and face.score is None and face.log10_lr is None
    assert face.refusal is not None and face.refusal.code is RefusalCode.CONDITION
    assert "greyscale" in face.refusal.message and "five in ten photographs look forged" in face.refusal.message
    assert report.verdict is Verdict.REFUSED and report.refusal is not None
    assert report.refusal.code is RefusalCode.CONDITION


def test_frames_are_judged_as_frames(pack: Path, pixels: np.ndarray, make_video: Callable[..., Path]) -> None:
    (face,) = Inspector(pack).inspect(make_video(lambda _: pixels, seconds=1.0)).faces
    assert (face.condition, face.log10_lr, face.verdict) == ("video frame", 3.0, Verdict.FORGED)


def test_another_pack_may_judge_what_the_first_does_not_and_the_other_way_round(
    pack: Path, tiny_pack: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    path = save(grey, tmp_path / "grey.png")
    (face,) = Inspector([tiny_pack, pack], edit_pack=None).inspect(path).faces
    assert face.opinions is not None
    assert face.opinions[0].score is not None and face.opinions[1].verdict is Verdict.REFUSED
    assert Inspector([pack, tiny_pack], edit_pack=None).inspect(path).verdict is Verdict.REFUSED
