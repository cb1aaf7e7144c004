"""The REST interface: what it answers, to whom, and what it refuses."""

import io
import json
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from unmask.evidence.report import Report
from unmask.inspection.options import InspectorOptions
from unmask.web.jobs import Jobs, Limits

testclient = pytest.importorskip("fastapi.testclient", reason="the web extra is not installed")

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-some-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
HOST = "127.0.0.1:8010"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="module")
def client(tiny_pack: Path, folder: Path) -> Iterator[Any]:
    from unmask.web.service import create_app

    options = InspectorOptions.of(tiny_pack, edit_pack=None)
    jobs = Jobs(options, Limits(upload=2_000_000), folder)
    app = create_app(jobs, [], TOKEN, frozenset({HOST}))
    with testclient.TestClient(app, base_url=f"http://{HOST}", headers=BEARER) as made:
        yield made


def upload(client: Any, data: bytes, name: str = "a.jpg") -> dict[str, Any]:
    answer = client.post("/v1/inspections", params={"name": name}, content=data)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == job["links"]["self"]
    for _ in range(600):
        job = client.get(job["links"]["self"]).json()
        if job["state"] in ("done", "failed"):
            return job
        time.sleep(0.1)
    raise AssertionError("it did not end")


def test_a_picture_goes_in_and_a_report_comes_out(client: Any, portrait: Path) -> None:
    job = upload(client, portrait.read_bytes(), "scene 4.jpg")
    assert job["state"] == "done" and job["expires"] > time.time() and job["waiting_before"] is None
    report = Report.model_validate(client.get(job["links"]["report"]).json())
    assert report.path == "scene 4.jpg" and report.verdict.value == job["summary"]["verdict"]
    page = client.get(job["links"]["page"])
    assert page.headers["content-type"].startswith("text/html") and "scene 4.jpg" in page.text
    assert "sandbox" in page.headers["content-security-policy"]
    assert job["id"] in [one["id"] for one in client.get("/v1/inspections").json()]
    assert client.delete(job["links"]["self"]).status_code == 204
    for link in job["links"].values():
        assert client.get(link).status_code == 404
    assert client.delete(job["links"]["self"]).status_code == 404


def test_the_report_is_to_be_had_as_a_pdf_file(client: Any, portrait: Path) -> None:
    if find_spec("weasyprint") is None:  # not imported here: it has Pillow accept pictures that are cut short
        pytest.skip("the pdf extra is not installed")
    pypdf = pytest.importorskip("pypdf")
    job = upload(client, portrait.read_bytes(), "scene 4.jpg")
    first, again = (client.get(job["links"]["pdf"]) for _ in range(2))
    assert first.headers["content-type"] == "application/pdf" and again.content == first.content
    pages = pypdf.PdfReader(io.BytesIO(first.content)).pages
    assert len(pages) <= 6 and "scene 4.jpg" in pages[0].extract_text()


def test_without_the_pdf_extra_its_install_line_is_the_answer(
    client: Any, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    assert client.get("/v1/health").json()["pdf"] is False
    job = upload(client, portrait.read_bytes())
    answer = client.get(job["links"]["pdf"])
    assert answer.status_code == 501 and "[pdf]" in answer.json()["detail"]


def test_a_pdf_file_that_takes_too_long_is_given_up(
    client: Any, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("weasyprint") is None:  # not imported here: it has Pillow accept pictures that are cut short
        pytest.skip("the pdf extra is not installed")
    from unmask.web import service

    async def late(process: Any, seconds: float) -> None:
        process.close()
        raise TimeoutError

    job = upload(client, portrait.read_bytes())
    monkeypatch.setattr(service.asyncio, "wait_for", late)
    answer = client.get(job["links"]["pdf"])
    assert answer.status_code == 503 and "fetch the page instead" in answer.json()["detail"]


def test_what_is_no_picture_is_refused_by_its_report(client: Any) -> None:
    for data, code in ((b"", "empty"), (b"no picture", "unsupported")):
        job = upload(client, data)
        assert job["summary"]["verdict"] == "refused" and job["summary"]["heading"] == "Cannot be judged (file)"
        assert client.get(job["links"]["report"]).json()["refusal"]["code"] == code


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\photo.jpg", "photo.jpg"),
        ("/pictures/photo\x1b[31m.jpg", "photo\\x1b[31m.jpg"),
        ("--html", "html"),
        ("", "upload"),
        ("..", ".."),
    ],
)
def test_a_name_is_shown_and_opens_nothing(name: str, shown: str, client: Any, folder: Path, portrait: Path) -> None:
    before = sorted(path for path in folder.parent.iterdir())
    job = upload(client, portrait.read_bytes(), name)
    assert job["name"] == shown and job["state"] == "done"
    assert sorted(folder.parent.iterdir()) == before
    assert {path.name for path in folder.rglob("*") if path.is_file()} <= {
        *("report.json", "report.html", "paper.html", "report.pdf", "media")
    }


@pytest.mark.parametrize("path", ["/v1/inspections", "/v1/events", "/v1/health", "/openapi.json", "/nowhere"])
def test_nothing_is_answered_without_the_token(path: str, client: Any) -> None:
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 401 and "token" in answer.json()["detail"]
    assert client.post("/v1/inspections", content=b"x", headers={"Authorization": ""}).status_code == 401


def test_pages_of_other_origins_and_other_names_are_refused(client: Any) -> None:
    for origin in ("https://example.org", "null", f"http://{HOST}.example.org"):
        answer = client.post("/v1/inspections", content=b"x", headers={"Origin": origin})
        assert answer.status_code == 403
    assert client.get("/v1/health", headers={"Origin": f"http://{HOST}"}).status_code == 200
    rebound = client.get("/v1/health", headers={"Host": "attacker.example:8010"})
    assert rebound.status_code == 421 and "--allow-host" in rebound.json()["detail"]


def test_the_page_needs_no_token_and_its_address_gives_a_cookie(client: Any) -> None:
    page = client.get("/", headers={"Authorization": ""})
    assert page.status_code == 200 and "script-src 'self'" in page.headers["content-security-policy"]
    for name in ("/page.css", "/page.js"):
        assert client.get(name, headers={"Authorization": ""}).status_code == 200
    answer = client.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert TOKEN in cookie and "HttpOnly" in cookie and "SameSite=strict" in cookie
    client.cookies.clear()
    wrong = client.get("/", params={"token": "wrong"}, follow_redirects=False)
    assert "set-cookie" not in wrong.headers
    by_cookie = {"Authorization": "", "Cookie": f"unmask-8010={TOKEN}"}
    assert client.get("/v1/health", headers=by_cookie).status_code == 200


def test_a_file_that_is_too_large_is_not_taken(client: Any, folder: Path) -> None:
    before = len(list(folder.iterdir()))
    assert client.post("/v1/inspections", content=bytes(2_000_001)).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield bytes(100_000)

    answer = client.post("/v1/inspections", content=chunks())  # without saying how long it is
    assert answer.status_code == 413 and "unmask inspect" in answer.json()["detail"]
    assert len(list(folder.iterdir())) == before


def test_a_form_is_not_taken_for_a_file(client: Any, portrait: Path) -> None:
    before = client.get("/v1/inspections").json()
    answer = client.post("/v1/inspections", files={"file": portrait.read_bytes()})
    assert answer.status_code == 415 and "--data-binary" in answer.json()["detail"]
    assert client.get("/v1/inspections").json() == before


def test_wrong_requests_say_what_is_wrong(client: Any) -> None:
    answer = client.post("/v1/inspections", params={"name": "x" * 300}, content=b"x")
    assert answer.status_code == 422 and "255" in answer.json()["detail"]
    assert client.get("/v1/inspections/..%2f..%2fetc%2fpasswd").status_code == 404
    assert client.get("/v1/inspections/none").json()["detail"].startswith("there is no such inspection")


def test_events_of_a_job_end_with_it(client: Any, portrait: Path) -> None:
    job = client.post("/v1/inspections", content=portrait.read_bytes()).json()
    with client.stream("GET", job["links"]["events"]) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line]
    states = [json.loads(line[6:])["state"] for line in lines if line.startswith("data: ")]
    assert states[-1] == "done" and {line for line in lines if line.startswith("event")} == {"event: job"}


def test_the_interface_is_described(client: Any) -> None:
    described = client.get("/openapi.json").json()
    assert described["openapi"].startswith("3.")
    operations = {(path, method) for path, methods in described["paths"].items() for method in methods}
    assert operations == {
        ("/v1/health", "get"),
        ("/v1/events", "get"),
        ("/v1/inspections", "get"),
        ("/v1/inspections", "post"),
        ("/v1/inspections/{number}", "get"),
        ("/v1/inspections/{number}", "delete"),
        ("/v1/inspections/{number}/report", "get"),
        ("/v1/inspections/{number}/report.html", "get"),
        ("/v1/inspections/{number}/report.pdf", "get"),
        ("/v1/inspections/{number}/events", "get"),
    }
    assert "Report" in described["components"]["schemas"]
    assert client.get("/docs").status_code == 404  # it would load scripts from elsewhere
    health = client.get("/v1/health").json()
    assert health["workers"] == 1 and health["pdf"] is (find_spec("weasyprint") is not None)
