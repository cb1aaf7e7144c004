import hashlib
import json
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_faces import find_drawn, make_mesh, make_picture
from progress_log import ProgressLog

from unmask.datasets.manifest import Sample, read_manifest
from unmask.errors import DataError
from unmask.faces.alignment import context_region
from unmask.faces.finding import FaceFinder
from unmask.forging import forge_set as forging
from unmask.forging import source_faces
from unmask.forging.forge_set import ForgedSet, forge_folder
from unmask.forging.makers import Forgery, Maker, Request, load_makers
from unmask.forging.perturbation import is_single_band
from unmask.forging.source_faces import Finder, SeenFace, face_finder
from unmask.media.synthetic_mark import band_height, mark, read_mark, text_height, without_band

SIZE = 64
MADE_HERE = ("selfblend", "swap", "composite", "fingerprint")
FORGED_FAMILIES = [family for maker in load_makers(MADE_HERE).values() for family in maker.families]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven drawn faces of different sizes and file types, one of them twice, and what is no face or no picture."""
    folder = tmp_path_factory.mktemp("source") / "people"
    for number in range(7):
        person = folder / f"person{number // 2}"
        person.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(person / f"{number}.{'jpg' if number % 2 else 'png'}"), make_picture(100 + 20 * number, number))
    shutil.copy(folder / "person0" / "0.png", folder / "person3" / "twin.png")
    cv2.imwrite(str(folder / "landscape.png"), make_picture(120)[:60])
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (folder / "notes.txt").write_text("nothing")
    return folder


def forge(source: Path, out: Path, kinds: tuple[str, ...] = MADE_HERE, **options: Any) -> ForgedSet:
    return forge_folder(source, out, kinds, **{"size": SIZE, "finder": find_drawn, "seed": 5, **options})


@pytest.fixture(scope="module")
def made(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> ForgedSet:
    return forge(pictures, tmp_path_factory.mktemp("out") / "set")


def read(path: Path | str) -> np.ndarray:
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert bgr is not None
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def tree(folder: Path) -> dict[str, str]:
    """Every file by name, with its hash."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]


def mask_of(sample: Sample, out: Path) -> np.ndarray:
    grey = cv2.imread(str(out / sample.mask), cv2.IMREAD_GRAYSCALE)
    assert grey is not None
    return grey


def test_the_set_is_complete_and_its_manifest_can_be_read(made: ForgedSet) -> None:
    out = made.manifest.parent
    samples = read_manifest(made.manifest)
    assert made.families == Counter(sample.family for sample in samples)
    assert made.families == {"real": 7, **dict.fromkeys(FORGED_FAMILIES, 7)}
    assert {sample.source for sample in samples} == {"people"} and {s.spectrum for s in samples} == {"visible"}
    for sample in samples:
        assert (sample.label == 0) == (sample.family == "real") == (sample.mask == "")
        assert bool(re.fullmatch("(?!0000)[01]{4}", sample.flags)) == (sample.family == "composite")
    assert {Path(name).parts[0] for name in tree(out)} == {
        *("real", "fake", "masks"),
        *("manifest.csv", "record.jsonl", "set.json"),
    }
    assert not list(out.rglob("*.part"))
    assert {Path(path).name: reason for path, reason in made.skipped}.keys() == {
        *("twin.png", "landscape.png", "broken.jpg"),
    }


def test_splits_that_nobody_fell_into_are_told(made: ForgedSet) -> None:
    filled = {sample.split for sample in read_manifest(made.manifest)}
    assert set(made.empty_splits) == {"train", "val", "cal", "test"} - filled
    assert made.empty_splits  # seven faces make few groups


def test_the_container_does_not_tell_the_classes_apart(made: ForgedSet) -> None:
    """Same format, size, depth and settings; only the mark, which must, differs."""
    headers = set()
    for sample in read_manifest(made.manifest):
        data = Path(sample.path).read_bytes()
        headers.add(data[:33])
        assert (read_mark(data) is None) == (sample.label == 0)
        pixels = read(sample.path)
        again = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
        plain = again.tobytes()
        assert data == (mark(plain, read_mark(data)) if sample.label else plain)  # type: ignore[arg-type]
    assert len(headers) == 1


def test_forgeries_are_marked_for_people_and_for_software(made: ForgedSet) -> None:
    expected = {"selfblend": "algorithmicallyEnhanced", "swap": "compositeSynthetic", "composite": "compositeSynthetic"}
    rows = records(made.manifest.parent)
    bands: dict[int, set[bytes]] = {0: set(), 1: set()}
    for row in rows:
        path = made.manifest.parent / row["path"]
        band = read(path)[: band_height(SIZE)]
        bands[row["label"]].add(band.tobytes())
        assert not band[text_height(SIZE) :].any()
        if row["label"]:
            assert read_mark(path.read_bytes()) == row["digital_source_type"]
            assert row["digital_source_type"] == expected.get(row["family"], "algorithmicallyEnhanced")
    assert len(bands[0]) == len(bands[1]) == 1 and bands[0] != bands[1]


def test_masks_have_the_pictures_size_and_tell_where_it_was_forged(made: ForgedSet) -> None:
    out = made.manifest.parent
    real = {row["files"][0]["path"]: read(out / row["path"]) for row in records(out) if row["family"] == "real"}
    for row in records(out):
        if row["label"]:
            sample = Sample(**{name: row[name] for name in Sample.__dataclass_fields__})
            mask, pixels = mask_of(sample, out), read(out / row["path"])
            assert mask.shape == pixels.shape[:2] and not mask[: band_height(SIZE)].any() and mask.any()
            twin = real[row["files"][0]["path"]]
            change = np.abs(pixels.astype(int) - twin)[band_height(SIZE) :].mean(axis=2)
            shown = mask[band_height(SIZE) :]
            assert change[shown > 100].mean() > 0.5
            if (shown == 0).any() and row["family"] != "selfblend":  # which may change the look of what is around
                assert change[shown == 0].mean() < 0.3, row["path"]


def test_the_record_says_how_each_picture_was_made(made: ForgedSet, pictures: Path) -> None:
    out = made.manifest.parent
    rows = records(out)
    assert len(rows) == sum(made.families.values())
    for row in rows:
        assert row["sha256"] == hashlib.sha256((out / row["path"]).read_bytes()).hexdigest()
        assert row["tool"].startswith("unmask ") and row["seed"] == 5
        assert len(row["files"]) == (2 if row["family"] in ("swap", "composite") else 1)
        for file in row["files"]:
            assert file["sha256"] == hashlib.sha256((pictures / file["path"]).read_bytes()).hexdigest()
        assert row["kind"] == ("real" if not row["label"] else row["family"].split("-")[0])


@pytest.mark.slow
def test_nobody_stands_on_two_sides(made: ForgedSet, tmp_path: Path) -> None:
    """Two who meet in a picture, and all who meet either, are one subject on one side."""
    for number in range(40):
        (tmp_path / "many").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "many" / f"{number}.png"), make_picture(80, number))
    result = forge(tmp_path / "many", tmp_path / "out", ("swap", "composite"), count=60)
    side: dict[str, set[tuple[str, str]]] = {}
    for row in [*records(result.manifest.parent)]:
        for file in row["files"]:
            side.setdefault(file["path"], set()).add((row["subject"], row["split"]))
    assert len(side) == 40 and all(len(where) == 1 for where in side.values())
    subjects = Counter(subject for where in side.values() for subject, _ in where)
    assert len(subjects) >= 8 and max(subjects.values()) <= 5
    assert len({split for where in side.values() for _, split in where}) > 1
    assert all(len({file["path"] for file in row["files"]}) == len(row["files"]) for row in records(tmp_path / "out"))


def test_the_split_does_not_depend_on_what_is_made(made: ForgedSet, pictures: Path, tmp_path: Path) -> None:
    """So that one may train on the clean set of a folder and test on its perturbed one."""
    other = forge(pictures, tmp_path / "other", ("fingerprint",), perturbation="mix", nir=True, seed=9)

    def split(out: Path) -> dict[str, str]:
        return {row["files"][0]["path"]: row["split"] for row in records(out) if row["family"] == "real"}

    assert split(other.manifest.parent) == split(made.manifest.parent)


def test_without_swaps_every_person_is_a_subject(pictures: Path, tmp_path: Path) -> None:
    files = forge(pictures, tmp_path / "files", ("selfblend",))
    folders = forge(pictures, tmp_path / "folders", ("selfblend",), people="folder")
    subjects = [{sample.subject for sample in read_manifest(result.manifest)} for result in (files, folders)]
    assert len(subjects[0]) == 7
    assert subjects[1] == {f"people/person{number}" for number in range(4)}


def test_folders_of_one_person_swap_with_others_only(pictures: Path, tmp_path: Path) -> None:
    forge(pictures, tmp_path / "set", ("swap",), people="folder", count=20)
    for row in records(tmp_path / "set"):
        people = [file["path"].split("/")[0] for file in row["files"]]
        assert len(set(people)) == len(people)


def test_the_same_specification_makes_the_same_set(made: ForgedSet, pictures: Path, tmp_path: Path) -> None:
    again = forge(pictures, tmp_path / "again")
    assert tree(again.manifest.parent) == tree(made.manifest.parent)
    other = forge(pictures, tmp_path / "other", ("selfblend",), seed=6)
    name = "fake/selfblend/00000.png"
    assert tree(other.manifest.parent)[name] != tree(made.manifest.parent)[name]


def test_a_picture_does_not_depend_on_what_else_is_made(made: ForgedSet, pictures: Path, tmp_path: Path) -> None:
    some = tree(forge(pictures, tmp_path / "some", ("composite",), count=3).manifest.parent)
    alike = {name for name in some if name.startswith(("fake", "real", "masks"))}
    whole = tree(made.manifest.parent)
    assert len(alike) == 7 + 2 * 3 and all(whole[name] == some[name] for name in alike)


def test_a_set_may_have_more_forgeries_than_faces(pictures: Path, tmp_path: Path) -> None:
    result = forge(pictures, tmp_path / "set", ("selfblend",), count=16)
    assert result.families == {"real": 7, "selfblend": 16}
    hashes = [value for name, value in tree(tmp_path / "set").items() if name.startswith("fake/selfblend")]
    assert len(set(hashes)) == 16


def test_perturbations_fall_on_both_classes_alike(pictures: Path, tmp_path: Path) -> None:
    counts = {}
    for rule in ("rand", "mix"):
        forge(pictures, tmp_path / rule, ("selfblend",), perturbation=rule)
        steps = {row["path"]: row["parameters"]["perturbation"] for row in records(tmp_path / rule)}
        assert len({json.dumps(step) for step in steps.values()}) > 3
        counts[rule] = {len(step) for step in steps.values()}
        assert {path.split("/")[0] for path, step in steps.items() if step} == {"real", "fake"}
    assert counts["rand"] == {1} and counts["mix"] <= {2, 3, 4}


def test_both_classes_are_published_alike(made: ForgedSet, pictures: Path, tmp_path: Path) -> None:
    looks = ("greyscale", "screenshot", "messenger")
    out = forge(pictures, tmp_path / "set", ("selfblend",), looks=looks, count=9).manifest.parent
    by_face: dict[str, set[str]] = {}
    plain = {row["path"]: row for row in records(made.manifest.parent)}
    for row in records(out):
        assert row["parameters"]["look"] in looks
        by_face.setdefault(row["files"][0]["path"], set()).add(row["parameters"]["look"])
        if row["path"] in plain:
            assert row["sha256"] != plain[row["path"]]["sha256"]
    assert all(len(drawn) == 1 for drawn in by_face.values())
    assert len(set.union(*by_face.values())) > 1
    grey = forge(pictures, tmp_path / "grey", ("selfblend",), looks=("greyscale",), nir=True).manifest.parent
    assert all(is_single_band(without_band(read(path))) for path in (grey / "real").iterdir())


class Partial(Maker):
    """A maker of two families, the second of which needs a file of weights."""

    families = ("whole", "part")

    @classmethod
    def lacking(cls, weights: Path | None) -> dict[str, str]:
        if weights is None:
            return {"part": "part.pth is not there"}
        if (weights / "part.pth").read_bytes() != b"part":
            raise DataError("part.pth is another file")
        return {}

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        mask = np.ones(request.face.pixels.shape[:2], np.float32)
        return Forgery(255 - request.face.pixels, mask, "algorithmicallyEnhanced")


class Nothing(Partial):
    families = ("part",)


def test_families_that_lack_weights_are_left_out_by_name(pictures: Path, tmp_path: Path) -> None:
    kinds = (f"{__name__}:Partial",)
    made = forge(pictures, tmp_path / "set", kinds)
    assert made.families == {"real": 7, "whole": 7} and made.left_out == (("part", "part.pth is not there"),)
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "part.pth").write_bytes(b"part")
    with pytest.raises(DataError, match="families"):  # the set that was begun had fewer
        forge(pictures, tmp_path / "set", kinds, weights=weights)
    assert forge(pictures, tmp_path / "other", kinds, weights=weights).families == {"real": 7, "whole": 7, "part": 7}


def test_weights_are_checked_before_the_work_begins(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "part.pth").write_bytes(b"another")
    for options, reason in (
        ({"kinds": (f"{__name__}:Nothing",)}, "part.pth is not there"),
        ({"kinds": (f"{__name__}:Partial",), "weights": tmp_path}, "another file"),
        ({"weights": tmp_path / "nowhere"}, "no such folder"),
        ({"kinds": ("candide_swap",)}, "candide.npz"),
    ):
        with pytest.raises(DataError, match=reason):
            forge(pictures, tmp_path / "out", **options)  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()


def test_a_look_without_an_encoder_is_refused(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmask.forging.looks.has_encoder", lambda codec: codec != "h265")
    with pytest.raises(DataError, match="libx265"):
        forge(pictures, tmp_path / "out", looks=("enlarged", "h265"))
    with pytest.raises(DataError, match="no look sepia"):
        forge(pictures, tmp_path / "out", looks=("sepia",))
    assert not (tmp_path / "out").exists()


def test_a_near_infrared_set_has_one_band(pictures: Path, tmp_path: Path) -> None:
    result = forge(pictures, tmp_path / "set", nir=True, perturbation="rand")
    samples = read_manifest(result.manifest)
    assert {sample.spectrum for sample in samples} == {"nir"}
    for sample in samples:
        assert is_single_band(without_band(read(sample.path))), sample.path


def _sigint() -> None:
    signal.raise_signal(signal.SIGINT)


def _sigterm() -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("press", [_sigint, _sigterm])
def test_an_interrupted_set_is_whole_as_far_as_it_goes_and_can_be_finished(
    made: ForgedSet, pictures: Path, tmp_path: Path, press: Callable[[], None]
) -> None:
    out = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt):
        forge(
            pictures,
            out,
            progress=ProgressLog(lambda stage, done: press() if (stage, done) == ("forging", 17) else None),
        )
    assert not list(out.rglob("*.part"))
    samples = read_manifest(out / "manifest.csv")
    assert len(samples) == 17 == len(records(out))
    counts = Counter(sample.family for sample in samples)
    assert max(counts.values()) - min(counts.values()) <= 1 and len(counts) == 1 + len(FORGED_FAMILIES)

    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    log = ProgressLog()
    result = forge(pictures, out, progress=log)
    assert next(done for stage, done, _ in log.steps if stage == "forging") == 17
    log.check_bars_end()
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert tree(out) == tree(made.manifest.parent) and result.families == made.families


def test_an_interruption_waits_until_a_picture_is_whole(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between the files of one picture: it is finished, recorded and listed all the same."""
    real_write = forging.write_whole

    def write(path: Path, data: bytes) -> None:
        real_write(path, data)
        if "masks/swap" in path.as_posix():
            _sigint()

    monkeypatch.setattr(forging, "write_whole", write)
    with pytest.raises(KeyboardInterrupt):
        forge(pictures, tmp_path / "set", ("swap",))
    assert [row["path"] for row in records(tmp_path / "set")][-1] == "fake/swap/00000.png"
    assert {sample.family for sample in read_manifest(tmp_path / "set" / "manifest.csv")} == {"real", "swap"}


def test_what_a_kill_left_is_made_good(made: ForgedSet, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    shutil.copytree(made.manifest.parent, out)
    lines = (out / "record.jsonl").read_bytes().splitlines(keepends=True)
    (out / "record.jsonl").write_bytes(b"".join(lines[:-1]) + lines[-1][:40] + "\u00e9".encode()[:1])
    (out / "real" / "00003.png").unlink()
    (out / "masks" / "swap" / "00001.png").unlink()
    (out / "fake" / "swap" / ".00002.png.k1ll.part").write_bytes(b"half")
    (out / "manifest.csv").unlink()
    forge(pictures, out)
    whole = tree(made.manifest.parent)
    finished = tree(out)
    assert {k: v for k, v in finished.items() if k != "record.jsonl"} == {
        k: v for k, v in whole.items() if k != "record.jsonl"
    }
    assert sorted(row["path"] for row in records(out)) == sorted(row["path"] for row in records(made.manifest.parent))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"seed": 6}, "made with seed 5, not 6; name another folder or delete it"),
        ({"size": 80}, "made with size 64, not 80"),
        ({"count": 3}, "made with count None, not 3"),
        ({"kinds": ("swap",)}, "made with kinds"),
        ({"perturbation": "rand"}, "made with perturbation std, not rand"),
        ({"nir": True}, "made with nir False, not True"),
        ({"looks": ("greyscale",)}, "made with looks"),
        ({"people": "folder"}, "made with people file, not folder"),
    ],
)
def test_another_set_is_refused(made: ForgedSet, pictures: Path, options: dict[str, Any], reason: str) -> None:
    before = tree(made.manifest.parent)
    with pytest.raises(DataError, match=reason):
        forge(pictures, made.manifest.parent, **options)
    assert tree(made.manifest.parent) == before


def test_a_set_of_other_pictures_is_refused(made: ForgedSet, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "people")
    (tmp_path / "people" / "person1" / "2.png").unlink()
    with pytest.raises(DataError, match="made from other pictures; name another folder"):
        forge(tmp_path / "people", made.manifest.parent)


def test_a_folder_of_something_else_is_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "set.json").write_text("[1]")
    for name, reason in (("mine", "is no set of this command"), ("file", "no folder"), ("bad", "readable set.json")):
        with pytest.raises(DataError, match=reason):
            forge(pictures, tmp_path / name)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kinds": ("swap", "morph")}, "no kind of forgery morph; name one of selfblend, swap"),
        ({"kinds": ()}, "no kind of forgery is named; name some"),
        ({"count": 0}, "a count of 1 or more"),
        ({"seed": -1}, "a seed of 0 or more"),
        ({"size": 100}, "a multiple of 16 from 64 to 1024"),
        ({"size": 2048}, "a multiple of 16 from 64 to 1024"),
        ({"perturbation": "all"}, "one of std, rand, mix"),
        ({"people": "row"}, "file or folder"),
        ({"kinds": ("resynthesis",)}, r"needs the TAEF2 weights .* not in any folder named; name the folder"),
        ({"kinds": ("resynthesis",), "taef2": Path("nowhere")}, "not in nowhere; name the folder"),
    ],
)
def test_wrong_parameters_name_the_remedy(pictures: Path, tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        forge(pictures, tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


def test_a_source_without_enough_faces_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; give one with face pictures"):
        forge(tmp_path / "gone", tmp_path / "set")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no face in any of 0 files; give a folder of face pictures"):
        forge(tmp_path / "empty", tmp_path / "set")
    with pytest.raises(DataError, match=r"no face in any of 10 files \(.*broken\.jpg: .*\); give a folder"):
        forge(pictures, tmp_path / "set", finder=lambda _: None)
    (tmp_path / "one").mkdir()
    shutil.copy(pictures / "person0" / "0.png", tmp_path / "one")
    with pytest.raises(DataError, match="swap and composite needs the faces of two people"):
        forge(tmp_path / "one", tmp_path / "set")
    assert not (tmp_path / "set").exists()
    assert forge(tmp_path / "one", tmp_path / "set", ("selfblend",)).families == {"real": 1, "selfblend": 1}


def test_a_set_inside_its_source_is_refused(pictures: Path) -> None:
    for out in (pictures, pictures / "forged"):
        with pytest.raises(DataError, match="forged again; name a folder outside"):
            forge(pictures, out)


def test_a_picture_that_changes_meanwhile_is_noticed(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "people")

    def change(stage: str, done: int) -> None:
        if stage == "forging" and done == 0:
            for path in (tmp_path / "people").rglob("*.png"):
                cv2.imwrite(str(path), make_picture(90, 99))

    with pytest.raises(DataError, match="was changed while the set was made; begin again"):
        forge(tmp_path / "people", tmp_path / "set", ("selfblend",), progress=ProgressLog(change))


def test_pictures_are_not_all_held_in_memory(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of a face after the search is its place, not its pixels."""
    kept: list[Any] = []
    monkeypatch.setattr(forging, "_groups", lambda faces: kept.extend(faces) or {face.person: "all" for face in faces})
    forge(pictures, tmp_path / "set", ("selfblend",))
    for face in kept:
        arrays = [value for value in vars(face).values() if isinstance(value, np.ndarray)]
        assert sum(array.nbytes for array in arrays) < 5000


@pytest.mark.lab
def test_a_resynthesised_set_is_marked_as_trained_media(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    from unmask.forging import autoencoders as resynthesis

    class Darker(torch.nn.Module):
        def __init__(self, folder: Path) -> None:
            super().__init__()
            assert folder == tmp_path / "weights"

        def forward(self, x: Any, jitter: float = 0.0, generator: Any = None) -> Any:
            return x * 0.8

    monkeypatch.setattr(resynthesis, "Taef2", Darker)
    (tmp_path / "weights").mkdir()
    for name in ("taef2_encoder.pth", "taef2_decoder.pth"):
        (tmp_path / "weights" / name).write_bytes(name.encode())
    forge(pictures, tmp_path / "set", ("resynthesis",), taef2=tmp_path / "weights", count=20)
    terms = Counter()
    for row in records(tmp_path / "set"):
        if row["label"]:
            mask = cv2.imread(str(tmp_path / "set" / row["mask"]), cv2.IMREAD_GRAYSCALE)
            assert mask is not None
            whole = bool((mask[band_height(SIZE) :] == 255).all())
            assert whole == row["parameters"]["whole"]
            terms[row["digital_source_type"], whole] += 1
    assert set(terms) == {("trainedAlgorithmicMedia", True), ("compositeWithTrainedAlgorithmicMedia", False)}
    with pytest.raises(DataError, match="made with taef2"):
        (tmp_path / "weights" / "taef2_encoder.pth").write_bytes(b"others")
        forge(pictures, tmp_path / "set", ("resynthesis",), taef2=tmp_path / "weights", count=20)


@pytest.mark.parametrize("blind", [False, True])
def test_a_generators_faces_are_framed_like_the_others(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blind: bool
) -> None:
    """Also where no face is found in a drawn one."""
    from unmask.forging.makers import mobilestylegan as maker_module

    drawn_faces: list[tuple[int, int, int]] = []

    class Generator:
        def __init__(self, seed: int) -> None:
            self.seed = seed

        def draw(self, number: int, size: int) -> bytes:
            drawn_faces.append((self.seed, number, size))
            return bytes(cv2.imencode(".jpg", make_picture(size, 50 + number))[1])

    monkeypatch.setattr(maker_module, "FaceGenerator", Generator)

    def finder(pixels: np.ndarray) -> SeenFace | None:
        return None if blind and len(pixels) == 2 * SIZE else find_drawn(pixels)

    out = tmp_path / "set"
    log = ProgressLog()
    result = forge(pictures, out, ("mobilestylegan",), count=4, finder=finder, progress=log)
    assert result.families == {"real": 7, "mobilestylegan": 4}
    assert drawn_faces == [(5, number, 2 * SIZE) for number in range(4)]
    log.check_bars_end()
    drawn = [row for row in records(out) if row["label"]]
    assert all(row["files"] == [] and row["digital_source_type"] == "trainedAlgorithmicMedia" for row in drawn)
    assert {row["subject"] for row in drawn} == {f"mobilestylegan/{number:05d}" for number in range(4)}
    shapes = {read(out / row["path"]).shape for row in records(out)}
    assert shapes == {(SIZE + band_height(SIZE), SIZE, 3)}
    before = tree(out)
    forge(pictures, out, ("mobilestylegan",), count=4, finder=finder)
    assert tree(out) == before and len(drawn_faces) == 4  # nothing is drawn anew for a finished set


@pytest.fixture(scope="module")
def portraits(portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real photograph, mirrored, cut close about the face, and cut so that the face lies high or low."""
    folder = tmp_path_factory.mktemp("portraits")
    whole = read(portrait)
    (face,) = FaceFinder().find(whole)
    x, y, w, h = (round(value) for value in face.box)
    cuts = {
        "whole": whole,
        "mirrored": whole[:, ::-1],
        "tight": whole[y : y + h, x - (h - w) // 2 : x - (h - w) // 2 + h],
        "high": whole[y - 4 :, :],
        "low": whole[: y + h + 4, :],
    }
    for name, pixels in cuts.items():
        cv2.imwrite(str(folder / f"{name}.png"), cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR))
    return folder


def _by_detector() -> Finder:
    """The project's detector; in place of the mesh's network, a drawn mesh laid over the box."""
    finder = FaceFinder()

    def find_one(pixels: np.ndarray) -> SeenFace | None:
        faces = finder.find(pixels)
        if not faces:
            return None
        x, y, w, h = faces[0].box
        mesh = (make_mesh(1) - (0.24, 0.16)) / (0.52, 0.68) * (w, h) + (x, y)
        return SeenFace(faces[0].box, faces[0].landmarks, mesh.astype(np.float32))

    return find_one


def test_no_crop_about_a_face_shows_the_text(portraits: Path, tmp_path: Path) -> None:
    """Whatever its margin, and also where the face fills its picture: the visible mark teaches a detector nothing."""
    result = forge(portraits, tmp_path / "set", size=128, finder=_by_detector())
    assert result.families["real"] >= 4, result.skipped
    finder = FaceFinder(smallest=20)
    for sample in read_manifest(result.manifest):
        pixels = read(sample.path)
        faces = finder.find(pixels)
        assert faces, sample.path
        for margin in (1.0, 1.4, 2.4, 9.0):
            _, top, _ = context_region(pixels.shape, faces[0].box, margin)
            assert top >= text_height(128), (sample.path, margin)


def test_the_finder_joins_detector_and_mesh(portrait: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mesh:
        def find(self, pixels: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
            return np.tile(landmarks.mean(axis=0), (468, 1))

    monkeypatch.setattr(source_faces, "FaceMesh", Mesh)
    finder = face_finder()
    seen = finder(read(portrait))
    assert seen is not None
    x, y, w, h = seen.box
    assert x < seen.mesh[0, 0] < x + w and y < seen.mesh[0, 1] < y + h
    assert finder(np.zeros((100, 100, 3), np.uint8)) is None
