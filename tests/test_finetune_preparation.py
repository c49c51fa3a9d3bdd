# SPDX-License-Identifier: Apache-2.0
"""What a run is given to learn from, before anything is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("datasets", reason="the extra 'train' is not installed")

from medreasoner_infer.imaging import Plane
from medreasoner_training.finetune.errors import TooFewSamplesError
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


def prepared(
    folder: Path, as_released: bool = False, training: Sequence[Sample] | None = None
) -> Prepared:
    if training is None:
        training = [sample(number, number % 2 == 0) for number in range(4)]
    with writing_dataset(folder / "set", (TRAIN, VALIDATION), {}, LeftOut()) as writer:
        for each in training:
            writer.add(each, TRAIN)
        for patient in (4, 5):
            writer.add(sample(patient), VALIDATION)
    (folder / "config.yaml").write_text(CONFIG.format(as_released=str(as_released).lower()))
    return prepare(folder)


@pytest.mark.parametrize(("as_released", "targets"), [(False, [1, 0, 1, 0]), (True, [1, 1])])
def test_rewards_as_released_are_given_no_absent_target(tmp_path, as_released, targets):
    rows = prepared(tmp_path, as_released).training
    assert [each["present"] for each in rows["extra_info"]] == targets


def under_another_name(image: np.ndarray, patient: int) -> Sample:
    """A held-out image that came in again as somebody else's."""
    key = f"{patient:016d}"
    return dataclasses.replace(sample(4), image=image, case_key=key, patient_key=key)


def noisy(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 6, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "change",
    [lambda image: image, noisy, lambda image: (image * 0.8 + 20).astype(np.uint8)],
    ids=["equal", "noisy", "of another window"],
)
def test_a_copy_of_a_held_out_image_is_not_learnt_from(tmp_path, caplog, change):
    copy = under_another_name(change(sample(4).image), 9)
    rows = prepared(tmp_path, training=[sample(0), copy, sample(1)]).training
    assert [each["patient_key"][-1] for each in rows["extra_info"]] == ["0", "1"]
    assert "1 of 3 training samples show images" in caplog.text


def test_a_run_on_copies_alone_is_refused(tmp_path):
    with pytest.raises(TooFewSamplesError, match=r"All 1 training samples .*patients\.csv"):
        prepared(tmp_path, training=[under_another_name(sample(5).image, 9)])
