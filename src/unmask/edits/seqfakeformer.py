"""SeqFakeFormer (Shao, Wu, Liu, ECCV 2022, arXiv 2207.02204; layers after rshaojimmy/SeqDeepFake): the baseline.

A trunk's map, two encoder layers, two causal decoder layers with spatially enhanced cross-attention, token
cross-entropy. At `width` "paper" it is the published network (ResNet-50 dilated at stride 16, or ResNet-34 at stride
32; 256 channels; 2,782,242 parameters between the trunk's projection and the head); at "cpu" the same on a small trunk
with 128 channels. It is trained as published, too: the trunk at a tenth of the learning rate, gradients of length 0.1
at most, faces with other brightness, contrast and saturation.

Other than in the published code

- start and padding cannot be predicted, and five edits end a sequence;
- padding is not masked among the tokens: nothing that counts comes after it;
- sequences are scored all at once beside being read step by step (`decoding.PrefixTree`), which is exact;
- weights of the trunk are taken from timm, and stem and first stage are frozen only where weights were loaded;
- batch, steps, learning rate and weight decay are the run's (published: 32 faces, 170 epochs, 1e-3, 1e-4). The rate
  follows the engine's single cycle in place of 20 epochs of warm-up and two drops to a tenth, the weights are averaged,
  and biases and normalisations do not decay;
- the last weights are kept, in place of the two best on validation.

Lab only: torch, timm.
"""

import math
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.edits.decoding import (
    PADDING,
    TOKENS,
    TREE,
    Attention,
    EncoderLayer,
    causal,
    feed_forward,
    read_greedily,
    sequence_scores,
    sine_positions,
    tokens_of,
)
from unmask.edits.labels import LONGEST
from unmask.edits.model import ColourJitter, EditSequenceModel, EditSequenceOutput
from unmask.edits.trunks import Trunk, make_trunk
from unmask.networks.contract import Batch

Width = Literal["cpu", "paper"]
WIDTHS = {"cpu": (128, 256), "paper": (256, 512)}
"""Channels and feed-forward channels."""
HEADS, LAYERS, DROPOUT = 4, 2, 0.1
_SMOOTH = 4  # what squared distances are divided by
_EMBEDDING_EPS = 1e-12


class SeqFakeFormer(EditSequenceModel):
    """The model.

    Args:
        width: "cpu" or "paper", of the transformer.
        trunk: the convolutional part. The ResNet-34 is read at stride 32, the others at stride 16, for which the
            ResNet-50's last stage is dilated.
        weights: of the trunk at the start: "none", "imagenet" (EfficientNet-Lite0 alone), or a local file of timm's
            network; stem and first stage of loaded weights stay as they are.
    """

    colour_jitter = ColourJitter(brightness=(0.5, 1.3), contrast=(0.8, 1.5), saturation=(0.2, 1.5))
    longest_gradient = 0.1
    rate_shares = MappingProxyType({"trunk.": 0.1})

    def __init__(self, width: Width = "cpu", trunk: Trunk = "residual", weights: str = "none") -> None:
        super().__init__()
        channels, hidden = WIDTHS[width]
        self.size = 128 if width == "cpu" else 256
        self.level = {"resnet34": 4, "resnet50": 4}.get(trunk, 3)
        self.trunk, widths = make_trunk(trunk, weights, 16 if trunk == "resnet50" else 32, self.level + 1)
        self.projection = nn.Conv2d(widths[self.level], channels, 1)
        self.transformer = Transformer(channels, hidden)
        self.head = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, TOKENS)
        )

    def _remember(self, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.transformer.remember(self.projection(self.trunk(self.normalised(faces))[self.level]))

    def _read(self, remembered: tuple[Tensor, Tensor, Tensor], tokens: Tensor, depths: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, T, 8) after tokens (B, T)."""
        return self.head(self.transformer(tokens, depths, mask, *remembered))

    def forward(self, faces: Tensor) -> EditSequenceOutput:
        """Predict for faces, (B, 3, S, S) in [0, 1]."""
        remembered = self._remember(faces)
        tokens = TREE.tokens.to(faces.device).expand(faces.shape[0], -1)
        mask = torch.zeros(TREE.sees.shape).masked_fill(~TREE.sees, -torch.inf).to(faces.device)
        return EditSequenceOutput(sequence_scores(self._read(remembered, tokens, TREE.depths.to(faces.device), mask)))

    def greedy(self, faces: Tensor) -> Tensor:
        """Decode step by step, (B, 5) long."""
        remembered = self._remember(faces)

        def following(tokens: Tensor) -> Tensor:
            length = tokens.shape[1]
            depths = torch.arange(length, device=faces.device)
            return self._read(remembered, tokens, depths, causal(length, faces.device))[:, -1]

        return read_greedily(following, len(faces), faces.device)

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Token cross-entropy, padding left out."""
        tokens, target = tokens_of(batch["sequences"])
        length = tokens.shape[1]
        logits = self._read(
            self._remember(batch["faces"]),
            tokens,
            torch.arange(length, device=tokens.device),
            causal(length, tokens.device),
        )
        return {"tokens": functional.cross_entropy(logits.float().transpose(1, 2), target, ignore_index=PADDING)}


class Transformer(nn.Module):
    """What stands between the trunk's projected map and the head.

    Args:
        channels: of all tokens, C.
        hidden: of the feed-forward layers.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(EncoderLayer(channels, HEADS, hidden, DROPOUT, DROPOUT) for _ in range(LAYERS))
        self.memory_norm = nn.LayerNorm(channels)
        self.tokens = nn.Embedding(TOKENS, channels)
        self.places = nn.Embedding(LONGEST + 1, channels)
        self.embedding_norm = nn.LayerNorm(channels, eps=_EMBEDDING_EPS)
        self.dropout = nn.Dropout(DROPOUT)
        self.centre = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, 2)
        )
        self.layers = nn.ModuleList(SpatialLayer(channels, hidden) for _ in range(LAYERS))
        self.last = nn.LayerNorm(channels)
        self._begin()

    def _begin(self) -> None:
        """First weights: Xavier-uniform matrices (Glorot and Bengio 2010), scales of one wherever a token looks."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, Attention):
                # The published code draws queries, keys and values as one matrix: (C, 3 C) gives a smaller range.
                for layer in (module.query, module.key, module.value):
                    nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(0.5))
                for layer in (module.query, module.key, module.value, module.out):
                    nn.init.zeros_(layer.bias)
            elif isinstance(module, SpatialLayer):
                nn.init.zeros_(module.scale.weight)
                nn.init.ones_(module.scale.bias)

    def remember(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From a map (B, C, h, w) to the memory (B, h w, C), its positions (h w, C) and its cells (h w, 2).

        Cells are whole numbers (x, y), row by row.
        """
        height, width = features.shape[2:]
        positions = sine_positions(height, width, features.shape[1], features.device)
        memory = features.flatten(2).transpose(1, 2)
        for layer in self.encoder:
            memory = layer(memory, positions)
        y, x = torch.meshgrid(
            torch.arange(height, device=features.device), torch.arange(width, device=features.device), indexing="ij"
        )
        return self.memory_norm(memory), positions, torch.stack([x, y], -1).flatten(0, 1).float()

    def embed(self, tokens: Tensor, depths: Tensor) -> Tensor:
        """Tokens (B, T) at places (T,) in the sequence: (B, T, C), of which the normalisation sees the place too."""
        return self.dropout(self.embedding_norm(self.tokens(tokens) + self.places(depths)))

    def forward(
        self, tokens: Tensor, depths: Tensor, mask: Tensor, memory: Tensor, positions: Tensor, cells: Tensor
    ) -> Tensor:
        """The states (B, T, C) of tokens (B, T) at places (T,); the mask (T, T) adds to the attention's logits."""
        state, queries = self.embed(tokens, depths), self.places(depths)
        # In cells of the map: the grid's side is one more than the last cell.
        side = cells.amax() + 1
        first = self.layers[0]
        assert isinstance(first, SpatialLayer)
        centres = self.centre(first.spatial_norm(state + queries)).float().sigmoid() * side
        for layer in self.layers:
            state = layer(state, queries, mask, memory, positions, cells, centres)
        return self.last(state)


class SpatialLayer(nn.Module):
    """A pre-norm decoder layer with spatially enhanced cross-attention.

    Of the state it begins with, normalised with its place by a norm of its own, every token takes an offset d and the
    root g of a scale, for each head and axis, in cells of the memory's map; the cross-attention's logits are biased by
    -sum g^2 (c + d - p)^2 / 4, with c the token's centre, of which the first layer decides, and p a cell.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.spatial_norm = nn.LayerNorm(channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.self_attention = Attention(channels, HEADS, DROPOUT)
        self.cross_attention = Attention(channels, HEADS, DROPOUT)
        self.offset, self.scale = nn.Linear(channels, 2 * HEADS), nn.Linear(channels, 2 * HEADS)
        self.feed = feed_forward(channels, hidden, DROPOUT)
        self.dropout = nn.Dropout(DROPOUT)

    def prior(self, spatial: Tensor, centres: Tensor, cells: Tensor) -> Tensor:
        """The bias (B, heads, T, N) for normalised states (B, T, C), centres (B, T, 2) and cells (N, 2)."""
        place = centres[:, :, None] + self.offset(spatial).unflatten(-1, (HEADS, 2))
        weight = self.scale(spatial).unflatten(-1, (HEADS, 2)).square()
        # Axis by axis, in plain products: a matrix product would lose digits to mixed precision.
        along = [weight[..., axis, None] * (place[..., axis, None] - cells[:, axis]).square() for axis in (0, 1)]
        return -(along[0] + along[1]).transpose(1, 2) / _SMOOTH

    def forward(
        self,
        state: Tensor,
        queries: Tensor,
        mask: Tensor,
        memory: Tensor,
        positions: Tensor,
        cells: Tensor,
        centres: Tensor,
    ) -> Tensor:
        """Update states (B, T, C); queries (T, C) are the tokens' places, other arguments as of `Transformer`."""
        bias = self.prior(self.spatial_norm(state + queries), centres, cells)
        normed = self.norms[0](state)
        placed = normed + queries
        state = state + self.dropout(self.self_attention(placed, placed, normed, mask))
        placed = self.norms[1](state) + queries
        state = state + self.dropout(self.cross_attention(placed, memory + positions, memory, bias))
        return state + self.feed(self.norms[2](state))
