"""The eleven sets of CoOp's protocol, read by their public split files. No torch.

Nine have a `split_zhou_NAME.json`: lists of (path, label, class name) for train, val and test. FGVC-Aircraft has lists
of its own, ImageNet a folder a class and `classnames.txt`; its validation split is the test split. Folders are named as
the published code names them.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import DataError
from unmask.lab.prompting.few_shot import Example, Splits

_ENDS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class PublicSet:
    """A set: its folder's name, that of the pictures in it, and the split file; "" where there is none."""

    folder: str
    pictures: str
    split: str


PUBLIC_SETS = {
    "imagenet": PublicSet("imagenet", "images", ""),
    "caltech101": PublicSet("caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json"),
    "oxford_pets": PublicSet("oxford_pets", "images", "split_zhou_OxfordPets.json"),
    "stanford_cars": PublicSet("stanford_cars", ".", "split_zhou_StanfordCars.json"),
    "flowers102": PublicSet("oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json"),
    "food101": PublicSet("food-101", "images", "split_zhou_Food101.json"),
    "fgvc_aircraft": PublicSet("fgvc_aircraft", "images", ""),
    "sun397": PublicSet("sun397", "SUN397", "split_zhou_SUN397.json"),
    "dtd": PublicSet("dtd", "images", "split_zhou_DescribableTextures.json"),
    "eurosat": PublicSet("eurosat", "2750", "split_zhou_EuroSAT.json"),
    "ucf101": PublicSet("ucf101", "UCF-101-midframes", "split_zhou_UCF101.json"),
}


def read_public_set(name: str, root: Path) -> Splits:
    """One of `PUBLIC_SETS`.

    Args:
        name: a key of that table.
        root: folder that holds the sets' folders.

    Raises:
        DataError: there is no such set, or its files are not there or not as they must be.
    """
    if name not in PUBLIC_SETS:
        raise DataError(f"no set {name!r}; they are {', '.join(PUBLIC_SETS)}")
    known = PUBLIC_SETS[name]
    folder = root / known.folder
    if name == "imagenet":
        return _imagenet(folder)
    if name == "fgvc_aircraft":
        return _aircraft(folder)
    return read_split_file(folder / known.split, folder / known.pictures)


def read_split_file(path: Path, pictures: Path) -> Splits:
    """A `split_zhou_*.json`.

    Args:
        path: of the file.
        pictures: folder that its paths are in.

    Raises:
        DataError: not such a file, or the first picture of a split is not there.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        splits = Splits(
            *(
                tuple(Example(pictures / str(row[0]), int(row[1]), str(row[2])) for row in content[split])
                for split in ("train", "val", "test")
            )
        )
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give the public split file") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path}: not a split file with rows (path, label, name) in train, val and test") from error
    return _checked(splits, path)


def _checked(splits: Splits, path: Path) -> Splits:
    _ = splits.names  # that no label has two
    for split in (splits.train, splits.test):
        if not split:
            raise DataError(f"{path}: a split is empty; fetch the file again")
    for split in (splits.train, splits.val, splits.test):
        if split and not split[0].path.is_file():
            raise DataError(f"{split[0].path}: not there, and {path} names it; unpack the pictures there")
    return splits


def _aircraft(folder: Path) -> Splits:
    names = _lines(folder / "variants.txt")
    label = {name: number for number, name in enumerate(names)}

    def split(name: str) -> tuple[Example, ...]:
        path, rows = folder / f"images_variant_{name}.txt", []
        for line in _lines(path):
            picture, _, variant = line.partition(" ")
            if variant not in label:
                raise DataError(f"{path}: {variant!r} is none of {folder / 'variants.txt'}; fetch the files again")
            rows.append(Example(folder / "images" / f"{picture}.jpg", label[variant], variant))
        return tuple(rows)

    return _checked(Splits(split("train"), split("val"), split("test")), folder)


def _imagenet(folder: Path) -> Splits:
    """Pictures of a class are in the order of their names; published draws followed that of the file system."""
    names = dict(line.split(" ", 1) for line in _lines(folder / "classnames.txt") if " " in line)

    def split(name: str) -> tuple[Example, ...]:
        place = folder / "images" / name
        try:
            classes = sorted(one.name for one in place.iterdir() if one.is_dir())
        except OSError as error:
            raise DataError(f"{place}: no folder of classes there; unpack the pictures there") from error
        unknown = [one for one in classes if one not in names]
        if unknown:
            raise DataError(f"{place / unknown[0]}: no name in {folder / 'classnames.txt'}; add a line")
        return tuple(
            Example(path, label, names[one])
            for label, one in enumerate(classes)
            for path in _pictures((place / one).iterdir())
        )

    test = split("val")
    return _checked(Splits(split("train"), test, test), folder)


def _pictures(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in _ENDS)


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read; it belongs to the set") from error
