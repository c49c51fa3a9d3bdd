# SPDX-License-Identifier: Apache-2.0
"""From a configuration to the arguments of TRL's trainers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medreasoner_infer.errors import require_package
from medreasoner_infer.reasoners.budget import completion_tokens, reasoning_chars
from medreasoner_infer.reasoners.prompts import PromptFile
from medreasoner_training.finetune.config import FineTuneConfig
from medreasoner_training.finetune.errors import FineTuneConfigError
from medreasoner_training.finetune.settings import Tuning, VllmMode, their_arguments
from medreasoner_training.finetune.tunable import training_device

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig
    from trl import GRPOConfig, SFTConfig

    from medreasoner_infer.reasoners.coordinates import AnswerFrame

LONGEST_ROLLOUT = 2048


def sft_arguments(config: FineTuneConfig, stage_dir: Path) -> SFTConfig:
    """Arguments of ``trl.SFTTrainer``."""
    from trl import SFTConfig

    sft = config.sft
    return SFTConfig(
        **_shared(config, stage_dir, sft.batch, sft.micro_batch),
        **their_arguments(sft),
        max_length=None,  # truncation would cut an image's tokens
        train_sampling_strategy="sequential",
    )


def grpo_arguments(
    config: FineTuneConfig, stage_dir: Path, steps: int, longest_rollout: int
) -> GRPOConfig:
    """Arguments of ``trl.GRPOTrainer``; ``longest_rollout`` is in tokens.

    Rewards carry their weights already, so ``reward_weights`` stays unset. Completions are not
    logged: they speak of patients' images.
    """
    from trl import GRPOConfig

    grpo, by_vllm = config.grpo, config.vllm.mode is not VllmMode.off
    shared = _shared(config, stage_dir, grpo.rollouts_per_step, grpo.micro_batch)
    return GRPOConfig(
        **shared,
        steps_per_generation=shared["gradient_accumulation_steps"] * grpo.steps_per_rollout,
        **their_arguments(grpo),
        **(their_arguments(config.vllm) if by_vllm else {}),
        use_vllm=by_vllm,
        max_steps=steps,
        max_completion_length=longest_rollout,
        shuffle_dataset=False,
        log_completions=False,
    )


def longest_rollout(
    settings: PromptFile, *, context: int, image_tokens: int, frame: AnswerFrame
) -> int:
    """Tokens that the served reasoner may write, at most :data:`LONGEST_ROLLOUT`.

    Args:
        settings: how it is asked.
        context: tokens of prompt and completion together that the model can hold.
        image_tokens: that the image takes in the prompt.
        frame: in which numbers the answers are.
    """
    chars = reasoning_chars(
        settings.template,
        settings.max_reasoning_chars,
        context=context,
        image_tokens=image_tokens,
        frame=frame,
    )
    return min(LONGEST_ROLLOUT, completion_tokens(frame.units, chars))


def new_adapter(config: FineTuneConfig, model: torch.nn.Module) -> LoraConfig | None:
    """The adapter that a trainer is to add; ``None`` where all weights or an old one's learn."""
    is_adapted = hasattr(model, "peft_config")
    return lora_config(config) if config.tuning is Tuning.lora and not is_adapted else None


def lora_config(config: FineTuneConfig) -> LoraConfig:
    """The configured adapter for peft.

    Raises:
        MissingExtraError: peft is not installed.
    """
    require_package("peft", "train")
    from peft import LoraConfig

    return LoraConfig(**their_arguments(config.lora), task_type="CAUSAL_LM")


def uses_bf16(config: FineTuneConfig) -> bool:
    """Whether training computes in bfloat16."""
    on_cuda = training_device(config.run) != "cpu"
    return on_cuda if config.run.bf16 is None else config.run.bf16


def _shared(
    config: FineTuneConfig, stage_dir: Path, batch: int, micro_batch: int | None
) -> dict[str, Any]:
    run, on_cpu = config.run, training_device(config.run) == "cpu"
    per_device, steps = split_batch(batch, micro_batch, int(os.environ.get("WORLD_SIZE", "1")))
    return {
        **their_arguments(run),
        "output_dir": str(stage_dir),
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": steps,
        "use_cpu": on_cpu,
        "bf16": uses_bf16(config),
        "data_seed": run.seed,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "eval_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": not on_cpu,
        "optim": "adamw_torch",
    }


def split_batch(batch: int, micro_batch: int | None, processes: int) -> tuple[int, int]:
    """Samples per device in one forward pass, and forward passes per optimiser step.

    Raises:
        FineTuneConfigError: the batch cannot be shared evenly.
    """
    per_pass = (micro_batch or batch // processes) * processes
    if not per_pass or batch % per_pass:
        raise FineTuneConfigError(
            f"A step of {batch} samples cannot be shared by {processes} processes with "
            f"{micro_batch or 'all'} at a time; expected micro_batch x processes to divide it."
        )
    return per_pass // processes, batch // per_pass


def require_rollout_device(config: FineTuneConfig) -> None:
    """Refuse rollouts by vLLM for a training on the CPU.

    A colocated vLLM shares the training's GPUs; a server is sent the weights by NCCL, which only
    CUDA devices speak.

    Raises:
        FineTuneConfigError: in that case.
    """
    mode = config.vllm.mode
    if mode is not VllmMode.off and training_device(config.run) == "cpu":
        raise FineTuneConfigError(
            f"vllm.mode is {mode.value}, but the training runs on the CPU and vLLM gets its "
            "weights on CUDA GPUs only; expected off."
        )
