"""The trainer of all prompt learners: epochs over vectors of pictures; resumes as if nothing had happened. Lab only.

It is not the engine's: the published recipe counts epochs, whose rate is one, and what is learned are a few thousand
numbers from vectors that lie in memory. Optimisers are those of the engine.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from sklearn.metrics import f1_score
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms

from unmask.errors import DataError
from unmask.files import whole
from unmask.lab.optimisers.sharpness import SharpnessAware, with_settings
from unmask.lab.prompting.config import PromptOptions
from unmask.lab.prompting.learners import PromptLearner, new_learner
from unmask.lab.prompting.vision_language import VisionLanguageModel
from unmask.progress import SILENT, Progress
from unmask.tables import write_csv

PROMPTS = "prompts.safetensors"
_WARM_UP = 1e-5  # learning rate of the first epoch
_MOMENTUM, _WEIGHT_DECAY = 0.9, 5e-4


def encode_views(model: VisionLanguageModel, pictures: Sequence[np.ndarray], views: int = 1, seed: int = 0) -> Tensor:
    """Unit vectors of pictures, each encoded once and for all.

    Args:
        model: of the image tower.
        pictures: uint8 (H, W, 3) RGB each, of any size.
        views: of each picture: 1 for its middle square; else so many random crops and reflections, of which an epoch
            takes one at random. As many as epochs are the published augmentation.
        seed: of the crops.

    Returns:
        Float32 (N, views, dimension).

    Raises:
        DataError: there are no pictures.
    """
    if not pictures:
        raise DataError("no pictures to encode; give at least one")
    size, cubic = model.size, InterpolationMode.BICUBIC
    middle = transforms.Compose([transforms.Resize(size, cubic, antialias=True), transforms.CenterCrop(size)])
    varied = transforms.Compose(
        [transforms.RandomResizedCrop(size, interpolation=cubic, antialias=True), transforms.RandomHorizontalFlip()]
    )
    rows = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for picture in pictures:
            pixels = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
            cut = [(middle if views == 1 else varied)(pixels) for _ in range(views)]
            rows.append(model.encode_pictures(torch.stack(cut).float() / 255))
    return torch.stack(rows)


@dataclass(frozen=True)
class Learned:
    """What training gave.

    Attributes:
        learner: trained.
        history: one row of numbers for each epoch: "epoch", "rate", "loss", "loss_NAME" and, of a sharpness-aware
            optimiser, those of `StepStatistics.metrics`.
    """

    learner: PromptLearner
    history: list[dict[str, float]]


def learn(
    model: VisionLanguageModel,
    names: Sequence[str],
    features: Tensor,
    labels: Tensor,
    options: PromptOptions,
    folder: Path | None = None,
    progress: Progress = SILENT,
) -> Learned:
    """Learn prompts from vectors of pictures, with the published recipe.

    SGD with momentum 0.9 and weight decay 5e-4; the first epoch at 1e-5, then a cosine to 0; the last epoch's context
    is taken, none is chosen on other pictures. The order of pictures follows from seed and epoch alone.

    Args:
        model: frozen here.
        names: of the classes, at least two.
        features: unit vectors, float32 (N, views, dimension) of `encode_views`.
        labels: long (N,), places among the names; a class without pictures is a name among others.
        options: method and settings.
        folder: where `checkpoint.ckpt`, `metrics.csv` and `prompts.safetensors` are written; an unfinished training in
            it goes on. None to write nothing.
        progress: of the epochs.

    Raises:
        DataError: names, pictures and model do not go together, a loss or gradient is not finite, or the folder holds
            another training.
    """
    _check(model, names, features, labels)
    learner = new_learner(model, names, options)
    learned = [one for one in learner.parameters() if one.requires_grad]
    history: list[dict[str, float]] = []
    if learned:
        optimiser = _optimiser(learned, options)
        features, labels = features.to(model.device), labels.to(model.device)
        path = None if folder is None else folder / "checkpoint.ckpt"
        task = _digest(model, names, features, labels, options)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            history = _resumed(path, task, learner, optimiser)
        for epoch in range(len(history), options.epoch_count):
            history.append(_epoch(learner, optimiser, features, labels, epoch))
            progress.update("learning", epoch + 1, options.epoch_count, f"loss {history[-1]['loss']:.3f}")
            if path is not None:
                state = {"task": task, "learner": learner.state_dict(), "optimiser": optimiser.state_dict()}
                with whole(path) as part:
                    torch.save({**state, "history": history}, part)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if history:
            columns = list(history[0])
            write_csv(folder / "metrics.csv", columns, [[f"{row[name]:.6g}" for name in columns] for row in history])
        save_prompts(learner, folder / PROMPTS)
    return Learned(learner.eval(), history)


def _check(model: VisionLanguageModel, names: Sequence[str], features: Tensor, labels: Tensor) -> None:
    if len(names) < 2:
        raise DataError(f"{len(names)} classes: nothing is told apart; name at least two")
    if not len(labels):
        raise DataError("no pictures to learn from; give at least one of a class, or use the method zero-shot")
    if features.ndim != 3 or len(features) != len(labels) or features.shape[2] != model.dimension:
        raise DataError(
            f"vectors {tuple(features.shape)} for {len(labels)} labels; the model's are (N, views, {model.dimension})"
        )
    if not bool(torch.isfinite(features).all()):
        raise DataError("a picture's vector is not finite; look for damaged pictures, or weights that are")
    if int(labels.min()) < 0 or int(labels.max()) >= len(names):
        raise DataError(f"a label is beyond the {len(names)} names; give a name for each class")


def _optimiser(learned: list[Any], options: PromptOptions) -> torch.optim.Optimizer:
    base = partial(torch.optim.SGD, lr=_WARM_UP, momentum=_MOMENTUM, weight_decay=_WEIGHT_DECAY)
    return with_settings(learned, base, options.optimiser)


def rate_of(epoch: int, options: PromptOptions) -> float:
    """The learning rate of an epoch, counted from 0: one epoch of warm-up, then a cosine that begins from its top."""
    if epoch == 0:
        return _WARM_UP
    return options.learning_rate * (1 + math.cos(math.pi * (epoch - 1) / options.epoch_count)) / 2


def _epoch(
    learner: PromptLearner, optimiser: torch.optim.Optimizer, features: Tensor, labels: Tensor, epoch: int
) -> dict[str, float]:
    options, rate = learner.options, rate_of(epoch, learner.options)
    for group in optimiser.param_groups:
        group["lr"] = rate
    generator = torch.Generator().manual_seed(options.seed * 1_000_003 + epoch)
    order = torch.randperm(len(labels), generator=generator)
    view = torch.randint(features.shape[1], (len(labels),), generator=generator)
    whole_batches = len(labels) // options.batch_size * options.batch_size
    batches = order[: whole_batches or None].split(options.batch_size)  # a short last batch is left out, as published
    sums: dict[str, float] = {}
    for rows in batches:
        for name, value in _step(learner, optimiser, features[rows, view[rows]], labels[rows]).items():
            sums[name] = sums.get(name, 0.0) + value / len(batches)
    return {"epoch": epoch + 1.0, "rate": rate, **sums}


def _step(
    learner: PromptLearner, optimiser: torch.optim.Optimizer, features: Tensor, labels: Tensor
) -> dict[str, float]:
    looks: list[dict[str, Tensor]] = []

    def look() -> None:
        optimiser.zero_grad(set_to_none=True)
        with _precision(learner.options, features):
            looks.append(learner.backward(features, labels))

    numbers: dict[str, float] = {}
    if isinstance(optimiser, SharpnessAware):
        optimiser.step(look)
        assert optimiser.statistics is not None
        numbers = optimiser.statistics.metrics()
    else:
        look()
        _refuse_bad_gradients(learner)
        optimiser.step()
    losses = {f"loss_{name}": float(value) for name, value in looks[0].items()}
    # ProGrad's divergence steers the gradient, and is not minimised.
    total = sum(value for name, value in losses.items() if name != "loss_divergence")
    return {"loss": total, **losses, **numbers}


def _precision(options: PromptOptions, features: Tensor) -> AbstractContextManager[None]:
    return torch.autocast(features.device.type, torch.bfloat16, enabled=options.bfloat16)


def _refuse_bad_gradients(learner: PromptLearner) -> None:
    for parameter in learner.parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            raise DataError("the gradient of the loss is not finite: lower the learning rate, or look at the pictures")


def _digest(
    model: VisionLanguageModel, names: Sequence[str], features: Tensor, labels: Tensor, options: PromptOptions
) -> str:
    """Of all that decides the outcome."""
    digest = hashlib.sha256(json.dumps([model.fingerprint(), list(names), asdict(options)]).encode())
    for tensor in (features, labels):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _resumed(path: Path, task: str, learner: PromptLearner, optimiser: torch.optim.Optimizer) -> list[dict[str, float]]:
    """Bring learner and optimiser to where a training was left; gives its history."""
    if not path.is_file():
        return []
    try:
        state = torch.load(path, map_location=learner.model.device, weights_only=True)
    except Exception as error:  # torch has no single one
        raise DataError(
            f"{path}: not a readable checkpoint ({type(error).__name__}); delete it to begin anew"
        ) from error
    if state.get("task") != task:
        raise DataError(f"{path.parent} holds a training of other classes, pictures or settings; name another folder")
    learner.load_state_dict(state["learner"])
    optimiser.load_state_dict(state["optimiser"])
    history: list[dict[str, float]] = state["history"]
    return history


# --- Measuring ---


@dataclass(frozen=True)
class Scores:
    """How a learner does on pictures: the share of right ones, and the mean F1 over classes that have pictures."""

    accuracy: float
    macro_f1: float


@torch.no_grad()
def probabilities(learner: PromptLearner, features: Tensor) -> Tensor:
    """Probabilities of the classes, float32 (N, C), of unit vectors (N, dimension)."""
    return torch.cat([learner.logits(part).softmax(1) for part in features.to(learner.model.device).split(256)])


def score(learner: PromptLearner, features: Tensor, labels: Tensor) -> Scores:
    """Measure a learner on pictures of its classes; not all of them need have some.

    Args:
        learner: to measure.
        features: unit vectors, float32 (N, dimension), at least one.
        labels: long (N,).

    Raises:
        DataError: there are no pictures.
    """
    if not len(labels):
        raise DataError("no pictures to measure on; give at least one")
    predicted, truth = probabilities(learner, features).argmax(1).cpu().numpy(), labels.cpu().numpy()
    macro = f1_score(truth, predicted, average="macro", labels=np.unique(truth), zero_division=0)
    return Scores(float((predicted == truth).mean()), float(macro))


def sharpness(learner: PromptLearner, features: Tensor, labels: Tensor, radius: float = 1.0) -> tuple[float, float]:
    """The loss on some pictures, and how much higher it is at so far uphill along its gradient.

    Args:
        learner: with something that is learned; it stays as it is.
        features: unit vectors, float32 (N, dimension).
        labels: long (N,).
        radius: of the move, in the context's own units.
    """
    learned = [one for one in learner.parameters() if one.requires_grad]

    def loss() -> Tensor:
        return torch.nn.functional.cross_entropy(learner.logits(features), labels)

    here = loss()
    gradients = torch.autograd.grad(here, learned)
    length = torch.stack([one.norm() for one in gradients]).norm().clamp(min=1e-12)
    saved = [one.detach().clone() for one in learned]
    with torch.no_grad():
        for one, gradient in zip(learned, gradients, strict=True):
            one.add_(radius * gradient / length)
        there = loss()
        for one, before in zip(learned, saved, strict=True):
            one.copy_(before)
    return here.item(), there.item() - here.item()


# --- Prompts as files ---


def save_prompts(learner: PromptLearner, path: Path) -> None:
    """Write what a learner has learned, and what it belongs to, as safetensors. Nothing of the class names' tokens."""
    about = {
        "options": json.dumps(asdict(learner.options)),
        "names": json.dumps(learner.names),
        "model": learner.model.fingerprint(),
        "width": str(learner.model.width),
    }
    state = {name: value.detach().cpu().contiguous() for name, value in learner.state_dict().items()}
    with whole(path) as part:
        part.write_bytes(save(state, about))


def load_prompts(path: Path, model: VisionLanguageModel, names: Sequence[str] | None = None) -> PromptLearner:
    """A learner with prompts of a file.

    Args:
        path: of the file.
        model: the one that they were learned for.
        names: other classes than those learned on, such as the new ones of a set; None for the same.

    Raises:
        DataError: not such a file, prompts of another model, width or number of tokens, or contexts of single classes
            for others.
    """
    try:
        with safe_open(path, "pt") as stream:
            about = stream.metadata() or {}
            state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (no mapping)
        saved = json.loads(about["options"])
        learned_on, width, fingerprint = json.loads(about["names"]), int(about["width"]), about["model"]
        options = PromptOptions(**saved)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no prompts there; learn some first") from error
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a file of learned prompts of this version") from error
    if width != model.width:
        raise DataError(f"{path}: prompts {width} wide, and the model's tokens are {model.width}; use their own model")
    if fingerprint != model.fingerprint():
        raise DataError(f"{path}: prompts of another model, or of other weights of it; use their own model")
    chosen = tuple(learned_on if names is None else names)
    if options.class_specific and list(chosen) != list(learned_on):
        raise DataError(f"{path}: every class has a context of its own; give the names that they were learned for")
    learner = new_learner(model, chosen, options)
    own = {name: tuple(value.shape) for name, value in learner.state_dict().items()}
    if own != {name: tuple(value.shape) for name, value in state.items()}:
        raise DataError(f"{path}: prompts of another number of tokens than its own settings give; learn them anew")
    learner.load_state_dict(state)
    return learner.eval()
