"""Fully synthetic faces from MobileStyleGAN (Belousov 2021; distilled from StyleGAN2 on FFHQ), run by OpenVINO.

Lab only.

The network draws 1024-pixel faces; they are brought to the size of the real collections by a random kernel, so that no
one resampling filter stands for "synthetic". Every picture carries the IPTC digital source type of synthetic media.
"""

from pathlib import Path

import cv2
import numpy as np

from unmask.errors import MissingExtraError
from unmask.files import whole
from unmask.media.synthetic_mark import mark
from unmask.packs.assets import MOBILE_STYLEGAN, fetch
from unmask.progress import SILENT, Progress

_KERNELS = (cv2.INTER_AREA, cv2.INTER_LANCZOS4, cv2.INTER_CUBIC, cv2.INTER_LINEAR)


class FaceGenerator:
    """The network, ready to draw. Face N depends on seed and N alone.

    Args:
        seed: of all faces, 0 or more.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        DataError: the network cannot be fetched.
    """

    def __init__(self, seed: int) -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingExtraError("lab", "face synthesis") from error
        files = {path.name: path for path in map(fetch, MOBILE_STYLEGAN)}
        core = openvino.Core()
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        self._mapping = core.compile_model(files["MappingNetwork.xml"], "CPU", options)
        self._synthesis = core.compile_model(files["SynthesisNetwork.xml"], "CPU", options)
        self._seed = seed
        rng = np.random.default_rng(seed)
        self._mean = np.mean([self._style(rng) for _ in range(1024)], axis=0)

    def _style(self, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(self._mapping({"var": rng.standard_normal((1, 512)).astype(np.float32)})[0])

    def draw(self, number: int, size: int) -> bytes:
        """Face `number` as a marked JPEG file, `size` (at most 1024) pixels wide and high."""
        rng = np.random.default_rng([self._seed, number])
        style = self._style(rng)
        # Truncation, as the generator's users apply it.
        style = self._mean + rng.uniform(0.5, 0.9) * (style - self._mean)
        drawn = self._synthesis({"style": style})[0][0]
        picture = ((np.clip(drawn, -1, 1) + 1) * 127.5 + 0.5).astype(np.uint8).transpose(1, 2, 0)
        kernel = _KERNELS[rng.integers(len(_KERNELS))]
        if kernel != cv2.INTER_AREA:  # the others alias unless the picture is softened first
            picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 1.6))
        picture = cv2.resize(picture, (size, size), interpolation=kernel)
        _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
        return mark(data.tobytes(), "trainedAlgorithmicMedia")


def synthesise(folder: Path, count: int, seed: int = 7, size: int = 256, progress: Progress = SILENT) -> None:
    """Write `count` faces as `NNNNN.jpg` into a folder; those there are kept. Face N depends on seed and N alone.

    Args:
        folder: made if absent.
        count: how many faces.
        seed: of all faces.
        size: side in pixels, at most 1024.
        progress: updated for every face.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        DataError: the network cannot be fetched, or the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = FaceGenerator(seed)
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if not path.is_file():
            with whole(path) as part:
                part.write_bytes(generator.draw(number, size))
        progress.update("drawing faces", number + 1, count)
