"""Encoders: shapes, weights of several publishers, the packaged ViT, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from clip_files import transformers_state
from safetensors.torch import save_file

from unmask.errors import DataError
from unmask.networks.encoders import PACKAGED, from_transformers_clip, make_encoder, weight_file
from unmask.packs.assets import VIT_SMALL, cache_folder, fetch

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(("name", "stride"), [("test_vit", 16), ("test_vit3", 16), ("test_convnext", 32)])
def test_a_feature_for_the_face_and_one_for_every_patch(name: str, stride: int) -> None:
    """Whether pooled by a class token or by attention."""
    encoder = make_encoder(name).eval()
    with torch.no_grad():
        feature, patches = encoder(torch.rand(2, 3, 96, 96))
    assert encoder.stride == stride and feature.shape == (2, encoder.width)
    assert patches.shape == (2, 96 // stride, 96 // stride, encoder.width)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_weights_of_a_local_file_or_folder_are_loaded(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = make_encoder(name).model.state_dict()
    save_file(state, tmp_path / "model.safetensors")
    for place in (tmp_path, tmp_path / "model.safetensors"):
        loaded = make_encoder(name, str(place)).model.state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_files_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file(make_encoder("test_convnext").model.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="weights"):
        make_encoder("test_vit", str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"truncated")
    with pytest.raises(DataError, match="not a readable weight file"):
        make_encoder("test_vit", str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"none of model\.safetensors"):
        weight_file(tmp_path)


def test_a_clip_that_lacks_a_part_of_its_attention_is_refused() -> None:
    state = transformers_state()
    del state["vision_model.encoder.layers.1.self_attn.v_proj.bias"]
    with pytest.raises(DataError, match=r"layers\.1\.self_attn\.v_proj\.bias"):
        from_transformers_clip(state, "x")


@pytest.mark.slow
def test_the_packaged_encoder_says_what_its_onnx_file_says() -> None:
    import onnx
    import onnxruntime

    if not (cache_folder() / f"{VIT_SMALL.package}-{VIT_SMALL.version}").is_dir():
        pytest.skip("the packaged encoder is not in the cache")
    model = onnx.load(str(fetch(VIT_SMALL)))
    last = next(node for node in model.graph.node if "backbone.layernorm.bias" in node.input).output[0]
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(last))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = torch.nn.functional.interpolate(torch.rand(1, 3, 7, 7), size=224, mode="bicubic")
    (expected,) = session.run([last], {"input_image": pixels.numpy()})
    with torch.no_grad():
        feature, patches = make_encoder(PACKAGED, "registry").eval()(pixels)
    found = np.concatenate([feature[:, None], patches.flatten(1, 2)], 1)
    # The file resamples its positions a little differently; nothing else may differ.
    cosine = (found * expected).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert cosine[0, 0] > 0.998 and cosine.min() > 0.98
