from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fake_faces import make_picture
from torch import Tensor

from unmask.errors import DataError
from unmask.forging.autoencoders import (
    AUTOENCODER_BANK,
    Autoencoder,
    AutoencoderSpec,
    Taef2,
    resynthesise,
    train_network,
)

pytestmark = pytest.mark.lab
CPU = torch.device("cpu")


def pictures(count: int, size: int) -> Tensor:
    """uint8 (count, 3, size, size)."""
    return torch.from_numpy(np.stack([make_picture(size, seed) for seed in range(count)])).permute(0, 3, 1, 2)


@pytest.mark.parametrize("spec", AUTOENCODER_BANK, ids=lambda spec: spec.name)
@pytest.mark.parametrize("size", [64, 96])
def test_a_reconstruction_has_its_pictures_shape_and_range(spec: AutoencoderSpec, size: int) -> None:
    torch.manual_seed(0)
    net = Autoencoder(spec).eval()
    for parameter in net.parameters():
        parameter.data *= 3  # wild enough to leave the range, if nothing kept it in
    faces = pictures(2, size).float() / 255
    reconstructions = resynthesise(net, faces, torch.Generator().manual_seed(1))
    assert reconstructions.shape == faces.shape and reconstructions.dtype == torch.float32
    assert reconstructions.min() >= 0 and reconstructions.max() <= 1
    assert not reconstructions.requires_grad


def test_no_two_networks_of_the_zoo_have_one_name() -> None:
    assert len({spec.name for spec in AUTOENCODER_BANK}) == len(set(AUTOENCODER_BANK)) == len(AUTOENCODER_BANK)


def test_a_reconstruction_follows_from_its_seeds() -> None:
    net = Autoencoder(AUTOENCODER_BANK[0]).eval()
    faces = pictures(2, 64).float() / 255

    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return resynthesise(net, faces, torch.Generator().manual_seed(seed))

    strong = [seed for seed in range(20) if float(torch.rand((), generator=torch.Generator().manual_seed(seed))) > 0.7]
    one, two = strong[:2]
    assert torch.equal(draw(one), draw(one))
    assert not torch.equal(draw(one), draw(two))


# One network of each kind of decoder, and one with a critic.
DIFFERENT = list({spec.decoder: spec for spec in sorted(AUTOENCODER_BANK, key=lambda spec: spec.critic)}.values())


@pytest.mark.parametrize("spec", DIFFERENT, ids=lambda spec: spec.name)
def test_a_few_steps_make_a_network_better(spec: AutoencoderSpec) -> None:
    """Held against the picture itself, trained steps must beat the untrained network."""
    faces = pictures(1, 64)
    wanted = faces.float() / 255

    def error(steps: int) -> float:
        net = train_network(spec, faces, steps, 3, CPU, batch=2, crop=64)
        assert not net.training
        with torch.no_grad():
            return float((net(wanted) - wanted).abs().mean())

    assert error(20) < 0.9 * error(1)


def test_training_follows_from_its_seed() -> None:
    spec = next(spec for spec in AUTOENCODER_BANK if spec.critic)
    faces = pictures(3, 64)
    losses: list[tuple[int, float]] = []
    nets = [
        train_network(spec, faces, 6, seed, CPU, batch=2, progress=lambda step, loss: losses.append((step, loss)))
        for seed in (1, 1, 2)
    ]
    one, again, other = (net.state_dict() for net in nets)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert [step for step, _ in losses] == [0, 0, 0] and losses[0] == losses[1]


def test_taef2_without_its_weights_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"taef2_encoder\.pth is missing; leave the folder out"):
        Taef2(tmp_path)


@pytest.mark.slow
@pytest.mark.data
def test_taef2_gives_a_real_face_back(data_dir: Path) -> None:
    net = Taef2(data_dir / "weights" / "taef2").eval()
    path = sorted((data_dir / "forensics" / "ffhq_stylegan_256" / "real").glob("*.jpg"))[0]
    picture = cv2.imread(str(path))
    assert picture is not None and picture.shape == (256, 256, 3)
    face = torch.from_numpy(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        drawn = net(face).clamp(0, 1)
    assert drawn.shape == face.shape
    error = float(((drawn - face) ** 2).mean())
    assert -10 * np.log10(error) > 28  # dB
    assert error > 1e-6  # no copy
    jittered = resynthesise(net, face, torch.Generator().manual_seed(0))
    assert jittered.shape == face.shape and jittered.min() >= 0 and jittered.max() <= 1
