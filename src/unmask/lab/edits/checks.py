"""What an edit-sequence model says at its card's limits: of the set's own faces, and of others. Lab only.

Authentic faces and wholly synthetic ones have no locally edited part: every part named there is a false one. CIPLAB's
expert composites tell which features were pasted (left eye, right eye, nose, mouth), not in which order, and nothing of
hair and brows apart from the eyes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unmask.datasets.face_store import StoredFace
from unmask.datasets.manifest import Sample
from unmask.edits.labels import LONGEST, TRACKS, all_sequences
from unmask.edits.prediction import posterior
from unmask.errors import DataError
from unmask.forging.families import family
from unmask.lab.detection.held_out import CLEAN, EvalFace, eval_faces
from unmask.lab.edits.edited_faces import EditedFaces
from unmask.lab.metrics import auc, interval, mean_interval
from unmask.lab.task import Evaluation, Table
from unmask.packs.card import EditCalibration

Scores = Callable[[np.ndarray], np.ndarray]
"""Crops uint8 (N, S, S, 3) -> scores (N, 326)."""
_COMPOSITES = "ciplab"  # the family whose flags say which parts were pasted
_PARTS = {"eye": (0, 1), "nose": (2,), "lip": (3,)}  # places in its flags


@dataclass(frozen=True)
class Others:
    """Faces without a local edit, or with CIPLAB's, as a model sees them."""

    faces: tuple[EvalFace, ...]

    @property
    def crops(self) -> np.ndarray:
        """uint8 (N, S, S, 3)."""
        return np.stack([face.crop for face in self.faces])

    def groups(self) -> dict[str, np.ndarray]:
        """Numbers of the faces by kind: "authentic SOURCE", "synthetic FAMILY", "ciplab"."""
        rows: dict[str, list[int]] = {}
        for number, face in enumerate(self.faces):
            if "@" not in face.source:
                kind = f"authentic {face.source}" if not face.label else f"synthetic {face.family}"
                rows.setdefault(_COMPOSITES if face.family == _COMPOSITES else kind, []).append(number)
            elif face.label:
                rows.setdefault(f"synthetic {face.family}", []).append(number)
        return {kind: np.array(numbers) for kind, numbers in rows.items()}

    def without_local_edits(self) -> dict[str, np.ndarray]:
        """As `groups`, but for the composites, which have local edits."""
        return {kind: rows for kind, rows in self.groups().items() if kind != _COMPOSITES}


def other_families(samples: Sequence[Sample], split: str) -> set[str]:
    """The wholly synthetic families of a split, and CIPLAB's composites if it has any.

    Raises:
        DataError: it has neither these nor authentic faces.
    """
    own = [sample for sample in samples if sample.split == split]
    forged = {sample.family for sample in own if sample.label}
    wanted = {name for name in forged if family(name).wholly_synthetic or name == _COMPOSITES}
    if not wanted and all(sample.label for sample in own):
        raise DataError(f"no authentic or wholly synthetic face is in the split {split}; give data that have some")
    return wanted


def other_faces(faces: Sequence[StoredFace], split: str, size: int, margin: float, most: int = 150) -> Others:
    """The authentic, wholly synthetic and CIPLAB faces of a split, at most so many a source.

    Raises:
        DataError: there are none.
    """
    wanted = other_families([face.sample for face in faces], split)
    held = eval_faces(faces, split, wanted, CLEAN, size, margin, most=most)
    count: dict[tuple[str, str], int] = {}
    kept = []
    for face in held:
        key = face.family, face.source
        count[key] = count.get(key, 0) + 1
        if count[key] <= most:
            kept.append(face)
    return Others(tuple(kept))


def made_by_part(shares: np.ndarray) -> np.ndarray:
    """(N, 5) posterior probability of each edit for posteriors (N, 326)."""
    table = all_sequences()
    made = np.stack([(table == edit).any(axis=1) for edit in range(1, LONGEST + 1)], axis=1)
    return shares @ made


def check_others(result: Evaluation, others: Others, scores: np.ndarray, reading: EditCalibration) -> None:
    """Add to an evaluation how often edits are named, and where nothing is said, by kind of face; and CIPLAB's parts.

    Args:
        result: to add to, under the condition "other faces".
        others: the faces.
        scores: (N, 326) of them.
        reading: of the model's card, whose limits of size, pose and framing are not applied here.
    """
    shares = posterior(scores, reading)
    edited = 1 - shares[:, 0]
    subjects = np.array([face.subject for face in others.faces])
    labels = np.array([face.label for face in others.faces])
    for kind, numbers in others.groups().items():
        _add_said(result, kind, "other faces", edited[numbers], subjects[numbers], labels[numbers], reading)
    _check_ciplab(result, others, shares, reading)


def check_own(result: Evaluation, faces: EditedFaces, scores: np.ndarray, reading: EditCalibration) -> None:
    """Add how often edits are named, and where nothing is said, by how many edits the set's faces have.

    Args:
        result: to add to, under the condition "own faces".
        faces: of one split.
        scores: (N, 326) of them.
        reading: as of `check_others`.
    """
    edited = 1 - posterior(scores, reading)[:, 0]
    lengths, subjects = np.count_nonzero(faces.sequences, axis=1), np.array(faces.subjects)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        labels = (lengths[rows] > 0).astype(int)
        _add_said(result, f"{length} edits", "own faces", edited[rows], subjects[rows], labels, reading)


def _add_said(
    result: Evaluation,
    kind: str,
    condition: str,
    edited: np.ndarray,
    subjects: np.ndarray,
    labels: np.ndarray,
    reading: EditCalibration,
) -> None:
    for name, said in (
        ("edits_named", edited >= reading.edited_at),
        ("no_local_edit_said", edited <= reading.untouched_at),
    ):
        result.add(kind, name, condition, *mean_interval(said.astype(float), subjects.tolist()), labels)


def _check_ciplab(result: Evaluation, others: Others, shares: np.ndarray, reading: EditCalibration) -> None:
    """For each part that CIPLAB's flags know: how well the posterior tells pasted from not, within the composites."""
    rows = np.array([number for number, face in enumerate(others.faces) if face.regions])
    if not len(rows) or reading.edits != TRACKS["facial_components"].edits:
        return
    made = made_by_part(shares)[rows]
    subjects = [others.faces[row].subject for row in rows]
    agreements = []
    for part, places in _PARTS.items():
        truth = np.array([any(others.faces[row].regions[place][1] for place in places) for row in rows]).astype(int)
        own = made[:, reading.edits.index(part)]
        agreements.append((own >= 0.5) == (truth == 1))
        if 0 < truth.sum() < len(truth):
            result.add(_COMPOSITES, f"auc_{part}", "other faces", *interval(auc, truth, own, subjects), truth)
        always = float(max(truth.mean(), 1 - truth.mean()))
        agreed = mean_interval(agreements[-1].astype(float), subjects)
        result.add(_COMPOSITES, f"agreement_{part}", "other faces", *agreed, truth)
        result.add(_COMPOSITES, f"agreement_of_a_constant_{part}", "other faces", always, None, None, truth)
    together = mean_interval(np.stack(agreements).mean(axis=0), subjects)
    result.add(_COMPOSITES, "agreement", "other faces", *together, np.ones(len(rows), int))


def own_table(result: Evaluation) -> Table:
    """What `check_own` measured."""
    return _said_table(result, "own faces")


def other_tables(result: Evaluation) -> list[Table]:
    """What `check_others` measured."""
    tables = [_said_table(result, "other faces")]
    if result.value(_COMPOSITES, "agreement", "other faces"):
        rows = []
        for part in _PARTS:
            names = [f"{name}_{part}" for name in ("auc", "agreement", "agreement_of_a_constant")]
            rows.append((part, *(result.value(_COMPOSITES, name, "other faces") for name in names)))
        heads = ("CIPLAB's part", "AUC [95 %]", "agreement at one half", "of a constant")
        tables.append(Table(heads, tuple(rows)))
    return tables


def _said_table(result: Evaluation, condition: str) -> Table:
    rows = tuple(
        (m.dataset, str(m.n_real + m.n_forged), m, result.value(m.dataset, "no_local_edit_said", condition))
        for m in result.metrics
        if m.name == "edits_named" and m.condition == condition
    )
    return Table(("faces", "number", "edits named [95 %]", '"no local edit"'), rows)
