import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.forgery.mesonet import MesoNet, from_keras, read_hdf5

pytestmark = pytest.mark.lab

CONVOLUTIONS = ((3, 3, 3, 8), (5, 5, 8, 8), (5, 5, 8, 16), (5, 5, 16, 16))
POOLS = (2, 2, 2, 4)


def keras_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays as Keras names and lays them out, of a second model in one process: its numbers do not start at 1."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}

    def add(layer: str, **values: np.ndarray) -> None:
        arrays.update({f"{layer}/{layer}/{name}:0": value.astype(np.float32) for name, value in values.items()})

    # Nine and ten stand the other way around in the order of letters.
    for number, shape in enumerate(CONVOLUTIONS, 7):
        width = shape[-1]
        spread = np.sqrt(2 / np.prod(shape[:3]))
        add(f"conv2d_{number}", kernel=rng.normal(0, spread, shape), bias=rng.normal(0, 0.1, width))
        add(
            f"batch_normalization_{number}",
            gamma=rng.uniform(0.5, 1.5, width),
            beta=rng.normal(0, 0.3, width),
            moving_mean=rng.uniform(0, 0.5, width),
            moving_variance=rng.uniform(0.2, 2, width),
        )
    add("dense_9", kernel=rng.normal(0, 0.05, (1024, 16)), bias=rng.normal(0, 0.1, 16))
    add("dense_10", kernel=rng.normal(0, 0.3, (16, 1)), bias=rng.normal(0, 0.3, 1))
    return arrays


def block_in_numpy(x: np.ndarray, arrays: dict[str, np.ndarray], number: int, pool: int) -> np.ndarray:
    """One block as Keras computes it, channels last: convolution ("same"), ReLU, normalisation, max-pooling."""

    def of(layer: str, name: str) -> np.ndarray:
        return arrays[f"{layer}_{number}/{layer}_{number}/{name}:0"].astype(np.float64)

    kernel = of("conv2d", "kernel")
    side, half = kernel.shape[0], kernel.shape[0] // 2
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    y = np.zeros((*x.shape[:3], kernel.shape[3])) + of("conv2d", "bias")
    for row in range(side):
        for column in range(side):
            y += padded[:, row : row + height, column : column + width] @ kernel[row, column]
    y = np.maximum(y, 0)
    y = (y - of("batch_normalization", "moving_mean")) / np.sqrt(of("batch_normalization", "moving_variance") + 1e-3)
    y = y * of("batch_normalization", "gamma") + of("batch_normalization", "beta")
    return y.reshape(len(y), height // pool, pool, width // pool, pool, -1).max((2, 4))


def real_in_numpy(x: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """What the published network says of pictures (B, 256, 256, 3): how likely each is real."""
    numbers = sorted({int(name.split("/")[0].split("_")[-1]) for name in arrays if name.startswith("conv2d")})
    dense = sorted({name.split("/")[0] for name in arrays if name.startswith("dense")}, key=lambda n: int(n[6:]))
    for number, pool in zip(numbers, POOLS, strict=True):
        x = block_in_numpy(x, arrays, number, pool)
    first, last = ({name: arrays[f"{d}/{d}/{name}:0"] for name in ("kernel", "bias")} for d in dense)
    hidden = x.reshape(len(x), -1) @ first["kernel"] + first["bias"]
    hidden = np.where(hidden > 0, hidden, 0.1 * hidden)
    return 1 / (1 + np.exp(-(hidden @ last["kernel"] + last["bias"])[:, 0]))


def write_hdf5(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """An HDF5 file of version 0 with arrays in one piece, by its published format; each group in two nodes if it can.

    Written from the end of each object on: members first, then the group that points at them.
    """
    out = bytearray(96)

    def put(data: bytes) -> int:
        out.extend(bytes(-len(out) % 8))
        out.extend(data)
        return len(out) - len(data)

    def message(kind: int, data: bytes) -> bytes:
        data += bytes(-len(data) % 8)
        return struct.pack("<HHB3x", kind, len(data), 0) + data

    def header(*messages: bytes) -> int:
        body = b"".join(messages)
        return put(struct.pack("<BxHII4x", 1, len(messages), 1, len(body)) + body)

    def array(value: np.ndarray) -> int:
        start = put(value.astype(value.dtype.newbyteorder("<")).tobytes())
        rank, kind = value.ndim, 0x11 if value.dtype.kind == "f" else 0x10
        space = struct.pack(f"<BBB5x{rank}Q", 1, rank, 0, *value.shape)
        # The type stands in a piece that continues the header, as the format allows.
        rest = message(0x03, struct.pack("<BBBBI12x", kind, 0x20, 0x1F, 0, value.dtype.itemsize))
        more = message(0x10, struct.pack("<QQ", put(rest), len(rest)))
        return header(message(0x01, space), more, message(0x08, struct.pack("<BBQQ", 3, 1, start, value.nbytes)))

    def group(members: dict[str, object]) -> tuple[int, int, int]:
        addresses = [(n, group(m)[0] if isinstance(m, dict) else array(m)) for n, m in sorted(members.items())]
        text, offsets = bytearray(8), []
        for name, _ in addresses:
            offsets.append(len(text))
            text.extend(name.encode() + b"\0" + bytes(-(len(name) + 1) % 8))
        heap = put(b"HEAP" + struct.pack("<B3xQQQ", 0, len(text), 1, put(bytes(text))))
        entries = [
            struct.pack("<QQI4x16x", at, address, 0) for at, (_, address) in zip(offsets, addresses, strict=True)
        ]
        half = (len(entries) + 1) // 2
        leaves = [
            put(b"SNOD" + struct.pack("<BxH", 1, len(part)) + b"".join(part))
            for part in (entries[:half], entries[half:])
            if part
        ]
        children = b"".join(struct.pack("<QQ", leaf, 0) for leaf in leaves)
        tree = put(b"TREE" + struct.pack("<BBHQQQ", 0, 0, len(leaves), 2**64 - 1, 2**64 - 1, 0) + children)
        return header(message(0x11, struct.pack("<QQ", tree, heap))), tree, heap

    nested: dict[str, object] = {}
    for name, value in arrays.items():
        *folders, leaf = name.split("/")
        place = nested
        for folder in folders:
            place = place.setdefault(folder, {})  # type: ignore[assignment]
        place[leaf] = value
    root, tree, heap = group(nested)
    out[:96] = (
        b"\x89HDF\r\n\x1a\n"
        + struct.pack("<BBBxBBBxHHI", 0, 0, 0, 0, 8, 8, 4, 16, 0)
        + struct.pack("<QQQQ", 0, 2**64 - 1, len(out), 2**64 - 1)
        + struct.pack("<QQI4xQQ", 0, root, 1, tree, heap)
    )
    path.write_bytes(bytes(out))


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "Meso4.h5"
    write_hdf5(path, keras_arrays())
    return path


@pytest.fixture(scope="module")
def detector(weight_file: Path) -> MesoNet:
    return MesoNet(str(weight_file)).eval()


def faces(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    ground = nn.functional.interpolate(torch.rand((count, 3, 8, 8), generator=generator), size=256, mode="bilinear")
    return (0.8 * ground + 0.2 * torch.rand(ground.shape, generator=generator)).clamp(0, 1)


def test_it_has_the_published_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in MesoNet().parameters()) == 27_977


def test_arrays_come_back_from_a_file(tmp_path: Path) -> None:
    arrays = {**keras_arrays(), "double/x:0": np.arange(6.0).reshape(3, 2), "steps": np.arange(3)}
    write_hdf5(tmp_path / "some.h5", arrays)
    read = read_hdf5(tmp_path / "some.h5")
    assert read.keys() == arrays.keys() - {"steps"}  # integers are no weights
    assert all(read[name].dtype == np.float32 and np.array_equal(read[name], arrays[name]) for name in read)


@pytest.mark.parametrize("number", range(4))
def test_a_block_computes_what_keras_computes(detector: MesoNet, number: int) -> None:
    channels, side = CONVOLUTIONS[number][2], 16
    x = np.random.default_rng(number).normal(size=(2, side, side, channels))
    expected = block_in_numpy(x, keras_arrays(), 7 + number, POOLS[number])
    with torch.no_grad():
        block = detector.blocks[number](torch.from_numpy(x.transpose(0, 3, 1, 2)).float())
    np.testing.assert_allclose(block.numpy().transpose(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-4)


def test_the_logit_is_that_of_keras_turned_around(detector: MesoNet) -> None:
    """Keras says 1 = real; here more is more likely forged."""
    given = faces(3)
    with torch.no_grad():
        forged = detector(given).logit.sigmoid()
    real = real_in_numpy(given.numpy().transpose(0, 2, 3, 1).astype(np.float64), keras_arrays())
    assert np.ptp(real) > 1e-3
    np.testing.assert_allclose(forged.numpy(), 1 - real, rtol=1e-4, atol=1e-5)


def test_the_map_shares_the_logit_out(detector: MesoNet) -> None:
    with torch.no_grad():
        out = detector(faces(3))
    assert out.map.shape == (3, 1, 8, 8)
    torch.testing.assert_close(out.map.mean((1, 2, 3)), out.logit, rtol=1e-4, atol=1e-4)
    assert out.map.std() > 1e-3


def test_the_map_moves_where_the_picture_moves(detector: MesoNet) -> None:
    """A change in a corner moves the cell there; those far off share no pixel with it, only the slopes."""
    given = faces(1)
    other = given.clone()
    other[:, :, :4, :4] = 1 - other[:, :, :4, :4]
    with torch.no_grad():
        moved = (detector(given).map - detector(other).map).abs()[0, 0]
    assert moved[0, 0] > 10 * moved[4:, 4:].max()


def test_training_mode_keeps_logit_and_map_together() -> None:
    torch.manual_seed(0)
    fresh = MesoNet().train()
    with torch.no_grad():
        out = fresh(faces(4))
    torch.testing.assert_close(out.map.mean((1, 2, 3)), out.logit, rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_mean_squared_error_and_teaches_everything() -> None:
    torch.manual_seed(0)
    fresh = MesoNet().eval()
    given = {"faces": faces(4), "labels": torch.tensor([0.0, 1.0, 0.0, 1.0])}
    losses = fresh.training_losses(given)
    assert list(losses) == ["verdict"]
    with torch.no_grad():
        chances = fresh(given["faces"]).logit.sigmoid().numpy()
    assert float(losses["verdict"].detach()) == pytest.approx(np.mean((chances - [0, 1, 0, 1]) ** 2), rel=1e-5)
    losses["verdict"].backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in fresh.parameters())


def test_a_score_does_not_depend_on_the_others_in_the_batch(detector: MesoNet) -> None:
    with torch.no_grad():
        together, alone = detector(faces(4)), [detector(face[None]) for face in faces(4)]
    torch.testing.assert_close(together.logit, torch.cat([out.logit for out in alone]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together.map, torch.cat([out.map for out in alone]), rtol=1e-5, atol=1e-4)
    assert detector(faces(4)[:0]).map.shape == (0, 1, 8, 8)


def test_other_sizes_are_refused(detector: MesoNet) -> None:
    with pytest.raises(DataError, match="256 x 256"):
        detector(torch.zeros(1, 3, 128, 128))


def test_files_of_other_networks_are_refused(tmp_path: Path) -> None:
    arrays = keras_arrays()
    fewer = {name: array for name, array in arrays.items() if not name.startswith("conv2d_8")}
    unnamed = {name: array for name, array in arrays.items() if "moving_mean" not in name}
    narrower = {**arrays, "conv2d_7/conv2d_7/bias:0": np.zeros(5, np.float32)}
    for case in (fewer, unnamed, {}):
        with pytest.raises(DataError, match="not those of Meso-4"):
            from_keras(case, "some.h5")
    write_hdf5(tmp_path / "narrower.h5", narrower)
    with pytest.raises(DataError, match=r"narrower\.h5.*blocks\.0\.0\.bias"):
        MesoNet(str(tmp_path / "narrower.h5"))


def test_what_is_no_weight_file_is_refused(tmp_path: Path, weight_file: Path) -> None:
    whole = weight_file.read_bytes()
    with pytest.raises(DataError, match="no weight file there"):
        MesoNet(str(tmp_path / "nothing.h5"))
    for text in (b"", b"PK\x03\x04", whole[:8] + b"\2" + whole[9:], whole[:90], whole[:5000], whole[:-50]):
        (tmp_path / "bad.h5").write_bytes(text)
        with pytest.raises(DataError, match=r"bad\.h5"):
            MesoNet(str(tmp_path / "bad.h5"))


@settings(max_examples=200, deadline=None)
@given(changes=st.dictionaries(st.integers(0, 2000), st.integers(0, 255), min_size=1, max_size=12))
def test_a_damaged_file_is_read_or_refused(changes: dict[int, int], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.h5"
    write_hdf5(path, {"dense_1/dense_1/kernel:0": np.ones((2, 3), np.float32), "dense_2/bias:0": np.ones(1)})
    damaged = bytearray(path.read_bytes())
    for place, value in changes.items():
        damaged[place % len(damaged)] = value
    path.write_bytes(damaged)
    try:
        read_hdf5(path)
    except DataError as error:
        assert "damaged.h5" in str(error)


@pytest.mark.data
def test_the_published_weights_are_read(data_dir: Path) -> None:
    path = data_dir / "weights" / "mesonet_original" / "Meso4_DF.h5"
    arrays = read_hdf5(path)
    assert sum(array.size for name, array in arrays.items() if "moving" not in name) == 27_977
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert all(array.min() > 0 for name, array in arrays.items() if "variance" in name)
    given = faces(2)
    with torch.no_grad():
        forged = MesoNet(str(path)).eval()(given).logit.sigmoid()
    real = real_in_numpy(given.numpy().transpose(0, 2, 3, 1).astype(np.float64), arrays)
    np.testing.assert_allclose(forged.numpy(), 1 - real, rtol=1e-3, atol=1e-5)
