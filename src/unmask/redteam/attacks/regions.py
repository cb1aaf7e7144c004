"""Attacks on a part of the picture, which may change at will: a patch, and the frame of eyeglasses."""

import math
from abc import abstractmethod

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unmask.errors import DataError
from unmask.networks.pgd import ascent, pgd
from unmask.redteam.attacks.contract import Attack, Budget, Norm, Problem
from unmask.redteam.attacks.losses import loss_of


class _Region(Attack):
    """What both have in common: sign steps with momentum inside a mask; epsilon is the share of the picture."""

    norm: Norm = "l0"

    @abstractmethod
    def masks(self, problem: Problem, budget: Budget) -> Tensor:
        """Where each picture may change, (b, 1, H, W), 0 or 1."""

    def perturb(self, problem: Problem, budget: Budget) -> Tensor:
        """As of `Attack`."""
        x, mask = problem.x, self.masks(problem, budget)
        loss = loss_of("margin", problem.inputs.labels, problem.inputs.targets)
        best, best_loss = x.clone(), torch.full((len(x),), -torch.inf)
        momentum = torch.zeros_like(x)

        def composed(colours: Tensor) -> Tensor:
            return x + mask * (colours - x)

        def consider(colours: Tensor, losses: Tensor) -> None:
            nonlocal best, best_loss
            better = losses > best_loss
            best = torch.where(better[:, None, None, None], composed(colours), best)
            best_loss = torch.maximum(losses, best_loss)
            problem.trace.append(-best_loss.clone())

        def observe(colours: Tensor, losses: Tensor, gradient: Tensor) -> None:
            # Where no pixel may change, a gradient of nothing is no sign of anything.
            problem.note_gradient(torch.where(mask.flatten(1).any(1).view(-1, 1, 1, 1), gradient, 1.0))
            consider(colours, losses)

        def direction(gradient: Tensor) -> Tensor:
            nonlocal momentum
            momentum = momentum + gradient / gradient.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-30)
            return momentum

        start = torch.full_like(x, 0.5)
        step = min(2.5 * 0.5 / budget.steps, 0.1)
        colours = pgd(
            lambda colours: problem.logits(composed(colours)),
            *(start, loss, 1.0, step, budget.steps),
            start=start,
            direction=direction,
            observe=observe,
        )
        with torch.no_grad():
            consider(colours, loss(problem.logits(composed(colours))))
        return best


class Patch(_Region):
    """A square patch (Brown et al. 2017), for each picture by itself, where its gradient is largest."""

    name = "patch"

    def masks(self, problem: Problem, budget: Budget) -> Tensor:
        """A square whose area is at most the budget's share."""
        high, wide = problem.x.shape[2:]
        side = min(int(math.sqrt(budget.epsilon * high * wide) + 1e-9), high, wide)
        mask = torch.zeros(len(problem.x), 1, high, wide)
        if side == 0:
            return mask
        loss = loss_of("margin", problem.inputs.labels, problem.inputs.targets)
        gradient = ascent(problem.logits, problem.x, loss)
        problem.note_gradient(gradient)
        weight = functional.avg_pool2d(gradient.abs().sum(1, keepdim=True), side, 1)
        for row, place in enumerate(weight.flatten(1).argmax(1).tolist()):
            top, left = divmod(place, weight.shape[3])
            mask[row, :, top : top + side, left : left + side] = 1
        return mask


class Eyeglasses(_Region):
    """The frame of a pair of glasses (Sharif et al. 2016) about the eyes, as thick as the budget's share allows."""

    name = "eyeglasses"

    def masks(self, problem: Problem, budget: Budget) -> Tensor:
        """Frames drawn by the landmarks; none where even the thinnest would be too much.

        Raises:
            DataError: there are no landmarks.
        """
        landmarks = problem.inputs.landmarks
        if landmarks is None:
            raise DataError("eyeglasses need to know where the eyes are; give the landmarks of every face")
        high, wide = problem.x.shape[2:]
        frames = [_thickest(points, high, wide, budget.epsilon) for points in landmarks]
        return torch.from_numpy(np.stack(frames)[:, None]).float()


def _thickest(landmarks: np.ndarray, high: int, wide: int, share: float) -> np.ndarray:
    best = np.zeros((high, wide), np.uint8)
    for thickness in range(1, max(high, wide) // 8 + 2):
        frame = glasses(landmarks, high, wide, thickness)
        if frame.mean() > share:
            break
        best = frame
    return best


def glasses(landmarks: np.ndarray, high: int, wide: int, thickness: int) -> np.ndarray:
    """A frame of glasses, uint8 (H, W), 0 or 1: two oval rims, a bridge and what is seen of the temples.

    Args:
        landmarks: (5, 2), right eye and left eye first, in pixels.
        high, wide: of the picture.
        thickness: of the lines in pixels.
    """
    right, left = (np.asarray(point, float) for point in landmarks[:2])
    across = left - right
    distance = float(np.linalg.norm(across))
    angle = math.degrees(math.atan2(across[1], across[0]))
    along = across / max(distance, 1e-9)
    canvas: np.ndarray = np.zeros((high, wide), np.uint8)
    axes = (round(0.36 * distance), round(0.27 * distance))

    def place(point: np.ndarray) -> tuple[int, int]:
        return round(float(point[0])), round(float(point[1]))

    for eye in (right, left):
        cv2.ellipse(canvas, place(eye), axes, angle, 0, 360, 1, thickness)
    cv2.line(canvas, place(right + axes[0] * along), place(left - axes[0] * along), 1, thickness)
    for eye, sign in ((right, -1), (left, 1)):
        rim = eye + sign * axes[0] * along
        cv2.line(canvas, place(rim), place(rim + sign * 0.3 * distance * along), 1, thickness)
    return canvas
