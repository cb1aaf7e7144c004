"""The likelihood ratios of known faces, as a pack's card keeps them. Lab only."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.isotonic import IsotonicRegression

from unmask.lab.run import versions
from unmask.packs.validation import LrValidation

_FARTHEST = 6.0  # log10 LR: what PAV gives of values that one class alone has is infinite


def validation_of(
    log10_lrs: Sequence[float],
    labels: Sequence[int],
    groups: Sequence[str],
    data: str,
    refused: tuple[int, int] = (0, 0),
    command: str = "",
) -> LrValidation:
    """The spread of likelihood ratios, every group of a class weighing alike.

    Args:
        log10_lrs: of the faces, (N,).
        labels: 1 for forged ones; both classes are there.
        groups: of a forged face its family, of an authentic one its source.
        data: what the faces are, for the card.
        refused: authentic and forged faces that could not be judged.
        command: the command line, for the card.
    """
    rounded = np.round(np.asarray(log10_lrs, float), 2) + 0.0  # no -0
    truth = np.asarray(labels, int)
    sizes = Counter(zip(truth.tolist(), groups, strict=True))
    count = [sum(label == one for label, _ in sizes) for one in (0, 1)]
    weights = np.array(
        [1 / (count[label] * sizes[label, group]) for label, group in zip(truth.tolist(), groups, strict=True)]
    )
    values = np.unique(rounded)
    shares = [np.array([weights[(rounded == value) & (truth == label)].sum() for value in values]) for label in (0, 1)]
    # Both classes weigh 1 in all, so that the odds of the fitted probability are the likelihood ratio.
    fit = IsotonicRegression(y_min=0.0, y_max=1.0).fit(rounded, truth, sample_weight=weights)
    probability = fit.predict(values)
    with np.errstate(divide="ignore"):
        best = np.clip(np.log10(probability) - np.log10(1 - probability), -_FARTHEST, _FARTHEST)
    return LrValidation(
        data=data,
        log10_lr=tuple(round(float(value), 2) for value in values),
        real=tuple(round(float(value), 6) for value in shares[0]),
        forged=tuple(round(float(value), 6) for value in shares[1]),
        best=tuple(round(float(value), 3) for value in best),
        n_real=int((truth == 0).sum()),
        n_forged=int((truth == 1).sum()),
        refused_real=refused[0],
        refused_forged=refused[1],
        command=command,
        versions=versions("onnxruntime"),
    )
