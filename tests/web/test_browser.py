"""The pages in a real browser: Chromium, driven through Playwright, with axe for accessibility."""

import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from unmask.cli import main
from unmask.evidence.html import HtmlReport
from unmask.inspection import Inspector

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("fastapi", reason="the web extra is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path: apt-get install chromium"),
]

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def server(tiny_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, psutil.Process, Path]]:
    """A service that runs: the address with its token, its process, and where it spools."""
    assert callable(main)
    spool = tmp_path_factory.mktemp("spool")
    words = ["serve", "--port", "0", "--pack", str(tiny_pack), "--edits", "none", "--spool", str(spool)]
    process = subprocess.Popen([sys.executable, "-m", "unmask.cli", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    match = re.search(r"http://\S+", process.stdout.readline())
    assert match is not None
    address = match[0]
    for _ in range(100):
        try:
            urllib.request.urlopen(address.partition("?")[0], timeout=5)
            break
        except OSError:
            time.sleep(0.1)
    yield address, psutil.Process(process.pid), spool
    process.terminate()
    assert process.wait(timeout=30) == 0
    assert list(spool.iterdir()) == []  # nothing is left


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        made = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield made
        made.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    made = browser.new_context().new_page()
    said: list[str] = []
    made.on("pageerror", lambda error: said.append(str(error)))
    made.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    yield made
    made.context.close()
    assert said == []


def violations(page: Any) -> list[str]:
    """What axe finds wrong, a line each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['target']}: {node['failureSummary']}" for one in found for node in one["nodes"]]


def test_files_are_chosen_followed_read_and_deleted(
    server: tuple[str, psutil.Process, Path], page: Any, portrait: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken <b>.jpg"
    broken.write_bytes(b"no picture")
    page.goto(server[0])
    assert "token" not in page.url
    page.set_input_files("#pick", [portrait, broken])
    playwright.expect(page.locator(".file .open:visible")).to_have_count(2, timeout=120_000)
    texts = page.locator(".file").all_inner_texts()
    assert any("support for" in text and "LR" in text and "astronaut.jpg" in text for text in texts)
    assert any("Cannot be judged (file)" in text and "broken <b>.jpg" in text for text in texts)
    assert "1 refused" in page.inner_text("#counts")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == []
    page.set_viewport_size({"width": 360, "height": 720})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shown = 0 if find_spec("weasyprint") is None else 2
    playwright.expect(page.locator(".file .pdf:visible")).to_have_count(shown)
    if shown:
        with page.expect_download(timeout=120_000) as printed:
            page.locator(".file", has_text="astronaut.jpg").locator(".pdf").click()
        assert printed.value.suggested_filename == "astronaut.jpg.pdf"
        assert printed.value.path().read_bytes().startswith(b"%PDF")
    with page.expect_popup() as opened:
        page.locator(".file", has_text="astronaut.jpg").locator(".open").click()
    assert "astronaut.jpg" in opened.value.inner_text("main") and opened.value.locator("img").count() == 2
    opened.value.close()
    page.locator(".file", has_text="astronaut.jpg").locator(".remove").click()
    playwright.expect(page.locator(".file")).to_have_count(1)


def test_the_keyboard_alone_suffices(server: tuple[str, psutil.Process, Path], page: Any, portrait: Path) -> None:
    page.goto(server[0])
    page.set_input_files("#pick", [portrait])
    page.wait_for_selector(".file .open:not([hidden])", timeout=120_000)
    page.focus("body")
    names = []
    for _ in range(12):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    for name in ("skip", "pick", "pick-folder", "open", "json", "remove"):
        assert name in names, names


def test_without_the_token_the_page_says_what_to_do(server: tuple[str, psutil.Process, Path], browser: Any) -> None:
    context = browser.new_context()  # the console tells of the refusal, as it should
    page = context.new_page()
    page.goto(server[0].partition("?")[0])
    playwright.expect(page.locator("#problem")).to_contain_text("token")
    context.close()


def test_fifty_uploads_at_once_leave_memory_flat(server: tuple[str, psutil.Process, Path], portrait: Path) -> None:
    address, process, _ = server
    base, _, token = address.partition("/?token=")
    data = portrait.read_bytes() + bytes(6_000_000)  # what lies behind a JPEG is read, and not decoded
    # The first makes the server load what it needs.
    answers: list[int] = []

    def send() -> None:
        request = urllib.request.Request(
            f"{base}/v1/inspections", data=data, headers={"Authorization": f"Bearer {token}"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            answers.append(answer.status)

    send()
    before, most = process.memory_info().rss, 0
    threads = [threading.Thread(target=send) for _ in range(50)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, process.memory_info().rss)
        time.sleep(0.02)
    assert answers == [202] * 51
    assert most - before < 60_000_000, f"{(most - before) / 1e6:.0f} MB more for 300 MB of uploads"


def test_the_report_on_many_files_is_accessible_and_filtered_without_a_script(
    browser: Any, tiny_pack: Path, portrait: Path, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    with Image.open(portrait) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    cold = tmp_path / "cold.png"
    Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])).save(cold)
    group = tmp_path / "group.png"
    Image.fromarray(np.hstack([pixels, pixels[:, ::-1]])).save(group)
    broken = tmp_path / "broken.jpg"
    broken.touch()
    inspector, report = Inspector(tiny_pack, edit_pack=None), tmp_path / "report.html"
    with HtmlReport(report, inspector.cards) as written:
        for path in (cold, broken, make_video(lambda _: pixels, seconds=1.0), portrait, group):
            done = inspector.examine(path, pictures=True)
            written.add(done.report, done.pictures, done.strips, done.whole)
    context = browser.new_context(java_script_enabled=True)  # for axe; the report itself has none
    page = context.new_page()
    page.goto(report.as_uri())
    assert "<script" not in report.read_text()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == []
    assert page.locator(".file:visible").count() == 5
    boxes = page.locator(".whole .box")
    assert [box.get_attribute("aria-label")[:7] for box in boxes.all()] == ["Face 1:", "Face 2:"]
    stage, first, second = page.locator(".whole .stage").bounding_box(), *(box.bounding_box() for box in boxes.all())
    assert all(stage["x"] <= box["x"] < stage["x"] + stage["width"] for box in (first, second))
    boxes.first.click()
    assert page.evaluate("document.querySelector(':target').className").startswith("face ")
    page.check("#show-refused")
    assert page.locator(".file:visible").count() == 1 and page.locator(".index tbody tr:visible").count() == 1
    page.check("#show-all")
    assert page.locator(".file:visible").count() == 5
    page.set_viewport_size({"width": 360, "height": 720})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()
