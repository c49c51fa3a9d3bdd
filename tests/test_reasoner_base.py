# SPDX-License-Identifier: Apache-2.0
"""The parts of the reasoners that need no model."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from medreasoner_infer.errors import InputError, ModelUnavailableError
from medreasoner_infer.reasoners import PromptTemplate, prepare_image
from medreasoner_infer.reasoners.base import ground
from medreasoner_infer.reasoners.budget import completion_tokens, reasoning_chars
from medreasoner_infer.reasoners.confidence import answer_confidence
from medreasoner_infer.reasoners.coordinates import THOUSANDTHS, AnswerFrame
from medreasoner_infer.reasoners.prompts import (
    DIRECT_PROMPT,
    REASONING_PROMPT,
    load_prompt_file,
    named_prompt,
)
from medreasoner_infer.reasoners.weights import locate_model, weights_sha256


def test_importing_the_package_loads_no_engine() -> None:
    heavy = "{'torch', 'transformers', 'openai', 'xgrammar', 'PIL', 'peft'}"
    code = f"import sys, medreasoner_infer.reasoners; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---- image encoding


def test_rgb_repeats_grey_and_keeps_colour() -> None:
    grey = np.array([[0, 10], [200, 255]], np.uint8)
    assert prepare_image(grey, "rgb").tolist() == [
        [[0, 0, 0], [10, 10, 10]],
        [[200, 200, 200], [255, 255, 255]],
    ]
    colour = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert np.array_equal(prepare_image(colour, "rgb"), colour)


def test_ramps_rise_along_x_in_green_and_along_y_in_blue() -> None:
    grey = np.full((4, 4), 7, np.uint8)
    encoded = prepare_image(grey, "grey_xy_ramps")
    assert encoded.dtype == np.uint8
    assert (encoded[..., 0] == 7).all()
    # (c + 0.5) / 4 * 255 = 31.875, 95.625, 159.375, 223.125, cut to integers
    assert encoded[2, :, 1].tolist() == [31, 95, 159, 223]
    assert encoded[:, 2, 2].tolist() == [31, 95, 159, 223]


def test_luminance_weighs_colours_as_bt_601() -> None:
    pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    expected = [[0.299 * 255, 0.587 * 255], [0.114 * 255, 255]]
    assert prepare_image(pixels, "grey_xy_ramps")[..., 0] == pytest.approx(
        np.array(expected), abs=1
    )


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 5), np.uint8), r"\(4, 5\)"),
        (np.zeros((4, 4), np.float32), "float32"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
    ],
)
def test_what_is_no_square_image_is_refused(image, words) -> None:
    with pytest.raises(ValueError, match=words):
        prepare_image(image, "rgb")


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="'hsv'"):
        prepare_image(np.zeros((4, 4), np.uint8), "hsv")


# ---- prompts


@pytest.mark.parametrize("template", [REASONING_PROMPT, DIRECT_PROMPT])
def test_published_models_are_told_question_frame_format_and_absence(template) -> None:
    system, user = template.render("What holds {bile}?", AnswerFrame(840))
    assert "What holds {bile}?" in user
    assert "840 x 840" in user
    assert '{"bbox": [x1, y1, x2, y2], "points_1": [x, y], "points_2": [x, y]}' in user
    assert "<answer>null</answer>" in user
    assert '<answer>"not understood"</answer>' in user
    assert "{size}" not in system + user


def test_only_the_reasoning_prompt_asks_for_a_trace() -> None:
    assert REASONING_PROMPT.asks_reasoning
    assert "<think>" in REASONING_PROMPT.user_template
    assert not DIRECT_PROMPT.asks_reasoning
    assert "<think>" not in DIRECT_PROMPT.user_template


@pytest.mark.parametrize("template", ["no place", "{query} {query}"])
def test_a_template_holds_the_question_once(template) -> None:
    with pytest.raises(ValueError, match="expected once"):
        PromptTemplate("", template)


def test_control_tokens_typed_by_a_user_are_blanked() -> None:
    template = PromptTemplate("s", "Q: {query}")
    assert template.render(" a<|im_end|>b <|vision_start|> ", AnswerFrame(1))[1] == "Q: a b"
    with pytest.raises(InputError, match="empty"):
        template.render("<|im_start|>", AnswerFrame(1))


def test_an_unknown_prompt_is_refused() -> None:
    with pytest.raises(InputError, match="'poetic'"):
        named_prompt("poetic")


PROMPT_JSON = {
    "system": "s",
    "user_template": "Q {query}",
    "image_encoding": "grey_xy_ramps",
    "input_size": 112,
}


def test_prompt_json_is_read(tmp_path) -> None:
    assert load_prompt_file(tmp_path) is None
    (tmp_path / "prompt.json").write_text(json.dumps(PROMPT_JSON))
    loaded = load_prompt_file(tmp_path)
    assert loaded.template == PromptTemplate("s", "Q {query}")
    assert (loaded.image_encoding, loaded.input_size) == ("grey_xy_ramps", 112)
    assert loaded.max_reasoning_chars == 2000
    (tmp_path / "prompt.json").write_text(json.dumps(PROMPT_JSON | {"max_reasoning_chars": 200}))
    assert load_prompt_file(tmp_path).max_reasoning_chars == 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user_template": "no place"}, "expected once"),
        ({"image_encoding": "hsv"}, "'hsv'"),
        ({"input_size": "large"}, "malformed"),
    ],
)
def test_a_malformed_prompt_json_is_refused(tmp_path, change, words) -> None:
    (tmp_path / "prompt.json").write_text(json.dumps(PROMPT_JSON | change))
    with pytest.raises(ModelUnavailableError, match=words):
        load_prompt_file(tmp_path)


# ---- grounding


def test_coordinates_are_mapped_back_from_what_the_model_writes() -> None:
    text = (
        '<think>x</think><answer>{"bbox": [125, 250, 500, 750], "points_1": [250, 375], '
        '"points_2": [375, 500]}</answer>'
    )
    frame = AnswerFrame(224, THOUSANDTHS)
    grounding = ground(text, frame, require_reasoning=True)
    assert grounding.bbox_xyxy_px == (28, 56, 112, 168)
    assert grounding.points_xy_px == ((56, 84), (84, 112))
    absent = "<think>x</think><answer>null</answer>"
    assert not ground(absent, frame, require_reasoning=True).present


def test_a_thin_box_is_widened_to_a_pixel_of_the_model_and_told() -> None:
    text = (
        '<think>x</think><answer>{"bbox": [14, 28, 14, 84], "points_1": [14, 30], '
        '"points_2": [14, 50]}</answer>'
    )
    grounding = ground(text, AnswerFrame(112), require_reasoning=True)
    assert grounding.bbox_xyxy_px == (13.5, 28, 14.5, 84)
    assert "widened" in grounding.warnings[0]


# ---- confidence


def test_confidence_is_the_geometric_mean_over_the_answer_block() -> None:
    pieces = ["<think>", "a", "</think>", "<ans", "wer>", "null", "</answer>", "<|im_end|>"]
    chances = [0.1, 0.1, 0.1, 0.5, 0.8, 0.4, 0.9, 0.01]
    expected = (0.5 * 0.8 * 0.4 * 0.9) ** (1 / 4)
    logs = [math.log(p) for p in chances]
    assert answer_confidence(pieces, logs) == pytest.approx(expected)


def test_a_piece_that_reaches_into_the_block_counts() -> None:
    pieces = ["</think><", "answer>null</answer", "> "]
    logs = [math.log(p) for p in (0.5, 0.4, 0.2)]
    assert answer_confidence(pieces, logs) == pytest.approx((0.5 * 0.4 * 0.2) ** (1 / 3))


def test_the_last_block_counts_where_the_prompt_shows_one() -> None:
    pieces = ["<answer>", "</answer>", "<answer>", "null", "</answer>"]
    logs = [math.log(p) for p in (0.1, 0.1, 0.5, 0.5, 0.5)]
    assert answer_confidence(pieces, logs) == pytest.approx(0.5)


def test_no_block_no_confidence() -> None:
    assert answer_confidence(["sorry"], [-1.0]) is None


# ---- budget


def test_a_long_context_leaves_the_bound_as_it_is() -> None:
    chars = reasoning_chars(
        REASONING_PROMPT, 2000, context=32_768, image_tokens=900, frame=AnswerFrame(840)
    )
    assert chars == 2000


def test_a_short_context_shortens_the_trace_so_that_all_fits() -> None:
    template = PromptTemplate("s" * 100, "{query}")
    chars = reasoning_chars(template, 2000, context=1024, image_tokens=49, frame=AnswerFrame(112))
    assert 100 < chars < 250
    assert completion_tokens(112, chars) + 49 + 50 + 128 <= 1024


def test_a_direct_prompt_gets_no_trace() -> None:
    assert not reasoning_chars(DIRECT_PROMPT, 9, context=999, image_tokens=0, frame=AnswerFrame(9))


# ---- weights


def test_the_hash_covers_all_shards_in_order(tmp_path) -> None:
    (tmp_path / "b.safetensors").write_bytes(b"second")
    (tmp_path / "a.safetensors").write_bytes(b"first ")
    (tmp_path / "pytorch_model.bin").write_bytes(b"not loaded, not hashed")
    assert weights_sha256(tmp_path) == hashlib.sha256(b"first second").hexdigest()


def test_pickled_weights_alone_are_refused(tmp_path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelUnavailableError, match=r"\*.safetensors"):
        locate_model(str(tmp_path), None)


def test_a_source_that_is_nowhere_is_refused(monkeypatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailableError, match="could not be downloaded"):
        locate_model("nobody/no-such-model", "main")


def test_a_malformed_source_is_refused() -> None:
    with pytest.raises(ModelUnavailableError, match="no folder"):
        locate_model("/no/such/folder/here", None)
