# SPDX-License-Identifier: Apache-2.0
"""How weights learn: the adapter, supervised steps, reinforcement learning and its rewards."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import ClassVar

from medreasoner_training.finetune.errors import FineTuneConfigError
from medreasoner_training.finetune.settings.choices import LossType, SamplingLevel, ScaleRewards
from medreasoner_training.finetune.settings.section import Count, Real, Section, setting
from medreasoner_training.rewards import OPERATING_IOU

# Attention and MLP projections of Qwen2-VL's language model; the vision tower stays frozen.
LANGUAGE_PROJECTIONS = (
    r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
)


@dataclass(frozen=True)
class LoraSettings(Section):
    """The adapter (arXiv 2106.09685); used with ``tuning: lora``.

    Attributes:
        rank: of the update.
        alpha: the update is scaled by ``alpha / rank``.
        dropout: probability.
        target_modules: regular expression for the full names of the adapted layers.
    """

    key: ClassVar[str] = "lora"

    rank: Count = setting(16, least=1, theirs="r")
    alpha: Count = setting(32, least=1, theirs="lora_alpha")
    dropout: Real = setting(0.0, least=0, below=1, theirs="lora_dropout")
    target_modules: str = setting(LANGUAGE_PROJECTIONS, theirs="target_modules")

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            re.compile(self.target_modules)
        except re.error as error:
            raise FineTuneConfigError(
                f"lora.target_modules is no regular expression ({error})."
            ) from error


@dataclass(frozen=True)
class Optimisation(Section):
    """The optimiser of both ways to learn.

    Attributes:
        learning_rate: at its highest.
        schedule: of the learning rate, as transformers names it.
        warmup_steps: until it is reached.
        weight_decay: of AdamW.
    """

    learning_rate: Real = setting(1e-5, above=0, theirs="learning_rate")
    schedule: str = setting("constant_with_warmup", theirs="lr_scheduler_type")
    warmup_steps: Count = setting(5, least=0, theirs="warmup_steps")
    weight_decay: Real = setting(0.0, least=0, theirs="weight_decay")

    def _require_divisor(self, whole: int, micro: int) -> None:
        expected = f"a divisor of the {whole} of a step"
        self.require(whole >= 1 and micro >= 1 and whole % micro == 0, "micro_batch", expected)


@dataclass(frozen=True)
class SftSettings(Optimisation):
    """Supervised steps: the whole run with ``method: sft``, a cold start before GRPO otherwise.

    Attributes:
        steps: optimiser steps; 0 leaves the cold start out.
        batch: samples per step, over all devices.
        micro_batch: samples per device in one forward pass.
        schedule: of the learning rate, as transformers names it.
    """

    key: ClassVar[str] = "sft"

    steps: Count = setting(0, least=0, theirs="max_steps")
    batch: Count = setting(16, least=1)
    micro_batch: Count = setting(4, least=1)
    schedule: str = setting("cosine", theirs="lr_scheduler_type")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_divisor(self.batch, self.micro_batch)


@dataclass(frozen=True)
class GrpoSettings(Optimisation):
    """Group relative policy optimisation (arXiv 2402.03300).

    Attributes:
        steps: optimiser steps; ``null`` to go by ``epochs``.
        epochs: passes over the training samples; ``null`` to go by ``steps``.
        prompts_per_step: questions per optimiser step, over all devices.
        steps_per_rollout: optimiser steps that share out the rollouts of one generation, which
            answers ``prompts_per_step`` times as many questions.
        generations: rollouts per question (G).
        micro_batch: rollouts per device in one forward pass; ``null`` takes all at once.
        iterations: times that the same rollouts are learnt from.
        temperature: of the rollouts.
        max_completion_tokens: longest rollout; ``null`` takes what the served reasoner may write.
        beta: weight of the KL divergence from the model at the start; 0 loads no reference.
        epsilon: clipping of the probability ratio, below and above 1.
        epsilon_high: clipping above 1; ``null`` for ``epsilon``. With ``cispo`` the highest weight.
        delta: highest probability ratio of rollouts worse than their group's mean, above
            ``1 + epsilon``: the dual clip of PPO; ``null`` for none.
        loss_type: how losses are made and averaged.
        sampling_level: of what the probability ratio is taken; ``sequence`` is GSPO.
        mask_truncated: leave rollouts that were cut at their longest out of the loss.
        correct_rollouts: weigh rollouts of vLLM by how its probabilities differ from the trainer's.
        scale_rewards: by which standard deviation advantages are divided.
        max_grad_norm: gradients are clipped to it.
    """

    key: ClassVar[str] = "grpo"

    steps: Count | None = setting(200, least=1)
    epochs: Real | None = setting(None, above=0)
    prompts_per_step: Count = setting(8, least=1)
    steps_per_rollout: Count = setting(1, least=1)
    generations: Count = setting(8, least=2, theirs="num_generations")
    micro_batch: Count | None = setting(None, least=1)
    iterations: Count = setting(1, least=1, theirs="num_iterations")
    temperature: Real = setting(1.0, above=0, most=2, theirs="temperature")
    max_completion_tokens: Count | None = setting(None, least=1)
    beta: Real = setting(0.0, least=0, theirs="beta")
    epsilon: Real = setting(0.2, above=0, theirs="epsilon")
    epsilon_high: Real | None = setting(None, above=0, theirs="epsilon_high")
    delta: Real | None = setting(None, above=1, theirs="delta")
    loss_type: LossType = setting(LossType.dapo, theirs="loss_type")
    sampling_level: SamplingLevel = setting(SamplingLevel.token, theirs="importance_sampling_level")
    mask_truncated: bool = setting(False, theirs="mask_truncated_completions")
    correct_rollouts: bool = setting(True, theirs="vllm_importance_sampling_correction")
    scale_rewards: ScaleRewards = setting(ScaleRewards.group, theirs="scale_rewards")
    max_grad_norm: Real = setting(1.0, above=0, theirs="max_grad_norm")

    def __post_init__(self) -> None:
        super().__post_init__()
        by_one = (self.steps is None) != (self.epochs is None)
        self.require(by_one, "steps", "either grpo.steps or grpo.epochs, not both")
        self._require_divisor(self.rollouts_per_step, self.micro_batch or self.rollouts_per_step)
        self._require_fitting_loss()

    def _require_fitting_loss(self) -> None:
        loss = self.loss_type
        by_rollout = self.sampling_level is SamplingLevel.sequence
        levels = {LossType.luspo: SamplingLevel.sequence, LossType.vespo: SamplingLevel.token}
        level = levels.get(loss, self.sampling_level)
        self.require(
            self.sampling_level is level, "sampling_level", f"{level.value} with {loss.value}"
        )
        sums_tokens = loss in (LossType.bnpo, LossType.dr_grpo, LossType.dapo, LossType.cispo)
        expected = "grpo, sapo or luspo with sampling_level sequence"
        self.require(not (by_rollout and sums_tokens), "loss_type", expected)
        bounded = loss is not LossType.cispo or self.epsilon_high is not None
        self.require(bounded, "epsilon_high", "the highest weight with loss_type cispo, e.g. 5.0")
        above = self.delta is None or self.delta > 1 + (self.epsilon_high or self.epsilon)
        self.require(above, "delta", "more than 1 + epsilon_high, which clips already")

    @property
    def rollouts_per_step(self) -> int:
        """Completions that one optimiser step learns from."""
        return self.prompts_per_step * self.generations

    @property
    def prompts_per_rollout(self) -> int:
        """Questions that one generation answers."""
        return self.prompts_per_step * self.steps_per_rollout

    def steps_for(self, samples: int) -> int:
        """Optimiser steps with that many training samples."""
        if self.steps is not None:
            return self.steps
        batches = math.ceil(samples * (self.epochs or 0) / self.prompts_per_step)
        return max(1, batches * self.iterations)


@dataclass(frozen=True)
class RewardSettings(Section):
    """What is rewarded; see :class:`medreasoner_training.rewards.RewardConfig`.

    ``terms: [bbox_iou]`` rewards the box's overlap only, ``terms: [points_dice]`` the points only.

    Attributes:
        mode: ``soft`` (the paper's best), ``hard`` or ``base``.
        terms: the rewarded terms; ``null`` for all of the mode.
        weights: factor of a term, by its name; 1 where not given.
        mask_weight: factor of the Dice of the frozen segmenter's mask; 0 leaves it out.
        operating_iou: quality of a box that is worth as much as a right *not present*; the mean box
            IoU that the model is expected to reach. See ``docs/rewards.md``.
        as_released: score as the paper's published code does, its defects included. It scores no
            absent target, so that samples of those are not learnt from.
    """

    key: ClassVar[str] = "rewards"

    mode: str = "soft"
    terms: tuple[str, ...] | None = None
    weights: dict[str, Real] = field(default_factory=dict)
    mask_weight: Real = setting(0.0, least=0)
    operating_iou: Real = setting(OPERATING_IOU, above=0, most=1)
    as_released: bool = False
