"""Sets of sketches and photos for retrieval: their layouts, the published lists of classes never seen, and splits.

Layouts, recognised by their folders:

- classes: `photo/CLASS/`, `sketch/CLASS/` (PACS; other domains beside them are passed over); also `photos`, `sketches`.
- Sketchy Extended as SAKE's lists have it: `256x256/sketch/tx_000000000000_ready/CLASS/`, the same with `photo`, and
  `EXTEND_image_sketchy_ready/CLASS/`.
- TU-Berlin Extended: `png_ready/CLASS/`, `ImageResized_ready/CLASS/`.
- QuickDraw: `CLASS.ndjson` (strokes) in the folder or in `sketches/`, with `photos/CLASS/`.
- pairs of one person (CUFS, CUFSF): `photos/` and `sketches/` with pictures of equal or matching names; every person is
  a class. A folder of several such sets is one set.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from unmask.errors import DataError

Split = Literal["train", "val", "test"]
_PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff"}
_TESTED = 20  # percent of the classes, where none are named
_HELD = 10  # percent of what is seen that training is watched on

_LISTS = {
    "sketchy-25": "cup swan harp squirrel snail ray pineapple volcano rifle scissors parrot windmill teddy_bear tree "
    "wine_bottle deer chicken airplane wheelchair tank umbrella butterfly camel horse bell",
    "sketchy-21": "bat cabin cow dolphin door giraffe helicopter mouse pear raccoon rhinoceros saw scissors seagull "
    "skyscraper songbird sword tree wheelchair windmill window",
    "tuberlin-30": "banana bus tractor suitcase streetlight telephone bottle-opener canoe fan teacup penguin laptop "
    "shoe lighter hot-air-balloon pizza brain ant t-shirt trombone windmill snowboard table rollerblades parachute "
    "space-shuttle bridge frying-pan bread horse",
    "quickdraw-30": "bat cow dolphin door giraffe helicopter mouse raccoon rhinoceros saw scissors skyscraper tree "
    "windmill feather campfire palm-tree fire_hydrant bread beach megaphone cactus zebra tiger shark frog banana cake "
    "hamburger fan",
}
UNSEEN: Mapping[str, tuple[str, ...]] = {name: tuple(words.split()) for name, words in _LISTS.items()}
"""The classes never seen of the published splits (SAKE, ZSE-SBIR). Those of `sketchy-21` are not in ImageNet."""


@dataclass(frozen=True)
class SketchItem:
    """A sketch or a photo.

    Attributes:
        path: its file; of QuickDraw the file of strokes.
        label: its class; of pairs the person.
        sketch: whether it is a sketch.
        line: of a drawing in a file of strokes, from 0; None for pictures.
    """

    path: Path
    label: str
    sketch: bool
    line: int | None = None

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return str(self.path) if self.line is None else f"{self.path}:{self.line + 1}"


@dataclass(frozen=True)
class SketchSet:
    """A set: its items by split, in a fixed order, and whether its classes are people.

    Attributes:
        splits: "train" and "val" are of classes seen, "test" of others. Where a class has one photo and one sketch,
            "val" has classes of its own, else some pictures of every class seen.
        people: whether every class is one person.
    """

    splits: Mapping[str, tuple[SketchItem, ...]]
    people: bool

    @property
    def classes(self) -> tuple[str, ...]:
        """Those trained on, in the order of labels."""
        return tuple(sorted({item.label for item in self.splits["train"]}))

    @property
    def unseen(self) -> tuple[str, ...]:
        """Those of the test split."""
        return tuple(sorted({item.label for item in self.splits["test"]}))


def read_sketches(folder: Path, unseen: Sequence[str] = (), seed: int = 0, photos_per_class: int = 0) -> SketchSet:
    """Read a set and split it.

    Args:
        folder: in one of the layouts.
        unseen: classes of the test split, or one name of `UNSEEN`; by default a fifth of the classes, drawn by hash.
        seed: of the draws.
        photos_per_class: at most so many sketches and photos of a class; 0 for all.

    Raises:
        DataError: none of the layouts, a class without sketches or photos, a class that is not there, or none left on
            one of the sides.
    """
    items, people = read_items(folder)
    by_class: dict[str, list[SketchItem]] = {}
    for item in sorted(items, key=lambda one: one.name):
        by_class.setdefault(item.label, []).append(item)
    for label, own in by_class.items():
        kinds = {item.sketch for item in own}
        if len(kinds) < 2:
            absent = "photos" if True in kinds else "sketches"
            raise DataError(f"{folder}: class {label} has no {absent}; give it some, or take it out")
    tested = _tested(folder, tuple(by_class), unseen, seed)
    splits: dict[str, list[SketchItem]] = {"train": [], "val": [], "test": []}
    single = max(len(own) for own in by_class.values()) < 4
    for label, own in by_class.items():
        if photos_per_class:
            own = _some(own, photos_per_class, seed)
        if label in tested:
            splits["test"] += own
        elif single:
            splits["val" if _place(f"val:{label}", seed) < _HELD else "train"] += own
        else:
            for item in own:
                splits["val" if _place(item.name.removeprefix(str(folder)), seed) < _HELD else "train"].append(item)
    made = SketchSet({name: tuple(rows) for name, rows in splits.items()}, people)
    check_apart(made.classes, made.unseen)
    if len(made.classes) < 2:
        raise DataError(f"{folder}: {len(made.classes)} classes are left to train on; leave fewer out")
    return made


def check_apart(seen: Sequence[str], unseen: Sequence[str]) -> None:
    """Refuse classes on both sides of a split; names that differ in case, blanks or hyphens are one.

    Raises:
        DataError: naming the first.
    """
    known = {_plain(name): name for name in seen}
    for name in unseen:
        if _plain(name) in known:
            raise DataError(f"class {name} is to be tested as never seen, but {known[_plain(name)]} is trained on")


def read_items(folder: Path) -> tuple[list[SketchItem], bool]:
    """All sketches and photos of a folder, and whether its classes are people.

    Raises:
        DataError: it is in none of the layouts.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no folder there; give one with sketches and photos")
    for read in (_pairs, _classes, _sketchy, _tu_berlin, _quickdraw):
        items = read(folder)
        if items:
            return items, read is _pairs
    parts = {inner.name: _pairs(inner) for inner in sorted(folder.iterdir()) if inner.is_dir()}
    if any(parts.values()):
        return [replace(item, label=f"{name}/{item.label}") for name, part in parts.items() for item in part], True
    raise DataError(
        f"{folder}: no set of sketches and photos; give a folder with photo/CLASS/ and sketch/CLASS/, with photos/ and "
        "sketches/ of equal names, or Sketchy, TU-Berlin or QuickDraw as they come (docs/search.md)"
    )


def _tested(folder: Path, classes: tuple[str, ...], unseen: Sequence[str], seed: int) -> set[str]:
    if not unseen:
        # By each name alone, so that a person is on the same side in every set that has them.
        ranked = sorted(classes, key=lambda name: _place(name.rpartition("/")[2], seed))
        return {name for name in ranked if _place(name.rpartition("/")[2], seed) < _TESTED} or set(ranked[:1])
    names = UNSEEN.get(unseen[0], tuple(unseen)) if len(unseen) == 1 else tuple(unseen)
    known = {_plain(name): name for name in classes}
    missing = [name for name in names if _plain(name) not in known]
    if missing:
        raise DataError(f"{folder}: no class {missing[0]}; there are {', '.join(classes[:8])} and others"[:300])
    return {known[_plain(name)] for name in names}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _place(key: str, seed: int) -> float:
    """A number in [0, 100) that a text has by its hash."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:4], "big") / 2**32 * 100


def _some(items: Sequence[SketchItem], most: int, seed: int) -> list[SketchItem]:
    kept: list[SketchItem] = []
    for sketch in (False, True):
        own = [item for item in items if item.sketch == sketch]
        kept += sorted(own, key=lambda one: hashlib.sha256(f"{seed}:{one.name}".encode()).digest())[:most]
    return kept


# --- Layouts ---


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES and path.is_file())


def _by_class(folder: Path, sketch: bool) -> list[SketchItem]:
    if not folder.is_dir():
        return []
    return [
        SketchItem(path, inner.name, sketch)
        for inner in sorted(folder.iterdir())
        if inner.is_dir()
        for path in _pictures(inner)
    ]


def _either(*parts: list[SketchItem]) -> list[SketchItem]:
    """All parts joined, or nothing if they are not of both kinds."""
    items = [item for part in parts for item in part]
    return items if len({item.sketch for item in items}) == 2 else []


def _first(folder: Path, *names: str) -> Path:
    return next((folder / name for name in names if (folder / name).is_dir()), folder / names[0])


def _classes(folder: Path) -> list[SketchItem]:
    return _either(
        _by_class(_first(folder, "sketch", "sketches"), True), _by_class(_first(folder, "photo", "photos"), False)
    )


def _sketchy(folder: Path) -> list[SketchItem]:
    ready = "tx_000000000000_ready"
    return _either(
        _by_class(folder / "256x256" / "sketch" / ready, True),
        _by_class(folder / "256x256" / "photo" / ready, False),
        _by_class(_first(folder, "EXTEND_image_sketchy_ready", "EXTEND_image_sketchy"), False),
    )


def _tu_berlin(folder: Path) -> list[SketchItem]:
    return _either(_by_class(folder / "png_ready", True), _by_class(folder / "ImageResized_ready", False))


def _quickdraw(folder: Path) -> list[SketchItem]:
    photos = _by_class(_first(folder, "photos", "images"), False)
    known = {_plain(item.label): item.label for item in photos}
    drawings = []
    for file in sorted([*folder.glob("*.ndjson"), *(folder / "sketches").glob("*.ndjson")]):
        label = known.get(_plain(file.stem.removeprefix("full_simplified_")))
        if label is not None:
            with file.open("rb") as stream:
                drawings += [
                    SketchItem(file, label, True, number) for number, line in enumerate(stream) if line.strip()
                ]
    return _either(drawings, photos)


def _cufsf(stem: str) -> str:
    return stem[:5] if stem[:5].isdigit() else ""


def _cuhk(stem: str) -> str:
    matched = re.fullmatch(r"([fm])2?-(\d+-\d+)(?:-sz1)?", stem, re.IGNORECASE)
    return f"{matched[1].lower()}-{matched[2]}" if matched else ""


_KEYS: tuple[Callable[[str], str], ...] = (str, _cuhk, _cufsf)
"""How names of one person's photo and sketch are made equal: as they are, of CUFS as published, of CUFSF."""


def _pairs(folder: Path) -> list[SketchItem]:
    photos, sketches = _pictures(_first(folder, "photos", "photo")), _pictures(_first(folder, "sketches", "sketch"))
    for key in _KEYS:
        by_photo = {key(path.stem): path for path in photos if key(path.stem)}
        by_sketch = {key(path.stem): path for path in sketches if key(path.stem)}
        both = sorted(by_photo.keys() & by_sketch.keys())
        if both and 2 * len(both) >= min(len(photos), len(sketches)):
            return [
                SketchItem(side[name], name, sketch)
                for name in both
                for side, sketch in ((by_photo, False), (by_sketch, True))
            ]
    return []
