"""What an absent person's answers look like: the hypothesis that the person is not in the register.

Multiplying frequencies makes usual combinations of dependent attributes look too rare, so that an absent person who
fits them seems to be someone. A Chow-Liu tree, fitted on the register's own records, heeds the strongest dependencies.
Ratios are beside the product of the attributes' own, so that with one answer, or without dependencies, they are 1.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from unmask.tracing.attributes.channels import Channel
from unmask.tracing.registers.base import Register

_SAMPLE = 100_000  # records that a tree is fitted on
_WIDEST = 64  # codes of an attribute in the tree; with more, pairs are too rare to be counted

# Shares of dependence that are tried, from none.
_SHARES = np.linspace(0.0, 0.98, 50)

Ratios = Mapping[str, np.ndarray]


class NotInRegisterModel:
    """How answers of people who are not in the register depend on one another.

    Ratios are exp of tables over codes, by attribute.

    Args:
        register: what the tree is fitted on.
        dependent: False for plain products of frequencies.
    """

    def __init__(self, register: Register, dependent: bool = True) -> None:
        self._register = register
        widths = {name: len(model.counts) for name, model in register.models.items()}
        self.names = tuple(name for name, width in widths.items() if 1 < width <= _WIDEST) if dependent else ()

    @cached_property
    def tree(self) -> tuple[list[int], dict[int, int], dict[int, np.ndarray], list[np.ndarray]]:
        """(nodes from the root on, parent of each, P(node | parent) as (parent codes, codes), marginals)."""
        codes = self._register.sample(self.names, _SAMPLE)
        sizes = [len(self._register.models[name].counts) for name in self.names]
        pairs: dict[tuple[int, int], np.ndarray] = {}
        dependence = np.zeros((len(sizes), len(sizes)))
        for one in range(len(sizes)):
            for other in range(one):
                counts = np.bincount(
                    codes[:, one] * sizes[other] + codes[:, other], minlength=sizes[one] * sizes[other]
                )
                pairs[one, other] = counts.reshape(sizes[one], sizes[other])
                pairs[other, one] = pairs[one, other].T
                dependence[one, other] = _dependence(pairs[one, other])[1] + _dependence(pairs[other, one])[1]
        # scipy reads what is nearly 0 as "no edge": one more nat for each keeps all, and their order.
        spanning = minimum_spanning_tree(-(dependence + 1.0) * np.tri(len(sizes), k=-1))
        order, parents = breadth_first_order(spanning, 0, directed=False)
        alone = [
            (np.bincount(codes[:, node], minlength=size) + 1.0 / size) / (len(codes) + 1)
            for node, size in enumerate(sizes)
        ]
        given, marginals = {}, list(alone)
        for node in order[1:]:
            above = int(parents[node])
            counts = pairs[above, int(node)]
            of_parent = counts.sum(axis=1, keepdims=True)
            share = _dependence(counts)[0] * (of_parent > 0)
            given[int(node)] = share * counts / np.maximum(of_parent, 1) + (1.0 - share) * alone[node]
            # As the tree has it, so that one answer alone is as frequent as it is.
            marginals[node] = marginals[above] @ given[int(node)]
        return [int(node) for node in order], {int(node): int(parents[node]) for node in order[1:]}, given, marginals

    def channel(self, name: str) -> Channel:
        """The channel of an attribute."""
        return self._register.models[name].channel

    def given(self, ratios: Ratios) -> "NotInRegisterPredictive":
        """The absent after some answers."""
        return NotInRegisterPredictive(self, ratios)


def _dependence(counts: np.ndarray) -> tuple[float, float]:
    """How far the second of two attributes depends on the first: (share of P(second | first) beside P(second), nats).

    The share is that under which each record is likeliest from all others (deleted interpolation, Jelinek and Mercer
    1980), and the nats a record are what that wins. What only one person has in common is so no dependence: else those
    in the register would look like anybody.

    Args:
        counts: (V1, V2) records with each pair of codes.
    """
    total = counts.sum()
    here = counts > 0
    first, second = np.broadcast_arrays(counts.sum(axis=1, keepdims=True), counts.sum(axis=0, keepdims=True))
    seen, first, second = counts[here], first[here], second[here]
    from_pair = np.where(first > 1, (seen - 1) / np.maximum(first - 1, 1), 0.0)
    # One record more, spread evenly, keeps from being impossible what the others do not have.
    alone = (second - 1 + 1.0 / counts.shape[1]) / total
    likelihoods = np.log(_SHARES[:, None] * from_pair + (1.0 - _SHARES[:, None]) * alone) @ (seen / total)
    best = int(np.argmax(likelihoods))
    return float(_SHARES[best]), float(likelihoods[best] - likelihoods[0])


class NotInRegisterPredictive:
    """The absent after some answers: how much more probable these are than by frequencies, and what comes next.

    Attributes:
        log_ratio: log P(answers | absent) - sum of log P(answer | anybody), natural.
    """

    def __init__(self, model: NotInRegisterModel, ratios: Ratios) -> None:
        self._model = model
        self._answered = {model.names.index(name): ratio for name, ratio in ratios.items() if name in model.names}
        self._below: dict[int, np.ndarray] = dict(self._answered)
        self._messages: dict[int, np.ndarray] = {}
        self.log_ratio = self._gather() if self._answered else 0.0

    def _gather(self) -> float:
        """Pass the answers from the leaves to the root; nodes with no answer at or below them say nothing."""
        order, parent, given, marginals = self._model.tree
        log_ratio = -sum(float(np.log(marginals[node] @ ratio)) for node, ratio in self._answered.items())
        for node in reversed(order[1:]):
            if node in self._below:
                message = given[node] @ self._below[node]
                top = float(message.max())
                log_ratio += float(np.log(top))
                self._messages[node] = message / top
                above = self._below.get(parent[node])
                self._below[parent[node]] = self._messages[node] if above is None else above * self._messages[node]
        return log_ratio + float(np.log(marginals[order[0]] @ self._below[order[0]]))

    @cached_property
    def _above(self) -> list[np.ndarray]:
        """P(code of each node | the answers elsewhere than at or below it), up to a factor."""
        order, parent, given, marginals = self._model.tree
        above = list(marginals)
        for node in order[1:]:
            up = parent[node]
            spread = above[up] if up not in self._below else above[up] * self._below[up]
            if node in self._messages:
                spread = spread / self._messages[node]
            above[node] = (spread / spread.sum()) @ given[node]
        return above

    def answers(self, name: str) -> np.ndarray:
        """P(answer about an attribute not answered | absent, the answers so far), (O,)."""
        channel = self._model.channel(name)
        if name not in self._model.names or not self._answered:
            return channel.base
        node = self._model.names.index(name)
        codes = self._above[node] if node not in self._below else self._above[node] * self._below[node]
        marginal = self._model.tree[3][node]
        spread = channel.base * channel.answers(codes / codes.sum()) / channel.answers(marginal)
        return spread / spread.sum()
