"""Prompt learners on drawn concepts: loss, sharpness, accuracy on base and new classes; the rule's parts; rho.

    unmask search concepts --out concepts
    PYTHONPATH=experiments python experiments/gcscoop/learners.py RECORD.json --data concepts

The model is a small one: EfficientNet-Lite0 with its ImageNet weights, a linear projection into the space of a sentence
encoder (all-MiniLM-L6-v2, the first two of its six layers, so that a learner takes seconds), fitted by ridge regression
on all pictures of 560 concepts. Of the other 288, 88 are for choices and 200 for tasks. A task (a seed) draws 20 of
these by the hash of their names: 10 are base classes, 10 new ones, in the order of their names (the published
protocol). A class has 16 shots, random crops and reflections of two of its pictures (flat colours, glyph); the two
others (shaded, line drawing), four crops of each, are tested on. Every learner sees the same vectors, the
same number of epochs, SGD with momentum 0.9, the published rates' course, one batch an epoch; zero-shot learns nothing.
CoCoOp, whose texts follow the picture, has one epoch at batch 16 for its cost, and as published no sharpness-aware
optimiser.

Measured on every task: loss on the shots, the rise of the loss at a radius of a tenth of the context's length
(sharpness), accuracy on base and new test pictures, their harmonic mean.

Rules, written before the run on the 200: the ridge (0.1, 1, 10) is chosen by the mean zero-shot harmonic mean, then the
learning rate (0.02, 0.2) by that of CoOp and GCSCoOp together, on three tasks from the 88 (`--choose`). rho is a share
of the context's length, 0.4 as in the sheet's own trial. Reported: means over 20 tasks, paired differences from CoOp
with 95 % bootstrap intervals over tasks. The directions to expect (method sheet) are: loss CoOp < GCSCoOp < SAM-CoOp;
sharpness the other way round; base GCSCoOp > SAM-CoOp; new SAM-CoOp and GCSCoOp > CoOp. A direction is seen if the
interval of the paired difference lies on its side of 0, reversed if on the other, else not seen. The parts of the rule
(projection only, switch only, plain average) and rho are described, none is chosen by them.
"""

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import Record, one_thread, read_record, settings_of
from torch import Tensor

from unmask.cli.options import progress_bars
from unmask.lab.prompting.config import PromptOptions
from unmask.lab.prompting.dual_encoder import DualEncoder
from unmask.lab.prompting.few_shot import harmonic_mean
from unmask.lab.prompting.learners import PromptLearner, new_learner
from unmask.lab.prompting.sentences import SentenceModel, sentence_encoder
from unmask.lab.prompting.training import encode_views, learn, score, sharpness
from unmask.prompting.learning import projection_into
from unmask.tables import markdown

LAYERS, SIZE, CONTEXT = 2, 128, "a photo of a"
ALIGNED, CHOSEN_ON = 560, 88
PICTURES = {"flat": "photo/{}/flat.png", "glyph": "sketch/{}/glyph.png"}
TESTED = {"shaded": "photo/{}/shaded.png", "lines": "sketch/{}/lines.png"}
SHOT_VIEWS, TEST_VIEWS, CLASSES = 8, 4, 20
RIDGE, SCALE, RATE, EPOCHS, RHO = 10.0, 30.0, 0.2, 40, 0.4
"""Ridge and rate chosen on the 88 concepts; rho as a share of the context's length at the start."""
SWEPT = (0.1, 0.2, 0.8)
LOSS, SHARPNESS, BASE, NEW, HARMONIC = "loss", "sharpness", "base", "new", "harmonic mean"
METRICS = (LOSS, SHARPNESS, BASE, NEW, HARMONIC)
COOP = "CoOp"


@dataclass(frozen=True)
class Averaged(PromptOptions):
    """CoOp by the plain average of both gradients: SAGM that takes nothing back."""

    @property
    def optimiser(self) -> Mapping[str, Any]:
        return {"optimiser": "sagm", "rho": self.rho, "alpha": 0.0}


@dataclass(frozen=True)
class Concepts:
    """Names in the order of their hashes, and vectors of views, float32 (N, pictures * views, 384), unit."""

    names: tuple[str, ...]
    shots: Tensor
    tested: Tensor


def model_and_concepts(data: Path, work: Path, ridge: float, scale: float) -> tuple[SentenceModel, Concepts]:
    """The model, and the vectors of the 288 concepts that it was not fitted on."""
    names = sorted((path.name for path in (data / "photo").iterdir()), key=_hash)
    features = _features(data, names, work)
    text, tokenizer = sentence_encoder()
    text.encoder.layer = text.encoder.layer[:LAYERS]
    model = SentenceModel(text, tokenizer, scale).eval()
    targets = model.encode_texts([f"{CONTEXT} {words(name)}." for name in names[:ALIGNED]]).numpy()
    wholes = features["whole"][:ALIGNED]
    projection = projection_into(wholes.reshape(-1, wholes.shape[-1]), targets.repeat(wholes.shape[1], 0), ridge)

    def vectors(views: np.ndarray) -> Tensor:
        made = torch.from_numpy(views[ALIGNED:] @ projection[0] + projection[1])
        return torch.nn.functional.normalize(made, dim=2)

    return model, Concepts(tuple(names[ALIGNED:]), vectors(features["shots"]), vectors(features["tested"]))


def _features(data: Path, names: Sequence[str], work: Path) -> dict[str, np.ndarray]:
    """Features (N, views, 1280) of whole pictures and of views; kept."""
    path = work / "gcscoop-concepts.npz"
    if path.is_file():
        with np.load(path) as kept:
            return dict(kept)
    network = DualEncoder().eval()

    class Trunk(SentenceModel):
        def image_features(self, pictures: Tensor) -> Tensor:
            return network.trunk(network.normalised(pictures)).mean((2, 3))

    trunk = Trunk(*sentence_encoder(), 1.0, size=SIZE).eval()
    # Unit vectors of features: the length of a feature says little, and `encode_views` gives unit ones.
    made: dict[str, list[np.ndarray]] = {"whole": [], "shots": [], "tested": []}
    with progress_bars() as progress:
        for number, name in enumerate(names):
            for group, files, views in (
                ("whole", {**PICTURES, **TESTED}, 1),
                ("shots", PICTURES, SHOT_VIEWS),
                ("tested", TESTED, TEST_VIEWS),
            ):
                if group == "whole" or number >= ALIGNED:
                    some = [_read(data / place.format(name)) for place in files.values()]
                    vectors = encode_views(trunk, some, views, seed=number * 3 + len(group)).flatten(0, 1)
                    made[group].append(vectors.numpy())
                else:
                    made[group].append(np.zeros((2 * views, 1280), np.float32))
            progress.update("encoding", number + 1, len(names))
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {group: np.stack(rows) for group, rows in made.items()}
    np.savez(path, **arrays)
    return arrays


def _read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert picture is not None, path
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def words(name: str) -> str:
    return name.replace("-", " ")


@dataclass(frozen=True)
class Task:
    """Base and new names; vectors and labels of shots, and of the test pictures of either half."""

    base: tuple[str, ...]
    new: tuple[str, ...]
    shots: tuple[Tensor, Tensor]
    base_test: tuple[Tensor, Tensor]
    new_test: tuple[Tensor, Tensor]


def draw_task(concepts: Concepts, choosing: bool, seed: int) -> Task:
    """The classes of a seed, from those for choices or those for tasks."""
    pool = range(CHOSEN_ON) if choosing else range(CHOSEN_ON, len(concepts.names))
    drawn = np.random.default_rng([seed, int(choosing)]).choice(len(pool), CLASSES, replace=False)
    places = sorted((pool[one] for one in drawn), key=lambda place: concepts.names[place])
    halves = places[: CLASSES // 2], places[CLASSES // 2 :]

    def of(vectors: Tensor, some: Sequence[int]) -> tuple[Tensor, Tensor]:
        rows = vectors[list(some)]
        return rows.flatten(0, 1), torch.arange(len(some)).repeat_interleave(rows.shape[1])

    names = [tuple(words(concepts.names[place]) for place in half) for half in halves]
    return Task(
        names[0],
        names[1],
        of(concepts.shots, halves[0]),
        of(concepts.tested, halves[0]),
        of(concepts.tested, halves[1]),
    )


def arms(rate: float, epochs: int, rho: float, length: float) -> dict[str, PromptOptions]:
    """The learners by name; rho as a share of the context's length."""
    move, one = rho * length, 10_000
    base = PromptOptions(method="coop", context=CONTEXT, epochs=epochs, batch=one, learning_rate=rate)
    gcscoop = replace(base, method="gcscoop", rho=move)
    averaged = Averaged(method="coop", context=CONTEXT, epochs=epochs, batch=one, learning_rate=rate, rho=move)
    return {
        "zero-shot": replace(base, method="zero-shot"),
        COOP: base,
        "CoCoOp": replace(base, method="cocoop", epochs=1, batch=16),
        "KgCoOp": replace(base, method="kgcoop"),
        "ProGrad": replace(base, method="prograd"),
        "SAM-CoOp": replace(base, method="sam-coop", rho=move),
        "GCSCoOp": gcscoop,
        "projection only": replace(gcscoop, beta1=-1.0),
        "switch only": replace(gcscoop, beta1=0.5, beta2=0.5),
        "plain average": averaged,
    }


def context_length(model: SentenceModel, context: str = CONTEXT) -> float:
    """The length of the context that learners begin from."""
    learner = new_learner(model, ["x"], PromptOptions(context=context))
    return float(dict(learner.named_parameters())["context"].detach().norm())


def measured(model: SentenceModel, task: Task, options: PromptOptions) -> dict[str, Any]:
    """The numbers of one learner on one task."""
    features, labels = task.shots
    learned = learn(model, task.base, features[:, None], labels, options)
    learner, history = learned.learner, learned.history
    numbers: dict[str, Any] = {}
    if history:
        radius = 0.1 * float(learner.context.detach().norm()) if hasattr(learner, "context") else 0.0  # type: ignore[operator]
        some = slice(None, None, 4) if options.method == "cocoop" else slice(None)
        numbers[LOSS], numbers[SHARPNESS] = sharpness(learner, features[some], labels[some], radius)
        last = history[-10:]
        for name in ("cosine", "relative_rho", "branch_sam", "branch_projected", "branch_loss"):
            if name in history[-1]:
                numbers[name] = float(np.mean([row[name] for row in history]))
        numbers["flattened"] = float(last[0]["loss"] - last[-1]["loss"])
    base = score(learner, *task.base_test).accuracy
    new = score(other_classes(learner, model, task.new, options), *task.new_test).accuracy
    return {**numbers, BASE: base, NEW: new, HARMONIC: harmonic_mean(base, new)}


def other_classes(
    learner: PromptLearner, model: SentenceModel, names: Sequence[str], options: PromptOptions
) -> PromptLearner:
    """The learned context with other names."""
    other = new_learner(model, names, options)
    other.load_state_dict(learner.state_dict())
    return other.eval()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("record", type=Path, help="JSON file to write; arms that it holds are not run again")
    options.add_argument("--data", type=Path, required=True, help="set of `unmask search concepts`")
    options.add_argument("--work", type=Path, default=Path("runs/work"))
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--sweep-seeds", type=int, default=5, help="of other rho than the chosen one")
    options.add_argument("--choose", action="store_true", help="on tasks from the concepts for choices")
    chosen = options.parse_args()
    one_thread()
    files = sorted(path for path in chosen.data.rglob("*.png"))
    digest = hashlib.sha256("\n".join(f"{path.name} {path.stat().st_size}" for path in files).encode()).hexdigest()
    fixed = {"layers": LAYERS, "size": SIZE, "ridge": RIDGE, "scale": SCALE, "rate": RATE, "epochs": EPOCHS, "rho": RHO}
    settings = settings_of(chosen, sweep_seeds=None, **fixed)
    record = Record(chosen.record, settings, digest, ("transformers",))
    model, concepts = model_and_concepts(chosen.data, chosen.work, RIDGE, SCALE)
    length = context_length(model)
    if chosen.choose:
        _choose(record, length, chosen)
        return
    for seed in range(chosen.seeds):
        task = draw_task(concepts, False, seed)
        for arm, one in arms(RATE, EPOCHS, RHO, length).items():
            if not record.has(arm=arm, seed=seed):
                record.add(arm=arm, seed=seed, **measured(model, task, one))
    for seed in range(chosen.sweep_seeds):
        task = draw_task(concepts, False, seed)
        for rho in SWEPT:
            for method in ("SAM-CoOp", "GCSCoOp"):
                arm = f"{method}, rho {rho:g}"
                if not record.has(arm=arm, seed=seed):
                    record.add(arm=arm, seed=seed, **measured(model, task, arms(RATE, EPOCHS, rho, length)[method]))


def _choose(record: Record, length: float, chosen: argparse.Namespace) -> None:
    """Ridge by the words as they are, rate by CoOp and GCSCoOp; three tasks."""
    for ridge in (0.1, 1.0, 10.0):
        model, concepts = model_and_concepts(chosen.data, chosen.work, ridge, SCALE)
        for seed in range(3):
            task = draw_task(concepts, True, seed)
            arm = f"zero-shot, ridge {ridge:g}"
            if not record.has(arm=arm, seed=seed):
                record.add(arm=arm, seed=seed, **measured(model, task, arms(RATE, EPOCHS, RHO, length)["zero-shot"]))
            for rate in (0.02, 0.2) if ridge == RIDGE else ():
                for name in (COOP, "GCSCoOp"):
                    arm = f"{name}, rate {rate:g}"
                    if not record.has(arm=arm, seed=seed):
                        record.add(arm=arm, seed=seed, **measured(model, task, arms(rate, EPOCHS, RHO, length)[name]))


# --- The page ---

DIRECTIONS = (
    ("loss, CoOp < GCSCoOp", LOSS, COOP, "GCSCoOp"),
    ("loss, GCSCoOp < SAM-CoOp", LOSS, "GCSCoOp", "SAM-CoOp"),
    ("sharpness, SAM-CoOp < GCSCoOp", SHARPNESS, "SAM-CoOp", "GCSCoOp"),
    ("sharpness, GCSCoOp < CoOp", SHARPNESS, "GCSCoOp", COOP),
    ("base, SAM-CoOp < GCSCoOp", BASE, "SAM-CoOp", "GCSCoOp"),
    ("new, CoOp < SAM-CoOp", NEW, COOP, "SAM-CoOp"),
    ("new, CoOp < GCSCoOp", NEW, COOP, "GCSCoOp"),
)


def bootstrap(values: Sequence[float], draws: int = 10_000) -> tuple[float, float, float]:
    """Mean and 95 % percentile interval over seeds."""
    given = np.array(values, float)
    rows = np.random.default_rng(0).integers(0, len(given), (draws, len(given)))
    low, high = np.quantile(given[rows].mean(1), (0.025, 0.975))
    return float(given.mean()), float(low), float(high)


def differences(rows: Sequence[Mapping[str, Any]], metric: str, arm: str, other: str) -> list[float]:
    """An arm's numbers less another's, seed by seed."""
    by = {(row["arm"], row["seed"]): row[metric] for row in rows if metric in row}
    return [by[arm, seed] - by[other, seed] for name, seed in by if name == arm and (other, seed) in by]


def paired_rows(rows: Sequence[Mapping[str, Any]], names: Sequence[str], metrics: Sequence[str], baseline: str) -> str:
    """A table: for every arm its means, with the paired differences from the baseline and their bootstrap intervals."""
    lines = []
    for arm in names:
        own = [row for row in rows if row["arm"] == arm]
        if not own:
            continue
        cells = []
        for metric in metrics:
            values = [row[metric] for row in own if metric in row]
            if not values:
                cells.append("–")
                continue
            text = f"{np.mean(values):.3f}"
            if arm != baseline and (gaps := differences(rows, metric, arm, baseline)):
                text += " ({:+.3f} [{:+.3f}, {:+.3f}])".format(*bootstrap(gaps))
            cells.append(text)
        lines.append([arm, str(len(own)), *cells])
    return markdown(["arm", "tasks", *metrics], lines)


TEXT = """## Prompt learners on drawn concepts

{seeds} tasks of ten base and ten new classes; 16 shots a class, {epochs} epochs. The model is small: EfficientNet-Lite0
with ImageNet weights, a linear projection into the space of the first {layers} layers of all-MiniLM-L6-v2, fitted on
other concepts. Means over tasks; in brackets the paired difference from CoOp with its 95 % bootstrap interval.
*Sharpness*: how much the loss on the shots rises at a tenth of the context's length uphill. Learning rate {rate:g} and
ridge were chosen on other concepts, rho is {rho:g} of the context's length. `experiments/gcscoop/learners.py` has the
protocol and the rules, written before the run. On a model this small, and on pictures that are drawn, these numbers
say how the learners compare, not how well they name photographs.
"""


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "gcscoop/learners")
    rows, settings = record["rows"], record["settings"]
    names = list(arms(1.0, 1, 1.0, 1.0))
    learners, parts = names[:7], ["GCSCoOp", "SAM-CoOp", *names[7:]]
    head = TEXT.format(**settings, seeds=len({row["seed"] for row in rows}))
    lines = []
    for text, metric, lower, higher in DIRECTIONS:
        value, low, high = bootstrap(differences(rows, metric, higher, lower))
        said = "seen" if low > 0 else "reversed" if high < 0 else "not seen"
        lines.append(f"{text}: {said} ({value:+.3f} [{low:+.3f}, {high:+.3f}])")
    swept = []
    for rho in sorted({*SWEPT, settings["rho"]}):
        cells = [f"{rho:g}"]
        for method in ("SAM-CoOp", "GCSCoOp"):
            name = method if rho == settings["rho"] else f"{method}, rho {rho:g}"
            seeds = {row["seed"] for row in rows if row["arm"].startswith("GCSCoOp, rho")}
            own = [row for row in rows if row["arm"] == name and row["seed"] in seeds]
            for metric in (LOSS, SHARPNESS, HARMONIC):
                cells.append(f"{np.mean([row[metric] for row in own]):.3f}" if own else "–")
            if method == "GCSCoOp":
                shares = [[row[f"branch_{branch}"] for row in own] for branch in ("sam", "projected", "loss")]
                cells += [f"{np.mean([row['cosine'] for row in own]):.2f}" if own else "–"]
                cells += [" / ".join(f"{100 * np.mean(share):.0f}" for share in shares) if own else "–"]
        swept.append(cells)
    heads = ["rho", *(f"{m}, {what}" for m in ("SAM", "GCSAM") for what in (LOSS, SHARPNESS, HARMONIC))]
    return "\n".join(
        [
            head,
            paired_rows(rows, learners, METRICS, COOP) + "\n",
            "The directions that the method's sheet says to expect:\n",
            *(f"- {line}" for line in lines),
            "\nThe parts of the rule alone, differences from CoOp:\n",
            paired_rows(rows, parts, METRICS, COOP) + "\n",
            "rho as a share of the context's length, on the first tasks: the gate opens as the cosine of the two "
            "gradients falls. Branches: per cent of the steps that keep the SAM gradient, project it, or fall back to "
            "the gradient of the loss.\n",
            markdown([*heads, "cosine", "branches"], swept) + "\n",
        ]
    )


if __name__ == "__main__":
    main()
