# SPDX-License-Identifier: Apache-2.0
"""What is known of an image when the next one to label is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class Kind(str, Enum):
    """By what images are of one sort; the value is the word for the reader."""

    TARGET = "target"
    MODALITY = "modality"
    BODY_PART = "body part"
    SCANNER = "scanner"


@dataclass(frozen=True)
class Reading:
    """How sure the model was when it answered a question about an image.

    Attributes:
        understood: whether it understood the question.
        probability: calibrated, 0...1, that the answer is right; ``None`` without a calibration,
            as the model's own figure tells how fluent an answer is and little else.
        agreement: of sampled answers, 0...1; ``None`` where one was drawn.
        support: how much speaks for the answer, 0...1: how far its readings agree, times the
            segmenter's estimate of its mask; ``None`` where it was not measured.
    """

    understood: bool = True
    probability: float | None = None
    agreement: float | None = None
    support: float | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """One image.

    Attributes:
        image_id: of the image.
        patient: key of the patient; images of one patient have the same.
        sorts: what it is of each kind, as far as that is known: codes, no words of a caller's.
        readings: of the questions that nobody has decided upon, the latest answer to each; empty
            where the model has not read the image.
        feature: of :func:`.appearance.appearance`; ``None`` where it was not looked at yet.
    """

    image_id: str
    patient: str
    sorts: Mapping[Kind, frozenset[str]] = field(default_factory=dict)
    readings: tuple[Reading, ...] = ()
    feature: NDArray[np.float32] | None = None
