# SPDX-License-Identifier: Apache-2.0
"""What a run is given to learn from, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("datasets", reason="the extra 'train' is not installed")

from medreasoner_infer.imaging import Plane
from medreasoner_training.finetune.preparation import Prepared, prepare
from medreasoner_training.samples import (
    TRAIN,
    VALIDATION,
    LeftOut,
    QuerySource,
    Question,
    Sample,
    writing_dataset,
)

SIDE = 128
CONFIG = """
data: {{folder: set, augment: false}}
rewards: {{as_released: {as_released}}}
run: {{device: cpu}}
promotion: {{promote: false, store: store}}
gate: {{min_patients: 2}}
"""


def sample(patient: int, present: bool = True) -> Sample:
    """A bright square on noise of its own."""
    rng = np.random.default_rng(patient)
    image = rng.integers(0, 90, (SIDE, SIDE, 3)).astype(np.uint8)
    mask = np.zeros((SIDE, SIDE), bool)
    x = 20 + 8 * patient
    if present:
        mask[40:72, x : x + 24] = True
        image[mask] = 220
    return Sample(
        image=image,
        mask=mask,
        question=Question("Which structure is the brightest one?", QuerySource.TEMPLATE),
        label_name="liver",
        bbox_xyxy_px=(x, 40, x + 24, 72) if present else None,
        points_xy_px=((x + 8, 50), (x + 16, 60)) if present else None,
        plane=Plane.AXIAL,
        slice_index=0,
        modality="CT",
        window="w",
        case_key=f"{patient:016d}",
        patient_key=f"{patient:016d}",
    )


def prepared(folder: Path, as_released: bool = False) -> Prepared:
    with writing_dataset(folder / "set", (TRAIN, VALIDATION), {}, LeftOut()) as writer:
        for patient, present in enumerate((True, False, True, False)):
            writer.add(sample(patient, present), TRAIN)
        for patient in (4, 5):
            writer.add(sample(patient), VALIDATION)
    (folder / "config.yaml").write_text(CONFIG.format(as_released=str(as_released).lower()))
    return prepare(folder)


@pytest.mark.parametrize(("as_released", "targets"), [(False, [1, 0, 1, 0]), (True, [1, 1])])
def test_rewards_as_released_are_given_no_absent_target(tmp_path, as_released, targets):
    rows = prepared(tmp_path, as_released).training
    assert [each["present"] for each in rows["extra_info"]] == targets
