from functools import cache
from itertools import permutations

import cv2
import numpy as np
import pytest
from fake_faces import make_mesh, make_picture
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.forging import component_edits as part_edits
from unmask.forging.component_edits import EDITORS, PARTS, Edited, PartedFace, Resynthesis, ToolKind, edit_part

SIZE = 128  # on smaller ones eyes and brows are a few pixels high
SEEDS = range(4)
ORDERS = [order for length in range(1, len(PARTS) + 1) for order in permutations(PARTS, length)]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@cache
def face(number: int, hair: bool = True, high: int = 30) -> PartedFace:
    """A drawn face; its hair, where known, is a broad stripe `high` pixels high above and over the brow."""
    known: np.ndarray = np.zeros((SIZE, SIZE), np.uint8)
    known[6 : 6 + high, 27:101] = 1
    mesh = make_mesh(SIZE, float(np.sin(number)))
    return PartedFace(make_picture(SIZE, number), mesh, known if hair else None)


@pytest.fixture
def only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The one editor that is drawn."""
    editor = str(request.param)
    monkeypatch.setattr(part_edits, "_SHARES", tuple(float(name == editor) for name in EDITORS))
    return editor


def edit(seed: int, part: str, pixels: np.ndarray | None = None, donor: PartedFace | None = None) -> Edited:
    target = face(0)
    return edit_part(rng(seed), target.pixels if pixels is None else pixels, target, donor or face(1), part)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=2)


# Parts


def test_the_parts_are_numbered_as_seq_deepfake_does() -> None:
    assert PARTS == ("nose", "eye", "eyebrow", "lip", "hair")


def test_a_face_has_hair_to_edit_only_where_enough_of_it_is_known() -> None:
    assert face(0).parts() == PARTS
    assert face(0, hair=False).parts() == PARTS[:4]
    assert face(0, high=4).parts() == PARTS[:4]  # 296 of 16384 pixels
    assert not face(0, hair=False).area("hair").any()


@pytest.mark.parametrize("part", PARTS)
def test_an_area_lies_where_the_part_is(part: str) -> None:
    area = face(0).area(part)
    assert area.shape == (SIZE, SIZE) and area.dtype == np.uint8 and set(np.unique(area)) == {0, 1}
    rows, columns = np.nonzero(area)
    low, high = {"hair": (6, 35), "eyebrow": (44, 48), "eye": (50, 57), "nose": (57, 79), "lip": (82, 92)}[part]
    assert low <= rows.min() <= rows.max() <= high
    pieces, _ = cv2.connectedComponents(area)
    assert pieces - 1 == (2 if part in ("eye", "eyebrow") else 1)
    assert abs(columns.mean() - SIZE / 2) < 2


# Edits


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("only", EDITORS, indirect=True)
def test_an_edit_changes_its_part_and_nothing_outside_its_mask(only: str, part: str) -> None:
    target = face(0)
    before = target.pixels.copy()
    for seed in SEEDS:
        edited = edit(seed, part)
        assert edited.editor == only
        assert edited.pixels.shape == before.shape and edited.pixels.dtype == np.uint8
        assert edited.mask.shape == before.shape[:2] and edited.mask.dtype == np.float32
        assert edited.mask.min() >= 0 and edited.mask.max() <= 1
        different = changed(before, edited.pixels)
        assert not different[edited.mask == 0].any()
        part_before, part_after = (pixels[target.area(part) > 0].astype(int) for pixels in (before, edited.pixels))
        assert np.abs(part_after - part_before).max() > 5, seed
        assert different[target.area(part) > 0].mean() > 0.4, seed
        assert (edited.mask[target.area(part) > 0] > 0.5).mean() > 0.7, seed
        assert np.array_equal(target.pixels, before)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("only", EDITORS, indirect=True)
def test_a_mask_keeps_to_the_surroundings_of_its_part(only: str, part: str) -> None:
    near = cv2.dilate(face(0).area(part), np.ones((33, 33), np.uint8))
    for seed in SEEDS:
        assert not edit(seed, part).mask[near == 0].any()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("only", EDITORS, indirect=True)
def test_the_same_seed_makes_the_same_edit_and_another_seed_another(only: str, part: str) -> None:
    one, again, other = edit(1, part), edit(1, part), edit(2, part)
    assert np.array_equal(one.pixels, again.pixels) and np.array_equal(one.mask, again.mask)
    assert not np.array_equal(one.pixels, other.pixels)


def test_the_editor_is_drawn_and_most_often_a_transplant() -> None:
    drawn = [edit(seed, "nose").editor for seed in range(120)]
    assert set(drawn) == set(EDITORS)
    assert drawn.count("transplant") == max(map(drawn.count, EDITORS))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("only", EDITORS, indirect=True)
def test_only_a_transplant_looks_at_the_donor(only: str, part: str) -> None:
    differ = [
        not np.array_equal(edit(seed, part, donor=face(1)).pixels, edit(seed, part, donor=face(2)).pixels)
        for seed in SEEDS
    ]
    assert differ == [only == "transplant"] * len(SEEDS)


@pytest.mark.parametrize("only", ["transplant"], indirect=True)
def test_hair_is_transplanted_from_a_donor_who_has_some(only: str) -> None:
    """A donor's bright hair makes the target's brighter; bright pixels elsewhere in the donor do not."""
    target, donor = face(0), face(1)
    assert donor.hair is not None
    hair = target.area("hair") > 0
    bright, pale = donor.pixels.copy(), donor.pixels.copy()
    bright[donor.hair > 0] = 250
    pale[donor.hair == 0] = 250
    inner = cv2.erode(donor.hair, np.ones((17, 17), np.uint8)) > 0
    for seed in SEEDS:
        lit = edit(seed, "hair", donor=PartedFace(bright, donor.mesh, donor.hair))
        assert lit.pixels[inner].mean() > 220 > target.pixels[hair].mean()
        plain, other = (edit(seed, "hair", donor=PartedFace(p, donor.mesh, donor.hair)) for p in (donor.pixels, pale))
        assert abs(other.pixels[inner].mean() - plain.pixels[inner].mean()) < 10


@pytest.mark.parametrize("only", ["transplant"], indirect=True)
@pytest.mark.parametrize("hair", ["unknown", "none", "elsewhere"])
def test_nothing_of_a_donor_without_hair_in_the_same_place_is_pasted_as_hair(only: str, hair: str) -> None:
    """The hair changes all the same, whatever the donor shows there."""
    elsewhere: np.ndarray = np.zeros((SIZE, SIZE), np.uint8)
    if hair == "elsewhere":
        elsewhere[106:] = 1
    known = None if hair == "unknown" else elsewhere
    for seed in SEEDS:
        one, two = (edit(seed, "hair", donor=PartedFace(face(number).pixels, face(1).mesh, known)) for number in (1, 2))
        assert changed(face(0).pixels, one.pixels)[face(0).area("hair") > 0].mean() > 0.5
        assert np.array_equal(one.pixels, two.pixels)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("only", EDITORS, indirect=True)
def test_an_edit_is_laid_over_the_picture_as_it_is_by_now_but_starts_from_untouched_pixels(
    only: str, part: str
) -> None:
    """What a tool has left in the part is gone, and stays all about it."""
    by_now = np.random.default_rng(9).integers(0, 256, face(0).pixels.shape, np.uint8)
    before, after = edit(1, part), edit(1, part, by_now)
    assert np.array_equal(before.mask, after.mask)
    assert np.array_equal(after.pixels[after.mask == 0], by_now[after.mask == 0])
    inside = after.mask == 1
    assert inside.any() or part in ("eye", "eyebrow")
    if only != "transplant" or part == "hair":
        assert np.array_equal(before.pixels[inside], after.pixels[inside])
    else:  # whose colours are matched to the picture
        detail = [cv2.Laplacian(one.pixels, cv2.CV_32F)[inside] for one in (before, after)]
        assert not inside.any() or np.abs(detail[1]).mean() < 3 * np.abs(detail[0]).mean() + 10


def test_a_part_that_the_face_lacks_is_refused() -> None:
    bald = face(0, hair=False)
    with pytest.raises(ValueError, match=r"part 'hair': this face has nose, eye, eyebrow, lip$"):
        edit_part(rng(), bald.pixels, bald, face(1), "hair")
    with pytest.raises(ValueError, match=r"part 'ear': this face has nose, eye, eyebrow, lip, hair$"):
        edit(0, "ear")


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(ORDERS), st.integers(0, 2**31), st.integers(0, 5))
def test_without_resynthesis_the_masks_together_cover_all_that_changed(
    order: tuple[str, ...], seed: int, own: int
) -> None:
    draw, target = rng(seed), face(own)
    tool = Resynthesis.draw(draw, "none")
    pixels, union = target.pixels, np.zeros((SIZE, SIZE), np.float32)
    for part in order:
        edited = edit_part(draw, pixels, target, face(own + 1), part)
        assert not changed(pixels, edited.pixels)[edited.mask == 0].any()
        pixels, union = tool(draw, edited.pixels), np.maximum(union, edited.mask)
    different = changed(target.pixels, pixels)
    assert different.any() and not different[union == 0].any()


# Re-synthesis


def test_no_resynthesis_gives_the_picture_back() -> None:
    tool = Resynthesis.draw(rng(), "none")
    assert np.array_equal(tool(rng(), face(0).pixels), face(0).pixels)
    assert tool.parameters() == {"kind": "none"}


def test_the_classical_chain_draws_the_whole_face_anew_and_repeats_itself() -> None:
    pixels = face(0).pixels
    for seed in SEEDS:
        tool = Resynthesis.draw(rng(seed), "classical")
        one, again, other = tool(rng(1), pixels), tool(rng(1), pixels), tool(rng(2), pixels)
        assert one.shape == pixels.shape and one.dtype == np.uint8
        assert np.array_equal(one, again) and not np.array_equal(one, other)
        assert changed(pixels, one).mean() > 0.9
        assert np.abs(one.astype(int) - pixels).mean() < 20  # the same face still


@pytest.mark.parametrize(("size", "scale", "sent"), [(96, 1.0, 96), (96, 0.75, 72), (112, 0.75, 80), (64, 0.75, 64)])
def test_an_autoencoder_is_sent_a_multiple_of_eight_and_its_picture_brought_back_to_size(
    size: int, scale: float, sent: int
) -> None:
    calls: list[tuple[tuple[int, ...], float, int]] = []

    def network(pixels: np.ndarray, jitter: float, seed: int) -> np.ndarray:
        calls.append((pixels.shape, jitter, seed))
        return 255 - pixels

    pixels = make_picture(size, 3)
    tool = Resynthesis("autoencoder", scale, 0.05, network=network)
    drawn = tool(rng(7), pixels)
    assert drawn.shape == pixels.shape and drawn.dtype == np.uint8
    assert np.abs(255 - drawn.astype(int) - pixels).mean() < 12
    tool(rng(7), pixels)
    tool(rng(8), pixels)
    assert [shape for shape, _, _ in calls] == [(sent, sent, 3)] * 3 and {jitter for _, jitter, _ in calls} == {0.05}
    seeds = [seed for _, _, seed in calls]
    assert seeds[0] == seeds[1] != seeds[2]


@pytest.mark.parametrize("kind", ["autoencoder", "classical", "none"])
def test_a_tool_says_what_it_is(kind: ToolKind) -> None:
    drawn = [Resynthesis.draw(rng(seed), kind, lambda pixels, jitter, seed: pixels) for seed in range(20)]
    assert drawn[0] == Resynthesis.draw(rng(0), kind)
    fields = {
        "autoencoder": {"kind", "scale", "jitter", "sharpness", "quality"},
        "classical": {"kind", "scale", "sharpness", "noise", "quality"},
    }
    for tool in drawn:
        parameters = tool.parameters()
        assert parameters["kind"] == tool.kind == kind and set(parameters) == fields.get(kind, {"kind"})
        for name in set(parameters) - {"kind"}:
            assert parameters[name] == pytest.approx(getattr(tool, name), abs=1e-4)
    assert len({str(tool.parameters()) for tool in drawn}) > 10 or kind == "none"
