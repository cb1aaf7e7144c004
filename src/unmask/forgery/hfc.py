"""`hfc`: patches, their cosine transforms and local descriptors; real or forged first, then by which generator.

The hierarchical forgery classifier of Liu et al. 2022 (arXiv 2212.14629): three branches that share nothing and are
fused by their scores. Two of them look at nine overlapping patches, as pixels and as standardised cosine
transforms; a trunk gives every patch a token, a transformer layer reads the nine tokens of one picture together. The
third reads local descriptors. Each level of the decision has classifiers of its own.

Other than in the reference code
- attention is among the patches of a picture. There the layer is fed (picture, patch, number) but reads (patch,
  picture, number): it attends to the other pictures of the batch, so that an answer depends on its neighbours;
- fusion weights are fitted on validation scores, each branch with its own. There they are fitted on training scores,
  and the image branch's scores stand in for the cosine branch's;
- patches have one order everywhere, row by row;
- the second level reads the first one's trunks, and both are trained at once. There it has networks of its own, which
  `shared=False` gives back;
- descriptors stand on a grid. There they are SIFT at 68 landmarks, which need a landmark model of restricted licence.

Lab only: torch, timm, scipy.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from torch import Tensor, nn
from torch.nn import functional

from unmask.errors import DataError
from unmask.forgery.detector import DetectorOutput, Learner
from unmask.networks.backbones import trunk as timm_trunk
from unmask.networks.contract import Batch

Branches = Literal["all", "image", "dct", "both"]
View = Literal["patches", "global"]
Hierarchy = Literal["two-level", "flat"]
Second = Literal["no-dct", "all"]
Rule = Literal["two-level", "argmax"]

_BRANCHES = {
    "all": ("image", "dct", "descriptors"),
    "image": ("image",),
    "dct": ("dct",),
    "both": ("image", "dct"),
}
_A_SIDE = 3  # patches along a side: nine in all
_CELL = 16  # side of the map's cells; every patch is made of whole ones
_TABLE = 256  # frequencies a side that the statistics are kept for; the largest window that has them all
_POINTS, _CELLS, _BINS = 8, 4, 8  # descriptors a side, cells a side of each, directions
_ROUNDING = 1 / math.sqrt(12)  # standard deviation of rounding to whole grey levels, in any cosine coefficient too


@dataclass(frozen=True)
class Widths:
    """Sizes of the classifiers: attention heads, feed-forward width, hidden widths of the patch and the picture."""

    heads: int
    feedforward: int
    patch: tuple[int, int]
    whole: tuple[int, int]


PUBLISHED = Widths(heads=8, feedforward=2048, patch=(512, 512), whole=(2048, 512))
SMALL = Widths(heads=4, feedforward=256, patch=(64, 64), whole=(128, 64))


def patch_side(size: int) -> int:
    """Side of the nine patches of a picture: four sevenths of its side, rounded down to a multiple of 32.

    Four sevenths is the published share (128 of 224); 128 gives 64. For every multiple of 32 from 64 on, the patches
    cover the picture and begin on whole cells of 16.
    """
    return 4 * size // 7 // 32 * 32


def patch_grid(size: int, patch: int, a_side: int | None = None) -> tuple[int, int]:
    """How many patches stand along a side and how far apart: (count, stride), the last one ending within the picture.

    The reference code's count is floor(size / patch) + 2. Its stride is rounded up, though, which leaves no room for
    the last patch of a side unless the division is exact (256 and 128, 224 and 112); here it is rounded down.

    Args:
        size: side of the picture, at least `patch`.
        patch: side of a patch.
        a_side: count to take instead of the reference code's, at least 2.
    """
    count = a_side or size // patch + 2
    return count, (size - patch) // (count - 1)


def cut_patches(pictures: Tensor, patch: int) -> Tensor:
    """The nine patches of pictures (B, C, S, S), row by row: (B, 9, C, patch, patch)."""
    _, stride = patch_grid(pictures.shape[-1], patch, _A_SIDE)
    starts = [stride * index for index in range(_A_SIDE)]
    return torch.stack([pictures[:, :, y : y + patch, x : x + patch] for y in starts for x in starts], 1)


def _layout(cells: int, spans: Sequence[tuple[int, int]]) -> Tensor:
    """(cells, spans): of each cell, how much it belongs to each span (from, to); equally to all that cover it."""
    covered = torch.tensor([[float(low <= cell < high) for low, high in spans] for cell in range(cells)])
    return covered / covered.sum(1, keepdim=True)


def patch_layout(size: int) -> Tensor:
    """How the map's rows, or columns, belong to the three rows of patches, (S / 16, 3): overlaps are averaged."""
    side = patch_side(size)
    _, stride = patch_grid(size, side, _A_SIDE)
    starts = [stride * index for index in range(_A_SIDE)]
    return _layout(size // _CELL, [(start // _CELL, (start + side) // _CELL) for start in starts])


def region_layout(cells: int) -> Tensor:
    """How rows of cells belong to the three of adaptive pooling, (cells, 3)."""
    return _layout(cells, [(i * cells // _A_SIDE, -(-(i + 1) * cells // _A_SIDE)) for i in range(_A_SIDE)])


def grey_levels(faces: Tensor) -> Tensor:
    """Luma (ITU-R BT.601) of faces (B, 3, S, S) in [0, 1]: (B, 1, S, S), 0 to 255."""
    shares = torch.tensor([0.299, 0.587, 0.114], device=faces.device).view(1, 3, 1, 1)
    return 255 * (faces.float() * shares).sum(1, keepdim=True)


def dct_matrix(side: int) -> Tensor:
    """The orthonormal DCT-II as a matrix (side, side): its rows are cosines of growing frequency."""
    places = torch.arange(side)
    # Whole turns are taken out among integers, where nothing is lost.
    quarters = (2 * places + 1) * places[:, None] % (4 * side)
    cosines = torch.cos(quarters.double() * (math.pi / (2 * side))) * math.sqrt(2 / side)
    return torch.cat([cosines[:1] * math.sqrt(0.5), cosines[1:]]).float()


def _exact(tensor: Tensor) -> AbstractContextManager[Any]:
    """Full precision for products of matrices, in automatic mixed precision too."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def dct2(windows: Tensor) -> Tensor:
    """Orthonormal two-dimensional DCT-II of (..., P, P), float32: rows of the result are vertical frequencies."""
    basis = dct_matrix(windows.shape[-1]).to(windows.device)
    # In half precision the mean's rounding error would drown the high frequencies.
    with _exact(windows):
        return basis @ windows.float() @ basis.mT


def usual_spectrum(side: int) -> tuple[Tensor, Tensor]:
    """What cosine coefficients are like before any is seen: mean and standard deviation, (side, side) each.

    Of grey levels less 127.5. The standard deviation falls with frequency as a power law through the two values that
    the reference code's tables have for near-infrared patches of 128: 3,700 for the mean's coefficient, 7 for the
    highest frequency. The mean grey level there is 95.8.
    """
    places = torch.arange(side, dtype=torch.float32)
    spread = 3700 / 128 * side * (1 + places.square() + places[:, None].square()) ** -0.6
    mean = torch.zeros(side, side)
    mean[0, 0] = (95.8 - 127.5) * side
    return mean, spread


def to_table(values: Tensor) -> Tensor:
    """Statistics of coefficients (P, P) as the table (256, 256) they are kept in; P at most 256."""
    places = torch.arange(_TABLE, device=values.device) * len(values) // _TABLE
    return values[places][:, places]


def from_table(table: Tensor, side: int) -> Tensor:
    """The statistics (side, side) in a table: of each coefficient its own, if they were put there for that side.

    For another side they are those of the same share of the highest frequency.

    Raises:
        ValueError: side is above 256.
    """
    if side > _TABLE:
        raise ValueError(f"windows of {side} pixels: there are statistics for {_TABLE} at most")
    places = (torch.arange(side, device=table.device) * _TABLE + side - 1) // side
    return table[places][:, places]


class Moments:
    """Mean and variance of many arrays of one shape, met in groups; exact, in float64 (Chan et al. 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self.squares = torch.zeros(())

    def add(self, values: Tensor) -> None:
        """Count arrays in, (N, ...)."""
        if not len(values):
            return
        values = values.detach().cpu().double()
        mean, total = values.mean(0), self.count + len(values)
        between = (mean - self.mean).square() * (self.count * len(values) / total)
        self.squares = self.squares + (values - mean).square().sum(0) + between
        self.mean = self.mean + (mean - self.mean) * (len(values) / total)
        self.count = total

    def deviation(self) -> Tensor:
        """The standard deviation, of as many as were counted in."""
        return (self.squares / max(1, self.count)).sqrt()


def dense_descriptors(grey: Tensor) -> Tensor:
    """Local descriptors on a regular grid, after SIFT (Lowe 2004): (B, 64, 128), points row by row, of unit length.

    The picture is divided into 8 x 8 squares, each of 4 x 4 cells, each with a histogram of the directions of its
    gradient in 8 bins, weighted with its strength and shared between the two nearest bins. The 128 numbers of a square
    are scaled to unit length, cut off at 0.2, and scaled again; squares without any gradient are all zero. Neither
    scale nor orientation is sought: faces come aligned. No gradient flows back through it.

    Args:
        grey: (B, 1, S, S), 0 to 255, S a multiple of 32.
    """
    padded = functional.pad(grey.detach(), (1, 1, 1, 1), mode="replicate")
    dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    strength = (dx.square() + dy.square()).sqrt()
    angle = torch.atan2(dy, dx) * (_BINS / (2 * math.pi))
    half = _BINS // 2
    bins = torch.arange(-half, half, device=grey.device).view(1, _BINS, 1, 1)
    apart = (angle - bins).abs()
    shares = (1 - torch.minimum(apart, _BINS - apart)).clamp(min=0)
    cells = functional.avg_pool2d(strength * shares, grey.shape[-1] // (_POINTS * _CELLS))
    squares = cells.unflatten(3, (_POINTS, _CELLS)).unflatten(2, (_POINTS, _CELLS))
    descriptors = squares.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    # Below a hundredth of a grey level it is the arithmetic's noise.
    unit = functional.normalize(descriptors, dim=2, eps=0.01).clamp(max=0.2)
    return functional.normalize(unit, dim=2, eps=0.01)


def _mlp(widths: Sequence[int], activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Linear layers, an activation and dropout of 0.5 after each but the last."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after), activation(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def _encoder(width: int, widths: Widths) -> nn.TransformerEncoderLayer:
    """One transformer layer, attention among the tokens (B, N, width) of each picture."""
    return nn.TransformerEncoderLayer(width, widths.heads, widths.feedforward, batch_first=True)


class Residual(nn.Module):
    """Two 3 x 3 convolutions with a shortcut (He et al. 2016), (B, before, s, s) -> (B, after, s / stride, ...)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1
            else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform x."""
        return functional.relu(self.body(x) + self.shortcut(x))


def small_trunk(channels: int) -> tuple[nn.Module, int]:
    """A residual network for CPUs, (B, channels, S, S) -> (B, 128, S / 16, S / 16), and its width."""
    blocks = [Residual(16, 32, 2), Residual(32, 64, 2), Residual(64, 128, 2)]
    stem = nn.Conv2d(channels, 16, 3, 2, 1, bias=False)
    return nn.Sequential(stem, nn.BatchNorm2d(16), nn.ReLU(), *blocks), 128


@dataclass(frozen=True)
class Answer:
    """What one branch says at one level: `whole` (B, C) of the picture, `patches` (B, 9, C) of its parts, if any."""

    whole: Tensor
    patches: Tensor | None = None


def weighted_cross_entropy(scores: Tensor, classes: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over pictures of weight times cross-entropy, scores (N, C), classes (N,), weights (C,) or None for ones.

    torch's own mean divides by the weights that happen to be in the batch: where a class is so rare that many batches
    lack it, its weight would be lost with them.
    """
    return functional.cross_entropy(scores, classes, weights, reduction="none").mean()


class PatchJudge(nn.Module):
    """Classifier over the nine tokens of a picture, each for itself and all together (reference code of 2212.14629).

    Args:
        width: of a token.
        classes: C.
        widths: of the layers.
        patch_weight: share of the patches in the loss. What would not be trained is not built: at 0 the patches say
            nothing, at 1 the picture is judged by the mean of its patches.
    """

    def __init__(self, width: int, classes: int, widths: Widths, patch_weight: float) -> None:
        super().__init__()
        self.patch_weight = patch_weight
        self.patch_head = _mlp([width, *widths.patch, classes], nn.ReLU) if patch_weight > 0 else None
        self.aggregator, self.head = None, None
        if patch_weight < 1:
            self.aggregator = _encoder(width, widths)
            self.head = _mlp([_A_SIDE**2 * width, *widths.whole, classes], nn.ReLU)

    def forward(self, tokens: Tensor) -> Answer:
        """Judge pictures by their tokens (B, 9, width)."""
        patches = None if self.patch_head is None else self.patch_head(tokens).float()
        if self.aggregator is not None and self.head is not None:
            return Answer(self.head(self.aggregator(tokens).flatten(1)).float(), patches)
        assert patches is not None
        return Answer(patches.mean(1), patches)

    def loss(self, answer: Answer, classes: Tensor, weights: Tensor | None) -> Tensor:
        """a CE(patches) + (1 - a) CE(picture), every patch of its picture's class; a is the patches' share."""
        loss = answer.whole.new_zeros(())
        if answer.patches is not None:
            every = classes.repeat_interleave(_A_SIDE**2)
            loss = self.patch_weight * weighted_cross_entropy(answer.patches.flatten(0, 1), every, weights)
        if self.head is not None:
            loss = loss + (1 - self.patch_weight) * weighted_cross_entropy(answer.whole, classes, weights)
        return loss


class DescriptorJudge(nn.Module):
    """Classifier over the 64 descriptors of a picture (reference code of 2212.14629, there of 68 landmarks)."""

    def __init__(self, classes: int, widths: Widths) -> None:
        super().__init__()
        width = _CELLS**2 * _BINS
        self.scale = math.sqrt(width)  # numbers of a descriptor of unit length get a mean square of one
        self.encoder = _encoder(width, widths)
        self.head = _mlp([_POINTS**2 * width, *widths.whole, classes], nn.Hardswish)

    def forward(self, descriptors: Tensor) -> Answer:
        """Judge pictures by their descriptors (B, 64, 128)."""
        return Answer(self.head(self.encoder(self.scale * descriptors).flatten(1)).float())

    def loss(self, answer: Answer, classes: Tensor, weights: Tensor | None) -> Tensor:
        """Cross-entropy of the picture."""
        return weighted_cross_entropy(answer.whole, classes, weights)


class Level(nn.Module):
    """One level of the decision: a classifier for every branch, and the weights of their fusion.

    `fusion` (K,) are the weights before the softmax, in the order of `names`; equal until fitted.
    """

    def __init__(self, judges: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names = tuple(judges)
        self.judges = nn.ModuleDict(judges)
        self.fusion: Tensor
        self.register_buffer("fusion", torch.zeros(len(judges)))

    def forward(self, tokens: Mapping[str, Tensor]) -> dict[str, Answer]:
        """What every branch says, given its tokens."""
        return {name: self.judges[name](tokens[name]) for name in self.names}

    def fused(self, answers: Mapping[str, Answer]) -> Tensor:
        """The level's scores (B, C): the branches', weighted with softmax(fusion)."""
        whole = torch.stack([answers[name].whole for name in self.names])
        return (self.fusion.softmax(0).view(-1, 1, 1) * whole).sum(0)

    def losses(self, answers: Mapping[str, Answer], classes: Tensor, weights: Tensor | None) -> dict[str, Tensor]:
        """Every branch's loss.

        Args:
            answers: of B pictures, at least one.
            classes: (B,) the right ones.
            weights: (C,) of the classes.
        """
        losses: dict[str, Tensor] = {}
        for name in self.names:
            judge = self.judges[name]
            assert isinstance(judge, PatchJudge | DescriptorJudge)
            losses[name] = judge.loss(answers[name], classes, weights)
        return losses


def fusion_weights(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The weights w (K,), of mean zero, whose softmax p gives the scores sum p_k z_k the least cross-entropy.

    Convex in p, hence one minimum whatever the start; w stays within 8 of zero. Equal weights if there are fewer than
    two branches or two classes: nothing could be learnt.

    Args:
        scores: z, (K, N, C).
        classes: (N,) the right ones.
    """
    if len(scores) < 2 or len(np.unique(classes)) < 2:
        return np.zeros(len(scores))
    scores, rows = scores.astype(np.float64), np.arange(len(classes))

    def loss_and_slope(w: np.ndarray) -> tuple[float, np.ndarray]:
        p = softmax(w)
        logs = log_softmax(np.tensordot(p, scores, 1), axis=1)
        error = np.exp(logs)
        error[rows, classes] -= 1
        slope = (scores * error).sum((1, 2)) / len(classes)
        return -logs[rows, classes].mean(), p * (slope - p @ slope)

    start, bounds = np.zeros(len(scores)), [(-8, 8)] * len(scores)
    fitted = minimize(loss_and_slope, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12})
    weights: np.ndarray = fitted.x - fitted.x.mean()
    return weights


def forged_over_real(scores: Tensor) -> Tensor:
    """log P(forged) / P(real) of scores (..., C) whose first class is real: (...,)."""
    return torch.logsumexp(scores[..., 1:], -1) - scores[..., 0]


class HFC(Learner):
    """The detector.

    It takes visible light as RGB and near-infrared as three equal channels; a network is trained for one of them or for
    a mixture, pictures are never paired.

    No branch shares a parameter with another, and the loss is a sum over branches: minimising it trains each branch on
    its own, as published, but for a bound on the whole gradient's length, if the engine sets one. The statistics of
    cosine coefficients belong to the side of the pictures they were learnt from; at another side they are an
    approximation.

    Args:
        trunk: what gives a patch its token: "small", a residual network for CPUs, or a timm model, of which "resnet50"
            is the published one; with a timm model the classifiers are of published size too.
        weights: of a timm trunk, see `backbones`; the cosine branch's first layer is random in any case, as published.
        branches: "all", "image", "dct", or "both" of the latter.
        view: "patches", or the whole picture at once ("global"), whose token map is averaged into nine regions, so
            that the parameters are as many. The cosine transform is then the whole picture's, and regions of it are
            no places.
        patch_weight: share of the patches' loss beside the picture's, 0 to 1; published 0.6. At 0 patches have no
            answers of their own, and the map is level; at 1 their mean is the picture's answer.
        hierarchy: "two-level": real or forged, then by which generator, the latter learnt on forged pictures alone;
            "flat": one softmax over real and all generators.
        shared: the second level uses the first one's trunks; else it has its own, as published. Unused with one
            generator or flat.
        second: which branches name the generator, of those that there are: "no-dct", all but the cosines, as the
            reference code's script with fitted weights, unless they are alone; "all" of them, as its hierarchical
            script without weights evaluates.
        balance: weigh classes inversely to their frequency in the training data.
        generators: names of the forged families; with one there is no second level.

    Raises:
        DataError: a patch weight out of range, weights for the small trunk, or a trunk that backbones refuses.

    The output's extras: `classes` (B, 1 + G), the probabilities of real and of each generator; `branches` (B, K, C),
    what every branch says at the first level, in the order of `first.names`.
    """

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    size = 128
    step = 32

    dct_mean: Tensor
    dct_spread: Tensor
    shares: Tensor

    def __init__(
        self,
        trunk: str = "small",
        weights: str = "none",
        branches: Branches = "all",
        view: View = "patches",
        patch_weight: float = 0.6,
        hierarchy: Hierarchy = "two-level",
        shared: bool = True,
        second: Second = "no-dct",
        balance: bool = False,
        generators: tuple[str, ...] = ("forged",),
    ) -> None:
        super().__init__()
        if not 0 <= patch_weight <= 1:
            raise DataError(f"patch_weight {patch_weight}: a share, 0 to 1")
        if trunk == "small" and weights != "none":
            raise DataError(f"weights {weights}: the small trunk has none to start from; take weights=none")
        self.names = _BRANCHES[branches]
        self.view, self.flat, self.balance, self.generators = view, hierarchy == "flat", balance, generators
        several = len(generators) > 1
        widths = SMALL if trunk == "small" else PUBLISHED

        def make_trunks(names: Sequence[str]) -> tuple[nn.ModuleDict, int]:
            made, width = nn.ModuleDict(), 0
            for name in names:
                if name == "descriptors":
                    continue
                channels = 3 if name == "image" else 1
                made[name], width = small_trunk(channels) if trunk == "small" else timm_trunk(trunk, channels, weights)
                if name == "dct":
                    # A spectrum has nothing of the colours and edges that ImageNet's first layer looks for.
                    stem = next(m for m in made[name].modules() if isinstance(m, nn.Conv2d))
                    stem.reset_parameters()
            return made, width

        def make_level(names: Sequence[str], width: int, classes: int) -> Level:
            return Level(
                {
                    name: DescriptorJudge(classes, widths)
                    if name == "descriptors"
                    else PatchJudge(width, classes, widths, patch_weight)
                    for name in names
                }
            )

        self.trunks, width = make_trunks(self.names)
        self.first = make_level(self.names, width, 1 + len(generators) if self.flat else 2)
        self.second, self.own_trunks = None, None
        if several and not self.flat:
            names = [name for name in self.names if name != "dct" or second == "all"] or list(self.names)
            if not shared:
                self.own_trunks, width = make_trunks(names)
            self.second = make_level(names, width, len(generators))
        if balance:
            real = 1 / (1 + len(generators)) if self.flat else 0.5
            forged = torch.full((len(generators),), (1 - real) / len(generators))
            self.register_buffer("shares", torch.cat([torch.tensor([real]), forged]))
        if "dct" in self.names:
            # Of grey levels less 127.5 even the largest is within half precision.
            mean, spread = usual_spectrum(patch_side(self.size) if view == "patches" else self.size)
            self.register_buffer("dct_mean", to_table(mean))
            self.register_buffer("dct_spread", to_table(spread))

    def _windows(self, pictures: Tensor) -> Tensor:
        """What the trunk sees of pictures (B, C, S, S): (B, 9, C, P, P), or (B, 1, C, S, S)."""
        return cut_patches(pictures, patch_side(pictures.shape[-1])) if self.view == "patches" else pictures[:, None]

    def _spectra(self, grey: Tensor) -> Tensor:
        """Cosine coefficients of the windows of grey levels (B, 1, S, S), of which the middle, 127.5, is taken off.

        Only the mean's coefficient feels that, and its own mean as much, but smaller numbers have smaller errors.
        """
        return dct2(self._windows(grey - 127.5))

    def _inputs(self, faces: Tensor) -> dict[str, Tensor]:
        """What every branch is given of faces (B, 3, S, S)."""
        side = faces.shape[-1]
        if side % self.step or side < 64:
            raise ValueError(f"faces of {side} pixels: hfc takes multiples of {self.step} from 64 on")
        inputs = {"image": self._windows(faces)}
        if self.names != ("image",):
            grey = grey_levels(faces)
            if "dct" in self.names:
                spectra = self._spectra(grey)
                mean = from_table(self.dct_mean, spectra.shape[-1])
                spread = from_table(self.dct_spread, spectra.shape[-1]).clamp(min=_ROUNDING)
                inputs["dct"] = (spectra - mean) / spread
            if "descriptors" in self.names:
                inputs["descriptors"] = dense_descriptors(grey)
        return {name: inputs[name] for name in self.names}

    def _tokens(self, inputs: Mapping[str, Tensor], trunks: nn.ModuleDict) -> dict[str, Tensor]:
        """Tokens of the branches that have a trunk, (B, 9, width); descriptors are their own."""
        tokens = {name: inputs[name] for name in inputs if name == "descriptors"}
        for name, network in trunks.items():
            windows = inputs[name]
            deep = network(windows.flatten(0, 1))
            pooled = functional.adaptive_avg_pool2d(deep, 1 if self.view == "patches" else _A_SIDE).flatten(2).mT
            tokens[name] = pooled.reshape(windows.shape[0], _A_SIDE**2, deep.shape[1])
        return tokens

    def _map(self, answers: Mapping[str, Answer], logit: Tensor, size: int) -> Tensor:
        """(B, 1, S / 16, S / 16): what the patches over a place say, on average; level if they say nothing."""
        cells = size // _CELL
        placed = [
            forged_over_real(answer.patches)
            for name, answer in answers.items()
            if answer.patches is not None and (self.view == "patches" or name == "image")
        ]
        if not placed:
            return logit[:, None, None, None].expand(-1, 1, cells, cells)
        mean = torch.stack(placed).mean(0).unflatten(1, (_A_SIDE, _A_SIDE))
        layout = patch_layout(size) if self.view == "patches" else region_layout(cells)
        layout = layout.to(mean.device)
        with _exact(mean):
            return (layout @ mean @ layout.mT)[:, None]

    def forward(self, faces: Tensor) -> DetectorOutput:
        """Score faces, (B, 3, S, S) in [0, 1]; maps are (B, 1, S / 16, S / 16).

        Raises:
            ValueError: S is no multiple of 32 from 64 on, or a window of the cosine branch is larger than 256.
        """
        inputs = self._inputs(faces)
        tokens = self._tokens(inputs, self.trunks)
        answers = self.first(tokens)
        scores = self.first.fused(answers)
        classes = scores.softmax(1)
        if self.second is not None:
            if self.own_trunks is not None:
                tokens = self._tokens(inputs, self.own_trunks)
            generators = self.second.fused(self.second(tokens)).softmax(1)
            classes = torch.cat([classes[:, :1], classes[:, 1:] * generators], 1)
        logit = forged_over_real(scores)
        spoken = torch.stack([answers[name].whole for name in self.names], 1)
        heat = self._map(answers, logit, faces.shape[-1])
        return DetectorOutput(logit, heat, {"classes": classes, "branches": spoken})

    def _families(self, batch: Batch) -> Tensor:
        """(B,) 0 = real, k = k-th generator."""
        return batch["families"].long() if len(self.generators) > 1 else batch["labels"].long()

    def _weights(self, level: int) -> Tensor | None:
        """The weights of a level's classes, if they are to be balanced."""
        if not self.balance:
            return None
        shares = self.shares
        if level == 2:
            shares = shares[1:] / shares[1:].sum().clamp(min=1e-4)
        elif not self.flat:
            shares = torch.stack([shares[0], shares[1:].sum()])
        return 1 / (len(shares) * shares.clamp(min=1e-4))

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Each branch's loss, and each branch's loss at telling the generators of the forged pictures apart.

        The latter is zero if none is forged.

        Args:
            batch: `faces`, `labels`, and with several generators `families`.
        """
        inputs = self._inputs(batch["faces"])
        tokens = self._tokens(inputs, self.trunks)
        families = self._families(batch)
        classes = families if self.flat else batch["labels"].long()
        losses = self.first.losses(self.first(tokens), classes, self._weights(1))
        if self.second is not None:
            forged = families > 0
            if not forged.any():
                return losses | {
                    f"{name}_generator": classes.new_zeros((), dtype=torch.float32) for name in self.second.names
                }
            if self.own_trunks is not None:
                # Chosen before the trunk: its normalisation is to know forged pictures only.
                tokens = self._tokens({name: x[forged] for name, x in inputs.items()}, self.own_trunks)
            else:
                tokens = {name: x[forged] for name, x in tokens.items()}
            generators = self.second.losses(self.second(tokens), families[forged] - 1, self._weights(2))
            losses |= {f"{name}_generator": loss for name, loss in generators.items()}
        return losses

    @torch.no_grad()
    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Learn mean and standard deviation of every cosine coefficient, and how frequent the classes are.

        Args:
            batches: of the training split alone; of none, nothing is learnt.
        """
        moments, counts = Moments(), torch.zeros(1 + len(self.generators))
        for batch in batches:
            if "dct" in self.names:
                moments.add(self._spectra(grey_levels(batch["faces"])).flatten(0, 2))
            counts += torch.bincount(self._families(batch), minlength=len(counts)).cpu()
        if moments.count:
            self.dct_mean.copy_(to_table(moments.mean))
            self.dct_spread.copy_(to_table(moments.deviation()))
        if self.balance and counts.sum():
            self.shares.copy_(counts / counts.sum())

    def fit_posthoc(self, training: Iterable[Batch], validation: Iterable[Batch]) -> None:
        """Fit the fusion weights on the validation split."""
        self.fit_fusion(validation)

    @torch.no_grad()
    def fit_fusion(self, batches: Iterable[Batch]) -> None:
        """Set `first.fusion`, and `second.fusion` by forged pictures; setting them to zero makes them equal again.

        Args:
            batches: pictures that were not trained on: a branch that knows its pictures by heart looks better than it
                is. In evaluation mode.
        """
        levels = [level for level in (self.first, self.second) if level is not None]
        spoken: list[list[np.ndarray]] = [[] for _ in levels]
        right: list[list[np.ndarray]] = [[] for _ in levels]
        for batch in batches:
            inputs, families = self._inputs(batch["faces"]), self._families(batch)
            tokens = self._tokens(inputs, self.trunks)
            for place, level in enumerate(levels):
                chosen = torch.ones_like(families, dtype=torch.bool)
                classes = families if self.flat else batch["labels"].long()
                if place:
                    chosen, classes = families > 0, families - 1
                    tokens = tokens if self.own_trunks is None else self._tokens(inputs, self.own_trunks)
                answers = level(tokens)
                whole = torch.stack([answers[name].whole for name in level.names])
                spoken[place].append(whole[:, chosen].cpu().numpy())
                right[place].append(classes[chosen].cpu().numpy())
        for level, scores, classes_ in zip(levels, spoken, right, strict=True):
            if scores:
                weights = fusion_weights(np.concatenate(scores, 1), np.concatenate(classes_))
                level.fusion.copy_(torch.from_numpy(weights))


def verdicts(output: DetectorOutput) -> Tensor:
    """The published decision, (B,) long: 0 = real where the first level says so, else 1 + the likeliest generator."""
    return torch.where(output.logit > 0, 1 + output.extras["classes"][:, 1:].argmax(1), 0)


def class_report(probabilities: Tensor, families: Tensor, rule: Rule = "two-level") -> dict[str, float]:
    """How well real, forged and the generators are told apart; shares in [0, 1], nan where there is nothing to count.

    Args:
        probabilities: (N, 1 + G), of real and of each generator.
        families: (N,) the right classes.
        rule: "two-level": real where that is at least as likely as all generators together, else the likeliest
            generator; "argmax": the likeliest of all, the usual rule of a flat classifier.

    Returns:
        `accuracy` of real or forged; `balanced_accuracy`, the mean over both; `real_recall`, the share of real pictures
        called real; `generator_accuracy`, on forged pictures whether or not they were found out; `class_accuracy` of
        all 1 + G, never above `accuracy`.
    """
    likeliest = 1 + probabilities[:, 1:].argmax(1)
    real = probabilities[:, 0]
    rival = probabilities[:, 1:].sum(1) if rule == "two-level" else probabilities[:, 1:].amax(1)
    said = torch.where(rival > real, likeliest, 0)
    forged = families > 0
    right = ((said > 0) == forged).double()
    real_recall, forged_recall = float(right[~forged].mean()), float(right[forged].mean())
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": (real_recall + forged_recall) / 2,
        "real_recall": real_recall,
        "generator_accuracy": float((likeliest == families)[forged].double().mean()),
        "class_accuracy": float((said == families).double().mean()),
    }
