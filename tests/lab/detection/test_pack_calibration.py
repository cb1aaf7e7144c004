"""Calibrating a pack on a data set: on which rows, what the new card says, what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_faces import make_faces
from progress_log import ProgressLog
from stored_paths import StoredPaths, stored_paths
from tiny_pack import write_pack

from unmask.datasets.face_store import StoredFace
from unmask.errors import DataError, PackError
from unmask.lab.detection import pack_calibration
from unmask.lab.detection.held_out import ALL_CONDITIONS, CLEAN, eval_faces
from unmask.lab.detection.pack_calibration import calibrate_pack, calibration_rows
from unmask.packs import load_pack
from unmask.packs.card import Card
from unmask.provenance import sha256_of

pytestmark = pytest.mark.lab
BARE: dict[str, Any] = {"calibration": None, "metrics": (), "operating_points": ()}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are not what is tested here."""
    monkeypatch.setattr(pack_calibration, "_DRAWS", 20)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A pack as an import leaves it."""
    return write_pack(tmp_path / "bare", size=64, gain=4.0, **BARE)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> StoredPaths:
    return stored_paths(tmp_path_factory.mktemp("work"), [*make_faces("cal", count=6), *make_faces("test", count=3)])


def in_split(faces: list[StoredFace], split: str) -> list[StoredFace]:
    return [replace(face, sample=replace(face.sample, split=split)) for face in faces]


def test_a_bare_pack_becomes_a_complete_one(pack: Path, paths: StoredPaths, tmp_path: Path) -> None:
    before = {path.name: sha256_of(path) for path in pack.iterdir()}
    progress = ProgressLog()
    made = calibrate_pack(pack, paths, tmp_path / "new", progress, "unmask calibrate …")
    progress.check_bars_end()
    card = load_pack(tmp_path / "new", "forgery_detection").card
    assert card == made.pack.card and made.rows == "its cal split" and made.evaluation.split == "test"
    assert {path.name: sha256_of(path) for path in pack.iterdir()} == before
    calibration = card.calibration
    assert calibration is not None and "24 authentic and 18 forged faces" in calibration.data
    # Every face under every condition; reals are shown once more beside forgeries that are smaller.
    pooled = [part for part in calibration.bins if not part.condition]
    assert sum(part.n_forged for part in pooled) == len(ALL_CONDITIONS) * 18
    assert sum(part.n_real for part in pooled) >= len(ALL_CONDITIONS) * 24
    assert {"video frame", "greyscale"} <= {limit.condition for limit in calibration.conditions}
    assert "scores of the pack itself" in calibration.method
    assert {metric.dataset for metric in card.metrics} == {"stylegan", "ciplab", "mobilestylegan", "pggan", "real"}
    assert {metric.name for metric in card.metrics} >= {"auc", "cllr", "miss_at_1%", "verdict_forged"}
    record = json.loads((made.pack.folder / "evaluation.json").read_text())
    assert len(record["metrics"]) == len(made.evaluation.metrics) > len(card.metrics)
    assert [point.name for point in card.operating_points] == ["false alarms 1%", "false alarms 10%"]
    assert card.protocol["calibrated"]["rows"] == "its cal split"
    assert card.limits[0].startswith("Calibrated on 24 authentic") and "Knows nothing of faces." in card.limits


def test_scores_are_the_packs_own(
    pack: Path, paths: StoredPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits of the fit: 4 times the tiny pack's function of the mean colour, of the crop that the runtime cuts."""
    fitted: list[Any] = []

    def stop(faces: list[Any], *_: Any) -> None:
        fitted.extend(faces)
        raise InterruptedError

    monkeypatch.setattr(pack_calibration, "fit_calibration", stop)
    with pytest.raises(InterruptedError):
        calibrate_pack(pack, paths, tmp_path / "new")
    assert not list(tmp_path.glob("new*"))
    session = load_pack(pack, calibrated=False)
    held = eval_faces(paths.faces(), "cal", {"stylegan", "ciplab", "mobilestylegan"}, CLEAN, 64, 1.4)
    pixels = np.stack([face.crop for face in held]).transpose(0, 3, 1, 2).astype(np.float32) / 255
    expected = ((pixels.mean((2, 3)) - 0.5) / 0.25) @ np.array([1, 2, -3]) * 4
    np.testing.assert_allclose([face.logit for face in fitted[: len(held)]], expected, atol=1e-3)
    np.testing.assert_allclose(session.run(pixels)[0], expected, atol=1e-3)


def test_without_a_test_split_the_card_says_what_the_figures_are_of(pack: Path, tmp_path: Path) -> None:
    progress = ProgressLog()
    alone = stored_paths(tmp_path / "work", make_faces("cal", count=6))
    made = calibrate_pack(pack, alone, tmp_path / "new", progress)
    assert made.evaluation.split == "cal" and any("no test split" in note for note in progress.notes)
    assert made.pack.card.limits[1].startswith("The figures on this card are of the faces")


def test_without_a_cal_split_other_rows_serve(pack: Path, tmp_path: Path) -> None:
    faces = make_faces("train", count=6)
    made = calibrate_pack(
        pack, stored_paths(tmp_path / "work", [*faces, *make_faces("test", count=3)]), tmp_path / "new"
    )
    assert made.rows.startswith("all rows but its test split") and made.evaluation.split == "test"
    samples = [face.sample for face in in_split(faces, "test")]
    assert calibration_rows(samples) == ("all its rows, for all are in the test split", frozenset({"test"}))


def test_no_more_than_some_faces_of_a_group_are_scored(
    pack: Path, paths: StoredPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_calibration, "_MOST", 5)
    made = calibrate_pack(pack, paths, tmp_path / "new")
    # Six authentic faces of each of four sources, six forged ones of each of three families.
    assert "20 authentic and 15 forged faces" in made.pack.card.limits[0]


def test_a_new_calibration_replaces_the_earlier_one(pack: Path, paths: StoredPaths, tmp_path: Path) -> None:
    calibrate_pack(pack, paths, tmp_path / "one")
    first = Card.read(tmp_path / "one" / "card.json")
    assert first.calibration is not None
    replace(first, calibration=replace(first.calibration, min_face_px=48.0)).write(tmp_path / "one" / "card.json")
    other = stored_paths(tmp_path / "work", make_faces("cal", count=7))
    calibrate_pack(tmp_path / "one", other, tmp_path / "two")
    card = Card.read(tmp_path / "two" / "card.json")
    limits = card.limits
    assert card.calibration is not None and card.calibration.min_face_px == 48.0
    assert [text for text in limits if text.startswith("Calibrated on ")] == [limits[0]] and "28 authentic" in limits[0]


@pytest.mark.parametrize(
    ("faces", "reason"),
    [
        (lambda: [face for face in make_faces("cal", count=6) if not face.sample.label], "0 forged faces"),
        (lambda: [face for face in make_faces("cal", count=6) if face.sample.label], "0 authentic faces"),
        (lambda: make_faces("cal", count=5), "15 forged faces .* 17 are needed"),
        (
            lambda: [
                *make_faces("cal", count=6)[:-1],
                *(replace(f, sample=replace(f.sample, spectrum="nir")) for f in make_faces("cal", count=6)[-1:]),
            ],
            "spectrum nir",
        ),
    ],
)
def test_data_that_cannot_serve_are_refused_before_the_work(
    faces: Callable[[], list[StoredFace]], reason: str, pack: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=reason):
        calibrate_pack(pack, stored_paths(tmp_path / "work", faces()), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_packs_that_cannot_be_calibrated_are_refused(pack: Path, paths: StoredPaths, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="is for face_detection"):
        calibrate_pack("yunet", paths, tmp_path / "new")
    with pytest.raises(PackError, match="no model pack"):
        calibrate_pack(tmp_path / "absent", paths, tmp_path / "new")
    with pytest.raises(DataError, match="nothing is overwritten"):
        calibrate_pack(pack, paths, pack)
    (pack / "model.onnx").write_bytes(b"altered")
    with pytest.raises(PackError, match="sha256"):
        calibrate_pack(pack, paths, tmp_path / "new")


def test_the_command_refuses_in_one_line(pack: Path, tmp_path: Path, say: Callable[..., Any]) -> None:
    code, error = say(["calibrate", "yunet", "--data", str(tmp_path), "--out", str(tmp_path / "new")])
    assert code == 2 and "is for face_detection" in error and error.count("\n") == 1
