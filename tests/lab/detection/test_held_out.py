import numpy as np
import pytest
from fake_faces import make_face, make_faces, make_picture, write_reconstructions

from unmask.datasets.face_store import StoredFace
from unmask.lab.detection.held_out import (
    CLEAN,
    CONDITIONS,
    HALF_RESOLUTION,
    JPEG50,
    EvalFace,
    apply_condition,
    eval_faces,
    select_pairs,
)
from unmask.lab.detection.pairs_pool import MASK
from unmask.lab.detection.reconstructions import Reconstructions

FAMILIES = ("stylegan", "mobilestylegan", "ciplab", "selfblend", "swap", "resynthesis", "pggan")


@pytest.fixture(scope="module")
def faces() -> list[StoredFace]:
    return [*make_faces("test", count=3, size=160), *make_faces("train", count=1, size=160)]


@pytest.fixture(scope="module")
def reconstructions(faces: list[StoredFace], tmp_path_factory: pytest.TempPathFactory) -> Reconstructions:
    reals = [face for face in faces if not face.sample.label]
    return Reconstructions.open(write_reconstructions(reals, tmp_path_factory.mktemp("reconstructions"), side=128))


def hold(
    faces: list[StoredFace], reconstructions: Reconstructions | None, condition: str = CLEAN, **how: int
) -> list[EvalFace]:
    return eval_faces(faces, "test", FAMILIES, condition, 112, 1.4, reconstructions, **how)


def keys(held: list[EvalFace]) -> list[tuple[str, str, str]]:
    return [(face.family, face.source, face.subject) for face in held]


def test_every_condition_shows_the_same_pictures(faces: list[StoredFace], reconstructions: Reconstructions) -> None:
    shown = [hold(faces, reconstructions, condition) for condition in CONDITIONS]
    assert keys(shown[0]) == keys(shown[1]) == keys(shown[2])
    for plain, strong, small in zip(*shown, strict=True):
        assert np.corrcoef(plain.crop.ravel(), strong.crop.ravel())[0, 1] > 0.7
        assert len(small.picture) == len(plain.picture) // 2
        assert (plain.crop != strong.crop).any()
        for a, b in ((plain.mask, strong.mask), (plain.mask, small.mask)):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                np.testing.assert_array_equal(a, b)  # the forgery itself is one and the same


def test_an_unknown_condition_is_a_mistake(faces: list[StoredFace]) -> None:
    with pytest.raises(ValueError, match=r"unknown condition 'jpeg20'"):
        hold(faces, None, "jpeg20")


def test_only_the_split_asked_for(faces: list[StoredFace], reconstructions: Reconstructions) -> None:
    of_test = {face.sample.subject for face in faces if face.sample.split == "test"}
    of_train = {face.sample.subject for face in faces if face.sample.split == "train"}
    subjects = {face.subject for face in hold(faces, reconstructions)}
    assert subjects <= of_test
    assert not eval_faces(faces, "cal", FAMILIES, CLEAN, 112, 1.4)
    assert {face.subject for face in eval_faces(faces, "train", ("stylegan",), CLEAN, 112, 1.4)} <= of_train


def test_swaps_that_come_as_files_are_shown_and_none_made(faces: list[StoredFace]) -> None:
    """Where they were forged is as their rows say, here nothing; it is not taken for the whole picture."""
    forged = [make_face(50 + n, split="test", label=1, family="swap", source="ffhq", size=160) for n in range(2)]
    shown = [face for face in eval_faces([*faces, *forged], "test", ("swap",), CLEAN, 112, 1.4) if face.label]
    assert [face.subject for face in shown] == [face.sample.subject for face in forged]
    assert all(face.mask is None for face in shown)


def test_shapes_and_ranges(faces: list[StoredFace], reconstructions: Reconstructions) -> None:
    held = hold(faces, reconstructions)
    assert {face.family for face in held} == {"real", *FAMILIES}
    for face in held:
        assert face.crop.shape == (112, 112, 3) and face.crop.dtype == np.uint8
        assert face.label == (face.family != "real")
        if face.mask is not None:
            assert face.mask.shape == (MASK, MASK) and face.mask.min() >= 0 and face.mask.max() <= 1 + 1e-6
        height, width = face.picture.shape[:2]
        x, y, w, h = face.box
        assert x >= 0 and y >= 0 and x + w <= width + 1 and y + h <= height + 1
        assert (face.points >= [x, y]).all() and (face.points <= [x + w, y + h]).all()


def test_masks_show_what_was_forged(faces: list[StoredFace], reconstructions: Reconstructions) -> None:
    for face in hold(faces, reconstructions):
        if face.family == "real":
            assert face.mask is not None and not face.mask.any()
        elif face.family == "ciplab":
            assert face.mask is None
        elif face.family in ("selfblend", "swap"):
            assert face.mask is not None and face.mask.max() > 0.2 and face.mask.min() < 0.5
        else:
            assert face.mask is not None and face.mask.min() > 0.999


def test_ciplabs_flags_become_regions(faces: list[StoredFace]) -> None:
    for face in hold(faces, None):
        if face.family != "ciplab":
            assert face.regions == ()
            continue
        assert [edited for _, edited in face.regions] == [True, False, True, False]  # "1010"
        (left_eye, _), (right_eye, _), (nose, _), (mouth, _) = face.regions
        rows, columns = np.indices((MASK, MASK))

        def centre(cells: np.ndarray, axis: np.ndarray) -> float:
            return float((cells * axis).sum() / cells.sum())

        assert centre(left_eye, columns) > centre(right_eye, columns)  # the subject's left is on the image's right
        assert centre(left_eye, rows) < centre(nose, rows) < centre(mouth, rows)


def test_pggan_meets_its_reals_at_its_own_size(faces: list[StoredFace]) -> None:
    held = hold(faces, None)
    some = select_pairs("pggan", held)
    assert {face.source for face in some} == {"celebamask@128"}
    assert {len(face.picture) for face in some} == {128}
    assert [face.label for face in some] == [0, 0, 0, 1, 1, 1]
    full = [face for face in held if face.source == "celebamask" and not face.label]
    assert {face.subject for face in some if not face.label} == {face.subject for face in full}
    assert {len(face.picture) for face in full} == {160}


def test_a_family_is_compared_with_reals_of_its_source(
    faces: list[StoredFace], reconstructions: Reconstructions
) -> None:
    held = hold(faces, reconstructions)
    for family, sources in (
        ("stylegan", {"ffhq"}),
        ("mobilestylegan", {"ffhq"}),
        ("ciplab", {"ciplab"}),
        ("selfblend", {"ffhq", "ciplab", "celebamask", "utkface"}),
        ("swap", {"ffhq", "ciplab", "celebamask", "utkface"}),
    ):
        some = select_pairs(family, held)
        assert {face.source for face in some} == sources
        assert {face.family for face in some} == {"real", family}
        counts = [sum(face.label == label for face in some) for label in (0, 1)]
        assert counts == [3 * len(sources)] * 2
    assert select_pairs("unheard of", held) == []


def test_a_family_without_reals_of_its_own_is_compared_with_its_partners(faces: list[StoredFace]) -> None:
    drawn = [make_face(900 + n, label=1, family="sfhq_t2i", source="sfhq_t2i", split="test") for n in range(2)]
    portraits = [make_face(950 + n, source="real_portraits", split="test") for n in range(3)]
    held = eval_faces([*faces, *drawn, *portraits], "test", ["sfhq_t2i", "stylegan"], CLEAN, 112, 1.4)
    some = select_pairs("sfhq_t2i", held)
    assert [(face.source, face.label) for face in some] == [("real_portraits", 0)] * 3 + [("sfhq_t2i", 1)] * 2
    assert {face.source for face in select_pairs("stylegan", held)} == {"ffhq"}


def test_forgeries_follow_from_the_seed(faces: list[StoredFace], reconstructions: Reconstructions) -> None:
    one, again, other = (hold(faces, reconstructions, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a.crop, b.crop)
    made = [i for i, face in enumerate(one) if face.family in ("selfblend", "swap")]
    assert all((one[i].crop != other[i].crop).any() for i in made)
    given = [i for i, face in enumerate(one) if face.family in ("real", "stylegan", "ciplab", "pggan")]
    for i in given:
        np.testing.assert_array_equal(one[i].crop, other[i].crop)


def test_what_is_made_here_does_not_depend_on_what_else_is_asked_for(faces: list[StoredFace]) -> None:
    alone = eval_faces(faces, "test", ("selfblend",), CLEAN, 112, 1.4)
    with_others = eval_faces(faces, "test", ("selfblend", "stylegan", "swap"), CLEAN, 112, 1.4)
    crops = {face.subject: face.crop for face in with_others if face.family == "selfblend"}
    for face in alone:
        if face.label:
            np.testing.assert_array_equal(face.crop, crops[face.subject])


def test_a_limit_counts_reals_per_source(faces: list[StoredFace]) -> None:
    held = eval_faces(faces, "test", ("selfblend",), CLEAN, 112, 1.4, most=2)
    assert sum(not face.label for face in held) == 8 and sum(face.label for face in held) == 8


def test_without_reconstructions_there_is_no_resynthesis_and_one_face_cannot_swap() -> None:
    held = eval_faces([make_face(1, split="val")], "val", FAMILIES, CLEAN, 112, 1.4)
    assert [face.family for face in held] == ["real", "selfblend"]


def test_a_condition_brings_a_picture_to_its_size() -> None:
    picture = make_picture(160)
    assert apply_condition(picture, CLEAN).shape == (160, 160, 3)
    assert apply_condition(picture, HALF_RESOLUTION).shape == (80, 80, 3)
    assert apply_condition(picture, HALF_RESOLUTION, side=128).shape == (64, 64, 3)
    assert apply_condition(picture, CLEAN, side=256).shape == (160, 160, 3)  # never enlarged

    def loss(condition: str) -> float:
        return float(((apply_condition(picture, condition).astype(float) - picture) ** 2).mean())

    assert loss(JPEG50) > 1.3 * loss(CLEAN)
