# SPDX-License-Identifier: Apache-2.0
"""Choices that the configuration offers."""

from __future__ import annotations

from enum import Enum


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
    """How GRPO's losses are made and averaged; see ``loss_type`` of TRL's ``GRPOConfig``."""

    grpo = "grpo"
    dr_grpo = "dr_grpo"
    dapo = "dapo"
    bnpo = "bnpo"
    cispo = "cispo"
    sapo = "sapo"
    luspo = "luspo"
    vespo = "vespo"


class SamplingLevel(str, Enum):
    """Of what the probability ratio is taken: of each token, or of whole rollouts (GSPO)."""

    token = "token"
    sequence = "sequence"


class ScaleRewards(str, Enum):
    """By which standard deviation advantages are divided: the group's, the batch's, or none."""

    group = "group"
    batch = "batch"
    none = "none"


class ImageSizes(str, Enum):
    """What happens to images of another size than the model reads."""

    refuse = "refuse"
    scale = "scale"


class ReportTo(str, Enum):
    """Where the figures of each logged step go, beside ``progress.json``."""

    none = "none"
    tensorboard = "tensorboard"
    mlflow = "mlflow"
    wandb = "wandb"
