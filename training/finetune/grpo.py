# SPDX-License-Identifier: Apache-2.0
"""Reinforcement learning with TRL: rollouts for approved questions, rewarded term by term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.segmenters.base import Segmenter
from medreasoner_training.finetune.arguments import grpo_arguments, longest_rollout, new_adapter
from medreasoner_training.finetune.config import FineTuneConfig
from medreasoner_training.finetune.errors import TooFewSamplesError
from medreasoner_training.finetune.frozen_encoder import spare_frozen_encoders
from medreasoner_training.finetune.prompt_length import (
    longest_prompt,
    model_length,
    questions_of,
)
from medreasoner_training.finetune.rows import RowMaker, training_rows
from medreasoner_training.finetune.scoring import SquareSegmenter
from medreasoner_training.finetune.settings import GrpoSettings, Tuning, VllmMode
from medreasoner_training.finetune.shared_images import share_images
from medreasoner_training.finetune.stage import Stage
from medreasoner_training.rewards import (
    RewardFunction,
    make_reward_functions,
    mask_dice_reward,
)
from medreasoner_training.rewards.trl_functions import Completion, completion_text

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import GRPOTrainer

    from medreasoner_infer.reasoners.transformers_loading import LoadedModel

# Added to the data set's seed, so that GRPO does not meet the cold start's order again.
_SEED_OFFSET = 1


def grpo_trainer(
    config: FineTuneConfig,
    stage: Stage,
    loaded: LoadedModel,
    raw: Dataset,
    maker: RowMaker,
    segmenter: Segmenter | None = None,
) -> GRPOTrainer:
    """A trainer that lets the model answer and rewards its answers.

    Raises:
        TooFewSamplesError: the samples do not fill one step.
        ImageSizeError: the images have another size and must not be scaled.
    """
    from medreasoner_training.finetune.grouped_batches import GroupedGRPOTrainer

    trainer = GroupedGRPOTrainer(**trainer_parts(config, stage, loaded, raw, maker, segmenter))
    trainer.shares_prompts = can_share_prompts(config, loaded)
    for model in (trainer.model, trainer.ref_model):
        if model is not None:
            share_images(model, loaded.family)
            spare_frozen_encoders(model, config.grpo.prompts_per_rollout)
    return trainer


def can_share_prompts(config: FineTuneConfig, loaded: LoadedModel) -> bool:
    """Whether rollouts behind one prompt learn what they would learn behind one each.

    Written for Qwen's positions and for torch's attention, which takes any mask. Dropout of the
    adapter would drop the same of the prompt for all rollouts. TRL before 1.16, the last one for
    Python 3.10 among them, has no head that takes the branches.
    """
    from trl.trainer import utils

    attention = loaded.model.config._attn_implementation
    has_dropout = config.tuning is Tuning.lora and config.lora.dropout > 0
    takes_branches = hasattr(utils, "add_fused_lm_head") and attention == "sdpa"
    return loaded.family.encoder is not None and takes_branches and not has_dropout


def trainer_parts(
    config: FineTuneConfig,
    stage: Stage,
    loaded: LoadedModel,
    raw: Dataset,
    maker: RowMaker,
    segmenter: Segmenter | None = None,
) -> dict[str, Any]:
    """What a ``trl.GRPOTrainer`` is made of.

    Raises:
        TooFewSamplesError, ImageSizeError: as :func:`grpo_trainer`.
    """
    require_samples(len(raw), config.grpo)
    rollout = config.grpo.max_completion_tokens or longest_rollout(
        maker.settings,
        context=loaded.context_tokens,
        image_tokens=loaded.image_tokens,
        frame=loaded.frame,
    )
    generations = -(-stage.steps // config.grpo.steps_per_rollout)
    count = generations * config.grpo.prompts_per_rollout  # TRL drops rows that fill no generation
    args = grpo_arguments(config, stage.folder, stage.steps, rollout)
    if config.vllm.mode is VllmMode.colocate and args.vllm_max_model_length is None:
        prompt = longest_prompt(questions_of(raw), maker, loaded.processor, loaded.image_tokens)
        args.vllm_max_model_length = model_length(prompt, rollout)
    return {
        "model": loaded.model,
        "reward_funcs": [*reward_functions(config, loaded.frame, segmenter)],
        "args": args,
        "train_dataset": training_rows(raw, maker, count, config.run.seed + _SEED_OFFSET),
        "processing_class": loaded.processor,
        "peft_config": new_adapter(config, loaded.model),
    }


def reward_functions(
    config: FineTuneConfig, frame: AnswerFrame, segmenter: Segmenter | None
) -> list[RewardFunction]:
    """The configured terms, and the frozen segmenter's mask if it has a weight.

    They compare in reasoner px: completions are converted from the model's own coordinates first.
    """
    rewards = config.reward_config
    functions = make_reward_functions(rewards)
    if config.rewards.mask_weight > 0 and segmenter is not None:
        functions.append(
            mask_dice_reward(
                SquareSegmenter(segmenter, frame.side_px),
                image_column="square",
                mask_column="mask",
                ground_truth_column=rewards.ground_truth_column,
                operating_iou=rewards.operating_iou,
                weight=config.rewards.mask_weight,
            )
        )
    return [_in_reasoner_px(function, frame) for function in functions]


def _in_reasoner_px(function: RewardFunction, frame: AnswerFrame) -> RewardFunction:
    """The reward of completions whose numbers are as the model's family writes them."""
    if frame.is_reasoner_px:
        return function

    def converted(completions: Sequence[Completion], **columns: object) -> list[float | None]:
        in_px = [frame.in_px(completion_text(completion)) for completion in completions]
        return function(in_px, **columns)

    converted.__name__ = converted.__qualname__ = function.__name__
    return converted


def require_samples(samples: int, grpo: GrpoSettings) -> None:
    """Refuse a data set whose samples would stand several times in one generation.

    Raises:
        TooFewSamplesError: in that case.
    """
    needed = grpo.prompts_per_rollout
    if samples < needed:
        raise TooFewSamplesError(
            f"The data set has {samples} training samples; a step takes {needed} different ones. "
            "Approve more labels and export again, or lower grpo.prompts_per_step (or "
            "grpo.steps_per_rollout)."
        )
