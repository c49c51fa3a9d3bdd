# SPDX-License-Identifier: Apache-2.0
"""What goes in: an image with the masks of its targets; what comes out: one question on a slice.

Nothing here holds a patient identifier: whoever builds a case gives pseudonyms, see
:func:`medreasoner_training.samples.split.pseudonym`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.imaging import Plane, Volume, Window
from medreasoner_training.samples.errors import SampleSettingsError


class QuerySource(str, Enum):
    """Who wrote a question.

    READER: the reader who approved the mask asked it. TEMPLATE: it stands in the table of implicit
    questions, see :mod:`medreasoner_training.samples.templates`. MODEL: a language model wrote it.
    DATA_SET: it stands in the data set of others that the row is from.
    """

    READER = "reader"
    TEMPLATE = "template"
    MODEL = "model"
    DATA_SET = "data_set"


@dataclass(frozen=True)
class Question:
    """A question with its provenance.

    ``reasoning`` is the trace of the inference ``inference_id`` and ``prompts`` its box and points
    in slice px with who set them, as JSON. Both belong to the slice that was asked about, and no
    reader has approved them. ``model`` wrote the question as ``prompt_version`` told it to.
    """

    text: str
    source: QuerySource
    reasoning: str | None = None
    inference_id: str | None = None
    prompts: str | None = None
    model: str | None = None
    prompt_version: str | None = None


@dataclass(frozen=True, eq=False)
class Target:
    """One structure of a case.

    Attributes:
        name: of the label; never shown to the model.
        labels_ijk: label map (I, J, K) on the image's grid; targets may share one.
        questions: at least one, all about this structure.
        value: of the structure in the label map.
        whole_volume: the reader looked at every slice, so that the mask also says where the
            structure is absent.
    """

    name: str
    labels_ijk: NDArray[np.integer[Any]]
    questions: tuple[Question, ...]
    value: int = 1
    whole_volume: bool = True


@dataclass(frozen=True, eq=False)
class LabelledCase:
    """An image with its targets, and how it is displayed; both keys are pseudonyms."""

    volume: Volume
    targets: tuple[Target, ...]
    case_key: str
    patient_key: str
    plane: Plane
    window: Window | None
    asked_index: int | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """One question about one displayed slice, and its answer.

    Attributes:
        image: uint8 (S, S, 3), the letterboxed slice that the reasoner reads.
        mask: bool (S, S) on the same square, all false where the target is absent.
        question: the question and who wrote it.
        label_name: name of the target.
        bbox_xyxy_px: box in whole reasoner px, edge based; ``None`` where the target is absent.
        points_xy_px: the reasoner pixels that hold the two key points; ``None`` likewise.
        plane: display plane.
        slice_index: voxel index along the axis that the plane cuts.
        modality: DICOM code.
        window: the grey-level window in words.
        case_key: pseudonym of the image.
        patient_key: pseudonym of the patient.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    question: Question
    label_name: str
    bbox_xyxy_px: tuple[int, int, int, int] | None
    points_xy_px: tuple[tuple[int, int], tuple[int, int]] | None
    plane: Plane
    slice_index: int
    modality: str
    window: str
    case_key: str
    patient_key: str

    @property
    def present(self) -> bool:
        """Whether the target is on the slice."""
        return self.bbox_xyxy_px is not None


class Components(str, Enum):
    """Which parts of a target count on a slice.

    ALL: everything the reader marked, in one box (the answer has a single box). LARGEST: the
    largest 8-connected part of the section, which drops specks and the smaller of several parts.
    """

    ALL = "all"
    LARGEST = "largest"


@dataclass(frozen=True)
class SampleSettings:
    """How samples are made of a case.

    Attributes:
        model_size: side of the square that the reasoner reads, in reasoner px.
        max_slices: slices per target, evenly through it; the slice asked about is among them.
        max_absent_slices: slices per target on which it is absent.
        min_area_px: smallest section in square reasoner px; smaller ones are neither asked for nor
            called absent. The default is a quarter of Qwen2.5-VL's 28-px patch.
        absent_margin_mm: distance from the target's last section from which on it is absent.
        components: which parts count on a slice.
    """

    model_size: int = 840
    max_slices: int = 8
    max_absent_slices: int = 2
    min_area_px: float = 196.0
    absent_margin_mm: float = 10.0
    components: Components = Components.ALL

    def __post_init__(self) -> None:
        for name, least in (("model_size", 28), ("max_slices", 1), ("max_absent_slices", 0)):
            if getattr(self, name) < least:
                raise SampleSettingsError(
                    f"{name} is {getattr(self, name)}; expected {least} or more."
                )
        if self.min_area_px <= 0 or self.absent_margin_mm < 0:
            raise SampleSettingsError(
                f"min_area_px is {self.min_area_px} and absent_margin_mm {self.absent_margin_mm}; "
                "expected a positive area and a margin of 0 or more."
            )


@dataclass
class LeftOut:
    """Counts what was not used, by label name and reason."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, label_name: str, reason: str, count: int = 1) -> None:
        """Count one more, or ``count``."""
        self.counts[label_name, reason] += count

    def __iter__(self) -> Iterator[tuple[str, str, int]]:
        """Label name, reason and count, sorted."""
        return ((*key, self.counts[key]) for key in sorted(self.counts))
