"""What is sent in fewer bytes arrives nearly as it was, and over rounds nothing is lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unmask.errors import DataError
from unmask.federation.compression import COMPRESSIONS, compress, restore, with_feedback

UPDATES = arrays.arrays(np.float32, (4, 3), elements=st.floats(-50, 50, width=32))


@pytest.mark.parametrize("how", COMPRESSIONS)
@given(array=UPDATES)
def test_an_update_arrives_within_the_step_of_its_number_format(how: str, array: np.ndarray) -> None:
    sent = compress({"w": array, "s": np.float32(0.0).reshape(())}, how)  # type: ignore[arg-type]
    arrived = restore(sent)
    assert arrived.keys() == {"w", "s"} and arrived["w"].dtype == np.float32 and arrived["s"].shape == ()
    step = {"none": 0.0, "fp16": np.abs(array).max() / 1024 + 1e-7, "int8": np.abs(array).max() / 127 / 2 + 1e-6}[how]
    assert np.abs(arrived["w"] - array).max() <= step


@pytest.mark.parametrize("how", ["fp16", "int8"])
def test_with_feedback_the_sum_over_rounds_is_right(how: str) -> None:
    rng = np.random.default_rng(0)
    kept: dict[str, np.ndarray] = {}
    meant, arrived = np.zeros((8, 8)), np.zeros((8, 8))
    plain = np.zeros((8, 8))
    for _ in range(50):
        update = {"w": (rng.normal(size=(8, 8)) ** 3 + 0.01).astype(np.float32)}
        sent, kept = with_feedback(update, kept, how)  # type: ignore[arg-type]
        meant += update["w"]
        arrived += restore(sent)["w"]
        plain += restore(compress(update, how))["w"]  # type: ignore[arg-type]
    np.testing.assert_allclose(arrived + kept["w"], meant, atol=1e-3)
    assert np.abs(arrived - meant).mean() < np.abs(plain - meant).mean()


def test_bytes_are_a_quarter() -> None:
    update = {"w": np.ones((100, 100), np.float32)}
    sizes = [sum(array.nbytes for array in compress(update, how).values()) for how in COMPRESSIONS]
    assert sizes == [40_000, 20_000, 10_004]


def test_bytes_without_a_scale_are_refused() -> None:
    with pytest.raises(DataError, match="w came in bytes without its scale"):
        restore({"w": np.zeros(3, np.int8)})
