"""Common corruptions (Hendrycks & Dietterich 2019): what happens to pictures anyway, as the baseline of all attacks."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from unmask.redteam.attacks.contract import Attack, Budget, Problem

Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def _gaussian_noise(picture: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    return picture + rng.normal(0, (5, 10, 15, 22, 30)[severity], picture.shape)


def _blur(picture: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), (0.6, 1.0, 1.5, 2.2, 3.0)[severity])


def _jpeg(picture: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    quality = (85, 65, 45, 25, 10)[severity]
    data = cv2.imencode(".jpg", picture.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # OpenCV reads what it has written
    return decoded.astype(np.float32)


def _smaller(picture: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    high, wide = picture.shape[:2]
    share = (0.75, 0.6, 0.5, 0.4, 0.25)[severity]
    size = (max(round(wide * share), 1), max(round(high * share), 1))
    return cv2.resize(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), (wide, high))


def _brightness(picture: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    return picture + (10, 20, 35, 50, 70)[severity]


def _darkness(picture: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    return picture - (10, 20, 35, 50, 70)[severity]


def _contrast(picture: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    mean = picture.mean()
    return (picture - mean) * (0.85, 0.7, 0.55, 0.4, 0.3)[severity] + mean


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": _gaussian_noise,
    "blur": _blur,
    "jpeg": _jpeg,
    "smaller": _smaller,
    "brightness": _brightness,
    "darkness": _darkness,
    "contrast": _contrast,
}


class Corruptions(Attack):
    """The worst of seven common corruptions in five strengths each, cut to the budget: no search, no gradient.

    An epsilon of 1 leaves them as they are: the everyday attacker.
    """

    name = "corruptions"
    gradients = False

    def perturb(self, problem: Problem, budget: Budget) -> Tensor:
        """As of `Attack`."""
        seeds = [int(torch.randint(0, 2**31 - 1, (1,), generator=one)) for one in problem.generators]
        best = problem.x.clone()
        with torch.no_grad():
            margins = problem.margins(problem.logits(best))
            for severity in range(5):
                for corrupt in CORRUPTIONS.values():
                    if int(problem.queries.max()) >= budget.queries:
                        return best
                    made = [_applied(corrupt, one, severity, seed) for one, seed in zip(problem.x, seeds, strict=True)]
                    change = (torch.stack(made) - problem.x).clamp(-budget.epsilon, budget.epsilon)
                    proposed = ((problem.x + change) * 255).round() / 255
                    asked = problem.margins(problem.logits(proposed))
                    better = asked < margins
                    best = torch.where(better[:, None, None, None], proposed, best)
                    margins = torch.where(better, asked, margins)
                    problem.trace.append(margins.clone())
        return best


def _applied(corrupt: Corruption, picture: Tensor, severity: int, seed: int) -> Tensor:
    """A corrupted picture (3, H, W) in [0, 1], of whole grey levels."""
    values = np.ascontiguousarray((picture.permute(1, 2, 0).numpy() * 255).round().astype(np.float32))
    out = corrupt(values, severity, np.random.default_rng(seed))
    return torch.from_numpy(np.clip(np.round(out), 0, 255).astype(np.float32) / 255).permute(2, 0, 1)
