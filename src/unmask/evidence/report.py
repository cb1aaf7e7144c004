"""The Report: one type for the library, the command line, JSON and HTML.

One `Report` per media file. Null means "does not apply" or "not known"; there is never a made-up 0.5.
Score: probability-like number in [0, 1], higher = more likely forged. Boxes and landmarks are in pixels of the upright
picture (EXIF orientation applied), origin at the top-left corner.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from unmask.errors import RefusalCode

SCHEMA_VERSION = "1.0"

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Percent = Annotated[float, Field(ge=0.0, le=100.0)]


class Verdict(StrEnum):
    """What the evidence says. "refused" is the absence of a judgement, never a kind of score."""

    FORGED = "forged"
    AUTHENTIC = "authentic"
    INCONCLUSIVE = "inconclusive"
    REFUSED = "refused"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Refusal(_Part):
    """Why there is no judgement: a stable code and one sentence."""

    code: RefusalCode
    message: str


class Quality(_Part):
    """Face image quality. `unified` is 0-100, 100 best; `components` are 0-100 too, named after ISO/IEC 29794-5."""

    unified: Percent
    components: dict[str, Percent]


class ForgeryMap(_Part):
    """Where the forgery is said to be: rows of values in [0, 1] over `region`, top to bottom, left to right.

    `region` is the (x, y, width, height) of the context crop in the picture that the map covers.
    """

    region: tuple[float, float, float, float]
    values: list[list[Unit]]


class TrackPoint(_Part):
    """One sampled frame of a face track: `time` in seconds from the start; score/log10_lr null where that frame's face was refused."""

    time: Annotated[float, Field(ge=0.0)]
    box: tuple[float, float, float, float]
    quality: Percent
    score: Unit | None
    log10_lr: float | None


class FaceFinding(_Part):
    """One face of a picture, or one person's track of a video.

    `box` is (x, y, width, height); `landmarks` are right eye, left eye, nose tip, right and left mouth corner (as seen by
    the subject). For a track, box, landmarks, quality and map are those of the frame at `time`, its most telling one.
    `support` is the verbal expression of `log10_lr` on the ENFSI scale. `sequence` is filled by the sequence detector.
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
    sequence: list[str] | None
    time: float | None
    track: list[TrackPoint] | None


class PackUse(_Part):
    """A model pack that took part."""

    name: str
    version: str
    sha256: str


class Tool(_Part):
    """What made this report, so that it can be made again: version, options, libraries and the command that repeats it."""

    name: Literal["unmask"] = "unmask"
    version: str
    options: dict[str, str | int | float | bool | None]
    libraries: dict[str, str]
    command: str


class Media(_Part):
    """Facts about the file: container or picture format, size in bytes and pixels; duration (s), sampled frames for videos."""

    format: str
    bytes: Annotated[int, Field(ge=0)]
    width: Annotated[int, Field(ge=0)] | None
    height: Annotated[int, Field(ge=0)] | None
    duration: float | None
    frames_sampled: int | None
    warnings: list[str]


class Report(_Part):
    """The answer for one media file."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    path: str
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
