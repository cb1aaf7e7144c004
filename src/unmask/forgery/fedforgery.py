"""`fedforgery`: judge a face by what a learnt auto-encoder cannot reproduce.

Liu et al. 2022, "FedForgery", arXiv 2210.09563. A vector-quantised auto-encoder G and a classifier are trained
together, and the classifier sees nothing but the residual x - G(x): it is meant to keep the traces of forging and to
drop who is shown. Low reconstruction error empties the residual, the verdict's error fills it again; the weights of the
two decide how much content is left in it. The residual is no shield against adversarial pictures.

The paper trains over several organisations by federated averaging; this is the detector alone, on pooled data. The
authors released no training code. Layers, initial values and the codebook's gradient follow the reference code, the
terms of the loss what its forward pass returns; the weights of the terms are this project's. Lab only: torch, timm.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.forgery.detector import DetectorOutput, Learner
from unmask.networks.backbones import trunk
from unmask.networks.contract import Batch

_SPREAD = 0.02  # of the first weights and codes
_FIRST_GAIN = 1 / 40  # of the encoder's last normalisation: brings its outputs to the scale of the codes
_BOOST, _BOOSTED = 10.0, 1 / 3  # how much more reconstruction counts at first, and for what share of the training
_STRIDE = 8  # of the map


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """The nearest code of each vector, by Euclidean distance.

    Args:
        vectors: (..., d).
        codebook: (K, d).

    Returns:
        Indices in [0, K), (...).
    """
    # |v - e|^2 without |v|^2, which is the same for all codes. As a product: the differences themselves would take
    # K times the memory of the vectors. In single precision even where the network computes in half: codes lie close.
    with torch.autocast(vectors.device.type, enabled=False):
        vectors, codebook = vectors.float(), codebook.float()
        return (codebook.square().sum(1) - 2 * vectors @ codebook.T).argmin(-1)


def looked_up(codebook: Tensor, codes: Tensor) -> Tensor:
    """The codes of each site, such that a code's gradient is the mean, not the sum, over the sites that chose it.

    Args:
        codebook: (K, d).
        codes: indices, (...).

    Returns:
        (..., d).
    """
    rows = functional.embedding(codes, codebook)
    choosers = torch.bincount(codes.flatten(), minlength=len(codebook))[codes]
    return rows.detach() + (rows - rows.detach()) / choosers[..., None]


def boost(progress: Tensor) -> Tensor:
    """What reconstruction's weight is multiplied by: 10 at first, falling linearly to 1 over a third of the training.

    Args:
        progress: () in [0, 1], how much of the training is done.
    """
    return _BOOST - (_BOOST - 1) * (progress / _BOOSTED).clamp(max=1)


def magnitude(residual: Tensor) -> Tensor:
    """How large a residual is, |r| as a mean over channels and cells of 8 x 8; (B, 3, S, S) to (B, 1, S / 8, S / 8)."""
    return functional.avg_pool2d(residual.float().abs().mean(1, keepdim=True), _STRIDE)


class ResBlock(nn.Module):
    """x + conv1x1(f(conv3x3(f(x)))) with f a leaky ReLU; (B, width, h, w) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LeakyReLU(), nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        changed: Tensor = self.layers(x)
        return x + changed


@dataclass(frozen=True)
class Coded:
    """A picture through the auto-encoder.

    `reconstruction` (B, 3, S, S) normalised as the picture was; `encoded` (B, width, S / 4, S / 4), before it was
    replaced by codes; `codes` (B, S / 4, S / 4), the index of the code at each site.
    """

    reconstruction: Tensor
    encoded: Tensor
    codes: Tensor


class AutoEncoder(nn.Module):
    """The vector-quantised auto-encoder, as the reference code has it.

    Args:
        width: of its layers and codes, d.
        codes: in the codebook, K.

    Input: (B, 3, S, S) normalised, S a multiple of 4.
    """

    def __init__(self, width: int, codes: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(),
            ResBlock(width),
            nn.BatchNorm2d(width),
            ResBlock(width),
            last := nn.BatchNorm2d(width),
        )
        self.codebook = nn.Parameter(_SPREAD * torch.randn(codes, width))
        self.decoder = nn.Sequential(
            ResBlock(width),
            nn.BatchNorm2d(width),
            ResBlock(width),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(),
            nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1),
            nn.Tanh(),
        )
        # Normalised pixels leave [-1, 1]; this brings the reconstruction there.
        self.norm = nn.BatchNorm2d(3)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # transposed ones, no subclass of it, keep torch's first weights
                assert module.bias is not None
                nn.init.normal_(module.weight, 0, _SPREAD)
                nn.init.zeros_(module.bias)
        nn.init.constant_(last.weight, _FIRST_GAIN)

    def forward(self, x: Tensor) -> Coded:
        """Reproduce pictures. The gradient goes past the choice of codes, unchanged, and into no code."""
        encoded: Tensor = self.encoder(x)
        codes = nearest(encoded.permute(0, 2, 3, 1), self.codebook)
        chosen = functional.embedding(codes, self.codebook.detach()).permute(0, 3, 1, 2)
        decoded = self.decoder(chosen + (encoded - encoded.detach()))
        return Coded(self.norm(decoded), encoded, codes)


class FedForgery(Learner):
    """The detector.

    Its map is how large the residual is, as a mean over colours and cells of 8 x 8 pixels, less its mean over the
    training pictures' cells and divided by its standard deviation there: an average cell is at logit 0. It shows what
    the classifier is given, not what it makes of it. Before `fit_posthoc` mean and deviation are 0 and 1. Without the
    residual the map is the class-activation map at stride 32, whose mean is the logit.

    `extras`, with the residual: "reconstruction" and "residual" (B, 3, S, S), "codes" (B, S / 4, S / 4).

    Args:
        backbone: of the classifier, by timm's name; "resnet50" in the paper.
        weights: of the backbone, see `backbones`.
        residual: classify x - G(x); else x itself, without an auto-encoder: the same classifier as a plain network.
        width: of the auto-encoder; 64 in the reference code.
        codes: in its codebook.
        ce: weight of the verdict's cross-entropy.
        reconstruction: weight of the mean square of x - G(x), ten times as much at first (see `boost`).
        codebook: weight of the codes' distance to what they stand for.
        commitment: weight of the same distance as the encoder sees it.

    Input: float32 (B, 3, S, S) RGB in [0, 1]; normalised with ImageNet's mean and deviation. S is 296 in the paper.
    """

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    size = 128

    residual_mean: Tensor
    residual_std: Tensor
    code_uses: Tensor

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        weights: str = "imagenet",
        residual: bool = True,
        width: int = 64,
        codes: int = 128,
        ce: float = 1.0,
        reconstruction: float = 1.0,
        codebook: float = 1.0,
        commitment: float = 0.25,
    ) -> None:
        super().__init__()
        self.ce, self.reconstruction, self.codebook, self.commitment = ce, reconstruction, codebook, commitment
        self.autoencoder = AutoEncoder(width, codes) if residual else None
        self.trunk, features = trunk(backbone, weights=weights)
        self.head = nn.Linear(features, 2)  # real, forged
        if residual:
            self.register_buffer("residual_mean", torch.tensor(0.0))
            self.register_buffer("residual_std", torch.tensor(1.0))
            self.register_buffer("code_uses", torch.zeros(codes, dtype=torch.long), persistent=False)

    def forward(self, faces: Tensor) -> DetectorOutput:
        """Score faces, (B, 3, S, S) in [0, 1], S a multiple of 32."""
        faces = self.normalised(faces)
        if self.autoencoder is None:
            return self._of_pictures(faces)
        return self._of_residuals(faces, self.autoencoder(faces))

    def _of_pictures(self, faces: Tensor) -> DetectorOutput:
        features = self.trunk(faces)
        weight, bias = (self.head.weight[1] - self.head.weight[0]), (self.head.bias[1] - self.head.bias[0])
        activation = functional.conv2d(features, weight.view(1, -1, 1, 1), bias.view(1))
        return DetectorOutput(self._verdict(features), activation)

    def _of_residuals(self, faces: Tensor, coded: Coded) -> DetectorOutput:
        residual = faces - coded.reconstruction
        heat = (magnitude(residual) - self.residual_mean) / self.residual_std
        extras = {"reconstruction": coded.reconstruction, "residual": residual, "codes": coded.codes}
        return DetectorOutput(self._verdict(self.trunk(residual)), heat, extras)

    def _verdict(self, features: Tensor) -> Tensor:
        real, forged = self.head(features.mean((2, 3))).unbind(1)
        return forged - real

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, weighted: "verdict", and with the residual "reconstruction", "codebook", "commitment".

        Distances are Euclidean over channels, a mean over sites, as in the code that the auto-encoder comes from. They
        teach the codes and the encoder apart: neither moves the other.

        Args:
            batch: `faces` (B, 3, S, S) in [0, 1]; `labels` (B,) 0 or 1; `progress` () in [0, 1], 1 if it is missing.
        """
        faces = self.normalised(batch["faces"])
        coded = None if self.autoencoder is None else self.autoencoder(faces)
        out = self._of_pictures(faces) if coded is None else self._of_residuals(faces, coded)
        # Of the difference of two logits this is their cross-entropy.
        verdict = functional.binary_cross_entropy_with_logits(out.logit.float(), batch["labels"].float())
        losses = {"verdict": self.ce * verdict}
        if self.autoencoder is None or coded is None:
            return losses
        progress = batch["progress"] if "progress" in batch else faces.new_ones(())
        encoded = coded.encoded.float().permute(0, 2, 3, 1)
        if self.training:
            self.code_uses += torch.bincount(coded.codes.flatten(), minlength=len(self.code_uses))
        codes = looked_up(self.autoencoder.codebook, coded.codes)
        return losses | {
            "reconstruction": self.reconstruction
            * boost(progress)
            * functional.mse_loss(coded.reconstruction.float(), faces.float()),
            "codebook": self.codebook * torch.linalg.vector_norm(codes - encoded.detach(), dim=-1).mean(),
            "commitment": self.commitment * torch.linalg.vector_norm(codes.detach() - encoded, dim=-1).mean(),
        }

    def uses(self) -> dict[str, Tensor]:
        """How many sites of the training pictures took each code."""
        return {} if self.autoencoder is None else {"autoencoder.codebook": self.code_uses}

    @torch.no_grad()
    def fit_posthoc(self, training: Iterable[Batch], validation: Iterable[Batch]) -> None:
        """Learn how large the residual is on the training pictures, so that the map can be read against it."""
        if self.autoencoder is None:
            return
        sums = torch.zeros(3, dtype=torch.float64)  # of ones, values and squares
        for batch in training:
            faces = self.normalised(batch["faces"])
            cells = magnitude(faces - self.autoencoder(faces).reconstruction).cpu().double()
            sums += torch.stack([torch.ones_like(cells).sum(), cells.sum(), cells.square().sum()])
        if not sums[0]:
            return
        mean = sums[1] / sums[0]
        self.residual_mean.copy_(mean)
        self.residual_std.copy_((sums[2] / sums[0] - mean.square()).clamp(min=1e-8).sqrt())
