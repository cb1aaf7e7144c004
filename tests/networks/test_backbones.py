"""Where a trunk's first weights come from."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from unmask.errors import DataError
from unmask.networks.backbones import load_matching, read_state, trunk

NAME = "test_resnet"


@pytest.mark.parametrize("form", ["safetensors", "pth", "checkpoint.pth"])
def test_a_local_file_is_read(form: str, tmp_path: Path) -> None:
    source = timm.create_model(NAME)  # with a classifier, which is passed over
    path = tmp_path / f"weights.{form}"
    if form == "safetensors":
        save_file(source.state_dict(), path)
    elif form == "pth":
        torch.save(source.state_dict(), path)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, path)
    model, width = trunk(NAME, weights=str(path))
    for name, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name
    with torch.no_grad():
        assert model.eval()(torch.rand(2, 3, 64, 64)).shape[1] == width


def test_a_stem_for_other_channels_keeps_its_answer_to_grey(tmp_path: Path) -> None:
    """Three equal channels and one channel of the same picture mean the same to a stem whose weights are summed."""
    source = timm.create_model(NAME)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    six, _ = trunk(NAME, 6, str(tmp_path / "w.pth"))
    grey = torch.rand(1, 1, 64, 64)
    stem = next(name for name, value in source.state_dict().items() if value.ndim == 4)
    three_weights, six_weights = source.state_dict()[stem], six.state_dict()[stem]
    outputs = [
        torch.nn.functional.conv2d(grey.expand(-1, weights.shape[1], -1, -1), weights)
        for weights in (three_weights, six_weights)
    ]
    torch.testing.assert_close(outputs[0], outputs[1])


def test_timms_hub_is_asked_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    create = timm.create_model

    def offline(name: str, pretrained: bool = False, **options: Any) -> Any:
        asked.append(pretrained)
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    trunk(NAME, weights="timm")
    assert asked == [True]


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route to host\nand a long story")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(
        DataError, match=r"could not give weights of test_resnet \(ConnectionError\).*weights=none"
    ) as error:
        trunk(NAME, weights="timm")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet51", "none", "no model 'resnet51'"),
        (NAME, "imagenet", "no registry package has ImageNet weights of test_resnet"),
        (NAME, "absent.pth", "no weight file there"),
    ],
)
def test_what_is_not_there_is_named(name: str, weights: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        trunk(name, weights=weights)


def test_files_that_hold_something_else_are_named(tmp_path: Path) -> None:
    (tmp_path / "noise.pth").write_bytes(b"no tensors")
    with pytest.raises(DataError, match="not a readable weight file"):
        read_state(tmp_path / "noise.pth")
    torch.save({"model": {"a": 3}}, tmp_path / "numbers.pth")
    with pytest.raises(DataError, match="no state dictionary"):
        read_state(tmp_path / "numbers.pth")
    with pytest.raises(DataError, match="no tensor weight"):
        load_matching(torch.nn.Linear(2, 2), {"other": torch.zeros(2)}, "x.pth")
    with pytest.raises(DataError, match=r"weight is \(3, 2\), the network's \(2, 2\)"):
        load_matching(torch.nn.Linear(2, 2), {"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, "x.pth")
