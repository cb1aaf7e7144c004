from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tiny_pack import make_card
from unmask.lab.onnx_pack import parity, with_numbers, write_onnx

from unmask.errors import PackError
from unmask.forgery.fusion import Fused
from unmask.forgery.plain import Plain
from unmask.networks.contract import normalise
from unmask.packs import Pack, load_pack
from unmask.packs.card import OperatingPoint
from unmask.provenance import sha256_of

pytestmark = pytest.mark.lab

SIZE = 96
CROPS = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


def settled(view: Any) -> Plain:
    """An untrained detector whose statistics know their data."""
    torch.manual_seed(0)
    detector = Plain(view, weights="none").train()
    with torch.no_grad():
        for _ in range(5):
            detector(normalise(torch.rand(8, 3, SIZE, SIZE), detector))
    return detector.eval()


@pytest.fixture(scope="module")
def fused() -> Fused:
    """Two members of different views; export is slow, so each stage keeps its first block only."""
    members = [settled("both"), settled("rgb")]
    for member in members:
        member.size = SIZE  # smaller than life, to be quick
        for stage in member.backbone.blocks:
            del stage[1:]
    return Fused(members)


@pytest.fixture(scope="module")
def pack(fused: Fused, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("pack")
    write_onnx(fused, folder / "model.onnx")
    card = make_card(SIZE, sha256_of(folder / "model.onnx"))
    replace(card, mean=fused.mean, std=fused.std).write(folder / "card.json")
    return load_pack(folder)


def test_the_pack_says_what_torch_says(fused: Fused, pack: Pack) -> None:
    # Weights are kept in half precision; the arithmetic is float32 in both.
    difference = parity(fused, pack, CROPS)
    assert difference["logit"] < 2e-2 and difference["map"] < 1e-2


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_any_number_of_faces(pack: Pack, count: int) -> None:
    faces = np.random.default_rng(1).random((count, 3, SIZE, SIZE), np.float32)
    logit, heat = pack.run(faces)
    assert logit.shape == (count,) and heat.shape == (count, 1, SIZE // 8, SIZE // 8)
    assert np.isfinite(logit).all() and (heat >= 0).all() and (heat <= 1).all()


def test_the_packs_faces_are_judged_alone(pack: Pack) -> None:
    faces = np.random.default_rng(2).random((4, 3, SIZE, SIZE), np.float32)
    logit, heat = pack.run(faces)
    for row in range(4):
        one, its_heat = pack.run(faces[row : row + 1])
        np.testing.assert_allclose(one[0], logit[row], atol=1e-5)
        np.testing.assert_allclose(its_heat[0], heat[row], atol=1e-5)


def test_weights_are_kept_in_half_precision(fused: Fused, pack: Pack) -> None:
    model = onnx.load(pack.model_path)
    half = sum(
        int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16
    )
    assert half > 0.95 * sum(p.numel() for p in fused.parameters())
    assert pack.model_path.stat().st_size < 2.3 * sum(p.numel() for p in fused.parameters())


def test_the_file_tells_nothing_of_the_machine(pack: Pack) -> None:
    content = pack.model_path.read_bytes()
    assert b".py" not in content and str(Path.home()).encode() not in content


def test_a_cards_numbers_can_be_replaced(tiny_pack: Path, tmp_path: Path) -> None:
    old = load_pack(tiny_pack)
    for name in ("model.onnx", "card.json"):
        (tmp_path / name).write_bytes((tiny_pack / name).read_bytes())
    copied = load_pack(tmp_path)
    assert copied.card.calibration is not None
    point = OperatingPoint(name="new", threshold=0.7, false_alarm_rate=0.1, hit_rate=0.9, dataset="x")
    calibration = replace(copied.card.calibration, cllr=0.25)
    metric = replace(copied.card.metrics[0], value=0.75)
    new = with_numbers(copied, calibration, [metric], [point]).card
    assert (new.calibration, new.metrics, new.operating_points) == (calibration, (metric,), (point,))
    assert new.sha256 == old.card.sha256
    with pytest.raises(PackError, match="no forgery detector"):
        with_numbers(replace(copied, card=replace(new, task="face_detection")), calibration, [metric], [point])
