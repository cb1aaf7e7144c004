"""One person through a video: a mean of all frames that were judged, and the few observations that may be shown."""

import math
from collections import Counter

from unmask.evidence.report import TrackPoint
from unmask.inspection.judging import FaceObservation, PackAnswer, PackScorer, ScoredFace, release_pixels


class TrackAverage:
    """The mean of one pack's answers over the frames that it judged."""

    def __init__(self) -> None:
        self._judged = 0
        self._logit_sum = self._quality_sum = 0.0
        self._conditions: Counter[str] = Counter()

    def add(self, answer: PackAnswer | None) -> None:
        """Take in one frame's answer, or None if the pack did not judge it."""
        if answer is not None:
            self._judged += 1
            self._logit_sum += answer.logit
            self._quality_sum += answer.quality
            self._conditions[answer.condition] += 1

    @property
    def answer(self) -> PackAnswer | None:
        """The mean logit, the mean quality and the most frequent condition; None if no frame was judged."""
        if not self._judged:
            return None
        ((condition, _),) = self._conditions.most_common(1)
        return PackAnswer(self._logit_sum / self._judged, self._quality_sum / self._judged, condition)


class PersonTrack:
    """One person through a video.

    Only the observations that may be shown are kept, so a long track costs little memory.

    Args:
        packs: how many forgery packs judge.
        pictures: whether the observations that are kept keep their picture.

    Attributes:
        points: one per sampled frame.
        averages: one per pack, the leading one's first.
    """

    def __init__(self, packs: int, *, pictures: bool) -> None:
        self.points: list[TrackPoint] = []
        self.averages = [TrackAverage() for _ in range(packs)]
        self._pictures = pictures
        self._highest_logit = -math.inf
        self._highest: FaceObservation | None = None  # of the judged ones, that with the highest logit
        self._clearest: FaceObservation | None = None  # of the judged ones, that of the best quality
        self._refused: FaceObservation | None = None  # of the refused ones, that of the best quality

    def add(self, face: ScoredFace, leader: PackScorer) -> None:
        """Take in the face of one frame, scored or refused.

        Args:
            face: the next frame's.
            leader: the leading pack, whose opinion of the frame the timeline shows.
        """
        answers, measured = face.answers, face.cropped.measured
        for average, answer in zip(self.averages, answers, strict=True):
            average.add(answer)
        opinion = leader.opinion(answers[0])
        self.points.append(
            TrackPoint(
                time=measured.time or 0.0,
                box=measured.face.box,
                quality=measured.quality.unified,
                score=opinion.score,
                log10_lr=opinion.log10_lr,
            )
        )
        leading = answers[0]
        if leading is None:
            if _clearer(measured.quality.unified, self._refused):
                self._refused = release_pixels(face, pictures=self._pictures)
            return
        higher, clearer = leading.logit > self._highest_logit, _clearer(leading.quality, self._clearest)
        if higher or clearer:
            observation = release_pixels(face, pictures=self._pictures)
            if higher:
                self._highest, self._highest_logit = observation, leading.logit
            if clearer:
                self._clearest = observation

    def representative(self, *, forged: bool) -> FaceObservation:
        """The observation to show: if the track leans to forged, the most suspect frame, else the clearest one."""
        observation = (self._highest if forged else self._clearest) or self._refused
        if observation is None:
            raise ValueError("a track without a frame")
        return observation


def _clearer(quality: float, best: FaceObservation | None) -> bool:
    return best is None or quality > best.measured.quality.unified
