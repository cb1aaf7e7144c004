import dataclasses
import math

import numpy as np
import pytest
from evidence_samples import CALIBRATION, STILL_LIMIT, make_face, refused_face
from hypothesis import given
from hypothesis import strategies as st

from unmask.errors import RefusalCode
from unmask.evidence.likelihood import (
    REFUSAL_REMEDIES,
    conclude,
    decide,
    decision_for,
    explain,
    file_log10_lr,
    heading,
    likelihood_ratio,
    limit_words,
    lr_text,
    strength,
    support,
    why_inconclusive,
)
from unmask.evidence.report import TrackPoint, Verdict

LOGITS = st.floats(-1e6, 1e6)
QUALITIES = st.floats(20.0, 100.0)
LOG10_LRS = st.floats(-12.0, 12.0)


@pytest.mark.parametrize(
    ("logit", "quality", "expected"),
    [
        (2.0, 80.0, 1.2),  # 0.2 + 0.5 * 2
        (-1.0, 80.0, -0.3),  # 0.2 - 0.5
        (2.0, 40.0, 0.4),  # -0.1 + 0.25 * 2, the lower bin
        (2.0, 20.0, 0.4),  # a bin holds its lower end
        (2.0, 60.0, 1.2),  # and not its upper end
        (2.0, 100.0, 1.2),  # save the last, which holds 100
        (99.0, 80.0, 2.4),  # the empirical bounds
        (-99.0, 80.0, -2.1),
        (99.0, 40.0, 1.2),
        (-99.0, 40.0, -1.0),
    ],
)
def test_likelihood_ratio_by_hand(logit, quality, expected):
    assert likelihood_ratio(CALIBRATION, logit, quality) == pytest.approx(expected)


@pytest.mark.parametrize("quality", [19.9, -1.0, 100.1, math.nan])
def test_quality_outside_the_bins_is_an_error(quality):
    with pytest.raises(ValueError, match="quality"):
        likelihood_ratio(CALIBRATION, 0.0, quality)


@pytest.mark.parametrize("logit", [math.nan, math.inf, -math.inf])
def test_a_logit_must_be_finite(logit):
    with pytest.raises(ValueError, match="finite"):
        likelihood_ratio(CALIBRATION, logit, 80.0)


@given(LOGITS, LOGITS, QUALITIES)
def test_monotone_in_the_logit(one, other, quality):
    low, high = sorted((one, other))
    assert likelihood_ratio(CALIBRATION, low, quality) <= likelihood_ratio(CALIBRATION, high, quality)


@given(LOGITS, QUALITIES)
def test_within_the_bounds_of_its_bin(logit, quality):
    fit = CALIBRATION.bins[0] if quality < 60.0 else CALIBRATION.bins[1]
    assert fit.lower <= likelihood_ratio(CALIBRATION, logit, quality) <= fit.upper


@pytest.mark.parametrize(
    ("ratio", "word"),
    [
        (1.0, None),
        (1.99, None),
        (2.0, "weak"),
        (9.9, "weak"),
        (10.0, "moderate"),
        (99.0, "moderate"),
        (100.0, "moderately strong"),
        (999.0, "moderately strong"),
        (1_000.0, "strong"),
        (9_999.0, "strong"),
        (10_000.0, "very strong"),
        (1_000_000.0, "very strong"),
        (1_000_001.0, "extremely strong"),
    ],
)
def test_verbal_scale_of_enfsi(ratio, word):
    log10_lr = math.log10(ratio)
    assert strength(log10_lr) == strength(-log10_lr) == word
    if word is None:
        assert support(log10_lr) == support(-log10_lr) == "no support for one proposition over the other"
    else:
        assert support(log10_lr) == f"{word} support for a forged face"
        assert support(-log10_lr) == f"{word} support for an unaltered photograph"


@given(LOG10_LRS)
def test_the_scale_is_symmetric(log10_lr):
    swapped = {"a forged face": "an unaltered photograph", "an unaltered photograph": "a forged face"}
    here, there = support(log10_lr), support(-log10_lr)
    for name, other in swapped.items():
        if here.endswith(name):
            assert there == here.removesuffix(name) + other
            return
    assert here == there


@pytest.mark.parametrize(
    ("log10_lr", "part"),
    [
        (0.1, "about equally probable"),
        (1.6, "about 39 times more probable if the face was forged than if"),
        (-1.6, "about 39 times more probable if the face is an unaltered photograph than if the face was forged"),
        (0.4, "about 2.5 times"),
        (3.1, "about 1,200 times"),
        (6.0, "about 1,000,000 times"),
        (6.5, "more than 1,000,000 times"),
        (400.0, "more than 1,000,000 times"),
    ],
)
def test_plain_sentence(log10_lr, part):
    assert part in explain(log10_lr)


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1.0, "1.0"),
        (1.04, "1.0"),
        (1 / 1.04, "1.0"),
        (1.99, "1.9"),
        (2.0, "2"),
        (0.5, "1/2"),
        (5.78, "5.7"),
        (9.99, "9.9"),
        (10.0, "10"),
        (13.9, "13"),
        (1 / 13.9, "1/13"),
        (1_258.0, "1,200"),
        (1e6, "1,000,000"),
        (1.1e6, ">1,000,000"),
        (1 / 1.1e6, "<1/1,000,000"),
    ],
)
def test_the_ratio_in_two_digits_is_rounded_towards_one(ratio, text):
    assert lr_text(math.log10(ratio)) == text


@given(LOG10_LRS)
def test_no_number_looks_stronger_than_its_word(log10_lr):
    text = lr_text(log10_lr).strip("<>").replace(",", "")
    shown = 1 / float(text[2:]) if text.startswith("1/") else float(text)
    if abs(log10_lr) <= 6.0:
        assert strength(math.log10(shown)) == strength(log10_lr)
    assert heading(log10_lr).endswith(f", LR {lr_text(log10_lr)}")


def test_a_verdict_is_never_given_without_support():
    """Below LR 2 the scale has no support for either side, whatever limit a card states."""
    eager = dataclasses.replace(CALIBRATION, decision_log10_lr=0.1)
    for log10_lr in (0.2, 0.3, -0.3):
        assert decide(log10_lr, eager) is Verdict.INCONCLUSIVE and strength(log10_lr) is None
    assert decide(math.log10(2), eager) is Verdict.FORGED
    assert decide(-math.log10(2), eager) is Verdict.AUTHENTIC


def test_that_sources_were_unseen_is_said_of_calibrations_on_such_alone():
    seen = dataclasses.replace(CALIBRATION, conditions=(STILL_LIMIT,))
    unseen = dataclasses.replace(seen, held_out=True)
    words = [limit_words(decision_for(card, "still"), "still") for card in (seen, unseen)]
    assert ["had not seen" in text for text in words] == [False, True]
    decision = decision_for(unseen, "still")
    assert (decision.called_authentic, decision.misses, decision.n_real, decision.n_forged) == (0.3, 0.01, 1000, 1200)
    assert (decision.cllr, decision.cllr_min, decision.held_out) == (CALIBRATION.cllr, CALIBRATION.cllr_min, True)
    assert decision_for(unseen).held_out is None  # no rates are stated for faces in no condition


def test_the_limit_can_be_moved_and_then_no_rates_are_claimed():
    card = dataclasses.replace(CALIBRATION, conditions=(STILL_LIMIT,))
    own, moved = decision_for(card, "still"), decision_for(card, "still", 10.0)
    assert (own.set_by, own.worst_source, own.false_alarms) == ("card", "a press archive", 0.004)
    assert "0.4 % are called forged, 2.1 % of the worst source (a press archive)" in limit_words(own, "still")
    assert (moved.set_by, moved.false_alarms, moved.worst_source) == ("option", None, None)
    assert moved.forged_log10_lr == moved.authentic_log10_lr == 1.0
    assert "--decide" in limit_words(moved, "still") and "%" not in limit_words(moved, "still")
    assert decide(0.9, card, "still", 10.0) is Verdict.INCONCLUSIVE
    assert decide(1.0, card, "still", 10.0) is Verdict.FORGED
    unjudged = dataclasses.replace(STILL_LIMIT, decision_log10_lr=None, reason="too many false alarms")
    assert decision_for(dataclasses.replace(CALIBRATION, conditions=(unjudged,)), "still", 10.0) is None


def test_every_inconclusive_says_why_and_what_would_help():
    limits = decision_for(CALIBRATION)
    weak = why_inconclusive(0.2, CALIBRATION, 80.0, "still", limits)
    assert weak.code == "weak_evidence" and "LR 3.1" in weak.message and weak.remedy
    bins = CALIBRATION.bins
    low = dataclasses.replace(bins[0], lower=-0.2, upper=0.3)
    bounded = dataclasses.replace(CALIBRATION, bins=(low, bins[1]))
    better = why_inconclusive(0.2, bounded, 40.0, "still", limits)
    assert better.code == "calibration_bounds"
    assert "faces of quality 20 to 60" in better.message and "LR beyond 1.9" in better.message
    assert "from quality 60 on" in better.remedy
    nowhere = dataclasses.replace(CALIBRATION, bins=(low, dataclasses.replace(bins[1], lower=-0.2, upper=0.3)))
    hopeless = why_inconclusive(-0.1, nowhere, 80.0, "still", limits)
    assert "LR beyond 1/1.5" in hopeless.message and "needs 1/3.1" in hopeless.message
    assert "No quality" in hopeless.remedy


@pytest.mark.parametrize(
    ("log10_lr", "verdict"),
    [
        (0.5, Verdict.FORGED),
        (0.49, Verdict.INCONCLUSIVE),
        (0.0, Verdict.INCONCLUSIVE),
        (-0.49, Verdict.INCONCLUSIVE),
        (-0.5, Verdict.AUTHENTIC),
    ],
)
def test_decision(log10_lr, verdict):
    assert decide(log10_lr, CALIBRATION) is verdict


@pytest.mark.parametrize("judge", [strength, support, explain, lr_text, lambda lr: decide(lr, CALIBRATION)])
def test_not_a_number_is_never_judged(judge):
    with pytest.raises(ValueError, match="not a number"):
        judge(math.nan)


def test_the_file_has_the_mean_of_its_faces_likelihood_ratios():
    faces = [make_face(0, -9.0), make_face(1, 4.0), make_face(2, 3.0), refused_face(3)]
    conclusion = conclude(faces)
    mean = sum(10**face.log10_lr for face in faces[:3]) / 3
    assert conclusion.log10_lr == pytest.approx(math.log10(mean))
    assert conclusion.verdict is Verdict.FORGED
    assert conclusion.score == faces[1].score
    assert conclusion.support == support(conclusion.log10_lr)
    assert conclusion.refusal is None
    assert conclusion.speaker == 1
    assert conclusion.decision == faces[0].decision


def test_one_suspect_face_among_many_is_no_forged_file():
    suspect, others = make_face(0, 1.0), [make_face(index, 0.0) for index in range(1, 9)]
    assert suspect.verdict is Verdict.FORGED and conclude([suspect]).verdict is Verdict.FORGED
    conclusion = conclude([suspect, *others])
    assert conclusion.verdict is Verdict.INCONCLUSIVE
    assert conclusion.inconclusive.code == "several_faces"
    assert "Face 1 alone passes the limit with LR 5" in conclusion.inconclusive.message


def test_a_file_is_held_against_the_strictest_limits_of_its_faces():
    strict = decision_for(CALIBRATION, decide_at=1000.0)
    faces = [make_face(0, 4.0), make_face(1, 4.0, decision=strict)]
    conclusion = conclude(faces)
    assert conclusion.decision.forged_log10_lr == 3.0
    assert conclusion.verdict is Verdict.INCONCLUSIVE


def test_authentic_only_if_every_judged_face_is():
    authentic, unsure = make_face(0, -4.0), make_face(1, 0.0)
    both = conclude([authentic, make_face(1, -9.0), refused_face(2)])
    assert both.verdict is Verdict.AUTHENTIC and both.log10_lr < authentic.log10_lr
    assert conclude([authentic, unsure]).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("faces", [2, 4, 9])
def test_false_alarms_of_calibrated_faces_do_not_grow_with_their_number(faces):
    # Logits of authentic faces for which a logit is its own log LR: normal, mean -s^2/2, spread s.
    rng = np.random.default_rng(0)
    ratios = rng.normal(-2.0, 2.0, (20_000, faces)) / math.log(10)
    limit = 1.0
    single = np.mean(ratios[:, 0] >= limit)
    together = np.mean([file_log10_lr(list(row)) >= limit for row in ratios])
    assert together <= single
    assert np.mean(ratios.max(axis=1) >= limit) > 1.5 * single  # what the highest of them does


def test_without_a_judged_face_the_file_is_refused():
    small = refused_face(0, RefusalCode.TOO_SMALL, "20 pixels wide.")
    poor = refused_face(1, RefusalCode.POOR_QUALITY, "Too blurred.")
    assert conclude([]).refusal.code is RefusalCode.NO_FACE
    assert conclude([small]).refusal == small.refusal
    both = conclude([small, poor])
    assert both.verdict is Verdict.REFUSED
    assert (both.score, both.log10_lr, both.support) == (None, None, None)
    assert both.refusal.code is RefusalCode.POOR_QUALITY
    assert both.refusal.message == "None of the 2 faces could be judged. Too blurred."


def test_a_brief_appearance_does_not_speak_for_a_video():
    def seen(index, logit, frames):
        face = make_face(index, logit)
        point = TrackPoint(time=0.0, box=face.box, quality=80.0, score=face.score, log10_lr=face.log10_lr)
        unjudged = point.model_copy(update={"score": None, "log10_lr": None})
        return face.model_copy(update={"track": [point] * frames + [unjudged] * 5})

    long, brief = seen(0, -4.0, 3), seen(1, 4.0, 2)
    assert conclude([long, brief], 10).verdict is Verdict.AUTHENTIC
    assert conclude([long, brief], 10).log10_lr == long.log10_lr
    # Nobody was seen longer; or there was no more to see.
    assert conclude([brief, refused_face(2)], 10).verdict is Verdict.FORGED
    assert conclude([long, brief], 2).verdict is Verdict.FORGED
    # Faces of a picture have no track, and each speaks.
    assert conclude([make_face(0, -4.0), make_face(1, 4.0)], None).verdict is Verdict.FORGED


@given(st.lists(st.tuples(LOGITS, QUALITIES), min_size=1, max_size=8))
def test_the_file_lies_between_its_faces_and_is_never_surer_than_them(faces):
    findings = [make_face(index, logit, quality) for index, (logit, quality) in enumerate(faces)]
    conclusion = conclude(findings)
    ratios = [face.log10_lr for face in findings]
    assert min(ratios) - 1e-9 <= conclusion.log10_lr <= max(ratios) + 1e-9
    if conclusion.verdict is Verdict.FORGED:
        assert any(face.verdict is Verdict.FORGED for face in findings)
    if conclusion.verdict is Verdict.AUTHENTIC:
        assert all(face.verdict is Verdict.AUTHENTIC for face in findings)


def test_every_refusal_says_what_would_help() -> None:
    assert set(REFUSAL_REMEDIES) == set(RefusalCode)
