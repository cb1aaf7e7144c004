"""The Report: one type for the library, the command line, JSON and HTML.

One `Report` per media file. Null means "does not apply" or "not known"; there is never a made-up 0.5.
Score: probability-like number in [0, 1], higher = more likely forged. Boxes and landmarks are in pixels of the upright
picture (EXIF orientation applied), origin at the top-left corner.

File names need not be valid UTF-8, JSON must be: see `escape_surrogates`.
"""

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from unmask.errors import RefusalCode

if TYPE_CHECKING:
    from pandas import DataFrame

SCHEMA_VERSION: Literal["1.6"] = "1.6"

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Percent = Annotated[float, Field(ge=0.0, le=100.0)]
Degrees = Annotated[float, Field(ge=-180.0, le=180.0)]


def escape_surrogates(text: str) -> str:
    """Make text from the file system valid Unicode.

    Python reads a byte that is not UTF-8 in a file name, say 0xFF, as the lone surrogate U+DCFF. Each becomes the six
    characters `\\udcff`. Other text is returned as it is. `restore_surrogates` goes back.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def restore_surrogates(text: str) -> str:
    """Undo `escape_surrogates`, so that the result opens the file again.

    A file whose name really holds the characters `\\udc80` to `\\udcff` cannot be told from an escaped one.
    """
    return re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda match: chr(int(match[1], 16)), text)


def _valid_unicode(value: Any) -> Any:
    return escape_surrogates(value) if isinstance(value, str) else value


# Text that may quote a file name.
Quoting = Annotated[str, BeforeValidator(_valid_unicode)]
# A time in UTC, ISO 8601 with its offset: "2026-11-30T18:01:20+00:00".
UtcTime = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00$")]


class Verdict(StrEnum):
    """What the evidence says. "refused" is the absence of a judgement, never a kind of score."""

    FORGED = "forged"
    AUTHENTIC = "authentic"
    INCONCLUSIVE = "inconclusive"
    REFUSED = "refused"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Refusal(_Part):
    """Why there is no judgement: a stable code and one sentence."""

    code: RefusalCode
    message: Quoting


class Decision(_Part):
    """From which likelihood ratio on a verdict is given of a face.

    "forged" from a log10 LR of `forged_log10_lr` on, "authentic" down from minus `authentic_log10_lr`. Both are the
    card's, or were set by the user's option `decide`. `false_alarms` is the share of authentic faces of the calibration
    which the card's limit has called forged, mean over sources; `worst_false_alarms` that on the worst of them,
    `worst_source`. `called_authentic` is the share of authentic faces called authentic, mean over sources, `misses`
    that of forgeries called authentic, mean over kinds; `n_real` and `n_forged` are the faces behind these rates. Null
    where the card states none, or another limit than the card's holds. `held_out` says whether the networks that scored
    these faces had seen neither their sources nor their kinds of forgery.

    `cllr` is the log-likelihood-ratio cost of the card's calibration on its data, in bits: 0 is perfect, 1 what a
    system has that always says LR 1; `cllr_min` is what is left of it when the calibration is the best possible. Both
    are of all conditions together, and null in reports from before schema 1.6.
    """

    forged_log10_lr: Annotated[float, Field(ge=0.0)]
    authentic_log10_lr: Annotated[float, Field(ge=0.0)]
    set_by: Literal["card", "option"]
    false_alarms: Unit | None
    worst_false_alarms: Unit | None
    worst_source: Quoting | None
    called_authentic: Unit | None = None  # since 1.6
    misses: Unit | None = None  # since 1.6
    n_real: Annotated[int, Field(ge=0)] | None = None  # since 1.6
    n_forged: Annotated[int, Field(ge=0)] | None = None  # since 1.6
    held_out: bool | None = None  # since 1.6
    cllr: Annotated[float, Field(ge=0.0)] | None = None  # since 1.6
    cllr_min: Annotated[float, Field(ge=0.0)] | None = None  # since 1.6


class Inconclusive(_Part):
    """Why there is no verdict, and what would help.

    "calibration_bounds": the calibration data cannot support a likelihood ratio that passes the limit for such faces;
    "weak_evidence": they could, but what was seen in this one does not; "several_faces" (of a file, since 1.6): a face
    passes the limit by itself, but the mean over all faces of the file does not.
    """

    code: Literal["calibration_bounds", "weak_evidence", "several_faces"]
    message: Quoting
    remedy: Quoting


def in_words(name: str) -> str:
    """A quality component's name for people: "UnderExposurePrevention" as "Under exposure prevention"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name).capitalize()


def percent(share: float) -> str:
    """A share in [0, 1] for people: "37 %"; what is not quite all or nothing is not shown as that."""
    if 0.99 < share < 1:
        return ">99 %"
    return "<1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


class Quality(_Part):
    """Face image quality. `unified` is 0-100, 100 best; `components` are 0-100 too, named after ISO/IEC 29794-5.

    The head pose in degrees, zero being frontal and upright: positive `yaw` turns the nose to the picture's right,
    positive `pitch` down, positive `roll` the head clockwise in the picture. Null in reports from before schema 1.3.
    """

    unified: Percent
    components: dict[str, Percent]
    yaw: Degrees | None = None  # since 1.3
    pitch: Degrees | None = None  # since 1.3
    roll: Degrees | None = None  # since 1.3


class ForgeryMap(_Part):
    """Where the forgery is said to be: rows of values in [0, 1] over `region`, top to bottom, left to right.

    `region` is the (x, y, width, height) of the context crop in the picture that the map covers.
    """

    region: tuple[float, float, float, float]
    values: list[list[Unit]]


def as_map(region: tuple[float, float, float, float], values: np.ndarray) -> ForgeryMap:
    """Values (h, w) in [0, 1] over a region. Three decimals: finer steps say nothing and would double a report."""
    return ForgeryMap(region=region, values=[[round(float(value), 3) for value in row] for row in values])


class TrackPoint(_Part):
    """One frame of a face track: `time` in seconds from the start.

    `score` and `log10_lr` are null where that frame's face was refused. `frames` is how many sampled frames it stands
    for in the track's mean: itself, and those up to the next point, in which the face was followed but not scored.
    """

    time: Annotated[float, Field(ge=0.0)]
    box: tuple[float, float, float, float]
    quality: Percent
    score: Unit | None
    log10_lr: float | None
    frames: Annotated[int, Field(ge=1)] = 1  # since 1.4


_Judged = TypeVar("_Judged", "Opinion", "FaceFinding", "Report")


def _numbers_or_refusal(judged: _Judged) -> _Judged:
    """A judgement with its numbers, or a refusal without any: never both, never neither."""
    refused = judged.verdict is Verdict.REFUSED
    if not isinstance(judged, Opinion) and refused != (judged.refusal is not None):
        raise ValueError('a refusal and the verdict "refused" go together')
    for name in ("score", "log10_lr", "support"):
        if refused != (getattr(judged, name) is None):
            raise ValueError(f'{name} is null if and only if the verdict is "refused"')
    return judged


class Opinion(_Part):
    """What one pack says of a face, by its own calibration; `pack` is its name, with its version if that is shared.

    "refused" without numbers: the pack's own limits of size or quality forbid it to judge the face.
    """

    pack: Quoting
    verdict: Verdict
    score: Unit | None
    log10_lr: float | None
    support: str | None

    _consistent = model_validator(mode="after")(_numbers_or_refusal)


class EditStep(_Part):
    """One edit of a face: which, the posterior that it was made at this step, and that it was made at all; where.

    `area` covers the edit-sequence model's own crop, which is wider than the forgery map's; null where maps were not
    kept.
    """

    edit: str
    posterior: Unit
    present: Unit
    area: ForgeryMap | None


class EditSequence(_Part):
    """Edits in an order, and the posterior of just that sequence."""

    edits: list[str]
    posterior: Unit


class SequenceFinding(_Part):
    """What was edited, in which order: a hypothesis about how the face came to be, not evidence that it was forged.

    `outcome` is "edits", "no_local_edit" (none was found; the face may be forged as a whole) or "cannot_tell", with a
    `reason`. `edited` is the posterior probability of any edit; `best` the likeliest sequence of edits, with its
    `steps` in order, and `alternatives` the next ones, the untouched face (no edits) among them. All posteriors are
    those of the edit-sequence model named `pack`, for which every length is as likely as any other beforehand.
    """

    pack: Quoting
    outcome: Literal["edits", "no_local_edit", "cannot_tell"]
    reason: str | None
    edited: Unit | None
    best: EditSequence | None
    steps: list[EditStep]
    alternatives: list[EditSequence]

    @model_validator(mode="after")
    def _consistent(self) -> "SequenceFinding":
        edits = [] if self.best is None else self.best.edits
        if (self.outcome == "edits") != bool(edits) or (self.best is not None and not edits):
            raise ValueError('a best sequence of edits goes with the outcome "edits" alone')
        if [step.edit for step in self.steps] != edits:
            raise ValueError("the steps are those of the best sequence, in its order")
        if self.edited is None and self.outcome != "cannot_tell":
            raise ValueError('only the outcome "cannot_tell" can do without a posterior')
        if (self.outcome == "cannot_tell") != (self.reason is not None):
            raise ValueError('a reason goes with the outcome "cannot_tell" alone')
        return self


class NamedFamily(_Part):
    """A forgery family, what it is in words, and its probability."""

    name: Quoting
    words: Quoting
    probability: Unit


class NamingFinding(_Part):
    """Which family of forgery a face is likeliest of, if it is forged: by the prompts of `pack`.

    `families` are all that the pack knows, the likeliest first; `none` is the probability that it is none of these.
    Together they are 1. `likeliest` is the name of the first, or null if none is likelier. That a face was forged is
    judged without it.
    """

    pack: Quoting
    likeliest: Quoting | None
    none: Unit
    families: list[NamedFamily]

    @model_validator(mode="after")
    def _consistent(self) -> "NamingFinding":
        best = self.families[0] if self.families else None
        expected = best.name if best is not None and best.probability > self.none else None
        if self.likeliest != expected:
            raise ValueError("the likeliest is the first family, or null if none of them is likelier")
        return self


class StretchFinding(_Part):
    """The stretch of a track in which the evidence for forgery is higher than in the rest of it, beyond chance.

    From `start` to `end`, in seconds. `log10_lr` is that of the mean over its frames, `log10_lr_outside` over the
    others: neither is that of the video, since the stretch is the most suspect of all that were looked at. `statistic`
    is that of the scan (`unmask.inspection.stretches`), beyond the card's `limit`; of authentic videos, a stretch was
    named in the share `false_alarms`. It takes no part in the verdict.
    """

    start: Annotated[float, Field(ge=0.0)]
    end: Annotated[float, Field(ge=0.0)]
    log10_lr: float
    log10_lr_outside: float
    statistic: float
    limit: float
    false_alarms: Unit


class Remark(_Part):
    """Something about a face for which the detector was not made, though it judges it."""

    code: Literal["covered_eyes", "covered_mouth"]
    message: Quoting


class FaceFinding(_Part):
    """One face of a picture, or one person's track of a video.

    `box` is (x, y, width, height); `landmarks` are right eye, left eye, nose tip, right and left mouth corner, the
    subject's right. For a track, box, landmarks, quality and map are those of the frame at `time`, which represents
    it. `support` is the verbal expression of `log10_lr` on the ENFSI scale. `sequence` is what an edit-sequence model
    says; null for faces judged authentic or refused, and without a model.
    `condition` is how the face was published, as far as the leading pack's crop tells (`unmask.faces.condition`), a
    track's that of most of its judged frames; null for faces refused before, and in older reports.
    `opinions`, the leading pack's first, are null if one pack ran or the face was refused. They are never combined.
    `naming` is what each pack of learned prompts says of the family of a face that is judged forged or inconclusive;
    null without such packs. It takes no part in the verdict.
    `decision` has the limits of the verdict, `inconclusive` why there is none; both null for a refused face and in
    older reports, the second also where there is a verdict.
    `frames_seen` counts the sampled frames in which a track's face was followed, `frames_scored` those of them that
    the leading pack scored: all in a short track, ever fewer of a long one. Null for a face of a picture.
    `stretch` is where in a track the evidence stands out; null where it does not, and for faces of pictures.
    `remarks` say what stands in the way of a full judgement; of a track, in most of its scored frames.
    """

    index: Annotated[int, Field(ge=0)]
    box: tuple[float, float, float, float]
    landmarks: list[tuple[float, float]]
    detection_confidence: Unit
    quality: Quality
    verdict: Verdict
    refusal: Refusal | None
    score: Unit | None
    log10_lr: float | None
    support: str | None
    map: ForgeryMap | None
    sequence: SequenceFinding | None  # since 1.2; null before
    time: float | None
    track: list[TrackPoint] | None
    opinions: list[Opinion] | None = None  # since 1.1
    condition: str | None = None  # since 1.4
    frames_seen: Annotated[int, Field(ge=1)] | None = None  # since 1.4
    frames_scored: Annotated[int, Field(ge=0)] | None = None  # since 1.4
    naming: list[NamingFinding] | None = None  # since 1.5
    decision: Decision | None = None  # since 1.5
    inconclusive: Inconclusive | None = None  # since 1.5
    stretch: StretchFinding | None = None  # since 1.6
    remarks: list[Remark] = []  # since 1.6

    @model_validator(mode="after")
    def _read(self) -> "FaceFinding":
        if self.sequence is not None and self.verdict not in (Verdict.FORGED, Verdict.INCONCLUSIVE):
            raise ValueError("edits are read of faces judged forged or inconclusive alone")
        if self.naming is not None and self.verdict not in (Verdict.FORGED, Verdict.INCONCLUSIVE):
            raise ValueError("families are named of faces judged forged or inconclusive alone")
        return self

    _consistent = model_validator(mode="after")(_numbers_or_refusal)


class PackUse(_Part):
    """A model pack that took part."""

    name: str
    version: str
    sha256: str


class Tool(_Part):
    """What made this report, so that it can be made again: version, options, libraries, the command that repeats it.

    `unchecked` has a sentence for every library of a version outside those that the packs were checked with.
    """

    name: Literal["unmask"] = "unmask"
    version: str
    options: dict[str, Quoting | int | float | bool | list[Quoting] | None]
    libraries: dict[str, str]
    command: Quoting
    unchecked: list[Quoting] = []  # since 1.6


class Run(_Part):
    """When and on what machine a file was inspected; nothing that names the machine or its user."""

    started: UtcTime
    finished: UtcTime
    processor: Quoting
    architecture: Quoting
    system: Quoting


class Case(_Part):
    """The case that a report belongs to, as the examiner's case file has it; null for what it does not say."""

    case: Quoting | None = None
    exhibit: Quoting | None = None
    examiner: Quoting | None = None
    laboratory: Quoting | None = None
    notes: Quoting | None = None


class ExaminerNote(_Part):
    """What a person concluded of a file, beside the answer of the machine, which stays as it is.

    `by` is who, `reason` why; `time` is when the note was made.
    """

    time: UtcTime
    by: Quoting
    conclusion: Quoting
    reason: Quoting


class FileFinding(_Part):
    """What one check beside the pixels saw: a statement, and what it means. It takes no part in verdict and LR.

    `outcome`: "absent" (nothing of the kind is there), "present" (it is, and usual), "notable" (to be looked at) or
    "not_checked" (damaged, or an extra is not installed).
    """

    check: Literal[
        "exif", "xmp", "generator", "jpeg", "double_compression", "thumbnail", "content_credentials", "container"
    ]
    outcome: Literal["absent", "present", "notable", "not_checked"]
    statement: Quoting
    meaning: Quoting
    details: dict[str, Quoting]


class Media(_Part):
    """Facts about the file: format, size in bytes and pixels; for videos the duration (s) and the frames sampled.

    `synthetic_mark` is the IPTC digital source type by which a picture's metadata say that it was made or changed by
    software, such as "compositeSynthetic"; null where they say no such thing. Anybody can write or strip it: it takes
    no part in the verdict. `modified` is the time of change that the file system has for the file; null for what came
    through standard input or an upload, or from memory.
    """

    format: str
    bytes: Annotated[int, Field(ge=0)]
    width: Annotated[int, Field(ge=0)] | None
    height: Annotated[int, Field(ge=0)] | None
    duration: float | None
    frames_sampled: int | None
    warnings: list[Quoting]
    synthetic_mark: str | None = None  # since 1.3
    modified: UtcTime | None = None  # since 1.6


class Report(_Part):
    """The answer for one media file.

    With several judged faces, `log10_lr` and `support` are those of "one of them was forged", the mean of the faces'
    likelihood ratios, and `propositions` say so; up to schema 1.5 they were those of the face with the highest.
    `speaker` is the index of that face, whose `score` is the file's; null for a refused file and in older reports.
    `decision` has the limits of the file's verdict, the strictest of its faces'; null for a refused file and in older
    reports.
    `inconclusive` says why there is no verdict on the file, if so. `identical_to` is the path of an earlier file of the
    same run with the same bytes, whose answer this is; null for a file that was judged itself. `findings` are what was
    seen beside the pixels; none for a refused file and in older reports. `run` is when and on what machine it was
    inspected, null in older reports; `case` what the case file says, null without one; `notes` what people concluded
    afterwards, the oldest first.
    """

    schema_version: Literal["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6"] = SCHEMA_VERSION
    path: Quoting
    sha256: str | None
    kind: Literal["image", "video"] | None
    media: Media | None
    verdict: Verdict
    refusal: Refusal | None
    score: Unit | None
    log10_lr: float | None
    support: str | None
    propositions: tuple[str, str] | None
    faces: list[FaceFinding]
    packs: list[PackUse]
    tool: Tool
    timings: dict[str, float]
    speaker: Annotated[int, Field(ge=0)] | None = None  # since 1.5
    inconclusive: Inconclusive | None = None  # since 1.5
    identical_to: Quoting | None = None  # since 1.5
    findings: list[FileFinding] = []  # since 1.5
    run: Run | None = None  # since 1.6
    case: Case | None = None  # since 1.6
    notes: list[ExaminerNote] = []  # since 1.6
    decision: Decision | None = None  # since 1.6

    _consistent = model_validator(mode="after")(_numbers_or_refusal)

    def to_frame(self) -> "DataFrame":
        """A pandas DataFrame with a row a face; the columns are those of `unmask.evidence.rows.FACE_COLUMNS`.

        A file without faces has one row too, with its verdict, refusal and remedy as in `--csv`.

        Raises:
            UnmaskError: pandas is not installed.
        """
        from unmask.evidence.rows import face_frame  # which imports this module

        return face_frame(self)

    def save_maps(self, folder: str | Path) -> list[Path]:
        """Write each judged face's map to a folder, as a grey PNG: see `unmask.evidence.map_files.save_maps`."""
        from unmask.evidence.map_files import save_maps

        return save_maps(self, Path(folder))

    def _repr_html_(self) -> str:
        """The page of this report, in a frame: what notebooks show."""
        from unmask.evidence.html import notebook_frame

        return notebook_frame(self)


def without_maps(report: Report) -> Report:
    """The report without its maps, which make up most of its length: `map` and the `area` of edits are null."""
    faces = []
    for face in report.faces:
        sequence = face.sequence
        if sequence is not None:
            steps = [step.model_copy(update={"area": None}) for step in sequence.steps]
            sequence = sequence.model_copy(update={"steps": steps})
        faces.append(face.model_copy(update={"map": None, "sequence": sequence}))
    return report.model_copy(update={"faces": faces})
