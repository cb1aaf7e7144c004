import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import cycle, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unmask.edits.decoding import (
    END,
    PADDING,
    REVERSAL,
    START,
    TOKENS,
    TREE,
    Prior,
    causal,
    cell_centres,
    read_greedily,
    reversed_sequences,
    sequence_scores,
    sine_positions,
    tokens_of,
)
from unmask.edits.labels import all_sequences, place_of
from unmask.edits.mmnet import MMNet
from unmask.edits.seqfakeformer import SeqFakeFormer

pytestmark = pytest.mark.lab
CPU = torch.device("cpu")
TABLE = torch.from_numpy(all_sequences().astype(np.int64))
EDITS = [tuple(number for number in row if number) for row in TABLE.tolist()]
BEGINNINGS = [edits for edits in EDITS if len(edits) < 5]


@pytest.mark.parametrize(
    ("sequence", "shown", "asked"),
    [
        ([0, 0, 0, 0, 0], [0, 7, 7, 7, 7, 7], [6, 7, 7, 7, 7, 7]),
        ([1, 2, 4, 0, 0], [0, 1, 2, 4, 7, 7], [1, 2, 4, 6, 7, 7]),
        ([5, 0, 0, 0, 0], [0, 5, 7, 7, 7, 7], [5, 6, 7, 7, 7, 7]),
        ([4, 3, 2, 1, 0], [0, 4, 3, 2, 1, 7], [4, 3, 2, 1, 6, 7]),
        ([5, 4, 3, 2, 1], [0, 5, 4, 3, 2, 1], [5, 4, 3, 2, 1, 6]),
    ],
)
def test_a_sequence_becomes_the_tokens_written_by_hand(sequence: list[int], shown: list[int], asked: list[int]) -> None:
    tokens, target = tokens_of(torch.tensor([sequence]))
    assert tokens.tolist() == [shown] and target.tolist() == [asked]


def test_every_sequence_is_encoded_as_the_fact_sheet_says() -> None:
    """Start, edits, end and padding to seven: the input is the first six with the end padded, the target the last."""
    tokens, target = tokens_of(TABLE)
    assert tokens.dtype == target.dtype == torch.int64
    for row, edits in enumerate(EDITS):
        full = [START, *edits, END, *[PADDING] * (5 - len(edits))]
        assert tokens[row].tolist() == [PADDING if token == END else token for token in full[:6]]
        assert target[row].tolist() == full[1:]


def test_reversing_turns_the_edits_and_leaves_zeros_at_the_end() -> None:
    turned = reversed_sequences(TABLE)
    for row, edits in enumerate(EDITS):
        assert turned[row].tolist() == [*reversed(edits), *[0] * (5 - len(edits))]
    assert torch.equal(reversed_sequences(turned), TABLE)


def test_reversing_keeps_a_repeated_edit() -> None:
    assert reversed_sequences(torch.tensor([[2, 2, 5, 0, 0]])).tolist() == [[5, 2, 2, 0, 0]]


def test_every_sequence_knows_the_place_of_its_reverse() -> None:
    for row, edits in enumerate(EDITS):
        assert EDITS[int(REVERSAL[row])] == tuple(reversed(edits))
    assert torch.equal(REVERSAL[REVERSAL], torch.arange(326))


def test_the_tree_holds_every_beginning_once() -> None:
    tree = TREE
    assert len(tree.tokens) == len(tree.depths) == 206
    assert sorted(map(tuple, (beginning_of(place) for place in range(206)))) == sorted(BEGINNINGS)
    assert tree.depths.tolist() == [len(beginning_of(place)) for place in range(206)]


def beginning_of(place: int) -> list[int]:
    """The edits of a beginning, read off those it sees: the last tokens of its own beginnings, from short to long."""
    tree = TREE
    seen = tree.sees[place].nonzero().flatten().tolist()
    ordered = sorted(seen, key=lambda other: int(tree.depths[other]))
    return [int(tree.tokens[other]) for other in ordered][1:]  # the first is the start


def test_a_beginning_sees_its_own_beginnings_and_itself_alone() -> None:
    tree, edits = TREE, [tuple(beginning_of(place)) for place in range(206)]
    for place, one in enumerate(edits):
        assert [bool(sees) for sees in tree.sees[place]] == [one[: len(other)] == other for other in edits]


def test_each_sequence_is_said_along_its_own_beginnings() -> None:
    tree = TREE
    for row, edits in enumerate(EDITS):
        steps = [*edits, END][:5]  # after five edits the end is certain, and nothing is said
        assert tree.counts[row].tolist() == [1] * len(steps) + [0] * (5 - len(steps))
        assert tree.said[row, : len(steps)].tolist() == steps
        for step in range(len(steps)):
            assert tuple(beginning_of(int(tree.path[row, step]))) == edits[:step]


def naive_score(logits: Callable[[tuple[int, ...]], list[float]], edits: tuple[int, ...]) -> float:
    """The sum of log-probabilities over the tokens that may come, in Python's own numbers."""
    total = 0.0
    for step, token in enumerate([*edits, END][:5]):
        values = logits(edits[:step])
        total += values[token] - math.log(sum(math.exp(values[other]) for other in range(1, 7)))
    return total


def test_scores_are_sums_of_log_probabilities_along_the_tree() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn((2, 206, TOKENS), generator=generator)
    place = {tuple(beginning_of(number)): number for number in range(206)}
    scores = sequence_scores(logits)
    assert scores.shape == (2, 326) and scores.dtype == torch.float32
    for face in range(2):
        rows = logits[face].tolist()
        expected = [naive_score(lambda edits, rows=rows: rows[place[edits]], edits) for edits in EDITS]  # type: ignore[misc]
        torch.testing.assert_close(scores[face], torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_start_and_padding_have_no_share_in_the_scores() -> None:
    logits = torch.randn((1, 206, TOKENS), generator=torch.Generator().manual_seed(1))
    other = logits.clone()
    other[..., START], other[..., PADDING] = 50, -50
    assert torch.equal(sequence_scores(logits), sequence_scores(other))


def test_all_scores_and_all_repeats_together_are_certain() -> None:
    """What is missing of one is what repeated edits are given."""
    logits = torch.randn((1, 206, TOKENS), generator=torch.Generator().manual_seed(2))
    place = {tuple(beginning_of(number)): number for number in range(206)}
    steps = logits[0, :, 1:7].double().log_softmax(-1)  # edits 1 to 5, then the end
    repeated = 0.0
    for edits in BEGINNINGS:
        reached = sum(float(steps[place[edits[:step]], edit - 1]) for step, edit in enumerate(edits))
        repeated += sum(math.exp(reached + float(steps[place[edits], edit - 1])) for edit in edits)
    assert float(sequence_scores(logits).exp().sum()) + repeated == pytest.approx(1, abs=1e-5)


def test_a_repeated_edit_keeps_what_it_is_given() -> None:
    logits = torch.zeros(1, 206, TOKENS)
    place = {tuple(beginning_of(number)): number for number in range(206)}
    logits[0, place[(3,)], 3] = 100  # after edit 3 the same again, all but certainly
    scores = sequence_scores(logits)[0]
    assert scores[place_of([3, 0, 0, 0, 0])] < -90 and scores[place_of([3, 1, 0, 0, 0])] < -90
    assert scores[place_of([1, 3, 0, 0, 0])] == pytest.approx(3 * math.log(1 / 6), abs=1e-4)


def decoder_of(reader: Any) -> Any:
    return reader.transformer if isinstance(reader, SeqFakeFormer) else reader.decoder


@cache
def _lively(name: str) -> Any:
    """A reader whose weights are moved away from where they start, so that what it says depends on what it is shown."""
    torch.manual_seed(0)
    whole: Any = {"readers": name, "presence": name != "regions"}
    reader: Any = SeqFakeFormer() if name == "seqfakeformer" else MMNet(**whole)
    reader.eval()
    moved = (reader.presence_head, reader.order_head) if name == "regions" else (decoder_of(reader), reader.head)
    with torch.no_grad():
        for part in moved:
            for parameter in part.parameters():
                parameter += 0.08 * torch.randn(parameter.shape)
    return reader


@pytest.fixture
def lively() -> Callable[[str], Any]:
    return lambda name: copy.deepcopy(_lively(name))


def faces(count: int) -> Tensor:
    return torch.rand((count, 3, 64, 64), generator=torch.Generator().manual_seed(4))


@contextmanager
def listening(part: nn.Module) -> Iterator[list[tuple[Any, ...]]]:
    """What a part of a network is given, in the order of its calls."""
    calls: list[tuple[Any, ...]] = []
    hook = part.register_forward_pre_hook(lambda _, inputs: calls.append(inputs))
    try:
        yield calls
    finally:
        hook.remove()


def remembered(reader: Any, face: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the decoder reads a face from: memory (1, N, C), its positions (N, C), its cells' centres (n, 2)."""
    with listening(decoder_of(reader)) as calls:
        reader.greedy(face)
    memory, positions, cells = calls[0][3:6] if isinstance(reader, SeqFakeFormer) else calls[0][2:5]
    return memory, positions, cells


def decoded(
    reader: Any, memory: tuple[Tensor, Tensor, Tensor], tokens: Tensor, places: Tensor, mask: Tensor, direction: int = 0
) -> Tensor:
    """Logits (1, t, 8) after tokens (1, t); `direction` is that of MMNet's readers, 0 forward, 1 backward."""
    if isinstance(reader, SeqFakeFormer):
        state = reader.transformer(tokens, places, mask, *memory)
    else:
        state = reader.decoder.embed(tokens) + reader.direction.weight[direction]
        state = reader.decoder(state, reader.decoder.places(places), *memory, mask)[-1]
    logits: Tensor = reader.head(state)
    return logits


def taught_by_force(after: Callable[[Tensor, Tensor, Tensor], Tensor], edits: list[tuple[int, ...]]) -> Tensor:
    """Scores of sequences read one after the other: all tokens so far are shown, and the next one's share is taken.

    after: from tokens (1, t), their places (t,) and a mask (t, t) to logits (1, t, 8).
    """
    totals = []
    for one in edits:
        shown = torch.tensor([[START, *one]])[:, :5]
        length = shown.shape[1]
        mask = torch.tensor([[0.0 if key <= query else -math.inf for key in range(length)] for query in range(length)])
        shares = after(shown, torch.arange(length), mask)[0, :, 1:7].double().log_softmax(-1)  # 1 to 5, then the end
        totals.append(sum(shares[step, token - 1] for step, token in enumerate([*one, END][:5])))
    return torch.stack([torch.as_tensor(total) for total in totals]).float()


def by_direction(reader: Any, face: Tensor, direction: int) -> Tensor:
    """Scores of all sequences by one of MMNet's readers; the backward one is shown them from the last edit."""
    memory = remembered(reader, face)
    edits = [edits[::-1] for edits in EDITS] if direction else EDITS
    return taught_by_force(lambda *shown: decoded(reader, memory, *shown, direction), edits)


def assert_same_scores(scores: Tensor, expected: Tensor) -> None:
    assert expected.std() > 1  # else nothing is compared
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_seqfakeformer_scores_all_sequences_as_if_it_read_them_one_by_one(lively: Callable[[str], Any]) -> None:
    reader, face = lively("seqfakeformer"), faces(1)
    memory = remembered(reader, face)
    expected = taught_by_force(lambda *shown: decoded(reader, memory, *shown), EDITS)
    assert_same_scores(reader(face).scores[0], expected)


@torch.no_grad()
@pytest.mark.parametrize(("name", "direction"), [("forward", 0), ("backward", 1)])
def test_mmnet_scores_all_sequences_as_if_it_read_them_one_by_one(
    lively: Callable[[str], Any], name: str, direction: int
) -> None:
    reader, face = lively(name), faces(1)
    assert_same_scores(reader(face).scores[0], by_direction(reader, face, direction))


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", ["tokens", "joint"])
def test_mmnet_joins_both_directions_half_of_the_slots_and_the_regions(lively: Callable[[str], Any], name: str) -> None:
    reader, face = lively(name), faces(1)
    ahead, back = by_direction(reader, face, 0), by_direction(reader, face, 1)
    state = (reader.slots.weight + reader.direction.weight[2])[None]
    states = reader.decoder(state, reader.decoder.places.weight[:5], *remembered(reader, face), None)
    steps = reader.slot_head(states[-1])[0].double().log_softmax(-1)
    assert steps.shape == (5, 6)
    slots = torch.stack([sum(steps[step, number] for step, number in enumerate(row)) for row in TABLE.tolist()])
    assert slots.std() > 0.1 and (ahead - back).std() > 1
    expected = ahead + back + 0.5 * slots.float()
    if name == "joint":
        expected += by_regions(reader, face)
    assert_same_scores(reader(face).scores[0], expected)


@torch.no_grad()
def test_mmnet_reads_regions_by_what_is_there_and_which_of_two_came_first(lively: Callable[[str], Any]) -> None:
    reader, face = lively("regions"), faces(1)
    expected = by_regions(reader, face)
    torch.testing.assert_close(reader(face).scores[0], expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1 and float(expected.exp().sum()) == pytest.approx(1, abs=1e-5)


def by_regions(reader: Any, face: Tensor) -> Tensor:
    """Scores of all sequences, summed up edit by edit and pair by pair."""
    with listening(reader.presence_head) as calls:
        reader(face)
    tokens = calls[0][0][0].double()
    assert len(tokens) == 5
    heads = [copy.deepcopy(head).double() for head in (reader.presence_head, reader.order_head)]

    def before(one: int, other: int) -> float:
        pair, turned = torch.cat([tokens[one], tokens[other]]), torch.cat([tokens[other], tokens[one]])
        return math.log(1 / (1 + math.exp(-float(heads[1](pair) - heads[1](turned)))))

    there = [1 / (1 + math.exp(-float(heads[0](token)))) for token in tokens]
    scores = []
    for edits in EDITS:
        total = sum(math.log(share if place + 1 in edits else 1 - share) for place, share in enumerate(there))
        for step, first in enumerate(edits):
            total += sum(before(first - 1, second - 1) for second in edits[step + 1 :])
        scores.append(total)
    return torch.tensor(scores).log_softmax(0).float()


class Scripted(nn.Module):
    """A head that gives what is written, one after the other, whatever it is given."""

    def __init__(self, *outputs: Tensor) -> None:
        super().__init__()
        self.outputs = cycle(outputs)

    def forward(self, _: Tensor) -> Tensor:
        return next(self.outputs)


@pytest.mark.slow
@torch.no_grad()
def test_mixed_precision_hardly_changes_the_regions_scores(lively: Callable[[str], Any]) -> None:
    reader, generator = lively("regions"), torch.Generator().manual_seed(0)
    there, ahead = (3 * torch.randn((50, count, 1), generator=generator) for count in (5, 20))
    reader.presence_head = Scripted(there)
    reader.order_head = Scripted(ahead / 2, -ahead / 2)  # of two parts, and of the same two exchanged
    straight = reader(faces(50)).scores
    assert straight.std() > 3
    with torch.autocast("cpu", torch.bfloat16):
        mixed = reader(faces(50)).scores
    torch.testing.assert_close(mixed.float(), straight, rtol=0, atol=0.01)


@torch.no_grad()
@pytest.mark.parametrize("name", ["seqfakeformer", "joint", "forward", "backward"])
def test_reading_greedily_takes_the_likeliest_token_at_every_step(lively: Callable[[str], Any], name: str) -> None:
    """Each place leans towards tokens of its own, drawn until there is something to read."""
    reader, seeds = lively(name), iter(range(200))
    patches = torch.rand((6, 3, 4, 4), generator=torch.Generator().manual_seed(4))
    shown = torch.nn.functional.interpolate(patches, size=64)
    read: list[list[int]] = []
    hook = decoder_of(reader).register_forward_hook(lambda *_: None)
    while len({tuple(edits) for edits in read}) <= 2 or all(edits == edits[::-1] for edits in read):
        lean = torch.randn((6, 128), generator=torch.Generator().manual_seed(next(seeds)))

        def lent(_: Any, __: Any, states: Any, lean: Tensor = lean) -> Any:
            many = isinstance(states, list)
            leaning = [state + lean[: state.shape[1]] for state in (states if many else [states])]
            return leaning if many else leaning[0]

        hook.remove()
        hook = decoder_of(reader).register_forward_hook(lent)
        read = [[edit for edit in row if edit] for row in reader.greedy(shown).tolist()]
    for face, edits in zip(shown, read, strict=True):
        tokens, memory = [START], remembered(reader, face[None])
        while len(tokens) < 6:
            places, mask = torch.arange(len(tokens)), causal(len(tokens), CPU)
            logits = decoded(reader, memory, torch.tensor([tokens]), places, mask, int(name == "backward"))
            last = logits[0, -1].tolist()
            best = max(range(1, 7), key=last.__getitem__)
            if best == END:
                break
            tokens.append(best)
        assert edits == (tokens[:0:-1] if name == "backward" else tokens[1:])


def scripted(*rows: list[float]) -> Callable[[Tensor], Tensor]:
    """What says the same to every face: row t after t edits, for the tokens 0 to 7."""
    return lambda tokens: torch.tensor(rows[tokens.shape[1] - 1]).expand(len(tokens), -1)


def one_hot(token: int, value: float = 9) -> list[float]:
    return [value if place == token else 0.0 for place in range(TOKENS)]


def test_start_and_padding_are_never_read_even_where_they_are_likeliest() -> None:
    rows = [[100.0, *[float(edit == step) for edit in range(1, 6)], 0.5, 100.0] for step in (4, 2, 5, 1, 3)]
    assert read_greedily(scripted(*rows), 3, CPU).tolist() == [[4, 2, 5, 1, 3]] * 3


def test_random_logits_are_read_as_edits_followed_by_zeros() -> None:
    generator = torch.Generator().manual_seed(0)
    sequences = read_greedily(lambda tokens: 3 * torch.randn((len(tokens), TOKENS), generator=generator), 500, CPU)
    assert sequences.shape == (500, 5) and sequences.dtype == torch.int64
    assert sequences.min() == 0 and sequences.max() == 5
    assert ((sequences[:, 1:] == 0) | (sequences[:, :-1] > 0)).all()
    assert set((sequences > 0).sum(1).tolist()) == set(range(6))


def test_reading_stops_at_the_end_whatever_comes_then() -> None:
    rows = [one_hot(3), one_hot(END), one_hot(2), one_hot(1), one_hot(4)]
    assert read_greedily(scripted(*rows), 2, CPU).tolist() == [[3, 0, 0, 0, 0]] * 2


def test_reading_ends_after_five_edits_and_an_edit_may_come_twice() -> None:
    asked = []

    def again(tokens: Tensor) -> Tensor:
        asked.append(tokens.tolist())
        return torch.tensor(one_hot(2)).expand(len(tokens), -1)

    assert read_greedily(again, 1, CPU).tolist() == [[2, 2, 2, 2, 2]]
    assert asked == [[[START, *[2] * count]] for count in range(5)]


def test_the_end_of_one_face_is_not_the_end_of_another() -> None:
    plans = [[END, 1, 1, 1, 1], [1, 2, END, 3, 3], [5, 4, 3, 2, 1]]
    shown = []

    def following(tokens: Tensor) -> Tensor:
        shown.append(tokens)
        return torch.tensor([one_hot(plan[tokens.shape[1] - 1]) for plan in plans])

    assert read_greedily(following, 3, CPU).tolist() == [[0] * 5, [1, 2, 0, 0, 0], [5, 4, 3, 2, 1]]
    assert shown[-1].tolist() == [[0, 7, 7, 7, 7], [0, 1, 2, 7, 7], [0, 5, 4, 3, 2]]


def test_reading_leaves_the_logits_as_they_are() -> None:
    logits = torch.tensor([one_hot(END)])
    before = logits.clone()
    read_greedily(lambda tokens: logits, 1, CPU)
    assert torch.equal(logits, before)


def test_no_face_gives_no_sequence() -> None:
    assert read_greedily(lambda tokens: torch.zeros(len(tokens), TOKENS), 0, CPU).shape == (0, 5)


def test_where_a_reader_is_sure_step_by_step_its_best_sequence_is_the_best_of_all() -> None:
    """A face for each sequence: along it every next token is all but certain, elsewhere anything may come."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((326, 206, TOKENS), generator=generator)
    place = {tuple(beginning_of(number)): number for number in range(206)}
    for row, edits in enumerate(EDITS):
        for step, token in enumerate([*edits, END][:5]):
            logits[row, place[edits[:step]], token] = 20

    def following(tokens: Tensor) -> Tensor:
        met = [tuple(token for token in row[1:] if token != PADDING) for row in tokens.tolist()]
        return torch.stack([logits[row, place[edits]] for row, edits in enumerate(met)])

    assert torch.equal(sequence_scores(logits).argmax(1), torch.arange(326))
    assert torch.equal(read_greedily(following, 326, CPU), TABLE)


def drawn_prior(placeless: int = 0) -> tuple[Prior, Tensor, Tensor]:
    """A prior over two grids with offsets and roots of scales for six tokens of two faces and three heads."""
    generator = torch.Generator().manual_seed(0)
    cells = cell_centres([(8, 8), (2, 4)], CPU)
    prior = Prior(torch.rand((2, 6, 2), generator=generator), cells, placeless)
    offset, scale = (torch.randn((2, 6, 6), generator=generator) for _ in range(2))
    return prior, 2 * offset, 1 + 0.3 * scale


def naive_bias(prior: Prior, offset: Tensor, scale: Tensor) -> Tensor:
    """Cell by cell: minus the sum over both axes of g^2 (16 c + d - 16 p)^2 / 4."""
    biases = torch.zeros(2, 3, 6, len(prior.cells), dtype=torch.float64)
    numbers = (prior.centres.double(), prior.cells.double(), offset.double(), scale.double())
    centres, cells, offsets, scales = (each.tolist() for each in numbers)
    for face in range(2):
        for head in range(3):
            for token in range(6):
                for cell, place in enumerate(cells):
                    total = 0.0
                    for axis in range(2):
                        d, g = (each[face][token][2 * head + axis] for each in (offsets, scales))
                        total += g**2 * (16 * centres[face][token][axis] + d - 16 * place[axis]) ** 2
                    biases[face, head, token, cell] = -total / 4
    return biases


def test_the_priors_bias_is_its_formula() -> None:
    prior, offset, scale = drawn_prior()
    expected = naive_bias(prior, offset, scale)
    assert expected.min() < -50 and expected.max() > -0.5
    torch.testing.assert_close(prior.bias(offset, scale).double(), expected, rtol=1e-5, atol=2e-4)


def test_what_lies_nowhere_gets_no_bias() -> None:
    (prior, offset, scale), (plain, _, _) = drawn_prior(placeless=5), drawn_prior()
    bias = prior.bias(offset, scale)
    assert torch.equal(bias[..., :-5], plain.bias(offset, scale))
    assert bias.shape[-1] == len(prior.cells) + 5 and (bias[..., -5:] == 0).all()


def test_mixed_precision_hardly_changes_the_priors_bias() -> None:
    prior, offset, scale = drawn_prior()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = prior.bias(offset, scale)
    torch.testing.assert_close(mixed.double(), naive_bias(prior, offset, scale), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (32, 32), (3, 7)])
def test_every_cell_has_a_position_of_its_own(height: int, width: int) -> None:
    positions = sine_positions(height, width, 128, CPU)
    assert positions.shape == (height * width, 128) and positions.abs().max() <= 1
    apart = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
    assert apart.min() > 0.1


def test_positions_are_sines_of_the_row_and_then_of_the_column() -> None:
    positions = sine_positions(3, 4, 8, CPU).unflatten(0, (3, 4))
    for y, x in product(range(3), range(4)):
        expected = []
        for share in ((y + 1) / 3, (x + 1) / 4):
            for rate in (1, 100):
                expected += [math.sin(share * 2 * math.pi / rate), math.cos(share * 2 * math.pi / rate)]
        assert positions[y, x].tolist() == pytest.approx(expected, abs=1e-5)


def test_cells_are_named_by_their_centres_row_by_row_and_grid_by_grid() -> None:
    expected = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75], [1 / 6, 0.5], [0.5, 0.5], [5 / 6, 0.5]]
    torch.testing.assert_close(cell_centres([(2, 2), (1, 3)], CPU), torch.tensor(expected))


def test_a_causal_mask_hides_what_comes_later() -> None:
    hidden = -math.inf
    assert causal(3, CPU).tolist() == [[0, hidden, hidden], [0, 0, hidden], [0, 0, 0]]
    assert causal(1, CPU).tolist() == [[0]]
