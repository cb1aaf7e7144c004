"""What every classifier of small pictures is, and `resnet`, the network of the robustness benchmarks. Lab only: torch.

ResNet-18 (He et al. 2016, arXiv 1512.03385) with the stem that is usual on CIFAR: a 3x3 convolution of stride 1 and no
pooling before the first stage. It is the CIFAR network of ANCRA (arXiv 2310.03358), whose reverse attention stands
behind both blocks of the last stage (`--ra`). It departs from ANCRA's reference code in this:

- pictures are trained on by the lab's engine: AdamW with a one-cycle rate and averaged weights, not SGD for 120 epochs;
- what is served with reverse attention are the logits behind the first of these blocks: they are as accurate, and the
  final ones only repeat the class that they chose;
- whether labels or predictions choose the masks is an argument, not the network's mode;
- the weights of the last step are kept; the reference code takes the epoch that is best under attack on the test split.

Robust training itself works on every detector as well: `unmask.lab.robust.training`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from unmask.networks.contract import Batch, Hardenable
from unmask.networks.reverse_attention import class_mask

_WITHOUT_NAMES = 10  # classes of a network that no data were named for


class Classifier(Hardenable, ABC):
    """A network that gives pictures, (B, 3, S, S) in [0, 1], the logits of classes, (B, C)."""

    task = "image_classification"
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    size = 32
    step = 8

    @abstractmethod
    def forward(self, faces: Tensor) -> Tensor:
        """The logits that are served, (B, C)."""

    def heads(self, faces: Tensor, classes: Tensor | None = None, soft: bool = False) -> tuple[Tensor, ...]:
        """As of `Hardenable`; without reverse attention the logits that are served."""
        logits: Tensor = self(faces)
        return (logits.float(),)

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The cross-entropy of the logits that are served."""
        return {"verdict": functional.cross_entropy(self(batch["faces"]).float(), batch["labels"].long())}


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, post-activation)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(inner + self.shortcut(x))


class ResNet(Classifier):
    """ResNet-18 with the stem of CIFAR: a 3x3 convolution of stride 1, four stages of two blocks, mean pooling.

    With reverse attention the two blocks of the last stage give auxiliary logits each (ANCRA, [repo]); those behind the
    first are served. All share one linear layer.

    Args:
        width: channels of the first stage; 64 in ResNet-18, every further stage has twice as many.

    Input: float32 (B, 3, S, S) RGB in [0, 1], S a multiple of 8, not normalised.
    """

    auxiliary_heads = 2
    stages = 4
    """How many there are; every one but the first halves the side."""

    def __init__(self, width: int = 64, classes: Sequence[str] = ()) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        blocks, channels = list[nn.Module](), width
        for number in range(self.stages):
            wide = width * 2**number
            blocks += [_Block(channels, wide, 1 if number == 0 else 2), _Block(wide, wide, 1)]
            channels = wide
        self.early = nn.Sequential(*blocks[:-2])
        self.last = nn.ModuleList(blocks[-2:])
        self.head = nn.Linear(channels, len(classes) or _WITHOUT_NAMES)

    def _before_last(self, faces: Tensor) -> Tensor:
        features: Tensor = self.early(self.stem(self.normalised(faces)))
        return features

    def _read(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits.float()

    def forward(self, faces: Tensor) -> Tensor:
        """The logits that are served, (B, C)."""
        features = self.last[0](self._before_last(faces))
        return self._read(features if self.reverse_attention else self.last[1](features))

    def heads(self, faces: Tensor, classes: Tensor | None = None, soft: bool = False) -> tuple[Tensor, ...]:
        """As of `Hardenable`; every block's features are masked before the next one sees them."""
        if not self.reverse_attention:
            return super().heads(faces, classes, soft)
        features, auxiliary = self._before_last(faces), []
        for block in self.last:
            features = block(features)
            auxiliary.append(self._read(features))
            features = features * class_mask(self.head.weight, auxiliary[-1], classes, soft)[:, :, None, None]
        return self._read(features), *auxiliary

    def check_reverse_attention(self) -> None:
        """It is defined for this network."""
