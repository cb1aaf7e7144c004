"""The face recogniser that is brought to sketches."""

import math

import pytest
import torch

from unmask.errors import DataError
from unmask.lab.search.sketch_face import SketchFace, contrastive_loss
from unmask.networks.mobilefacenet import MobileFaceNet, published
from unmask.packs.assets import AssetUnavailable

pytestmark = pytest.mark.lab


def test_contrastive_loss_by_hand() -> None:
    # Two people; every sketch is its photo, and at right angles to the other's.
    unit = torch.eye(2).repeat(2, 1)
    labels, photos = torch.tensor([0, 1, 0, 1]), torch.tensor([0.0, 0, 1, 1])
    expected = math.log(1 + math.exp(-1 / 0.5))
    assert contrastive_loss(unit, labels, photos, 0.5).item() == pytest.approx(expected, rel=1e-5)
    assert contrastive_loss(unit, labels.flip(0)[[0, 1, 3, 2]], photos, 0.5).item() > expected


def test_rows_without_a_partner_do_not_count() -> None:
    unit = torch.nn.functional.normalize(torch.randn(4, 5), dim=1)
    labels, photos = torch.tensor([0, 9, 0, 1]), torch.tensor([0.0, 0, 1, 1])
    alone = contrastive_loss(unit, torch.tensor([3, 4, 5, 6]), photos, 0.1)
    assert alone.item() == 0
    assert torch.isfinite(contrastive_loss(unit, labels, photos, 0.1))


def test_only_published_weights_or_none() -> None:
    with pytest.raises(DataError, match="published"):
        SketchFace(weights="imagenet")
    vectors = SketchFace(weights="none")(torch.rand(2, 3, 112, 112))
    assert vectors.shape == (2, 192)


@pytest.mark.data
def test_published_weights_give_what_the_published_graph_gives() -> None:
    from unmask.networks.victims.recognisers import MobileFaceNet as Frozen

    try:
        network, frozen = published().eval(), Frozen().eval()
    except AssetUnavailable as error:
        pytest.skip(str(error))
    faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = network((faces * 255 - 127.5) / 128), frozen.features(faces)
    assert torch.allclose(ours, theirs, atol=1e-3)
    assert all(p.requires_grad for p in network.parameters())


def test_trains_from_random_weights() -> None:
    torch.manual_seed(0)
    network = MobileFaceNet()
    network(torch.rand(2, 3, 112, 112)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
