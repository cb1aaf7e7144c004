"""From a face to what was edited, in which order, and how it may have looked before: with a pack that predicts edits.

A pack gives the score of every sequence of edits (`labels.all_sequences()`), where each edit was made, and a face
recovered as it may have been before. What is said of them, or that nothing is said, follows from the card.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from unmask.edits.labels import LONGEST, all_sequences
from unmask.errors import PackError
from unmask.evidence.report import EditSequence, EditStep, Quality, SequenceFinding, as_map
from unmask.faces.alignment import Box, context_crop
from unmask.packs import Pack
from unmask.packs.card import EditCalibration

OUTPUTS = ("scores", "areas", "recovered")
_ALTERNATIVES = 4


@dataclass(frozen=True)
class EditPrediction:
    """What an edit predictor says of one crop.

    `posterior` float64 (326,) over `all_sequences()`; `areas` float32 (5, h, w) in [0, 1] over the crop, for each edit;
    `recovered` uint8 (S, S, 3) RGB: how the face may have looked, which nobody can know.
    """

    posterior: np.ndarray
    areas: np.ndarray
    recovered: np.ndarray

    @property
    def edited(self) -> float:
        """Posterior probability of any edit, in [0, 1]."""
        return float(np.clip(1 - self.posterior[0], 0, 1))

    def best(self, count: int) -> list[tuple[tuple[int, ...], float]]:
        """The likeliest sequences, as numbers without zeros, with their posteriors, the likeliest first."""
        order = np.argsort(-self.posterior, kind="stable")[:count]
        table = all_sequences()
        return [(tuple(int(n) for n in table[place] if n), float(self.posterior[place])) for place in order]

    def at_step(self, step: int, edit: int) -> float:
        """Posterior probability that an edit (1..5) was made at a step (from 0)."""
        return float(min(1.0, self.posterior[all_sequences()[:, step] == edit].sum()))

    def made(self, edit: int) -> float:
        """Posterior probability that an edit was made at all."""
        return float(min(1.0, self.posterior[(all_sequences() == edit).any(axis=1)].sum()))

    def undone(self, crop: np.ndarray, edits: Sequence[int]) -> list[np.ndarray]:
        """The way back: the crop, then one edit less at a time from the last, each uint8 (S, S, 3).

        Each picture takes the recovered face where the edits undone by then were made; the last is the recovered face.
        """
        size = (crop.shape[1], crop.shape[0])
        pictures, weight = [crop], np.zeros(crop.shape[:2], np.float32)
        for edit in list(edits)[:0:-1]:
            weight = np.maximum(weight, cv2.resize(self.areas[edit - 1], size, interpolation=cv2.INTER_CUBIC))
            share = np.clip(weight, 0, 1)[..., None]
            mixed = crop * (1 - share) + self.recovered * share
            pictures.append(np.round(mixed).astype(np.uint8))
        return [*pictures, self.recovered]


@dataclass(frozen=True)
class EditView:
    """A face as edits are read from it.

    `crop` uint8 (S, S, 3) RGB and its `region` (x, y, width, height) in the picture, the face's `box` there, its
    unified `quality` (0-100), and the largest angle by which it is `turned`, in degrees.
    """

    crop: np.ndarray
    region: Box
    box: Box
    quality: float
    turned: float


class EditPredictor:
    """Predicts the edits of face crops with a pack of task "edit_reading"."""

    def __init__(self, pack: Pack) -> None:
        """Take a pack.

        Raises:
            PackError: the pack does not read edits, or its card or its network is not one for it.
        """
        card = pack.card
        height, width = card.input_size
        right = card.task == "edit_reading" and card.outputs == OUTPUTS and height == width > 0
        if not right or card.reading is None or card.crop_margin is None or len(card.reading.edits) != LONGEST:
            raise PackError(
                f"pack {card.name!r} does not read edits: give one made by `unmask export` from an edit sequence model"
            )
        if "visible" not in card.spectra:
            spectra = ", ".join(card.spectra)
            raise PackError(f"pack {card.name!r} was trained for {spectra}; give one trained for visible light")
        self._pack = pack
        self.name, self.size, self.margin, self.reading = card.name, height, card.crop_margin, card.reading

    def open_ahead(self) -> None:
        """Begin to load the network in the background: for faces that may soon have their edits read."""
        self._pack.open_ahead()

    def predict(self, crops: Sequence[np.ndarray]) -> list[EditPrediction]:
        """The predictions for crops uint8 (S, S, 3) RGB, S as `size`, in order; none for none."""
        predictions = []
        for crop in crops:  # one by one: the memory of a picture with many faces stays small
            if crop.dtype != np.uint8 or crop.shape != (self.size, self.size, 3):
                raise ValueError(f"a crop is uint8 ({self.size}, {self.size}, 3), not {crop.dtype} {crop.shape}")
            scores, areas, recovered = self._pack.run(crop.transpose(2, 0, 1)[None].astype(np.float32) / 255)
            pixels = np.clip(recovered[0].transpose(1, 2, 0) * 255 + 0.5, 0, 255).astype(np.uint8)
            predictions.append(EditPrediction(posterior(scores, self.reading)[0], np.clip(areas[0], 0, 1), pixels))
        return predictions

    def view(self, pixels: np.ndarray, box: Box, quality: Quality) -> EditView:
        """Cut out what edits are read from.

        Args:
            pixels: uint8 (H, W, 3) RGB, the picture.
            box: the face's (x, y, width, height) in it.
            quality: the face's, with its pose.
        """
        crop, region = context_crop(pixels, box, self.margin, self.size)
        angles = [abs(angle) for angle in (quality.yaw, quality.pitch, quality.roll) if angle is not None]
        return EditView(crop, region, box, quality.unified, max(angles))

    def explain(self, view: EditView) -> tuple[SequenceFinding, list[np.ndarray]]:
        """What is said of a face, and, if edits are named, the pictures of the way back from them (`undone`)."""
        reason = self._unreadable(view)
        if reason is not None:
            return self._silent("cannot_tell", reason), []
        (prediction,) = self.predict([view.crop])
        if not np.isfinite(prediction.posterior).all():
            return self._silent("cannot_tell", "The reader's network gave no numbers for this face."), []
        ranked = prediction.best(_ALTERNATIVES + 1)
        sequences = [
            EditSequence(edits=[self.reading.edits[edit - 1] for edit in edits], posterior=round(share, 6))
            for edits, share in ranked
        ]
        if prediction.edited <= self.reading.untouched_at:
            return self._silent("no_local_edit", None, prediction.edited, sequences[:_ALTERNATIVES]), []
        if prediction.edited < self.reading.edited_at:
            undecided = "The reader is undecided whether any part was edited."
            return self._silent("cannot_tell", undecided, prediction.edited, sequences[:_ALTERNATIVES]), []
        # Some edit was made: of the sequences that hold one, the likeliest.
        place = next(number for number, (edits, _) in enumerate(ranked) if edits)
        edits = ranked[place][0]
        steps = [
            EditStep(
                edit=self.reading.edits[edit - 1],
                posterior=round(prediction.at_step(step, edit), 6),
                present=round(prediction.made(edit), 6),
                area=as_map(view.region, prediction.areas[edit - 1]),
            )
            for step, edit in enumerate(edits)
        ]
        finding = SequenceFinding(
            pack=self.name,
            outcome="edits",
            reason=None,
            edited=round(prediction.edited, 6),
            best=sequences[place],
            steps=steps,
            alternatives=[*sequences[:place], *sequences[place + 1 :]],
        )
        return finding, prediction.undone(view.crop, edits)

    def _unreadable(self, view: EditView) -> str | None:
        limits, (x, y, width, height), (left, top, side, _) = self.reading, view.box, view.region
        inside = x > left - 1 and y > top - 1 and x + width < left + side + 1 and y + height < top + side + 1
        if width < limits.min_face_px:
            return f"The face is {width:.0f} pixels wide; {limits.min_face_px:.0f} are needed to read edits."
        if view.quality < limits.min_quality:
            return f"The quality of the face is {view.quality:.0f} of 100; {limits.min_quality:.0f} are needed."
        if view.turned > limits.max_turn:
            return f"The face is turned by {view.turned:.0f} degrees; edits are read up to {limits.max_turn:.0f}."
        if side < limits.min_margin * max(width, height) or not inside:
            return "Part of the face, or too much of what is about it, lies outside the picture."
        return None

    def _silent(
        self,
        outcome: Literal["no_local_edit", "cannot_tell"],
        reason: str | None,
        edited: float | None = None,
        alternatives: Sequence[EditSequence] = (),
    ) -> SequenceFinding:
        return SequenceFinding(
            pack=self.name,
            outcome=outcome,
            reason=reason,
            edited=None if edited is None else round(edited, 6),
            best=None,
            steps=[],
            alternatives=list(alternatives),
        )


def posterior(scores: np.ndarray, reading: EditCalibration) -> np.ndarray:
    """The posterior of the sequences, float64 (N, 326), for the network's scores (N, 326)."""
    sharp = scores.astype(np.float64) / reading.temperature
    weights = np.exp(sharp - sharp.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
