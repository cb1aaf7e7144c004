"""Who never saw what, who judges it, and on which reals."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_faces import make_face, make_faces
from progress_log import ProgressLog
from stored_paths import stored_paths, write_run

from unmask.datasets.face_store import StoredFace
from unmask.datasets.manifest import Sample
from unmask.errors import DataError
from unmask.lab.detection.left_out_scores import Trained, appoint, left_out_scores, score_split, trained_on
from unmask.lab.detection.systems import EvaluatedSystem, resolve_system
from unmask.lab.detection.task import DetectionTask
from unmask.lab.edits.task import EditTask
from unmask.progress import SILENT

pytestmark = pytest.mark.lab

SIZE = 64


def system(
    name: str, families: Sequence[str] = (), sources: Sequence[str] = (), logit: float = 0.0, **more: Any
) -> EvaluatedSystem:
    """One that gives every face the same logit; `more` are other settings of its run."""
    run = {"families": families, "sources": sources, **more}
    return EvaluatedSystem(
        name, lambda crops: (np.full(len(crops), logit), np.zeros((len(crops), 4, 4))), SIZE, 1.4, runs=(run,)
    )


@pytest.fixture(scope="module")
def faces() -> list[StoredFace]:
    """Two of everything, and a text-to-image face whose partners are two sources of portraits."""
    extra = [make_face(70 + n, source=source, split="val") for n, source in enumerate(("real_portraits", "real_300w"))]
    extra += [make_face(80, label=1, family="sfhq_t2i", source="sfhq_t2i", split="val")]
    return [*make_faces("val", count=2), *extra]


@pytest.fixture(scope="module")
def samples(faces: list[StoredFace]) -> list[Sample]:
    return [face.sample for face in faces]


def test_a_run_says_what_it_and_its_start_were_trained_on(samples: list[Sample]) -> None:
    known = trained_on(
        system(
            "a", ["swap", "filter"], ["ffhq"], before=["stylegan"], before_sources=["utkface"], kinds=["swap", "odd"]
        ),
        samples,
    )
    assert known.families == {"swap", "filter", "stylegan"} and known.sources == {"ffhq", "utkface"}
    assert known.kinds >= {"swap", "synthesis", "odd"}
    assert (known.on("kind"), known.on("family"), known.on("source")) == (known.kinds, known.families, known.sources)


def test_the_embedded_pack_says_it_and_what_its_members_began_from(samples: list[Sample]) -> None:
    known = trained_on(resolve_system("plain"), samples)
    assert known.sources >= {"ffhq", "ciplab", "celebamask", "utkface", "real_300w", "real_portraits", "real_talking"}
    assert known.families >= {"ciplab", "stylegan", "selfblend", "swap", "sfhq_t2i", "wav2lip"}
    assert known.kinds >= {"blend", "composite", "re-synthesis", "swap", "synthesis", "text-to-image", "talking head"}
    assert "pggan" not in known.families


def test_a_card_of_before_cards_listed_it_says_it_in_words(samples: list[Sample]) -> None:
    words = "training split of FFHQ, CIPLAB, CelebAMask-HQ and UTKFace reals; ciplab, mobilestylegan, stylegan"
    known = trained_on(replace(system("mine"), runs=(), training_data=words), samples)
    assert known.sources >= {"ffhq", "ciplab", "celebamask", "utkface"}
    assert known.families >= {"ciplab", "mobilestylegan", "stylegan"} and "pggan" not in known.families
    assert not known.kinds & {"text-to-image", "talking head", "lip-sync"}


@pytest.mark.parametrize(
    "run",
    [
        {},
        {"families": ("swap",)},
        {"sources": ("ffhq",)},
        {"families": ("swap",), "sources": ("ffhq",), "start": "0123", "before": ("ciplab",)},
    ],
)
def test_what_does_not_say_is_refused(run: dict[str, Any], samples: list[Sample]) -> None:
    silent = replace(system("mine"), runs=(run,), training_data="faces of ours")
    with pytest.raises(DataError, match="mine does not say which families and sources"):
        trained_on(silent, samples)


A = Trained(frozenset({"swap", "stylegan"}), frozenset({"swap", "synthesis"}), frozenset({"ffhq", "real_300w"}))
B = Trained(frozenset({"selfblend"}), frozenset({"blend"}), frozenset({"ffhq", "utkface"}))


def test_every_group_is_judged_by_those_that_never_saw_it(samples: list[Sample]) -> None:
    progress = ProgressLog()
    judges = appoint([A, B], samples, "val", "kind", progress)
    assert judges.groups["kind", "swap"] == judges.groups["kind", "synthesis"] == (1,)
    assert judges.groups["kind", "blend"] == (0,) and judges.groups["kind", "text-to-image"] == (0, 1)
    assert judges.groups["source", "utkface"] == (0,) and ("source", "ffhq") not in judges.groups
    assert judges.seen("kind", "swap") == {"ffhq", "utkface"}
    (note,) = progress.notes
    assert note == "skipped, for every system was trained on it: source ffhq"
    by_family = ProgressLog()
    families = appoint([A, B], samples, "val", "family", by_family).groups
    assert families["family", "mobilestylegan"] == (0, 1) and families["family", "stylegan"] == (1,)
    # Of its kind there is another family: MobileStyleGAN and PGGAN stay when StyleGAN goes.
    alone = by_family.notes[-1].partition(": ")[2].split(", ")
    assert set(alone) == {"ciplab", "resynthesis", "selfblend", "sfhq_t2i", "swap"}


def test_a_family_without_authentic_partners_is_skipped_by_name(samples: list[Sample]) -> None:
    stray = make_face(99, label=1, family="filter", source="elsewhere", split="val").sample
    progress = ProgressLog()
    judges = appoint([A], [*samples, stray], "val", "family", progress)
    assert ("family", "filter") not in judges.groups
    assert progress.notes[0] == "skipped, for no real faces of the split val stand beside them: filter"


def test_what_cannot_be_measured_is_refused(samples: list[Sample]) -> None:
    twice = replace(samples[0], split="train", path="again.png")
    with pytest.raises(
        DataError, match=r"again\.png: ffhq/real/0000 is in the splits val and train; keep it on one side"
    ):
        appoint([A], [*samples, twice], "val", "kind")
    with pytest.raises(DataError, match="no real face is in the split cal; give rows split=cal"):
        appoint([A], samples, "cal", "kind")
    every = Trained(*(frozenset({group}) for group in ("a", "b", "c")))
    groups = appoint([every], samples, "val", "kind").groups
    sees_all = replace(every, kinds=frozenset(group for by, group in groups if by == "kind"))
    with pytest.raises(
        DataError, match="trained on every kind of the split val; name runs trained with --without-kind"
    ):
        appoint([sees_all], samples, "val", "kind")


def test_scores_are_the_mean_of_those_who_never_saw_the_group(faces: list[StoredFace], samples: list[Sample]) -> None:
    systems = [system("a", logit=1.0), system("b", logit=3.0)]
    judges = appoint([A, B], samples, "val", "kind")
    progress = ProgressLog()
    scored = left_out_scores(systems, judges, faces, conditions=("clean", "greyscale"), progress=progress)
    progress.check_bars_end()
    logits: dict[tuple[str, str], set[float]] = {}
    for one in scored:
        logits.setdefault((one.by, one.group), set()).add(one.logit)
    assert logits["kind", "swap"] == {3.0} and logits["kind", "blend"] == {1.0}
    assert logits["kind", "text-to-image"] == {2.0} and logits["source", "utkface"] == {1.0}
    assert {one.condition for one in scored} == {"clean", "greyscale"} and {one.split for one in scored} == {"val"}

    def rows(group: str, label: int) -> list[Any]:
        own = [one for one in scored if (one.by, one.group, one.label) == ("kind", group, label)]
        return [one for one in own if one.condition == "clean"]

    # Synthesis: StyleGAN and MobileStyleGAN beside FFHQ, PGGAN beside CelebA's faces at its size.
    assert {one.source for one in rows("synthesis", 0)} == {"ffhq", "celebamask"} and len(rows("synthesis", 1)) == 6
    assert {one.source: one.seen for one in rows("synthesis", 0)} == {"ffhq": True, "celebamask": False}
    # Of two partners the one that no judge saw: A saw real_300w.
    (beside,) = rows("text-to-image", 0)
    assert (beside.source, beside.seen) == ("real_portraits", False)
    # Reals of a source are judged once each, by those who never saw it, as they came.
    own = [one for one in scored if one.by == "source" and one.group == "celebamask" and one.condition == "clean"]
    assert sum(not one.label for one in own) == 2 and {one.source for one in own} == {"celebamask"}
    assert {one.logit for one in own} == {2.0}


def test_partners_that_were_all_seen_stand_there_all_the_same(faces: list[StoredFace], samples: list[Sample]) -> None:
    both = replace(A, sources=A.sources | {"real_portraits"})
    scored = left_out_scores([system("a")], appoint([both], samples, "val", "kind"), faces, conditions=("clean",))
    own = [one for one in scored if one.group == "text-to-image"]
    assert {(one.source, one.seen) for one in own if not one.label} == {("real_portraits", True), ("real_300w", True)}


def test_of_the_training_split_only_what_was_left_out_counts(faces: list[StoredFace]) -> None:
    """A trained on FFHQ and real_300w: what stands beside them alone says nothing; and nothing is made of the reals."""
    training = [replace(face, sample=replace(face.sample, split="train")) for face in faces]
    progress = ProgressLog()
    judges = appoint([A], [face.sample for face in training], "train", "family", progress)
    assert "skipped, for the systems were trained on all reals beside it: mobilestylegan" in progress.notes
    scored = left_out_scores([system("a")], judges, training, conditions=("clean",))
    families = {one.group: one for one in scored if one.by == "family" and one.label}
    assert set(families) == {"ciplab", "pggan", "sfhq_t2i"}
    assert {one.source for one in scored if one.group == "sfhq_t2i" and not one.label} == {"real_portraits"}
    assert not any(one.seen for one in scored if not one.label)
    # A text-to-image face may have been trained on beside real_300w.
    assert not any(one.label for one in scored if one.by == "source" and one.group == "real_portraits")


def test_from_runs_to_tables(faces: list[StoredFace], tmp_path: Path) -> None:
    paths = stored_paths(tmp_path / "work", faces)
    everywhere = ("celebamask", "ciplab", "ffhq", "real_300w", "real_portraits", "utkface")
    write_run(tmp_path / "a", families=("selfblend", "stylegan"), sources=everywhere[:3], seed=1)
    write_run(tmp_path / "b", families=("swap", "ciplab"), sources=everywhere[3:], seed=2)
    systems = [resolve_system(str(tmp_path / name)) for name in ("a", "b")]
    progress = ProgressLog()
    result, tables = DetectionTask().evaluate_left_out(systems, "kind", paths, "val", progress)
    assert progress.notes == ["skipped, for there are no pictures of it: kind re-synthesis"]
    groups = {metric.dataset for metric in result.metrics if metric.name == "auc"}
    assert groups == {"blend", "composite", "swap", "synthesis", "text-to-image", "mean", "worst"}
    said = {metric.dataset for metric in result.metrics if metric.name == "verdict_forged"}
    assert said == {*everywhere, "mean", "worst"} and len(tables) == 2
    with pytest.raises(DataError, match="no colour is left out of detectors; one of kind, family, source"):
        DetectionTask().evaluate_left_out(systems, "colour", paths, "val", SILENT)
    with pytest.raises(DataError, match="edit_reading has no groups to leave out"):
        EditTask().evaluate_left_out([], "kind", None, "val", SILENT)
    infrared = [replace(face, sample=replace(face.sample, spectrum="nir")) for face in faces]
    with pytest.raises(DataError, match="spectrum nir"):
        score_split(systems, "kind", stored_paths(tmp_path / "nir", infrared), "val", SILENT)
