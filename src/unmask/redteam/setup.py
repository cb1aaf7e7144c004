"""From a target's name and a manifest to a plan: who is attacked, with which pictures, at which thresholds."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from unmask.errors import DataError
from unmask.faces.identity import SAME_PERSON
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.systems import load_fused
from unmask.lab.run import config_of, is_run
from unmask.networks.victims.onnx_graph import OnnxGraph
from unmask.networks.victims.recognisers import RECOGNISERS, Recogniser, SFace
from unmask.packs import load_pack
from unmask.packs.assets import AssetUnavailable
from unmask.progress import SILENT, Progress
from unmask.redteam.attacks import ATTACKS
from unmask.redteam.attacks.adv_diffusion import AdvDiffusion, Inpainting
from unmask.redteam.attacks.contract import Attack
from unmask.redteam.campaign import DETECTOR, Goal, Plan
from unmask.redteam.generators import GENERATOR, make_painter
from unmask.redteam.sources import Face, find_faces, is_remote, pair_for_dodging, pair_for_impersonation, read_sources
from unmask.redteam.thresholds import Threshold, check_convention, pair_scores, threshold_at_rate
from unmask.redteam.victims import (
    FORGED,
    OTHER,
    REAL,
    SAME,
    DetectorVictim,
    Inputs,
    PackVictim,
    RecogniserVictim,
    Victim,
    operating_logit,
    pixels,
)

WHITE_BOX = ("corruptions", "fgsm", "pgd", "mi-fgsm", "apgd", "square")
BLACK_BOX = ("corruptions", "square")
PAINTED = ("adv-diffusion", "inpainting")
"""The attacks that need a generator."""
Goals = Sequence[str]


@dataclass(frozen=True)
class Painting:
    """With what adv-diffusion paints, and how.

    Attributes:
        generator: a pack of the task "face_inpainting" by name or folder, or a folder of Stable Diffusion inpainting.
        taef2: folder of the TAEF2 autoencoder, for packs.
        weights: folder of the face parser.
        surrogates: who is asked for gradients, of the victims; empty for all that have some, the attacked one aside.
        adaptive, composited, white_box: as of `attacks.adv_diffusion.AdvDiffusion`.
    """

    generator: str = GENERATOR
    taef2: Path | None = None
    weights: Path | None = None
    surrogates: tuple[str, ...] = ()
    adaptive: bool = True
    composited: bool = False
    white_box: bool = False

    def attacks(self, victims: Mapping[str, Victim]) -> dict[str, Attack]:
        """The attacks that paint, ready to be tried on victims.

        Raises:
            DataError, PackError: a surrogate that is no victim or has no gradients, or a file that cannot be had.
        """
        chosen = self.surrogates or tuple(name for name, victim in victims.items() if victim.differentiable)
        for name in chosen:
            if name not in victims:
                raise DataError(f"--surrogate {name}: no victim of this campaign; name it with --victim too")
            if not victims[name].differentiable:
                raise DataError(f"--surrogate {name}: it has no gradients; name a run or a recogniser")
        painter = make_painter(self.generator, self.taef2, self.weights)
        asked = [victims[name] for name in chosen]
        guided = AdvDiffusion(painter, asked, self.adaptive, self.composited, self.white_box)
        return {"adv-diffusion": guided, "inpainting": Inpainting(painter, composited=self.composited)}

    def facts(self) -> dict[str, Any]:
        """What decides the results, ready for JSON."""
        return {
            "generator": self.generator,
            "surrogates": list(self.surrogates) or "all other victims with gradients",
            "strength": "adaptive" if self.adaptive else "constant",
            "composited": self.composited,
            "white box": self.white_box,
        }


@dataclass(frozen=True)
class Effort:
    """How much is tried.

    Attributes:
        attacks: by name; empty for the usual ones.
        levels: strengths in grey levels.
        shares: strengths of attacks on a region.
        steps, queries: of every attack.
        transfer: the attack of the transfer matrix.
        most: pictures for each goal at most; 0 for all.
        seed: of everything random.
        batch: pictures at a time.
        guidance: strengths of adv-diffusion.
        painting: with what it paints.
    """

    attacks: tuple[str, ...] = ()
    levels: tuple[float, ...] = (2.0, 4.0, 8.0)
    shares: tuple[float, ...] = (0.02, 0.05, 0.1)
    steps: int = 20
    queries: int = 500
    transfer: str = "mi-fgsm"
    most: int = 0
    seed: int = 0
    batch: int = 8
    guidance: tuple[float, ...] = (75.0, 150.0, 300.0)
    painting: Painting = field(default_factory=Painting)

    def plan(
        self,
        kind: str,
        target: str,
        victims: Mapping[str, Victim],
        goals: Sequence[Goal],
        facts: Mapping[str, Any],
        identity: tuple[Recogniser, float] | None,
    ) -> Plan:
        """The plan of this effort."""
        attacks = self.attacks or (WHITE_BOX if victims[target].differentiable else BLACK_BOX)
        prepared: dict[str, Attack] = {}
        if {*attacks, self.transfer} & {*PAINTED}:
            prepared = self.painting.attacks(victims)
            facts = {**facts, "painting": self.painting.facts()}
        return Plan(
            kind,
            target,
            victims,
            tuple(goals),
            attacks,
            self.levels,
            self.shares,
            self.steps,
            self.queries,
            self.transfer,
            self.seed,
            self.batch,
            facts,
            identity,
            self.guidance,
            prepared,
        )

    def check(self) -> None:
        """Refuse unknown attacks before any face is looked for.

        Raises:
            DataError: there is none of a name.
        """
        for name in (*self.attacks, self.transfer):
            ATTACKS.load(name)


def plan_recogniser(
    target: str,
    data: Path,
    effort: Effort,
    others: Sequence[str] = (),
    impostors: Path | None = None,
    rate: float = 0.01,
    goals: Goals = ("impersonate", "dodge"),
    progress: Progress = SILENT,
) -> Plan:
    """Plan a campaign against a recogniser.

    Args:
        target: a name in `RECOGNISERS`, or "module:Class".
        data: the manifest of sources and targets.
        effort: how much is tried.
        others: further victims, for the transfer matrix.
        impostors: manifest of the impostor set, whose people are told apart; None for `data` itself.
        rate: false-match rate of the thresholds.
        goals: "impersonate", "dodge".
        progress: of the finding of faces.

    Raises:
        DataError: a victim, the data, a threshold or an attack that cannot be had.
    """
    effort.check()
    rows = read_sources(data)
    impostor_rows = None if impostors is None else read_sources(impostors, consent=False)
    networks = {name: _recogniser(name) for name in dict.fromkeys((target, *others))}
    card = load_pack(DETECTOR).card
    assert card.crop_margin is not None  # a forgery detector's card is not complete without
    size, margin = card.input_size[0], card.crop_margin  # of the detector that is asked whether it notices
    faces, skipped = find_faces(rows, size, margin, progress)
    compared = faces
    if impostor_rows is not None:
        compared, _ = find_faces(impostor_rows, size, margin, progress, "finding faces of impostors")
    victims: dict[str, Victim] = {}
    thresholds: dict[str, Threshold] = {}
    for number, (name, network) in enumerate(networks.items(), 1):
        vectors = _vectors(network, compared)
        people = [face.subject for face in compared]
        thresholds[name] = threshold_at_rate(vectors, people, rate)
        check_convention(name, _pairs_scored(network, compared, people))
        victims[name] = RecogniserVictim(network, name, thresholds[name].value)
        progress.update("measuring thresholds", number, len(networks))
    made = [_recogniser_goal(goal, faces, effort.most) for goal in goals]
    facts = {
        "data": _digest(faces),
        "impostors": str(impostors or data),
        "false_match_rate": rate,
        "thresholds": {name: asdict(one) for name, one in thresholds.items()},
        "skipped": [list(one) for one in skipped],
    }
    _note_skipped(skipped, progress)
    judge = (networks[target], thresholds[target].value)
    return effort.plan("recogniser", target, victims, made, facts, judge)


def plan_detector(
    kind: str,
    target: str,
    data: Path,
    effort: Effort,
    others: Sequence[str] = (),
    threshold: float | None = None,
    progress: Progress = SILENT,
    white_box: bool = False,
) -> Plan:
    """Plan a campaign against a forgery detector.

    Args:
        kind: "detector" for runs of the lab, attacked with gradients; "pack" for packs, a black box.
        target: a run folder (several with commas between them are fused), or a pack by name or folder.
        data: the manifest, with labels.
        effort: how much is tried.
        others: further victims, runs or packs, for the transfer matrix.
        threshold: logit of the target above which a face counts as forged; None for 0 (a run) or for the first
            operating point on the card (a pack).
        progress: of the finding of faces.
        white_box: whether a pack that is the target is attacked with the gradients of its graph too.

    Raises:
        DataError, PackError: a victim or the data that cannot be had, or pictures of one class only.
    """
    effort.check()
    rows = read_sources(data, labels=True)
    labels = {row.label for row in rows}
    if len(labels) < 2:
        only = "forged" if labels == {"1"} else "real"
        raise DataError(f"{data}: all pictures are {only}; a detector is measured on both, add some of the other class")
    victims: dict[str, Victim] = {}
    margins: dict[str, float] = {}
    size = 0
    for name in dict.fromkeys((target, *others)):
        wanted = kind if name == target else None
        own = name == target
        victims[name], margins[name], side = _detector(name, wanted, threshold if own else None, white_box and own)
        size = size or side
    if len(set(margins.values())) > 1:
        crops = ", ".join(f"{name} {value:g}" for name, value in margins.items())
        raise DataError(f"the victims crop faces at different margins ({crops}); attack those of one margin together")
    faces, skipped = find_faces(rows, size, margins[target], progress)
    for name, victim in victims.items():
        if isinstance(victim, PackVictim):
            check_convention(name, _labels_scored(victim, faces))
    goals = [_detector_goal(name, label, faces, effort.most) for name, label in (("hide", FORGED), ("accuse", REAL))]
    facts: dict[str, Any] = {
        "data": _digest(faces),
        "thresholds": {name: getattr(victim, "threshold", 0.0) for name, victim in victims.items()},
        "skipped": [list(one) for one in skipped],
    }
    attacked = victims[target]
    if isinstance(attacked, PackVictim):
        facts["pack_sha256"] = attacked.pack.card.sha256
        facts["white_box"] = white_box
    _note_skipped(skipped, progress)
    return effort.plan(kind, target, victims, goals, facts, _sface(progress))


def _sface(progress: Progress) -> tuple[Recogniser, float] | None:
    """Who says whether an attacked face is still the same person, if its file can be had."""
    try:
        return SFace().eval(), SAME_PERSON
    except AssetUnavailable as error:
        progress.note(f"whether identities are kept is not measured: {error}")
        return None


def _recogniser(name: str) -> Recogniser:
    made = RECOGNISERS.load(name)
    if not (isinstance(made, type) and issubclass(made, Recogniser)):
        raise DataError(f"{name}: not a class derived from unmask.networks.victims.recognisers.Recogniser")
    return made().eval()


def _detector(
    name: str, kind: str | None, threshold: float | None, white_box: bool = False
) -> tuple[Victim, float, int]:
    """A victim, the margin of its crops and their side."""
    if is_remote(name):
        raise DataError(f"{name}: only models on this machine are attacked")
    folders = [Path(part) for part in name.split(",")]
    runs = all(map(is_run, folders))
    if kind == "detector" and not runs:
        raise DataError(f"{name}: no run folder; `unmask redteam pack` attacks packs")
    if runs and kind != "pack":
        configs: list[DetectionTrainConfig] = [config_of(folder) for folder in folders]
        detector = load_fused(folders)
        if len({config.margin for config in configs}) > 1:
            raise DataError(f"{name}: these runs crop faces at different margins")
        return DetectorVictim(detector, name, threshold or 0.0), configs[0].margin, configs[0].size
    pack = load_pack(name, "forgery_detection")
    margin = pack.card.crop_margin
    assert margin is not None  # a forgery detector's card is not complete without
    if threshold is None:
        threshold = operating_logit(pack)
    return PackVictim(pack, threshold, OnnxGraph(pack) if white_box else None), margin, pack.card.input_size[0]


def _vectors(
    network: Recogniser, faces: Sequence[Face], change: Callable[[Tensor], Tensor] = lambda x: x
) -> np.ndarray:
    parts = []
    with torch.no_grad():
        for start in range(0, len(faces), 16):
            some = faces[start : start + 16]
            x = pixels(torch.stack([face.picture for face in some]))
            parts.append(network(change(x), np.stack([face.matrix for face in some])))
    return torch.cat(parts).numpy()


def _pairs_scored(
    network: Recogniser, faces: Sequence[Face], people: Sequence[str]
) -> Callable[[Callable[[Tensor], Tensor]], tuple[np.ndarray, np.ndarray]]:
    return lambda change: pair_scores(_vectors(network, faces, change), people)


def _labels_scored(
    victim: PackVictim, faces: Sequence[Face]
) -> Callable[[Callable[[Tensor], Tensor]], tuple[np.ndarray, np.ndarray]]:
    labels = np.array([face.label for face in faces])

    def scored(change: Callable[[Tensor], Tensor]) -> tuple[np.ndarray, np.ndarray]:
        model = victim.bind(Inputs(faces[0].picture[None], torch.zeros(1, dtype=torch.int64)))
        parts = [
            model(change(pixels(torch.stack([face.picture for face in faces[start : start + 16]]))), torch.empty(0))
            for start in range(0, len(faces), 16)
        ]
        logits = torch.cat(parts)
        return labels, (logits[:, FORGED] - logits[:, REAL]).numpy()

    return scored


def _recogniser_goal(goal: str, faces: Sequence[Face], most: int) -> Goal:
    if goal not in ("impersonate", "dodge"):
        raise DataError(f"no goal {goal}; name impersonate or dodge")
    imitated = goal == "impersonate"
    pairs = (pair_for_impersonation if imitated else pair_for_dodging)(faces)
    pairs = pairs[: most or None]
    sources, references = [faces[row] for row, _ in pairs], [faces[row] for _, row in pairs]
    others = [_stranger(faces, source) for source in sources]
    starts = references if imitated else others
    begun = None
    if all(start is not None for start in starts):
        begun = torch.stack([_onto(start, source) for start, source in zip(starts, sources, strict=True) if start])
    label, target = (OTHER, SAME) if imitated else (SAME, OTHER)
    inputs = replace(
        _inputs(sources, label),
        targets=torch.full((len(sources),), target),
        references=torch.stack([face.picture for face in references]),
        reference_matrices=np.stack([face.matrix for face in references]),
        starts=begun,
    )
    return Goal(goal, tuple(face.name for face in sources), tuple(face.subject for face in sources), inputs)


def _detector_goal(name: str, label: int, faces: Sequence[Face], most: int) -> Goal:
    chosen = [face for face in faces if face.label == label][: most or None]
    others = [face for face in faces if face.label != label]
    if not chosen or not others:
        absent = "forged" if (label == FORGED) != bool(others) else "real"
        raise DataError(f"no face was found in any of the {absent} pictures; a detector is measured on both classes")
    starts = torch.stack([others[number % len(others)].picture for number in range(len(chosen))])
    inputs = replace(_inputs(chosen, label), targets=torch.full((len(chosen),), 1 - label), starts=starts)
    return Goal(name, tuple(face.name for face in chosen), tuple(face.subject for face in chosen), inputs)


def _inputs(faces: Sequence[Face], label: int) -> Inputs:
    return Inputs(
        torch.stack([face.picture for face in faces]),
        torch.full((len(faces),), label),
        landmarks=np.stack([face.landmarks for face in faces]),
        matrices=np.stack([face.matrix for face in faces]),
    )


def _stranger(faces: Sequence[Face], source: Face) -> Face | None:
    return next((face for face in faces if face.subject != source.subject), None)


def _onto(face: Face, source: Face) -> Tensor:
    """A face drawn where another one lies, over its picture: uint8 (3, S, S)."""
    to_template, from_template = (np.vstack([one.matrix, [0, 0, 1]]) for one in (face, source))
    matrix = (np.linalg.inv(from_template) @ to_template)[:2]
    pixel = np.ascontiguousarray(face.picture.permute(1, 2, 0).numpy())
    side = source.picture.shape[-1]
    drawn = cv2.warpAffine(pixel, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return torch.from_numpy(drawn.transpose(2, 0, 1).copy())


def _digest(faces: Sequence[Face]) -> str:
    lines = sorted(f"{face.name},{face.digest},{face.subject},{face.label},{face.target}" for face in faces)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _note_skipped(skipped: Sequence[tuple[str, str]], progress: Progress) -> None:
    if skipped:
        more = f", and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        progress.note(f"passed over: {skipped[0][0]} ({skipped[0][1]}){more}")
