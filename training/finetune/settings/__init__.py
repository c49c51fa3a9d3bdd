# SPDX-License-Identifier: Apache-2.0
"""The sections of :class:`~medreasoner_training.finetune.config.FineTuneConfig`.

Each refuses what means nothing with a :class:`FineTuneConfigError` that names the key. Choices are
enumerations whose members are written in YAML as they are named.
"""

from __future__ import annotations

from medreasoner_training.finetune.settings.choices import (
    ImageSizes,
    LossType,
    Method,
    ReportTo,
    SamplingLevel,
    ScaleRewards,
    Tuning,
    VllmMode,
)
from medreasoner_training.finetune.settings.learning import (
    LANGUAGE_PROJECTIONS,
    GrpoSettings,
    LoraSettings,
    RewardSettings,
    SftSettings,
)
from medreasoner_training.finetune.settings.running import (
    PromotionSettings,
    RunSettings,
    VllmSettings,
)
from medreasoner_training.finetune.settings.section import their_arguments
from medreasoner_training.finetune.settings.sources import DataSettings, ModelSettings
from medreasoner_training.finetune.settings.watching import WatchSettings

__all__ = [
    "LANGUAGE_PROJECTIONS",
    "DataSettings",
    "GrpoSettings",
    "ImageSizes",
    "LoraSettings",
    "LossType",
    "Method",
    "ModelSettings",
    "PromotionSettings",
    "ReportTo",
    "RewardSettings",
    "RunSettings",
    "SamplingLevel",
    "ScaleRewards",
    "SftSettings",
    "Tuning",
    "VllmMode",
    "VllmSettings",
    "WatchSettings",
    "their_arguments",
]
