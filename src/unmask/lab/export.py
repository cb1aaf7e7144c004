"""From finished runs of any task to a model pack: ONNX, parity, calibration, figures, the card. Lab only."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from unmask.errors import DataError, PackError
from unmask.lab.config import ExportOptions, LabPaths
from unmask.lab.evaluate import EVALUATION, write_evaluation
from unmask.lab.onnx_export import write_onnx
from unmask.lab.robust.config import description as hardening
from unmask.lab.run import config_of, task_of, versions
from unmask.lab.task import Measured, Task, task_named
from unmask.lab.train import load_network
from unmask.packs import Pack, load_pack
from unmask.packs.card import Card
from unmask.progress import SILENT, Progress
from unmask.provenance import sha256_of

_HARDENED = (
    "Adversarial training makes some attacks harder, within its budget; it proves nothing against others. What attacks "
    "stronger than those of training leave is measured with `unmask evaluate RUN --attacked`."
)


@dataclass(frozen=True)
class Exported:
    """A pack with what was measured of it, and how far it is from the trained network, by name of what is compared."""

    pack: Pack
    measured: Measured
    parity: dict[str, float]


def export(
    runs: Sequence[Path],
    paths: LabPaths,
    out: Path,
    options: ExportOptions,
    progress: Progress = SILENT,
    command: str = "",
) -> Exported:
    """Export, calibrate, evaluate on test, write the pack: `model.onnx`, `card.json` and `evaluation.json`.

    Until all figures are on its card the pack stands in `OUT.part`, so that no half-measured one passes for finished.

    Args:
        runs: finished, of one task; several are fused where the task can.
        paths: where everything lies, of the task's type.
        out: folder of the pack.
        options: of the task's type.
        progress: of every stage.
        command: the command line, for the evaluation's record.

    Raises:
        DataError: the runs or the data cannot make a pack; before any work.
        PackError: the exported network says something else than the trained one.
    """
    tasks = {task_of(run) for run in runs}
    if len(tasks) > 1:
        raise DataError(
            f"runs of different tasks ({', '.join(sorted(tasks))}) make no pack together; export them apart"
        )
    task = task_named(next(iter(tasks)))
    configs = [config_of(run) for run in runs]
    networks = [load_network(run) for run in runs]
    task.check_export(runs, configs, paths, options)
    network = task.fused(networks).eval()
    facts = task.facts(runs, configs, paths, options, progress)
    hardened = " ".join(dict.fromkeys(filter(None, (hardening(config.robust) for config in configs))))
    out = out.resolve()
    unfinished = out.with_name(f"{out.name}.part")
    unfinished.mkdir(parents=True, exist_ok=True)
    progress.note("exporting to ONNX")
    example = task.example(network)
    write_onnx(task.exported(network), network.size, task.outputs, unfinished / "model.onnx", example, task.stored)
    card = Card(
        name=options.name or configs[0].method.rpartition(":")[2].lower(),
        version=options.version,
        task=task.name,
        description=f"{facts.description} {hardened}".strip(),
        input_size=(network.size, network.size),
        colour_order="RGB",
        mean=(0.0, 0.0, 0.0),  # networks normalise what they see themselves
        std=(1.0, 1.0, 1.0),
        crop_margin=configs[0].margin or None,  # 0 stands for whole pictures
        spectra=facts.spectra,
        outputs=task.outputs,
        licence="Apache-2.0 (weights of this project; see the terms of the training data)",
        origin=f"trained with `unmask train {configs[0].method}`",
        training_data=facts.training_data,
        training_data_terms=facts.training_data_terms,
        training_data_sha256=facts.training_data_sha256,
        protocol={"runs": [asdict(config) for config in configs], "versions": versions(), **facts.protocol},
        metrics=(),
        calibration=None,
        operating_points=(),
        limits=(*facts.limits, *((_HARDENED,) if hardened else ())),
        sha256=sha256_of(unfinished / "model.onnx"),
    )
    pack = Pack(unfinished, card)
    difference = parity(task, network, pack, task.samples(configs, paths, progress))
    if not task.at_parity(difference):
        shutil.rmtree(unfinished)
        listed = ", ".join(f"{value:.2g} ({name})" for name, value in difference.items())
        raise PackError(f"{out}: the exported network differs from the trained one: {listed}")
    measured = task.measure(network, pack, runs, configs, paths, options, progress)
    card = replace(
        card,
        metrics=tuple(task.card_metrics(measured.evaluation)),
        calibration=measured.calibration,
        operating_points=measured.operating_points,
        reading=measured.reading,
    )
    card.check_complete()
    card.write(unfinished / "card.json")
    write_evaluation(measured.evaluation, f"{card.name} {card.version}", command, unfinished / EVALUATION)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("model.onnx", "card.json", EVALUATION):
        (unfinished / name).replace(out / name)
    unfinished.rmdir()
    return Exported(load_pack(out), measured, difference)


@torch.no_grad()
def parity(task: Task, network: torch.nn.Module, pack: Pack, crops: np.ndarray) -> dict[str, float]:
    """How far a pack's outputs are from those of the trained network on crops uint8 (N, S, S, 3), or on its example."""
    example = task.example(network)
    if example is not None:
        named = {name: tensor.numpy() for name, tensor in example.items()}
        trained = task.exported(network).eval()(*example.values())
        return task.parity([tensor.numpy() for tensor in trained], pack.session.run(list(pack.card.outputs), named))
    pixels = np.ascontiguousarray(crops.transpose(0, 3, 1, 2)).astype(np.float32) / 255
    expected = task.exported(network).eval()(torch.from_numpy(pixels))
    return task.parity([tensor.float().numpy() for tensor in expected], pack.run(pixels))
