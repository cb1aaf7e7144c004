from pathlib import Path

import numpy as np
import pytest
import torch
from fake_faces import make_face
from torch import nn

from unmask.forging.autoencoders import AUTOENCODER_BANK, Taef2
from unmask.lab.detection.pairs_pool import Reconstructions
from unmask.lab.detection.reconstructions import make_reconstructions, square, train_autoencoder_bank, bank_with_taef2

pytestmark = pytest.mark.lab
CPU = torch.device("cpu")
FACES = [make_face(number, size=size) for number, size in enumerate((96, 128, 130, 160, 200))]


class Darken(nn.Module):
    """Stands for a network of the zoo: what it does can be checked pixel by pixel."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor, jitter: float = 0.0, generator: torch.Generator | None = None) -> torch.Tensor:
        self.seen.append(tuple(x.shape))
        return x * self.share


def test_pictures_become_one_square_tensor() -> None:
    out = square(FACES[:3])
    assert out.shape == (3, 3, 256, 256) and out.dtype == torch.uint8


def test_every_face_gets_a_twin_a_draw_no_larger_than_itself(tmp_path: Path) -> None:
    done: list[int] = []
    make_reconstructions(FACES, [Darken(0.5), Darken(0.5)], tmp_path, 3, 7, CPU, batch=2, progress=done.append)
    twins = Reconstructions.open(tmp_path)
    assert twins.sides.shape == (3, 5) and len(twins.pixels) == 3 and sum(done) == 15
    for draw in range(3):
        for row, face in enumerate(FACES):
            side = int(twins.sides[draw, row])
            assert side in (96, 128, 160, 192, 256) and side <= max(face.side, 96)
            twin = twins.pixels[draw][row]
            assert twin[:side, :side].any() and not twin[side:].any() and not twin[:, side:].any()
            assert twin[:side, :side].mean() == pytest.approx(0.5 * face.pixels().mean(), abs=1.5)


class Mortal(Darken):
    """Is killed when it has seen so many faces."""

    def __init__(self, share: float, left: int) -> None:
        super().__init__(share)
        self.left = left

    def forward(self, x: torch.Tensor, jitter: float = 0.0, generator: torch.Generator | None = None) -> torch.Tensor:
        if self.left < len(x):
            raise KeyboardInterrupt
        self.left -= len(x)
        return super().forward(x, jitter)


def test_a_kill_costs_only_the_draw_not_done(tmp_path: Path) -> None:
    make_reconstructions(FACES, [Darken(0.5)], tmp_path / "whole", 2, 7, CPU)
    with pytest.raises(KeyboardInterrupt):
        make_reconstructions(FACES, [Mortal(0.5, left=len(FACES) + 1)], tmp_path / "killed", 2, 7, CPU)
    assert Reconstructions.open(tmp_path / "killed").pixels == []  # nothing looks finished
    net = Darken(0.5)
    make_reconstructions(FACES, [net], tmp_path / "killed", 2, 7, CPU)
    assert sum(shape[0] for shape in net.seen) == len(FACES)  # the second draw alone
    for name in ("draw-00.npy", "draw-01.npy", "sides.npy"):
        np.testing.assert_array_equal(np.load(tmp_path / "killed" / name), np.load(tmp_path / "whole" / name))


def test_finished_twins_are_not_made_again(tmp_path: Path) -> None:
    make_reconstructions(FACES, [Darken(0.5)], tmp_path, 2, 7, CPU)
    make_reconstructions(FACES, [Mortal(0.9, left=0)], tmp_path, 2, 7, CPU)


def test_a_zoo_is_trained_once(tmp_path: Path) -> None:
    told: list[str] = []
    recipes = AUTOENCODER_BANK[:1]
    (trained,) = train_autoencoder_bank(FACES[:2], tmp_path, 2, 0, CPU, recipes, told.append)
    assert len(told) == 1 and recipes[0].name in told[0] and "in 2 steps" in told[0]
    assert (tmp_path / f"{recipes[0].name}.safetensors").is_file()
    (loaded,) = train_autoencoder_bank([], tmp_path, 2, 0, CPU, recipes, told.append)
    assert len(told) == 1 and not loaded.training
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=1e-3, atol=1e-4)  # kept in half precision


def test_without_taef2_the_zoo_stands_alone() -> None:
    zoo = [Darken(0.5)]
    assert bank_with_taef2(zoo, None, CPU) == zoo


@pytest.mark.data
def test_taef2_joins_the_zoo(data_dir: Path) -> None:
    nets = bank_with_taef2([Darken(0.5)], data_dir / "weights" / "taef2", CPU)
    assert len(nets) >= 2 and isinstance(nets[0], Darken)
    assert all(isinstance(net, Taef2) and not net.training for net in nets[1:])
