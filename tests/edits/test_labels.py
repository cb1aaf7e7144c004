from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.edits.labels import TRACKS, Track, all_sequences, checked, place_of

COMPONENTS = TRACKS["facial_components"]


def is_sequence(row: tuple[int, ...]) -> bool:
    """Whether five numbers are different edits followed by zeros."""
    edits = [number for number in row if number]
    return list(row[: len(edits)]) == edits and len(set(edits)) == len(edits)


def test_the_table_holds_every_sequence_once_by_length_and_then_by_number() -> None:
    every = [row for row in product(range(6), repeat=5) if is_sequence(row)]
    every.sort(key=lambda row: (5 - row.count(0), row))
    assert len(every) == 326 and all_sequences().tolist() == [list(row) for row in every]
    assert all_sequences().dtype == np.uint8


def test_so_many_sequences_have_each_length() -> None:
    lengths = Counter(np.count_nonzero(all_sequences(), axis=1).tolist())
    assert lengths == {0: 1, 1: 5, 2: 20, 3: 60, 4: 120, 5: 120}


def test_the_table_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        all_sequences()[0, 0] = 1


def test_places_invert_the_table() -> None:
    assert [place_of(row) for row in all_sequences().tolist()] == list(range(326))


def test_a_sequence_without_its_zeros_has_the_same_place() -> None:
    for place, row in enumerate(all_sequences().tolist()):
        assert place_of([number for number in row if number]) == place


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((1, 2, 3, 4, 5, 0), "6 places; a sequence has at most 5"),
        ((0, 0, 0, 0, 0, 0), "6 places; a sequence has at most 5"),
        ((1, 6), "6 is none of the numbers 0 to 5"),
        ((-1,), "-1 is none of the numbers 0 to 5"),
        ((7, 0, 7), "7 is none of the numbers 0 to 5"),
        ((0, 1), "an edit stands after a zero; zeros go to the end"),
        ((1, 0, 3, 0, 0), "an edit stands after a zero; zeros go to the end"),
        ((1, 0, 1), "an edit stands after a zero; zeros go to the end"),
        ((4, 2, 4), "edit 4 stands twice; each can be made once"),
        ((1, 2, 2, 1, 0), "edit 1 stands twice; each can be made once"),
    ],
)
def test_what_is_no_sequence_is_refused_and_the_fault_named(numbers: tuple[int, ...], message: str) -> None:
    for refuse in (checked, place_of):
        with pytest.raises(ValueError) as refusal:
            refuse(numbers)
        assert str(refusal.value) == message


@given(st.lists(st.integers(-2, 7), max_size=7))
def test_numbers_are_taken_if_they_are_a_sequence_and_refused_otherwise(numbers: list[int]) -> None:
    padded = (*numbers, *(0,) * (5 - len(numbers)))
    if len(padded) == 5 and set(padded) <= set(range(6)) and is_sequence(padded):
        assert checked(numbers) == padded
    else:
        with pytest.raises(ValueError):
            checked(numbers)


def test_numbers_of_an_array_become_plain_integers() -> None:
    assert all(type(number) is int for number in checked(np.array([3, 1], np.uint8)))  # type: ignore[arg-type]


@given(st.sampled_from(sorted(TRACKS)), st.lists(st.integers(0, 4), max_size=5, unique=True))
def test_names_become_numbers_and_come_back(track: str, edits: list[int]) -> None:
    names = tuple(TRACKS[track].edits[edit] for edit in edits)
    numbers = TRACKS[track].numbers(names)
    assert numbers == (*(edit + 1 for edit in edits), *(0,) * (5 - len(edits)))
    assert TRACKS[track].names(numbers) == names


@pytest.mark.parametrize("track", TRACKS.values(), ids=lambda track: track.name)
def test_every_sequence_of_a_track_becomes_names_and_comes_back(track: Track) -> None:
    for row in all_sequences().tolist():
        assert list(track.numbers(track.names(row))) == row


def test_the_tracks_number_their_edits_as_the_data_set_does() -> None:
    assert COMPONENTS.numbers(["nose", "eye", "lip"]) == (1, 2, 4, 0, 0)  # the example in its description
    assert COMPONENTS.names((3, 5, 0, 0, 0)) == ("eyebrow", "hair")
    assert TRACKS["facial_attributes"].edits == ("Bangs", "Eyeglasses", "Beard", "Smiling", "Young")
    assert all(name == track.name for name, track in TRACKS.items())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nose", "ear"], "'ear' is no edit of facial_components; write nose, eye, eyebrow, lip, hair"),
        (["Nose"], "'Nose' is no edit of facial_components; write nose, eye, eyebrow, lip, hair"),
        (["lip", "nose", "lip"], "edit 4 stands twice; each can be made once"),
        (["nose", "eye", "eyebrow", "lip", "hair", "nose"], "6 places; a sequence has at most 5"),
    ],
)
def test_names_that_are_no_sequence_are_refused_and_the_fault_named(names: list[str], message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        COMPONENTS.numbers(names)
    assert str(refusal.value) == message
