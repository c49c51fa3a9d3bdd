# SPDX-License-Identifier: Apache-2.0
"""The gate's settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from medreasoner_training.gate.errors import GateConfigError


@dataclass(frozen=True)
class GateConfig:
    """What "not worse" means. All margins are absolute differences of values in 0...1.

    Attributes:
        primary: metric that decides: ``box_iou`` or ``mask_dice``, over samples whose target is
            present; an answer without a box counts 0.
        margin: the lower bound of the interval of (candidate - live) must lie above minus this.
        failure_margin: by how much the share of failed answers may rise.
        absence_margin: by how much the share of right "not present" answers may fall.
        label_margin: by how much the mean primary metric of any one label may fall.
        former_margin: by how much the mean primary metric may fall at the former site, on held-out
            samples of the data set that training replays; ``null`` measures it without judging.
        min_patients: fewer held-out patients with a primary score than this decide nothing.
        min_label_samples: labels (and absent targets) with fewer samples are shown, not judged.
        confidence: of the two-sided interval; at 0.95 its lower bound is a one-sided 97.5 % one.
        resamples: bootstrap samples.
        seed: of the bootstrap, so that a decision can be repeated.
    """

    primary: Literal["box_iou", "mask_dice"] = "box_iou"
    margin: float = 0.02
    failure_margin: float = 0.01
    absence_margin: float = 0.05
    label_margin: float = 0.10
    former_margin: float | None = 0.05
    min_patients: int = 20
    min_label_samples: int = 20
    confidence: float = 0.95
    resamples: int = 9999
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            GateConfigError: naming the field.
        """
        margins = [field.name for field in fields(self) if field.name.endswith("margin")]
        for ok, name, expected in (
            (self.primary in ("box_iou", "mask_dice"), "primary", "box_iou or mask_dice"),
            *(
                (0.0 <= getattr(self, name) <= 1.0, name, "0 to 1")
                for name in margins
                if not (name == "former_margin" and self.former_margin is None)
            ),
            (self.min_patients >= 2, "min_patients", "at least 2: one patient has no spread"),
            (self.min_label_samples >= 1, "min_label_samples", "at least 1"),
            (0.5 <= self.confidence < 1.0, "confidence", "0.5 to below 1"),
            (self.resamples >= 100, "resamples", "at least 100"),
            (self.seed >= 0, "seed", "at least 0"),
        ):
            if not ok:
                raise GateConfigError(f"{name} is {getattr(self, name)!r}; expected {expected}.")
