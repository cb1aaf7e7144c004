"""From a detector's logit to a likelihood ratio, its verbal equivalent and a verdict.

The likelihood ratio says how much more probable the findings are if the face was forged than if it is an unaltered
photograph. It is reported as log10 LR: +1 means ten times more probable if forged, -1 ten times more probable if not.
It is not the probability that the face was forged; that also depends on what is known apart from the picture.

Verbal scale: ENFSI guideline for evaluative reporting in forensic science (2015), section on verbal equivalents.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unmask.errors import RefusalCode
from unmask.evidence.report import FaceFinding, Refusal, Verdict
from unmask.packs.card import Calibration

PROPOSITIONS: tuple[str, str] = (
    "The face was forged: synthesised, swapped or edited, in whole or in part.",
    "The face is an unaltered photograph of a person; re-encoding, resizing and overall changes of light or colour do "
    "not count as alteration.",
)
SHORT_PROPOSITIONS: tuple[str, str] = ("the face was forged", "the face is an unaltered photograph")

# log10 of the LR from which each word holds; below the first there is no support. The last begins just above 10^6.
VERBAL_SCALE: tuple[tuple[float, str], ...] = (
    (math.log10(2.0), "weak"),
    (1.0, "moderate"),
    (2.0, "moderately strong"),
    (3.0, "strong"),
    (4.0, "very strong"),
    (6.0, "extremely strong"),
)

_SUPPORTED = ("a forged face", "an unaltered photograph")
_CLOSEST_FIRST = (RefusalCode.CONDITION, RefusalCode.POOR_QUALITY, RefusalCode.TOO_SMALL, RefusalCode.NO_FACE)


def likelihood_ratio(calibration: Calibration, logit: float, quality: float, condition: str = "") -> float:
    """log10 likelihood ratio of a logit, by the calibration of the condition and quality bin that the face falls into.

    Args:
        calibration: from the pack's card.
        logit: raw output of the detector, any finite number, higher = more likely forged.
        quality: unified face quality, 0-100.
        condition: of the face (`unmask.faces.condition`); where the calibration has no bins for it, those for all hold.

    Returns:
        log10 LR within the bin's empirical bounds [`lower`, `upper`].

    Raises:
        ValueError: the logit is not finite, or no bin holds this quality.
    """
    if not math.isfinite(logit):
        raise ValueError(f"a logit must be a finite number, not {logit}")
    fit = calibration.bin_of(quality, condition)
    if fit is None:
        raise ValueError(f"quality {quality} is in none of the calibration's bins")
    return min(max(fit.intercept + fit.slope * logit, fit.lower), fit.upper)


def strength(log10_lr: float) -> str | None:
    """The ENFSI word for the strength of support, whichever proposition it is for; None for an LR between 1/2 and 2.

    Raises:
        ValueError: `log10_lr` is not a number.
    """
    if math.isnan(log10_lr):
        raise ValueError("log10_lr is not a number")
    size = abs(log10_lr)
    word = None
    for start, name in VERBAL_SCALE:
        # The guideline gives "very strong" up to and including a million.
        if size > start or (size == start and name != "extremely strong"):
            word = name
    return word


def support(log10_lr: float) -> str:
    """Verbal equivalent on the ENFSI scale, naming the supported proposition: "moderate support for a forged face"."""
    word = strength(log10_lr)
    if word is None:
        return "no support for one proposition over the other"
    return f"{word} support for {_SUPPORTED[0] if log10_lr > 0 else _SUPPORTED[1]}"


def explain(log10_lr: float) -> str:
    """The likelihood ratio as one plain sentence, the number rounded to two significant digits."""
    if strength(log10_lr) is None:
        return (
            f"The findings are about equally probable whether {SHORT_PROPOSITIONS[0]} or {SHORT_PROPOSITIONS[1]}: "
            "they do not support one over the other."
        )
    favoured, other = SHORT_PROPOSITIONS if log10_lr > 0 else SHORT_PROPOSITIONS[::-1]
    if abs(log10_lr) > 6.0:
        times = "more than 1,000,000"
    else:
        times = f"about {float(f'{10.0 ** abs(log10_lr):.2g}'):,.1f}".removesuffix(".0")
    return f"The findings are {times} times more probable if {favoured} than if {other}."


def decide(log10_lr: float, calibration: Calibration, condition: str = "") -> Verdict:
    """Forged or authentic from the decision limit on, to either side; else inconclusive.

    Args:
        log10_lr: of the face.
        calibration: from the pack's card.
        condition: of the face; its own limits hold where it has some, else the calibration's `decision_log10_lr`.

    Returns:
        Refused for a condition that cannot be judged.

    Raises:
        ValueError: `log10_lr` is not a number.
    """
    if math.isnan(log10_lr):
        raise ValueError("log10_lr is not a number")
    forged, authentic = calibration.verdict_limits(condition)
    if forged is None:
        return Verdict.REFUSED
    if log10_lr == 0.0 or -authentic < log10_lr < forged:
        return Verdict.INCONCLUSIVE
    return Verdict.FORGED if log10_lr > 0 else Verdict.AUTHENTIC


# Judged frames from which a track may speak for its video: 0.4 s at the usual 5 frames a second.
ENOUGH_FRAMES = 3


@dataclass(frozen=True)
class FileConclusion:
    """What the faces of a file say together; the fields are those of `Report`."""

    verdict: Verdict
    refusal: Refusal | None
    score: float | None
    log10_lr: float | None
    support: str | None


def is_brief(face: FaceFinding, frames_sampled: int | None) -> bool:
    """Whether a video track was judged on too few frames to speak for the video: fewer than `ENOUGH_FRAMES`.

    In a video of fewer sampled frames, fewer than all of them. Faces of pictures, and refused tracks, never are brief.
    """
    judged = sum(point.log10_lr is not None for point in face.track or ())
    return 0 < judged < min(ENOUGH_FRAMES, frames_sampled or ENOUGH_FRAMES)


def conclude(faces: Sequence[FaceFinding], frames_sampled: int | None = None) -> FileConclusion:
    """Combine the faces of one file.

    The judged face with the highest log10 LR speaks for the file. Forged if any face is; authentic if every judged face
    is; refused if none could be judged, with the code of the face that came closest to a judgement; else inconclusive.

    In a video of `frames_sampled` frames, brief tracks (`is_brief`) have no say if there is any longer one: a face seen
    for a moment, blurred or half hidden, must not decide over the person who is on screen throughout.

    Caveat: the more faces, the higher the highest LR among them by chance alone. If just one of n faces may have been
    forged, and nothing tells which, the LR for the file is the mean over the faces, up to n times (log10 n) lower than
    the one reported here. Files with many faces call for a look at each face.
    """
    judged = [face for face in faces if face.log10_lr is not None]
    if not judged:
        return FileConclusion(Verdict.REFUSED, _refusal_of(faces), None, None, None)
    judged = [face for face in judged if not is_brief(face, frames_sampled)] or judged
    speaker = max(judged, key=lambda face: face.log10_lr or 0.0)
    verdicts = {face.verdict for face in judged}
    if Verdict.FORGED in verdicts:
        verdict = Verdict.FORGED
    elif verdicts == {Verdict.AUTHENTIC}:
        verdict = Verdict.AUTHENTIC
    else:
        verdict = Verdict.INCONCLUSIVE
    return FileConclusion(verdict, None, speaker.score, speaker.log10_lr, speaker.support)


def _refusal_of(faces: Sequence[FaceFinding]) -> Refusal:
    refusals = [face.refusal for face in faces if face.refusal is not None]
    if not refusals:
        return Refusal(code=RefusalCode.NO_FACE, message="No face was found.")
    closest = min(
        refusals, key=lambda r: _CLOSEST_FIRST.index(r.code) if r.code in _CLOSEST_FIRST else len(_CLOSEST_FIRST)
    )
    if len(refusals) == 1:
        return closest
    return Refusal(code=closest.code, message=f"None of the {len(refusals)} faces could be judged. {closest.message}")
