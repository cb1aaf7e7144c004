"""Between a run and the run that it began from: weights at shares of the way, measured on the validation split.

    PYTHONPATH=experiments python experiments/plain/interpolate.py RECORD.json RUN START --data DATA [--take SHARE] \\
      [--work DIR] [--synthetic DIR] [--taef2 DIR]

Fine-tuning forgets; weights between the start and the end often keep what the one knew and have what the other learned
(Wortsman et al., CVPR 2022). The running statistics of the batch normalisations are fitted anew on training pairs.
Rule, written before the run: of the shares 0.5, 0.75 and 1 of the way that with the highest AUC, mean over the run's
own families that the validation split has and over three conditions. `--take` writes RUN-SHARE, a run folder of these
weights, without measuring: the folds go the same way as what they stand for.
"""

import argparse
import json
import shutil
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from common import one_thread, write_record
from safetensors.torch import load_file

from unmask.cli.options import progress_bars
from unmask.forgery.detector import Learner
from unmask.lab.detection.config import DetectionPaths, DetectionTrainConfig
from unmask.lab.detection.evaluate import families_of
from unmask.lab.detection.feed import batches
from unmask.lab.detection.held_out import CONDITIONS, make_eval_images, render
from unmask.lab.detection.onnx_scoring import OnnxDetector, onnx_scorer
from unmask.lab.detection.pairs_pool import Pool
from unmask.lab.detection.scoring import family_aucs
from unmask.lab.engine import save_weights
from unmask.lab.run import config_of, versions
from unmask.lab.train import load_network

SHARES = (0.5, 0.75, 1.0)
_BATCHES = 40  # that the running statistics are fitted on


def between(run: Path, start: Path, share: float, pool: Pool, config: DetectionTrainConfig) -> Learner:
    """The network at a share of the way from the start to the run's weights."""
    network = load_network(run)
    assert isinstance(network, Learner)
    if share == 1.0:
        return network
    end, begin = (load_file(folder / "weights.safetensors") for folder in (run, start))
    state = {
        n: v if not v.is_floating_point() else torch.lerp(begin[n].float(), v.float(), share) for n, v in end.items()
    }
    network.load_state_dict(state)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of all batches
    network.train()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for batch in islice(batches(pool, config, torch.device("cpu"), config.steps), _BATCHES):
            network(batch["faces"].contiguous(memory_format=torch.channels_last))
    return network.eval()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("record", type=Path)
    arguments.add_argument("run", type=Path)
    arguments.add_argument("start", type=Path)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--work", type=Path, default=Path("runs/work"))
    arguments.add_argument("--synthetic", type=Path)
    arguments.add_argument("--taef2", type=Path)
    arguments.add_argument("--take", type=float)
    chosen = arguments.parse_args()
    one_thread()
    config: DetectionTrainConfig = config_of(chosen.run)
    pools = sorted((chosen.work / "pools").glob("*/plan.json"))
    assert len(pools) == 1, "name a work folder with one pool"
    pool = Pool.open(pools[0].parent)
    if chosen.take is not None:
        out = chosen.run.with_name(f"{chosen.run.name}-{chosen.take:g}")
        out.mkdir()
        save_weights(between(chosen.run, chosen.start, chosen.take, pool, config), out / "weights.safetensors")
        for name in ("run.json", "metrics.csv"):
            shutil.copy(chosen.run / name, out / name)
        return
    paths = DetectionPaths(data=chosen.data, work=chosen.work, synthetic=chosen.synthetic, taef2=chosen.taef2)
    with progress_bars() as progress:
        faces = paths.faces(progress)
    own = [name for name in families_of(faces, "val") if name in {*config.families, *config.before} - {"resynthesis"}]
    pictures = make_eval_images(faces, "val", own, most=80)
    networks = {share: between(chosen.run, chosen.start, share, pool, config) for share in SHARES}
    networks[0.0] = between(chosen.start, chosen.start, 1.0, pool, config)
    scorers = {share: onnx_scorer([OnnxDetector(network)]) for share, network in sorted(networks.items())}
    results: dict[str, dict[str, dict[str, float]]] = {}
    for condition in CONDITIONS:
        held = render(pictures, condition, config.size, config.margin)
        crops = np.stack([face.crop for face in held])
        for share, score in scorers.items():
            aucs = family_aucs(held, score(crops)[0])
            results.setdefault(f"{share:g}", {})[condition] = {name: round(value, 4) for name, value in aucs.items()}
    means = {
        share: round(float(np.mean([v for by in rows.values() for n, v in by.items() if n.startswith("auc_")])), 4)
        for share, rows in results.items()
    }
    print(json.dumps(means))
    record = {"protocol": asdict(config), "versions": versions(), "means": means, "results": results}
    write_record(chosen.record, record)


if __name__ == "__main__":
    main()
