"""Does a classifier see more in what an auto-encoder cannot reproduce than in the picture, and must it reproduce?

Three arms share the data, the seed, the steps and the classifier's first weights: a plain network, the same network on
the residual x - G(x), and that without the reconstruction's term of the loss. All are trained on pooled data. Each has
the learning rate that does best for it on the validation split, over seeds that are not used again. The first two arms
are trained once more without one family, another one for each seed, and are then asked about it.

    PYTHONPATH=experiments python experiments/fedforgery/residual.py experiments/fedforgery/residual.json --data DATA
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import (
    Forge,
    Record,
    config_for,
    data_hash,
    make_held,
    make_pool,
    one_thread,
    paired_table,
    parser,
    read_record,
    reals,
    score,
    settings_of,
    train,
)

from unmask.datasets.face_store import StoredFace
from unmask.forgery.fedforgery import FedForgery
from unmask.forging.blending import blend, blending_mask, pose_distance, swap_face
from unmask.forging.upsampling import Fingerprint, fingerprint
from unmask.lab.detection.held_out import EvalFace
from unmask.lab.metrics import auc

SOURCES = ("ffhq", "celebamask", "utkface")
FAMILIES = ("swap", "checkerboard", "smooth", "noise", "quantised")
PLAIN, RESIDUAL, FREE = "plain network", "residual", "residual, reconstruction not asked for"
ARMS: dict[str, dict[str, Any]] = {PLAIN: {"residual": False}, RESIDUAL: {}, FREE: {"reconstruction": 0.0}}
MODEL: dict[str, Any] = {"weights": "none", "width": 16, "codes": 64}
RATES = (1e-3, 3e-3)  # to choose from
TUNING = (1000, 1001)  # seeds of the choice
DONORS = 10  # candidates for a swap, the nearest in pose is taken
LOCAL = 0.2  # share of masks over one feature instead of the face, as in swaps


def swapped(donors: Sequence[StoredFace], rng: np.random.Generator, face: StoredFace) -> tuple[np.ndarray, np.ndarray]:
    """Another subject's face on this head, and its mask."""
    drawn = [donors[int(row)] for row in rng.integers(0, len(donors), DONORS)]
    others = [other for other in drawn if other.sample.subject != face.sample.subject]
    donor = min(others, key=lambda other: pose_distance(other.mesh, face.mesh))
    return swap_face(rng, face.pixels(), face.mesh, donor.pixels(), donor.mesh)


def printed(kind: Fingerprint, rng: np.random.Generator, face: StoredFace) -> tuple[np.ndarray, np.ndarray]:
    """An up-sampling's fingerprint within a mask."""
    pixels = face.pixels()
    mask = blending_mask(rng, pixels.shape, face.mesh, LOCAL)
    return fingerprint(rng, pixels, kind, mask=mask), mask


def noisy(rng: np.random.Generator, face: StoredFace) -> tuple[np.ndarray, np.ndarray]:
    """White noise within a mask, each pixel and colour for itself."""
    pixels = face.pixels()
    mask = blending_mask(rng, pixels.shape, face.mesh, LOCAL)
    other = pixels + rng.normal(0.0, rng.uniform(5, 12), pixels.shape)
    return blend(pixels, np.clip(other, 0, 255), mask), mask


def quantised(rng: np.random.Generator, face: StoredFace) -> tuple[np.ndarray, np.ndarray]:
    """Few levels of every colour within a mask."""
    pixels = face.pixels()
    mask = blending_mask(rng, pixels.shape, face.mesh, LOCAL)
    step = rng.uniform(16, 32)
    return blend(pixels, np.clip((pixels // step + 0.5) * step, 0, 255), mask), mask


def kinds_of(donors: Sequence[StoredFace]) -> dict[str, Forge]:
    """The five families; swaps take faces of the same split."""
    makers: tuple[Forge, ...] = (
        partial(swapped, donors),
        partial(printed, "checkerboard"),
        partial(printed, "blur"),
        noisy,
        quantised,
    )
    return dict(zip(FAMILIES, makers, strict=True))


def build(arm: str, backbone: str, seed: int) -> FedForgery:
    """An arm's detector; its classifier starts from the same weights as that of the others with this seed."""
    torch.manual_seed(seed)
    first = FedForgery(backbone, **MODEL, residual=False).state_dict()
    torch.manual_seed(seed)
    detector = FedForgery(backbone, **{**MODEL, **ARMS[arm]})
    detector.load_state_dict({**detector.state_dict(), **first})
    return detector


def measured(faces: Sequence[EvalFace], logits: np.ndarray, families: Sequence[str]) -> tuple[float, float]:
    """AUC and accuracy at logit 0 of some families against all reals; accuracy counts both classes for a half."""
    rows = [row for row, face in enumerate(faces) if not face.label or face.family in families]
    labels, chosen = np.array([faces[row].label for row in rows]), logits[rows]
    right = (chosen > 0) == labels
    return auc(labels, chosen), float((right[labels == 0].mean() + right[labels == 1].mean()) / 2)


@torch.no_grad()
def unexplained(detector: FedForgery, faces: Sequence[EvalFace]) -> float:
    """Mean square of x - G(x) on the reals, x normalised, as a share of their pixels' variance."""
    pixels = torch.from_numpy(np.stack([face.crop for face in faces if not face.label])).permute(0, 3, 1, 2)
    left, spread = 0.0, 0.0
    for some in pixels.split(64):
        shown = some.float() / 255
        left += float(detector(shown).extras["residual"].square().sum())
        x = detector.normalised(shown)
        spread += float((x - x.mean((0, 2, 3), keepdim=True)).square().sum())
    return left / spread


def numbers(detector: FedForgery, held: Sequence[EvalFace]) -> dict[str, float]:
    """All that is measured of a trained arm on held-out faces."""
    logits = score(detector, held)
    measures: dict[str, float] = {}
    for name, families in {"hybrid": FAMILIES, **{family: (family,) for family in FAMILIES}}.items():
        measures[f"AUC {name}"], measures[f"accuracy {name}"] = measured(held, logits, families)
    if detector.autoencoder is not None:
        measures["residual energy"] = unexplained(detector, held)
    return measures


def section(root: Path) -> str:
    """The experiment's part of the results page."""
    record = read_record(root, "fedforgery/residual")
    settings, rows = record["settings"], record["rows"]
    tested = [row for row in rows if row["split"] == "test"]
    whole = [row for row in tested if not row["without"]]
    trained = [row for row in whole if row["arm"] != PLAIN]
    unseen = [
        row | {f"{name} unseen": row[f"{name} {row['without']}"] for name in ("AUC", "accuracy")}
        for row in tested
        if row["without"]
    ]
    left_out = ", ".join(row["without"] for row in unseen if row["arm"] == PLAIN)
    rates = "; ".join(f"{arm}: {best_rate(rows, arm):g}" for arm in ARMS)
    tried = ", ".join(f"{rate:g}" for rate in RATES)
    both = ["AUC hybrid", "accuracy hybrid"]
    return f"""## FedForgery: classifying the residual of an auto-encoder

The residual model against the same classifier on the picture, on pooled data: {settings["backbone"]} from random
weights, {settings["size"]} px, {settings["steps"]} steps of 16 pairs. Five families of local artifacts are made on real
faces, within a face mask and at the size that the network sees: face swaps, a transposed convolution's checkerboard
(which takes away fine detail as well), over-smoothing, noise, few colour levels. Test subjects appear in no training
picture; accuracy is at logit 0 and counts reals and forged ones for a half each. Every arm has the learning rate that
did best on the validation split with {len(TUNING)} other seeds ({rates}), of {tried}. In brackets: the difference from
a table's first arm, seed by seed, with its 95 % interval. The runs are short: what is compared is what is learnt in
that time.

{paired_table(whole, both, PLAIN)}

{paired_table(whole, [f"AUC {family}" for family in FAMILIES], PLAIN)}

Whether the reconstruction's term matters: the same runs against the full loss. "Residual energy" is the mean square of
x - G(x) on real faces as a share of their pixels' variance.

{paired_table(trained, [*both, "residual energy"], RESIDUAL)}

Trained without one family and asked about it, another family for each seed ({left_out}):

{paired_table(unseen, ["AUC unseen", "accuracy unseen"], PLAIN)}

What an arm costs:

{paired_table(whole, ["million parameters", "CPU seconds"], PLAIN)}
"""


def best_rate(rows: Sequence[Mapping[str, Any]], arm: str) -> float:
    """The learning rate with the highest mean AUC on the validation split."""
    by_rate = {
        rate: [row["AUC hybrid"] for row in rows if row["split"] == "val" and row["arm"] == arm and row["rate"] == rate]
        for rate in RATES
    }
    return max(RATES, key=lambda rate: float(np.mean(by_rate[rate])))


def fill(
    chosen: argparse.Namespace,
    record: Record,
    faces: Sequence[StoredFace],
    others: Sequence[StoredFace],
    wanted: Sequence[dict[str, Any]],
) -> None:
    """Train on some faces and measure on others what the record lacks of some rows of one seed."""
    lacking = [row for row in wanted if not record.has(**row)]
    if not lacking:
        return
    seed = lacking[0]["seed"]
    pool = make_pool(faces, kinds_of(faces), chosen.pairs, chosen.size, seed)
    held = make_held(others, kinds_of(others), chosen.size, seed)
    for row in lacking:
        arm, without = row["arm"], row["without"]
        name = f"{seed}-{list(ARMS).index(arm)}-{row['rate']:g}-{without or 'all'}"
        config = config_for(
            "fedforgery",
            chosen.size,
            pool,
            chosen.steps,
            seed,
            options={"backbone": chosen.backbone, **MODEL, **ARMS[arm]},
            learning_rate=row["rate"],
            without=(without,) if without else (),
        )
        folder = chosen.runs / "fedforgery-residual" / name
        fresh, began = not folder.exists(), time.process_time()
        detector = train(build(arm, chosen.backbone, seed), pool, folder, config)
        assert isinstance(detector, FedForgery)
        # Of a run that was taken up again only a part is known.
        cost = {"CPU seconds": time.process_time() - began} if fresh else {}
        size = sum(parameter.numel() for parameter in detector.parameters()) / 1e6
        record.add(**row, **numbers(detector, held), **{"million parameters": size}, **cost)


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--size", type=int, default=64)
    options.add_argument("--backbone", default="test_resnet", help="timm's name of the classifier")
    options.add_argument("--faces", type=int, default=500, help="real faces of each source to train on, at most")
    options.add_argument("--held-faces", type=int, default=100, help="of each source to measure on, at most")
    options.add_argument("--pairs", type=int, default=3000)
    options.set_defaults(seeds=5, steps=300)
    chosen = options.parse_args()
    one_thread()
    faces = reals(chosen.data, chosen.work, "train", SOURCES, chosen.size, chosen.faces)
    val, test = (
        reals(chosen.data, chosen.work, split, SOURCES, chosen.size, chosen.held_faces) for split in ("val", "test")
    )
    settings = settings_of(chosen, model=MODEL, arms=ARMS, rates=RATES, tuning_seeds=TUNING)
    record = Record(chosen.record, settings, data_hash([*faces, *val, *test]))
    for seed in TUNING:
        tries = [
            {"split": "val", "arm": arm, "seed": seed, "without": "", "rate": rate} for arm in ARMS for rate in RATES
        ]
        fill(chosen, record, faces, val, tries)
    rates = {arm: best_rate(record.content["rows"], arm) for arm in ARMS}
    for seed in range(chosen.seeds):
        left_out = FAMILIES[seed % len(FAMILIES)]
        runs = [(arm, "") for arm in ARMS] + [(PLAIN, left_out), (RESIDUAL, left_out)]
        rows = [
            {"split": "test", "arm": arm, "seed": seed, "without": without, "rate": rates[arm]} for arm, without in runs
        ]
        fill(chosen, record, faces, test, rows)


if __name__ == "__main__":
    main()
