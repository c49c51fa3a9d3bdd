# SPDX-License-Identifier: Apache-2.0
"""The gate decides both ways, for the reasons it gives."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from medreasoner_training.gate import (
    GateConfig,
    GateConfigError,
    GateReport,
    GateReportError,
    HeldOut,
    ModelScores,
    PairedScores,
    ScoresError,
    TooFewHeldOutPatientsError,
    decide,
    metric_values,
    model_card_section,
)

PATIENTS = 24
CONFIG = GateConfig(min_patients=10, min_label_samples=10, resamples=999)


def held_out(patients=PATIENTS):
    """Per patient: liver present, liver absent, spleen present."""
    return HeldOut(
        patients=np.repeat([f"p{number}" for number in range(patients)], 3),
        labels=np.tile(["liver", "liver", "spleen"], patients),
        present=np.tile([True, False, True], patients),
    )


def scores(name, *, liver=0.5, spleen=0.5, absent_right=True, patients=PATIENTS):
    """Equal scores for every patient; the live model's are liver 0.5, spleen 0.5."""
    n = 3 * patients
    return ModelScores(
        name=name,
        failed=np.zeros(n, bool),
        said_absent=np.tile([False, absent_right, False], patients),
        box_iou=np.tile([liver, 0.0, spleen], patients).astype(float),
    )


LIVE = scores("live-1")


def decision(candidate, live=LIVE, config=CONFIG):
    return decide(held_out(), candidate, live, config)


def broken(report):
    return [reason.rule for reason in report.reasons if not reason.passed]


def test_identical_model_is_refused_as_it_would_change_nothing():
    report = decision(scores("new"))
    assert broken(report) == ["box_iou", "difference"]
    assert report.overall[0].low == report.overall[0].high == 0.0


@pytest.mark.parametrize("gain", [-1.0, -0.02, 0.0, 0.01])
def test_identical_model_is_refused_whatever_gain_is_asked_for(gain):
    report = decision(scores("new"), config=dataclasses.replace(CONFIG, gain=gain))
    assert "difference" in broken(report)


def test_non_inferiority_is_asked_for_by_a_gain_below_0():
    slightly_worse = scores("new", liver=0.51, spleen=0.48)
    assert broken(decision(slightly_worse)) == ["box_iou"]
    report = decision(slightly_worse, config=dataclasses.replace(CONFIG, gain=-0.02))
    assert report.promote
    assert "lies above the limit of non-inferiority of -0.020" in report.sentences[0]


def test_every_rule_gives_a_reason():
    report = decision(scores("new", liver=0.7, spleen=0.6))
    assert [reason.rule for reason in report.reasons] == [
        "box_iou",
        "failures",
        "absence",
        "label liver",
        "label spleen",
    ]
    assert (report.samples, report.patients) == (72, 24)


def test_better_model_is_promoted_with_the_figures_in_a_sentence():
    report = decision(scores("new", liver=0.7, spleen=0.6))
    assert report.promote
    assert report.sentences[0] == (
        "Box IoU is 0.650 against 0.500 of the live model (+0.150, 48 samples of 24 patients); the "
        "lower bound of its 97.50% interval (+0.150 to +0.150) lies above the gain of +0.000. It "
        "is attempt 1 against this live model."
    )


def test_worse_model_is_refused():
    report = decision(scores("new", liver=0.4, spleen=0.46))
    assert not report.promote
    assert broken(report) == ["box_iou"]
    assert "does not lie above the gain of +0.000" in report.sentences[0]


def test_better_mean_does_not_hide_a_label_that_falls():
    report = decision(scores("new", liver=0.9, spleen=0.38))
    assert report.overall[0].difference == pytest.approx(0.14)
    assert broken(report) == ["label spleen"]
    assert "-0.120, 24 samples of 24 patients" in report.sentences[0]
    assert "interval -0.120 to -0.120; it breaks the limit of -0.100" in report.sentences[0]


def test_fall_within_the_label_margin_is_allowed():
    assert decision(scores("new", liver=0.9, spleen=0.41)).promote


def test_label_with_few_samples_is_shown_and_not_judged():
    config = dataclasses.replace(CONFIG, min_label_samples=25)
    report = decision(scores("new", liver=0.9, spleen=0.2), config=config)
    assert report.promote
    assert [line.label for line in report.by_label] == ["liver", "spleen"]


def test_model_that_always_draws_a_box_is_refused():
    report = decision(scores("new", liver=0.9, spleen=0.9, absent_right=False))
    assert broken(report) == ["absence"]
    assert '"not present" answers is 0.000 against 1.000' in report.sentences[0]


def test_absence_that_cannot_be_judged_is_said():
    everywhere = dataclasses.replace(held_out(), present=np.ones(72, bool))
    named = {reason.rule: reason for reason in decide(everywhere, LIVE, LIVE, CONFIG).reasons}
    assert named["absence"].sentence == (
        'The share of right "not present" answers was not judged: 0 held-out samples ask for an '
        "absent target, fewer than 10."
    )


def at_both_sites(former_iou, config=CONFIG):
    """The report on a better candidate that scores ``former_iou`` at the former site; live 0.5."""
    former = PairedScores(held_out(), scores("new", liver=former_iou, spleen=former_iou), LIVE)
    return decide(held_out(), scores("new", liver=0.7), LIVE, config, former)


def test_gain_at_the_site_does_not_excuse_what_was_forgotten_of_the_former_one():
    report = at_both_sites(0.44)
    assert broken(report) == ["former site"]
    assert report.sentences[0] == (
        "At the former site: Box IoU is 0.440 against 0.500 of the live model (-0.060, 48 samples "
        "of 24 patients), interval -0.060 to -0.060; it breaks the limit of -0.050."
    )
    kept = at_both_sites(0.46)
    assert kept.promote
    assert kept.reasons[-1].sentence.endswith("it keeps the limit of -0.050.")


def test_former_site_may_be_measured_without_being_judged():
    report = at_both_sites(0.1, dataclasses.replace(CONFIG, former_margin=None))
    assert report.promote
    assert report.former[0].difference == pytest.approx(-0.4)


def test_report_of_a_time_before_former_sites_were_measured_can_be_read():
    fields = decision(scores("new")).to_dict()
    del fields["former"], fields["config"]["former_margin"]
    assert GateReport.from_dict(fields) == decision(scores("new"))


def test_report_of_the_gate_that_asked_for_not_worse_keeps_what_it_said():
    """As that gate wrote it: no attempt, no verdicts, a margin."""
    sentence = "the lower bound of its 95% interval lies above the margin of -0.020."
    line = decision(scores("new")).to_dict()["overall"][0]
    old = {
        "candidate": "new", "live": "live-1", "promote": True, "samples": 72, "patients": 24,
        "reasons": [{"rule": "box_iou", "passed": True, "sentence": sentence}],
        "overall": [line], "by_label": [], "former": [],
        "config": {
            "primary": "box_iou", "margin": 0.02, "failure_margin": 0.01, "absence_margin": 0.05,
            "label_margin": 0.1, "former_margin": 0.05, "min_patients": 20,
            "min_label_samples": 20, "confidence": 0.95, "resamples": 9999, "seed": 0,
        },
    }  # fmt: skip
    report = GateReport.from_dict(json.loads(json.dumps(old)))
    assert report.promote
    assert report.sentences == (sentence,)
    assert (report.attempt, report.config.gain, report.reasons[0].verdict) == (None, -0.02, None)
    card = model_card_section(report)
    assert "Intervals: 95%, BCa" in card
    assert f"- kept: {sentence}" in card


def failing(patients: int, of: int = PATIENTS) -> ModelScores:
    """Better, but the first question of so many patients gets no answer that can be read."""
    failed = np.zeros(3 * of, bool)
    failed[: 3 * patients : 3] = True
    candidate = scores("new", liver=0.9, spleen=0.9, patients=of)
    return dataclasses.replace(candidate, failed=failed)


def verdict(report, rule):
    return next(reason.verdict for reason in report.reasons if reason.rule == rule)


def test_failures_may_not_surely_rise():
    """1 of 72 answers may be chance, though its share of 0.0139 is above the margin of 0.01."""
    assert verdict(decision(failing(0)), "failures") == "keeps"
    one = decision(failing(1))
    assert (one.promote, verdict(one, "failures")) == (True, "cannot be told")
    assert broken(decision(failing(12))) == ["failures"]
    wider = dataclasses.replace(CONFIG, failure_margin=0.5)
    assert verdict(decision(failing(12), config=wider), "failures") == "keeps"


def test_mean_gain_from_one_patient_alone_does_not_convince():
    """+0.9 for one patient and -0.03 for 23: the mean rises, the interval reaches far below 0."""
    iou = np.tile([0.47, 0.0, 0.47], PATIENTS)
    iou[:3] = [1.0, 0.0, 1.0]
    candidate = dataclasses.replace(scores("new"), box_iou=iou)
    live_iou = np.tile([0.5, 0.0, 0.5], PATIENTS)
    live_iou[:3] = [0.1, 0.0, 0.1]
    report = decision(candidate, dataclasses.replace(LIVE, box_iou=live_iou))
    assert report.overall[0].difference == pytest.approx((0.9 - 23 * 0.03) / 24)
    assert report.overall[0].difference > 0
    assert broken(report) == ["box_iou"]


def test_same_difference_convinces_from_many_patients_and_not_from_few():
    """The rule is on the lower bound: noise that 20 patients cannot average out refuses."""

    def report(patients):
        noise = np.tile([0.3, -0.3], patients)  # alternates between a patient's neighbours
        both = np.zeros((patients, 3))
        both[:, [0, 2]] = 0.52 + np.resize(noise, patients)[:, None]
        candidate = dataclasses.replace(scores("new", patients=patients), box_iou=both.ravel())
        config = dataclasses.replace(CONFIG, label_margin=1.0)
        return decide(held_out(patients), candidate, scores("live", patients=patients), config)

    few, many = report(20), report(2000)
    assert few.overall[0].difference == pytest.approx(0.02)
    assert many.overall[0].difference == pytest.approx(0.02)
    assert (few.promote, many.promote) == (False, True)


def noisy(difference: float, sd: float, patients: int = PATIENTS) -> ModelScores:
    """Liver +0.3 for all; the spleen differs by ``difference``, half the patients by +-sd of it."""
    candidate = scores("new", liver=0.8, patients=patients)
    iou = candidate.box_iou.copy()
    iou[2::3] += difference + np.resize([sd, -sd], patients)
    return dataclasses.replace(candidate, box_iou=iou)


@pytest.mark.parametrize(
    ("difference", "sd", "expected"),
    [
        (0.0, 0.02, "keeps"),
        (-0.05, 0.02, "keeps"),  # a loss is certain, and one of 0.10 is not among its sizes
        (-0.10, 0.02, "breaks"),
        (-0.20, 0.10, "breaks"),
        (-0.06, 0.30, "cannot be told"),
        (0.0, 0.45, "cannot be told"),
    ],
)
def test_a_guard_keeps_breaks_or_cannot_be_told_by_its_interval(difference, sd, expected):
    report = decision(noisy(difference, sd))
    assert verdict(report, "label spleen") == expected
    assert report.promote == (expected != "breaks")
    told = {"keeps": "- kept:", "breaks": "- **broken**:"}.get(expected, "- cannot be told:")
    assert f"{told} Box IoU of spleen" in model_card_section(report)


def test_a_guard_of_fewer_than_ten_patients_cannot_be_told():
    config = dataclasses.replace(CONFIG, min_patients=2)
    candidate = scores("new", liver=0.9, spleen=0.38, patients=9)
    held = dataclasses.replace(config, min_label_samples=1)
    report = decide(held_out(9), candidate, scores("live", patients=9), held)
    assert verdict(report, "label spleen") == "cannot be told"


@pytest.mark.parametrize("attempt", [1, 50])
def test_two_patients_can_be_judged_where_the_settings_allow_it(attempt):
    two = dataclasses.replace(CONFIG, min_patients=2, label_margin=1.0)
    iou = np.where(held_out(2).present, [0.6, 0.0, 0.6, 0.9, 0.0, 0.9], 0.0)
    candidate = dataclasses.replace(scores("new", patients=2), box_iou=iou)
    report = decide(held_out(2), candidate, scores("l", patients=2), two, attempt=attempt)
    assert report.overall[0].low == pytest.approx(0.1)
    assert report.promote


def test_the_same_gain_convinces_at_the_first_attempt_and_no_more_at_a_late_one():
    """0.07 with an SD of 0.10 in 24 patients: 3.2 standard errors; 2.5 and 4.7 are asked for."""
    iou = np.repeat(np.resize([0.674, 0.466], PATIENTS), 3)
    candidate = dataclasses.replace(scores("new"), box_iou=np.where(held_out().present, iou, 0.0))
    lenient = dataclasses.replace(CONFIG, label_margin=1.0)
    first, late = (
        decide(held_out(), candidate, LIVE, lenient, attempt=number) for number in (1, 20)
    )
    assert first.overall[0].difference == pytest.approx(0.07)
    assert (first.promote, late.promote) == (True, False)
    assert "97.50% interval" in first.sentences[0]
    assert "99.99% interval" in late.sentences[0]
    assert "attempt 20 against this live model" in late.sentences[0]
    with pytest.raises(GateConfigError, match="attempt is 0"):
        decide(held_out(), candidate, LIVE, lenient, attempt=0)


def test_too_few_held_out_patients_decide_nothing():
    config = dataclasses.replace(CONFIG, min_patients=25)
    with pytest.raises(TooFewHeldOutPatientsError, match=r"24 held-out patients .* at least 25"):
        decision(scores("new"), config=config)


def test_patients_without_the_target_do_not_count_as_evidence():
    nobody = HeldOut(held_out().patients, held_out().labels, np.zeros(72, bool))
    with pytest.raises(TooFewHeldOutPatientsError, match=r"^0 held-out patients"):
        decide(nobody, scores("new"), LIVE, CONFIG)


def test_mask_dice_decides_when_it_is_primary():
    config = dataclasses.replace(CONFIG, primary="mask_dice")
    dice = np.full(72, 0.8)
    live = dataclasses.replace(LIVE, mask_dice=dice)
    worse = dataclasses.replace(scores("new", liver=0.9, spleen=0.9), mask_dice=dice - 0.05)
    assert broken(decision(worse, live, config)) == ["mask_dice"]
    with pytest.raises(ScoresError, match="mask_dice decides, but was not measured"):
        decision(scores("new"), live, config)


def test_failed_and_wrongly_absent_answers_score_zero_overlap():
    truth = HeldOut(np.array(["a"] * 4), np.array(["x"] * 4), np.array([True, True, True, False]))
    model = ModelScores(
        "m",
        failed=np.array([True, False, False, False]),
        said_absent=np.array([False, True, False, True]),
        box_iou=np.array([0.9, 0.9, 0.9, 0.9]),
    )
    nan = np.nan
    np.testing.assert_array_equal(metric_values(truth, model, "box_iou"), [0.0, 0.0, 0.9, nan])
    np.testing.assert_array_equal(metric_values(truth, model, "absence"), [nan, nan, nan, 1.0])
    np.testing.assert_array_equal(metric_values(truth, model, "failures"), [1.0, 0.0, 0.0, 0.0])
    assert metric_values(truth, model, "mask_dice") is None


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.1])
def test_value_that_is_no_score_is_refused(value):
    iou = LIVE.box_iou.copy()
    iou[0] = value
    with pytest.raises(ScoresError, match=r"outside 0\.\.\.1 or NaN"):
        decision(dataclasses.replace(LIVE, box_iou=iou))


def test_scores_of_other_samples_are_refused():
    with pytest.raises(ScoresError, match="scores of 69 samples"):
        decision(scores("new", patients=23))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"failed": np.zeros(72)}, "failed is float64; expected bool"),
        ({"box_iou": np.zeros(71)}, r"box_iou has shape \(71,\)"),
        ({"failed": np.ones(72, bool)}, "overlap"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(change, message):
    with pytest.raises(ScoresError, match=message):
        dataclasses.replace(LIVE, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"primary": "accuracy"},
        {"gain": 1.0},
        {"gain": -1.1},
        {"guard_confidence": 0.4},
        {"label_margin": 1.01},
        {"former_margin": -0.01},
        {"min_patients": 1},
        {"min_label_samples": 0},
        {"confidence": 1.0},
        {"resamples": 99},
        {"seed": -1},
    ],
)
def test_setting_out_of_range_is_refused_by_name(change):
    with pytest.raises(GateConfigError, match=next(iter(change))):
        GateConfig(**change)


def test_report_survives_json_and_names_no_patient():
    report = at_both_sites(0.4)
    text = json.dumps(report.to_dict())
    assert GateReport.from_dict(json.loads(text)) == report
    assert not any(f'"p{number}"' in text for number in range(PATIENTS))


def test_report_whose_decision_was_edited_is_refused():
    fields = decision(scores("new", spleen=0.2)).to_dict()
    with pytest.raises(GateReportError, match="does not follow"):
        GateReport.from_dict({**fields, "promote": True})
    with pytest.raises(GateReportError, match="no report"):
        GateReport.from_dict({"promote": True})


def test_decision_can_be_repeated():
    rng = np.random.default_rng(0)
    candidate = dataclasses.replace(scores("new"), box_iou=rng.random(72))
    assert decision(candidate) == decision(candidate)
    other = decision(candidate, config=dataclasses.replace(CONFIG, seed=1))
    assert other.overall[0].low != decision(candidate).overall[0].low


def test_model_card_tells_the_decision_the_reasons_and_every_label():
    card = model_card_section(decision(scores("new", liver=0.9, spleen=0.38)))
    assert "`new` must not replace `live-1`" in card
    assert "- **broken**: Box IoU of spleen is 0.380 against 0.500" in card
    assert "former site" not in card
    assert "| box_iou | 0.440 | 0.500 | -0.060 |" in model_card_section(at_both_sites(0.44))
    row = "| liver | 0.900 | 0.500 | +0.400 | +0.400 to +0.400 | 24 | 24 |"
    assert row in card.splitlines()
    tables = [line for line in card.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {8}
