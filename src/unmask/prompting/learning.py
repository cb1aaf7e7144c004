"""Families in words, learned from a few pictures into a prompt pack, and added to one without its old pictures.

A pack keeps the features of its shots and of the pictures that it is calibrated on, no pictures. To add a family, the
prompts of all are learned anew from kept features and those of the new pictures (latent replay; Pellegrini et al., IROS
2020). Lab only: torch.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from scipy.optimize import minimize

from unmask.errors import DataError, PackError
from unmask.files import whole
from unmask.forgery.naming import OUTPUTS, TASK, probabilities, shares_of
from unmask.lab.metrics import mean_interval
from unmask.lab.prompting.config import PromptOptions
from unmask.lab.prompting.learners import CoOp
from unmask.lab.prompting.sentences import SentenceModel, sentence_encoder
from unmask.lab.prompting.training import PROMPTS, learn
from unmask.lab.prompting.vision_language import ClassPrompts, VisionLanguageModel, check_names
from unmask.lab.prompting.words import GENUINE, words_of
from unmask.lab.run import versions
from unmask.packs import Card, Pack, embedded_packs, load_pack
from unmask.packs.card import Metric, NamingCalibration
from unmask.progress import SILENT, Progress
from unmask.prompting.pictures import Drawn, draw_pictures, read_crops
from unmask.prompting.towers import Tower, logits_of, open_clip_tower, pack_tower, with_prompts
from unmask.provenance import sha256_of

DEFAULT_MODEL = "plain"
KEPT = "features.safetensors"
RIDGE = 0.01
"""Of the projection of a detector's features into the sentence space; experiments/gcscoop/families.py chose it."""
SCALE = 20.0
"""What cosines are multiplied by where features are a detector's."""
NONE_SHARE = 0.5
_DRAWS = 1_000
_ROLES = ("shots", "held", "tested")
_PARTS = frozenset({"checkpoint.ckpt", "metrics.csv", PROMPTS, "model.onnx", "card.json", KEPT})


@dataclass(frozen=True)
class Cost:
    """What adding families cost an old one, on the pictures that its pack was calibrated on.

    Shares named rightly and mean probabilities of the right family, before and after.
    """

    name: str
    n: int
    accuracy: tuple[float, float]
    probability: tuple[float, float]


@dataclass(frozen=True)
class LearnedPack:
    """A written pack, what adding cost, and the files that were left out, with why."""

    pack: Pack
    costs: tuple[Cost, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Kept:
    """The classes of a pack, and features by role: float32 (N, D) with labels (N,), places among the classes."""

    names: tuple[str, ...]
    words: tuple[str, ...]
    features: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]

    def of(self, role: str) -> tuple[np.ndarray, np.ndarray]:
        """Features and labels of "shots", "held" or "tested"."""
        return self.features[role], self.labels[role]

    @property
    def measured(self) -> str:
        """The role of the pictures that are measured on: "tested", or "held" where some class has no others."""
        return "tested" if len(set(self.labels["tested"].tolist())) == len(self.names) else "held"


def learn_pack(
    data: Path,
    families: Mapping[str, str],
    out: Path,
    model: str | None = None,
    onto: Pack | None = None,
    shots: int = 16,
    options: PromptOptions | None = None,
    name: str = "prompts",
    progress: Progress = SILENT,
    command: str = "",
) -> LearnedPack:
    """Learn families from pictures and write a prompt pack; a killed learning goes on where it stood.

    Args:
        data: see `draw_pictures`.
        families: words by name, in the order of the card.
        out: folder of the pack; until it is whole it stands in `OUT.part`.
        model: the image tower: an embedded pack or a pack's folder (a forgery detector, or one of `dual-encoder`), or
            an open_clip model (folder or hf-hub:NAME); None for that of `onto`, else the embedded detector.
        onto: a prompt pack to add the families to.
        shots: of a class at most.
        options: of the learner; None for `default_options()`. Its rho counts in lengths of the context's words.
        name: of the pack.
        progress: of every stage.
        command: the command line, for the card.

    Raises:
        DataError: families, pictures and model do not go together, or `out` holds another learning.
        PackError: a pack is missing or not for this.
    """
    options = options or default_options()
    if options.method == "cocoop":
        raise DataError("cocoop's prompts follow the picture, so that no pack holds them; take another method")
    tower, texts = _tower_and_texts(model, onto)
    length = float(ClassPrompts.of(texts, ["x"], options.context).words.norm())
    options = replace(options, rho=options.rho * length)
    old = None if onto is None else read_kept(onto)
    _check_families(families, old)
    check_names(texts, [*(() if old is None else old.words), *families.values()])
    part = out.with_name(f"{out.name}.part")
    if part.exists() and not (part.is_dir() and all(_is_ours(path) for path in part.iterdir())):
        raise DataError(f"{part}: holds something else, and what is learned would stand there; give another --out")
    words = dict(families)
    drawn = draw_pictures(data, tuple(families), shots, options.seed)
    if old is not None:
        drawn.pop(GENUINE, None)
    classes = ([GENUINE] if GENUINE in drawn else []) + list(families)
    words[GENUINE] = words_of(GENUINE)
    new, left_out = _encoded(drawn, classes, words, tower, progress)
    kept = new if old is None else _joined(old, new)
    if len(kept.names) < 2:
        raise DataError(
            "one family and no genuine pictures: there is nothing to tell it from. Give another --family, a folder "
            "`genuine` beside it, or --onto PACK"
        )
    learned = learn_classes(tower, texts, kept, options, part, progress)
    calibration = calibrated(learned, kept, tower.min_face_px, str(data.name))
    pack = _written(tower, learned, kept, calibration, options, part, data, name, command)
    costs = () if onto is None or old is None else _costs(onto, pack, old)
    out.mkdir(parents=True, exist_ok=True)
    for file in ("model.onnx", "card.json", KEPT):
        (part / file).replace(out / file)
    shutil.rmtree(part)
    return LearnedPack(load_pack(out, TASK), costs, tuple(left_out))


def _is_ours(path: Path) -> bool:
    """Whether a file in `OUT.part` is one of a learning, or what a kill left of one that was being written."""
    return path.name in _PARTS or (path.name.startswith(".") and path.suffix == ".part")


def default_options() -> PromptOptions:
    """GCSCoOp with a context that fits descriptions of faces; `rho` is a share of that context's length.

    A sentence encoder's tokens are longer than CLIP's, for which rate and rho are published: by those nothing moves.
    """
    return PromptOptions(context="a photo of", epochs=40, learning_rate=0.02, rho=0.4)


# --- Model ---


def _tower_and_texts(model: str | None, onto: Pack | None) -> tuple[Tower, VisionLanguageModel]:
    """The image tower, and the model whose texts are learned."""
    from unmask.lab.prompting.open_clip_models import load_open_clip  # slow, and seldom needed

    if onto is not None:
        tower = pack_tower(onto)
        if tower.space != "open_clip":
            if model is not None:
                raise DataError("--model is that of the pack to add to; leave it out")
            return tower, _sentences(tower)
        if model is None:
            raise DataError(f"pack {onto.card.name!r} is of an open_clip model; give the same with --model")
        texts = load_open_clip(model)
        if texts.fingerprint() != tower.origin:
            raise DataError(f"--model {model}: not the model of pack {onto.card.name!r}; give that one")
        return tower, texts
    chosen = DEFAULT_MODEL if model is None else model
    if chosen in embedded_packs() or (Path(chosen) / "card.json").is_file():
        tower = pack_tower(load_pack(chosen))
        return tower, _sentences(tower)
    texts = load_open_clip(chosen)
    return open_clip_tower(texts, chosen), texts


def _sentences(tower: Tower) -> SentenceModel:
    return SentenceModel(*sentence_encoder(), SCALE if tower.space == "none" else tower.scale, size=tower.size).eval()


# --- Pictures ---


def _check_families(families: Mapping[str, str], old: Kept | None) -> None:
    if not families:
        raise DataError('no family; give at least one, as --family swap="a face swapped onto another head"')
    known = {} if old is None else dict(zip(old.names, old.words, strict=True))
    for name, words in families.items():
        if name == GENUINE:
            raise DataError(f"{GENUINE} is the name of pictures that nobody forged; give the family another")
        if name in known:
            raise DataError(f"the pack knows a family {name} already; give the new one another name")
        if not words.split():
            raise DataError(f'--family {name}: no words; describe it, as in {name}="a face swapped onto another head"')


def _encoded(
    drawn: Mapping[str, Drawn], classes: Sequence[str], words: Mapping[str, str], tower: Tower, progress: Progress
) -> tuple[Kept, list[str]]:
    """The features of drawn pictures; every class keeps a shot and two held ones."""
    features: dict[str, list[np.ndarray]] = {role: [] for role in _ROLES}
    labels: dict[str, list[int]] = {role: [] for role in _ROLES}
    left_out: list[str] = []
    for place, name in enumerate(classes):
        for role, least in zip(_ROLES, (1, 2, 0), strict=True):
            paths: tuple[Path, ...] = getattr(drawn[name], role)
            crops, without = read_crops(paths, tower, progress, f"reading {name}, {role}")
            left_out += without
            if len(crops) < least:
                reason = f"; {without[0]}" if without else ""
                raise DataError(f"{name}: {len(crops)} usable pictures of {least} that are needed{reason}"[:400])
            if len(crops):
                features[role].append(tower.features(list(crops)))
                labels[role] += [place] * len(crops)
    width = features["shots"][0].shape[1]
    empty = np.zeros((0, width), np.float32)
    return Kept(
        tuple(classes),
        tuple(words[name] for name in classes),
        {role: np.concatenate(rows) if rows else empty for role, rows in features.items()},
        {role: np.array(rows, np.int64) for role, rows in labels.items()},
    ), left_out


def _joined(old: Kept, new: Kept) -> Kept:
    """The classes of both, the old ones first. What old ones were measured on is not kept."""
    shift = len(old.names)
    features, labels = {}, {}
    for role in _ROLES:
        had = old.features.get(role, new.features[role][:0])
        known = old.labels.get(role, new.labels[role][:0])
        features[role] = np.concatenate([had, new.features[role]])
        labels[role] = np.concatenate([known, new.labels[role] + shift])
    return Kept((*old.names, *new.names), (*old.words, *new.words), features, labels)


def read_kept(pack: Pack) -> Kept:
    """What a prompt pack keeps of its pictures.

    Raises:
        PackError: it keeps nothing, or the file was altered.
    """
    path, naming = pack.folder / KEPT, pack.card.naming
    if naming is None or not path.is_file() or sha256_of(path) != pack.card.protocol.get("features_sha256"):
        raise PackError(
            f"pack {pack.card.name!r}: its {KEPT} is missing or altered; take the pack anew from its origin"
        )
    try:
        with safe_open(path, "np") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise PackError(f"pack {pack.card.name!r}: {KEPT} cannot be read") from error
    features = {role: tensors[f"{role}.features"].astype(np.float32) for role in _ROLES[:2]}
    labels = {role: tensors[f"{role}.labels"].astype(np.int64) for role in _ROLES[:2]}
    return Kept(naming.names, naming.words, features, labels)


# --- Learning ---


@dataclass(frozen=True)
class LearnedClasses:
    """Learned prompts as vectors: unit ones of the classes (C, d), the projection of features, scale and offset."""

    classes: np.ndarray
    projection: tuple[np.ndarray, np.ndarray] | None
    scale: float
    offset: float
    context: np.ndarray

    def vectors(self, features: np.ndarray) -> np.ndarray:
        """Unit vectors (N, d) of features (N, D)."""
        made = features if self.projection is None else features @ self.projection[0] + self.projection[1]
        return made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Logits (N, C) of features (N, D)."""
        return self.scale * self.vectors(features) @ self.classes.T + self.offset


def projection_into(features: np.ndarray, targets: np.ndarray, ridge: float = RIDGE) -> tuple[np.ndarray, np.ndarray]:
    """The linear map by which features come nearest to the vectors of their texts, by ridge regression.

    Embarrassingly simple zero-shot learning (Romera-Paredes & Torr, ICML 2015), with features of unit variance, and
    without an intercept: what all texts have in common tells none apart.

    Args:
        features: (N, D).
        targets: unit vectors of their texts, (N, d).
        ridge: weight of the squared map.

    Returns:
        Weights (D, d) and biases (d,).
    """
    given, centre, scale = _standardised(features)
    # As many unknowns as pictures: the dual form.
    dual = np.linalg.solve(given @ given.T + ridge * np.eye(len(given)), targets.astype(np.float64))
    weights = scale[:, None] * (given.T @ dual)
    return weights.astype(np.float32), (-centre @ weights).astype(np.float32)


def left_out(features: np.ndarray, targets: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """Where `projection_into` brings each picture if it is fitted without it, float32 (N, d).

    Prompts are learned on these: the map all but hits the texts of the pictures that it was fitted on, so that nothing
    would be left to learn. Exact but for means and variances, which are of all (Allen, Technometrics 1974).

    Args:
        features: as of `projection_into`.
        targets: as of `projection_into`.
        ridge: as of `projection_into`.
    """
    given, _, _ = _standardised(features)
    hat = np.linalg.solve(given @ given.T + ridge * np.eye(len(given)), given @ given.T).T
    own = np.diag(hat)[:, None]
    made: np.ndarray = (hat @ targets - own * targets) / np.maximum(1 - own, 1e-9)
    return made.astype(np.float32)


def _standardised(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of mean 0 and length about 1, float64 (N, D), the means and the factors (D,)."""
    centre, spread = features.mean(0), features.std(0) + 1e-3
    scale = 1 / (spread * np.sqrt(features.shape[1]))
    return ((features - centre) * scale).astype(np.float64), centre, scale


def learn_classes(
    tower: Tower,
    texts: VisionLanguageModel,
    kept: Kept,
    options: PromptOptions,
    folder: Path | None = None,
    progress: Progress = SILENT,
) -> LearnedClasses:
    """Learn the prompts of all classes from the features of their shots.

    Args:
        tower: says where the features lie.
        texts: the model whose texts these are.
        kept: classes and features.
        options: of the learner.
        folder: of the checkpoint; None to write nothing.
        progress: of the epochs.
    """
    features, labels = kept.of("shots")
    projection = None
    if tower.space == "none":
        template = texts.encode_texts([f"{options.context} {words}." for words in kept.words]).numpy()
        projection = projection_into(features, template[labels])
        features = left_out(features, template[labels])
    vectors = torch.nn.functional.normalize(torch.from_numpy(features), dim=1)[:, None]
    learner = learn(texts, kept.words, vectors, torch.from_numpy(labels), options, folder, progress).learner
    with torch.no_grad():
        made = learner.text_features() if isinstance(learner, CoOp) else learner.template
        classes = torch.nn.functional.normalize(made.float(), dim=1).cpu().numpy()
    context = learner.context.detach().cpu().numpy() if isinstance(learner, CoOp) else np.zeros((0, 0), np.float32)
    return LearnedClasses(classes, projection, float(texts.scale()), float(texts.offset()), context)


# --- Calibration ---


def calibrated(learned: LearnedClasses, kept: Kept, min_face_px: float, data: str) -> NamingCalibration:
    """Temperature and bias by maximum likelihood on held pictures.

    Every family weighs the same, and all of them together as much as none. None are the genuine pictures, and every
    held forgery with its own family's logit taken away, as if the pack did not know it: half and half where there are
    genuine ones.
    """
    features, labels = kept.of("held")
    logits, background = learned.logits(features), int(kept.names[0] == GENUINE)
    rows = _calibration_rows(logits, labels, background)

    def loss(numbers: np.ndarray) -> float:
        return sum(
            weight * float(-np.log(np.maximum(_right_share(some, right, background, *numbers), 1e-12)).mean())
            for some, right, weight in rows
        )

    fitted = min(
        (minimize(loss, (start, bias), method="Nelder-Mead") for start in (-1.0, 0.0, 1.0) for bias in (0.0, 5.0)),
        key=lambda result: float(result.fun),
    )
    temperature, bias = float(np.exp(np.clip(fitted.x[0], -4, 6))), float(np.clip(fitted.x[1], -100, 100))
    measured, truth = kept.of(kept.measured)
    on = "test" if kept.measured == "tested" else "the same"
    shares = shares_of(learned.logits(measured), background, temperature, bias)
    return NamingCalibration(
        names=kept.names,
        words=kept.words,
        background=background,
        temperature=temperature,
        bias=bias,
        none_share=NONE_SHARE,
        error=round(_calibration_error(shares, truth - background), 4),
        n=len(truth),
        min_face_px=min_face_px,
        method="temperature and bias by maximum likelihood, families weighing the same; none: genuine pictures, and "
        f"forgeries whose own family is taken away; error on {on} pictures",
        data=f"{len(labels)} held pictures of {data}",
    )


def _calibration_rows(
    logits: np.ndarray, labels: np.ndarray, background: int
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Logits, the place of the right share in `shares_of` (-1 for none), and the weight, group by group."""
    families = sorted(set(labels[labels >= background].tolist()))
    rows = []
    for family in families:
        own = logits[labels == family]
        rows.append((own, np.full(len(own), family - background), (1 - NONE_SHARE) / len(families)))
    genuine = logits[labels < background]
    strangers = NONE_SHARE / (2 if len(genuine) else 1)
    if len(genuine):
        rows.append((genuine, np.full(len(genuine), -1), NONE_SHARE - strangers))
    for family in families if len(families) > 1 or background else ():
        without = logits[labels == family].copy()
        without[:, family] = -1e9
        rows.append((without, np.full(len(without), -1), strangers / len(families)))
    return rows


def _right_share(
    logits: np.ndarray, right: np.ndarray, background: int, log_temperature: float, bias: float
) -> np.ndarray:
    shares = shares_of(
        logits, background, float(np.exp(np.clip(log_temperature, -4, 6))), float(np.clip(bias, -100, 100))
    )
    picked: np.ndarray = shares[np.arange(len(shares)), right]
    return picked


def _calibration_error(shares: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of the likeliest class, none among them, in ten bins (Guo et al., ICML 2017)."""
    right = np.where(truth < 0, shares.shape[1] - 1, truth)
    sure, hit = shares.max(1), shares.argmax(1) == right
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(sure[place == one].sum() - hit[place == one].sum()) for one in range(bins)]
    return float(sum(gaps) / max(1, len(truth)))


# --- The pack ---


def _written(
    tower: Tower,
    learned: LearnedClasses,
    kept: Kept,
    calibration: NamingCalibration,
    options: PromptOptions,
    part: Path,
    data: Path,
    name: str,
    command: str,
) -> Pack:
    part.mkdir(parents=True, exist_ok=True)
    graph = with_prompts(tower, learned.projection, learned.classes, learned.scale, learned.offset)
    onnx.save(graph, str(part / "model.onnx"))
    tensors = {
        f"{role}.{what}": np.ascontiguousarray(values[role].astype(kind))
        for role in _ROLES[:2]
        for what, values, kind in (("features", kept.features, np.float16), ("labels", kept.labels, np.int32))
    }
    with whole(part / KEPT) as file:
        file.write_bytes(save({**tensors, "context": learned.context}))
    digest = hashlib.sha256(json.dumps([kept.names, kept.words]).encode())
    digest.update(kept.features["shots"].tobytes())
    shots = len(kept.labels["shots"])
    families = len(kept.names) - calibration.background
    card = Card(
        name=name,
        version="0.1.0",
        task=TASK,
        description=f"Prompts learned by {options.method} for {families} families of forgery in words, on features of "
        f"{tower.name}. Logits of classes: {', '.join(kept.names)}.",
        input_size=(tower.size, tower.size),
        colour_order=tower.colour_order,
        mean=tower.mean,
        std=tower.std,
        crop_margin=tower.crop_margin,
        outputs=OUTPUTS,
        licence="Apache-2.0 (weights of this project; see the terms of the training data)",
        origin="learned with `unmask prompt learn`",
        training_data=f"{shots} pictures of {len(kept.names)} classes, the last of them from {data.name}",
        training_data_terms="not stated by who trained it: ask there before any use",
        training_data_sha256=digest.hexdigest(),
        protocol={
            "options": asdict(options),
            "tower": {"name": tower.name, "space": tower.space, "scale": learned.scale, "origin": tower.origin},
            "features_sha256": sha256_of(part / KEPT),
            "command": command,
            "versions": versions(),
        },
        metrics=_metrics(learned, kept, calibration),
        calibration=None,
        operating_points=(),
        limits=(
            "It names the likeliest family of a forgery; whether a face was forged it does not judge.",
            f"Its probabilities hold where {NONE_SHARE:.0%} of the faces are of none of its families, and these come "
            "equally often; where they do not, so do not the probabilities.",
            f"It was learned from few pictures ({shots}), whose features, from which faces may in part be "
            "reconstructed, it keeps.",
        ),
        sha256=sha256_of(part / "model.onnx"),
        naming=calibration,
    )
    card.check_complete()
    with whole(part / "card.json") as file:
        card.write(file)
    return load_pack(part, TASK)


def _metrics(learned: LearnedClasses, kept: Kept, calibration: NamingCalibration) -> tuple[Metric, ...]:
    """The share named rightly among the families, each family and all."""
    role = kept.measured
    features, labels = kept.of(role)
    shares = probabilities(learned.logits(features), calibration)
    right = (shares[:, :-1].argmax(1) == labels - calibration.background).astype(float)
    groups = {"all families": np.flatnonzero(labels >= calibration.background)}
    for place, name in enumerate(kept.names[calibration.background :], start=calibration.background):
        groups[name] = np.flatnonzero(labels == place)
    metrics = []
    for name, rows in groups.items():
        if len(rows):
            value, low, high = mean_interval(right[rows], list(map(str, rows)), _DRAWS)
            metrics.append(
                Metric(
                    dataset=name,
                    name="accuracy" if role == "tested" else "accuracy, held",
                    value=round(value, 4),
                    low=None if low is None else round(low, 4),
                    high=None if high is None else round(high, 4),
                    n_real=0,
                    n_forged=len(rows),
                )
            )
    return tuple(metrics)


def _costs(before: Pack, after: Pack, old: Kept) -> tuple[Cost, ...]:
    """What the old families lost, on the held features of the old pack."""
    features, labels = old.of("held")
    shares = [_shares(pack, features) for pack in (before, after)]
    background = before.card.naming.background if before.card.naming is not None else 0
    costs = []
    for place, name in enumerate(old.names[background:]):
        rows = labels == place + background
        right = [float((share[rows].argmax(1) == place).mean()) for share in shares]
        sure = [float(share[rows, place].mean()) for share in shares]
        costs.append(Cost(name, int(rows.sum()), (right[0], right[1]), (sure[0], sure[1])))
    return tuple(costs)


def _shares(pack: Pack, features: np.ndarray) -> np.ndarray:
    """A pack's probabilities of features."""
    assert pack.card.naming is not None
    return probabilities(logits_of(pack, features), pack.card.naming)
