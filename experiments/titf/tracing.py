"""Policies, noise, stated and real errors, absent people, dependence, core sets: tracing under one protocol.

    python experiments/titf/tracing.py experiments/titf/policies.json --about policies --seeds 5
    python experiments/titf/tracing.py experiments/titf/errors.json --about errors --seeds 5
    python experiments/titf/tracing.py experiments/titf/absent.json --about absent --seeds 5

Every seed makes a register of its own (tit1000 unless a line says so), from which people are drawn and held out. The
same people give the same answers to all arms of a setting. An arm that the record holds is not run again.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import Record
from titf.rivals import RIVALS

from unmask.tracing.inference.conclusion import StopRule
from unmask.tracing.registers.memory import coded
from unmask.tracing.simulation.synthetic import RegisterSpec, dictionary_of, table_of
from unmask.tracing.simulation.trials import AnswerNoise, Trial, benchmark_of, run, summary
from unmask.tracing.tools.audit import audit, exact_core, greedy_core

CLUSTERS, INSIDE = 4, 8
RIGHT, RULE = AnswerNoise(), StopRule()


@dataclass(frozen=True)
class Setting:
    """What an arm is run in. The names are those of the records: a record of other settings is refused.

    Attributes:
        recipe: of the register; its seed is the arm's. None: `clustered`.
        stated: error that the data dictionary states; missing: share of answers that are not to be had.
        world: how people really answer.
        absent: prior that the person is not in the register.
        absentees: "independent" or "tree".
        rule: when to stop.
    """

    recipe: RegisterSpec | None
    stated: float = 0.05
    world: AnswerNoise = RIGHT
    absent: float = 0.2
    absentees: str = "tree"
    rule: StopRule = RULE
    targets: int = 200
    held_out: int = 200


PLAIN = RegisterSpec(twins=0.0, missing=0.0)
EXACT = Setting(PLAIN, stated=1e-6, world=AnswerNoise(error=0.0), absent=0.0, held_out=0)
NOISES = {
    "5 % wrong": Setting(PLAIN),
    "10 % wrong, 30 % not to be had": Setting(PLAIN, stated=0.1, world=AnswerNoise(missing=0.3)),
}
POLICIES = ("info_gain", "ec2", "two_step", "static", "random")


Arm = tuple[str, str, Setting, str]  # table, arm, setting, policy or rival


def policies() -> Iterator[Arm]:
    """Ways to ask, and what is held against asking."""
    for policy in POLICIES:
        yield "exact", policy, EXACT, policy
        yield "clusters", policy, replace(EXACT, recipe=None), policy
    for noise, setting in NOISES.items():
        for policy in (*POLICIES, *RIVALS):
            yield noise, policy, setting, policy
        yield noise, "info_gain, robust", replace(setting, rule=StopRule(robust=True)), "info_gain"


def errors() -> Iterator[Arm]:
    """Wrong and missing answers, as stated or not, and lies."""
    for error in (0.0, 0.05, 0.1, 0.2):
        for missing in (0.0, 0.2, 0.4):
            # Never an error of 0: with 1,000 trials behind it, 1 / 1002 is what may be stated.
            stated = error or 0.001
            setting = Setting(PLAIN, stated, AnswerNoise(error=1.0 if error else 0.0, missing=missing))
            yield "sweep", f"{100 * error:.0f} % wrong, {100 * missing:.0f} % not to be had", setting, "info_gain"
    for factor in (0.5, 1.0, 2.0):
        for stated in (0.05, 0.1):
            arm = f"stated {100 * stated:.0f} %, really {100 * stated * factor:g} %"
            yield "misspecified", arm, Setting(PLAIN, stated, AnswerNoise(error=factor)), "info_gain"
            robust = Setting(PLAIN, stated, AnswerNoise(error=factor), rule=StopRule(robust=True))
            yield "misspecified", f"{arm}, robust", robust, "info_gain"
    for lies in (0, 1, 2):
        for robustly in (False, True):
            setting = Setting(PLAIN, world=AnswerNoise(adversarial=lies), rule=StopRule(robust=robustly))
            yield "lies", f"{lies} lies" + (", robust" if robustly else ""), setting, "info_gain"


def absent() -> Iterator[Arm]:
    """People who are not in the register, who look like others, and registers of other sizes."""
    for dependence in (0.0, 0.5, 1.0, 2.0):
        recipe = replace(PLAIN, dependence=dependence)
        for arm, setting in {
            "no such hypothesis": Setting(recipe, absent=0.0),
            "prior 0.2, independent": Setting(recipe, absentees="independent"),
            "prior 0.2, tree": Setting(recipe),
            "prior 0.2, tree, robust": Setting(recipe, rule=StopRule(robust=True)),
        }.items():
            yield f"absent, dependence {dependence:g}", arm, setting, "info_gain"
    for twins in (0.0, 0.02, 0.2):
        yield "twins", f"{100 * twins:.0f} % near-twins", Setting(replace(PLAIN, twins=twins)), "info_gain"
    for records in (100, 1_000, 10_000, 100_000):
        recipe = replace(PLAIN, records=records)
        people = {100: 25, 100_000: 50}.get(records, 200)
        setting = Setting(recipe, targets=people, held_out=people)
        yield "size", f"{records:,} records", setting, "info_gain"


ABOUT = {"policies": policies, "errors": errors, "absent": absent}


def clustered(seed: int) -> tuple[pa.Table, Any]:
    """1000 records of 20 bits: two say the cluster, eight others, of its own, tell its records apart; the rest is 0."""
    randomness = np.random.default_rng(seed)
    codes = np.zeros((1000, 20), int)
    for cluster in range(CLUSTERS):
        rows = slice(250 * cluster, 250 * (cluster + 1))
        codes[rows, 0], codes[rows, 1] = cluster >> 1, cluster & 1
        own = 2 + randomness.choice(18, INSIDE, replace=False)
        numbers = randomness.permutation(1 << INSIDE)[:250]
        codes[rows, own] = numbers[:, None] >> np.arange(INSIDE) & 1
    names = [f"b{place}" for place in range(20)]
    order = randomness.permutation(1000)
    columns = {name: [str(bit) for bit in column] for name, column in zip(names, codes[order].T, strict=True)}
    dictionary = dictionary_of(RegisterSpec(cardinalities=(2,) * 20))
    attributes = dict(zip(names, dictionary.attributes.values(), strict=True))
    table = pa.table({"id": [f"p{number}" for number in range(1000)], **columns})
    return table, dictionary.model_copy(update={"attributes": attributes})


def benchmark(setting: Setting, seed: int) -> Any:
    """The register and its people."""
    if setting.recipe is None:
        table, dictionary = clustered(seed)
    else:
        recipe = replace(setting.recipe, seed=seed)
        table, dictionary = table_of(recipe), dictionary_of(recipe)
    attributes = {name: one.model_copy(update={"error": setting.stated}) for name, one in dictionary.attributes.items()}
    changed = {"attributes": attributes, "absent": setting.absent, "absentees": setting.absent_model}
    believed = dictionary.model_copy(update=changed)
    return benchmark_of(table, believed, setting.targets, setting.held_out, setting.world, seed)


def traced(setting: Setting, policy: str, seed: int) -> list[Trial]:
    """What came of everybody."""
    made = benchmark(setting, seed)
    if policy in RIVALS:
        return RIVALS[policy](made, setting.world, seed)
    return run(made, policy, setting.rule, setting.world, seed)  # type: ignore[arg-type]


def figures(trials: list[Trial], setting: Setting) -> dict[str, float]:
    """A row's numbers."""
    line = summary(trials, setting.absent)
    shares = ("top1", "decided", "right_if_decided", "false_identified", "found_absent", "missed")
    row = {name: getattr(line, name)[0] for name in shares if getattr(line, name) is not None}
    more = ("answers", "cost", "core", "entropy_area", "calibration_error")
    row |= {name: getattr(line, name) for name in more if getattr(line, name) is not None}
    decided = [trial for trial in trials if trial.row >= 0 and trial.status == "identified"]
    if decided:
        row["confidence"] = float(np.mean([trial.probability for trial in decided]))
        row["overconfidence"] = row["confidence"] - row["right_if_decided"]
    return row


def cores(seed: int) -> dict[str, float]:
    """Core sets of exact values: the least, greedy in hindsight, and what an adaptive run asked for."""
    recipe = replace(PLAIN, seed=seed)
    register = coded(table_of(recipe), dictionary_of(recipe), "cores")
    rows = np.random.default_rng(seed).choice(register.size, 200, replace=False).tolist()
    least = [len(exact_core(register, row) or ()) for row in rows]
    greedy = [len(greedy_core(register, row) or ()) for row in rows]
    asked = [trial.asked for trial in traced(EXACT, "info_gain", seed)]
    audited = audit(register, depth=3)
    return {
        "least": float(np.mean(least)),
        "greedy": float(np.mean(greedy)),
        "greedy as small": float(np.mean([one == other for one, other in zip(least, greedy, strict=True)])),
        "asked": float(np.mean(asked)),
        "unique on some 2": audited.sizes[1].anyhow,
        "unique on some 3": audited.sizes[2].anyhow,
        "unique on the best 3": audited.sizes[2].best_share,
        "attributes that tell as much as all": float(len(audited.core)),
    }


def main() -> None:
    """Run what the record lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write; arms that it holds are not run again")
    parser.add_argument("--about", choices=ABOUT, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    arms = list(ABOUT[chosen.about]())
    settings = {f"{table}: {arm}": asdict(setting) for table, arm, setting, _ in arms}
    record = Record(
        chosen.record, settings, "synthetic: made from the seed of each row", ("scipy", "pyarrow", "splink")
    )
    for seed in range(chosen.seeds):
        if chosen.about == "policies" and not record.has(table="cores", seed=seed):
            record.add(table="cores", arm="cores", seed=seed, **cores(seed))
        for table, arm, setting, policy in arms:
            if not record.has(table=table, arm=arm, seed=seed):
                record.add(table=table, arm=arm, seed=seed, **figures(traced(setting, policy, seed), setting))


if __name__ == "__main__":
    main()
