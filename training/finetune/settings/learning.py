# SPDX-License-Identifier: Apache-2.0
"""How weights learn: the adapter, supervised steps, reinforcement learning and its rewards."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from medreasoner_training.finetune.errors import FineTuneConfigError
from medreasoner_training.finetune.settings.choices import LossType, ScaleRewards, require

# Attention and MLP projections of Qwen2-VL's language model; the vision tower stays frozen.
LANGUAGE_PROJECTIONS = (
    r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
)


@dataclass(frozen=True)
class LoraSettings:
    """The adapter (arXiv 2106.09685); used with ``tuning: lora``.

    Attributes:
        rank: of the update.
        alpha: the update is scaled by ``alpha / rank``.
        dropout: probability.
        target_modules: regular expression for the full names of the adapted layers.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str = LANGUAGE_PROJECTIONS

    def __post_init__(self) -> None:
        require(self.rank >= 1, "lora.rank", self.rank, "1 or more")
        require(self.alpha >= 1, "lora.alpha", self.alpha, "1 or more")
        require(0.0 <= self.dropout < 1.0, "lora.dropout", self.dropout, "0 to below 1")
        try:
            re.compile(self.target_modules)
        except re.error as error:
            raise FineTuneConfigError(
                f"lora.target_modules is no regular expression ({error})."
            ) from error


@dataclass(frozen=True)
class SftSettings:
    """Supervised steps: the whole run with ``method: sft``, a cold start before GRPO otherwise.

    Attributes:
        steps: optimiser steps; 0 leaves the cold start out.
        batch: samples per step, over all devices.
        micro_batch: samples per device in one forward pass.
        learning_rate: at its highest.
        schedule: of the learning rate, as transformers names it.
        warmup_steps: until it is reached.
    """

    steps: int = 0
    batch: int = 16
    micro_batch: int = 4
    learning_rate: float = 1e-5
    schedule: str = "cosine"
    warmup_steps: int = 5

    def __post_init__(self) -> None:
        require(self.steps >= 0, "sft.steps", self.steps, "0 or more")
        _require_batch("sft.", self.batch, self.micro_batch)
        _require_rate("sft.", self.learning_rate, self.warmup_steps)


@dataclass(frozen=True)
class GrpoSettings:
    """Group relative policy optimisation (arXiv 2402.03300).

    Attributes:
        steps: optimiser steps; ``null`` to go by ``epochs``.
        epochs: passes over the training samples; ``null`` to go by ``steps``.
        prompts_per_step: questions per optimiser step, over all devices.
        generations: rollouts per question (G).
        micro_batch: rollouts per device in one forward pass; ``null`` takes all at once.
        iterations: optimiser steps on the same rollouts.
        temperature: of the rollouts.
        max_completion_tokens: longest rollout; ``null`` takes what the served reasoner may write.
        learning_rate: at its highest.
        schedule: of the learning rate, as transformers names it.
        warmup_steps: until it is reached.
        beta: weight of the KL divergence from the model at the start; 0 loads no reference.
        epsilon: clipping of the probability ratio, below and above 1.
        epsilon_high: clipping above 1; ``null`` for ``epsilon``.
        loss_type: how token losses are averaged.
        scale_rewards: by which standard deviation advantages are divided.
        max_grad_norm: gradients are clipped to it.
    """

    steps: int | None = 200
    epochs: float | None = None
    prompts_per_step: int = 8
    generations: int = 8
    micro_batch: int | None = None
    iterations: int = 1
    temperature: float = 1.0
    max_completion_tokens: int | None = None
    learning_rate: float = 1e-5
    schedule: str = "constant_with_warmup"
    warmup_steps: int = 5
    beta: float = 0.0
    epsilon: float = 0.2
    epsilon_high: float | None = None
    loss_type: LossType = LossType.dapo
    scale_rewards: ScaleRewards = ScaleRewards.group
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        by_one = (self.steps is None) != (self.epochs is None)
        require(by_one, "grpo.steps", self.steps, "either grpo.steps or grpo.epochs, not both")
        require(self.steps is None or self.steps >= 1, "grpo.steps", self.steps, "1 or more")
        require(self.epochs is None or self.epochs > 0, "grpo.epochs", self.epochs, "above 0")
        require(self.generations >= 2, "grpo.generations", self.generations, "2 or more: a group")
        require(self.iterations >= 1, "grpo.iterations", self.iterations, "1 or more")
        require(0 < self.temperature <= 2, "grpo.temperature", self.temperature, "above 0 to 2")
        longest = self.max_completion_tokens
        require(longest is None or longest >= 1, "grpo.max_completion_tokens", longest, "1 or more")
        require(self.beta >= 0, "grpo.beta", self.beta, "0 or more")
        require(self.epsilon > 0, "grpo.epsilon", self.epsilon, "above 0")
        high = self.epsilon_high
        require(high is None or high > 0, "grpo.epsilon_high", high, "above 0 or null")
        require(self.max_grad_norm > 0, "grpo.max_grad_norm", self.max_grad_norm, "above 0")
        _require_batch("grpo.", self.rollouts_per_step, self.micro_batch or self.rollouts_per_step)
        _require_rate("grpo.", self.learning_rate, self.warmup_steps)

    @property
    def rollouts_per_step(self) -> int:
        """Completions that one optimiser step learns from."""
        return self.prompts_per_step * self.generations

    def steps_for(self, samples: int) -> int:
        """Optimiser steps with that many training samples."""
        if self.steps is not None:
            return self.steps
        batches = math.ceil(samples * (self.epochs or 0) / self.prompts_per_step)
        return max(1, batches * self.iterations)


@dataclass(frozen=True)
class RewardSettings:
    """What is rewarded; see :class:`medreasoner_training.rewards.RewardConfig`.

    ``terms: [bbox_iou]`` rewards the box's overlap only, ``terms: [points_dice]`` the points only.

    Attributes:
        mode: ``soft`` (the paper's best), ``hard`` or ``base``.
        terms: the rewarded terms; ``null`` for all of the mode.
        weights: factor of a term, by its name; 1 where not given.
        mask_weight: factor of the Dice of the frozen segmenter's mask; 0 leaves it out.
    """

    mode: str = "soft"
    terms: tuple[str, ...] | None = None
    weights: dict[str, float] = field(default_factory=dict)
    mask_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.terms is not None:
            object.__setattr__(self, "terms", tuple(self.terms))
        valid = math.isfinite(self.mask_weight) and self.mask_weight >= 0
        require(valid, "rewards.mask_weight", self.mask_weight, "0 or more")


def _require_batch(prefix: str, whole: int, micro: int) -> None:
    require(whole >= 1, f"{prefix}batch", whole, "1 or more")
    fits = micro >= 1 and whole % micro == 0
    require(fits, f"{prefix}micro_batch", micro, f"a divisor of the {whole} of a step")


def _require_rate(prefix: str, rate: float, warmup_steps: int) -> None:
    valid = math.isfinite(rate) and rate > 0
    require(valid, f"{prefix}learning_rate", rate, "a number above 0")
    require(warmup_steps >= 0, f"{prefix}warmup_steps", warmup_steps, "0 or more")
