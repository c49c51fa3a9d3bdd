# SPDX-License-Identifier: Apache-2.0
"""Box and key points of a mask, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from medreasoner_infer.keypoints import bbox_from_mask, key_points_from_mask


def mask_of(rows: slice, columns: slice, shape: tuple[int, int] = (20, 30)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


def test_box_of_one_pixel_spans_that_pixel():
    assert bbox_from_mask(mask_of(slice(5, 6), slice(3, 4))) == (3.0, 5.0, 4.0, 6.0)


def test_box_reaches_the_far_edge_of_the_last_pixel():
    assert bbox_from_mask(mask_of(slice(2, 7), slice(10, 30))) == (10.0, 2.0, 30.0, 7.0)


def test_empty_mask_has_neither_box_nor_points():
    empty = np.zeros((4, 4), bool)
    assert bbox_from_mask(empty) is None
    assert key_points_from_mask(empty) is None


def test_first_key_point_is_the_centre_of_a_square():
    first, _ = key_points_from_mask(mask_of(slice(4, 9), slice(10, 15)))
    assert first == (12.5, 6.5)


def test_larger_of_two_squares_gets_the_first_point():
    mask = mask_of(slice(2, 9), slice(2, 9)) | mask_of(slice(12, 15), slice(20, 23))
    assert key_points_from_mask(mask) == ((5.5, 5.5), (21.5, 13.5))


def test_second_point_lies_outside_the_first_disc():
    first, second = key_points_from_mask(mask_of(slice(5, 10), slice(2, 28)))
    assert first[1] == second[1] == 7.5
    assert abs(first[0] - second[0]) > 3


def test_single_pixel_has_both_points_at_its_centre():
    assert key_points_from_mask(mask_of(slice(5, 6), slice(3, 4))) == ((3.5, 5.5), (3.5, 5.5))


def test_disc_ends_at_the_image_border():
    full = np.ones((9, 9), bool)
    assert key_points_from_mask(full)[0] == (4.5, 4.5)


@pytest.mark.parametrize(
    ("spacing_xy_mm", "largest"),
    [((1.0, 1.0), (4.5, 4.5)), ((1.0, 4.0), (18.5, 4.5))],
)
def test_discs_are_measured_in_millimetres(spacing_xy_mm, largest):
    # A 9 x 9 square and, right of it, 19 columns x 3 rows: in pixels the square holds the larger
    # disc. With rows 4 mm high the square is limited by its 9 mm width, the bar's 3 rows are 12 mm.
    # Of the bar's equal discs the leftmost one counts: radius 8 mm (to the next pixel centre
    # outside), so the eighth column of the bar.
    mask = mask_of(slice(0, 9), slice(0, 9)) | mask_of(slice(3, 6), slice(11, 30))
    assert key_points_from_mask(mask, spacing_xy_mm)[0] == largest
