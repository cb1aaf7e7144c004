"""MMNet (Xia et al. 2023, arXiv 2307.02733): which parts were edited, in which order, and the face before.

The article's abstract fixes the idea: collaboration of several spatial scales and several readings of the sequence,
supervision of detection and of recovery, and a recovery that knows nothing of the generator. No code of it is public;
the layers here are this project's design to that abstract.

- Three scales: a trunk's maps at strides 8, 16 and 32 exchange in a joint encoder; every token sees all of them.
- Three readings of one memory: forward, backward (from the last edit), and slots that read all steps at once. All 326
  sequences are scored exactly: log p_forward + log p_backward + 0.5 log p_slots.
- Supervision beyond the tokens: which parts, how many, where, the recovered face, and the first layers' tokens.
- Recovery: a U-shaped decoder conditioned on the soft sequence by FiLM (Perez et al. 2018) gives a mask and a residual.

Lab only: torch, timm.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional.image import structural_similarity_index_measure

from unmask.forgery.detector import Batch
from unmask.sequence.decoding import (
    PADDING,
    TOKENS,
    EncoderLayer,
    SequenceDecoder,
    causal,
    cell_centres,
    prefix_tree,
    read_greedily,
    reversal,
    reversed_sequences,
    sequence_scores,
    sine_positions,
    tokens_of,
)
from unmask.sequence.labels import LONGEST, all_sequences
from unmask.sequence.reader import SequenceOutput, SequenceReader
from unmask.sequence.seqfakeformer import DROPOUT, HEADS, LAYERS, WIDTHS, Width
from unmask.sequence.trunks import Trunk, make_trunk, pooled

Scales = Literal["three", "coarse"]
Readers = Literal["joint", "forward", "backward"]
_FORWARD, _BACKWARD, _SLOTS = 0, 1, 2
_SLOT_SHARE = 0.5


@dataclass(frozen=True)
class _Seen:
    """What the readers and the recovery start from: the trunk's maps and the joint memory with its geometry."""

    maps: list[Tensor]
    memory: Tensor
    positions: Tensor
    cells: Tensor


class MMNet(SequenceReader):
    """The reader.

    Args:
        width: "cpu" or "paper", of the transformer.
        trunk: the convolutional part.
        weights: of the trunk at the start, as of SeqFakeFormer.
        scales: "three" (strides 8, 16, 32) or "coarse" (stride 32 alone).
        readers: "joint", or one of "forward" and "backward" alone.
        presence: whether which parts and how many edits are taught as such.
        masks: whether the edits' places are taught.
        recovery: whether the face before is recovered.
    """

    def __init__(
        self,
        width: Width = "cpu",
        trunk: Trunk = "residual",
        weights: str = "none",
        scales: Scales = "three",
        readers: Readers = "joint",
        presence: bool = True,
        masks: bool = True,
        recovery: bool = True,
    ) -> None:
        super().__init__()
        channels, hidden = WIDTHS[width]
        self.size = 128 if width == "cpu" else 256
        self.readers, self.presence, self.masks, self.recovery = readers, presence, masks, recovery
        self.trunk, widths = make_trunk(trunk, weights)
        self.levels = {"three": (2, 3, 4), "coarse": (4,)}[scales]
        self.projections = nn.ModuleList(nn.Conv2d(widths[level], channels, 1) for level in self.levels)
        self.level_embedding = nn.Embedding(len(self.levels), channels)
        self.encoder = nn.ModuleList(EncoderLayer(channels, HEADS, hidden, DROPOUT) for _ in range(LAYERS))
        self.memory_norm = nn.LayerNorm(channels)
        self.decoder = SequenceDecoder(channels, HEADS, hidden, LAYERS, DROPOUT)
        self.direction = nn.Embedding(3, channels)
        self.head = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, TOKENS))
        if readers == "joint":
            self.slots = nn.Embedding(LONGEST, channels)
            self.slot_head = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, LONGEST + 1))
        if presence:
            self.summary = nn.Sequential(nn.Linear(2 * channels, hidden), nn.ReLU())
            self.presence_head, self.length_head = nn.Linear(hidden, LONGEST), nn.Linear(hidden, LONGEST + 1)
        if masks or recovery:
            self.restorer = _Restorer(widths, channels)

    def _see(self, faces: Tensor) -> _Seen:
        maps = self.trunk(faces)
        tokens, positions, sides = [], [], []
        for number, (level, projection) in enumerate(zip(self.levels, self.projections, strict=True)):
            features = projection(maps[level])
            side = features.shape[2]
            tokens.append(features.flatten(2).transpose(1, 2))
            here = sine_positions(side, side, features.shape[1], faces.device)
            positions.append(here + self.level_embedding.weight[number])
            sides.append((side, side))
        memory, places = torch.cat(tokens, 1), torch.cat(positions)
        for layer in self.encoder:
            memory = layer(memory, places)
        return _Seen(maps, self.memory_norm(memory), places, cell_centres(sides, faces.device))

    def _states(self, seen: _Seen, tokens: Tensor, depths: Tensor, mask: Tensor, direction: int) -> list[Tensor]:
        state = self.decoder.embed(tokens) + self.direction.weight[direction]
        return self.decoder(state, self.decoder.places(depths), seen.memory, seen.positions, seen.cells, mask)

    def _slot_states(self, seen: _Seen) -> list[Tensor]:
        state = (self.slots.weight + self.direction.weight[_SLOTS]).expand(len(seen.memory), -1, -1)
        places = self.decoder.places.weight[:LONGEST]
        return self.decoder(state, places, seen.memory, seen.positions, seen.cells, None)

    def _score(self, seen: _Seen) -> Tensor:
        """The joint score of every sequence, (B, 326)."""
        tree, device = prefix_tree(), seen.memory.device
        tokens = tree.tokens.to(device).expand(len(seen.memory), -1)
        mask = torch.zeros(tree.sees.shape).masked_fill(~tree.sees, -torch.inf).to(device)

        def directed(direction: int) -> Tensor:
            states = self._states(seen, tokens, tree.depths.to(device), mask, direction)[-1]
            return sequence_scores(self.head(states))

        if self.readers == "forward":
            return directed(_FORWARD)
        backward = directed(_BACKWARD)[:, reversal().to(device)]
        if self.readers == "backward":
            return backward
        slots = self.slot_head(self._slot_states(seen)[-1]).float().log_softmax(-1)
        table = torch.from_numpy(all_sequences().astype("int64")).to(device)
        places = torch.arange(LONGEST, device=device) * (LONGEST + 1) + table
        by_slot = slots.flatten(1)[:, places.flatten()].unflatten(1, table.shape).sum(-1)
        return directed(_FORWARD) + backward + _SLOT_SHARE * by_slot

    def forward(self, faces: Tensor) -> SequenceOutput:
        """Read faces, (B, 3, S, S) normalised."""
        seen = self._see(faces)
        scores = self._score(seen)
        if not (self.masks or self.recovery):
            return SequenceOutput(scores)
        shown = self._shown(faces)
        areas, _, recovered = self.restorer(seen.maps, shown, scores.softmax(-1))
        return SequenceOutput(scores, areas if self.masks else None, recovered if self.recovery else None)

    def greedy(self, faces: Tensor) -> Tensor:
        """Read faces step by step, (B, 5) long: forward, or from the last edit if that is the only reader."""
        seen = self._see(faces)
        direction = _BACKWARD if self.readers == "backward" else _FORWARD

        def following(tokens: Tensor) -> Tensor:
            length = tokens.shape[1]
            depths, mask = torch.arange(length, device=faces.device), causal(length, faces.device)
            return self.head(self._states(seen, tokens, depths, mask, direction)[-1][:, -1])

        found = read_greedily(following, len(faces), faces.device)
        return reversed_sequences(found) if direction == _BACKWARD else found

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, with their weights."""
        seen = self._see(batch["faces"])
        sequences = batch["sequences"]
        losses = {"auxiliary": torch.zeros((), device=sequences.device)}
        depths = torch.arange(LONGEST + 1, device=sequences.device)
        mask = causal(LONGEST + 1, sequences.device)
        for name, direction in (("forward", _FORWARD), ("backward", _BACKWARD)):
            if self.readers in ("joint", name):
                tokens, target = tokens_of(sequences if direction == _FORWARD else reversed_sequences(sequences))
                first, last = (
                    functional.cross_entropy(self.head(state).float().transpose(1, 2), target, ignore_index=PADDING)
                    for state in self._states(seen, tokens, depths, mask, direction)
                )
                losses[name] = last
                losses["auxiliary"] = losses["auxiliary"] + 0.5 * first
        if self.readers == "joint":
            first, last = (
                functional.cross_entropy(self.slot_head(state).float().transpose(1, 2), sequences)
                for state in self._slot_states(seen)
            )
            losses["slots"] = 0.5 * last
            losses["auxiliary"] = losses["auxiliary"] + 0.5 * first
        if self.presence:
            summary = self.summary(pooled(seen.memory.transpose(1, 2)[..., None]))
            present = functional.one_hot(sequences, LONGEST + 1).amax(1)[:, 1:].float()
            losses["presence"] = 0.5 * functional.binary_cross_entropy_with_logits(
                self.presence_head(summary).float(), present
            )
            losses["length"] = 0.25 * functional.cross_entropy(
                self.length_head(summary).float(), (sequences > 0).sum(1)
            )
        if self.masks or self.recovery:
            with torch.no_grad():
                posterior = self._score(seen).softmax(-1)
            shown = self._shown(batch["faces"])
            areas, union, recovered = self.restorer(seen.maps, shown, posterior)
            if self.masks:
                losses["mask"] = _mask_loss(areas, union, batch)
            if self.recovery:
                losses["recovery"] = 2 * _recovery_loss(recovered, shown, batch)
        return losses

    def _shown(self, faces: Tensor) -> Tensor:
        """The faces in [0, 1] again."""
        mean, std = (torch.tensor(values, device=faces.device).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return faces * std + mean


def _mask_loss(areas: Tensor, union: Tensor, batch: Batch) -> Tensor:
    """Binary cross-entropy of each edit's area, and of the union with a Dice term; unknown masks are left out.

    Args:
        areas: (B, 5, h, w) logits.
        union: (B, 1, S, S) in [0, 1].
        batch: `masks` and `unions` are read.
    """
    known = (batch["masks"].flatten(1).amin(1) >= 0).float()
    own = functional.adaptive_avg_pool2d(batch["masks"].clamp(min=0), areas.shape[-1])
    each = functional.binary_cross_entropy_with_logits(areas.float(), own, reduction="none").mean((1, 2, 3))
    target = batch["unions"].clamp(min=0)
    here = functional.adaptive_avg_pool2d(union.float(), target.shape[-1]).clamp(1e-4, 1 - 1e-4)
    whole = functional.binary_cross_entropy(here, target, reduction="none").mean((1, 2, 3))
    overlap = (here * target).sum((1, 2, 3))
    dice = 1 - (2 * overlap + 1) / (here.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
    together = (batch["unions"].flatten(1).amin(1) >= 0).float()
    return (each * known).sum() / known.sum().clamp(min=1) + (
        ((whole + dice) * together).sum() / together.sum().clamp(min=1)
    )


def _recovery_loss(recovered: Tensor, shown: Tensor, batch: Batch) -> Tensor:
    """Weighted L1 and structural dissimilarity, over the faces whose original is known.

    The edited pixels count five times, where they are known.
    """
    known = batch["paired"] > 0
    if not bool(known.any()):
        return recovered.sum() * 0
    edited = (batch["sequences"][:, 0] > 0)[:, None, None, None]
    # What was never edited is its own original, whatever it went through.
    target = torch.where(edited, batch["originals"], shown)[known]
    area = functional.interpolate(batch["unions"].clamp(min=0), size=shown.shape[2:])[known]
    found = recovered.float()[known]
    absolute = ((1 + 4 * area) * (found - target).abs()).mean()
    similarity = structural_similarity_index_measure(found, target, data_range=1.0)
    assert isinstance(similarity, Tensor)  # a tuple only if the whole map is asked for
    return absolute + 1 - similarity


class _Up(nn.Module):
    """Twice the size, joined with a skip, modulated by the condition."""

    def __init__(self, into: int, skip: int, out: int, condition: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(into + skip, out, 3, padding=1)
        self.norm = nn.GroupNorm(8, out, affine=False)
        self.film = nn.Linear(condition, 2 * out)
        self.refine = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor, condition: Tensor) -> Tensor:
        x = functional.interpolate(x, size=skip.shape[2:], mode="nearest")
        x = self.norm(self.mix(torch.cat([x, skip], 1)))
        gain, shift = self.film(condition)[..., None, None].chunk(2, 1)
        x = functional.silu(x * (1 + gain) + shift)
        return x + functional.silu(self.refine(x))


class _Restorer(nn.Module):
    """From the trunk's maps to the areas of the edits, their union and the face before."""

    def __init__(self, widths: list[int], channels: int) -> None:
        super().__init__()
        # A row for each (step, edit or none): the soft sequence's embedding is linear in its marginals.
        self.steps = nn.Linear(LONGEST * (LONGEST + 1), channels, bias=False)
        half, quarter, eighth = channels // 2, channels // 4, channels // 8
        self.deep = nn.Conv2d(widths[4] + widths[3], channels, 3, padding=1)
        self.up8 = _Up(channels, widths[2], half, channels)
        self.up4 = _Up(half, widths[1], half, channels)
        self.areas = nn.Conv2d(half, LONGEST, 1)
        self.up2 = _Up(half, widths[0], quarter, channels)
        self.up1 = _Up(quarter + LONGEST, 3, eighth, channels)
        self.out = nn.Conv2d(eighth, 4, 3, padding=1)
        nn.init.normal_(self.out.weight, std=1e-2)

    def forward(self, maps: list[Tensor], shown: Tensor, posterior: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From maps at STRIDES, faces (B, 3, S, S) in [0, 1] and posteriors (B, 326).

        Returns:
            areas: (B, 5, S/4, S/4) logits.
            union: (B, 1, S, S) in [0, 1].
            recovered: (B, 3, S, S) in [0, 1].
        """
        condition = self.steps(posterior @ _marginals().to(posterior.device))
        coarse = functional.interpolate(maps[4], size=maps[3].shape[2:], mode="nearest")
        x = functional.silu(self.deep(torch.cat([coarse, maps[3]], 1)))
        x = self.up4(self.up8(x, maps[2], condition), maps[1], condition)
        areas = self.areas(x)
        x = self.up2(x, maps[0], condition)
        hint = functional.interpolate(areas.sigmoid(), size=x.shape[2:], mode="nearest")
        x = self.up1(torch.cat([x, hint], 1), shown * 2 - 1, condition)
        out = self.out(x)
        union = out[:, :1].sigmoid()
        return areas, union, (shown + union * out[:, 1:].tanh()).clamp(0, 1)


@cache
def _marginals() -> Tensor:
    """(326, 30): for every sequence which of the six numbers stands at each step."""
    table = torch.from_numpy(all_sequences().astype("int64"))
    return functional.one_hot(table, LONGEST + 1).flatten(1).float()
