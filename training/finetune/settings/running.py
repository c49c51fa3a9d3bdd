# SPDX-License-Identifier: Apache-2.0
"""How a run is carried out, and what becomes of its candidate."""

from __future__ import annotations

from dataclasses import dataclass

from medreasoner_training.finetune.settings.choices import VllmMode, require


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
        blend: how far the candidate lies on the way from its parent's weights (0) to the trained
            ones (1); less forgets less. See :mod:`medreasoner_training.finetune.blending`.
    """

    promote: bool = True
    store: str | None = None
    name: str | None = None
    by: str = "medreasoner_training.finetune"
    segmenter: str | None = None
    blend: float = 1.0

    def __post_init__(self) -> None:
        require(0 < self.blend <= 1, "promotion.blend", self.blend, "above 0 to 1")
