"""Victims: every detector of the lab, packs and recognisers are functions from pictures to logits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_victims import SmallRecogniser, pictures, recognised

from unmask.errors import DataError
from unmask.forgery.scoring import ForgeryScorer
from unmask.lab.methods import METHODS, build, options_of
from unmask.packs import load_pack
from unmask.redteam.victims import DetectorVictim, Inputs, PackVictim, RecogniserVictim, resized

pytestmark = pytest.mark.lab
DETECTORS = [name for name, method in METHODS.items() if method.task == "forgery_detection" and name != "gend"]


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_has_gradients_to_the_pixels(name: str) -> None:
    options = {"weights": "none"} if "weights" in options_of(name) else {}
    detector = build(name, options)  # type: ignore[arg-type]
    victim = DetectorVictim(detector, name, threshold=0.25)  # type: ignore[arg-type]
    inputs = Inputs(torch.randint(0, 256, (1, 3, detector.size, detector.size), dtype=torch.uint8), torch.tensor([1]))
    x = (inputs.pictures.float() / 255).requires_grad_()
    logits = victim.bind(inputs)(x, torch.tensor([0]))
    (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), x)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0
    with torch.no_grad():
        logit = detector.eval()(inputs.pictures.float() / 255).logit
    assert float(logits[0, 1] - logits[0, 0]) == pytest.approx(float(logit) - 0.25, abs=1e-4)


def test_a_pack_says_what_its_scorer_says(tiny_pack: Path) -> None:
    pack = load_pack(tiny_pack)
    shown = torch.nn.functional.interpolate(pictures(3).float(), 64).to(torch.uint8)
    inputs = Inputs(shown, torch.zeros(3, dtype=torch.int64))
    logits = PackVictim(pack, threshold=0.5).logits(inputs)
    expected = [score.logit for score in ForgeryScorer(pack).score([np.asarray(p.permute(1, 2, 0)) for p in shown])]
    assert (logits[:, 1] - logits[:, 0] + 0.5).tolist() == pytest.approx(expected, abs=1e-4)
    small = Inputs(pictures(3), torch.zeros(3, dtype=torch.int64))  # brought to its size
    assert PackVictim(pack).logits(small).shape == (3, 2)
    with pytest.raises(DataError, match="only forgery detectors"):
        PackVictim(load_pack("yunet"))


def test_a_recogniser_says_how_far_the_cosine_is_above_the_threshold() -> None:
    victim, inputs = recognised("impersonate")
    assert isinstance(victim, RecogniserVictim) and inputs.references is not None and inputs.matrices is not None
    logits = victim.logits(inputs)
    first, second = (victim.embed(one.float() / 255, inputs.matrices) for one in (inputs.pictures, inputs.references))
    torch.testing.assert_close(victim.cosines(logits), (first * second).sum(1))
    assert ((logits[:, 1] > logits[:, 0]) == ((first * second).sum(1) > victim.threshold)).all()
    with pytest.raises(DataError, match="references"):
        victim.logits(Inputs(inputs.pictures, inputs.labels))


def test_gradients_pass_through_the_alignment() -> None:
    recogniser = SmallRecogniser().double()
    _, inputs = recognised("impersonate", 1)
    assert inputs.matrices is not None
    x = (inputs.pictures.double() / 255).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: recogniser(x[:, :, 6:18, 6:18], inputs.matrices), (x,), atol=1e-4)


def test_resizing_leaves_alone_what_fits() -> None:
    x = torch.rand(1, 3, 24, 24)
    assert resized(x, 24) is x and resized(x, 0) is x and resized(x, 12).shape == (1, 3, 12, 12)
