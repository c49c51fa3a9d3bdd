# SPDX-License-Identifier: Apache-2.0
"""Scores of one model on the held-out samples, one value per sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medreasoner_training.gate.errors import ScoresError

Metric = Literal["box_iou", "mask_dice", "absence", "failures"]
METRICS: tuple[Metric, ...] = get_args(Metric)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The N samples that both models answered.

    Attributes:
        patients: (N,) pseudonym of each sample's patient; only used to group the samples.
        labels: (N,) name of the target.
        present: (N,) bool, whether the target is on the slice.
    """

    patients: NDArray[np.str_]
    labels: NDArray[np.str_]
    present: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together.

        Raises:
            ScoresError: naming the array.
        """
        shape = np.shape(self.patients)
        if len(shape) != 1 or shape[0] == 0:
            raise ScoresError(
                f"patients has shape {shape}; expected (N,) with at least one sample."
            )
        _check_shape("labels", self.labels, shape)
        _check_flags("present", self.present, shape)

    def __len__(self) -> int:
        return len(self.patients)


@dataclass(frozen=True, eq=False)
class ModelScores:
    """What one model scored on each of the N samples, in the order of :class:`HeldOut`.

    Attributes:
        name: of the model: a candidate of the store, or ``embedded``.
        failed: (N,) bool: no answer, or one that cannot be read.
        said_absent: (N,) bool: answered that the target is not present; not that the question was
            not understood, which counts as neither found nor refused.
        box_iou: (N,) 0...1; ignored where the target is absent, and 0 where there is no box.
        mask_dice: (N,) likewise, of the frozen segmenter's mask; ``None`` if it was not measured.
    """

    name: str
    failed: NDArray[np.bool_]
    said_absent: NDArray[np.bool_]
    box_iou: NDArray[np.float64]
    mask_dice: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together. Values are checked where they count.

        Raises:
            ScoresError: naming the array.
        """
        shape = (len(self.failed),)
        _check_flags("failed", self.failed, shape)
        _check_flags("said_absent", self.said_absent, shape)
        _check_shape("box_iou", self.box_iou, shape)
        if self.mask_dice is not None:
            _check_shape("mask_dice", self.mask_dice, shape)
        if np.any(np.asarray(self.failed) & np.asarray(self.said_absent)):
            raise ScoresError(
                "A failed answer is no 'not present'; failed and said_absent overlap."
            )


@dataclass(frozen=True, eq=False)
class PairedScores:
    """What candidate and live model scored on the same samples."""

    held_out: HeldOut
    candidate: ModelScores
    live: ModelScores


def metric_values(
    held_out: HeldOut, scores: ModelScores, metric: Metric
) -> NDArray[np.float64] | None:
    """One metric per sample.

    Returns:
        (N,) float; NaN where the metric does not apply: overlap for an absent target, ``absence``
        (1 if "not present" was said) for a present one. ``None`` if it was not measured.

    Raises:
        ScoresError: if the scores are of other samples, or a value that counts is not in 0...1.
    """
    if len(scores.failed) != len(held_out):
        raise ScoresError(
            f"{scores.name} has scores of {len(scores.failed)} samples; expected those of the same "
            f"{len(held_out)} samples."
        )
    present = np.asarray(held_out.present)
    if metric == "failures":
        return np.asarray(scores.failed, float)
    if metric == "absence":
        return np.where(present, np.nan, np.asarray(scores.said_absent, float))
    overlap = getattr(scores, metric)
    if overlap is None:
        return None
    has_box = ~(np.asarray(scores.failed) | np.asarray(scores.said_absent))
    values = np.where(has_box, np.asarray(overlap, float), 0.0)
    counted = values[present]
    if not np.all((counted >= 0.0) & (counted <= 1.0)):
        raise ScoresError(
            f"{metric} of {scores.name} holds a value outside 0...1 or NaN for a present target; "
            "expected a failure to be marked in 'failed'."
        )
    return np.where(present, values, np.nan)


def _check_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if np.shape(array) != shape:
        raise ScoresError(f"{name} has shape {np.shape(array)}; expected {shape}.")


def _check_flags(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    _check_shape(name, array, shape)
    if np.asarray(array).dtype != np.bool_:
        raise ScoresError(f"{name} is {np.asarray(array).dtype}; expected bool.")
