# SPDX-License-Identifier: Apache-2.0
"""The gate's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from medreasoner_training.gate.errors import GateConfigError

#: Settings of earlier versions, and what to do instead.
REPLACED = {
    "margin": "the gate asks for a gain and no longer for 'not worse'. Remove it, or set gain; a "
    "gain below 0 asks for non-inferiority, as margin did: gain: -0.02 for margin: 0.02"
}


@dataclass(frozen=True)
class GateConfig:
    """What "better" and "not worse" mean. Differences are absolute ones of values in 0...1.

    Attributes:
        primary: metric that decides: ``box_iou`` or ``mask_dice``, over samples whose target is
            present; an answer without a box counts 0.
        gain: the lower bound of the interval of (candidate - live) must lie above this. Below 0 it
            asks for non-inferiority only: worse by less than that is good enough.
        failure_margin: by how much the share of failed answers may rise.
        absence_margin: by how much the share of right "not present" answers may fall.
        label_margin: by how much the mean primary metric of any one label may fall.
        former_margin: by how much the mean primary metric may fall at the former site, on held-out
            samples of the data set that training replays; ``null`` measures it without judging.
        min_patients: fewer held-out patients with a primary score than this decide nothing.
        min_label_samples: labels (and absent targets) with fewer samples are shown, not judged.
        confidence: of all attempts against one live model together: at 0.95 a candidate that is no
            better goes live with a probability of at most 2.5 %, however often it is tried.
        guard_confidence: of the two-sided intervals by which the margins are judged.
        resamples: bootstrap samples, at least; a stricter attempt draws more.
        seed: of the bootstrap, so that a decision can be repeated.
    """

    primary: Literal["box_iou", "mask_dice"] = "box_iou"
    gain: float = 0.0
    failure_margin: float = 0.02
    absence_margin: float = 0.05
    label_margin: float = 0.10
    former_margin: float | None = 0.05
    min_patients: int = 20
    min_label_samples: int = 20
    confidence: float = 0.95
    guard_confidence: float = 0.90
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
            (-1.0 <= self.gain < 1.0, "gain", "-1 to below 1"),
            *(
                (0.0 <= getattr(self, name) <= 1.0, name, "0 to 1")
                for name in margins
                if not (name == "former_margin" and self.former_margin is None)
            ),
            (self.min_patients >= 2, "min_patients", "at least 2: one patient has no spread"),
            (self.min_label_samples >= 1, "min_label_samples", "at least 1"),
            (0.5 <= self.confidence < 1.0, "confidence", "0.5 to below 1"),
            (0.5 <= self.guard_confidence < 1.0, "guard_confidence", "0.5 to below 1"),
            (self.resamples >= 100, "resamples", "at least 100"),
            (self.seed >= 0, "seed", "at least 0"),
        ):
            if not ok:
                raise GateConfigError(f"{name} is {getattr(self, name)!r}; expected {expected}.")


def without_replaced(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded settings of the gate without those that mean nothing any more."""
    return {name: value for name, value in settings.items() if name not in REPLACED}
