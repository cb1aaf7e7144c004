"""Prompt packs: learned from a few pictures, added to without the old ones, told on pictures; and what is refused."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from naming_runs import tiny_text
from prompt_sets import COLOURS, FAMILIES, write_detector, write_pictures

from unmask.cli import main
from unmask.errors import DataError, PackError
from unmask.forgery.naming import PromptNamer
from unmask.lab.prompting import training
from unmask.lab.prompting.sentences import SentenceModel
from unmask.packs import Pack, load_pack
from unmask.prompting import learning, pictures
from unmask.prompting.learning import (
    KEPT,
    LearnedPack,
    default_options,
    learn_pack,
    left_out,
    projection_into,
    read_kept,
)
from unmask.prompting.towers import logits_of, open_clip_tower, pack_tower, with_prompts

pytestmark = pytest.mark.lab
OPTIONS = replace(default_options(), epochs=4, learning_rate=0.05)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny sentence encoder, and whole pictures where faces would be looked for."""
    monkeypatch.setattr(learning, "sentence_encoder", tiny_text)
    monkeypatch.setattr(pictures, "FaceFinder", lambda: None)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("packs") / "colours")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data") / "pictures", tuple(COLOURS), 42)


def learned(data: Path, out: Path, detector: Path, **changes: Any) -> LearnedPack:
    given: dict[str, Any] = {"families": FAMILIES, "model": str(detector), "shots": 6, "options": OPTIONS, **changes}
    return learn_pack(data, out=out, **given)


def colour(name: str) -> np.ndarray:
    return np.full((16, 16, 3), COLOURS[name], np.uint8)


def test_families_are_learned_and_named(data: Path, detector: Path, tmp_path: Path) -> None:
    made = learned(data, tmp_path / "p", detector)
    assert not made.costs and not made.left_out and not (tmp_path / "p.part").exists()
    card = made.pack.card
    assert card.naming is not None and card.naming.names == ("genuine", "swap", "drawn") and card.naming.background == 1
    namer = PromptNamer(made.pack)
    swap, drawn, genuine, stranger = namer.name_crops([colour(name) for name in ("swap", "drawn", "genuine", "mouth")])
    assert (swap.likeliest, drawn.likeliest, genuine.likeliest) == ("swap", "drawn", None)
    assert swap.names == ("swap", "drawn")
    for one in (swap, drawn, genuine, stranger):
        assert one.probabilities.sum() + one.none == pytest.approx(1)
    finding = swap.finding("mine")
    assert finding.likeliest == "swap" and finding.families[0].words == FAMILIES["swap"]
    assert namer.name_crops([]) == []
    with pytest.raises(ValueError, match="crop"):
        namer.name_crops([np.zeros((4, 4, 3), np.uint8)])


def test_the_graph_says_what_was_learned(data: Path, detector: Path, tmp_path: Path) -> None:
    pack = learned(data, tmp_path / "p", detector).pack
    kept = read_kept(pack)
    features, _ = kept.of("held")
    crops = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    tower = pack_tower(pack)
    assert tower.name == "colours" and tower.space == "none"
    own = tower.features(list(crops))
    logits, seen = pack.run(crops.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    np.testing.assert_allclose(seen, own, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, logits_of(pack, own), rtol=1e-3, atol=1e-3)
    assert features.shape == (len(kept.labels["held"]), 5)


def test_a_family_is_added_without_the_old_pictures(data: Path, detector: Path, tmp_path: Path) -> None:
    base = learned(data, tmp_path / "p", detector).pack
    alone = write_pictures(tmp_path / "new", ("mouth",))
    made = learned(
        alone, tmp_path / "q", detector, families={"mouth": "a mouth drawn onto a face"}, model=None, onto=base
    )
    naming = made.pack.card.naming
    assert naming is not None and naming.names == ("genuine", "swap", "drawn", "mouth")
    assert [cost.name for cost in made.costs] == ["swap", "drawn"] and all(cost.n >= 2 for cost in made.costs)
    namer = PromptNamer(made.pack)
    assert [one.likeliest for one in namer.name_crops([colour("mouth"), colour("swap")])] == ["mouth", "swap"]
    assert read_kept(made.pack).features["shots"].shape[0] == 6 * 4
    # Old families have no test pictures here, so that all are measured on held ones.
    measured = {metric.dataset: metric.name for metric in made.pack.card.metrics}
    assert measured == dict.fromkeys(("all families", "swap", "drawn", "mouth"), "accuracy, held")
    assert {metric.name for metric in base.card.metrics} == {"accuracy"}
    # And once more, from the enlarged pack.
    again = write_pictures(tmp_path / "third", ("genuine",))
    (again / "genuine").rename(again / "grey")
    third = learned(again, tmp_path / "r", detector, families={"grey": "a genuine head"}, model=None, onto=made.pack)
    assert [cost.name for cost in third.costs] == ["swap", "drawn", "mouth"]


def test_one_family_without_genuine_pictures_needs_another(data: Path, detector: Path, tmp_path: Path) -> None:
    alone = write_pictures(tmp_path / "new", ("swap",))
    with pytest.raises(DataError, match="nothing to tell it from"):
        learned(alone, tmp_path / "p", detector, families={"swap": FAMILIES["swap"]})
    both = write_pictures(tmp_path / "both", ("genuine", "swap"))
    made = learned(both, tmp_path / "q", detector, families={"swap": FAMILIES["swap"]}, shots=1)
    assert PromptNamer(made.pack).name_crops([colour("swap")])[0].names == ("swap",)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"shots": 0}, "1 or more"),
        ({"families": {}}, "at least one"),
        ({"families": {"swap": "  ", "drawn": "a face"}}, "describe it"),
        ({"families": {"genuine": "a face"}}, "nobody forged"),
        ({"families": {"swap": "a face", "drawn": "a  face"}}, "the same to the model"),
        ({"families": {"swap": "a face " * 40, "drawn": "a face"}}, "fewer words"),
        ({"families": {"swap": "a face", "other": "a head"}}, "other"),
        ({"options": replace(OPTIONS, method="cocoop")}, "follow the picture"),
        ({"model": "yunet"}, "face_detection"),
        ({"model": "nowhere"}, "open_clip"),
    ],
)
def test_what_cannot_be_learned(
    changes: dict[str, Any], reason: str, data: Path, detector: Path, tmp_path: Path
) -> None:
    with pytest.raises((DataError, PackError), match=reason):
        learned(data, tmp_path / "p", detector, **changes)
    assert not (tmp_path / "p").exists()


def test_too_few_pictures_are_refused_and_a_few_suffice(detector: Path, tmp_path: Path) -> None:
    few = write_pictures(tmp_path / "few", ("genuine", "swap"), 2)
    with pytest.raises(DataError, match="at least three"):
        learned(few, tmp_path / "p", detector, families={"swap": FAMILIES["swap"]})
    three = write_pictures(tmp_path / "three", ("genuine", "swap"), 3)
    kept = read_kept(learned(three, tmp_path / "q", detector, families={"swap": FAMILIES["swap"]}).pack)
    assert np.bincount(kept.labels["shots"]).tolist() == [1, 1] and np.bincount(kept.labels["held"]).tolist() == [2, 2]


def test_files_that_are_no_pictures_are_left_out(detector: Path, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "data", ("genuine", "swap"))
    (data / "swap" / "broken.png").write_bytes(b"no picture")
    made = learned(data, tmp_path / "p", detector, families={"swap": FAMILIES["swap"]})
    assert len(made.left_out) == 1 and "broken.png" in made.left_out[0]
    for path in (data / "swap").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="0 usable pictures"):
        learned(data, tmp_path / "q", detector, families={"swap": FAMILIES["swap"]})


def test_adding_a_known_family_or_from_another_model_is_refused(data: Path, detector: Path, tmp_path: Path) -> None:
    base = learned(data, tmp_path / "p", detector).pack
    with pytest.raises(DataError, match="knows a family swap"):
        learned(data, tmp_path / "q", detector, model=None, onto=base)
    with pytest.raises(DataError, match="leave it out"):
        learned(data, tmp_path / "q", detector, families={"mouth": "a mouth"}, onto=base)
    (base.folder / KEPT).write_bytes(b"altered")
    with pytest.raises(PackError, match="altered"):
        learned(data, tmp_path / "q", detector, families={"mouth": "a mouth"}, model=None, onto=base)


def test_learning_survives_a_kill(data: Path, detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = learned(data, tmp_path / "p", detector).pack
    epoch = training._epoch

    def mortal(*given: Any) -> dict[str, float]:
        if given[-1] == 2:
            raise KeyboardInterrupt
        return epoch(*given)

    monkeypatch.setattr(training, "_epoch", mortal)
    with pytest.raises(KeyboardInterrupt):
        learned(data, tmp_path / "q", detector)
    monkeypatch.setattr(training, "_epoch", epoch)
    assert not (tmp_path / "q").exists() and (tmp_path / "q.part" / "checkpoint.ckpt").is_file()
    (tmp_path / "q.part" / ".checkpoint.ckpt.x1.part").write_bytes(b"cut short")
    with pytest.raises(DataError, match="another folder"):
        learned(data, tmp_path / "q", detector, options=replace(OPTIONS, rho=0.3))
    resumed = learned(data, tmp_path / "q", detector).pack
    assert resumed.card.sha256 == whole.card.sha256 and not (tmp_path / "q.part").exists()


def test_a_folder_of_somebody_elses_is_kept(data: Path, detector: Path, tmp_path: Path) -> None:
    (tmp_path / "p.part").mkdir()
    (tmp_path / "p.part" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="another --out"):
        learned(data, tmp_path / "p", detector)
    assert (tmp_path / "p.part" / "mine.txt").read_text() == "mine"


def test_the_projection_brings_features_to_their_texts() -> None:
    rng = np.random.default_rng(0)
    targets = np.eye(7, dtype=np.float32)[[0, 1, 2] * 8]
    features = (targets @ rng.standard_normal((7, 30)) + 0.01 * rng.standard_normal((24, 30))).astype(np.float32)
    weights, biases = projection_into(features, targets, 1e-4)
    made = features @ weights + biases
    assert weights.shape == (30, 7) and (made.argmax(1) == targets.argmax(1)).all()
    # What the classes have in common is left out.
    assert np.abs(made - (targets - targets.mean(0))).max() < 0.02
    # The primal form says the same.
    given = (features - features.mean(0)) / (features.std(0) + 1e-3) / np.sqrt(30)
    primal = np.linalg.solve(given.T @ given + 0.1 * np.eye(30), given.T @ targets)
    weights, biases = projection_into(features, targets, 0.1)
    np.testing.assert_allclose(features @ weights + biases, given @ primal, rtol=1e-3, atol=1e-4)


def test_a_picture_is_left_out_as_if_it_had_never_been_there() -> None:
    """Against fits without it, with the means and variances of all."""
    rng = np.random.default_rng(0)
    features, targets = rng.standard_normal((9, 5)).astype(np.float32), rng.standard_normal((9, 4)).astype(np.float32)
    made = left_out(features, targets, 0.5)
    given = (features - features.mean(0)) / (features.std(0) + 1e-3) / np.sqrt(5)
    for place in range(9):
        others = np.delete(np.arange(9), place)
        weights = np.linalg.solve(given[others].T @ given[others] + 0.5 * np.eye(5), given[others].T @ targets[others])
        np.testing.assert_allclose(made[place], given[place] @ weights, rtol=1e-3, atol=1e-4)


def test_an_open_clip_model_is_a_tower(tmp_path: Path) -> None:
    from tiny_clip import tiny

    model = tiny()
    tower = open_clip_tower(model, "tiny")
    crops = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    expected = model.encode_pictures(torch.from_numpy(crops.transpose(0, 3, 1, 2)).float() / 255).numpy()
    np.testing.assert_allclose(tower.features(list(crops)), expected, rtol=1e-3, atol=1e-4)
    classes = model.encode_texts(["a cat", "a dog"]).numpy()
    graph = with_prompts(tower, None, classes, float(model.scale()), 0.0)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: crops.transpose(0, 3, 1, 2).astype(np.float32) / 255}
    np.testing.assert_allclose(
        session.run(["logits"], given)[0], float(model.scale()) * expected @ classes.T, rtol=1e-3, atol=1e-3
    )


# The commands


@pytest.fixture
def unmask(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["unmask", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return run


def whole_pictures(pack: Pack) -> Path:
    """The pack, for whole pictures in place of faces."""
    replace(pack.card, crop_margin=None).write(pack.folder / "card.json")
    return pack.folder


def test_from_words_to_names_by_the_commands(
    data: Path,
    detector: Path,
    tmp_path: Path,
    unmask: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [f"--family={name}={text}" for name, text in FAMILIES.items()]
    where = ["--model", str(detector), "--shots", "5", "--epochs", "3"]
    first, second = str(tmp_path / "p"), str(tmp_path / "q")
    assert unmask("prompt", "learn", str(data), *words, *where, "--out", first) == 0
    assert "named rightly" in capsys.readouterr().out
    more = ["--family", "mouth=a mouth drawn onto a face", "--onto", first, "--shots", "5", "--epochs", "3"]
    assert unmask("prompt", "learn", str(data), *more, "--out", second, "--json", str(tmp_path / "learned.json")) == 0
    printed = capsys.readouterr().out
    assert "what it cost the old families" in printed and "points" in printed
    content = json.loads((tmp_path / "learned.json").read_text())
    assert {cost["name"] for cost in content["costs"]} == set(FAMILIES)
    pack = str(whole_pictures(load_pack(second)))
    (tmp_path / "text.png").write_text("no picture")
    asked = [str(data / "swap" / "0.png"), str(tmp_path / "text.png")]
    assert unmask("prompt", "score", *asked, "--pack", pack, "--json", "-") == 1
    named, broken = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert named["faces"][0]["naming"]["likeliest"] == "swap" and named["faces"][0]["box"] is None
    assert broken["refusal"]["code"] == "unsupported" and broken["faces"] == []
    assert unmask("prompt", "score", asked[0], "--pack", pack) == 0
    (tmp_path / "empty").mkdir()
    assert unmask("prompt", "score", str(tmp_path / "empty"), "--pack", pack) == 2
    assert "swap" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--family", "swap"], 'NAME="WORDS"'),
        (["--family", "swap=a", "--family", "swap=b"], "twice"),
        ([], "at least one"),
    ],
)
def test_what_the_command_refuses(
    words: list[str],
    reason: str,
    data: Path,
    tmp_path: Path,
    unmask: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert unmask("prompt", "learn", str(data), *words, "--out", str(tmp_path / "p")) == 2
    assert reason in capsys.readouterr().err


def test_nothing_of_somebody_elses_is_overwritten(
    data: Path, tmp_path: Path, unmask: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "card.json").write_text("mine")
    assert unmask("prompt", "learn", str(data), "--family", "swap=a", "--out", str(tmp_path)) == 2
    assert "kept" in capsys.readouterr().err and (tmp_path / "card.json").read_text() == "mine"


def test_rho_counts_in_lengths_of_the_context(data: Path, detector: Path, tmp_path: Path) -> None:
    saved = learned(data, tmp_path / "p", detector).pack.card.protocol["options"]
    words = SentenceModel(*tiny_text(), 1.0).eval()
    length = float(words.token_embeddings(words.token_ids(["a photo of"], 8)[:, 1:4]).norm())
    assert saved["rho"] == pytest.approx(OPTIONS.rho * length) and saved["method"] == "gcscoop"


def test_pictures_are_drawn_by_their_names(data: Path) -> None:
    one, other = (pictures.draw_pictures(data, ("swap",), 4, seed) for seed in (1, 2))
    assert set(one) == {"swap", "genuine"} and one["swap"] != other["swap"]
    assert one == pictures.draw_pictures(data, ("swap",), 4, 1)
    own = one["swap"]
    assert len(own.shots) == 4 and not set(own.shots) & {*own.held, *own.tested}


def test_splits_of_a_data_set_are_kept(tmp_path: Path) -> None:
    for split in ("train", "cal", "test"):
        for label, count in (("real", 4), ("fake/swap", 5)):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                cv2.imwrite(str(folder / f"{split}-{label[-4:]}-{number}.png"), np.zeros((8, 8, 3), np.uint8))
    drawn = pictures.draw_pictures(tmp_path, ("swap",), 3, 1)["swap"]
    assert len(drawn.shots) == 3 and {path.parts[-4] for path in drawn.shots} == {"train"}
    assert {path.parts[-4] for path in drawn.held} == {"cal"} and len(drawn.tested) == 5
    with pytest.raises(DataError, match="no pictures of the family other; there are swap"):
        pictures.draw_pictures(tmp_path, ("other",), 3, 1)
