"""Published networks that redraw a picture: super-resolution, denoising and demosaicking. Lab only: torch.

Each is built as its authors published it, with the names of their weights, and takes and gives float (B, 3, H, W) in
[0, 1] (DnCNN one channel instead of three). `unmask.forging.decoders` prepares their input and loads their weights.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class _SrBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU()
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))


class _SrUpsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.prelu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(functional.pixel_shuffle(self.conv(x), 2))


class SrResNet(nn.Module):
    """The generator of SRGAN (Ledig et al., CVPR 2017), four times up: five residual blocks and two pixel shuffles."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(3, 64, 9, padding=4), nn.PReLU())
        for number in range(2, 7):
            self.add_module(f"block{number}", _SrBlock(64))
        self.block7 = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.PReLU())
        self.block8 = nn.Sequential(_SrUpsample(64), _SrUpsample(64), nn.Conv2d(64, 3, 9, padding=4))

    def forward(self, x: Tensor) -> Tensor:
        """Four times as wide and high."""
        first = y = self.block1(x)
        for number in range(2, 8):
            y = self.get_submodule(f"block{number}")(y)
        return (torch.tanh(self.block8(first + y)) + 1) / 2


class _SpatialAttention(nn.Module):
    def __init__(self, channels: int, narrow: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, narrow, 1)
        self.conv_f = nn.Conv2d(narrow, narrow, 1)
        self.conv_max = nn.Conv2d(narrow, narrow, 3, padding=1)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride=2)
        self.conv3 = nn.Conv2d(narrow, narrow, 3, padding=1)
        self.conv3_ = nn.Conv2d(narrow, narrow, 3, padding=1)
        self.conv4 = nn.Conv2d(narrow, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(x)
        pooled = functional.max_pool2d(self.conv2(first), 7, 3)
        coarse = self.conv3_(functional.relu(self.conv3(functional.relu(self.conv_max(pooled)))))
        coarse = functional.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.conv4(coarse + self.conv_f(first)))


class _DistillationBlock(nn.Module):
    def __init__(self, channels: int, distilled: int) -> None:
        super().__init__()
        for step in ("c1", "c2", "c3"):
            self.add_module(f"{step}_d", nn.Conv2d(channels, distilled, 1))
            self.add_module(f"{step}_r", nn.Conv2d(channels, channels, 3, padding=1))
        self.c4 = nn.Conv2d(channels, distilled, 3, padding=1)
        self.c5 = nn.Conv2d(4 * distilled, channels, 1)
        self.esa = _SpatialAttention(channels, 12)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for step in ("c1", "c2", "c3"):
            kept.append(functional.leaky_relu(self.get_submodule(f"{step}_d")(x), 0.05))
            x = functional.leaky_relu(self.get_submodule(f"{step}_r")(x) + x, 0.05)
        kept.append(functional.leaky_relu(self.c4(x), 0.05))
        return self.esa(self.c5(torch.cat(kept, 1)))


class Rfdn(nn.Module):
    """Residual feature distillation (Liu et al., ECCV workshops 2020), four times up; H and W at least 19."""

    def __init__(self) -> None:
        super().__init__()
        self.fea_conv = nn.Conv2d(3, 50, 3, padding=1)
        for number in range(1, 5):
            self.add_module(f"B{number}", _DistillationBlock(50, 25))
        self.c = nn.Sequential(nn.Conv2d(200, 50, 1), nn.LeakyReLU(0.05))
        self.LR_conv = nn.Conv2d(50, 50, 3, padding=1)
        self.upsampler = nn.Sequential(nn.Conv2d(50, 48, 3, padding=1), nn.PixelShuffle(4))

    def forward(self, x: Tensor) -> Tensor:
        """Four times as wide and high."""
        first = y = self.fea_conv(x)
        steps = [y := self.get_submodule(f"B{number}")(y) for number in range(1, 5)]
        return self.upsampler(self.LR_conv(self.c(torch.cat(steps, 1))) + first)


class DnCnn(nn.Module):
    """DnCNN (Zhang et al., TIP 2017) for grey pictures with noise of one strength: 17 layers that predict the noise."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, 64, 3, padding=1)]
        for _ in range(15):
            layers += [nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)]
        self.model = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(64, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) without its noise."""
        return x - self.model(x)


class FfdNet(nn.Module):
    """FFDNet (Zhang et al., TIP 2018) for colour pictures: 12 layers at half the size, told how strong the noise is."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(13, 96, 3, padding=1)]
        for _ in range(10):
            layers += [nn.ReLU(), nn.Conv2d(96, 96, 3, padding=1)]
        self.model = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(96, 12, 3, padding=1))

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        """Pictures without noise of a standard deviation `sigma` in [0, 1]; H and W even."""
        small = functional.pixel_unshuffle(x, 2)
        strength = torch.full_like(small[:, :1], sigma)
        return functional.pixel_shuffle(self.model(torch.cat([small, strength], 1)), 2)


class BayerDemosaicker(nn.Module):
    """Deep joint demosaicking (Gharbi et al., SIGGRAPH Asia 2016), Bayer pattern; H and W even."""

    def __init__(self) -> None:
        super().__init__()
        self.main_processor = nn.Sequential()
        self.main_processor.add_module("pack_mosaic", nn.Conv2d(3, 4, 2, stride=2))
        for number in range(1, 16):
            into, out = (4 if number == 1 else 64), (128 if number == 15 else 64)
            self.main_processor.add_module(f"conv{number}", nn.Conv2d(into, out, 3, padding=1))
            self.main_processor.add_module(f"relu{number}", nn.ReLU())
        self.residual_predictor = nn.Conv2d(64, 12, 1)
        self.upsampler = nn.ConvTranspose2d(12, 3, 2, stride=2, groups=3)
        self.fullres_processor = _full_resolution(6)

    def forward(self, mosaic: Tensor) -> Tensor:
        """All colours of a mosaic: (B, 3, H, W) with zeros where a photosite has another colour."""
        values, gates = self.main_processor(mosaic).chunk(2, 1)
        drawn = self.upsampler(self.residual_predictor(values * gates))
        return self.fullres_processor(torch.cat([mosaic, drawn], 1))


class XtransDemosaicker(nn.Module):
    """Deep joint demosaicking (Gharbi et al., SIGGRAPH Asia 2016), Fuji's X-Trans pattern."""

    def __init__(self) -> None:
        super().__init__()
        self.main_processor = nn.Sequential()
        for number in range(1, 12):
            self.main_processor.add_module(f"conv{number}", nn.Conv2d(3 if number == 1 else 64, 64, 3, padding=1))
            self.main_processor.add_module(f"relu{number}", nn.ReLU())
        self.fullres_processor = _full_resolution(67)

    def forward(self, mosaic: Tensor) -> Tensor:
        """All colours of a mosaic: (B, 3, H, W) with zeros where a photosite has another colour."""
        return self.fullres_processor(torch.cat([mosaic, self.main_processor(mosaic)], 1))


def _full_resolution(channels: int) -> nn.Sequential:
    layers = nn.Sequential()
    layers.add_module("post_conv", nn.Conv2d(channels, 64, 3, padding=1))
    layers.add_module("post_relu", nn.ReLU())
    layers.add_module("output", nn.Conv2d(64, 3, 1))
    return layers
