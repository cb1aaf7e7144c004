"""SeqFakeFormer against numpy: each part of its transformer computed once more, after the published formulas."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unmask.edits.decoding import PADDING, causal
from unmask.edits.seqfakeformer import HEADS, SeqFakeFormer, SpatialLayer, Transformer
from unmask.lab.config import TrainConfig
from unmask.lab.engine import Trainer, make_fabric

pytestmark = pytest.mark.lab

WIDTH, HIDDEN = 16, 32
TOKENS = torch.tensor([[0, 3, 1, 5], [0, 2, PADDING, PADDING]])
Weights = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def transformer() -> Transformer:
    """Of 16 channels, every weight moved away from where it starts."""
    torch.manual_seed(0)
    made = Transformer(WIDTH, HIDDEN).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    return made


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weights_of(module: nn.Module, name: str = "") -> Weights:
    return {key: value.double().numpy() for key, value in module.state_dict(prefix=name).items()}


# The reference, in numpy alone


def linear(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    return np.asarray(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])


def layer_norm(x: np.ndarray, weights: Weights, name: str, eps: float = 1e-5) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return np.asarray(unit * weights[f"{name}.weight"] + weights[f"{name}.bias"])


def attention(query: Any, key: Any, value: Any, weights: Weights, name: str, bias: Any) -> np.ndarray:
    """One face's tokens: query (T, C), key and value (N, C), bias (T, N) or (heads, T, N) on the logits."""
    size, out = query.shape[-1] // HEADS, np.zeros_like(query)
    q, k, v = (linear(x, weights, f"{name}.{part}") for x, part in ((query, "query"), (key, "key"), (value, "value")))
    for head in range(HEADS):
        own = slice(head * size, (head + 1) * size)
        logits = q[:, own] @ k[:, own].T / math.sqrt(size) + (bias[head] if bias.ndim == 3 else bias)
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        out[:, own] = shares / shares.sum(-1, keepdims=True) @ v[:, own]
    return linear(out, weights, f"{name}.out")


def feed_forward(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    return linear(np.maximum(linear(x, weights, f"{name}.0"), 0), weights, f"{name}.3")


def sine(side: int, channels: int) -> np.ndarray:
    """Half of the channels for y, half for x; sine and cosine take turns (Carion et al. 2020)."""
    half, table = channels // 2, np.zeros((side * side, channels))
    for row in range(side):
        for column in range(side):
            for start, count in ((0, row + 1), (half, column + 1)):
                for i in range(half):
                    angle = count / side * 2 * math.pi / 10_000 ** (2 * (i // 2) / half)
                    table[row * side + column, start + i] = math.cos(angle) if i % 2 else math.sin(angle)
    return table


def embedded(tokens: list[int], weights: Weights) -> np.ndarray:
    """The normalisation sees token and place together."""
    total = weights["tokens.weight"][tokens] + weights["places.weight"][: len(tokens)]
    return layer_norm(total, weights, "embedding_norm", 1e-12)


def centres_of(state: np.ndarray, weights: Weights, side: int) -> np.ndarray:
    """(T, 2) as x and y in cells, from the first layer's normalised state and place."""
    x = layer_norm(state + weights["places.weight"][: len(state)], weights, "layers.0.spatial_norm")
    for name in ("centre.0", "centre.2"):
        x = np.maximum(linear(x, weights, name), 0)
    return side / (1 + np.exp(-linear(x, weights, "centre.4")))


def prior_of(state: np.ndarray, centres: np.ndarray, weights: Weights, name: str, side: int) -> np.ndarray:
    """(heads, T, N), cell by cell: -sum over both axes of g^2 (c + d - p)^2 / 4, p a whole number."""
    spatial = layer_norm(state + weights["places.weight"][: len(state)], weights, f"{name}.spatial_norm")
    offsets, roots = (linear(spatial, weights, f"{name}.{part}") for part in ("offset", "scale"))
    bias = np.zeros((HEADS, len(state), side * side))
    for head in range(HEADS):
        for token in range(len(state)):
            for cell in range(side * side):
                for axis, place in enumerate((cell % side, cell // side)):
                    d, g = (each[token, 2 * head + axis] for each in (offsets, roots))
                    bias[head, token, cell] -= g**2 * (centres[token, axis] + d - place) ** 2 / 4
    return bias


def decoder_layer(
    state: np.ndarray, memory: np.ndarray, centres: np.ndarray, weights: Weights, name: str, side: int
) -> np.ndarray:
    count = len(state)
    query, later = weights["places.weight"][:count], np.triu(np.full((count, count), -np.inf), 1)
    bias = prior_of(state, centres, weights, name, side)  # before the self-attention
    normed = layer_norm(state, weights, f"{name}.norms.0")
    state = state + attention(normed + query, normed + query, normed, weights, f"{name}.self_attention", later)
    placed, keys = layer_norm(state, weights, f"{name}.norms.1") + query, memory + sine(side, memory.shape[1])
    state = state + attention(placed, keys, memory, weights, f"{name}.cross_attention", bias)
    return state + feed_forward(layer_norm(state, weights, f"{name}.norms.2"), weights, f"{name}.feed")


def encoder_layer(memory: np.ndarray, weights: Weights, name: str, side: int) -> np.ndarray:
    normed = layer_norm(memory, weights, f"{name}.norms.0")
    placed, none = normed + sine(side, memory.shape[1]), np.zeros((len(memory), len(memory)))
    memory = memory + attention(placed, placed, normed, weights, f"{name}.attention", none)
    return memory + feed_forward(layer_norm(memory, weights, f"{name}.norms.1"), weights, f"{name}.feed")


def assert_same(own: Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(own.detach().numpy(), expected, rtol=1e-4, atol=2e-5)


# The parts


def test_the_published_network_has_its_parameters() -> None:
    """2,782,242 between projection and head, as in the reference code with 256 channels."""
    made = Transformer(256, 512)
    assert sum(parameter.numel() for parameter in made.parameters()) == 2_782_242
    whole = SeqFakeFormer("paper", "resnet34")
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in whole.named_children()}
    assert parts["transformer"] == 2_782_242
    assert parts["projection"] == 512 * 256 + 256
    assert parts["head"] == 256 * 512 + 512 + 512 * 512 + 512 + 512 * 8 + 8


def test_the_embeddings_normalisation_sees_the_place(transformer: Transformer) -> None:
    weights = weights_of(transformer)
    own = transformer.embed(TOKENS, torch.arange(4))
    for row, tokens in zip(own, TOKENS.tolist(), strict=True):
        assert_same(row, embedded(tokens, weights))


@pytest.mark.parametrize("side", [3, 8])
def test_the_memory_its_positions_and_its_cells(transformer: Transformer, side: int) -> None:
    features, weights = drawn(2, WIDTH, side, side), weights_of(transformer)
    memory, positions, cells = transformer.remember(features)
    assert_same(positions, sine(side, WIDTH))
    assert cells.tolist() == [[column, row] for row in range(side) for column in range(side)]
    for own, face in zip(memory, features.double().numpy(), strict=True):
        expected = face.reshape(WIDTH, -1).T
        for number in range(2):
            expected = encoder_layer(expected, weights, f"encoder.{number}", side)
        assert_same(own, layer_norm(expected, weights, "memory_norm"))


@pytest.mark.parametrize("side", [4, 8, 16])
def test_the_prior_is_measured_in_cells_of_the_map_that_is_there(transformer: Transformer, side: int) -> None:
    weights, state = weights_of(transformer), drawn(2, 4, WIDTH, seed=1)
    cells = transformer.remember(torch.zeros(1, WIDTH, side, side))[2]
    layer: Any = transformer.layers[1]
    centres = side * drawn(2, 4, 2, seed=2).sigmoid()
    own = layer.prior(layer.spatial_norm(state + transformer.places.weight[:4]), centres, cells)
    assert own.shape == (2, HEADS, 4, side * side)
    for face in range(2):
        place, tokens = centres[face].double().numpy(), state[face].double().numpy()
        assert_same(own[face], prior_of(tokens, place, weights, "layers.1", side))


def test_at_first_the_prior_is_a_quarter_of_the_squared_distance() -> None:
    """Scales begin at one, whatever the state; cells are whole numbers, so that cell 0 lies at 0."""
    torch.manual_seed(0)
    layer = Transformer(WIDTH, HIDDEN).layers[0]
    with torch.no_grad():
        layer.offset.weight.zero_()
        layer.offset.bias.zero_()
        bias = layer.prior(drawn(1, 1, WIDTH), torch.tensor([[[3.0, 1.0]]]), torch.tensor([[0.0, 0], [3, 1], [5, 1]]))
    assert torch.equal(bias[0, :, 0], -torch.tensor([[(9 + 1) / 4, 0, 4 / 4]]).expand(HEADS, -1))


def test_one_decoder_layer(transformer: Transformer) -> None:
    weights, side = weights_of(transformer), 3
    state, memory = drawn(1, 4, WIDTH, seed=3), drawn(1, side * side, WIDTH, seed=4)
    centres = side * drawn(1, 4, 2, seed=5).sigmoid()
    _, positions, cells = transformer.remember(torch.zeros(1, WIDTH, side, side))
    layer, queries = transformer.layers[1], transformer.places.weight[:4]
    own = layer(state, queries, causal(4, state.device), memory, positions, cells, centres)
    arrays = [one[0].double().numpy() for one in (state, memory, centres)]
    assert_same(own[0], decoder_layer(*arrays, weights, "layers.1", side))


def test_all_of_it_from_a_map_to_states(transformer: Transformer) -> None:
    weights, side, tokens = weights_of(transformer), 4, [0, 4, 2]
    features = drawn(1, WIDTH, side, side, seed=6)
    remembered = transformer.remember(features)
    own = transformer(torch.tensor([tokens]), torch.arange(3), causal(3, features.device), *remembered)
    memory, state = remembered[0][0].detach().double().numpy(), embedded(tokens, weights)
    centres = centres_of(state, weights, side)
    for number in range(2):
        state = decoder_layer(state, memory, centres, weights, f"layers.{number}", side)
    assert_same(own[0], layer_norm(state, weights, "last"))


def test_what_comes_after_the_end_changes_nothing_that_counts(transformer: Transformer) -> None:
    """So that padding needs no mask."""
    remembered, depths = transformer.remember(drawn(1, WIDTH, 3, 3)), torch.arange(4)
    mask = causal(4, depths.device)
    one, other = (
        transformer(torch.tensor([[0, 2, *rest]]), depths, mask, *remembered) for rest in ((PADDING, PADDING), (1, 4))
    )
    assert torch.equal(one[:, :2], other[:, :2]) and not torch.equal(one[:, 2:], other[:, 2:])


def test_first_weights_are_xaviers() -> None:
    torch.manual_seed(0)
    made = Transformer(64, 128)
    for name, parameter in made.named_parameters():
        if parameter.ndim < 2 or name.endswith("scale.weight"):
            continue
        out, into = parameter.shape
        # Queries, keys and values are published as one matrix, of three times as many rows.
        rows = 3 * out if name.endswith(("query.weight", "key.weight", "value.weight")) else out
        bound = math.sqrt(6 / (rows + into))
        assert 0.9 * bound < float(parameter.detach().abs().max()) <= bound, name
    for layer in made.layers:
        assert isinstance(layer, SpatialLayer) and not layer.scale.weight.any() and (layer.scale.bias == 1).all()
        assert not layer.self_attention.query.bias.any() and not layer.cross_attention.out.bias.any()


# Its training


class Faces:
    """Batches of four faces."""

    unit, count = "faces", 4

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Any:
        while True:
            yield {
                "faces": torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(device),
                "sequences": torch.tensor([[1, 0, 0, 0, 0], [2, 1, 0, 0, 0], [0] * 5, [5, 4, 3, 2, 1]], device=device),
            }

    def validation_batches(self, device: torch.device) -> Any:
        return iter(())


def test_the_trunk_learns_at_a_tenth_of_the_rate_and_gradients_are_held_short() -> None:
    """AdamW's first step moves every weight by the rate; what is left of a gradient is seen in its memory."""
    torch.manual_seed(0)
    network, config = SeqFakeFormer(), TrainConfig(steps=4, learning_rate=1e-3, weight_decay=0.0, average=0.0)
    trainer = Trainer(make_fabric(half_on_cpu=False), network, Faces(), config)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimiser = trainer._optimiser
    full, trunk = (max(group["lr"] for group in optimiser.param_groups), min(g["lr"] for g in optimiser.param_groups))
    trainer.advance(1)
    moved = {name: float((value.detach() - before[name]).abs().max()) for name, value in network.named_parameters()}
    assert full == pytest.approx(10 * trunk)
    assert max(step for name, step in moved.items() if name.startswith("trunk.")) == pytest.approx(trunk, rel=0.02)
    assert max(step for name, step in moved.items() if name.startswith("head.")) == pytest.approx(full, rel=0.02)
    squares = sum(float(state["exp_avg_sq"].sum()) for state in optimiser.state.values()) / 0.001
    assert math.sqrt(squares) == pytest.approx(0.1, rel=0.02)
