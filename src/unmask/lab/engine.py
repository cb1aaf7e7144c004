"""The engine: trains a network on a feed of batches with Lightning Fabric; resumes as if nothing had happened.

Lab only. One or several devices or nodes: Fabric's launcher (`fabric run ... -m unmask train ...`) starts the
processes; every process draws its own share of each batch.
"""

import ctypes
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast, runtime_checkable

import torch
from lightning_fabric import Fabric
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from unmask.errors import DataError
from unmask.files import whole
from unmask.forging.autoencoders import has_cpu_bfloat16
from unmask.lab.config import TrainConfig
from unmask.lab.optimisers.sharpness import SharpnessAware, with_settings
from unmask.lab.run import Run
from unmask.networks.contract import Trainable

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

    def validation_batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """The validation split's faces once, in [0, 1], for what is fitted after the last step."""
        ...


@runtime_checkable
class AdaptiveFeed(Feed, Protocol):
    """A feed that draws by what the network finds hard; what it draws by is part of the checkpoint."""

    def adapt(self, network: Any, device: torch.device) -> None:
        """Look at the averaged network, in evaluation mode, and draw accordingly from now on."""
        ...

    def numbers(self) -> dict[str, float]:
        """What it draws by, for the run's record."""
        ...

    @property
    def state(self) -> Any:
        """What it draws by: an object with `state_dict` and `load_state_dict`, of plain numbers."""
        ...


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


def _groups(network: Trainable, rate: float, decay: float) -> list[dict[str, Any]]:
    """Parameters by their rate, the full one first, and by whether they decay: vectors and numbers do not."""
    shares = {
        name: next((share for start, share in network.rate_shares.items() if name.startswith(start)), 1.0)
        for name, _ in network.named_parameters()
    }
    return [
        {
            "params": [p for name, p in network.named_parameters() if shares[name] == share and (p.ndim > 1) == decays],
            "lr": share * rate,
            "weight_decay": decay if decays else 0.0,
        }
        for share in sorted({1.0, *shares.values()}, reverse=True)
        for decays in (True, False)
    ]


def _optimiser(module: Trainable, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW, or what the configuration puts around it."""
    groups = _groups(module, config.learning_rate, config.weight_decay)
    return with_settings(groups, partial(torch.optim.AdamW, lr=config.learning_rate), config.optimiser)


@dataclass(frozen=True)
class Advance:
    """What some steps of training gave.

    Attributes:
        weights: the network's state after them, on its device.
        steps: taken in all, counted from the run's start.
        units: pairs or faces seen in these steps, over all processes.
        metrics: the mean loss ("loss"), of each of its terms ("loss_NAME"; one that a step lacked is 0 there), the
            learning rate after the last step ("rate") and the speed ("pairs_per_second" or "faces_per_second"); of a
            sharpness-aware optimiser the means of `StepStatistics.metrics` ("cosine", "relative_rho", for gcsam
            "branch_NAME").
    """

    weights: dict[str, Tensor]
    steps: int
    units: int
    metrics: dict[str, float]


class Trainer(Generic[Learning]):
    """Trains a network step by step, from any weights, and keeps the moving average of its weights.

    What a step does depends on the weights, the configuration's seed and the step's number alone, so that training goes
    on after a stop as if nothing had happened. A sharpness-aware optimiser looks twice at a step's batch, with the same
    random numbers; what the network keeps of a batch, such as normalisation statistics, is of the first look.

    Attributes:
        network: in training.
        average: the same with averaged weights, in evaluation mode.
        step: taken so far.

    Args:
        fabric: launched.
        network: to train.
        feed: what to train on.
        config: learning rate, weight decay, optimiser, steps in all (which the learning rate's schedule spans), seed.
        checkpoint: file to resume from if it is there, and to save to.
        first: steps that were taken before, by others from whom the network's weights come: batches and learning rate
            go on from there, with an optimiser that knows nothing of them.
        proximal: weight of half the squared distance from the weights that `advance` begins from (FedProx; Li et al.,
            MLSys 2020).

    Raises:
        DataError: the checkpoint is of another network.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: Learning,
        feed: Feed,
        config: TrainConfig,
        checkpoint: Path | None = None,
        first: int = 0,
        proximal: float = 0.0,
    ) -> None:
        self._fabric, self._feed, self._config, self._checkpoint = fabric, feed, config, checkpoint
        self._proximal = proximal
        self.network = network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        resumed = checkpoint is not None and checkpoint.exists()
        if not resumed and not first:
            self.network.fit_statistics(islice(feed.batches(fabric.device, 0), _LOOKED_AT))
        optimiser = _optimiser(self.network, config)
        self._sharp = optimiser if isinstance(optimiser, SharpnessAware) else None
        if self._sharp is not None:
            self._sharp.base.register_step_pre_hook(lambda *_: self._shorten())
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            [group["lr"] for group in optimiser.param_groups],
            config.steps,
            pct_start=0.08,
            final_div_factor=100,
        )
        if first:
            self._schedule.last_epoch = first - 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the optimiser has not stepped: others' has
                self._schedule.step()
        self._wrapped, self._optimiser = fabric.setup(self.network, optimiser)
        self._wrapped.mark_forward_method("objective_losses")
        self._state: dict[str, Any] = {
            "model": self._wrapped,
            "optimiser": self._optimiser,
            "schedule": self._schedule,
            "step": first,
        }
        self._average: AveragedModel | None = None
        if config.average:
            update = _moving_average(config.average)
            self._average = self._state["average"] = AveragedModel(self.network, multi_avg_fn=update, use_buffers=True)
        if isinstance(feed, AdaptiveFeed):
            self._state["feed"] = feed.state
        if network.objective is not None:
            self._state["objective"] = network.objective
        if checkpoint is not None and resumed:
            try:
                fabric.load(checkpoint, self._state)
            except (RuntimeError, ValueError) as error:  # other tensors, other groups of parameters
                raise DataError(
                    f"{checkpoint}: not a checkpoint of {config.method} as it is in this version; train anew in "
                    "another folder"
                ) from error
        self._stream = feed.batches(fabric.device, self.step, fabric.global_rank, fabric.world_size)

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return int(self._state["step"])

    @property
    def average(self) -> Learning:
        """The network with averaged weights, in evaluation mode; the network itself if nothing is averaged."""
        return cast(Learning, (self._average.module if self._average is not None else self.network).eval())

    def advance(
        self,
        steps: int,
        weights: Mapping[str, Tensor] | None = None,
        progress: Callable[[int, float], None] | None = None,
    ) -> Advance:
        """Take some steps, not beyond the configuration's number.

        Args:
            steps: to take.
            weights: a state to begin from, say one that others have trained meanwhile; None to go on from its own.
                Optimiser and schedule go on from their own state.
            progress: called with (step, mean loss so far) every twentieth step and after the last.
        """
        config = self._config
        if weights is not None:
            self.network.load_state_dict(dict(weights))
        began, seen, terms, sharpness = time.monotonic(), 0, dict[str, Tensor](), dict[str, list[float]]()
        last = min(config.steps, self.step + steps)
        self._wrapped.train()
        anchors = [weight.detach().clone() for weight in self.network.parameters()] if self._proximal else []
        while self.step < last:
            batch = next(self._stream)
            batch["faces"] = batch["faces"].contiguous(memory_format=torch.channels_last)
            if self._sharp is None:
                losses = self._evaluated(batch, anchors)
                self._shorten()
                self._optimiser.step()
            else:
                losses = self._sharp_step(batch, anchors)
                assert self._sharp.statistics is not None
                for name, value in self._sharp.statistics.metrics().items():
                    sharpness.setdefault(name, []).append(value)
            self._schedule.step()
            if self._average is not None:
                self._average.update_parameters(self.network)
            self._state["step"] += 1
            for name, term in losses.items():
                terms[name] = terms.get(name, 0) + term.detach().float()
            seen += 1
            if progress and (self.step % 20 == 0 or self.step == last):
                progress(self.step, sum(map(float, terms.values())) / seen)
        metrics = {"rate": float(self._schedule.get_last_lr()[0])}
        if seen:
            means = {f"loss_{name}": float(value) / seen for name, value in terms.items()}
            speed = {f"{self._feed.unit}_per_second": seen * self._feed.count / (time.monotonic() - began)}
            gradients = {name: sum(values) / seen for name, values in sharpness.items()}
            metrics = {"loss": sum(means.values()), **means, **metrics, **gradients, **speed}
        # Copies: the network's own tensors go on changing.
        state = {name: value.clone() for name, value in self.network.state_dict().items()}
        return Advance(state, self.step, seen * self._feed.count, metrics)

    def _evaluated(self, batch: dict[str, Tensor], anchors: Sequence[Tensor]) -> dict[str, Tensor]:
        """The terms of the loss of a step's batch; leaves their gradients, FedProx's included, at the weights."""
        # Dropout must repeat after a resume: its stream starts anew from seed and number at every step.
        torch.manual_seed((self._config.seed * 1_000_003 + self.step) & 0x7FFFFFFF)
        losses: dict[str, Tensor] = self._wrapped.objective_losses(batch)
        loss: Tensor = torch.stack(list(losses.values())).sum()
        self._optimiser.zero_grad(set_to_none=True)
        self._fabric.backward(loss)
        for weight, anchor in zip(self.network.parameters(), anchors, strict=bool(anchors)):
            if weight.grad is not None:
                weight.grad.add_(weight.detach() - anchor, alpha=self._proximal)
        return losses

    def _sharp_step(self, batch: dict[str, Tensor], anchors: Sequence[Tensor]) -> dict[str, Tensor]:
        """A step of two looks at a batch; gives the terms of the loss of the first.

        Buffers, such as normalisation statistics, are before the second look what they were before the first, so that
        both are of one function, and after it what the first left.
        """
        looks: list[dict[str, Tensor]] = []
        before, after = self._buffers(), list[Tensor]()

        def look() -> None:
            looks.append(self._evaluated(batch, anchors))
            if len(looks) == 1:
                after.extend(self._buffers())
                self._set_buffers(before)

        self._optimiser.step(look)
        self._set_buffers(after)
        return looks[0]

    def _buffers(self) -> list[Tensor]:
        return [buffer.clone() for buffer in self.network.buffers()]

    def _set_buffers(self, values: Sequence[Tensor]) -> None:
        for buffer, value in zip(self.network.buffers(), values, strict=True):
            buffer.copy_(value)

    def _shorten(self) -> None:
        nn.utils.clip_grad_norm_(self.network.parameters(), self.network.longest_gradient)

    def adapt(self) -> dict[str, float]:
        """Let an adaptive feed look at the averaged network; gives what it draws by from now on, for the record."""
        if not isinstance(self._feed, AdaptiveFeed):
            return {}
        with torch.no_grad():
            if self._fabric.is_global_zero:
                self._feed.adapt(self.average, self._fabric.device)
            state = self._feed.state
            state.load_state_dict(self._fabric.broadcast(state.state_dict()))
        return self._feed.numbers()

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        if self._checkpoint is not None:
            part = self._checkpoint.with_suffix(".part")
            self._fabric.save(part, self._state)
            if self._fabric.is_global_zero:
                part.replace(self._checkpoint)

    def finish(self) -> Learning:
        """The averaged network, with what is fitted on the frozen network after the last step."""
        network, device = self.average, self._fabric.device
        with torch.no_grad():
            training = islice(self._feed.batches(device, self._config.steps), _LOOKED_AT)
            network.fit_posthoc(training, self._feed.validation_batches(device))
        return network


def fit(
    fabric: Fabric,
    network: Learning,
    feed: Feed,
    run: Run[Any],
    validate: Callable[[Learning], dict[str, float]] | None = None,
    every: int = 500,
    progress: Callable[[int, float], None] | None = None,
) -> Learning:
    """Train to the configuration's number of steps and return the averaged network.

    A checkpoint is written every hundred steps, after an adaptive feed has looked at the averaged network; if the run
    folder holds one, training goes on from it. The averaged weights end as `weights.safetensors` in the run folder.

    Args:
        fabric: launched.
        network: to train; what it learns of the data before the first step and after the last is part of it.
        feed: what to train on.
        run: where to write.
        validate: gives named numbers for an averaged network in evaluation mode.
        every: how many steps apart validation is run and logged.
        progress: called with (step, loss) after every twentieth step.
    """
    trainer = Trainer(fabric, network, feed, run.config, run.folder / "checkpoint.ckpt")
    rows: list[Advance] = []
    while trainer.step < run.config.steps:
        due = min(run.config.steps, (trainer.step // every + 1) * every)
        rows.append(
            trainer.advance(min(due, (trainer.step // _SAVE_EVERY + 1) * _SAVE_EVERY) - trainer.step, None, progress)
        )
        drawn_by = trainer.adapt() if trainer.step % _SAVE_EVERY == 0 or trainer.step == due else {}
        if trainer.step == due:
            row = {"step": float(due), **_pooled(rows), **drawn_by}
            if validate and fabric.is_global_zero:
                row |= validate(trainer.average)
            if fabric.is_global_zero:
                run.log(row)
            rows = []
        trainer.save()
    final = trainer.finish()
    if fabric.is_global_zero:
        save_weights(final, run.folder / "weights.safetensors")
    return final


def _pooled(advances: Sequence[Advance]) -> dict[str, float]:
    """The metrics of several advances as of one: means by the units seen, the last learning rate."""
    units = sum(one.units for one in advances)
    last = advances[-1].metrics
    names = dict.fromkeys(name for one in advances for name in one.metrics)
    return {name: last[name] if name == "rate" else _mean(name, advances, units) for name in names}


def _mean(name: str, advances: Sequence[Advance], units: int) -> float:
    if name.endswith("_per_second"):  # units over the sum of the times
        return units / sum(one.units / one.metrics[name] for one in advances)
    # A term that a method has in some phase alone counts as 0 in the others.
    return sum(one.units * one.metrics.get(name, 0.0) for one in advances) / units


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's state as half precision safetensors; integers as they are."""
    state = {n: (v.half() if v.is_floating_point() else v).contiguous().cpu() for n, v in module.state_dict().items()}
    with whole(path) as part:
        part.write_bytes(save(state))
