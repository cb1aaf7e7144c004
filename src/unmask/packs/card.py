"""The model card: everything one must know to use a model pack, as one frozen dataclass.

A pack is a folder `NAME/` with `model.onnx` and `card.json`. The card is complete or the pack is refused.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from unmask.errors import PackError
from unmask.packs.groups import GroupTable
from unmask.packs.strength import StrengthCurve
from unmask.packs.validation import LrValidation
from unmask.plugins import Entry, Table

_NOTHING = math.log10(1.05)  # an LR nearer to 1 than this is 1.0, to one decimal


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measured number with its 95 % interval; `low`/`high` are null only where no interval exists.

    `condition` is "clean", "jpeg50", "half_resolution" … ("as is", "half size" on older cards); `n_real` and
    `n_forged` count the faces behind the number.
    """

    dataset: str
    name: str
    value: float
    low: float | None
    high: float | None
    n_real: int
    n_forged: int
    condition: str = "clean"


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """log10 LR = clip(intercept + slope * logit, lower, upper) for quality_min <= unified quality < quality_max.

    The last bin also holds quality 100. `n_real`/`n_forged` are the calibration faces behind it. `condition` is the one
    that the bin is for (`unmask.faces.condition`); empty for all that have no bins of their own.
    """

    quality_min: float
    quality_max: float
    slope: float
    intercept: float
    lower: float
    upper: float
    n_real: int
    n_forged: int
    condition: str = ""

    @property
    def tells_nothing(self) -> bool:
        """Whether its bounds leave no likelihood ratio but 1.0: what it gives is no measurement."""
        return max(abs(self.lower), abs(self.upper)) < _NOTHING


@dataclass(frozen=True, kw_only=True)
class ConditionLimit:
    """From what likelihood ratio on a verdict is given of faces in one condition (`unmask.faces.condition`).

    A face is called forged from a log10 LR of `decision_log10_lr` on, authentic down from minus `authentic_log10_lr`.
    Without the first, faces in this condition cannot be judged, for the `reason`. At these limits, `false_alarms` is
    the share of authentic faces called forged, mean over sources, `worst_false_alarms` that on the worst of them,
    `worst_source`; `authentic` is the mean share called authentic, and `misses` the share of forgeries called
    authentic, mean over kinds. Whether the scoring networks had seen these sources and kinds, `Calibration.held_out`
    says. `n_real` and `n_forged` are the faces behind it.
    """

    condition: str
    decision_log10_lr: float | None
    authentic_log10_lr: float
    reason: str
    false_alarms: float
    worst_false_alarms: float
    worst_source: str
    authentic: float
    misses: float
    n_real: int
    n_forged: int


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How a raw logit becomes a log10 likelihood ratio.

    `method` says how the numbers were fitted, `data` on what, `cllr`/`cllr_min` how good they are on that data.
    `decision_log10_lr` is the |log10 LR| from which a verdict is given; below it the verdict is "inconclusive".
    `conditions` have limits of their own, where there are any. `held_out` says whether the scoring networks had seen
    neither the kinds of forgery nor the sources that the faces are of. `min_quality` is the unified quality (0-100) and
    `min_face_px` the face width (pixels) under which we refuse.
    """

    method: str
    data: str
    bins: tuple[CalibrationBin, ...]
    cllr: float
    cllr_min: float
    decision_log10_lr: float
    min_quality: float
    min_face_px: float
    conditions: tuple[ConditionLimit, ...] = ()
    held_out: bool = False

    def limit(self, condition: str) -> ConditionLimit | None:
        """The limit of a condition; None where it has none of its own."""
        return next((limit for limit in self.conditions if limit.condition == condition), None)

    def verdict_limits(self, condition: str) -> tuple[float | None, float]:
        """The |log10 LR| from which a face is called forged (None: not judged in its condition), and authentic."""
        own = self.limit(condition)
        if own is None:
            return self.decision_log10_lr, self.decision_log10_lr
        return own.decision_log10_lr, own.authentic_log10_lr

    def bin_of(self, quality: float, condition: str = "") -> CalibrationBin | None:
        """The bin of a quality (0-100) and a condition, else of all conditions together; None if none holds it."""
        bins = [fit for fit in self.bins if fit.condition == condition]
        bins = bins or [fit for fit in self.bins if not fit.condition]
        for number, fit in enumerate(bins):
            closed = number == len(bins) - 1 and quality == 100.0
            if fit.quality_min <= quality < fit.quality_max or (closed and fit.quality_max == 100.0):
                return fit
        return None


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A score threshold in [0, 1], with the false-alarm and hit rates (0-1) measured at it."""

    name: str
    threshold: float
    false_alarm_rate: float
    hit_rate: float
    dataset: str


@dataclass(frozen=True, kw_only=True)
class EditCalibration:
    """How the scores of an edit-sequence model become what is said of a face.

    `edits` are the names of a sequence's numbers 1 to 5. The posterior of the sequences is softmax(scores /
    temperature); `method` says how the numbers were fitted, `data` on what. Edits are named if the posterior
    probability that there was any is at least `edited_at`; "no local edit found" is said if it is at most
    `untouched_at`; nothing is said in between, of faces narrower than `min_face_px` pixels, of unified quality (0-100)
    under `min_quality`, turned by more than `max_turn` degrees, or with less of the picture about them than
    `min_margin` times the face box.
    """

    edits: tuple[str, ...]
    temperature: float
    edited_at: float
    untouched_at: float
    min_quality: float
    min_face_px: float
    max_turn: float
    min_margin: float
    method: str
    data: str

    def check(self, name: str) -> None:
        """Raise PackError, naming the pack, unless the numbers make sense."""
        if not self.temperature > 0 or not 0 <= self.untouched_at <= self.edited_at <= 1:
            raise PackError(
                f"card of pack {name!r}: reading needs a temperature above 0, and 0 <= untouched_at <= edited_at <= 1"
            )
        if len(set(self.edits)) < len(self.edits):
            raise PackError(f"card of pack {name!r}: reading names an edit twice")


@dataclass(frozen=True, kw_only=True)
class NamingCalibration:
    """How the logits of classes in words become probabilities, "none of these" among them.

    `names` and `words` are those of the classes, in the order of logits; the first `background` of them, such as
    genuine photographs, count as none. Probabilities are softmax(logits / temperature, bias), the bias standing for
    whatever has no class; what falls to it and to the background is that of none. `none_share` is the share of faces of
    none for which they are right. `method` says how the numbers were fitted, `data` on what; `error` is the expected
    calibration error, in [0, 1], on `n` pictures. Faces narrower than `min_face_px` pixels are not named.
    """

    names: tuple[str, ...]
    words: tuple[str, ...]
    background: int
    temperature: float
    bias: float
    none_share: float
    error: float
    n: int
    min_face_px: float
    method: str
    data: str

    def check(self, name: str) -> None:
        """Raise PackError, naming the pack, unless the numbers make sense."""
        sound = len(self.names) == len(set(self.names)) == len(self.words) and self.temperature > 0
        if not sound or not 0 <= self.background < len(self.names):
            raise PackError(
                f"card of pack {name!r}: naming needs as many words as different names, one of them at least no "
                "background, and a temperature above 0"
            )


@dataclass(frozen=True, kw_only=True)
class StretchLimit:
    """When a stretch of a video is said to stand out from the rest of a person's track (`unmask.inspection.stretches`).

    `statistic` is the limit that the scan statistic must pass; `spread`, in logits, is added to the track's own. Of
    `videos` authentic ones, which the limit was not chosen on, a stretch was named in the share `false_alarms`, with
    its 95 % interval; `data` says what they are.
    """

    statistic: float
    spread: float
    false_alarms: float
    low: float
    high: float
    videos: int
    data: str

    def in_words(self) -> str:
        """One line for people."""
        return (
            f"named from a scan statistic of {self.statistic:.2f} on (spread {self.spread:.2f}); one was named in "
            f"{self.false_alarms:.1%} [{self.low:.1%}, {self.high:.1%}] of {self.videos} authentic videos ({self.data})"
        )


@dataclass(frozen=True, kw_only=True)
class Card:
    """The card of one pack.

    `input_size` is (height, width); (0, 0) means any size. Pixels enter as float32 RGB or BGR per `colour_order`, in
    [0, 1] for forgery detectors, then `(x - mean) / std`. `crop_margin` is the side of the context crop over the longer
    side of the face box (null for packs that see whole pictures). `spectra` are those it was trained for: "visible",
    "nir". `outputs` names the ONNX outputs in order. `sha256` is that of `model.onnx`. `reading` is for edit-sequence
    models. `training_data_sha256` is over the rows that it was trained on, "not known" for a detector of others.
    `strength` is how easily it is fooled, `groups` how often it errs on groups of people, `stretch` when a stretch of a
    video is named; null where not measured.
    `naming` is for packs of learned prompts. `checked_versions` are the lowest and the highest version of each library
    between which its verdicts were found to be the same; null where that was not looked at. `validation` is how its
    likelihood ratios are spread over known faces; null where not measured.
    """

    schema_version: Literal[1] = 1
    name: str
    version: str
    task: str
    description: str
    input_size: tuple[int, int]
    colour_order: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_margin: float | None
    spectra: tuple[str, ...] = ("visible",)
    outputs: tuple[str, ...]
    licence: str
    origin: str
    training_data: str
    training_data_terms: str
    training_data_sha256: str | None
    protocol: dict[str, Any]
    metrics: tuple[Metric, ...]
    calibration: Calibration | None
    operating_points: tuple[OperatingPoint, ...]
    limits: tuple[str, ...]
    sha256: str
    reading: EditCalibration | None = None
    strength: StrengthCurve | None = None
    groups: GroupTable | None = None
    naming: NamingCalibration | None = None
    checked_versions: dict[str, tuple[str, str]] | None = None
    validation: LrValidation | None = None
    stretch: StretchLimit | None = None

    @classmethod
    def read(cls, path: Path, calibrated: bool = True) -> "Card":
        """Read and validate `card.json`.

        Args:
            path: of the file.
            calibrated: whether all must be there that a calibration gives (`FROM_CALIBRATION`).

        Raises:
            PackError: the file is missing, not JSON, has an unknown or missing field, or is incomplete for its task.
        """
        try:
            card = _ADAPTER.validate_json(path.read_bytes(), extra="forbid")
        except OSError as error:
            raise PackError(f"{path}: no readable model card ({error.strerror})") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "card"
            raise PackError(f"{path}: {where}: {first['msg']}") from error
        card.check_complete(calibrated)
        return card

    def check_complete(self, calibrated: bool = True) -> None:
        """Raise PackError unless the task is known and every field that it calls for is filled.

        Args:
            calibrated: see `read`.
        """
        if self.task not in RULES.names():
            known = ", ".join(RULES.names())
            raise PackError(f"card of pack {self.name!r}: task {self.task!r} is not known here; known are {known}")
        empty = [
            name
            for name in ("name", "version", "description", "licence", "origin", "training_data", "training_data_terms")
            if not getattr(self, name).strip()
        ]
        wanted = [name for name in RULES.load(self.task).required if calibrated or name not in FROM_CALIBRATION]
        empty += [name for name in wanted if not getattr(self, name)]
        if self.reading is not None:
            self.reading.check(self.name)
        if self.naming is not None:
            self.naming.check(self.name)
        if self.validation is not None:
            self.validation.check(self.name)
        if empty:
            remedy = "; calibrate it: unmask calibrate PACK --data DATA --out NEW" if "calibration" in empty else ""
            raise PackError(f"card of pack {self.name!r} is incomplete: {', '.join(empty)}{remedy}")

    def write(self, path: Path) -> None:
        """Write the card as indented JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class CardRules:
    """What the cards of a task must have beside what all have: the fields that may not be empty."""

    required: tuple[str, ...]


FACE_DETECTION = CardRules(("outputs", "limits"))
_TRAINED = (*FACE_DETECTION.required, "metrics", "training_data_sha256", "crop_margin", "protocol")
FORGERY_DETECTION = CardRules((*_TRAINED, "calibration", "operating_points"))
EDIT_READING = CardRules((*_TRAINED, "reading"))
IMAGE_CLASSIFICATION = CardRules(_TRAINED)
FACE_INPAINTING = CardRules(_TRAINED)
SKETCH_SEARCH = CardRules(tuple(name for name in _TRAINED if name != "crop_margin"))  # null: sees whole pictures
VISION_LANGUAGE = CardRules(SKETCH_SEARCH.required)
PROMPT_NAMING = CardRules((*VISION_LANGUAGE.required, "naming"))

RULES: Table[CardRules] = Table(
    "task of a model card",
    "unmask.card_rules",
    (
        Entry("face_detection", "unmask.packs.card:FACE_DETECTION"),
        Entry("forgery_detection", "unmask.packs.card:FORGERY_DETECTION"),
        Entry("edit_reading", "unmask.packs.card:EDIT_READING"),
        Entry("image_classification", "unmask.packs.card:IMAGE_CLASSIFICATION"),
        Entry("face_inpainting", "unmask.packs.card:FACE_INPAINTING"),
        Entry("sketch_search", "unmask.packs.card:SKETCH_SEARCH"),
        Entry("vision_language", "unmask.packs.card:VISION_LANGUAGE"),
        Entry("prompt_naming", "unmask.packs.card:PROMPT_NAMING"),
    ),
)
"""The rules of every task; another package adds one for a task of its own by an entry point."""

FROM_CALIBRATION = ("metrics", "calibration", "operating_points")
"""The fields that an imported detector's card lacks until `unmask calibrate` fills them."""

_ADAPTER = TypeAdapter(Card)


def is_card(path: Path) -> bool:
    """Whether a file is a complete model card."""
    try:
        Card.read(path)
    except PackError:
        return False
    return True
