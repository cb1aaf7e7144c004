"""The folds of leave-one-out: what each of a few runs lacks, so that together they lack everything once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fold:
    """The kinds of forgery and the sources of reals that a run is trained without."""

    kinds: tuple[str, ...]
    sources: tuple[str, ...]

    def options(self) -> list[str]:
        """As options of `unmask train`."""
        kinds = [word for kind in self.kinds for word in ("--without-kind", kind)]
        return [*kinds, *(word for source in self.sources for word in ("--without-source", source))]


# A kind goes with the sources that stand beside it. Blends and re-syntheses are what every run learns from; no run
# lacks them.
FOLDS = {
    "synthesis": Fold(("synthesis",), ("ffhq", "stylegan3")),
    "swap": Fold(("swap",), ("dfl_faceswap", "real_small")),
    "talking-head": Fold(("talking head", "composite"), ("real_talking", "ciplab")),
    "lip-sync": Fold(("lip-sync", "restoration", "inpainting"), ("wav2lip", "real_300w", "gpen_inpaint")),
    "text-to-image": Fold(("text-to-image",), ("real_portraits", "real_amfd", "real_frll")),
    "attribute-edit": Fold(("attribute edit",), ("stylegan3_edit", "celebamask", "utkface")),
}
