"""From a published file to a pack: card, parity, what is refused, and that nothing uncalibrated is ever used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_files import SIDE, gend_folder

from unmask.demo import photograph
from unmask.errors import DataError, PackError
from unmask.faces.finding import FaceFinder
from unmask.lab.importing.networks import read_gend
from unmask.lab.importing.preprocessing import aligned_crop, box_crop, centre_crop
from unmask.lab.importing.published import PUBLISHED, Imported, import_detector
from unmask.packs import load_pack
from unmask.provenance import sha256_of

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "gend"
    gend_folder(folder)
    return folder


@pytest.fixture(scope="module")
def imported(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    out = tmp_path_factory.mktemp("packs") / "gend"
    return import_detector("gend", hub, out, licence="of my own", portrait=photograph())


def test_an_imported_pack_says_what_the_network_says(imported: Imported, hub: Path) -> None:
    assert set(imported.parity) == {"logit", "map"} and max(imported.parity.values()) < 0.1
    pack = load_pack(imported.folder, "forgery_detection", calibrated=False)
    pixels = np.random.default_rng(0).random((2, 3, SIDE, SIDE), np.float32)
    with torch.no_grad():
        expected = read_gend(hub).eval()(torch.from_numpy(pixels))
    logit, heat = pack.run(pixels)
    np.testing.assert_allclose(logit, expected.logit.numpy(), atol=0.05)
    np.testing.assert_allclose(heat, expected.map.sigmoid().numpy(), atol=0.05)
    assert imported.logits is not None and np.isfinite(imported.logits).all()


def test_the_card_names_origin_licence_and_preprocessing(imported: Imported, hub: Path) -> None:
    card = load_pack(imported.folder, calibrated=False).card
    assert (card.name, card.input_size, card.crop_margin) == ("gend", (SIDE, SIDE), 1.3)
    assert card.licence == "of my own" and "yermandy/GenD" in card.origin
    assert "as its publisher states" in card.training_data and card.calibration is None and card.metrics == ()
    record = card.protocol["imported"]
    assert record["sha256"] == {"model.safetensors": sha256_of(hub / "model.safetensors")}
    assert record["mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])


def test_a_pack_without_calibration_is_never_used(imported: Imported, say: Callable[..., Any], portrait: Path) -> None:
    with pytest.raises(PackError, match="unmask calibrate"):
        load_pack(imported.folder)
    code, error = say(["inspect", str(portrait), "--pack", str(imported.folder)])
    assert code == 2 and "unmask calibrate" in error and error.count("\n") == 1


def test_nothing_is_overwritten_and_nothing_is_left_behind(imported: Imported, hub: Path, tmp_path: Path) -> None:
    before = sha256_of(imported.folder / "card.json")
    with pytest.raises(DataError, match="nothing is overwritten"):
        import_detector("gend", hub, imported.folder)
    assert sha256_of(imported.folder / "card.json") == before
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    for kind in PUBLISHED:
        with pytest.raises(DataError):
            import_detector(kind, tmp_path / "weights.pth", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["xception", "{hub}"], "is no kind of published detector"),
        (["gend", "{hub}/absent"], "no such file"),
        (["gend", "{hub}", "--encoder", "{hub}"], "leave --encoder out"),
        (["sbi", "{hub}/model.safetensors"], "is KIND right"),
        (["univfd", "{hub}/model.safetensors"], "--encoder"),
    ],
)
def test_the_command_refuses_in_one_line(
    args: list[str], reason: str, hub: Path, tmp_path: Path, say: Callable[..., Any]
) -> None:
    words = [word.format(hub=hub) for word in args]
    code, error = say(["import", *words, "--out", str(tmp_path / "out")])
    assert code == 2 and reason in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_crops_of_the_publishers() -> None:
    pixels = photograph()
    (face,) = FaceFinder().find(pixels)
    x, y, wide, high = face.box
    box = box_crop(pixels, face, 64)
    assert box.shape == (64, 64, 3)
    # The middle of the box stays in the middle.
    centre = pixels[int(y + high / 2) - 4 : int(y + high / 2) + 4, int(x + wide / 2) - 4 : int(x + wide / 2) + 4]
    assert abs(float(box[28:36, 28:36].mean()) - float(centre.mean())) < 25
    upright = aligned_crop(pixels, face, 128)
    (again,) = FaceFinder().find(upright)
    eyes = again.landmarks[:2]
    # The eyes lie level, and as far apart as in ArcFace's template at 1 / 1.3 of the side.
    assert abs(float(eyes[0, 1] - eyes[1, 1])) < 4
    assert float(eyes[1, 0] - eyes[0, 0]) == pytest.approx(128 / 1.3 * 35.24 / 112, rel=0.12)
    middle = centre_crop(pixels, face, 224)
    assert np.array_equal(middle, pixels[80:304, 80:304])
    assert centre_crop(pixels[:100], face, 224).shape == (224, 224, 3)
