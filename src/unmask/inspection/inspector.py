"""Loads the packs once and takes one file after the other from its bytes to its report."""

import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unmask._version import __version__
from unmask.edits.prediction import EditPredictor
from unmask.errors import RefusalCode, Refused
from unmask.evidence.likelihood import PROPOSITIONS, conclude, is_brief
from unmask.evidence.report import FaceFinding, Media, PackUse, Refusal, Report, SequenceFinding, Tool, Verdict
from unmask.faces.finding import FaceFinder, FoundFace
from unmask.faces.following import FaceFollower
from unmask.faces.quality import assess_quality
from unmask.inspection.clock import StageClock, prefetch
from unmask.inspection.judging import (
    CroppedFace,
    JudgedFace,
    MeasuredFace,
    PackScorer,
    ScoredFace,
    crop_face,
    jpeg,
    pack_names,
    release_pixels,
    score_faces,
)
from unmask.inspection.options import EDIT_PACK, InspectorOptions
from unmask.inspection.video_tracks import PersonTrack
from unmask.media.images import decode_image
from unmask.media.intake import MediaFile, take_in
from unmask.media.sources import RefusedSource, Source, display_path
from unmask.media.synthetic_mark import read_synthetic_mark
from unmask.packs import load_pack
from unmask.provenance import library_versions

# Faces judged in one run of the network: enough to keep it busy, few enough that memory does not matter.
_BATCH = 8
_SMALLEST_IN_VIDEO = 48.0  # pixels
_LIBRARIES = (
    *("numpy", "opencv-python-headless", "onnxruntime", "av", "pillow", "pi-heif", "pillow-jxl-plugin", "pydantic"),
)


@dataclass(frozen=True)
class Inspection:
    """A report and, if they were asked for, the pictures that go with it.

    `pictures` holds one JPEG file per face of `report.faces`, in order: the square context crop that the map covers.
    `strips` holds for each of these faces the way back from its edits, JPEG files as well: the crop that edits were
    read from, one edit less at a time, the recovered face; nothing for a face without edits.
    """

    report: Report
    pictures: tuple[bytes, ...] = ()
    strips: tuple[tuple[bytes, ...], ...] = ()


@dataclass(frozen=True)
class TakenIn:
    """A source that was read and hashed, so that nobody need do it again, or refused on the way.

    Attributes:
        source: where it came from.
        media: the file, or why it was refused.
        seconds: what that took.
    """

    source: Source
    media: MediaFile | Refused
    seconds: float

    @property
    def sha256(self) -> str | None:
        """Of the file, as its report will have it; None for one that was refused."""
        return None if isinstance(self.media, Refused) else self.media.sha256


def take_in_source(source: Source) -> TakenIn:
    """Read, type and hash a source; what cannot be taken in has a refusal instead of a file."""
    clock = StageClock()
    try:
        media: MediaFile | Refused = take_in(source)
    except Refused as refusal:
        media = refusal
    return TakenIn(source, media, clock.timings()["total"])


@dataclass(frozen=True)
class _Seen:
    """What was seen in a picture or a video, before edits are read of it; the fields are those of `Media`."""

    format: str
    width: int
    height: int
    faces: tuple[JudgedFace, ...]
    warnings: tuple[str, ...]
    duration: float | None = None
    frames_sampled: int | None = None
    synthetic_mark: str | None = None


_Reading = tuple[SequenceFinding | None, tuple[bytes, ...]]  # what is said of edits, and the way back as JPEG files


class Inspector:
    """Loads the model packs once and inspects any number of files. Use one per thread or process.

    Attributes:
        options: what it was made with.
        cards: of the face detector, of the forgery detectors in use, the leading one first of these, and of the edit
            predictor if there is one.
        packs: the same, as every report has them.
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
            edit_pack: the edit predictor, for faces that are not judged authentic; None for none.

        Raises:
            PackError: a pack is missing, incomplete, altered, of another task, not for visible light, or given twice.
            ValueError: `frames_per_second` is not a positive number, or there is no forgery pack.
        """
        options = InspectorOptions.of(forgery_pack, frames_per_second, face_pack, edit_pack)
        packs = [load_pack(pack, task="forgery_detection") for pack in options.forgery_pack]
        names = pack_names([pack.card for pack in packs], options.forgery_pack)
        faces = load_pack(options.face_pack, task="face_detection")
        edits = None if options.edit_pack is None else load_pack(options.edit_pack, task="edit_reading")
        self.options = options
        self._scorers = [PackScorer(pack, name) for pack, name in zip(packs, names, strict=True)]
        self._predictor = None if edits is None else EditPredictor(edits)
        self._loaded = (faces, *packs, *([] if edits is None else [edits]))
        self.cards = tuple(pack.card for pack in self._loaded)
        self.packs = [PackUse(name=card.name, version=card.version, sha256=card.sha256) for card in self.cards]
        self._finder = FaceFinder(faces)
        # In the many frames of a video, time is not spent on looking for faces that would be refused as too small.
        smallest = max(_SMALLEST_IN_VIDEO, self._scorers[0].calibration.min_face_px)
        self._video_finder = FaceFinder(faces, smallest=smallest)

    def close(self) -> None:
        """Give up what is still being loaded in the background for faces that did not come: call it before the end.

        An inspector that was closed can be used again.
        """
        for pack in self._loaded:
            pack.cancel_opening()

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
        return self.examine_taken_in(take_in_source(source), pictures=pictures, progress=progress)

    def examine_taken_in(
        self, taken: TakenIn, *, pictures: bool = False, progress: Callable[[float], None] | None = None
    ) -> Inspection:
        """Inspect a file that was taken in; arguments and result are those of `examine`."""
        clock, media = StageClock(read=taken.seconds), taken.media
        if isinstance(media, Refused):
            return Inspection(self.refuse(taken.source, media, None, clock.timings()))
        try:
            if media.kind == "image":
                seen = self._still(media, clock, pictures)
            else:
                seen = self._video(media, clock, pictures, progress)
        except Refused as refused:
            return Inspection(self.refuse(taken.source, refused, media, clock.timings()))
        readings = [self._edits_of(face, clock, pictures) for face in seen.faces]
        report = self._report(taken.source, media, seen, [sequence for sequence, _ in readings], clock)
        if not pictures:
            return Inspection(report)
        shown = tuple(face.observation.picture for face in seen.faces)
        return Inspection(report, shown, tuple(strip for _, strip in readings))

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

    def _still(self, media: MediaFile, clock: StageClock, pictures: bool) -> _Seen:
        with clock.stage("read"):
            still = decode_image(media)
            marked = None if media.data is None else read_synthetic_mark(media.data)
        with clock.stage("find"):
            faces = self._finder.find(still.pixels)
        if faces:
            self._scorers[0].open_ahead()  # while their quality is measured
        judged: list[JudgedFace] = []
        for first in range(0, len(faces), _BATCH):
            cropped = self._cropped(still.pixels, None, faces[first : first + _BATCH], clock, pictures)
            if self._predictor is not None and any(face.edit_view is not None for face in cropped):
                self._predictor.open_ahead()  # while they are scored: most faces that can be judged need it
            for face in self._scored(cropped, clock):
                opinions = [scorer.opinion(answer) for scorer, answer in zip(self._scorers, face.answers, strict=True)]
                observation = release_pixels(face, pictures=pictures)
                judged.append(JudgedFace(observation, tuple(opinions), None, face.cropped.condition))
        return _Seen(still.format, still.width, still.height, tuple(judged), still.warnings, synthetic_mark=marked)

    def _video(
        self, media: MediaFile, clock: StageClock, pictures: bool, progress: Callable[[float], None] | None
    ) -> _Seen:
        from unmask.media.videos import open_video  # loads FFmpeg, which pictures can do without

        # Whoever is missed in one sampled frame is not yet somebody else, however far apart the frames are.
        follower = FaceFollower(self._video_finder, patience=max(1.0, 2.5 / self.options.frames_per_second))
        tracks: dict[int, PersonTrack] = {}
        waiting: list[tuple[PersonTrack, CroppedFace]] = []
        judging: deque[Future[None]] = deque()
        frames = 0

        def judge(batch: list[tuple[PersonTrack, CroppedFace]]) -> None:
            scored = self._scored([face for _, face in batch], clock)
            for (track, _), face in zip(batch, scored, strict=True):
                track.add(face, self._scorers[0])

        with clock.stage("read"):
            video = open_video(media, self.options.frames_per_second)
        with ExitStack() as stack:
            # Three threads, one stage each: frames are decoded, faces found, and batches of them judged, all in order.
            stack.enter_context(video)
            frames_ahead = stack.enter_context(closing(prefetch(video, 2)))
            judge_thread = stack.enter_context(ThreadPoolExecutor(max_workers=1))
            for frame in clock.iterate("read", frames_ahead):
                frames += 1
                with clock.stage("find"):
                    numbered = follower.update(frame.time, frame.pixels)
                for number, _ in numbered:
                    if number not in tracks:
                        tracks[number] = PersonTrack(pictures=pictures)
                due = [(tracks[number], face) for number, face in numbered if tracks[number].see()]
                cropped = self._cropped(frame.pixels, frame.time, [face for _, face in due], clock, pictures)
                waiting += [(track, face) for (track, _), face in zip(due, cropped, strict=True)]
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
            return _Seen(
                format=video.format,
                width=video.width,
                height=video.height,
                faces=tuple(map(self._judged_track, tracks.values())),
                warnings=video.warnings,
                duration=video.duration,
                frames_sampled=frames,
            )

    def _judged_track(self, track: PersonTrack) -> JudgedFace:
        opinions = tuple(scorer.opinion(answer) for scorer, answer in zip(self._scorers, track.answers, strict=True))
        forged = (opinions[0].log10_lr or 0.0) > 0
        condition = None if track.answers[0] is None else track.answers[0].condition
        return JudgedFace(track.representative(forged=forged), opinions, track.points, condition, track.frames_seen)

    def _cropped(
        self, pixels: np.ndarray, moment: float | None, faces: Iterable[FoundFace], clock: StageClock, pictures: bool
    ) -> list[CroppedFace]:
        """Measure the faces of one picture and cut them out."""
        with clock.stage("quality"):
            measured = [MeasuredFace(moment, face, assess_quality(pixels, face)) for face in faces]
            return [crop_face(pixels, face, self._scorers, self._predictor, pictures=pictures) for face in measured]

    def _scored(self, faces: Sequence[CroppedFace], clock: StageClock) -> list[ScoredFace]:
        with clock.stage("score"):
            return score_faces(faces, self._scorers)

    def _edits_of(self, face: JudgedFace, clock: StageClock, pictures: bool) -> _Reading:
        """What is said of a face's edits, and, if pictures are wanted, the way back from them."""
        view = face.observation.edit_view
        if self._predictor is None or view is None or not face.may_be_edited:
            return None, ()
        with clock.stage("edits"):
            sequence, strip = self._predictor.explain(view)
        return sequence, tuple(map(jpeg, strip)) if pictures else ()

    def _report(
        self,
        source: Source,
        media: MediaFile,
        seen: _Seen,
        sequences: Sequence[SequenceFinding | None],
        clock: StageClock,
    ) -> Report:
        pairs = zip(seen.faces, sequences, strict=True)
        findings = [face.finding(index, sequence) for index, (face, sequence) in enumerate(pairs)]
        conclusion = conclude(findings, seen.frames_sampled)
        return Report(
            path=source.path,
            sha256=media.sha256,
            kind=media.kind,
            media=Media(
                format=seen.format,
                bytes=media.bytes,
                width=seen.width,
                height=seen.height,
                duration=seen.duration,
                frames_sampled=seen.frames_sampled,
                warnings=[*seen.warnings, *_left_out(findings, seen.frames_sampled)],
                synthetic_mark=seen.synthetic_mark,
            ),
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

    def _tool(self, source: Source | RefusedSource) -> Tool:
        command = self.options.command(source)
        options = self.options.recorded()
        return Tool(version=__version__, options=options, libraries=self._libraries, command=command)

    @cached_property
    def _libraries(self) -> dict[str, str]:
        # Once: to look them up takes as long as to score a face.
        return library_versions(_LIBRARIES)


def _left_out(findings: Sequence[FaceFinding], frames_sampled: int | None) -> list[str]:
    """A sentence each on faces that have no say over their file, if others have."""
    sentences = []
    refusals = sum(face.refusal is not None for face in findings)
    if 0 < refusals < len(findings):
        sentences.append(f"{refusals} of {len(findings)} faces could not be judged")
    brief = sum(is_brief(face, frames_sampled) for face in findings)
    if 0 < brief < len(findings) - refusals:
        sentences.append(f"{brief} of {len(findings)} faces were seen too briefly to speak for the video")
    return sentences


def examine_safely(
    inspector: Inspector, item: Source | TakenIn, *, on_media: Callable[[MediaFile], None] | None = None, **how: Any
) -> Inspection:
    """`Inspector.examine`, but a defect in our own code refuses this one file and lets the batch go on.

    Args:
        inspector: who inspects.
        item: the file; one that was taken in is not read and hashed again.
        on_media: called when the file is taken in, before anything of it is decoded.
        how: as for `Inspector.examine`.
    """
    source, media = (item.source, item.media) if isinstance(item, TakenIn) else (item, None)
    try:
        taken = item if isinstance(item, TakenIn) else take_in_source(item)
        media = taken.media
        if on_media is not None and isinstance(media, MediaFile):
            on_media(media)
        return inspector.examine_taken_in(taken, **how)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        message = f"A defect in unmask: {type(error).__name__}: {error} ({where}). Please report it."
        known = media if isinstance(media, MediaFile) else None
        return Inspection(inspector.refuse(source, Refused(RefusalCode.UNREADABLE, message), known))


@cache
def _inspector(options: InspectorOptions) -> Inspector:
    return Inspector(**asdict(options))


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
    return _inspector(InspectorOptions.of(**options)).inspect(path)
