"""Does a classifier see more in what a learnt auto-encoder cannot reproduce than in the picture, at equal cost?

Every arm learns four of five families of local artifacts and is asked about the one left out and about the four, for
each of the five families and each seed. The arms share the data and the classifier's first weights:

- the plain network, on the picture;
- the same for 1.83 times the steps, which then costs what the residual costs;
- a fixed high-pass for 1.83 times the steps: the same classifier on x - blur(x), nothing of it learnt. The blur is
  Gaussian of two pixels, which leaves about what an encoder of stride 4 can carry;
- the residual x - G(x);
- the residual whose loss does not ask for reconstruction, with the first seed alone and at the residual's rate.

Every arm has the learning rate that does best on the validation split (all five families, mean AUC over two seeds that
are not used again). The grid has two rates to a decade, and is extended until the best one has a worse one on each
side. The test split is looked at by runs with the chosen rates alone.

Rule, written before the runs. A pair is one family and one seed; the difference of two arms in AUC is taken pair by
pair, its 95 % interval is Student's over the fifteen pairs. The claim is said to reproduce if the interval of the AUC
on unseen families lies above 0 against both the plain network and the high-pass of equal cost; to fail if either
interval lies below 0; else it is not decided.

The number of steps was set on validation subjects by what the budget allows. In one run of 400 steps the mean loss of
the last fifth was 4 % below that of the fifth before for the plain network, 3 % at 1.83 times the steps, 6 % for the
residual, 19 % for the high-pass: that one still learnt.

    PYTHONPATH=experiments python experiments/fedforgery/residual.py experiments/fedforgery/residual.json --data DATA

Processes with an --only-arm each may run side by side and share the record.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import (
    Forge,
    Laps,
    Record,
    as_dict,
    config_for,
    data_hash,
    has_record,
    make_held,
    make_pool,
    minutes_of,
    one_thread,
    paired,
    paired_table,
    parser,
    read_record,
    reals,
    score,
    settings_of,
    train,
    without_record,
)
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from unmask.datasets.face_store import StoredFace
from unmask.forgery.detector import DetectorOutput
from unmask.forgery.fedforgery import FedForgery
from unmask.forging.blending import blend, blending_mask, pose_distance, swap_face
from unmask.forging.upsampling import Fingerprint, fingerprint
from unmask.lab.detection.held_out import EvalFace
from unmask.lab.metrics import auc

SOURCES = ("ffhq", "celebamask", "utkface")
FAMILIES = ("swap", "checkerboard", "smooth", "noise", "quantised")
PLAIN, LONGER, HIGH_PASS = "plain network", "plain network, 1.83 x steps", "fixed high-pass, 1.83 x steps"
RESIDUAL, FREE = "residual", "residual, reconstruction not asked for"
COST = 1.83  # of the residual in the plain network's steps, in CPU seconds
BLUR = 2.0  # Gaussian, in pixels


@dataclass(frozen=True)
class Arm:
    """What is trained: the method's options, for how many times the steps, on a fixed high-pass or not.

    `rate_of` is the arm whose learning rate it takes, if not its own; `seeds` how many it has, if not all.
    """

    options: dict[str, Any]
    length: float = 1.0
    high_pass: bool = False
    rate_of: str = ""
    seeds: int | None = None


ARMS = {
    PLAIN: Arm({"residual": False}),
    LONGER: Arm({"residual": False}, COST),
    HIGH_PASS: Arm({"residual": False}, COST, high_pass=True),
    RESIDUAL: Arm({}),
    FREE: Arm({"reconstruction": 0.0}, rate_of=RESIDUAL, seeds=1),
}
MODEL: dict[str, Any] = {"weights": "none", "width": 16, "codes": 64}
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # the grid
FIRST = (1e-3, 3e-3, 1e-2)  # what is tried of it in any case
TUNING = (1000, 1001)  # seeds of the choice
TITLE = "FedForgery: classifying the residual of an auto-encoder"
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


class HighPass(FedForgery):
    """The classifier on x - blur(x), a residual of which nothing is learnt; the control."""

    def _of_pictures(self, faces: Tensor) -> DetectorOutput:
        side = 2 * round(3 * BLUR) + 1
        return super()._of_pictures(faces - gaussian_blur(faces, [side, side], [BLUR, BLUR]))


def build(arm: str, backbone: str, seed: int) -> FedForgery:
    """An arm's detector; its classifier starts from the same weights as that of the others with this seed."""
    torch.manual_seed(seed)
    first = FedForgery(backbone, **MODEL, residual=False).state_dict()
    torch.manual_seed(seed)
    make = HighPass if ARMS[arm].high_pass else FedForgery
    detector = make(backbone, **{**MODEL, **ARMS[arm].options})
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


def numbers(detector: FedForgery, held: Sequence[EvalFace], without: str) -> dict[str, float]:
    """All that is measured of a trained arm on held-out faces: of all families together, or of one left out and the
    others apart, and of each."""
    logits = score(detector, held)
    groups: dict[str, Sequence[str]] = {"hybrid": FAMILIES}
    if without:
        groups = {"unseen": (without,), "seen": [family for family in FAMILIES if family != without]}
    measures: dict[str, float] = {}
    for name, families in groups.items():
        measures[f"AUC {name}"], measures[f"accuracy {name}"] = measured(held, logits, families)
    for family in FAMILIES:
        measures[f"AUC {family}"] = measured(held, logits, (family,))[0]
    if detector.autoencoder is not None:
        measures["residual energy"] = unexplained(detector, held)
    return measures


def validation_of(rows: Sequence[Mapping[str, Any]], arm: str) -> dict[float, float]:
    """By learning rate: mean AUC on the validation split, of the rates that all tuning seeds have."""
    tried: dict[float, list[float]] = {}
    for row in rows:
        if row["split"] == "val" and row["arm"] == arm:
            tried.setdefault(row["rate"], []).append(row["AUC hybrid"])
    return {rate: float(np.mean(areas)) for rate, areas in tried.items() if len(areas) == len(TUNING)}


def best_rate(rows: Sequence[Mapping[str, Any]], arm: str) -> float:
    """The learning rate that does best on the validation split."""
    tried = validation_of(rows, ARMS[arm].rate_of or arm)
    return max(tried, key=lambda rate: tried[rate])


def verdict(unseen: Sequence[Mapping[str, Any]]) -> str:
    """What the rule in this module's docstring says."""
    against = []
    for control in (LONGER, HIGH_PASS):
        one = next(one for one in paired(unseen, "AUC unseen", control) if one.arm == RESIDUAL)
        assert one.difference is not None
        against.append(one.difference)
    if all(low > 0 for _, low, _ in against):
        answer = "the claim reproduces"
    elif any(high < 0 for _, _, high in against):
        answer = "the claim does not reproduce"
    else:
        answer = "the claim is not decided"
    plain, fixed = ("{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference) for difference in against)
    return f"Residual less plain network of equal cost: {plain}; less fixed high-pass of equal cost: {fixed}: {answer}."


def section(root: Path) -> str:
    """The experiment's part of the results page."""
    rows = read_record(root, "fedforgery/residual")["rows"] if has_record(root, "fedforgery/residual") else []
    if {row["arm"] for row in rows if row["split"] == "test"} != set(ARMS):
        return without_record(TITLE)
    settings = read_record(root, "fedforgery/residual")["settings"]
    # A pair is a family and a seed.
    tested = [row | {"seed": (row["without"], row["seed"])} for row in rows if row["split"] == "test"]
    main = [row for row in tested if row["arm"] != FREE]
    trained = [row for row in tested if row["arm"] in (RESIDUAL, FREE)]
    rates = "; ".join(
        f"{arm}: {best_rate(rows, arm):g} of {', '.join(f'{rate:g}' for rate in sorted(validation_of(rows, arm)))}"
        for arm in ARMS
        if not ARMS[arm].rate_of
    )
    by_family = [
        f"Left out: {family}.\n\n"
        + paired_table([row for row in main if row["without"] == family], ["AUC unseen", "AUC seen"], LONGER)
        for family in FAMILIES
    ]
    families = "\n\n".join(by_family)
    return f"""## {TITLE}

The residual model against the same classifier on the picture and on a fixed high-pass of it, on pooled data:
{settings["backbone"]} from random weights, {settings["size"]} px, {settings["steps"]} steps of
{settings["batch_pairs"]} pairs, {COST} times as many where an arm says so: that is what the residual costs. Five
families of local artifacts are made on real faces, within a face mask and at the size that the network sees: face
swaps, a transposed convolution's checkerboard (which takes away fine detail as well), over-smoothing, noise, few colour
levels. Every run learns four of them and is asked about the one left out ("unseen") and about the four ("seen"), each
against all real test faces; test subjects appear in no training picture; accuracy is at logit 0 and counts reals and
forged ones for a half each. The high-pass is x - blur(x), Gaussian, {BLUR:g} pixels. Learning rates were chosen on the
validation split with {len(TUNING)} other seeds, from a grid that was extended until the best was inside ({rates}). In
brackets: the difference from the arm that a table compares with, over pairs of a family and a seed, with its 95 %
interval; the column "seeds" counts pairs. All of this took {minutes_of(rows)}.

Rule, written before the runs: the claim is said to reproduce if the interval of the AUC on unseen families lies above 0
against both the plain network and the high-pass of equal cost, to fail if either lies below 0. {verdict(tested)}

Against the plain network of equal cost:

{paired_table(main, ["AUC unseen", "accuracy unseen", "AUC seen"], LONGER)}

Against the fixed high-pass of equal cost:

{paired_table([row for row in main if row["arm"] != PLAIN], ["AUC unseen", "accuracy unseen", "AUC seen"], HIGH_PASS)}

{families}

Whether the reconstruction's term matters: {ARMS[FREE].seeds} seed of every family without it, at the same rate.
"Residual energy" is the mean square of x - G(x) on real faces as a share of their pixels' variance.

{paired_table(trained, ["AUC unseen", "AUC seen", "residual energy"], RESIDUAL)}

What an arm costs, in seconds of one core to train:

{paired_table(tested, ["million parameters", "seconds to train"], LONGER)}
"""


def fill(
    chosen: argparse.Namespace,
    record: Record,
    laps: Laps,
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
        arm, without = ARMS[row["arm"]], row["without"]
        name = f"{seed}-{list(ARMS).index(row['arm'])}-{row['rate']:g}-{without or 'all'}"
        config = config_for(
            "fedforgery",
            chosen.size,
            pool,
            round(arm.length * chosen.steps),
            seed,
            options={"backbone": chosen.backbone, **MODEL, **arm.options},
            learning_rate=row["rate"],
            batch_pairs=chosen.batch_pairs,
            without=(without,) if without else (),
        )
        folder = chosen.runs / "fedforgery-residual" / name
        fresh, began = not folder.exists(), time.process_time()
        detector = train(build(row["arm"], chosen.backbone, seed), pool, folder, config)
        assert isinstance(detector, FedForgery)
        # Of a run that was taken up again only a part is known.
        cost = {"seconds to train": time.process_time() - began} if fresh else {}
        size = sum(parameter.numel() for parameter in detector.parameters()) / 1e6
        record.add(**row, **numbers(detector, held, without), **{"million parameters": size}, **cost, **laps.lap())


def tune(
    chosen: argparse.Namespace,
    record: Record,
    laps: Laps,
    faces: Sequence[StoredFace],
    val: Sequence[StoredFace],
    arm: str,
) -> float:
    """The arm's learning rate; rates are tried until the best one is not at an end of those tried."""
    wanted = set(FIRST)
    while True:
        for seed in TUNING:
            tries = [{"split": "val", "arm": arm, "seed": seed, "without": "", "rate": rate} for rate in sorted(wanted)]
            fill(chosen, record, laps, faces, val, tries)
        best = RATES.index(best_rate(record.content["rows"], arm))
        beside = {RATES[place] for place in (best - 1, best + 1) if 0 <= place < len(RATES)}
        if beside <= wanted:
            return RATES[best]
        wanted |= beside


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--size", type=int, default=64)
    options.add_argument("--backbone", default="test_resnet", help="timm's name of the classifier")
    options.add_argument("--faces", type=int, default=500, help="real faces of each source to train on, at most")
    options.add_argument("--held-faces", type=int, default=100, help="of each source to measure on, at most")
    options.add_argument("--pairs", type=int, default=3000)
    options.add_argument("--batch-pairs", type=int, default=8, help="pairs in a step")
    options.add_argument("--only-arm", choices=list(ARMS), action="append", help="run these arms alone; repeatable")
    options.set_defaults(seeds=3, steps=350)
    chosen = options.parse_args()
    one_thread()
    laps = Laps()
    faces = reals(chosen.data, chosen.work, "train", SOURCES, chosen.size, chosen.faces)
    val, test = (
        reals(chosen.data, chosen.work, split, SOURCES, chosen.size, chosen.held_faces) for split in ("val", "test")
    )
    arms = {name: as_dict(arm) for name, arm in ARMS.items()}
    settings = settings_of(chosen, model=MODEL, arms=arms, rates=RATES, first=FIRST, tuning_seeds=TUNING, blur=BLUR)
    record = Record(chosen.record, settings, data_hash([*faces, *val, *test]))
    own = chosen.only_arm or list(ARMS)
    rates = {arm: tune(chosen, record, laps, faces, val, ARMS[arm].rate_of or arm) for arm in own}
    for seed in range(chosen.seeds):
        rows = [
            {"split": "test", "arm": arm, "seed": seed, "without": family, "rate": rates[arm]}
            for arm in own
            if ARMS[arm].seeds is None or seed < ARMS[arm].seeds
            for family in FAMILIES
        ]
        fill(chosen, record, laps, faces, test, rows)


if __name__ == "__main__":
    main()
