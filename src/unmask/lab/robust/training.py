"""Adversarial training of any network that tells classes apart: PGD-AT, TRADES, MART, with ANCRA's terms. Lab only.

Every base keeps the network's own loss, whatever its terms, and adds what the base asks for:

- `pgd-at` (Madry et al. 2018): the own loss on the attacked pictures.
- `trades` (Zhang et al. 2019): the own loss on the natural ones, and beta times KL(natural || attacked) of the classes.
- `mart` (Wang et al. 2020): the own loss on the attacked pictures, the likeliest wrong class's term of the boosted
  cross-entropy, and beta times the KL divergence weighted with 1 - p_y(natural).

For a classifier whose own loss is the cross-entropy these are the published losses. The training attack maximises the
cross-entropy over all heads, in evaluation mode with the network's own predictions as masks, for all bases (the ANCRA
code; for TRADES the original maximises the divergence). Losses are of training mode, so that batch normalisation sees
natural, attacked and negative pictures in turn, as in the reference code. With reverse attention the labels choose the
masks, the own loss is that of the served auxiliary logits, and every loss is folded over the heads. Terms that have no
label (MART's and PGD-AT's variants were not released) follow the sheet's equations.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unmask.lab.engine import Feed
from unmask.lab.robust.config import RobustOptions
from unmask.lab.robust.losses import (
    cross_entropy,
    divergence,
    fold,
    hard_negatives,
    margin_entropy,
    negative_contrast,
    random_negatives,
    weighted_divergence,
)
from unmask.lab.robust.pgd import evaluating, pgd, start_of
from unmask.networks.contract import Batch, Hardenable
from unmask.networks.pgd import projected, unit, within

Heads = tuple[Tensor, ...]


class AdversarialTraining:
    """The objective of a hardened run (`unmask.networks.contract.Objective`).

    Args:
        options: of the run, with a base.
    """

    def __init__(self, options: RobustOptions) -> None:
        self.options = options
        self._change: Tensor | None = None  # of the free variant: where the pictures were moved to so far
        self._leaf: Tensor | None = None  # the pictures whose gradient the last step left

    def __call__(self, network: Hardenable, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss of a batch; randomness comes from torch's global generator."""
        options, classes = self.options, batch["labels"].long()
        faces = batch["faces"]
        moved = self._replayed(faces) if options.attack == "free" else self.attack(network, faces, classes)
        attacked = network.heads(moved, classes) if options.robust != "pgd-at" or options.ra else ()
        natural = network.heads(faces, classes) if options.robust != "pgd-at" or options.anc else ()
        losses = self._own(network, batch if options.robust == "trades" else {**batch, "faces": moved})
        if options.ra:
            losses |= self._other_heads(natural if options.robust == "trades" else attacked, classes)
        if options.robust == "trades":
            losses["divergence"] = self._weighted(self._folded(divergence, natural, attacked))
        if options.robust == "mart":
            losses["margin"] = self._folded(lambda logits: margin_entropy(logits, classes), attacked).mean()
            losses["divergence"] = self._weighted(
                self._folded(lambda one, other: weighted_divergence(one, other, classes), natural, attacked)
            )
        if options.anc:
            losses["contrast"] = self._contrast(network, faces, classes, natural)
        return losses

    def attack(self, network: Hardenable, faces: Tensor, classes: Tensor, towards: bool = False) -> Tensor:
        """Pictures within the budget that the network in evaluation mode takes for another class, or `towards` one.

        Args:
            network: attacked; its modes are as before afterwards.
            faces: (B, 3, S, S) in [0, 1].
            classes: (B,) long: to move away from, or towards.
            towards: see above.
        """
        options, sign = self.options, -1 if towards else 1
        with evaluating(network):
            return pgd(
                network.heads,
                faces,
                lambda heads: sign * self._folded(lambda logits: cross_entropy(logits, classes), heads),
                epsilon=options.epsilon,
                step=options.step,
                steps=options.attack_steps,
                norm=options.attack_norm,
                start=options.attack_start,
            )

    def _folded(self, loss_of: Any, *heads: Heads) -> Tensor:
        return fold(loss_of, *heads, weight=self.options.ra_weight)

    def _weighted(self, losses: Tensor) -> Tensor:
        return self.options.divergence_weight * losses.mean()

    def _own(self, network: Hardenable, batch: Batch) -> dict[str, Tensor]:
        """The network's own terms; with reverse attention they are the share of the head that is served."""
        losses = network.training_losses(batch)
        if not self.options.ra:
            return dict(losses)
        share = self.options.ra_weight / network.auxiliary_heads
        return {name: share * loss for name, loss in losses.items()}

    def _other_heads(self, heads: Heads, classes: Tensor) -> dict[str, Tensor]:
        """The cross-entropy of the final head, and the share of the auxiliary ones that are not served."""
        final, _, *others = [cross_entropy(logits, classes).mean() for logits in heads]
        losses = {"final": final}
        if others:
            losses["auxiliary"] = self.options.ra_weight / (1 + len(others)) * torch.stack(others).sum()
        return losses

    def _contrast(self, network: Hardenable, faces: Tensor, classes: Tensor, natural: Heads) -> Tensor:
        """The negative contrast; 0 for a batch of one class, in which nothing is a negative."""
        options = self.options
        if options.negatives == "hard":
            with torch.no_grad(), evaluating(network):
                rows = hard_negatives(classes, network.heads(faces)[min(1, len(natural) - 1)])
        else:
            rows = random_negatives(classes)
        if rows is None:
            return natural[0].new_zeros(())
        negatives = faces[rows]
        if options.negatives == "adversarial":
            negatives = self.attack(network, negatives, classes, towards=True)
        others = network.heads(negatives, classes[rows])
        contrast = self._folded(lambda one, other: negative_contrast(one, other, options.anc_alpha), natural, others)
        return options.anc_weight * contrast

    # --- The free variant: every step's backward pass moves the pictures too ---

    def _replayed(self, faces: Tensor) -> Tensor:
        self._settle()
        if self._change is None or self._change.shape != faces.shape:
            self._change = start_of(faces, self.options.epsilon, self.options.attack_norm, "uniform", None)
        self._change = self._change.to(faces.device)
        moved = projected(faces + self._change, faces, self.options.epsilon, self.options.attack_norm)
        self._leaf = moved.detach().requires_grad_()
        return self._leaf

    def _settle(self) -> None:
        """Move by the gradient that the last step left."""
        leaf, change = self._leaf, self._change
        if leaf is not None and change is not None and leaf.grad is not None:
            far = change + self.options.step * unit(leaf.grad, self.options.attack_norm)
            self._change = within(far, self.options.epsilon, self.options.attack_norm)
        self._leaf = None

    def state_dict(self) -> dict[str, Any]:
        """The free variant's perturbation; of several processes that of the first."""
        self._settle()
        return {} if self._change is None else {"change": self._change}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._change, self._leaf = state.get("change"), None


@dataclass(frozen=True)
class Replayed:
    """A feed whose every batch comes several times, for the free variant: so many steps see so many fewer batches."""

    feed: Feed
    times: int
    steps: int

    @property
    def unit(self) -> str:
        """As of the feed."""
        return self.feed.unit

    @property
    def count(self) -> int:
        """As of the feed."""
        return self.feed.count

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Tensor]]:
        """Batches from step `first` on."""
        inner, step = self.feed.batches(device, first // self.times, rank, world), first
        while True:
            batch = next(inner)
            while True:
                own = dict(batch)
                if "progress" in own:
                    own["progress"] = torch.full_like(own["progress"], min(1.0, step / self.steps))
                yield own
                step += 1
                if step % self.times == 0:
                    break

    def validation_batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """As of the feed."""
        return self.feed.validation_batches(device)
