"""One battery for every maker of forgeries, and makers of other packages."""

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from fake_faces import find_drawn, make_mesh, make_picture

from unmask import plugins
from unmask.errors import DataError
from unmask.forging.families import known_families
from unmask.forging.makers import MAKERS, FacePicture, Forgery, Maker, Request, Setup, default_kinds, load_makers
from unmask.media.synthetic_mark import SourceType

SIZE = 96


class Scene:
    """A request with two drawn faces."""

    def __init__(self, family: str, number: int = 0) -> None:
        self.family, self.number, self.size = family, number, SIZE
        self.face = FacePicture(make_picture(SIZE, 1), make_mesh(SIZE))
        self.other = FacePicture(make_picture(SIZE, 2), make_mesh(SIZE, 0.5))
        self.donors = 0

    def donor(self, _: np.random.Generator) -> FacePicture:
        self.donors += 1
        return self.other

    def photographed(self, pixels: np.ndarray, mesh: np.ndarray | None, name: str) -> np.ndarray:
        return pixels


class DrawnFaces:
    """In place of the generator's network."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def draw(self, number: int, size: int) -> bytes:
        return bytes(cv2.imencode(".jpg", make_picture(size, self.seed + number))[1])


class DrawnStyles:
    """In place of the generator with a style for each layer."""

    layers = 23

    def style(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-1, 1, 512).astype(np.float32)

    def draw(self, styles: np.ndarray, size: int) -> np.ndarray:
        return make_picture(size, int(abs(styles.sum())))


@pytest.fixture(params=MAKERS.own)
def maker(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    weights = None
    if request.param == "resynthesis":
        torch = pytest.importorskip("torch")
        from unmask.forging import autoencoders

        class Darker(torch.nn.Module):
            def __init__(self, _: Path) -> None:
                super().__init__()

            def forward(self, x: object, jitter: float = 0.0, generator: object = None) -> object:
                return x * 0.8  # type: ignore[operator]

        monkeypatch.setattr(autoencoders, "Taef2", Darker)
    if request.param == "mobilestylegan":
        from unmask.forging.makers import mobilestylegan

        monkeypatch.setattr(mobilestylegan, "FaceGenerator", DrawnFaces)
    if request.param == "style_edit":
        from unmask.forging.makers import style_edit

        monkeypatch.setattr(style_edit, "LayeredGenerator", DrawnStyles)
    if request.param == "decoder":
        from unmask.forging.decoders import Decoder
        from unmask.forging.makers import decoder

        monkeypatch.setattr(
            decoder, "load_decoder", lambda name, weights: Decoder(name, lambda pixels, rng: pixels * 0.8)
        )
    if request.param.startswith("candide"):
        weights = request.getfixturevalue("data_dir") / "weights"
    return MAKERS.load(request.param)(Setup(SIZE, 5, find_drawn, tmp_path, weights))


def test_a_maker_keeps_the_contract(maker: Maker) -> None:
    for family in maker.families:
        for seed in range(6):
            scene = Scene(family, seed)
            before = scene.face.pixels.copy(), scene.other.pixels.copy(), scene.face.mesh.copy()
            forgery = maker.forge(np.random.default_rng(seed), scene)
            assert forgery.pixels.shape == (SIZE, SIZE, 3) and forgery.pixels.dtype == np.uint8
            assert forgery.mask.shape == (SIZE, SIZE) and 0 <= forgery.mask.min() <= forgery.mask.max() <= 1 + 1e-6
            assert forgery.mask.any() and (forgery.pixels != scene.face.pixels).any()
            assert forgery.source_type in get_args(SourceType)
            after = scene.face.pixels, scene.other.pixels, scene.face.mesh
            assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
            assert bool(scene.donors) == maker.needs_donor
            again = maker.forge(np.random.default_rng(seed), Scene(family, seed))
            assert np.array_equal(forgery.pixels, again.pixels) and np.array_equal(forgery.mask, again.mask)
            assert (forgery.flags, forgery.parameters) == (again.flags, again.parameters)


def test_the_record_of_a_family_says_whether_all_of_it_is_drawn(maker: Maker) -> None:
    for family in maker.families:
        record = known_families().get(family)
        assert record is None or record.wholly_synthetic == (family in ("mobilestylegan", "style_edit"))


def test_the_kinds_by_default_need_neither_weights_nor_a_download() -> None:
    assert default_kinds() == ("selfblend", "swap", "composite", "fingerprint")


class Dot(Maker):
    """A maker of another package: a black dot on the nose."""

    families = ("dot",)

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        face = request.face
        mask = np.zeros(face.pixels.shape[:2], np.float32)
        x, y = face.mesh[1].round().astype(int)
        cv2.circle(mask, (int(x), int(y)), int(rng.integers(3, 6)), 1.0, -1)
        pixels = np.where(mask[..., None] > 0, 0, face.pixels).astype(np.uint8)
        return Forgery(pixels, mask, "compositeSynthetic", parameters={"reach": int(mask.sum())})


class Same(Dot):
    families = ("swap",)


class Odd(Dot):
    families = ("../dot",)


def test_kinds_come_in_the_tables_order_and_others_behind_them() -> None:
    dot = f"{__name__}:Dot"
    assert tuple(load_makers([dot, "swap", "selfblend", "swap"])) == ("selfblend", "swap", dot)


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        ([], "no kind of forgery is named; name some of selfblend"),
        (["morph"], "no kind of forgery morph; name one of selfblend"),
        (["swap", f"{__name__}:Same"], "swap is made by swap too; leave one out"),
        ([f"{__name__}:Odd"], "'../dot' is no name of a family"),
    ],
)
def test_kinds_that_do_not_go_are_refused(kinds: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        load_makers(kinds)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    points = [EntryPoint("dot", f"{__name__}:Dot", "unmask.makers")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "unmask.makers" else [])
    MAKERS.__dict__.pop("installed", None)
    yield
    MAKERS.__dict__.pop("installed", None)


@pytest.mark.usefixtures("installed")
def test_an_installed_maker_has_a_name_but_is_not_used_unasked() -> None:
    assert load_makers(["dot"]) == {"dot": sys.modules[__name__].Dot}
    assert "dot" not in default_kinds()
