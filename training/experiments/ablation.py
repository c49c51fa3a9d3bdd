# SPDX-License-Identifier: Apache-2.0
"""Which reward teaches what: the variants of the paper's Table 3, and their table in small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from medreasoner_infer.models.registry import EMBEDDED
from medreasoner_training.experiments.site_shift.measuring import Measured, compare, values_of
from medreasoner_training.experiments.site_shift.report import WORDS
from medreasoner_training.finetune.config import (
    FineTuneConfig,
    config_from_dict,
    read_config,
    shipped_configs,
)
from medreasoner_training.finetune.settings import RewardSettings
from medreasoner_training.gate import Comparison, GateConfig, mean_with_interval
from medreasoner_training.markdown import table_lines

VARIANTS: dict[str, RewardSettings] = {
    "soft": RewardSettings("soft"),
    "hard": RewardSettings("hard"),
    "base": RewardSettings("base"),
    "iou-only": RewardSettings("soft", ("bbox_iou",)),
    "pdice-only": RewardSettings("soft", ("points_dice",)),
}
UNTOUCHED = "untouched"
SHOWN = ("box_iou", "points_dice", "points_inside", "mask_dice", "absence")
_WELL_FORMED = "answers that can be read"


@dataclass(frozen=True)
class AblationSettings:
    """What all variants share; every field is a command line option."""

    seed: int = field(default=0, metadata={"help": "of the site's patients and of the trainings"})
    tuning: str = field(default="full", metadata={"help": "lora or full"})
    steps: int = field(default=150, metadata={"help": "optimiser steps of GRPO"})
    learning_rate: float = 2e-4
    prompts_per_step: int = field(default=4, metadata={"help": "questions of a step"})
    generations: int = field(default=8, metadata={"help": "rollouts per question"})


def variant_config(variant: str, settings: AblationSettings, data_folder: str) -> FineTuneConfig:
    """The shipped configuration of the embedded reasoner with the variant's rewards.

    Nothing goes live: the trained model is kept in the run's own store under the variant's name.

    Args:
        variant: one of :data:`VARIANTS`.
        settings: shared by all variants.
        data_folder: of the data set, relative to the run's folder.
    """
    values = read_config(shipped_configs()["embedded"]).to_dict()
    own = asdict(settings)
    values["run"] |= {"seed": own.pop("seed"), "eval_steps": 0}
    values["tuning"] = own.pop("tuning")
    values["grpo"] |= {**own, "schedule": "constant_with_warmup"}
    values["model"]["name"] = EMBEDDED
    values["data"] |= {"folder": data_folder, "replay": None, "replay_share": 0.0}
    values["rewards"] = asdict(VARIANTS[variant])
    values["promotion"] |= {
        "promote": False, "store": "store", "name": variant, "blend": 1.0,
    }  # fmt: skip
    values["gate"] = {"min_patients": 2, "resamples": 100}
    return config_from_dict(values)


def description(settings: Mapping[str, Any], minutes: Mapping[str, float]) -> str:
    """What was run, in words.

    Args:
        settings: of data and trainings.
        minutes: that each variant's run took since it was started or resumed.
    """
    took = ", ".join(f"{name} {value:.0f}" for name, value in minutes.items())
    return (
        f"{settings['steps']} steps of {settings['prompts_per_step']} questions x "
        f"{settings['generations']} rollouts, tuning {settings['tuning']}, learning rate "
        f"{settings['learning_rate']:g}, seed {settings['seed']}; {settings['train_patients']} "
        f"patients of the shifted site for training, {settings['held_out_patients']} others answer "
        f"below. Minutes of a run: {took}. In brackets 95 % BCa bootstrap intervals over "
        "whole patients."
    )


def table(measured: Mapping[str, Measured], config: GateConfig | None = None) -> str:
    """Values of every model, and differences from the untouched one, in Markdown.

    Args:
        measured: the untouched model and any of the variants, by name.
        config: resamples and seed of the intervals, which draw whole patients.
    """
    config = config or GateConfig()
    untouched = measured[UNTOUCHED]
    variants = [name for name in VARIANTS if name in measured]
    values = [
        [
            name,
            *(_cell(mean_of(measured[name], each, config), ".3f") for each in SHOWN),
            f"{1 - np.mean(measured[name].scores.failed):.3f}",
        ]
        for name in (UNTOUCHED, *variants)
    ]
    found = {name: compare(untouched, measured[name], config) for name in variants}
    differences = [
        [name, *(_cell(lines.get(each), "+.3f") for each in SHOWN)] for name, lines in found.items()
    ]
    header = ["rewards", *(WORDS[name] for name in SHOWN)]
    return "\n".join(
        [
            *table_lines([*header, _WELL_FORMED], values),
            "",
            "Difference from the untouched model, paired:",
            "",
            *table_lines(header, differences),
        ]
    )


def mean_of(measured: Measured, measure_name: str, config: GateConfig) -> Comparison | None:
    """A measure's mean with its own interval; ``None`` if it was not measured."""
    values = values_of(measured, measure_name)
    if values is None:
        return None
    return mean_with_interval(values, measured.held_out.patients, config, metric=measure_name)


def _cell(line: Comparison | None, form: str) -> str:
    if line is None:
        return "-"
    value = line.difference
    interval = "" if line.low is None else f" ({line.low:{form}} to {line.high:{form}})"
    return f"{value:{form}}{interval}"
