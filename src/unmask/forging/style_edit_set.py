"""Drawn faces whose style drifts step by step, in the layout of Seq-DeepFake: `unmask synthesise --sequence`.

MobileStyleGAN (`forging.mobilestylegan`) takes one style; here each of its 23 layers is given its own. One edit moves
the styles of a group of layers towards another face's: what changes most is named after what people see (pose, shape,
features, shading, colours), and other things change a little with it. The change of the rendering is added to the
picture as it is by then, which is drawn anew after every step as in `forging.component_edit_set`: an earlier edit has
passed through the tool more often. OUT/style_drift/ has the files of `unmask.forging.seq_deepfake_writer`. Lab only.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np

from unmask.datasets.manifest import SHARES, split_of
from unmask.edits.labels import LONGEST, TRACKS
from unmask.errors import DataError, MissingExtraError
from unmask.faces.alignment import resize
from unmask.forging.component_edits import Network
from unmask.forging.seq_deepfake_writer import (
    LAYOUT_SPLITS,
    EditSet,
    Files,
    Row,
    Tools,
    banded,
    check_parameters,
    draw_numbers,
    draw_tool,
    files_of,
    held_out_orders,
    passes_of,
    row_of,
    summarise,
    taef2_network,
    weights_for,
    write_set,
)
from unmask.forging.set_record import refuse_another, write_specification
from unmask.forging.source_faces import FFHQ_BOX, frame
from unmask.interruption import Interruption
from unmask.media.synthetic_mark import FORGED
from unmask.packs.assets import MOBILE_STYLEGAN, fetch
from unmask.progress import SILENT, Progress

TRACK = TRACKS["style_drift"]
GROUPS = ((0, 3), (3, 6), (6, 9), (9, 13), (13, 23))
"""First layer and the one after the last, for each of the track's edits."""

_PIPELINE_VERSION = 1
_VISIBLE = 32.0  # grey values of change that count as fully edited


@dataclass(frozen=True)
class _Specification:
    count: int
    seed: int
    size: int
    tools: Tools
    held_out: float
    taef2: str | None
    pictures: str = "drawn"
    making: int = _PIPELINE_VERSION


class LayeredGenerator:
    """MobileStyleGAN with a style for each layer.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        DataError: the network cannot be fetched.
    """

    def __init__(self) -> None:
        try:
            import openvino
            from openvino import opset13 as opset
        except ImportError as error:
            raise MissingExtraError("lab", "face synthesis") from error
        files = {path.name: path for path in map(fetch, MOBILE_STYLEGAN)}
        core, options = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
        self._mapping = core.compile_model(files["MappingNetwork.xml"], "CPU", options)
        model = core.read_model(files["SynthesisNetwork.xml"])
        # The one style input feeds a multiplication in each layer; each gets a row of its own instead.
        targets = {int(_number(target)): target for target in model.inputs[0].get_target_inputs() if _number(target)}
        styles = opset.parameter([len(targets), 512], np.float32, name="styles")
        first = opset.constant(np.int64(0))
        for row, number in enumerate(sorted(targets)):
            own = opset.gather(styles, opset.constant(np.array([row], np.int64)), first)
            targets[number].replace_source_output(own.output(0))
        shape = opset.gather(styles, opset.constant(np.array([0], np.int64)), first)
        for target in list(model.inputs[0].get_target_inputs()):  # what asks for the batch size
            target.replace_source_output(shape.output(0))
        self.layers = len(targets)
        self._synthesis = core.compile_model(openvino.Model(model.get_results(), [styles]), "CPU", options)
        rng = np.random.default_rng(7)
        self._mean = np.mean([self._map(rng) for _ in range(512)], axis=0)

    def _map(self, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(self._mapping({"var": rng.standard_normal((1, 512)).astype(np.float32)})[0][0])

    def style(self, rng: np.random.Generator) -> np.ndarray:
        """A face's style, float32 (512,), truncated as the generator's users do it."""
        return self._mean + rng.uniform(0.5, 0.8) * (self._map(rng) - self._mean)

    def draw(self, styles: np.ndarray, size: int) -> np.ndarray:
        """The face of styles (layers, 512), framed, uint8 (size, size, 3)."""
        drawn = self._synthesis({"styles": styles.astype(np.float32)})[0][0]
        picture = ((np.clip(drawn, -1, 1) + 1) * 127.5 + 0.5).astype(np.uint8).transpose(1, 2, 0)
        side = len(picture)
        x, y, w, h = (share * side for share in FFHQ_BOX)
        left, top, span = frame(picture.shape, (x, y, w, h)) or (0, 0, side)
        return resize(np.ascontiguousarray(picture[top : top + span, left : left + span]), size)


def edited_styles(
    rng: np.random.Generator, generator: LayeredGenerator
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """The styles of a drawn face before and after one to three of its groups were moved towards another face's.

    The pictures of both are drawn, and so both are forged: neither is the authentic twin of the other.

    Args:
        rng: draws the face, the edits and their strengths.
        generator: whose `draw` makes a picture of each.

    Returns:
        before: (layers, 512).
        after: (layers, 512).
        edits: how far each edited group was moved, 0 (not at all) to 1 (to the other face's), by the edit's name.
    """
    own, other = generator.style(rng), generator.style(rng)
    before = np.repeat(own[None], generator.layers, axis=0)
    after, edits = before.copy(), dict[str, float]()
    for group in sorted(rng.choice(len(GROUPS), int(rng.integers(1, 4)), replace=False)):
        low, high = GROUPS[group]
        drift = round(float(rng.uniform(0.6, 0.95)), 4)
        after[low:high] += drift * (other - after[low:high])
        edits[TRACK.edits[group]] = drift
    return before, after, edits


def _number(target: Any) -> str:
    """The number in the name of a layer's multiplication; "" for another operation."""
    node = target.get_node()
    name = re.search(r"Gemm_(\d+)", node.get_friendly_name()) if node.get_type_name() == "MatMul" else None
    return name[1] if name else ""


def forge_style_edits(
    out: Path,
    count: int,
    seed: int = 0,
    *,
    size: int = 256,
    tools: Tools = "both",
    held_out: float = 0.2,
    taef2: Path | None = None,
    generator: LayeredGenerator | None = None,
    progress: Progress = SILENT,
) -> EditSet:
    """Make a set, or finish one that was begun with the same specification. Pictures that are there are kept.

    Args:
        out: folder of the set; made if absent.
        count: pictures; each shows another face.
        seed: of everything random, 0 or more.
        size: side of the pictures without their band, in pixels: 64 to 1024, a multiple of 16.
        tools: as of `forge_component_edits`, and so are `held_out` and `taef2`.
        generator: None for `LayeredGenerator()`.
        progress: updated for every picture.

    Raises:
        DataError: a parameter out of range, weights missing, or `out` holds something else.
        MissingExtraError: a library of the "lab" extra is not installed.
        KeyboardInterrupt: interrupted, with the annotations written.
    """
    check_parameters(seed, size, tools, held_out)
    if count < 1:
        raise DataError(f"count {count}: give one or more")
    spec = _Specification(count, seed, size, tools, held_out, weights_for(tools, taef2))
    refuse_another(out, spec)
    drawer = generator or LayeredGenerator()
    network = taef2_network(taef2) if spec.taef2 and taef2 is not None else None
    held = held_out_orders(held_out, seed)
    with Interruption() as interruption:
        write_specification(out, spec)
        rows = write_set(
            out,
            TRACK.name,
            range(count),
            lambda left: (_make(drawer, spec, held, network, number) for number in left),
            interruption,
            "drawing faces",
            progress,
        )
    return summarise(out, TRACK.name, rows, len(rows))


def _make(
    generator: LayeredGenerator,
    spec: _Specification,
    held: frozenset[tuple[int, ...]],
    network: Network | None,
    number: int,
) -> tuple[Files, Row]:
    rng = np.random.default_rng([spec.seed, crc32(f"drift {number}".encode())])
    split = LAYOUT_SPLITS[split_of(f"drawn/{spec.seed}/{number:06d}", SHARES)]
    own, other = generator.style(rng), generator.style(rng)
    styles = np.repeat(own[None], generator.layers, axis=0)
    label = draw_numbers(rng, range(1, LONGEST + 1), frozenset() if split == "test" else held)
    tool = draw_tool(rng, spec.tools, network)
    first = before = pixels = generator.draw(styles, spec.size)
    steps: list[tuple[bytes, np.ndarray]] = []
    made: list[dict[str, Any]] = []
    for edit in filter(None, label):
        low, high = GROUPS[edit - 1]
        drift = float(rng.uniform(0.6, 0.95))
        styles[low:high] += drift * (other - styles[low:high])
        after = generator.draw(styles, spec.size)
        change = after.astype(np.int16) - before
        grey = np.abs(change).max(axis=2).astype(np.float32)
        mask = np.clip(cv2.GaussianBlur(grey, (0, 0), spec.size / 100) / _VISIBLE, 0, 1)
        pixels = tool(rng, np.clip(pixels.astype(np.int16) + change, 0, 255).astype(np.uint8))
        before = after
        steps.append((_synthetic(pixels), mask))
        made.append({"part": TRACK.edits[edit - 1], "drift": round(drift, 4)})
    passes = passes_of(rng, len(steps), tool)
    for _ in range(0 if steps else passes):
        pixels = tool(rng, pixels)
    row = row_of(TRACK, number, split, label, f"{number:06d}", label in held, tool, passes) | {"edits": made}
    return files_of(row, _synthetic(first), _synthetic(pixels), steps), row


def _synthetic(pixels: np.ndarray) -> bytes:
    """Drawn faces are synthetic, edited or not."""
    return banded(pixels, FORGED, "trainedAlgorithmicMedia")
