# SPDX-License-Identifier: Apache-2.0
"""The candidate's model card."""

from __future__ import annotations

from medreasoner_training.finetune.config import FineTuneConfig
from medreasoner_training.finetune.record import RunRecord
from medreasoner_training.finetune.settings import Method, RunSettings, Tuning
from medreasoner_training.gate import GateReport, model_card_section


def model_card(record: RunRecord, config: FineTuneConfig, report: GateReport) -> str:
    """Markdown: what was trained how on what, and how it compares with the live reasoner."""
    lines = [
        f"# {record.candidate}",
        "",
        "A reasoner that was fine-tuned at a site on masks that its readers approved. Not a "
        "medical device; judged on this site's held-out patients only.",
        "",
        f"- Tuned from: `{record.parent or record.base}`",
        f"- Weights that learnt: {_weights(config)}",
        f"- Method: {_method(config)}",
        f"- Share of the way from the parent's weights to the trained ones: "
        f"{config.promotion.blend:g}",
        f"- Data set: manifest SHA-256 `{record.data_manifest_sha256}`",
        f"- {_seeds(config.run)}",
        "",
    ]
    return "\n".join(lines) + "\n" + model_card_section(report)


def _seeds(run: RunSettings) -> str:
    if run.trainings == 1:
        return f"Seed: {run.seed}"
    return (
        f"Mean of the weights of {run.trainings} trainings with the seeds {run.seed} to "
        f"{run.seed + run.trainings - 1}"
    )


def _weights(config: FineTuneConfig) -> str:
    if config.tuning is Tuning.full:
        return "all"
    lora = config.lora
    return f"a LoRA adapter of rank {lora.rank}, alpha {lora.alpha}, on `{lora.target_modules}`"


def _method(config: FineTuneConfig) -> str:
    supervised = f"{config.sft.steps} supervised steps"
    if config.method is Method.sft:
        return supervised
    grpo = config.grpo
    text = (
        f"GRPO, {grpo.prompts_per_step} questions x {grpo.generations} rollouts a step, learning "
        f"rate {grpo.learning_rate:g}, KL weight {grpo.beta:g}, rewards {config.rewards.mode}"
    )
    return f"{supervised}, then {text}" if config.sft.steps else text
