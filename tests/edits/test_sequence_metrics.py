import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.edits.labels import all_sequences, place_of
from unmask.edits.metrics import (
    adaptive_accuracy,
    adaptive_hits,
    adjacent_swap,
    complete_matching,
    fixed_accuracy,
    fixed_hits,
    pair_hits,
    prefix_hits,
    presence,
    recovery_errors,
    structural_similarity,
)

# Truth, prediction, Fixed-Acc, Adaptive-Acc, CSM.
VECTORS = (
    ("00000", "00000", 1.0, 1.0, 1),
    ("12400", "12400", 1.0, 1.0, 1),
    ("14200", "12400", 0.6, 1 / 3, 0),
    ("35000", "30000", 0.8, 0.5, 0),
    ("12345", "54321", 0.2, 0.2, 0),
    ("00000", "20000", 0.8, 0.0, 0),
)
rows = st.integers(0, 325)
several = st.lists(st.tuples(rows, rows), min_size=1, max_size=20)


def sequences(*texts: str) -> np.ndarray:
    return np.array([[int(number) for number in text] for text in texts], np.uint8)


@pytest.mark.parametrize(("truth", "predicted", "fixed", "adaptive", "csm"), VECTORS)
def test_each_known_case_has_its_numbers(truth: str, predicted: str, fixed: float, adaptive: float, csm: int) -> None:
    one, other = sequences(truth), sequences(predicted)
    assert fixed_accuracy(one, other) == pytest.approx(fixed, abs=1e-12)
    assert adaptive_accuracy(one, other) == pytest.approx(adaptive, abs=1e-12)
    assert complete_matching(one, other) == csm


def test_all_known_cases_together_have_their_numbers() -> None:
    truth, predicted = sequences(*(row[0] for row in VECTORS)), sequences(*(row[1] for row in VECTORS))
    assert fixed_accuracy(truth, predicted) == pytest.approx(22 / 30)  # 0.7333
    assert adaptive_accuracy(truth, predicted) == pytest.approx(7 / 15)  # 0.4667
    assert complete_matching(truth, predicted) == pytest.approx(1 / 3)
    assert prefix_hits(truth, predicted).mean(axis=0) == pytest.approx([2 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3])


def test_adaptive_accuracy_counts_steps_and_not_pictures() -> None:
    hits, steps = adaptive_hits(sequences("00000", "12400", "10000"), sequences("00000", "12000", "21000"))
    assert hits.tolist() == [1, 2, 0] and steps.tolist() == [1, 3, 2]


@given(several)
def test_fixed_accuracy_is_never_below_complete_matching(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = (all_sequences()[list(column)] for column in zip(*pairs, strict=True))
    assert fixed_accuracy(truth, predicted) >= complete_matching(truth, predicted)
    assert (fixed_hits(truth, predicted) >= prefix_hits(truth, predicted)[:, -1]).all()


@given(several)
def test_complete_matching_is_the_share_of_equal_rows_and_ends_a_falling_profile(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = (all_sequences()[list(column)] for column in zip(*pairs, strict=True))
    profile = prefix_hits(truth, predicted).mean(axis=0)
    assert (np.diff(profile) <= 0).all() and profile[-1] == complete_matching(truth, predicted)
    assert complete_matching(truth, predicted) == pytest.approx(np.mean([one == other for one, other in pairs]))


@given(st.lists(rows, min_size=1, max_size=20))
def test_a_perfect_prediction_is_perfect_by_every_measure(places: list[int]) -> None:
    truth = all_sequences()[places]
    assert fixed_accuracy(truth, truth) == adaptive_accuracy(truth, truth) == complete_matching(truth, truth) == 1


def test_adaptive_accuracy_can_be_below_complete_matching() -> None:
    truth, predicted = sequences("10000", "12345"), sequences("10000", "23451")
    assert adaptive_accuracy(truth, predicted) == pytest.approx(1 / 6)
    assert complete_matching(truth, predicted) == 0.5


def test_calling_everything_untouched_gets_two_fifths_by_fixed_accuracy_alone() -> None:
    truth = sequences("10000", "12000", "12300", "12340", "12345")
    nothing = np.zeros_like(truth)
    assert fixed_accuracy(truth, nothing) == pytest.approx(0.4)
    assert adaptive_accuracy(truth, nothing) == complete_matching(truth, nothing) == 0


def test_presence_forgets_the_order() -> None:
    measured = presence(sequences("00000", "31000", "13000", "54321"))
    assert measured.dtype == bool
    assert measured.astype(int).tolist() == [[0, 0, 0, 0, 0], [1, 0, 1, 0, 0], [1, 0, 1, 0, 0], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("truth", "predicted", "swapped"),
    [
        ("12000", "21000", True),
        ("12345", "12354", True),
        ("12340", "13240", True),
        ("12000", "12000", False),
        ("12300", "32100", False),  # exchanged, yet no neighbours
        ("12340", "21430", False),  # two exchanges
        ("12300", "21400", False),  # another fault beside it
        ("12300", "21000", False),
        ("10000", "00000", False),
        ("10000", "01000", False),  # an edit and a zero
        ("00000", "00000", False),
    ],
)
def test_an_adjacent_swap_is_two_neighbouring_edits_exchanged_and_nothing_else(
    truth: str, predicted: str, swapped: bool
) -> None:
    assert adjacent_swap(sequences(truth), sequences(predicted)).tolist() == [swapped]
    assert adjacent_swap(sequences(predicted), sequences(truth)).tolist() == [swapped]


def test_every_exchange_of_neighbours_is_found_in_its_row_and_leaves_the_truth_as_it_was() -> None:
    long = all_sequences()[np.count_nonzero(all_sequences(), axis=1) == 4]
    for place in range(3):
        predicted = long.copy()
        predicted[:, [place, place + 1]] = long[:, [place + 1, place]]
        predicted[::2] = long[::2]
        before = long.copy()
        assert adjacent_swap(long, predicted).tolist() == [False, True] * (len(long) // 2)
        assert (long == before).all()


SIDE = 40


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def square() -> np.ndarray:
    """A quarter of the picture is edited."""
    mask = np.zeros((SIDE, SIDE))
    mask[: SIDE // 2, : SIDE // 2] = 1
    return mask


def test_a_face_recovered_exactly_has_no_error() -> None:
    measured = recovery_errors(noise(0), noise(0), square())
    assert measured["psnr"] == measured["psnr_inside"] == measured["psnr_outside"] == 60
    assert measured["l1_inside"] == measured["l1_outside"] == 0
    assert measured["ssim"] == pytest.approx(1)


def test_an_error_inside_is_no_error_outside() -> None:
    original = np.full((SIDE, SIDE, 3), 100, np.uint8)
    recovered = original.copy()
    recovered[square() > 0] += 51  # a fifth
    for one, other in ((recovered, original), (original, recovered)):  # bytes must not wrap round
        measured = recovery_errors(one, other, square())
        assert measured["l1_inside"] == pytest.approx(0.2) and measured["l1_outside"] == 0
        assert measured["psnr_inside"] == pytest.approx(-20 * math.log10(0.2)) and measured["psnr_outside"] == 60
        assert measured["psnr"] == pytest.approx(-10 * math.log10(0.04 / 4))
        assert 0 < measured["ssim"] < 1


def test_errors_are_means_over_colours() -> None:
    original = np.zeros((SIDE, SIDE, 3), np.uint8)
    recovered = original.copy()
    recovered[..., 1] = 255
    measured = recovery_errors(recovered, original, square())
    assert measured["l1_inside"] == pytest.approx(1 / 3) and measured["l1_outside"] == pytest.approx(1 / 3)
    assert measured["psnr"] == pytest.approx(-10 * math.log10(1 / 3))


def test_where_there_is_no_inside_its_errors_are_no_numbers() -> None:
    measured = recovery_errors(noise(0), noise(1), np.full((SIDE, SIDE), 0.5))  # half is not more than half
    assert math.isnan(measured["l1_inside"]) and math.isnan(measured["psnr_inside"])
    assert measured["l1_outside"] > 0 and measured["psnr_outside"] == pytest.approx(measured["psnr"])


def test_where_there_is_no_outside_its_errors_are_no_numbers() -> None:
    measured = recovery_errors(noise(0), noise(1), np.full((SIDE, SIDE), 0.51))
    assert math.isnan(measured["l1_outside"]) and math.isnan(measured["psnr_outside"])
    assert measured["l1_inside"] > 0 and measured["psnr_inside"] == pytest.approx(measured["psnr"])


def test_similarity_of_two_flat_pictures_is_that_of_their_brightness() -> None:
    one, other = (np.full((SIDE, SIDE, 3), value) for value in (0.2, 0.7))
    expected = (2 * 0.2 * 0.7 + 0.01**2) / (0.2**2 + 0.7**2 + 0.01**2)
    assert structural_similarity(one, other) == pytest.approx(expected, rel=1e-6)


def framed() -> tuple[np.ndarray, np.ndarray]:
    """Two noisy pictures, alike in a frame ten pixels wide, so that windows over the border see no difference."""
    rng = np.random.default_rng(5)
    one = rng.random((SIDE, SIDE, 3))
    other = one.copy()
    inner = slice(10, SIDE - 10)
    other[inner, inner] = (0.7 * one[inner, inner] + 0.3 * rng.random((SIDE - 20, SIDE - 20, 3))).clip(0, 1)
    return one, other


def test_similarity_is_that_of_its_definition() -> None:
    """Window by window, eleven pixels wide; those over the border are alike and count one."""
    one, other = framed()
    bell = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / np.outer(bell, bell).sum()
    total = 0.0
    for y in range(5, SIDE - 5):
        for x in range(5, SIDE - 5):
            for colour in range(3):
                a, b = (each[y - 5 : y + 6, x - 5 : x + 6, colour] for each in (one, other))
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                spread_a, spread_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                shared = (window * (a - mean_a) * (b - mean_b)).sum()
                total += ((2 * mean_a * mean_b + 1e-4) * (2 * shared + 9e-4)) / (
                    (mean_a**2 + mean_b**2 + 1e-4) * (spread_a + spread_b + 9e-4)
                )
    border = 3 * (SIDE**2 - (SIDE - 10) ** 2)
    measured = structural_similarity(one, other)
    assert measured < 0.99 and measured == pytest.approx((total + border) / (3 * SIDE**2), abs=1e-9)


@pytest.mark.lab
def test_similarity_is_that_of_kornia() -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("kornia.metrics")
    one, other = (noise(seed) / 255 for seed in (2, 3))
    other = 0.6 * one + 0.4 * other
    tensors = (torch.from_numpy(each).permute(2, 0, 1)[None] for each in (one, other))
    reference = metrics.ssim(*tensors, window_size=11).mean()
    assert structural_similarity(one, other) == pytest.approx(float(reference), abs=1e-6)


def scored(**shares: float) -> np.ndarray:
    """Scores (1, 326) of a posterior that is zero but for some sequences, named by their digits."""
    measured = np.full((1, 326), -np.inf)
    for name, share in shares.items():
        measured[0, place_of([int(digit) for digit in name[1:]])] = math.log(share)
    return measured


@pytest.mark.parametrize(
    ("truth", "shares", "hits", "pairs"),
    [
        ([0, 0, 0, 0, 0], {"_12000": 1.0}, 0, 0),
        ([3, 0, 0, 0, 0], {"_12000": 1.0}, 0, 0),
        ([1, 2, 0, 0, 0], {"_12000": 1.0}, 1, 1),
        ([2, 1, 0, 0, 0], {"_12000": 1.0}, 0, 1),
        # Other parts than those read: what holds both decides, the likeliest sequence does not.
        ([2, 1, 0, 0, 0], {"_10000": 0.7, "_12000": 0.1, "_32100": 0.2}, 1, 1),
        # Nothing says anything of this pair.
        ([4, 5, 0, 0, 0], {"_12000": 1.0}, 0.5, 1),
        ([1, 2, 3, 0, 0], {"_13200": 1.0}, 2, 3),
        ([5, 4, 3, 2, 1], {"_12345": 0.4, "_54321": 0.6}, 10, 10),
        ([5, 4, 3, 2, 1], {"_12345": 0.6, "_54321": 0.4}, 0, 10),
    ],
)
def test_pairs_are_ordered_by_all_sequences_that_hold_both(
    truth: list[int], shares: dict[str, float], hits: float, pairs: int
) -> None:
    measured = pair_hits(np.array([truth], np.uint8), scored(**shares))
    assert [column.tolist() for column in measured] == [[hits], [pairs]]
    # Only differences of scores count, however large they are.
    moved = pair_hits(np.array([truth], np.uint8), scored(**shares) + 1e4)
    assert [column.tolist() for column in moved] == [[hits], [pairs]]


def test_the_true_sequence_has_all_pairs_right_and_its_reverse_none() -> None:
    table = all_sequences()
    scores = np.where(np.eye(len(table)) > 0, 0.0, -50.0)
    hits, pairs = pair_hits(table, scores)
    lengths = np.count_nonzero(table, axis=1)
    assert (hits == pairs).all() and (pairs == lengths * (lengths - 1) / 2).all()
    reverse = [place_of([*row[row > 0][::-1], *row[row == 0]]) for row in table]
    assert (pair_hits(table, scores[reverse])[0] == 0).all()
