"""A model pack's ONNX graph in torch, frozen and with gradients. Lab only: torch, onnx2torch."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper, version_converter
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.packs import Pack

_OPSET = 17  # the latest whose operations onnx2torch knows
_AGREEMENT = 1e-3  # of the first output with ONNX Runtime's


class OnnxGraph(nn.Module):
    """What a pack computes of RGB pixels, with gradients.

    Args:
        pack: its model has one input, pixels as on its card.

    Raises:
        DataError: its graph has operations that torch has no counterpart of, or says something else there.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(self, pack: Pack) -> None:
        super().__init__()
        import onnx2torch

        name, card = pack.card.name, pack.card
        try:
            model = version_converter.convert_version(_with_single_weights(onnx.load(pack.model_path)), _OPSET)
            self._place = [output.name for output in model.graph.output].index(card.outputs[0])
            self._network = onnx2torch.convert(model).eval()
        except Exception as error:  # onnx2torch and onnx's converter raise whatever an unknown operation leads to
            reason = " ".join(str(error).split())[:120]
            raise DataError(f"pack {name!r}: no gradients of its graph ({reason}); attack it as a black box") from error
        for parameter in self._network.parameters():
            parameter.requires_grad_(False)
        self._reversed = card.colour_order == "BGR"
        self.register_buffer("_mean", torch.tensor(card.mean).view(1, 3, 1, 1))
        self.register_buffer("_std", torch.tensor(card.std).view(1, 3, 1, 1))
        height, width = (side or 64 for side in card.input_size)
        probe = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        gap = np.abs(self(probe).numpy() - pack.run(probe.numpy())[0]).max()
        if not gap <= _AGREEMENT:
            raise DataError(
                f"pack {name!r}: its graph in torch is off by {gap:.2g} from ONNX Runtime; attack it as a black box"
            )

    def forward(self, faces: Tensor) -> Tensor:
        """The pack's first output of faces (B, 3, H, W) in [0, 1]."""
        pixels = faces.flip(1) if self._reversed else faces
        out = self._network((pixels - self._mean) / self._std)
        return out[self._place] if isinstance(out, (list, tuple)) else out


def _with_single_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with weights in single precision where they are kept in half: converters want them as constants."""
    weights = {one.name: one for one in model.graph.initializer}
    for node in list(model.graph.node):
        kept = weights.get(node.input[0]) if node.op_type == "Cast" else None
        if kept is not None and kept.data_type == TensorProto.FLOAT16:
            array = numpy_helper.to_array(kept).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
            model.graph.initializer.remove(kept)
            model.graph.node.remove(node)
    return model
