"""The main job, top to bottom: media -> faces -> quality -> forgery score -> likelihood ratio -> report.

A picture: every face is judged by itself. A video: frames are sampled, faces followed, and each track is one finding.
The frames of a track show the same person minutes or milliseconds apart; they are anything but independent, so they are
treated as one observation (the mean of their logits), and likelihood ratios are never multiplied over frames.
"""

import platform
import shlex
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from unmask import __version__
from unmask.errors import PackError, RefusalCode, Refused
from unmask.evidence.likelihood import PROPOSITIONS, conclude, decide, is_brief, likelihood_ratio, support
from unmask.evidence.report import (
    FaceFinding,
    ForgeryMap,
    Media,
    PackUse,
    Quality,
    Refusal,
    Report,
    Tool,
    TrackPoint,
    Verdict,
    in_words,
)
from unmask.faces.alignment import Box, context_crop
from unmask.faces.finding import FaceFinder, FoundFace
from unmask.faces.following import FaceFollower
from unmask.faces.quality import assess_quality
from unmask.forgery.scoring import FaceScore, ForgeryScorer, probability
from unmask.media.images import decode_image
from unmask.media.intake import MediaFile, take_in
from unmask.media.sources import RefusedSource, Source, display_path
from unmask.packs import Calibration, load_pack

# Faces judged in one run of the network: enough to keep it busy, few enough that memory does not matter.
_BATCH = 8
_PICTURE_QUALITY = 90
_SMALLEST_IN_VIDEO = 48.0  # pixels
_Item = TypeVar("_Item")
_LIBRARIES = ("numpy", "opencv-python-headless", "onnxruntime", "av", "pillow", "pydantic")


@dataclass(frozen=True)
class Inspection:
    """A report and, if they were asked for, the pictures that go with it.

    `pictures` holds one JPEG file per face of `report.faces`, in order: the square context crop that the map covers.
    """

    report: Report
    pictures: tuple[bytes, ...] = ()


class Inspector:
    """Loads the model packs once and inspects any number of files. Use one per thread or process.

    `cards` are the cards of the face detector and the forgery detector in use.
    """

    def __init__(
        self, forgery_pack: str | Path = "plain", frames_per_second: float = 5.0, face_pack: str | Path = "yunet"
    ) -> None:
        """Load the packs.

        Args:
            forgery_pack: an embedded pack's name or a pack's folder; so is `face_pack`.
            frames_per_second: how many frames of a second of video are looked at, > 0.

        Raises:
            PackError: a pack is missing, incomplete, altered or of another task.
            ValueError: `frames_per_second` is not a positive number.
        """
        if not 0 < frames_per_second < float("inf"):
            raise ValueError(f"frames_per_second must be a positive number, not {frames_per_second}")
        pack = load_pack(forgery_pack, task="forgery_detection")
        card = pack.card
        if card.calibration is None or card.crop_margin is None:
            raise PackError(f"card of pack {card.name!r} has no calibration or crop margin: export the pack anew")
        faces = load_pack(face_pack, task="face_detection")
        self.frames_per_second = frames_per_second
        self.cards = (faces.card, card)
        self._packs = [PackUse(name=card.name, version=card.version, sha256=card.sha256) for card in self.cards]
        self._calibration: Calibration = card.calibration
        self._margin: float = card.crop_margin
        self._size = card.input_size[0]
        self._finder = FaceFinder(faces)
        # In the many frames of a video, time is not spent on looking for faces that would be refused as too small.
        self._video_finder = FaceFinder(faces, smallest=max(_SMALLEST_IN_VIDEO, self._calibration.min_face_px))
        try:
            self._scorer = ForgeryScorer(pack)
        except ValueError as error:
            raise PackError(f"{error}: give another pack") from error
        self._options: dict[str, str | int | float | bool | None] = {
            "pack": str(forgery_pack),
            "face_pack": str(face_pack),
            "frames_per_second": frames_per_second,
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
                facts, findings, shown = self._still(media, clock, pictures)
            else:
                facts, findings, shown = self._video(media, clock, pictures, progress)
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
            packs=self._packs,
            tool=self._tool(source),
            timings=clock.timings(),
        )
        return Inspection(report, tuple(shown))

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
            packs=self._packs,
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
        findings = [self._finding(index, look, look.logit, look.quality.unified) for index, look in enumerate(looks)]
        return facts, findings, [look.picture for look in looks if pictures]

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
                track.add(look, self._calibration, pictures)

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
                    waiting.append((tracks.setdefault(number, _Track()), look))
                if len(waiting) >= _BATCH:
                    judging.append(judge_thread.submit(judge, waiting))
                    waiting = []
                    if len(judging) > 2:  # no more than that may wait, or memory would grow with the video
                        judging.popleft().result()
                if progress and video.duration:
                    progress(min(1.0, frame.time / video.duration))
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
        findings, shown = [], []
        for index, track in enumerate(tracks.values()):
            finding, look = self._track_finding(index, track)
            findings.append(finding)
            shown += [look.picture] if pictures else []
        return facts, findings, shown

    def _look(
        self, pixels: np.ndarray, moment: float | None, faces: Iterable[FoundFace], clock: "_Clock"
    ) -> list["_Look"]:
        """Measure the faces of one picture and cut them out."""
        looks = []
        with clock.stage("quality"):
            for face in faces:
                quality = assess_quality(pixels, face)
                crop, region = context_crop(pixels, face.box, self._margin, self._size)
                looks.append(_Look(moment, face, quality, self._refusal(face, quality), region, crop))
        return looks

    def _refusal(self, face: FoundFace, quality: Quality) -> Refusal | None:
        limits = self._calibration
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

    def _score(self, looks: Iterable["_Look"], clock: "_Clock") -> None:
        judged = [look for look in looks if look.refusal is None]
        if not judged:
            return
        with clock.stage("score"):
            scores = self._scorer.score([look.crop for look in judged])
        for look, score in zip(judged, scores, strict=True):
            look.score = score

    def _track_finding(self, index: int, track: "_Track") -> tuple[FaceFinding, "_Look"]:
        if not track.judged:
            look = track.telling(forged=False)
            return self._finding(index, look, None, look.quality.unified, track.points), look
        logit, quality = track.logit_sum / track.judged, track.quality_sum / track.judged
        look = track.telling(forged=likelihood_ratio(self._calibration, logit, quality) > 0)
        return self._finding(index, look, logit, quality, track.points), look

    def _finding(
        self, index: int, look: "_Look", logit: float | None, quality: float, points: list[TrackPoint] | None = None
    ) -> FaceFinding:
        """What is said of one face: `look` shows it, `logit` (null: refused) at `quality` speaks for it."""
        log10_lr = None if logit is None else likelihood_ratio(self._calibration, logit, quality)
        return FaceFinding(
            index=index,
            box=look.face.box,
            landmarks=[(float(x), float(y)) for x, y in look.face.landmarks],
            detection_confidence=look.face.confidence,
            quality=look.quality,
            verdict=Verdict.REFUSED if log10_lr is None else decide(log10_lr, self._calibration),
            refusal=look.refusal,
            score=None if logit is None else probability(logit),
            log10_lr=log10_lr,
            support=None if log10_lr is None else support(log10_lr),
            map=look.map,
            sequence=None,
            time=look.time,
            track=points,
        )

    def _tool(self, source: Source | RefusedSource) -> Tool:
        return Tool(
            version=__version__, options=self._options, libraries=_libraries(), command=_command(self._options, source)
        )


_Found = tuple[Media, list[FaceFinding], list[bytes]]


@dataclass(slots=True)
class _Look:
    """One face in one picture or frame, and what became of it."""

    time: float | None
    face: FoundFace
    quality: Quality
    refusal: Refusal | None
    region: Box
    crop: np.ndarray
    score: FaceScore | None = None
    picture: bytes = b""

    @property
    def logit(self) -> float | None:
        return self.score.logit if self.score else None

    @property
    def map(self) -> ForgeryMap | None:
        if self.score is None:
            return None
        # Three decimals: finer steps say nothing and would double the size of a report.
        values = [[round(float(value), 3) for value in row] for row in self.score.map]
        return ForgeryMap(region=self.region, values=values)

    def settle(self, picture: bool) -> None:
        """Let go of the pixels; keep them as a small JPEG file if they are to be shown."""
        if picture and not self.picture:
            _, coded = cv2.imencode(".jpg", self.crop[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _PICTURE_QUALITY])
            self.picture = coded.tobytes()
        self.crop = _NOTHING


_NOTHING = np.empty((0, 0, 3), np.uint8)


class _Track:
    """One person through a video. Only the looks that may be shown are kept, so a long track costs little memory."""

    def __init__(self) -> None:
        self.points: list[TrackPoint] = []
        self.judged = 0
        self.logit_sum = 0.0
        self.quality_sum = 0.0
        self.highest: _Look | None = None  # of the judged ones, that with the highest logit
        self.clearest: _Look | None = None  # of the judged ones, that of the best quality
        self.refused: _Look | None = None  # of the refused ones, that of the best quality

    def telling(self, *, forged: bool) -> _Look:
        """The look to show: if the track leans to forged, the most suspect frame, else the clearest one."""
        look = (self.highest if forged else self.clearest) or self.refused
        if look is None:
            raise ValueError("a track without a look")
        return look

    def add(self, look: _Look, calibration: Calibration, picture: bool) -> None:
        """Take in the look of one frame, scored or refused."""
        logit, quality = look.logit, look.quality.unified
        kept = False
        if logit is None:
            if self.refused is None or quality > self.refused.quality.unified:
                self.refused, kept = look, True
        else:
            self.judged += 1
            self.logit_sum += logit
            self.quality_sum += quality
            if self.highest is None or logit > (self.highest.logit or 0.0):
                self.highest, kept = look, True
            if self.clearest is None or quality > self.clearest.quality.unified:
                self.clearest, kept = look, True
        look.settle(picture and kept)
        self.points.append(
            TrackPoint(
                time=look.time or 0.0,
                box=look.face.box,
                quality=quality,
                score=None if logit is None else probability(logit),
                log10_lr=None if logit is None else likelihood_ratio(calibration, logit, quality),
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
            self._spent[name] += time.perf_counter() - start

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


@cache
def _libraries() -> dict[str, str]:
    """Versions of the libraries that decide what comes out."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        # OpenCV comes under several names; a distributor may have put another one in its place.
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _command(options: Mapping[str, object], source: Source | RefusedSource) -> str:
    """A line for a POSIX shell that repeats the inspection."""
    words = ["unmask", "inspect", "--pack", str(options["pack"]), "--fps", f"{options['frames_per_second']:g}"]
    path = source.path
    if "\ufffd" in path and isinstance(source, Source) and source.file is not None:
        path = str(source.file)  # the path to show has lost its bytes that are not UTF-8
    if path.startswith("-") and path != "-":
        words.append("--")
    return shell_line([*words, path])


def shell_line(words: Iterable[str]) -> str:
    """Quote words for a POSIX shell; bytes of file names that are not UTF-8 as $'\\xff' (bash, zsh, ksh)."""
    return " ".join(_quote(word) for word in words)


def _quote(word: str) -> str:
    if not any("\udc80" <= letter <= "\udcff" for letter in word):
        return shlex.quote(word)
    text = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in text) + "'"


@cache
def _inspector(**options: Any) -> Inspector:
    return Inspector(**options)


def inspect(path: str | Path, **options: Any) -> Report:
    """Inspect one picture or video; the packs are loaded once and kept.

    Args:
        path: a picture or video file.
        options: as `Inspector` takes them: `forgery_pack`, `frames_per_second`, `face_pack`.

    Returns:
        The report. A file that cannot be judged has verdict "refused" and no score.

    Raises:
        PackError: a pack is missing, incomplete, altered or of another task.
    """
    return _inspector(**options).inspect(path)
