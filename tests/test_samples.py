# SPDX-License-Identifier: Apache-2.0
"""From a volume with known masks to questions with boxes and key points."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreasoner_infer.imaging import Plane, Volume, Window
from medreasoner_infer.keypoints import bbox_from_mask
from medreasoner_training.embedded.queries import known_targets
from medreasoner_training.samples import (
    TRAIN,
    VALIDATION,
    Components,
    LabelledCase,
    LeftOut,
    QuerySource,
    Question,
    Sample,
    SampleSettings,
    SampleSettingsError,
    Target,
    TooFewPatientsError,
    assign_splits,
    pseudonym,
    samples_of_case,
    template_questions,
)
from medreasoner_training.samples.slices import absent_slices, present_slices

SETTINGS = SampleSettings(model_size=200, min_area_px=50)
QUESTION = Question("Which organ makes bile?", QuerySource.TEMPLATE)
LPS = np.diag([1.0, 1.0, 1.0, 1.0])


def make_volume(shape_ijk, ijk_to_lps) -> Volume:
    array = np.full(shape_ijk, 40, np.int16)
    return Volume(array, ijk_to_lps, "CT", "key", Path("volume"))


def make_case(mask_ijk, ijk_to_lps=LPS, plane=Plane.AXIAL, questions=(QUESTION,), **changes):
    target = Target("liver", mask_ijk, tuple(questions))
    volume = make_volume(mask_ijk.shape, ijk_to_lps)
    case = LabelledCase(volume, (target,), "c" * 16, "d" * 16, plane, Window(40, 400))
    return replace(case, **changes)


def make(case: LabelledCase, settings: SampleSettings = SETTINGS) -> list[Sample]:
    return list(samples_of_case(case, settings, LeftOut()))


def block(shape_ijk, i, j, k) -> np.ndarray:
    mask = np.zeros(shape_ijk, bool)
    mask[slice(*i), slice(*j), slice(*k)] = True
    return mask


# --- box, points and mask ------------------------------------------------------------------------


def test_box_and_points_are_those_of_the_letterboxed_slice() -> None:
    # 20 x 10 pixels of 1 mm in a square of 200: ten times as large, 50 px of padding on top.
    (sample,) = make(make_case(block((20, 10, 1), (4, 8), (2, 5), (0, 1))))
    assert sample.bbox_xyxy_px == (40, 70, 80, 100)
    # Largest disc at pixel (5, 3); what it leaves begins at pixel (7, 2).
    assert sample.points_xy_px == ((55, 85), (75, 75))
    assert sample.image.shape == (200, 200, 3)
    assert not sample.image[:50].any()
    expected = np.zeros((200, 200), bool)
    expected[70:100, 40:80] = True
    np.testing.assert_array_equal(sample.mask, expected)


@pytest.mark.parametrize(
    ("diagonal", "plane", "shape", "box"),
    [
        # Stored from the patient's left to right and from back to front: shown the other way.
        ((-1, -1, 1), Plane.AXIAL, (20, 10, 12), (120, 100, 160, 130)),
        ((1, 2, 1), Plane.AXIAL, (20, 10, 12), (40, 40, 80, 100)),
        # The head is on top: K rises upwards.
        ((1, 1, 1), Plane.CORONAL, (20, 9, 10), (40, 90, 80, 120)),
        ((1, 1, 1), Plane.SAGITTAL, (9, 20, 10), (20, 90, 50, 120)),
        ((1, 1, -1), Plane.CORONAL, (20, 9, 10), (40, 80, 80, 110)),
    ],
)
def test_the_box_follows_the_display_however_the_voxels_are_stored(
    diagonal, plane, shape, box
) -> None:
    mask = block(shape, (4, 8), (2, 5), (3, 6))
    samples = make(make_case(mask, np.diag([*map(float, diagonal), 1.0]), plane))
    assert {sample.bbox_xyxy_px for sample in samples if sample.present} == {box}


@given(st.data())
def test_the_box_is_that_of_the_mask_and_the_points_lie_in_it(data) -> None:
    shape = (data.draw(st.integers(5, 40)), data.draw(st.integers(5, 40)), 1)
    spacing = [data.draw(st.sampled_from([0.7, 1.0, 1.3])) for _ in range(2)]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    mask = rng.random(shape) < 0.2
    mask[2, 2] = True
    settings = replace(SETTINGS, min_area_px=1)
    (sample,) = make(make_case(mask, np.diag([*spacing, 1.0, 1.0])), settings)
    assert sample.bbox_xyxy_px == bbox_from_mask(sample.mask)
    assert all(sample.mask[y, x] for x, y in sample.points_xy_px)


def test_all_parts_share_a_box_and_the_largest_can_be_chosen() -> None:
    mask = block((20, 20, 1), (2, 6), (2, 6), (0, 1))
    mask[10:12, 10:12] = True
    assert make(make_case(mask))[0].bbox_xyxy_px == (20, 20, 120, 120)
    largest = replace(SETTINGS, components=Components.LARGEST)
    assert make(make_case(mask), largest)[0].bbox_xyxy_px == (20, 20, 60, 60)


def test_labels_of_one_map_are_targets_of_their_own() -> None:
    labels = np.zeros((20, 20, 1), np.int32)
    labels[2:6, 5:9], labels[12:16, 5:9] = 7, 300
    case = make_case(labels)
    targets = (Target("a", labels, (QUESTION,), 7), Target("b", labels, (QUESTION,), 300))
    boxes = {s.label_name: s.bbox_xyxy_px for s in make(replace(case, targets=targets))}
    assert boxes == {"a": (20, 50, 60, 90), "b": (120, 50, 160, 90)}


# --- slices --------------------------------------------------------------------------------------


def test_slices_lie_evenly_through_the_target_with_the_one_asked_about() -> None:
    areas = np.array([0, 0, *[100] * 12, 0])
    assert present_slices(areas, 50, 4) == [3, 6, 9, 12]
    assert present_slices(areas, 50, 4, asked=5) == [3, 5, 9, 12]
    assert present_slices(areas, 50, 4, asked=0) == [3, 6, 9, 12]
    assert present_slices(areas, 50, 40) == list(range(2, 14))
    assert present_slices(areas, 101, 4) == []


def test_absence_is_claimed_only_at_a_distance_from_a_target_that_tapers() -> None:
    areas = np.zeros(20)
    areas[8:12] = (10, 100, 100, 10)
    assert absent_slices(areas, 5.0, 10.0) == [*range(7), *range(13, 20)]
    areas[11] = 100  # the mask ends abruptly: perhaps the reader stopped there
    assert absent_slices(areas, 5.0, 10.0) == list(range(7))
    assert absent_slices(np.zeros(4), 5.0, 10.0) == []


def tapering() -> np.ndarray:
    mask = block((20, 20, 30), (4, 12), (4, 12), (10, 13))
    mask |= block((20, 20, 30), (7, 9), (7, 9), (9, 14))
    return mask


def test_on_slices_without_the_target_there_is_no_box_and_no_mask() -> None:
    samples = make(make_case(tapering()))
    present = {s.slice_index: s.bbox_xyxy_px for s in samples if s.present}
    wide, narrow = (40, 40, 120, 120), (70, 70, 90, 90)
    assert present == {9: narrow, 10: wide, 11: wide, 12: wide, 13: narrow}
    absent = [s for s in samples if not s.present]
    assert len(absent) == SETTINGS.max_absent_slices
    for sample in absent:
        assert not tapering()[:, :, sample.slice_index].any()
        assert not 0 < 9 - sample.slice_index < 10
        assert sample.points_xy_px is None
        assert not sample.mask.any()


def test_a_mask_of_one_slice_or_an_empty_slice_makes_no_absent_target() -> None:
    case = make_case(tapering())
    one_slice = replace(case.targets[0], whole_volume=False)
    assert all(s.present for s in make(replace(case, targets=(one_slice,))))
    air = replace(case.volume, array=np.full((20, 20, 30), -1000, np.int16))
    assert all(s.present for s in make(replace(case, volume=air)))


def test_a_target_that_is_too_small_everywhere_is_counted() -> None:
    left_out = LeftOut()
    case = make_case(block((20, 20, 30), (4, 5), (4, 5), (9, 12)))
    settings = replace(SETTINGS, min_area_px=101)
    assert list(samples_of_case(case, settings, left_out)) == []
    ((name, reason, count),) = left_out
    assert (name, count) == ("liver", 1)
    assert "smaller" in reason


def test_the_reasoning_stays_with_the_slice_that_was_asked_about() -> None:
    trace = "Bright, on the left."
    question = Question("Where is bile made?", QuerySource.READER, trace, "id", "[1]")
    samples = make(make_case(tapering(), questions=(question,), asked_index=11))
    traces = {s.slice_index: s.question.reasoning for s in samples}
    assert traces.pop(11) == "Bright, on the left."
    assert set(traces.values()) == {None}
    assert {s.slice_index for s in samples if s.question.prompts} == {11}
    assert {s.question.inference_id for s in samples} == {"id"}


@pytest.mark.parametrize(
    ("box", "source", "kept"),
    [
        ((4, 4, 8, 8), "reasoner", True),
        ((4, 4, 8, 6), "reasoner", True),
        ((4, 4, 8, 5.9), "reasoner", False),
        ((12, 12, 16, 16), "reasoner", False),
        ((4, 4, 8, 8), "reader", False),
        (None, None, False),
    ],
)
def test_a_trace_is_dropped_where_the_reader_corrected_its_box(box, source, kept) -> None:
    """The approved section on the slice that was asked about is the square from 4 to 8 px."""
    prompts = json.dumps({"bbox_xyxy_slice_px": box, "bbox_source": source})
    question = Question("Where is bile made?", QuerySource.READER, "Bright.", "id", prompts)
    mask = block((20, 20, 30), (4, 8), (4, 8), (9, 13))
    samples = make(make_case(mask, questions=(question,), asked_index=11))
    (asked,) = [sample.question for sample in samples if sample.slice_index == 11]
    assert asked.reasoning == ("Bright." if kept else None)
    assert asked.prompts == prompts


def test_several_questions_are_asked_in_turn() -> None:
    questions = [Question(text, QuerySource.TEMPLATE) for text in "abc"]
    samples = [s for s in make(make_case(tapering(), questions=questions)) if s.present]
    assert {s.question.text for s in samples} == {"a", "b", "c"}


@pytest.mark.parametrize(
    "setting", [{"model_size": 27}, {"max_slices": 0}, {"min_area_px": 0}, {"absent_margin_mm": -1}]
)
def test_a_setting_out_of_range_is_refused(setting) -> None:
    with pytest.raises(SampleSettingsError, match=next(iter(setting))):
        SampleSettings(**setting)


# --- questions by name ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label_name", "target"),
    [
        ("Liver", "liver"),
        ("kidney_right", "right kidney"),
        ("Left-Kidney", "left kidney"),
        ("urinary_bladder", "urinary bladder"),
        ("Bladder", "urinary bladder"),
        ("IVC", "inferior vena cava"),
    ],
)
def test_a_label_finds_its_questions_however_its_name_is_written(label_name, target) -> None:
    texts = {q.text for q in template_questions(label_name, Plane.AXIAL, "CT")}
    expected = {t.name: set(t.trained) for t in known_targets().values()}
    assert texts == expected[target]


@pytest.mark.parametrize("label_name", ["kidney", "liver vessel", "Segment_1", "", "vertebrae_L1"])
def test_a_name_that_is_not_in_the_table_has_no_question(label_name) -> None:
    assert template_questions(label_name, Plane.AXIAL, "CT") == ()


@pytest.mark.parametrize("held_out", [False, True])
def test_no_question_names_its_target(held_out) -> None:
    for target in known_targets().values():
        for question in template_questions(target.name, Plane.AXIAL, "CT", held_out=held_out):
            named = [stem for stem in target.stems if re.search(rf"\b{stem}", question.text, re.I)]
            assert named == []


def test_questions_fit_the_plane_and_the_modality() -> None:
    for target in known_targets().values():
        sagittal = template_questions(target.name, Plane.SAGITTAL, "CT")
        assert sagittal
        assert not any("side of the image" in q.text for q in sagittal)
        magnetic = template_questions(target.name, Plane.AXIAL, "MR")
        assert magnetic
        assert not any("dark" in q.text or "bright" in q.text for q in magnetic)


# --- patients ------------------------------------------------------------------------------------


def test_a_pseudonym_is_a_keyed_hash() -> None:
    # RFC 4231, test case 2.
    expected = "5bdcc146bf60754e"  # pragma: allowlist secret - a hash of RFC 4231
    assert pseudonym("what do ya want for nothing?", b"Jefe") == expected


def keys(count: int) -> list[str]:
    return [hashlib.sha256(str(n).encode()).hexdigest()[:16] for n in range(count)]


@given(st.integers(2, 60), st.floats(0.05, 0.95))
def test_every_patient_has_one_split_and_both_splits_have_one(count, share) -> None:
    splits = assign_splits(keys(count) * 2, share)
    assert sorted(splits) == sorted(keys(count))
    assert set(splits.values()) == {TRAIN, VALIDATION}


@given(st.integers(2, 300), st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.5, 0.9]))
def test_so_many_validate_as_the_share_says_and_not_by_chance(count, share) -> None:
    """The audit's case: 100 patients and a share of 0.2 hold out 20, whatever the pseudonyms."""
    numbers = Counter(assign_splits(keys(count), share).values())
    wanted = -(-count * round(share * 100) // 100)  # in whole numbers
    assert numbers[VALIDATION] == min(wanted, count - 1)


@given(st.lists(st.integers(2, 40), min_size=2, max_size=6), st.floats(0.05, 0.5))
def test_nobody_changes_sides_when_others_come_and_the_share_is_met_again(arrivals, share) -> None:
    """Whoever comes first, the pseudonyms of those who come later lie before and behind theirs."""
    known: dict[str, str] = {}
    for count in itertools.accumulate(arrivals):
        found = assign_splits(keys(count), share, known)
        assert all(found[key] == split for key, split in known.items())
        wanted = min(max(math.ceil(round(share * count, 9)), 1), count - 1)
        assert Counter(found.values())[VALIDATION] == wanted
        known = found


def test_a_larger_share_holds_out_only_who_has_not_been_learnt_from() -> None:
    known = assign_splits(keys(100), 0.1)
    found = assign_splits(keys(130), 0.5, known)
    assert Counter(found.values())[VALIDATION] == 10 + 30
    assert all(found[key] == split for key, split in known.items())
    with pytest.raises(TooFewPatientsError, match="All 2 patients were assigned to the train"):
        assign_splits(keys(2), 0.5, dict.fromkeys(keys(2), TRAIN))


def test_too_few_patients_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(TooFewPatientsError, match=r"from 1 patient.*share of 0"):
        assign_splits(["a" * 16], 0.2)
    assert assign_splits(["a" * 16], 0) == {"a" * 16: TRAIN}
    for share, wanted in ((0, "one patient"), (0.2, "two patients")):
        with pytest.raises(TooFewPatientsError, match=f"no approved label .* {wanted}"):
            assign_splits([], share)
    with pytest.raises(SampleSettingsError, match=r"1\.0"):
        assign_splits(keys(3), 1.0)


def test_samples_know_no_server() -> None:
    code = (
        "import sys, medreasoner_training.samples;"
        "print([m for m in ('monailabel', 'monailabel_app', 'monai', 'torch', 'datasets')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
