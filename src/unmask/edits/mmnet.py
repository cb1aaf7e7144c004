"""MMNet (Xia et al. 2023, arXiv 2307.02733): which parts were edited, in which order, and the face before.

The article's abstract fixes the idea: collaboration of several spatial scales and several readings of the sequence,
supervision of detection and of recovery, and a recovery that knows nothing of the generator. No code of it is public;
the layers here are this project's design to that abstract.

- Three scales: a trunk's maps at strides 8, 16 and 32 exchange in a joint encoder; every token sees all of them.
- Five regions: a pyramid over all scales, and over how much fine detail and noise each cell holds, says where each part
  may have been edited, and what it sees there joins the memory as one token a part. Order is told by comparing parts;
  so they are laid side by side.
- Four readings of one memory: forward, backward (from the last edit), slots that read all steps at once, and regions:
  whether each part was edited, and of each two which came first. All 326 sequences are scored exactly:
  log p_forward + log p_backward + 0.5 log p_slots + log p_regions.
- Supervision beyond the tokens: which parts, how many, where, the recovered face, and the first layers' tokens.
- Recovery: a U-shaped decoder conditioned on the soft sequence by FiLM (Perez et al. 2018) gives a mask and a residual.
  The soft sequence is the posterior of all sequences, in training as in use; no gradient goes through it. The embedded
  pack was trained with the slots' marginals in its place, and uses the posterior.

Lab only: torch, timm.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from kornia.metrics import ssim
from torch import Tensor, nn
from torch.nn import functional

from unmask.edits.decoding import (
    PADDING,
    REVERSAL,
    SEQUENCES,
    TOKENS,
    TREE,
    EncoderLayer,
    SequenceDecoder,
    causal,
    cell_centres,
    read_greedily,
    reversed_sequences,
    sequence_scores,
    sine_positions,
    tokens_of,
)
from unmask.edits.labels import LONGEST
from unmask.edits.model import EditSequenceModel, EditSequenceOutput
from unmask.edits.seqfakeformer import DROPOUT, HEADS, LAYERS, WIDTHS, Width
from unmask.edits.trunks import Trunk, make_trunk
from unmask.networks.contract import Batch

Scales = Literal["three", "coarse"]
Readers = Literal["joint", "tokens", "forward", "backward", "regions"]
_FORWARD, _BACKWARD, _SLOTS = 0, 1, 2
_SLOT_SHARE = 0.5
_PYRAMID = 64
_PAIRS = torch.tensor([(one, other) for one in range(LONGEST) for other in range(LONGEST) if one != other])
"""Two different edits, numbered from 0, (20, 2)."""
_MADE = functional.one_hot(SEQUENCES, LONGEST + 1).amax(1)[:, 1:].float()
"""(326, 5): for every sequence which edits it holds."""
_ORDERED = (
    (
        (SEQUENCES[:, :, None, None] == _PAIRS[None, None, None, :, 0] + 1)
        & (SEQUENCES[:, None, :, None] == _PAIRS[None, None, None, :, 1] + 1)
        & torch.ones(LONGEST, LONGEST, dtype=torch.bool).triu(1)[None, :, :, None]
    )
    .any(dim=2)
    .any(dim=1)
    .float()
)
"""(326, 20): for every sequence which pairs it holds in that order."""
_MARGINALS = functional.one_hot(SEQUENCES, LONGEST + 1).flatten(1).float()
"""(326, 30): for every sequence which of the six numbers stands at each step."""
_AREA_SHARE = 3.0  # of the edits' areas in the loss: most cells are untouched, so that their mean is small


@dataclass(frozen=True)
class _Seen:
    """What the heads and the recovery start from: the trunk's maps, the pyramid over them at stride 4, the areas of
    the edits (logits), and the joint memory with its geometry."""

    maps: list[Tensor]
    pyramid: Tensor
    areas: Tensor
    memory: Tensor
    positions: Tensor
    cells: Tensor


class MMNet(EditSequenceModel):
    """The model.

    Args:
        width: "cpu" or "paper", of the transformer.
        trunk: the convolutional part.
        weights: of the trunk at the start, as of SeqFakeFormer.
        scales: "three" (strides 8, 16, 32) or "coarse" (stride 32 alone).
        readers: "joint", or fewer: "tokens" (all but regions), "forward", "backward" or "regions".
        presence: whether how many edits there are is taught as such and, where regions do not read, which parts.
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
        self.encoder = nn.ModuleList(EncoderLayer(channels, HEADS, hidden, DROPOUT, 0.0) for _ in range(LAYERS))
        self.memory_norm = nn.LayerNorm(channels)
        if readers != "regions":
            self.decoder = SequenceDecoder(channels, HEADS, hidden, LAYERS, DROPOUT)
            self.direction = nn.Embedding(3, channels)
            self.head = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, TOKENS))
        if readers in ("joint", "regions") or presence:
            self.presence_head = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        if readers in ("joint", "regions"):
            self.order_head = nn.Sequential(
                nn.Linear(2 * channels, hidden), nn.ReLU(), nn.Linear(hidden, 1, bias=False)
            )
        if readers in ("joint", "tokens"):
            self.slots = nn.Embedding(LONGEST, channels)
            self.slot_head = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, LONGEST + 1))
        if presence:
            self.length_head = nn.Sequential(
                nn.Linear(LONGEST * channels, hidden), nn.ReLU(), nn.Linear(hidden, LONGEST + 1)
            )
        self.pyramid = _Pyramid(widths)
        self.regions = nn.Linear(_PYRAMID, channels)
        self.region_embedding = nn.Embedding(LONGEST, channels)
        if recovery:
            self.restorer = _Restorer(widths, channels)

    def _see(self, faces: Tensor) -> _Seen:
        maps = self.trunk(self.normalised(faces))
        tokens, positions, sides = [], [], []
        for number, (level, projection) in enumerate(zip(self.levels, self.projections, strict=True)):
            features = projection(maps[level])
            side = features.shape[2]
            tokens.append(features.flatten(2).transpose(1, 2))
            here = sine_positions(side, side, features.shape[1], faces.device)
            positions.append(here + self.level_embedding.weight[number])
            sides.append((side, side))
        pyramid, areas = self.pyramid(maps, faces)
        cells = cell_centres(sides, faces.device)
        # Where each part looks most edited, even if not much: its token sees what is there.
        focus = areas.flatten(2).softmax(-1)
        tokens.append(self.regions(focus @ pyramid.flatten(2).transpose(1, 2)))
        positions.append(self.region_embedding.weight)
        memory, places = torch.cat(tokens, 1), torch.cat(positions)
        for layer in self.encoder:
            memory = layer(memory, places)
        return _Seen(maps, pyramid, areas, self.memory_norm(memory), places, cells)

    def _states(self, seen: _Seen, tokens: Tensor, depths: Tensor, mask: Tensor, direction: int) -> list[Tensor]:
        state = self.decoder.embed(tokens) + self.direction.weight[direction]
        return self.decoder(state, self.decoder.places(depths), seen.memory, seen.positions, seen.cells, mask)

    def _slot_states(self, seen: _Seen) -> list[Tensor]:
        state = (self.slots.weight + self.direction.weight[_SLOTS]).expand(seen.memory.shape[0], -1, -1)
        places = self.decoder.places.weight[:LONGEST]
        return self.decoder(state, places, seen.memory, seen.positions, seen.cells, None)

    def _region_logits(self, seen: _Seen) -> tuple[Tensor, Tensor]:
        """That each edit was made, (B, 5), and, for the pairs _PAIRS, that the first was made first, (B, 20)."""
        regions = seen.memory[:, -LONGEST:]
        first, second = (regions[:, _PAIRS[:, side].to(regions.device)] for side in (0, 1))
        there = self.presence_head(regions)[..., 0]
        # Antisymmetric: exchanged, the two give the opposite.
        ahead = self.order_head(torch.cat([first, second], -1)) - self.order_head(torch.cat([second, first], -1))
        return there.float(), ahead[..., 0].float()

    def _score_regions(self, seen: _Seen) -> Tensor:
        there, ahead = self._region_logits(seen)
        made, ordered = _MADE.to(there.device), _ORDERED.to(there.device)
        # Plain products: a matrix product would lose digits to mixed precision.
        yes, no, before = (functional.logsigmoid(logits)[:, None] for logits in (there, -there, ahead))
        joint = (yes * made + no * (1 - made)).sum(-1) + (before * ordered).sum(-1)
        return joint.log_softmax(-1)

    def _score(self, seen: _Seen) -> Tensor:
        """The joint score of every sequence, (B, 326)."""
        if self.readers == "regions":
            return self._score_regions(seen)
        device = seen.memory.device
        tokens = TREE.tokens.to(device).expand(seen.memory.shape[0], -1)
        mask = torch.zeros(TREE.sees.shape).masked_fill(~TREE.sees, -torch.inf).to(device)

        def directed(direction: int) -> Tensor:
            states = self._states(seen, tokens, TREE.depths.to(device), mask, direction)[-1]
            return sequence_scores(self.head(states))

        if self.readers == "forward":
            return directed(_FORWARD)
        backward = directed(_BACKWARD)[:, REVERSAL.to(device)]
        if self.readers == "backward":
            return backward
        slots = self.slot_head(self._slot_states(seen)[-1]).float().log_softmax(-1)
        table = SEQUENCES.to(device)
        places = torch.arange(LONGEST, device=device) * (LONGEST + 1) + table
        by_slot = slots.flatten(1)[:, places.flatten()].unflatten(1, table.shape).sum(-1)
        tokens = directed(_FORWARD) + backward + _SLOT_SHARE * by_slot
        return tokens if self.readers == "tokens" else tokens + self._score_regions(seen)

    @torch.no_grad()
    def _posterior(self, seen: _Seen) -> Tensor:
        """Of every sequence, (B, 326), as it is read when nothing is left out at random."""
        training = self.training
        self.eval()
        posterior = self._score(seen).softmax(-1)
        self.train(training)
        return posterior

    def forward(self, faces: Tensor) -> EditSequenceOutput:
        """Predict for faces, (B, 3, S, S) in [0, 1]."""
        seen = self._see(faces)
        scores = self._score(seen)
        areas = seen.areas if self.masks else None
        if not self.recovery:
            return EditSequenceOutput(scores, areas)
        soft = scores.softmax(-1) @ _MARGINALS.to(scores.device)
        _, recovered = self.restorer(seen.maps, seen.pyramid, seen.areas, faces, soft)
        return EditSequenceOutput(scores, areas, recovered)

    def greedy(self, faces: Tensor) -> Tensor:
        """Decode step by step, (B, 5) long: forward, or from the last edit if that is the only direction.

        Regions alone read all at once: their best sequence.
        """
        seen = self._see(faces)
        if self.readers == "regions":
            return SEQUENCES.to(faces.device)[self._score(seen).argmax(1)]
        direction = _BACKWARD if self.readers == "backward" else _FORWARD

        def following(tokens: Tensor) -> Tensor:
            length = tokens.shape[1]
            depths, mask = torch.arange(length, device=faces.device), causal(length, faces.device)
            return self.head(self._states(seen, tokens, depths, mask, direction)[-1][:, -1])

        sequences = read_greedily(following, len(faces), faces.device)
        return reversed_sequences(sequences) if direction == _BACKWARD else sequences

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, with their weights."""
        seen = self._see(batch["faces"])
        sequences = batch["sequences"]
        losses: dict[str, Tensor] = {}
        auxiliary = []
        depths = torch.arange(LONGEST + 1, device=sequences.device)
        mask = causal(LONGEST + 1, sequences.device)
        for name, direction in (("forward", _FORWARD), ("backward", _BACKWARD)):
            if self.readers in ("joint", "tokens", name):
                tokens, target = tokens_of(sequences if direction == _FORWARD else reversed_sequences(sequences))
                first, last = (
                    functional.cross_entropy(self.head(state).float().transpose(1, 2), target, ignore_index=PADDING)
                    for state in self._states(seen, tokens, depths, mask, direction)
                )
                losses[name] = last
                auxiliary.append(0.5 * first)
        if self.readers in ("joint", "tokens"):
            slots = [self.slot_head(state).float() for state in self._slot_states(seen)]
            first, last = (functional.cross_entropy(logits.transpose(1, 2), sequences) for logits in slots)
            losses["slots"] = 0.5 * last
            auxiliary.append(0.5 * first)
        if auxiliary:
            losses["auxiliary"] = torch.stack(auxiliary).sum()
        if self.readers in ("joint", "regions"):
            there, ahead = self._region_logits(seen)
            losses["presence"] = _presence_loss(there, sequences)
            losses["order"] = _order_loss(ahead, sequences)
        elif self.presence:
            losses["presence"] = _presence_loss(self.presence_head(seen.memory[:, -LONGEST:])[..., 0], sequences)
        if self.presence:
            losses["length"] = 0.25 * functional.cross_entropy(
                self.length_head(seen.memory[:, -LONGEST:].flatten(1)).float(), (sequences > 0).sum(1)
            )
        if self.masks:
            losses["mask"] = _area_loss(seen.areas, batch["masks"])
        if self.recovery:
            # The costliest part of a step: half of the faces are enough.
            some = torch.randperm(len(sequences), device=sequences.device)[: -(-len(sequences) // 2)]
            half = {name: value[some] if value.ndim else value for name, value in batch.items()}
            part = _Seen(
                [one[some] for one in seen.maps],
                seen.pyramid[some],
                seen.areas[some],
                seen.memory[some],
                seen.positions,
                seen.cells,
            )
            # What it is given at inference: other readings would teach it to trust what it then never sees.
            soft = self._posterior(part) @ _MARGINALS.to(sequences.device)
            shown = half["faces"]
            union, recovered = self.restorer(part.maps, part.pyramid, part.areas, shown, soft)
            if self.masks:
                losses["union"] = _union_loss(union, half["unions"])
            losses["recovery"] = 2 * _recovery_loss(recovered, shown, half)
        return losses


def _presence_loss(there: Tensor, sequences: Tensor) -> Tensor:
    """Binary cross-entropy of which edits were made, from logits (B, 5)."""
    present = functional.one_hot(sequences, LONGEST + 1).amax(1)[:, 1:].float()
    return functional.binary_cross_entropy_with_logits(there.float(), present)


def _order_loss(ahead: Tensor, sequences: Tensor) -> Tensor:
    """Binary cross-entropy of which of two edits came first, from logits (B, 20), over pairs that were both made."""
    steps = functional.one_hot(sequences, LONGEST + 1)[..., 1:].float()  # (B, step, edit)
    made, when = steps.amax(1), steps.argmax(1)
    first, second = _PAIRS.to(sequences.device).unbind(1)
    both = made[:, first] * made[:, second]
    earlier = (when[:, first] < when[:, second]).float()
    each = functional.binary_cross_entropy_with_logits(ahead, earlier, reduction="none")
    return (each * both).sum() / both.sum().clamp(min=1)


def _area_loss(areas: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy of each edit's area; faces whose masks are not known are left out.

    Args:
        areas: (B, 5, h, w) logits.
        masks: (B, 5, m, m) in [0, 1], negative where not known.
    """
    known = (masks.flatten(1).amin(1) >= 0).float()
    own = functional.adaptive_avg_pool2d(masks.clamp(min=0), areas.shape[-1])
    each = functional.binary_cross_entropy_with_logits(areas.float(), own, reduction="none").mean((1, 2, 3))
    return _AREA_SHARE * (each * known).sum() / known.sum().clamp(min=1)


def _union_loss(union: Tensor, unions: Tensor) -> Tensor:
    """Cross-entropy and Dice of the union of all edits (B, 1, S, S) to (B, 1, m, m), negative where not known."""
    known = (unions.flatten(1).amin(1) >= 0).float()
    target = unions.clamp(min=0)
    here = functional.adaptive_avg_pool2d(union.float(), target.shape[-1]).clamp(1e-4, 1 - 1e-4)
    # Written out: of probabilities, the library's own is refused under a GPU's mixed precision.
    whole = -(target * here.log() + (1 - target) * (1 - here).log()).mean((1, 2, 3))
    overlap = (here * target).sum((1, 2, 3))
    dice = 1 - (2 * overlap + 1) / (here.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
    return ((whole + dice) * known).sum() / known.sum().clamp(min=1)


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
    restored = recovered.float()[known]
    absolute = ((1 + 4 * area) * (restored - target).abs()).mean()
    # Of the brightness alone and at half the size: the window's convolution would be a third of a step's time.
    small, own = (functional.avg_pool2d(one.float().mean(1, keepdim=True), 2) for one in (restored, target))
    with torch.autocast(restored.device.type, enabled=False):  # in half precision it is noise
        similarity = ssim(small, own, window_size=11).mean()
    return absolute + 1 - similarity


class _Up(nn.Module):
    """Twice the size, joined with a skip, modulated by the condition."""

    def __init__(self, into: int, skip: int, out: int, condition: int, refined: bool = True) -> None:
        super().__init__()
        self.mix = nn.Conv2d(into + skip, out, 3, padding=1)
        self.norm = nn.GroupNorm(8, out, affine=False)
        self.film = nn.Linear(condition, 2 * out)
        self.refine = nn.Conv2d(out, out, 3, padding=1) if refined else None

    def forward(self, x: Tensor, skip: Tensor, condition: Tensor) -> Tensor:
        x = functional.interpolate(x, size=skip.shape[2:], mode="nearest")
        x = self.norm(self.mix(torch.cat([x, skip], 1)))
        gain, shift = self.film(condition)[..., None, None].chunk(2, 1)
        x = functional.silu(x * (1 + gain) + shift)
        return x if self.refine is None else x + functional.silu(self.refine(x))


class _Traces(nn.Module):
    """How much fine detail and noise there is in each cell, of each colour and in two bands: logarithms, fixed.

    A pass through a tool changes just that, a little more with every pass.
    """

    BANDS = 2
    CHANNELS = 2 * 3 * BANDS
    _FLOOR = 1e-5  # of the squares: about one grey value

    def forward(self, shown: Tensor) -> Tensor:
        """From faces (B, 3, S, S) in [0, 1] to (B, 12, S/4, S/4): of each cell, and against the mean of the face."""
        energies, finer = [], shown.float()
        for _ in range(self.BANDS):
            coarser = functional.avg_pool2d(finer, 3, 1, 1, count_include_pad=False)
            energies.append(functional.avg_pool2d((finer - coarser).square(), 8, 4, 2, count_include_pad=False))
            finer = coarser
        energy = (torch.cat(energies, 1) + self._FLOOR).log()
        return torch.cat([energy, energy - energy.mean((2, 3), keepdim=True)], 1)


class _Pyramid(nn.Module):
    """Maps of strides 4 to 32 summed at stride 4 (Lin et al. 2017, without the smoothing at every level)."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.traces = _Traces()
        self.noticed = nn.Sequential(nn.BatchNorm2d(_Traces.CHANNELS), nn.Conv2d(_Traces.CHANNELS, _PYRAMID, 1))
        self.laterals = nn.ModuleList(nn.Conv2d(width, _PYRAMID, 1) for width in widths[1:])
        self.smooth = nn.Sequential(nn.Conv2d(_PYRAMID, _PYRAMID, 3, padding=1), nn.GroupNorm(8, _PYRAMID), nn.SiLU())
        self.areas = nn.Conv2d(_PYRAMID, LONGEST, 1)

    def forward(self, maps: list[Tensor], shown: Tensor) -> tuple[Tensor, Tensor]:
        """From maps at STRIDES and faces in [0, 1] to features (B, 64, S/4, S/4) and the edits' areas, (B, 5, S/4, S/4)
        in logits."""
        total = self.laterals[0](maps[1]) + self.noticed(self.traces(shown))
        for lateral, coarse in zip(list(self.laterals)[1:], maps[2:], strict=True):
            total = total + functional.interpolate(lateral(coarse), size=total.shape[2:], mode="nearest")
        features = self.smooth(total)
        return features, self.areas(features)


class _Restorer(nn.Module):
    """From the pyramid back to full size: the union of the edits and the face before."""

    def __init__(self, widths: list[int], channels: int) -> None:
        super().__init__()
        # A row for each (step, edit or none): the soft sequence's embedding is linear in its marginals.
        self.steps = nn.Linear(LONGEST * (LONGEST + 1), channels, bias=False)
        self.up4 = _Up(_PYRAMID + LONGEST, widths[1], 64, channels)
        self.up2 = _Up(64, widths[0], 32, channels)
        self.up1 = _Up(32, 3, 16, channels, refined=False)
        self.out = nn.Conv2d(16, 4, 3, padding=1)
        nn.init.normal_(self.out.weight, std=1e-2)

    def forward(
        self, maps: list[Tensor], pyramid: Tensor, areas: Tensor, shown: Tensor, soft: Tensor
    ) -> tuple[Tensor, Tensor]:
        """From maps at STRIDES, pyramid and areas, faces (B, 3, S, S) in [0, 1] and the soft sequence (B, 30).

        The soft sequence holds, for each of five steps, the probability of none and of each edit.

        Returns:
            union: (B, 1, S, S) in [0, 1].
            recovered: (B, 3, S, S) in [0, 1].
        """
        condition = self.steps(soft)
        x = self.up4(torch.cat([pyramid, areas.sigmoid()], 1), maps[1], condition)
        x = self.up1(self.up2(x, maps[0], condition), shown * 2 - 1, condition)
        out = self.out(x)
        union = out[:, :1].sigmoid()
        return union, (shown + union * out[:, 1:].tanh()).clamp(0, 1)
