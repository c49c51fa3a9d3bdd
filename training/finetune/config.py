# SPDX-License-Identifier: Apache-2.0
"""The configuration of a fine-tuning run, read from YAML and checked before anything is loaded."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from medreasoner_infer.errors import InputError
from medreasoner_training.finetune.errors import FineTuneConfigError
from medreasoner_training.finetune.settings import (
    DataSettings,
    GrpoSettings,
    LoraSettings,
    Method,
    ModelSettings,
    PromotionSettings,
    RewardSettings,
    RunSettings,
    SftSettings,
    Tuning,
    VllmSettings,
    WatchSettings,
)
from medreasoner_training.finetune.settings.section import Section
from medreasoner_training.gate import GateConfig
from medreasoner_training.gate.config import REPLACED
from medreasoner_training.rewards import RewardConfig, RewardConfigError
from medreasoner_training.rewards.config import check_mode
from medreasoner_training.samples import AugmentationSettings

CONFIG_FILE = "config.yaml"


@dataclass(frozen=True)
class FineTuneConfig(Section):
    """All settings of a run; the shipped files under ``configs/`` are examples.

    Attributes:
        method: ``grpo``, or ``sft`` for the supervised baseline.
        tuning: ``lora`` or ``full``.
        model: which reasoner is tuned.
        data: what it learns from.
        augmentation: ranges of the augmentation.
        lora: the adapter.
        sft: supervised steps.
        grpo: reinforcement learning.
        rewards: what is rewarded.
        vllm: who generates the rollouts.
        run: device, seed, checkpoints, evaluation.
        watch: a page to look at while the model learns.
        promotion: what becomes of the candidate.
        gate: what the candidate must keep to.

    Raises:
        FineTuneConfigError: naming the key that means nothing.
    """

    method: Method = Method.grpo
    tuning: Tuning = Tuning.lora
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    sft: SftSettings = field(default_factory=SftSettings)
    grpo: GrpoSettings = field(default_factory=GrpoSettings)
    rewards: RewardSettings = field(default_factory=RewardSettings)
    vllm: VllmSettings = field(default_factory=VllmSettings)
    run: RunSettings = field(default_factory=RunSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)
    promotion: PromotionSettings = field(default_factory=PromotionSettings)
    gate: GateConfig = field(default_factory=GateConfig)

    def __post_init__(self) -> None:
        if self.method is Method.sft and not self.sft.steps:
            raise FineTuneConfigError("method is sft, but sft.steps is 0; expected 1 or more.")
        needs_masks = self.rewards.mask_weight > 0 or self.gate.primary == "mask_dice"
        if needs_masks and self.promotion.segmenter is None:
            raise FineTuneConfigError(
                "rewards.mask_weight or gate.primary asks for masks, but promotion.segmenter is "
                "null; name the segmenter, e.g. embedded."
            )
        _ = self.reward_config

    @property
    def prompts(self) -> int:
        """Questions of a run's longest stage; 0 where passes over the samples decide that."""
        supervised = self.sft.steps * self.sft.batch
        if self.method is Method.sft:
            return supervised
        return max(supervised, (self.grpo.steps or 0) * self.grpo.prompts_per_step)

    @property
    def reward_config(self) -> RewardConfig:
        """The settings of the reward functions.

        Raises:
            FineTuneConfigError: a mode or term is unknown, or a weight means nothing.
        """
        rewards = self.rewards
        try:
            return RewardConfig(
                check_mode(rewards.mode),
                rewards.terms,
                rewards.weights,
                as_released=rewards.as_released,
                operating_iou=rewards.operating_iou,
            )
        except RewardConfigError as error:
            raise FineTuneConfigError(f"rewards: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON and YAML can hold."""
        return _schema().dump_python(self, mode="json")

    def to_yaml(self) -> str:
        """The text of a file that :func:`read_config` reads to an equal configuration."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


@cache
def _schema() -> TypeAdapter[FineTuneConfig]:
    return TypeAdapter(FineTuneConfig)


def read_config(path: Path) -> FineTuneConfig:
    """Read a YAML file; what it leaves out has its default.

    Raises:
        FineTuneConfigError: the file is missing or no YAML, a key is unknown, or a value is of
            another type or out of its range.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise FineTuneConfigError(
            f"{path} cannot be read as YAML ({type(error).__name__}: {error}). Copy one of the "
            f"shipped files: {', '.join(shipped_configs())}."
        ) from error
    return config_from_dict({} if values is None else values)


def config_from_dict(values: dict[str, Any]) -> FineTuneConfig:
    """A configuration from nested plain values.

    Raises:
        FineTuneConfigError: as :func:`read_config`.
    """
    if not isinstance(values, dict):
        raise FineTuneConfigError(
            f"The configuration is a {type(values).__name__}; expected keys with values."
        )
    try:
        return _schema().validate_python(values)
    except ValidationError as error:
        raise FineTuneConfigError(_sentence(error.errors()[0])) from error


def shipped_configs() -> dict[str, Path]:
    """The shipped files by name, e.g. ``embedded``."""
    folder = Path(str(resources.files(__package__) / "configs"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _sentence(fault: ErrorDetails) -> str:
    """What is wrong with which key; values are shortened."""
    key, context = ".".join(map(str, fault["loc"])), fault.get("ctx", {})
    match fault["type"], context.get("error"):
        case "unexpected_keyword_argument", _:
            return _unknown(key)
        case "enum", _:
            choices = context["expected"].replace("'", "").replace(" or ", ", ")
            return f"{key}: invalid value {shortened(fault['input'])}, expected one of [{choices}]."
        case _, FineTuneConfigError() as error:
            return str(error)
        case _, InputError() as error:
            return f"{key}: {error}"
    return f"{key}: {fault['msg']}, and not {shortened(fault['input'])}."


def _unknown(key: str) -> str:
    """The keys of the same section, and which of them may have been meant."""
    section, _, name = key.rpartition(".")
    if section == "gate" and name in REPLACED:
        return f"{key} is no key any more: {REPLACED[name]}."
    known = sorted(_keys(section))
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"{key} is no key; expected one of {', '.join(known)}.{hint}"


def _keys(section: str) -> Collection[str]:
    owner = FineTuneConfig if not section else type(getattr(FineTuneConfig(), section))
    return [each.name for each in dataclasses.fields(owner)]
