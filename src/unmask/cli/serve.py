"""`unmask serve`: the page and the REST interface."""

import secrets
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.options import extra
from unmask.errors import UnmaskError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; this machine alone if left out.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8010,
    pack: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FOLDER", help="Forgery detector, as for unmask inspect; plain if left out."),
    ] = None,
    edits: Annotated[
        str | None, typer.Option(metavar="NAME|FOLDER|none", help="Edit-sequence model; mmnet if left out.")
    ] = None,
    fps: Annotated[float, typer.Option(min=0.01, max=1000.0, help="Sampled frames per second of video.")] = 5.0,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Files that are inspected at once.")] = 1,
    queue: Annotated[int, typer.Option(min=1, help="Files that may wait.")] = 200,
    upload_limit: Annotated[int, typer.Option(min=1, metavar="MB", help="Largest file that is taken.")] = 512,
    spool_limit: Annotated[
        int, typer.Option(min=1, metavar="MB", help="All files together that may lie on the disk.")
    ] = 8192,
    time_limit: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="For one upload, and for one inspection.")
    ] = 600.0,
    keep: Annotated[
        float, typer.Option(min=0.01, metavar="MINUTES", help="How long a report can be fetched before it is deleted.")
    ] = 60.0,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:PORT]", help="Another name under which the service may be asked."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(help="What every request needs; made anew if left out. Better given as UNMASK_SERVE_TOKEN."),
    ] = None,
    spool: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where uploads lie until they were inspected; the usual if left out."),
    ] = None,
) -> None:
    """A page for the browser and a REST interface: drop files, follow their progress, read the reports.

    It listens to this machine alone unless told otherwise, answers only who knows the token, and keeps nothing beyond
    its time. Ctrl-C ends it.
    """
    with extra("web", "unmask serve"):
        import uvicorn

        from unmask.web.service import create_app
    from unmask.inspection import EDIT_PACK, Inspector
    from unmask.inspection.options import InspectorOptions
    from unmask.interruption import Interruption
    from unmask.web.jobs import Jobs, Limits, Spool

    edit_pack = EDIT_PACK if edits is None else None if edits == "none" else edits
    options = InspectorOptions.of(pack or "plain", fps, edit_pack=edit_pack)
    inspector = Inspector(pack or "plain", fps, edit_pack=edit_pack)  # a wrong pack is told at once
    packs = inspector.packs
    inspector.close()
    token = token or secrets.token_urlsafe(24)
    if len(token) < 16:
        raise typer.BadParameter("a token has at least 16 characters")
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    limits = Limits(jobs, queue, upload_limit * 1024**2, spool_limit * 1024**2, time_limit, keep * 60)
    try:
        place = Spool(spool or Path(tempfile.gettempdir()))
    except OSError as error:
        raise UnmaskError(f"--spool {spool}: cannot be used ({error.strerror}): give a writable folder") from error
    try:
        app = create_app(Jobs(options, limits, place.folder), packs, token, _hosts(host, port, allow_host or []))
        shown = f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host
        print(f"Unmask listens at http://{shown}:{port}/?token={token}", flush=True)
        if host not in _LOOPBACK:
            print(
                "unmask: other machines can reach this, and what they send is not encrypted: put a proxy with TLS "
                "before it",
                file=sys.stderr,
            )
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2, ws="none"
        )
        # Uvicorn ends in good order and then sends itself the signal again, which must not keep us from tidying up.
        with suppress(KeyboardInterrupt), Interruption():
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        place.close()


def _listen(host: str, port: int) -> socket.socket:
    """A socket at an address.

    Raises:
        UnmaskError: it cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":  # there it would let two programs share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        raise UnmaskError(
            f"cannot listen at {host}, port {port} ({error.strerror}): give another --port or --host"
        ) from error
    return listening


def _hosts(host: str, port: int, others: list[str]) -> frozenset[str]:
    names = {*_LOOPBACK, host} if host in (*_LOOPBACK, "0.0.0.0", "::") else {host}
    named = {f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in names}
    return frozenset(named | {name if ":" in name else f"{name}:{port}" for name in others} | set(others))
