"""A campaign: every attack at every strength against one victim, each picture once, resumed after a kill.

A folder holds `settings.json`, what was asked; `records.jsonl`, one line for each attacked picture; and the pictures,
each with the project's synthetic mark. A picture whose line is written is not attacked again.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from unmask.datasets.layouts.attacked import RECORDS, SETTINGS
from unmask.errors import DataError
from unmask.faces.alignment import resize
from unmask.faces.finding import FaceFinder
from unmask.files import whole
from unmask.forgery.scoring import ForgeryScorer
from unmask.interruption import Interruption
from unmask.media.synthetic_mark import FORGED, mark, with_band, without_band
from unmask.networks.victims.recognisers import Recogniser
from unmask.packs import load_pack
from unmask.progress import SILENT, Progress
from unmask.records import RecordFile, record_file
from unmask.redteam.attacks import ATTACKS
from unmask.redteam.attacks.contract import Attack, AttackResult, Budget, margin, strength
from unmask.redteam.measures import psnr, structural_similarity
from unmask.redteam.victims import Inputs, Victim, operating_logit, pixels

PICTURES = "pictures"
CLEAN = "clean"
DETECTOR = "plain"
"""The embedded pack that is asked whether it notices."""
Record = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """What is asked of the victim about some pictures.

    Attributes:
        name: "impersonate", "dodge", "hide" (forged to real) or "accuse" (real to forged).
        names, subjects: of the pictures, in the manifest's words.
        inputs: the pictures.
    """

    name: str
    names: tuple[str, ...]
    subjects: tuple[str, ...]
    inputs: Inputs


@dataclass(frozen=True)
class Job:
    """One attack on one victim with one strength and one goal."""

    victim: str
    attack: str
    norm: str
    epsilon: float
    goal: str

    @property
    def key(self) -> str:
        """Its name in the records."""
        return f"{self.victim}|{self.attack}|{self.epsilon:.6g}|{self.goal}"

    @property
    def strength(self) -> str:
        """Its epsilon for people."""
        return strength(self.norm, self.epsilon)


@dataclass(frozen=True)
class Plan:
    """A campaign before it begins.

    Attributes:
        kind: "recogniser", "detector" or "pack".
        target: the victim that all attacks are tried on.
        victims: all of them by name, the target among them.
        goals: what is asked.
        attacks: names in `ATTACKS`.
        levels: strengths of attacks that may change every pixel, in grey levels.
        shares: strengths of attacks on a region, in shares of the picture.
        guidance: strengths of attacks that guide a generator.
        prepared: attacks that need more than a name, ready to be tried.
        steps, queries: of every attack.
        transfer: the attack that is tried on every differentiable victim, for the transfer matrix.
        seed: of everything random.
        batch: pictures at a time.
        facts: what else the report is to say, ready for JSON.
        identity: who says whether a face is still the same person: a recogniser and the cosine from which it is.
    """

    kind: str
    target: str
    victims: Mapping[str, Victim]
    goals: tuple[Goal, ...]
    attacks: tuple[str, ...]
    levels: tuple[float, ...]
    shares: tuple[float, ...]
    steps: int = 20
    queries: int = 1000
    transfer: str = "mi-fgsm"
    seed: int = 0
    batch: int = 8
    facts: Mapping[str, Any] = field(default_factory=dict)
    identity: tuple[Recogniser, float] | None = None
    guidance: tuple[float, ...] = ()
    prepared: Mapping[str, Attack] = field(default_factory=dict)

    def jobs(self) -> list[Job]:
        """All attacks on the target, then the transfer attack on the others, each at its strengths.

        Raises:
            DataError: an unknown attack, an impossible strength, or an attack that needs gradients the target has not.
        """
        jobs: list[Job] = []
        for name in self.attacks:
            attack = self.attack(name)
            if attack.gradients and not self.victims[self.target].differentiable:
                raise DataError(
                    f"{name} needs gradients, and {self.target} has none; take square, hopskipjump or corruptions"
                )
            attack.check(self.victims[self.target])
            jobs += self._strengths(self.target, name, attack)
        transfer = self.attack(self.transfer)
        for victim in self.victims:
            if self.victims[victim].differentiable:
                transfer.check(self.victims[victim])
                strongest = self._strengths(victim, self.transfer, transfer)[-len(self.goals) :]
                jobs += [job for job in strongest if job not in jobs]
        return jobs

    def _strengths(self, victim: str, name: str, attack: Attack) -> list[Job]:
        strengths = {"l0": sorted(self.shares), "guidance": sorted(self.guidance), "none": [1.0]}.get(
            attack.norm, [level / 255 for level in sorted(self.levels)]
        )
        for value in strengths:
            Budget(value, self.steps, self.queries).check(name, attack.norm)
        return [Job(victim, name, attack.norm, value, goal.name) for value in strengths for goal in self.goals]

    def attack(self, name: str) -> Attack:
        """An attack by name.

        Raises:
            DataError: there is none.
        """
        if name in self.prepared:
            return self.prepared[name]
        made = ATTACKS.load(name)
        if not (isinstance(made, type) and issubclass(made, Attack)):
            raise DataError(f"{name}: not a class derived from unmask.redteam.attacks.contract.Attack")
        return made()

    def settings(self) -> dict[str, Any]:
        """What decides the results, ready for JSON."""
        return {
            "kind": self.kind,
            "target": self.target,
            "victims": {name: getattr(victim, "threshold", None) for name, victim in self.victims.items()},
            "goals": {goal.name: list(goal.names) for goal in self.goals},
            "attacks": list(self.attacks),
            "levels": list(self.levels),
            "shares": list(self.shares),
            "guidance": list(self.guidance),
            "steps": self.steps,
            "queries": self.queries,
            "transfer": self.transfer,
            "seed": self.seed,
            **self.facts,
        }


def run(plan: Plan, folder: Path, progress: Progress = SILENT) -> list[Record]:
    """Carry out a plan, or what is left of it.

    Args:
        plan: the campaign.
        folder: made if it is not there.
        progress: updated for every picture, in the stage "attacking"; all pictures of all jobs count.

    Returns:
        All records: of every clean picture (`attack` is "clean"), then of every attacked one.

    Raises:
        DataError: the folder holds another campaign, an attack cannot be tried, or a victim cannot be measured.
    """
    jobs = plan.jobs()
    _begin(plan, folder)
    judge = Judge()
    goals = {goal.name: goal for goal in plan.goals}
    total = sum(len(goals[job.goal].names) for job in jobs) + sum(len(goal.names) for goal in plan.goals)
    with (
        Interruption() as interruption,
        record_file(folder / RECORDS, "another campaign writes to this folder; wait for it") as file,
    ):
        records = _read(file)
        done = {(record["job"], record["name"]) for record in records}
        count = len(done)
        progress.update("attacking", count, total)
        for made in _work(plan, jobs, folder, done, judge, progress):
            with interruption.held_back():
                for picture, data in made[1]:
                    picture.parent.mkdir(parents=True, exist_ok=True)
                    picture.write_bytes(data)
                for record in made[0]:
                    file.append(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            records += made[0]
            count += len(made[0])
            progress.update("attacking", count, total, made[2])
    return records


Made = tuple[list[Record], list[tuple[Path, bytes]], str]


def _work(
    plan: Plan,
    jobs: Sequence[Job],
    folder: Path,
    done: set[tuple[str, str]],
    judge: "Judge",
    progress: Progress,
) -> Iterator[Made]:
    for goal in plan.goals:
        for rows in _batches(plan, goal, f"{CLEAN}|{goal.name}", done):
            yield _clean(plan, goal, rows, judge), [], CLEAN
    goals = {goal.name: goal for goal in plan.goals}
    for job in jobs:
        goal, attack = goals[job.goal], plan.attack(job.attack)
        for rows in _batches(plan, goal, job.key, done):
            inputs = goal.inputs.rows(rows)
            budget = Budget(job.epsilon, plan.steps, plan.queries)
            result = attack.run(plan.victims[job.victim], inputs, budget, plan.seed, plan.batch)
            for warning in result.warnings:
                progress.note(f"{job.strength}, {job.goal}: {warning}")
            yield *_attacked(plan, job, goal, rows, result, folder, judge), f"{job.attack} {job.strength}"


def _batches(plan: Plan, goal: Goal, key: str, done: set[tuple[str, str]]) -> Iterator[Tensor]:
    left = [row for row, name in enumerate(goal.names) if (key, name) not in done]
    for start in range(0, len(left), plan.batch):
        yield torch.tensor(left[start : start + plan.batch])


def _clean(plan: Plan, goal: Goal, rows: Tensor, judge: "Judge") -> list[Record]:
    inputs = goal.inputs.rows(rows)
    answers, scores = _answers(plan, inputs)
    seen = judge(inputs.pictures)
    return [
        {
            "job": f"{CLEAN}|{goal.name}",
            "attack": CLEAN,
            "goal": goal.name,
            "name": goal.names[row],
            "subject": goal.subjects[row],
            "label": int(inputs.labels[number]),
            "answers": {name: bool(value[number]) for name, value in answers.items()},
            "score": round(float(scores[number]), 5),
            **seen[number],
        }
        for number, row in enumerate(rows.tolist())
    ]


def _attacked(
    plan: Plan, job: Job, goal: Goal, rows: Tensor, result: AttackResult, folder: Path, judge: "Judge"
) -> tuple[list[Record], list[tuple[Path, bytes]]]:
    clean = goal.inputs.rows(rows)
    files = [encode(picture) for picture in result.pictures]
    read = torch.stack([decode(data) for data in files])
    attacked = replace(clean, pictures=read)
    answers, scores = _answers(plan, attacked)
    seen, identity = judge(read), _identity(plan, clean, read)
    noise, likeness = psnr(clean.pictures, read), structural_similarity(clean.pictures, read)
    place = Path(PICTURES, job.victim.replace("/", "_"), f"{job.attack}-{job.epsilon:.4f}", job.goal)
    records, pictures = [], []
    for number, row in enumerate(rows.tolist()):
        path = place / f"{row:05d}.png"
        pictures.append((folder / path, files[number]))
        records.append(
            {
                "job": job.key,
                "victim": job.victim,
                "attack": job.attack,
                "norm": job.norm,
                "epsilon": job.epsilon,
                "goal": job.goal,
                "name": goal.names[row],
                "subject": goal.subjects[row],
                "label": int(clean.labels[number]),
                "answers": {name: bool(value[number]) for name, value in answers.items()},
                "score": round(float(scores[number]), 5),
                "linf": round(float(result.linf[number]), 6),
                "l2": round(float(result.l2[number]), 5),
                "l0": round(float(result.l0[number]), 5),
                "queries": int(result.queries[number]),
                "psnr": _finite(float(noise[number])),
                "ssim": round(float(likeness[number]), 5),
                **seen[number],
                "identity": None if identity is None else round(float(identity[number]), 4),
                "picture": path.as_posix(),
            }
        )
    return records, pictures


def _answers(plan: Plan, inputs: Inputs) -> tuple[dict[str, Tensor], Tensor]:
    """Whether each victim, asked anew, gives the wanted answer; and the target's score (cosine or logit)."""
    answers, scores = {}, torch.empty(0)
    for name, victim in plan.victims.items():
        logits = victim.logits(inputs, plan.batch)
        answers[name] = margin(logits, inputs.labels, inputs.targets) < 0
        if name == plan.target:
            scores = logits[:, 1] - logits[:, 0] + getattr(victim, "threshold", 0.0)
    return answers, scores


class Judge:
    """What the embedded networks see: the detector's logit, whether it says forged, whether there is a face at all."""

    def __init__(self) -> None:
        pack = load_pack(DETECTOR)
        self._scorer, self._finder = ForgeryScorer(pack), FaceFinder()
        self._limit = operating_logit(pack)

    def __call__(self, pictures: Tensor) -> list[Record]:
        """Of pictures uint8 (B, 3, H, W)."""
        crops = [np.ascontiguousarray(picture.permute(1, 2, 0).numpy()) for picture in pictures]
        scores = self._scorer.score([resize(crop, self._scorer.size) for crop in crops])
        return [
            {
                "noticed": round(score.logit, 4),
                "forged": score.logit > self._limit,
                "face": bool(self._finder.find(crop)),
            }
            for score, crop in zip(scores, crops, strict=True)
        ]


def _identity(plan: Plan, clean: Inputs, pictures: Tensor) -> Tensor | None:
    """Cosine of each attacked face with what it was; None where nobody can say."""
    if plan.identity is None or clean.matrices is None:
        return None
    with torch.no_grad():
        before, after = (plan.identity[0](pixels(some), clean.matrices) for some in (clean.pictures, pictures))
    return (before * after).sum(1)


def encode(picture: Tensor) -> bytes:
    """A picture uint8 (3, S, S) as a PNG file with the band and the source type of a synthetic one."""
    marked = with_band(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()), FORGED)
    data = cv2.imencode(".png", cv2.cvtColor(marked, cv2.COLOR_RGB2BGR))[1].tobytes()
    return mark(data, "compositeSynthetic")


def decode(data: bytes) -> Tensor:
    """The picture uint8 (3, S, S) below the band of such a file.

    Raises:
        DataError: it is no picture.
    """
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if read is None:
        raise DataError("an attacked picture cannot be read back; remove the folder and begin again")
    return torch.from_numpy(
        np.ascontiguousarray(without_band(cv2.cvtColor(read, cv2.COLOR_BGR2RGB)).transpose(2, 0, 1))
    )


def _begin(plan: Plan, folder: Path) -> None:
    settings = json.loads(json.dumps(plan.settings()))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    if path.is_file():
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path}: not readable; name another folder") from error
        if _rounded(old) != _rounded(settings):
            raise DataError(f"{folder} holds a campaign with other settings or data; name another folder")
        return
    if any(folder.iterdir()):
        raise DataError(f"{folder} is not empty and holds no campaign; name another folder")
    with whole(path) as part:
        part.write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Settings without what the order of additions may change in a measured threshold."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


def _read(file: RecordFile) -> list[Record]:
    records, size = [], 0
    for line in file.lines():
        records.append(json.loads(line))
        size += len(line)
    file.cut(size)
    return records


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
