"""The task of small pictures through the commands, hardened and not: train, resume, evaluate, attack, export."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unmask import cli
from unmask.errors import DataError
from unmask.lab.classification.config import ClassificationTrainConfig
from unmask.lab.classification.data import Pictures, PictureSet
from unmask.lab.classification.network import ResNet
from unmask.lab.classification.task import ClassificationTask, PictureFeed, PicturePlan, varied
from unmask.lab.config import LabPaths
from unmask.lab.robust.config import RobustOptions
from unmask.lab.train import train
from unmask.progress import SILENT

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "robust"))
from digit_sets import write_digits

pytestmark = pytest.mark.lab
CPU = torch.device("cpu")


def small_plan(**changes: Any) -> PicturePlan:
    rng = np.random.default_rng(0)
    parts = {
        name: Pictures(rng.integers(0, 256, (count, 8, 8, 3), np.uint8), np.arange(count) % 3)
        for name, count in (("train", 20), ("val", 7), ("test", 9))
    }
    config = ClassificationTrainConfig(size=8, batch=6, steps=10, **{"augment": "none", **changes})
    return PicturePlan(config, PictureSet(("a", "b", "c"), parts, "0"))


def taken(plan: PicturePlan, first: int, count: int, **more: int) -> list[dict[str, torch.Tensor]]:
    stream = PictureFeed(plan).batches(CPU, first, **more)
    return [next(stream) for _ in range(count)]


@pytest.mark.parametrize("augment", ["none", "crop", "crop-flip"])
def test_a_step_depends_on_its_number_alone(augment: str) -> None:
    plan = small_plan(augment=augment)
    straight, later = taken(plan, 0, 8), taken(plan, 5, 3)
    assert all(torch.equal(a["faces"], b["faces"]) for a, b in zip(straight[5:], later, strict=True))
    assert straight[0]["faces"].shape == (6, 3, 8, 8) and straight[0]["labels"].dtype == torch.int64
    # An epoch is three steps here and shows no picture twice.
    epoch = torch.cat([one["faces"] for one in straight[:3]])
    assert augment != "none" or len({one.numpy().tobytes() for one in epoch}) == 18


def test_processes_share_a_batch() -> None:
    plan = small_plan()
    (whole,) = taken(plan, 2, 1)
    parts = [taken(plan, 2, 1, rank=rank, world=2)[0]["faces"] for rank in (0, 1)]
    assert torch.equal(torch.stack(parts, 1).flatten(0, 1), whole["faces"])


def test_shifts_and_mirrors() -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (40, 16, 16, 3), np.uint8)
    shifted = varied(pixels, "crop", np.random.default_rng(1))
    assert shifted.shape == pixels.shape and (shifted == 0).any() and not (shifted == pixels).all()
    padded = np.pad(pixels, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for row, one in enumerate(shifted):
        windows = [padded[row, top : top + 16, left : left + 16] for top in range(5) for left in range(5)]
        assert any((one == window).all() for window in windows)
    assert varied(pixels, "none", np.random.default_rng(1)) is pixels


def test_the_network_is_resnet_18() -> None:
    """11,173,962 parameters with ten classes, as of the usual CIFAR variant."""
    net = ResNet()
    assert sum(parameter.numel() for parameter in net.parameters()) == 11_173_962
    assert len(net.early) == 6 and [block.conv1.stride for block in net.last] == [(2, 2), (1, 1)]
    small = ResNet(width=4, classes=("a", "b")).eval()
    assert small(torch.rand(2, 3, 16, 16)).shape == (2, 2)


def test_with_reverse_attention_the_first_auxiliary_logits_are_served() -> None:
    torch.manual_seed(0)
    net = ResNet(width=4).eval()
    faces = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        (plain,) = net.heads(faces)
        assert torch.equal(plain, net(faces))
        net.reverse_attention = True
        final, first, second = net.heads(faces)
        assert torch.equal(first, net(faces))
        # The mask is by each head's own choice unless classes are given; the second block sees masked features.
        chosen = net.heads(faces, first.argmax(1))
        assert torch.equal(chosen[1], first) and torch.equal(chosen[2], second)
        other = net.heads(faces, (first.argmax(1) + 1) % 10)
        assert torch.equal(other[1], first) and not torch.equal(other[2], second)
        assert not torch.equal(other[0], final) and final.shape == (3, 10)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": 64}, "--size 64: the pictures are 16 pixels wide"),
        ({"limit": 1}, "all training pictures are of one class"),
    ],
)
def test_what_cannot_be_trained_is_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    data = write_digits(tmp_path / "digits", 60, 20)
    with pytest.raises(DataError, match=message):
        ClassificationTask().plan(LabPaths(data=data, work=tmp_path), ClassificationTrainConfig(**config), None, SILENT)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must succeed; what it printed."""

    def call(*words: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["unmask", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        assert end.value.code in (0, None), printed.err
        return printed.out

    return call


@pytest.mark.parametrize(("kernels", "attack", "used"), [("AVX2", "free", False), ("AVX2", "fast", True),
                                                         ("AVX512", "free", True)])  # fmt: skip
def test_free_replays_run_without_the_kernels_that_corrupt_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: str, attack: str, used: bool
) -> None:
    write_digits(tmp_path / "digits", 40, 20)
    robust = RobustOptions(robust="pgd-at", attack=attack, attack_epsilon="0.1")  # type: ignore[arg-type]
    config = ClassificationTrainConfig(
        method="resnet", options={"width": 4}, steps=1, batch=8, augment="none", robust=robust.settings()
    )
    seen = []
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: kernels)
    monkeypatch.setattr("unmask.lab.train.fit", lambda *_: seen.append(torch.backends.mkldnn.enabled))
    train(LabPaths(data=tmp_path / "digits", work=tmp_path), tmp_path / "run", config)
    assert seen == [used] and torch.backends.mkldnn.enabled


@pytest.mark.slow
def test_from_pictures_to_a_hardened_pack(
    tmp_path: Path, run: Callable[..., str], say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_digits(tmp_path / "digits", 120, 30)
    common = ["--data", "digits", "--width", "4", "--steps", "2", "--batch", "16", "--augment", "crop"]
    harden = ["--robust", "trades", "--anc", "--attack-epsilon", "0.1", "--attack-steps", "2"]
    run("train", "resnet", "--run", "plain", *common)
    run("train", "resnet", "--run", "hard", *common, *harden, "--ra")
    record = json.loads(Path("hard/run.json").read_text())
    assert record["task"] == "image_classification" and record["protocol"]["size"] == 16
    robust = record["protocol"]["robust"]
    assert (robust["robust"], robust["anc"], robust["ra"], robust["attack_epsilon"]) == ("trades", True, True, "0.1")
    assert "masks gradients" in record["hardening"]
    plain = json.loads(Path("plain/run.json").read_text())
    assert plain["protocol"]["robust"] == {} and "hardening" not in plain
    header = Path("hard/metrics.csv").read_text().split("\n")[0].split(",")
    assert {"loss_verdict", "loss_final", "loss_auxiliary", "loss_divergence", "loss_contrast"} <= set(header)
    # The same folder, hardened in another way: another configuration.
    code, error = say(["train", "resnet", "--run", "hard", *common, *harden])
    assert code == 2 and "another configuration" in error

    assert "| all |" in run("evaluate", "hard", "--data", "digits")
    assert "| all |" in run("compare", "plain", "hard", "--data", "digits")
    quick = ["--attack-pictures", "12", "--attack-steps", "3", "--attack-queries", "5"]
    text = run("evaluate", "hard", "--data", "digits", "--attacked", *quick, "--twin", "plain", "--json", "a.json")
    assert "TRADES (beta 6)" in text and "transfer from the twin" in text and "worst of all" in text
    attacks = {row["attack"]: row for row in json.loads(Path("a.json").read_text())["attacks"]}
    assert attacks["worst of all"]["accuracy"] == min(row["accuracy"] for row in attacks.values())
    assert attacks["worst of all"]["farthest"] <= 0.1 + 1e-6  # the budget that it was trained with

    run("export", "hard", "--data", "digits", "--out", "pack")
    card = json.loads(Path("pack/card.json").read_text())
    assert "Hardened by TRADES" in card["description"] and "masks gradients" in card["description"]
    assert any("--attacked" in limit for limit in card["limits"])
    assert "| all |" in run("evaluate", "pack", "--data", "digits")
    run("export", "plain", "--data", "digits", "--out", "other")
    assert "Hardened" not in Path("other/card.json").read_text()

    for words, message in (
        (["evaluate", "pack", "--attacked"], "attacks need gradients"),
        (["evaluate", "plain", "--attacked", "--twin", "hard"], "it has reverse attention"),
        (["evaluate", "plain", "--attack-steps", "3"], "--attack-steps goes with --attacked"),
        (["train", "resnet", "--run", "new", "--anc"], "--anc belongs to robust training"),
        (["train", "resnet", "--run", "new", "--robust", "trades", "--attack", "free"], "--attack free is defined"),
    ):
        code, error = say([*words, "--data", "digits"])
        assert code == 2 and message in " ".join(error.split()), error
    assert not Path("new").exists()
