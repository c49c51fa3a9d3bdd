# SPDX-License-Identifier: Apache-2.0
"""Which terms are rewarded in which mode, and with what weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Literal, get_args

from medreasoner_training.rewards.errors import RewardConfigError

Mode = Literal["soft", "hard", "base"]

FORMAT_TERMS = ("format_think", "format_seg")
SOFT_TERMS = (*FORMAT_TERMS, "bbox_iou", "points_dice")
HARD_TERMS = (*SOFT_TERMS, "bbox_align", "bbox_scale", "points_align", "points_angle")
BASE_FORMAT_TERMS = ("thinking", "segment")
BASE_TERMS = (*BASE_FORMAT_TERMS, "iou", "bbox_l1", "points_l1")
MODE_TERMS: Mapping[Mode, tuple[str, ...]] = MappingProxyType(
    {"soft": SOFT_TERMS, "hard": HARD_TERMS, "base": BASE_TERMS}
)
BOX_VALIDITIES = ("bbox_position_valid", "bbox_area_valid")
POINT_VALIDITIES = ("points_position_valid", "points_spread_valid")
VALIDITIES = (*BOX_VALIDITIES, *POINT_VALIDITIES)
TOTAL = "score"
#: Mean box IoU of the paper's best model on its own test split, rounded up.
OPERATING_IOU = 0.33


def check_mode(mode: str) -> Mode:
    """Return ``mode`` if it is one.

    Raises:
        RewardConfigError: it is not.
    """
    for known in MODE_TERMS:
        if mode == known:
            return known
    raise RewardConfigError(f"The mode is {mode!r}; expected one of {get_args(Mode)}.")


def check_operating_iou(value: float) -> float:
    """Return ``value`` if a box can have that IoU.

    Raises:
        RewardConfigError: it is not above 0 and at most 1.
    """
    if not 0 < value <= 1:
        raise RewardConfigError(f"The operating IoU is {value}; expected above 0, at most 1.")
    return value


@dataclass(frozen=True)
class RewardConfig:
    """What :func:`~medreasoner_training.rewards.make_reward_functions` builds.

    Attributes:
        mode: ``soft`` (the paper's best), ``hard`` or ``base``.
        terms: the rewarded terms, also from another mode; ``None`` for all of ``mode``.
        weights: factor of a term, by its name; 1 where not given.
        as_released: keep the released defects. Terms are then confined to ``mode``, since a term's
            released value depends on it.
        operating_iou: quality of a box that is worth as much as a right *not present*; see
            :mod:`~medreasoner_training.rewards.operating_point`. Not used as released.
        ground_truth_column: the column of the data set that holds the ground truth.

    Raises:
        RewardConfigError: an unknown mode or term, a weight that is not a finite number >= 0, or an
            operating IoU outside its range.
    """

    mode: Mode = "soft"
    terms: tuple[str, ...] | None = None
    weights: Mapping[str, float] = field(default_factory=dict, hash=False)
    as_released: bool = False
    operating_iou: float = OPERATING_IOU
    ground_truth_column: str = "ground_truth"

    def __post_init__(self) -> None:
        check_mode(self.mode)
        check_operating_iou(self.operating_iou)
        known = MODE_TERMS[self.mode] if self.as_released else (*HARD_TERMS, *BASE_TERMS)
        for name in (*self.selected_terms, *self.weights):
            if name not in known:
                raise RewardConfigError(f"The term is {name!r}; expected some of {known}.")
        for name in self.weights:
            if name not in self.selected_terms:
                raise RewardConfigError(f"{name!r} has a weight but is not among the terms.")
        for name, weight in self.weights.items():
            if not math.isfinite(weight) or weight < 0:
                raise RewardConfigError(f"The weight of {name!r} is {weight}; expected 0 or more.")
        object.__setattr__(self, "weights", dict(self.weights))

    @property
    def selected_terms(self) -> tuple[str, ...]:
        """The rewarded terms in the order in which they are logged."""
        return MODE_TERMS[self.mode] if self.terms is None else tuple(self.terms)

    @cached_property
    def weights_by_mode(self) -> dict[Mode, dict[str, float]]:
        """The factor of each selected term, by the mode in which the term is computed."""
        found: dict[Mode, dict[str, float]] = {}
        for term in self.selected_terms:
            found.setdefault(self._mode_of(term), {})[term] = self.weight_of(term)
        return found

    def _mode_of(self, term: str) -> Mode:
        """The mode in which ``term`` is computed: this one's if it has the term."""
        if term in MODE_TERMS[self.mode]:
            return self.mode
        return "base" if term in BASE_TERMS else "hard"

    def weight_of(self, term: str) -> float:
        """The factor of ``term``."""
        return self.weights.get(term, 1.0)
