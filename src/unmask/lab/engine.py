"""The engine: trains a network on a feed of batches with Lightning Fabric; resumes as if nothing had happened.

Lab only. One or several devices or nodes: Fabric's launcher (`fabric run ... -m unmask train ...`) starts the
processes; every process draws its own share of each batch.
"""

import ctypes
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from unmask.forging.autoencoders import has_cpu_bfloat16
from unmask.lab.run import Run
from unmask.networks.contract import Network, Trainable, normalise

Learning = TypeVar("Learning", bound=Trainable)
_SAVE_EVERY = 100  # steps; a few minutes on two cores, so that a kill costs no more
_LOOKED_AT = 64  # batches that a network is shown before the first step and after the last


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


def make_fabric(devices: int | str = "auto", nodes: int = 1, half_on_cpu: bool = True) -> Fabric:
    """A launched Fabric on the best accelerator, in bfloat16 where the hardware computes in it.

    half_on_cpu: whether that holds for CPUs as well.
    """
    bf16 = torch.cuda.is_available() or (half_on_cpu and has_cpu_bfloat16())
    if not torch.cuda.is_available():
        devices = 1 if devices == "auto" else devices
        _hold_freed_memory()
    fabric = Fabric(devices=devices, num_nodes=nodes, precision="bf16-mixed" if bf16 else "32-true")
    fabric.launch()
    return fabric


class Feed(Protocol):
    """What a run learns from: batches of so many pairs or faces, which is its `unit`."""

    @property
    def unit(self) -> str:
        """ "pairs" or "faces"."""
        ...

    @property
    def count(self) -> int:
        """How many units a step sees."""
        ...

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Tensor]]:
        """Endless batches from step `first` on, `faces` in [0, 1]; a step depends on seed and number alone."""
        ...

    def held(self, network: Network, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """The validation split's faces once, normalised as the network asks, for what is fitted after the last step."""
        ...


def shown_to(network: Network, stream: Iterable[dict[str, Tensor]], count: int) -> Iterator[dict[str, Tensor]]:
    """The first `count` batches of a stream, normalised as a network asks."""
    for batch in islice(stream, count):
        yield {**batch, "faces": normalise(batch["faces"], network).contiguous(memory_format=torch.channels_last)}


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
    network: Learning,
    feed: Feed,
    run: Run[Any],
    validate: Callable[[Learning], dict[str, float]] | None = None,
    every: int = 500,
    progress: Callable[[int, float], None] | None = None,
) -> Learning:
    """Train to the protocol's number of steps and return the averaged network.

    A checkpoint is written every hundred steps; if the run folder holds one, training goes on from it. The averaged
    weights end as `weights.safetensors` in the run folder.

    Args:
        fabric: launched.
        network: to train; what it learns of the data before the first step and after the last is part of it.
        feed: what to train on.
        run: where to write.
        validate: gives named numbers for an averaged network in evaluation mode.
        every: how many steps apart validation is run and logged.
        progress: called with (step, loss) after every step.
    """
    protocol = run.protocol
    checkpoint = run.folder / "checkpoint.ckpt"
    core = network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not checkpoint.exists():
        core.begin(shown_to(core, feed.batches(fabric.device, 0), _LOOKED_AT))
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
    stream = feed.batches(fabric.device, state["step"], fabric.global_rank, fabric.world_size)
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
            row[f"{feed.unit}_per_second"] = seen * feed.count / (time.monotonic() - began)
            if validate and fabric.is_global_zero:
                row |= validate(cast(Learning, average.module.eval()))
            if fabric.is_global_zero:
                run.log(row)
            began, seen, terms = time.monotonic(), 0, {}
            wrapped.train()
        if due or step % _SAVE_EVERY == 0:
            fabric.save(checkpoint.with_suffix(".part"), state)
            if fabric.is_global_zero:
                checkpoint.with_suffix(".part").replace(checkpoint)
    final = cast(Learning, average.module.eval())
    with torch.no_grad():
        final.finish(
            shown_to(final, feed.batches(fabric.device, protocol.steps), _LOOKED_AT), feed.held(final, fabric.device)
        )
    if fabric.is_global_zero:
        save_weights(final, run.folder / "weights.safetensors")
    return final


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's state as half precision safetensors; integers as they are."""
    state = {n: (v.half() if v.is_floating_point() else v).contiguous().cpu() for n, v in module.state_dict().items()}
    save_file(state, path)
