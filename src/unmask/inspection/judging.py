"""What becomes of a face, stage by stage: measured, cropped, scored, and then released from its pixels.

Each stage is a frozen record that holds the one before, or what is still needed of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np

from unmask.edits.prediction import EditPredictor, EditView
from unmask.errors import PackError, RefusalCode
from unmask.evidence.likelihood import decide, decision_for, likelihood_ratio, support, why_inconclusive
from unmask.evidence.report import (
    Decision,
    FaceFinding,
    Inconclusive,
    NamingFinding,
    Opinion,
    Quality,
    Refusal,
    Remark,
    SequenceFinding,
    StretchFinding,
    TrackPoint,
    Verdict,
    as_map,
    in_words,
)
from unmask.faces.alignment import Box, context_crop
from unmask.faces.condition import Condition, condition_of
from unmask.faces.finding import FoundFace
from unmask.faces.scope import ScopeClass, out_of_scope
from unmask.forgery.naming import PromptNamer
from unmask.forgery.scoring import FaceScore, ForgeryScorer, probability
from unmask.packs import Card, Pack

_JPEG_QUALITY = 90


class PackAnswer(NamedTuple):
    """A pack's logit for a face, and the unified quality (0-100) and condition that go with it.

    One frame's; or a track's means, and the condition of most of its frames.
    """

    logit: float
    quality: float
    condition: str = ""


@dataclass(frozen=True, slots=True)
class MeasuredFace:
    """A face in a picture or a sampled frame, with its quality; `time` of the frame in seconds, None in a picture."""

    time: float | None
    face: FoundFace
    quality: Quality


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """A face as one pack sees it: uint8 (S, S, 3) RGB, and the (x, y, width, height) in the picture that it covers."""

    pixels: np.ndarray
    region: Box


@dataclass(frozen=True, slots=True)
class CroppedFace:
    """A measured face with all that is needed of its picture.

    Attributes:
        measured: the stage before.
        refusal: why the leading pack does not judge it, if so; then no other pack does.
        crops: one per pack, the leading one's first; None where that pack does not judge it.
        picture: the leading pack's crop, also of a refused face if pictures are wanted.
        edit_view: what edits are read from; None without an edit predictor and for a refused face.
        naming_views: one per pack of prompts, what it sees of the face, uint8 (S, S, 3); None where that is too little.
        condition: how the face was published, by the leading pack's crop; None where that pack does not look at it.
        remarks: what is covered.
    """

    measured: MeasuredFace
    refusal: Refusal | None
    crops: tuple[FaceCrop | None, ...]
    picture: FaceCrop | None
    edit_view: EditView | None
    condition: Condition | None = None
    naming_views: tuple[np.ndarray | None, ...] = ()
    remarks: tuple[ScopeClass, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoredFace:
    """A cropped face with the packs' scores, the leading one's first; None from a pack that does not judge it."""

    cropped: CroppedFace
    scores: tuple[FaceScore | None, ...]

    @property
    def answers(self) -> tuple[PackAnswer | None, ...]:
        """The packs' answers, in the order of `scores`."""
        quality, condition = self.cropped.measured.quality.unified, self.cropped.condition or ""
        return tuple(None if score is None else PackAnswer(score.logit, quality, condition) for score in self.scores)


@dataclass(frozen=True, slots=True)
class FaceObservation:
    """A scored face without the pixels that the packs looked at: what is kept until the report is written.

    Attributes:
        measured: box, landmarks and quality.
        refusal: the leading pack's, if it does not judge the face.
        map: what the leading pack's map covers, (x, y, width, height) in the picture, and the map, float32 (h, w) in
            [0, 1]; None for a refused face.
        picture: the leading pack's crop as a JPEG file; empty if it is not wanted.
        edit_view: what edits are read from, if they may be.
        naming_views: what packs of prompts see of the face.
    """

    measured: MeasuredFace
    refusal: Refusal | None
    map: tuple[Box, np.ndarray] | None
    picture: bytes
    edit_view: EditView | None
    naming_views: tuple[np.ndarray | None, ...] = ()


@dataclass(frozen=True, slots=True)
class JudgedFace:
    """A face of a picture, or a person's track: the observation that shows it and what all packs say of it.

    Of a track also its `points`, how many sampled frames it was seen in, and the `stretch` that stands out.
    """

    observation: FaceObservation
    judgements: tuple["Judgement", ...]
    points: tuple[TrackPoint, ...] | None = None
    condition: str | None = None
    frames_seen: int | None = None
    stretch: StretchFinding | None = None
    remarks: tuple[ScopeClass, ...] = ()

    @property
    def may_be_edited(self) -> bool:
        """Whether edits are read and families named: of faces judged, and not judged authentic."""
        return self.judgements[0].opinion.verdict in (Verdict.FORGED, Verdict.INCONCLUSIVE)

    def finding(
        self, index: int, sequence: SequenceFinding | None, naming: Sequence[NamingFinding] = ()
    ) -> FaceFinding:
        """The report's entry, with what is said of edits and of the family."""
        judgement, shown = self.judgements[0], self.observation
        leading, refusal = judgement.opinion, shown.refusal or judgement.refusal
        face = shown.measured.face
        return FaceFinding(
            index=index,
            box=face.box,
            landmarks=[(float(x), float(y)) for x, y in face.landmarks],
            detection_confidence=face.confidence,
            quality=shown.measured.quality,
            verdict=leading.verdict,
            refusal=refusal,
            score=leading.score,
            log10_lr=leading.log10_lr,
            support=leading.support,
            map=None if shown.map is None or refusal is not None else as_map(*shown.map),
            sequence=sequence,
            time=shown.measured.time,
            track=None if self.points is None else list(self.points),
            opinions=[one.opinion for one in self.judgements] if len(self.judgements) > 1 and refusal is None else None,
            condition=self.condition,
            frames_seen=self.frames_seen,
            frames_scored=None if self.points is None else sum(point.score is not None for point in self.points),
            naming=list(naming) or None,
            decision=judgement.decision,
            inconclusive=judgement.inconclusive,
            stretch=None if refusal is not None else self.stretch,
            remarks=[] if refusal is not None else [_remark(one) for one in self.remarks if one != "drawing"],
        )


def _remark(seen: Literal["covered_eyes", "covered_mouth"]) -> Remark:
    what = "eyes seem" if seen == "covered_eyes" else "mouth seems"
    return Remark(
        code=seen,
        message=f"The {what} to be covered. The detector was not made for that, and what was altered beneath cannot be "
        "seen.",
    )


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a pack says of a face, the limits of its verdict, and why there is none, if so.

    Attributes:
        opinion: verdict and numbers.
        refusal: why there are no numbers, where the calibration has nothing to say of such an answer.
        decision: the limits; None where there are no numbers.
        inconclusive: why there is no verdict.
    """

    opinion: Opinion
    refusal: Refusal | None = None
    decision: Decision | None = None
    inconclusive: Inconclusive | None = None


class PackScorer:
    """One forgery pack at work: how it sees a face, which faces it refuses, and what its logits mean."""

    def __init__(self, pack: Pack, name: str, decide_at: float | None = None) -> None:
        """Take a pack.

        Args:
            pack: of task "forgery_detection".
            name: what opinions call it.
            decide_at: the LR from which on a verdict is given; that of its card if None.

        Raises:
            PackError: the pack is not one that judges faces in visible light.
        """
        card = pack.card
        if card.calibration is None or card.crop_margin is None:
            raise PackError(f"card of pack {card.name!r} has no calibration or crop margin: export the pack anew")
        if "visible" not in card.spectra:
            spectra = ", ".join(card.spectra)
            raise PackError(f"pack {card.name!r} was trained for {spectra}; give one trained for visible light")
        try:
            self._scorer = ForgeryScorer(pack)
        except ValueError as error:
            raise PackError(f"{error}: give another pack") from error
        self.name = name
        self.calibration = card.calibration
        self.stretch_limit = card.stretch
        self._margin = card.crop_margin
        self._decide_at = decide_at

    def open_ahead(self) -> None:
        """Begin to load the network in the background: for faces that will soon be scored."""
        self._scorer.open_ahead()

    def refusal(self, face: FoundFace, quality: Quality) -> Refusal | None:
        """Why this pack does not judge a face, by its own limits of size and quality; None if it does."""
        limits = self.calibration
        if face.box[2] < limits.min_face_px:
            message = f"The face is {face.box[2]:.0f} pixels wide; {limits.min_face_px:.0f} are needed."
            return Refusal(code=RefusalCode.TOO_SMALL, message=message)
        if quality.unified < limits.min_quality:
            worst = min(quality.components, key=lambda name: quality.components[name])
            message = (
                f"The quality of the face is {quality.unified:.0f} of 100; {limits.min_quality:.0f} are needed. "
                f"Weakest: {in_words(worst).lower()}."
            )
            return Refusal(code=RefusalCode.POOR_QUALITY, message=message)
        return None

    def calibration_refusal(self, condition: Condition | str, quality: float) -> Refusal | None:
        """Why this pack's card does not let it judge faces in a condition, or of a quality in it; None if it does."""
        limit = self.calibration.limit(condition)
        if limit is not None and limit.decision_log10_lr is None:
            message = f"Faces in this condition ({condition}) cannot be judged by {self.name}: {limit.reason}."
            return Refusal(code=RefusalCode.CONDITION, message=message)
        fit = self.calibration.bin_of(quality, condition)
        if fit is None or not fit.tells_nothing:
            return None
        kind = f"{condition} faces" if fit.condition else "faces"
        better = [
            other.quality_min
            for other in self.calibration.bins
            if other.condition == fit.condition and other.quality_min > quality and not other.tells_nothing
        ]
        message = (
            f"The calibration of {self.name} has no information on {kind} of quality {fit.quality_min:.0f} to "
            f"{fit.quality_max:.0f}; this one has {quality:.0f}."
        )
        if better:
            message += f" A larger or sharper copy, of quality {min(better):.0f} or more, can be judged."
        else:
            message += " The original, at its own size, may be judged, or another pack (--pack) may know such faces."
        return Refusal(code=RefusalCode.POOR_QUALITY if better else RefusalCode.CONDITION, message=message)

    def crop(self, pixels: np.ndarray, face: FoundFace) -> FaceCrop:
        """The face in a picture, uint8 (H, W, 3) RGB, as this pack sees it."""
        return FaceCrop(*context_crop(pixels, face.box, self._margin, self._scorer.size))

    def score(self, crops: Sequence[FaceCrop]) -> list[FaceScore]:
        """The scores of crops of its own, in order."""
        return self._scorer.score([crop.pixels for crop in crops])

    def judge(self, answer: PackAnswer | None) -> Judgement:
        """What an answer means by this pack's calibration; a refusal if there is none, or nothing is known of such."""
        refusal = None if answer is None else self.calibration_refusal(answer.condition, answer.quality)
        if answer is None or refusal is not None:
            none = Opinion(pack=self.name, verdict=Verdict.REFUSED, score=None, log10_lr=None, support=None)
            return Judgement(none, refusal)
        log10_lr = likelihood_ratio(self.calibration, answer.logit, answer.quality, answer.condition)
        opinion = Opinion(
            pack=self.name,
            verdict=decide(log10_lr, self.calibration, answer.condition, self._decide_at),
            score=probability(answer.logit),
            log10_lr=log10_lr,
            support=support(log10_lr),
        )
        decision = decision_for(self.calibration, answer.condition, self._decide_at)
        why = None
        if decision is not None and opinion.verdict is Verdict.INCONCLUSIVE:
            why = why_inconclusive(log10_lr, self.calibration, answer.quality, answer.condition, decision)
        return Judgement(opinion, None, decision, why)


_DRAWING = Refusal(
    code=RefusalCode.OUT_OF_SCOPE,
    message="The face seems to be drawn or printed in few tones. The detector knows photographs alone.",
)


def crop_face(
    pixels: np.ndarray,
    measured: MeasuredFace,
    scorers: Sequence[PackScorer],
    predictor: EditPredictor | None,
    namers: Sequence[PromptNamer] = (),
    *,
    pictures: bool,
) -> CroppedFace:
    """Cut a face out as each pack that judges it sees it.

    Args:
        pixels: uint8 (H, W, 3) RGB, the picture or frame.
        measured: the face.
        scorers: the packs, the leading one first.
        predictor: for the crop that edits are read from.
        namers: the packs of prompts.
        pictures: whether a refused face is cut out as well, to be shown.
    """
    face, quality = measured.face, measured.quality
    leader, *others = scorers
    refusal = leader.refusal(face, quality)
    leading = leader.crop(pixels, face) if refusal is None or pictures else None
    if refusal is not None or leading is None:
        return CroppedFace(measured, refusal, (None,) * len(scorers), leading, None)
    condition = condition_of(leading.pixels, video=measured.time is not None)
    remarks = out_of_scope(leading.pixels, leading.region, face.landmarks)
    refusal = _DRAWING if "drawing" in remarks else leader.calibration_refusal(condition, quality.unified)
    if refusal is not None:
        return CroppedFace(measured, refusal, (None,) * len(scorers), leading if pictures else None, None, condition)
    more = [
        None
        if other.refusal(face, quality) is not None or other.calibration_refusal(condition, quality.unified) is not None
        else other.crop(pixels, face)
        for other in others
    ]
    edit_view = None if predictor is None else predictor.view(pixels, face.box, quality)
    views = tuple(
        namer.crop(pixels, face.box) if face.box[2] >= namer.calibration.min_face_px else None for namer in namers
    )
    return CroppedFace(measured, None, (leading, *more), leading, edit_view, condition, views, remarks)


def score_faces(faces: Sequence[CroppedFace], scorers: Sequence[PackScorer]) -> list[ScoredFace]:
    """Have every pack score the faces that it judges, all of them in one run."""
    columns: list[list[FaceScore | None]] = []
    for number, scorer in enumerate(scorers):
        crops = [face.crops[number] for face in faces]
        scores = iter(scorer.score([crop for crop in crops if crop is not None]))
        columns.append([None if crop is None else next(scores) for crop in crops])
    return [ScoredFace(face, scores) for face, scores in zip(faces, zip(*columns, strict=True), strict=True)]


def release_pixels(face: ScoredFace, *, pictures: bool) -> FaceObservation:
    """What is kept of a scored face; the picture, if wanted, as a small JPEG file."""
    cropped, leading = face.cropped, face.scores[0]
    shown = cropped.picture
    return FaceObservation(
        measured=cropped.measured,
        refusal=cropped.refusal,
        map=None if leading is None or shown is None else (shown.region, leading.map),
        picture=jpeg(shown.pixels) if pictures and shown is not None else b"",
        edit_view=cropped.edit_view,
        naming_views=cropped.naming_views,
    )


def jpeg(pixels: np.ndarray) -> bytes:
    """A picture, uint8 (H, W, 3) RGB, as a JPEG file."""
    _, encoded = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return encoded.tobytes()


def pack_names(cards: Sequence[Card], given: Sequence[str]) -> list[str]:
    """What to call each pack: by its name; if that is shared, with its version; if that is too, as it was given.

    Args:
        cards: of the packs.
        given: how each was asked for.

    Raises:
        PackError: a pack is given twice.
    """
    names = [card.name for card in cards]
    versions = [f"{card.name} {card.version}" for card in cards]
    models = [(version, card.sha256) for version, card in zip(versions, cards, strict=True)]
    for number, model in enumerate(models):
        if model in models[:number]:
            raise PackError(f"pack {given[number]!r} is {versions[number]}, which is given twice: give each pack once")
    return [
        name if names.count(name) == 1 else version if versions.count(version) == 1 else as_given
        for name, version, as_given in zip(names, versions, given, strict=True)
    ]
