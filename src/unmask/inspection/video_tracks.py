"""One person through a video: a mean over time of the frames that were judged, and the few that may be shown.

Neighbouring frames of a person say nearly the same, and their mean soon changes little, so not every frame of a long
track is scored: all of the first 2 `EVERY_DOUBLING`, then `EVERY_DOUBLING` more each time that the track has grown to
twice its length, evenly spread. In the mean each stands for the frames up to the next one. The number that is scored
thus grows by the logarithm of the length, and whatever the length, the last half of a track has as many as the half
before.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from unmask.evidence.report import StretchFinding, TrackPoint
from unmask.faces.scope import ScopeClass
from unmask.inspection.judging import FaceObservation, PackAnswer, PackScorer, ScoredFace, release_pixels
from unmask.inspection.stretches import scan

EVERY_DOUBLING = 64  # frames
_LEAST = math.log10(1.05)  # LR of a stretch that is named: less would be shown as 1.0


def is_due(number: int) -> bool:
    """Whether the frame `number` >= 0 of a track is scored."""
    return number % max(1, 2 ** (number // EVERY_DOUBLING).bit_length() // 2) == 0


def mean_answer(answers: Sequence[PackAnswer | None], frames: Sequence[int]) -> PackAnswer | None:
    """One pack's mean logit, mean quality and most frequent condition over the frames of a track that it judged.

    Args:
        answers: of the scored frames; None where the pack did not judge.
        frames: how many frames each of them stands for, >= 1.

    Returns:
        The weighted means and the condition of the most frames; None if no frame was judged.
    """
    judged = [(answer, count) for answer, count in zip(answers, frames, strict=True) if answer is not None]
    if not judged:
        return None
    frequency: Counter[str] = Counter()
    for answer, count in judged:
        frequency[answer.condition] += count
    total = frequency.total()
    logit = math.fsum(answer.logit * count for answer, count in judged) / total
    quality = math.fsum(answer.quality * count for answer, count in judged) / total
    return PackAnswer(logit, quality, frequency.most_common(1)[0][0])


class PersonTrack:
    """One person through a video.

    Only the observations that may be shown are kept, so a long track costs little memory.

    Args:
        pictures: whether the observations that are kept keep their picture.

    Attributes:
        frames_seen: sampled frames with the person in them.
    """

    def __init__(self, *, pictures: bool) -> None:
        self.frames_seen = 0
        self._due: list[int] = []  # numbers of the frames that are scored
        self._points: list[TrackPoint] = []
        self._answers: list[tuple[PackAnswer | None, ...]] = []
        self._remarks: Counter[ScopeClass] = Counter()
        self._pictures = pictures
        self._highest_logit = -math.inf
        self._highest: FaceObservation | None = None  # of the judged ones, that with the highest logit
        self._clearest: FaceObservation | None = None  # of the judged ones, that of the best quality
        self._refused: FaceObservation | None = None  # of the refused ones, that of the best quality

    def see(self) -> bool:
        """Count the next sampled frame with the person in it; whether it is to be scored and added."""
        due = is_due(self.frames_seen)
        if due:
            self._due.append(self.frames_seen)
        self.frames_seen += 1
        return due

    @property
    def points(self) -> tuple[TrackPoint, ...]:
        """One per added frame."""
        counted = zip(self._points, self._frames(), strict=True)
        return tuple(point.model_copy(update={"frames": frames}) for point, frames in counted)

    @property
    def answers(self) -> tuple[PackAnswer | None, ...]:
        """The packs' mean answers, the leading one's first."""
        return tuple(mean_answer(answers, self._frames()) for answers in zip(*self._answers, strict=True))

    @property
    def remarks(self) -> tuple[ScopeClass, ...]:
        """What is covered in more than half of the frames that the leading pack judged."""
        judged = sum(answers[0] is not None for answers in self._answers)
        return tuple(name for name, count in self._remarks.items() if 2 * count > judged)

    def stretch(self, leader: PackScorer, frames_per_second: float) -> StretchFinding | None:
        """The stretch in which the leading pack's evidence for forgery stands out from the rest of the track.

        Args:
            leader: the leading pack.
            frames_per_second: that were sampled.

        Returns:
            None where none passes the limit on the pack's card, or favours forgery by itself; and without a limit.
        """
        limit = leader.stretch_limit
        if limit is None:
            return None
        scored = [
            (answers[0], frames, point.time)
            for answers, frames, point in zip(self._answers, self._frames(), self._points, strict=True)
            if answers[0] is not None
        ]
        answers, frames = [one for one, _, _ in scored], [count for _, count, _ in scored]
        best = scan([answer.logit for answer in answers], frames, frames_per_second, limit.spread)
        if best is None or best.statistic < limit.statistic:
            return None
        inside = range(best.first, best.last + 1)
        parts = [[place for place in range(len(scored)) if (place in inside) is which] for which in (True, False)]
        log10_lrs = [
            leader.judge(mean_answer([answers[n] for n in part], [frames[n] for n in part])).opinion.log10_lr
            for part in parts
        ]
        within, without = log10_lrs
        if within is None or without is None or within < _LEAST:
            return None
        last = scored[best.last][2] + frames[best.last] / frames_per_second
        following = scored[best.last + 1][2] if best.last + 1 < len(scored) else math.inf
        return StretchFinding(
            start=scored[best.first][2],
            end=round(min(last, following), 3),
            log10_lr=within,
            log10_lr_outside=without,
            statistic=round(best.statistic, 3),
            limit=limit.statistic,
            false_alarms=limit.false_alarms,
        )

    def _frames(self) -> list[int]:
        """How many frames each added one stands for."""
        return [later - number for number, later in pairwise([*self._due, self.frames_seen])]

    def add(self, face: ScoredFace, leader: PackScorer) -> None:
        """Take in the face of a frame that is due (`see`), scored or refused.

        Args:
            face: of the first frame that is due and not yet added.
            leader: the leading pack, whose opinion of the frame the timeline shows.
        """
        answers, measured = face.answers, face.cropped.measured
        self._answers.append(answers)
        opinion = leader.judge(answers[0]).opinion
        self._points.append(
            TrackPoint(
                time=measured.time or 0.0,
                box=measured.face.box,
                quality=measured.quality.unified,
                score=opinion.score,
                log10_lr=opinion.log10_lr,
            )
        )
        leading = answers[0]
        self._remarks.update(face.cropped.remarks)
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
