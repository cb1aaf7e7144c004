"""What an examiner concludes beside the machine's answer: appended to a report, which stays as it is otherwise."""

import json
from pathlib import Path

from unmask.errors import DataError
from unmask.evidence.jsonl import parsed_reports, place_of
from unmask.evidence.report import SCHEMA_VERSION, ExaminerNote, Report
from unmask.files import lock, whole


def add_note(reports: Path, file: str | None, note: ExaminerNote) -> Report:
    """Append a note to one report of a file of reports.

    The file is written anew and appears when it is whole; other reports keep their bytes, and of this one all but
    `notes` and `schema_version` stay as they are.

    Args:
        reports: JSON lines that `unmask inspect --json` wrote.
        file: path of the picture or video, as the report has it or in another spelling; may be left out if there is
            but one report.
        note: what to append.

    Returns:
        The report with its notes.

    Raises:
        DataError: the reports cannot be read or written, or none or several of them are on that file.
    """
    if not reports.is_file():
        raise DataError(f"{reports}: is not there; give a file that --json wrote")
    try:
        # The stream is closed before the new file takes its place.
        with whole(reports) as part, reports.open("r+b") as stream:
            if not lock(stream):
                raise DataError(f"{reports}: another run is writing this file; wait for it")
            lines = stream.read().splitlines(keepends=True)
            chosen = _chosen(reports, [report.path for _, report in parsed_reports(reports, lines)], file)
            raw = json.loads(lines[chosen])
            raw["notes"] = [*raw.get("notes", ()), note.model_dump()]
            raw["schema_version"] = SCHEMA_VERSION
            noted = Report.model_validate(raw)
            lines[chosen] = json.dumps(raw, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            part.write_bytes(b"".join(lines))
    except OSError as error:
        raise DataError(f"{reports}: cannot be written ({error.strerror}): give a file that --json wrote") from error
    return noted


def _chosen(reports: Path, paths: list[str], file: str | None) -> int:
    if file is None:
        if len(paths) > 1:
            raise DataError(f"{reports}: has {len(paths)} reports; say with --file which picture or video is meant")
        return 0
    numbers = [number for number, path in enumerate(paths) if path == file]
    numbers = numbers or [number for number, path in enumerate(paths) if place_of(path) == place_of(file)]
    numbers = numbers or [number for number, path in enumerate(paths) if Path(path).name == file]
    if not numbers:
        raise DataError(f"{reports}: has no report on {file}; it has {', '.join(paths[:5])}{' …' * (len(paths) > 5)}")
    if len(numbers) > 1 and len({paths[number] for number in numbers}) > 1:
        raise DataError(f"{reports}: several files are called {file}; give the path as the report has it")
    return numbers[-1]
