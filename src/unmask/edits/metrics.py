"""How good predicted sequences and recovered faces are.

Sequences are (N, 5) integers, zeros at the end (`labels`). Fixed-Acc and Adaptive-Acc are those of SeqDeepFake's code;
complete sequence matching (CSM) is the idea of MMNet's abstract, whose formula here is the plainest: the share of
pictures whose whole sequence is right. Fixed-Acc counts padding as hits: never quote it alone.
"""

import cv2
import numpy as np

from unmask.edits.labels import LONGEST, all_sequences


def fixed_hits(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """For each picture the share of the five places that are right, padding included; its mean is Fixed-Acc."""
    return (truth == predicted).mean(axis=1)


def adaptive_hits(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each picture how many steps are right, and of how many: the longer of both sequences, at least one.

    Adaptive-Acc is the sum of the first over the sum of the second. An untouched face that is called so is one hit of
    one.
    """
    window = np.maximum(np.count_nonzero(truth, axis=1), np.count_nonzero(predicted, axis=1))
    inside = np.arange(LONGEST) < window[:, None]
    hits = ((truth == predicted) & inside).sum(axis=1)
    return np.where(window == 0, 1, hits).astype(float), np.maximum(window, 1).astype(float)


def prefix_hits(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(N, 5) whether the first k entries are all right, k = 1..5; the mean of column k is CSM@k, of the last CSM."""
    return np.cumprod(truth == predicted, axis=1).astype(float)


def fixed_accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Fixed-Acc in [0, 1]."""
    return float(fixed_hits(truth, predicted).mean())


def adaptive_accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Adaptive-Acc in [0, 1], over all steps together."""
    hits, steps = adaptive_hits(truth, predicted)
    return float(hits.sum() / steps.sum())


def complete_matching(truth: np.ndarray, predicted: np.ndarray) -> float:
    """CSM in [0, 1]."""
    return float(prefix_hits(truth, predicted)[:, -1].mean())


def presence(sequences: np.ndarray) -> np.ndarray:
    """(N, 5) whether each edit is in the sequence at all."""
    return np.stack([(sequences == number).any(axis=1) for number in range(1, LONGEST + 1)], axis=1)


def adjacent_swap(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(N,) whether the prediction is the truth with exactly two neighbouring steps exchanged."""
    swapped = np.zeros(len(truth), bool)
    for place in range(LONGEST - 1):
        turned = truth.copy()
        turned[:, [place, place + 1]] = truth[:, [place + 1, place]]
        both = (truth[:, place] > 0) & (truth[:, place + 1] > 0)
        swapped |= both & (turned == predicted).all(axis=1)
    return swapped


def pair_hits(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each picture in how many pairs of its edits the right one is read first, and how many pairs there are.

    Which of two came first is told by the posterior of all sequences that hold both, whatever parts the best one has;
    a tie is half a hit. Chance is one half of the pairs.

    Args:
        truth: (N, 5).
        scores: (N, 326) logits of `all_sequences()`.
    """
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    ahead = np.sign(shares @ _earlier(all_sequences()))
    own = _earlier(truth)
    return ((1 + ahead * own) / 2 * np.abs(own)).sum(axis=1), np.abs(own).sum(axis=1)


def _earlier(sequences: np.ndarray) -> np.ndarray:
    """(N, 10) for each two edits 1 if the one of the lower number came first, -1 if second, 0 if one was not made."""
    steps = np.arange(LONGEST)
    when = np.stack([((sequences == edit) * (steps + 1)).sum(axis=1) for edit in range(1, LONGEST + 1)], axis=1)
    one, other = np.triu_indices(LONGEST, 1)
    return np.sign(when[:, other] - when[:, one]) * (when[:, one] > 0) * (when[:, other] > 0)


def recovery_errors(recovered: np.ndarray, original: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """How far a recovered face is from the original, inside the edits and outside.

    Args:
        recovered: uint8 (S, S, 3), or the edited face itself for "do nothing".
        original: uint8 (S, S, 3).
        mask: (S, S) in [0, 1], more than 0.5 where edited.

    Returns:
        `l1_inside`, `l1_outside` in [0, 1]; `psnr`, `psnr_inside`, `psnr_outside` in dB; `ssim` in [-1, 1]. Not a
        number where there is no pixel.
    """
    a, b = recovered.astype(np.float64) / 255, original.astype(np.float64) / 255
    absolute, square = np.abs(a - b).mean(axis=2), np.square(a - b).mean(axis=2)
    inside = mask > 0.5
    errors = {"psnr": _psnr(square), "ssim": structural_similarity(a, b)}
    for name, where in (("inside", inside), ("outside", ~inside)):
        errors[f"l1_{name}"] = float(absolute[where].mean()) if where.any() else float("nan")
        errors[f"psnr_{name}"] = _psnr(square[where])
    return errors


def _psnr(square: np.ndarray) -> float:
    """Of squared errors in [0, 1]; at most 60 dB, which one grey value off in every fifteen reaches."""
    return float(min(60.0, -10 * np.log10(max(square.mean(), 1e-12)))) if square.size else float("nan")


def structural_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM of pictures (H, W, 3) in [0, 1]: Gaussian window of deviation 1.5 (Wang et al. 2004), mean over all."""

    def soft(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (11, 11), 1.5)

    mean_a, mean_b = soft(a), soft(b)
    spread_a, spread_b = soft(a * a) - mean_a**2, soft(b * b) - mean_b**2
    shared = soft(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * shared + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (spread_a + spread_b + c2))).mean())
