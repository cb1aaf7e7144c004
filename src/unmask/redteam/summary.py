"""What a campaign's records amount to: curves with intervals, worst cases, transfer, stealth, whether it is noticed."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unmask.lab.metrics import auc, interval, mean_interval
from unmask.lab.realism import FeatureNetwork, kernel_distance
from unmask.packs.strength import WORST
from unmask.redteam.attacks import ATTACKS
from unmask.redteam.campaign import CLEAN, Plan, Record, decode
from unmask.redteam.measures import LPIPS_MISSING, Lpips

_DRAWS = 500
WORST_BLACK_BOX = "worst without gradients"
"""What the curve over attacks without gradients is called, where others were tried too; that over all is `WORST`."""
Summary = dict[str, Any]


def summarise(
    plan: Plan,
    records: Sequence[Record],
    folder: Path,
    features: Callable[[torch.Tensor], np.ndarray] | None = None,
    lpips: Lpips | None = None,
) -> Summary:
    """The numbers of a campaign, ready for JSON.

    Args:
        plan: the campaign.
        records: of `campaign.run`, complete.
        folder: of the campaign, where the pictures are read from again.
        features: for KID; None leaves it out, for want of the network's weights.
        lpips: None leaves it out likewise.
    """
    clean = {(r["goal"], r["name"]): r for r in records if r["attack"] == CLEAN}
    attacked = [r for r in records if r["attack"] != CLEAN]
    tried = [r for r in attacked if r["victim"] == plan.target and r["attack"] in plan.attacks]
    return {
        "kind": plan.kind,
        "target": plan.target,
        "people": len({r["subject"] for r in clean.values()}),
        "clean": [_clean_row(plan, goal.name, clean) for goal in plan.goals],
        "curves": _curves(plan, tried, clean),
        "queries": _query_curves(plan, tried, clean),
        "auc": _aucs(plan, tried, clean),
        "transfer": _transfer(plan, attacked, clean),
        "stealth": _stealth(plan, tried, folder, features, lpips),
        "noticed": _noticed(tried, clean),
        "identity": _identity(plan, tried),
        "remarks": _remarks(plan, features, lpips),
        "settings": plan.settings(),
    }


def _clean_row(plan: Plan, goal: str, clean: dict[tuple[str, str], Record]) -> Summary:
    rows = [r for (of, _), r in clean.items() if of == goal]
    return {
        "goal": goal,
        "pictures": len(rows),
        "subjects": len({r["subject"] for r in rows}),
        "already": {name: _mean([r["answers"][name] for r in rows]) for name in plan.victims},
    }


def _of(records: Iterable[Record], **fields: Any) -> list[Record]:
    return [r for r in records if all(r[name] == value for name, value in fields.items())]


def _open(records: Sequence[Record], clean: dict[tuple[str, str], Record], victim: str) -> list[Record]:
    """Those of pictures to which the victim did not give the wanted answer before."""
    return [r for r in records if not clean[r["goal"], r["name"]]["answers"][victim]]


def _rate(values: Sequence[bool], subjects: Sequence[str]) -> Summary:
    """A share with its 95 % interval, whole people resampled; of none or all the exact one (Clopper & Pearson)."""
    if not values:
        return {"rate": None, "low": None, "high": None, "pictures": 0}
    value, low, high = mean_interval(np.asarray(values, float), subjects, _DRAWS)
    if value in (0.0, 1.0):  # samples of equal values all agree; the exact interval of as many people does not
        reach = 1 - 0.025 ** (1 / len(set(subjects)))
        low, high = (0.0, reach) if value == 0.0 else (1 - reach, 1.0)
    return {"rate": round(value, 4), "low": _round(low), "high": _round(high), "pictures": len(values)}


def _curves(plan: Plan, tried: Sequence[Record], clean: dict[tuple[str, str], Record]) -> list[Summary]:
    curves = []
    for goal in plan.goals:
        mine = _open(_of(tried, goal=goal.name), clean, plan.target)
        for attack in plan.attacks:
            points = [
                {"epsilon": epsilon, **_rate([r["answers"][plan.target] for r in some], [r["subject"] for r in some])}
                for epsilon in sorted({r["epsilon"] for r in mine if r["attack"] == attack})
                for some in [_of(mine, attack=attack, epsilon=epsilon)]
            ]
            norm = next((r["norm"] for r in mine if r["attack"] == attack), "linf")
            curves.append({"goal": goal.name, "attack": attack, "norm": norm, "points": points})
        for name, attacks in _together(plan).items():
            some = [r for r in _of(mine, norm="linf") if r["attack"] in attacks]
            curves.append({"goal": goal.name, "attack": name, "norm": "linf", "points": _worst(plan, some)})
    return curves


def _together(plan: Plan) -> dict[str, tuple[str, ...]]:
    """The curves over several attacks: their names, and the attacks in each."""
    blind = tuple(name for name in plan.attacks if not ATTACKS.load(name).gradients)
    return (
        {WORST: plan.attacks} if len(blind) in (0, len(plan.attacks)) else {WORST_BLACK_BOX: blind, WORST: plan.attacks}
    )


def _worst(plan: Plan, mine: Sequence[Record]) -> list[Summary]:
    """For each strength, the share of pictures on which any attack of that strength or less had success."""
    points = []
    for epsilon in sorted({r["epsilon"] for r in mine}):
        fooled: dict[str, bool] = {}
        subject: dict[str, str] = {}
        for r in mine:
            if r["epsilon"] <= epsilon:
                fooled[r["name"]] = fooled.get(r["name"], False) or r["answers"][plan.target]
                subject[r["name"]] = r["subject"]
        points.append({"epsilon": epsilon, **_rate(list(fooled.values()), list(subject.values()))})
    return points


def _query_curves(plan: Plan, tried: Sequence[Record], clean: dict[tuple[str, str], Record]) -> list[Summary]:
    """Success of black-box attacks against the questions they may ask, at the largest strength."""
    curves = []
    grid = sorted({max(1, round(plan.queries * share)) for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1)})
    for goal in plan.goals:
        for name in plan.attacks:
            some = _of(tried, goal=goal.name, attack=name)
            if ATTACKS.load(name).gradients or not any(r["queries"] for r in some):
                continue  # it needs gradients, or asks the victim nothing
            largest = max(r["epsilon"] for r in some)
            some = _open(_of(some, epsilon=largest), clean, plan.target)
            people = [r["subject"] for r in some]
            points = []
            for limit in grid:
                fooled = [r["answers"][plan.target] and r["queries"] <= limit for r in some]
                points.append({"queries": limit, **_rate(fooled, people)})
            curves.append({"goal": goal.name, "attack": name, "epsilon": largest, "points": points})
    return curves


def _aucs(plan: Plan, tried: Sequence[Record], clean: dict[tuple[str, str], Record]) -> list[Summary]:
    """Of detectors: AUC between real and forged when both are attacked, and on clean pictures."""
    if plan.kind == "recogniser":
        return []
    rows = list(clean.values())
    out = [{"attack": CLEAN, "epsilon": 0.0, **_auc(rows)}]
    for attack in plan.attacks:
        for epsilon in sorted({r["epsilon"] for r in _of(tried, attack=attack)}):
            out.append({"attack": attack, "epsilon": epsilon, **_auc(_of(tried, attack=attack, epsilon=epsilon))})
    for name, attacks in _together(plan).items():
        some = [r for r in _of(tried, norm="linf") if r["attack"] in attacks]
        for epsilon in sorted({r["epsilon"] for r in some}):
            worst: dict[tuple[str, str], Record] = {}
            for r in some:
                key = (r["goal"], r["name"])
                sign = 1 if r["label"] else -1
                if r["epsilon"] <= epsilon and (key not in worst or sign * r["score"] < sign * worst[key]["score"]):
                    worst[key] = r
            out.append({"attack": name, "epsilon": epsilon, **_auc(list(worst.values()))})
    return out


def _auc(rows: Sequence[Record]) -> Summary:
    labels, scores = np.array([r["label"] for r in rows]), np.array([r["score"] for r in rows])
    return _area(labels, scores, [r["subject"] for r in rows])


def _area(labels: np.ndarray, scores: np.ndarray, subjects: Sequence[str]) -> Summary:
    if not 0 < labels.sum() < len(labels):
        return {"auc": None, "low": None, "high": None}
    value, low, high = interval(auc, labels, scores, subjects, _DRAWS)
    return {"auc": round(value, 4), "low": _round(low), "high": _round(high)}


def _transfer(plan: Plan, attacked: Sequence[Record], clean: dict[tuple[str, str], Record]) -> Summary:
    """What the transfer attack at its largest strength on one victim does to each."""
    some = _of(attacked, attack=plan.transfer)
    largest = max((r["epsilon"] for r in some), default=0.0)
    some = _of(some, epsilon=largest)
    rows = []
    for goal in plan.goals:
        for source in plan.victims:
            mine = _of(some, victim=source, goal=goal.name)
            if not mine:
                continue
            cells = {}
            for victim in plan.victims:
                still = _open(mine, clean, victim)
                cells[victim] = _rate([r["answers"][victim] for r in still], [r["subject"] for r in still])
            rows.append({"goal": goal.name, "source": source, "cells": cells})
    norm = plan.attack(plan.transfer).norm
    return {"attack": plan.transfer, "epsilon": largest, "norm": norm, "rows": rows}


def _stealth(
    plan: Plan,
    tried: Sequence[Record],
    folder: Path,
    features: Callable[[torch.Tensor], np.ndarray] | None,
    lpips: Lpips | None,
) -> list[Summary]:
    before = None if features is None else features(torch.cat([goal.inputs.pictures for goal in plan.goals]))
    originals = {(g.name, name): one for g in plan.goals for name, one in zip(g.names, g.inputs.pictures, strict=True)}
    out = []
    for attack in plan.attacks:
        for epsilon in sorted({r["epsilon"] for r in _of(tried, attack=attack)}):
            some = _of(tried, attack=attack, epsilon=epsilon)
            distance = apart = None
            if features is not None or lpips is not None:
                read = torch.stack([decode((folder / r["picture"]).read_bytes()) for r in some])
            if features is not None and before is not None:
                distance = kernel_distance(before, features(read))
            if lpips is not None:
                clean = torch.stack([originals[r["goal"], r["name"]] for r in some])
                parts = zip(clean.split(8), read.split(8), strict=True)
                apart = _mean(torch.cat([lpips(*part) for part in parts]).tolist())
            out.append(
                {
                    "attack": attack,
                    "epsilon": epsilon,
                    "norm": some[0]["norm"],
                    "psnr": _mean([r["psnr"] for r in some if r["psnr"] is not None]),
                    "ssim": _mean([r["ssim"] for r in some]),
                    "lpips": apart,
                    "kid": None if distance is None else round(distance, 6),
                    "face": _mean([r["face"] for r in some]),
                    "forged": _mean([r["forged"] for r in some]),
                }
            )
    return out


def _noticed(tried: Sequence[Record], clean: dict[tuple[str, str], Record]) -> list[Summary]:
    """AUC of the embedded detector between pictures before and after an attack: 0.5 where it notices nothing."""
    out = []
    for attack, epsilon in dict.fromkeys((r["attack"], r["epsilon"]) for r in tried):
        some = _of(tried, attack=attack, epsilon=epsilon)
        before = [clean[r["goal"], r["name"]]["noticed"] for r in some]
        scores = np.array(before + [r["noticed"] for r in some])
        labels = np.repeat([0, 1], len(some))
        out.append({"attack": attack, "epsilon": epsilon, **_area(labels, scores, [r["subject"] for r in some] * 2)})
    return out


def _identity(plan: Plan, tried: Sequence[Record]) -> list[Summary]:
    """Cosine with what the face was before: is it still the same person?"""
    threshold = 0.0 if plan.identity is None else plan.identity[1]
    out = []
    for goal, attack, epsilon in dict.fromkeys((r["goal"], r["attack"], r["epsilon"]) for r in tried):
        values = [r["identity"] for r in _of(tried, goal=goal, attack=attack, epsilon=epsilon)]
        if values and None not in values:
            kept = _mean([value >= threshold for value in values])
            out.append({"goal": goal, "attack": attack, "epsilon": epsilon, "cosine": _mean(values), "kept": kept})
    return out


def _remarks(plan: Plan, features: Callable[[torch.Tensor], np.ndarray] | None, lpips: Lpips | None) -> list[str]:
    remarks = [
        LPIPS_MISSING if lpips is None else f"LPIPS 0.1, {lpips.name}, with the network that was given.",
        "Success is the share of the pictures to which the victim did not give the wanted answer before; it is "
        "computed from the files read back.",
        "Intervals are 95 %, people resampled.",
    ]
    if features is None:
        remarks.append("KID is not measured: the feature network's weights are not at hand.")
    else:
        remarks.append("KID is unbiased but varies much with few pictures; below 50 it ranks at most.")
    if "adv-diffusion" in plan.attacks:
        remarks.append(
            "Adv-diffusion asks other models for gradients, not the one attacked, unless it is a white box. What "
            "inpainting has without any guidance is its floor."
        )
    if plan.kind == "pack" and plan.victims[plan.target].differentiable:
        remarks.append("Gradients are those of the pack's graph in torch; what fooled it is what ONNX Runtime said.")
    elif plan.kind == "pack":
        remarks.append("A pack is attacked as a black box. Whoever has its file has gradients and can do more.")
    if not any(plan.attack(name).gradients for name in plan.attacks):
        remarks.append("No attack with gradients was tried: these rates are lower limits.")
    return remarks


def kid_features() -> Callable[[torch.Tensor], np.ndarray] | None:
    """The feature network of KID; None where its weights cannot be had."""
    from unmask.packs.assets import AssetUnavailable

    try:
        return FeatureNetwork()
    except AssetUnavailable:
        return None


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if len(values) else None


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
