# SPDX-License-Identifier: Apache-2.0
"""What makes two configurations one run: all but the settings that only change memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# They change how much memory a step takes and not what it learns, so that a run which ran out of
# memory can go on.
_MEMORY_ONLY = {
    "sft": ("micro_batch",),
    "grpo": ("micro_batch",),
    "run": ("gpu_gb", "gradient_checkpointing"),
    "vllm": ("gpu_memory_share", "max_model_length", "sleep", "tensor_parallel"),
}


def what_is_learnt(config: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a configuration without those that only change a step's memory.

    Args:
        config: as :meth:`~medreasoner_training.finetune.config.FineTuneConfig.to_dict` gives it.
    """
    return {name: _without(section, _MEMORY_ONLY.get(name, ())) for name, section in config.items()}


def _without(section: Any, keys: tuple[str, ...]) -> Any:
    if not isinstance(section, Mapping):
        return section
    return {key: value for key, value in section.items() if key not in keys}
