"""A detector hardened and attacked by the lab's own path: faces, run folder, evaluation."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_faces import make_faces
from stored_paths import stored_paths, write_run

from unmask.errors import DataError
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.task import DetectionTask
from unmask.lab.export import hardening
from unmask.lab.robust import evaluation
from unmask.lab.robust.config import AttackedOptions, RobustOptions
from unmask.lab.robust.evaluation import evaluate_attacked
from unmask.lab.run import config_of
from unmask.lab.train import load_network, train
from unmask.progress import SILENT

pytestmark = [pytest.mark.lab, pytest.mark.slow]
ROBUST = RobustOptions(robust="trades", anc=True, ra=True, attack="fast", attack_epsilon="8/255").settings()
CONFIG = DetectionTrainConfig(
    method="fedforgery",
    options={"width": 8, "backbone": "test_resnet", "weights": "none"},
    size=64,
    pairs=8,
    steps=2,
    batch_pairs=2,
    without=("resynthesis", "ciplab"),
    robust=ROBUST,
)
QUICK = AttackedOptions(attack_steps=3, attack_queries=4, attack_pictures=10)


def test_a_detector_is_hardened_and_attacked(tmp_path: Path) -> None:
    paths = stored_paths(tmp_path / "work", [*make_faces("train"), *make_faces("val", count=2)])
    train(paths, tmp_path / "run", CONFIG)
    kept = config_of(tmp_path / "run")
    assert kept.robust == ROBUST and RobustOptions.of(kept.robust).ra
    header = (tmp_path / "run" / "metrics.csv").read_text().split("\n")[0].split(",")
    assert {"loss_verdict", "loss_final", "loss_divergence", "loss_contrast", "auc_selfblend"} <= set(header)
    loaded = load_network(tmp_path / "run")
    assert loaded.reverse_attention
    assert "TRADES" in hardening(kept.robust)
    # The same command finds it finished; without --robust it is another configuration.
    train(paths, tmp_path / "run", CONFIG)
    with pytest.raises(DataError, match="another configuration"):
        train(paths, tmp_path / "run", replace(CONFIG, robust={}))

    twin = str(write_run(tmp_path / "twin"))
    pictures = DetectionTask().attacked([str(tmp_path / "run"), twin], paths, "val", 10, 0, SILENT)
    assert pictures.faces.shape[1:] == (3, 64, 64) and sorted(set(pictures.labels.tolist())) == [0, 1]
    assert abs(int(pictures.labels.sum()) - 5) <= 1 and pictures.settings == ROBUST
    result = evaluate_attacked(pictures, QUICK)
    assert {evaluation.AUXILIARY, evaluation.TWIN, evaluation.SQUARE} <= {one.attack for one in result.outcomes}
    assert result.settings["attack_epsilon"] == pytest.approx(8 / 255)
    assert result.worst.distances.max() <= 8 / 255 + 1e-6
    # What is served is the detector's own logit.
    with torch.no_grad():
        logit = loaded(pictures.faces).logit
    signed = torch.where(pictures.labels == 1, logit, -logit)
    torch.testing.assert_close(torch.from_numpy(result.outcomes[0].margins), signed, rtol=1e-3, atol=1e-4)

    fused = DetectionTask().attacked([f"{twin},{twin}"], paths, "val", 6, 0, SILENT)
    assert len(fused.faces) == 6 and len(evaluate_attacked(fused, QUICK).outcomes) == 7
    with pytest.raises(DataError, match="attacks need gradients"):
        DetectionTask().attacked(["plain"], paths, "val", 6, 0, SILENT)
