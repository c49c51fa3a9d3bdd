# SPDX-License-Identifier: Apache-2.0
"""From a model's own probabilities to the probability that its answer is right.

A model folder may hold ``calibration.json``, fitted on images that took no part in its training,
and a site may have fitted one on its own, which goes before it, under the hash of the weights:
one logistic regression for boxes (right: IoU > 0.5 with the truth) and one for "not present"
(right: the target is not there). Without either the mean probability of the answer's tokens stands
in its place, which tells how fluent an answer is and little else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_infer.home import models_folder
from medreasoner_infer.types import XYXY, Evidence

CALIBRATION_FILE = "calibration.json"
_SITE_FOLDER = "calibrations"
UNCERTAIN_BELOW = 0.5
"""An answer that is less probably right is called uncertain."""
_CERTAIN = math.log(0.999999)
_LEAST_CHANCE = 1e-6


def evidence_of(
    pieces: Sequence[str],
    logprobs: Sequence[float],
    bbox_xyxy_px: XYXY | None,
    size_px: int,
) -> Evidence | None:
    """What a completion's own probabilities and its box tell.

    Args:
        pieces: text of each generated token.
        logprobs: natural log probability of each, under the unconstrained model.
        bbox_xyxy_px: the answer's box in reasoner px, if there is one.
        size_px: side of the reasoner's square.

    Returns:
        ``None`` where there is no answer block.
    """
    start = "".join(pieces).rfind("<answer>")
    if start < 0:
        return None
    before, inside, offset = [_CERTAIN], [_CERTAIN], 0
    for piece, logprob in zip(pieces, logprobs, strict=True):
        offset += len(piece)
        (inside if offset > start else before).append(logprob)
    area = aspect = 0.0
    if bbox_xyxy_px is not None:
        x1, y1, x2, y2 = bbox_xyxy_px
        width, height = max(x2 - x1, 1e-3), max(y2 - y1, 1e-3)
        area = math.log(width * height / size_px**2)
        aspect = abs(math.log(width / height))
    means = [sum(values) / len(values) for values in (before, inside)]
    turn = _log_odds_of_turn(pieces, logprobs, start)
    return Evidence(means[0], min(before), means[1], min(inside), area, aspect, turn)


def _log_odds_of_turn(pieces: Sequence[str], logprobs: Sequence[float], end: int) -> float:
    """Of the token after the first comma of the first ``end`` characters; 0 where none follows."""
    text = ""
    for piece, logprob in zip(pieces, logprobs, strict=True):
        if "," in text:
            chance = min(max(math.exp(logprob), _LEAST_CHANCE), 1 - _LEAST_CHANCE)
            return math.log(chance / (1 - chance))
        text = (text + piece)[:end]
    return 0.0


@dataclass(frozen=True)
class Logistic:
    """Weights of the standardised evidence, one for each attribute of :class:`Evidence`.

    What was fitted before the last attributes were known gives them no weight.

    Raises:
        ValueError: the numbers do not belong together.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "allow_inf_nan": False}

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def __post_init__(self) -> None:
        known = len(self.mean)
        if not known == len(self.scale) == len(self.weights) <= len(fields(Evidence)):
            raise ValueError(
                f"A calibration has {known} means, {len(self.scale)} scales and "
                f"{len(self.weights)} weights; expected {len(fields(Evidence))} of each."
            )
        if not all(scale > 0 for scale in self.scale):
            raise ValueError("A calibration has a scale that is not positive.")

    def probability(self, found: Evidence) -> float:
        """0...1."""
        known = astuple(found)[: len(self.weights)]
        rows = zip(known, self.mean, self.scale, self.weights, strict=True)
        score = self.bias + sum(w * (value - mean) / scale for value, mean, scale, w in rows)
        return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, score))))


@dataclass(frozen=True)
class Calibration:
    """Both regressions and what they were fitted on."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    present: Logistic
    absent: Logistic
    fitted_on: str

    def probability(self, found: Evidence, *, present: bool) -> float:
        """That the box is right (IoU > 0.5), or that the target is not there."""
        return (self.present if present else self.absent).probability(found)


def site_calibration_path(weights_sha256: str) -> Path:
    """Where a site keeps what it fitted for these weights: with its models, and saved with them."""
    return models_folder() / _SITE_FOLDER / f"{weights_sha256}.json"


def calibration_of(folder: Path | None, weights_sha256: str) -> Calibration | None:
    """The site's own calibration of these weights, else that of the model's folder, if any.

    Args:
        folder: of the model; ``None`` where its own calibration is not of these weights.
        weights_sha256: of the weights that answer.

    Raises:
        ModelUnavailableError: a file is damaged.
    """
    for path in (site_calibration_path(weights_sha256), folder and folder / CALIBRATION_FILE):
        if path is not None and path.is_file():
            return _read(path)
    return None


def _read(path: Path) -> Calibration:
    try:
        return TypeAdapter(Calibration).validate_python(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise ModelUnavailableError(
            f"The calibration {path} cannot be read ({type(error).__name__}); fit it anew or "
            "remove it."
        ) from error
