"""Prompt learners: from unit vectors of pictures to logits of classes that are named in words. Lab only: torch.

All have the template of their context ("a photo of a NAME."), so that with words to begin from their logits are the
template's before the first step. What is learned stays in float32, whatever the model computes in.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from unmask.errors import DataError
from unmask.lab.prompting.config import PromptOptions
from unmask.lab.prompting.vision_language import ClassPrompts, VisionLanguageModel, check_names

_SEQUENCES = 512  # of prompts that follow the picture, so many are computed at a time


class PromptLearner(nn.Module, ABC):
    """Classes in words. The model is frozen, and no part of the learner's state.

    Attributes:
        names: of the classes, in the order of logits.

    Args:
        model: frozen here, in evaluation mode.
        names: of the classes.
        options: of the learner.

    Raises:
        DataError: as of `check_names`.
    """

    def __init__(self, model: VisionLanguageModel, names: Sequence[str], options: PromptOptions) -> None:
        super().__init__()
        self.names, self.options = tuple(names), options
        self._model = (model.eval().requires_grad_(False),)  # in a tuple torch does not look for modules
        self._words = check_names(model, names)
        template = [f"{options.context} {name}." for name in self._words]
        self.register_buffer("template", model.encode_texts(template), persistent=False)
        self.template: Tensor

    @property
    def model(self) -> VisionLanguageModel:
        """The model whose prompts these are."""
        return self._model[0]

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """Logits float32 (B, C).

        Args:
            features: unit vectors of pictures, float32 (B, dimension).
        """

    def losses(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The terms of the loss, scalars.

        Args:
            features: as of `logits`.
            labels: long (B,).
        """
        return {"class": functional.cross_entropy(self.logits(features), labels)}

    def backward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Leave the gradient at what is learned; gives the terms of the loss, without gradients."""
        losses = self.losses(features, labels)
        torch.stack(list(losses.values())).sum().backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def _compared(self, features: Tensor, texts: Tensor) -> Tensor:
        """Logits of pictures' unit vectors (B, D) and texts' (C, D), or (B, C, D) for texts of each picture."""
        with torch.autocast(features.device.type, enabled=False):
            texts = functional.normalize(texts.float(), dim=-1)
            cosines = features @ texts.T if texts.ndim == 2 else (features[:, None] * texts).sum(-1)
            return self.model.scale().float() * cosines + self.model.offset().float()


class ZeroShot(PromptLearner):
    """The template; nothing is learned."""

    def logits(self, features: Tensor) -> Tensor:
        """See the base class."""
        return self._compared(features, self.template)


class CoOp(PromptLearner):
    """A learned context: (M, width), or (C, M, width) where every class has its own."""

    def __init__(self, model: VisionLanguageModel, names: Sequence[str], options: PromptOptions) -> None:
        super().__init__(model, names, options)
        count = options.random_tokens
        prompts = ClassPrompts.of(model, self._words, " ".join(["X"] * count) if count else options.context)
        first = prompts.words
        if count:
            if len(first) != count:
                raise DataError(f"the model has {len(first)} tokens for {count} placeholders; begin from words instead")
            generator = torch.Generator().manual_seed(options.seed)
            shape = (len(names), *first.shape) if options.class_specific else first.shape
            first = (0.02 * torch.randn(shape, generator=generator)).to(first.device)
        elif options.class_specific:
            first = first.expand(len(names), -1, -1)
        self.context = nn.Parameter(first.clone())
        self._prompts = prompts

    def text_features(self) -> Tensor:
        """Vectors of the prompts, (C, dimension), not of unit length."""
        return self.model.text_features(self._prompts.filled(self.context), self._prompts.ids)

    def logits(self, features: Tensor) -> Tensor:
        """See the base class."""
        return self._compared(features, self.text_features())


class KgCoOp(CoOp):
    """CoOp whose text vectors are drawn to the template's: weight * (1 - mean cosine). One template for all sets."""

    def losses(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """See the base class."""
        texts = self.text_features()
        near = functional.cosine_similarity(texts.float(), self.template, dim=1).mean()
        return {
            "class": functional.cross_entropy(self._compared(features, texts), labels),
            "knowledge": self.options.knowledge_weight * (1 - near),
        }


class ProGrad(CoOp):
    """CoOp whose gradient loses what contradicts that of the KL divergence to the template's predictions."""

    def backward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """See the base class. Of the two terms given, the divergence is no part of what is minimised."""
        logits = self.logits(features)
        expected = self._compared(features, self.template).softmax(1)
        classes = functional.cross_entropy(logits, labels)
        divergence = functional.kl_div(logits.log_softmax(1), expected, reduction="batchmean")
        parameters = [one for one in self.parameters() if one.requires_grad]
        own = torch.autograd.grad(classes, parameters, retain_graph=True)
        general = torch.autograd.grad(divergence, parameters)
        for parameter, mine, other in zip(parameters, own, general, strict=True):
            parameter.grad = without_conflict(mine, other, self.options.projection_weight)
        return {"class": classes.detach(), "divergence": divergence.detach()}


def without_conflict(gradient: Tensor, general: Tensor, weight: float = 1.0) -> Tensor:
    """ProGrad's rule: a gradient less `weight` times its part along another one, if the two contradict each other.

    Args:
        gradient: of the loss, of any shape.
        general: of the divergence, of the same shape.
        weight: 1 to remove that part whole.
    """
    product, square = (gradient * general).sum(), general.square().sum()
    if not product < 0:
        return gradient
    return gradient - weight * product / square * general


class CoCoOp(CoOp):
    """A context to which a small network adds a vector that depends on the picture."""

    def __init__(self, model: VisionLanguageModel, names: Sequence[str], options: PromptOptions) -> None:
        super().__init__(model, names, options)
        hidden = max(1, model.dimension // 16)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            layers = [nn.Linear(model.dimension, hidden), nn.ReLU(), nn.Linear(hidden, model.width)]
        self.meta = nn.Sequential(*layers).to(self.context.device)

    def logits(self, features: Tensor) -> Tensor:
        """See the base class. Prompts of all pictures never lie in memory together: gradients compute them anew."""
        parts = features.split(max(1, _SEQUENCES // len(self.names)))
        if torch.is_grad_enabled():
            return torch.cat([checkpoint(self._logits, part, use_reentrant=False) for part in parts])
        return torch.cat([self._logits(part) for part in parts])

    def _logits(self, features: Tensor) -> Tensor:
        contexts = self.context + self.meta(features)[:, None]  # (b, M, width)
        prompts = torch.cat([self._prompts.filled(one) for one in contexts])
        ids = self._prompts.ids.repeat(len(features), 1)
        return self._compared(features, self.model.text_features(prompts, ids).unflatten(0, (len(features), -1)))


_CLASSES: dict[str, type[PromptLearner]] = {
    "zero-shot": ZeroShot,
    "coop": CoOp,
    "cocoop": CoCoOp,
    "kgcoop": KgCoOp,
    "prograd": ProGrad,
    "sam-coop": CoOp,
    "gcscoop": CoOp,
}


def new_learner(model: VisionLanguageModel, names: Sequence[str], options: PromptOptions) -> PromptLearner:
    """The learner of a method, untrained.

    Raises:
        DataError: the names or the context cannot be prompts of the model.
    """
    return _CLASSES[options.method](model, names, options)
