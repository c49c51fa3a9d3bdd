# SPDX-License-Identifier: Apache-2.0
"""How a run is carried out, and what becomes of its candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medreasoner_training.finetune.settings.choices import ReportTo, VllmMode
from medreasoner_training.finetune.settings.section import Count, Real, Section, setting

_MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class VllmSettings(Section):
    """Rollouts by vLLM.

    Attributes:
        mode: ``off``, ``colocate`` (in the training processes) or ``server`` (``trl vllm-serve``).
        url: of the server.
        gpu_memory_share: of each GPU that colocated vLLM may take: its copy of the weights, room
            for its first pass and, with the rest, the KV cache.
        max_model_length: tokens of a prompt, image included, and its completion together; ``null``
            for the data set's longest prompt and ``grpo.max_completion_tokens``. Colocated vLLM
            starts only if its KV cache holds so many.
        sleep: colocated vLLM gives its memory back while the model learns, and is sent the weights
            anew afterwards.
        tensor_parallel: GPUs that hold one copy of a colocated model.
    """

    key: ClassVar[str] = "vllm"

    mode: VllmMode = setting(VllmMode.off, theirs="vllm_mode")
    url: str | None = setting(None, theirs="vllm_server_base_url")
    gpu_memory_share: Real = setting(0.3, above=0, below=1, theirs="vllm_gpu_memory_utilization")
    max_model_length: Count | None = setting(None, least=1, theirs="vllm_max_model_length")
    sleep: bool = setting(False, theirs="vllm_enable_sleep_mode")
    tensor_parallel: Count = setting(1, least=1, theirs="vllm_tensor_parallel_size")

    def __post_init__(self) -> None:
        super().__post_init__()
        has_url = (self.url is not None) == (self.mode is VllmMode.server)
        self.require(has_url, "url", "an address with mode server, else null")
        wakes = not self.sleep or self.mode is not VllmMode.server
        self.require(wakes, "sleep", "false, as a server does not share the training's memory")


@dataclass(frozen=True)
class RunSettings(Section):
    """How the run is carried out.

    Attributes:
        device: ``auto`` (CUDA where there is one) or ``cpu``.
        bf16: train in bfloat16; ``null``: on CUDA only.
        gradient_checkpointing: recompute activations in the backward pass to save memory.
        seed: of everything that is drawn.
        trainings: how often it is trained from the same start, each time with the next seed; the
            candidate is the mean of what they end with. See
            :mod:`medreasoner_training.finetune.blending`.
        log_steps: steps between two log entries.
        save_steps: steps between two checkpoints.
        keep_checkpoints: the newest so many are kept, two at least: the newest may be damaged.
        eval_steps: steps between two evaluations on held-out samples, of which the first counts as
            an attempt at the gate; 0 evaluates at the end only. No checkpoint is chosen by them.
        eval_samples: held-out samples of such an evaluation; all of them decide at the end.
        report_to: where the figures of each logged step go as well: ``tensorboard`` (the run's
            folder), ``mlflow`` (the run's folder, or ``MLFLOW_TRACKING_URI``), ``wandb`` or
            ``none``. Numbers only are given to any of them.
        gpu_gb: memory of the card that the settings are made for, in 10^9 B; a dry run reckons
            with it, a training takes the card that is there.
        accelerate_config: documents with what ``accelerate launch --config_file`` was given; it is
            recorded with the candidate.
    """

    key: ClassVar[str] = "run"

    device: str = "auto"
    bf16: bool | None = None
    gradient_checkpointing: bool = setting(False, theirs="gradient_checkpointing")
    seed: Count = setting(0, least=0, most=_MAX_SEED, theirs="seed")
    trainings: Count = setting(1, least=1, most=16)
    log_steps: Count = setting(1, least=1, theirs="logging_steps")
    save_steps: Count = setting(50, least=1, theirs="save_steps")
    keep_checkpoints: Count = setting(2, least=2, theirs="save_total_limit")
    eval_steps: Count = setting(50, least=0)
    eval_samples: Count = setting(64, least=1)
    report_to: ReportTo = ReportTo.tensorboard
    gpu_gb: Real | None = setting(None, above=0)
    accelerate_config: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.device in ("auto", "cpu"), "device", "auto or cpu")
        last_seed = self.seed + self.trainings - 1
        self.require(last_seed <= _MAX_SEED, "seed", f"at most {_MAX_SEED} for the last training")


@dataclass(frozen=True)
class PromotionSettings(Section):
    """What becomes of the candidate.

    Attributes:
        promote: make it live if the gate agrees; ``false`` only compares.
        store: folder of the store, a relative one counts from the run's folder; ``null`` for
            ``$MEDREASONER_HOME/models``.
        name: of the candidate; ``null`` for the moment.
        by: who or what decides, for the history.
        segmenter: registry name or path of the segmenter that makes masks for the mask reward and
            for ``mask_dice``; ``null`` compares boxes only.
        blend: how far the candidate lies on the way from its parent's weights (0) to the trained
            ones (1); less forgets less. See :mod:`medreasoner_training.finetune.blending`.
    """

    key: ClassVar[str] = "promotion"

    promote: bool = True
    store: str | None = None
    name: str | None = None
    by: str = "medreasoner_training.finetune"
    segmenter: str | None = None
    blend: Real = setting(1.0, above=0, most=1)
