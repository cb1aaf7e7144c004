"""`deepfidelity`: how credible a forgery is, graded by picture quality. Peng et al. 2023, arXiv 2312.04961.

Real faces are to score in the upper band of [0, 1], forged ones in the lower; where in the band follows the picture's
quality. Three parts, as in the paper and its reference code:

1. `Assessor` and `FidelityMapping` turn a training picture's quality into its target; no picture needs them later.
2. `SSAAFormer` is a UniFormer (Li et al. 2022, arXiv 2201.09450) whose first stage mixes every local-attention map with
   its left-right mirror. It is trained as an ordinary two-class classifier.
3. `SupportVectorRegressor` maps its frozen features to the fidelity; a threshold gives the verdict.

Mirroring assumes an upright, centred, roughly frontal face. The fidelity is no probability: a forgery of the best
quality is meant to score 0.4. Lab only: torch, timm, scikit-learn.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from sklearn.svm import SVR
from timm.layers import DropPath, trunc_normal_
from torch import Tensor, nn
from torch.nn import functional

from unmask.errors import DataError
from unmask.forgery.detector import DetectorOutput, Learner
from unmask.networks.backbones import load_matching, read_state
from unmask.networks.contract import Batch

Scale = Literal["cpu", "small", "base", "large"]
Target = Literal["two-step", "end-to-end"]
Spread = Literal["extremes", "quantiles"]

SUPPORT = 2000
"""The most pictures that the regressor learns from, hence the most support vectors."""

SLOPE = 10.0
"""The logit per unit of fidelity below the threshold: the bands' middles, 0.2 and 0.8, are at +3 and -3."""


# --- quality of a picture -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Assessor:
    """What judged the quality behind the targets: `judge` maps (B, 3, S, S) in [0, 1] to (B,) in [0, 1].

    `name` says which one it was, for the card of a detector trained with it.
    """

    name: str
    judge: Callable[[Tensor], Tensor]


@torch.no_grad()
def quality_components(pictures: Tensor) -> dict[str, Tensor]:
    """What makes up the classical quality of pictures, each (B,) in [0.01, 1], 1 = best; measured on the luminance.

    | component | how it is made |
    |---|---|
    | sharpness | tanh(g / 0.4): g is the root mean square gradient at half resolution, per unit of contrast |
    | contrast | tanh(c / 0.2): c is the luminance's standard deviation |
    | exposure | 4 m (1 - m) (1 - k / 2): m is the mean luminance, k the share within 3/255 of black or of white |
    | resolution | tanh(f / 0.3): f is the mean frequency, 1 = Nyquist, of the spectrum times frequency squared |
    | blockiness | exp(-b): b is how far steps on one phase of an 8-pixel grid exceed the others', per mean step |
    | noise | 1 / (1 + (s / 0.15 c)^2): s is the noise's standard deviation (Immerkaer 1996, with the median) |

    Noise looks like sharpness and like resolution: its share is taken out of both. Fine texture that is as random as
    noise counts as noise. The numbers were set on aligned face photographs of 96 to 224 pixels.

    Args:
        pictures: (B, 3, S, S) RGB in [0, 1], S at least 64.
    """
    with torch.autocast(pictures.device.type, enabled=False):
        weights = torch.tensor([0.299, 0.587, 0.114], device=pictures.device).view(1, 3, 1, 1)
        luminance = (pictures.float() * weights).sum(1)
        mean = luminance.mean((1, 2))
        contrast = (luminance - mean[:, None, None]).square().mean((1, 2)).sqrt()
        noise = _noise(luminance)
        half = functional.avg_pool2d(luminance[:, None], 2)[:, 0]
        # Averaging four pixels leaves a quarter of the noise's variance; a step has twice that, and there are two.
        energy = half.diff(dim=1).square().mean((1, 2)) + half.diff(dim=2).square().mean((1, 2)) - noise.square()
        clipped = ((luminance < 3.5 / 255) | (luminance > 251.5 / 255)).float().mean((1, 2))
        components = {
            "sharpness": (energy.clamp(min=0).sqrt() / contrast.clamp(min=1e-3) / 0.4).tanh(),
            "contrast": (contrast / 0.2).tanh(),
            "exposure": 4 * mean * (1 - mean) * (1 - clipped / 2),
            "resolution": (_mean_frequency(luminance, noise) / 0.3).tanh(),
            "blockiness": (-_blockiness(luminance)).exp(),
            "noise": 1 / (1 + (noise / (0.15 * contrast).clamp(min=1e-4)).square()),
        }
    return {name: value.clamp(0.01, 1) for name, value in components.items()}


def classical_quality(pictures: Tensor) -> Tensor:
    """The geometric mean of `quality_components`: (B, 3, S, S) in [0, 1] -> (B,) in [0, 1]. Nothing in it is learned.

    Blur, noise, JPEG compression (visible, below about quality 90), lost contrast and down-scaling each lower it.
    """
    return torch.stack(list(quality_components(pictures).values())).log().mean(0).exp()


CLASSICAL = Assessor(
    "classical: geometric mean of sharpness, contrast, exposure, resolution, blockiness and noise", classical_quality
)


def _noise(luminance: Tensor) -> Tensor:
    """Standard deviation of white noise, (B, S, S) -> (B,): the median answer of a filter blind to straight edges."""
    kernel = luminance.new_tensor([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])[None, None]
    response = functional.conv2d(luminance[:, None], kernel).abs().flatten(1)
    # The filter multiplies the deviation by 6; the median of |x| is 0.6745 deviations.
    return response.median(1).values / (6 * 0.6745)


def _mean_frequency(luminance: Tensor, noise: Tensor) -> Tensor:
    """Mean frequency, 1 = Nyquist, of the spectrum weighted with frequency squared, less the noise's flat share.

    The weight makes up for the fall of natural spectra, so that a picture that uses its resolution weighs about equally
    everywhere. Energies are summed in 32 rings before the noise is taken out: single ones scatter too much.
    """
    if not len(luminance):
        return noise  # MKL transforms no empty batch
    side, rings = luminance.shape[-1], 32
    window = torch.hann_window(side, device=luminance.device)
    window = window[:, None] * window
    centred = (luminance - luminance.mean((1, 2), keepdim=True)) * window
    power = torch.fft.rfft2(centred).abs().square() / window.square().sum()  # of white noise: its variance
    rows = torch.fft.fftfreq(side, device=luminance.device)[:, None]
    radius = 2 * (rows.square() + torch.fft.rfftfreq(side, device=luminance.device).square()).sqrt()
    weighted = (power - noise.square()[:, None, None]) * radius.square()
    ring = functional.one_hot((radius * rings).long().clamp(max=rings).flatten(), rings + 1).float()
    energy = (weighted.flatten(1) @ ring)[:, :rings].clamp(min=0)  # the last ring holds the corners beyond Nyquist
    frequency = (torch.arange(rings, device=luminance.device) + 0.5) / rings
    return (energy * frequency).sum(1) / energy.sum(1).clamp(min=1e-12)


def _blockiness(luminance: Tensor) -> Tensor:
    """How far the strongest grid phase stands above the fourth, over the mean step, (B, S, S) -> (B,): 1.2 at JPEG 8.

    All eight phases are tried: the grid's offset is not known once a picture was cropped. The fourth, since a picture
    enlarged twofold has four strong ones. A picture that was resized after its compression has no grid any more.
    """
    excesses = []
    for rows in (luminance, luminance.transpose(1, 2)):
        steps = rows.diff(dim=2).abs().clamp(max=48 / 255)
        excess = (steps[:, :, 1:-1] - (steps[:, :, :-2] + steps[:, :, 2:]) / 2).mean(1)
        phases = excess[:, : excess.shape[1] // 8 * 8].unflatten(1, (-1, 8)).mean(1)
        best = phases.topk(4, dim=1).values
        excesses.append((best[:, 0] - best[:, 3]) / steps.mean((1, 2)).clamp(min=0.5 / 255))
    return (excesses[0] + excesses[1]) / 2


def stability(embeddings: Tensor) -> Tensor:
    """SER-FIQ's stability of repeated embeddings: u = 2 / (1 + exp(d)), d their mean distance; identical ones give 1.

    Terhoerst et al. 2020, arXiv 2003.09373.

    Args:
        embeddings: (T, B, D), T passes over B pictures; brought to unit length here.

    Returns:
        (B,) in (0, 1].

    Raises:
        ValueError: fewer than two passes.
    """
    passes = len(embeddings)
    if passes < 2:
        raise ValueError(f"stability needs at least two passes, not {passes}")
    unit = functional.normalize(embeddings.float(), dim=2).transpose(0, 1)
    # The faster formula finds distances between equal vectors.
    distances = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist")
    return 2 * torch.sigmoid(-distances.sum((1, 2)) / (passes * (passes - 1)))


@torch.no_grad()
def ser_fiq(
    embedder: nn.Module,
    pictures: Tensor,
    passes: int = 100,
    alpha: float | None = 130.0,
    r: float = 0.88,
    generator: torch.Generator | None = None,
) -> Tensor:
    """SER-FIQ (arXiv 2003.09373): how little an embedding moves when random parts of its network are dropped.

    Only dropout is random in the passes; everything else of the network, batch normalisation too, is in evaluation
    mode. The network is left in the mode that it was in. The score inherits the embedder's bias between groups of
    people, which SER-FIQ's authors show.

    Args:
        embedder: pictures -> (B, D), with at least one active dropout layer; takes pictures as they are given here.
        pictures: (B, 3, S, S).
        passes: how often each is embedded.
        alpha: q = sigmoid(alpha (u - r)) stretches the stability u, as the authors' code does; None returns u itself.
        r: the stability that becomes 0.5.
        generator: source of the dropped parts, on the CPU; by default torch's global one.

    Returns:
        (B,) in [0, 1], 1 = best.

    Raises:
        ValueError: fewer than two passes, or a network without dropout, which would find all pictures perfect.
    """
    dropouts = [m for m in embedder.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
    if not dropouts:
        raise ValueError("the embedder has no dropout, so that all its passes are the same")
    modes = {module: module.training for module in embedder.modules()}
    devices = [pictures.device] if pictures.is_cuda else []
    embedder.eval()
    try:
        for dropout in dropouts:
            dropout.training = True
        with torch.random.fork_rng(devices, enabled=generator is not None):
            if generator is not None:
                torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            u = stability(torch.stack([embedder(pictures) for _ in range(passes)]))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return u if alpha is None else torch.sigmoid(alpha * (u - r))


class FidelityMapping(nn.Module):
    """Quality and class -> fidelity: forged pictures in [0, `fake_below`], real ones in [`real_above`, 1].

    Inside a band fidelity grows linearly with quality, from the class's lowest of the training pictures to its highest;
    beyond those it stays at the band's edge. Not fitted, it takes quality 0 and 1 as the ends.

    Args:
        fake_below: fidelity of the best forgery.
        real_above: fidelity of the worst real picture.
        quantiles: the ends are the 1 % and 99 % quantiles instead of the extremes, which are two pictures' word.
    """

    lowest: Tensor
    highest: Tensor

    def __init__(self, fake_below: float = 0.4, real_above: float = 0.6, quantiles: bool = False) -> None:
        super().__init__()
        self.fake_below, self.real_above, self.quantiles = fake_below, real_above, quantiles
        self.register_buffer("lowest", torch.zeros(2))  # of real, of forged pictures
        self.register_buffer("highest", torch.ones(2))

    def fit(self, quality: Tensor, labels: Tensor) -> None:
        """Learn the ends of both classes, anew at every call.

        Args:
            quality: (N,), of training pictures alone.
            labels: (N,), 1 = forged.

        Raises:
            DataError: a class is missing.
        """
        for label, name in enumerate(("real", "forged")):
            own = quality[labels == label].float()
            if not len(own):
                raise DataError(f"no {name} picture to learn the range of quality from")
            margin = 0.01 if self.quantiles else 0.0
            self.lowest[label], self.highest[label] = own.quantile(margin), own.quantile(1 - margin)

    def forward(self, quality: Tensor, labels: Tensor) -> Tensor:
        """(N,) quality and (N,) labels, 1 = forged -> (N,) fidelity in [0, 1]."""
        own = labels.long()
        span = (self.highest - self.lowest).clamp(min=1e-6)
        place = ((quality - self.lowest[own]) / span[own]).clamp(0, 1)
        return torch.where(labels == 1, self.fake_below * place, self.real_above + (1 - self.real_above) * place)


# --- SSAAFormer -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """Blocks and channels of the four stages, and what else a scale decides."""

    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    head: int  # channels of an attention head
    drop_path: float  # of the last block; grows linearly from 0
    layer_scale: bool = False


# The drop path of "large" is the paper's reference code's; those of "small" and "base" are UniFormer's own. Layer scale
# has "large" alone, there as here: at 1e-6 a branch says nothing until training has enlarged it.
SIZES: dict[str, Sizes] = {
    "cpu": Sizes((1, 2, 3, 1), (32, 64, 128, 192), 32, 0.05),
    "small": Sizes((3, 4, 8, 3), (64, 128, 320, 512), 32, 0.1),
    "base": Sizes((5, 8, 20, 7), (64, 128, 320, 512), 32, 0.3),
    "large": Sizes((5, 10, 24, 7), (128, 192, 448, 640), 64, 0.4, layer_scale=True),
}
_LAYER_SCALE = 1e-6


class PatchEmbed(nn.Module):
    """Patches without overlap as channels, normalised per patch: (B, c, S, S) -> (B, C, S / patch, S / patch)."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.proj = nn.Conv2d(channels, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.norm(self.proj(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Mlp(nn.Module):
    """Two layers, GELU between them: over channels of maps ("conv") or of tokens."""

    def __init__(self, width: int, conv: bool) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, 4 * width, 1) if conv else nn.Linear(width, 4 * width)
        self.fc2 = nn.Conv2d(4 * width, width, 1) if conv else nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


def _layer_scales(shape: tuple[int, ...], learned: bool) -> tuple[nn.Parameter | None, nn.Parameter | None]:
    """The layer scales of a block's two branches, if it has any (Touvron et al. 2021, arXiv 2103.17239)."""
    if not learned:
        return None, None
    return nn.Parameter(torch.full(shape, _LAYER_SCALE)), nn.Parameter(torch.full(shape, _LAYER_SCALE))


def _scaled(branch: Tensor, scale: Tensor | None) -> Tensor:
    return branch if scale is None else scale * branch


class LocalBlock(nn.Module):
    """UniFormer's block of local attention, with `mirror` the paper's symmetric spatial attention augmentation.

    x' = x + DW3x3(x); z = DW5x5(Conv1x1(BN(x'))); z_hat = a z + b flip(z) with (a, b) = softmax(w), w learned from
    (1, 1) on; x'' = x' + g1 Conv1x1(z_hat); the output is x'' + g2 MLP(BN(x'')), g1 and g2 the layer scale of each
    channel. The reference code's weighted sum is built, where the paper's figure draws a plain one. Maps (B, C, h, w)
    in and out.

    Args:
        width: C.
        drop_path: probability that a picture skips a branch in training.
        mirror: mix every attention map with its left-right mirror; two parameters more.
        layer_scale: learn g1 and g2, from 1e-6 on; else they are 1.
    """

    def __init__(self, width: int, drop_path: float, mirror: bool, layer_scale: bool) -> None:
        super().__init__()
        self.pos_embed = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 1)
        self.conv2 = nn.Conv2d(width, width, 1)
        self.attn = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.BatchNorm2d(width)
        self.mlp = _Mlp(width, conv=True)
        self.gamma_1, self.gamma_2 = _layer_scales((1, width, 1, 1), layer_scale)
        self.mirror_weights = nn.Parameter(torch.ones(2)) if mirror else None

    def fuse(self, z: Tensor) -> Tensor:
        """Mix maps with their mirrors: z -> z_hat; without `mirror` z itself."""
        if self.mirror_weights is None:
            return z
        kept, mirrored = self.mirror_weights.softmax(0)
        return kept * z + mirrored * z.flip(3)

    def attend(self, x: Tensor) -> Tensor:
        """The attention branch: x' -> Conv1x1(z_hat)."""
        return self.conv2(self.fuse(self.attn(self.conv1(self.norm1(x)))))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = x + self.pos_embed(x)
        x = x + self.drop_path(_scaled(self.attend(x), self.gamma_1))
        return x + self.drop_path(_scaled(self.mlp(self.norm2(x)), self.gamma_2))


class _Attention(nn.Module):
    """Multi-head self-attention of tokens (B, N, C)."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.heads, self.head = width // head, head
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.heads, self.head).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))


class GlobalBlock(nn.Module):
    """UniFormer's block of self-attention over all places: position by DW3x3, attention, MLP; maps in and out.

    Args:
        width: of its tokens.
        head: of an attention head.
        drop_path, layer_scale: as of `LocalBlock`.
    """

    def __init__(self, width: int, head: int, drop_path: float, layer_scale: bool) -> None:
        super().__init__()
        self.pos_embed = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, head)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _Mlp(width, conv=False)
        self.gamma_1, self.gamma_2 = _layer_scales((width,), layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = x + self.pos_embed(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.drop_path(_scaled(self.attn(self.norm1(tokens)), self.gamma_1))
        tokens = tokens + self.drop_path(_scaled(self.mlp(self.norm2(tokens)), self.gamma_2))
        return tokens.transpose(1, 2).reshape(x.shape)


class SSAAFormer(nn.Module):
    """UniFormer without its heads, mirrored attention in all blocks of stage 1: (B, 3, S, S) -> (B, C, S/32, S/32).

    Its parts are named as in the public UniFormer code, so that its checkpoints load. It learns nothing of the
    picture's size: S is any multiple of 32.

    Args:
        scale: "large" is the paper's, "small" and "base" are UniFormer's others, "cpu" is this project's own.
        mirror: see `LocalBlock`.
    """

    def __init__(self, scale: Scale, mirror: bool) -> None:
        super().__init__()
        sizes = SIZES[scale]
        self.width = sizes.widths[3]
        self.patch_embed1 = PatchEmbed(3, sizes.widths[0], 4)
        self.patch_embed2 = PatchEmbed(sizes.widths[0], sizes.widths[1], 2)
        self.patch_embed3 = PatchEmbed(sizes.widths[1], sizes.widths[2], 2)
        self.patch_embed4 = PatchEmbed(sizes.widths[2], sizes.widths[3], 2)
        total = sum(sizes.depths)
        rates = iter(sizes.drop_path * block / (total - 1) for block in range(total))
        one, two, three, four = (
            [(width, next(rates)) for _ in range(depth)]
            for width, depth in zip(sizes.widths, sizes.depths, strict=True)
        )
        scaled = sizes.layer_scale
        self.blocks1 = nn.ModuleList(LocalBlock(width, rate, mirror, scaled) for width, rate in one)
        self.blocks2 = nn.ModuleList(LocalBlock(width, rate, False, scaled) for width, rate in two)
        self.blocks3 = nn.ModuleList(GlobalBlock(width, sizes.head, rate, scaled) for width, rate in three)
        self.blocks4 = nn.ModuleList(GlobalBlock(width, sizes.head, rate, scaled) for width, rate in four)
        self.norm = nn.BatchNorm2d(self.width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        for embed, blocks in (
            (self.patch_embed1, self.blocks1),
            (self.patch_embed2, self.blocks2),
            (self.patch_embed3, self.blocks3),
            (self.patch_embed4, self.blocks4),
        ):
            x = embed(x)
            for block in blocks:
                x = block(x)
        return self.norm(x)

    def load_uniformer(self, path: Path) -> None:
        """Start from a UniFormer checkpoint of the same scale; its heads are passed over, mirroring starts at (1, 1).

        UniFormer's checkpoints trained with token labelling are meant: those have this network's attention heads. The
        others of "small" and "base" fit by their shapes, but were trained with heads of 64 channels.

        Raises:
            DataError: no such file, not a checkpoint, a tensor of the trunk is missing or of another shape, or the
                checkpoint has a layer scale and this scale none.
        """
        state = read_state(path)
        own_state = self.state_dict()
        for name, own in own_state.items():
            if name.endswith("mirror_weights"):
                state.setdefault(name, own)
        scales = [name for name in state if name.endswith(("gamma_1", "gamma_2")) and name not in own_state]
        if scales:
            raise DataError(f"weights {path}: {scales[0]} is a layer scale, which this network has only at scale=large")
        load_matching(self, state, str(path))


# --- regression -----------------------------------------------------------------------------------------------------


class SupportVectorRegressor(nn.Module):
    """A fitted support vector regression with radial basis functions: features (B, D) -> score (B,).

    s(x) = b + sum over i of c_i exp(-gamma |x - v_i|^2). Unused places of the fixed-size buffers have c_i = 0. Not
    fitted, it answers 0.5.

    Args:
        width: D.
        capacity: the most support vectors.
    """

    vectors: Tensor
    coefficients: Tensor
    gamma: Tensor
    intercept: Tensor

    def __init__(self, width: int, capacity: int = SUPPORT) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(capacity, width))
        self.register_buffer("coefficients", torch.zeros(capacity))
        self.register_buffer("gamma", torch.ones(()))
        self.register_buffer("intercept", torch.full((), 0.5))

    def forward(self, features: Tensor) -> Tensor:
        """Score features, (B, D) -> (B,), not clipped."""
        with torch.autocast(features.device.type, enabled=False):
            x = features.float()
            distances = x.square().sum(1, keepdim=True) + self.vectors.square().sum(1) - 2 * x @ self.vectors.T
            return (-self.gamma * distances.clamp(min=0)).exp() @ self.coefficients + self.intercept


def fit_regressor(
    features: Tensor, targets: Tensor, epsilon: float = 0.1, capacity: int = SUPPORT
) -> SupportVectorRegressor:
    """Fit a support vector regression as the reference code does: RBF kernel, C = 1, gamma = 1 / (D var(features)).

    Graded targets are `FidelityMapping`'s; binary ones, for comparison, are 1 - label.

    Args:
        features: (N, D), N from 1 to `capacity`. They are rounded to half precision first, so that storing the support
            vectors in half precision changes nothing.
        targets: (N,).
        epsilon: how far a score may be off at no cost. 0.1 is a quarter of a band: order within it is hardly learned.
        capacity: of the regressor returned.

    Returns:
        The fitted regressor, on the CPU.

    Raises:
        DataError: there are no features, or more than `capacity`.
    """
    if not 0 < len(features) <= capacity:
        raise DataError(f"a regressor is fitted on 1 to {capacity} pictures, not on {len(features)}")
    fitted = SVR(kernel="rbf", C=1.0, epsilon=epsilon, gamma="scale")
    fitted.fit(features.detach().cpu().half().float().numpy(), targets.detach().cpu().float().numpy())
    regressor = SupportVectorRegressor(features.shape[1], capacity)
    count = len(fitted.support_)
    regressor.vectors[:count] = torch.from_numpy(fitted.support_vectors_)
    regressor.coefficients[:count] = torch.from_numpy(fitted.dual_coef_[0])
    regressor.gamma.fill_(float(fitted._gamma))  # what "scale" came to; no public name
    regressor.intercept.fill_(float(fitted.intercept_[0]))
    return regressor


def best_threshold(fidelity: Tensor, labels: Tensor) -> float:
    """The threshold in 0.40, 0.41 .. 0.60 that is right most often, real if fidelity >= threshold; ties go to 0.5.

    Args:
        fidelity: (N,), of validation pictures: chosen on those it is judged by, the accuracy would be too high.
        labels: (N,), 1 = forged.

    Returns:
        0.5 for N = 0.
    """
    thresholds = [place / 100 for place in range(40, 61)]
    right = [int(((fidelity < threshold) == (labels == 1)).sum()) for threshold in thresholds]
    return max(zip(right, (-abs(t - 0.5) for t in thresholds), thresholds, strict=True))[2]


# --- the detector ---------------------------------------------------------------------------------------------------


class DeepFidelity(Learner):
    """The detector. `extras` holds "fidelity" (B,), higher = more real, and "features" (B, C).

    Two-step, as the paper: the network learns the classes alone; `fit_posthoc` then fits the regressor on its frozen
    features. Before that the classifier speaks, and the fidelity is its probability of "real". After it the logit is
    10 (tau - s): s the regressor's score, tau the threshold chosen on the validation split.
    End-to-end, this project's alternative: a linear layer on the features learns the fidelity together with the
    classes; nothing is fitted afterwards, and the logit is the classifier's before and after.
    The map is the classifier's logit at every token (class activation), in both.

    Unlike in the reference code, tokens of different pictures are not mixed while labels are not, no untrained
    auxiliary head adds to the prediction, and the threshold is not chosen on the test split.

    Args:
        scale: size of the network, see `SSAAFormer`. Faces are 96 pixels wide for "cpu", else 224.
        mirror: mix the first stage's attention maps with their mirrors (the paper's SSAA), or leave UniFormer as it is.
        target: how the fidelity is learned, see above.
        spread: which qualities are the ends of a band: the "extremes" of the training pictures as in the reference
            code, or their 1 % and 99 % "quantiles".
        fake_below: fidelity of the best forgery.
        real_above: fidelity of the worst real picture.
        epsilon: the regressor's free error, see `fit_regressor`.
        weights: "none" for random ones, else a local UniFormer checkpoint (see `SSAAFormer.load_uniformer`); no
            registry package has any.

    Raises:
        DataError: bands that overlap or leave [0, 1], or weights that are not there or do not fit.
    """

    assessor: Assessor = CLASSICAL
    """Judges the training pictures' quality; set another one on the detector before `fit_statistics`."""

    size = 96
    step = 32
    tau: Tensor
    fitted: Tensor

    def __init__(
        self,
        scale: Scale = "cpu",
        mirror: bool = True,
        target: Target = "two-step",
        spread: Spread = "extremes",
        fake_below: float = 0.4,
        real_above: float = 0.6,
        epsilon: float = 0.1,
        weights: str = "none",
    ) -> None:
        super().__init__()
        if not 0 < fake_below <= real_above < 1:
            raise DataError(f"bands up to {fake_below} and from {real_above}: need 0 < fake_below <= real_above < 1")
        if weights in ("imagenet", "timm"):
            raise DataError(f"there are no {weights} weights of this network; take weights=none or weights=FILE")
        self.size = 96 if scale == "cpu" else 224
        self.target, self.epsilon = target, epsilon
        self.mapping = FidelityMapping(fake_below, real_above, quantiles=spread == "quantiles")
        self.trunk = SSAAFormer(scale, mirror)
        if weights != "none":
            self.trunk.load_uniformer(Path(weights))
        self.head = nn.Linear(self.trunk.width, 2)  # real, forged
        trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        if target == "end-to-end":
            self.fidelity_head = nn.Linear(self.trunk.width, 1, bias=False)
        else:
            self.regressor = SupportVectorRegressor(self.trunk.width)
            self.register_buffer("tau", torch.full((), 0.5))
            self.register_buffer("fitted", torch.zeros(()))  # 1: the regressor speaks; a factor, for export's sake

    def forward(self, faces: Tensor) -> DetectorOutput:
        """Score faces, (B, 3, S, S) in [0, 1], S a multiple of 32; the map is (B, 1, S / 32, S / 32)."""
        tokens = self.trunk(self.normalised(faces))
        per_token = self.head(tokens.permute(0, 2, 3, 1)).float()
        heat = (per_token[..., 1] - per_token[..., 0])[:, None]
        logit = heat.mean((1, 2, 3))  # the head is linear: its value at the mean token
        features = pooled(tokens)
        if self.target == "end-to-end":
            fidelity = self.fidelity_head(features).float()[:, 0].sigmoid()
        else:
            score = self.regressor(features)
            fidelity = (1 - self.fitted) * torch.sigmoid(-logit) + self.fitted * score
            logit = (1 - self.fitted) * logit + self.fitted * SLOPE * (self.tau - score)
        return DetectorOutput(logit, heat, {"fidelity": fidelity, "features": features})

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss; their sum is minimised. Masks are not used.

        "verdict": cross-entropy of the mean token's logits with labels smoothed to 0.95 and 0.05. End-to-end also
        "fidelity": the smooth L1 distance of sigmoid(v f) from the target, with weight 1; it is half the squared
        distance, since no distance exceeds 1.

        Args:
            batch: `faces` (B, 3, S, S) in [0, 1]; `labels` (B,) 0 or 1.
        """
        tokens, labels = self.trunk(self.normalised(batch["faces"])), batch["labels"]
        classes = self.head(tokens.mean((2, 3))).float()
        losses = {"verdict": functional.cross_entropy(classes, labels.long(), label_smoothing=0.1)}
        if self.target == "end-to-end":
            fidelity = self.fidelity_head(pooled(tokens)).float()[:, 0].sigmoid()
            losses["fidelity"] = functional.smooth_l1_loss(fidelity, self.mapping(self.quality(batch["faces"]), labels))
        return losses

    def quality(self, faces: Tensor) -> Tensor:
        """The assessor's quality of faces (B, 3, S, S) in [0, 1]: (B,) in [0, 1]."""
        return self.assessor.judge(faces.clamp(0, 1))

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Learn both classes' range of quality.

        Args:
            batches: finitely many, of the training split alone.

        Raises:
            DataError: they hold no real or no forged face.
        """
        seen = [(self.quality(batch["faces"]), batch["labels"]) for batch in batches]
        quality, labels = (
            torch.cat(parts) if parts else torch.zeros(0) for parts in (_column(seen, 0), _column(seen, 1))
        )
        self.mapping.fit(quality, labels)

    def fit_posthoc(self, training: Iterable[Batch], validation: Iterable[Batch]) -> None:
        """Two-step: fit the regressor on the frozen features of the first 2,000 training faces, then choose tau.

        The targets follow the ranges that `fit_statistics` learned. Without validation faces tau stays at 0.5.

        Args:
            training: finitely many batches of the training split, shuffled.
            validation: the validation split's faces once.

        Raises:
            DataError: there are no training faces.
        """
        if self.target == "end-to-end":
            return
        known = frozen_features(self, training, SUPPORT)
        targets = self.mapping(known.quality, known.labels)
        self.regressor.load_state_dict(fit_regressor(known.features, targets, self.epsilon).state_dict())
        self.fitted.fill_(1)
        held_out = [(self(batch["faces"]).extras["fidelity"], batch["labels"]) for batch in validation]
        if held_out:
            self.tau.fill_(best_threshold(torch.cat(_column(held_out, 0)), torch.cat(_column(held_out, 1))))
        else:
            self.tau.fill_(0.5)


def _column(rows: list[tuple[Tensor, Tensor]], place: int) -> list[Tensor]:
    return [row[place] for row in rows]


def pooled(tokens: Tensor) -> Tensor:
    """The feature f = mean + 0.5 max over all places, as the reference code has it: (B, C, h, w) -> (B, C)."""
    return tokens.mean((2, 3)) + 0.5 * tokens.amax((2, 3))


# --- for comparisons ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frozen:
    """Frozen `features` (N, C), `quality` (N,) and `labels` (N,), 1 = forged, of the same faces."""

    features: Tensor
    quality: Tensor
    labels: Tensor


@torch.no_grad()
def frozen_features(detector: DeepFidelity, batches: Iterable[Batch], most: int | None = None) -> Frozen:
    """Features and quality of faces: what regressors with other targets are fitted on and compared by.

    Args:
        detector: in evaluation mode.
        batches: of any split; no more are read than needed.
        most: take only the first so many faces.
    """
    features, quality, labels, count = [], [], [], 0
    for batch in batches:
        room = None if most is None else most - count
        faces = batch["faces"][:room]
        features.append(pooled(detector.trunk(detector.normalised(faces))).float())
        quality.append(detector.quality(faces))
        labels.append(batch["labels"][:room])
        count += len(faces)
        if count == most:
            break
    if not features:
        return Frozen(torch.zeros(0, detector.trunk.width), torch.zeros(0), torch.zeros(0))
    return Frozen(torch.cat(features), torch.cat(quality), torch.cat(labels))
