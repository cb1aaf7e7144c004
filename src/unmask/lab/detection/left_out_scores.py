"""Who never saw what, and how they score it: the faces of a split for `leave_out`, from runs and packs. Lab only."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unmask.datasets.face_store import StoredFace
from unmask.datasets.manifest import Sample
from unmask.errors import DataError
from unmask.forging.families import FAMILIES, SOURCES, family, kind_of, made_here, real_sources
from unmask.lab.config import TrainConfig
from unmask.lab.detection.config import DetectionPaths
from unmask.lab.detection.evaluate import families_of
from unmask.lab.detection.held_out import ALL_CONDITIONS, EvalImage, make_eval_images, render
from unmask.lab.detection.leave_out import By, LeftOutScore
from unmask.lab.detection.prepare import held_out_reconstructions
from unmask.lab.detection.reconstructions import Reconstructions
from unmask.lab.detection.systems import EvaluatedSystem
from unmask.progress import SILENT, Progress

_MOST = 150  # reals per source, and pictures per family that is read
_CHUNK = 512  # pictures that are rendered at once
_OWN_START = TrainConfig.start


@dataclass(frozen=True)
class Trained:
    """What a system was trained on, with the weights that it began from: families, their kinds, sources of reals."""

    families: frozenset[str]
    kinds: frozenset[str]
    sources: frozenset[str]

    def on(self, by: By) -> frozenset[str]:
        """The groups that it has seen."""
        return {"kind": self.kinds, "family": self.families, "source": self.sources}[by]


def trained_on(system: EvaluatedSystem, samples: Sequence[Sample]) -> Trained:
    """What a system was trained on, as its runs or its card say it.

    A card from before cards had sources says it in words, in which the names of families and sources are looked for.

    Args:
        system: runs or a pack.
        samples: of the data that it is measured on; their families and sources may be what it was trained on.

    Raises:
        DataError: it does not say.
    """
    families = {name for run in system.runs for key in ("families", "before") for name in run.get(key, ())}
    sources = {name for run in system.runs for key in ("sources", "before_sources") for name in run.get(key, ())}
    if not system.runs or not all(map(_says_all, system.runs)):
        of_families = _named(system.training_data, {*FAMILIES, *(s.family for s in samples if s.label)})
        of_sources = _named(system.training_data, {*SOURCES, *(s.source for s in samples)})
        if not of_families or not of_sources:
            raise DataError(
                f"{system.name} does not say which families and sources it was trained on, nor its start, so that "
                "nothing is known to be new to it; name runs or packs that do"
            )
        families, sources = families | of_families, sources | of_sources
    kinds = _kinds(samples)
    of_runs = {kind for run in system.runs for kind in run.get("kinds", ())}
    return Trained(
        frozenset(families),
        frozenset(of_runs | {kind for name in families for kind in kinds.get(name, {family(name).kind})}),
        frozenset(sources),
    )


def _says_all(run: Mapping[str, Any]) -> bool:
    """Whether a run's configuration names families and sources, also those of the weights that it began from."""
    begun = run.get("start", _OWN_START) != _OWN_START
    return all(run.get(key) for key in ("families", "sources", *(("before", "before_sources") if begun else ())))


def _named(text: str, names: Iterable[str]) -> set[str]:
    """Those of some names that stand in a text as words."""
    return {name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)}


def _kinds(samples: Iterable[Sample]) -> dict[str, set[str]]:
    """How the families of forged pictures, and those made here, forge."""
    kinds: dict[str, set[str]] = {name: {family(name).kind} for name in made_here()}
    for sample in samples:
        if sample.label:
            kinds.setdefault(sample.family, set()).add(kind_of(sample))
    return kinds


@dataclass(frozen=True)
class Judges:
    """Which systems score which group: of every kind, family or source those that never saw it, by their numbers."""

    split: str
    trained: tuple[Trained, ...]
    groups: Mapping[tuple[By, str], tuple[int, ...]]
    kinds: Mapping[str, set[str]]

    @property
    def trained_split(self) -> bool:
        """Whether the systems' own training split is scored: then nothing of it counts that a judge was trained on."""
        return self.split == "train"

    def beside(self, by: By, group: str, sources: Iterable[str]) -> tuple[str, ...]:
        """Of the sources that could stand beside a forgery, those that do: before others those that no judge saw."""
        there = tuple(sources)
        seen = self.seen(by, group)
        unseen = tuple(name for name in there if name.partition("@")[0] not in seen)
        return unseen if unseen or self.trained_split else there

    def seen(self, by: By, group: str) -> set[str]:
        """The sources of reals that a judge of the group was trained on."""
        return {source for number in self.groups[by, group] for source in self.trained[number].sources}


def appoint(
    trained: Sequence[Trained], samples: Sequence[Sample], split: str, by: By, progress: Progress = SILENT
) -> Judges:
    """Find who scores what, before anything is scored; what is passed over is noted.

    Args:
        trained: of each system.
        samples: the rows of the data, all splits.
        split: that is to be scored.
        by: what is left out. Sources are scored in any case, for the verdicts on their reals.
        progress: of the notes.

    Raises:
        DataError: a subject on two sides, a split without reals or forgeries, or nothing that some system never saw.
    """
    sides: dict[str, str] = {}
    for sample in samples:
        if sides.setdefault(sample.subject, sample.split) != sample.split:
            raise DataError(
                f"{sample.path}: {sample.subject} is in the splits {sides[sample.subject]} and {sample.split}; "
                "keep it on one side"
            )
    own = [sample for sample in samples if sample.split == split]
    sources = sorted({sample.source for sample in own if not sample.label})
    if not sources:
        raise DataError(f"no real face is in the split {split}; give rows split={split}")
    read = {sample.family for sample in own if sample.label}
    made = set[str]() if split == "train" else set(made_here()) - read
    with_reals = {sample.family for sample in own if sample.label and real_sources(sample, sources)}
    if read - with_reals:
        names = ", ".join(sorted(read - with_reals))
        progress.note(f"skipped, for no real faces of the split {split} stand beside them: {names}")
    kinds = _kinds(own)
    families = sorted(with_reals | made)
    there: dict[By, list[str]] = {
        "kind": sorted({kind for name in families for kind in kinds[name]}),
        "family": families,
        "source": sources,
    }
    groups: dict[tuple[By, str], tuple[int, ...]] = {}
    for each in dict.fromkeys((by, "source")):
        for group in there[each]:
            groups[each, group] = tuple(number for number, one in enumerate(trained) if group not in one.on(each))
        known = [group for group in there[each] if not groups[each, group]]
        if known:
            progress.note(f"skipped, for every system was trained on it: {each} {f', {each} '.join(known)}")
    judges = Judges(split, tuple(trained), {key: numbers for key, numbers in groups.items() if numbers}, kinds)
    if judges.trained_split:
        alone = [group for each, group in judges.groups if each != "source" and not _beside(judges, own, each, group)]
        if alone:
            progress.note(f"skipped, for the systems were trained on all reals beside it: {', '.join(alone)}")
        kept = {key: numbers for key, numbers in judges.groups.items() if key[0] == "source" or key[1] not in alone}
        judges = replace(judges, groups=kept)
    if not any(each == by for each, _ in judges.groups):
        raise DataError(
            f"every system was trained on every {by} of the split {split}; name runs trained with --without"
            + ("" if by == "family" else f"-{by}")
        )
    if by == "family":
        alone = [name for name in families if not any(kinds[name] & kinds[o] for o in families if o != name)]
        alone = [name for name in alone if (by, name) in judges.groups]
        if alone:
            progress.note(f"the only family of its kind, so that whoever lacks it lacks the kind: {', '.join(alone)}")
    return judges


def _beside(judges: Judges, samples: Sequence[Sample], by: By, group: str) -> bool:
    """Whether any of a group's forgeries that are read has reals that may stand beside it."""
    sources = {sample.source for sample in samples if not sample.label}
    own = (s for s in samples if s.label and group in (judges.kinds[s.family] if by == "kind" else (s.family,)))
    return any(judges.beside(by, group, real_sources(sample, sources)) for sample in own)


def left_out_scores(
    systems: Sequence[EvaluatedSystem],
    judges: Judges,
    faces: Sequence[StoredFace],
    reconstructions: Reconstructions | None = None,
    conditions: Sequence[str] = ALL_CONDITIONS,
    progress: Progress = SILENT,
) -> list[LeftOutScore]:
    """Score every group by the systems that never saw it, under every condition.

    A forgery stands beside the reals of its own source; one that has none there, beside those of its family's partners:
    of those, beside sources that its judges never saw, if there are any. On the training split, whose pictures of a
    kind are as new to who was trained without it, beside no others; nothing is made of its reals.

    Args:
        systems: in the order of the judges' numbers.
        judges: of `appoint`.
        faces: of a store.
        reconstructions: of the split's reals, for re-synthesis.
        conditions: see `held_out`.
        progress: of the stage "scoring", in pictures under all conditions; groups without pictures are noted.
    """
    families = families_of(faces, judges.split)
    if judges.trained_split:  # what is made here can be made of the other splits
        families = sorted({face.sample.family for face in faces if face.sample.label})
    some_faces = _fewer(faces, judges.split)
    pictures = make_eval_images(some_faces, judges.split, families, reconstructions, most=_MOST)
    rows = _rows_of_groups(pictures, judges)
    absent = [" ".join(key) for key in judges.groups if key not in rows]
    if absent:
        progress.note(f"skipped, for there are no pictures of it: {', '.join(absent)}")
    needed = [
        sorted({int(row) for key, some in rows.items() if number in judges.groups[key] for row in some})
        for number in range(len(systems))
    ]
    shown = np.array(sorted({row for own in needed for row in own}), int)
    scored: list[LeftOutScore] = []
    for place, condition in enumerate(conditions):
        logits = np.full((len(systems), len(pictures)), np.nan)
        for start in range(0, len(shown), _CHUNK):
            some = shown[start : start + _CHUNK]
            for size, margin in dict.fromkeys((one.size, one.margin) for one in systems):
                alike = [n for n, one in enumerate(systems) if (one.size, one.margin) == (size, margin)]
                crops = np.stack(
                    [face.crop for face in render([pictures[row] for row in some], condition, size, margin)]
                )
                for number in alike:
                    wanted = np.isin(some, needed[number])
                    if wanted.any():
                        logits[number, some[wanted]] = systems[number].scorer(crops[wanted])[0]
            done = place * len(shown) + start + len(some)
            progress.update("scoring", done, len(conditions) * len(shown), condition)
        for (by, group), families_of_row in rows.items():
            mean = logits[list(judges.groups[by, group])][:, list(families_of_row)].mean(axis=0)
            seen = judges.seen(by, group)
            for (row, names), logit in zip(families_of_row.items(), mean, strict=True):
                picture = pictures[row]
                source = picture.source.partition("@")[0]
                scored.append(
                    LeftOutScore(
                        by=by,
                        group=group,
                        families=tuple(sorted(names)),
                        logit=float(logit),
                        label=int(picture.family != "real"),
                        source=source,
                        subject=picture.face.sample.subject,
                        condition=condition,
                        split=judges.split,
                        seen=source in seen,
                    )
                )
    return scored


def _fewer(faces: Sequence[StoredFace], split: str) -> list[StoredFace]:
    """The split's faces, of every forged family the first `_MOST`."""
    kept: list[StoredFace] = []
    counts: dict[str, int] = {}
    for face in faces:
        if face.sample.split == split:
            counts[face.sample.family] = counts.get(face.sample.family, 0) + 1
            if not face.sample.label or counts[face.sample.family] <= _MOST:
                kept.append(face)
    return kept


def _rows_of_groups(pictures: Sequence[EvalImage], judges: Judges) -> dict[tuple[By, str], dict[int, set[str]]]:
    """The pictures of every group by their numbers, with the family of a forgery, or those that a real stands beside.

    The reals of a source stand beside all that is forged from it.
    """
    reals: dict[str, list[int]] = {}
    for row, picture in enumerate(pictures):
        if picture.family == "real":
            reals.setdefault(picture.source, []).append(row)
    present = [source for source in reals if "@" not in source]
    rows: dict[tuple[By, str], dict[int, set[str]]] = {key: {} for key in judges.groups}
    for by, group in rows:
        if by == "source":
            rows[by, group] = {row: set() for row in reals.get(group, ())}
    for row, picture in enumerate(pictures):
        if picture.family == "real":
            continue
        # Beside pictures that are smaller stand reals that were brought to their size.
        size = "".join(picture.source.partition("@")[1:])
        beside = [f"{name}{size}" for name in real_sources(picture.face.sample, present) if f"{name}{size}" in reals]
        own: list[tuple[By, str]] = [("family", picture.family)]
        own += [("kind", kind) for kind in judges.kinds.get(picture.family, ())]
        for by, group in own:
            names = judges.beside(by, group, beside) if (by, group) in rows else ()
            for one in (row, *(number for name in names for number in reals[name])) if names else ():
                rows[by, group].setdefault(one, set()).add(picture.family)
        for name in () if size else beside:
            # What stands beside several sources may have been trained on beside another.
            if ("source", name) in rows and not (judges.trained_split and len(beside) > 1):
                rows["source", name][row] = {picture.family}
    return {key: dict(sorted(chosen.items())) for key, chosen in rows.items() if chosen}


def score_split(
    systems: Sequence[EvaluatedSystem], by: By, paths: DetectionPaths, split: str, progress: Progress
) -> list[LeftOutScore]:
    """Scores of a split's faces for `leave_out.leave_one_out`; what cannot be measured is said before the work starts.

    Args:
        systems: runs and packs.
        by: what is left out.
        paths: where data and work folder are.
        split: "train", "val" or "test".
        progress: of notes, of the face store and of the scoring.

    Raises:
        DataError: as of `trained_on`, `appoint` and `EvaluatedSystem.check`.
    """
    samples = paths.samples()
    judges = appoint([trained_on(system, samples) for system in systems], samples, split, by, progress)
    faces = paths.faces(progress)
    for system in systems:
        system.check(faces, split)
    # Of the training split's reals nothing is made.
    drawn = None if split == "train" else held_out_reconstructions(paths, faces, split, progress)
    return left_out_scores(systems, judges, faces, drawn, progress=progress)
