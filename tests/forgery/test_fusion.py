import math
from typing import Any

import pytest
import torch
from torch import Tensor

from unmask.forgery.detector import Detector, DetectorOutput
from unmask.forgery.fusion import Fused
from unmask.forgery.plain import Plain

pytestmark = pytest.mark.lab


class Says(Detector):
    """A detector that always says the same."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, faces: Tensor) -> DetectorOutput:
        return DetectorOutput(torch.full((len(faces),), self.logit), torch.full((len(faces), 1, 4, 4), 2 * self.logit))


def logit_of(*values: float) -> float:
    members: Any = [Says(value) for value in values]
    out = Fused(members)(torch.zeros(2, 3, 32, 32))
    assert out.logit.shape == (2,) and out.map.shape == (2, 1, 4, 4)
    doubled: Any = [Says(2 * value) for value in values]
    torch.testing.assert_close(out.map[:, 0, 0, 0], Fused(doubled)(torch.zeros(2, 3, 32, 32)).logit)
    return float(out.logit[0])


def test_ratios_are_averaged() -> None:
    assert math.exp(logit_of(1.0, -2.0, 0.3)) == pytest.approx((math.exp(1.0) + math.exp(-2.0) + math.exp(0.3)) / 3)


def test_one_alarmed_member_is_heard() -> None:
    assert logit_of(6.0, -4.0) == pytest.approx(6.0 - math.log(2), abs=1e-3)
    assert logit_of(-4.0, -4.0) == pytest.approx(-4.0)


def test_large_logits_do_not_overflow() -> None:
    assert logit_of(500.0, -500.0) == pytest.approx(500.0 - math.log(2))


def test_one_detector_alone_says_what_it_says() -> None:
    torch.manual_seed(0)
    member = Plain("rgb", weights="none").eval()
    faces = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        alone, fused = member(faces), Fused([member])(faces)
    torch.testing.assert_close(fused.logit, alone.logit)
    torch.testing.assert_close(fused.map, alone.map)
