import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_faces import make_mesh, make_picture

from unmask.errors import DataError
from unmask.forging import decoders
from unmask.forging.decoders import (
    DECODERS,
    Decoder,
    DecoderUnavailable,
    draw_region,
    load_decoder,
    redraw,
    redraw_region,
    unavailable_decoders,
)
from unmask.forging.weight_files import WeightFile
from unmask.packs.assets import AssetUnavailable

SIZE = 96
IN_TORCH = [name for name, record in DECODERS.items() if record.engine == "torch"]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((a.astype(np.float64) - b) ** 2).mean()))


def darker() -> Decoder:
    return Decoder("darker", lambda pixels, _: pixels * 0.5)


@pytest.fixture
def random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights of the right shapes for every decoder that torch runs, and records that pin them."""
    torch = pytest.importorskip("torch")
    from unmask.forging import restoration_networks as networks

    kinds = (
        networks.SrResNet,
        networks.Rfdn,
        networks.DnCnn,
        networks.FfdNet,
        networks.BayerDemosaicker,
        networks.XtransDemosaicker,
    )
    for name, kind in zip(IN_TORCH, kinds, strict=True):
        torch.manual_seed(0)
        path = tmp_path / f"{name}.pth"
        torch.save(kind().state_dict(), path)
        pinned = WeightFile(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), "none")
        monkeypatch.setitem(DECODERS, name, replace(DECODERS[name], files=(pinned,)))
    return tmp_path


@pytest.mark.lab
@pytest.mark.parametrize("name", IN_TORCH)
def test_any_size_comes_back_redrawn_and_repeats(name: str, random_weights: Path) -> None:
    decoder = load_decoder(name, random_weights)
    for height, width in ((64, 64), (97, 70)):
        picture = make_picture(100)[:height, :width]
        plain = decoder(picture)
        drawn = [decoder(picture, np.random.default_rng(3)) for _ in range(2)]
        assert plain.shape == drawn[0].shape == picture.shape and plain.dtype == np.uint8
        assert (plain != picture).any() and (drawn[0] == drawn[1]).all() and (decoder(picture) == plain).all()


@pytest.mark.data
@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("srgan", 24), ("rfdn", 25), ("dncnn", 27), ("bayer", 36), ("xtrans", 34)])
def test_published_weights_redraw_a_photograph_faithfully(name: str, least: float, data_dir: Path) -> None:
    """Wrong weights, ranges or mosaics show as less than 20 dB."""
    pytest.importorskip("torch")
    folder = data_dir / "forensics" / "ffhq_stylegan_256" / "real"
    bgr = cv2.imread(str(sorted(folder.iterdir())[1]), cv2.IMREAD_COLOR)
    assert bgr is not None
    picture = np.ascontiguousarray(bgr[64:192, 64:192, ::-1])
    decoder = load_decoder(name, data_dir / "weights")
    assert psnr(picture, decoder(picture)) > least
    assert psnr(picture, decoder(picture, np.random.default_rng(1))) > least - 3


def test_enlarging_keeps_content_in_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With plain enlargement for a network, at every padding and scale, nothing moves."""
    grid = cv2.GaussianBlur(make_picture(200), (0, 0), 4)
    for name, record in DECODERS.items():
        if record.how != "super-resolution":
            continue
        scale, eaten = record.scale, record.padding if record.scale == 2 else 0

        def enlarge(small: np.ndarray, scale: int = scale, eaten: int = eaten) -> np.ndarray:
            large = cv2.resize(small, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            cut = eaten * scale
            return large[cut : len(large) - cut, cut : large.shape[1] - cut] if cut else large

        monkeypatch.setattr(decoders, "_torch_network", lambda *_, run=enlarge: run)
        monkeypatch.setattr(decoders, "_ncnn_network", lambda *_, run=enlarge: run)
        monkeypatch.setattr(decoders.DecoderRecord, "find", lambda *_: (tmp_path, tmp_path))
        decoder = load_decoder(name, tmp_path)
        for rng in (None, np.random.default_rng(0), np.random.default_rng(1)):
            assert psnr(grid[:90, :121], decoder(grid[:90, :121], rng)) > 38, name


def test_a_region_alone_is_redrawn() -> None:
    picture = make_picture(SIZE)
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[40:60, 30:70] = 1
    seen: list[tuple[int, ...]] = []
    decoder = Decoder("seen", lambda pixels, _: seen.append(pixels.shape) or pixels * 0)  # type: ignore[func-returns-value]
    out = redraw_region(np.random.default_rng(0), picture, mask, decoder)
    assert (out[mask == 1] == 0).all() and (out[mask == 0] == picture[mask == 0]).all()
    assert min(seen[0][:2]) >= 64 and seen[0] != picture.shape  # the region and its surroundings, not the picture
    corner = np.zeros_like(mask)
    corner[-3:, -3:] = 1
    assert (redraw_region(np.random.default_rng(0), picture, corner, darker())[:-3] == picture[:-3]).all()


def test_regions_are_of_every_sort() -> None:
    parts = {"nose": np.zeros((SIZE, SIZE), bool), "hair": np.zeros((SIZE, SIZE), bool)}
    parts["nose"][50:60, 40:50] = parts["hair"][:20] = True
    rng, mesh, names = np.random.default_rng(0), make_mesh(SIZE), Counter[str]()
    for _ in range(200):
        mask, name = draw_region(rng, (SIZE, SIZE, 3), mesh, parts)
        names[name] += 1
        assert mask.dtype == np.float32 and mask.min() >= 0 and 0.5 < mask.max() <= 1
        assert (mask == 1).all() == (name == "picture")
        assert name not in parts or mask[parts[name]].mean() > 0.5
    assert set(names) == {"picture", "face", "blended", *parts}
    assert {draw_region(rng, (SIZE, SIZE, 3), mesh)[1] for _ in range(50)} == {"picture", "face", "blended"}


def test_a_forgery_differs_from_its_twin_within_its_mask() -> None:
    picture, mesh = make_picture(SIZE), make_mesh(SIZE)
    for seed in range(10):
        forged, mask = redraw(np.random.default_rng(seed), picture, mesh, darker())
        again, _ = redraw(np.random.default_rng(seed), picture, mesh, darker())
        assert (forged[mask == 0] == picture[mask == 0]).all() and (forged[mask > 0.9] < picture[mask > 0.9]).any()
        assert (forged == again).all()


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(asset: object, *_: object) -> Path:
        raise AssetUnavailable("no network")

    monkeypatch.setattr(decoders, "fetch", offline)
    monkeypatch.setattr(decoders, "find_spec", lambda _: None)
    reasons = unavailable_decoders(tmp_path)
    assert reasons.keys() == DECODERS.keys()
    assert "restoration/srgan_x4.pth" in reasons["srgan"] and "no network" in reasons["ffdnet"]
    assert "ncnn" in reasons["span"]
    assert unavailable_decoders(None, ["srgan"]).keys() == {"srgan"}
    with pytest.raises(DecoderUnavailable):
        load_decoder("srgan", tmp_path)
    monkeypatch.setattr(decoders, "find_spec", lambda _: True)
    assert "no network" in unavailable_decoders(tmp_path)["span"]


def test_a_file_of_another_hash_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "restoration").mkdir()
    (tmp_path / "restoration" / "srgan_x4.pth").write_bytes(b"other weights")
    for use in (unavailable_decoders, lambda weights: load_decoder("srgan", weights)):
        with pytest.raises(DataError, match=r"srgan_x4\.pth") as error:
            use(tmp_path)
        assert not isinstance(error.value, DecoderUnavailable)


def test_an_unknown_decoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'vae'.*srgan"):
        load_decoder("vae", tmp_path)


@pytest.mark.lab
def test_an_autoencoder_is_a_decoder_too() -> None:
    pytest.importorskip("torch")
    from unmask.forging.autoencoders import AUTOENCODER_BANK, Autoencoder

    decoder = decoders.autoencoder_decoder("tiny", Autoencoder(AUTOENCODER_BANK[1]).eval())
    picture = make_picture(100)[:66, :75]
    assert decoder(picture).shape == picture.shape and (decoder(picture) == decoder(picture)).all()
    drawn = decoder(picture, np.random.default_rng(0))
    assert drawn.shape == picture.shape and (drawn != picture).any()
