"""The forgery families: one record each, and what generic code asks of them. Nothing else hard-wires a family's name.

A family is a way of forging, the unit of leave-one-family-out. A name that no record has, as a user's manifest may
bring one, gets a record of defaults. Other packages add records by entry points of the group `unmask.families`, each
of which names a `Family`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unmask.plugins import Table

if TYPE_CHECKING:
    from unmask.datasets.manifest import Sample

Kind = Literal[
    "synthesis",
    "text-to-image",
    "swap",
    "reenactment",
    "talking head",
    "lip-sync",
    "attribute edit",
    "restoration",
    "inpainting",
    "composite",
    "blend",
    "re-synthesis",
    "presentation",
    "unknown",
]


@dataclass(frozen=True, kw_only=True)
class Family:
    """What is known of a forgery family.

    Attributes:
        name: as in a manifest's column `family`.
        kind: how the face is forged.
        source: who made or published it.
        made_here: whether training and tests make it themselves, from the real faces of a split, where that split
            holds no pictures of this name.
        made_for_training: whether training alone makes it, from the real faces of its split; tests do not measure it.
        weights: the file of a weights folder without which it is not made for training; "" if there is none.
        wholly_synthetic: whether every pixel was generated, so that a picture without a mask is forged throughout.
        blended: whether most pixels are the real picture's own, with what was done to it before.
        reconstructed: whether its faces come out of an autoencoder; blends may carry such a face too.
        native_size: side of its pictures in pixels, where they are smaller than the reals of their source; None where
            they are as large.
        localisable: whether its masks are exact and leave some of the picture out, so that a map is measured on it.
        regions: the facial features that a sample's `flags` speak of, in their order, where they say more than masks.
        partners: sources of the real faces that stand beside its pictures, where none of their own source does.
        draw_weight: how often it is drawn into training pairs, relative to the others; None for OTHER_WEIGHT.
        evaluation_rank: its place in tables of results; None behind those that have one, by the alphabet.
    """

    name: str
    kind: Kind = "unknown"
    source: str = ""
    made_here: bool = False
    made_for_training: bool = False
    weights: str = ""
    wholly_synthetic: bool = False
    blended: bool = False
    reconstructed: bool = False
    native_size: int | None = None
    localisable: bool = False
    regions: tuple[str, ...] = ()
    partners: tuple[str, ...] = ()
    draw_weight: float | None = None
    evaluation_rank: int | None = None


@dataclass(frozen=True)
class RealSource:
    """A collection of real faces, and how often a forgery is made from one of them, relative to the others."""

    name: str
    draw_weight: float


OTHER_WEIGHT = 0.15
"""Draw weight of a family or a source that a user's manifest brings along."""

_FACE_FORENSICS = "FaceForensics++ (Rössler et al., ICCV 2019), as DeepfakeBench names it"
_TALKING = ("real_talking",)
_PORTRAITS = ("real_portraits", "real_300w")
_CANDIDE = "candide/candide.npz"
_DECODERS = {
    "srgan": "SRGAN (Ledig et al., CVPR 2017)",
    "rfdn": "RFDN (Liu et al., ECCV workshops 2020)",
    "dncnn": "DnCNN (Zhang et al., TIP 2017)",
    "ffdnet": "FFDNet (Zhang et al., TIP 2018)",
    "bayer": "demosaicnet, Bayer pattern (Gharbi et al., SIGGRAPH Asia 2016)",
    "xtrans": "demosaicnet, X-Trans pattern (Gharbi et al., SIGGRAPH Asia 2016)",
    "span": "SPAN (Wan et al., CVPR workshops 2024)",
    "realesrgan": "Real-ESRGAN (Wang et al., ICCV workshops 2021)",
    "realesr-compact": "Real-ESRGAN's compact network (Wang et al. 2021)",
    "realcugan": "Real-CUGAN (2022)",
    "waifu2x-upconv": "waifu2x (nagadomi 2015)",
    "waifu2x-cunet": "waifu2x (nagadomi 2018)",
}
_UP_SAMPLING = "this project: the traces of up-sampling on a real face"

# The order is that of the training pairs' weights.
FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="selfblend",
            kind="blend",
            source="Shiohara & Yamasaki, CVPR 2022",
            made_here=True,
            blended=True,
            localisable=True,
            draw_weight=0.26,
            evaluation_rank=3,
        ),
        Family(
            name="swap",
            kind="swap",
            source="this project: a warp between two face meshes, blended",
            made_here=True,
            blended=True,
            localisable=True,
            draw_weight=0.20,
            evaluation_rank=4,
        ),
        Family(
            name="resynthesis",
            kind="re-synthesis",
            source="this project: a real face through an autoencoder",
            made_here=True,
            reconstructed=True,
            draw_weight=0.22,
            evaluation_rank=5,
        ),
        Family(
            name="stylegan",
            kind="synthesis",
            source="Karras et al., CVPR 2019",
            wholly_synthetic=True,
            draw_weight=0.14,
            evaluation_rank=0,
        ),
        Family(
            name="ciplab",
            kind="composite",
            source="CIPLAB, Yonsei University: Real and Fake Face Detection, by experts' hands",
            regions=("left_eye", "right_eye", "nose", "mouth"),
            draw_weight=0.10,
            evaluation_rank=2,
        ),
        Family(
            name="mobilestylegan",
            kind="synthesis",
            source="Belousov 2021, distilled from StyleGAN2",
            wholly_synthetic=True,
            draw_weight=0.08,  # the easiest
            evaluation_rank=1,
        ),
        Family(
            name="pggan",
            kind="synthesis",
            source="Karras et al., ICLR 2018",
            wholly_synthetic=True,
            native_size=128,
            evaluation_rank=6,
        ),
        Family(
            name="stylegan3",
            kind="synthesis",
            source="Karras et al., NeurIPS 2021",
            wholly_synthetic=True,
            partners=("ffhq",),
            draw_weight=0.06,
        ),
        Family(
            name="sfhq_t2i",
            kind="text-to-image",
            source="SFHQ-T2I: FLUX.1, SDXL, DALL-E 3",
            wholly_synthetic=True,
            partners=_PORTRAITS,
            draw_weight=0.14,
        ),
        Family(name="dfl_faceswap", kind="swap", source="DeepFaceLab models, DeepFaceLive", draw_weight=0.16),
        Family(
            name="fewshot_swap",
            kind="swap",
            source="few-shot face translation GAN (Lu 2019)",
            partners=("real_small",),
            draw_weight=0.08,
        ),
        Family(
            name="loopy_talkinghead",
            kind="talking head",
            source="Loopy (Jiang et al. 2024)",
            wholly_synthetic=True,
            partners=_TALKING,
            draw_weight=0.05,
        ),
        Family(
            name="omnihuman",
            kind="talking head",
            source="OmniHuman-1 and 1.5 (Lin et al. 2025)",
            wholly_synthetic=True,
            partners=_TALKING,
            draw_weight=0.06,
        ),
        Family(
            name="sonic_talkinghead",
            kind="talking head",
            source="Sonic (Ji et al. 2024)",
            wholly_synthetic=True,
            partners=_TALKING,
            draw_weight=0.03,
        ),
        Family(
            name="hallo_talkinghead",
            kind="talking head",
            source="Hallo, JoyHallo (2024)",
            wholly_synthetic=True,
            partners=_TALKING,
            draw_weight=0.04,
        ),
        Family(
            name="liveportrait_retarget",
            kind="lip-sync",
            source="LivePortrait (Guo et al. 2024), lips retargeted",
            partners=_TALKING,
            draw_weight=0.01,
        ),
        Family(
            name="keysync_lipsync",
            kind="lip-sync",
            source="KeySync, KeyFace (Bigata et al. 2025)",
            partners=_TALKING,
            draw_weight=0.04,
        ),
        Family(name="wav2lip", kind="lip-sync", source="Prajwal et al., ACM MM 2020", draw_weight=0.05),
        Family(
            name="stylegan3_edit",
            kind="attribute edit",
            source="Alaluf et al. 2022: StyleGAN3 inversion and edits of video",
            draw_weight=0.07,
        ),
        Family(
            name="stylegan_edit_strips",
            kind="attribute edit",
            source="HyperStyle and StyleGAN3 editing (Alaluf et al. 2022), figures",
            wholly_synthetic=True,
            partners=("stylegan3_edit", "celebamask"),
            draw_weight=0.04,
        ),
        Family(
            name="gpen_bfr",
            kind="restoration",
            source="GPEN (Yang et al., CVPR 2021)",
            wholly_synthetic=True,
            partners=_PORTRAITS,
            draw_weight=0.02,
        ),
        Family(
            name="gpen_colour",
            kind="restoration",
            source="GPEN (Yang et al., CVPR 2021)",
            wholly_synthetic=True,
            partners=_PORTRAITS,
            draw_weight=0.01,
        ),
        Family(
            name="gpen_seg2face",
            kind="restoration",
            source="GPEN (Yang et al., CVPR 2021)",
            wholly_synthetic=True,
            partners=("celebamask",),
            draw_weight=0.02,
        ),
        Family(
            name="gpen_inpaint",
            kind="inpainting",
            source="GPEN (Yang et al., CVPR 2021)",
            draw_weight=0.01,
        ),
        Family(
            name="candide_swap",
            kind="swap",
            source="this project: another's face by the fitted face model Candide-3",
            made_for_training=True,
            weights=_CANDIDE,
            draw_weight=0.12,
            blended=True,
            localisable=True,
        ),
        Family(
            name="candide_reenact",
            kind="reenactment",
            source="this project: another's expression by the fitted face model Candide-3",
            made_for_training=True,
            weights=_CANDIDE,
            draw_weight=0.10,
            blended=True,
            localisable=True,
        ),
        Family(
            name="lip_resynthesis",
            kind="lip-sync",
            source="this project: lips moved and redrawn at a low resolution",
            made_for_training=True,
            weights=_CANDIDE,
            draw_weight=0.10,
            blended=True,
            localisable=True,
        ),
        Family(
            name="style_edit",
            kind="attribute edit",
            source="this project: a MobileStyleGAN face with other styles",
            wholly_synthetic=True,
        ),
        *(
            Family(name=f"decoder-{name}", kind="re-synthesis", source=source, localisable=True)
            for name, source in _DECODERS.items()
        ),
        Family(name="composite", kind="composite", source="this project: single features of another face pasted on"),
        Family(name="fingerprint-nearest", kind="re-synthesis", source=_UP_SAMPLING),
        Family(name="fingerprint-checkerboard", kind="re-synthesis", source=_UP_SAMPLING),
        Family(name="fingerprint-ringing", kind="re-synthesis", source=_UP_SAMPLING),
        Family(name="fingerprint-blur", kind="re-synthesis", source=_UP_SAMPLING),
        Family(name="stylemapgan", kind="attribute edit", source="Kim et al., CVPR 2021; in Seq-DeepFake"),
        Family(name="talk-to-edit", kind="attribute edit", source="Jiang et al., ICCV 2021; in Seq-DeepFake"),
        Family(name="FF-DF", kind="swap", source=_FACE_FORENSICS),
        Family(name="FF-F2F", kind="reenactment", source=_FACE_FORENSICS),
        Family(name="FF-FS", kind="swap", source=_FACE_FORENSICS),
        Family(name="FF-NT", kind="reenactment", source=_FACE_FORENSICS),
        Family(name="FF-FH", kind="swap", source=_FACE_FORENSICS),
    )
}

SOURCES = {
    source.name: source
    for source in (
        RealSource("ffhq", 0.30),
        RealSource("ciplab", 0.20),
        RealSource("celebamask", 0.22),
        RealSource("utkface", 0.28),
        RealSource("dfl_faceswap", 0.14),
        RealSource("real_talking", 0.12),
        RealSource("real_300w", 0.16),
        RealSource("real_portraits", 0.16),
        RealSource("real_small", 0.10),
        RealSource("real_amfd", 0.08),
        RealSource("real_frll", 0.02),
        RealSource("stylegan3", 0.02),
        RealSource("stylegan3_edit", 0.03),
        RealSource("wav2lip", 0.03),
        RealSource("gpen_inpaint", 0.005),
    )
}
"""The collections of real faces that the embedded packs are trained on."""

INSTALLED: Table[Family] = Table("family", "unmask.families", ())


@cache
def known_families() -> dict[str, Family]:
    """Every record by name: the package's own in their order, then those of installed packages."""
    others = (INSTALLED.load(name) for name in INSTALLED.names())
    return FAMILIES | {other.name: other for other in others if other.name not in FAMILIES}


def family(name: str) -> Family:
    """The record of a name; one of defaults where there is none."""
    return known_families().get(name) or Family(name=name)


def kind_of(sample: "Sample") -> str:
    """How the family of a forged picture forges: its record's kind, else the picture's own, else "unknown"."""
    known = family(sample.family).kind
    return known if known != "unknown" else _spelt(sample.kind)


def _spelt(kind: str) -> str:
    """A kind as `Kind` spells it where other names of it are common; as it stands where none is known."""
    words = kind.replace("_", " ").strip().casefold()
    return _OTHER_NAMES.get(words, words) or "unknown"


_OTHER_NAMES = {
    "gan": "synthesis",
    "diffusion t2i": "text-to-image",
    "faceswap video": "swap",
    "faceswap still": "swap",
    "lipsync": "lip-sync",
    "talkinghead": "talking head",
}


def real_sources(sample: "Sample", present: Iterable[str]) -> tuple[str, ...]:
    """The sources whose real faces stand beside a forged picture: its own, else its family's partners.

    Args:
        sample: of the forged picture.
        present: the sources that have real faces.

    Returns:
        Those that are present; none if there is neither.
    """
    there = set(present)
    if sample.source in there:
        return (sample.source,)
    return tuple(name for name in family(sample.family).partners if name in there)


def made_here() -> tuple[str, ...]:
    """The families that training and tests make from reals, in the records' order."""
    return tuple(record.name for record in known_families().values() if record.made_here)


def made_for_training(weights: Path | None) -> tuple[str, ...]:
    """The families that training makes from reals beside those that tests measure too, in the records' order.

    Args:
        weights: folder of published weights; families whose file it lacks are left out, all that need one without it.
    """
    records = (record for record in known_families().values() if record.made_for_training)
    there = (r for r in records if not r.weights or (weights is not None and (weights / r.weights).is_file()))
    return tuple(record.name for record in there)


def to_make(wanted: Iterable[str], held: Iterable[str]) -> tuple[str, ...]:
    """Those of some families that are made from reals, in the records' order.

    Args:
        wanted: the families asked for.
        held: the families of the forged pictures that the split holds as files; these are read instead.
    """
    chosen = set(wanted) - set(held)
    made = (name for name, record in known_families().items() if record.made_here or record.made_for_training)
    return tuple(name for name in made if name in chosen)


def draw_weights(names: Iterable[str]) -> dict[str, float]:
    """How often each family is drawn into training pairs, relative to the others.

    Returns:
        Weights by name: first the records that have one, in their order, then the others by the alphabet.
    """
    wanted = set(names)
    weights = {name: record.draw_weight for name, record in known_families().items()}
    return _weights(wanted, {name: weight for name, weight in weights.items() if weight is not None})


def source_weights(names: Iterable[str]) -> dict[str, float]:
    """How often a forgery is made from a real of each source, relative to the others; ordered as `draw_weights` is."""
    return _weights(set(names), {name: source.draw_weight for name, source in SOURCES.items()})


def _weights(wanted: set[str], known: dict[str, float]) -> dict[str, float]:
    weighted = {name: weight for name, weight in known.items() if name in wanted}
    return weighted | dict.fromkeys(sorted(wanted - weighted.keys()), OTHER_WEIGHT)


def evaluation_order(names: Iterable[str]) -> list[str]:
    """Families in the order of tables of results: those with a rank by it, the others behind them by the alphabet."""

    def place(name: str) -> tuple[bool, int, str]:
        rank = family(name).evaluation_rank
        return rank is None, rank or 0, name

    return sorted(set(names), key=place)
