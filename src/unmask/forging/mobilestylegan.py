"""Fully synthetic faces from MobileStyleGAN (Belousov 2021; distilled from StyleGAN2 on FFHQ), run by OpenVINO.

Lab only.

The network draws 1024-pixel faces; they are brought to the size of the real collections by a random kernel, so that no
one resampling filter stands for "synthetic". Every picture carries the IPTC digital source type of synthetic media.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from unmask.errors import MissingExtraError
from unmask.media.synthetic_mark import mark
from unmask.packs.assets import MOBILE_STYLEGAN, fetch

_KERNELS = (cv2.INTER_AREA, cv2.INTER_LANCZOS4, cv2.INTER_CUBIC, cv2.INTER_LINEAR)


def synthesise(
    folder: Path, count: int, seed: int = 7, size: int = 256, progress: Callable[[int], None] | None = None
) -> None:
    """Write `count` faces as `NNNNN.jpg` into a folder; those there are kept. Face N depends on seed and N alone.

    Args:
        folder: made if absent.
        count: how many faces.
        seed: of all faces.
        size: side in pixels, at most 1024.
        progress: called with the number of faces done since the last call.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        DataError: the network cannot be fetched.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("lab", "face synthesis") from error
    folder.mkdir(parents=True, exist_ok=True)
    files = {path.name: path for path in map(fetch, MOBILE_STYLEGAN)}
    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    mapping = core.compile_model(files["MappingNetwork.xml"], "CPU", options)
    synthesis = core.compile_model(files["SynthesisNetwork.xml"], "CPU", options)
    rng = np.random.default_rng(seed)
    draws = [mapping({"var": rng.standard_normal((1, 512)).astype(np.float32)})[0] for _ in range(1024)]
    mean = np.mean(draws, axis=0)
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if not path.is_file():
            own = np.random.default_rng([seed, number])
            style = mapping({"var": own.standard_normal((1, 512)).astype(np.float32)})[0]
            style = mean + own.uniform(0.5, 0.9) * (style - mean)  # truncation, as the generator's users apply it
            drawn = synthesis({"style": style})[0][0]
            picture = ((np.clip(drawn, -1, 1) + 1) * 127.5 + 0.5).astype(np.uint8).transpose(1, 2, 0)
            kernel = _KERNELS[own.integers(len(_KERNELS))]
            if kernel != cv2.INTER_AREA:  # the others alias unless the picture is softened first
                picture = cv2.GaussianBlur(picture, (0, 0), own.uniform(0.8, 1.6))
            picture = cv2.resize(picture, (size, size), interpolation=kernel)
            _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
            part = path.with_suffix(".part")
            part.write_bytes(mark(data.tobytes(), "trainedAlgorithmicMedia"))
            part.replace(path)
        if progress:
            progress(1)
