# SPDX-License-Identifier: Apache-2.0
"""The rewards in the form in which TRL calls them."""

from __future__ import annotations

import dataclasses
import doctest
import json

import numpy as np
import pytest
from PIL import Image

from medreasoner_infer.types import SlicePrompt
from medreasoner_training.rewards import (
    HARD_TERMS,
    CompletionTypeError,
    RewardConfig,
    RewardConfigError,
    make_reward_functions,
    mask_dice_reward,
    reward,
    score,
    scoring,
    trl_functions,
)
from medreasoner_training.rewards.scoring import weighted_terms

TRUTH = {"bbox_2d": [2, 2, 6, 4], "point_2d": [[3, 3], [5, 3]]}
PERFECT = (
    '<think>Left lobe.</think><answer>{"bbox": [2, 2, 6, 4], "points_1": [3, 3], '
    '"points_2": [5, 3]}</answer>'
)
NULL = "<think>Not seen.</think><answer>null</answer>"


@pytest.mark.parametrize("module", [scoring, trl_functions])
def test_examples_of_the_docstrings_run(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def by_name(config: RewardConfig | None = None) -> dict:
    return {function.__name__: function for function in make_reward_functions(config)}


def test_functions_are_named_like_the_terms_of_the_mode():
    assert list(by_name()) == ["format_think", "format_seg", "bbox_iou", "points_dice"]
    assert list(by_name(RewardConfig("hard"))) == list(HARD_TERMS)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: text,
        lambda text: [{"role": "assistant", "content": text}],
        lambda text: [{"role": "assistant", "content": [{"type": "text", "text": text}]}],
        lambda text: [
            {"role": "assistant", "content": "<answer>null</answer>"},
            {"role": "user", "content": "Look again."},
            {"role": "assistant", "content": text},
        ],
    ],
)
def test_plain_and_conversational_completions_earn_the_same(wrap):
    values = by_name()["bbox_iou"](
        prompts=["?", "?"],
        completions=[wrap(PERFECT), wrap(NULL)],
        completion_ids=[[1], [2]],
        ground_truth=[TRUTH, TRUTH],
        trainer_state=None,
    )
    assert values == [1.0, 0.0]


def test_an_empty_conversation_earns_nothing():
    assert by_name()["format_think"]([[]], ground_truth=[TRUTH]) == [0.0]


def test_absent_targets_may_stand_among_present_ones():
    values = by_name()["points_dice"]([NULL, PERFECT, NULL], ground_truth=[None, None, TRUTH])
    credit = score(NULL, None)["points_dice"]
    assert 0 < credit < 1
    assert values == [credit, 0.0, 0.0]


def test_a_batch_is_scored_once_for_all_its_terms(monkeypatch):
    scored = []

    def counting(completion, truth, config):
        scored.append(completion)
        return weighted_terms(completion, truth, config)

    monkeypatch.setattr(trl_functions, "weighted_terms", counting)
    functions = by_name(RewardConfig("hard"))
    truths = [json.dumps(TRUTH), None]
    for function in functions.values():
        function([PERFECT, NULL], ground_truth=truths)
    assert scored == [PERFECT, NULL]


def test_what_another_batch_earned_is_never_handed_on():
    """Neither a changed list, nor a changed truth, nor a trainer of other settings."""
    first, second = make_reward_functions(RewardConfig(terms=("bbox_iou", "points_dice")))
    doubled = by_name(RewardConfig(weights={"bbox_iou": 2.0}))["bbox_iou"]
    completions, truth = [PERFECT], {**TRUTH}
    assert first(completions, ground_truth=[truth]) == [1.0]
    assert doubled(completions, ground_truth=[truth]) == [2.0]
    truth["bbox_2d"] = [100, 100, 104, 102]
    assert first(completions, ground_truth=[truth])[0] <= 0.1
    completions[0] = NULL
    assert first(completions, ground_truth=[truth]) == second(completions, ground_truth=[truth])
    assert first(completions, ground_truth=[None])[0] > 0


def test_what_the_released_code_raises_on_is_none():
    function = by_name(RewardConfig(as_released=True))["bbox_iou"]
    assert function([NULL, PERFECT], ground_truth=[None, TRUTH]) == [None, 1.0]


def test_terms_can_be_selected_across_modes_and_weighted():
    config = RewardConfig("soft", ("bbox_iou", "bbox_align", "iou"), {"bbox_align": 3.0})
    functions = by_name(config)
    assert list(functions) == ["bbox_iou", "bbox_align", "iou"]
    earned = [f([PERFECT], ground_truth=[TRUTH])[0] for f in functions.values()]
    assert earned == [1.0, 3.0, 1.0]
    assert reward(PERFECT, TRUTH, config) == 5.0


def test_unit_weights_sum_to_the_score():
    functions = make_reward_functions(RewardConfig("hard"))
    text = PERFECT.replace("[5, 3]", "[6, 4]").replace("[2, 2, 6, 4]", "[1, 2, 7, 4]")
    total = sum(function([text], ground_truth=[TRUTH])[0] for function in functions)
    assert total == pytest.approx(score(text, TRUTH, "hard")["score"])
    assert 4 < total < 8


def test_the_sum_is_not_scored_where_a_term_is_not():
    assert reward(NULL, None, RewardConfig(as_released=True)) is None


def test_ground_truth_may_be_json_in_a_column_of_another_name():
    config = RewardConfig(ground_truth_column="target")
    text = '{"bbox_2d": [2, 2, 6, 4], "point_2d": [[3, 3], [5, 3]]}'
    assert by_name(config)["bbox_iou"]([PERFECT], target=[text]) == [1.0]


def test_a_missing_column_is_named():
    with pytest.raises(RewardConfigError, match=r"no column 'ground_truth' among \['truth'\]"):
        by_name()["bbox_iou"]([PERFECT], truth=[TRUTH])


def test_columns_of_another_length_are_refused():
    with pytest.raises(ValueError, match="zip"):
        by_name()["bbox_iou"]([PERFECT, NULL], ground_truth=[TRUTH])


def test_a_completion_that_is_no_text_is_refused():
    with pytest.raises(CompletionTypeError, match="int"):
        by_name()["bbox_iou"]([7], ground_truth=[TRUTH])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"mode": "medium"}, "'medium'"),
        ({"terms": ("dice",)}, "'dice'"),
        ({"terms": ("bbox_align",), "as_released": True}, "'bbox_align'"),
        ({"weights": {"iou": 1.0}}, "'iou' has a weight"),
        ({"weights": {"bbox_iou": -1.0}}, "-1.0"),
        ({"weights": {"bbox_iou": float("nan")}}, "nan"),
        ({"operating_iou": 0.0}, "operating IoU is 0.0"),
        ({"operating_iou": float("nan")}, "operating IoU is nan"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(settings, problem):
    with pytest.raises(RewardConfigError, match=problem):
        RewardConfig(**settings)


def test_a_configuration_is_frozen_and_keeps_its_own_weights():
    weights = {"bbox_iou": 2.0}
    config = RewardConfig(weights=weights)
    weights["bbox_iou"] = 0.0
    assert config.weight_of("bbox_iou") == 2.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.mode = "hard"


def filled_box(image: np.ndarray, prompt: SlicePrompt) -> np.ndarray:
    """A segmenter that fills the box."""
    assert prompt.point_labels == (1, 1)
    x1, y1, x2, y2 = map(int, prompt.bbox_xyxy_px)
    mask = np.zeros(image.shape[:2], bool)
    mask[y1:y2, x1:x2] = True
    return mask


@pytest.fixture
def true_mask() -> np.ndarray:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 2:6] = 255
    return mask


def test_mask_reward_is_the_dice_of_the_segmenters_mask(true_mask):
    image = np.zeros((8, 8, 3), np.uint8)
    half = PERFECT.replace('"bbox": [2, 2, 6, 4]', '"bbox": [2, 2, 4, 4]')
    function = mask_dice_reward(filled_box)
    assert function.__name__ == "mask_dice"
    # 4 of 8 px, none outside: 2 x 4 / (4 + 8).
    values = function([PERFECT, half], images=[image] * 2, masks=[true_mask] * 2)
    assert values == pytest.approx([1.0, 2 / 3])


def test_mask_reward_reads_pictures_in_lists_of_one_and_weighs(true_mask):
    picture = Image.fromarray(true_mask)
    function = mask_dice_reward(filled_box, image_column="image", mask_column="mask", weight=0.5)
    image = np.zeros((8, 8, 3), np.uint8)
    values = function(
        [PERFECT] * 2, image=[[image]] * 2, mask=[[picture], [picture.convert("RGB")]]
    )
    assert values == [0.5, 0.5]


def test_mask_reward_does_not_segment_what_cannot_be_prompted(true_mask):
    def never(image: object, prompt: SlicePrompt) -> np.ndarray:
        raise AssertionError("the segmenter was called")

    broken = PERFECT.replace("[5, 3]", "[5]")
    empty = np.zeros_like(true_mask)
    values = mask_dice_reward(never)(
        [broken, NULL, NULL, PERFECT, PERFECT],
        images=[None] * 5,
        masks=[true_mask, true_mask, empty, empty, None],
    )
    assert values == [0.0, 0.0, 0.33, 0.0, None]


def test_mask_reward_heeds_what_the_ground_truth_says_of_an_empty_mask(true_mask):
    function = mask_dice_reward(filled_box, ground_truth_column="truth", operating_iou=0.5)
    puzzled = NULL.replace("null", '"not understood"')
    empty = np.zeros_like(true_mask)
    outcomes = [None, '"not understood"', TRUTH]
    earned = {
        text: function([text] * 3, images=[None] * 3, masks=[empty] * 3, truth=outcomes)
        for text in (NULL, puzzled, PERFECT)
    }
    assert earned[NULL] == [0.5, 0.0, None]
    assert earned[puzzled] == [0.0, 0.5, None]
    assert earned[PERFECT] == [0.0, 0.0, None]


def test_mask_reward_passes_a_fault_of_the_segmenter_on(true_mask):
    def failing(image: object, prompt: SlicePrompt) -> np.ndarray:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        mask_dice_reward(failing)([PERFECT], images=[None], masks=[true_mask])


def test_mask_reward_refuses_a_mask_on_another_grid(true_mask):
    image = np.zeros((9, 8, 3), np.uint8)
    with pytest.raises(RewardConfigError, match=r"\(9, 8\)"):
        mask_dice_reward(filled_box)([PERFECT], images=[image], masks=[true_mask])


@pytest.mark.slow
def test_a_trainer_takes_the_functions_and_logs_each_by_its_name(tmp_path):
    """One optimiser step of TRL's own trainer on a random model of a few thousand weights."""
    trl = pytest.importorskip("trl", reason="the extra 'train' is not installed")
    datasets = pytest.importorskip("datasets", reason="the extra 'train' is not installed")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<eos>", "<think>", "</think>", "<answer>", "</answer>", "null", "?"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="?"
    )
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    model = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(vocab_size=len(words), **shape, **heads)
    )
    functions = make_reward_functions(RewardConfig("soft", weights={"format_seg": 2.0}))
    trainer = trl.GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=functions,
        train_dataset=datasets.Dataset.from_list([{"prompt": "?", "ground_truth": None}] * 4),
        args=trl.GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=8,
            max_steps=1,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            bf16=False,
            save_strategy="no",
        ),
    )
    trainer.train()
    logged = trainer.state.log_history[0]
    means = [logged[f"rewards/{function.__name__}/mean"] for function in functions]
    assert logged["reward"] == pytest.approx(sum(means), abs=1e-4)
