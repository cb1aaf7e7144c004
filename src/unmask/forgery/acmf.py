"""`acmf`: masked high frequencies and consistent attention (Liu et al. 2023, arXiv 2307.11438).

High frequencies carry traces that are peculiar to one generator. So part of them is taken away at random from every
training picture, and what the network looks at must not depend on what was taken. At inference nothing is masked.

The paper's second stage, as its reference code has it, adapts the network to every test video and needs source data at
test time. That is `adapt`, which reports only use with its name on it; the detector itself trains the same attention
term on source data alone. The paper's network is Xception at 224 pixels; the default here is a smaller one with
ImageNet weights at 128, which trains on a CPU. Lab only: torch, timm.
"""

import copy
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from unmask.errors import DataError
from unmask.forgery.detector import DetectorOutput, Learner
from unmask.networks.backbones import PACKAGED, trunk
from unmask.networks.contract import Batch

Mode = Literal["repo", "signed", "spectral"]
Scope = Literal["batch", "image", "channel"]
Backbone = Literal["efficientnet_lite0", "xception", "light"]
Target = Literal["predicted", "forged"]
Arm = Literal["none", "source", "consistency", "both"]
Scoring = Literal["softmax", "sigmoids"]

_BLOCK = 5  # frequencies up to this one, in cycles per picture, are never masked
_FLAT = 1e-6  # a map that varies by less than this share of its size is constant up to rounding


# --- Masked frequencies -----------------------------------------------------------------------------------------------


def mask_frequencies(
    x: Tensor,
    rate: float,
    mode: Mode = "signed",
    scope: Scope = "image",
    block: int = _BLOCK,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Pictures without a random part of their high frequencies (arXiv 2307.11438, masked frequency representation).

    "signed": the picture is the sum of a low part, frequencies |u|, |v| <= block, and a high part; the high part is
    taken away at random pixels. "repo": as the reference code; its block is -block .. block - 1 and the high part is
    rectified, so that a pixel with a negative one gets darker by twice as much. "spectral": what is taken away are
    random high frequencies, each together with its conjugate.

    Args:
        x: (B, C, S, S), floating point.
        rate: share of pixels or frequencies that lose their high part, in [0, 1]. 0 changes nothing, not even a bit.
        mode: see above.
        scope: one random mask for all ("batch"), for each picture ("image"), or for each of its channels ("channel").
        block: half the side of the block of low frequencies, in cycles per picture; the reference code's is 5.
        generator: of the mask; by default torch's global one.

    Returns:
        (B, C, S, S) of the same type and device. Values may leave the range of the input; the reference code lets them.
    """
    if not x.numel():
        return x  # MKL transforms no empty batch
    values = x if x.dtype == torch.float64 else x.float()  # no transform of half precision on a CPU
    side = values.shape[-1]
    cells = torch.arange(side, device=x.device)
    frequencies = (cells + side // 2) % side - side // 2
    masks = {"batch": (1, 1), "image": (len(x), 1), "channel": tuple(x.shape[:2])}[scope]
    if mode == "repo":
        low = (frequencies >= -block) & (frequencies < block)
        spectrum = torch.fft.fft2(values) * ~(low[:, None] & low)
        masked = values - torch.fft.ifft2(spectrum).real.abs()
        return torch.where(_drawn((*masks, side, side), rate, x, generator), masked.to(x.dtype), x)
    low = frequencies.abs() <= block
    half = side // 2 + 1  # of a real picture's spectrum the rest is the conjugate of this
    high = ~(low[:, None] & low[:half])
    spectrum = torch.fft.rfft2(values)
    if mode == "signed":
        masked = torch.fft.irfft2(spectrum * ~high, s=(side, side))
        return torch.where(_drawn((*masks, side, side), rate, x, generator), masked.to(x.dtype), x)
    lost = _drawn((*masks, side, half), rate, x, generator)
    # In the columns that are their own conjugates, rows u and -u are a pair: both follow the first of the two.
    own = (cells[:half] == 0) | (2 * cells[:half] == side)
    lost = torch.where(own, lost[..., torch.minimum(cells, -cells % side), :], lost)
    return (values - torch.fft.irfft2(spectrum * (lost & high), s=(side, side))).to(x.dtype)


def _drawn(shape: tuple[int, ...], rate: float, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Booleans, true with probability `rate`; drawn where the generator is, returned where the pictures are."""
    device = like.device if generator is None else generator.device
    return (torch.rand(shape, device=device, generator=generator) < rate).to(like.device)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Pictures (B, C, S, S) under a Gaussian of `sigma` pixels, >= 0; what leaves on one side comes in on the other.

    The control of `mask_frequencies`, with the same borders as a Fourier transform's.
    """
    if not x.numel():
        return x
    values = x if x.dtype == torch.float64 else x.float()
    side = values.shape[-1]
    passed = _gaussian(side, sigma, values)[:, : side // 2 + 1]
    return torch.fft.irfft2(torch.fft.rfft2(values) * passed, s=(side, side)).to(x.dtype)


def _gaussian(side: int, sigma: float, like: Tensor) -> Tensor:
    """(S, S): what share of each frequency a Gaussian lets pass."""
    one = torch.fft.fftfreq(side, device=like.device, dtype=like.dtype)
    return (-2 * (math.pi * sigma) ** 2 * (one[:, None].square() + one.square())).exp()


def matched_blur_sigma(pictures: Tensor, rate: float, mode: Mode = "signed") -> float:
    """The sigma at which `blur` changes pictures as much as `mask_frequencies` does: in mean square, on average.

    Args:
        pictures: (B, C, S, S) in [0, 1], those that the strength is measured on.
        rate: of the masking, in [0, 1].
        mode: of the masking. Its scope does not matter: it does not change the average.

    Returns:
        Pixels, 0 at rate 0; at most S, where a blur leaves one colour.
    """
    x = pictures.double()
    # Pixels, or frequencies, are masked independently of what they hold: the average change is a share of the whole.
    wanted = rate * float((mask_frequencies(x, 1.0, mode) - x).square().mean())
    side = x.shape[-1]
    power = torch.fft.fft2(x, norm="ortho").abs().square().mean((0, 1))
    below, above = 0.0, float(side)
    for _ in range(60):
        sigma = (below + above) / 2
        change = float((power * (1 - _gaussian(side, sigma, x)).square()).mean())
        below, above = (sigma, above) if change < wanted else (below, sigma)
    return below


# --- Attention --------------------------------------------------------------------------------------------------------


def attention_maps(features: Tensor, logits: Tensor, target: Target, size: int) -> Tensor:
    """Grad-CAM of a batch, with one backward pass (arXiv 2307.11438; as the reference code, without a ReLU).

    The weight of a channel is the mean gradient of the class's logit over the cells. Weights are constants, so a loss
    on the maps reaches what makes the features and nothing behind them. The logits of one picture must not depend on
    another's features: batch normalisation between the two has to be in evaluation mode.

    Args:
        features: (B, C, h, w), of a graph or a leaf that needs gradients.
        logits: (B, 2) of real and forged, computed from the features.
        target: whose logit is explained: that of each picture's predicted class, or always "forged".
        size: side of the maps, to which they are enlarged bilinearly, corners on corners.

    Returns:
        (B, 1, size, size), each stretched to [0, 1]; a constant one is 0.
    """
    chosen = logits.amax(1) if target == "predicted" else logits[:, 1]
    (gradient,) = torch.autograd.grad(chosen.sum(), features, retain_graph=True)
    weights = gradient.float().mean((2, 3), keepdim=True)
    maps = (weights * features.float()).sum(1, keepdim=True)
    maps = functional.interpolate(maps, size=(size, size), mode="bilinear", align_corners=True)
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    flat = high - low <= _FLAT * torch.maximum(high.abs(), low.abs())
    return (maps - low) / (high - low).masked_fill(flat, 1) * ~flat


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode within, every part's own mode after."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


# --- Backbones --------------------------------------------------------------------------------------------------------


class _Centred(nn.Module):
    """Values in [0, 1] as the packaged EfficientNet-Lite0 was trained on them."""

    def forward(self, faces: Tensor) -> Tensor:
        return (faces - 127 / 255) / (128 / 255)


class _Separable(nn.Sequential):
    """A 3x3 convolution, first by channel, then across channels; normalised."""

    def __init__(self, width: int, out: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False),
            nn.Conv2d(width, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )


class _Block(nn.Module):
    """Two separable convolutions beside a shortcut."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(_Separable(width, out, stride), nn.ReLU(), _Separable(out, out))
        self.shortcut = (
            nn.Identity()
            if (width, stride) == (out, 1)
            else nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.convs(x) + self.shortcut(x))


def _backbone(name: Backbone, weights: str) -> tuple[nn.Module, nn.Module, int]:
    """What comes up to the layer whose attention is looked at, what comes after it, and the width at the end."""
    if name == "light":
        if weights not in ("imagenet", "none"):  # the first is the default, whose user asked for nothing
            raise DataError(f"weights={weights}: there are none of the light backbone; take weights=none")
        shapes = ((32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 1), (256, 256, 1))
        stem = (nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        return nn.Sequential(*stem, *(_Block(*shape) for shape in shapes)), nn.Identity(), 256
    if name == "xception":
        model, width = trunk("legacy_xception", weights=weights)
        parts = dict(model.named_children())
        # The reference code looks at the third separable convolution, before its normalisation.
        behind = OrderedDict((part, parts.pop(part)) for part in ("bn3", "act3", "conv4", "bn4", "act4"))
        front = OrderedDict((part, parts[part]) for part in parts if part not in ("global_pool", "fc"))
        return nn.Sequential(front), nn.Sequential(behind), width
    model, width = trunk(PACKAGED, weights=weights)
    return nn.Sequential(_Centred(), model), nn.Identity(), width


# --- The detector -----------------------------------------------------------------------------------------------------


class ACMF(Learner):
    """A two-class network, trained on pictures with masked high frequencies and held to one attention.

    Args:
        backbone: "xception" is the paper's (20.8 M parameters, map at stride 32; its attention is that of the third
            separable convolution). "efficientnet_lite0" (3.4 M, stride 32) and "light" (0.4 M, stride 8, separable
            convolutions alone) are cheaper stand-ins; their attention is that of the last layer.
        weights: where the backbone starts, see `backbones`; "imagenet" is there for efficientnet_lite0 alone. There are
            none of light, which starts from random ones.
        rate: share of pixels, or frequencies, that are masked in training, in [0, 1].
        mode: how high frequencies are masked, see `mask_frequencies`; the reference code's is "repo".
        scope: what shares a mask, see `mask_frequencies`; the reference code's is "batch".
        flooding: the classification loss is kept from falling below this; the reference code's is 0.04, 0 is off.
        consistency: weight of the attention term; 0 trains on masked pictures alone, the paper's first stage.
        target: the class whose attention is compared: each picture's predicted one as in the paper, or "forged".

    Raises:
        DataError: rate, flooding or consistency out of range, or no such weights.

    Input: float32 (B, 3, S, S) RGB in [0, 1], S a multiple of 32; frequencies are counted per picture, so another side
    means another band.
    """

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    size = 128
    step = 32

    def __init__(
        self,
        backbone: Backbone = "efficientnet_lite0",
        weights: str = "imagenet",
        rate: float = 0.1,
        mode: Mode = "signed",
        scope: Scope = "image",
        flooding: float = 0.0,
        consistency: float = 1.0,
        target: Target = "predicted",
    ) -> None:
        super().__init__()
        if not 0 <= rate <= 1:
            raise DataError(f"rate={rate}: a share, from 0 to 1")
        for name, value in (("flooding", flooding), ("consistency", consistency)):
            if not 0 <= value < math.inf:
                raise DataError(f"{name}={value}: a number, 0 or more")
        self.rate, self.mode, self.scope = rate, mode, scope
        self.flooding, self.consistency, self.target = flooding, consistency, target
        self.front, self.behind, width = _backbone(backbone, weights)
        self.head = nn.Linear(width, 2)

    def forward(self, faces: Tensor) -> DetectorOutput:
        """Score faces, (B, 3, S, S); the map's cells are the logit's summands, their mean is the logit."""
        cells = self.behind(self.front(faces))
        logits = self.head(cells.mean((2, 3)))
        weight = (self.head.weight[1] - self.head.weight[0])[None, :, None, None]
        heat = functional.conv2d(cells, weight, (self.head.bias[1] - self.head.bias[0])[None])
        return DetectorOutput(logits[:, 1] - logits[:, 0], heat)

    def class_logits(self, features: Tensor) -> Tensor:
        """(B, 2) of real and forged, from the features (B, C, h, w) that `front` gives."""
        logits: Tensor = self.head(self.behind(features).mean((2, 3)))
        return logits.float()

    def attention(self, features: Tensor, size: int) -> Tensor:
        """Where the network looks: (B, 1, size, size) in [0, 1], see `attention_maps`.

        Works in every mode, and without gradients; then the maps have none. What comes behind the features is passed in
        evaluation mode: in training mode its batch normalisation would make the weights sum to 0 over the batch.

        Args:
            features: (B, C, h, w) that `front` gives.
            size: side of the maps.
        """
        with torch.enable_grad(), _evaluating(self.behind):
            traced = features if features.requires_grad else features.detach().requires_grad_()
            maps = attention_maps(traced, self.class_logits(traced), self.target, size)
        return maps if features.requires_grad else maps.detach()

    def masked_view(self, faces: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What is learned from: faces (B, 3, S, S) in [0, 1] with high frequencies masked. Controls replace this."""
        return mask_frequencies(faces, self.rate, self.mode, self.scope, generator=generator)

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy on masked pictures, and the distance of the clean pictures' attention from theirs.

        The attention term is `consistency` times the mean squared difference of the two maps; the masked view's is held
        fixed. It is the paper's second stage without its test videos.
        """
        faces = batch["faces"]
        masked = self.front(self.masked_view(faces))
        losses = {"verdict": _flooded(self.class_logits(masked), batch["labels"], self.flooding)}
        if self.consistency:
            fixed = self.attention(masked.detach(), faces.shape[-1])
            seen = self.attention(self.front(faces), faces.shape[-1])
            losses["consistency"] = self.consistency * functional.mse_loss(seen, fixed)
        return losses

    def fit_posthoc(self, training: Iterable[Batch], validation: Iterable[Batch]) -> None:
        """Measure the batch normalisation's statistics anew, on unmasked pictures.

        Those of training are of masked pictures, or of both kinds, as the options say; those judged are never masked.
        """
        update_bn((batch["faces"] for batch in training), self)


def _flooded(logits: Tensor, labels: Tensor, level: float) -> Tensor:
    """Cross-entropy of (B, 2) that turns around below a level >= 0 (the reference code; Ishida et al. 2020)."""
    return (functional.cross_entropy(logits, labels.long()) - level).abs() + level


@torch.no_grad()
def attention_distance(detector: ACMF, faces: Tensor, generator: torch.Generator | None = None) -> float:
    """How far masking moves the attention: mean squared difference of the clean and masked views' maps.

    In evaluation mode; 0 where both look at the same, at most 1.

    Args:
        detector: the views are masked, and the class is chosen, as it does in training.
        faces: (B, 3, S, S) in [0, 1], B >= 1.
        generator: of the masks.
    """
    with _evaluating(detector):
        clean = detector.attention(detector.front(faces), faces.shape[-1])
        masked = detector.attention(detector.front(detector.masked_view(faces, generator)), faces.shape[-1])
    return float((clean - masked).square().mean())


# --- Adaptation to a test video ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Adapted:
    """What `adapt` says of one video.

    `logit` (F,) of its frames, higher = more likely forged; `score` in [0, 1] of the whole; `transductive`: not to be
    put beside scores of detectors that have seen no test frame. The controls carry the mark too: their place is there.
    """

    logit: Tensor
    score: float
    arm: Arm
    transductive: bool = field(default=True, init=False)


def video_score(logits: Tensor, scoring: Scoring = "softmax") -> float:
    """A video's probability of being forged, from its frames' (F, 2) logits of real and forged, which are averaged.

    Args:
        logits: F >= 1.
        scoring: "softmax", or the reference code's "sigmoids": the forged class's share of both sigmoids' sum, which
            ranks slightly differently.
    """
    mean = logits.double().mean(0)
    shares = mean.softmax(0) if scoring == "softmax" else mean.sigmoid() / mean.sigmoid().sum()
    return float(shares[1])


@torch.enable_grad()
def adapt(
    detector: ACMF,
    frames: Tensor,
    source_batches: Sequence[Batch],
    arm: Arm,
    generator: torch.Generator,
    steps: int = 2,
    learning_rate: float = 1e-3,
    flooding: float = 0.04,
    scoring: Scoring = "softmax",
) -> Adapted:
    """Transductive: adapt a copy to one test video's frames with labelled source data, and score that video.

    The second stage of arXiv 2307.11438 as its reference code has it, which its abstract does not say. In each step
    the copy classifies a masked source batch, in training mode, and its mean attention on the frames is drawn to
    the unadapted network's on the unmasked batch. Frames and source faces must be aligned alike, or a mean map means
    nothing. Unlike the reference code, the optimiser starts afresh too, so that no video knows of the one before.

    Args:
        detector: trained; it is left as it is.
        frames: (F, 3, S, S) in [0, 1] of one video, F >= 1.
        source_batches: of the training data, S the same; one is drawn for each step, none twice before all have been.
        arm: "both", or its controls: "none" takes no step, "source" leaves out the attention term, "consistency" the
            classification.
        generator: of draws and masks. Give every video one of its own, seeded alike, and their order does not matter.
        steps: of AdamW, >= 0; the reference code takes 2, in a later notebook 1.
        learning_rate: of AdamW.
        flooding: see `ACMF`.
        scoring: see `video_score`.

    Raises:
        DataError: the arm needs source batches, and there are none.
    """
    if arm != "none" and not source_batches:
        raise DataError(f"no source batches: arm {arm} adapts with them")
    adapted = copy.deepcopy(detector).requires_grad_(True)
    fixed = copy.deepcopy(detector).requires_grad_(False).eval()
    size = frames.shape[-1]
    optimiser = torch.optim.AdamW(adapted.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(0 if arm == "none" else steps):
        if not len(order):
            order = torch.randperm(len(source_batches), generator=generator, device=generator.device)
        batch, order = source_batches[int(order[0])], order[1:]
        # Drawn in every arm, so that the arms see the same batches and masks.
        masked = adapted.masked_view(batch["faces"], generator)
        loss = torch.zeros((), device=frames.device)
        if arm != "consistency":
            logits = adapted.train().class_logits(adapted.front(masked))
            loss = loss + _flooded(logits, batch["labels"], flooding)
        if arm != "source":
            wanted = fixed.attention(fixed.front(batch["faces"]), size).mean(0)
            adapted.eval()
            loss = loss + functional.mse_loss(adapted.attention(adapted.front(frames), size).mean(0), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    adapted.eval()
    with torch.no_grad():
        logits = adapted.class_logits(adapted.front(frames))
    return Adapted(logits[:, 1] - logits[:, 0], video_score(logits, scoring), arm)
