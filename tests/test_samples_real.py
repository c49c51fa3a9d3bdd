# SPDX-License-Identifier: Apache-2.0
"""A real CT with TotalSegmentator's labels, against what SimpleITK says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medreasoner_infer.imaging import choose_window, default_plane, load_volume
from medreasoner_training.samples import (
    LabelledCase,
    LeftOut,
    QuerySource,
    Question,
    SampleSettings,
    Target,
    samples_of_case,
)

IMAGE = "example_ct.nii.gz"
LABELS = "example_seg_fast_force_split.nii.gz"
SIZE = 840


def extent_of(image: sitk.Image, value: int, k: int) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of a label on slice ``k`` of an image in LPS order."""
    filter_ = sitk.LabelShapeStatisticsImageFilter()
    filter_.Execute(image[:, :, k] == value)
    x, y, width, height = filter_.GetBoundingBox(1)
    return x, y, x + width, y + height


@pytest.mark.parametrize(("name", "value"), [("spleen", 1), ("liver", 5), ("aorta", 52)])
def test_boxes_of_a_real_ct_are_those_that_simpleitk_finds(
    shared_data: Path, name: str, value: int
) -> None:
    folder = shared_data / "totalsegmentator"
    volume = load_volume(folder / IMAGE)
    labels_ijk = load_volume(folder / LABELS).array
    target = Target(name, labels_ijk, (Question("?", QuerySource.TEMPLATE),), value)
    plane = default_plane(volume)
    case = LabelledCase(volume, (target,), "c" * 16, "d" * 16, plane, choose_window(volume))
    samples = list(samples_of_case(case, SampleSettings(SIZE), LeftOut()))
    displayed = sitk.DICOMOrient(sitk.ReadImage(str(folder / LABELS)), "LPS")
    width, height, _ = displayed.GetSize()
    scale = SIZE / max(width, height)  # the voxels are cubes
    left, top = (SIZE - width * scale) / 2, (SIZE - height * scale) / 2
    present = [sample for sample in samples if sample.present]
    assert len(present) == 8
    for sample in present:
        x1, y1, x2, y2 = extent_of(displayed, value, sample.slice_index)
        expected = np.array([x1, y1, x2, y2]) * scale + np.array([left, top, left, top])
        np.testing.assert_allclose(sample.bbox_xyxy_px, expected, atol=1.5)
        assert all(sample.mask[y, x] for x, y in sample.points_xy_px)
    for sample in samples:
        if not sample.present:
            assert not (sitk.GetArrayFromImage(displayed)[sample.slice_index] == value).any()
