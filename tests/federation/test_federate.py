"""A whole federation on drawn faces: from a plan to a run that the other commands read; and what is refused."""

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_faces import make_faces
from typer.testing import CliRunner

from unmask.cli import app
from unmask.datasets.face_store import StoredFace, read_store, write_store
from unmask.datasets.manifest import Sample
from unmask.errors import DataError
from unmask.federation.contributions import CONTRIBUTIONS, check_leaving_out, contributions, write_contributions
from unmask.federation.plan import Plan, make_plan
from unmask.federation.privacy import Privacy
from unmask.federation.report import write_plan, write_report
from unmask.federation.rounds import FederationConfig
from unmask.federation.training import Setting, federate, set_up, trained_network
from unmask.lab.detection.config import DetectionPaths, DetectionTrainConfig
from unmask.lab.detection.held_out import select_pairs
from unmask.lab.detection.scoring import logits_of
from unmask.lab.metrics import auc
from unmask.lab.run import config_of
from unmask.lab.train import load_network
from unmask.progress import SILENT, Progress

CONFIG = DetectionTrainConfig(
    method="fedforgery",
    options={"width": 8, "backbone": "test_resnet", "weights": "none"},
    size=64,
    pairs=8,
    batch_pairs=2,
)
FEDERATION = FederationConfig(rounds=2, local_steps=1)
CLI = CliRunner()


@dataclass(frozen=True, kw_only=True)
class Stored(DetectionPaths):
    """Faces and rows are those of the work folder's store."""

    def samples(self) -> list[Sample]:
        return [face.sample for face in self.faces()]

    def faces(self, progress: Progress = SILENT) -> list[StoredFace]:
        return read_store(self.work / "store")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    folder = tmp_path_factory.mktemp("work")
    write_store([*make_faces("train", count=6), *make_faces("val", count=3)], folder / "store")
    return Stored(data=folder / "data", work=folder)


def dealt(paths: Stored, split: str = "type", clients: int = 2) -> Plan:
    return make_plan(paths.samples(), clients, split, ("selfblend",))  # type: ignore[arg-type]


def setting(paths: Stored, run: Path, config: DetectionTrainConfig = CONFIG, **changes: object) -> Setting:
    federation = replace(FEDERATION, **changes)  # type: ignore[arg-type]
    return set_up(paths, run, config, federation, dealt(paths), SILENT)


@pytest.mark.slow
def test_a_federation_is_a_run_like_any_other(paths: Stored, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = federate(setting(paths, run), run, SILENT, "unmask federate")
    config = config_of(run)
    assert config.steps == 2 and set(config.families) == {"selfblend", "stylegan", "ciplab", "mobilestylegan"}
    assert set(config.sources) == {"ffhq", "ciplab", "celebamask", "utkface"}
    loaded = load_network(run)
    for mine, theirs in zip(trained.state_dict().values(), loaded.state_dict().values(), strict=True):
        torch.testing.assert_close(mine.half(), theirs.half())
    rounds = json.loads((run / "server" / "rounds.json").read_text())
    assert [sorted(one["clients"]) for one in rounds] == [["client-1", "client-2"]] * 2
    assert all(one["bytes_sent"] > 0 and not one["refused"] for one in rounds)
    with (run / "clients.csv").open() as stream:
        clients = list(csv.DictReader(stream))
    assert [one["client"] for one in clients] == ["client-1", "client-2"]
    with (run / "metrics.csv").open() as stream:
        metrics = list(csv.DictReader(stream))
    assert [one["step"] for one in metrics] == ["1", "2"] and "auc_stylegan" in metrics[0]
    # What the residual's classifier is given was measured by every client and averaged.
    assert float(loaded.residual_std) != 1.0  # type: ignore[arg-type]
    write_report(run)
    page = (run / "report.html").read_text()
    assert "client-2" in page and "<polyline" in page and "http://" not in page
    # The same command again finds it finished and changes nothing.
    weights = (run / "weights.safetensors").read_bytes()
    federate(setting(paths, run), run, SILENT)
    assert (run / "weights.safetensors").read_bytes() == weights


@pytest.mark.slow
@pytest.mark.parametrize("normalisation", ["local", "group"])
def test_normalisations_other_than_shared_ones(normalisation: str, paths: Stored, tmp_path: Path) -> None:
    run = tmp_path / "run"
    federate(setting(paths, run, normalisation=normalisation), run, SILENT)
    names = {type(module).__name__ for module in load_network(run).modules()}
    assert ("GroupNorm" in names) == (normalisation == "group")
    assert config_of(run).normalisation == ("group" if normalisation == "group" else "batch")
    kept = (run / "clients" / "client-1").is_dir()
    assert kept == (normalisation == "local")


@pytest.mark.slow
def test_under_secure_aggregation_the_report_says_what_nobody_saw(paths: Stored, tmp_path: Path) -> None:
    run = tmp_path / "run"
    federation = replace(FEDERATION, secure_aggregation=True)
    federate(set_up(paths, run, CONFIG, federation, dealt(paths, clients=3), SILENT), run, SILENT)
    write_report(run)
    page = (run / "report.html").read_text()
    assert "the sum of a round" in page and "Drift and cosines between updates are left out" in page
    with (run / "clients.csv").open() as stream:
        heads, *rows = list(csv.reader(stream))
    assert heads == ["client", "pictures", "rounds", "auc_own"] and len(rows) == 3
    record = json.loads((run / "server" / "rounds.json").read_text())[0]
    assert record["bytes_received"] > 0 and record["seconds"] > 0 and "beyond" in record["clients"]["client-1"]


@pytest.mark.slow
def test_leaving_clients_out_says_what_each_gives(paths: Stored, tmp_path: Path) -> None:
    run = tmp_path / "run"
    own = set_up(paths, run, CONFIG, FEDERATION, dealt(paths, clients=3), SILENT)
    check_leaving_out(own)
    network = federate(own, run, SILENT)
    found = contributions(own, run, network, SILENT)
    assert [one.client for one in found] == ["client-1", "client-2", "client-3"]
    # The same as a federation in which the client never was, on the same faces.
    others = replace(own, members=own.members[1:])
    without, records = trained_network(others, tmp_path / "alone", SILENT)
    assert all(sorted(record.clients) == ["client-2", "client-3"] for record in records)
    for family, gain in found[0].families.items():
        some = select_pairs(family, own.held)
        labels = np.array([face.label for face in some])
        crops = np.stack([face.crop for face in some])
        aucs = [auc(labels, logits_of(one, crops, torch.device("cpu"))[0]) for one in (network, without)]
        assert gain == pytest.approx(aucs[0] - aucs[1], abs=1e-6)
    assert found[0].gain == pytest.approx(np.mean(list(found[0].families.values())), abs=1e-6)
    assert all(one.low is None or one.low <= one.gain <= one.high for one in found)  # type: ignore[operator]
    write_contributions(found, run / CONTRIBUTIONS)
    write_report(run)
    with (run / CONTRIBUTIONS).open() as stream:
        written = list(csv.DictReader(stream))
    assert [float(row["gain"]) for row in written] == pytest.approx([one.gain for one in found], abs=1e-4)
    page = (run / "report.html").read_text()
    assert "What each client gives" in page and all(f"{float(row['gain']):+.3f}" in page for row in written)


def test_clients_are_not_left_out_where_that_says_nothing_or_too_much(paths: Stored, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of 2 clients leaves no federation"):
        check_leaving_out(setting(paths, tmp_path))
    three = set_up(paths, tmp_path, CONFIG, FEDERATION, dealt(paths, clients=3), SILENT)
    with pytest.raises(DataError, match="more than --privacy promises"):
        check_leaving_out(replace(three, privacy=Privacy("central", 1.0, 1.0, 1e-5, 1.0, 2)))
    with pytest.raises(DataError, match="no faces in split val"):
        check_leaving_out(replace(three, held=()))


@pytest.mark.slow
def test_another_federation_in_the_same_folder_is_refused(paths: Stored, tmp_path: Path) -> None:
    run = tmp_path / "run"
    federate(setting(paths, run), run, SILENT)
    with pytest.raises(DataError, match="holds a federation of another plan or other settings"):
        federate(setting(paths, run, aggregator="median"), run, SILENT)


def test_a_plan_is_drawn(paths: Stored, tmp_path: Path) -> None:
    write_plan(dealt(paths), tmp_path / "plan.html")
    page = (tmp_path / "plan.html").read_text()
    assert "client-1" in page and "stylegan" in page and "split by type" in page


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--method", "mmnet"], "only forgery detectors are federated"),
        (["--aggregator", "mode"], "no aggregator 'mode'"),
        (["--aggregator", "fedprox"], "fedprox needs --proximal"),
        (["--privacy", "central", "--normalisation", "shared"], "take --normalisation group"),
        (["--privacy", "central", "--aggregator", "median"], "central noise is measured for a mean"),
        (["--privacy", "distributed"], "take it with secure aggregation"),
        (["--secure-aggregation", "--aggregator", "krum"], "krum compares the clients' updates"),
        (["--secure-aggregation", "--compression", "fp16"], "leave compression out"),
        (["--secure-aggregation", "--normalisation", "local"], "clients show theirs after the last round"),
        (["--secure-aggregation", "--per-round", "2"], "over 2 clients a round"),
        (["--clients", "40"], "families for 40 clients"),
        (["--held-out", "gan"], "no family 'gan' to hold out"),
    ],
)
def test_what_cannot_be_federated_is_refused_before_any_face_is_looked_for(
    words: list[str], why: str, tmp_path: Path
) -> None:
    rows = ["path,label,family,source,subject,split"]
    for number in range(8):
        path = tmp_path / f"{number}.png"
        path.write_bytes(b"")
        split = "val" if number in (0, 1) else "train"
        family = "real" if number % 2 else "own"
        rows.append(f"{path},{int(family != 'real')},{family},ffhq,s{number},{split}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    result = CLI.invoke(app, ["federate", str(tmp_path / "manifest.csv"), "--run", str(tmp_path / "run"), *words])
    assert result.exit_code != 0
    assert why in f"{result.exception} {result.output}".replace("\n", " ")
    assert not (tmp_path / "run").exists()
