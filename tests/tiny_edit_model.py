"""A reader of edits made on the spot: known functions of the colours, small enough to check by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_pack import make_card

from unmask.edits.labels import TRACKS, all_sequences, place_of
from unmask.packs.card import Card, EditCalibration
from unmask.provenance import sha256_of

GAIN = 20.0
TOLD = (1, 2)
"""What a warm face is said to be: nose, then eye."""


def other_scores() -> np.ndarray:
    """The scores (326,) of all other sequences, whatever the picture: the sooner in the table, the likelier."""
    return -8 - np.arange(len(all_sequences())) / 100


def make_reading(**changes: Any) -> EditCalibration:
    return replace(
        EditCalibration(
            edits=TRACKS["facial_components"].edits,
            temperature=1.0,
            edited_at=0.9,
            untouched_at=0.1,
            min_quality=20.0,
            min_face_px=32.0,
            max_turn=40.0,
            min_margin=1.2,
            method="none",
            data="none",
        ),
        **changes,
    )


def make_reader_card(size: int, sha256: str) -> Card:
    """A complete card for the model below."""
    return replace(
        make_card(size, sha256),
        name="tiny-reader",
        task="edit_reading",
        description="Scores that are linear in the mean colour.",
        std=(0.5, 0.5, 0.5),
        crop_margin=2.0,
        outputs=("scores", "areas", "recovered"),
        calibration=None,
        operating_points=(),
        limits=("Knows nothing of edits.",),
        reading=make_reading(),
    )


def band(edit: int, side: int) -> slice:
    """The rows of a picture that the area of an edit (1..5) covers, from one border to the other."""
    return slice(side // 5 * (edit - 1), side // 5 * edit)


def write_reader(folder: Path, *, size: int = 64, **changes: Any) -> Path:
    """Write the pack.

    With R and B the mean red and blue in [0, 1], the sequence `TOLD` scores GAIN * (R - B), the untouched face
    GAIN * (B - R), all others `other_scores()`. The area of an edit is 1 in its `band` of a map of a quarter size and 0
    elsewhere; the recovered face is the inverted picture.

    `changes` are to fields of the card, or of its `reading`.
    """
    folder.mkdir()
    count, side = len(all_sequences()), size // 4
    slopes, offsets = np.zeros((3, count), np.float32), other_scores().astype(np.float32)
    for place, sign in ((place_of(TOLD), 1), (0, -1)):
        # R - B is half the difference of the normalised colours, which go from -1 to 1.
        slopes[:, place] = np.array([1, 0, -1]) * sign * GAIN / 2
        offsets[place] = 0
    areas = np.zeros((1, 5, side, side), np.float32)
    for edit in range(1, 6):
        areas[0, edit - 1, band(edit, side)] = 1
    nodes = [
        helper.make_node("GlobalAveragePool", ["faces"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colour"], axis=1),
        helper.make_node("Gemm", ["colour", "slopes", "offsets"], ["scores"]),
        helper.make_node("Conv", ["faces", "nothing"], ["none"], strides=[4, 4]),
        helper.make_node("Add", ["none", "bands"], ["areas"]),
        helper.make_node("Mul", ["faces", "minus_half"], ["turned"]),
        helper.make_node("Add", ["turned", "half"], ["recovered"]),
    ]
    tensors = {
        "slopes": slopes,
        "offsets": offsets,
        "nothing": np.zeros((5, 3, 4, 4), np.float32),
        "bands": areas,
        "minus_half": np.float32(-0.5),
        "half": np.float32(0.5),
    }
    shapes = {"scores": [count], "areas": [5, side, side], "recovered": [3, size, size]}
    graph = helper.make_graph(
        nodes,
        "tiny-reader",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in shapes.items()],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    of_reading = {name: changes.pop(name) for name in list(changes) if name in EditCalibration.__dataclass_fields__}
    card = make_reader_card(size, sha256_of(folder / "model.onnx"))
    replace(card, **{"reading": make_reading(**of_reading), **changes}).write(folder / "card.json")
    return folder
