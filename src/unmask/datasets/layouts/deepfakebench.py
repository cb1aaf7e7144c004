"""The data set files of DeepfakeBench and DF40."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unmask.datasets.layouts.listing import existing_folder
from unmask.datasets.manifest import SHARES, Sample, check_samples, split_of
from unmask.errors import DataError


class DeepfakeBench:
    """Loads data set files of DeepfakeBench; see `load_deepfakebench`."""

    def recognises(self, path: Path) -> bool:
        """Any .json file."""
        return path.is_file() and path.suffix.lower() == ".json"

    def load(self, path: Path) -> list[Sample]:
        """`load_deepfakebench`, its pictures' folder looked for above the file."""
        return load_deepfakebench(path)


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


def load_deepfakebench(json_path: Path, root: Path | None = None) -> list[Sample]:
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
    root = existing_folder(root)
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
