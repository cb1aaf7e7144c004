"""Readers that turn a data set, in the layout its holders already have, into manifest rows.

Every reader converts to our labels (forged = 1), gives paths that hold from any working folder, and refuses what
`check_samples` refuses. A split that the data set ships is kept; where there is none, subjects are split by hash
(`split_of`, `SHARES`), so that a data set gives the same splits on every machine.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unmask import delimited
from unmask.datasets.manifest import SHARES, SPLITS, Sample, check_samples, read_collection, read_manifest, split_of
from unmask.edits.labels import LONGEST, TRACKS, checked
from unmask.errors import DataError
from unmask.media.sources import RefusedSource, walk

_MANIFEST = "manifest.csv"
_TABLES = (".csv", ".tsv", ".tab")
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

_LAYOUTS = {
    "manifest": "a manifest (.csv, .parquet, or manifest.csv in a folder; path, label, family, source, subject, split)",
    "deepfakebench": "DeepfakeBench (a .json of its preprocessing)",
    "seq_deepfake": "Seq-DeepFake (facial_components/ or facial_attributes/, or one of its annotation files)",
    "forgerynir": "ForgeryNIR (ForgeryNIR-std/ and the like)",
    "celebamask_hq": "CelebAMask-HQ (CelebA-HQ-img/)",
    "collection": "the known collections (forensics/, faces/)",
    "folders": "plain folders (real/ and fake/, or these in train/, val/, test/)",
}


def detect_layout(path: Path) -> str:
    """The layout of a file or folder, told from names and a CSV's first line alone.

    Returns:
        "manifest", "deepfakebench", "seq_deepfake", "forgerynir", "celebamask_hq", "collection" or "folders".

    Raises:
        DataError: it is in none of them; the message lists them.
    """
    if path.is_file():
        if path.suffix.lower() in _TABLES:
            return "seq_deepfake" if _is_annotation(path) else "manifest"
        if path.suffix.lower() == ".parquet":
            return "manifest"
        if path.suffix.lower() == ".json":
            return "deepfakebench"
    elif path.is_dir():
        here = path.absolute()
        if (here / _MANIFEST).is_file():  # it says more than any names of folders
            return "manifest"
        inside = {child.name for child in _inside(here) if child.is_dir()}
        if "CelebA-HQ-img" in inside:
            return "celebamask_hq"
        if inside & TRACKS.keys() or (here.name in TRACKS and "annotations" in inside):
            return "seq_deepfake"
        if _subsets(here):
            return "forgerynir"
        if inside & {"forensics", "faces"}:
            return "collection"
        if any((here / level / name).is_dir() for level in ("", *SPLITS) for name in ("real", "fake")):
            return "folders"
    else:
        raise DataError(f"{path}: no such file or folder; correct the path")
    raise DataError(f"{path}: not in a layout that can be read. These can: {'; '.join(_LAYOUTS.values())}")


def read_layout(path: Path, root: Path | None = None) -> list[Sample]:
    """Read a data set in whichever layout it is (`detect_layout`); its paths hold from any working folder.

    Args:
        path: file or folder.
        root: for a DeepfakeBench file, the folder its pictures' paths start from.

    Raises:
        DataError: no known layout, or what its reader refuses.
    """
    layout = detect_layout(path)
    if layout == "manifest":
        return read_manifest(path.absolute() / _MANIFEST if path.is_dir() else path.absolute())
    if layout == "deepfakebench":
        return read_deepfakebench(path, root)
    if layout == "seq_deepfake":
        return read_seq_deepfake(path)
    if layout == "celebamask_hq":
        return read_celebamask_hq(path)
    if layout == "collection":
        return read_collection(path.absolute())
    if layout == "folders":
        return read_folders(path)
    subsets = _subsets(path.absolute())
    if len(subsets) > 1:
        raise DataError(f"{path}: subsets {', '.join(subsets)} show the same faces; give the folder of one")
    return read_forgerynir(path, subsets[0].removeprefix("ForgeryNIR").removeprefix("-"))


def read_folders(root: Path) -> list[Sample]:
    """Plain folders, named by label::

        root/
          [train|val|cal|test/]          if absent, split by hash of the subject
            real/[VIDEO/]NAME.jpg        also .jpeg, .png, .webp, .bmp
            fake/NAME.jpg                family "fake"
            fake/FAMILY/[VIDEO/]NAME.jpg
          masks/                         optional; the same tree again: masks/train/fake/FAMILY/NAME.png

    The subject is the folder VIDEO if there is one, else NAME without its extension, in whatever class: `real/007.jpg`
    and `fake/swap/007.jpg` are taken for the same person. The source is the root's name.

    Raises:
        DataError: a folder of pictures whose label is unknown, or what `check_samples` refuses.
    """
    root = _folder(root)
    splits = [split for split in SPLITS if (root / split).is_dir()]
    masks = root / "masks"
    if splits:
        _refuse_others(root, {*splits, masks.name})
    samples = []
    for split in splits or [""]:
        _refuse_others(root / split, {"real", "fake"} if split else {"real", "fake", masks.name})
        for label, name in enumerate(("real", "fake")):
            top = root / split / name
            for path in _pictures(top):
                folders = list(path.relative_to(top).parts[:-1])
                family = folders.pop(0) if label and folders else name
                video = "/".join(folders)
                subject = video or path.stem
                samples.append(
                    Sample(
                        path=str(path),
                        label=label,
                        family=family,
                        source=root.name,
                        subject=subject,
                        split=split or split_of(subject, SHARES),
                        video=f"{family}/{video}" if video else "",
                        mask=_twin(masks / path.relative_to(root)) if masks.is_dir() else "",
                    )
                )
    check_samples(samples, root)
    return samples


@dataclass
class _Listed:
    """One video of a DeepfakeBench file, gathered over the splits that list it."""

    dataset: str
    label: str
    compression: str
    name: str
    forged: bool
    splits: set[str] = field(default_factory=set)
    frames: dict[str, None] = field(default_factory=dict)  # for its order
    masks: dict[str, str] = field(default_factory=dict)

    @property
    def video(self) -> str:
        return "/".join(part for part in (self.label, self.compression, self.name) if part)


def read_deepfakebench(json_path: Path, root: Path | None = None) -> list[Sample]:
    """A data set file of DeepfakeBench (SCLBD/DeepfakeBench, `preprocessing/rearrange.py`), or of DF40, its successor::

        {"FF-DF":                                     source
          {"FF-real":
            {"train":                                 train, val or test
              {"c23":                                 compression; in FaceForensics++ only
                {"000": {"label": "FF-real", "frames": ["FaceForensics++/.../000/000.png", ...]}}}},
           "FF-DF": {"train": {"c23": {"000_003": {"label": ..., "frames": [...], "masks": [...]}}}}}}

    Labels are those of its `training/config/test_config.yaml`: FF-DF, FF-F2F, FF-FS, FF-NT, FF-SH and FF-FH are forged,
    and so is what ends in "fake" (Fake, FakeA, FakeB); what ends in "real" is real. The family is the key above the
    split. A frame's mask is the one of the same name. Every compression is read.

    The subject is the video. Videos named as in FaceForensics++, 000 and 000_003, are one subject if a chain of
    forgeries links them, since their faces were exchanged.

    The benchmark lists many videos in several splits, for it only ever trains on some sets and tests on others: "val"
    repeats "test" or "train", and Celeb-DF's "train" holds its test videos. Here a video stands in one split: the one
    in which another video of its subject stands alone, else "test" before "train" before "val". Where all videos of a
    label are in both "train" and "test" (UADFV), the file gives no split, and the hash of the subject decides.

    Args:
        json_path: the file.
        root: folder from which the frames' relative paths start; if not given, the nearest one above the file in which
            the first frame is found.

    Raises:
        DataError: another structure, an unknown label or split, or what `check_samples` refuses.
    """
    videos = _listed(json_path)
    if root is None:
        first = next((frame for video in videos for frame in video.frames), "")
        root = next((above for above in json_path.absolute().parents if (above / first).is_file()), json_path.parent)
    root = _folder(root)
    subjects = _subjects(videos)
    splits = _one_split_each(videos, subjects)
    samples = [
        Sample(
            path=str(root / frame),
            label=int(video.forged),
            family=video.label if video.forged else "real",
            source=video.dataset,
            subject=subject,
            split=split,
            video=video.video,
            mask=str(root / video.masks[Path(frame).stem]) if Path(frame).stem in video.masks else "",
        )
        for video, subject, split in zip(videos, subjects, splits, strict=True)
        for frame in sorted(video.frames, key=lambda frame: (len(frame), frame))  # 9.png before 10.png
    ]
    check_samples(samples, f"{json_path} (pictures from {root})", [f"video {sample.video}" for sample in samples])
    return samples


def _listed(json_path: Path) -> list[_Listed]:
    try:
        content = json.loads(json_path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no JSON, or no UTF-8
        raise DataError(f"{json_path}: not a readable JSON file ({error})") from error
    videos: dict[tuple[str, str, str, str], _Listed] = {}
    for dataset, labels in _entries(content, f"{json_path}"):
        for label, splits in _entries(labels, f"{json_path}, {dataset}"):
            for split, listed in _entries(splits, f"{json_path}, {dataset}/{label}"):
                where = f"{json_path}, {dataset}/{label}/{split}"
                if split not in ("train", "val", "test"):
                    raise DataError(f"{where}: split {split!r}; this layout has train, val and test")
                for compression, name, entry in _videos(listed, where):
                    here = f"{where}/{name}"
                    forged = _is_forged(entry.get("label"), here)
                    video = videos.setdefault(
                        (dataset, label, compression, name), _Listed(dataset, label, compression, name, forged)
                    )
                    if video.forged != forged:
                        raise DataError(f"{here}: real in one split and forged in another; correct one label")
                    video.splits.add(split)
                    video.frames.update(dict.fromkeys(_names(entry, "frames", here)))
                    video.masks.update({Path(mask).stem: mask for mask in _names(entry, "masks", here)})
    return list(videos.values())


def _entries(node: Any, where: str) -> list[tuple[str, Any]]:
    if not isinstance(node, dict):
        raise DataError(f"{where}: not {{data set: {{label: {{split: {{video: ...}}}}}}}}; give a DeepfakeBench file")
    return list(node.items())


def _videos(listed: Any, where: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Compression, name and entry of every video of a split."""
    # The script that writes these files leaves DFDC's last test video right under "val", again and without its name.
    strays = {"label", "frames"} if isinstance(listed, dict) and isinstance(listed.get("frames"), list) else set()
    for name, entry in _entries(listed, where):
        if name in strays:
            continue
        content = dict(_entries(entry, f"{where}/{name}"))
        if "frames" in content:
            yield "", name, content
        else:
            for video, inner in content.items():
                here = f"{where}/{name}/{video}"
                if "frames" not in dict(_entries(inner, here)):
                    raise DataError(f"{here}: no frames; correct the entry or drop it")
                yield name, video, inner


_FORGED_METHODS = {"FF-DF", "FF-F2F", "FF-FS", "FF-NT", "FF-SH", "FF-FH"}


def _is_forged(label: Any, where: str) -> bool:
    ending = re.search(r"(?:^|[_-])(real|fake)[AB]?$", str(label), re.IGNORECASE)
    if ending is None and label not in _FORGED_METHODS:
        known = ", ".join(sorted(_FORGED_METHODS))
        raise DataError(f"{where}: label {label!r}; write one of {known}, or one that ends in _real or _fake")
    return ending is None or ending[1].lower() == "fake"


def _names(entry: Mapping[str, Any], key: str, where: str) -> list[str]:
    names = entry.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{where}: {key} is no list of paths; correct the entry or drop it")
    return [name.replace("\\", "/") for name in names]  # some published files were written on Windows


def _subjects(videos: Sequence[_Listed]) -> list[str]:
    """What must not stand on both sides, per video."""
    linked: dict[tuple[str, str], str] = {}

    def head(dataset: str, name: str) -> str:
        while (above := linked.get((dataset, name), name)) != name:
            name = above
        return name

    numbers = [re.fullmatch(r"(\d{3})(?:_(\d{3}))?", video.name) for video in videos]
    for video, match in zip(videos, numbers, strict=True):
        if match and match[2]:
            low, high = sorted((head(video.dataset, match[1]), head(video.dataset, match[2])))
            linked[video.dataset, high] = low
    return [
        f"{video.dataset}/{head(video.dataset, match[1]) if match else f'{video.label}/{video.name}'}"
        for video, match in zip(videos, numbers, strict=True)
    ]


def _one_split_each(videos: Sequence[_Listed], subjects: Sequence[str]) -> list[str]:
    alone: dict[str, str] = {}
    undivided: dict[tuple[str, str], bool] = {}
    for video, subject in zip(videos, subjects, strict=True):
        if len(video.splits) == 1:
            alone[subject] = next(iter(video.splits))
        key = (video.dataset, video.label)
        undivided[key] = undivided.get(key, True) and {"train", "test"} <= video.splits
    splits: list[str] = []
    for video, subject in zip(videos, subjects, strict=True):
        if len(video.splits) == 1:
            splits.extend(video.splits)  # even against `alone`: a subject on two sides is refused, not moved
        elif subject in alone:
            splits.append(alone[subject])
        elif undivided[video.dataset, video.label]:
            splits.append(split_of(subject, SHARES))
        else:
            splits.append(next(split for split in ("test", "train", "val") if split in video.splits))
    return splits


def read_seq_deepfake(path: Path) -> list[Sample]:
    """Seq-DeepFake (README of rshaojimmy/SeqDeepFake; Shao et al., ECCV 2022)::

        root/
          facial_components/             edits nose, eye, eyebrow, lip, hair, made by StyleMapGAN
            annotations/train.csv        also val.csv, test.csv
            images/train/nose-eye-lip/NAME.jpg
            images/train/original/NAME.jpg
          facial_attributes/             edits Bangs, Eyeglasses, Beard, Smiling, Young, made by Talk-to-Edit
          style_drift/                   not theirs: what `unmask synthesise --sequence` makes, all faces drawn

    An annotation file has the columns `file_path`, from the root, and `label`, five numbers in the order of the edits
    with zeros at the end: "[1, 2, 4, 0, 0]" is the `sequence` "nose-eye-lip", all zeros a real face. The shipped split
    is kept. What the names say about the person is documented nowhere, so that a subject is a name within one split.

    Three more columns, from the root as well, are read if they are there: `original`, the untouched face; `mask`, a
    grey picture of where it was edited; `steps`, a folder with `1-mask.png`, `2-mask.png` …, the same for each edit
    (`unmask forge --sequence` writes them). Pictures of one original are of one subject. A column that is filled for
    some edited faces must be filled for all of them.

    Args:
        path: the root, the folder of one track, or one annotation file.

    Raises:
        DataError: no annotation file, a faulty row, or what `check_samples` refuses.
    """
    here = path.absolute()
    if here.is_file():
        tables = [here]
    else:
        tracks = [here] if here.name in TRACKS else [here / track for track in TRACKS]
        tables = [track / "annotations" / f"{split}.csv" for track in tracks for split in SPLITS]
        tables = [table for table in tables if table.is_file()]
    if not tables:
        raise DataError(f"{path}: no annotations/train.csv, val.csv or test.csv of {' or '.join(TRACKS)}")
    samples: list[Sample] = []
    rows: list[str] = []
    for table in tables:
        track, split = table.parent.parent.name, table.stem
        if track not in TRACKS or split not in SPLITS:
            raise DataError(f"{table}: not at {' or '.join(TRACKS)}/annotations/train.csv, val.csv or test.csv")
        known = TRACKS[track]
        root = table.parents[2]
        table_rows = _table(table, ("file_path", "label"))
        _refuse_partly_filled(table, table_rows)
        for number, row in table_rows.items():
            place = f"{track}/annotations/{table.name}, row {number}"
            steps = known.names(_numbers(row["label"], f"{table}, row {number}"))
            extra = {name: str(root / row[name]) for name in _PAIRING if row.get(name)}
            subject = row.get("original") or Path(row["file_path"]).stem
            samples.append(
                Sample(
                    path=str(root / row["file_path"]),
                    label=int(bool(steps) or known.drawn),
                    family=known.generator if steps or known.drawn else "real",
                    source=f"seq-deepfake/{track}",
                    subject=f"{track}/{split}/{Path(subject).stem}",
                    split=split,
                    sequence="-".join(steps),
                    **extra,
                )
            )
            rows.append(place)
    check_samples(samples, path, rows, training=not all(TRACKS[table.parent.parent.name].drawn for table in tables))
    return samples


def _is_annotation(path: Path) -> bool:
    try:
        return {"file_path", "label"} <= {name.casefold() for name in delimited.layout_of(path).names}
    except (OSError, DataError):
        return False  # whoever reads it as a manifest says what is wrong with it


def _table(path: Path, columns: Sequence[str]) -> dict[int, dict[str, str]]:
    rows = delimited.read_table(path, columns)
    for number, row in rows.items():
        missing = [column for column in columns if not row[column]]
        if missing:
            raise DataError(f"{path}, row {number}: no {', '.join(missing)}; fill the column")
    return rows


_PAIRING = ("original", "mask", "steps")


def _refuse_partly_filled(table: Path, rows: Mapping[int, Mapping[str, str]]) -> None:
    """An edited face without what the others have would teach, and be measured, by another rule than they."""
    edited = [(number, row) for number, row in rows.items() if re.search("[1-5]", row["label"])]
    for name in _PAIRING:
        empty = [number for number, row in edited if not row.get(name)]
        if 0 < len(empty) < len(edited):
            others = f" (nor {len(empty) - 1} more)" if len(empty) > 1 else ""
            raise DataError(
                f"{table}, row {empty[0]}{others}: no {name}, which other edited faces have; fill it or drop the column"
            )


def _numbers(label: str, where: str) -> tuple[int, ...]:
    numbers = re.findall(r"-?\d+", label)
    if not re.fullmatch(r"\s*\[?\s*(-?\d+\s*,\s*)*-?\d+\s*\]?\s*", label) or len(numbers) < LONGEST:
        raise DataError(f"{where}: label {label!r}; write five numbers, 0 to 5, zeros last: [1, 2, 4, 0, 0]")
    try:
        return checked([int(number) for number in numbers])
    except ValueError as error:
        raise DataError(f"{where}: label {label!r}: {error}; correct it or drop the row") from error


_GENERATORS = ("cyclegan", "progan", "stylegan", "stylegan2")


def read_forgerynir(root: Path, subset: str) -> list[Sample]:
    """One subset of ForgeryNIR (README of AEP-WYK/forgerynir; Wang et al., IEEE TIFS 2022)::

        root/
          [ForgeryNIR/]
            ForgeryNIR-std/              also -rand and -mix; there is a ForgeryNIR+/ too
              [train|val|test/]          if absent, split by hash of the subject
                0_real/NAME.png
                cyclegan/NAME.png        also progan, stylegan, stylegan2
          [NIR_VIS 2.0/[train|val|test/]NAME.png]    the reals, where there is no 0_real

    The README has no level for the split; with it, with names such as ForgeryNIR-std_multi and with the reals of CASIA
    NIR-VIS 2.0 apart, it is the layout that the code of HFC-MFFD reads (EdWhites/HFC-MFFD, `get_face_patch.py`).

    The family is the generator, the spectrum "nir". Subsets show the same faces, perturbed in other ways: read one at a
    time. What the names say about the person is documented nowhere: a subject is a name, or a folder below the class's,
    and where the split is given, a name within that split.

    Args:
        root: folder that holds the subset or ForgeryNIR/, or the subset itself.
        subset: "std", "rand", "mix", one of these with "_single" or "_multi", or "+".

    Raises:
        DataError: no such subset, a folder of pictures with another name, or what `check_samples` refuses.
    """
    root = _folder(root)
    name = f"ForgeryNIR{'' if subset == '+' else '-'}{subset}"
    top = next((f for f in (root, root / name, root / "ForgeryNIR" / name) if f.name == name and f.is_dir()), None)
    if top is None:
        raise DataError(f"{root}: no folder {name}; subsets there: {', '.join(_subsets(root)) or 'none'}")
    splits = [split for split in SPLITS if (top / split).is_dir()]
    if splits:
        _refuse_others(top, set(splits))
    samples = []
    for split in splits or [""]:
        here = top / split
        _refuse_others(here, {"0_real", *_GENERATORS})
        apart = (above / "NIR_VIS 2.0" / split for above in (top.parent, top.parent.parent))
        reals = next((folder for folder in (here / "0_real", *apart) if folder.is_dir()), here / "0_real")
        for family, folder in (("real", reals), *((generator, here / generator) for generator in _GENERATORS)):
            for path in _pictures(folder):
                inner = path.relative_to(folder)
                shown = "/".join(inner.parts[:-1]) or path.stem
                subject = "/".join(part for part in ("forgerynir", split, shown) if part)
                samples.append(
                    Sample(
                        path=str(path),
                        label=int(family != "real"),
                        family=family,
                        source="forgerynir",
                        subject=subject,
                        split=split or split_of(subject, SHARES),
                        spectrum="nir",
                    )
                )
    check_samples(samples, top)
    return samples


def _subsets(root: Path) -> list[str]:
    """Names of ForgeryNIR's subsets in a folder, or of the folder itself if it is one."""
    pattern = re.compile(r"ForgeryNIR(\+|-(std|rand|mix)\w*)")
    if pattern.fullmatch(root.name):
        return [root.name]
    folders = (folder for above in (root, root / "ForgeryNIR") if above.is_dir() for folder in _inside(above))
    return sorted(folder.name for folder in folders if pattern.fullmatch(folder.name) and folder.is_dir())


_PARTS_PER_FOLDER = 2000
_LAST_TRAIN, _LAST_VAL = 162_770, 182_637  # CelebA's own split, by the number of its picture; disjoint by person


def read_celebamask_hq(root: Path) -> list[Sample]:
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
    root = _folder(root)
    originals = _columns(root / "CelebA-HQ-to-CelebA-mapping.txt", 3)
    people = _columns(root / "identity_CelebA.txt", 2)
    parts = _faces_with_parts(root / "CelebAMask-HQ-mask-anno")
    merged = [root / name for name in ("CelebAMaskHQ-mask", "CelebAMask-HQ-mask")]  # its scripts write one, read both
    samples = []
    for path in _pictures(root / "CelebA-HQ-img"):
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
    found = {}
    for number, line in enumerate(lines, start=1):
        values = line.split()
        if values and len(values) != count:
            raise DataError(f"{path}, line {number}: {len(values)} columns instead of {count}; get the file anew")
        if values:
            found[values[0]] = values[-1]
    return found


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
    found: dict[int, Path] = {}
    if annotations.is_dir():
        for folder in filter(Path.is_dir, _inside(annotations)):
            numbers = {part.name[:5] for part in _inside(folder)}
            found.update({int(number): folder for number in numbers if number.isdecimal()})
    return found


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; correct the path")
    return path.absolute()


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); change its permissions") from error


def _pictures(folder: Path) -> Iterator[Path]:
    """Every picture in a folder and below, sorted by name within each folder; none if there is no such folder."""
    if not folder.is_dir():
        return
    for source in walk([folder]):
        if isinstance(source, RefusedSource):
            raise DataError(f"{source.path}: {source.refusal.message}")
        if source.file is not None and source.file.suffix.lower() in _PICTURES:
            yield source.file


def _refuse_others(folder: Path, known: set[str]) -> None:
    """No picture is left out in silence because its folder has a name we do not know."""
    for child in _inside(folder):
        strange = child.is_dir() and child.name not in known and not child.name.startswith(".")
        if strange and any(_pictures(child)):
            names = ", ".join(sorted(known))
            raise DataError(f"{child}: holds pictures, but its name is none of {names}; rename it or move it away")


def _twin(path: Path) -> str:
    """The picture of that name, with whatever extension; "" if there is none."""
    candidates = (path, *(path.with_suffix(suffix) for suffix in _PICTURES))
    return next((str(candidate) for candidate in candidates if candidate.is_file()), "")
