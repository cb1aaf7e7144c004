"""What a reader of edits says of faces that `unmask forge --sequence` did not make. Lab only.

Authentic faces and wholly synthetic ones have no locally edited part: every part named there is a false one. CIPLAB's
expert composites tell which features were pasted (left eye, right eye, nose, mouth), not in which order, and nothing of
hair and brows apart from the eyes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unmask.data.held_out import Face, held_out
from unmask.data.pool import WHOLLY_SYNTHETIC
from unmask.data.store import StoredFace
from unmask.errors import DataError
from unmask.packs.card import Reading
from unmask.sequence.labels import LONGEST, TRACKS, all_sequences
from unmask.sequence.reading import posterior
from unmask.training.evaluation import Evaluation, add
from unmask.training.metrics import auc, interval, mean_interval

Scores = Callable[[np.ndarray], np.ndarray]
"""Crops uint8 (N, S, S, 3) -> scores (N, 326)."""
_CIPLAB = {"eye": (0, 1), "nose": (2,), "lip": (3,)}  # places in the flags


@dataclass(frozen=True)
class Others:
    """Faces without a local edit, or with CIPLAB's, as a reader sees them."""

    faces: tuple[Face, ...]

    @property
    def crops(self) -> np.ndarray:
        """uint8 (N, S, S, 3)."""
        return np.stack([face.crop for face in self.faces])

    def groups(self) -> dict[str, np.ndarray]:
        """Numbers of the faces by kind: "authentic SOURCE", "synthetic FAMILY", "ciplab"."""
        found: dict[str, list[int]] = {}
        for number, face in enumerate(self.faces):
            if "@" not in face.source:
                kind = f"authentic {face.source}" if not face.label else f"synthetic {face.family}"
                found.setdefault("ciplab" if face.family == "ciplab" else kind, []).append(number)
            elif face.label:
                found.setdefault(f"synthetic {face.family}", []).append(number)
        return {kind: np.array(numbers) for kind, numbers in found.items()}


def other_faces(faces: Sequence[StoredFace], split: str, size: int, margin: float, most: int = 150) -> Others:
    """The authentic, wholly synthetic and CIPLAB faces of a split, at most so many a source.

    Raises:
        DataError: there are none.
    """
    families = {face.sample.family for face in faces if face.sample.split == split and face.sample.label}
    wanted = families & {*WHOLLY_SYNTHETIC, "ciplab"}
    held = held_out(faces, split, wanted, "as is", size, margin, most=most)
    count: dict[tuple[str, str], int] = {}
    kept = []
    for face in held:
        key = face.family, face.source
        count[key] = count.get(key, 0) + 1
        if count[key] <= most:
            kept.append(face)
    if not kept:
        raise DataError(f"no authentic or wholly synthetic face is in the split {split}; give data that have some")
    return Others(tuple(kept))


def made_by_part(shares: np.ndarray) -> np.ndarray:
    """(N, 5) posterior probability of each edit for posteriors (N, 326)."""
    table = all_sequences()
    made = np.stack([(table == edit).any(axis=1) for edit in range(1, LONGEST + 1)], axis=1)
    return shares @ made


def check_others(result: Evaluation, others: Others, scores: np.ndarray, reading: Reading) -> None:
    """Add to an evaluation how often edits are named, and where nothing is said, by kind of face; and CIPLAB's parts.

    Args:
        result: to add to, under the condition "other faces".
        others: the faces.
        scores: (N, 326) of them.
        reading: of the reader's card, whose limits of size, pose and framing are not applied here.
    """
    shares = posterior(scores, reading)
    edited = 1 - shares[:, 0]
    subjects = np.array([face.subject for face in others.faces])
    for kind, numbers in others.groups().items():
        labels = np.array([others.faces[number].label for number in numbers])
        for name, said in (
            ("edits_named", edited >= reading.edited_at),
            ("no_local_edit_said", edited <= reading.untouched_at),
        ):
            value = mean_interval(said[numbers].astype(float), subjects[numbers].tolist())
            add(result, kind, name, "other faces", *value, labels)
    _check_ciplab(result, others, shares, reading)


def _check_ciplab(result: Evaluation, others: Others, shares: np.ndarray, reading: Reading) -> None:
    """For each part that CIPLAB's flags know: how well the posterior tells pasted from not, within the composites."""
    rows = np.array([number for number, face in enumerate(others.faces) if face.regions])
    if not len(rows) or reading.edits != TRACKS["facial_components"].edits:
        return
    made = made_by_part(shares)[rows]
    subjects = [others.faces[row].subject for row in rows]
    agreements = []
    for part, places in _CIPLAB.items():
        truth = np.array([any(others.faces[row].regions[place][1] for place in places) for row in rows]).astype(int)
        own = made[:, reading.edits.index(part)]
        agreements.append((own >= 0.5) == (truth == 1))
        if 0 < truth.sum() < len(truth):
            add(result, "ciplab", f"auc_{part}", "other faces", *interval(auc, truth, own, subjects), truth)
        always = float(max(truth.mean(), 1 - truth.mean()))
        agreed = mean_interval(agreements[-1].astype(float), subjects)
        add(result, "ciplab", f"agreement_{part}", "other faces", *agreed, truth)
        add(result, "ciplab", f"agreement_of_a_constant_{part}", "other faces", always, None, None, truth)
    together = mean_interval(np.stack(agreements).mean(axis=0), subjects)
    add(result, "ciplab", "agreement", "other faces", *together, np.ones(len(rows), int))


def others_table(result: Evaluation) -> str:
    """What `check_others` found, as Markdown."""
    lines = ['| faces | number | edits named [95 %] | "no local edit" |', "|---|---|---|---|"]
    kinds = list(dict.fromkeys(m.dataset for m in result.metrics if m.name == "edits_named"))

    def cell(kind: str, name: str) -> str:
        metric = result.value(kind, name, "other faces")
        if metric is None:
            return "–"
        return f"{metric.value:.3f}" + (f" [{metric.low:.3f}, {metric.high:.3f}]" if metric.low is not None else "")

    for kind in kinds:
        named = result.value(kind, "edits_named", "other faces")
        assert named is not None
        number = named.n_real + named.n_forged
        lines.append(f"| {kind} | {number} | {cell(kind, 'edits_named')} | {cell(kind, 'no_local_edit_said')} |")
    if result.value("ciplab", "agreement", "other faces"):
        lines += ["", "| CIPLAB's part | AUC [95 %] | agreement at one half | of a constant |", "|---|---|---|---|"]
        for part in _CIPLAB:
            cells = [cell("ciplab", f"{name}_{part}") for name in ("auc", "agreement", "agreement_of_a_constant")]
            lines.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join(lines)
