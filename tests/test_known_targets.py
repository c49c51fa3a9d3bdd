# SPDX-License-Identifier: Apache-2.0
"""A small model is asked in its own words for what the vocabulary recognises."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_infer.reasoners import PromptTemplate
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.reasoners.known_targets import KnownTargets
from medreasoner_infer.reasoners.prompts import (
    PromptFile,
    load_prompt_file,
    prompt_json,
    trained_further,
)
from medreasoner_infer.types import Grounding, ModelIdentity, ReasonerAnswer, ReasonerRequest

KNOWN = KnownTargets(
    {
        "liver": "Where is the liver?",
        "left kidney": "Where is the left kidney?",
        "right kidney": "Where is the right kidney?",
    }
)
TEMPLATE = PromptTemplate("s", "{query}", targets=KNOWN)
IMAGE = np.zeros((64, 64, 3), np.uint8)


class Recorder(Reasoner):
    """Keeps what it is asked."""

    identity = ModelIdentity("recorder", "here", None, None, "none")
    template = TEMPLATE
    input_size, image_encoding = 64, "rgb"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def _sample(self, request, count, on_text, cancelled):
        self.asked.append(self.template.render(request.query, AnswerFrame(self.input_size))[1])
        found = Grounding("r", None, None)
        return (ReasonerAnswer("<think>r</think><answer>null</answer>", found, 0.5, 3),) * count


def test_a_named_target_is_asked_for_in_one_way_and_a_description_as_it_stands() -> None:
    recorder = Recorder()
    for query in ("Bitte die linke Nirre markieren", "LIVER!", "Which organ hurts after a meal?"):
        recorder.answer(ReasonerRequest(IMAGE, query, ""))
    assert recorder.asked == [
        "Where is the left kidney?",
        "Where is the liver?",
        "Which organ hurts after a meal?",
    ]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("Where is the spleen?", "asks for: spleen"),
        ("appendicitis", "asks for: appendicitis"),
        ("liver and left kidney", "several targets"),
        ("asdf qwer", "names no single target"),
    ],
)
def test_what_the_model_was_not_taught_is_refused_without_asking_it(query, words) -> None:
    recorder, pieces = Recorder(), []
    request = ReasonerRequest(IMAGE, query, "", samples=2, temperature=1.0)
    first, second = recorder.answer(request, on_text=pieces.append)
    assert recorder.asked == []
    assert first == second
    assert first.grounding.outcome == "not_understood"
    assert words in first.grounding.reasoning
    assert first.confidence is None
    assert "".join(pieces) == first.completion


def test_a_batch_refuses_in_its_place_what_one_question_would() -> None:
    queries = ("liver", "appendicitis", "the right kidney")
    recorder = Recorder()
    answers = recorder.answer_batch([ReasonerRequest(IMAGE, query, "") for query in queries])
    outcomes = [answer.grounding.outcome for answer in answers]
    assert outcomes == ["absent", "not_understood", "absent"]


@pytest.mark.parametrize(
    ("query", "trace"),
    [
        ("Which sac stores bile?", "r It is asked for by its function."),
        ("What lies behind the stomach?", "r It is asked for by its place."),
        ("Which organ hurts after a meal?", "r"),
        ("Where is the gallbladder?", "r"),
    ],
)
def test_the_trace_tells_by_what_a_question_led_to_the_target_that_the_model_was_asked_for(
    query, trace
) -> None:
    recorder = Recorder()
    known = {name: f"Where is the {name}?" for name in ("gallbladder", "pancreas")}
    recorder.template = PromptTemplate("s", "{query}", targets=KnownTargets(known))
    request = ReasonerRequest(IMAGE, query, "")
    (alone,), (batched,) = recorder.answer(request), recorder.answer_batch([request])
    assert (alone.grounding.reasoning, batched.grounding.reasoning) == (trace, trace)
    assert alone.completion == "<think>r</think><answer>null</answer>"


def test_the_known_targets_survive_their_file(tmp_path) -> None:
    settings = PromptFile(TEMPLATE, "rgb", 64)
    (tmp_path / "prompt.json").write_text(prompt_json(settings))
    assert load_prompt_file(tmp_path) == settings


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ({"liver": " "}, "question for a target is empty"),
        ({"liver": "Where?", "warp core": "Where?"}, "'warp core'"),
        ({"left liver": "Where?"}, "'left liver'"),
        ({}, "no target"),
        (["liver"], "malformed"),
    ],
)
def test_a_file_with_targets_that_cannot_be_asked_for_is_refused(tmp_path, targets, words) -> None:
    fields = json.loads(prompt_json(PromptFile(TEMPLATE, "rgb", 64))) | {"targets": targets}
    (tmp_path / "prompt.json").write_text(json.dumps(fields))
    with pytest.raises(ModelUnavailableError, match=words):
        load_prompt_file(tmp_path)


def test_a_side_that_the_question_leaves_open_is_asked_back_unless_the_model_chooses_it() -> None:
    assert "left or the right kidney" in KNOWN.refusal("Show me the kidney")
    choosing = KnownTargets(KNOWN.questions | {"kidney": "Where is the kidney?"})
    assert choosing.refusal("Show me the kidney") is None
    assert choosing.asked("Show me the kidney") == "Where is the kidney?"


def test_a_model_that_was_trained_further_is_asked_everything() -> None:
    known = trained_further(PromptFile(TEMPLATE, "rgb", 64)).template.targets
    for query in ("Where is the spleen?", "appendicitis", "asdf qwer"):
        assert known.refusal(query) is None
        assert known.asked(query) == query
    assert known.asked("Lebr") == "Where is the liver?"
