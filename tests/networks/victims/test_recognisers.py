"""Recognisers in torch say what their own runtimes say, and have gradients."""

import numpy as np
import pytest
import torch
from torch import Tensor

from unmask.errors import DataError
from unmask.networks.victims.recognisers import RECOGNISERS, Recogniser
from unmask.packs.assets import FACENET, MOBILEFACENET, fetch

pytestmark = [pytest.mark.lab, pytest.mark.slow]
# Of TensorFlow.js 4.22 (faceres) and of face-api.js 1.7.15 (dlib) on `pattern`; the latter divides by 255 where dlib
# divides by 256.
FACERES = {7: 1.0598514080047607}
FACERES_LENGTH = 1.8850999890191769
DLIB = [-0.06154812, 0.07065514, 0.04269177, -0.02205276, -0.18910106, -0.05340903, -0.03598206, -0.08030889]
UPRIGHT = np.array([[[0.7, 0.05, 9.0], [-0.05, 0.7, 4.0]]])


def pattern(side: int) -> Tensor:
    """(1, 3, side, side) in [0, 1], the same in every language."""
    i = np.arange(side * side * 3)
    values = ((i * 7919 + i // 97 * 31) % 256).reshape(1, side, side, 3)
    return torch.from_numpy(values).permute(0, 3, 1, 2).float() / 255


def recogniser(name: str) -> Recogniser:
    try:
        return RECOGNISERS.load(name)().eval()
    except DataError as error:
        pytest.skip(str(error))


def test_facenet_agrees_with_opencv() -> None:
    import cv2

    facenet, x = recogniser("facenet"), pattern(160)
    network = cv2.dnn.readNetFromTensorflow(str(fetch(FACENET)))
    network.setInput(((x - x.mean()) / x.std(correction=0)).numpy())
    torch.testing.assert_close(facenet.features(x), torch.from_numpy(network.forward()), atol=2e-6, rtol=0)


def test_mobilefacenet_agrees_with_litert() -> None:
    from ai_edge_litert.interpreter import Interpreter

    network, x = Interpreter(str(fetch(MOBILEFACENET)), num_threads=1), pattern(112)
    mine = torch.nn.functional.normalize(recogniser("mobilefacenet").features(torch.cat([x, x.flip(3)])))
    network.allocate_tensors()
    tensor = ((torch.cat([x, x.flip(3)]) * 255 - 127.5) / 128).permute(0, 2, 3, 1).numpy()
    network.set_tensor(network.get_input_details()[0]["index"], tensor)
    network.invoke()
    theirs = torch.from_numpy(network.get_tensor(network.get_output_details()[0]["index"]))
    torch.testing.assert_close(mine, torch.nn.functional.normalize(theirs), atol=2e-5, rtol=0)


def test_faceres_agrees_with_tensorflow_js() -> None:
    features = recogniser("faceres").features(pattern(224).flip(1))[0]
    assert float(features.norm()) == pytest.approx(FACERES_LENGTH, rel=1e-5)
    assert all(float(features[place]) == pytest.approx(value, rel=1e-5) for place, value in FACERES.items())


def test_dlib_agrees_with_face_api() -> None:
    mean = torch.tensor([122.782, 117.001, 104.298]).view(1, 3, 1, 1) / 255
    rescaled = (pattern(150) - mean) * 256 / 255 + mean
    features = recogniser("dlib").features(rescaled)[0, :8]
    np.testing.assert_allclose(features.numpy(), DLIB, atol=2e-5)


@pytest.mark.parametrize("name", RECOGNISERS.names())
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    network = recogniser(name).double()
    generator = torch.Generator().manual_seed(0)
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 12, generator=generator), 128, mode="bicubic")
    picture = picture.double().clamp(0.05, 0.95).requires_grad_()
    target = torch.randn(network(picture, UPRIGHT).shape, generator=generator).double()
    target /= target.norm()
    (gradient,) = torch.autograd.grad((network(picture, UPRIGHT) * target).sum(), picture)
    assert not list(network.parameters())
    with torch.no_grad():
        along = gradient / gradient.norm()  # where most changes: rounding matters least
        near = [float((network(picture + step * along, UPRIGHT) * target).sum()) for step in (-1e-5, 1e-5)]
    assert (near[1] - near[0]) / 2e-5 == pytest.approx(float(gradient.norm()), rel=1e-3)


@pytest.mark.parametrize("name", RECOGNISERS.names())
def test_a_face_is_embedded_alike_in_any_batch(name: str) -> None:
    network, pictures = recogniser(name), torch.cat([pattern(128), pattern(128).flip(2), pattern(128).flip(3)])
    with torch.no_grad():
        together = network(pictures, np.repeat(UPRIGHT, 3, 0))
        alone = network(pictures[1:2], UPRIGHT)
    assert together.norm(dim=1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)
