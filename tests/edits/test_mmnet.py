import pytest
import torch

from unmask.edits.mmnet import MMNet

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def reader() -> MMNet:
    return MMNet(readers="regions", scales="coarse", recovery=False).eval()


def test_traces_of_flat_faces_are_numbers_and_alike_everywhere(reader: MMNet) -> None:
    for grey in (0.0, 0.5, 1.0):
        traces = reader.pyramid.traces(torch.full((2, 3, 64, 64), grey))
        assert traces.shape == (2, 12, 16, 16) and traces.isfinite().all()
        assert torch.equal(traces, traces[:, :, :1, :1].expand_as(traces)) and (traces[:, 6:] == 0).all()


@pytest.mark.parametrize("colour", range(3))
def test_noise_in_a_corner_stands_out_there_and_in_its_colour(reader: MMNet, colour: int) -> None:
    faces = torch.full((1, 3, 64, 64), 0.5)
    faces[0, colour, :32, :32] += 0.2 * torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    cells, against = reader.pyramid.traces(faces).unflatten(1, (2, 2, 3)).unbind(1)
    others = [number for number in range(3) if number != colour]
    assert (cells[0, :, colour, :7, :7].amin() > cells[0, :, colour, 9:, 9:].amax() + 2).all()
    assert torch.equal(cells[0, :, others], cells[0, :, others, :1, :1].expand(-1, -1, 16, 16))
    assert (against[0, :, colour, :7, :7] > 0).all() and (against[0, :, colour, 9:, 9:] < 0).all()
    assert torch.allclose(against.mean((3, 4)), torch.zeros(1), atol=1e-5)


def test_more_noise_leaves_more_of_a_trace(reader: MMNet) -> None:
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    means = [reader.pyramid.traces(0.5 + strength * noise)[:, :6].mean() for strength in (0.0, 0.01, 0.02, 0.04)]
    assert means == sorted(means) and len(set(map(float, means))) == 4
