"""The decoder that reads a sequence from feature maps, and the exact score of every sequence. Lab only: torch.

After SeqFakeFormer (Shao et al., ECCV 2022; rshaojimmy/SeqDeepFake): a causal transformer decoder whose cross-attention
is drawn to a place that each token chooses. `SequenceDecoder` is MMNet's, over maps of several sizes: places are shares
of the face, measured in cells of a 16 x 16 grid whatever the maps' own; the published one, over one map, stands with
SeqFakeFormer. Tokens are 0 start, 1..5 the edits, 6 end, 7 padding; 0 and 7 are never
predicted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.edits.labels import LONGEST, all_sequences

START, END, PADDING, TOKENS = 0, 6, 7, 8
_REFERENCE = 16  # cells a side of the grid in which widths and offsets of the spatial prior are measured


def tokens_of(sequences: Tensor) -> tuple[Tensor, Tensor]:
    """Input and target tokens of sequences (B, 5), each (B, 6); the end token is no input but padding there."""
    lengths = (sequences > 0).sum(1)
    places = torch.arange(LONGEST + 1, device=sequences.device)
    padded = functional.pad(sequences, (0, 1))
    target = torch.where(places < lengths[:, None], padded, PADDING)
    target = torch.where(places == lengths[:, None], END, target)
    shifted = torch.where(places <= lengths[:, None], functional.pad(sequences, (1, 0)), PADDING)
    return torch.where(places == 0, START, shifted), target


def reversed_sequences(sequences: Tensor) -> Tensor:
    """The edits in reverse order, (B, 5), zeros still at the end."""
    lengths = (sequences > 0).sum(1, keepdim=True)
    places = torch.arange(LONGEST, device=sequences.device)
    turned = (lengths - 1 - places).clamp(min=0)
    return torch.where(places < lengths, sequences.gather(1, turned), 0)


@dataclass(frozen=True)
class PrefixTree:
    """All beginnings of sequences, of zero to four edits, as one tree for a causal decoder.

    `tokens` (P,) is the last token of each beginning, `depths` (P,) their lengths, `sees` (P, P) whether a beginning
    has another one as its own beginning. `path` (326, 5) gives for every sequence the beginnings met on its way, and
    `said` (326, 5) the token that must follow each; beyond the end both repeat with weight zero in `counts` (326, 5).
    After five edits the end is certain. A decoder run over the P = 206 beginnings scores all 326 sequences exactly.
    """

    tokens: Tensor
    depths: Tensor
    sees: Tensor
    path: Tensor
    said: Tensor
    counts: Tensor


def _grown() -> PrefixTree:
    table = [tuple(number for number in row if number) for row in all_sequences().tolist()]
    beginnings = [row for row in table if len(row) < LONGEST]
    place = {row: number for number, row in enumerate(beginnings)}
    sees = torch.zeros(len(beginnings), len(beginnings), dtype=torch.bool)
    for row, number in place.items():
        sees[number, [place[row[:length]] for length in range(len(row) + 1)]] = True
    path = torch.zeros(len(table), LONGEST, dtype=torch.long)
    said = torch.full((len(table), LONGEST), END)
    counts = torch.zeros(len(table), LONGEST)
    for number, row in enumerate(table):
        steps = [*row, END][:LONGEST]
        for step, token in enumerate(steps):
            path[number, step], said[number, step], counts[number, step] = place[row[:step]], token, 1
    tokens = torch.tensor([row[-1] if row else START for row in beginnings])
    return PrefixTree(tokens, torch.tensor([len(row) for row in beginnings]), sees, path, said, counts)


def _reversal() -> Tensor:
    places = {tuple(row): place for place, row in enumerate(SEQUENCES.tolist())}
    return torch.tensor([places[tuple(row)] for row in reversed_sequences(SEQUENCES).tolist()])


# Made once, at import: the exporter takes them for constants.
SEQUENCES = torch.from_numpy(all_sequences().astype(np.int64))
"""`labels.all_sequences()`, (326, 5) long."""
TREE = _grown()
"""The tree of all sequences."""
REVERSAL = _reversal()
"""(326,) for every sequence the place of its reverse."""


def sequence_scores(logits: Tensor) -> Tensor:
    """Log-probability of every sequence from a decoder's logits (B, P, 8) over the tree, (B, 326).

    Start and padding are ruled out; a repeated edit keeps the probability it is given, which no sequence then has.
    """
    allowed = torch.zeros(TOKENS)
    allowed[[START, PADDING]] = -torch.inf
    steps = (logits.float() + allowed.to(logits.device)).log_softmax(-1)
    chosen = steps.flatten(1)[:, (TREE.path * TOKENS + TREE.said).flatten().to(logits.device)]
    return (chosen.unflatten(1, TREE.path.shape) * TREE.counts.to(logits.device)).sum(-1)


def sine_positions(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Two-dimensional sine positions, (height * width, channels): half of the channels for y, half for x.

    After Carion et al. 2020 (DETR): coordinates normalised to 2 pi, temperature 10,000. channels: a multiple of four.
    """
    quarter = channels // 4
    rates = 10_000 ** (torch.arange(quarter, device=device) / quarter)

    def waves(count: int) -> Tensor:
        angle = (torch.arange(1, count + 1, device=device) / count * 2 * torch.pi)[:, None] / rates
        return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)

    rows, columns = waves(height), waves(width)
    return torch.cat([rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], -1).flatten(0, 1)


def cell_centres(sides: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """Centres (N, 2) as (x, y) in [0, 1] of all cells of some grids (height, width), one grid after the other."""
    grids = []
    for height, width in sides:
        y, x = torch.meshgrid(
            (torch.arange(height, device=device) + 0.5) / height,
            (torch.arange(width, device=device) + 0.5) / width,
            indexing="ij",
        )
        grids.append(torch.stack([x, y], -1).flatten(0, 1))
    return torch.cat(grids)


class Attention(nn.Module):
    """Multi-head attention whose logits can be given a bias."""

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attend: query (B, T, C), key and value (B, N, C), bias broadcastable to (B, heads, T, N)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        rate = self.dropout if self.training else 0.0
        attended = functional.scaled_dot_product_attention(q, k, v, None if bias is None else bias.to(q.dtype), rate)
        # A copy in any case: the exporter's attention gives other strides than the one that it traced.
        return self.out(attended.transpose(1, 2).clone(memory_format=torch.contiguous_format).flatten(2))


def feed_forward(channels: int, hidden: int, dropout: float) -> nn.Sequential:
    """A transformer layer's two linear layers, with ReLU between them; (..., channels) to the same."""
    return nn.Sequential(
        nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, channels), nn.Dropout(dropout)
    )


class EncoderLayer(nn.Module):
    """A pre-norm transformer layer; positions are added to queries and keys.

    `blind` is the dropout of single attention weights, which over many tokens costs more than the attention itself.
    """

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float, blind: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.attention = Attention(channels, heads, blind)
        self.feed = feed_forward(channels, hidden, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, memory: Tensor, positions: Tensor) -> Tensor:
        """(B, N, C) and (N, C) -> (B, N, C)."""
        normed = self.norms[0](memory)
        placed = normed + positions
        memory = memory + self.dropout(self.attention(placed, placed, normed))
        return memory + self.feed(self.norms[1](memory))


class DecoderLayer(nn.Module):
    """A pre-norm decoder layer with spatially enhanced cross-attention.

    A token at a state o chooses a centre c (once, in the first layer), and for every head an offset d and a scale g for
    each axis; the attention's logits are biased by -sum g (c + d - p)^2 / 4, p being the places of the memory's cells.
    """

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.self_attention = Attention(channels, heads, dropout)
        self.cross_attention = Attention(channels, heads, dropout)
        self.offset, self.scale = nn.Linear(channels, 2 * heads), nn.Linear(channels, 2 * heads)
        nn.init.zeros_(self.scale.weight)
        nn.init.ones_(self.scale.bias)
        self.feed = feed_forward(channels, hidden, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, state: Tensor, queries: Tensor, memory: Tensor, positions: Tensor, mask: Tensor | None, prior: "Prior"
    ) -> Tensor:
        """Update states (B, T, C); queries (T, C) are the tokens' positions, mask (T, T) adds to the logits."""
        normed = self.norms[0](state)
        placed = normed + queries
        state = state + self.dropout(self.self_attention(placed, placed, normed, mask))
        placed = self.norms[1](state) + queries
        bias = prior.bias(self.offset(placed), self.scale(placed))
        state = state + self.dropout(self.cross_attention(placed, memory + positions, memory, bias))
        return state + self.feed(self.norms[2](state))


@dataclass(frozen=True)
class Prior:
    """Where tokens look: `centres` (B, T, 2) in [0, 1] and the memory's `cells` (N, 2).

    The memory's last `placeless` entries lie nowhere and get no bias.
    """

    centres: Tensor
    cells: Tensor
    placeless: int = 0

    def bias(self, offset: Tensor, scale: Tensor) -> Tensor:
        """From offsets and roots of scales (B, T, 2 heads), in cells of a 16 x 16 grid, to (B, heads, T, memory)."""
        place = self.centres[:, :, None] * _REFERENCE + offset.unflatten(-1, (-1, 2))
        weight = scale.unflatten(-1, (-1, 2)).square()
        # Axis by axis, in plain products: a matrix product would lose digits to mixed precision.
        bias = torch.zeros((), device=offset.device)
        for axis in (0, 1):
            away = place[..., axis, None] - self.cells[:, axis] * _REFERENCE
            bias = bias - weight[..., axis, None] * away.square() / 4
        bias = bias.transpose(1, 2)
        return functional.pad(bias, (0, self.placeless)) if self.placeless else bias


class SequenceDecoder(nn.Module):
    """Token states from a memory: embeddings, layers, and the prior's centre."""

    def __init__(self, channels: int, heads: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(TOKENS, channels)
        self.places = nn.Embedding(LONGEST + 1, channels)
        self.norm, self.entry = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.centre = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, 2)
        )
        self.layers = nn.ModuleList(DecoderLayer(channels, heads, hidden, dropout) for _ in range(layers))
        self.last = nn.LayerNorm(channels)

    def embed(self, tokens: Tensor) -> Tensor:
        """(..., T) -> (..., T, C)."""
        return self.dropout(self.norm(self.tokens(tokens)))

    def forward(
        self, state: Tensor, queries: Tensor, memory: Tensor, positions: Tensor, cells: Tensor, mask: Tensor | None
    ) -> list[Tensor]:
        """The normalised states after each layer, (B, T, C) each; arguments as of `DecoderLayer`."""
        centres = self.centre(self.entry(state + queries)).float().sigmoid()
        prior = Prior(centres, cells, memory.shape[1] - len(cells))
        states = []
        for layer in self.layers:
            state = layer(state, queries, memory, positions, mask, prior)
            states.append(self.last(state))
        return states


def causal(length: int, device: torch.device) -> Tensor:
    """A mask (T, T) that adds minus infinity to what comes later."""
    return torch.full((length, length), -torch.inf, device=device).triu(1)


def read_greedily(following: Callable[[Tensor], Tensor], count: int, device: torch.device) -> Tensor:
    """Sequences read step by step, (count, 5) long: the likeliest token each time, up to five edits or the end.

    Args:
        following: from the tokens so far (count, t) to the logits (count, 8) of the next.
        count: how many faces.
        device: of the tokens.
    """
    tokens = torch.full((count, 1), START, device=device)
    ended = torch.zeros(count, dtype=torch.bool, device=device)
    for _ in range(LONGEST):
        logits = following(tokens).clone()
        logits[:, [START, PADDING]] = -torch.inf
        best = logits.argmax(1)
        ended = ended | (best == END)
        tokens = torch.cat([tokens, torch.where(ended, PADDING, best)[:, None]], 1)
    return torch.where(tokens[:, 1:] == PADDING, 0, tokens[:, 1:])
