"""Draw the pictures of reports that the documentation shows: `python docs/pictures.py`. Needs Chromium.

The demonstration's photograph and forgery, and a film that passes from the one to the other, are inspected; the wanted
part of the HTML report is photographed by a headless browser and cut to its edges. Each picture stays below 150 kB.
The page of `unmask serve` is photographed through Playwright, with the demonstration's files and the film.
With `--families PACK`, a pack that `unmask prompt learn` has written, also the forgery with the name of its family.
"""

import argparse
import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageChops
from playwright.sync_api import expect, sync_playwright

from unmask import Inspector
from unmask.demo import run_demo
from unmask.evidence.html import HtmlReport
from unmask.evidence.report import Case, ExaminerNote
from unmask.provenance import utc_text

IMAGES = Path(__file__).resolve().parent / "images"
MOST_BYTES = 150_000
SHOTS = {
    "report.webp": ("demo", "main>*{display:none}#file-2{display:block!important}"),
    "maps.webp": (
        "demo",
        "main>*,.banner,.inside,.face .body>div+div{display:none}#file-1,#file-2{display:block!important;margin:0}"
        ".face .body{display:block!important}main{display:grid!important;grid-template-columns:1fr 1fr;gap:8px}",
    ),
    "exhibit.webp": (
        "exhibit",
        "main>*,.inside>:not(dl),.qualities,.face .body>div+div>p,.banner p+p+p{display:none}"
        "#case,#file-1{display:block!important}",
    ),
    "timeline.webp": (
        "film",
        "main>*,.inside,.face .body{display:none!important}#file-1{display:block!important}",
    ),
}
NAMING = {"naming.webp": ("naming", "main>*,.inside{display:none!important}#file-1{display:block!important}")}
"""A picture's file name -> the report that it is taken from, and the style that leaves the wanted part alone."""


def film(photograph: Path, forgery: Path, out: Path, seconds: float = 2.0, rate: int = 10) -> None:
    """A film of the photograph for some seconds, then of the forgery for as many; H.264 in MP4."""
    pictures = []
    for path in (photograph, forgery):
        with Image.open(path) as picture:
            pictures.append(np.asarray(picture.convert("RGB")))
    with av.open(str(out), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        for pixels in pictures:
            for _ in range(round(seconds * rate)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def make_reports(families: Path | None) -> dict[str, Path]:
    """The HTML reports of the demonstration and of the film, by name, in the current folder.

    Args:
        families: a prompt pack, for a third report, of the forgery with the name of its family.
    """
    demo, clip, page = Path("unmask-demo"), Path("clip.mp4"), Path("film.html")
    run_demo(demo)
    film(demo / "photograph.jpg", demo / "forgery.png", clip)
    inspected(clip, page, Inspector())
    reports = {"demo": demo / "report.html", "film": page, "exhibit": exhibit(demo / "forgery.png")}
    if families is not None:
        reports["naming"] = Path("naming.html")
        families = Path(shutil.copytree(families, "families"))  # so that the report shows a short name
        inspected(demo / "forgery.png", reports["naming"], Inspector(["plain", families]))
    return reports


def inspected(path: Path, page: Path, inspector: Inspector) -> None:
    """Inspect a file and write its HTML report."""
    inspection = inspector.examine(path, pictures=True)
    with HtmlReport(page, inspector.cards) as html:
        html.add(inspection.report, inspection.pictures, inspection.strips)


def exhibit(picture: Path) -> Path:
    """The page of a case of one picture, with an examiner's conclusion."""
    inspector = Inspector()
    done = inspector.examine(picture, pictures=True)
    case = Case(case="2026-0417", exhibit="A3", examiner="A. Example", laboratory="Example laboratory")
    note = ExaminerNote(
        time=utc_text(),
        by="A. Example",
        conclusion="Forged",
        reason="The left half of the face is the right one, mirrored.",
    )
    page = Path("exhibit.html")
    with HtmlReport(page, inspector.cards, title="Was this face forged?") as html:
        report = done.report.model_copy(update={"case": case, "notes": [note]})
        html.add(report, done.pictures, done.strips)
    return page


def photograph(page: Path, style: str, out: Path, browser: str) -> None:
    """Part of a page as a WebP picture, cut to its edges.

    Raises:
        ValueError: the file would be larger than `MOST_BYTES`.
    """
    plain = f"<style>{style} body{{background:#fff!important}}main{{padding:8px!important}}</style></head>"
    shown = page.with_name(f"shown-{out.stem}.html")
    shown.write_text(page.read_text(encoding="utf-8").replace("</head>", plain), encoding="utf-8")
    shot = page.with_name(f"shown-{out.stem}.png")
    size = ("--hide-scrollbars", "--window-size=900,2400", f"--screenshot={shot}")
    subprocess.run(
        [browser, "--headless", "--no-sandbox", *size, shown.resolve().as_uri()], check=True, capture_output=True
    )
    with Image.open(shot) as picture:
        whole = picture.convert("RGB")
    box = ImageChops.difference(whole, Image.new("RGB", whole.size, "white")).getbbox()
    whole.crop(box).save(out, quality=70, method=6)
    if out.stat().st_size > MOST_BYTES:
        raise ValueError(f"{out} has {out.stat().st_size:,} bytes, more than {MOST_BYTES:,}")


def served(files: Sequence[Path], out: Path, browser: str) -> None:
    """The page of `unmask serve` with some files, as a WebP picture of 900 pixels a side."""
    words = [sys.executable, "-m", "unmask.cli", "serve", "--port", "0"]
    shot = Path(f"{out.stem}.png").resolve()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as service, sync_playwright() as running:
        assert service.stdout is not None
        address = re.search(r"http://\S+", service.stdout.readline())
        assert address is not None
        page = running.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page(
            viewport={"width": 900, "height": 900}
        )
        page.goto(address[0])
        page.set_input_files("#pick", list(files))
        expect(page.locator(".file .open:visible")).to_have_count(len(files), timeout=120_000)
        page.screenshot(path=shot)
        service.terminate()
    with Image.open(shot) as picture:
        picture.convert("RGB").save(out, quality=70, method=6)


def main() -> None:
    """Write all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", default=shutil.which("chromium") or "chromium")
    parser.add_argument("--families", type=Path, help="a prompt pack, for naming.webp")
    chosen = parser.parse_args()
    families = chosen.families and chosen.families.resolve()
    # Within the folder, so that the reports show short names.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        reports = make_reports(families)
        for name, (report, style) in (SHOTS | (NAMING if families else {})).items():
            photograph(reports[report], style, IMAGES / name, chosen.browser)
        demo = reports["demo"].parent
        files = [Path("clip.mp4"), demo / "forgery.png", demo / "photograph.jpg"]
        served(files, IMAGES / "serve.webp", chosen.browser)


if __name__ == "__main__":
    main()
