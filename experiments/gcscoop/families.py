"""Forgery families in words, on a detector's features: base and new families, a linear head, and what adding one costs.

    PYTHONPATH=experiments python experiments/gcscoop/families.py RECORD.json --data DATA

The known collections: every family with at least 16 training and 10 test pictures, people apart by the manifest's
splits, at most 24 training, 20 validation and 40 test pictures of each, three times as many genuine ones. Features are
those of the embedded detector, encoded once. A seed draws which half of the families are base (the larger) and which
new, and 16 shots of each base family and of genuine pictures. The words are those of `unmask.lab.prompting.words`.

Arms: the words as they are (features brought to them by ridge regression on the shots), CoOp and GCSCoOp (learned on
where that regression brings each shot if fitted without it), and a linear head (logistic regression, C = 10, on the
same standardised features), which has no words and so no new families. The shipped detector's own logit stands beside
them; it was trained on pictures of most of these families, new ones as well.

Measured on test pictures: the share named rightly among the base families; among the new ones, by their words and the
learned context alone; their harmonic mean; AUC of genuine pictures against forgeries of base and of new families, mean
over families (score: log of the summed exponentials of the families' logits, less genuine's). Forgetting: the first of
the new families is added with 16 shots, as `unmask prompt learn --onto` does, from kept features; base families are
named before among themselves, and after among themselves and the new one.

Rules, written before the run on test pictures: image tower (the detector's features, or those of EfficientNet-Lite0
trained on ImageNet), ridge (0.01, 0.1, 1) and learning rate (0.02, 0.2; by CoOp) are chosen on validation pictures
over three seeds (`--choose`), in this order, by the highest mean harmonic mean, the first two of the words as they are.
rho is 0.4 of the context's length, as in `learners.py`. Naming families helps on unseen ones if the 95 % bootstrap
interval over seeds of the paired difference in AUC on new families from the linear head lies above 0; a learner is
better than the words alone if that of the harmonic mean does. Seeds share pictures: intervals speak of the choice of
families and shots.
"""

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Record, one_thread, read_record, settings_of
from gcscoop.learners import BASE, HARMONIC, NEW, bootstrap, context_length, differences, paired_rows
from sklearn.linear_model import LogisticRegression

from unmask.cli.options import progress_bars
from unmask.datasets.layouts.collection import load_collection
from unmask.files import whole
from unmask.lab.metrics import auc
from unmask.lab.prompting.config import PromptOptions
from unmask.lab.prompting.dual_encoder import DualEncoder
from unmask.lab.prompting.few_shot import harmonic_mean
from unmask.lab.prompting.learners import CoOp, new_learner
from unmask.lab.prompting.sentences import SentenceModel, sentence_encoder
from unmask.lab.prompting.training import learn
from unmask.lab.prompting.words import GENUINE, words_of
from unmask.lab.search.feed import tensor_of
from unmask.packs import load_pack
from unmask.prompting.learning import SCALE, left_out, projection_into
from unmask.prompting.pictures import read_crops
from unmask.prompting.towers import pack_tower
from unmask.tables import markdown

CAPS = {"train": 24, "val": 20, "test": 40}
LEAST = {"train": 16, "test": 10}
SHOTS, EPOCHS, CONTEXT = 16, 20, "a photo of"
DETECTOR, IMAGENET = "plain", "imagenet"
TOWER, RIDGE, RATE, RHO = DETECTOR, 0.01, 0.02, 0.4
"""Chosen on validation pictures."""
WORDS, COOP, GCSCOOP, HEAD, SHIPPED = "words as they are", "CoOp", "GCSCoOp", "linear head", "shipped detector"
BASE_AUC, NEW_AUC = "AUC, base", "AUC, new"
BEFORE, AFTER, ADDED = "old families before", "old families after", "the added one"


@dataclass(frozen=True)
class Features:
    """Of all pictures: features by tower (N, D), the detector's logit, family and split."""

    by_tower: Mapping[str, np.ndarray]
    logit: np.ndarray
    family: np.ndarray
    split: np.ndarray

    def rows(self, family: str, split: str) -> np.ndarray:
        """The rows of a family in a split."""
        return np.flatnonzero((self.family == family) & (self.split == split))

    @property
    def families(self) -> list[str]:
        """Those with enough pictures."""
        names = sorted(set(self.family) - {GENUINE})
        return [name for name in names if all(len(self.rows(name, split)) >= least for split, least in LEAST.items())]


def encode(data: Path, work: Path) -> Features:
    """The features of the pictures that are used; kept, group by group."""
    by_group: dict[tuple[str, str], list[Path]] = {}
    for sample in load_collection(data):
        split = {"cal": "val"}.get(sample.split, sample.split)
        by_group.setdefault((sample.family if sample.label else GENUINE, split), []).append(Path(sample.path))
    enough = {
        family
        for family, _ in by_group
        if all(len(by_group.get((family, split), ())) >= least for split, least in LEAST.items())
    }
    pack, folder, rows = load_pack(DETECTOR), work / "gcscoop-families", []
    tower, network = pack_tower(pack), DualEncoder().eval()
    folder.mkdir(parents=True, exist_ok=True)
    with progress_bars() as progress:
        for family, split in sorted(by_group):
            if family not in enough:
                continue
            path = folder / f"{family}-{split}.npz"
            if not path.is_file():
                ordered = sorted(by_group[family, split], key=lambda one: hashlib.sha256(one.name.encode()).digest())
                some = ordered[: CAPS[split] * (3 if family == GENUINE else 1)]
                crops, _ = read_crops(some, tower, progress, f"{family}, {split}")
                parts = tensor_of(crops).split(8)
                with torch.no_grad():  # to choose a tower by, on pictures that are not tested on
                    seen = [
                        network.trunk(network.normalised(part)).mean((2, 3)).numpy()
                        if split != "test"
                        else np.zeros((len(part), 1280), np.float32)
                        for part in parts
                    ]
                with whole(path) as part_file, part_file.open("wb") as stream:
                    np.savez(
                        stream,
                        **{DETECTOR: tower.features(list(crops)), IMAGENET: np.concatenate(seen)},
                        logit=np.concatenate([pack.run(part.numpy())[0].reshape(-1) for part in parts]),
                    )
            with np.load(path) as kept:
                rows.append((family, split, dict(kept)))
    return Features(
        {name: np.concatenate([row[2][name] for row in rows]) for name in (DETECTOR, IMAGENET)},
        np.concatenate([row[2]["logit"] for row in rows]),
        np.concatenate([[row[0]] * len(row[2]["logit"]) for row in rows]),
        np.concatenate([[row[1]] * len(row[2]["logit"]) for row in rows]),
    )


@dataclass(frozen=True)
class Draw:
    """What a seed draws: base families with genuine pictures first, new ones, and the rows of the shots by class."""

    base: tuple[str, ...]
    new: tuple[str, ...]
    shots: Mapping[str, np.ndarray]


def draw(features: Features, seed: int) -> Draw:
    """Base and new families and shots."""
    rng = np.random.default_rng(seed)
    names = [features.families[place] for place in rng.permutation(len(features.families))]
    middle = -(-len(names) // 2)
    shots = {name: rng.choice(features.rows(name, "train"), SHOTS, replace=False) for name in (GENUINE, *names)}
    return Draw((GENUINE, *sorted(names[:middle])), tuple(names[middle:]), shots)


@dataclass(frozen=True)
class Learned:
    """A projection, the class vectors by name that were learned on, and how others are made of words."""

    projection: tuple[np.ndarray, np.ndarray]
    vectors: Any
    scale: float

    def logits(self, features: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Logits (N, C) of features (N, D)."""
        made = features @ self.projection[0] + self.projection[1]
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        logits: np.ndarray = self.scale * made @ self.vectors(names).T
        return logits


def learn_families(
    model: SentenceModel, own: np.ndarray, drawn: Draw, names: Sequence[str], options: PromptOptions, ridge: float
) -> Learned:
    """Learn the prompts of some classes from their shots."""
    rows = np.concatenate([drawn.shots[name] for name in names])
    labels = np.repeat(np.arange(len(names)), [len(drawn.shots[name]) for name in names])
    words = [words_of(name) for name in names]
    template = model.encode_texts([f"{options.context} {one}." for one in words]).numpy()
    projection = projection_into(own[rows], template[labels], ridge)
    vectors = torch.nn.functional.normalize(torch.from_numpy(left_out(own[rows], template[labels], ridge)), dim=1)
    learner = learn(model, words, vectors[:, None], torch.from_numpy(labels), options).learner

    @torch.no_grad()
    def of(others: Sequence[str]) -> np.ndarray:
        if not isinstance(learner, CoOp):
            return model.encode_texts([f"{options.context} {words_of(one)}." for one in others]).numpy()
        other = new_learner(model, [words_of(one) for one in others], options)
        other.load_state_dict(learner.state_dict())
        assert isinstance(other, CoOp)
        return torch.nn.functional.normalize(other.text_features().float(), dim=1).numpy()

    return Learned(projection, of, float(model.scale()))


def named(learned: Learned, own: np.ndarray, features: Features, families: Sequence[str], split: str) -> float:
    """Mean over families of the share that is named rightly among them."""
    shares = []
    for place, name in enumerate(families):
        rows = features.rows(name, split)
        shares.append(float((learned.logits(own[rows], families).argmax(1) == place).mean()))
    return float(np.mean(shares))


def detection(score: np.ndarray, features: Features, families: Sequence[str], split: str) -> float:
    """Mean over families of the AUC of genuine pictures against its own."""
    genuine = features.rows(GENUINE, split)
    values = []
    for name in families:
        rows = np.concatenate([genuine, features.rows(name, split)])
        values.append(auc((features.family[rows] != GENUINE).astype(int), score[rows]))
    return float(np.mean(values))


def forged_score(logits: np.ndarray) -> np.ndarray:
    """How much likelier any family is than genuine, by logits whose first is genuine's."""
    top = logits[:, 1:].max(1)
    score: np.ndarray = top + np.log(np.exp(logits[:, 1:] - top[:, None]).sum(1)) - logits[:, 0]
    return score


def options_of(arm: str, rate: float, model: SentenceModel) -> PromptOptions:
    """The learner of an arm."""
    base = PromptOptions(method="zero-shot", context=CONTEXT, epochs=EPOCHS, batch=10_000, learning_rate=rate)
    return replace(
        base,
        method={WORDS: "zero-shot", COOP: "coop", GCSCOOP: "gcscoop"}[arm],
        rho=RHO * context_length(model, CONTEXT),
    )


def prompts(
    model: SentenceModel, features: Features, drawn: Draw, arm: str, tower: str, ridge: float, rate: float, split: str
) -> dict[str, float]:
    """The numbers of an arm with words."""
    own, options = features.by_tower[tower], options_of(arm, rate, model)
    learned = learn_families(model, own, drawn, drawn.base, options, ridge)
    base, new = (named(learned, own, features, some, split) for some in (drawn.base[1:], drawn.new))
    score = forged_score(learned.logits(own, drawn.base))
    return {
        BASE: base,
        NEW: new,
        HARMONIC: harmonic_mean(base, new),
        BASE_AUC: detection(score, features, drawn.base[1:], split),
        NEW_AUC: detection(score, features, drawn.new, split),
    }


def head(features: Features, drawn: Draw) -> dict[str, float]:
    """The numbers of the linear head."""
    own = features.by_tower[TOWER]
    rows = np.concatenate([drawn.shots[name] for name in drawn.base])
    labels = np.repeat(np.arange(len(drawn.base)), SHOTS)
    given = (own - own[rows].mean(0)) / (own[rows].std(0) + 1e-3) / np.sqrt(own.shape[1])
    logits = LogisticRegression(C=10, max_iter=2_000).fit(given[rows], labels).decision_function(given)
    shares = []
    for place, name in enumerate(drawn.base[1:]):
        some = features.rows(name, "test")
        shares.append(float((logits[some, 1:].argmax(1) == place).mean()))
    score = forged_score(logits)
    return {
        BASE: float(np.mean(shares)),
        BASE_AUC: detection(score, features, drawn.base[1:], "test"),
        NEW_AUC: detection(score, features, drawn.new, "test"),
    }


def added(model: SentenceModel, features: Features, drawn: Draw, arm: str) -> dict[str, float]:
    """What adding the first new family costs the base ones."""
    own, options = features.by_tower[TOWER], options_of(arm, RATE, model)
    before = learn_families(model, own, drawn, drawn.base, options, RIDGE)
    names = (*drawn.base, drawn.new[0])
    after = learn_families(model, own, drawn, names, options, RIDGE)
    old, all_of_them = drawn.base[1:], names[1:]
    kept = []
    for place, name in enumerate(old):
        rows = features.rows(name, "test")
        kept.append(float((after.logits(own[rows], all_of_them).argmax(1) == place).mean()))
    rows = features.rows(drawn.new[0], "test")
    share = float((after.logits(own[rows], all_of_them).argmax(1) == len(old)).mean())
    return {BEFORE: named(before, own, features, old, "test"), AFTER: float(np.mean(kept)), ADDED: share}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("record", type=Path, help="JSON file to write; arms that it holds are not run again")
    options.add_argument("--data", type=Path, required=True, help="folder of known collections")
    options.add_argument("--work", type=Path, default=Path("runs/work"))
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--choose", action="store_true", help="on validation pictures")
    chosen = options.parse_args()
    one_thread()
    features = encode(chosen.data, chosen.work)
    digest = hashlib.sha256("\n".join(map(str, zip(features.family, features.split, strict=True))).encode())
    digest.update(np.round(features.logit, 3).tobytes())
    fixed: dict[str, Any] = {"shots": SHOTS, "epochs": EPOCHS, "tower": TOWER, "ridge": RIDGE, "rate": RATE, "rho": RHO}
    fixed |= {"scale": SCALE, "families": features.families, "pictures": len(features.logit)}
    record = Record(chosen.record, settings_of(chosen, **fixed), digest.hexdigest(), ("transformers",))
    model = SentenceModel(*sentence_encoder(), SCALE).eval()
    if chosen.choose:
        _choose(record, model, features)
        return
    for seed in range(chosen.seeds):
        drawn = draw(features, seed)
        for arm in (WORDS, COOP, GCSCOOP):
            if not record.has(arm=arm, seed=seed):
                numbers = prompts(model, features, drawn, arm, TOWER, RIDGE, RATE, "test")
                record.add(arm=arm, seed=seed, **numbers)
        if not record.has(arm=HEAD, seed=seed):
            record.add(arm=HEAD, seed=seed, **head(features, drawn))
        if not record.has(arm=SHIPPED, seed=seed):
            values = [detection(features.logit, features, some, "test") for some in (drawn.base[1:], drawn.new)]
            record.add(arm=SHIPPED, seed=seed, **{BASE_AUC: values[0], NEW_AUC: values[1]})
        for arm in (WORDS, GCSCOOP):
            if not record.has(arm=f"adding, {arm}", seed=seed):
                record.add(arm=f"adding, {arm}", seed=seed, **added(model, features, drawn, arm))


def _choose(record: Record, model: SentenceModel, features: Features) -> None:
    """The tower, the ridge and the learning rate, on validation pictures."""
    for seed in range(3):
        drawn = draw(features, seed)
        for tower in (DETECTOR, IMAGENET):
            for ridge in (0.01, 0.1, 1.0):
                arm = f"{tower}, ridge {ridge:g}"
                if not record.has(arm=arm, seed=seed):
                    numbers = prompts(model, features, drawn, WORDS, tower, ridge, RATE, "val")
                    record.add(arm=arm, seed=seed, **numbers)
        for rate in (0.02, 0.2):
            arm = f"{COOP}, rate {rate:g}"
            if not record.has(arm=arm, seed=seed):
                record.add(arm=arm, seed=seed, **prompts(model, features, drawn, COOP, TOWER, RIDGE, rate, "val"))


# --- The page ---

TEXT = """## Forgery families in words

{count} families of the known collections, halved anew {seeds} times into base and new ones; {shots} shots of each base
family and of genuine pictures; features of the embedded detector, brought to the words by ridge regression. *Base*, the
share of test pictures named rightly among the base families; *new*, among the new ones by their words alone, of which
chance names {chance:.2f}; *AUC*, genuine pictures against forgeries, mean over families. Means over seeds; in brackets
the paired difference from the words as they are with its 95 % bootstrap interval. The shipped detector was trained on
pictures of most of these families, new ones as well, and is no rival on equal terms.
`experiments/gcscoop/families.py` has the protocol and the rules, written before the run.
"""


def section(root: Path) -> str:
    """What the records beside this script say; `root` is the repository's."""
    record, choice = (read_record(root, f"gcscoop/{name}") for name in ("families", "families_choice"))
    rows, settings = record["rows"], record["settings"]
    count = len(settings["families"])
    head_text = TEXT.format(
        count=count, seeds=len({row["seed"] for row in rows}), shots=settings["shots"], chance=1 / (count // 2)
    )
    metrics = (BASE, NEW, HARMONIC, BASE_AUC, NEW_AUC)

    def judged(metric: str, arm: str, other: str) -> str:
        value, low, high = bootstrap(differences(rows, metric, arm, other))
        said = "yes" if low > 0 else "no, it is worse" if high < 0 else "not seen"
        return f"{said} ({value:+.3f} [{low:+.3f}, {high:+.3f}])"

    lines = [
        f"Does naming families help on unseen ones, {arm} against the linear head: {judged(NEW_AUC, arm, HEAD)}."
        for arm in (WORDS, GCSCOOP)
    ]
    lines += [
        f"Is {arm} better than the words as they are, harmonic mean: {judged(HARMONIC, arm, WORDS)}."
        for arm in (COOP, GCSCOOP)
    ]
    forgotten = []
    for arm in (WORDS, GCSCOOP):
        own = [row for row in rows if row["arm"] == f"adding, {arm}"]
        if own:
            cost = bootstrap([row[AFTER] - row[BEFORE] for row in own])
            means = [f"{np.mean([row[metric] for row in own]):.3f}" for metric in (BEFORE, AFTER, ADDED)]
            forgotten.append([arm, str(len(own)), *means, "{:+.3f} [{:+.3f}, {:+.3f}]".format(*cost)])
    choices = list(dict.fromkeys(row["arm"] for row in choice["rows"]))
    return "\n".join(
        [
            head_text,
            paired_rows(rows, (WORDS, COOP, GCSCOOP, HEAD, SHIPPED), metrics, WORDS) + "\n",
            *(f"- {line}" for line in lines),
            "\nA family added from kept features, without the old pictures; the share of base families named rightly "
            "before, among themselves, and after, with one more to be taken for:\n",
            markdown(["arm", "seeds", BEFORE, AFTER, ADDED, "cost [95 %]"], forgotten) + "\n",
            "What was chosen on validation pictures, three seeds:\n",
            paired_rows(choice["rows"], choices, (BASE, NEW, HARMONIC), choices[0]) + "\n",
        ]
    )


if __name__ == "__main__":
    main()
