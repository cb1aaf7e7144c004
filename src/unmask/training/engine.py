"""The engine: trains a detector on a pool of pairs with Lightning Fabric; resumes as if nothing had happened.

Lab only. One or several devices or nodes: Fabric's launcher (`fabric run ... -m unmask train ...`) starts the
processes; every process draws its own share of each batch.
"""

import ctypes
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from unmask.data.held_out import Face
from unmask.data.pool import UNKNOWN, Pool
from unmask.data.resynthesis import has_cpu_bfloat16
from unmask.forgery.detector import Learner, normalise
from unmask.training.run import Protocol, Run

_SAVE_EVERY = 100  # steps; a few minutes on two cores, so that a kill costs no more
_LOOKED_AT = 64  # batches that a detector is shown before the first step and after the last


def _hold_freed_memory() -> None:
    """Let the C library keep what is freed; without effect where it is not glibc.

    A step on the CPU takes and frees gigabytes. By default they go back to the kernel, which hands them out again page
    by page, zeroed, and that is a good part of a step's time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # names in malloc.h
        for option, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**28), (arena_max, 1)):
            mallopt(option, value)


def make_fabric(devices: int | str = "auto", nodes: int = 1) -> Fabric:
    """A launched Fabric on the best accelerator, in bfloat16 where the hardware computes in it."""
    bf16 = torch.cuda.is_available() or has_cpu_bfloat16()
    if not torch.cuda.is_available():
        devices = 1 if devices == "auto" else devices
        _hold_freed_memory()
    fabric = Fabric(devices=devices, num_nodes=nodes, precision="bf16-mixed" if bf16 else "32-true")
    fabric.launch()
    return fabric


def batches(
    pool: Pool, protocol: Protocol, device: torch.device, first: int, rank: int = 0, world: int = 1
) -> Iterator[dict[str, Tensor]]:
    """Endless batches from step `first` on: shuffled epochs over the allowed pairs; a step depends on seed and number.

    The pool is held on the device if it takes less than half of its free memory; else rows are read from disk.
    """
    allowed = pool.without(protocol.without)
    own = generators_of(pool, protocol)
    generators = torch.tensor([own.index(name) + 1 if name in own else 0 for name in pool.plan.families], device=device)
    pixels: Any = pool.pixels
    if device.type == "cuda" and pool.pixels.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
        pixels = torch.from_numpy(np.asarray(pool.pixels)).to(device)
    count = protocol.batch_pairs
    per_epoch = max(1, len(allowed) // count)
    step, order = first, (-1, allowed)
    while True:
        epoch, place = divmod(step, per_epoch)
        if order[0] != epoch:
            order = (epoch, np.random.default_rng([protocol.seed, epoch]).permutation(allowed))
        rows = np.sort(order[1][place * count : (place + 1) * count][rank::world])
        faces = (
            pixels[torch.from_numpy(rows).to(device)] if isinstance(pixels, Tensor) else torch.from_numpy(pixels[rows])
        )
        side = protocol.size if step % protocol.whole_every == 0 else protocol.window
        faces, masks = _window(faces, pool.masks[rows], side, np.random.default_rng([protocol.seed, step, rank]))
        x = faces.to(device, non_blocking=True).permute(0, 1, 4, 2, 3).float() / 255
        x = _vary(x, torch.Generator().manual_seed(hash((protocol.seed, step, rank)) & 0x7FFFFFFF))
        cells = torch.from_numpy(masks.astype(np.int16)).to(device)
        forged = torch.where(cells == UNKNOWN, -1.0, cells.float() / 254)[:, None]
        both = torch.stack([torch.zeros_like(forged), forged], 1)
        kinds = generators[torch.from_numpy(pool.families[rows].astype(np.int64)).to(device)]
        yield {
            "faces": x.flatten(0, 1),
            "labels": torch.tensor([0.0, 1.0], device=device).repeat(len(rows)),
            "masks": both.flatten(0, 1),
            "families": torch.stack([torch.zeros_like(kinds), kinds], 1).flatten(),
            "progress": torch.tensor(min(1.0, step / protocol.steps), device=device),
        }
        step += 1


def generators_of(pool: Pool, protocol: Protocol) -> tuple[str, ...]:
    """The forged families that a run learns, in the order of a batch's `families`."""
    return tuple(name for name in pool.plan.families if name not in protocol.without)


def shown_to(detector: Learner, stream: Iterable[dict[str, Tensor]], count: int) -> Iterator[dict[str, Tensor]]:
    """The first `count` batches of a stream, normalised as a detector asks."""
    for batch in islice(stream, count):
        yield {**batch, "faces": normalise(batch["faces"], detector).contiguous(memory_format=torch.channels_last)}


def faces_in_batches(
    faces: Sequence[Face], detector: Learner, families: Sequence[str], device: torch.device, size: int = 64
) -> Iterator[dict[str, Tensor]]:
    """Held-out faces once, as batches; forgeries of other families than `families` are left out."""
    known = [face for face in faces if not face.label or face.family in families]
    for start in range(0, len(known), size):
        some = known[start : start + size]
        pixels = torch.from_numpy(np.stack([face.crop for face in some])).to(device)
        kinds = [families.index(face.family) + 1 if face.label else 0 for face in some]
        yield {
            "faces": normalise(pixels.permute(0, 3, 1, 2).float() / 255, detector),
            "labels": torch.tensor([float(face.label) for face in some], device=device),
            "masks": torch.full((len(some), 1, 1, 1), -1.0, device=device),
            "families": torch.tensor(kinds, device=device),
            "progress": torch.ones((), device=device),
        }


def _window(faces: Tensor, masks: np.ndarray, side: int, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """The same random window of both faces of a pair, on the map's grid, with forged pixels in it if they are known.

    Args:
        faces: uint8 (P, 2, S, S, 3).
        masks: uint8 (P, M, M), see `pool`.
        side: of the window in pixels, a multiple of S / M.

    Returns:
        uint8 (P, 2, side, side, 3) and (P, m, m).
    """
    size, cells = faces.shape[2], masks.shape[1]
    step = size // cells
    span = side // step
    if span >= cells:
        return faces, masks
    cut_faces, cut_masks = [], []
    for pair, mask in zip(faces, masks, strict=True):
        candidates = np.argwhere((mask > 100) & (mask != UNKNOWN))
        row, column = candidates[rng.integers(len(candidates))] if len(candidates) else rng.integers(0, cells, 2)
        top = int(np.clip(row - rng.integers(0, span), 0, cells - span))
        left = int(np.clip(column - rng.integers(0, span), 0, cells - span))
        y, x = top * step, left * step
        cut_faces.append(pair[:, y : y + side, x : x + side])
        cut_masks.append(mask[top : top + span, left : left + span])
    return torch.stack(cut_faces), np.stack(cut_masks)


def _vary(x: Tensor, generator: torch.Generator) -> Tensor:
    """Cheap variation, the same for both of a pair: brightness and contrast; x is (P, 2, 3, S, S) in [0, 1]."""
    draws = torch.rand((2, len(x), 1, 1, 1, 1), generator=generator).to(x.device)
    gain, shift = 0.85 + 0.3 * draws[0], 0.16 * (draws[1] - 0.5)
    return ((x - 0.5) * gain + 0.5 + shift).clamp(0, 1)


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average whose decay grows to `decay`, so that a short run's average forgets its start."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        keep = min(decay, (1 + int(count)) / (10 + int(count)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - keep)
        else:
            torch._foreach_copy_(averaged, current)

    return update


def _groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    plain = [p for p in module.parameters() if p.ndim <= 1]
    return [
        {"params": [p for p in module.parameters() if p.ndim > 1], "weight_decay": decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def fit(
    fabric: Fabric,
    detector: Learner,
    pool: Pool,
    run: Run,
    validate: Callable[[Learner], dict[str, float]] | None = None,
    held: Sequence[Face] = (),
    every: int = 500,
    progress: Callable[[int, float], None] | None = None,
) -> Learner:
    """Train to the protocol's number of steps and return the averaged detector.

    A checkpoint is written every hundred steps; if the run folder holds one, training goes on from it. The averaged
    weights end as `weights.safetensors` in the run folder.

    Args:
        fabric: launched.
        detector: to train; what it learns of the data before the first step and after the last is part of it.
        pool: what to train on.
        run: where to write.
        validate: gives named numbers for an averaged detector in evaluation mode.
        held: faces of the validation split, for what a detector fits after the last step.
        every: how many steps apart validation is run and logged.
        progress: called with (step, loss) after every step.
    """
    protocol = run.protocol
    checkpoint = run.folder / "checkpoint.ckpt"
    core = detector.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not checkpoint.exists():
        core.begin(shown_to(core, batches(pool, protocol, fabric.device, 0), _LOOKED_AT))
    optimiser = torch.optim.AdamW(_groups(core, protocol.weight_decay), lr=protocol.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, protocol.learning_rate, protocol.steps, pct_start=0.08, final_div_factor=100
    )
    wrapped, optimiser = fabric.setup(core, optimiser)
    wrapped.mark_forward_method("training_losses")
    average = AveragedModel(core, multi_avg_fn=_moving_average(protocol.average), use_buffers=True)
    state: dict[str, Any] = {
        "model": wrapped,
        "optimiser": optimiser,
        "schedule": schedule,
        "average": average,
        "step": 0,
    }
    if checkpoint.exists():
        fabric.load(checkpoint, state)
    began, seen, terms = time.monotonic(), 0, dict[str, Tensor]()
    stream = batches(pool, protocol, fabric.device, state["step"], fabric.global_rank, fabric.world_size)
    wrapped.train()
    while state["step"] < protocol.steps:
        batch = next(stream)
        # Dropout must repeat after a resume: its stream starts anew from seed and number at every step.
        torch.manual_seed((protocol.seed * 1_000_003 + state["step"]) & 0x7FFFFFFF)
        batch["faces"] = normalise(batch["faces"], core).contiguous(memory_format=torch.channels_last)
        losses = wrapped.training_losses(batch)
        loss: Tensor = torch.stack(list(losses.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        fabric.backward(loss)
        nn.utils.clip_grad_norm_(core.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(core)
        state["step"] += 1
        terms = {name: terms.get(name, 0) + value.detach().float() for name, value in losses.items()}
        seen += 1
        step = state["step"]
        if progress and (step % 20 == 0 or step == protocol.steps):
            progress(step, sum(map(float, terms.values())) / seen)
        due = step % every == 0 or step == protocol.steps
        if due:
            row: dict[str, float] = {
                "step": float(step),
                "loss": sum(map(float, terms.values())) / seen,
                **{f"loss_{name}": float(value) / seen for name, value in terms.items()},
                "rate": float(schedule.get_last_lr()[0]),
            }
            row["pairs_per_second"] = seen * protocol.batch_pairs / (time.monotonic() - began)
            if validate and fabric.is_global_zero:
                row |= validate(cast(Learner, average.module.eval()))
            if fabric.is_global_zero:
                run.log(row)
            began, seen, terms = time.monotonic(), 0, {}
            wrapped.train()
        if due or step % _SAVE_EVERY == 0:
            fabric.save(checkpoint.with_suffix(".part"), state)
            if fabric.is_global_zero:
                checkpoint.with_suffix(".part").replace(checkpoint)
    final = cast(Learner, average.module.eval())
    with torch.no_grad():
        final.finish(
            shown_to(final, batches(pool, protocol, fabric.device, protocol.steps), _LOOKED_AT),
            faces_in_batches(held, final, generators_of(pool, protocol), fabric.device),
        )
    if fabric.is_global_zero:
        save_weights(final, run.folder / "weights.safetensors")
    return final


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's state as half precision safetensors; integers as they are."""
    state = {n: (v.half() if v.is_floating_point() else v).contiguous().cpu() for n, v in module.state_dict().items()}
    save_file(state, path)
