"""The task "forgery_detection": was the face forged, and where. Lab only: torch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.forgery.detector import Detector, Learner
from unmask.forgery.fusion import Fused
from unmask.lab.detection import leave_out
from unmask.lab.detection import prepare as preparing
from unmask.lab.detection.config import DetectionExport, DetectionPaths, DetectionTrainConfig
from unmask.lab.detection.evaluate import evaluate, families_of, tables
from unmask.lab.detection.export import (
    calibrate,
    calibration_shortage,
    card_facts,
    card_metrics,
    known_to,
    missed_by,
    operating_points,
)
from unmask.lab.detection.feed import Pairs
from unmask.lab.detection.held_out import CLEAN, CONDITIONS, eval_faces, make_eval_images, render, select_pairs
from unmask.lab.detection.left_out_scores import score_split
from unmask.lab.detection.prepare import DetectionPlan, DetectionPrepared, held_out_reconstructions
from unmask.lab.detection.reweighting import ReweightedPairs
from unmask.lab.detection.scoring import family_aucs, logits_of
from unmask.lab.detection.systems import EvaluatedSystem, load_fused, pack_scorer, resolve_system
from unmask.lab.metrics import auc, of_two_classes
from unmask.lab.robust.pictures import AttackedPictures, alike, as_pictures, even_rows
from unmask.lab.run import is_run
from unmask.lab.task import CardFacts, Evaluation, Measured, Measurement, Table, Task
from unmask.packs import Pack
from unmask.packs.card import Metric
from unmask.progress import Progress

_DRAWS = 400
_COMPARED = 150  # reals per source that systems are compared on


class DetectionTask(Task):
    """Detectors: trained on pairs of a real face and a forgery made of it; one logit and one map."""

    name = "forgery_detection"
    summary = "was the face forged, and where"
    network = Learner
    config = DetectionTrainConfig
    paths = DetectionPaths
    export_options = DetectionExport
    outputs = ("logit", "map")
    parity_limit = 0.1  # of the logit: more than half-precision weights cost, less than a likelihood ratio shows
    parity_limits = MappingProxyType({"map": 0.05})  # of a probability
    half_on_cpu = True

    def plan(
        self,
        paths: DetectionPaths,
        config: DetectionTrainConfig,
        before: DetectionTrainConfig | None,
        progress: Progress,
    ) -> DetectionPlan:
        """See `prepare.plan`; a calibration split that is too small for a later export is noted."""
        planned = preparing.plan(paths, config, before, progress)
        shortage = calibration_shortage([face.sample for face in planned.faces], [planned.config.families])
        if shortage:
            progress.note(f"this run can be trained, but not exported: {shortage}")
        return planned

    def prepare(self, plan: DetectionPlan, progress: Progress) -> DetectionPrepared:
        """Reconstructions, the pool of pairs, and the validation split's faces."""
        return preparing.prepare(plan, progress)

    def feed(self, prepared: DetectionPrepared) -> Pairs:
        """Pairs of the pool, reweighted if the configuration says so."""
        pairs = Pairs(prepared.pool, prepared.config, prepared.held)
        return ReweightedPairs.of(pairs) if prepared.config.reweight_sources else pairs

    def validate(self, network: Detector, prepared: DetectionPrepared, device: torch.device) -> dict[str, float]:
        """AUC by family, and between sources of reals."""
        crops = np.stack([face.crop for face in prepared.held])
        return family_aucs(prepared.held, logits_of(network, crops, device)[0])

    def generators(self, config: DetectionTrainConfig) -> tuple[str, ...]:
        """The families of the configuration."""
        return config.families

    def system(self, name: str) -> EvaluatedSystem:
        """See `systems.resolve_system`."""
        return resolve_system(name)

    def evaluate(
        self, system: EvaluatedSystem, paths: DetectionPaths, split: str, progress: Progress
    ) -> tuple[Evaluation, tuple[Table, ...]]:
        """Measure a detector on a split's reals and their forgeries, under every condition."""
        faces = paths.faces(progress)
        system.check(faces, split)
        result = evaluate(
            faces,
            split,
            system.scorer,
            system.size,
            system.margin,
            system.calibration,
            held_out_reconstructions(paths, faces, split, progress),
            progress=progress,
        )
        return result, tables(result)

    def attacked(
        self, systems: Sequence[str], paths: DetectionPaths, split: str, most: int, seed: int, progress: Progress
    ) -> AttackedPictures:
        """Real and forged crops of a split, clean, of every family that can be tested."""
        for name in systems:
            if not all(is_run(Path(part)) for part in name.split(",")):
                raise DataError(f"{name}: attacks need gradients, which a pack has not; name a run's folder")
        resolved = [resolve_system(name) for name in systems]
        networks = [load_fused([Path(part) for part in name.split(",")]) for name in systems]
        # A fused network has one logit; of a single run the network itself is attacked, with all its heads.
        attacked = [one.members[0] if len(one.members) == 1 else one for one in networks]
        alike(attacked, systems)
        system, faces = resolved[0], paths.faces(progress)
        system.check(faces, split)
        drawn = held_out_reconstructions(paths, faces, split, progress)
        families = families_of(faces, split)
        held = eval_faces(faces, split, families, CLEAN, system.size, system.margin, drawn, most=most)
        held = [face for face in held if face.label or "@" not in face.source]
        labels = np.array([face.label for face in held], np.int64)
        rows = even_rows(labels, most, seed)
        return AttackedPictures(
            *(attacked[0], as_pictures(np.stack([held[row].crop for row in rows]))),  # type: ignore[arg-type]
            torch.from_numpy(labels[rows]),
            ("real", "forged"),
            system.runs[0].get("robust", {}),
            attacked[1] if len(attacked) > 1 else None,  # type: ignore[arg-type]
            f"{len(rows)} faces of the {split} split",
        )

    def evaluate_left_out(
        self, systems: Sequence[EvaluatedSystem], by: str, paths: DetectionPaths, split: str, progress: Progress
    ) -> tuple[Evaluation, tuple[Table, ...]]:
        """See `leave_out`: forgeries by kind, family or source, and verdicts on the reals of every source."""
        what = next((name for name in get_args(leave_out.By) if name == by), None)
        if what is None:
            raise DataError(f"no {by} is left out of detectors; one of {', '.join(get_args(leave_out.By))}")
        result = leave_out.leave_one_out(score_split(systems, what, paths, split, progress), what)
        return result, leave_out.tables(result, what)

    def measurements(
        self, systems: Sequence[EvaluatedSystem], paths: DetectionPaths, split: str, progress: Progress
    ) -> list[list[Measurement]]:
        """AUC by family and condition; every detector sees the same pictures, each cropped as it was trained on."""
        faces = paths.faces(progress)
        for system in systems:
            system.check(faces, split)
        drawn = held_out_reconstructions(paths, faces, split, progress)
        pictures = make_eval_images(faces, split, families_of(faces, split), drawn, most=_COMPARED)
        families = list(dict.fromkeys(picture.family for picture in pictures if picture.family != "real"))
        measured: list[list[Measurement]] = [[] for _ in systems]
        done, everything = 0, len(CONDITIONS) * len(systems)
        for condition in CONDITIONS:
            for size, margin in dict.fromkeys((one.size, one.margin) for one in systems):
                held = render(pictures, condition, size, margin)
                crops, place = np.stack([face.crop for face in held]), {id(face): row for row, face in enumerate(held)}
                for system, own in zip(systems, measured, strict=True):
                    if (system.size, system.margin) != (size, margin):
                        continue
                    logits = system.scorer(crops)[0]
                    done += 1
                    progress.update("scoring", done, everything, f"{condition}, {system.name}")
                    for name in families:
                        some = select_pairs(name, held)
                        rows = [place[id(face)] for face in some]
                        labels = np.array([face.label for face in some])
                        if len(set(labels.tolist())) == 2:
                            own.append(
                                Measurement(
                                    "auc",
                                    name,
                                    condition,
                                    tuple(map(str, rows)),
                                    tuple(face.subject for face in some),
                                    labels,
                                    of_two_classes(auc, labels, logits[rows]),
                                    _DRAWS,
                                )
                            )
        return measured

    def check_export(
        self,
        runs: Sequence[Path],
        configs: Sequence[DetectionTrainConfig],
        paths: DetectionPaths,
        options: DetectionExport,
    ) -> None:
        """Refuse runs that cannot be fused or calibrated, and data with too few faces to calibrate on."""
        if len({config.size for config in configs}) > 1 or len({config.margin for config in configs}) > 1:
            raise DataError("runs that see faces at different sizes or margins cannot be fused; export them one by one")
        for folders in options.folders():
            if len(folders) != len(runs):
                raise DataError(
                    f"--unseen {','.join(map(str, folders))}: {len(folders)} run(s), but {len(runs)} are exported; "
                    "what calibrates must be fused of as many, or its scores are of another kind"
                )
            if not missed_by(folders):
                names = " with ".join(map(str, folders))
                raise DataError(f"{names} has seen every family; calibration needs runs made --without some")
        samples = paths.samples()
        shortage = calibration_shortage(samples, [missed_by(f) for f in options.folders()] or [known_to(runs)])
        if shortage:
            raise DataError(shortage)
        if not any(sample.split == "test" and not sample.label for sample in samples):
            raise DataError("no real face is in the split test, which the pack is measured on; give rows split=test")

    def fused(self, networks: Sequence[Detector]) -> Fused:
        """The mean of their likelihood ratios."""
        return Fused(networks)

    def exported(self, network: Detector) -> nn.Module:
        """Logits (B,) and maps (B, 1, h, w) in [0, 1]."""
        return _Exported(network)

    def facts(
        self,
        runs: Sequence[Path],
        configs: Sequence[DetectionTrainConfig],
        paths: DetectionPaths,
        options: DetectionExport,
        progress: Progress,
    ) -> CardFacts:
        """What stands on the card."""
        return card_facts(configs, paths.faces(progress), blind=bool(options.unseen))

    def samples(self, configs: Sequence[DetectionTrainConfig], paths: DetectionPaths, progress: Progress) -> np.ndarray:
        """Crops of the validation split."""
        faces = paths.faces(progress)
        size, margin = configs[0].size, configs[0].margin
        held = eval_faces(faces, "val", families_of(faces, "val"), CLEAN, size, margin, most=20)
        return np.stack([face.crop for face in held[:64]])

    def measure(
        self,
        network: Detector,
        pack: Pack,
        runs: Sequence[Path],
        configs: Sequence[DetectionTrainConfig],
        paths: DetectionPaths,
        options: DetectionExport,
        progress: Progress,
    ) -> Measured:
        """Calibrate on the "cal" split, measure the pack on "test"."""
        faces, size, margin = paths.faces(progress), configs[0].size, configs[0].margin
        calibration = calibrate(paths, options.folders(), faces, margin, size, progress, runs)
        for verdict, reach in (
            ("forged", max(part.upper for part in calibration.bins)),
            ("authentic", -min(part.lower for part in calibration.bins)),
        ):
            if reach < calibration.decision_log10_lr:
                progress.note(f"the bounds end before the decision threshold; this pack will never say {verdict!r}")
        calibrated = replace(pack, card=replace(pack.card, calibration=calibration))
        scorer = pack_scorer(calibrated)
        drawn = held_out_reconstructions(paths, faces, "test", progress)
        result = evaluate(faces, "test", scorer, size, margin, calibration, drawn, progress=progress)
        points = operating_points(faces, scorer, size, margin, known_to(runs))
        return Measured(result, tables(result), calibration=calibration, operating_points=points)

    def card_metrics(self, result: Evaluation) -> list[Metric]:
        """See `export.card_metrics`."""
        return card_metrics(result.metrics)


class _Exported(nn.Module):
    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        out = self.detector(faces)
        return out.logit, out.map.sigmoid()
