"""SFace in torch says what SFace in ONNX Runtime says, and has gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unmask.errors import DataError
from unmask.faces.alignment import align, alignment_matrix
from unmask.faces.finding import FaceFinder
from unmask.faces.identity import FaceEmbedder
from unmask.networks.identity import IdentityEmbedder, align_faces
from unmask.packs.assets import SFACE, fetch

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def embedder() -> IdentityEmbedder:
    try:
        fetch(SFACE)
    except DataError as error:
        pytest.skip(str(error))
    return IdentityEmbedder()


@pytest.fixture(scope="module")
def face(portrait: Path) -> tuple[np.ndarray, np.ndarray]:
    """The demonstration's photograph, and the landmarks of its face."""
    with Image.open(portrait) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    (face, *_) = FaceFinder().find(pixels)
    return pixels, face.landmarks


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def test_it_agrees_with_onnx_runtime(embedder: IdentityEmbedder, face: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, landmarks = face
    expected = FaceEmbedder().embed(pixels, landmarks)
    vector = embedder(as_tensor(align(pixels, landmarks)))
    assert vector.shape == (1, 128) and torch.linalg.vector_norm(vector) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(vector[0].numpy(), expected, atol=1e-4)


def test_its_alignment_is_that_of_the_runtime(embedder: IdentityEmbedder, face: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, landmarks = face
    aligned = align_faces(as_tensor(pixels), alignment_matrix(landmarks)[None])
    assert (aligned * 255 - torch.from_numpy(align(pixels, landmarks)).permute(2, 0, 1)).abs().mean() < 2
    assert float(embedder(aligned)[0] @ torch.from_numpy(FaceEmbedder().embed(pixels, landmarks))) > 0.99


def test_gradients_reach_the_picture_and_no_weight(
    embedder: IdentityEmbedder, face: tuple[np.ndarray, np.ndarray]
) -> None:
    pixels, landmarks = face
    picture = as_tensor(pixels).requires_grad_()
    before = embedder(align_faces(picture, alignment_matrix(landmarks)[None]))
    target = torch.nn.functional.normalize(torch.randn(1, 128, generator=torch.Generator().manual_seed(0)), dim=1)
    (before * target).sum().backward()
    assert picture.grad is not None and not list(embedder.parameters())
    with torch.no_grad():  # one small step along the gradient brings the identity nearer to the target
        moved = (picture + 2 / 255 * picture.grad.sign()).clamp(0, 1)
        after = embedder(align_faces(moved, alignment_matrix(landmarks)[None]))
    assert float((after * target).sum()) > float((before.detach() * target).sum()) + 0.05


def test_faces_are_embedded_alike_in_any_batch_and_mode(
    embedder: IdentityEmbedder, face: tuple[np.ndarray, np.ndarray]
) -> None:
    aligned = as_tensor(align(*face))
    noise = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    together = embedder.train()(torch.cat([noise, aligned]))
    torch.testing.assert_close(together[2:], embedder.eval()(aligned), atol=1e-5, rtol=1e-4)


def test_another_network_is_refused(tmp_path: Path) -> None:
    import onnx

    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Sin", ["x"], ["y"])],
        "other",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 112, 112])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3, 112, 112])],
    )
    onnx.save(onnx.helper.make_model(graph, ir_version=10), str(tmp_path / "other.onnx"))
    with pytest.raises(ValueError, match="Sin"):
        IdentityEmbedder(tmp_path / "other.onnx")
