"""Adv-Diffusion against pixel and patch attacks: transfer to a recogniser that was not asked, and how visible it is.

Faces: research volunteers (American Multiracial Faces Database, Face Research Lab London) of the splits "cal" and
"test", which the generator never saw; every one is to be taken for another one. Of every seed the pairs and all noise
are drawn anew. The victim is FaceNet, which is asked for nothing; surrogates are SFace, MobileFaceNet and dlib's ResNet
together, as many as an arm says. Thresholds: a false-match rate of 1 % on volunteers of the other splits.

Rules, written before the run:

- What counts is the held-out victim: the share of pairs that it takes for one person and did not before, and the gain
  of its cosine over the clean picture's, mean over pairs. Every number comes from the 8-bit picture.
- At matched success: every attack's stealth is read off, linearly between its strengths, where its gain is half of the
  largest gain that adv-diffusion reaches with three surrogates; at its least strength where that has more already. An
  attack that never reaches it has a dash.
- A claim holds if the 95 % interval of the paired difference over seeds (Student's t) lies on its side of zero:
  adv-diffusion transfers better than mi-fgsm at its largest strength; adaptive strength has a higher SSIM than constant
  strength at matched success; three surrogates gain more than one; compositing lowers the gain.
- Strengths were fixed beforehand; nothing is chosen on these pairs.

    python experiments/adv_diffusion/transfer.py experiments/adv_diffusion/transfer.json --data DATA \
      --generator PACK --work runs/adv
"""

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Record, one_thread, paired, paired_table, parser, read_record, settings_of
from torch import Tensor

from unmask.datasets.layouts.collection import load_collection
from unmask.lab.metrics import auc, seed_interval
from unmask.lab.realism import FeatureNetwork, kernel_distance
from unmask.networks.victims.recognisers import RECOGNISERS
from unmask.packs import load_pack
from unmask.redteam.attacks import ATTACKS
from unmask.redteam.attacks.adv_diffusion import AdvDiffusion, Inpainting, Painter
from unmask.redteam.attacks.contract import Attack, Budget
from unmask.redteam.campaign import DETECTOR, Judge
from unmask.redteam.generators import make_painter
from unmask.redteam.measures import psnr, structural_similarity
from unmask.redteam.sources import Face, SourceRow, find_faces
from unmask.redteam.thresholds import threshold_at_rate
from unmask.redteam.victims import OTHER, SAME, Inputs, Model, RecogniserVictim, Victim, pixels, two_sided
from unmask.tables import markdown

VOLUNTEERS = ("real_amfd", "real_frll")
VICTIM, SURROGATES = "facenet", ("sface", "mobilefacenet", "dlib")
RATE = 0.01
GUIDANCE = (50.0, 150.0, 450.0)
CONSTANT = (10.0, 30.0, 90.0)  # about as much in all: adaptive strength sums the noise of all steps
LEVELS = (4 / 255, 8 / 255, 16 / 255)
SHARES = (0.05, 0.1, 0.2)
ADV, FLOOR, PIXEL, PATCH = "adv-diffusion", "inpainting", "mi-fgsm", "patch"


@dataclass(frozen=True)
class Arm:
    """One attack at its strengths, with some of the surrogates."""

    attack: str
    strengths: tuple[float, ...]
    surrogates: int = 3
    adaptive: bool = True
    composited: bool = False


ARMS = {
    ADV: Arm(ADV, GUIDANCE),
    "constant strength": Arm(ADV, CONSTANT, adaptive=False),
    "composited": Arm(ADV, GUIDANCE, composited=True),
    "one surrogate": Arm(ADV, GUIDANCE[-1:], 1),
    "two surrogates": Arm(ADV, GUIDANCE[-1:], 2),
    FLOOR: Arm(FLOOR, (1.0,)),
    PIXEL: Arm(PIXEL, LEVELS),
    "di-fgsm": Arm("di-fgsm", LEVELS[-1:]),
    "pgd": Arm("pgd", LEVELS[-1:]),
    PATCH: Arm(PATCH, SHARES),
}


class Ensemble(Victim):
    """Several recognisers as one: the mean of their cosines, each less its threshold."""

    def __init__(self, members: Sequence[Victim]) -> None:
        self._members, self.name = members, "+".join(one.name for one in members)

    def bind(self, inputs: Inputs) -> Model:
        """The mean of the members' differences of logits."""
        models = [one.bind(inputs) for one in self._members]

        def model(x: Tensor, rows: Tensor) -> Tensor:
            logits = torch.stack([model(x, rows) for model in models]).mean(0)
            return two_sided(logits[:, SAME] - logits[:, OTHER])

        return model


def faces_of(data: Path, splits: Sequence[str], most: int) -> list[Face]:
    """Volunteers' faces as a campaign crops them, one picture of each person."""
    people: dict[str, SourceRow] = {}
    for sample in load_collection(data):
        if sample.source in VOLUNTEERS and sample.split in splits:
            row = SourceRow(Path(sample.path), Path(sample.path).name, sample.subject, "yes", "", "")
            people.setdefault(sample.subject, row)
    card = load_pack(DETECTOR).card
    assert card.crop_margin is not None  # a forgery detector's card is not complete without
    rows = sorted(people.values(), key=lambda row: hashlib.sha256(row.subject.encode()).digest())[:most]
    return find_faces(rows, card.input_size[0], card.crop_margin)[0]


def pairs_of(faces: Sequence[Face], count: int, seed: int) -> tuple[Inputs, list[str]]:
    """Sources that are to be taken for the next person in an order drawn from the seed, and whose they are."""
    order = np.random.default_rng(seed).permutation(len(faces))[: count + 1]
    sources, targets = [faces[row] for row in order[:-1]], [faces[row] for row in order[1:]]
    inputs = Inputs(
        torch.stack([face.picture for face in sources]),
        torch.full((count,), OTHER),
        torch.full((count,), SAME),
        np.stack([face.landmarks for face in sources]),
        np.stack([face.matrix for face in sources]),
        torch.stack([face.picture for face in targets]),
        np.stack([face.matrix for face in targets]),
    )
    return inputs, [face.subject for face in sources]


def victims_of(faces: Sequence[Face]) -> dict[str, RecogniserVictim]:
    """All recognisers, with thresholds on faces that are not attacked."""
    victims = {}
    pictures, matrices = torch.stack([face.picture for face in faces]), np.stack([face.matrix for face in faces])
    for name in (VICTIM, *SURROGATES):
        network = RECOGNISERS.load(name)().eval()
        with torch.no_grad():
            vectors = torch.cat(
                [network(pixels(pictures[rows]), matrices[rows.numpy()]) for rows in torch.arange(len(faces)).split(8)]
            )
        threshold = threshold_at_rate(vectors.numpy(), [face.subject for face in faces], RATE)
        victims[name] = RecogniserVictim(network, name, threshold.value)
    return victims


def attack_of(arm: Arm, painter: Painter, surrogates: Sequence[Victim]) -> Attack:
    """The attack of an arm."""
    if arm.attack == ADV:
        return AdvDiffusion(painter, surrogates, arm.adaptive, arm.composited)
    return Inpainting(painter) if arm.attack == FLOOR else ATTACKS.load(arm.attack)()


def measured(
    inputs: Inputs,
    pictures: Tensor,
    victims: Mapping[str, RecogniserVictim],
    judge: Judge,
    features: FeatureNetwork,
) -> dict[str, Any]:
    """What attacked pictures uint8 (B, 3, S, S) are worth."""
    attacked = Inputs(**{**vars(inputs), "pictures": pictures})
    numbers: dict[str, Any] = {}
    for name, victim in victims.items():
        before, after = (victim.logits(some) for some in (inputs, attacked))
        open_ = (before[:, SAME] <= before[:, OTHER]).numpy()
        fooled = (after[:, SAME] > after[:, OTHER]).numpy() & open_
        role = "victim" if name == VICTIM else name
        numbers[f"success {role}"] = float(fooled.sum() / max(open_.sum(), 1))
        numbers[f"gain {role}"] = float((victim.cosines(after) - victim.cosines(before)).mean())
    seen = [judge(some) for some in (inputs.pictures, pictures)]
    scores = np.array([one["noticed"] for part in seen for one in part])
    return {
        **numbers,
        "psnr": float(psnr(inputs.pictures, pictures).clamp(max=99).mean()),
        "ssim": float(structural_similarity(inputs.pictures, pictures).mean()),
        "kid": kernel_distance(features(inputs.pictures), features(pictures)),
        "noticed": auc(np.repeat([0, 1], len(pictures)), scores),
        "called forged": float(np.mean([one["forged"] for one in seen[1]])),
        "face": float(np.mean([one["face"] for one in seen[1]])),
    }


def main() -> None:
    options = parser(__doc__ or "")
    options.set_defaults(steps=10)
    options.add_argument("--pairs", type=int, default=5, help="pairs of every seed")
    options.add_argument("--generator", default="inpainting", help="pack or folder that paints")
    chosen = options.parse_args()
    one_thread()
    held = faces_of(chosen.data, ("cal", "test"), 10**6)
    others = faces_of(chosen.data, ("train", "val"), 80)
    victims = victims_of(others)
    weights = chosen.data / "weights"
    painter = make_painter(chosen.generator, weights / "taef2", weights)
    judge, features = Judge(), FeatureNetwork()
    digest = hashlib.sha256("\n".join(sorted(face.digest for face in (*held, *others))).encode()).hexdigest()
    record = Record(chosen.record, settings(chosen, victims), digest, ("diffusers",))
    for seed in range(chosen.seeds):
        inputs, _ = pairs_of(held, chosen.pairs, seed)
        for name, arm in ARMS.items():
            # Which of the surrogates is asked alone changes with the seed.
            asked = [victims[SURROGATES[(seed + place) % len(SURROGATES)]] for place in range(arm.surrogates)]
            attack = attack_of(arm, painter, asked)
            for strength in arm.strengths:
                if record.has(arm=name, seed=seed, strength=round(strength, 5)):
                    continue
                source = victims[VICTIM] if arm.attack in (ADV, FLOOR) else Ensemble(asked)
                result = attack.run(source, inputs, Budget(strength, chosen.steps), seed)
                numbers = measured(inputs, result.pictures, victims, judge, features)
                record.add(arm=name, seed=seed, strength=strength, **numbers)


def settings(chosen: argparse.Namespace, victims: Mapping[str, RecogniserVictim]) -> dict[str, Any]:
    """What decides the outcome."""
    pack = load_pack(chosen.generator)
    thresholds = {name: round(victim.threshold, 4) for name, victim in victims.items()}
    arms = {name: vars(arm) for name, arm in ARMS.items()}
    settings = settings_of(chosen, arms=arms, thresholds=thresholds, rate=RATE)
    return {**settings, "generator": [pack.card.name, pack.card.version, pack.card.sha256]}


STEALTH = ("psnr", "ssim", "kid", "noticed")
TEXT = """## Adv-Diffusion against pixel and patch attacks

{pairs} pairs of volunteers a seed, {seeds} seeds, {steps} steps; the victim, {victim}, is asked for nothing.
Surrogates: {surrogates}. The rules stand in `experiments/adv_diffusion/transfer.py` and were written before the run.
"Success" is the share of pairs that the victim takes for one person and did not before, "gain" how much its cosine
rose; with the difference from adv-diffusion at the largest strength and its 95 % interval over seeds.
"""
MATCHED = """
At matched success, a gain of {gain:.3f} (half of what adv-diffusion reaches); stealth with 95 % intervals over seeds:
"""


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "adv_diffusion/transfer")
    rows, chosen = record["rows"], record["settings"]
    largest = [max(same, key=lambda row: row["strength"]) for same in _groups(rows)]
    wanted = np.mean([row["gain victim"] for row in largest if row["arm"] == ADV]) / 2
    text = TEXT.format(
        pairs=chosen["pairs"],
        seeds=len({row["seed"] for row in rows}),
        steps=chosen["steps"],
        victim=VICTIM,
        surrogates=", ".join(SURROGATES),
    )
    tables = [paired_table(largest, ("success victim", "gain victim", "face", "called forged"), ADV)]
    tables += [paired_table(largest, STEALTH, ADV)]
    seeds = sorted({row["seed"] for row in rows})
    matched = {
        arm: [
            _matched([row for row in rows if (row["arm"], row["seed"]) == (arm, seed)], float(wanted)) for seed in seeds
        ]
        for arm in ARMS
    }
    lines = []
    for arm, values in matched.items():
        known = [value for value in values if value is not None]
        cells = ["–"] * len(STEALTH)
        if len(known) == len(seeds):
            each = [seed_interval([value[place] for value in known]) for place in range(len(STEALTH))]
            cells = ["{:.3f} [{:.3f}, {:.3f}]".format(*one) for one in each]
        lines.append([arm, *cells])
    table = markdown(("arm", *STEALTH), lines)
    return (
        f"{text}\n{tables[0]}\n\n{tables[1]}\n{MATCHED.format(gain=wanted)}\n{table}\n\n{_outcomes(largest, matched)}"
    )


def _outcomes(largest: Sequence[Mapping[str, Any]], matched: Mapping[str, Sequence[list[float] | None]]) -> str:
    """What the rules say, of the rows at the largest strength and the stealth at matched success."""

    def against(arm: str) -> tuple[float, float, float]:
        """Adv-diffusion's gain less that of an arm."""
        (one,) = [one for one in paired(largest, "gain victim", arm) if one.arm == ADV]
        assert one.difference is not None
        return one.difference

    place = STEALTH.index("ssim")
    pairs = zip(matched[ADV], matched["constant strength"], strict=True)
    ssim = [one[place] - other[place] for one, other in pairs if one is not None and other is not None]
    claims = {
        "transfers better than mi-fgsm": against(PIXEL),
        "three surrogates gain more than one": against("one surrogate"),
        "compositing lowers the gain": against("composited"),
        "adaptive strength has a higher SSIM than constant strength at matched success": seed_interval(ssim),
    }
    lines = [
        f"- {claim[0].upper()}{claim[1:]}: {'yes' if low > 0 else 'not seen'} ({mean:+.3f} [{low:+.3f}, {high:+.3f}])."
        for claim, (mean, low, high) in claims.items()
    ]
    return "\n".join(lines) + "\n"


def _groups(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    keys = dict.fromkeys((row["arm"], row["seed"]) for row in rows)
    return [[row for row in rows if (row["arm"], row["seed"]) == key] for key in keys]


def _matched(rows: Sequence[Mapping[str, Any]], gain: float) -> list[float] | None:
    """Stealth where the gain first is as much, between two strengths; of the first where it is more; None if never."""
    before: Mapping[str, Any] | None = None
    for row in sorted(rows, key=lambda row: row["strength"]):
        if row["gain victim"] >= gain:
            last = before or row
            rise = row["gain victim"] - last["gain victim"]
            share = (gain - last["gain victim"]) / rise if rise else 1.0
            return [last[name] + share * (row[name] - last[name]) for name in STEALTH]
        before = row
    return None


if __name__ == "__main__":
    main()
