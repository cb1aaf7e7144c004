"""The same clients as apps of Flower's: by their messages, and in the simulation engine where Ray is installed."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from loopback import rounds_in
from small_network import client

from unmask.federation.client import Client
from unmask.federation.flower import client_app, server_app
from unmask.federation.local import LocalGrid
from unmask.federation.rounds import FederationConfig

FEDERATION = FederationConfig(rounds=2, local_steps=2)
NAMES = ["client-0", "client-1"]


class Makes:
    """The client of a number, in a folder; Ray sends it to its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, number: int) -> Client:
        return client(number, self.folder)


def test_a_node_says_its_number_and_trains_its_client(tmp_path: Path) -> None:
    app = client_app(Makes(tmp_path))
    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1
    context = Context(1, 7, {"partition-id": 1, "num-partitions": 2}, RecordDict(), {})
    reply = app(Message(RecordDict(), 7, "query"), context)
    assert reply.content.config_records["number"]["number"] == 1
    assert app(Message(RecordDict(), 7, "train"), context).has_error()  # no weights


@pytest.mark.slow
def test_a_simulation_gives_what_one_process_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from flwr.simulation import run_simulation

    here = str(Path(__file__).resolve().parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
    one = rounds_in(tmp_path / "one", FEDERATION, 2)
    expected = one.run(
        LocalGrid([lambda: client(0, tmp_path), lambda: client(1, tmp_path)]), {n: i + 1 for i, n in enumerate(NAMES)}
    )
    rounds = rounds_in(tmp_path / "simulated", FEDERATION, 2)
    began = time.monotonic()
    run_simulation(
        server_app(rounds, NAMES),
        client_app(Makes(tmp_path)),
        len(NAMES),
        backend_config={"client_resources": {"num_cpus": 1}},
    )
    print(f"simulation: {time.monotonic() - began:.1f} s")
    for name, array in expected.items():
        np.testing.assert_allclose(rounds.state[name], array, rtol=1e-6, atol=1e-7)
