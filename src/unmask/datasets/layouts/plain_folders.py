"""Plain folders named by label."""

from pathlib import Path

from unmask.datasets.layouts.listing import PICTURES, existing_folder, pictures_below, refuse_other_folders
from unmask.datasets.manifest import SHARES, SPLITS, Sample, check_samples, split_of


class PlainFolders:
    """Loads plain folders; see `load_folders`."""

    def recognises(self, path: Path) -> bool:
        """By real/ or fake/, at the top or in a split."""
        return any((path / level / name).is_dir() for level in ("", *SPLITS) for name in ("real", "fake"))

    def load(self, path: Path) -> list[Sample]:
        """`load_folders`."""
        return load_folders(path)


def load_folders(root: Path) -> list[Sample]:
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
    root = existing_folder(root)
    splits = [split for split in SPLITS if (root / split).is_dir()]
    masks = root / "masks"
    if splits:
        refuse_other_folders(root, {*splits, masks.name})
    samples = []
    for split in splits or [""]:
        refuse_other_folders(root / split, {"real", "fake"} if split else {"real", "fake", masks.name})
        for label, name in enumerate(("real", "fake")):
            top = root / split / name
            for path in pictures_below(top):
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
                        mask=_mask_beside(masks / path.relative_to(root)) if masks.is_dir() else "",
                    )
                )
    check_samples(samples, root)
    return samples


def _mask_beside(path: Path) -> str:
    """The picture of that name, with whatever extension; "" if there is none."""
    candidates = (path, *(path.with_suffix(suffix) for suffix in PICTURES))
    return next((str(candidate) for candidate in candidates if candidate.is_file()), "")
