# SPDX-License-Identifier: Apache-2.0
"""The configuration of a fine-tuning run, read from YAML and checked before anything is loaded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
)
from medreasoner_training.gate import GateConfig, GateConfigError
from medreasoner_training.rewards import RewardConfig, RewardConfigError
from medreasoner_training.samples import AugmentationSettings

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIG_FILE = "config.yaml"


@dataclass(frozen=True)
class FineTuneConfig:
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
        promotion: what becomes of the candidate.
        gate: fields of :class:`medreasoner_training.gate.GateConfig`; its defaults where not given.

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
    promotion: PromotionSettings = field(default_factory=PromotionSettings)
    gate: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        gamma = tuple(self.augmentation.gamma)
        augmentation = dataclasses.replace(self.augmentation, gamma=gamma)
        object.__setattr__(self, "augmentation", augmentation)
        if self.method is Method.sft and not self.sft.steps:
            raise FineTuneConfigError("method is sft, but sft.steps is 0; expected 1 or more.")
        needs_masks = self.rewards.mask_weight > 0 or self.gate_config.primary == "mask_dice"
        if needs_masks and self.promotion.segmenter is None:
            raise FineTuneConfigError(
                "rewards.mask_weight or gate.primary asks for masks, but promotion.segmenter is "
                "null; name the segmenter, e.g. embedded."
            )
        _ = self.reward_config

    @property
    def gate_config(self) -> GateConfig:
        """The gate's settings.

        Raises:
            FineTuneConfigError: a key is unknown or a value out of its range.
        """
        known = {each.name for each in dataclasses.fields(GateConfig)}
        for key in self.gate:
            if key not in known:
                raise _unknown(f"gate.{key}", sorted(known))
        try:
            return GateConfig(**self.gate)
        except (GateConfigError, TypeError) as error:
            raise FineTuneConfigError(f"gate: {error}") from error

    @property
    def reward_config(self) -> RewardConfig:
        """The settings of the reward functions.

        Raises:
            FineTuneConfigError: a mode or term is unknown, or a weight means nothing.
        """
        rewards = self.rewards
        try:
            return RewardConfig(rewards.mode, rewards.terms, rewards.weights)
        except RewardConfigError as error:
            raise FineTuneConfigError(f"rewards: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON and YAML can hold."""
        from omegaconf import OmegaConf, SCMode

        return OmegaConf.to_container(
            OmegaConf.structured(self), structured_config_mode=SCMode.DICT, enum_to_str=True
        )

    def to_yaml(self) -> str:
        """The text of a file that :func:`read_config` reads to an equal configuration."""
        from omegaconf import OmegaConf

        return OmegaConf.to_yaml(OmegaConf.create(self.to_dict()))


def read_config(path: Path) -> FineTuneConfig:
    """Read a YAML file; what it leaves out has its default.

    Raises:
        FineTuneConfigError: the file is missing or no YAML, a key is unknown, or a value is of
            another type or out of its range.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
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
    from omegaconf import OmegaConf
    from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

    if not isinstance(values, dict):
        raise FineTuneConfigError(
            f"The configuration is a {type(values).__name__}; expected keys with values."
        )
    schema = _writable(OmegaConf.structured(FineTuneConfig))
    try:
        merged = OmegaConf.merge(schema, OmegaConf.create(values))
        return OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        parent = OmegaConf.select(schema, error.full_key.rpartition(".")[0] or "@")
        raise _unknown(error.full_key, sorted(parent if parent is not None else schema)) from error
    except OmegaConfBaseException as error:
        problem = str(error).partition("\n")[0]
        raise FineTuneConfigError(f"{error.full_key}: {problem}.") from error


def shipped_configs() -> dict[str, Path]:
    """The shipped files by name, e.g. ``embedded``."""
    folder = Path(str(resources.files(__package__) / "configs"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _unknown(key: str, known: list[str]) -> FineTuneConfigError:
    return FineTuneConfigError(f"{key} is no key; expected one of {', '.join(known)}.")


def _writable(node: DictConfig) -> DictConfig:
    """Frozen dataclasses make read-only nodes, into which nothing can be merged."""
    from omegaconf import DictConfig, OmegaConf

    OmegaConf.set_readonly(node, None)
    for value in node.values():
        if isinstance(value, DictConfig):
            _writable(value)
    return node
