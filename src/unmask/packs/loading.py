"""From a name or a folder to a verified pack, and from a pack to an ONNX Runtime session."""

import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unmask.errors import DataError, PackError
from unmask.offline import onnx_runtime
from unmask.packs.card import Card
from unmask.plugins import Table
from unmask.provenance import sha256_of

_EMBEDDED = Path(__file__).parent


@dataclass(frozen=True)
class Pack:
    """A verified model pack: its folder and its card. The session is opened on first use, or ahead of it."""

    folder: Path
    card: Card

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.folder / "model.onnx"

    @property
    def session(self) -> Any:
        """An onnxruntime.InferenceSession on the CPU; one thread: jobs scale by processes and results repeat.

        Raises:
            PackError: the file is not a model that the installed ONNX Runtime can open.
        """
        return self._opening.result()

    def open_ahead(self) -> None:
        """Begin to open the session in the background, for a caller who may need it soon; an error waits till then."""
        self._opening.begin()

    def cancel_opening(self) -> None:
        """Give up an opening that was begun and is not done, so that the end of the process need not wait for it."""
        self._opening.cancel()

    @cached_property
    def _opening(self) -> "_Opening":
        return _Opening(self.model_path, self.card.name)

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the model on RGB pixels.

        Args:
            pixels: float32 (B, 3, H, W) in [0, 1], RGB, H and W as the card's `input_size`; B >= 0.

        Returns:
            The model's outputs in the card's order, float32, first axis B.
        """
        height, width = self.card.input_size
        wanted = (3, height or pixels.shape[-2], width or pixels.shape[-1])
        if pixels.ndim != 4 or pixels.shape[1:] != wanted:
            sides = ", ".join(str(side or "any") for side in self.card.input_size)
            raise ValueError(f"pack {self.card.name!r} takes (B, 3, {sides}), not {pixels.shape}")
        if self.card.colour_order == "BGR":
            pixels = pixels[:, ::-1]
        mean = np.asarray(self.card.mean, np.float32).reshape(1, 3, 1, 1)
        std = np.asarray(self.card.std, np.float32).reshape(1, 3, 1, 1)
        return self.run_normalised(np.ascontiguousarray((pixels - mean) / std, dtype=np.float32))

    def run_normalised(self, tensor: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the model on a tensor that already has the card's colour order, mean and std.

        Args:
            tensor: float32 (B, 3, H, W).

        Returns:
            The model's outputs in the card's order, float32, first axis B.
        """
        return tuple(self.session.run(list(self.card.outputs), {self.session.get_inputs()[0].name: tensor}))


class _Opening:
    """A session that is opened once, on first use or ahead of it.

    ONNX Runtime lets other threads run while it opens a model, which for the larger ones takes longer than to find and
    score a face: a second core can do it meanwhile.
    """

    def __init__(self, model: Path, pack: str) -> None:
        self._model, self._pack = model, pack
        self._coming: Future[Any] | None = None
        self._options: Any = None

    def begin(self) -> Future[Any]:
        if self._coming is None:
            self._options = onnx_runtime().SessionOptions()
            self._options.intra_op_num_threads = 1
            self._options.inter_op_num_threads = 1
            self._options.log_severity_level = 3
            thread = ThreadPoolExecutor(max_workers=1)
            self._coming = thread.submit(self._open, self._options)
            thread.shutdown(wait=False)
        return self._coming

    def result(self) -> Any:
        return self.begin().result()

    def cancel(self) -> None:
        # ONNX Runtime 1.22 and later can stop; one that cannot goes on to the end.
        if (
            self._coming is not None
            and not self._coming.done()
            and hasattr(self._options, "set_load_cancellation_flag")
        ):
            self._options.set_load_cancellation_flag(True)
            self._coming = None

    def _open(self, options: Any) -> Any:
        try:
            return onnx_runtime().InferenceSession(str(self._model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no narrower base
            reason = str(error).splitlines()[0]
            raise PackError(f"pack {self._pack!r}: ONNX Runtime cannot open model.onnx: {reason}") from error


INSTALLED: Table[str | Path] = Table("model pack", "unmask.packs", ())
"""The packs that other packages bring along: their folders by name."""


def _is_installed(name: str) -> bool:
    return name in INSTALLED or re.fullmatch(r"[\w.]+:\w+", name) is not None


def embedded_packs(task: str | None = None) -> list[str]:
    """Names of the packs that come with the package, sorted; those of one task, if one is given."""
    names = sorted(path.parent.name for path in _EMBEDDED.glob("*/card.json"))
    return [name for name in names if task is None or Card.read(_EMBEDDED / name / "card.json").task == task]


def load_pack(name: str | Path, task: str | None = None, calibrated: bool = True) -> Pack:
    """Load an embedded pack by name, or any pack by its folder, and check card, hash and task.

    A string that names an embedded pack means that one; a `Path` is always a folder, whatever it is called. Where there
    is no such folder, a string may name a pack of another package: by an entry point of the group `unmask.packs`, or as
    `module:Name`, each of them the folder's path. Only to calibrate it may a pack be loaded without its calibration.

    Raises:
        PackError: no such pack, incomplete card, altered model file, or a pack of another task.
    """
    folder = Path(name)
    if isinstance(name, str) and name in embedded_packs():
        folder = _EMBEDDED / name
    elif isinstance(name, str) and not (folder / "card.json").is_file() and _is_installed(name):
        try:
            folder = Path(INSTALLED.load(name))
        except DataError as error:
            raise PackError(str(error)) from error
    if not (folder / "card.json").is_file():
        known = ", ".join(embedded_packs(task)) or "none of which is for this"
        raise PackError(f"no model pack {str(name)!r}: give a folder with card.json, or an embedded one: {known}")
    card = Card.read(folder / "card.json", calibrated)
    pack = Pack(folder, card)
    if task is not None and card.task != task:
        known = ", ".join(embedded_packs(task))
        others = f" or an embedded one: {known}" if known else ""
        raise PackError(f"pack {card.name!r} is for {card.task}, not {task}: give a folder of one that is{others}")
    if not pack.model_path.is_file():
        raise PackError(f"pack {card.name!r} has no model.onnx in {folder}")
    if sha256_of(pack.model_path) != card.sha256:
        raise PackError(
            f"pack {card.name!r}: model.onnx differs from the sha256 on its card; take it anew from its origin"
        )
    return pack
