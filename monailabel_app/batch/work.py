# SPDX-License-Identifier: Apache-2.0
"""What the processes that answer are given, and what they tell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medreasoner_infer.models.registry import EMBEDDED
from medreasoner_infer.types import ModelIdentity
from monailabel_app.batch.questions import Question
from monailabel_app.batch.results import Results
from monailabel_app.images.source import ImageSource

# Of the masks beside the records none goes for a run's: how many stay is the server's setting.
KEPT_MASK_BYTES = 1 << 62
Models = tuple[ModelIdentity | None, ModelIdentity]
"""Reasoner and segmenter."""


@dataclass(frozen=True)
class WorkerSettings:
    """All that a process needs to answer; paths are absolute.

    Attributes:
        studies: folder, or address of a DICOMweb server.
        data_dir: the site's records.
        out: folder of the run.
        results: what becomes of an answer.
        threads: of the device's library in each process, ``None`` for its own choice.
        volume_bytes: of the volumes that a process keeps.
    """

    studies: str
    data_dir: Path
    out: Path
    results: Results = Results.FILES
    reasoner: str = EMBEDDED
    segmenter: str = EMBEDDED
    device: str = "auto"
    reasoner_url: str | None = None
    threads: int | None = None
    volume_bytes: int = 1 << 30


@dataclass(frozen=True)
class ImageWork:
    """Questions about one image, which is read once for all of them.

    Attributes:
        image_id: in the studies.
        questions: in the order of the list.
        source: where the voxels lie; ``None`` where the server of the studies is to be asked.
        begun: by the key of a pair the inferences that killed processes had begun to record, of
            which one may be recorded.
    """

    image_id: str
    questions: tuple[Question, ...]
    source: ImageSource | None = None
    begun: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """A question about an image, and what came of it.

    Exactly one of ``outcome``, ``left_out`` and ``failed`` is set.

    Attributes:
        key: image, question and models; see :func:`pair_key`.
        outcome: what the answer says of the target.
        inference_id: of the answer.
        seconds: from the image's turn to the kept result.
        place: what the files of the answer lie in, seen from the folder of the run; else the tag of
            its draft.
        left_out: the filter that the image does not pass, ``modality`` or ``body_part``.
        failed: the kind of the fault.
        reason: a sentence about it.
    """

    key: str
    image_id: str
    question: Question
    outcome: str | None = None
    inference_id: str | None = None
    seconds: float | None = None
    place: str | None = None
    left_out: str | None = None
    failed: str | None = None
    reason: str | None = None


def pair_key(image_id: str, question: Question, models: Models) -> str:
    """The same for a pair that is asked again; another model makes it another pair."""
    weights = [m and [m.name, m.source, m.revision, m.weights_sha256] for m in models]
    return hashlib.sha256(json.dumps([image_id, question.key, weights]).encode()).hexdigest()


def draft_tag(question: Question) -> str:
    """The tag of the labels that are the answers to a question."""
    return f"original-{question.asked_key[:8]}"
