# SPDX-License-Identifier: Apache-2.0
"""What makes two configurations one run: all settings that change what is learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A run that ran out of memory can go on with less, and one can be looked at that was begun unseen.
_NOT_LEARNT = {
    "sft": ("micro_batch",),
    "grpo": ("micro_batch",),
    "run": ("gpu_gb", "gradient_checkpointing", "report_to"),
    "vllm": ("gpu_memory_share", "max_model_length", "sleep", "tensor_parallel"),
}
_ONLY_SHOWN = "watch"


def what_is_learnt(config: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a configuration without those that change a step's memory or its page.

    Args:
        config: as :meth:`~medreasoner_training.finetune.config.FineTuneConfig.to_dict` gives it.
    """
    return {
        name: _without(section, _NOT_LEARNT.get(name, ()))
        for name, section in config.items()
        if name != _ONLY_SHOWN
    }


def _without(section: Any, keys: tuple[str, ...]) -> Any:
    if not isinstance(section, Mapping):
        return section
    return {key: value for key, value in section.items() if key not in keys}
