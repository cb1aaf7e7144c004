"""The commands themselves: a server and two clients as processes, killed and started again, against one process."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from unmask.cli import app
from unmask.datasets.manifest import Sample
from unmask.federation.certificates import server_certificate
from unmask.federation.deployment import OwnPaths, Serving, serve, share_of
from unmask.federation.plan import Plan
from unmask.federation.rounds import FederationConfig
from unmask.federation.training import federate, set_up
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.run import config_of
from unmask.lab.train import load_network
from unmask.progress import SILENT

pytestmark = pytest.mark.slow

UNMASK = [sys.executable, "-m", "unmask.cli"]
ROUNDS = 10
OPTIONS = {"width": 8, "backbone": "test_resnet", "weights": "none"}
CONFIG = DetectionTrainConfig(method="fedforgery", options=OPTIONS, size=64, pairs=12, batch_pairs=2)
FEDERATION = FederationConfig(rounds=ROUNDS, local_steps=1)
SETTINGS = [f"--set={name}={value}" for name, value in OPTIONS.items()]
WORDS = [*SETTINGS, "--size=64", "--pairs=12", "--batch-pairs=2", f"--rounds={ROUNDS}", "--local-steps=1"]
PATIENCE = 240  # seconds for what takes some ten on an idle machine


@dataclass(frozen=True, kw_only=True)
class Both(OwnPaths):
    """The data of both clients."""

    rows: tuple[Sample, ...] = ()

    def samples(self) -> list[Sample]:
        return list(self.rows)


def pictures(folder: Path, portrait: Path, first: int) -> Path:
    """A data set of one genuine photograph in some lights: ten subjects to train on, two to watch."""
    photograph = cv2.imread(str(portrait))
    for number in range(12):
        place = folder / ("val" if number > 9 else "train") / "real"
        place.mkdir(parents=True, exist_ok=True)
        light = np.clip(photograph * (0.7 + 0.04 * number) + first, 0, 255).astype(np.uint8)
        cv2.imwrite(str(place / f"{first}-{number}.png"), light[:, ::-1] if number % 2 else light)
    return folder


class Commands:
    """Commands that run in the background; at the end none is left."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.running = folder, list[subprocess.Popen[bytes]]()

    def start(self, name: str, *words: str | Path) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([*UNMASK, "federate", *map(str, words)], stdout=log, stderr=log, cwd=self.folder)
        self.running.append(process)
        return process

    def wait(self, true: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, self.logs()
            time.sleep(0.02)

    def logs(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()}" for path in sorted(self.folder.glob("*.log")))


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    made = Commands(tmp_path)
    yield made
    for process in made.running:
        if process.poll() is None:
            process.kill()
            process.wait()


def kill(*processes: subprocess.Popen[bytes]) -> None:
    """As by a power cut."""
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


def alone(name: str) -> tuple[str, ...]:
    return "--work", f"{name}-work", "--workers", "1"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        number: int = found.getsockname()[1]
    return number


def in_process(folder: Path, data: dict[str, Path]) -> Path:
    """The run that one process makes of the same shares."""
    paths = {name: OwnPaths(data=place, work=folder / "work") for name, place in data.items()}
    shares = tuple(share_of(own, name, ()) for name, own in paths.items())
    both = Both(data=folder, work=folder / "work", rows=tuple(row for share in shares for row in share.rows))
    plan = Plan("subject", 0.5, "", 0, shares)
    run = folder / "run"
    federate(set_up(both, run, CONFIG, FEDERATION, plan, SILENT), run, SILENT)
    return run


def test_killed_clients_and_servers_go_on_and_nothing_is_lost(
    commands: Commands, tmp_path: Path, portrait: Path
) -> None:
    data = {f"client-{n}": pictures(tmp_path / f"data-{n}", portrait, n) for n in range(2)}
    port = free_port()
    serving = ("server", "--run", "together", "--clients", "2", "--port", str(port), *WORDS)
    server = commands.start("server", *serving)
    certificate = tmp_path / "together" / "tls" / "ca.pem"
    commands.wait(certificate.is_file)

    def join(name: str) -> subprocess.Popen[bytes]:
        where = ("--server", f"localhost:{port}", "--certificate", certificate)
        return commands.start(name, "client", data[name], "--run", name, "--name", name, *where, *alone(name))

    first, second = join("client-0"), join("client-1")
    records = tmp_path / "together" / "server" / "rounds.json"

    def done() -> int:
        return len(json.loads(records.read_text())) if records.is_file() else 0

    commands.wait(lambda: done() >= 2)
    kill(second)
    second = join("client-1")
    before = done()
    commands.wait(lambda: done() >= before + 2)
    kill(server, first)
    reached = done()
    assert before < reached < ROUNDS, "too quick to be killed in the middle"
    server, first = commands.start("server", *serving), join("client-0")
    for process in (server, first, second):
        assert process.wait(PATIENCE) == 0, commands.logs()

    rounds = json.loads(records.read_text())
    assert [sorted(one["clients"]) for one in rounds] == [["client-0", "client-1"]] * ROUNDS
    assert all(not one["refused"] for one in rounds)
    expected = load_file(in_process(tmp_path / "one", data) / "weights.safetensors")
    for run in ("together", "client-0", "client-1"):
        weights = load_file(tmp_path / run / "weights.safetensors")
        assert weights.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(weights[name].astype(float), array.astype(float), rtol=2e-3, atol=2e-4)
        assert set(config_of(tmp_path / run).families) == {"selfblend", "swap"}
        load_network(tmp_path / run)
    assert (tmp_path / "together" / "clients.csv").is_file() and (tmp_path / "together" / "report.html").is_file()
    assert "Traceback" not in commands.logs() and "INFO :" not in commands.logs()  # Flower's own words
    # The same command again finds it finished, and waits for nobody.
    serve(tmp_path / "together", CONFIG, FEDERATION, Serving(clients=2, port=port), None, None, SILENT)


@pytest.mark.parametrize("side", ["server", "client"])
def test_ctrl_c_ends_a_side_in_one_word_and_leaves_no_process(
    side: str, commands: Commands, tmp_path: Path, portrait: Path
) -> None:
    if side == "server":
        words = ["server", "--run", "together", "--clients", "2", "--port", str(free_port()), *WORDS]
        ready = (tmp_path / "together" / "tls" / "ca.pem").is_file
    else:
        server_certificate(tmp_path / "tls", ("localhost",))
        data = pictures(tmp_path / "data", portrait, 0)
        where = ["--server", f"localhost:{free_port()}", "--certificate", tmp_path / "tls" / "ca.pem"]
        words = ["client", data, "--run", "mine", "--name", "mine", *where, *alone("mine")]  # type: ignore[list-item]

        def ready() -> bool:
            return "no server at localhost" in commands.logs()

    process = commands.start("one", *words)
    commands.wait(ready)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130, commands.logs()
    assert not any(child.is_running() for child in children) and "Traceback" not in commands.logs()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["server", "--clients=2", "--run=r", "--method=mmnet"], "only forgery detectors are federated"),
        (["server", "--clients=2", "--run=r", "--aggregator=krum"], "Krum against 0 bad clients needs 3"),
        (["server", "--clients=2", "--run=r", "--host=ä b"], "neither a host's name"),
        (["server", "--clients=2", "--run=r", "--admit=."], "no key of a client there"),
        (["client", "data", "--run=r", "--name=a", "--server=localhost:1", "--certificate=no.pem"], "no certificate"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(
    words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["federate", *words])
    assert result.exit_code != 0 and why in f"{result.exception} {result.output}"
