import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data sets. Their absence is a failure in CI and a visible skip elsewhere."""
    folder = Path(os.environ.get("UNMASK_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"no data sets in {folder}: set UNMASK_DATA"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


PORTRAIT = ROOT / "src" / "unmask" / "demo" / "astronaut.jpg"


@pytest.fixture(scope="session")
def portrait() -> Path:
    """A real photograph with one face, 384 x 384 pixels."""
    return PORTRAIT


@pytest.fixture(scope="session")
def make_pack(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes packs like `tiny_pack` with other limits; see `_write_tiny_pack`."""
    return lambda **limits: _write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny", **limits)


@pytest.fixture(scope="session")
def tiny_pack(make_pack: Callable[..., Path]) -> Path:
    """A forgery pack that needs no training: the logit grows with the brightness, the map is the grey crop, 8 x 8."""
    return make_pack()


def _write_tiny_pack(
    folder: Path, *, logit_at_white: float = 10.0, min_face_px: float = 30.0, min_quality: float = 5.0
) -> Path:
    """logit = logit_at_white * (mean - 0.5) * 2 of the crop in [0, 1]; log10 LR = logit / 2 within [-1.5, 2]."""
    from onnx import TensorProto, helper, numpy_helper, save

    from unmask.packs.card import Calibration, CalibrationBin, Card, Metric, OperatingPoint, sha256_of

    nodes = [
        helper.make_node("ReduceMean", ["faces", "all_axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "half"], ["centred"]),
        helper.make_node("Mul", ["centred", "gain"], ["logit"]),
        helper.make_node("ReduceMean", ["faces", "channels"], ["grey"], keepdims=1),
        helper.make_node("AveragePool", ["grey"], ["map"], kernel_shape=[8, 8], strides=[8, 8]),
    ]
    constants = {
        "all_axes": np.array([1, 2, 3], np.int64),
        "channels": np.array([1], np.int64),
        "half": np.array(0.5, np.float32),
        "gain": np.array(2 * logit_at_white, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["batch", 3, 64, 64])],
        [
            helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["batch", 1, 8, 8]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    save(model, str(folder / "model.onnx"))
    bins = tuple(
        CalibrationBin(
            quality_min=low, quality_max=high, slope=0.5, intercept=0.0, lower=-1.5, upper=2.0, n_real=10, n_forged=10
        )
        for low, high in ((0.0, 50.0), (50.0, 100.0))
    )
    card = Card(
        name="tiny",
        version="1",
        task="forgery_detection",
        description="Brightness, for tests.",
        input_size=(64, 64),
        colour_order="RGB",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        crop_margin=1.4,
        outputs=("logit", "map"),
        licence="Apache-2.0",
        origin="made by the tests",
        training_data="none",
        training_data_terms="none",
        training_data_sha256="0" * 64,
        protocol={"seed": 0},
        metrics=(Metric(dataset="none", name="auc", value=0.5, low=None, high=None, n_real=0, n_forged=0),),
        calibration=Calibration(
            method="none",
            data="none",
            bins=bins,
            cllr=1.0,
            cllr_min=1.0,
            decision_log10_lr=0.5,
            min_quality=min_quality,
            min_face_px=min_face_px,
        ),
        operating_points=(
            OperatingPoint(name="middle", threshold=0.5, false_alarm_rate=0.5, hit_rate=0.5, dataset="none"),
        ),
        limits=("knows nothing of forgeries",),
        sha256=sha256_of(folder / "model.onnx"),
    )
    card.write(folder / "card.json")
    return folder


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes an H.264 file in which the pictures given by `frame(time) -> uint8 (H, W, 3) RGB` follow each other."""

    def make(
        frame: Callable[[float], np.ndarray], seconds: float = 2.0, rate: int = 10, name: str = "clip.mp4"
    ) -> Path:
        import av

        path = tmp_path_factory.mktemp("video") / name
        with av.open(str(path), "w") as container:
            height, width = frame(0.0).shape[:2]
            stream = container.add_stream("libx264", rate=rate, width=width, height=height, pix_fmt="yuv420p")
            for number in range(round(seconds * rate)):
                for packet in stream.encode(av.VideoFrame.from_ndarray(frame(number / rate), "rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        return path

    return make
