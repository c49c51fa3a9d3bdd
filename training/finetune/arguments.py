# SPDX-License-Identifier: Apache-2.0
"""From a configuration to the arguments of TRL's trainers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medreasoner_infer.reasoners.budget import completion_tokens, reasoning_chars
from medreasoner_infer.reasoners.prompts import PromptFile
from medreasoner_training.finetune.config import FineTuneConfig
from medreasoner_training.finetune.errors import FineTuneConfigError
from medreasoner_training.finetune.settings import VllmMode
from medreasoner_training.finetune.start import training_device

if TYPE_CHECKING:
    from peft import LoraConfig
    from trl import GRPOConfig, SFTConfig

    from medreasoner_infer.reasoners.transformers_loading import LoadedModel

LONGEST_ROLLOUT = 2048


def sft_arguments(config: FineTuneConfig, stage_dir: Path) -> SFTConfig:
    """Arguments of ``trl.SFTTrainer``."""
    from trl import SFTConfig

    sft = config.sft
    return SFTConfig(
        **_shared(config, stage_dir, sft.batch, sft.micro_batch),
        max_steps=sft.steps,
        learning_rate=sft.learning_rate,
        lr_scheduler_type=sft.schedule,
        warmup_steps=sft.warmup_steps,
        max_length=None,  # truncation would cut an image's tokens
        train_sampling_strategy="sequential",
    )


def grpo_arguments(
    config: FineTuneConfig, stage_dir: Path, steps: int, longest_rollout: int
) -> GRPOConfig:
    """Arguments of ``trl.GRPOTrainer``.

    Rewards carry their weights already, so ``reward_weights`` stays unset. Completions are not
    logged: they speak of patients' images.
    """
    from trl import GRPOConfig

    grpo, vllm = config.grpo, config.vllm
    return GRPOConfig(
        **_shared(config, stage_dir, grpo.rollouts_per_step, grpo.micro_batch),
        **_vllm(config),
        max_steps=steps,
        learning_rate=grpo.learning_rate,
        lr_scheduler_type=grpo.schedule,
        warmup_steps=grpo.warmup_steps,
        max_grad_norm=grpo.max_grad_norm,
        num_generations=grpo.generations,
        num_iterations=grpo.iterations,
        temperature=grpo.temperature,
        max_completion_length=grpo.max_completion_tokens or longest_rollout,
        beta=grpo.beta,
        epsilon=grpo.epsilon,
        epsilon_high=grpo.epsilon_high,
        loss_type=grpo.loss_type.value,
        scale_rewards=grpo.scale_rewards.value,
        shuffle_dataset=False,
        log_completions=False,
        use_vllm=vllm.mode is not VllmMode.off,
    )


def longest_rollout(loaded: LoadedModel, settings: PromptFile) -> int:
    """Tokens that the served reasoner may write, at most :data:`LONGEST_ROLLOUT`."""
    chars = reasoning_chars(
        settings.template,
        settings.max_reasoning_chars,
        context=loaded.context_tokens,
        image_tokens=loaded.image_tokens,
        answer_size=loaded.answer_size,
    )
    return min(LONGEST_ROLLOUT, completion_tokens(loaded.answer_size, chars))


def lora_config(config: FineTuneConfig) -> LoraConfig:
    """The new adapter."""
    from peft import LoraConfig

    lora = config.lora
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )


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
        "output_dir": str(stage_dir),
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": steps,
        "use_cpu": on_cpu,
        "bf16": uses_bf16(config),
        "gradient_checkpointing": run.gradient_checkpointing,
        "seed": run.seed,
        "data_seed": run.seed,
        "logging_steps": run.log_steps,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": run.save_steps,
        "save_total_limit": run.keep_checkpoints,
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


def _vllm(config: FineTuneConfig) -> dict[str, Any]:
    vllm = config.vllm
    if vllm.mode is VllmMode.off:
        return {}
    return {
        "vllm_mode": vllm.mode.value,
        "vllm_server_base_url": vllm.url,
        "vllm_gpu_memory_utilization": vllm.gpu_memory_share,
        "vllm_tensor_parallel_size": vllm.tensor_parallel,
    }
