"""A bank of published networks that redraw a picture, each with its own kind of decoder; a family of forgeries each.

A forgery out of it and its real twin show the same content: what differs is what the network leaves in the pixels. The
super-resolution networks draw a picture anew from a smaller copy of it, the denoisers from a noisy one, and the
demosaickers from one value a pixel. `redraw` applies one to the whole picture, the face, a parsed part
(`unmask.forging.parsing`) or a blended region.

Weights come from a folder of the user's or from registry packages (`unmask.packs.assets`), pinned by hash. Lab only:
torch, and for some networks ncnn, are loaded when a decoder is.

Pictures are uint8 (H, W, 3) RGB; masks float32 (H, W) in [0, 1], 1 where pixels are redrawn; meshes (468, 2) in pixels.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from PIL import Image

from unmask.errors import DataError, MissingExtraError
from unmask.faces.mesh import region_mask
from unmask.forging.blending import blend, blending_mask
from unmask.forging.weight_files import WeightFile
from unmask.packs.assets import (
    FFDNET,
    REAL_CUGAN,
    REAL_ESR_COMPACT,
    REAL_ESRGAN,
    SPAN,
    WAIFU2X_CUNET,
    WAIFU2X_UPCONV,
    Asset,
    AssetUnavailable,
    fetch,
)

if TYPE_CHECKING:
    from torch import nn

Network = Callable[[np.ndarray], np.ndarray]
"""From float32 (H, W, C) to float32 (H', W', C)."""

_KERNELS = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BILINEAR, Image.Resampling.BOX)
_SIGMA = 25.0  # grey values of noise that DnCNN was trained on
_MARGIN = 12  # pixels about a region that its decoder sees as well
_LEAST = 64  # pixels: no decoder is given less
_BORDER = 6  # pixels reflected about a picture for a network that would else see zeros; X-Trans repeats every six

# One character a photosite; a mosaic keeps that colour alone.
_BAYER = ("GR", "BG")
_XTRANS = ("GBGGRG", "RGRBGB", "GBGGRG", "GRGGBG", "BGBRGR", "GRGGBG")


class Decoder:
    """A network that redraws a picture.

    Attributes:
        name: as in `DECODERS`.
    """

    def __init__(self, name: str, redrawn: Callable[[np.ndarray, np.random.Generator | None], np.ndarray]) -> None:
        self.name = name
        self._redrawn = redrawn

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """The picture redrawn.

        Args:
            pixels: uint8 (H, W, 3) RGB, sides of 64 or more.
            rng: draws how it is prepared for the network; None for the way the network was trained on.

        Returns:
            uint8 (H, W, 3).
        """
        drawn = self._redrawn(pixels.astype(np.float32) / 255, rng)
        return (np.clip(drawn, 0, 1) * 255 + 0.5).astype(np.uint8)


@dataclass(frozen=True)
class DecoderRecord:
    """What is known of a decoder.

    Attributes:
        name: of the decoder; "decoder-NAME" is its family.
        source: who published it.
        how: what the network is given: a smaller picture, a noisy one, or a mosaic.
        files: its weights.
        engine: what runs it.
        scale: of super-resolution.
        padding: pixels reflected about the small picture; a network of unpadded convolutions takes them away.
        ends: names of the first and last blob of a network in ncnn's format.
    """

    name: str
    source: str
    how: Literal["super-resolution", "denoising", "demosaicking"]
    files: tuple[WeightFile | Asset, ...]
    engine: Literal["torch", "ncnn"] = "torch"
    scale: int = 4
    padding: int = 4
    ends: tuple[str, str] = ("data", "output")

    @property
    def family(self) -> str:
        """The family of what it redraws."""
        return f"decoder-{self.name}"

    def find(self, weights: Path | None) -> tuple[Path, ...]:
        """Its files, checked; those of packages are fetched.

        Args:
            weights: folder of the user's.

        Raises:
            DecoderUnavailable: a file or a library is not there.
            DataError: a file has another hash than the one pinned.
        """
        if self.engine == "ncnn" and find_spec("ncnn") is None:
            raise DecoderUnavailable(str(MissingExtraError("lab", f"{self.name} (run by ncnn)")))
        paths = []
        for file in self.files:
            if isinstance(file, WeightFile):
                path = file.find(weights)
                if path is None:
                    raise DecoderUnavailable(f"{file.path} is not in {weights or 'any folder named by --weights'}")
            else:
                try:
                    path = fetch(file, *(other for other in self.files if isinstance(other, Asset) and other != file))
                except AssetUnavailable as error:
                    raise DecoderUnavailable(str(error)) from error
            paths.append(path)
        return tuple(paths)


class DecoderUnavailable(DataError):
    """A decoder cannot be used here; the message says what is not there."""


def _restoration(name: str, sha256: str) -> tuple[WeightFile]:
    return (WeightFile(f"restoration/{name}.pth", sha256, "MIT"),)


def _demosaicker(name: str, sha256: str) -> tuple[WeightFile]:
    return (WeightFile(f"demosaicnet/{name}.pth", sha256, "MIT"),)


DECODERS = {
    record.name: record
    for record in (
        DecoderRecord(
            "srgan",
            "SRGAN (Ledig et al., CVPR 2017): residual blocks, pixel shuffle, adversarial",
            "super-resolution",
            _restoration("srgan_x4", "010d4261170050d2cfe5d575078bf67f1a5736d4837ec2987c994c021de22b57"),
        ),
        DecoderRecord(
            "rfdn",
            "RFDN (Liu et al., ECCV workshops 2020): feature distillation, pixel shuffle",
            "super-resolution",
            _restoration("rfdn_x4", "11af8ec8ebd68689e90ef1e29044f9804c72d3bd9f7573820b7b26035782760c"),
        ),
        DecoderRecord(
            "dncnn",
            "DnCNN (Zhang et al., TIP 2017): 17 plain layers, luma alone",
            "denoising",
            _restoration("dncnn_25", "0451a70de9b672ae037270498fbb1c17a1c1c4403785df586ff65df5b858e5b0"),
        ),
        DecoderRecord("ffdnet", "FFDNet (Zhang et al., TIP 2018): 12 layers at half size", "denoising", (FFDNET,)),
        DecoderRecord(
            "bayer",
            "demosaicnet (Gharbi et al., SIGGRAPH Asia 2016), Bayer pattern",
            "demosaicking",
            _demosaicker("bayer", "a90f45c34b89fea3faf49060687839a7d191d302f597a302b31d1bbc021ff7d8"),
        ),
        DecoderRecord(
            "xtrans",
            "demosaicnet (Gharbi et al., SIGGRAPH Asia 2016), X-Trans pattern",
            "demosaicking",
            _demosaicker("xtrans", "3759a13296fecebae83a36a8f0c3890d8a2f7d33e5f8149ed9b76a70f8285bc7"),
        ),
        DecoderRecord(
            "span",
            "SPAN (Wan et al., CVPR workshops 2024): attention without parameters",
            "super-resolution",
            SPAN,
            "ncnn",
        ),
        DecoderRecord(
            "realesrgan",
            "Real-ESRGAN (Wang et al., ICCV workshops 2021): dense blocks, nearest neighbours, adversarial",
            "super-resolution",
            REAL_ESRGAN,
            "ncnn",
        ),
        DecoderRecord(
            "realesr-compact",
            "Real-ESRGAN (Wang et al. 2021), the compact network for animation video",
            "super-resolution",
            REAL_ESR_COMPACT,
            "ncnn",
        ),
        DecoderRecord(
            "realcugan",
            "Real-CUGAN (2022): cascaded U-Nets with squeeze and excitation",
            "super-resolution",
            REAL_CUGAN,
            "ncnn",
            scale=2,
            padding=18,
            ends=("in0", "out0"),
        ),
        DecoderRecord(
            "waifu2x-upconv",
            "waifu2x (nagadomi 2015), the network for photographs: one transposed convolution",
            "super-resolution",
            WAIFU2X_UPCONV,
            "ncnn",
            scale=2,
            padding=7,
            ends=("Input1", "Eltwise4"),
        ),
        DecoderRecord(
            "waifu2x-cunet",
            "waifu2x (nagadomi 2018): cascaded U-Nets",
            "super-resolution",
            WAIFU2X_CUNET,
            "ncnn",
            scale=2,
            padding=18,
            ends=("Input1", "Eltwise4"),
        ),
    )
}
"""The bank by name."""


def unavailable_decoders(weights: Path | None, names: Iterable[str] = tuple(DECODERS)) -> dict[str, str]:
    """Those of some decoders that cannot be used here, each with what is not there. Loads no network.

    Args:
        weights: folder of the user's, laid out as `WeightFile.path` says.
        names: of the decoders.

    Raises:
        DataError: a name is unknown, or a file has another hash than the one pinned.
    """
    reasons = {}
    for name in names:
        try:
            _record(name).find(weights)
        except DecoderUnavailable as reason:
            reasons[name] = str(reason)
    return reasons


def load_decoder(name: str, weights: Path | None) -> Decoder:
    """A decoder of the bank, on the CPU.

    Args:
        name: as in `DECODERS`.
        weights: folder of the user's.

    Raises:
        DecoderUnavailable: a file or a library is not there.
        DataError: the name is unknown, or a file has another hash than the one pinned.
        MissingExtraError: torch is not installed.
    """
    record = _record(name)
    files = record.find(weights)
    if record.engine == "ncnn":
        param, binary = files
        network = _ncnn_network(param, binary, record.ends)
    else:
        try:
            network = _torch_network(record, files[0])
        except ModuleNotFoundError as error:
            raise MissingExtraError("lab", f"the decoder {name}") from error
    if record.how == "denoising":
        return Decoder(name, _denoiser(network, one_channel=name == "dncnn"))
    if record.how == "demosaicking":
        return Decoder(name, _demosaicker_of(network, _BAYER if name == "bayer" else _XTRANS))
    return Decoder(name, _enlarger(network, record))


def autoencoder_decoder(name: str, net: "nn.Module") -> Decoder:
    """An autoencoder as a decoder: one of `unmask.forging.autoencoders`' bank, or `Taef2`.

    Args:
        name: for it.
        net: from float (B, 3, H, W) in [0, 1] to the same, H and W multiples of 8; in evaluation mode, on the CPU.
    """
    import torch

    from unmask.forging.autoencoders import resynthesise

    def redrawn(pixels: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        seed = 0 if rng is None else int(rng.integers(2**31))
        padded, crop = _padded(pixels, 0, 8)
        batch = torch.from_numpy(padded).permute(2, 0, 1)[None]
        drawn = net(batch) if rng is None else resynthesise(net, batch, torch.Generator().manual_seed(seed))
        return crop(drawn[0].permute(1, 2, 0).numpy())

    def without_gradients(pixels: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        with torch.inference_mode():
            return redrawn(pixels, rng)

    return Decoder(name, without_gradients)


def draw_region(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    mesh: np.ndarray,
    parts: Mapping[str, np.ndarray] | None = None,
) -> tuple[np.ndarray, str]:
    """Where to redraw: the whole picture (35 %), the face (20 %), a parsed part (20 %), or a blended region.

    Args:
        rng: to draw from.
        shape: of the picture, (H, W, ...).
        mesh: (468, 2) pixels.
        parts: masks by name, bool (H, W), as `unmask.forging.parsing.part_masks` gives them; blended regions stand in
            for them if left out.

    Returns:
        mask: float32 (H, W) in [0, 1].
        name: "picture", "face", "blended", or the part's.
    """
    draw, face = rng.random(), float(np.ptp(mesh[:, 0]))
    if draw < 0.35:
        return np.ones(shape[:2], np.float32), "picture"
    if draw < 0.55:
        grow = float(rng.uniform(0.0, 0.1))
        return _softened(rng, region_mask(shape, mesh, "face", grow), face), "face"
    if draw < 0.75 and parts:
        name = sorted(parts)[rng.integers(len(parts))]
        reach = int(rng.integers(0, 1 + max(1, round(0.04 * face))))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        return _softened(rng, cv2.dilate(parts[name].astype(np.uint8), kernel), face), name
    return blending_mask(rng, shape, mesh), "blended"


def redraw_region(rng: np.random.Generator, pixels: np.ndarray, mask: np.ndarray, decoder: Decoder) -> np.ndarray:
    """A picture with a region redrawn; the decoder sees the region and a margin about it alone.

    Args:
        rng: for the decoder.
        pixels: uint8 (H, W, 3).
        mask: float32 (H, W) in [0, 1].
        decoder: of the bank.

    Returns:
        uint8 (H, W, 3).
    """
    rows, columns = (_span(mask.max(axis=axis)) for axis in (1, 0))
    window = np.ascontiguousarray(pixels[rows, columns])
    out = pixels.copy()
    out[rows, columns] = blend(window, decoder(window, rng), mask[rows, columns])
    return out


def redraw(
    rng: np.random.Generator,
    pixels: np.ndarray,
    mesh: np.ndarray,
    decoder: Decoder,
    parts: Mapping[str, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A forgery by a decoder, somewhere in a picture (`draw_region`).

    Args:
        rng: for everything random.
        pixels: uint8 (S, S, 3), S 64 or more.
        mesh: (468, 2) pixels.
        decoder: of the bank.
        parts: parsed parts of the face, bool (S, S) by name.

    Returns:
        pixels: uint8 (S, S, 3).
        mask: float32 (S, S) in [0, 1].
    """
    mask, _ = draw_region(rng, pixels.shape, mesh, parts)
    return redraw_region(rng, pixels, mask, decoder), mask


def _record(name: str) -> DecoderRecord:
    if name not in DECODERS:
        raise DataError(f"no decoder {name!r}; decoders are {', '.join(DECODERS)}")
    return DECODERS[name]


def _span(used: np.ndarray) -> slice:
    """The rows (or columns) of a region with its margin, at least `_LEAST` where the picture has them."""
    at = np.flatnonzero(used)
    first, last = (int(at[0]), int(at[-1]) + 1) if len(at) else (0, 0)
    first, last = max(0, first - _MARGIN), min(len(used), last + _MARGIN)
    missing = max(0, _LEAST - (last - first))
    first = max(0, min(first - missing // 2, len(used) - _LEAST))
    return slice(first, max(last, min(len(used), first + _LEAST)))


def _softened(rng: np.random.Generator, hard: np.ndarray, face: float) -> np.ndarray:
    soft = cv2.GaussianBlur(hard.astype(np.float32), (0, 0), max(0.5, float(rng.uniform(0.005, 0.03)) * face))
    return np.minimum(soft, 1)


def _padded(pixels: np.ndarray, border: int, multiple: int) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """A picture with reflected borders, its sides multiples of something, and what takes the borders off again."""
    height, width = pixels.shape[:2]
    bottom, right = (-(side + 2 * border) % multiple for side in (height, width))
    padded = cv2.copyMakeBorder(
        pixels, border, border + bottom, border, border + right, borderType=cv2.BORDER_REFLECT_101
    )
    return padded.reshape(*padded.shape[:2], -1), lambda out: out[border : border + height, border : border + width]


def _enlarger(
    network: Network, record: DecoderRecord
) -> Callable[[np.ndarray, np.random.Generator | None], np.ndarray]:
    """Redraws from a copy that is smaller by the network's scale, or by less: then the network's picture is reduced."""

    def redrawn(pixels: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        height, width = pixels.shape[:2]
        factor, kernel = float(record.scale), Image.Resampling.BICUBIC
        if rng is not None:
            factor *= 1.0 if rng.random() < 0.5 else float(rng.uniform(0.7, 1.0))
            kernel = _KERNELS[rng.integers(len(_KERNELS))]
        size = (max(16, round(width / factor)), max(16, round(height / factor)))
        whole = Image.fromarray((pixels * 255 + 0.5).astype(np.uint8))
        small = np.asarray(whole.resize(size, kernel), np.float32) / 255
        pad = record.padding
        # Even sides, as cascaded U-Nets need them.
        even = (-size[1] % 2, -size[0] % 2)
        around = cv2.copyMakeBorder(small, pad, pad + even[0], pad, pad + even[1], borderType=cv2.BORDER_REFLECT_101)
        drawn = network(around)
        # What is left of the padding is the same on both sides; U-Nets have taken theirs away.
        left = (drawn.shape[0] - record.scale * (size[1] + even[0])) // 2
        drawn = drawn[left:, left:][: record.scale * size[1], : record.scale * size[0]]
        if drawn.shape[:2] == (height, width):
            return drawn
        return cv2.resize(np.ascontiguousarray(drawn), (width, height), interpolation=cv2.INTER_AREA)

    return redrawn


def _denoiser(network: Network, one_channel: bool) -> Callable[[np.ndarray, np.random.Generator | None], np.ndarray]:
    """Adds noise and takes it away; DnCNN's luma alone."""

    def redrawn(pixels: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        noise = rng or np.random.default_rng(0)
        padded, crop = _padded(pixels, _BORDER, 2)
        if one_channel:
            parts = cv2.cvtColor(padded, cv2.COLOR_RGB2YCrCb)
            grain = noise.normal(0, _SIGMA / 255, parts.shape[:2]).astype(np.float32)
            parts[..., 0] = np.clip(network((parts[..., 0] + grain)[..., None])[..., 0], 0, 1)
            return crop(cv2.cvtColor(parts, cv2.COLOR_YCrCb2RGB))
        grain = noise.normal(0, _SIGMA / 255, padded.shape).astype(np.float32)
        return crop(network(padded + grain))

    return redrawn


def _demosaicker_of(
    network: Network, pattern: tuple[str, ...]
) -> Callable[[np.ndarray, np.random.Generator | None], np.ndarray]:
    """Keeps one colour a photosite and has the others drawn; the pattern begins anywhere if drawn."""
    side = len(pattern)
    tile = np.array([[[float(colour == letter) for letter in "RGB"] for colour in row] for row in pattern], np.float32)

    def redrawn(pixels: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        down, right = (0, 0) if rng is None else (int(step) for step in rng.integers(0, side, 2))
        moved = cv2.copyMakeBorder(pixels, down, 0, right, 0, borderType=cv2.BORDER_REFLECT_101)
        padded, crop = _padded(moved, _BORDER, side)
        repeats = (padded.shape[0] // side, padded.shape[1] // side, 1)
        return crop(network(padded * np.tile(tile, repeats)))[down:, right:]

    return redrawn


def _torch_network(record: DecoderRecord, file: Path) -> Network:
    import torch

    from unmask.forging import restoration_networks as networks

    kinds: dict[str, type[nn.Module]] = {
        "srgan": networks.SrResNet,
        "rfdn": networks.Rfdn,
        "dncnn": networks.DnCnn,
        "ffdnet": networks.FfdNet,
        "bayer": networks.BayerDemosaicker,
        "xtrans": networks.XtransDemosaicker,
    }
    net = kinds[record.name]()
    net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    net.eval().to(memory_format=torch.channels_last)
    more = (_SIGMA / 255,) if record.name == "ffdnet" else ()
    unit = 255.0 if record.name == "rfdn" else 1.0  # it was trained on grey values

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None] * unit
            drawn = net(batch.contiguous(memory_format=torch.channels_last), *more)[0] / unit
            return drawn.permute(1, 2, 0).contiguous().numpy()

    return run


def _ncnn_network(param: Path, weights: Path, ends: tuple[str, str]) -> Network:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    if net.load_param(str(param)) != 0 or net.load_model(str(weights)) != 0:
        raise DataError(f"{param} and {weights.name} cannot be read by ncnn {ncnn.__version__}; update ncnn")

    def run(pixels: np.ndarray) -> np.ndarray:
        channels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        extractor: Any = net.create_extractor()
        # The matrix is a view of the array, which must live until it is copied.
        extractor.input(ends[0], ncnn.Mat(channels).clone())
        _, drawn = extractor.extract(ends[1])
        return np.array(drawn).transpose(1, 2, 0)

    return run
