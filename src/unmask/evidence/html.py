"""The HTML report: one self-contained page, written file by file.

Nothing in the page is loaded from elsewhere, nothing runs: pictures are data URLs, charts are inline SVG, and a content
security policy forbids the rest. All text goes through jinja2's autoescaping.

While the run goes on, findings are appended to `NAME.part`, which a browser can already show. On leaving, also by
Ctrl-C, the page is put together with its summary in front and moved to `NAME`. Memory does not grow with the files.
"""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from unmask import __version__
from unmask.errors import DataError
from unmask.evidence.charts import (
    LrScale,
    Timeline,
    ece_plot,
    histogram,
    histogram_bin,
    lr_scale,
    timeline,
    tippett_plot,
)
from unmask.evidence.likelihood import (
    PROPOSITIONS,
    REFUSAL_REMEDIES,
    explain,
    heading,
    limit_words,
    lr_text,
    refusal_word,
    share,
    stretch_words,
    support,
    weighed_faces,
)
from unmask.evidence.pictures import data_url, jpeg_url, legend_colours, overlay
from unmask.evidence.report import FaceFinding, PackUse, Report, Verdict, in_words, percent
from unmask.evidence.terminal import CHECK_NAMES, EVALUATIVE, Wording, safe_text
from unmask.evidence.whole_picture import WholePicture
from unmask.files import begins_with, lock
from unmask.packs.card import Calibration, Card
from unmask.packs.groups import in_words as groups_in_words
from unmask.packs.strength import in_words as strength_in_words

CropPicture = np.ndarray | bytes | None

# From this many files on, only pictures of forged and refused files are put into the page. With all of them, a thousand
# files with a face each make some 50 MB, which browsers are slow to open.
PICTURES_FOR_ALL = 500
# So many files are printed in full, in the order of the page; the others on a part of a sheet each. In full they take
# three sheets each, and a thousand files minutes.
PRINTED_IN_FULL = 100

_ORDER = (Verdict.FORGED, Verdict.INCONCLUSIVE, Verdict.AUTHENTIC, Verdict.REFUSED)
_WORDS = {verdict.value: verdict.value.capitalize() for verdict in _ORDER}
_EVALUATIVE = {verdict.value: EVALUATIVE[verdict][0].upper() + EVALUATIVE[verdict][1:] for verdict in _ORDER}


class HtmlReport:
    """Streaming writer of the HTML report; a context manager.

    Args:
        path: the page to write; a file that is there is replaced when the page is complete. A link is followed.
        cards: the cards of the packs in use, for licence, limits, measured performance and calibration.
        title: heading of the page.
        command: the command line that repeats the whole run; that of the first report if None.
        wording: "evaluative" leaves the verdicts' words out and says the support alone.
        paper: for a PDF file: without what only a screen has, raw figures in an annex.

    Raises (on entering):
        DataError: the page cannot be written there, or another run is writing it.
    """

    def __init__(
        self,
        path: str | Path,
        cards: Iterable[Card] = (),
        *,
        title: str = "Were these faces forged?",
        command: str | None = None,
        wording: Wording = "verdict",
        paper: bool = False,
    ) -> None:
        self._words = _EVALUATIVE if wording == "evaluative" else _WORDS
        self._verdicts = wording == "verdict"
        self.path = Path(os.path.realpath(path))  # a link is followed, not replaced
        self._part = part_of(self.path)
        self._cards = {_identity(card): card for card in cards}
        self._title = title
        self._command = command
        self._jinja = _environment(paper)
        self._paper = paper
        self._annex: list[Markup] = []
        self._counts: Counter[str] = Counter()
        self._faces = self._judged = 0
        self._packs: dict[tuple[str, str, str], PackUse] = {}
        self._stages: Counter[str] = Counter()
        self._first: Report | None = None
        self._body: IO[bytes] | None = None
        self._index: IO[bytes] | None = None
        self._head = b""
        self._order: list[tuple[int, float, int]] = []  # rank, -log10 LR and number of each file
        self._places: list[tuple[int, int, int, int]] = []  # where and how long its text and its row of the index are
        self._lrs: dict[str, Counter[int]] = {}

    def __enter__(self) -> Self:
        written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        self._head = self._render(
            "head.html.j2",
            title=self._title,
            style=_style(),
            version=__version__,
            written=written,
            generator="inspect",
        ).encode()
        try:
            if self.path.exists() and not self.path.is_file():  # moving the page there would replace a device
                raise OSError(0, "it is a folder" if self.path.is_dir() else "it is not a regular file")
            self._body = self._part.open("a+b")
            if not lock(self._body):
                self._body.close()
                self._body = None
                raise DataError(f"{self.path}: another run is writing this page; wait for it, or give another name")
            self._body.truncate(0)
            # The index stands before the files but is known only after them.
            self._index = tempfile.TemporaryFile()
            self._body.write(self._head)
            self._body.flush()
        except OSError as error:
            self._close()
            raise DataError(
                f"{self.path}: cannot write the HTML report ({error.strerror}): give a writable file"
            ) from error
        return self

    def add(
        self,
        report: Report,
        pictures: Sequence[CropPicture] = (),
        strips: Sequence[Sequence[bytes]] = (),
        whole: WholePicture | None = None,
    ) -> None:
        """Append the findings on one file.

        Args:
            report: the file's report.
            pictures: for each face of `report.faces`, in order, the context crop that its map covers: uint8 RGB
                (S, S, 3), or the bytes of a JPEG file of it, or None. May be shorter than the faces.
            strips: for each face, in order, the way back from its edits as JPEG files: what was read, one edit less at
                a time, the recovered face. May be shorter than the faces.
            whole: the picture with all faces.

            Beyond `PICTURES_FOR_ALL` files, those of files judged authentic or inconclusive are left out.

        Raises:
            DataError: it cannot be written, say because the disk is full.
            ValueError: a picture is neither.
        """
        if self._body is None or self._index is None:
            raise RuntimeError("HtmlReport is written to inside its with block")
        number = self._counts.total() + 1
        name = "standard input" if report.path == "-" else safe_text(report.path)
        judged = sum(face.verdict is not Verdict.REFUSED for face in report.faces)
        left_out = number > PICTURES_FOR_ALL and report.verdict in (Verdict.AUTHENTIC, Verdict.INCONCLUSIVE)
        left_out = left_out and bool(pictures)
        shown = {} if left_out else dict(enumerate(pictures))
        ways = {} if left_out else dict(enumerate(strips))
        faces = [
            _face(
                report,
                face,
                shown.get(position),
                ways.get(position, ()),
                self._calibration(report),
                f"{number}-{position}",
            )
            for position, face in enumerate(report.faces)
        ]
        common: dict[str, Any] = {"report": report, "number": number, "name": name, "words": self._words}
        common["lr_text"] = lr_text
        text = self._render(
            "file.html.j2",
            faces=faces,
            judged=judged,
            left_out=left_out,
            in_words=in_words,
            percent=percent,
            legend=_LEGEND,
            whole=None if left_out else _whole(report, whole, number, self._verdicts),
            weighed=_weighed(report),
            sentence=None if report.log10_lr is None else explain(report.log10_lr, _weighed(report)),
            limits=_limits(report) if self._verdicts else None,
            heading=heading,
            refusal_word=refusal_word,
            refusal_remedies=REFUSAL_REMEDIES,
            check_names=CHECK_NAMES,
            stretch_words=stretch_words,
            **common,
        )
        if self._paper and report.faces:
            self._annex.append(Markup(self._render("annex.html.j2", in_words=in_words, **common)))
        row, body = self._render("index_row.html.j2", **common).encode(), text.encode()
        try:
            self._places.append((self._body.tell(), len(body), self._index.tell(), len(row)))
            self._index.write(row)
            self._body.write(body)
            self._body.flush()
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot write the HTML report ({error.strerror}): make room and run again; "
                f"what there is stays in {self._part}"
            ) from error
        self._order.append((_ORDER.index(report.verdict), -(report.log10_lr or 0.0), number - 1))
        if report.log10_lr is not None:
            self._lrs.setdefault(report.verdict.value, Counter())[histogram_bin(report.log10_lr)] += 1
        self._counts[report.verdict.value] += 1
        self._faces += len(report.faces)
        self._judged += judged
        self._stages.update(report.timings)
        self._packs.update({_identity(pack): pack for pack in report.packs})
        self._first = self._first or report

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._body is None or self._index is None:
            return
        whole = self._part.with_name(self._part.name + ".whole")
        try:
            with whole.open("wb") as page:
                self._assemble(page, self._body, self._index, interrupted=kind is not None)
            whole.replace(self.path)
        except OSError as failure:
            raise DataError(
                f"{self.path}: cannot finish the HTML report ({failure.strerror}); what there is stays in {self._part}"
            ) from failure
        finally:
            self._close()
            with suppress(OSError):
                whole.unlink(missing_ok=True)
        # Only now: without the page, the part is all there is.
        self._part.unlink(missing_ok=True)

    def _close(self) -> None:
        for stream in (self._index, self._body):
            if stream is not None:
                with suppress(OSError):  # what a full disk did not take is lost
                    stream.close()
        self._index = self._body = None

    def _assemble(self, page: IO[bytes], body: IO[bytes], index: IO[bytes], *, interrupted: bool) -> None:
        """Put the page together: summary and index in front, then the files, those called forged first."""
        files, first = self._counts.total(), self._first
        page.write(self._head)
        order = [number for _, _, number in sorted(self._order)]
        page.write(
            self._render(
                "summary.html.j2",
                counts=self._counts,
                files=files,
                faces=self._faces,
                judged=self._judged,
                propositions=PROPOSITIONS,
                interrupted=interrupted,
                words=self._words,
                verdicts=self._verdicts,
                histogram=histogram(self._lrs) if files > 1 and self._lrs else None,
                case=first.case.model_dump(exclude_none=True) if first and first.case else None,
            ).encode()
        )
        if files > 1:
            for number in order:
                _, _, start, length = self._places[number]
                index.seek(start)
                page.write(index.read(length))
            page.write(self._render("index_end.html.j2").encode())
        for place, number in enumerate(order):
            if place == PRINTED_IN_FULL:
                page.write(self._render("printed_short.html.j2", in_full=PRINTED_IN_FULL).encode())
            start, length, _, _ = self._places[number]
            body.seek(start)
            page.write(body.read(length))
        page.write(
            self._render(
                "foot.html.j2",
                tool=first.tool if first else None,
                run=first.run if first else None,
                command=self._command or (first.tool.command if first else ""),
                packs=[_pack(pack, self._cards.get(key), self._only) for key, pack in self._packs.items()],
                annex=self._annex,
                stages=self._stages,
                strength_in_words=strength_in_words,
                groups_in_words=groups_in_words,
            ).encode()
        )

    def _calibration(self, report: Report) -> Calibration | None:
        """That of the leading pack: the first that has one."""
        cards = (self._cards.get(_identity(pack)) for pack in report.packs)
        return next((card.calibration for card in cards if card is not None and card.calibration is not None), None)

    def _render(self, template: str, **values: Any) -> str:
        return self._jinja.get_template(template).render(**values)

    @property
    def _only(self) -> FaceFinding | None:
        """The face that speaks for the file, of a page with a single one."""
        if self._counts.total() != 1 or self._first is None:
            return None
        return next((face for face in self._first.faces if face.index == self._first.speaker), None)


@dataclass(frozen=True)
class _Figures:
    """Metrics of a card: a row for each test set."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def _figures(card: Card) -> list[_Figures]:
    """The metrics of a detector: those under several conditions a table each, the others side by side in one."""
    values: dict[str, dict[str, dict[str, str]]] = {}
    for metric in card.metrics if card.task == "forgery_detection" else ():
        text = f"{metric.value:.3f}"
        if metric.low is not None and metric.high is not None:
            text += f" [{metric.low:.2f}, {metric.high:.2f}]"
        values.setdefault(metric.name, {}).setdefault(metric.dataset, {})[metric.condition] = text
    tables, others = [], {}
    for name, rows in values.items():
        conditions = tuple(dict.fromkeys(condition for row in rows.values() for condition in row))
        if 2 * sum(len(row) > 1 for row in rows.values()) > len(rows):
            cells = ((dataset, tuple(row.get(one, "") for one in conditions)) for dataset, row in rows.items())
            tables.append(_Figures(f"{name} by condition", conditions, tuple(cells)))
        else:
            others[name] = {(dataset, one): text for dataset, row in rows.items() for one, text in row.items()}
    if others:
        keys = dict.fromkeys(key for row in others.values() for key in row)
        cells = (
            (f"{dataset}, {condition}", tuple(row.get((dataset, condition), "") for row in others.values()))
            for dataset, condition in keys
        )
        tables.append(_Figures("other measures", tuple(others), tuple(cells)))
    return tables


def _pack(use: PackUse, card: Card | None, only: FaceFinding | None) -> dict[str, Any]:
    """What the foot of the page shows of a pack; the value of an only face is marked in the plot of its pack."""
    plots = []
    if card is not None and card.validation is not None:
        opinions = {} if only is None else {one.pack: one.log10_lr for one in only.opinions or ()}
        marked = opinions.get(use.name) if opinions else None if only is None else only.log10_lr
        plots = [tippett_plot(card.validation, marked), ece_plot(card.validation)]
    return {"use": use, "card": card, "plots": plots, "figures": _figures(card) if card is not None else []}


def _identity(pack: Card | PackUse) -> tuple[str, str, str]:
    return pack.name, pack.version, pack.sha256


@dataclass(frozen=True)
class _Face:
    """What the template shows of one face."""

    finding: FaceFinding
    uid: str
    where: str
    crop: Markup | None
    overlay: Markup | None
    peak: float
    sentence: str | None
    scale: LrScale | None
    at_bound: bool
    timeline: Timeline | None
    strip: list[tuple[Markup, str]]
    steps: list[tuple[Markup, str]]


def _strip(face: FaceFinding, way: Sequence[bytes]) -> tuple[list[tuple[Markup, str]], list[tuple[Markup, str]]]:
    """The way back from the edits, and each edit's area laid over what was read, both as (picture, caption)."""
    if face.sequence is None or face.sequence.best is None or not way:
        return [], []
    edits = face.sequence.best.edits
    captions = ["as read", *(f"{edit} undone" for edit in edits[:0:-1]), "recovered"]
    read = _decode(way[0])
    steps = [
        (data_url(overlay(read, step.area)), f"{number}. {step.edit}")
        for number, step in enumerate(face.sequence.steps, start=1)
        if step.area is not None
    ]
    return [(jpeg_url(picture), caption) for picture, caption in zip(way, captions, strict=True)], steps


def _face(
    report: Report,
    face: FaceFinding,
    picture: CropPicture,
    way: Sequence[bytes],
    calibration: Calibration | None,
    uid: str,
) -> _Face:
    pixels = _decode(picture) if isinstance(picture, bytes) else picture
    crop: Markup | None = None
    if isinstance(picture, bytes):
        crop = jpeg_url(picture)
    elif picture is not None:
        crop = data_url(picture)
    covered = face.map is not None and bool(face.map.values) and bool(face.map.values[0])
    laid = None
    if pixels is not None and face.map is not None and covered:
        laid = data_url(overlay(pixels, face.map))
    scale, at_bound = None, False
    if face.log10_lr is not None:
        quality = _quality_behind(face)
        scale = lr_scale(face.log10_lr, calibration, quality, face.condition or "", face.decision)
        fit = None if calibration is None else calibration.bin_of(quality, face.condition or "")
        at_bound = fit is not None and face.log10_lr in (fit.lower, fit.upper)
    strip, steps = _strip(face, way)
    x, y, width, height = (round(value) for value in face.box)
    where = f"{width} × {height} pixels at ({x}, {y}), found with confidence {face.detection_confidence:.2f}"
    chart = None
    if face.track:
        duration = report.media.duration if report.media is not None else None
        stretch = None if face.stretch is None else (face.stretch.start, face.stretch.end)
        chart = timeline(face.track, duration, face.time, calibration, face.condition or "", face.decision, stretch)
    return _Face(
        finding=face,
        uid=uid,
        where=where,
        crop=crop,
        overlay=laid,
        peak=max((max(row) for row in face.map.values), default=0.0) if face.map is not None and covered else 0.0,
        sentence=None if face.log10_lr is None else explain(face.log10_lr),
        scale=scale,
        at_bound=at_bound,
        timeline=chart,
        strip=strip,
        steps=steps,
    )


def _limits(report: Report) -> str | None:
    """The limits of the verdict on a file: its own, in older reports those of the face that speaks for it."""
    speaker = next((face for face in report.faces if face.index == report.speaker), None)
    decision = report.decision or (speaker.decision if speaker is not None else None)
    one = speaker is not None and _weighed(report) == 1
    return None if decision is None else limit_words(decision, speaker.condition if one and speaker else None)


def _weighed(report: Report) -> int:
    """How many faces the file's LR is the mean of; in reports before schema 1.6 it is that of one."""
    several = report.decision is not None
    return len(weighed_faces(report.faces, report.media.frames_sampled if report.media else None)) if several else 1


@dataclass(frozen=True)
class _Place:
    """A face's box in the whole picture, in per cent of it; `low` where there is no room for its number above."""

    number: int
    verdict: str
    place: tuple[float, ...]
    low: bool
    target: str
    words: str


@dataclass(frozen=True)
class _Whole:
    """The whole picture, what it shows in words, and the boxes on it."""

    picture: Markup
    alternative: str
    caption: str
    places: list[_Place]


def _whole(report: Report, whole: WholePicture | None, number: int, verdicts: bool) -> _Whole | None:
    if whole is None:
        return None
    names = _WORDS if verdicts else _EVALUATIVE
    places = []
    for position, face in enumerate(report.faces):
        if face.index not in whole.places:
            continue
        place = tuple(round(100.0 * share, 2) for share in whole.places[face.index])
        said = "" if face.log10_lr is None else f", {support(face.log10_lr)}, LR {lr_text(face.log10_lr)}"
        words = f"Face {face.index + 1}: {names[face.verdict.value]}{said}"
        target = f"face-{number}-{position}"
        places.append(_Place(face.index + 1, face.verdict.value, place, place[1] < 6.0, target, words))
    counts = Counter(one.verdict for one in places)
    parts = ", ".join(f"{count} {names[verdict].lower()}" for verdict, count in counts.items())
    what = "The whole picture" if whole.time is None else f"The frame at {whole.time:.2f} s"
    missing = len(report.faces) - len(places)
    caption = f"{what}; the numbers are those of the faces below."
    if missing:
        caption += f" {missing} {'other is' if missing == 1 else 'others are'} not in this frame."
    return _Whole(jpeg_url(whole.jpeg), f"{what} with {len(places)} numbered faces: {parts}.", caption, places)


def _quality_behind(face: FaceFinding) -> float:
    """The quality by which the face's LR was calibrated: a track's is the mean over its judged frames."""
    judged = [point for point in face.track or () if point.log10_lr is not None]
    frames = sum(point.frames for point in judged)
    return sum(point.quality * point.frames for point in judged) / frames if judged else face.quality.unified


def _decode(jpeg: bytes) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg[:2] == b"\xff\xd8" else None
    if pixels is None:
        raise ValueError("a picture given as bytes must be a JPEG file")
    return np.ascontiguousarray(pixels[:, :, ::-1])


def page_text(
    report: Report,
    pictures: Sequence[CropPicture] = (),
    strips: Sequence[Sequence[bytes]] = (),
    cards: Iterable[Card] = (),
    whole: WholePicture | None = None,
    **how: Any,
) -> str:
    """The whole page of one file, as `HtmlReport` writes it; the arguments are those of its methods."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        with HtmlReport(path, cards, **how) as page:
            page.add(report, pictures, strips, whole)
        return path.read_text(encoding="utf-8")


def notebook_frame(
    report: Report,
    pictures: Sequence[CropPicture] = (),
    strips: Sequence[Sequence[bytes]] = (),
    whole: WholePicture | None = None,
) -> str:
    """The page of one file in a frame of its own, so that its style and the notebook's stay apart."""
    text = page_text(report, pictures, strips, whole=whole, title="Was this face forged?")
    return (
        f'<iframe srcdoc="{escape(text)}" sandbox title="Report on {escape(safe_text(report.path))}" '
        'style="width:100%;height:640px;border:1px solid #ccc;border-radius:8px"></iframe>'
    )


def is_html_report(path: Path) -> bool:
    """Whether a file is a page of `HtmlReport`, or the part of one.

    Raises:
        OSError: it cannot be read.
    """
    return begins_with(path, b'<meta name="generator" content="unmask inspect ')


def part_of(path: Path) -> Path:
    """Where `HtmlReport` keeps what it has of a page while the run goes on."""
    return path.with_name(path.name + ".part")


def _environment(paper: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("unmask.evidence"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=_shown,
    )
    environment.globals |= {"print_form": paper, "svg_style": _svg_style() if paper else "", "share": share}
    return environment


def _svg_style() -> Markup:
    """The style of charts within each of them, its colours resolved: WeasyPrint gives them no other."""
    style = str(_style())
    colours = dict(re.findall(r"--([\w-]+): ([^;]+);", style[style.index("@media print") :]))
    rules = [line for line in style.splitlines() if line.startswith("svg")]
    text = re.sub(r"var\(--([\w-]+)\)", lambda name: colours.get(name[1], "#000"), "\n".join(rules))
    icons = " ".join(f".icon .{verdict.value} {{ fill: {colours[verdict.value]}; }}" for verdict in _ORDER)
    return Markup(f"<style>{text} {icons} svg .words {{ display: none; }}</style>")


def _shown(value: Any) -> Any:
    """Text in a page: no lone surrogates, control characters or direction overrides, wherever it came from."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return safe_text(value)
    return value


def _style() -> Markup:
    # Our own file, not input: it must not be escaped.
    source, _, _ = PackageLoader("unmask.evidence").get_source(Environment(), "style.css")
    return Markup(source.strip())


_LEGEND = legend_colours()
