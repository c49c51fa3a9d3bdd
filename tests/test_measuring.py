# SPDX-License-Identifier: Apache-2.0
"""Sizes of masks: lengths against all pairs of corners and against lines laid through pixels."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import pdist

from medreasoner_infer.imaging import Plane, Volume, load_volume, slice_mapping
from medreasoner_infer.measuring.diameters import both_diameters
from medreasoner_infer.measuring.measured import feret_sizes, measure_target, steps_of
from medreasoner_infer.measuring.telling import NO_SPREAD, ONE_SLICE, tell_sizes

ISOTROPIC = np.eye(2)
KIDNEY = np.array(
    [[0, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]], dtype=bool
)


def longest_of_all_pairs(mask_hw: np.ndarray, steps: np.ndarray) -> float:
    rows, columns = np.nonzero(mask_hw)
    corners = [(x + a, y + b) for x, y in zip(columns, rows, strict=True) for a, b in CORNERS]
    return float(pdist(np.unique(corners, axis=0) @ steps).max())


CORNERS = tuple(itertools.product((0, 1), (0, 1)))


def longest_line_across(mask_hw: np.ndarray, ends_px: np.ndarray, steps: np.ndarray) -> float:
    """By walking along parallel lines in steps of a fortieth of a pixel."""
    along = (ends_px[1] - ends_px[0]) @ steps
    along /= np.linalg.norm(along)
    in_plane = np.linalg.qr(steps.T)[0].T
    across = np.array([-(along @ in_plane[1]), along @ in_plane[0]]) @ in_plane
    to_px = np.linalg.pinv(steps)
    fine = np.linalg.norm(steps, axis=1).min() / 40
    height, width = mask_hw.shape
    corners = np.array([(0, 0), (0, height), (width, 0), (width, height)]) @ steps
    reach = np.abs(corners).max() * 2
    offsets = np.arange(-reach, reach, fine)
    best = 0.0
    for offset in np.arange(*np.sort(corners @ along)[[0, -1]], fine):
        places = (offset * along + offsets[:, np.newaxis] * across) @ to_px
        columns, rows = np.floor(places).astype(int).T
        valid = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        inside = np.zeros(len(offsets), bool)
        inside[valid] = mask_hw[rows[valid], columns[valid]]
        labels, count = ndimage.label(inside)
        if count:
            best = max(best, np.bincount(labels)[1:].max() * fine)
    return best


def blob(seed: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(14, 18)), 1.5)
    return noise > np.quantile(noise, 0.6)


@given(st.integers(0, 10_000), st.sampled_from([(1.0, 1.0), (0.7, 1.9), (3.0, 0.5)]))
def test_the_longest_diameter_is_that_of_all_pairs_of_corners(seed, spacing) -> None:
    mask, steps = blob(seed), np.diag(spacing)
    ends, _ = both_diameters(mask, steps)
    assert np.linalg.norm((ends[1] - ends[0]) @ steps) == pytest.approx(
        longest_of_all_pairs(mask, steps)
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 1.9)])
def test_the_perpendicular_diameter_is_the_longest_line_that_stays_in_the_mask(
    seed, spacing
) -> None:
    mask, steps = blob(seed), np.diag(spacing)
    longest, across = both_diameters(mask, steps)
    length = np.linalg.norm((across[1] - across[0]) @ steps)
    assert length == pytest.approx(longest_line_across(mask, longest, steps), abs=0.15)
    assert abs(((longest[1] - longest[0]) @ steps) @ ((across[1] - across[0]) @ steps)) < 1e-6
    places = across[0] + np.linspace(0.01, 0.99, 200)[:, np.newaxis] * (across[1] - across[0])
    columns, rows = np.floor(places).astype(int).T
    assert mask[rows, columns].mean() > 0.97  # a line along an edge is in and out


def test_of_equally_long_diameters_that_with_the_longest_line_across_counts() -> None:
    """Both diagonals of the block are as long; one corner is cut, across which it is shorter."""
    mask = np.ones((6, 8), bool)
    mask[2:4, 2:6] = False
    mask[5, 1:3] = False
    steps = ISOTROPIC
    ends = [np.array(pair, float) for pair in (((0, 0), (8, 6)), ((0, 6), (8, 0)))]
    longest, across = both_diameters(mask, steps)
    assert np.linalg.norm(longest[1] - longest[0]) == pytest.approx(10)
    best = max(longest_line_across(mask, pair, steps) for pair in ends)
    assert np.linalg.norm(across[1] - across[0]) == pytest.approx(best, abs=0.1)


def test_of_a_rectangle_both_are_known() -> None:
    """The line across the diagonal of a by b is a d / b long, where a is the shorter side."""
    mask = np.zeros((9, 8), bool)
    mask[1:8, 2:7] = True
    steps = np.diag((1.5, 0.75))
    longest, across = both_diameters(mask, steps)
    diagonal = np.hypot(7.5, 5.25)
    assert np.linalg.norm((longest[1] - longest[0]) @ steps) == pytest.approx(diagonal)
    assert np.linalg.norm((across[1] - across[0]) @ steps) == pytest.approx(5.25 * diagonal / 7.5)


def test_a_single_pixel_is_as_long_as_its_diagonal() -> None:
    mask = np.zeros((3, 3), bool)
    mask[1, 1] = True
    longest, across = both_diameters(mask, ISOTROPIC)
    assert np.linalg.norm(longest[1] - longest[0]) == pytest.approx(np.sqrt(2))
    assert np.linalg.norm(across[1] - across[0]) == pytest.approx(np.sqrt(2), rel=1e-6)


def test_of_a_bent_mask_the_line_across_does_not_bridge_the_bay() -> None:
    longest, across = both_diameters(KIDNEY, ISOTROPIC)
    expected = longest_line_across(KIDNEY, longest, ISOTROPIC)
    assert np.linalg.norm(across[1] - across[0]) == pytest.approx(expected, abs=0.1)


OBLIQUE = np.array(
    [[0.9, 0.3, 0, -20.0], [-0.3, 0.9, 0.1, 5.0], [0.05, -0.2, 3.0, 60.0], [0, 0, 0, 1.0]]
)


def volume_of(shape=(20, 16, 9), affine=OBLIQUE, **kept) -> Volume:
    return Volume(np.zeros(shape, np.int16), affine, "CT", "key", Path("x.nii.gz"), **kept)


def test_the_ends_are_the_same_points_in_every_frame() -> None:
    volume = volume_of()
    mask = np.zeros(volume.shape_ijk, np.uint8)
    mask[4:15, 5:9, 3:6] = 1
    mapping = slice_mapping(volume, Plane.AXIAL, 4)
    measured = measure_target(mask, mapping)
    for diameter in (measured.longest, measured.perpendicular):
        px = np.array(diameter.ends_xy_slice_px)
        assert mapping.slice_px_to_ijk(px) == pytest.approx(np.array(diameter.ends_ijk), abs=1e-3)
        lps = np.array(diameter.ends_lps_mm)
        ijk = np.hstack([diameter.ends_ijk, np.ones((2, 1))])
        assert (ijk @ volume.ijk_to_lps.T)[:, :3] == pytest.approx(lps, abs=1e-3)
        assert np.linalg.norm(lps[1] - lps[0]) == pytest.approx(diameter.length_mm, abs=1e-3)
        nearest = np.clip(np.round(diameter.ends_ijk), (4, 5, 4), (14, 8, 4))
        assert np.abs(nearest - diameter.ends_ijk).max() <= 0.5 + 1e-3
    assert measured.volume_ml == pytest.approx(
        11 * 4 * 3 * abs(np.linalg.det(OBLIQUE[:3, :3])) / 1000, rel=1e-3
    )
    assert (measured.voxels, measured.slices, measured.parts) == (132, 3, 1)


def test_without_a_scale_there_are_pixels_and_no_millimetres() -> None:
    volume = volume_of((20, 16, 1), np.eye(4), is_picture=True, spacing_known=False)
    mask = np.zeros(volume.shape_ijk, np.uint8)
    mask[2:14, 3:8, 0] = 1
    measured = measure_target(mask, slice_mapping(volume, Plane.ACQUIRED, 0))
    assert measured.longest.length_px == pytest.approx(13)
    assert {measured.longest.length_mm, measured.area_mm2, measured.volume_ml} == {None}
    told = tell_sizes(measured)
    assert "13.0 px" in told
    assert "60 px" in told
    assert "mm" not in told.replace("Sizes", "")
    assert "cm" not in told
    assert " ml" not in told


def test_a_mask_of_one_slice_among_several_has_no_volume() -> None:
    volume = volume_of()
    mask = np.zeros(volume.shape_ijk, np.uint8)
    mask[4:15, 5:9, 4] = 1
    measured = measure_target(mask, slice_mapping(volume, Plane.AXIAL, 4))
    assert measured.volume_ml is None
    assert ONE_SLICE in tell_sizes(measured, "volume")
    assert measure_target(mask, slice_mapping(volume, Plane.AXIAL, 5)) is None


def test_the_error_bar_is_the_spread_of_the_boxes_stretched_along_the_diameter() -> None:
    volume = volume_of((40, 30, 1), np.diag([2.0, 2.0, 5.0, 1.0]))
    mask = np.zeros(volume.shape_ijk, np.uint8)
    mask[10:30, 10, 0] = 1
    mapping = slice_mapping(volume, Plane.AXIAL, 0)
    answer, wider, narrower = (10, 9, 30, 11), (9, 9, 31, 11), (11, 9, 29, 11)
    measured = measure_target(mask, mapping, answer, (wider, narrower))
    by_hand = [np.hypot(40 * stretch, 2) for stretch in (1.0, 1.1, 0.9)]
    assert measured.longest.deviation == pytest.approx(np.std(by_hand, ddof=1), abs=1e-3)
    assert measured.area_deviation == pytest.approx(np.std([80, 88, 72], ddof=1), abs=1e-3)
    assert measured.answers == 3
    assert "± 4.0 mm" in tell_sizes(measured)
    alone = measure_target(mask, mapping, answer)
    assert (alone.answers, alone.longest.deviation) == (0, None)
    assert NO_SPREAD in tell_sizes(alone)


def test_the_line_across_is_never_longer_than_the_extent_of_a_report() -> None:
    for seed in range(12):
        mask = blob(seed)
        shape = (mask.shape[1], mask.shape[0], 1)
        mapping = slice_mapping(volume_of(shape, np.diag([0.7, 1.9, 1, 1.0])), Plane.AXIAL, 0)
        sizes = feret_sizes(mask, mapping)
        _, across = both_diameters(mask, steps_of(mapping))
        length = np.linalg.norm((across[1] - across[0]) @ steps_of(mapping))
        assert length <= sizes.short_axis_mm + 1e-6
        assert sizes.long_axis_mm == pytest.approx(longest_of_all_pairs(mask, steps_of(mapping)))


@pytest.mark.slow
def test_of_real_organs_the_longest_diameter_is_that_of_all_pairs(shared_data) -> None:
    labels = load_volume(shared_data / "totalsegmentator" / "example_seg_dicom.nii.gz")
    rng = np.random.default_rng(0)
    for value in rng.choice(np.unique(labels.array[labels.array > 0]), 8, replace=False):
        mask = (labels.array == value).astype(np.uint8)
        index = int(mask.sum(axis=(0, 1)).argmax())
        mapping = slice_mapping(labels, Plane.AXIAL, index)
        on_slice = np.take(mask, index, axis=2) > 0
        measured = measure_target(mask, mapping)
        voxel_mm = max(mapping.spacing_xy_mm)
        inner = on_slice & ~ndimage.binary_erosion(on_slice)
        corners = np.argwhere(inner)[:, np.newaxis] + np.array(CORNERS) - 0.5
        ijk = np.insert(np.unique(corners.reshape(-1, 2), axis=0), 2, index, axis=1)
        points = ijk @ labels.ijk_to_lps[:3, :3].T
        assert abs(pdist(points).max() - measured.longest.length_mm) < voxel_mm
