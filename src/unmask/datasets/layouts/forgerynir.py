"""ForgeryNIR: near-infrared faces and forgeries of four generators."""

import re
from pathlib import Path

from unmask.datasets.layouts.listing import entries, existing_folder, pictures_below, refuse_other_folders
from unmask.datasets.manifest import SHARES, SPLITS, Sample, check_samples, split_of
from unmask.errors import DataError

_GENERATORS = ("cyclegan", "progan", "stylegan", "stylegan2")


class ForgeryNIR:
    """Loads ForgeryNIR; see `load_forgerynir`."""

    def recognises(self, path: Path) -> bool:
        """A subset, or a folder that holds some."""
        return path.is_dir() and bool(_subsets(path))

    def load(self, path: Path) -> list[Sample]:
        """`load_forgerynir` of the one subset there.

        Raises:
            DataError: there are several, which show the same faces, or as of `load_forgerynir`.
        """
        subsets = _subsets(existing_folder(path))
        if len(subsets) > 1:
            raise DataError(f"{path}: subsets {', '.join(subsets)} show the same faces; give the folder of one")
        return load_forgerynir(path, subsets[0].removeprefix("ForgeryNIR").removeprefix("-") if subsets else "std")


def load_forgerynir(root: Path, subset: str) -> list[Sample]:
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
    root = existing_folder(root)
    name = f"ForgeryNIR{'' if subset == '+' else '-'}{subset}"
    top = next((f for f in (root, root / name, root / "ForgeryNIR" / name) if f.name == name and f.is_dir()), None)
    if top is None:
        raise DataError(f"{root}: no folder {name}; subsets there: {', '.join(_subsets(root)) or 'none'}")
    splits = [split for split in SPLITS if (top / split).is_dir()]
    if splits:
        refuse_other_folders(top, set(splits))
    samples = []
    for split in splits or [""]:
        here = top / split
        refuse_other_folders(here, {"0_real", *_GENERATORS})
        apart = (above / "NIR_VIS 2.0" / split for above in (top.parent, top.parent.parent))
        reals = next((folder for folder in (here / "0_real", *apart) if folder.is_dir()), here / "0_real")
        for family, folder in (("real", reals), *((generator, here / generator) for generator in _GENERATORS)):
            for path in pictures_below(folder):
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
    folders = (folder for above in (root, root / "ForgeryNIR") if above.is_dir() for folder in entries(above))
    return sorted(folder.name for folder in folders if pattern.fullmatch(folder.name) and folder.is_dir())
