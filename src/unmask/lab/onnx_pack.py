"""From a run to a model pack: ONNX with half-precision weights, a parity check, and the card. Lab only."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from unmask.edits.reader import SequenceReader
from unmask.edits.reading import OUTPUTS
from unmask.errors import PackError
from unmask.forgery.detector import Detector
from unmask.lab.run import Run, versions
from unmask.networks.contract import normalise
from unmask.packs import Pack, load_pack
from unmask.packs.card import Calibration, Card, Metric, OperatingPoint
from unmask.provenance import sha256_of

_SMALL = 64  # tensors with fewer numbers stay float32: halving them saves nothing


class _Exported(nn.Module):
    """What the runtime is given: logits (B,) and maps (B, 1, h, w) in [0, 1]."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        out = self.detector(faces)
        return out.logit, out.map.sigmoid()


class _ExportedReader(nn.Module):
    """What the runtime is given: scores (B, 326), areas (B, 5, h, w) and recovered faces (B, 3, S, S) in [0, 1]."""

    def __init__(self, reader: SequenceReader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, faces: Tensor) -> tuple[Tensor, ...]:
        out = self.reader(faces)
        assert out.areas is not None and out.recovered is not None
        return out.scores, out.areas.sigmoid(), out.recovered


def write_onnx(module: Detector | SequenceReader, path: Path) -> None:
    """Export to ONNX with a free batch size, weights stored in half precision and computed with in float32.

    A reader must say where edits were made and recover the face.
    """
    example = torch.rand(2, 3, module.size, module.size)
    reads = isinstance(module, SequenceReader)
    program = torch.onnx.export(
        (_ExportedReader(module) if isinstance(module, SequenceReader) else _Exported(module)).eval(),
        (example,),
        input_names=["faces"],
        output_names=list(OUTPUTS if reads else ("logit", "map")),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )
    assert program is not None  # dynamo=True always returns a program
    model = program.model_proto
    nodes, kept = [], []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < _SMALL:
            kept.append(tensor)
            continue
        kept.append(numpy_helper.from_array(array.astype(np.float16), f"{tensor.name}.half"))
        nodes.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=TensorProto.FLOAT))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    body = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *body])
    # The exporter writes the stack trace behind every node: paths of this machine.
    for part in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
    ):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


@torch.no_grad()
def parity(module: Detector, pack: Pack, crops: np.ndarray) -> dict[str, float]:
    """Largest difference of logit and map between torch and the pack, on crops uint8 (N, S, S, 3)."""
    pixels = np.ascontiguousarray(crops.transpose(0, 3, 1, 2)).astype(np.float32) / 255
    logit, heat = pack.run(pixels)
    expected_logit, expected_heat = _Exported(module).eval()(normalise(torch.from_numpy(pixels), module))
    return {
        "logit": float(np.abs(logit - expected_logit.numpy()).max()),
        "map": float(np.abs(heat - expected_heat.numpy()).max()),
    }


def write_pack(
    module: Detector,
    folder: Path,
    *,
    runs: Sequence[Path],
    name: str,
    version: str,
    description: str,
    licence: str,
    origin: str,
    training_data: str,
    training_data_terms: str,
    training_data_sha256: str,
    calibration: Calibration,
    metrics: Sequence[Metric],
    operating_points: Sequence[OperatingPoint],
    limits: Sequence[str],
    margin: float,
    spectra: Sequence[str] = ("visible",),
) -> Pack:
    """Write `model.onnx` and a complete `card.json` into a folder and load the pack back.

    Raises:
        PackError: the card is incomplete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_onnx(module, folder / "model.onnx")
    card = Card(
        name=name,
        version=version,
        task="forgery_detection",
        description=description,
        input_size=(module.size, module.size),
        colour_order="RGB",
        mean=module.mean,
        std=module.std,
        crop_margin=margin,
        spectra=tuple(spectra),
        outputs=("logit", "map"),
        licence=licence,
        origin=origin,
        training_data=training_data,
        training_data_terms=training_data_terms,
        training_data_sha256=training_data_sha256,
        protocol={"runs": [asdict(Run.protocol_of(run)) for run in runs], "versions": versions()},
        metrics=tuple(metrics),
        calibration=calibration,
        operating_points=tuple(operating_points),
        limits=tuple(limits),
        sha256=sha256_of(folder / "model.onnx"),
    )
    card.check_complete()
    card.write(folder / "card.json")
    return load_pack(folder)


def with_numbers(
    pack: Pack, calibration: Calibration, metrics: Sequence[Metric], points: Sequence[OperatingPoint]
) -> Pack:
    """The same pack with other numbers on its card, written in place.

    Raises:
        PackError: the pack is not a forgery detector.
    """
    if pack.card.task != "forgery_detection":
        raise PackError(f"pack {pack.card.name!r} is no forgery detector")
    card = replace(pack.card, calibration=calibration, metrics=tuple(metrics), operating_points=tuple(points))
    card.check_complete()
    card.write(pack.folder / "card.json")
    return load_pack(pack.folder)
