"""GenD: the metric losses on vectors by hand, what a step changes, the unit feature, what is refused."""

import math

import pytest
import torch
from torch import nn

from unmask.errors import DataError
from unmask.forgery.gend import GenD, alignment, read_features, uniformity

pytestmark = pytest.mark.lab


def test_the_metric_losses_by_hand() -> None:
    """Three points of one label, two at 0 and one at 90 degrees; a fourth of the other label opposite the first."""
    points = torch.tensor([[1.0, 0], [1, 0], [0, 1], [-1, 0]])
    labels = torch.tensor([0, 0, 0, 1])
    # Squared distances: 0 between the first two, 2 from either to the third; 4, 4 and 2 to the fourth.
    assert float(alignment(points, labels)) == pytest.approx(4 / 3)
    assert float(uniformity(points)) == pytest.approx(math.log((1 + 3 * math.exp(-4) + 2 * math.exp(-8)) / 6))


def test_the_metric_losses_at_their_ends() -> None:
    same = torch.tensor([[1.0, 0], [1, 0]])
    assert float(alignment(same, torch.tensor([0, 1]))) == 0  # no pair of one label
    assert float(alignment(same, torch.tensor([1, 1]))) == 0 and float(uniformity(same)) == 0
    opposite = torch.tensor([[1.0, 0], [-1, 0]])
    assert float(alignment(opposite, torch.tensor([1, 1]))) == 4 and float(uniformity(opposite)) == pytest.approx(-8)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_a_step_changes_the_norms_and_the_head_alone(name: str) -> None:
    torch.manual_seed(0)
    detector = GenD(name, "none").train()
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    tuned = {
        f"{place}.{part}"
        for place, module in detector.named_modules()
        if isinstance(module, nn.LayerNorm) or place == "head"
        for part in ("weight", "bias")
    }
    assert {key for key, value in detector.named_parameters() if value.requires_grad} == tuned
    optimiser = torch.optim.AdamW(detector.parameters(), lr=1e-2, weight_decay=0.1)
    batch = {"faces": torch.rand(4, 3, 64, 64), "labels": torch.tensor([0.0, 1, 0, 1])}
    for _ in range(2):
        optimiser.zero_grad()
        torch.stack(list(detector.training_losses(batch).values())).sum().backward()
        optimiser.step()
    changed = {key for key, value in detector.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == tuned


def test_features_have_unit_length_and_the_logit_is_read_from_them() -> None:
    detector = GenD("test_vit", "none").eval()
    faces = torch.rand(3, 3, 96, 96)
    with torch.no_grad():
        feature, out = detector.feature(faces), detector(faces)
        torch.testing.assert_close(feature.norm(dim=1), torch.ones(3))
        answers = detector.head(feature)
    torch.testing.assert_close(out.logit, answers[:, 1] - answers[:, 0])
    assert out.map.shape == (3, 1, 6, 6)


def test_the_weights_of_the_terms_are_options() -> None:
    torch.manual_seed(0)
    detector = GenD("test_vit", "none", alignment=0.0, uniformity=2.0, smoothing=0.0).eval()
    batch = {"faces": torch.rand(4, 3, 64, 64), "labels": torch.tensor([0.0, 1, 0, 1])}
    with torch.no_grad():
        losses, feature = detector.training_losses(batch), detector.feature(batch["faces"])
    assert losses["alignment"] == 0
    torch.testing.assert_close(losses["uniformity"], 2 * uniformity(feature))


def test_a_head_of_one_number_is_the_logit() -> None:
    head = nn.Linear(4, 1)
    feature, patches = torch.rand(2, 4), torch.rand(2, 3, 3, 4)
    out = read_features(head, feature, patches)
    torch.testing.assert_close(out.logit, head(feature)[:, 0])
    torch.testing.assert_close(out.map[:, 0], head(patches)[..., 0])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"encoder": "no_such_network"}, "timm has no model"),
        ({"encoder": "test_resnet", "weights": "none"}, "neither a ViT nor a ConvNeXt"),
        ({"encoder": "test_vit", "weights": "registry"}, "no registry package"),
        ({"encoder": "test_vit", "weights": "not/there.safetensors"}, "no weight file"),
        ({"encoder": "test_vit", "weights": "none", "uniformity": -1.0}, "at least 0"),
        ({"encoder": "test_vit", "weights": "none", "smoothing": 1.0}, "below 1"),
        ({"encoder": "test_vit", "weights": "none", "alignment": math.nan}, "at least 0"),
    ],
)
def test_what_cannot_be_built_is_refused(options: dict, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        GenD(**options)
