"""Drawn concepts as a set: what all styles draw, on white, finished, as classes; with packages made here."""

import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from unmask.datasets.sketch_sets import read_items
from unmask.errors import DataError
from unmask.lab.search import concepts
from unmask.lab.search.concepts import ConceptPictures, draw_concepts

pytestmark = pytest.mark.lab
SQUARE = '<path fill="{}" d="M8 8h16v16H8z"/>'


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(data)
            out.addfile(entry, io.BytesIO(data))
    return path


def webp() -> bytes:
    """A red square, half of it opaque."""
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[16:48, 16:48] = (0, 0, 255, 255)
    return cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()


@pytest.fixture(autouse=True)
def _packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three things: one that all draw, one that OpenMoji lacks, and a flag, which is no thing."""
    names = {"1f436": "dog", "1f6aa-fe0f": "door", "1f3f4": "black-flag"}
    groups = {group: [] for group in concepts.GROUPS} | {"Objects": ["door", "dog"], "Flags": ["black-flag"]}

    def icons(colour: str) -> bytes:
        drawn = {name: {"body": SQUARE.format(colour)} for name in names.values()}
        return json.dumps({"icons": drawn, "width": 32, "height": 32}).encode()

    text = {"chars.json": json.dumps(names).encode(), "metadata.json": json.dumps({"categories": groups}).encode()}
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{SQUARE.format("#000")}</svg>'.encode()
    packages = {
        concepts.FLUENT_GLYPHS: {"icons.json": icons("currentColor")},
        concepts.FLUENT_FLAT: {"icons.json": icons("#00f"), **text},
        concepts.FLUENT_3D: {f"assets/{code}.webp": webp() for code in names},
        concepts.OPENMOJI: {"black/svg/1F436.svg": svg, "black/svg/1F3F4.svg": svg, "color/svg/1F6AA.svg": svg},
    }
    paths = {
        asset: archive(tmp_path / f"{number}.tgz", files) for number, (asset, files) in enumerate(packages.items())
    }
    monkeypatch.setattr(concepts, "fetch", paths.__getitem__)


def test_concepts_are_the_things_that_all_draw() -> None:
    (dog,) = ConceptPictures().concepts
    assert (dog.name, dog.group, dog.code) == ("dog", "Objects", "1f436")


def test_pictures_are_on_white_in_rgb() -> None:
    pictures = ConceptPictures()
    (dog,) = pictures.concepts
    colours = {"shaded": (255, 0, 0), "flat": (0, 0, 255), "glyph": (0, 0, 0), "outline": (0, 0, 0)}
    for style, colour in colours.items():
        picture = getattr(pictures, style)(dog, 48)
        assert picture.shape == (48, 48, 3) and picture.dtype == np.uint8
        assert tuple(picture[0, 0]) == (255, 255, 255)
        assert np.abs(picture[24, 24].astype(int) - colour).max() <= 2, style


def test_the_set_has_the_layout_of_classes_and_is_finished_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert draw_concepts(out, size=48) == 1
    items, people = read_items(out)
    assert not people and sorted((item.path.name, item.sketch) for item in items) == [
        *(("flat.png", False), ("glyph.png", True)),
        *(("lines.png", True), ("shaded.png", False)),
    ]
    first = {path: path.read_bytes() for path in out.rglob("*.png")}
    lost = out / "sketch" / "dog" / "lines.png"
    lost.unlink()
    draw_concepts(out, size=48)
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == first
    with pytest.raises(DataError, match="sketches fluent, not openmoji"):
        draw_concepts(out, "openmoji", size=48)


def test_of_openmoji_only_its_drawing_is_the_sketch(tmp_path: Path) -> None:
    draw_concepts(tmp_path / "set", "openmoji", size=48)
    assert [item.path.name for item in read_items(tmp_path / "set")[0] if item.sketch] == ["openmoji.png"]
