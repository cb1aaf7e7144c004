"""The main job, top to bottom: media -> faces -> quality -> forgery score -> likelihood ratio -> edits -> report.

A picture: every face is judged by itself. A video: frames are sampled, faces followed, and each track is one finding.
The frames of a track show the same person minutes or milliseconds apart; they are anything but independent, so they are
treated as one observation (the mean of their logits), and likelihood ratios are never multiplied over frames.

Several forgery packs may look at each face. The first one leads: it decides what is refused and what is concluded. The
others give second opinions, which stand beside it; the same pixels are no independent evidence, so nothing is combined.

What is not judged authentic is then read for edits of its parts: which, in which order, and how the face may have
looked before. That explains, and changes no verdict.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from unmask._version import __version__
from unmask.edits.reading import EditReader, EditView
from unmask.errors import PackError, RefusalCode, Refused
from unmask.evidence.likelihood import PROPOSITIONS, conclude, decide, is_brief, likelihood_ratio, support
from unmask.evidence.report import (
    FaceFinding,
    ForgeryMap,
    Media,
    Opinion,
    PackUse,
    Quality,
    Refusal,
    Report,
    Tool,
    TrackPoint,
    Verdict,
    as_map,
    in_words,
)
from unmask.faces.alignment import Box, context_crop
from unmask.faces.finding import FaceFinder, FoundFace
from unmask.faces.following import FaceFollower
from unmask.faces.quality import assess_quality, head_pose
from unmask.forgery.scoring import FaceScore, ForgeryScorer, probability
from unmask.media.images import decode_image
from unmask.media.intake import MediaFile, take_in
from unmask.media.sources import RefusedSource, Source, display_path
from unmask.packs import Card, Pack, embedded_packs, load_pack
from unmask.provenance import library_versions, shell_line

# Faces judged in one run of the network: enough to keep it busy, few enough that memory does not matter.
_BATCH = 8
_PICTURE_QUALITY = 90
_SMALLEST_IN_VIDEO = 48.0  # pixels
EDIT_PACK = "mmnet"
"""The embedded reader of edits, in use unless another or none is asked for."""
_Item = TypeVar("_Item")
_LIBRARIES = (
    *("numpy", "opencv-python-headless", "onnxruntime", "av", "pillow", "pi-heif", "pillow-jxl-plugin", "pydantic"),
)


@dataclass(frozen=True)
class Inspection:
    """A report and, if they were asked for, the pictures that go with it.

    `pictures` holds one JPEG file per face of `report.faces`, in order: the square context crop that the map covers.
    `strips` holds for each of these faces the way back from its edits, JPEG files as well: the reader's crop, one edit
    less at a time, the recovered face; nothing for a face without edits.
    """

    report: Report
    pictures: tuple[bytes, ...] = ()
    strips: tuple[tuple[bytes, ...], ...] = ()


class Inspector:
    """Loads the model packs once and inspects any number of files. Use one per thread or process.

    `cards` are the cards of the face detector, of the forgery detectors in use, the leading one first of these, and of
    the reader of edits if there is one. `packs` and `options` are what every report says of them.
    """

    def __init__(
        self,
        forgery_pack: str | Path | Sequence[str | Path] = "plain",
        frames_per_second: float = 5.0,
        face_pack: str | Path = "yunet",
        edit_pack: str | Path | None = EDIT_PACK,
    ) -> None:
        """Load the packs.

        Args:
            forgery_pack: an embedded pack's name or a pack's folder; so is `face_pack`. Of several the first leads, the
                others give second opinions.
            frames_per_second: how many frames of a second of video are looked at, > 0.
            edit_pack: the reader of edits, for faces that are not judged authentic; None for none.

        Raises:
            PackError: a pack is missing, incomplete, altered, of another task, not for visible light, or given twice.
            ValueError: `frames_per_second` is not a positive number, or there is no forgery pack.
        """
        if not 0 < frames_per_second < float("inf"):
            raise ValueError(f"frames_per_second must be a positive number, not {frames_per_second}")
        given = [forgery_pack] if isinstance(forgery_pack, str | Path) else list(forgery_pack)
        if not given:
            raise ValueError("forgery_pack must name a pack")
        packs = [load_pack(pack, task="forgery_detection") for pack in given]
        self._given = [str(pack) for pack in given]
        names = _names([pack.card for pack in packs], self._given)
        self._judges = [_Judge(pack, name) for pack, name in zip(packs, names, strict=True)]
        self._leader = self._judges[0]
        faces = load_pack(face_pack, task="face_detection")
        reader = None if edit_pack is None else load_pack(edit_pack, task="edit_reading")
        self._reader = None if reader is None else EditReader(reader)
        self.frames_per_second = frames_per_second
        self.cards = (faces.card, *(pack.card for pack in packs), *([] if reader is None else [reader.card]))
        self.packs = [PackUse(name=card.name, version=card.version, sha256=card.sha256) for card in self.cards]
        self._finder = FaceFinder(faces)
        # In the many frames of a video, time is not spent on looking for faces that would be refused as too small.
        self._video_finder = FaceFinder(faces, smallest=max(_SMALLEST_IN_VIDEO, self._leader.calibration.min_face_px))
        self.options: dict[str, Any] = {
            "pack": self._given if len(given) > 1 else self._given[0],
            "face_pack": str(face_pack),
            "frames_per_second": frames_per_second,
            "edit_pack": None if edit_pack is None else _word_for(edit_pack),
        }

    def inspect(self, path: str | Path | Source) -> Report:
        """Inspect one picture or video; one that cannot be judged gives a report with a refusal, not an exception."""
        return self.examine(path).report

    def examine(
        self,
        path: str | Path | Source,
        *,
        pictures: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> Inspection:
        """Inspect one picture or video.

        Args:
            path: a file, or an item of `media.sources.walk`.
            pictures: also give each face's picture.
            progress: called during a video with the part that is done, in [0, 1].

        Returns:
            The report, with the pictures if asked for.
        """
        source = path if isinstance(path, Source) else Source(display_path(str(path)), Path(path))
        clock = _Clock()
        media: MediaFile | None = None
        try:
            with clock.stage("read"):
                media = take_in(source)
            if media.kind == "image":
                facts, findings, shown, strips = self._still(media, clock, pictures)
            else:
                facts, findings, shown, strips = self._video(media, clock, pictures, progress)
        except Refused as refused:
            return Inspection(self.refuse(source, refused, media, clock.timings()))
        refusals = sum(face.refusal is not None for face in findings)
        if 0 < refusals < len(findings):
            facts.warnings.append(f"{refusals} of {len(findings)} faces could not be judged")
        brief = sum(is_brief(face, facts.frames_sampled) for face in findings)
        if 0 < brief < len(findings) - refusals:
            facts.warnings.append(f"{brief} of {len(findings)} faces were seen too briefly to speak for the video")
        conclusion = conclude(findings, facts.frames_sampled)
        report = Report(
            path=source.path,
            sha256=media.sha256,
            kind=media.kind,
            media=facts,
            verdict=conclusion.verdict,
            refusal=conclusion.refusal,
            score=conclusion.score,
            log10_lr=conclusion.log10_lr,
            support=conclusion.support,
            propositions=None if conclusion.log10_lr is None else PROPOSITIONS,
            faces=findings,
            packs=self.packs,
            tool=self._tool(source),
            timings=clock.timings(),
        )
        return Inspection(report, tuple(shown), tuple(strips))

    def refuse(
        self,
        source: Source | RefusedSource,
        refused: Refused,
        media: MediaFile | None = None,
        timings: dict[str, float] | None = None,
    ) -> Report:
        """The report on a file that cannot be judged, `media` being what intake learnt of it, if it got that far."""
        return Report(
            path=source.path,
            sha256=media.sha256 if media else None,
            kind=media.kind if media else None,
            media=None,
            verdict=Verdict.REFUSED,
            refusal=Refusal(code=refused.code, message=refused.message),
            score=None,
            log10_lr=None,
            support=None,
            propositions=None,
            faces=[],
            packs=self.packs,
            tool=self._tool(source),
            timings=timings or {},
        )

    def _still(self, media: MediaFile, clock: "_Clock", pictures: bool) -> "_Found":
        with clock.stage("read"):
            still = decode_image(media)
        with clock.stage("find"):
            faces = self._finder.find(still.pixels)
        looks: list[_Look] = []
        for first in range(0, len(faces), _BATCH):
            batch = self._look(still.pixels, None, faces[first : first + _BATCH], clock)
            self._score(batch, clock)
            for look in batch:
                look.settle(pictures)
            looks += batch
        facts = Media(
            format=still.format,
            bytes=media.bytes,
            width=still.width,
            height=still.height,
            duration=None,
            frames_sampled=None,
            warnings=list(still.warnings),
        )
        findings = [self._finding(index, look, look.answers, clock) for index, look in enumerate(looks)]
        return facts, findings, *_shown(looks, pictures)

    def _video(
        self, media: MediaFile, clock: "_Clock", pictures: bool, progress: Callable[[float], None] | None
    ) -> "_Found":
        from unmask.media.videos import open_video  # loads FFmpeg, which pictures can do without

        # Whoever is missed in one sampled frame is not yet somebody else, however far apart the frames are.
        follower = FaceFollower(self._video_finder, patience=max(1.0, 2.5 / self.frames_per_second))
        tracks: dict[int, _Track] = {}
        waiting: list[tuple[_Track, _Look]] = []
        judging: deque[Future[None]] = deque()
        frames = 0

        def judge(batch: list[tuple[_Track, _Look]]) -> None:
            self._score([look for _, look in batch], clock)
            for track, look in batch:
                track.add(look, self._leader, pictures)

        with clock.stage("read"):
            video = open_video(media, self.frames_per_second)
        with ExitStack() as stack:
            # Three threads, one stage each: frames are decoded, faces found, and batches of them judged, all in order.
            stack.enter_context(video)
            frames_ahead = stack.enter_context(closing(_ahead(video, 2)))
            judge_thread = stack.enter_context(ThreadPoolExecutor(max_workers=1))
            for frame in clock.iterate("read", frames_ahead):
                frames += 1
                with clock.stage("find"):
                    numbered = follower.update(frame.time, frame.pixels)
                looks = self._look(frame.pixels, frame.time, [face for _, face in numbered], clock)
                for (number, _), look in zip(numbered, looks, strict=True):
                    waiting.append((tracks.setdefault(number, _Track(len(self._judges))), look))
                if len(waiting) >= _BATCH:
                    judging.append(judge_thread.submit(judge, waiting))
                    waiting = []
                    if len(judging) > 2:  # no more than that may wait, or memory would grow with the video
                        judging.popleft().result()
                if progress and video.duration:
                    progress(min(1.0, frame.time / video.duration))
            if progress:
                progress(1.0)  # the file may have announced more, or nothing
            for judged in judging:
                judged.result()
            judge(waiting)
            facts = Media(
                format=video.format,
                bytes=media.bytes,
                width=video.width,
                height=video.height,
                duration=video.duration,
                frames_sampled=frames,
                warnings=list(video.warnings),
            )
        findings, telling = [], []
        for index, track in enumerate(tracks.values()):
            finding, look = self._track_finding(index, track, clock)
            findings.append(finding)
            telling.append(look)
        return facts, findings, *_shown(telling, pictures)

    def _look(
        self, pixels: np.ndarray, moment: float | None, faces: Iterable[FoundFace], clock: "_Clock"
    ) -> list["_Look"]:
        """Measure the faces of one picture and cut them out."""
        looks = []
        with clock.stage("quality"):
            for face in faces:
                quality = assess_quality(pixels, face)
                views = [judge.view(pixels, face, quality) for judge in self._judges]
                looks.append(_Look(moment, face, quality, views))
                if self._reader is not None:
                    crop, region = context_crop(pixels, face.box, self._reader.margin, self._reader.size)
                    turn = max(abs(angle) for angle in head_pose(face.landmarks))
                    looks[-1].wide = EditView(crop, region, face.box, quality.unified, turn)
        return looks

    def _score(self, looks: Iterable["_Look"], clock: "_Clock") -> None:
        """Have every pack judge what the leading pack does not refuse, but for what its own limits forbid it."""
        judged = [look for look in looks if look.refusal is None]
        with clock.stage("score"):
            for number, judge in enumerate(self._judges):
                views = [look.views[number] for look in judged if look.views[number].refusal is None]
                scores = judge.scorer.score([view.crop for view in views])
                for view, score in zip(views, scores, strict=True):
                    view.score = score

    def _track_finding(self, index: int, track: "_Track", clock: "_Clock") -> tuple[FaceFinding, "_Look"]:
        answers = [mean.answer for mean in track.means]
        look = track.telling(forged=(self._leader.opinion(answers[0]).log10_lr or 0.0) > 0)
        return self._finding(index, look, answers, clock, track.points), look

    def _finding(
        self,
        index: int,
        look: "_Look",
        answers: list["_Answer"],
        clock: "_Clock",
        points: list[TrackPoint] | None = None,
    ) -> FaceFinding:
        """What is said of one face: `look` shows it, the `answers` of the packs speak for it."""
        opinions = [judge.opinion(answer) for judge, answer in zip(self._judges, answers, strict=True)]
        leading = opinions[0]
        sequence = None
        judged = leading.verdict in (Verdict.FORGED, Verdict.INCONCLUSIVE)
        if self._reader is not None and look.wide is not None and judged:
            with clock.stage("edits"):
                sequence, strip = self._reader.explain(look.wide)
            look.strip = tuple(strip)
        return FaceFinding(
            index=index,
            box=look.face.box,
            landmarks=[(float(x), float(y)) for x, y in look.face.landmarks],
            detection_confidence=look.face.confidence,
            quality=look.quality,
            verdict=leading.verdict,
            refusal=look.refusal,
            score=leading.score,
            log10_lr=leading.log10_lr,
            support=leading.support,
            map=look.map,
            sequence=sequence,
            time=look.time,
            track=points,
            opinions=opinions if len(opinions) > 1 and look.refusal is None else None,
        )

    def _tool(self, source: Source | RefusedSource) -> Tool:
        command = _command(self._given, self.frames_per_second, source, self.options["edit_pack"])
        return Tool(version=__version__, options=self.options, libraries=library_versions(_LIBRARIES), command=command)


_Found = tuple[Media, list[FaceFinding], list[bytes], list[tuple[bytes, ...]]]


def _shown(looks: Sequence["_Look"], pictures: bool) -> tuple[list[bytes], list[tuple[bytes, ...]]]:
    """The pictures and the strips of some looks, if they are wanted."""
    if not pictures:
        return [], []
    return [look.picture for look in looks], [tuple(_jpeg(one) for one in look.strip) for look in looks]


def _word_for(pack: str | Path) -> str:
    """What names a pack on the command line: a folder that is called like something else there gets a path."""
    alone = isinstance(pack, Path) and str(pack) in ("none", *embedded_packs())
    return f"./{pack}" if alone else str(pack)


def _jpeg(pixels: np.ndarray) -> bytes:
    _, coded = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _PICTURE_QUALITY])
    return coded.tobytes()


# A pack's logit and the face quality that goes with it, or None if it did not judge.
_Answer = tuple[float, float] | None


@dataclass(slots=True)
class _View:
    """A face as one pack sees it, and what the pack says of it."""

    refusal: Refusal | None
    region: Box
    crop: np.ndarray
    score: FaceScore | None = None


class _Judge:
    """One forgery pack at work: how it sees a face, which faces it refuses, and what its logits mean."""

    def __init__(self, pack: Pack, name: str) -> None:
        """Take a pack, which opinions call `name`.

        Raises:
            PackError: the pack is not one that judges faces in visible light.
        """
        card = pack.card
        if card.calibration is None or card.crop_margin is None:
            raise PackError(f"card of pack {card.name!r} has no calibration or crop margin: export the pack anew")
        if "visible" not in card.spectra:
            spectra = ", ".join(card.spectra)
            raise PackError(f"pack {card.name!r} was trained for {spectra}; give one trained for visible light")
        try:
            self.scorer = ForgeryScorer(pack)
        except ValueError as error:
            raise PackError(f"{error}: give another pack") from error
        self.name = name
        self.calibration = card.calibration
        self.margin = card.crop_margin

    def view(self, pixels: np.ndarray, face: FoundFace, quality: Quality) -> _View:
        crop, region = context_crop(pixels, face.box, self.margin, self.scorer.size)
        return _View(self._refusal(face, quality), region, crop)

    def _refusal(self, face: FoundFace, quality: Quality) -> Refusal | None:
        limits = self.calibration
        if face.box[2] < limits.min_face_px:
            message = f"The face is {face.box[2]:.0f} pixels wide; {limits.min_face_px:.0f} are needed."
            return Refusal(code=RefusalCode.TOO_SMALL, message=message)
        if quality.unified < limits.min_quality:
            worst = min(quality.components, key=lambda name: quality.components[name])
            message = (
                f"The quality of the face is {quality.unified:.0f} of 100; {limits.min_quality:.0f} are needed. "
                f"Weakest: {in_words(worst).lower()}."
            )
            return Refusal(code=RefusalCode.POOR_QUALITY, message=message)
        return None

    def opinion(self, answer: _Answer) -> Opinion:
        if answer is None:
            return Opinion(pack=self.name, verdict=Verdict.REFUSED, score=None, log10_lr=None, support=None)
        log10_lr = likelihood_ratio(self.calibration, *answer)
        return Opinion(
            pack=self.name,
            verdict=decide(log10_lr, self.calibration),
            score=probability(answer[0]),
            log10_lr=log10_lr,
            support=support(log10_lr),
        )


def _names(cards: Sequence[Card], given: Sequence[str]) -> list[str]:
    """What to call each pack: by its name; if that is shared, with its version; if that is too, as it was given.

    Raises:
        PackError: a pack is given twice.
    """
    names = [card.name for card in cards]
    versions = [f"{card.name} {card.version}" for card in cards]
    models = [(version, card.sha256) for version, card in zip(versions, cards, strict=True)]
    for number, model in enumerate(models):
        if model in models[:number]:
            raise PackError(f"pack {given[number]!r} is {versions[number]}, which is given twice: give each pack once")
    return [
        name if names.count(name) == 1 else version if versions.count(version) == 1 else as_given
        for name, version, as_given in zip(names, versions, given, strict=True)
    ]


@dataclass(slots=True)
class _Look:
    """One face in one picture or frame, and what became of it; `views` are the packs', the leading one's first."""

    time: float | None
    face: FoundFace
    quality: Quality
    views: list[_View]
    picture: bytes = b""
    wide: EditView | None = None  # what edits are read from
    strip: tuple[np.ndarray, ...] = ()  # the way back from the edits

    @property
    def refusal(self) -> Refusal | None:
        return self.views[0].refusal

    @property
    def answers(self) -> list[_Answer]:
        return [(view.score.logit, self.quality.unified) if view.score else None for view in self.views]

    @property
    def map(self) -> ForgeryMap | None:
        leading = self.views[0]
        if leading.score is None:
            return None
        return as_map(leading.region, leading.score.map)

    def settle(self, picture: bool) -> None:
        """Let go of the pixels; keep those that the map covers as a small JPEG file if they are to be shown."""
        if picture and not self.picture:
            self.picture = _jpeg(self.views[0].crop)
        for view in self.views:
            view.crop = _NOTHING


_NOTHING = np.empty((0, 0, 3), np.uint8)


@dataclass(slots=True)
class _Mean:
    """The mean of one pack's answers over the frames that it judged."""

    judged: int = 0
    logit_sum: float = 0.0
    quality_sum: float = 0.0

    def add(self, answer: _Answer) -> None:
        if answer is not None:
            self.judged += 1
            self.logit_sum += answer[0]
            self.quality_sum += answer[1]

    @property
    def answer(self) -> _Answer:
        return (self.logit_sum / self.judged, self.quality_sum / self.judged) if self.judged else None


class _Track:
    """One person through a video. Only the looks that may be shown are kept, so a long track costs little memory."""

    def __init__(self, packs: int) -> None:
        self.points: list[TrackPoint] = []
        self.means = [_Mean() for _ in range(packs)]
        self.highest_logit = -math.inf
        self.highest: _Look | None = None  # of the judged ones, that with the highest logit
        self.clearest: _Look | None = None  # of the judged ones, that of the best quality
        self.refused: _Look | None = None  # of the refused ones, that of the best quality

    def telling(self, *, forged: bool) -> _Look:
        """The look to show: if the track leans to forged, the most suspect frame, else the clearest one."""
        look = (self.highest if forged else self.clearest) or self.refused
        if look is None:
            raise ValueError("a track without a look")
        return look

    def add(self, look: _Look, leader: _Judge, picture: bool) -> None:
        """Take in the look of one frame, scored or refused."""
        answers, quality = look.answers, look.quality.unified
        for mean, answer in zip(self.means, answers, strict=True):
            mean.add(answer)
        leading = leader.opinion(answers[0])
        kept = False
        if answers[0] is None:
            if self.refused is None or quality > self.refused.quality.unified:
                self.refused, kept = look, True
        else:
            if answers[0][0] > self.highest_logit:
                self.highest, self.highest_logit, kept = look, answers[0][0], True
            if self.clearest is None or quality > self.clearest.quality.unified:
                self.clearest, kept = look, True
        look.settle(picture and kept)
        if not kept:
            look.wide = None
        self.points.append(
            TrackPoint(
                time=look.time or 0.0,
                box=look.face.box,
                quality=quality,
                score=leading.score,
                log10_lr=leading.log10_lr,
            )
        )


def _ahead(items: Iterable[_Item], count: int) -> Generator[_Item, None, None]:
    """The items, none of them None, up to `count` fetched ahead by a thread: a second core can decode meanwhile."""
    iterator = iter(items)
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = deque(pool.submit(next, iterator, None) for _ in range(count))
        try:
            while (item := coming.popleft().result()) is not None:
                coming.append(pool.submit(next, iterator, None))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)


class _Clock:
    """Seconds spent in each stage.

    In a video the stages overlap: only the wait for a frame counts as reading, and the sum may exceed the total.
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._spent = dict.fromkeys(("read", "find", "quality", "score"), 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent[name] = self._spent.get(name, 0.0) + time.perf_counter() - start

    def iterate(self, name: str, items: Iterable[_Item]) -> Iterator[_Item]:
        """The items, with the time that each takes to come."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def timings(self) -> dict[str, float]:
        return {
            name: round(spent, 6)
            for name, spent in (self._spent | {"total": time.perf_counter() - self._start}).items()
        }


def _command(
    packs: Iterable[str], frames_per_second: float, source: Source | RefusedSource, edit_pack: str | None
) -> str:
    """A line for a POSIX shell that repeats the inspection."""
    words = ["unmask", "inspect", *(word for pack in packs for word in ("--pack", pack)), "--fps"]
    words.append(f"{frames_per_second:g}")
    if edit_pack != EDIT_PACK:
        words += ["--edits", edit_pack or "none"]
    path = source.path
    if "\ufffd" in path and isinstance(source, Source) and source.file is not None:
        path = str(source.file)  # the path to show has lost its bytes that are not UTF-8
    if path.startswith("-") and path != "-":
        words.append("--")
    return shell_line([*words, path])


@cache
def _inspector(**options: Any) -> Inspector:
    return Inspector(**options)


def inspect(path: str | Path, **options: Any) -> Report:
    """Inspect one picture or video; the packs are loaded once and kept.

    Args:
        path: a picture or video file.
        options: as `Inspector` takes them: `forgery_pack`, `frames_per_second`, `face_pack`, `edit_pack`.

    Returns:
        The report. A file that cannot be judged has verdict "refused" and no score.

    Raises:
        PackError: a pack is missing, incomplete, altered or of another task.
    """
    hashable = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    return _inspector(**hashable).inspect(path)
