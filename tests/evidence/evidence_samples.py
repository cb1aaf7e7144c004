"""Reports to test with, made as the inspection makes them."""

from typing import Any

from unmask.errors import RefusalCode
from unmask.evidence.likelihood import (
    conclude,
    decide,
    decision_for,
    likelihood_ratio,
    propositions_for,
    support,
    weighed_faces,
    why_inconclusive,
)
from unmask.evidence.report import (
    EditSequence,
    EditStep,
    FaceFinding,
    ForgeryMap,
    Media,
    Opinion,
    PackUse,
    Quality,
    Refusal,
    Report,
    SequenceFinding,
    Tool,
    TrackPoint,
)
from unmask.packs.card import Calibration, CalibrationBin, Card, ConditionLimit, Metric, OperatingPoint

CALIBRATION = Calibration(
    method="logistic regression",
    data="held-out people of the training sources",
    bins=(
        CalibrationBin(
            quality_min=20.0,
            quality_max=60.0,
            slope=0.25,
            intercept=-0.1,
            lower=-1.0,
            upper=1.2,
            n_real=300,
            n_forged=280,
        ),
        CalibrationBin(
            quality_min=60.0,
            quality_max=100.0,
            slope=0.5,
            intercept=0.2,
            lower=-2.1,
            upper=2.4,
            n_real=500,
            n_forged=520,
        ),
    ),
    cllr=0.41,
    cllr_min=0.36,
    decision_log10_lr=0.5,
    min_quality=20.0,
    min_face_px=40.0,
)

STILL_LIMIT = ConditionLimit(
    condition="still",
    decision_log10_lr=0.5,
    authentic_log10_lr=0.6,
    reason="",
    false_alarms=0.004,
    worst_false_alarms=0.021,
    worst_source="a press archive",
    authentic=0.3,
    misses=0.01,
    n_real=1000,
    n_forged=1200,
)

CARD = Card(
    name="plain",
    version="1.0.0",
    task="forgery_detection",
    description="Forged faces in still pictures and sampled video frames.",
    input_size=(224, 224),
    colour_order="RGB",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    crop_margin=1.6,
    outputs=("logit", "map"),
    licence="Apache-2.0",
    origin="Trained by the Unmask developers with `unmask train plain`.",
    training_data="Public face sets and forgeries made from them.",
    training_data_terms="Research use.",
    training_data_sha256="ab" * 32,
    protocol={"crop_margin": 1.6},
    metrics=(
        Metric(dataset="held-out swaps", name="AUC", value=0.93, low=0.91, high=0.95, n_real=400, n_forged=400),
        Metric(
            dataset="held-out swaps",
            name="AUC",
            value=0.88,
            low=None,
            high=None,
            n_real=400,
            n_forged=400,
            condition="jpeg50",
        ),
    ),
    calibration=CALIBRATION,
    operating_points=(
        OperatingPoint(name="1 % false alarms", threshold=0.9, false_alarm_rate=0.01, hit_rate=0.5, dataset="held-out"),
    ),
    limits=("Not for drawings or masks.", "Generators newer than the training data may be missed."),
    sha256="cd" * 32,
)


def make_face(index: int = 0, logit: float = 3.0, quality: float = 80.0, **changes: Any) -> FaceFinding:
    """A judged face as the inspection makes it from a logit."""
    log10_lr = likelihood_ratio(CALIBRATION, logit, quality)
    limits, verdict = decision_for(CALIBRATION), decide(log10_lr, CALIBRATION)
    undecided = limits is not None and verdict == "inconclusive"
    why = why_inconclusive(log10_lr, CALIBRATION, quality, "", limits) if undecided else None
    values: dict[str, Any] = {
        "decision": limits,
        "inconclusive": why,
        "index": index,
        "box": (10.0, 20.0, 100.0, 120.0),
        "landmarks": [(30.0, 50.0), (80.0, 50.0), (55.0, 80.0), (38.0, 110.0), (74.0, 110.0)],
        "detection_confidence": 0.93,
        "quality": Quality(
            unified=quality, components={"sharpness": 71.0, "exposure": 90.0, "size": 55.0, "pose": 83.0}
        ),
        "verdict": verdict,
        "refusal": None,
        "score": 1 / (1 + 10**-log10_lr),
        "log10_lr": log10_lr,
        "support": support(log10_lr),
        "map": ForgeryMap(region=(0.0, 0.0, 160.0, 160.0), values=[[0.0, 0.2], [0.9, 0.4]]),
        "sequence": None,
        "time": None,
        "track": None,
    }
    return FaceFinding(**(values | changes))


def make_opinions(face: FaceFinding, **log10_lrs: float | None) -> list[Opinion]:
    """The opinion of the leading pack "plain" on its face, then those of others by name; null for a refusal."""
    opinions = [
        Opinion(pack="plain", verdict=face.verdict, score=face.score, log10_lr=face.log10_lr, support=face.support)
    ]
    for name, log10_lr in log10_lrs.items():
        verdict = "refused" if log10_lr is None else decide(log10_lr, CALIBRATION)
        score = None if log10_lr is None else 0.25
        words = None if log10_lr is None else support(log10_lr)
        opinions.append(Opinion(pack=name, verdict=verdict, score=score, log10_lr=log10_lr, support=words))
    return opinions


def make_sequence(*edits: str, **changes: Any) -> SequenceFinding:
    """Some edits in order, each step with numbers of its own, as a reader gives them."""
    edits = edits or ("nose", "eye")
    region = (5.0, 10.0, 200.0, 200.0)
    values: dict[str, Any] = {
        "pack": "mmnet",
        "outcome": "edits",
        "reason": None,
        "edited": 0.97,
        "best": EditSequence(edits=list(edits), posterior=0.62),
        "steps": [
            EditStep(
                edit=edit,
                posterior=0.81 - 0.1 * number,
                present=0.93 - 0.1 * number,
                area=ForgeryMap(region=region, values=[[0.0, 0.1], [1.0, 0.1 * number]]),
            )
            for number, edit in enumerate(edits)
        ],
        "alternatives": [
            EditSequence(edits=list(edits[::-1]), posterior=0.21),
            EditSequence(edits=["lip"], posterior=0.05),
            EditSequence(edits=[], posterior=0.03),
        ],
    }
    return SequenceFinding(**(values | changes))


def no_edits(outcome: str, edited: float | None = 0.04, **changes: Any) -> SequenceFinding:
    """What a reader says that names no edits: "no_local_edit" or "cannot_tell"."""
    alternatives = [EditSequence(edits=[], posterior=0.96), EditSequence(edits=["hair"], posterior=0.02)]
    values: dict[str, Any] = {
        "outcome": outcome,
        "reason": "The reader is undecided." if outcome == "cannot_tell" else None,
        "edited": edited,
        "best": None,
        "steps": [],
        "alternatives": [] if edited is None else alternatives,
    }
    return make_sequence(**(values | changes))


def refused_face(index: int = 0, code: RefusalCode = RefusalCode.TOO_SMALL, message: str = "Too small.") -> FaceFinding:
    return make_face(
        index,
        verdict="refused",
        refusal=Refusal(code=code, message=message),
        score=None,
        log10_lr=None,
        support=None,
        map=None,
        decision=None,
        inconclusive=None,
    )


def make_track(logits: list[float | None], step: float = 0.2) -> list[TrackPoint]:
    points = []
    for number, logit in enumerate(logits):
        log10_lr = None if logit is None else likelihood_ratio(CALIBRATION, logit, 80.0)
        score = None if log10_lr is None else 1 / (1 + 10**-log10_lr)
        box = (10.0, 20.0, 100.0, 120.0)
        points.append(TrackPoint(time=number * step, box=box, quality=80.0, score=score, log10_lr=log10_lr))
    return points


def make_report(path: str = "photo.jpg", faces: list[FaceFinding] | None = None, **changes: Any) -> Report:
    """A report on a file whose faces were found; change fields by name."""
    faces = [make_face()] if faces is None else faces
    conclusion = conclude(faces)
    values: dict[str, Any] = {
        "path": path,
        "sha256": "0f" * 32,
        "kind": "image",
        "media": Media(
            format="JPEG", bytes=123_456, width=1280, height=960, duration=None, frames_sampled=None, warnings=[]
        ),
        "verdict": conclusion.verdict,
        "refusal": conclusion.refusal,
        "score": conclusion.score,
        "log10_lr": conclusion.log10_lr,
        "support": conclusion.support,
        "propositions": propositions_for(len(weighed_faces(faces))),
        "faces": faces,
        "packs": [PackUse(name="plain", version="1.0.0", sha256="cd" * 32)],
        "tool": Tool(
            version="0.1.0",
            options={"frames_per_second": 5.0, "jobs": None},
            libraries={"numpy": "2.0", "onnxruntime": "1.20"},
            command="unmask inspect photo.jpg",
        ),
        "speaker": conclusion.speaker,
        "inconclusive": conclusion.inconclusive,
        "decision": conclusion.decision,
        "timings": {"decode": 0.01, "faces": 0.02, "forgery": 0.012},
    }
    return Report(**(values | changes))


def refused_report(
    path: str = "broken.jpg", code: RefusalCode = RefusalCode.CORRUPT, message: str = "Cut off."
) -> Report:
    return make_report(
        path,
        [],
        verdict="refused",
        refusal=Refusal(code=code, message=message),
        media=None,
        kind=None,
        sha256=None,
        propositions=None,
    )
