"""The re-synthesised twins of the training reals: train the zoo, send every real through random members of it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from unmask.datasets.face_store import StoredFace
from unmask.errors import DataError
from unmask.forging.autoencoders import (
    AUTOENCODER_BANK,
    Autoencoder,
    AutoencoderSpec,
    Taef2,
    resynthesise,
    train_network,
)

_SIDES = (96, 128, 160, 192, 256)
_FULL = 256


def square(faces: Sequence[StoredFace]) -> torch.Tensor:
    """The faces' pictures as one uint8 tensor (N, 3, 256, 256)."""
    out = np.empty((len(faces), _FULL, _FULL, 3), np.uint8)
    for row, face in enumerate(faces):
        out[row] = cv2.resize(face.pixels(), (_FULL, _FULL), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous()


def train_zoo(
    faces: Sequence[StoredFace],
    folder: Path,
    steps: int,
    seed: int,
    device: torch.device,
    recipes: Sequence[AutoencoderSpec] = AUTOENCODER_BANK,
    progress: Callable[[str], None] | None = None,
) -> list[nn.Module]:
    """Train the zoo's networks on real faces, or load those that are trained already.

    Args:
        faces: training reals.
        folder: where `NAME.safetensors` are kept.
        steps: optimiser steps a network.
        progress: called with a line when a network is done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    nets: list[nn.Module] = []
    pictures = None
    for recipe in recipes:
        path = folder / f"{recipe.name}.safetensors"
        if path.is_file():
            net: nn.Module = Autoencoder(recipe)
            net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        else:
            if pictures is None:
                pictures = square(faces).to(device)
            losses: dict[int, float] = {}
            net = train_network(recipe, pictures, steps, seed, device, progress=losses.__setitem__)
            weights = {name: value.detach().half().contiguous().cpu() for name, value in net.state_dict().items()}
            save_file(weights, path)
            if progress:
                progress(f"{recipe.name}: loss {losses[0]:.4f} -> {losses[max(losses)]:.4f} in {steps} steps")
        nets.append(net.to(device).eval())
    return nets


def make_twins(
    faces: Sequence[StoredFace],
    nets: Sequence[nn.Module],
    folder: Path,
    draws: int,
    seed: int,
    device: torch.device,
    batch: int = 64,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write `draws` twins of every face, each from a random network at a random working resolution (see `pool.Twins`).

    A finished draw is not made again, nor anything once all are finished.

    Raises:
        DataError: the folder holds twins of other faces.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [face.sample.path for face in faces]
    if (folder / "names.json").is_file():
        if json.loads((folder / "names.json").read_text(encoding="utf-8")) != names:
            raise DataError(f"{folder} holds twins of other faces; delete it to make them anew")
        if (folder / "sides.npy").is_file() and len(np.load(folder / "sides.npy")) >= draws:
            return
    (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
    all_sides = np.zeros((draws, len(faces)), np.int16)
    heights = [face.side for face in faces]
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        choice = rng.integers(len(nets), size=len(faces))
        top = [sum(side <= height for side in _SIDES) for height in heights]
        # The full resolution is favoured, but a generator that draws small faces leaves its traces at their size.
        rank = np.minimum(rng.integers(0, len(_SIDES) + 3, len(faces)), np.array(top) - 1)
        sides = np.array(_SIDES)[np.maximum(rank, 0)]
        all_sides[draw] = sides
        path = folder / f"draw-{draw:02d}.npy"
        if path.is_file():
            continue
        part = path.with_suffix(".part")
        out = np.lib.format.open_memmap(part, "w+", np.uint8, (len(faces), _FULL, _FULL, 3))
        generator = torch.Generator().manual_seed(seed * 1000 + draw)
        for net_number, net in enumerate(nets):
            for side in _SIDES:
                rows = np.flatnonzero((choice == net_number) & (sides == side))
                for start in range(0, len(rows), batch):
                    some = rows[start : start + batch]
                    stack = [
                        cv2.resize(faces[row].pixels(), (side, side), interpolation=cv2.INTER_AREA) for row in some
                    ]
                    x = torch.from_numpy(np.stack(stack)).to(device).permute(0, 3, 1, 2).float() / 255
                    y = resynthesise(net, x, generator)
                    done = (y * 255 + 0.5).clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
                    for row, twin in zip(some, done, strict=True):
                        out[row, :side, :side] = twin
                    if progress:
                        progress(len(some))
        out.flush()
        part.replace(path)
    np.save(folder / "sides.npy", all_sides)


def zoo_and_taef2(zoo: Sequence[nn.Module], taef2: Path | None, device: torch.device) -> list[nn.Module]:
    """The zoo, with TAEF2 if its weights are at hand; twice, for it is the one decoder of a real generator."""
    if taef2 is None:
        return list(zoo)
    decoder = Taef2(taef2).to(device).eval()
    return [*zoo, decoder, decoder]
