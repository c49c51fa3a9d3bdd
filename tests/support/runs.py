# SPDX-License-Identifier: Apache-2.0
"""Folders of fine-tuning runs, and the data set that they learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medreasoner_infer.imaging import Plane
from medreasoner_training.embedded.queries import known_targets
from medreasoner_training.embedded.reasoner.samples import sample_questions
from medreasoner_training.samples import (
    TRAIN,
    VALIDATION,
    LeftOut,
    QuerySource,
    Question,
    Sample,
    writing_dataset,
)


def make_run_folder(site: Path, name: str, config: str) -> Path:
    """A run beside the site's data set, with this ``config.yaml``."""
    folder = site / name
    folder.mkdir()
    (folder / "config.yaml").write_text(config)
    return folder


def make_site(folder: Path) -> Path:
    """Write a data set of five patients, three of whom train, into ``set`` of the folder."""
    with writing_dataset(folder / "set", (TRAIN, VALIDATION), {}, LeftOut()) as writer:
        for index in range(5):
            writer.add(phantom_sample(index), TRAIN if index < 3 else VALIDATION)
    return folder


def phantom_sample(index: int, present: bool = True) -> Sample:
    drawn = sample_questions(np.random.default_rng([77, index]), 6)
    question = next(q for q in drawn.questions if (q.truth is not None) == present)
    truth, grey = question.truth, drawn.image.grey
    return Sample(
        image=np.repeat(grey[..., None], 3, axis=2),
        mask=np.zeros(grey.shape, bool) if truth is None else truth.mask,
        question=Question(question.query, QuerySource.TEMPLATE),
        label_name=known_targets()[question.label].name,
        bbox_xyxy_px=None if truth is None else truth.bbox_xyxy_px,
        points_xy_px=None if truth is None else truth.points_xy_px,
        plane=Plane.AXIAL,
        slice_index=index,
        modality="CT",
        window="w",
        case_key=f"{index:016d}",
        patient_key=f"{index:016d}",
    )
