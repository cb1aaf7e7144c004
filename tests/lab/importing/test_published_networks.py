"""Published detectors from files of their structure with random weights, against other code for the same networks."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from clip_files import PROJECTED, SIDE, WIDTH, gend_folder, open_clip_state, pooled, transformers_state
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from unmask.errors import DataError
from unmask.lab.importing.networks import (
    read_bench_efficientnet,
    read_bench_xception,
    read_gend,
    read_sbi,
    read_univfd,
)

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("head", ["linear", "LinearNorm"])
def test_gend_says_what_its_definition_says(head: str, tmp_path: Path) -> None:
    state = gend_folder(tmp_path, head=head)
    detector = read_gend(tmp_path).eval()
    faces = torch.rand(3, 3, SIDE, SIDE)
    feature = pooled({name.removeprefix("feature_extractor."): value for name, value in state.items()}, faces)
    if head == "LinearNorm":
        feature = functional.normalize(feature, dim=1)
    expected = (feature @ state["model.linear.weight"].T + state["model.linear.bias"]).softmax(1)[:, 1]
    with torch.no_grad():
        out = detector(faces)
    torch.testing.assert_close(out.logit.sigmoid(), expected, rtol=1e-4, atol=1e-5)
    assert detector.size == SIDE and out.map.shape == (3, 1, 4, 4)


def test_gend_on_a_perception_encoder_is_shown_at_its_size(tmp_path: Path) -> None:
    """GenD shows it 224 pixels and has its positions resampled at every call; here they are once."""
    name = "vit_pe_core_tiny_patch16_384"
    torch.manual_seed(0)
    model: Any = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
    head = torch.nn.Linear(model.num_features, 2)
    state = {f"feature_extractor.backbone.{key}": value for key, value in model.state_dict().items()}
    state |= {f"model.linear.{key}": value.detach() for key, value in head.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"backbone": name, "head": "linear"}))
    detector = read_gend(tmp_path).eval()
    faces = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        answers = head(model(detector.normalised(faces)))
        logit = detector(faces).logit
    assert detector.size == 224
    torch.testing.assert_close(logit, answers[:, 1] - answers[:, 0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("names", ["transformers", "open_clip"])
def test_univfd_reads_the_projected_feature(names: str, tmp_path: Path) -> None:
    state = transformers_state()
    head = {"weight": torch.randn(1, PROJECTED), "bias": torch.randn(1)}
    torch.save(head, tmp_path / "fc_weights.pth")
    (tmp_path / "clip").mkdir()
    more = {"logit_scale": torch.ones(()), "text_model.final_layer_norm.bias": torch.ones(3)}
    held = state if names == "transformers" else open_clip_state(state)
    save_file({**held, **more}, tmp_path / "clip" / "model.safetensors")
    faces = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        logit = read_univfd(tmp_path / "fc_weights.pth", tmp_path / "clip").eval()(faces).logit
    expected = pooled(state, faces) @ state["visual_projection.weight"].T @ head["weight"].T + head["bias"]
    torch.testing.assert_close(logit, expected[:, 0], rtol=1e-3, atol=1e-3)


def test_xception_of_deepfakebench(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network: Any = timm.create_model("legacy_xception", num_classes=2).eval()
    state = {f"backbone.{name}": value for name, value in network.state_dict().items() if not name.startswith("fc.")}
    state |= {f"backbone.last_linear.{name}": value for name, value in network.fc.state_dict().items()}
    state["backbone.adjust_channel.0.bias"] = torch.zeros(512)  # made by its code, used by nothing
    torch.save(state, tmp_path / "xception.pth")
    detector = read_bench_xception(tmp_path / "xception.pth").eval()
    faces = torch.rand(2, 3, 256, 256)
    with torch.no_grad():
        answers, out = network(2 * faces - 1), detector(faces)
    torch.testing.assert_close(out.logit, answers[:, 1] - answers[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.map.mean((1, 2, 3)), out.logit, rtol=1e-3, atol=1e-4)


# Kernel, stride, expansion, output, repeats of the stages of EfficientNet-B4.
_STAGES = (
    *((3, 1, 1, 24, 2), (3, 2, 6, 32, 4), (5, 2, 6, 56, 4), (3, 2, 6, 112, 6)),
    *((5, 1, 6, 160, 6), (5, 2, 6, 272, 8), (3, 1, 6, 448, 2)),
)


class EfficientNetB4:
    """EfficientNet-B4 by its published definition, with random weights under efficientnet_pytorch's names."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.state: dict[str, Tensor] = {}
        self.blocks: list[tuple[int, int, int, int]] = []  # kernel, stride, expansion, input channels
        self._conv("_conv_stem", 48, 3, 3)
        self._norm("_bn0", 48)
        channels = 48
        for kernel, stride, expansion, width, repeats in _STAGES:
            for repeat in range(repeats):
                name, inner = f"_blocks.{len(self.blocks)}.", channels * expansion
                if expansion > 1:
                    self._conv(f"{name}_expand_conv", inner, channels, 1)
                    self._norm(f"{name}_bn0", inner)
                self._conv(f"{name}_depthwise_conv", inner, 1, kernel)
                self._norm(f"{name}_bn1", inner)
                self._conv(f"{name}_se_reduce", channels // 4, inner, 1, bias=True)
                self._conv(f"{name}_se_expand", inner, channels // 4, 1, bias=True)
                self._conv(f"{name}_project_conv", width, inner, 1)
                self._norm(f"{name}_bn2", width)
                self.blocks.append((kernel, stride if repeat == 0 else 1, expansion, channels))
                channels = width
        self._conv("_conv_head", 1792, channels, 1)
        self._norm("_bn1", 1792)
        self.state |= {"_fc.weight": 0.1 * torch.randn(2, 1792), "_fc.bias": torch.randn(2)}

    def _conv(self, name: str, out: int, inputs: int, kernel: int, bias: bool = False) -> None:
        self.state[f"{name}.weight"] = torch.randn(out, inputs, kernel, kernel) / math.sqrt(inputs * kernel * kernel)
        if bias:
            self.state[f"{name}.bias"] = 0.1 * torch.randn(out)

    def _norm(self, name: str, width: int) -> None:
        self.state |= {
            f"{name}.weight": 0.5 + torch.rand(width),
            f"{name}.bias": 0.1 * torch.randn(width),
            f"{name}.running_mean": 0.1 * torch.randn(width),
            f"{name}.running_var": 0.5 + torch.rand(width),
            f"{name}.num_batches_tracked": torch.tensor(7),
        }

    def logits(self, pixels: Tensor, padded_stem: bool) -> Tensor:
        state = self.state

        def norm(x: Tensor, name: str) -> Tensor:
            parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
            return functional.batch_norm(x, *parts, training=False, eps=1e-3)

        def conv(x: Tensor, name: str, **more: Any) -> Tensor:
            return functional.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **more)

        def same(x: Tensor, side: int, kernel: int, stride: int) -> tuple[Tensor, int]:
            """Padding for a picture of `side` pixels, whatever x is; the side behind the layer."""
            after = math.ceil(side / stride)
            total = max((after - 1) * stride + kernel - side, 0)
            return functional.pad(x, [total // 2, total - total // 2] * 2), after

        padded, side = same(pixels, 380, 3, 2)
        x = functional.silu(norm(conv(padded if padded_stem else pixels, "_conv_stem", stride=2), "_bn0"))
        for number, (kernel, stride, expansion, _) in enumerate(self.blocks):
            name, before = f"_blocks.{number}.", x
            if expansion > 1:
                x = functional.silu(norm(conv(x, f"{name}_expand_conv"), f"{name}_bn0"))
            x, side = same(x, side, kernel, stride)
            x = conv(x, f"{name}_depthwise_conv", stride=stride, groups=x.shape[1])
            x = functional.silu(norm(x, f"{name}_bn1"))
            squeezed = functional.silu(conv(x.mean((2, 3), keepdim=True), f"{name}_se_reduce"))
            x = x * conv(squeezed, f"{name}_se_expand").sigmoid()
            x = norm(conv(x, f"{name}_project_conv"), f"{name}_bn2")
            x = x + before if x.shape == before.shape and stride == 1 else x
        x = functional.silu(norm(conv(x, "_conv_head"), "_bn1"))
        return functional.linear(x.mean((2, 3)), state["_fc.weight"], state["_fc.bias"])


@pytest.mark.slow
@pytest.mark.parametrize("publisher", ["sbi", "deepfakebench"])
def test_efficientnet_b4_says_what_its_definition_says(publisher: str, tmp_path: Path) -> None:
    reference = EfficientNetB4()
    read: Callable[[Path], Any]
    if publisher == "sbi":
        read, size = read_sbi, 380
        held: Any = {"model": {f"net.{name}": value for name, value in reference.state.items()}, "epoch": 1}
        shown = faces = torch.rand(1, 3, size, size)
    else:
        read, size = read_bench_efficientnet, 256
        names = {n: re.sub(r"^(?!_fc)", "efficientnet.", n).replace("_fc.", "last_layer.") for n in reference.state}
        held = {f"backbone.{names[name]}": value for name, value in reference.state.items()}
        faces = torch.rand(1, 3, size, size)
        shown = 2 * faces - 1
    torch.save(held, tmp_path / "weights.pth")
    detector = read(tmp_path / "weights.pth").eval()
    with torch.no_grad():
        expected = reference.logits(shown, padded_stem=publisher == "sbi")
        out = detector(faces)
    assert detector.size == size
    torch.testing.assert_close(out.logit, expected[:, 1] - expected[:, 0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(out.map.mean((1, 2, 3)), out.logit, rtol=1e-3, atol=1e-3)


def test_a_gend_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        read_gend(tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"no config\.json"):
        read_gend(tmp_path)
    for config, reason in (
        ("[]", r"no config\.json"),
        ("{", r"no config\.json"),
        ('{"backbone": "openai/clip", "head": "mlp"}', "head 'mlp'"),
        ('{"backbone": "openai/clip", "head": "linear"}', r"none of model\.safetensors"),
    ):
        (tmp_path / "config.json").write_text(config)
        with pytest.raises(DataError, match=reason):
            read_gend(tmp_path)
    gend_folder(tmp_path, backbone="facebook/dinov3-vitl16-pretrain-lvd1689m")
    with pytest.raises(DataError, match="cannot be imported"):
        read_gend(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("model.linear.bias"), r"1 missing \(linear\.bias\)"),
        (lambda state: state.pop("feature_extractor.vision_model.post_layernorm.weight"), r"missing \(norm\.weight\)"),
        (lambda state: state.update({"feature_extractor.vision_model.more": torch.ones(1)}), r"1 unexpected \(more\)"),
        (lambda state: state.update({"model.linear.weight": torch.ones(3, WIDTH)}), "1 of another shape"),
        (lambda state: state.pop("feature_extractor.vision_model.embeddings.class_embedding"), "not the image half"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: Callable[[Any], Any], reason: str, tmp_path: Path) -> None:
    state = gend_folder(tmp_path)
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=reason):
        read_gend(tmp_path)


class Unwanted:
    """A pickle that would run code where it is opened with trust."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("opened"),))


@pytest.mark.parametrize("read", [read_sbi, read_bench_xception, read_bench_efficientnet])
def test_files_of_another_kind_are_refused(
    read: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    torch.save({"model": {"conv.weight": torch.ones(1)}}, path)
    with pytest.raises(DataError, match="is KIND right"):
        read(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="not a readable weight file"):
        read(path)
    torch.save({"model": Unwanted()}, path)
    with pytest.raises(DataError, match="not a readable weight file"):
        read(path)
    assert not (tmp_path / "opened").exists()


def test_univfd_needs_its_encoder(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1, PROJECTED), "bias": torch.ones(1)}, tmp_path / "fc.pth")
    with pytest.raises(DataError, match="--encoder"):
        read_univfd(tmp_path / "fc.pth")
    state = transformers_state()
    del state["visual_projection.weight"]
    save_file(state, tmp_path / "clip.safetensors")
    with pytest.raises(DataError, match="no projection"):
        read_univfd(tmp_path / "fc.pth", tmp_path / "clip.safetensors")
