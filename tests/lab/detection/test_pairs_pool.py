import json
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_faces import make_face, make_faces, write_reconstructions
from progress_log import ProgressLog

from unmask.datasets.face_store import read_store, write_store
from unmask.errors import DataError
from unmask.forging.families import draw_weights, made_for_training, source_weights
from unmask.lab.detection import pairs_pool as pool_module
from unmask.lab.detection.pairs_pool import MASK, UNKNOWN, PairMaker, Pool, PoolPlan, build_pool
from unmask.lab.detection.reconstructions import Reconstructions

WEIGHTS = draw_weights(["selfblend", "swap", "resynthesis", "stylegan", "ciplab", "mobilestylegan"])
SOURCES = source_weights(["ffhq", "ciplab", "celebamask", "utkface"])
PLAN = PoolPlan(pairs=300, seed=3, size=56, margin=1.4, families=WEIGHTS, sources=SOURCES)
NONE = Reconstructions([], np.zeros((0, 0), np.int16), {})
CHUNKS = -(-PLAN.pairs // pool_module.CHUNK)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training faces of every source and family, and some of the test split that must not be touched."""
    faces = [*make_faces("train"), *(make_face(500 + n, split="test") for n in range(3))]
    return write_store(faces, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def reconstructions(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    reals = [face for face in read_store(store) if not face.sample.label and face.sample.split == "train"]
    return write_reconstructions(reals, tmp_path_factory.mktemp("reconstructions"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, store: Path, reconstructions: Path) -> Path:
    folder = tmp_path_factory.mktemp("pool") / "one"
    build_pool(store, reconstructions, folder, PLAN, workers=1)
    return folder


def contents(folder: Path) -> list[np.ndarray]:
    pool = Pool.open(folder)
    return [np.array(array) for array in (pool.pixels, pool.masks, pool.families, pool.sources, pool.decoded)]


def test_a_store_comes_back_as_it_was_written(store: Path) -> None:
    faces = [*make_faces("train"), *(make_face(500 + n, split="test") for n in range(3))]
    for face, read in zip(faces, read_store(store), strict=True):
        assert (read.sample, read.window) == (face.sample, face.window)
        np.testing.assert_allclose(read.box, face.box, rtol=1e-6)
        np.testing.assert_array_equal(read.mesh, face.mesh)
        np.testing.assert_array_equal(read.pixels(), face.pixels())


def test_a_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no face store"):
        read_store(tmp_path)


@pytest.mark.slow
def test_two_builds_are_equal_whoever_works_on_them(
    built: Path, store: Path, reconstructions: Path, tmp_path: Path
) -> None:
    build_pool(store, reconstructions, tmp_path / "two", PLAN, workers=2)
    for one, two in zip(contents(built), contents(tmp_path / "two"), strict=True):
        np.testing.assert_array_equal(one, two)


def test_shapes_types_and_indices(built: Path) -> None:
    pool = Pool.open(built)
    assert pool.plan == PLAN
    assert pool.pixels.shape == (300, 2, 56, 56, 3) and pool.masks.shape == (300, MASK, MASK)
    assert {array.dtype for array in (pool.pixels, pool.masks, pool.families, pool.sources)} == {np.dtype(np.uint8)}
    families, sources = list(PLAN.families), list(PLAN.sources)
    assert set(pool.families) == set(range(len(families)))
    assert set(pool.sources) == set(range(len(sources)))
    # A collected forgery is paired with a real of its own source.
    for family, source in (("stylegan", "ffhq"), ("mobilestylegan", "ffhq"), ("ciplab", "ciplab")):
        assert set(pool.sources[pool.families == families.index(family)]) == {sources.index(source)}


def test_families_come_in_their_shares(built: Path) -> None:
    shares = np.bincount(Pool.open(built).families, minlength=len(WEIGHTS)) / PLAN.pairs
    np.testing.assert_allclose(shares, np.array(list(WEIGHTS.values())), atol=0.08)


def test_what_a_decoder_drew_is_noted(built: Path) -> None:
    pool, families = Pool.open(built), list(PLAN.families)
    drawn = {name: pool.decoded[pool.families == families.index(name)].mean() for name in families}
    assert all(drawn[name] == 1 for name in ("resynthesis", "stylegan", "mobilestylegan")) and drawn["ciplab"] == 0
    assert 0 < drawn["selfblend"] < 0.7 and 0 < drawn["swap"] < 0.7


@pytest.mark.parametrize("without", [set(), {"stylegan"}, {"resynthesis", "swap"}])
def test_rows_without_some_families(built: Path, without: set[str]) -> None:
    """What is left out is gone; without re-synthesis no blend carries a decoder's face either."""
    pool, families = Pool.open(built), list(PLAN.families)
    rows = pool.without(without)
    assert {families[number] for number in pool.families[rows]} == set(families) - without
    blends = rows[np.isin(pool.families[rows], [families.index(name) for name in ("selfblend", "swap")])]
    assert pool.decoded[blends].any() == ("resynthesis" not in without)
    untouched = [name for name in families if name not in without and name not in ("selfblend", "swap")]
    for name in untouched:
        assert (pool.families[rows] == families.index(name)).sum() == (pool.families == families.index(name)).sum()


def test_rows_without_some_sources(built: Path) -> None:
    """No pair of a real of theirs is left, and every other one is."""
    pool = Pool.open(built)
    sources = list(PLAN.sources)
    rows = pool.without({"swap"}, {"ffhq", "nowhere"})
    left = (pool.families != list(PLAN.families).index("swap")) & (pool.sources != sources.index("ffhq"))
    np.testing.assert_array_equal(rows, np.flatnonzero(left))


def test_a_family_of_a_users_own_stands_beside_reals_of_its_source(tmp_path: Path) -> None:
    """With the mask that its row names; without one, where it was forged is not known."""
    mask_file = tmp_path / "mask.png"
    cv2.imwrite(str(mask_file), np.pad(np.full((96, 48), 255, np.uint8), ((0, 0), (48, 0))))
    faces = [make_face(n, source="mine") for n in range(3)]
    for mask in (str(mask_file), ""):
        forged = make_face(9, label=1, family="filter", source="mine")
        forged = replace(forged, sample=replace(forged.sample, mask=mask))
        plan = replace(PLAN, families=draw_weights(["filter"]), sources=source_weights(["mine"]))
        maker = PairMaker([*faces, forged], Reconstructions([], np.zeros((0, 0), np.int16), {}), plan)
        _, cells, family, source, decoded = maker.make(np.random.default_rng(3))
        assert (family, source, decoded) == (0, 0, False)
        assert (cells == UNKNOWN).all() if not mask else {0, 254} <= set(cells.ravel().tolist())


def test_swaps_that_come_as_files_are_read_and_not_made() -> None:
    """With a history of their own, as everything that was not blended here, and with their mask unknown."""
    faces = [make_face(n, source="mine") for n in range(3)]
    forged = make_face(9, label=1, family="swap", source="mine")
    plan = replace(PLAN, families={"swap": 1.0}, sources=source_weights(["mine"]))
    none = Reconstructions([], np.zeros((0, 0), np.int16), {})
    from_file = PairMaker([*faces, forged], none, plan).make(np.random.default_rng(3))
    made = PairMaker(faces, none, plan).make(np.random.default_rng(3))
    assert (from_file[1] == UNKNOWN).all()
    assert (made[1] != UNKNOWN).any()


def test_a_source_without_reals_is_named() -> None:
    faces = [make_face(1, source="ffhq"), make_face(2, label=1, family="filter", source="elsewhere")]
    plan = replace(PLAN, families={"filter": 1.0})
    with pytest.raises(DataError, match="no real faces of source elsewhere"):
        PairMaker(faces, Reconstructions([], np.zeros((0, 0), np.int16), {}), plan)


def test_a_frame_is_paired_with_its_original(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are cut out alike, and the mask is where they differ."""
    monkeypatch.setattr(pool_module, "publishing_scale", lambda *_: 1.0)
    original, other = make_face(1, source="frames"), make_face(2, source="frames")
    picture = cv2.cvtColor(original.pixels(), cv2.COLOR_RGB2BGR)
    picture[52:76, 36:60] = 255 - picture[52:76, 36:60]
    encoded = cv2.imencode(".png", picture)[1].ravel()
    sample = replace(original.sample, path="forged.png", label=1, family="filter", original=original.sample.path)
    forged = replace(original, sample=sample, encoded=encoded, box=(2.0, 2.0, 50.0, 60.0))
    plan = replace(PLAN, families={"filter": 1.0}, sources={"frames": 1.0})
    maker = PairMaker([original, other, forged], NONE, plan)
    alike = 0
    for seed in range(12):
        pixels, mask, *_ = maker.make(np.random.default_rng(seed))
        change = np.abs(pixels[0].astype(int) - pixels[1]).mean(-1).reshape(MASK, 2, MASK, 2).mean((1, 3))
        assert (mask > 200).any() and (mask == 0).mean() > 0.4
        assert change[mask > 200].mean() > 2 * change[mask == 0].mean()
        alike += change[mask == 0].mean() < 12
    assert alike >= 10


def test_a_family_without_authentic_pictures_stands_beside_its_partners() -> None:
    faces = [make_face(1, source="real_portraits"), make_face(2, source="ffhq")]
    forged = make_face(3, label=1, family="sfhq_t2i", source="sfhq_t2i")
    plan = replace(PLAN, families={"sfhq_t2i": 1.0}, sources=source_weights(["real_portraits", "ffhq"]))
    maker = PairMaker([*faces, forged], NONE, plan)
    sources = {list(plan.sources)[maker.make(np.random.default_rng(seed))[3]] for seed in range(20)}
    assert sources == {"real_portraits"}
    with pytest.raises(DataError, match="no real faces of source sfhq_t2i"):
        PairMaker([faces[1], forged], NONE, plan)


@pytest.mark.data
def test_the_face_model_makes_pairs_with_exact_masks(
    store: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "publishing_scale", lambda *_: 1.0)
    monkeypatch.setattr(pool_module, "_LOOKS", {"screenshot": 0.0})
    faces = [face for face in read_store(store) if face.sample.split == "train"]
    weights = data_dir / "weights"
    for name in made_for_training(weights):
        plan = replace(PLAN, families={name: 1.0})
        with pytest.raises(DataError, match=f"{name}: the weights"):
            PairMaker(faces, NONE, plan)
        maker = PairMaker(faces, NONE, plan, weights)
        inside, outside = [], []
        for seed in range(20):
            pixels, mask, *_ = maker.make(np.random.default_rng(seed))
            change = np.abs(pixels[0].astype(int) - pixels[1]).mean(-1).reshape(MASK, 2, MASK, 2).mean((1, 3))
            assert mask.max() > 100 and mask.min() == 0
            inside.append(change[mask > 200].mean() if (mask > 200).any() else change[mask > 100].mean())
            outside.append(change[mask == 0].mean())
        assert np.mean(inside) > 1.5 * np.mean(outside), name


def test_half_of_the_pairs_have_a_look_and_both_of_a_pair_the_same(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    seen: list[int] = []

    def draw(_: np.random.Generator, name: str) -> pool_module.Look:
        drawn.append(name)

        def look(pixels: np.ndarray) -> np.ndarray:
            seen.append(len(drawn))
            return pixels

        return look

    monkeypatch.setattr(pool_module, "draw_look", draw)
    plan = replace(PLAN, families={"selfblend": 1.0})
    maker = PairMaker([face for face in read_store(store) if face.sample.split == "train"], NONE, plan)
    rng = np.random.default_rng(0)
    for _ in range(300):
        maker.make(rng)
    assert 300 * 0.45 < len(drawn) < 300 * 0.65
    assert set(drawn) == set(pool_module._LOOKS)
    assert seen == [number for number in range(1, len(drawn) + 1) for _ in range(2)]


def test_masks_say_what_is_known(built: Path) -> None:
    pool, families = Pool.open(built), list(PLAN.families)
    for row in range(PLAN.pairs):
        family, mask = families[pool.families[row]], pool.masks[row]
        if family == "ciplab":
            assert (mask == UNKNOWN).all()  # which pixels were edited is not known
        else:
            assert mask.max() <= 254
            if family in ("stylegan", "mobilestylegan"):
                assert (mask == 254).all()
    made_here = np.isin(pool.families, [families.index(name) for name in ("selfblend", "swap")])
    assert (pool.masks[made_here].max(axis=(1, 2)) > 60).all()
    assert (pool.masks[made_here].mean(axis=(1, 2)) < 200).all()


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_real_comes_first_and_the_forgery_differs_where_the_mask_says(
    scale: float, store: Path, reconstructions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen on pairs that no history was given: outside the mask both are one picture, at whatever size published."""
    monkeypatch.setattr(pool_module, "publishing_scale", lambda *_: scale)
    plan = replace(PLAN, families={"swap": 1.0}, margin=1.4)
    maker = PairMaker(
        [face for face in read_store(store) if face.sample.split == "train"],
        Reconstructions.open(reconstructions),
        plan,
    )
    seen = 0
    for seed in range(60):
        pixels, mask, *_ = maker.make(np.random.default_rng(seed))
        change = np.abs(pixels[0].astype(int) - pixels[1]).mean(-1).reshape(MASK, 2, MASK, 2).mean((1, 3))
        if (mask > 200).any() and (mask == 0).any():
            seen += 1
            assert change[mask > 200].mean() > change[mask == 0].mean()
    assert seen > 30


@pytest.mark.slow
def test_only_training_faces_are_used(tmp_path: Path, reconstructions: Path) -> None:
    """The same pool comes out when the other splits are gone."""
    plan = replace(PLAN, pairs=20, families={"selfblend": 1.0})
    everything = [*make_faces("train"), *(make_face(500 + n, split="test") for n in range(3))]
    results = []
    for name, faces in (("all", everything), ("train", make_faces("train"))):
        build_pool(write_store(faces, tmp_path / name), reconstructions, tmp_path / f"{name}-pool", plan, workers=1)
        results.append(contents(tmp_path / f"{name}-pool"))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_a_kill_costs_only_the_chunks_not_done(built: Path, store: Path, reconstructions: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    build_pool(store, reconstructions, folder, PLAN, workers=1)
    before = contents(folder)
    # As after a kill: the last chunk was begun but not finished, the first is finished and must not be touched.
    half_made = Pool.open(folder, "r+")
    half_made.pixels[:10] = 7
    half_made.pixels[-20:] = 0
    half_made.masks[-20:] = 9
    half_made.flush()
    done = np.ones(CHUNKS, bool)
    done[-1] = False
    np.save(folder / "done.npy", done)
    progress = ProgressLog()
    build_pool(store, reconstructions, folder, PLAN, workers=1, progress=progress)
    after = contents(folder)
    assert (after[0][:10] == 7).all()
    np.testing.assert_array_equal(after[0][10:], before[0][10:])
    for one, two in zip(before[1:], after[1:], strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.load(folder / "done.npy").all()
    assert progress.stages == {"making pairs": [((CHUNKS - 1) * pool_module.CHUNK, 300), (300, 300)]}


def test_a_finished_pool_is_not_made_again(
    built: Path, store: Path, reconstructions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module.multiprocessing, "get_context", None)  # whoever starts workers fails
    assert build_pool(store, reconstructions, built, PLAN, workers=1).plan == PLAN


@pytest.mark.parametrize("change", [{"seed": 4}, {"pairs": 301}, {"margin": 1.5}, {"families": {"swap": 1.0}}])
def test_a_pool_of_another_plan_is_not_overwritten(
    built: Path, store: Path, reconstructions: Path, change: dict[str, object]
) -> None:
    with pytest.raises(DataError, match="another plan; name another folder"):
        build_pool(store, reconstructions, built, replace(PLAN, **change), workers=1)


def test_a_folder_without_a_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training pool"):
        Pool.open(tmp_path)


def test_a_family_that_is_not_there_is_named() -> None:
    faces = [face for face in make_faces("train") if face.sample.family != "stylegan"]
    with pytest.raises(DataError, match="no stylegan"):
        PairMaker(faces, Reconstructions([], np.zeros((0, 0), np.int16), {}), replace(PLAN, families={"stylegan": 1.0}))


def test_no_reals_and_no_reconstructions_are_named() -> None:
    none = Reconstructions([], np.zeros((0, 0), np.int16), {})
    forged = [face for face in make_faces("train") if face.sample.label]
    with pytest.raises(DataError, match="no real faces"):
        PairMaker(forged, none, replace(PLAN, families={"stylegan": 1.0}))
    with pytest.raises(DataError, match="no reconstructions are at hand"):
        PairMaker(make_faces("train"), none, replace(PLAN, families={"resynthesis": 1.0}))


def test_reconstructions_come_back_by_face(reconstructions: Path, store: Path) -> None:
    opened = Reconstructions.open(reconstructions)
    reals = [face for face in read_store(store) if face.sample.path in opened.rows]
    assert len(reals) == 16
    for face in reals:
        drawn = opened.pick(np.random.default_rng(0), face)
        assert drawn is not None and drawn.shape == (64, 64, 3) and drawn.dtype == np.uint8
        np.testing.assert_array_equal(drawn, opened.pixels[0][opened.rows[face.sample.path], :64, :64])
    assert opened.pick(np.random.default_rng(0), make_face(999)) is None


def test_a_folder_without_reconstructions_is_an_empty_set(tmp_path: Path) -> None:
    reconstructions = Reconstructions.open(tmp_path)
    assert reconstructions.pick(np.random.default_rng(0), make_face(1)) is None


def test_the_plan_is_what_is_written(built: Path) -> None:
    assert json.loads((built / "plan.json").read_text()) == asdict(PLAN)


@pytest.mark.parametrize("version", [None, 3])
def test_a_pool_of_an_older_pipeline_is_of_another_plan(
    version: int | None, built: Path, store: Path, reconstructions: Path, tmp_path: Path
) -> None:
    """Whether from before pipelines were numbered, or under the number's first name."""
    old = asdict(PLAN)
    del old["pipeline_version"]
    (tmp_path / "plan.json").write_text(json.dumps(old | ({} if version is None else {"making": version})))
    assert PoolPlan.read(tmp_path) == replace(PLAN, pipeline_version=version or 1) != PLAN == PoolPlan.read(built)
    with pytest.raises(DataError, match="another plan"):
        build_pool(store, reconstructions, tmp_path, PLAN, workers=1)


@pytest.mark.parametrize(("family", "calls"), [("selfblend", 0), ("swap", 0), ("resynthesis", 2), ("stylegan", 2)])
def test_histories_are_for_what_is_not_blended(
    family: str, calls: int, store: Path, reconstructions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(pool_module, "independent_postprocessing", lambda _, pixels: (seen.append(1), pixels)[1])
    faces = [face for face in read_store(store) if face.sample.split == "train"]
    PairMaker(faces, Reconstructions.open(reconstructions), replace(PLAN, families={family: 1.0})).make(
        np.random.default_rng(0)
    )
    assert len(seen) == calls


@pytest.mark.parametrize(("family", "least", "most"), [("selfblend", 0, 0), ("swap", 0, 0), ("stylegan", 9, 31)])
def test_half_of_what_is_not_blended_gets_the_spectrum_of_its_real(
    family: str, least: int, most: int, store: Path, reconstructions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(pool_module, "match_spectrum", lambda pixels, _: (seen.append(1), pixels)[1])
    faces = [face for face in read_store(store) if face.sample.split == "train"]
    maker = PairMaker(faces, Reconstructions.open(reconstructions), replace(PLAN, families={family: 1.0}))
    for number in range(40):
        maker.make(np.random.default_rng(number))
    assert least <= len(seen) <= most
