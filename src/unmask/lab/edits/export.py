"""What makes a pack of a network that reads edits: its calibration, its figures. Lab only."""

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from unmask.edits.labels import place_of
from unmask.edits.model import EditSequenceModel
from unmask.edits.prediction import posterior
from unmask.errors import DataError
from unmask.lab.config import FacePaths, LabPaths
from unmask.lab.edits.checks import check_others, check_own, other_faces, other_tables, own_table
from unmask.lab.edits.config import EditExport, EditTrainConfig
from unmask.lab.edits.edited_faces import EditedFaces
from unmask.lab.edits.evaluate import SplitPredictions, decodings, evaluate, identity_likeness, tables
from unmask.lab.edits.feed import predict
from unmask.lab.metrics import threshold_at
from unmask.lab.task import Measured
from unmask.packs.card import EditCalibration
from unmask.progress import Progress

_FALSE = 0.05  # of faces without a local edit, of any kind, that may be said to have some
_MISSED = 0.05  # of edited faces that may be said to have none
_GRID = 1_000_000  # steps in [0, 1] of the limits of what is said
LIMITS = (
    "Trained on edits made by `unmask forge --sequence` from CelebAMask-HQ: pasted, recoloured, reshaped, softened or "
    "textured noses, eyes, eyebrows, lips and hair, with the whole face drawn anew after each. What other tools do may "
    "look otherwise to it.",
    "The order of edits shows only where the whole face was drawn anew after each of them; where it was not, the order "
    "named is a guess.",
    "Posteriors hold if every length from none to five is as likely as any other; in the field untouched faces are.",
    "The recovered face is a hypothesis, not evidence: what an edit removed cannot be known. It identifies nobody.",
    "Near-frontal faces in visible light, one edit of each part at most.",
)
_MIN_QUALITY, _MIN_FACE_PX, _MAX_TURN, _MIN_MARGIN = 25.0, 48.0, 40.0, 1.3


def fit_edit_calibration(
    scores: np.ndarray, truth: Sequence[int], others: dict[str, np.ndarray], edits: tuple[str, ...], data: str
) -> EditCalibration:
    """The temperature of the posterior and the limits of what is said, from validation.

    Args:
        scores: (N, 326) of faces whose sequences are known.
        truth: their places in `all_sequences()`.
        others: scores of faces without a local edit, by kind.
        edits: what the numbers 1 to 5 mean.
        data: what these faces are, for the card.

    Raises:
        DataError: none of the faces was edited, or none is without a local edit.
    """
    places = np.asarray(truth)
    untouched = others | ({"untouched faces of the set": scores[places == 0]} if (places == 0).any() else {})
    if not untouched or not places.any():
        lacking = "untouched" if not untouched else "edited"
        raise DataError(f"{data}: no {lacking} faces to set the limits by; give data that have some")
    rows = np.arange(len(places))

    def cost(log_temperature: float) -> float:
        sharp = scores.astype(np.float64) / np.exp(log_temperature)
        top = sharp.max(axis=1)
        return float((np.log(np.exp(sharp - top[:, None]).sum(axis=1)) + top - sharp[rows, places]).mean())

    temperature = float(np.exp(minimize_scalar(cost, bounds=(-2, 4), method="bounded").x))
    reading = EditCalibration(
        edits=edits,
        temperature=round(temperature, 4),
        edited_at=1.0,
        untouched_at=0.0,
        min_quality=_MIN_QUALITY,
        min_face_px=_MIN_FACE_PX,
        max_turn=_MAX_TURN,
        min_margin=_MIN_MARGIN,
        method=(
            "temperature by log loss; edits are named where at most "
            f"{_FALSE:.0%} of every kind of face without a local edit would be; none is said where at most "
            f"{_MISSED:.0%} of the edited faces would be"
        ),
        data=data,
    )
    edited = 1 - posterior(scores, reading)[:, 0]
    named = max(threshold_at(1 - posterior(some, reading)[:, 0], _FALSE) for some in untouched.values())
    silent = -threshold_at(-edited[places != 0], _MISSED)
    # What lies at a limit is said: the limits stand one step beyond the first that may not be.
    edited_at = min(1.0, (math.floor(named * _GRID) + 1) / _GRID)
    untouched_at = max(0.0, min(edited_at, (math.ceil(silent * _GRID) - 1) / _GRID))
    values = asdict(reading) | {"edited_at": edited_at, "untouched_at": untouched_at}
    return EditCalibration(**values)


def measure(
    network: EditSequenceModel,
    config: EditTrainConfig,
    faces: EditedFaces,
    paths: LabPaths,
    options: EditExport,
    progress: Progress,
) -> Measured:
    """Calibrate a network on the validation split and measure it on test.

    Args:
        network: in evaluation mode.
        config: of its run.
        faces: of the set with sequences.
        paths: of the set, and of what is prepared.
        options: `others` are faces without local edits; without any, only the set's own untouched ones hold false
            alarms down.
        progress: of what takes long.

    Raises:
        DataError: a split lacks faces.
    """
    held, tested = (faces.split(split) for split in ("val", "test"))
    kinds: dict[str, np.ndarray] = {}
    other_test = None
    if options.others is not None:
        place = FacePaths(data=options.others, work=paths.work, synthetic=options.synthetic, workers=paths.workers)
        stored = place.faces(progress)
        other_val, other_test = (other_faces(stored, split, config.size, config.margin) for split in ("val", "test"))
        scores = _scores(network, other_val.crops)
        kinds = {kind: scores[rows] for kind, rows in other_val.without_local_edits().items()}
        progress.note(f"read {len(scores)} faces without local edits")
    reading = fit_edit_calibration(
        _scores(network, held.take(np.arange(len(held))).faces),
        [place_of(row) for row in held.sequences.tolist()],
        kinds,
        faces.track.edits,
        f"val split of {paths.data.name}" + (f"; {', '.join(kinds)}" if kinds else ""),
    )
    predictions = predict(network, tested.take(np.arange(len(tested))).faces, torch.device("cpu"))
    predicted = SplitPredictions(tested, predictions, decodings(predictions, config.known), config.known)
    result = evaluate(predicted, "test", identity_likeness())
    check_own(result, tested, predictions.scores, reading)
    made = [*tables(result), own_table(result)]
    if other_test is not None:
        check_others(result, other_test, _scores(network, other_test.crops), reading)
        made += other_tables(result)
    return Measured(result, tuple(made), reading=reading)


def _scores(network: EditSequenceModel, crops: np.ndarray) -> np.ndarray:
    return predict(network, crops, torch.device("cpu")).scores
