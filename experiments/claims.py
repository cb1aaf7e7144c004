"""The claims of the papers that an experiment here asks about, and what its record says of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from common import has_record, read_record

from unmask.lab.metrics import seed_interval
from unmask.tables import markdown

TEXT = """## Which claims of the papers hold on our data

The claims are those of the articles, as this project reads them. Every line compares two arms of an experiment that
differ in one thing, on the same faces, seed by seed; in brackets the 95 % interval of the difference (Student's t).
"Yes": the interval lies wholly on the side that the claim says; "the opposite": wholly on the other; "not seen": it
holds zero; "not compared": an arm has learnt too little, by the experiment's own rule; "not run": not since its rules
were changed. The runs are short, at most {steps:,} steps on small pictures: what is not seen in that time is not
refuted. One interval in twenty misses its mark by chance. The pages of the methods have all arms, with their protocols.
FedForgery's residual is compared pair by pair of a seed and a family left out: there "seeds" counts pairs. Where it is
1, there is one run of each arm, and the interval is by bootstrap over people.
"""


@dataclass(frozen=True)
class Claim:
    """One claim: the arm that has what it speaks of, the arm that has not, and the number that should differ.

    Attributes:
        method: as in `unmask models`, or "titf".
        text: the claim, as a sentence.
        record: the experiment's record, below `experiments/`, without its ending.
        metric: the number, by its name in the record's rows.
        arm: the arm with what is claimed to help.
        baseline: the arm without.
        where: what else a row must have.
        baseline_where: the same of the baseline's rows, where it differs.
        baseline_metric: the baseline's number, where it has another name.
        lower_is_better: whether the claim says that the number falls.
        learnt: a number that both arms must reach, in the mean over seeds, to be compared; its name and the least.
        pairs: what two rows that are compared have alike; the column "seeds" counts such pairs.
        resampled: under what name the baseline's row has the difference and its interval by bootstrap over people; ""
            where the interval is over pairs of rows.
    """

    method: str
    text: str
    record: str
    metric: str
    arm: str
    baseline: str
    where: Mapping[str, Any] = field(default_factory=dict)
    baseline_metric: str | None = None
    baseline_where: Mapping[str, Any] | None = None
    lower_is_better: bool = False
    learnt: tuple[str, float] | None = None
    pairs: tuple[str, ...] = ("seed",)
    resampled: str = ""


ACMF_LEARNT = ("known decoders (validation)", 0.98)
ACMF_CHOSEN = "signed, rate chosen on validation"
GCSAM = ("GCSCoOp", "CoOp")
SER_FIQ = "graded by SER-FIQ, 0.4/0.6"
CLAIMS = (
    Claim("deepfidelity", "Graded targets help (SER-FIQ's quality).", "deepfidelity/targets", "AUC", SER_FIQ, "binary"),
    Claim(
        "deepfidelity",
        "Graded targets help (the classical assessor's quality).",
        "deepfidelity/targets",
        "AUC",
        "graded, 0.4/0.6",
        "binary",
    ),
    Claim(
        "deepfidelity",
        "They help most where good forgeries meet poor photographs (SER-FIQ).",
        "deepfidelity/targets",
        "AUC, hard by SER-FIQ",
        SER_FIQ,
        "binary",
    ),
    Claim(
        "deepfidelity",
        "The fidelity follows quality among forgeries (SER-FIQ).",
        "deepfidelity/targets",
        "Spearman, forged, SER-FIQ",
        SER_FIQ,
        "binary",
    ),
    *(
        Claim(
            "deepfidelity",
            f"Mirrored attention helps where one side was edited ({name}).",
            "deepfidelity/mirror",
            "AUC",
            f"mirrored{arm}",
            f"plain{arm}",
            {"split": "test", "edited": "one eye"},
        )
        for name, arm in (("no layer scale", ""), ("layer scale from 0.1", ", layer scale 0.1"))
    ),
    *(
        Claim("acmf", text, "acmf/masking", metric, ACMF_CHOSEN, baseline, learnt=ACMF_LEARNT)
        for text, metric, baseline in (
            (
                "Masking high frequencies helps on blends without a decoder, which were not trained on.",
                "self-blends",
                "nothing masked",
            ),
            ("It helps more there than blurring.", "self-blends", "blur, every other picture"),
            ("It helps on a decoder that was not trained on.", "another decoder", "nothing masked"),
        )
    ),
    Claim(
        "acmf",
        "The attention term makes attention independent of the mask.",
        "acmf/consistency",
        "attention distance",
        "mu = 1",
        "mu = 0",
        lower_is_better=True,
        learnt=ACMF_LEARNT,
    ),
    Claim(
        "acmf",
        "It helps on blends without a decoder, which were not trained on.",
        "acmf/consistency",
        "self-blends",
        "mu = 1",
        "mu = 0",
        learnt=ACMF_LEARNT,
    ),
    Claim(
        "acmf",
        "Adapting to a test video by consistency helps (transductive).",
        "acmf/adaptation",
        "video AUC on self-blends",
        "both",
        "source",
    ),
    Claim(
        "hfc",
        "Patches help over the whole picture.",
        "hfc/parts",
        "AUC std",
        "all branches",
        "whole picture, no patches",
    ),
    Claim("hfc", "Three branches help over the best one alone.", "hfc/parts", "AUC std", "all branches", "cosines"),
    Claim("hfc", "Fitted fusion weights help.", "hfc/parts", "AUC std", "all branches", "equal fusion"),
    *(
        Claim(
            "hfc",
            f"Real or forged first, then the generator, helps where real pictures are few (1:{imbalance}).",
            "hfc/imbalance",
            "AUC",
            "two levels",
            "flat",
            {"imbalance": imbalance},
        )
        for imbalance in (4, 16)
    ),
    *(
        Claim(
            "fedforgery",
            text,
            "fedforgery/residual",
            metric,
            "residual",
            baseline,
            {"split": "test"},
            pairs=("without", "seed"),
        )
        for text, metric, baseline in (
            (
                "The residual helps on a family that was left out, over the picture at equal cost.",
                "AUC unseen",
                "plain network, 1.83 x steps",
            ),
            (
                "It does over a fixed high-pass at equal cost.",
                "AUC unseen",
                "fixed high-pass, 1.83 x steps",
            ),
            (
                "It helps on the families that were trained on, over the picture at equal cost.",
                "AUC seen",
                "plain network, 1.83 x steps",
            ),
            ("The reconstruction's term matters.", "AUC seen", "residual, reconstruction not asked for"),
        )
    ),
    *(
        Claim(
            "fedforgery",
            f"Clients with one type of forgery each gain from averaging ({model}).",
            "fedforgery/federated",
            "AUC",
            "federated",
            "each client alone",
            {"model": model, "split": "one type each", "on": "test", "without": ""},
        )
        for model in ("residual", "plain network")
    ),
    *(
        Claim(
            "fedforgery",
            f"Pooled data are better still ({model}).",
            "fedforgery/federated",
            "AUC",
            "all data in one place",
            "federated",
            {"model": model, "split": "one type each", "on": "test", "without": ""},
        )
        for model in ("residual", "plain network")
    ),
    *(
        Claim(
            "mmnet",
            text,
            "mmnet/published",
            metric,
            "MMNet",
            baseline,
            {"split": "test"},
            resampled="pack less this",
            baseline_where={"split": "test", "reading": "best of all"},
        )
        for text, metric, baseline in (
            ("More whole sequences are right than by SeqFakeFormer.", "CSM", "SeqFakeFormer"),
            (
                "So are those in orders that were not trained on, than by SeqFakeFormer.",
                "CSM, orders not seen",
                "SeqFakeFormer",
            ),
            ("More whole sequences are right than by a classifier of sequences.", "CSM", "classifier of sequences"),
            ("More steps are right than by it.", "Adaptive", "classifier of sequences"),
        )
    ),
    Claim(
        "mmnet",
        "Three spatial scales help over one.",
        "mmnet/scales",
        "Adaptive, joint",
        "strides 8, 16 and 32",
        "stride 32 alone",
    ),
    Claim(
        "mmnet",
        "Several readings together help over the forward one.",
        "mmnet/arms",
        "Adaptive, joint",
        "without recovery",
        "forward alone",
    ),
    Claim(
        "mmnet",
        "The recovered face is nearer to the original than the edited one (PSNR inside the edits, dB).",
        "mmnet/readers",
        "psnr_inside, recovered",
        "MMNet",
        "MMNet",
        baseline_metric="psnr_inside, do nothing",
    ),
    Claim(
        "adv-diffusion",
        "It transfers better to a recogniser that was not asked than changed pixels (MI-FGSM, 16/255).",
        "adv_diffusion/transfer",
        "gain victim",
        "adv-diffusion",
        "mi-fgsm",
        {"strength": 450.0},
        baseline_where={"strength": 0.06275},
    ),
    Claim(
        "adv-diffusion",
        "Three surrogates transfer better than one.",
        "adv_diffusion/transfer",
        "gain victim",
        "adv-diffusion",
        "one surrogate",
        {"strength": 450.0},
    ),
    Claim(
        "adv-diffusion",
        "What is painted transfers beyond what painting without guidance does.",
        "adv_diffusion/transfer",
        "gain victim",
        "adv-diffusion",
        "inpainting",
        {"strength": 450.0},
        baseline_where={"strength": 1.0},
    ),
    *(
        Claim("ancra", text, "ancra/robust", metric, arm, baseline)
        for text, metric, arm, baseline in (
            (
                "Reverse attention makes a network harder to fool, asked as the reference code asks.",
                "repo-style",
                "TRADES +RA",
                "TRADES",
            ),
            ("It does in the worst case over attacks that fit it.", "worst case", "TRADES +RA", "TRADES"),
            ("The negative contrast does in the worst case.", "worst case", "TRADES +ANC", "TRADES"),
            ("Both together do in the worst case.", "worst case", "TRADES +both", "TRADES"),
            (
                "Asymmetric contrast does more than symmetric in the worst case.",
                "worst case",
                "TRADES +ANC",
                "TRADES +ANC, symmetric",
            ),
        )
    ),
    *(
        Claim("gcscoop", text, "gcscoop/learners", metric, arm, baseline, lower_is_better=lower)
        for text, metric, arm, baseline, lower in (
            ("Prompts learned with GCSAM do better on base and new classes together.", "harmonic mean", *GCSAM, False),
            ("They do better on new classes.", "new", *GCSAM, False),
            ("They lie in a flatter place than those of SGD.", "sharpness", *GCSAM, True),
            ("They fit the base classes better than those of SAM.", "loss", "GCSCoOp", "SAM-CoOp", True),
        )
    ),
    *(
        Claim("gcscoop", text, "gcscoop/detector", "AUC, unseen family", arm, baseline, {"split": "test"})
        for text, arm, baseline in (
            ("A forgery detector trained with GCSAM generalises better than with AdamW.", "GCSAM", "AdamW"),
            ("It generalises better than with SAM.", "GCSAM", "SAM"),
        )
    ),
    Claim(
        "gcscoop",
        "Naming families in words helps on families never seen.",
        "gcscoop/families",
        "AUC, new",
        "GCSCoOp",
        "linear head",
    ),
    Claim(
        "sbka",
        "All its parts together help over classification alone.",
        "sbka/pacs",
        "one by one",
        "+ bidirectional",
        "classification",
    ),
    Claim("sbka", "A fixed teacher helps.", "sbka/pacs", "one by one", "+ fixed teacher", "classification"),
    Claim(
        "sbka",
        "The modality loss helps beyond the fixed teacher.",
        "sbka/pacs",
        "one by one",
        "+ modality loss",
        "+ fixed teacher",
    ),
    Claim(
        "sbka",
        "The bidirectional phase helps beyond the fixed teacher and the modality loss.",
        "sbka/pacs",
        "one by one",
        "+ bidirectional",
        "+ modality loss",
    ),
    Claim(
        "sbka",
        "Clusters of the gallery help.",
        "sbka/pacs",
        "clusters",
        "+ bidirectional",
        "+ bidirectional",
        baseline_metric="one by one",
    ),
    Claim(
        "titf",
        "Asking by conditional entropy takes fewer questions than a fixed order.",
        "titf/policies",
        "answers",
        "info_gain",
        "static",
        {"table": "exact"},
        lower_is_better=True,
    ),
)


@dataclass(frozen=True)
class Comparison:
    """Means over seeds with and without, the paired difference with its 95 % interval, and whether both have learnt."""

    seeds: int
    value: float
    baseline: float
    difference: tuple[float, float, float]
    learnt: bool = True


def compare(claim: Claim, root: Path) -> Comparison | None:
    """What a claim's record says; None if there is no record, or, where the interval is over pairs, fewer than three.

    Args:
        claim: to look up.
        root: the repository's.
    """
    if not has_record(root, claim.record):
        return None
    rows = read_record(root, claim.record)["rows"]

    def by_seed(arm: str, metric: str, where: Mapping[str, Any]) -> dict[tuple[Any, ...], Any]:
        own = [row for row in rows if row["arm"] == arm and all(row[key] == value for key, value in where.items())]
        return {tuple(row[key] for key in claim.pairs): row[metric] for row in own if metric in row}

    ours = by_seed(claim.arm, claim.metric, claim.where)
    theirs = by_seed(
        claim.baseline,
        claim.baseline_metric or claim.metric,
        claim.where if claim.baseline_where is None else claim.baseline_where,
    )
    seeds = sorted(ours.keys() & theirs.keys())
    if claim.resampled:
        (difference,) = by_seed(claim.baseline, claim.resampled, claim.baseline_where or claim.where).values()
        return Comparison(1, ours[seeds[0]], theirs[seeds[0]], difference[claim.metric])
    if len(seeds) < 3:
        return None
    differences = [ours[seed] - theirs[seed] for seed in seeds]
    learnt = True
    if claim.learnt is not None:
        metric, least = claim.learnt
        learnt = all(mean(by_seed(arm, metric, claim.where).values()) >= least for arm in (claim.arm, claim.baseline))
    return Comparison(
        len(seeds), mean(ours[s] for s in seeds), mean(theirs[s] for s in seeds), seed_interval(differences), learnt
    )


def outcome(claim: Claim, comparison: Comparison) -> str:
    """Whether the claim is seen: "yes", "not seen", "the opposite" or "not compared"."""
    if not comparison.learnt:
        return "not compared"
    _, low, high = comparison.difference
    if low <= 0 <= high:
        return "not seen"
    return "yes" if (high < 0) == claim.lower_is_better else "the opposite"


def _cells(claim: Claim, root: Path) -> list[str]:
    """A claim's line of the table."""
    one = compare(claim, root)
    if one is None:
        return [claim.text, "not run", claim.metric, *4 * ["–"]]
    return [
        claim.text,
        outcome(claim, one),
        claim.metric,
        f"{one.value:.3f}",
        f"{one.baseline:.3f}",
        "{:+.3f} [{:+.3f}, {:+.3f}]".format(*one.difference),
        str(one.seeds),
    ]


def claims_table(root: Path, methods: Sequence[str], titles: Mapping[str, str] | None = None) -> str:
    """The claims of some methods and what is seen of them; empty if there are none.

    Args:
        root: the repository's root.
        methods: by name.
        titles: what a method is called, in a first column; without, there is no such column.
    """
    lines = []
    for claim in CLAIMS:
        if claim.method in methods:
            cells = _cells(claim, root)
            lines.append([titles[claim.method], *cells] if titles else cells)
    columns = ["claim", "seen here", "measure", "with", "without", "difference [95 %]", "seeds"]
    return markdown(["method", *columns] if titles else columns, lines) if lines else ""


def section(root: Path) -> str:
    """All claims, as a part of the results pages; `root` is the repository's."""
    titles = {
        "deepfidelity": "[DeepFidelity](deepfidelity.md)",
        "acmf": "[ACMF](acmf.md)",
        "hfc": "[HFC-MFFD](hfc.md)",
        "fedforgery": "[FedForgery](fedforgery.md)",
        "mmnet": "[MMNet](mmnet.md)",
        "adv-diffusion": "[Adv-Diffusion](adv-diffusion.md)",
        "ancra": "[ANCRA](ancra.md)",
        "sbka": "[SBKA](sketches.md)",
        "gcscoop": "[GCSCoOp](gcscoop.md)",
        "titf": "[TITF](tracing.md)",
    }
    records = {claim.record for claim in CLAIMS if has_record(root, claim.record)}
    steps = [read_record(root, record)["settings"].get("steps", 0) for record in records]
    return f"{TEXT.format(steps=max(steps))}\n{claims_table(root, list(titles), titles)}\n"
