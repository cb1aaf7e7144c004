"""Reconstructions of real faces: train the autoencoder bank, send every real through random members of it. Lab only."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from unmask.forging.decoders import Decoder
from unmask.progress import SILENT, Progress

_SIDES = (96, 128, 160, 192, 256)
_FULL = 256


def square(faces: Sequence[StoredFace]) -> torch.Tensor:
    """The faces' pictures as one uint8 tensor (N, 3, 256, 256)."""
    out = np.empty((len(faces), _FULL, _FULL, 3), np.uint8)
    for row, face in enumerate(faces):
        out[row] = cv2.resize(face.pixels(), (_FULL, _FULL), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Reconstructions:
    """Real faces that went through an autoencoder.

    `pixels[d]` uint8 (N, 256, 256, 3) holds draw d's reconstruction of face n in the top-left square of side
    `sides[d, n]`; `rows` are the faces' numbers by the paths of their pictures.
    """

    pixels: list[np.ndarray]
    sides: np.ndarray
    rows: dict[str, int]

    @classmethod
    def open(cls, folder: Path) -> "Reconstructions":
        """Open the reconstructions of a folder, memory-mapped; an empty set if there are none."""
        if not (folder / "sides.npy").is_file():
            return cls([], np.zeros((0, 0), np.int16), {})
        names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
        arrays = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("draw-*.npy"))]
        sides = np.load(folder / "sides.npy")
        return cls(arrays, sides, {name: row for row, name in enumerate(names) if sides[:, row].all()})

    def pick(self, rng: np.random.Generator, face: StoredFace) -> np.ndarray | None:
        """A random reconstruction of the face, uint8 (side, side, 3), or None."""
        row = self.rows.get(face.sample.path)
        if row is None or not self.pixels:
            return None
        draw = rng.integers(len(self.pixels))
        side = int(self.sides[draw, row])
        return np.array(self.pixels[draw][row, :side, :side])


def train_autoencoder_bank(
    faces: Sequence[StoredFace],
    folder: Path,
    steps: int,
    seed: int,
    device: torch.device,
    specs: Sequence[AutoencoderSpec] = AUTOENCODER_BANK,
    progress: Progress = SILENT,
) -> list[nn.Module]:
    """Train the bank's networks on real faces, or load those that are trained already.

    Args:
        faces: training reals.
        folder: where `NAME.safetensors` are kept.
        steps: optimiser steps a network.
        progress: of the stage "training the autoencoder bank", in steps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    nets: list[nn.Module] = []
    pictures = None

    def reporter(number: int) -> Callable[[int, float], None]:
        def report(step: int, loss: float) -> None:
            done, everything = number * steps + min(step + 1, steps), len(specs) * steps
            progress.update("training the autoencoder bank", done, everything, f"loss {loss:.4f}")

        return report

    for number, spec in enumerate(specs):
        path = folder / f"{spec.name}.safetensors"
        if path.is_file():
            net: nn.Module = Autoencoder(spec)
            net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        else:
            if pictures is None:
                pictures = square(faces).to(device)
            net = train_network(spec, pictures, steps, seed, device, progress=reporter(number))
            weights = {name: value.detach().half().contiguous().cpu() for name, value in net.state_dict().items()}
            save_file(weights, path)
        if pictures is not None:  # the last report of a network's training is not of its last step
            progress.update("training the autoencoder bank", (number + 1) * steps, len(specs) * steps)
        nets.append(net.to(device).eval())
    return nets


def make_reconstructions(
    faces: Sequence[StoredFace],
    nets: Sequence[nn.Module | Decoder],
    folder: Path,
    draws: int,
    seed: int,
    device: torch.device,
    batch: int = 16,
    progress: Progress = SILENT,
    stage: str = "making reconstructions",
) -> None:
    """Write `draws` reconstructions of every face, each from a random network at a random working resolution.

    Published decoders redraw one picture at a time, on the CPU.

    A finished draw is not made again, nor anything once all are finished. Progress is of `stage`, in faces.

    Raises:
        DataError: the folder holds reconstructions of other faces.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [face.sample.path for face in faces]
    if (folder / "names.json").is_file():
        if json.loads((folder / "names.json").read_text(encoding="utf-8")) != names:
            raise DataError(f"{folder} holds reconstructions of other faces; delete it to make them anew")
        if (folder / "sides.npy").is_file() and len(np.load(folder / "sides.npy")) >= draws:
            return
    (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
    all_sides = np.zeros((draws, len(faces)), np.int16)
    heights = [face.side for face in faces]
    done = 0
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
            done += len(faces)
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
                    if isinstance(net, Decoder):
                        drawn = np.stack([net(pixels, rng) for pixels in stack])
                    else:
                        x = torch.from_numpy(np.stack(stack)).to(device).permute(0, 3, 1, 2).float() / 255
                        y = resynthesise(net, x, generator)
                        drawn = (y * 255 + 0.5).clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
                    for row, reconstruction in zip(some, drawn, strict=True):
                        out[row, :side, :side] = reconstruction
                    done += len(some)
                    progress.update(stage, done, draws * len(faces))
        out.flush()
        part.replace(path)
    np.save(folder / "sides.npy", all_sides)


def bank_with_taef2(bank: Sequence[nn.Module], taef2: Path | None, device: torch.device) -> list[nn.Module]:
    """The bank, with TAEF2 if its weights are at hand; twice, for it is the one decoder of a real generator."""
    if taef2 is None:
        return list(bank)
    decoder = Taef2(taef2).to(device).eval()
    return [*bank, decoder, decoder]
