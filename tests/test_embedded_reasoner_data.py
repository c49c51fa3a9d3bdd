# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re

import numpy as np
import pytest

from medreasoner_infer.answer import answer_regex, parse_answer
from medreasoner_training.embedded.phantom import Label
from medreasoner_training.embedded.queries import known_targets, query_table
from medreasoner_training.embedded.reasoner.reasonings import (
    absent_reasoning,
    answer_text,
    position_in_words,
    present_reasoning,
    torso_reasoning,
)
from medreasoner_training.embedded.reasoner.samples import sample_questions, vary_query
from medreasoner_training.embedded.reasoner.targets import (
    GroundTruth,
    ground_truth,
    target_mask,
    visible_targets,
)


@pytest.fixture(scope="module")
def samples():
    return [sample_questions(np.random.default_rng(seed), 6) for seed in range(30)]


def words(text: str) -> str:
    return re.sub(r"[^a-z0-9 ]", "", text.lower())


@pytest.mark.parametrize("label", list(known_targets()))
def test_no_question_names_its_target(label):
    target = known_targets()[label]
    for query in target.trained + target.held_out:
        assert not any(re.search(rf"\b{stem}", query.lower()) for stem in target.stems), query
        assert f" {target.name}" not in query.lower()


@pytest.mark.parametrize("label", list(known_targets()))
def test_each_target_has_enough_phrasings(label):
    target = known_targets()[label]
    assert len(target.trained) >= 8
    assert len(target.held_out) >= 3


def test_every_label_of_the_phantom_can_be_asked_for():
    assert set(known_targets()) == set(Label) - {Label.BACKGROUND}


def test_no_phrasing_occurs_twice_and_held_out_ones_are_never_trained():
    trained = [words(q) for t in known_targets().values() for q in t.trained]
    held_out = [words(q) for t in known_targets().values() for q in t.held_out]
    assert len(set(trained)) == len(trained)
    assert len(set(held_out)) == len(held_out)
    assert not set(trained) & set(held_out)


def test_a_varied_question_still_holds_the_question():
    rng = np.random.default_rng(0)
    query = "Which organ stores urine?"
    varied = {vary_query(query, rng) for _ in range(60)}
    assert len(varied) > 5
    assert all("which organ stores urine" in text.lower() for text in varied)
    assert any(text.startswith(query_table().prefixes) for text in varied)


def test_box_of_every_target_encloses_its_mask_closely(samples):
    for sample in samples:
        for label, truth in sample.truths.items():
            mask = target_mask(sample.image.labels, label)
            x0, y0, x1, y1 = truth.bbox_xyxy_px
            assert mask[y0:y1, x0:x1].sum() == mask.sum()
            edges = mask[y0], mask[y1 - 1], mask[:, x0], mask[:, x1 - 1]
            assert all(edge.any() for edge in edges)


def test_key_points_of_every_target_lie_inside_it(samples):
    for sample in samples:
        for truth in sample.truths.values():
            for x, y in truth.points_xy_px:
                assert truth.mask[y, x]
            assert truth.points_xy_px[0] <= truth.points_xy_px[1]


def test_key_points_of_a_dumbbell_are_its_two_bells():
    labels = np.zeros((64, 64), np.uint8)
    labels[20:31, 5:16] = labels[20:31, 45:56] = Label.LIVER
    labels[25, 16:45] = Label.LIVER
    truth = ground_truth(labels, Label.LIVER)
    assert truth.bbox_xyxy_px == (5, 20, 56, 31)
    assert truth.points_xy_px == ((10, 25), (50, 25))


def test_a_lesion_belongs_to_its_organ():
    labels = np.zeros((32, 32), np.uint8)
    labels[5:20, 5:20] = Label.LIVER
    labels[18:22, 18:22] = Label.LIVER_LESION
    assert ground_truth(labels, Label.LIVER).bbox_xyxy_px == (5, 5, 22, 22)


def test_a_tiny_section_is_neither_asked_for_nor_called_absent():
    labels = np.zeros((32, 32), np.uint8)
    labels[3:6, 3:6] = Label.SPLEEN
    assert ground_truth(labels, Label.SPLEEN) is None


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (10, 10, "upper left"),
        (64, 20, "upper centre"),
        (120, 64, "middle right"),
        (64, 64, "centre"),
        (30, 127, "lower left"),
    ],
)
def test_position_in_words(x, y, expected):
    assert position_in_words(x, y, 128) == expected


def test_reasoning_names_place_brightness_shape_and_neighbour():
    labels = np.zeros((128, 128), np.uint8)
    grey = np.full((128, 128), 50, np.uint8)
    labels[10:30, 90:110] = Label.SPLEEN
    grey[10:30, 90:110] = 120
    labels[10:30, 20:60] = Label.LIVER
    truths = visible_targets(labels)
    assert present_reasoning(grey, truths, Label.SPLEEN) == (
        "The question points to the spleen, a bright round region in the upper right of the image, "
        "right of the liver."
    )
    assert torso_reasoning(grey, truths, Label.SPLEEN, "function", "spleen") == (
        "The question points to the spleen, a bright round region at the patient's front left, "
        "left of the liver. It is asked for by its function."
    )
    assert absent_reasoning(truths, Label.HEART) == (
        "The question points to the heart, which is not visible on this slice of the liver."
    )


def test_reasoning_place_agrees_with_the_label_map(samples):
    checked = 0
    for sample in samples:
        for question in sample.questions:
            if question.truth is None:
                continue
            x0, y0, x1, y1 = question.truth.bbox_xyxy_px
            place = re.search(r"region in the ([a-z ]+) of the image", question.completion).group(1)
            assert ("left" in place) == ((x0 + x1) / 2 < 128 / 3)
            assert ("lower" in place) == ((y0 + y1) / 2 >= 2 * 128 / 3)
            checked += 1
    assert checked > 100


def test_absent_targets_are_answered_with_null_and_are_really_absent(samples):
    absent = [(s, q) for s in samples for q in s.questions if q.truth is None]
    assert len(absent) > 5
    for sample, question in absent:
        assert question.completion.endswith("<answer>null</answer>")
        assert "not visible on this slice" in question.completion
        assert not target_mask(sample.image.labels, question.label).any()


def test_every_training_answer_is_read_back_and_matches_the_decoding_grammar(samples):
    pattern = re.compile(answer_regex(128))
    for question in (q for s in samples for q in s.questions):
        grounding = parse_answer(question.completion, image_size=128)
        assert pattern.fullmatch(question.completion)
        assert grounding.warnings == ()
        if question.truth is None:
            assert grounding.bbox_xyxy_px is None
        else:
            assert grounding.bbox_xyxy_px == question.truth.bbox_xyxy_px
            assert grounding.points_xy_px == question.truth.points_xy_px


def test_answer_is_compact_json():
    truth = GroundTruth(Label.LIVER, np.ones((2, 2), bool), (1, 2, 3, 4), ((1, 2), (2, 3)))
    text = answer_text("Reason.", truth)
    assert text == (
        '<think>Reason.</think><answer>{"bbox":[1,2,3,4],"points_1":[1,2],"points_2":[2,3]}</answer>'
    )
    body = text.split("<answer>")[1].removesuffix("</answer>")
    assert json.loads(body)["bbox"] == [1, 2, 3, 4]
    assert answer_text("No.", None) == "<think>No.</think><answer>null</answer>"


def test_equal_seeds_give_equal_questions():
    first, second = (sample_questions(np.random.default_rng([42, 3]), 4) for _ in range(2))
    assert [q.completion for q in first.questions] == [q.completion for q in second.questions]
    assert [q.query for q in first.questions] == [q.query for q in second.questions]
