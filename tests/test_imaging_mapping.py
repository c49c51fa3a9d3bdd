# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medreasoner_infer.errors import InputError, SliceOutOfRangeError, UnreadableImageError
from medreasoner_infer.imaging import Plane, Volume, slice_index_at, slice_mapping

PLANES = list(Plane)


def volume_with(affine: np.ndarray, shape: tuple[int, int, int]) -> Volume:
    return Volume(np.broadcast_to(np.int16(0), shape), affine, "CT", "k", Path("image"))


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    """Any rotation, shear along K, reflection, spacing, origin and size."""
    angles = draw(st.tuples(*[st.floats(-180, 180)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.2, 8)] * 3))
    shear = draw(st.tuples(*[st.floats(-0.5, 0.5)] * 2))
    flip = draw(st.sampled_from([1.0, -1.0]))
    affine = np.eye(4)
    sheared = np.array([[1, 0, shear[0]], [0, 1, shear[1]], [0, 0, flip]])
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] = rotation @ sheared * spacing
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return volume_with(affine, draw(st.tuples(*[st.integers(1, 300)] * 3)))


@settings(max_examples=200, deadline=None)
@given(volume=volumes(), plane=st.sampled_from(PLANES), data=st.data(), size=st.integers(28, 1024))
def test_voxel_to_reasoner_px_and_back_is_exact(
    volume: Volume, plane: Plane, data: st.DataObject, size: int
) -> None:
    axis = slice_mapping(volume, plane, 0).slice_axis
    index = data.draw(st.integers(0, volume.shape_ijk[axis] - 1))
    mapping = slice_mapping(volume, plane, index, model_size=size)
    ijk = np.array([data.draw(st.floats(-0.5, n - 0.5)) for n in volume.shape_ijk])
    ijk[axis] = index
    slice_px = mapping.ijk_to_slice_px(ijk)
    height, width = mapping.shape_hw
    assert ((slice_px >= -1e-9) & (slice_px <= np.array([width, height]) + 1e-9)).all()
    reasoner_px = mapping.slice_px_to_reasoner_px(slice_px)
    assert ((reasoner_px >= -1e-9) & (reasoner_px <= size + 1e-9)).all()
    back_px = mapping.reasoner_px_to_slice_px(reasoner_px)
    assert mapping.slice_px_to_ijk(back_px) == pytest.approx(ijk, abs=1e-6)
    lps = mapping.slice_px_to_lps(back_px)
    assert lps == pytest.approx((volume.ijk_to_lps @ [*ijk, 1])[:3], abs=1e-6)
    assert mapping.lps_to_slice_px(lps) == pytest.approx(slice_px, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(volume=volumes(), plane=st.sampled_from(PLANES), data=st.data())
def test_the_slice_at_a_voxel_is_that_voxels_slice(
    volume: Volume, plane: Plane, data: st.DataObject
) -> None:
    ijk = [data.draw(st.integers(0, n - 1)) for n in volume.shape_ijk]
    expected = ijk[slice_mapping(volume, plane, 0).slice_axis]
    lps = (volume.ijk_to_lps @ [*ijk, 1])[:3]
    assert slice_index_at(volume, plane, lps) == expected


@settings(max_examples=100, deadline=None)
@given(volume=volumes(), plane=st.sampled_from(PLANES), size=st.integers(28, 1024))
def test_reasoner_px_are_isotropic_in_mm_and_centred(
    volume: Volume, plane: Plane, size: int
) -> None:
    mapping = slice_mapping(volume, plane, 0, model_size=size)
    height, width = mapping.shape_hw
    x1, y1, x2, y2 = mapping.slice_box_to_reasoner_px((0, 0, width, height))
    extent_mm = np.array([width, height]) * mapping.spacing_xy_mm
    exact = size * extent_mm / extent_mm.max()
    assert max(x2 - x1, y2 - y1) == pytest.approx(size)
    assert abs(x2 - x1 - max(exact[0], 1)) <= 0.5 + 1e-6
    assert abs(y2 - y1 - max(exact[1], 1)) <= 0.5 + 1e-6
    assert abs((x1 + x2) / 2 - size / 2) <= 0.5 + 1e-6
    assert abs((y1 + y2) / 2 - size / 2) <= 0.5 + 1e-6


def test_chain_against_numbers_worked_out_by_hand() -> None:
    """LPS storage, 100 x 50 x 10 voxels of 1 x 4 x 5 mm: a slice of 100 x 200 mm in 400 px."""
    affine = np.array([[1, 0, 0, -50], [0, 4, 0, -100], [0, 0, 5, 30], [0, 0, 0, 1.0]])
    mapping = slice_mapping(volume_with(affine, (100, 50, 10)), Plane.AXIAL, 3, model_size=400)
    assert mapping.shape_hw == (50, 100)
    assert mapping.spacing_xy_mm == (1, 4)
    assert mapping.reasoner_px_per_slice_px == (2, 8)
    assert mapping.reasoner_padding_xy_px == (100, 0)
    # the corner of the slice is half a voxel before the first voxel's centre
    assert mapping.slice_px_to_lps((0, 0)).tolist() == [-50.5, -102, 45]
    assert mapping.slice_px_to_ijk([(0.5, 0.5), (100, 50)]).tolist() == [[0, 0, 3], [99.5, 49.5, 3]]
    assert mapping.slice_px_to_reasoner_px((10, 20)).tolist() == [120, 160]
    assert mapping.reasoner_box_to_slice_px((100, 0, 300, 400)) == (0, 0, 100, 50)
    assert mapping.reasoner_px_to_slice_px((0, 0)).tolist() == [-50, 0]


def test_coronal_flip_against_numbers_worked_out_by_hand() -> None:
    """Head is on top: the highest K is row 0."""
    mapping = slice_mapping(volume_with(np.eye(4), (10, 20, 30)), Plane.CORONAL, 5)
    assert mapping.slice_px_to_ijk((2.5, 0.5)).tolist() == [2, 5, 29]
    assert mapping.ijk_to_slice_px((0, 5, 0)).tolist() == [0.5, 29.5]


def test_many_points_one_point_and_none() -> None:
    mapping = slice_mapping(volume_with(np.eye(4), (10, 20, 30)), Plane.AXIAL, 5)
    assert mapping.slice_px_to_lps(np.zeros((0, 2))).shape == (0, 3)
    assert mapping.lps_to_slice_px(np.zeros((7, 3))).shape == (7, 2)
    assert mapping.slice_px_to_reasoner_px(np.zeros(2)).shape == (2,)
    with pytest.raises(InputError, match=r"shape \(3,\) were given; expected \(..., 2\)"):
        mapping.slice_px_to_ijk((1, 2, 3))


def test_sheared_slices_are_found_by_the_voxel_grid_not_by_height() -> None:
    """A gantry tilt: the same height belongs to different slices at front and back."""
    affine = np.array([[1, 0, 0, 0], [0, 0.8, 0, 0], [0, 0.6, 5, 0], [0, 0, 0, 1.0]])
    volume = volume_with(affine, (10, 50, 10))
    assert slice_index_at(volume, Plane.AXIAL, (0, 0, 30)) == 6
    assert slice_index_at(volume, Plane.AXIAL, (0, 40 * 0.8, 40 * 0.6 + 5)) == 1


@pytest.mark.parametrize(("z_mm", "index"), [(-2.5, 0), (2.49, 0), (2.51, 1), (47.4, 9)])
def test_positions_within_half_a_slice_belong_to_it(z_mm: float, index: int) -> None:
    volume = volume_with(np.diag([1.0, 1, 5, 1]), (4, 4, 10))
    assert slice_index_at(volume, Plane.AXIAL, (999, 0, z_mm)) == index


@pytest.mark.parametrize("z_mm", [-2.6, 47.6, 1e6])
def test_positions_outside_the_stack_name_the_valid_range(z_mm: float) -> None:
    volume = volume_with(np.diag([1.0, 1, 5, 1]), (4, 4, 10))
    with pytest.raises(SliceOutOfRangeError, match=r"outside the image.*slices 0 to 9"):
        slice_index_at(volume, Plane.AXIAL, (0, 0, z_mm))


@pytest.mark.parametrize("index", [-1, 10])
def test_slice_numbers_outside_the_stack_name_the_valid_range(index: int) -> None:
    volume = volume_with(np.eye(4), (4, 4, 10))
    with pytest.raises(SliceOutOfRangeError, match=r"axial plane.*slices 0 to 9"):
        slice_mapping(volume, Plane.AXIAL, index)


def test_model_size_must_be_positive() -> None:
    with pytest.raises(InputError, match="at least 1 px, got 0"):
        slice_mapping(volume_with(np.eye(4), (4, 4, 4)), Plane.AXIAL, 0, model_size=0)


@pytest.mark.parametrize(
    ("affine", "reason"),
    [
        (np.diag([1.0, 1, 0, 1]), "singular"),
        (np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
        (np.full((4, 4), np.nan), "not a finite"),
        (np.eye(3), "not a finite 4 x 4"),
    ],
)
def test_unusable_geometry_is_refused(affine: np.ndarray, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        volume_with(affine, (4, 4, 4))


def test_voxels_and_geometry_are_read_only() -> None:
    array = np.zeros((2, 2, 2))
    volume = Volume(array, np.eye(4), "CT", "k", Path("image"))
    with pytest.raises(ValueError, match="read-only"):
        volume.array[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        volume.ijk_to_lps[0, 0] = 2
    array[0, 0, 0] = 1  # the caller's own array stays its own


def test_a_volume_of_unknown_shape_is_refused() -> None:
    with pytest.raises(UnreadableImageError, match=r"shape \(2, 2\); expected \(I, J, K\)"):
        Volume(np.zeros((2, 2)), np.eye(4), "CT", "k", Path("image"))
