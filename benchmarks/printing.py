"""Printing the page of many files: Chromium makes a PDF of it.

One portrait and its demonstration's forgery are inspected; the page has their findings under as many names, a tenth of
them as forged, which keep their pictures however many there are. Chromium runs without a window, and reaches nobody.
"""

import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib import resources
from pathlib import Path

import psutil
from common import finish, parser

from unmask.evidence.html import HtmlReport
from unmask.evidence.report import Verdict
from unmask.inspection import Inspector

FORGED = 10  # every such file is called forged
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-pdf-header-footer")


def made_page(path: Path, files: int, inspector: Inspector) -> None:
    """A page of so many files."""
    with resources.as_file(resources.files("unmask.demo").joinpath("astronaut.jpg")) as portrait:
        done = inspector.examine(portrait, pictures=True)
    with HtmlReport(path, inspector.cards) as page:
        for number in range(files):
            changes: dict[str, object] = {"path": f"inbox/{number:05}.jpg"}
            if number % FORGED == 0:
                changes["verdict"] = Verdict.FORGED
            page.add(done.report.model_copy(update=changes), done.pictures, done.strips)


def printed(page: Path, pdf: Path) -> dict[str, float]:
    """How long Chromium needs for a page, from its start to its end, and the processor time of all its processes."""
    assert CHROMIUM is not None, "apt-get install chromium"
    used: dict[int, float] = {}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as profile:
        words = [CHROMIUM, *ARGUMENTS, f"--user-data-dir={profile}", f"--print-to-pdf={pdf}", page.as_uri()]
        browser = psutil.Popen(words, stderr=subprocess.DEVNULL)
        while browser.poll() is None:
            with suppress(psutil.Error):
                for process in (browser, *browser.children(recursive=True)):
                    with suppress(psutil.Error):
                        times = process.cpu_times()
                        used[process.pid] = times.user + times.system
            time.sleep(0.1)
    if browser.returncode or not pdf.exists():
        raise SystemExit(f"Chromium printed nothing (exit code {browser.returncode})")
    return {"seconds": round(time.perf_counter() - start, 1), "cpu_seconds": round(sum(used.values()), 1)}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000], help="numbers of files")
    given = arguments.parse_args()
    results = {}
    inspector = Inspector(given.pack)
    with tempfile.TemporaryDirectory() as folder:
        for files in given.sizes:
            page, pdf = Path(folder, f"{files}.html"), Path(folder, f"{files}.pdf")
            made_page(page, files, inspector)
            times = printed(page, pdf)
            sheets = pdf.read_bytes().count(b"/Type /Page\n")
            size = {"page_mb": round(page.stat().st_size / 1e6, 1), "pdf_mb": round(pdf.stat().st_size / 1e6, 1)}
            results[str(files)] = {**times, "sheets": sheets, **size}
    finish(given, "printing", results)


if __name__ == "__main__":
    main()
