# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import medreasoner_infer
from medreasoner_infer.answer import parse_answer
from medreasoner_infer.reasoners.image_encoding import prepare_image
from medreasoner_training.embedded.phantom import sample_image
from medreasoner_training.embedded.reasoner.model_card import model_card

EMBEDDED = Path(medreasoner_infer.__file__).parent / "embedded"


@pytest.fixture(scope="module", params=["reasoner", "reasoner_small"])
def folder(request):
    return EMBEDDED / request.param


@pytest.fixture(scope="module")
def processor(folder):
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def evaluator(folder):
    from medreasoner_training.embedded.reasoner.evaluate import Evaluator

    return Evaluator(str(folder))


@pytest.fixture(scope="module")
def cases():
    from medreasoner_training.embedded.reasoner.evaluate import phantom_cases

    return [case for case in phantom_cases(40) if case.trained.truth is not None]


def mean_iou(evaluator, greys, questions) -> float:
    return float(np.mean([score.iou for score in evaluator.scores(greys, questions)]))


def test_shipped_folder_is_small(folder):
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20e6


@pytest.mark.parametrize(
    ("name", "gallbladder", "targets", "reasoning_chars"),
    [
        ("reasoner_small", "Which small sac stores bile?", 19, 160),
        ("reasoner", "Where is the gallbladder?", 41, 240),
    ],
)
def test_prompt_file_says_how_the_model_was_trained(name, gallbladder, targets, reasoning_chars):
    prompt = json.loads((EMBEDDED / name / "prompt.json").read_text(encoding="utf-8"))
    questions = prompt.pop("targets")
    assert questions["gallbladder"] == gallbladder
    assert len(questions) == targets
    assert prompt == {
        "system": "You are a medical grounding assistant.",
        "user_template": "{query}",
        "asks_reasoning": True,
        "takes_follow_ups": False,
        "refuses_others": True,
        "image_encoding": "grey_xy_ramps",
        "input_size": 128,
        "max_reasoning_chars": reasoning_chars,
    }


def test_model_card_says_what_the_model_is_not_for(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "not for clinical use" in " ".join(card.split())
    assert "license: apache-2.0" in card


@pytest.mark.parametrize("name", ["reasoner_small", "reasoner"])
def test_the_cards_command_says_all_that_the_training_was_given(name):
    """But what does not change the weights: checkpoints, threads, processes."""
    card = " ".join((EMBEDDED / name / "README.md").read_text(encoding="utf-8").split())
    command = re.search(r"`python -m medreasoner_training\.embedded\.reasoner\.train (.*?)`", card)
    words = command[1].split()
    told = dict(zip(words[::2], words[1::2], strict=True))
    trained = json.loads((EMBEDDED / name / "training.json").read_text(encoding="utf-8"))
    beside = {"save_steps", "bf16", "threads", "workers", "hours"}
    assert told == {
        f"--{key}": str(value)
        for key, value in trained.items()
        if key not in beside and value not in (None, "")
    }
    assert command[0] in " ".join(model_card({}, trained).split())


def test_shipped_model_generates_with_its_cache(evaluator):
    assert evaluator.model.config.text_config.use_cache
    assert evaluator.model.generation_config.use_cache


def test_every_coordinate_is_one_token(processor):
    tokenizer = processor.tokenizer
    lengths = {len(tokenizer.encode(str(n), add_special_tokens=False)) for n in range(256)}
    assert lengths == {1}


def test_tags_of_the_answer_survive_decoding(processor):
    text = '<think>Yes.</think><answer>{"bbox":[1,22,113,127]}</answer>'
    ids = processor.tokenizer.encode(text, add_special_tokens=False)
    assert processor.tokenizer.decode(ids, skip_special_tokens=True) == text


def test_processor_makes_64_image_tokens_of_the_square(processor):
    image = prepare_image(np.zeros((128, 128), np.uint8), "grey_xy_ramps")
    inputs = processor(text=["<|image_pad|>"], images=[image], return_tensors="pt")
    assert inputs["image_grid_thw"].tolist() == [[1, 16, 16]]
    assert inputs["input_ids"].shape[1] == 64


def test_packer_makes_the_prompt_and_pixels_that_the_processor_makes(processor, evaluator):
    from medreasoner_training.embedded.reasoner.modelling import chat

    grey = sample_image(np.random.default_rng(1)).grey
    query = "Which organ stores urine?"
    text = processor.apply_chat_template(chat(query), add_generation_prompt=True)
    image = prepare_image(grey, "grey_xy_ramps")
    inputs = processor(text=[text], images=[image], return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == evaluator.packer.prompt(query)
    np.testing.assert_array_equal(inputs["pixel_values"], evaluator.packer.pixels([grey]))


def test_greedy_answer_is_well_formed_and_names_the_target(evaluator):
    from medreasoner_training.embedded.reasoner.generation import answer_all

    grey = sample_image(np.random.default_rng(3)).grey
    (text,) = answer_all(
        evaluator.model, evaluator.packer, [grey], ["Which bony structure protects the cord?"]
    )
    assert parse_answer(text, image_size=128).warnings == ()
    assert "vertebra" in text


@pytest.mark.slow
@pytest.mark.parametrize("phrasings", ["trained", "held_out"])
def test_card_holds_the_figures_that_the_shipped_weights_give(folder, evaluator, phrasings):
    from medreasoner_training.embedded.reasoner.evaluate import case_rows, phantom_cases

    written = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["phantoms"]
    cases = phantom_cases(30)
    questions = [getattr(case, phrasings) for case in cases]
    rows = case_rows(evaluator.scores([case.grey for case in cases], questions))
    kept = written["cases"][f"{phrasings}_phrasings"][: len(rows)]
    # Another processor rounds otherwise, which may tip a single greedy token.
    assert sum(new == old for new, old in zip(rows, kept, strict=True)) >= 0.9 * len(rows)


def test_means_in_the_card_are_those_of_its_cases(folder):
    written = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    for part in (part for part in written.values() if "cases" in part):
        ious = [row[3] for row in part["cases"]["trained_phrasings"] if row[1]]
        assert f"| box IoU | {np.mean(ious):.3f} (" in card


@pytest.mark.slow
def test_boxes_on_held_out_phantoms_reach_their_floor(evaluator, cases):
    greys = [case.grey for case in cases]
    assert mean_iou(evaluator, greys, [case.trained for case in cases]) > 0.5


@pytest.mark.slow
def test_boxes_collapse_when_the_image_is_blank_or_another_one(evaluator, cases):
    questions = [case.trained for case in cases]
    greys = [case.grey for case in cases]
    seen = mean_iou(evaluator, greys, questions)
    blank = mean_iou(evaluator, [np.zeros_like(grey) for grey in greys], questions)
    shuffled = mean_iou(evaluator, greys[7:] + greys[:7], questions)
    assert blank < 0.6 * seen
    assert shuffled < 0.75 * seen
