"""From a detector's logit to a likelihood ratio, its verbal equivalent and a verdict.

The likelihood ratio says how much more probable the findings are if the face was forged than if it is an unaltered
photograph. It is reported as log10 LR: +1 means ten times more probable if forged, -1 ten times more probable if not.
It is not the probability that the face was forged; that also depends on what is known apart from the picture.

Verbal scale: ENFSI guideline for evaluative reporting in forensic science (2015), section on verbal equivalents.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unmask.errors import RefusalCode
from unmask.evidence.report import Decision, FaceFinding, Inconclusive, Refusal, StretchFinding, Verdict
from unmask.packs.card import Calibration, CalibrationBin

PROPOSITIONS: tuple[str, str] = (
    "The face was forged: synthesised, swapped or edited, in whole or in part.",
    "The face is an unaltered photograph of a person; re-encoding, resizing and overall changes of light or colour do "
    "not count as alteration.",
)
SEVERAL_PROPOSITIONS: tuple[str, str] = (
    "One of the {faces} judged faces was forged; beforehand each is as likely to be the one as any other.",
    "None of the {faces} judged faces was forged: each is an unaltered photograph of a person.",
)
"""The propositions for a file with several judged faces."""
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
_CLOSEST_FIRST = (
    RefusalCode.CONDITION,
    RefusalCode.OUT_OF_SCOPE,
    RefusalCode.POOR_QUALITY,
    RefusalCode.TOO_SMALL,
    RefusalCode.NO_FACE,
)


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


def lr_text(log10_lr: float) -> str:
    """The likelihood ratio itself, two significant digits: "13", or "1/13" where it favours the second proposition.

    Rounded towards 1, so that no number looks stronger than the word or the verdict beside it.

    Raises:
        ValueError: `log10_lr` is not a number.
    """
    if math.isnan(log10_lr):
        raise ValueError("log10_lr is not a number")
    size = abs(log10_lr)
    if size > 6.0:
        times = "1,000,000" if log10_lr < 0 else ">1,000,000"
        return times if log10_lr > 0 else f"<1/{times}"
    step = 10.0 ** (math.floor(size + 1e-12) - 1)
    times = f"{math.floor(10.0**size / step + 1e-9) * step:,.1f}"
    if times != "1.0":
        times = times.removesuffix(".0")
    return times if log10_lr >= 0 or times == "1.0" else f"1/{times}"


def heading(log10_lr: float) -> str:
    """What is said first of a face or file: "Moderate support for a forged face, LR 13"."""
    text = support(log10_lr)
    return f"{text[0].upper()}{text[1:]}, LR {lr_text(log10_lr)}"


def explain(log10_lr: float, faces: int = 1) -> str:
    """The likelihood ratio as one plain sentence, the number as `lr_text` rounds it.

    Args:
        log10_lr: of a face, or of a file.
        faces: how many faces it is the mean of.
    """
    short = SHORT_PROPOSITIONS if faces == 1 else (f"one of the {faces} faces was forged", "none of them was")
    if strength(log10_lr) is None:
        return (
            f"The findings are about equally probable whether {short[0]} or {short[1]}: "
            "they do not support one over the other."
        )
    favoured, other = short if log10_lr > 0 else short[::-1]
    times = "more than 1,000,000" if abs(log10_lr) > 6.0 else f"about {lr_text(abs(log10_lr))}"
    return f"The findings are {times} times more probable if {favoured} than if {other}."


LEAST_SUPPORT = VERBAL_SCALE[0][0]
"""log10 of the smallest LR for which a verdict is ever given: below it the scale knows no support for either side."""


def decision_for(calibration: Calibration, condition: str = "", decide_at: float | None = None) -> Decision | None:
    """The limits that a face's likelihood ratio is held against.

    Args:
        calibration: from the pack's card.
        condition: of the face; its own limits hold where it has some, else the calibration's `decision_log10_lr`.
        decide_at: an LR, at least 2, from which on (and from whose inverse down) a verdict is given instead.

    Returns:
        The limits; None for a condition that cannot be judged.
    """
    forged, authentic = calibration.verdict_limits(condition)
    if forged is None:
        return None
    own = calibration.limit(condition)
    if decide_at is not None:
        limit = math.log10(decide_at)
        return Decision(
            forged_log10_lr=limit,
            authentic_log10_lr=limit,
            set_by="option",
            false_alarms=None,
            worst_false_alarms=None,
            worst_source=None,
            cllr=calibration.cllr,
            cllr_min=calibration.cllr_min,
        )
    return Decision(
        forged_log10_lr=max(forged, LEAST_SUPPORT),
        authentic_log10_lr=max(authentic, LEAST_SUPPORT),
        set_by="card",
        false_alarms=None if own is None else own.false_alarms,
        worst_false_alarms=None if own is None else own.worst_false_alarms,
        worst_source=None if own is None else own.worst_source,
        called_authentic=None if own is None else own.authentic,
        misses=None if own is None else own.misses,
        n_real=None if own is None else own.n_real,
        n_forged=None if own is None else own.n_forged,
        held_out=None if own is None else calibration.held_out,
        cllr=calibration.cllr,
        cllr_min=calibration.cllr_min,
    )


def decide(log10_lr: float, calibration: Calibration, condition: str = "", decide_at: float | None = None) -> Verdict:
    """Forged or authentic from the decision limit on, to either side; else inconclusive.

    Args:
        log10_lr: of the face.
        calibration: from the pack's card.
        condition: of the face.
        decide_at: a limit instead of the card's, see `decision_for`.

    Returns:
        Refused for a condition that cannot be judged.

    Raises:
        ValueError: `log10_lr` is not a number.
    """
    if math.isnan(log10_lr):
        raise ValueError("log10_lr is not a number")
    limits = decision_for(calibration, condition, decide_at)
    if limits is None:
        return Verdict.REFUSED
    if -limits.authentic_log10_lr < log10_lr < limits.forged_log10_lr:
        return Verdict.INCONCLUSIVE
    return Verdict.FORGED if log10_lr > 0 else Verdict.AUTHENTIC


def limit_words(limits: Decision, condition: str | None) -> str:
    """The limits of a verdict as a sentence, with the false alarms that the card states for them.

    Args:
        limits: of a face or a file.
        condition: whose limits they are, if it is one's.
    """
    forged, authentic = lr_text(limits.forged_log10_lr), lr_text(-limits.authentic_log10_lr)
    where = f" in the condition {condition!r}" if condition else ""
    text = f'Verdicts{where}: "forged" from LR {forged}, "authentic" from LR {authentic} down'
    if limits.set_by == "option":
        return f"{text}; limits set by --decide, for which the card states no false alarms."
    if limits.false_alarms is None or limits.worst_false_alarms is None:
        return f"{text}; the card states no false alarms for them."
    seen = ", from sources that the scoring networks had not seen" if limits.held_out else ""
    return (
        f"{text}. Of the calibration's authentic faces{seen}, {share(limits.false_alarms)} are called forged, "
        f"{share(limits.worst_false_alarms)} of the worst source ({limits.worst_source})."
    )


def share(part: float) -> str:
    """A small share in [0, 1] for people, with one decimal: "0.4 %"."""
    return f"{100 * part:.1f} %"


def clock_time(seconds: float) -> str:
    """A time in a video for people: "7.2 s", from a minute on "1:07"."""
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def stretch_words(stretch: StretchFinding) -> str:
    """Where a track stands out, and how often that is said of an authentic one, as two sentences."""
    return (
        f"From {clock_time(stretch.start)} to {clock_time(stretch.end)} the evidence for forgery is higher than in the "
        f"rest of this person's track: LR {lr_text(stretch.log10_lr)} there, {lr_text(stretch.log10_lr_outside)} "
        f"elsewhere. Of authentic videos made to measure it, {share(stretch.false_alarms)} had a stretch named. It "
        "takes no part in the verdict."
    )


_REFUSAL_WORDS = {
    RefusalCode.NO_FACE: "no face",
    RefusalCode.TOO_SMALL: "size",
    RefusalCode.POOR_QUALITY: "quality",
    RefusalCode.CONDITION: "condition",
    RefusalCode.OUT_OF_SCOPE: "scope",
}


REFUSAL_REMEDIES: Mapping[RefusalCode, str] = {
    RefusalCode.NOT_FOUND: "Check the path; what is on the web has to be downloaded first.",
    RefusalCode.UNREADABLE: "Copy it to where you may read it.",
    RefusalCode.EMPTY: "Fetch it again: an interrupted download often leaves an empty file.",
    RefusalCode.UNSUPPORTED: "Convert it without loss and say so in your report.",
    RefusalCode.CORRUPT: "Fetch it again and compare its hash with the sender's; do not repair it.",
    RefusalCode.TOO_LARGE: "Cut out the faces at full resolution rather than scaling the picture down.",
    RefusalCode.NO_VIDEO: "If you expected a picture, look at what a player shows.",
    RefusalCode.NO_FACE: "Turn a picture that lies on its side; cut out faces that are tiny in a large picture. "
    "Photographs are found by a drawing with unmask search.",
    RefusalCode.TOO_SMALL: "Ask for the original instead of a preview; enlarging adds no evidence.",
    RefusalCode.POOR_QUALITY: "Ask for a better original, or other frames of the video; turn it upright.",
    RefusalCode.CONDITION: "Ask for the original, in colour and at its own size; another pack may judge it (--pack).",
    RefusalCode.OUT_OF_SCOPE: "Ask for the photograph; unmask search finds photographs by a drawing.",
}
"""What would help, by why a file or face was refused."""


def refusal_word(code: RefusalCode) -> str:
    """What stood in the way of a judgement, in a word: "quality" of "cannot be judged (quality)"."""
    return _REFUSAL_WORDS.get(code, "file")


def why_inconclusive(
    log10_lr: float, calibration: Calibration, quality: float, condition: str, limits: Decision
) -> Inconclusive:
    """Why a likelihood ratio between the limits is there, and what would help.

    Args:
        log10_lr: of the face, between the limits.
        calibration: from the pack's card.
        quality: unified face quality, 0-100; `calibration` has a bin for it.
        condition: of the face.
        limits: of the verdict.
    """
    forged = log10_lr >= 0
    limit = limits.forged_log10_lr if forged else limits.authentic_log10_lr
    sign = 1 if forged else -1
    fit = calibration.bin_of(quality, condition)
    if fit is None or _reach(fit, forged) >= limit:
        return Inconclusive(
            code="weak_evidence",
            message=f"The findings do not reach LR {lr_text(sign * limit)}, from which on a verdict is given.",
            remedy="An earlier or less compressed copy, more pictures of the same event, another detector (--pack) or "
            "what is known of the source may tell more.",
        )
    kind = f"{condition} faces" if fit.condition else "faces"
    better = [
        other
        for other in calibration.bins
        if other.condition == fit.condition and other.quality_min > quality and _reach(other, forged) >= limit
    ]
    message = (
        f"Of {kind} of quality {fit.quality_min:.0f} to {fit.quality_max:.0f} the calibration data support no LR "
        f"beyond {lr_text(sign * max(0.0, _reach(fit, forged)))}; a verdict needs {lr_text(sign * limit)}."
    )
    if better:
        remedy = f"A larger or sharper copy: from quality {better[0].quality_min:.0f} on a verdict is possible."
    else:
        remedy = (
            f"No quality of such faces gives a verdict of this kind: another detector (--pack), the original file"
            f"{' in colour' if fit.condition == 'greyscale' else ''} or what is known of the source may tell more."
        )
    return Inconclusive(code="calibration_bounds", message=message, remedy=remedy)


def _reach(fit: CalibrationBin, forged: bool) -> float:
    """How far from 0 a bin's log10 LR may get towards one side."""
    return fit.upper if forged else -fit.lower


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
    speaker: int | None = None
    inconclusive: Inconclusive | None = None
    decision: Decision | None = None


def propositions_for(faces: int) -> tuple[str, str] | None:
    """H1 and H2 in full for a file with this many judged faces that have a say; None without any."""
    if faces < 2:
        return PROPOSITIONS if faces else None
    first, second = SEVERAL_PROPOSITIONS
    return first.format(faces=faces), second.format(faces=faces)


def is_brief(face: FaceFinding, frames_sampled: int | None) -> bool:
    """Whether a video track was judged on too few frames to speak for the video: fewer than `ENOUGH_FRAMES`.

    In a video of fewer sampled frames, fewer than all of them. Faces of pictures, and refused tracks, never are brief.
    """
    judged = sum(point.log10_lr is not None for point in face.track or ())
    return 0 < judged < min(ENOUGH_FRAMES, frames_sampled or ENOUGH_FRAMES)


def weighed_faces(faces: Sequence[FaceFinding], frames_sampled: int | None = None) -> list[FaceFinding]:
    """The faces that have a say over their file: those judged, in a video without brief tracks if any is longer.

    A face seen for a moment, blurred or half hidden, must not decide over the person who is on screen throughout.

    Args:
        faces: of one file.
        frames_sampled: of a video.
    """
    judged = [face for face in faces if face.log10_lr is not None]
    return [face for face in judged if not is_brief(face, frames_sampled)] or judged


def file_log10_lr(log10_lrs: Sequence[float]) -> float:
    """log10 LR of "one of these faces was forged, each as likely as any other" against "none of them was".

    That is the mean of the faces' LRs: under the first proposition the evidence is an even mixture of "face i was
    forged, the others were not", and each of these divided by the second leaves the LR of face i. Where no face was
    forged the mean of n calibrated LRs is 1 on average, as that of one, so that false alarms do not grow with n.

    Args:
        log10_lrs: of at least one face.
    """
    if len(log10_lrs) == 1:
        return log10_lrs[0]
    return math.log10(math.fsum(10.0**one for one in log10_lrs) / len(log10_lrs))


def conclude(faces: Sequence[FaceFinding], frames_sampled: int | None = None) -> FileConclusion:
    """Combine the faces of one file.

    The LR of the file is the mean of those of its faces that have a say (`weighed_faces`, `file_log10_lr`); it is held
    against the strictest limits of these faces. Authentic also needs that every one of them is by itself; refused if
    none could be judged, with the code of the face that came closest to a judgement. The speaker is the face with the
    highest LR.

    Caveat: it is the LR of a file of which nothing tells beforehand which face may be forged. If one face was in
    question from the start, its own LR holds. If several faces were forged, the file's LR is too low.
    """
    judged = weighed_faces(faces, frames_sampled)
    if not judged:
        return FileConclusion(Verdict.REFUSED, _refusal_of(faces), None, None, None)
    speaker = max(judged, key=lambda face: face.log10_lr or 0.0)
    log10_lr = file_log10_lr([face.log10_lr or 0.0 for face in judged])
    limits = _strictest([face.decision for face in judged if face.decision is not None])
    if limits is not None and log10_lr >= limits.forged_log10_lr:
        verdict = Verdict.FORGED
    elif all(face.verdict is Verdict.AUTHENTIC for face in judged) and (
        limits is not None and log10_lr <= -limits.authentic_log10_lr
    ):
        verdict = Verdict.AUTHENTIC
    else:
        verdict = Verdict.INCONCLUSIVE
    why = None
    if verdict is Verdict.INCONCLUSIVE:
        why = _why_file_inconclusive(faces, judged, speaker, log10_lr, limits)
    return FileConclusion(verdict, None, speaker.score, log10_lr, support(log10_lr), speaker.index, why, limits)


def _strictest(decisions: Sequence[Decision]) -> Decision | None:
    """The limits that all of some faces' limits allow: of the face from which most is asked, on either side."""
    if not decisions:
        return None
    forged = max(decisions, key=lambda one: one.forged_log10_lr)
    return forged.model_copy(update={"authentic_log10_lr": max(one.authentic_log10_lr for one in decisions)})


def _why_file_inconclusive(
    faces: Sequence[FaceFinding],
    judged: Sequence[FaceFinding],
    speaker: FaceFinding,
    log10_lr: float,
    limits: Decision | None,
) -> Inconclusive | None:
    """Why there is no verdict on a file: because of one face, or because several were looked at."""
    if limits is not None and speaker.verdict is Verdict.FORGED:
        return Inconclusive(
            code="several_faces",
            message=f"Face {speaker.index + 1} alone passes the limit with LR {lr_text(speaker.log10_lr or 0.0)}, but "
            f"the highest of {len(judged)} faces is high by chance more often than a single one. The LR of the file, "
            f"the mean of its faces, is {lr_text(log10_lr)}; a verdict needs {lr_text(limits.forged_log10_lr)}.",
            remedy=f"Look at face {speaker.index + 1}. If it was in question before the file was looked at, its own LR "
            "holds. A larger or less compressed copy, or a picture of this face alone, may tell more.",
        )
    # The speaker itself may be authentic, by the limits of another condition than that of the undecided face.
    undecided = speaker if speaker.inconclusive else next((face for face in judged if face.inconclusive), None)
    why = None if undecided is None else undecided.inconclusive
    if why is not None and undecided is not None and len(faces) > 1:
        why = why.model_copy(update={"message": f"Face {undecided.index + 1}: {why.message}"})
    return why


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
