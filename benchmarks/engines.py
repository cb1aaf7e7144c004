"""The same pack in other engines and in whole numbers: how fast each is, and whether it decides alike.

Compared with ONNX Runtime in float32, on one thread: OpenVINO, and ONNX Runtime on the pack quantised to 8 bit (static,
weights per channel, ranges from least to most over other pictures than those compared). An engine could take the
pack's place if verdicts agreed on 99.9 % of the faces.
"""

import csv
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
from common import finish, parser, spread
from onnxruntime import quantization
from PIL import Image

from unmask.evidence.likelihood import decide, likelihood_ratio
from unmask.faces.alignment import context_crop
from unmask.faces.finding import FaceFinder
from unmask.faces.quality import assess_quality
from unmask.packs import Pack, load_pack

Engine = Callable[[np.ndarray], float]


def crops(index: Path, pack: Pack, count: int, seed: int) -> Iterator[tuple[np.ndarray, float]]:
    """Faces of a shuffled index as the pack sees them, float32 (1, 3, S, S) in [0, 1], with their quality."""
    with index.open(encoding="utf-8", newline="") as stream:
        paths = [index.parent / row["path"] for row in csv.DictReader(stream)]
    random.Random(seed).shuffle(paths)
    finder, size = FaceFinder(), pack.card.input_size[0]
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        for face in finder.find(pixels)[:1]:
            crop, _ = context_crop(pixels, face.box, pack.card.crop_margin or 1.3, size)
            yield crop.transpose(2, 0, 1)[None].astype(np.float32) / 255, assess_quality(pixels, face).unified
            count -= 1
        if not count:
            return


def normalised(pack: Pack, crop: np.ndarray) -> np.ndarray:
    """The crop as the model takes it."""
    card = pack.card
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (card.mean, card.std))
    return ((crop[:, ::-1] if card.colour_order == "BGR" else crop) - mean) / std


class Samples(quantization.CalibrationDataReader):
    """Crops for the quantiser to take the ranges of activations from."""

    def __init__(self, tensors: list[np.ndarray], name: str) -> None:
        self._tensors, self._name = iter(tensors), name

    def get_next(self) -> dict[str, np.ndarray] | None:
        tensor = next(self._tensors, None)
        return None if tensor is None else {self._name: tensor}


def in_onnxruntime(path: Path) -> Engine:
    """A model file on one thread, as packs are run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tensor: float(session.run(["logit"], {name: tensor})[0].reshape(()))


def in_openvino(path: Path) -> Engine:
    """A model file on one thread, in float32."""
    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    logit = compiled.output("logit")
    return lambda tensor: float(np.asarray(compiled([tensor])[logit]).reshape(()))


def quantised(path: Path, folder: Path, tensors: list[np.ndarray]) -> Path:
    """The pack's model in 8 bit: with its initialisers in float32, then all convolutions and products quantised."""
    plain = folder / "float32.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(plain)
    name = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).get_inputs()[0].name
    out = folder / "int8.onnx"
    quantization.quantize_static(
        plain,
        out,
        Samples(tensors, name),
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
    )
    return out


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path(os.environ.get("UNMASK_DATA", "../shared/data")))
    arguments.add_argument("--calibration", type=int, default=100, help="crops that set the ranges of 8 bit")
    arguments.add_argument("--crops", type=int, default=1000, help="crops that are compared")
    chosen = arguments.parse_args()
    pack = load_pack(chosen.pack, task="forgery_detection")
    limits = pack.card.calibration
    assert limits is not None
    index = chosen.data / "forensics" / "wild_256" / "index.csv"
    stream = crops(index, pack, chosen.calibration + chosen.crops, chosen.seed)
    samples = [normalised(pack, next(stream)[0]) for _ in range(chosen.calibration)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        small = quantised(pack.model_path, folder, samples)
        sizes = {"ONNX Runtime, 8 bit": small.stat().st_size}
        engines = {
            "ONNX Runtime": in_onnxruntime(pack.model_path),
            "OpenVINO": in_openvino(pack.model_path),
            "ONNX Runtime, 8 bit": in_onnxruntime(small),
        }
        seconds: dict[str, list[float]] = {name: [] for name in engines}
        logits: dict[str, list[float]] = {name: [] for name in engines}
        verdicts: dict[str, list[str]] = {name: [] for name in engines}
        for crop, quality in stream:
            tensor = np.ascontiguousarray(normalised(pack, crop))
            for name, engine in engines.items():
                start = time.process_time()  # of all threads: unlike the clock, hardly changed by other programs
                logit = engine(tensor)
                seconds[name].append(time.process_time() - start)
                logits[name].append(logit)
                verdicts[name].append(decide(likelihood_ratio(limits, logit, quality), limits))
    ours = next(iter(engines))
    results = {}
    for name in engines:
        apart = np.abs(np.array(logits[name]) - logits[ours])
        same = np.array(verdicts[name]) == np.array(verdicts[ours])
        results[name] = {
            "cpu_seconds": spread(seconds[name]),
            "times_ours": spread([other / own for other, own in zip(seconds[name], seconds[ours], strict=True)]),
            "logit_apart": {"median": round(float(np.median(apart)), 6), "max": round(float(apart.max()), 6)},
            "same_verdict": round(float(same.mean()), 4),
            "bytes": sizes.get(name, pack.model_path.stat().st_size),
        }
    finish(chosen, "engines", {"crops": len(logits[ours]), "engines": results})


if __name__ == "__main__":
    main()
