"""The results pages, `docs/results/*.md`, from the cards of the embedded packs and the records of the experiments.

`python docs/build.py` writes them. A card's figures are those that `unmask export` measured on the test split; an
experiment's are in the record beside its script. Nothing is typed in by hand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import claims
from acmf import adaptation, consistency, masking
from adv_diffusion import transfer
from ancra import robust
from common import metrics_of, read_record
from deepfidelity import mirror, targets
from fedforgery import bad_clients, codebook, federated, private_secure, residual
from findings import recompression, thumbnails
from gcscoop import detector as trained_detector
from gcscoop import families as named_families
from gcscoop import learners as prompt_learners
from hfc import imbalance, near_infrared
from hfc import parts as hfc_parts
from leaderboard import default, page
from leave_out import page as leave_out
from mmnet import page as mmnet
from mmnet import published, recovery, scales
from plain import collages, hardening, scope, stretches
from plain.keep_evaluation import restored
from redteam import recalibration, strength
from sbka import drawn_concepts, pacs
from sbka import faces as sketch_faces
from titf import page as titf

from unmask.lab.detection.evaluate import tables as detection_tables
from unmask.lab.detection.held_out import CONDITIONS
from unmask.lab.edits.checks import other_tables, own_table
from unmask.lab.edits.evaluate import tables as edit_tables
from unmask.lab.evaluate import as_markdown
from unmask.lab.task import Evaluation
from unmask.packs import Card, embedded_packs, load_pack
from unmask.tables import markdown, unless_few, with_few_note

ROOT = Path(__file__).resolve().parent.parent
SPECIALISTS = """## The two specialists and their fusion on the validation split

AUC with 95 % intervals; last column: worst area between two sources of reals. `experiments/plain/run.sh` trains both,
each without the other's forgeries, and measures them with `compare.py`; here the members of the embedded pack were
measured, taken out of it by `from_pack.py`. Some sources have few faces, so that the last column says little.
"""
ONE = """## One network for all kinds in place of the two specialists?

`experiments/plain/one_network.sh` trains `all` on every kind and source: 900 steps of 16 pairs, from the weights of
`local`; `drawn` and `local` are the members of the embedded pack, of 1600 steps each. On the validation split, AUC with
95 % intervals; last column: worst area between two sources of reals. Rule, written before the runs: the one network
replaces the two if its AUC, mean over families and conditions, is not lower than that of their fusion. It is {one:.3f};
that of the fusion {two:.3f}. {answer} Its three folds were trained as well, and not measured after that answer.
"""
STAYS = "So the two specialists stay: on what was trained on, one network of this size and cost knows less."
GOES = "So the one network replaces them."
INPUTS = """## What a specialist for {kind} looks at: a comparison on the validation split

AUC with 95 % intervals; last column: worst area between two sources of reals. Four short runs
(`bash experiments/plain/inputs.sh WORKPLACE {kind}`, one seed): colours and residual, colours, residual, each for 250
steps on windows of half the crop with every sixth step on whole crops, and colours and residual for 90 steps on whole
crops alone; then fusions by the mean of the likelihood ratios. The runs are far from finished, and with one seed only
large differences mean anything. They read pairs of an older making, all at their own resolution, and CIPLAB was still
with synthesis; the record beside the script has the protocols.
"""


def compared(name: str, head: str, drop: str = "") -> list[str]:
    """A record of `experiments/plain/compare.py` as tables under a heading, without `drop` in the runs' names."""
    record = read_record(ROOT, f"plain/{name}")
    parts = [head]
    for condition in CONDITIONS:
        families = list(next(iter(record["results"].values()))[condition])
        lines = []
        for run, by_condition in record["results"].items():
            cells = [
                f"{numbers[0]:.2f} [{numbers[1]:.2f}, {numbers[2]:.2f}]" if len(numbers) == 3 else f"{numbers[0]:.2f}"
                for numbers in by_condition[condition].values()
            ]
            lines.append([run.replace(drop, ""), *cells])
        parts += [markdown([condition, *families], lines), ""]
    return parts


def title(card: Card) -> str:
    """The heading of a card's part, with versions."""
    versions = ", ".join(f"{name} {version}" for name, version in card.protocol["versions"].items())
    return f"## {card.name} {card.version}, test split\n\n{versions}; seeds and steps are on the card.\n"


def evaluation_of(card: Card) -> Evaluation:
    """Every number that a detector's export measured, of which its card has some."""
    record = read_record(ROOT, f"{card.name}/evaluation")
    assert record["detector"] == f"{card.name} {card.version}", "keep the evaluation.json of the embedded pack"
    return Evaluation(record["split"], restored(record["metrics"]))


def detector_part(card: Card) -> list[str]:
    """A detector's figures and its calibration."""
    calibration = card.calibration
    assert calibration is not None
    parts = [title(card)]
    parts.append(as_markdown(detection_tables(evaluation_of(card))) + "\n")
    parts.append(
        f"Calibration ({calibration.data}): Cllr {calibration.cllr:.3f}, minimum {calibration.cllr_min:.3f}; "
        f"a verdict is given from |log10 LR| {calibration.decision_log10_lr:.2f} on.\n"
    )
    bins = [
        [
            b.condition or "all",
            f"{b.quality_min:.0f}-{b.quality_max:.0f}",
            f"{b.lower:.2f} … {b.upper:.2f}",
            f"{b.n_real} / {b.n_forged}",
        ]
        for b in calibration.bins
    ]
    parts.append(markdown(["condition", "quality", "log10 LR bounds", "real / forged"], bins))
    if calibration.conditions:
        parts.append("\nFrom which log10 LR on a verdict is given, and what that costs on the calibration faces:\n")
        limits = [
            [
                one.condition,
                "not judged" if one.decision_log10_lr is None else f"{one.decision_log10_lr:.2f}",
                f"{-one.authentic_log10_lr:.2f}",
                f"{one.false_alarms:.3f}",
                f"{one.worst_false_alarms:.3f} ({one.worst_source})",
                f"{one.authentic:.3f}",
                f"{one.misses:.3f}",
                f"{one.n_real} / {one.n_forged}",
            ]
            for one in calibration.conditions
        ]
        heads = ["forged from", "authentic to", "false alarms, mean of sources", "worst source", "called authentic"]
        parts.append(markdown(["condition", *heads, "forged called authentic", "real / forged"], limits))
    return parts


def reader_part(card: Card) -> list[str]:
    """What a reader of edits reads, and what it says of faces that were not edited part by part."""
    reading = card.reading
    assert reading is not None
    result = Evaluation("test", metrics_of(card))
    limits = (
        f"\nLimits ({reading.data}): edits are named where the posterior probability of any is at least "
        f"{reading.edited_at:.6f}, none is said where it is at most {reading.untouched_at:.6f}; temperature "
        f"{reading.temperature:.2f}. Edits 1 to 5: {', '.join(reading.edits)}. What is said of the test split:\n"
    )
    others = "\nOf faces of which no part was edited, and of CIPLAB's composites, whose order and hair are not known:\n"
    tables = [as_markdown(some) for some in (edit_tables(result), [own_table(result)], other_tables(result))]
    return ["\n" + title(card), tables[0], limits, tables[1], others, tables[2]]


@dataclass(frozen=True)
class Page:
    """One results page: the file's name, its heading, the question that it answers, and the sections below it."""

    name: str
    title: str
    question: str
    sections: tuple[Callable[[Path], str], ...]

    def text(self, root: Path) -> str:
        """The page as Markdown; `root` is the repository's."""
        sections = "\n\n".join(section(root).strip("\n") for section in self.sections)
        return f"# {self.title}\n\n{NOTE}\n{sections}\n"


NOTE = """Generated by `python docs/build.py` from model cards and experiment records; see [all results](index.md) for
what they have in common.
"""
INDEX = """# Results

Generated by `python docs/build.py` from the cards of the embedded packs and the records of the experiments.
All is on held-out subjects; intervals of 95 % are by bootstrap over subjects unless a text says otherwise. "Spectrum
AUC" is a linear classifier on the radial power spectrum, trained on the same family (on all, for PGGAN and
re-synthesis): what can be detected without looking at the face. Reals against reals should give one half. Verdicts are
counted on all faces, those too small or too poor included, which `unmask inspect` refuses. The
[glossary](../glossary.md) explains the measures.
"""


def detector_section(root: Path) -> str:
    """The embedded forgery detectors' figures and calibration, from their cards."""
    cards = [load_pack(name).card for name in embedded_packs()]
    wanted = [card for card in cards if card.task == "forgery_detection" and card.calibration is not None]
    return "\n".join(line for card in wanted for line in detector_part(card))


FALSE_ALARMS = """## Verdicts by source and condition, test split

The share called "forged" of the authentic faces of every source, and of the forged faces of every family, by the packs
under comparison: {packs}. At most {most} faces each, scored by `experiments/plain/false_alarms.py`. The column
"authentic" has the share called authentic, mean over conditions.
"""


def false_alarms_section(root: Path) -> str:
    """What verdicts packs give, by source and condition, from the record of `experiments/plain/false_alarms.py`."""
    record = read_record(root, "plain/false_alarms")
    rows = record["rows"]
    packs = list(dict.fromkeys(row["pack"] for row in rows))
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    lines = []
    for faces in sorted(dict.fromkeys(row["faces"] for row in rows), key=lambda name: not name.startswith("real ")):
        own = [row for row in rows if row["faces"] == faces]
        for pack in packs:
            by = {row["condition"]: row for row in own if row["pack"] == pack}
            calm = sum(row["authentic"][0] for row in by.values()) / len(by)
            shares = [*(by[condition]["forged"][0] for condition in conditions), calm]
            number = own[0]["number"]
            lines.append([faces, pack, *(unless_few(f"{share:.2f}", number) for share in shares), str(number)])
    head = FALSE_ALARMS.format(packs=", ".join(packs), most=max(row["number"] for row in rows))
    table = with_few_note(markdown(["faces", "pack", *conditions, "authentic", "number"], lines))
    return f"{head}\n{table}\n"


def edits_section(root: Path) -> str:
    """The embedded edit-sequence models' figures, from their cards."""
    cards = [load_pack(name).card for name in embedded_packs()]
    return "\n".join(line for card in cards if card.reading is not None for line in reader_part(card))


def specialists_section(root: Path) -> str:
    """The embedded detector's two members and their fusion."""
    return "\n".join(compared("specialists", SPECIALISTS))


ONE_NETWORK, SPECIALISTS_FUSED = "all", "drawn + local"


def one_section(root: Path) -> str:
    """One network beside two, by the rule that decides between them."""
    results = read_record(ROOT, "plain/one")["results"]
    means = {}
    for system in (ONE_NETWORK, SPECIALISTS_FUSED):
        values = [
            numbers[0]
            for by_family in results[system].values()
            for family, numbers in by_family.items()
            if len(numbers) == 3
        ]
        means[system] = sum(values) / len(values)
    one, two = means[ONE_NETWORK], means[SPECIALISTS_FUSED]
    return "\n".join(compared("one", ONE.format(one=one, two=two, answer=GOES if one >= two else STAYS)))


INTERPOLATION = """## How far from the older weights

Each specialist goes on from a member of the pack of version 0.1.0. Weights at shares of the way from the start (0) to
the end of the run (1), on the validation split: AUC by family, mean over three conditions. Rule, written before the
runs: of 0.5, 0.75 and 1 the share with the highest mean over its own families is taken
(`experiments/plain/interpolate.py`). Each record was put together of two runs of the script: families up to
`stylegan3_edit` and `swap`, beside reals of their own sources, were measured with at most 100 reals a source, those
below them, beside their partners' reals, with at most 80. The runs behind them are not kept, so that nobody can measure
them anew.
"""


def interpolation_section(root: Path) -> str:
    """What the specialists know and forget between their start and their end."""
    parts = [INTERPOLATION]
    for name in ("drawn", "local"):
        record = read_record(root, f"plain/interpolation-{name}")
        shares = list(record["results"])
        families = [f for f in next(iter(record["results"]["1"].values())) if f.startswith("auc_")]
        rows = []
        for family in families:
            values = [[by[family] for by in record["results"][share].values()] for share in shares]
            rows.append([family.removeprefix("auc_"), *(f"{sum(some) / len(some):.2f}" for some in values)])
        rows.append(["mean", *(f"{record['means'][share]:.3f}" for share in shares)])
        parts.append(f"`{name}`:\n\n{markdown(['family', *shares], rows)}\n")
    return "\n".join(parts)


TRACKS = """## A video's score: the mean of its frames, or statistics over time

Clips of four frames or more, scored by systems that never saw the kind, AUC by kind. The statistics are {features}; a
logistic regression on them is fitted on the clips of the other kinds. They differ from the mean by {difference} in the
mean over kinds; the rule, written before the run, takes them if that interval lies above zero
(`experiments/plain/tracks.py`).
"""


def tracks_section(root: Path) -> str:
    """What statistics over time add to the mean of a clip's logits."""
    record = read_record(root, "plain/tracks")
    heads = ["score", *(f"{k} ({c[0]} real, {c[1]} forged)" for k, c in record["clips"].items()), "mean"]
    rows = [
        [name, *(f"{one[0]:.2f} [{one[1]:.2f}, {one[2]:.2f}]" for one in cells.values())]
        for name, cells in record["results"].items()
    ]
    head = TRACKS.format(
        features=", ".join(record["features"]), difference="{:+.2f} [{:+.2f}, {:+.2f}]".format(*record["difference"])
    )
    return f"{head}\n{markdown(heads, rows)}\n"


def inputs_section(root: Path) -> str:
    """What the members look at."""
    kinds = ("blends", "synthesis")
    return "\n".join(
        line for kind in kinds for line in compared(f"inputs-{kind}", INPUTS.format(kind=kind), f"{kind}-")
    )


PAGES = (
    Page(
        "claims",
        "Claims of the papers",
        "Which claims of the published methods hold on our data?",
        (claims.section,),
    ),
    Page(
        "embedded-detector",
        "The embedded detector",
        "How good is the detector that `unmask inspect` uses?",
        (detector_section, false_alarms_section, specialists_section),
    ),
    Page(
        "embedded-edits",
        "The embedded edit-sequence model",
        "How good is the model that `unmask inspect` names edits with?",
        (edits_section,),
    ),
    Page(
        "leaderboard",
        "Leaderboard",
        "Which detector is best, on known families and on families it has never met?",
        (page.section,),
    ),
    Page(
        "leave-one-out",
        "Leave-one-out",
        "What is a detector worth on kinds of forgery and sources of photographs that it never saw?",
        (leave_out.section,),
    ),
    Page(
        "choice",
        "The choice of the embedded detector",
        "Why this detector, and what should it look at?",
        (
            leave_out.designs_section,
            one_section,
            interpolation_section,
            tracks_section,
            default.section,
            inputs_section,
        ),
    ),
    Page(
        "deepfidelity",
        "DeepFidelity: claims",
        "Do graded targets and mirrored attention help?",
        (targets.section, mirror.section),
    ),
    Page(
        "acmf",
        "ACMF: claims",
        "Do masked high frequencies, consistent attention and adaptation help?",
        (masking.section, consistency.section, adaptation.section),
    ),
    Page(
        "hfc",
        "HFC-MFFD: claims",
        "Do branches, patches, fusion and two levels of decision help?",
        (hfc_parts.section, imbalance.section, near_infrared.section),
    ),
    Page(
        "fedforgery",
        "FedForgery: claims",
        "Does classifying an autoencoder's residual help?",
        (residual.section,),
    ),
    Page(
        "federated",
        "Federated training",
        "What do clients gain from averaging, and what do noise, secure aggregation and bad clients cost?",
        (federated.section, private_secure.section, codebook.section, bad_clients.section),
    ),
    Page(
        "mmnet",
        "MMNet: claims",
        "Does MMNet name edits better than SeqFakeFormer, and which part of it does?",
        (mmnet.section, published.section, mmnet.parts_section, scales.section, recovery.section),
    ),
    Page(
        "redteam",
        "Attacks on detectors and recognisers",
        "How easily are the embedded detectors fooled, does robust training help, and what may an operator do?",
        (strength.section, hardening.section, recalibration.section),
    ),
    Page(
        "adv-diffusion",
        "Adv-Diffusion: claims",
        "Do painted surroundings fool a recogniser that was not asked, and are they seen less than changed pixels?",
        (transfer.section,),
    ),
    Page(
        "ancra",
        "ANCRA: claims",
        "Does the asymmetric contrast make a network harder to fool, and what does reverse attention hide?",
        (robust.section,),
    ),
    Page(
        "sketches",
        "Search by sketches",
        "Which photo does a sketch find, of things and of people that were never seen?",
        (drawn_concepts.section, pacs.section, sketch_faces.section),
    ),
    Page(
        "gcscoop",
        "GCSCoOp: claims",
        "Does a constrained sharpness-aware step help learned prompts, and do words help to name forgery families?",
        (prompt_learners.section, named_families.section, trained_detector.section),
    ),
    Page(
        "findings",
        "Findings beside the pixels",
        "How often is a thumbnail called another picture's, or a file compressed twice, rightly and wrongly?",
        (thumbnails.section, recompression.section),
    ),
    Page(
        "several",
        "Several faces, stretches of videos, faces out of scope",
        "How are group pictures and long videos judged, and what is not judged at all?",
        (collages.section, stretches.section, scope.section),
    ),
    Page(
        "tracing",
        "Tracing: policies, errors, absent people",
        "Who is found, in how many questions, and how often is the answer wrong?",
        (titf.section,),
    ),
)


def pages(root: Path = ROOT) -> dict[Path, str]:
    """Every results page, by its path below the repository's root."""
    index = markdown(("question", "page"), [(one.question, f"[{one.title}]({one.name}.md)") for one in PAGES])
    folder = Path("docs", "results")
    return {folder / "index.md": f"{INDEX}\n{index}\n"} | {folder / f"{one.name}.md": one.text(root) for one in PAGES}
