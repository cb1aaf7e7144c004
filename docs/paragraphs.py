"""The paragraphs that quote numbers, from the cards of the embedded packs and the experiments' records.

`build.py` puts them between the markers of their names. A sentence that would be wrong with other numbers is chosen by
the numbers, or is worded so that it holds for any.
"""

import json
import textwrap
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any

from common import metrics_of, read_record

from unmask.evidence.comparison import TOLERANCES
from unmask.lab.detection.held_out import CLEAN
from unmask.packs import Card, load_pack
from unmask.packs.card import Metric
from unmask.packs.strength import in_words
from unmask.tables import markdown

DETECTOR, EDIT_MODEL = "plain", "mmnet"
"""The embedded packs that the paragraphs speak of."""
_WIDTH = 120
_COLLECTIONS = {"ffhq": "FFHQ", "ciplab": "CIPLAB", "celebamask": "CelebAMask-HQ", "utkface": "UTKFace"}


def paragraphs(root: Path) -> dict[str, str]:
    """All paragraphs as Markdown, by the name in their markers; `root` is the repository's."""
    detector, edits = load_pack(DETECTOR).card, load_pack(EDIT_MODEL).card
    return {
        "limits-detector": limits_of_detector(detector),
        "limits-edits": limits_of_edits(edits),
        "trust-edits": trust_in_edits(edits),
        "parts-edits": parts_of_edit_model(root),
        "trust-tracing": trust_in_tracing(root),
        "sketch-checks": checks_of_sketches(root),
        "tolerances": tolerances(),
        "versions": agreement_of_versions(root),
        "validation": validation_of_detector(detector),
    }


def fraction(value: float, digits: int = 2) -> str:
    """A number in [0, 1] as the field writes it: .90."""
    return f"{value:.{digits}f}".removeprefix("0")


def percent(value: float) -> str:
    """A share in [0, 1] in whole percent."""
    return f"{100 * value:.0f} %"


def either(value: float) -> str:
    """A share of faces as "none" or "N %"."""
    return "none" if value == 0 else percent(value)


class CardMetrics:
    """The metrics of a card by name, data set and condition."""

    def __init__(self, card: Card) -> None:
        self._metrics = {(m.name, m.dataset, m.condition): m for m in metrics_of(card)}

    def __call__(self, name: str, dataset: str, condition: str) -> Metric:
        """The metric.

        Raises:
            KeyError: the card has none of these.
        """
        return self._metrics[name, dataset, condition]

    def value(self, name: str, dataset: str, condition: str) -> float:
        """Its value."""
        return self(name, dataset, condition).value

    def matching(self, name: str, condition: str) -> dict[str, Metric]:
        """All metrics of a name under a condition, by data set."""
        return {key[1]: m for key, m in self._metrics.items() if (key[0], key[2]) == (name, condition)}


def bullet(*sentences: str) -> str:
    """Sentences as one item of a Markdown list."""
    return textwrap.fill(
        " ".join(sentences),
        _WIDTH,
        initial_indent="- ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def chance(metric: Metric) -> str:
    """A metric whose chance level is one half, and whether it differs from that."""
    assert metric.low is not None and metric.high is not None
    at_chance = metric.low <= 0.5 <= metric.high
    return f"{fraction(metric.value)}, {'no better than chance' if at_chance else 'where chance is .5'}"


def limits_of_detector(card: Card) -> str:
    """What the embedded detector cannot do, for the README."""
    metrics, calibration = CardMetrics(card), card.calibration
    assert calibration is not None

    def share(name: str, family: str) -> str:
        return percent(metrics.value(name, family, CLEAN))

    families = {
        "stylegan": "StyleGAN",
        "mobilestylegan": "MobileStyleGAN",
        "selfblend": "self-blends",
        "swap": "face swaps",
        "ciplab": "expert composites",
        "sfhq_t2i": "text-to-image pictures",
        "wav2lip": "Wav2Lip",
        "dfl_faceswap": "DeepFaceLab swaps",
    }
    areas = ", ".join(
        f"{fraction(metrics.value('auc', family, CLEAN))} on {title}" for family, title in families.items()
    )
    silent = [b for b in calibration.bins if not b.condition and max(-b.lower, b.upper) < calibration.decision_log10_lr]
    where = " or ".join(
        f"from {b.quality_min:.0f} to {b.quality_max:.0f}" if b.quality_min else f"under {b.quality_max:.0f}"
        for b in silent
    )
    return bullet(
        f"The embedded detector is not strong yet. On held-out people its AUC is {areas}; on PGGAN, a generator that",
        "it",
        f"has never met, {chance(metrics('auc', 'pggan', CLEAN))}. At 1 % false alarms it misses",
        f"{share('miss_at_1%', 'swap')} of swaps. It calls {share('verdict_forged', 'real')} of authentic portraits",
        "forged,",
        f"and {share('verdict_forged', 'swap')} of swaps. The map's hottest spot lies on the forged part of",
        f"{share('pointing', 'swap')} of swaps ({share('pointing_chance', 'swap')} by chance); on expert composites it",
        "tells the edited features from the others with an agreement of",
        f"{chance(metrics('region_agreement', 'ciplab', CLEAN))}. The likelihood ratio is fitted on families that",
        "the",
        f"scoring network had not seen, where it is worth little (Cllr {calibration.cllr:.2f}; 1 is no information):",
        f"expect *inconclusive* often{f', and always where quality is {where}' if silent else ''}.",
        *under_attack(card),
        "[All figures](docs/results/embedded-detector.md).",
    )


def under_attack(card: Card) -> list[str]:
    """How easily the embedded detector is fooled."""
    if card.strength is None:
        return ["How easily it is fooled on purpose is not measured."]
    return [f"Under attack it is {line}." for line in in_words(card.strength)]


def limits_of_edits(card: Card) -> str:
    """What the embedded edit-sequence model cannot do, for the README."""
    metrics = CardMetrics(card)
    named = metrics.matching("edits_named", "other faces")
    synthetic = {name: m for name, m in named.items() if name.startswith("synthetic")}
    authentic = {name: m for name, m in named.items() if name.startswith("authentic")}
    parts = [m for name in ("eye", "nose", "lip") for m in [metrics(f"auc_{name}", "ciplab", "other faces")]]
    return bullet(
        "The embedded edit-sequence model knows the edits of `unmask forge --sequence` and no others: there the whole",
        f"sequence is right for {fraction(metrics.value('csm', 'all', 'joint'))} of the faces, and the first of two",
        "edits",
        f"for {fraction(metrics.value('order_of_pairs_right', 'all', 'joint'))}. Which parts of expert composites were",
        f"edited it tells with an AUC of {span(m.value for m in parts)}, where chance is .5. It names edits in",
        f"{either(max(m.value for m in synthetic.values()))} of {sum(m.n_forged for m in synthetic.values())} wholly",
        f"synthetic faces and in at most {percent(max(m.value for m in authentic.values()))} of any kind of authentic",
        "ones, and pays for that by often saying that it cannot tell. [All figures](docs/results/embedded-edits.md).",
    )


def span(values: Iterable[float], digits: int = 2) -> str:
    """The least and the greatest of some fractions."""
    ordered = sorted(values)
    return f"{fraction(ordered[0], digits)} to {fraction(ordered[-1], digits)}"


def trust_in_edits(card: Card) -> str:
    """How far to trust the embedded edit-sequence model, for its page."""
    metrics = CardMetrics(card)
    all_faces, edits = metrics("csm", "all", "joint"), card.reading
    assert edits is not None and all_faces.low is not None and all_faces.high is not None

    def csm(faces: str, decoding: str = "joint") -> str:
        return fraction(metrics.value("csm", faces, decoding))

    def recovery(name: str, digits: int, what: str = "recovered") -> str:
        return fraction(metrics.value(name, "recovery", what), digits)

    hits = {edits.edits[n - 1]: metrics.value("found", f"edit {n}", "joint") for n in range(1, 6)}
    false = [metrics.value("false", f"edit {n}", "joint") for n in range(1, 6)]
    worst, best = min(hits, key=hits.__getitem__), max(hits, key=hits.__getitem__)
    untouched = metrics("edits_named", "0 edits", "own faces")
    named = metrics.matching("edits_named", "other faces")
    silent = {
        name.removeprefix("authentic "): m for name, m in named.items() if name.startswith("authentic") and not m.value
    }
    rest = ", ".join(
        f"{percent(m.value)} of {_COLLECTIONS[name.removeprefix('authentic ')]}"
        for name, m in named.items()
        if name.startswith("authentic") and m.value > 0
    )
    synthetic = [m for name, m in named.items() if name.startswith("synthetic")]
    by_length = ", ".join(
        f"{fraction(metrics.value('edits_named', f'{n} edits', 'own faces'))} with {word}"
        for n, word in ((1, "one edit"), (3, "three"), (5, "five"))
    )
    parts = [metrics.value(f"auc_{name}", "ciplab", "other faces") for name in ("eye", "nose", "lip")]
    nearer = metrics("identity", "recovery", "difference")
    assert nearer.low is not None and nearer.high is not None
    brings = "brings back who it was" if nearer.low > 0 else "does not bring back who it was"
    return "\n".join(
        [
            f"On that set's test split ({all_faces.n_real + all_faces.n_forged} faces of people whom it never saw;",
            "[all figures](results/embedded-edits.md)):",
            "",
            bullet(
                f"The whole sequence is right for {fraction(all_faces.value)}",
                f"[{fraction(all_faces.low)}, {fraction(all_faces.high)}] of the faces; calling every face untouched",
                "has",
                f"{csm('all', 'nothing')}. Of faces with one edit it is right for {csm('1 edits')}, with two for",
                f"{csm('2 edits')}, with three for {csm('3 edits')}.",
            ),
            bullet(
                "Of two edits that were made, the posterior has the right one first in",
                f"{fraction(metrics.value('order_of_pairs_right', 'all', 'joint'))} of the cases. So take the parts",
                "for",
                "what was detected, and the order for a leaning. A part that was edited is named in",
                f"{fraction(hits[worst])} ({worst}) to {fraction(hits[best])} ({best}), one that was not in",
                f"{span(false)}.",
            ),
            bullet(
                f"Recovered and edited face beside the original: inside the edits L1 {recovery('l1_inside', 3)}",
                "against",
                f"{recovery('l1_inside', 3, 'do nothing')} and PSNR",
                f"{metrics.value('psnr_inside', 'recovery', 'difference'):+.1f} dB, outside",
                f"{metrics.value('psnr_outside', 'recovery', 'difference'):+.1f} dB; identity (SFace similarity)",
                f"{recovery('identity', 3)} against {recovery('identity', 3, 'do nothing')}: it {brings}.",
            ),
            bullet(
                f"Edits are named falsely in {round(untouched.value * untouched.n_real)} of {untouched.n_real}",
                "untouched",
                f"faces of the set, in none of {sum(m.n_real for m in silent.values())} portraits of",
                f"{', '.join(_COLLECTIONS[name] for name in silent)}, in {rest}, and in",
                f"{either(max(m.value for m in synthetic))} of {sum(m.n_forged for m in synthetic)} wholly",
                f"synthetic faces. The price is silence: of edited faces, edits are named in {by_length}; what lies",
                "between",
                "is *cannot tell*.",
            ),
            bullet(
                "Other tools leave other traces. Of CIPLAB's expert composites",
                f"{percent(metrics.value('no_local_edit_said', 'ciplab', 'other faces'))} are said to have *no local",
                "edit*,",
                f"and which parts were pasted is named with an AUC of {span(parts)}, where chance is .5. Order shows",
                "only",
                "where the whole face was drawn anew after every edit.",
            ),
        ]
    )


def parts_of_edit_model(root: Path) -> str:
    """What MMNet's parts bring, for the page of edit sequences."""
    from mmnet import readers as arms

    record: dict[str, Any] = read_record(root, "mmnet/arms")

    def value(arm: str, number: str) -> float:
        return mean(row[number] for row in record["rows"] if row["arm"] == arm)

    pairs, adaptive = "order of pairs right", "Adaptive, joint"
    without = [value(arm, adaptive) for arm in (arms.BARE, arms.PRESENCE, arms.TOKENS)]
    return textwrap.fill(
        f"What MMNet's parts bring, compared in {record['settings']['steps']} steps from a common trunk: reading by"
        f" regions brings the order (of two edits the right one first in {fraction(value(arms.BASE, pairs))} of the "
        "cases"
        f" with it, in {fraction(value(arms.TOKENS, pairs))} without) and most of Adaptive-Acc"
        f" ({fraction(value(arms.BASE, adaptive))} against {span(without)}). Neither three scales over one, nor telling"
        " the regions how much fine detail each cell holds, nor supervision by presence, masks or recovery moved "
        "anything"
        " further than the spread of three seeds; in so short a time these claims do not reproduce"
        " ([tables](results/mmnet.md)).",
        _WIDTH,
        break_long_words=False,
        break_on_hyphens=False,
    )


def trust_in_tracing(root: Path) -> str:
    """How far to trust a traced identity, for its page."""
    rows: list[dict[str, Any]] = []
    for name in ("policies", "errors", "absent"):
        rows += read_record(root, f"titf/{name}")["rows"]

    def value(table: str, arm: str, number: str) -> float:
        return mean(row[number] for row in rows if (row["table"], row["arm"]) == (table, arm))

    def share(table: str, arm: str, number: str, digits: int = 3) -> str:
        return fraction(value(table, arm, number), digits)

    def answers(table: str, *arms: str) -> list[str]:
        return [f"{value(table, arm, 'answers'):.1f}" for arm in arms]

    def absent(arm: str, *strengths: str) -> list[str]:
        return [share(f"absent, dependence {strength}", arm, "false_identified") for strength in strengths]

    policies = ("info_gain", "static", "random")
    exact, clusters = answers("exact", *policies), answers("clusters", *policies)
    further = {arm: " and ".join(answers("exact", arm) + answers("clusters", arm)) for arm in ("ec2", "two_step")}
    plain, robust = answers("5 % wrong", "info_gain", "info_gain, robust")
    stated = {row["arm"] for row in rows if row["table"] == "misspecified" and "robust" not in row["arm"]}
    without = [
        value(f"absent, dependence {strength}", "no such hypothesis", "false_identified")
        for strength in ("0", "0.5", "1", "2")
    ]
    tree, robust_tree = (absent(f"prior 0.2, {kind}", "0", "1", "2") for kind in ("tree", "tree, robust"))
    weak = "0"
    gain = {
        strength: (absent("prior 0.2, tree", strength)[0], absent("prior 0.2, independent", strength)[0])
        for strength in (weak, "2")
    }
    core_sizes = {name: f"{value('cores', 'cores', name):.2f}" for name in ("least", "greedy", "asked")}
    return "\n".join(
        [
            bullet(
                f"**Questions.** With exact answers a person is identified in {exact[0]} questions (in the order of",
                f"entropy {exact[1]}, at random {exact[2]}). Where what is worth asking depends on what was",
                "answered, it",
                f"is {clusters[0]} against {clusters[1]} and {clusters[2]}.",
                f"Edge cutting asks {further['ec2']}, looking two steps ahead {further['two_step']}.",
            ),
            bullet(
                f"**Errors.** With 5 % of answers wrong it takes {plain} answers, and"
                f" {share('5 % wrong', 'info_gain', 'top1')} of the people are first in the end; with the default,",
                "that no",
                f"conclusion may hang on one answer, {robust} and {share('5 % wrong', 'info_gain, robust', 'top1')},",
                "and",
                f"{fraction(1 - value('5 % wrong', 'info_gain, robust', 'decided'), 3)} stay undecided. Who takes",
                "answers",
                f"for exact is certain and wrong: hard filtering has {share('5 % wrong', 'hard filtering', 'top1')}, a",
                f"decision tree {share('5 % wrong', 'decision tree', 'top1')}. One-shot linkage by Splink has"
                f" {share('5 % wrong', 'one-shot linkage (Splink)', 'top1')}, but needs all twenty answers. Errors",
                "that are",
                "half or twice what is stated cost answers rather than trust (calibration error",
                f"{span((value('misspecified', arm, 'calibration_error') for arm in stated), 3)}).",
            ),
            bullet(
                '**People who are not there.** Without "not in the register" as a hypothesis',
                f"{span(without)} of them are",
                f"identified as somebody. With a prior of 0.2 it is {tree[0]} where attributes are independent,",
                f"{tree[1]} where they depend on one another as in tit1000, {tree[2]} where twice as strongly;",
                f"with the default {', '.join(robust_tree)}. The tree of dependencies has",
                f"{gain['2'][0]} against {gain['2'][1]} without it",
                f"where they are strong, {gain[weak][0]} against {gain[weak][1]} where there are none. The stronger",
                "the",
                "dependence, the more you should ask for.",
            ),
            bullet(
                "**People who are there** are called absent in",
                f"{share('5 % wrong', 'info_gain, robust', 'missed')} of the cases; if they lie about two",
                "attributes, in",
                f"{share('lies', '2 lies, robust', 'missed')}.",
            ),
            bullet(
                "**Near-twins.** If a fifth of the register nearly repeats somebody else,",
                f"{share('twins', '20 % near-twins', 'false_identified')} of absent people are identified (not",
                "robust): as",
                "their twins.",
            ),
            bullet(
                "**Core identification sets.** The fewest exact facts that single somebody out are"
                f" {core_sizes['least']} on average; greedily in hindsight {core_sizes['greedy']}, as few in",
                f"{share('cores', 'cores', 'greedy as small', 2)} of the cases; an adaptive run asks",
                f"{core_sizes['asked']}. Of all people",
                f"{share('cores', 'cores', 'unique on some 3')} are unique on some three of the twenty facts: that "
                "is what"
                " `unmask trace audit` is for.",
            ),
        ]
    )


def checks_of_sketches(root: Path) -> str:
    """How often the checks of a drawing are wrong, for the page of search."""
    record = read_record(root, "sbka/sketch_checks")
    rows = {(row["set"], row["change"]): row for row in record["rows"]}

    def of(name: str, change: str, note: str) -> str:
        row = rows[name, change]
        return f"{row.get(note, 0)} of {row['pictures']}"

    def each(change: str, note: str, *names: str) -> str:
        return ", ".join(f"{of(name, change, note)} {name}" for name in names)

    drawings, photographs = ("PACS drawings", "CUFS drawings"), ("PACS", "CUFS", "UTKFace")
    photographs = tuple(f"{name} photographs" for name in photographs)
    faces = rows["CUFS drawings", "faces"]
    return "\n".join(
        [
            "How often that is right, on real drawings and photographs:",
            "",
            bullet(f"Taken for photographs: {each('unchanged', 'photograph', *drawings)}."),
            bullet(
                f"Known as photographs: {each('unchanged', 'photograph', *photographs)}; in grey,",
                f"{each('grey', 'photograph', *photographs)}.",
            ),
            bullet(
                f"Inverted drawings known: {each('inverted', 'inverted', *drawings)}. Yellow paper known:",
                f"{each('on_paper', 'paper', *drawings)}.",
            ),
            bullet(
                f"Pages of text known: {of('pages of text', 'unchanged', 'text')}, printed in one typeface.",
                f"Taken for pages of text: {each('unchanged', 'text', *drawings)}.",
            ),
            bullet(f"One face is found in {faces['one']} of {faces['pictures']} CUFS drawings."),
            "",
            "The thresholds were chosen on up to 120 pictures of each set, counted here too. A drawing photographed in",
            "uneven light has smooth tones and may be called a photograph.",
        ]
    )


def tolerances() -> str:
    """By how much `unmask verify` lets numbers differ."""
    return markdown(
        ("quantity", "fields", "may differ by"),
        [
            (one.quantity, ", ".join(f"`{name}`" for name in one.names), f"{one.most:g} {one.unit}".strip())
            for one in TOLERANCES
        ],
    )


def agreement_of_versions(root: Path) -> str:
    """How far reports on sixty files differ between the lowest and the newest versions of the libraries."""
    parts = []
    for record in json.loads((root / "tests" / "golden" / "versions.json").read_text(encoding="utf-8")):
        count, same = record["files"], record["counts"].get("same", 0)
        rows = [(name, *versions) for name, versions in record["versions"].items()]
        parts.append(markdown(("library", "inspected with", "verified with"), rows))
        sizes = [
            (name, f"{size:.2g}" if size else "0", f"{record['tolerances'][name]['most']:g}")
            for name, size in record["largest_differences"].items()
        ]
        parts.append(f"{same} of {count} reports are the same. Largest differences:")
        parts.append(markdown(("quantity", "largest difference", "tolerance"), sizes))
        for path, differences in record["differing"].items():
            named = ", ".join(f"`{one['field']}`" for one in differences[:3])
            parts.append(f"- {path}: {named}")
    return "\n\n".join(parts)


def validation_of_detector(card: Card) -> str:
    """What the embedded detector's likelihood ratios were worth on the test split."""
    made, calibration = card.validation, card.calibration
    assert made is not None and calibration is not None  # as the pack's experiment leaves it
    real, forged = made.above(0.0)
    sentences = (
        f"Of `{card.name}` {card.version} they were measured with the whole pipeline "
        f"(`experiments/plain/validation.py`): {made.data}.",
        f"{made.n_real:,} authentic and {made.n_forged:,} forged faces were judged, {made.refused_real} and "
        f"{made.refused_forged} more were not.",
        f"Cllr is {made.cllr:.3f}, at best {made.cllr_min:.3f}; {forged:.0%} of the forged and {real:.0%} of the "
        "authentic faces have an LR above 1.",
        f"On kinds and sources that the networks had not seen, Cllr is {calibration.cllr:.3f}: the scores behind that "
        "figure were not kept, and plots of it cannot be drawn.",
    )
    text = " ".join(sentences)
    return textwrap.fill(text, _WIDTH)
