"""Loads the packs once and takes one file after the other from its bytes to its report."""

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unmask._version import __version__
from unmask.edits.prediction import EditPredictor
from unmask.errors import PackError, RefusalCode, Refused
from unmask.evidence.likelihood import conclude, is_brief, propositions_for, weighed_faces
from unmask.evidence.report import (
    FaceFinding,
    FileFinding,
    Media,
    NamingFinding,
    PackUse,
    Refusal,
    Report,
    Run,
    SequenceFinding,
    Tool,
    Verdict,
)
from unmask.evidence.whole_picture import WholePicture, whole_picture
from unmask.faces.finding import FaceFinder, FoundFace
from unmask.faces.following import FaceFollower
from unmask.faces.quality import assess_quality
from unmask.forgery.naming import TASK as NAMING
from unmask.forgery.naming import PromptNamer
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
from unmask.inspection.options import DETECTOR, EDIT_PACK, InspectorOptions
from unmask.inspection.video_tracks import PersonTrack
from unmask.media.beside import Beside, beside_picture, beside_video
from unmask.media.beside.credentials import read_anchors
from unmask.media.images import decode_image
from unmask.media.in_memory import source_of
from unmask.media.intake import MediaFile, take_in
from unmask.media.sources import RefusedSource, Source, display_path
from unmask.media.synthetic_mark import read_synthetic_mark
from unmask.packs import Pack, load_pack
from unmask.packs.versions import unchecked
from unmask.provenance import library_versions, machine, utc_text

# Faces judged in one run of the network: enough to keep it busy, few enough that memory does not matter.
_BATCH = 8
_SMALLEST_IN_VIDEO = 48.0  # pixels
_LIBRARIES = (
    *(
        "numpy",
        "opencv-python-headless",
        "onnxruntime",
        "av",
        "pillow",
        "pi-heif",
        "pillow-jxl-plugin",
        "pydantic",
        "c2pa-python",
    ),
)


@dataclass(frozen=True)
class Inspection:
    """A report and, if they were asked for, the pictures that go with it.

    `pictures` holds one JPEG file per face of `report.faces`, in order: the square context crop that the map covers.
    `strips` holds for each of these faces the way back from its edits, JPEG files as well: the crop that edits were
    read from, one edit less at a time, the recovered face; nothing for a face without edits.
    `whole` is the whole picture with the places of its faces, where there are several.
    """

    report: Report
    pictures: tuple[bytes, ...] = ()
    strips: tuple[tuple[bytes, ...], ...] = ()
    whole: WholePicture | None = None

    def _repr_html_(self) -> str:
        """The page of the report with its pictures, in a frame: what notebooks show."""
        from unmask.evidence.html import notebook_frame  # loads jinja2, which most uses can do without

        return notebook_frame(self.report, self.pictures, self.strips, self.whole)


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
    beside: tuple[Beside, ...] = ()
    whole: WholePicture | None = None


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
        forgery_pack: str | Path | Sequence[str | Path] = DETECTOR,
        frames_per_second: float = 5.0,
        face_pack: str | Path = "yunet",
        edit_pack: str | Path | None = EDIT_PACK,
        decide: float | None = None,
        c2pa_anchors: str | Path | None = None,
    ) -> None:
        """Load the packs.

        Args:
            forgery_pack: an embedded pack's name or a pack's folder; so is `face_pack`. Of several the first leads, the
                others give second opinions. A pack of learned prompts names the likeliest family and never leads: where
                there is no detector, that is the embedded one.
            frames_per_second: how many frames of a second of video are looked at, > 0.
            edit_pack: the edit predictor, for faces that are not judged authentic; None for none.
            decide: the likelihood ratio, from 2 to 1,000,000, from which on a face is called forged, and from whose
                inverse down authentic; the limits on each pack's card if None.
            c2pa_anchors: a file of certificates (PEM) of whom Content Credentials are trusted; None for nobody.

        Raises:
            DataError: the certificates cannot be read.
            PackError: a pack is missing, incomplete, altered, of another task, not for visible light, or given twice.
            ValueError: `frames_per_second` is not a positive number, `decide` out of range, or there is no forgery
                pack.
        """
        options = InspectorOptions.of(forgery_pack, frames_per_second, face_pack, edit_pack, decide, c2pa_anchors)
        packs, naming, names = _forgery_packs(options.forgery_pack)
        faces = load_pack(options.face_pack, task="face_detection")
        edits = None if options.edit_pack is None else load_pack(options.edit_pack, task="edit_reading")
        self.options = options
        self._anchors = None if options.c2pa_anchors is None else read_anchors(Path(options.c2pa_anchors))
        self._scorers = [PackScorer(pack, names[pack.folder], options.decide) for pack in packs]
        self._namers = [(names[pack.folder], PromptNamer(pack)) for pack in naming]
        self._predictor = None if edits is None else EditPredictor(edits)
        self._loaded = (faces, *packs, *naming, *([] if edits is None else [edits]))
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
        namings = [self._namings_of(face, clock) for face in seen.faces]
        report = self._report(taken.source, media, seen, [sequence for sequence, _ in readings], namings, clock)
        if not pictures:
            return Inspection(report)
        shown = tuple(face.observation.picture for face in seen.faces)
        return Inspection(report, shown, tuple(strip for _, strip in readings), seen.whole)

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
            run=_run(timings or {}),
        )

    def _still(self, media: MediaFile, clock: StageClock, pictures: bool) -> _Seen:
        with clock.stage("read"):
            still = decode_image(media)
            marked = None if media.data is None else read_synthetic_mark(media.data)
            beside = tuple(beside_picture(media, still.pixels, self._anchors))
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
                judgements = [scorer.judge(answer) for scorer, answer in zip(self._scorers, face.answers, strict=True)]
                observation = release_pixels(face, pictures=pictures)
                judged.append(
                    JudgedFace(
                        observation,
                        tuple(judgements),
                        condition=face.cropped.condition,
                        remarks=face.cropped.remarks,
                    )
                )
        whole = None
        if pictures and len(faces) > 1:
            whole = whole_picture(still.pixels, {index: face.box for index, face in enumerate(faces)})
        return _Seen(
            format=still.format,
            width=still.width,
            height=still.height,
            faces=tuple(judged),
            warnings=still.warnings,
            synthetic_mark=marked,
            beside=beside,
            whole=whole,
        )

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
        whole: WholePicture | None = None

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
                if pictures and len(numbered) > (1 if whole is None else len(whole.places)):
                    order = {number: index for index, number in enumerate(tracks)}
                    boxes = {order[number]: face.box for number, face in numbered}
                    whole = whole_picture(frame.pixels, boxes, frame.time)
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
                beside=tuple(beside_video(media, self._anchors)),
                whole=whole,
            )

    def _judged_track(self, track: PersonTrack) -> JudgedFace:
        judgements = tuple(scorer.judge(answer) for scorer, answer in zip(self._scorers, track.answers, strict=True))
        forged = (judgements[0].opinion.log10_lr or 0.0) > 0
        condition = None if track.answers[0] is None else track.answers[0].condition
        return JudgedFace(
            track.representative(forged=forged),
            judgements,
            track.points,
            condition,
            track.frames_seen,
            track.stretch(self._scorers[0], self.options.frames_per_second),
            track.remarks,
        )

    def _cropped(
        self, pixels: np.ndarray, moment: float | None, faces: Iterable[FoundFace], clock: StageClock, pictures: bool
    ) -> list[CroppedFace]:
        """Measure the faces of one picture and cut them out."""
        with clock.stage("quality"):
            measured = [MeasuredFace(moment, face, assess_quality(pixels, face)) for face in faces]
            namers = [namer for _, namer in self._namers]
            return [
                crop_face(pixels, face, self._scorers, self._predictor, namers, pictures=pictures) for face in measured
            ]

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

    def _namings_of(self, face: JudgedFace, clock: StageClock) -> list[NamingFinding]:
        """What packs of prompts say of a face's family; nothing of one that is refused or judged authentic."""
        if not self._namers or not face.may_be_edited:
            return []
        with clock.stage("name"):
            views = zip(self._namers, face.observation.naming_views, strict=True)
            return [namer.name_crops([view])[0].finding(name) for (name, namer), view in views if view is not None]

    def _report(
        self,
        source: Source,
        media: MediaFile,
        seen: _Seen,
        sequences: Sequence[SequenceFinding | None],
        namings: Sequence[Sequence[NamingFinding]],
        clock: StageClock,
    ) -> Report:
        triples = zip(seen.faces, sequences, namings, strict=True)
        findings = [face.finding(index, sequence, naming) for index, (face, sequence, naming) in enumerate(triples)]
        conclusion = conclude(findings, seen.frames_sampled)
        timings = clock.timings()
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
                modified=time_of_change(media.modified),
            ),
            verdict=conclusion.verdict,
            refusal=conclusion.refusal,
            score=conclusion.score,
            log10_lr=conclusion.log10_lr,
            support=conclusion.support,
            propositions=propositions_for(len(weighed_faces(findings, seen.frames_sampled))),
            faces=findings,
            packs=self.packs,
            tool=self._tool(source),
            timings=timings,
            run=_run(timings),
            findings=[FileFinding(**asdict(one)) for one in seen.beside],
            speaker=conclusion.speaker,
            inconclusive=conclusion.inconclusive,
            decision=conclusion.decision,
        )

    def _tool(self, source: Source | RefusedSource) -> Tool:
        command = self.options.command(source)
        options = self.options.recorded()
        libraries = self._libraries
        return Tool(
            version=__version__, options=options, libraries=libraries, command=command, unchecked=self._unchecked
        )

    @cached_property
    def _libraries(self) -> dict[str, str]:
        # Once: to look them up takes as long as to score a face.
        return library_versions(_LIBRARIES)

    @cached_property
    def _unchecked(self) -> list[str]:
        return unchecked(self.cards, self._libraries)


def _run(timings: Mapping[str, float]) -> Run:
    """The run that ends now and took as long as the timings say."""
    now = time.time()
    seconds = timings.get("total", 0.0)
    return Run(started=utc_text(now - seconds), finished=utc_text(now), **asdict(machine()))


def time_of_change(modified: float | None) -> str | None:
    """A file's time of change as reports have it; None if there is none, or it is none of a calendar."""
    with suppress(ValueError):
        return None if modified is None else utc_text(modified)
    return None


def _forgery_packs(given: Sequence[str]) -> tuple[list[Pack], list[Pack], dict[Path, str]]:
    """The detectors, the packs of prompts, and what each is called, by folder.

    Where there is no detector, it is the embedded one.

    Raises:
        PackError: a pack is of another task, or given twice.
    """
    loaded = [_loaded(pack) for pack in given]
    if all(pack.card.task == NAMING for pack in loaded):
        loaded, given = [load_pack(DETECTOR), *loaded], [DETECTOR, *given]
    for pack in loaded:
        if pack.card.task not in ("forgery_detection", NAMING):
            raise PackError(
                f"pack {pack.card.name!r} is for {pack.card.task}, not forgery_detection: give one such as plain"
            )
    names = pack_names([pack.card for pack in loaded], given)
    detectors = [pack for pack in loaded if pack.card.task != NAMING]
    naming = [pack for pack in loaded if pack.card.task == NAMING]
    return detectors, naming, {pack.folder: name for pack, name in zip(loaded, names, strict=True)}


def _loaded(name: str) -> Pack:
    """A pack of any task."""
    try:
        return load_pack(name)
    except PackError:
        return load_pack(name, "forgery_detection")  # fails too, and suggests those that may lead alone


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


def inspect(
    media: Any,
    *,
    pack: str | Path | Sequence[str | Path] = "plain",
    edits: str | Path | None = EDIT_PACK,
    fps: float = 5.0,
    decide: float | None = None,
    name: str | None = None,
) -> Report:
    """Inspect one picture or video; the packs are loaded once and kept. Options are called as on the command line.

    Args:
        media: a path; the bytes of a file; a file that is open for reading bytes; a PIL image; or an array, uint8, of
            RGB (H, W, 3), RGBA (H, W, 4) or grey (H, W). PIL images and arrays are judged as PNG files of their pixels,
            whose hash the report then has: metadata are not looked at.
        pack: the forgery detector, an embedded pack's name or a folder; of several the first decides.
        edits: the edit-sequence model; None or "none" for none.
        fps: sampled frames of a second of video, > 0.
        decide: the likelihood ratio, from 2 to 1,000,000, from which on a verdict is given; the card's limits if None.
        name: what the report calls the file, if it is no path.

    Returns:
        The report. A file that cannot be judged has verdict "refused" and no score.

    Raises:
        PackError: a pack is missing, incomplete, altered or of another task.
        TypeError, ValueError: `media` is of no such kind, or an option is out of range.
    """
    edit_pack = None if edits == "none" else edits
    inspector = _inspector(InspectorOptions.of(pack, fps, edit_pack=edit_pack, decide=decide))
    return inspector.inspect(source_of(media, name))
