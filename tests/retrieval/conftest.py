from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from search_pictures import pattern
from tiny_search_pack import write_search_pack


@pytest.fixture(scope="session")
def search_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole pictures; the embedding is the picture in 4 x 4 cells."""
    return write_search_pack(tmp_path_factory.mktemp("packs") / "tiny-search")


@pytest.fixture(scope="session")
def face_search_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on faces."""
    return write_search_pack(tmp_path_factory.mktemp("packs") / "tiny-faces", name="tiny_faces", crop_margin=1.3)


@pytest.fixture
def make_photos(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of patterns, with a subfolder."""

    def make(count: int, name: str = "photos") -> Path:
        folder = tmp_path / name
        (folder / "more").mkdir(parents=True)
        for number in range(count):
            place = folder / "more" if number % 3 == 0 else folder
            Image.fromarray(pattern(number, noise=3)).save(place / f"{number:03}.png")
        return folder

    return make
