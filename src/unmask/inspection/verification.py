"""Does a report repeat? Its media are inspected again with the same packs and options, and every field is compared.

Hashes come first: what is not the file that was inspected then is not inspected now.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from unmask._version import __version__
from unmask.errors import DataError, PackError, RefusalCode, Refused
from unmask.evidence.comparison import TOLERANCES, Difference, compare_reports
from unmask.evidence.jsonl import read_reports
from unmask.evidence.report import ExaminerNote, PackUse, Report, restore_surrogates
from unmask.inspection.batch import Batch
from unmask.inspection.inspector import Inspection, Inspector, examine_safely
from unmask.media.intake import open_regular_file
from unmask.media.sources import STANDARD_INPUT, Source
from unmask.packs import Pack, embedded_packs, load_pack
from unmask.progress import SILENT, Progress
from unmask.provenance import machine, sha256_of_stream, utc_text

Result = Literal["same", "differs", "media_missing", "media_changed"]
_OPTIONS = {
    "pack": "forgery_pack",
    "face_pack": "face_pack",
    "frames_per_second": "frames_per_second",
    "edit_pack": "edit_pack",
    "decide": "decide",
    "c2pa_anchors": "c2pa_anchors",
}


@dataclass(frozen=True)
class FileVerification:
    """What came of one file.

    Attributes:
        path: as the report has it.
        sha256: of the file, as the report has it.
        result: "same" within the tolerances; "differs"; "media_missing": the file is not there; "media_changed": what
            is there is another one.
        differences: the fields that differ, of "differs".
        largest: the largest difference by quantity (`TOLERANCES`), of what was inspected again.
        notes: what examiners concluded, which nothing here verifies.
    """

    path: str
    sha256: str | None
    result: Result
    differences: tuple[Difference, ...] = ()
    largest: Mapping[str, float] | None = None
    notes: tuple[ExaminerNote, ...] = ()


@dataclass(frozen=True)
class Verification:
    """What came of all files, and under which circumstances.

    Attributes:
        files: one for each report, in their order.
        recorded: versions of unmask, Python and the libraries that made the reports, each once.
        now: those that were used to verify.
        packs: of the reports, "NAME VERSION", and whether the embedded one of that name here is the same.
    """

    files: tuple[FileVerification, ...]
    recorded: tuple[Mapping[str, str], ...]
    now: Mapping[str, str]
    packs: Mapping[str, bool]

    @property
    def counts(self) -> Counter[str]:
        """How many files had each result."""
        return Counter(one.result for one in self.files)

    @property
    def largest(self) -> dict[str, float]:
        """The largest difference by quantity, over all files that were inspected again."""
        largest: dict[str, float] = {}
        for one in self.files:
            for quantity, size in (one.largest or {}).items():
                largest[quantity] = max(largest.get(quantity, 0.0), size)
        return largest

    def changed_versions(self) -> dict[str, tuple[str, str]]:
        """The libraries whose version differs: (recorded, now), the one or the other "none"."""
        names = dict.fromkeys([name for versions in self.recorded for name in versions] + list(self.now))
        changed = {}
        for name in names:
            before = ", ".join(sorted({versions.get(name, "none") for versions in self.recorded}))
            if before != self.now.get(name, "none"):
                changed[name] = before, self.now.get(name, "none")
        return changed

    def as_json(self) -> dict[str, Any]:
        """All of it, for `--json`."""
        return {
            "verification_version": 1,
            "verified": utc_text(),
            "machine": asdict(machine()),
            "tolerances": {one.quantity: {"most": one.most, "unit": one.unit} for one in TOLERANCES},
            "versions": {"recorded": [dict(one) for one in self.recorded], "now": dict(self.now)},
            "packs": [{"pack": name, "as_embedded_here": same} for name, same in self.packs.items()],
            "counts": dict(self.counts),
            "largest_differences": self.largest,
            "files": [
                {
                    **asdict(one),
                    "largest": dict(one.largest or {}),
                    "notes": [note.model_dump() for note in one.notes],
                }
                for one in self.files
            ],
        }


@dataclass(frozen=True)
class Repeated:
    """A report, what was found when it was repeated, and the new inspection, if there was one."""

    report: Report
    verification: FileVerification
    inspection: Inspection | None
    source: Source | None


@dataclass(frozen=True)
class Located:
    """The file that a report speaks of: where it is, unless it is missing or another one by now."""

    source: Source | None
    result: Literal["media_missing", "media_changed"] | None = None


class MediaFiles:
    """Where the media and packs of a file of reports lie: as the reports say; media also beside that file.

    Args:
        reports: the file of reports.
    """

    def __init__(self, reports: Path) -> None:
        self._folder = reports.parent

    def locate(self, report: Report) -> Located:
        """The file that a report speaks of, its hash compared."""
        if report.path == STANDARD_INPUT or "\ufffd" in report.path:
            return Located(None, "media_missing")
        name = Path(restore_surrogates(report.path))
        places = [name, self._folder / name]
        if report.sha256 is not None:  # by its content, whichever folder and system it was in
            places.append(self._folder / PureWindowsPath(name).name)
        return located(report, [Source(report.path, place) for place in places])

    def arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of `Inspector` for the options of a report."""
        return inspector_arguments(options)


def located(report: Report, places: Sequence[Source]) -> Located:
    """The first of some places where the file of a report is; a file that was not there then is looked for again."""
    if report.refusal is not None and report.refusal.code is RefusalCode.NOT_FOUND:
        return Located(places[0])
    hashes = [_sha256(place) for place in places]
    for place, sha256 in zip(places, hashes, strict=True):
        if sha256 is not None and report.sha256 in (None, sha256):
            return Located(place)
    return Located(None, "media_changed" if any(hashes) else "media_missing")


def inspector_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `Inspector` that a report's `tool.options` stand for.

    Raises:
        DataError: an option is not known here.
    """
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise DataError(
            f"the report was made with the option {unknown[0]!r}, which this version of unmask does not know: use a "
            "newer one"
        )
    return {"edit_pack": None} | {_OPTIONS[name]: value for name, value in options.items()}


def pack_names(arguments: Mapping[str, Any]) -> list[str]:
    """What the arguments of an `Inspector` call its packs."""
    forgery = arguments.get("forgery_pack", ())
    names = [*([forgery] if isinstance(forgery, str) else forgery), arguments.get("face_pack"), arguments["edit_pack"]]
    return [name for name in names if name is not None]


def packs_of(arguments: Mapping[str, Any]) -> dict[str, Pack]:
    """The packs that the arguments of an `Inspector` name, by these names.

    Raises:
        PackError: one is missing, incomplete or altered.
    """
    return {name: load_pack(name) for name in pack_names(arguments)}


def repeat(
    reports: Path, media: MediaFiles, *, jobs: int = 1, pictures: bool = False, progress: Progress = SILENT
) -> Iterator[Repeated]:
    """Inspect the media of a file of reports again, in its order.

    Args:
        reports: JSON lines.
        media: where the media and packs are.
        jobs: worker processes.
        pictures: also give each face's picture.
        progress: of the stages "hashes" and "inspections".

    Raises:
        DataError: the file holds something else than reports, or reports that this version cannot repeat.
        PackError: a pack is missing, or another one than that of the report.
    """
    total = sum(1 for _ in read_reports(reports))
    done = 0
    for run in _runs(reports):
        inspector = Inspector(**media.arguments(run[0][1].tool.options))
        _check_packs(run[0][1].packs, inspector.packs)
        places = []
        for number, (_, report) in enumerate(run, start=done + 1):
            places.append(media.locate(report))
            progress.update("hashes", number, total)
        todo = [place.source for place in places if place.source is not None]
        with ExitStack() as stack:
            stack.callback(inspector.close)
            results = stack.enter_context(closing(_inspections(inspector, todo, jobs, pictures)))
            for (raw, report), place in zip(run, places, strict=True):
                if place.result is None:
                    inspection = next(results)
                    yield Repeated(report, _compared(raw, report, inspection), inspection, place.source)
                else:
                    missing = FileVerification(report.path, report.sha256, place.result, notes=tuple(report.notes))
                    yield Repeated(report, missing, None, None)
                done += 1
                progress.update("inspections", done, total)


_Run = list[tuple[dict[str, Any], Report]]
_STRETCH = 1000  # reports that are held at once


def _runs(reports: Path) -> Iterator[_Run]:
    """The reports, as they are and read, a stretch of equal options and packs at a time."""
    run: _Run = []
    for raw, report in read_reports(reports):
        others = run and (run[0][1].tool.options, run[0][1].packs) != (report.tool.options, report.packs)
        if others or len(run) == _STRETCH:
            yield run
            run = []
        run.append((raw, report))
    if run:
        yield run


def _inspections(
    inspector: Inspector, sources: Sequence[Source], jobs: int, pictures: bool
) -> Generator[Inspection, None, None]:
    """The inspections; many go to worker processes, so that a crash costs no more than its file."""
    if len(sources) == 1:
        return (examine_safely(inspector, source, pictures=pictures) for source in sources)
    return Batch(inspector, jobs, pictures).run(sources)


def _compared(raw: Mapping[str, Any], report: Report, inspection: Inspection) -> FileVerification:
    if report.identical_to is not None and report.refusal is not None:
        own = report.refusal.message.removesuffix(f" (Identical to {report.identical_to}.)")
        raw = {**raw, "refusal": {**raw["refusal"], "message": own}}
    comparison = compare_reports(raw, inspection.report.model_dump(mode="json"))
    result: Result = "differs" if comparison.differences else "same"
    notes = tuple(report.notes)
    return FileVerification(report.path, report.sha256, result, comparison.differences, comparison.largest, notes)


def _check_packs(recorded: Sequence[PackUse], here: Sequence[PackUse]) -> None:
    if list(recorded) != list(here):
        names = [f"{pack.name} {pack.version} ({pack.sha256[:8]})" for pack in recorded if pack not in here]
        others = [f"{pack.name} {pack.version} ({pack.sha256[:8]})" for pack in here if pack not in recorded]
        raise PackError(
            f"the report was made with {', '.join(names) or 'other packs'}, and here is {', '.join(others) or 'none'}: "
            "install the version of unmask that made it, or verify a bundle, which holds its packs"
        )


def _sha256(source: Source) -> str | None:
    assert source.file is not None
    try:
        with open_regular_file(source.file) as stream:
            return sha256_of_stream(stream)
    except (OSError, Refused):
        return None


def verify(
    reports: Path,
    media: MediaFiles | None = None,
    *,
    jobs: int = 1,
    progress: Progress = SILENT,
    on_file: Callable[[FileVerification], None] = lambda _: None,
) -> Verification:
    """Verify a file of reports.

    Args:
        reports: JSON lines that `unmask inspect --json` wrote.
        media: where the media and packs are; as the reports say if left out.
        jobs: worker processes.
        progress: see `repeat`.
        on_file: called with what came of each file, as it comes.

    Raises:
        DataError, PackError: see `repeat`.
    """
    files: list[FileVerification] = []
    recorded: dict[tuple[tuple[str, str], ...], None] = {}
    packs: dict[str, bool] = {}
    now: dict[str, str] = {}
    known = {name: load_pack(name).card.sha256 for name in embedded_packs()}
    for repeated in repeat(reports, media or MediaFiles(reports), jobs=jobs, progress=progress):
        tool = repeated.report.tool
        recorded[tuple({"unmask": tool.version, **tool.libraries}.items())] = None
        packs |= {f"{pack.name} {pack.version}": known.get(pack.name) == pack.sha256 for pack in repeated.report.packs}
        if repeated.inspection is not None:
            now = {"unmask": __version__, **repeated.inspection.report.tool.libraries}
        files.append(repeated.verification)
        on_file(repeated.verification)
    return Verification(tuple(files), tuple(map(dict, recorded)), now, packs)
