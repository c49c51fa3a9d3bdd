# SPDX-License-Identifier: Apache-2.0
"""The sections of :class:`~medreasoner_training.finetune.config.FineTuneConfig`.

Each refuses what means nothing with a :class:`FineTuneConfigError` that names the key. Choices are
enumerations whose members are written in YAML as they are named.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import Enum

from medreasoner_infer.models.registry import LIVE
from medreasoner_training.finetune.errors import FineTuneConfigError

# Attention and MLP projections of Qwen2-VL's language model; the vision tower stays frozen.
LANGUAGE_PROJECTIONS = (
    r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
)


class Method(str, Enum):
    """How the reasoner learns: from approved answers, or from rewards for its own answers."""

    sft = "sft"
    grpo = "grpo"


class Tuning(str, Enum):
    """Which weights learn: those of a LoRA adapter, or all."""

    lora = "lora"
    full = "full"


class VllmMode(str, Enum):
    """Where rollouts are generated: by transformers, by vLLM on the same GPUs, or by a server."""

    off = "off"
    colocate = "colocate"
    server = "server"


class LossType(str, Enum):
    """How GRPO's token losses are averaged; see ``loss_type`` of TRL's ``GRPOConfig``."""

    grpo = "grpo"
    dr_grpo = "dr_grpo"
    dapo = "dapo"
    bnpo = "bnpo"


class ScaleRewards(str, Enum):
    """By which standard deviation advantages are divided: the group's, the batch's, or none."""

    group = "group"
    batch = "batch"
    none = "none"


class ImageSizes(str, Enum):
    """What happens to images of another size than the model reads."""

    refuse = "refuse"
    scale = "scale"


def require(ok: bool, key: str, value: object, expected: str) -> None:
    """Refuse ``value``.

    Raises:
        FineTuneConfigError: unless ``ok``.
    """
    if not ok:
        raise FineTuneConfigError(f"{key} is {value!r}; expected {expected}.")


@dataclass(frozen=True)
class ModelSettings:
    """Which reasoner is tuned.

    Attributes:
        name: ``live`` (the store's live candidate, else the embedded reasoner), a registry name, a
            Hugging Face id or a folder.
        revision: commit or tag of a Hugging Face repository.
    """

    name: str = LIVE
    revision: str | None = None

    def __post_init__(self) -> None:
        require(bool(self.name.strip()), "model.name", self.name, "a model")
        fixed = self.revision is None or self.name != LIVE
        require(fixed, "model.revision", self.revision, "null, as 'live' has no revision")


@dataclass(frozen=True)
class DataSettings:
    """What the reasoner learns from.

    Attributes:
        folder: data set of approved samples; a relative path counts from the run's folder.
        image_sizes: ``refuse`` or ``scale`` images whose side is not the model's input size;
            scaling moves boxes and points along.
        replay: data set of another site, e.g. of the one before; mixed in so that it is not
            forgotten. ``phantoms`` makes synthetic torsos, those of the embedded reasoner.
        replay_share: share of replayed samples among all training samples, 0 to below 1.
        augment: vary images by small affine changes, grey levels and noise, never a flip; each
            pass over the samples varies them anew.
    """

    folder: str = "dataset"
    image_sizes: ImageSizes = ImageSizes.refuse
    replay: str | None = None
    replay_share: float = 0.0
    augment: bool = True

    def __post_init__(self) -> None:
        share = self.replay_share
        require(bool(self.folder), "data.folder", self.folder, "a folder")
        require(0.0 <= share < 1.0, "data.replay_share", share, "0 to below 1")
        named = not share or self.replay is not None
        require(named, "data.replay", self.replay, "a data set or 'phantoms' for replay_share > 0")


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


@dataclass(frozen=True)
class VllmSettings:
    """Rollouts by vLLM.

    Attributes:
        mode: ``off``, ``colocate`` (in the training processes) or ``server`` (``trl vllm-serve``).
        url: of the server.
        gpu_memory_share: of each GPU that colocated vLLM may take.
        tensor_parallel: GPUs that hold one copy of a colocated model.
    """

    mode: VllmMode = VllmMode.off
    url: str | None = None
    gpu_memory_share: float = 0.3
    tensor_parallel: int = 1

    def __post_init__(self) -> None:
        has_url = (self.url is not None) == (self.mode is VllmMode.server)
        require(has_url, "vllm.url", self.url, "an address with mode server, else null")
        share = self.gpu_memory_share
        require(0 < share < 1, "vllm.gpu_memory_share", share, "above 0 to below 1")
        require(
            self.tensor_parallel >= 1, "vllm.tensor_parallel", self.tensor_parallel, "1 or more"
        )


@dataclass(frozen=True)
class RunSettings:
    """How the run is carried out.

    Attributes:
        device: ``auto`` (CUDA where there is one) or ``cpu``.
        bf16: train in bfloat16; ``null``: on CUDA only.
        gradient_checkpointing: recompute activations in the backward pass to save memory.
        seed: of everything that is drawn.
        log_steps: steps between two log entries.
        save_steps: steps between two checkpoints.
        keep_checkpoints: the newest so many are kept.
        eval_steps: steps between two evaluations on held-out samples; 0 evaluates at the end only.
        eval_samples: held-out samples of such an evaluation; all of them decide at the end.
        accelerate_config: documents with what ``accelerate launch --config_file`` was given; it is
            recorded with the candidate.
    """

    device: str = "auto"
    bf16: bool | None = None
    gradient_checkpointing: bool = False
    seed: int = 0
    log_steps: int = 1
    save_steps: int = 50
    keep_checkpoints: int = 2
    eval_steps: int = 50
    eval_samples: int = 64
    accelerate_config: str | None = None

    def __post_init__(self) -> None:
        require(self.device in ("auto", "cpu"), "run.device", self.device, "auto or cpu")
        require(0 <= self.seed < 2**32, "run.seed", self.seed, "0 to 2**32 - 1")
        keep = self.keep_checkpoints
        require(keep >= 2, "run.keep_checkpoints", keep, "2 or more: the newest may be damaged")
        for name in ("log_steps", "save_steps", "eval_samples"):
            require(getattr(self, name) >= 1, f"run.{name}", getattr(self, name), "1 or more")
        require(self.eval_steps >= 0, "run.eval_steps", self.eval_steps, "0 or more")


@dataclass(frozen=True)
class PromotionSettings:
    """What becomes of the candidate.

    Attributes:
        promote: make it live if the gate agrees; ``false`` only compares.
        store: folder of the store, a relative one counts from the run's folder; ``null`` for
            ``$MEDREASONER_HOME/models``.
        name: of the candidate; ``null`` for the moment.
        by: who or what decides, for the history.
        segmenter: registry name or path of the segmenter that makes masks for the mask reward and
            for ``mask_dice``; ``null`` compares boxes only.
    """

    promote: bool = True
    store: str | None = None
    name: str | None = None
    by: str = "medreasoner_training.finetune"
    segmenter: str | None = None


def _require_batch(prefix: str, whole: int, micro: int) -> None:
    require(whole >= 1, f"{prefix}batch", whole, "1 or more")
    fits = micro >= 1 and whole % micro == 0
    require(fits, f"{prefix}micro_batch", micro, f"a divisor of the {whole} of a step")


def _require_rate(prefix: str, rate: float, warmup_steps: int) -> None:
    valid = math.isfinite(rate) and rate > 0
    require(valid, f"{prefix}learning_rate", rate, "a number above 0")
    require(warmup_steps >= 0, f"{prefix}warmup_steps", warmup_steps, "0 or more")
