"""SeqFakeFormer (Shao, Wu, Liu, ECCV 2022; layers after rshaojimmy/SeqDeepFake): the baseline.

A trunk's map, two encoder layers, two causal decoder layers with spatially enhanced cross-attention, token
cross-entropy. At `width` "paper" it is the published network (ResNet-50 dilated at stride 16, or ResNet-34 at stride
32; 256 channels); at "cpu" the same on a small trunk with 128 channels. Two things differ from the published code, both
for the better: start and padding cannot be predicted, and the end always ends. Lab only: torch, timm.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.edits.decoding import (
    PADDING,
    TOKENS,
    TREE,
    EncoderLayer,
    SequenceDecoder,
    causal,
    cell_centres,
    read_greedily,
    sequence_scores,
    sine_positions,
    tokens_of,
)
from unmask.edits.model import EditSequenceModel, EditSequenceOutput
from unmask.edits.trunks import Trunk, make_trunk
from unmask.networks.contract import Batch

Width = Literal["cpu", "paper"]
WIDTHS = {"cpu": (128, 256), "paper": (256, 512)}
"""Channels and feed-forward channels."""
HEADS, LAYERS, DROPOUT = 4, 2, 0.1


class SeqFakeFormer(EditSequenceModel):
    """The model.

    Args:
        width: "cpu" or "paper", of the transformer.
        trunk: the convolutional part. The ResNet-34 is read at stride 32, the others at stride 16, for which the
            ResNet-50's last stage is dilated.
        weights: of the trunk at the start: "none", "imagenet" (EfficientNet-Lite0 alone), or a local file of timm's
            network; stem and first stage of loaded weights stay as they are.
    """

    def __init__(self, width: Width = "cpu", trunk: Trunk = "residual", weights: str = "none") -> None:
        super().__init__()
        channels, hidden = WIDTHS[width]
        self.size = 128 if width == "cpu" else 256
        self.level = {"resnet34": 4, "resnet50": 4}.get(trunk, 3)
        self.trunk, widths = make_trunk(trunk, weights, 16 if trunk == "resnet50" else 32, self.level + 1)
        self.projection = nn.Conv2d(widths[self.level], channels, 1)
        self.encoder = nn.ModuleList(EncoderLayer(channels, HEADS, hidden, DROPOUT, DROPOUT) for _ in range(LAYERS))
        self.memory_norm = nn.LayerNorm(channels)
        self.decoder = SequenceDecoder(channels, HEADS, hidden, LAYERS, DROPOUT)
        self.head = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, TOKENS)
        )

    def _remember(self, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The memory (B, N, C), its positions (N, C) and its cells' centres (N, 2)."""
        features = self.projection(self.trunk(self.normalised(faces))[self.level])
        side = features.shape[2]
        positions = sine_positions(side, side, features.shape[1], faces.device)
        memory = features.flatten(2).transpose(1, 2)
        for layer in self.encoder:
            memory = layer(memory, positions)
        return self.memory_norm(memory), positions, cell_centres([(side, side)], faces.device)

    def _read(self, remembered: tuple[Tensor, Tensor, Tensor], tokens: Tensor, depths: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, T, 8) after tokens (B, T)."""
        state = self.decoder.embed(tokens)
        return self.head(self.decoder(state, self.decoder.places(depths), *remembered, mask)[-1])

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
