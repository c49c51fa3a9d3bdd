# SPDX-License-Identifier: Apache-2.0
"""The file of an ablation, read and checked before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import TypeAdapter, ValidationError

from medreasoner_infer.models.registry import EMBEDDED, LIVE
from medreasoner_training.ablations.errors import AblationConfigError
from medreasoner_training.finetune import (
    FineTuneConfig,
    config_from_dict,
    read_config,
    shipped_configs,
)

Changes = dict[str, Any]
UNTOUCHED = "untouched"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,40}")


@dataclass(frozen=True)
class AblationConfig:
    """What is compared; paths count from the folder of the file.

    Attributes:
        data: data set, as ``medreasoner evaluate`` takes it.
        arms: for each arm by its name, what differs from the other ones: dotted keys of the
            configuration of a training, e.g. ``{method: sft, sft.steps: 200}`` or
            ``{rewards.mode: hard}``.
        questions: table of questions about the data set's images.
        start: reasoner that every arm starts from.
        segmenter: makes the masks of the measurement.
        base: configuration of every training: a shipped one by name, or a YAML file.
        change: dotted keys that differ from it in every arm.
        train_split: that is learnt from; ``null`` for ``train``.
        test_split: that is measured on; ``null`` for ``test``.
        held_out_super_categories: of which nothing is learnt.
        val_share: share of the training patients that validate.
        limit: questions that are measured, spread evenly; ``null`` for all.
        seeds: of the trainings; every arm is trained once with each.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    data: str
    arms: dict[str, Changes]
    questions: str | None = None
    start: str = EMBEDDED
    segmenter: str = EMBEDDED
    base: str = "embedded"
    change: Changes = field(default_factory=dict)
    train_split: str | None = None
    test_split: str | None = None
    held_out_super_categories: tuple[str, ...] = ()
    val_share: float = 0.1
    limit: int | None = None
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for ok, said in (
            (bool(self.arms), "arms is empty; expected at least one arm with a name"),
            (bool(self.seeds), "seeds is empty; expected at least one number"),
            (len(set(self.seeds)) == len(self.seeds), "seeds holds a number twice"),
            (all(seed >= 0 for seed in self.seeds), "a seed is negative; expected 0 or more"),
            (0 < self.val_share < 1, f"val_share is {self.val_share}; expected between 0 and 1"),
            (self.limit is None or self.limit > 0, "limit is below 1; expected 1 or more, or null"),
            (
                self.start != LIVE,
                "start is live, which may change; expected a model's name or folder",
            ),
        ):
            if not ok:
                raise AblationConfigError(f"{said}.")
        for name in self.arms:
            if not _NAME.fullmatch(name) or name == UNTOUCHED:
                raise AblationConfigError(
                    f"The arm {name[:60]!r} cannot be called so; expected small letters, digits, "
                    f"'-', '_' and '.', at most 41, and not {UNTOUCHED!r}."
                )


_SCHEMA = TypeAdapter(AblationConfig)


def read_ablation(path: Path) -> AblationConfig:
    """Read a YAML file.

    Raises:
        AblationConfigError: it is missing, no YAML, or a key or value means nothing.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise AblationConfigError(
            f"{path} cannot be read as YAML ({type(error).__name__}). See docs/ablation.md for one."
        ) from error
    try:
        return _SCHEMA.validate_python(values)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"])) or "the file"
        cause = fault.get("ctx", {}).get("error")
        said = str(cause) if isinstance(cause, AblationConfigError) else f"{key}: {fault['msg']}."
        raise AblationConfigError(f"{path.name}: {said}") from error


def recorded_ablation(content: bytes) -> AblationConfig:
    """What :func:`json.dumps` made of a configuration's fields.

    Raises:
        AblationConfigError: it is damaged.
    """
    try:
        return _SCHEMA.validate_json(content)
    except ValidationError as error:
        raise AblationConfigError(
            "The folder's record of the ablation is damaged. Give a new folder."
        ) from error


def arm_config(
    config: AblationConfig, arm: str, seed: int, folder: Path, data_folder: str
) -> FineTuneConfig:
    """The configuration of an arm's training, whose candidate stays in the run's own folder.

    Args:
        config: of the ablation.
        arm: its name.
        seed: of the training.
        folder: from which paths of the configuration count.
        data_folder: learning set, relative to the run's folder.

    Raises:
        FineTuneConfigError: a key or value means nothing.
    """
    shipped = shipped_configs()
    path = shipped.get(config.base, folder / config.base)
    values = read_config(path).to_dict()
    fixed = {
        "model.name": config.start,
        "model.revision": None,
        "data.folder": data_folder,
        "run.seed": seed,
        "promotion.promote": False,
        "promotion.store": "store",
        "promotion.name": arm,
        "gate.min_patients": 2,  # nothing is promoted, so that nothing is decided
        "gate.resamples": 100,
    }
    for changes in (config.change, config.arms[arm], fixed):
        _change(values, changes)
    return config_from_dict(values)


def _change(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Set dotted keys; unknown ones are refused when the configuration is made of them."""
    for key, value in changes.items():
        *sections, name = key.split(".")
        target = values
        for section in sections:
            inner = target.setdefault(section, {})
            if not isinstance(inner, dict):
                raise AblationConfigError(f"{key!r} is no key of a training's configuration.")
            target = inner
        target[name] = value
