# SPDX-License-Identifier: Apache-2.0
"""From an approved label and its image to a case of the data set."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from medreasoner_infer.imaging import (
    Plane,
    Volume,
    Window,
    choose_window,
    default_plane,
    load_volume,
)
from medreasoner_training.samples import (
    LabelledCase,
    LeftOut,
    QuerySource,
    Question,
    Target,
)
from monailabel_app.export.approved import ApprovedLabel
from monailabel_app.export.identity import PatientIdentity
from monailabel_app.export.questions.maker import Asked, QuestionMaker, questions_by_template
from monailabel_app.export.segment_names import UNNAMED, asked_value, segment_names
from monailabel_app.labels.grid import label_on_grid
from monailabel_app.labels.segments import SEGMENT_NAME

EMPTY = "the label is empty"
NO_TEMPLATE = "there is no implicit question for a structure of this name"
NAMES_PATIENT = "the question or the label's name holds a name or number of the patient"
HIDDEN = "(not shown)"
OTHER_GRID = "the label is not on the grid of its image"
_PROMPT_KEYS = (
    "bbox_xyxy_slice_px",
    "bbox_source",
    "points_xy_slice_px",
    "point_labels",
    "point_sources",
)


@dataclass(frozen=True)
class CaseKeys:
    """Pseudonyms, and whether the questions are those kept for validation."""

    case_key: str
    patient_key: str
    held_out: bool


def build_case(
    label: ApprovedLabel,
    volume: Volume,
    identity: PatientIdentity,
    keys: CaseKeys,
    left_out: LeftOut,
    make_questions: QuestionMaker = questions_by_template,
    whole: Mapping[int, np.ndarray] | None = None,
) -> LabelledCase | None:
    """Make a case of a label; what cannot be used is counted in ``left_out``.

    A label that answers a reader's question is shown as the reader saw it: plane, slice and window
    of the inference. All others are shown in the acquired plane and the modality's window.

    Args:
        label: what was approved.
        volume: its image.
        identity: of the patient, whose name and numbers may occur nowhere.
        keys: pseudonyms.
        left_out: counts.
        make_questions: asks for what no reader has asked for.
        whole: masks (I, J, K) by value of segments that the label map has in part only.

    Returns:
        The case, or ``None`` if no segment of the label can be used.

    Raises:
        UnreadableImageError: the label's file cannot be read.
    """
    labels_ijk = label_on_grid(load_volume(label.label_file), volume)
    if labels_ijk is None:
        left_out.add("", OTHER_GRID)
        return None
    shown = None if label.inference is None else label.inference.result.slice
    plane = default_plane(volume) if shown is None else Plane(shown.plane)
    asked = Asked("", plane, volume.modality, held_out=keys.held_out)
    maps = _Maps(labels_ijk, whole or {})
    segments = _segments(label, maps, identity, left_out)
    targets = tuple(_targets(segments, label, maps, identity, asked, make_questions, left_out))
    if not targets:
        return None
    return LabelledCase(
        volume=volume,
        targets=targets,
        case_key=keys.case_key,
        patient_key=keys.patient_key,
        plane=plane,
        window=_window(label, volume),
        asked_index=None if shown is None else shown.index,
    )


@dataclass(frozen=True, eq=False)
class _Maps:
    """A label map (I, J, K), and by value the masks of segments that others overlap in it."""

    labels_ijk: np.ndarray
    whole: Mapping[int, np.ndarray]

    def values(self) -> list[int]:
        """Those of all segments, rising."""
        return sorted(
            {int(value) for value in np.unique(self.labels_ijk) if value} | set(self.whole)
        )

    def of(self, value: int) -> tuple[np.ndarray, int]:
        """A map that has the segment whole, and its value there."""
        return (self.whole[value], 1) if value in self.whole else (self.labels_ijk, value)


@dataclass(frozen=True)
class _Segment:
    """A value of the label map; ``is_asked`` if it answers the reader's question."""

    value: int
    name: str
    is_asked: bool


def _segments(
    label: ApprovedLabel, maps: _Maps, identity: PatientIdentity, left_out: LeftOut
) -> list[_Segment]:
    """The segments whose names tell nothing of the patient."""
    values = maps.values()
    if not values:
        left_out.add("", EMPTY)
    names, asked = segment_names(label), asked_value(label, values)
    found = []
    for value in values:
        name = names.get(value, UNNAMED)
        if value == asked and name == SEGMENT_NAME:
            name = UNNAMED
        if identity.occurs_in(name):
            left_out.add(HIDDEN, NAMES_PATIENT)
        else:
            found.append(_Segment(value, name, value == asked))
    return found


def _targets(
    segments: list[_Segment],
    label: ApprovedLabel,
    maps: _Maps,
    identity: PatientIdentity,
    asked: Asked,
    make_questions: QuestionMaker,
    left_out: LeftOut,
) -> Iterator[Target]:
    names = tuple(segment.name for segment in segments if segment.name != UNNAMED)
    for segment in segments:
        name = segment.name
        if segment.is_asked and not _follows_up(label):
            questions = _reader_question(label)
        else:
            questions = make_questions(replace(asked, label_name=name, neighbours=names))
        if any(identity.occurs_in(question.text) for question in questions):
            left_out.add(HIDDEN, NAMES_PATIENT)
        elif not questions:
            left_out.add(name, NO_TEMPLATE)
        else:
            questions = tuple(_without_naming(question, identity) for question in questions)
            labels_ijk, value = maps.of(segment.value)
            yield Target(name, labels_ijk, questions, value, _whole_volume(label))


def _follows_up(label: ApprovedLabel) -> bool:
    """Whether the reader's question went on from an answer, without which it says too little."""
    if label.inference is None:
        return False
    result = label.inference.result
    return result.follow_up is not None or result.reading is not None


def _reader_question(label: ApprovedLabel) -> tuple[Question, ...]:
    inference = label.inference
    if inference is None or inference.query is None:
        return ()
    reasoning = inference.result.reasoning if inference.present else None
    prompts = None
    if inference.result.prompts is not None:
        # Positions in the patient's space would say more of the scan than a model needs.
        told = dataclasses.asdict(inference.result.prompts)
        prompts = json.dumps({key: told[key] for key in _PROMPT_KEYS})
    return (Question(inference.query, QuerySource.READER, reasoning, inference.id, prompts),)


def _without_naming(question: Question, identity: PatientIdentity) -> Question:
    """The model may have repeated what the reader typed; such a trace is dropped."""
    if not identity.occurs_in(question.reasoning):
        return question
    return replace(question, reasoning=None)


def _whole_volume(label: ApprovedLabel) -> bool:
    """A mask of one slice says nothing about the others."""
    return label.inference is None or label.inference.result.propagated


def _window(label: ApprovedLabel, volume: Volume) -> Window | None:
    seen = None if label.inference is None else label.inference.result.window()
    return seen or choose_window(volume)
