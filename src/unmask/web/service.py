"""The service: a page for people, REST for programs, on the same jobs.

Everything but the page's own files needs the token, by `Authorization: Bearer TOKEN` or the cookie that opening the
page with the token sets. Requests under another host name, or from the pages of other origins, are refused: so a page
somewhere on the web can neither read answers nor send uploads, whatever name it gives this machine.
"""

import asyncio
import hmac
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unmask._version import __version__
from unmask.errors import UnmaskError
from unmask.evidence.pdf import check_pdf
from unmask.evidence.report import PackUse, Report
from unmask.evidence.terminal import safe_text
from unmask.web.jobs import Full, Job, Jobs

_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_EVERY = 0.25  # seconds between two looks for events
_HEARTBEAT = 15.0  # seconds of silence after which a stream shows that it lives
_OWN_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'"


class Summary(BaseModel):
    """What a report says, in short; the fields are those of `Report`, `heading` is what its page says first."""

    verdict: Literal["forged", "authentic", "inconclusive", "refused"]
    heading: str
    log10_lr: float | None
    support: str | None
    faces: int
    reason: str | None = Field(description="Why it was refused, or why there is no verdict.")


class Failure(BaseModel):
    """Why a job has no report: the process that read the file died, or took too long."""

    code: Literal["crash", "timeout"]
    message: str


class JobStatus(BaseModel):
    """A job: one uploaded file, on its way to a report."""

    id: str
    name: str
    bytes: int
    state: Literal["waiting", "running", "done", "failed"]
    waiting_before: int | None = Field(description="Jobs before it in the queue; null if it does not wait.")
    progress: float = Field(ge=0, le=1, description="Share of a video that was looked at.")
    created: float = Field(description="Seconds since 1970, UTC.")
    expires: float | None = Field(description="When it will be forgotten; null before it has ended.")
    summary: Summary | None
    error: Failure | None
    links: dict[str, str]


class Problem(BaseModel):
    """Why a request was refused, and what to do."""

    detail: str


class Health(BaseModel):
    """That the service runs, and how busy it is."""

    version: str
    waiting: int
    running: int
    workers: int
    packs: list[PackUse]
    pdf: bool
    """Whether the extra pdf is installed, which `report.pdf` needs."""


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The token is missing or wrong."},
    403: {"model": Problem, "description": "The request came from a page of another origin."},
    404: {"model": Problem, "description": "There is no such job, or no longer."},
}


def create_app(jobs: Jobs, packs: list[PackUse], token: str, hosts: frozenset[str]) -> FastAPI:
    """The application.

    Args:
        jobs: not yet started.
        packs: that inspect.
        token: that every request needs.
        hosts: names, with port, under which the service may be asked, such as "127.0.0.1:8010".

    Returns:
        An ASGI application, which starts and stops the jobs with itself.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        jobs.start()
        try:
            yield
        finally:
            await asyncio.to_thread(jobs.stop)

    app = FastAPI(
        title="Unmask",
        version=__version__,
        description="Was this face forged, where, and how sure may one be? Upload a picture or a video, follow its "
        "job, fetch the report. Every request needs `Authorization: Bearer TOKEN`.",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=lifespan,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.add_middleware(_Guard, token=token, hosts=hosts)
    _add_page(app, token)
    _add_jobs(app, jobs)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"detail": f"{where}: {first['msg']}"}, 422)

    @app.get("/v1/health", responses={401: _PROBLEMS[401]})
    async def health() -> Health:
        """Whether it runs, how busy it is, and with which packs it inspects."""
        states = [job.state for job in jobs.all()]
        return Health(
            version=__version__,
            waiting=states.count("waiting"),
            running=states.count("running"),
            workers=jobs.limits.workers,
            packs=packs,
            pdf=find_spec("weasyprint") is not None,  # looked for, not imported: that takes a second
        )

    return app


class _Guard:
    """Looks at every request before anything else does, and tells browsers what not to do with the answers."""

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str]) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", _OWN_POLICY)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(Request(scope))
        await (self._app if refusal is None else refusal)(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if host not in self._hosts:
            return _problem(421, f"this service is not {host!r}; start it with --allow-host for another name")
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] not in self._hosts:
            return _problem(403, "requests from pages of other origins are not answered")
        if request.url.path in _PAGE:
            return None
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = request.cookies.get(_cookie(request), "")
        if not _equal(given, self._token):
            detail = "give the token that the service printed: Authorization: Bearer TOKEN"
            return _problem(401, detail, {"WWW-Authenticate": "Bearer"})
        return None


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers)


def _cookie(request: Request) -> str:
    """The name of the cookie, which all services of one host share but for their port."""
    return f"unmask-{request.url.port or 80}"


def _equal(given: str, token: str) -> bool:
    """Whether a token is right, in a time that does not tell how much of it is."""
    return hmac.compare_digest(given.encode(), token.encode())


def _add_page(app: FastAPI, token: str) -> None:
    folder = resources.files(__package__) / "page"
    content = {path: (folder / name).read_bytes() for path, (name, _) in _PAGE.items()}

    async def page(request: Request) -> Response:
        path = request.url.path
        given = request.query_params.get("token")
        if path != "/" or given is None:
            return Response(content[path], media_type=_PAGE[path][1])
        # The address with the token is used once: it must not stay in the history, nor in pictures of the screen.
        answer = RedirectResponse("/", 303)
        if _equal(given, token):
            answer.set_cookie(_cookie(request), given, httponly=True, samesite="strict")
        return answer

    for path in _PAGE:
        app.add_route(path, page, include_in_schema=False)


def _status(jobs: Jobs, job: Job) -> JobStatus:
    own = f"/v1/inspections/{job.id}"
    links = {"self": own, "events": f"{own}/events"}
    if job.state == "done":
        links |= {"report": f"{own}/report", "page": f"{own}/report.html", "pdf": f"{own}/report.pdf"}
    return JobStatus(
        id=job.id,
        name=job.name,
        bytes=job.bytes,
        state=job.state,
        waiting_before=jobs.waiting_before(job),
        progress=job.progress,
        created=job.created,
        expires=None if job.ended is None else job.ended + jobs.limits.keep,
        summary=None if job.summary is None else Summary(**job.summary),
        error=None if job.error is None else Failure(code=job.error[0], message=job.error[1]),  # type: ignore[arg-type]
        links=links,
    )


def _add_jobs(app: FastAPI, jobs: Jobs) -> None:
    def job_of(number: str) -> Job:
        job = jobs.get(number)
        if job is None:
            raise HTTPException(404, "there is no such inspection, or its time is over; upload the file again")
        return job

    def finished(number: str) -> Job:
        job = job_of(number)
        if job.state != "done":
            raise HTTPException(409, f"there is no report: the inspection is {job.state}; follow its events")
        return job

    @app.post(
        "/v1/inspections",
        status_code=202,
        responses={
            **_PROBLEMS,
            408: {"model": Problem, "description": "The upload took too long."},
            413: {"model": Problem, "description": "The file is too large."},
            415: {"model": Problem, "description": "A form was sent, not the file's bytes."},
            503: {"model": Problem, "description": "Too many files wait."},
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def upload(
        request: Request,
        response: Response,
        name: Annotated[str, Query(max_length=255, description="What to call the file.")] = "upload",
    ) -> JobStatus:
        """Upload a picture or a video as the request's body; its inspection begins when its turn comes."""
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            raise HTTPException(
                415, "send the file's bytes as the body, not a form: curl --data-binary @FILE, in Python content=BYTES"
            )
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > jobs.limits.upload:
            raise HTTPException(413, _too_large(jobs))
        try:
            job = jobs.begin(_shown_name(name))
        except Full as full:
            raise HTTPException(503, str(full), {"Retry-After": "30"}) from full
        try:
            async with asyncio.timeout(jobs.limits.seconds):
                await _receive(request, jobs, job)
        except BaseException as error:
            jobs.abandon(job)
            if isinstance(error, TimeoutError):
                raise HTTPException(408, "the upload took too long; try a smaller file, or a faster way") from error
            if isinstance(error, Full):
                raise HTTPException(503, str(error), {"Retry-After": "30"}) from error
            raise
        jobs.submit(job)
        status = _status(jobs, job)
        response.headers["Location"] = status.links["self"]
        return status

    @app.get("/v1/inspections", responses={401: _PROBLEMS[401]})
    async def inspections() -> list[JobStatus]:
        """All jobs that are not yet forgotten, in the order in which they came."""
        return [_status(jobs, job) for job in jobs.all()]

    @app.get("/v1/inspections/{number}", responses=_PROBLEMS)
    async def inspection(number: str) -> JobStatus:
        """One job."""
        return _status(jobs, job_of(number))

    @app.delete("/v1/inspections/{number}", status_code=204, responses=_PROBLEMS)
    async def forget(number: str) -> None:
        """Forget a job, with its file and its report; one that runs is ended."""
        if not await asyncio.to_thread(jobs.remove, number):
            raise HTTPException(404, "there is no such inspection, or its time is over")

    @app.get(
        "/v1/inspections/{number}/report",
        response_model=Report,
        responses={**_PROBLEMS, 409: {"model": Problem, "description": "There is no report yet, or none will come."}},
    )
    async def report(number: str) -> Response:
        """The report as JSON, as `unmask inspect --json` writes it."""
        return FileResponse(finished(number).report, media_type="application/json")

    @app.get(
        "/v1/inspections/{number}/report.html",
        response_class=Response,
        responses={**_PROBLEMS, 200: {"content": {"text/html": {}}}, 409: {"model": Problem}},
    )
    async def report_page(number: str) -> Response:
        """The report as a page, as `unmask inspect --html` writes it."""
        headers = {"Content-Security-Policy": _REPORT_POLICY}
        return FileResponse(finished(number).page, media_type="text/html", headers=headers)

    printing = asyncio.Semaphore(1)

    @app.get(
        "/v1/inspections/{number}/report.pdf",
        response_class=Response,
        responses={
            **_PROBLEMS,
            200: {"content": {"application/pdf": {}}},
            409: {"model": Problem},
            501: {"model": Problem, "description": "The extra pdf is not installed."},
            503: {"model": Problem, "description": "It took too long."},
        },
    )
    async def report_pdf(number: str) -> Response:
        """The report as a PDF file, as `unmask inspect --pdf` writes it; made at the first request, one at a time."""
        job = finished(number)
        try:
            await asyncio.to_thread(check_pdf)
        except UnmaskError as error:
            raise HTTPException(501, str(error)) from error
        async with printing:
            if not finished(number).pdf.is_file():
                await _lay_out(job, jobs.limits.seconds)
        return FileResponse(finished(number).pdf, media_type="application/pdf")

    events: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/event-stream": {}}, "description": "Server-sent events."}
    }

    @app.get("/v1/events", response_class=StreamingResponse, responses={401: _PROBLEMS[401], **events})
    async def all_events() -> StreamingResponse:
        """Server-sent events of all jobs, without end: `job` with a job's state, `removed` with the id of one."""
        return StreamingResponse(_events(jobs, None), media_type="text/event-stream")

    @app.get("/v1/inspections/{number}/events", response_class=StreamingResponse, responses={**_PROBLEMS, **events})
    async def job_events(number: str) -> StreamingResponse:
        """Server-sent events of one job, which end with it: `job` with its state."""
        return StreamingResponse(_events(jobs, job_of(number)), media_type="text/event-stream")


async def _lay_out(job: Job, seconds: float) -> None:
    """Make the PDF file of a job in a process of its own, which is ended after some seconds, or with the request.

    Raises:
        HTTPException: it took too long, or failed.
    """
    words = (sys.executable, "-m", "unmask.evidence.pdf", str(job.paper), str(job.pdf))
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
    try:
        code = await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError as error:
        raise HTTPException(503, f"no PDF file within {seconds:g} s; fetch the page instead") from error
    finally:
        if process.returncode is None:
            process.kill()
    if code and job.paper.is_file():  # else the job was forgotten meanwhile
        raise HTTPException(503, "the PDF file could not be made; fetch the page instead")


async def _receive(request: Request, jobs: Jobs, job: Job) -> None:
    """Write the body of a request to a job's file, as it comes.

    Raises:
        HTTPException: it is too large.
        Full: with the others it is too much.
    """
    size = 0
    with job.media.open("xb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > jobs.limits.upload:
                raise HTTPException(413, _too_large(jobs))
            jobs.grow(job, size)
            file.write(chunk)


async def _events(jobs: Jobs, only: Job | None) -> AsyncIterator[str]:
    """Server-sent events of all jobs, or of one until it has ended."""
    seen = 0
    last = time.monotonic()
    while True:
        now = jobs.version
        changed = [job for job in jobs.all(seen) if only in (None, job)]
        gone = [number for number in jobs.removed_since(seen) if seen and (only is None or only.id == number)]
        parts = [("job", _status(jobs, job).model_dump_json()) for job in changed]
        parts += [("removed", json.dumps(number)) for number in gone]
        seen = now
        if parts:
            last = time.monotonic()
            yield "".join(f"event: {event}\ndata: {data}\n\n" for event, data in parts)
        elif time.monotonic() - last > _HEARTBEAT:
            last = time.monotonic()
            yield ": still here\n\n"
        if only is not None and (jobs.get(only.id) is None or any(job.ended for job in changed)):
            return
        await asyncio.sleep(_EVERY)


def _shown_name(name: str) -> str:
    """A name that is only shown: no path, nothing that moves the cursor."""
    text = safe_text(name.replace("\\", "/").rpartition("/")[2]).replace("\ufffd", "?")
    return text.lstrip("-") or "upload"


def _too_large(jobs: Jobs) -> str:
    return f"files of more than {jobs.limits.upload / 1024**2:,.0f} MB are not taken; use unmask inspect for them"
