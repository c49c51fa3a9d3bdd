# SPDX-License-Identifier: Apache-2.0
"""From the agreement of readings to the probability that the mask is good.

How sure the segmenter is of the answer's mask counts, too. It is fitted on images with truth
(``medreasoner_training.calibrating_doubt``) and kept for one pair of weights, since both models
make the mask. Without it no probability is told.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_infer.home import models_folder
from medreasoner_infer.types import ModelIdentity

_FOLDER = "doubt_calibrations"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class DoubtCalibration:
    """Two logistic regressions: of answers with a mask, and of those without.

    Attributes:
        with_mask: bias, weight of the agreement, weight of the segmenter's predicted IoU.
        without_mask: bias, weight of the agreement.
        fitted_on: for people who read the file.
        not_understood: added where the question was not understood; without a mask that says more
            than the agreement of readings that all mark nothing.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "allow_inf_nan": False}

    with_mask: tuple[float, float, float]
    without_mask: tuple[float, float]
    fitted_on: str
    not_understood: float = 0.0

    def probability(
        self, agreement: float, predicted_iou: float | None, *, understood: bool = True
    ) -> float:
        """That the mask has a Dice of at least 0.7 with the truth, 0...1.

        Args:
            agreement: of the further readings with the answer.
            predicted_iou: the segmenter's estimate; ``None`` of an answer without a mask.
            understood: whether the model understood the question; counts without a mask.
        """
        if predicted_iou is None:
            bias, weight = self.without_mask
            score = bias + weight * agreement + (0.0 if understood else self.not_understood)
        else:
            bias, weight, weight_of_iou = self.with_mask
            score = bias + weight * agreement + weight_of_iou * predicted_iou
        return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, score))))


def doubt_calibration_path(reasoner_sha256: str, segmenter_sha256: str) -> Path:
    """Where a site keeps what it fitted for these weights: with its models, and saved with them."""
    return models_folder() / _FOLDER / reasoner_sha256 / f"{segmenter_sha256}.json"


def doubt_calibration_of(
    reasoner: ModelIdentity, segmenter: ModelIdentity
) -> DoubtCalibration | None:
    """What the site fitted for these models, if it did and their weights are known.

    Raises:
        ModelUnavailableError: the file is damaged.
    """
    hashes = [identity.weights_sha256 or "" for identity in (reasoner, segmenter)]
    if not all(map(_SHA256.fullmatch, hashes)):  # a server may report anything of itself
        return None
    path = doubt_calibration_path(*hashes)
    if not path.is_file():
        return None
    try:
        return TypeAdapter(DoubtCalibration).validate_python(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise ModelUnavailableError(
            f"The calibration {path} cannot be read ({type(error).__name__}); fit it anew or "
            "remove it."
        ) from error
