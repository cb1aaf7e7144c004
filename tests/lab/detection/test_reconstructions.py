"""Reconstructions of real faces, by networks whose work can be checked pixel by pixel, and by the bank itself."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fake_faces import make_face
from progress_log import ProgressLog
from torch import nn

from unmask.errors import DataError
from unmask.forging.autoencoders import AUTOENCODER_BANK, Taef2
from unmask.forging.decoders import Decoder
from unmask.lab.detection.prepare import quick_decoders
from unmask.lab.detection.reconstructions import (
    Reconstructions,
    bank_with_taef2,
    make_reconstructions,
    square,
    train_autoencoder_bank,
)

pytestmark = pytest.mark.lab
CPU = torch.device("cpu")
FACES = [make_face(number, size=size) for number, size in enumerate((96, 128, 130, 160, 200, 256))]


class Darken(nn.Module):
    """Stands for a network of the bank: multiplies by a share."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor, jitter: float = 0.0, generator: torch.Generator | None = None) -> torch.Tensor:
        self.seen.append(tuple(x.shape))
        return x * self.share


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


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)


def test_pictures_become_one_square_tensor() -> None:
    stacked = square(FACES[:3])
    assert stacked.shape == (3, 3, 256, 256) and stacked.dtype == torch.uint8
    for one, face in zip(stacked, FACES, strict=False):
        np.testing.assert_array_equal(one.permute(1, 2, 0).numpy(), shrunk(face.pixels(), 256))


def test_every_draw_has_each_face_through_one_network_and_no_larger_than_it_is(tmp_path: Path) -> None:
    """What is drawn is the face at the size of the draw, at one of both networks' shares, and nothing about it."""
    progress, networks, draws = ProgressLog(), [Darken(0.5), Darken(0.25)], 8
    make_reconstructions(FACES, networks, tmp_path, draws, 7, CPU, batch=2, progress=progress)
    made = Reconstructions.open(tmp_path)
    assert made.sides.shape == (draws, len(FACES)) and len(made.pixels) == draws
    assert made.rows == {face.sample.path: row for row, face in enumerate(FACES)}
    shares = []
    for draw in range(draws):
        for row, face in enumerate(FACES):
            side, drawn = int(made.sides[draw, row]), made.pixels[draw][row]
            assert side in (96, 128, 160, 192, 256) and side <= max(face.side, 96)
            assert not drawn[side:].any() and not drawn[:, side:].any()
            own = shrunk(face.pixels(), side).astype(float)
            apart = [np.abs(drawn[:side, :side] - network.share * own).max() for network in networks]
            assert min(apart) <= 2  # grey values: bfloat16 has no more digits
            shares.append(networks[int(np.argmin(apart))].share)
    assert set(shares) == {0.5, 0.25}
    # A large face is drawn at several sizes, most often at its own; a small one at the least.
    assert set(made.sides[:, 0]) == {96} and len(set(made.sides[:, -1])) > 1
    assert all(shape[0] <= 2 for network in networks for shape in network.seen)
    progress.check_bars_end()
    assert progress.stages["making reconstructions"][-1] == (48, 48)


def test_one_face_is_drawn_by_chance(tmp_path: Path) -> None:
    make_reconstructions(FACES[:2], [Darken(0.5), Darken(0.25)], tmp_path, 6, 8, CPU)
    made, rng = Reconstructions.open(tmp_path), np.random.default_rng(0)
    drawn = [made.pick(rng, FACES[0]) for _ in range(20)]
    assert all(one is not None and one.shape == (96, 96, 3) for one in drawn)
    assert len({one.mean() for one in drawn if one is not None}) == 2
    assert made.pick(rng, FACES[2]) is None


def test_a_kill_costs_only_the_draw_not_done(tmp_path: Path) -> None:
    make_reconstructions(FACES, [Darken(0.5)], tmp_path / "whole", 2, 7, CPU)
    with pytest.raises(KeyboardInterrupt):
        make_reconstructions(FACES, [Mortal(0.5, left=len(FACES) + 1)], tmp_path / "killed", 2, 7, CPU)
    assert Reconstructions.open(tmp_path / "killed").rows == {}  # nothing looks finished
    network, progress = Darken(0.5), ProgressLog()
    make_reconstructions(FACES, [network], tmp_path / "killed", 2, 7, CPU, progress=progress)
    assert sum(shape[0] for shape in network.seen) == len(FACES)  # the second draw alone
    progress.check_bars_end()
    for name in ("draw-00.npy", "draw-01.npy", "sides.npy"):
        np.testing.assert_array_equal(np.load(tmp_path / "killed" / name), np.load(tmp_path / "whole" / name))


def test_finished_reconstructions_are_not_made_again(tmp_path: Path) -> None:
    make_reconstructions(FACES, [Darken(0.5)], tmp_path, 2, 7, CPU)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    network, progress = Darken(0.9), ProgressLog()
    for draws in (2, 1):
        make_reconstructions(FACES, [network], tmp_path, draws, 7, CPU, progress=progress)
    assert not network.seen and not progress.stages
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_reconstructions_of_other_faces_are_not_taken_for_these(tmp_path: Path) -> None:
    make_reconstructions(FACES[:2], [Darken(0.5)], tmp_path, 1, 7, CPU)
    with pytest.raises(DataError, match="other faces; delete it to make them anew"):
        make_reconstructions(FACES[:3], [Darken(0.5)], tmp_path, 1, 7, CPU)


def test_the_bank_is_trained_once_and_its_bar_is_full(tmp_path: Path) -> None:
    progress, recipes = ProgressLog(), AUTOENCODER_BANK[:2]
    trained = train_autoencoder_bank(FACES[:2], tmp_path, 2, 0, CPU, recipes, progress)
    progress.check_bars_end()
    stage = "training the autoencoder bank"
    assert list(progress.stages) == [stage] and progress.stages[stage][-1] == (4, 4)
    assert {path.stem for path in tmp_path.iterdir()} == {recipe.name for recipe in recipes}
    again = ProgressLog()
    loaded = train_autoencoder_bank([], tmp_path, 2, 0, CPU, recipes, again)
    assert not again.stages and not any(network.training for network in loaded)
    for network, other in zip(trained, loaded, strict=True):
        for name, value in network.state_dict().items():
            # Kept in half precision.
            assert torch.equal(other.state_dict()[name], value.half().to(value.dtype)), name


def test_without_taef2_the_bank_stands_alone() -> None:
    bank: list[nn.Module] = [Darken(0.5)]
    assert bank_with_taef2(bank, None, CPU) == bank


@pytest.mark.data
def test_taef2_joins_the_bank_twice(data_dir: Path, portrait: Path) -> None:
    first = Darken(0.5)
    own, taef2, again = bank_with_taef2([first], data_dir / "weights" / "taef2", CPU)
    assert own is first and isinstance(taef2, Taef2) and again is taef2 and not taef2.training
    picture = torch.from_numpy(shrunk(cv2.imread(str(portrait)), 128)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        drawn = taef2(picture)
    assert drawn.shape == picture.shape and 0 < (drawn - picture).abs().mean() < 0.05


def test_published_decoders_redraw_one_face_at_a_time(tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []

    def darker(pixels: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        seen.append(pixels.shape)
        return pixels / 2

    make_reconstructions(FACES, [Decoder("darker", darker), Darken(0.25)], tmp_path, 4, 7, CPU)
    made = Reconstructions.open(tmp_path)
    halves = 0
    for draw, sides in zip(made.pixels, made.sides, strict=True):
        for row, (face, side) in enumerate(zip(FACES, sides, strict=True)):
            drawn, own = draw[row, :side, :side], shrunk(face.pixels(), side)
            half = bool(np.abs(drawn - own / 2).max() <= 1)
            assert half or np.abs(drawn - own * 0.25).max() <= 1
            halves += half
    assert len(seen) == halves and 0 < halves < 4 * len(FACES)


def test_quick_decoders_that_are_not_there_are_noted(tmp_path: Path) -> None:
    progress = ProgressLog()
    there = {decoder.name for decoder in quick_decoders(tmp_path, progress)}
    (note,) = progress.notes
    assert not there & {"srgan", "rfdn"} and "srgan" in note and "rfdn" in note
    assert not any(name in note for name in there)
