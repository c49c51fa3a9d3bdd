# SPDX-License-Identifier: Apache-2.0
"""From a configuration, a model's sizes and the lengths of its texts to one GPU's memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medreasoner_training.finetune.arguments import split_batch
from medreasoner_training.finetune.config import FineTuneConfig
from medreasoner_training.finetune.memory.architecture import Architecture
from medreasoner_training.finetune.memory.estimate import (
    CONTEXT_BYTES,
    Item,
    Load,
    Phase,
    context_item,
    items_of,
    items_of_transformers,
)
from medreasoner_training.finetune.memory.vllm import (
    Colocated,
    colocated,
    why_it_does_not_start,
)
from medreasoner_training.finetune.prompt_length import model_length
from medreasoner_training.finetune.settings import Method, Tuning, VllmMode

_SHARDING = ("zero3", "fsdp")
# So much of a card beyond what was reckoned is no margin.
_TIGHT = 0.95


@dataclass(frozen=True)
class Lengths:
    """How long the texts are.

    Attributes:
        prompt: tokens of the longest one, its image included.
        completion: tokens of the longest rollout.
        side_px: of the image.
        counted: whether the prompt was counted, or else reckoned from its characters.
    """

    prompt: int
    completion: int
    side_px: int
    counted: bool


@dataclass(frozen=True)
class Reckoning:
    """The memory of one GPU.

    Attributes:
        stage: ``sft`` or ``grpo``, whichever takes more.
        items: what takes memory.
        card_bytes: of the GPU; ``None`` where nobody told.
        vllm: beside the training, if there is one.
        refusal: why vLLM would not start.
    """

    stage: str
    items: tuple[Item, ...]
    card_bytes: int | None
    vllm: Colocated | None = None
    refusal: str | None = None

    def total(self, phase: Phase) -> int:
        """Bytes that are taken in a phase, what is always taken included."""
        return sum(each.bytes for each in self.items if each.phase in (Phase.ALWAYS, phase))

    @property
    def peak_phase(self) -> Phase:
        """The phase that takes more."""
        return max((Phase.LEARNING, Phase.ANSWERING), key=self.total)

    @property
    def peak(self) -> int:
        """Bytes that are needed."""
        return self.total(self.peak_phase)

    @property
    def fits(self) -> bool | None:
        """Whether the run starts and has room; ``None`` where the card is not known."""
        if self.card_bytes is None:
            return None
        return self.refusal is None and self.peak <= self.card_bytes

    @property
    def verdict(self) -> str:
        """One sentence."""
        told = f"{self.peak / 1e9:.1f} GB while {_DOING[self.peak_phase]}"
        if self.card_bytes is None:
            return f"{told}; no card was told, so nothing is compared."
        card = f"{self.card_bytes / 1e9:g} GB"
        if self.refusal is not None:
            return f"Does not start. {self.refusal}"
        if self.peak > self.card_bytes:
            return f"Does not fit: {told}, of {card}."
        tight = "Tight" if self.peak > self.card_bytes * _TIGHT else "Fits"
        return f"{tight}: {told}, of {card}."


_DOING = {Phase.LEARNING: "it learns", Phase.ANSWERING: "it answers"}


def reckon(
    config: FineTuneConfig,
    arch: Architecture,
    lengths: Lengths,
    *,
    card_bytes: int | None,
    gpus: int = 1,
) -> Reckoning:
    """The memory of the stage that takes most.

    Raises:
        FineTuneConfigError: a step cannot be shared by the GPUs.
    """
    stages = []
    if config.sft.steps:
        stages.append(_reckoned("sft", config, arch, lengths, card_bytes, gpus))
    if config.method is Method.grpo:
        stages.append(_reckoned("grpo", config, arch, lengths, card_bytes, gpus))
    return max(stages, key=lambda each: (each.refusal is not None, each.peak))


def _reckoned(
    stage: str,
    config: FineTuneConfig,
    arch: Architecture,
    lengths: Lengths,
    card_bytes: int | None,
    gpus: int,
) -> Reckoning:
    load = _load(stage, config, lengths, gpus)
    items = items_of(arch, load)
    if config.run.device != "cpu":
        items.append(context_item())
    mode, vllm, refusal = config.vllm.mode, None, None
    if stage == "grpo" and mode is VllmMode.off:
        items += items_of_transformers(arch, load)
    if stage == "grpo" and mode is VllmMode.colocate and card_bytes is not None:
        vllm = colocated(
            arch,
            card_bytes=card_bytes,
            share=config.vllm.gpu_memory_share,
            model_length=config.vllm.max_model_length
            or model_length(lengths.prompt, lengths.completion),
            tensor_parallel=config.vllm.tensor_parallel,
            sleeps=config.vllm.sleep,
        )
        names = ("frozen weights", "learning weights")
        taken = CONTEXT_BYTES + sum(each.bytes for each in items if each.name in names)
        refusal = why_it_does_not_start(vllm, card_bytes, taken)
        items += vllm.items()
    kept = tuple(each for each in items if each.bytes)
    return Reckoning(stage, kept, card_bytes, vllm, refusal)


def _load(stage: str, config: FineTuneConfig, lengths: Lengths, gpus: int) -> Load:
    is_grpo, is_full = stage == "grpo", config.tuning is Tuning.full
    grpo, run = config.grpo, config.run
    batch = grpo.rollouts_per_step if is_grpo else config.sft.batch
    micro = grpo.micro_batch if is_grpo else config.sft.micro_batch
    per_pass, passes = split_batch(batch, micro, gpus)
    on_cpu = run.device == "cpu"
    return Load(
        prompt=lengths.prompt,
        completion=lengths.completion,
        side_px=lengths.side_px,
        micro_batch=per_pass,
        rollouts=per_pass * passes if is_grpo else 0,
        generations=grpo.generations if is_grpo else 1,
        lora_rank=0 if is_full else config.lora.rank,
        weight_bytes=4 if is_full or on_cpu else 2,
        arithmetic_bytes=4 if (on_cpu and not run.bf16) or (is_full and run.bf16 is False) else 2,
        checkpointing=run.gradient_checkpointing,
        reference=is_grpo and grpo.beta > 0,
        shards=gpus if _is_sharded(run.accelerate_config) else 1,
    )


def _is_sharded(accelerate_config: str | None) -> bool:
    return accelerate_config is not None and Path(accelerate_config).stem in _SHARDING


def to_dict(reckoning: Reckoning) -> dict[str, Any]:
    """Plain values for JSON; sizes in bytes."""
    return {
        "stage": reckoning.stage,
        "items": [
            {"name": each.name, "bytes": each.bytes, "phase": each.phase.value, "how": each.how}
            for each in reckoning.items
        ],
        "total_bytes": {
            phase.value: reckoning.total(phase) for phase in (Phase.ANSWERING, Phase.LEARNING)
        },
        "card_bytes": reckoning.card_bytes,
        "fits": reckoning.fits,
        "verdict": reckoning.verdict,
    }
