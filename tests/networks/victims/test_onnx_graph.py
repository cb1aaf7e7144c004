"""A pack's graph in torch says what ONNX Runtime says, and its gradients are those of the function."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny_pack import write_pack

from unmask.errors import DataError
from unmask.networks.victims.onnx_graph import OnnxGraph
from unmask.packs import Card, embedded_packs, load_pack
from unmask.provenance import sha256_of

pytestmark = pytest.mark.lab


def detectors() -> list[str]:
    return [name for name in embedded_packs() if load_pack(name).card.task == "forgery_detection"]


@pytest.mark.parametrize("name", detectors())
def test_embedded_packs(name: str) -> None:
    pack = load_pack(name)
    graph, side = OnnxGraph(pack), pack.card.input_size[0]
    faces = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)).requires_grad_()
    logits = graph(faces)
    np.testing.assert_allclose(logits.detach().numpy(), pack.run(faces.detach().numpy())[0], atol=1e-4)
    (gradient,) = torch.autograd.grad(logits.sum(), faces)
    step = 1e-2 * gradient / gradient.norm()
    moved = [pack.run((faces.detach() + sign * step).numpy())[0].sum() for sign in (1, -1)]
    assert (moved[0] - moved[1]) / 2e-2 == pytest.approx(float(gradient.norm()), rel=0.1)


@pytest.mark.parametrize("colours", ["RGB", "BGR"])
def test_the_card_s_conventions_are_kept(tmp_path: Path, colours: str) -> None:
    pack = load_pack(write_pack(tmp_path / "pack", gain=2.0, colour_order=colours))
    faces = torch.rand(1, 3, 16, 16).requires_grad_()
    (gradient,) = torch.autograd.grad(OnnxGraph(pack)(faces).sum(), faces)
    wanted = 2.0 * torch.tensor([1.0, 2.0, -3.0]) / 0.25 / 256
    wanted = wanted.flip(0) if colours == "BGR" else wanted
    torch.testing.assert_close(gradient[0], wanted[:, None, None].expand(3, 16, 16), rtol=1e-4, atol=1e-6)


def test_an_operation_that_torch_has_no_counterpart_of(make_pack: Callable[..., Path]) -> None:
    folder = make_pack()
    model = onnx.load(folder / "model.onnx")
    next(node for node in model.graph.node if node.op_type == "Sigmoid").op_type = "Det"
    onnx.save(model, folder / "model.onnx")
    card = Card.read(folder / "card.json")
    text = (folder / "card.json").read_text(encoding="utf-8").replace(card.sha256, sha256_of(folder / "model.onnx"))
    (folder / "card.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"no gradients of its graph .* attack it as a black box"):
        OnnxGraph(load_pack(folder))
