"""CelebAMask-HQ: real faces with the masks of their parts."""

from pathlib import Path

from unmask.datasets.layouts.listing import entries, existing_folder, folder_names, pictures_below
from unmask.datasets.manifest import SHARES, Sample, check_samples, split_of
from unmask.errors import DataError

_IMAGES = "CelebA-HQ-img"
_LAST_TRAIN, _LAST_VAL = 162_770, 182_637  # CelebA's own split, by the number of its picture; disjoint by person


class CelebAMaskHQ:
    """Loads CelebAMask-HQ; see `load_celebamask_hq`."""

    def recognises(self, path: Path) -> bool:
        """By the folder of its pictures."""
        return _IMAGES in folder_names(path)

    def load(self, path: Path) -> list[Sample]:
        """`load_celebamask_hq`."""
        return load_celebamask_hq(path)


def load_celebamask_hq(root: Path) -> list[Sample]:
    """CelebAMask-HQ (switchablenorms/CelebAMask-HQ, README and `face_parsing/Data_preprocessing`): real faces only::

        root/
          CelebA-HQ-img/7.jpg
          CelebAMask-HQ-mask-anno/0/00007_hair.png    2000 faces a folder, one picture per part
          CelebAMaskHQ-mask/7.png                     optional: what its `g_mask.py` merges the parts into
          CelebA-HQ-to-CelebA-mapping.txt             optional: lines of idx, orig_idx, orig_file
          identity_CelebA.txt                         optional, from CelebA: lines of file, person

    A face's `mask` is the folder that holds its parts (`00007_*.png` in it; they are half as large as the picture), or
    the merged map if there are no parts.

    With the mapping, faces are split as CelebA itself is, which is how `g_partition.py` does it and which no person
    crosses; without, by hash of the subject. The subject is the person if mapping and identities are there, else the
    picture: without the mapping, a person may be on both sides.

    No forgeries: a manifest to train on needs rows from elsewhere too.

    Raises:
        DataError: a picture whose name is no number or that the mapping or the identities lack, or what `check_samples`
            refuses, except that one class is enough.
    """
    root = existing_folder(root)
    originals = _columns(root / "CelebA-HQ-to-CelebA-mapping.txt", 3)
    people = _columns(root / "identity_CelebA.txt", 2)
    parts = _faces_with_parts(root / "CelebAMask-HQ-mask-anno")
    merged = [root / name for name in ("CelebAMaskHQ-mask", "CelebAMask-HQ-mask")]  # its scripts write one, read both
    samples = []
    for path in pictures_below(root / _IMAGES):
        if not path.stem.isdecimal():
            raise DataError(f"{path}: the name is no number of CelebA-HQ; give the folder as it was unpacked")
        number = int(path.stem)
        subject, split = f"celebamask-hq/{number}", ""
        if originals:
            original = _look_up(originals, str(number), path, "CelebA-HQ-to-CelebA-mapping.txt")
            subject = f"celeba/{_look_up(people, original, path, 'identity_CelebA.txt') if people else original}"
            split = _celeba_split(original, path)
        folder = parts.get(number)
        labels = next((file for name in merged if (file := name / f"{number}.png").is_file()), "")
        samples.append(
            Sample(
                path=str(path),
                label=0,
                family="real",
                source="celebamask",
                subject=subject,
                split=split or split_of(subject, SHARES),
                mask=str(folder or labels),
            )
        )
    samples.sort(key=lambda sample: int(Path(sample.path).stem))
    check_samples(samples, root, training=False)
    return samples


def _columns(path: Path, count: int) -> dict[str, str]:
    """First column -> last column of a text file of `count` columns; empty if there is no file."""
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable text file ({error})") from error
    table = {}
    for number, line in enumerate(lines, start=1):
        values = line.split()
        if values and len(values) != count:
            raise DataError(f"{path}, line {number}: {len(values)} columns instead of {count}; get the file anew")
        if values:
            table[values[0]] = values[-1]
    return table


def _look_up(table: dict[str, str], key: str, picture: Path, name: str) -> str:
    if key not in table:
        raise DataError(f"{picture}: {name} has no line for {key}; get the file anew or take it away")
    return table[key]


def _celeba_split(original: str, picture: Path) -> str:
    stem = Path(original).stem
    if not stem.isdecimal():
        raise DataError(f"{picture}: CelebA-HQ-to-CelebA-mapping.txt names {original}, no picture of CelebA")
    return "train" if int(stem) <= _LAST_TRAIN else "val" if int(stem) <= _LAST_VAL else "test"


def _faces_with_parts(annotations: Path) -> dict[int, Path]:
    """The folder of a face's parts, by its number."""
    folders: dict[int, Path] = {}
    if annotations.is_dir():
        for folder in filter(Path.is_dir, entries(annotations)):
            numbers = {part.name[:5] for part in entries(folder)}
            folders.update({int(number): folder for number in numbers if number.isdecimal()})
    return folders
