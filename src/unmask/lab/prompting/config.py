"""The settings of prompt learning. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from unmask.errors import DataError
from unmask.lab.config import TrainConfig, option

Method = Literal["zero-shot", "coop", "cocoop", "kgcoop", "prograd", "sam-coop", "gcscoop"]
METHODS: dict[str, str] = {
    "zero-shot": "the class names in a template; nothing is learned (Radford et al. 2021)",
    "coop": "a learned context (Zhou et al., IJCV 2022)",
    "cocoop": "a context that follows the picture (Zhou et al., CVPR 2022)",
    "kgcoop": "a context held near the template's text vectors (Yao et al., CVPR 2023)",
    "prograd": "a context whose gradient never contradicts the template's predictions (Zhu et al., ICCV 2023)",
    "sam-coop": "CoOp by SAM",
    "gcscoop": "CoOp by GCSAM (Liu et al., IEEE TMM 2024, arXiv 2309.07866)",
}
"""What each method is, by name."""


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """How prompts are learned. Defaults are the published recipe; one template serves all sets.

    Attributes:
        method: a key of `METHODS`.
        context: words that the context begins from, and that the template has before the name.
        random_tokens: so many random tokens in place of these words; 0 for the words.
        class_specific: a context for each class, of coop, kgcoop, prograd, sam-coop and gcscoop.
        epochs: over the pictures; None for 200, of cocoop 10.
        batch: pictures in a step; None for 128, of cocoop 1.
        learning_rate: of SGD after the first epoch, falling by a cosine.
        rho: how far sam-coop and gcscoop move the context.
        beta1, beta2: gcscoop's bounds of the cosine.
        knowledge_weight: of kgcoop's distance from the template's text vectors.
        projection_weight: of what prograd takes away.
        bfloat16: compute in bfloat16 where that is safe (autocast); contexts and gradients stay in float32.
        seed: of random tokens, of the order of pictures and of the views of a picture.
    """

    method: Method = "gcscoop"
    context: str = "a photo of a"
    random_tokens: int = 0
    class_specific: bool = False
    epochs: int | None = None
    batch: int | None = None
    learning_rate: float = 0.002
    rho: float = 0.1
    beta1: float = 0.5
    beta2: float = 0.8
    knowledge_weight: float = 8.0
    projection_weight: float = 1.0
    bfloat16: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise DataError(f"no method {self.method!r}; they are {', '.join(METHODS)}")
        if self.class_specific and self.method in ("zero-shot", "cocoop"):
            raise DataError(f"{self.method} has no contexts of single classes; leave class_specific out")
        if self.random_tokens < 0 or self.epoch_count < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise DataError("random tokens are at least 0, epochs and batch at least 1, the learning rate above 0")

    @property
    def epoch_count(self) -> int:
        """`epochs`, or what is published for the method."""
        return (10 if self.method == "cocoop" else 200) if self.epochs is None else self.epochs

    @property
    def batch_size(self) -> int:
        """`batch`, or what is published for the method."""
        return (1 if self.method == "cocoop" else 128) if self.batch is None else self.batch

    @property
    def optimiser(self) -> Mapping[str, Any]:
        """Name and settings of a sharpness-aware optimiser; empty for SGD alone."""
        if self.method == "sam-coop":
            return {"optimiser": "sam", "rho": self.rho}
        if self.method == "gcscoop":
            return {"optimiser": "gcsam", "rho": self.rho, "beta1": self.beta1, "beta2": self.beta2}
        return {}


@dataclass(frozen=True, kw_only=True)
class VisionLanguageConfig(TrainConfig):
    """The configuration of a dual encoder.

    `classes` are those trained on, in the order of labels, `tested` those of the test split that are not among them,
    `faces` whether the pictures are faces. `margin` is that of the crop over the face box, 0 for whole pictures.
    """

    method: str = "dual-encoder"
    size: int = 128
    margin: float = 0.0
    learning_rate: float = 1e-3
    batch: int = option(64, "Pictures in a step.", low=2)
    limit: int = option(0, "Pictures of a class in a split at most; 0: all.", low=0)
    classes: tuple[str, ...] = ()
    tested: tuple[str, ...] = ()
    faces: bool = False
