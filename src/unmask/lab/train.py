"""Training of any task: plan, build the network, prepare what is missing, train or resume. All stages resume."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from unmask.errors import DataError
from unmask.lab.config import LabPaths, TrainConfig
from unmask.lab.engine import fit, make_fabric
from unmask.lab.methods import build, method_named, options_of
from unmask.lab.robust.config import RobustOptions, below_a_grey_level
from unmask.lab.robust.training import AdversarialTraining, Replayed
from unmask.lab.run import Run, config_of, task_of
from unmask.lab.task import Task, task_named
from unmask.networks.contract import Hardenable, Trainable
from unmask.networks.normalisation import with_group_norm
from unmask.progress import SILENT, Progress
from unmask.provenance import sha256_of


def train(
    paths: LabPaths,
    folder: Path,
    config: TrainConfig,
    start: Path | None = None,
    progress: Progress = SILENT,
    command: str = "",
    every: int = 500,
) -> Trainable:
    """Prepare what is missing and train, or resume, one run; returns the averaged network.

    Args:
        paths: where everything lies, of the type that the method's task has.
        folder: of the run.
        config: of the run, of its task's type; what follows from data and start is filled in.
        start: run folder whose weights to begin from; None for the method's own.
        progress: of every stage.
        command: the command line, for the run's record.
        every: steps between two validations.

    Raises:
        DataError: something about the data, the run folder, the method's options or the start; before training begins.
    """
    task = task_named(method_named(config.method).task)
    if not 0 < config.learning_rate < math.inf:
        raise DataError(f"a learning rate of {config.learning_rate:g}: give a number above 0, such as 0.001")
    if config.optimiser and config.robust and RobustOptions.of(config.robust).attack == "free":
        raise DataError(
            f"--optimiser {config.optimiser['optimiser']} passes every batch twice, and with --attack free each pass "
            "moves the pictures; take --attack fast or pgd, or --optimiser adamw"
        )
    before = None
    if start is not None:
        weights = _weights_of(start, "no weights.safetensors to start from; finish that run first")
        if task_of(start) != task.name:
            raise DataError(f"{start}: a run of the task {task_of(start)}; start from one of {task.name}")
        before = config_of(start)
        config = replace(config, start=sha256_of(weights))
    new_network(task, config, pretrained=start is None)  # what cannot be built is refused before any face is looked for
    plan = task.plan(paths, config, before, progress)
    config = plan.config
    torch.manual_seed(config.seed)
    network = new_network(task, config, pretrained=start is None)
    if start is not None:
        try:
            network.load_state_dict(load_file(start / "weights.safetensors"))
        except RuntimeError as error:
            raise DataError(
                f"{start}: its weights are not those of {config.method} with these options and these data; start from "
                "a run with the same, or from none"
            ) from error
    run = Run(folder, config, plan.data_sha256, task.name, command)
    prepared = task.prepare(plan, progress)
    fabric = make_fabric(half_on_cpu=task.half_on_cpu)

    def validate(averaged: Trainable) -> dict[str, float]:
        return task.validate(averaged, prepared, fabric.device)

    def advanced(step: int, loss: float) -> None:
        progress.update("training", step, config.steps, f"loss {loss:.3f}")

    feed = task.feed(prepared)
    kernels: AbstractContextManager[None] = nullcontext()
    if config.robust:
        robust = RobustOptions.of(config.robust)
        if robust.ra:
            progress.note("reverse attention masks gradients; quote the worst case of `unmask evaluate RUN --attacked`")
        if below_a_grey_level(robust.epsilon, robust.attack_norm):
            progress.note("the budget is less than one grey level: no 8-bit picture but the original is within it")
        network.objective = AdversarialTraining(robust)
        if robust.attack == "free":
            feed = Replayed(feed, robust.attack_replays, config.steps)
            if fabric.device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
                # oneDNN's AVX2 kernels (torch 2.14) write out of bounds where one backward pass goes to weights and
                # pictures.
                kernels = torch.backends.mkldnn.flags(enabled=False)
    with kernels:
        return fit(fabric, network, feed, run, validate, every, advanced)


def new_network(task: Task, config: TrainConfig, pretrained: bool) -> Trainable:
    """The untrained network of a configuration; without `pretrained` its own first weights are random.

    Raises:
        DataError: no such method or option, a size that it cannot take, a method of another task, or one that cannot be
            hardened as asked for.
    """
    options = dict(config.options)
    if not pretrained and "weights" in options_of(config.method):
        options["weights"] = "none"
    network = build(config.method, options, task.generators(config), config.size)
    if not isinstance(network, task.network):
        kind = f"{task.network.__module__}.{task.network.__name__}"
        raise DataError(f"{config.method} is no method of the task {task.name}: it is not derived from {kind}")
    if config.normalisation == "group":
        with_group_norm(network)
    if config.robust:
        if not isinstance(network, Hardenable):
            raise DataError(f"{config.method}: networks of the task {task.name} cannot be hardened; leave --robust out")
        if RobustOptions.of(config.robust).ra:
            network.check_reverse_attention()
            network.reverse_attention = True
    return network


def load_network(folder: Path) -> Trainable:
    """The averaged network of a finished run, in evaluation mode.

    Raises:
        DataError: no such run, it is not finished, or it is of a version whose network was another.
    """
    config = config_of(folder)
    weights = _weights_of(folder, "the run is not finished; start the same command again to resume it")
    network = new_network(task_named(task_of(folder)), config, pretrained=False)
    try:
        network.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise DataError(
            f"{folder}: its weights are not those of {config.method} as it is in this version; train it again, or use "
            "the version that it was trained with (in its run.json)"
        ) from error
    return network.eval()


def _weights_of(folder: Path, otherwise: str) -> Path:
    weights = folder / "weights.safetensors"
    if not weights.is_file():
        raise DataError(f"{folder}: {otherwise}")
    return weights
