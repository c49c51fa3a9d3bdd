# SPDX-License-Identifier: Apache-2.0
"""Bounds and corner cases of the geometry, in numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.errors import InputError, SliceOutOfRangeError, UnreadableImageError
from medreasoner_infer.imaging import (
    Plane,
    SliceMapping,
    Volume,
    Window,
    apply_window,
    edge_letters,
    put_mask,
    slice_index_at,
    slice_mapping,
)
from medreasoner_infer.imaging.dicom_geometry import FramePlane, frame_grid
from medreasoner_infer.imaging.orientation import (
    direction_letters,
    nearest_voxel_axes,
    opposite_letters,
)
from medreasoner_infer.imaging.window import percentile_window

UPRIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
# Columns along (0.6, 0, 0.8), rows to the back; the normal is (-0.8, 0, 0.6).
TURNED = ((0.6, 0.0, 0.8), (0.0, 1.0, 0.0))


def plane(position, directions=UPRIGHT, rows_mm=1.5, columns_mm=0.75) -> FramePlane:
    return FramePlane(tuple(map(float, position)), *directions, rows_mm, columns_mm)


def volume(shape, affine=None, **options: object) -> Volume:
    affine = np.eye(4) if affine is None else affine
    return Volume(np.zeros(shape, np.int16), affine, "CT", "k", Path("image"), **options)


class TestFrames:
    """One voxel grid from the planes of DICOM frames."""

    def test_a_single_frame_is_as_thick_as_it_says_along_its_normal(self) -> None:
        grid = frame_grid([plane((1, 2, 3), TURNED)], thickness_mm=5)
        assert grid.order == (0,)
        assert grid.warnings == ()
        expected = [[0.45, 0, -4, 1], [0, 1.5, 0, 2], [0.6, 0, 3, 3], [0, 0, 0, 1]]
        np.testing.assert_allclose(grid.ijk_to_lps, expected, atol=1e-12)

    def test_two_frames_are_apart_as_their_positions_whatever_the_thickness(self) -> None:
        grid = frame_grid([plane((0, 1, 7)), plane((0, 0, 3))], thickness_mm=99)
        assert grid.order == (1, 0)
        expected = [[0.75, 0, 0, 0], [0, 1.5, 1, 0], [0, 0, 4, 3], [0, 0, 0, 1]]
        np.testing.assert_allclose(grid.ijk_to_lps, expected)

    def test_frames_are_ordered_along_their_own_normal(self) -> None:
        heights = (8.0, 0.0, 4.0)
        planes = [plane((-0.8 * h, 0, 0.6 * h), TURNED) for h in heights]
        grid = frame_grid(planes, 1)
        assert grid.order == (1, 2, 0)
        np.testing.assert_allclose(grid.ijk_to_lps[:3, 2], [-3.2, 0, 2.4], atol=1e-12)

    @pytest.mark.parametrize(
        ("gap_mm", "apart"), [(0.009, False), (0.01, False), (0.011, True), (-0.5, True)]
    )
    def test_frames_closer_than_a_hundredth_of_a_millimetre_are_at_one_position(
        self, gap_mm, apart
    ) -> None:
        planes = [plane((0, 0, 0)), plane((0, 0, gap_mm))]
        if apart:
            assert frame_grid(planes, 1).ijk_to_lps[2, 2] == pytest.approx(abs(gap_mm))
            return
        with pytest.raises(UnreadableImageError, match=r"same position \(0.00 mm along"):
            frame_grid(planes, 1)

    def test_the_place_of_two_frames_at_one_position_is_told(self) -> None:
        planes = [plane((0, 0, z)) for z in (0, 5, 10, 10, 15)]
        with pytest.raises(UnreadableImageError, match=r"same position \(10.00 mm along"):
            frame_grid(planes, 1)

    @pytest.mark.parametrize(("excess_mm", "told"), [(0.0095, False), (0.0105, True)])
    def test_of_thin_slices_a_gap_is_told_from_a_hundredth_of_a_millimetre_on(
        self, excess_mm, told
    ) -> None:
        heights = (0, 0.5, 1.0 + excess_mm, 1.5 + excess_mm, 2 + excess_mm)
        warnings = frame_grid([plane((0, 0, z)) for z in heights], 1).warnings
        assert [w.split(":")[0] for w in warnings] == (
            ["The slices are not quite evenly spaced"] if told else []
        )

    @pytest.mark.parametrize(
        ("off_mm", "said"),
        [(0.24, ""), (0.26, "by up to 0.26 mm"), (2.45, "by up to 2.45 mm"), (2.55, None)],
    )
    def test_a_frame_may_lie_beside_the_stack_by_half_of_the_distance(self, off_mm, said) -> None:
        planes = [plane((off_mm if z == 10 else 0, 0, z)) for z in (0, 5, 10, 15, 20)]
        if said is None:
            with pytest.raises(UnreadableImageError, match=r"2\.55 mm off .* slices of 5\.00 mm"):
                frame_grid(planes, 1)
            return
        found = frame_grid(planes, 1).warnings
        assert found == ((f"Slice positions deviate from an even stack {said}.",) if said else ())

    @pytest.mark.parametrize(("off_mm", "told"), [(0.09, False), (0.11, True)])
    def test_of_thin_slices_a_deviation_is_told_from_a_tenth_of_a_millimetre_on(
        self, off_mm, told
    ) -> None:
        planes = [plane((off_mm if z == 1 else 0, 0, z)) for z in (0, 0.5, 1, 1.5)]
        assert bool(frame_grid(planes, 1).warnings) is told

    @pytest.mark.parametrize(
        ("row", "column", "taken"),
        [
            ((1.0009, 0, 0), (0, 1, 0), True),
            ((1.0011, 0, 0), (0, 1, 0), False),
            ((0.9989, 0, 0), (0, 1, 0), False),
            ((1, 0, 0), (0, 1.0011, 0), False),
            ((1, 0, 0), (0, 0.9989, 0), False),
            ((1, 0, 0), (0.0009, 1, 0), True),
            ((1, 0, 0), (0.0011, 1, 0), False),
            ((1, 0, 0), (-0.0011, 1, 0), False),
            ((float("nan"), 0, 0), (0, 1, 0), False),
        ],
    )
    def test_directions_are_unit_vectors_at_right_angles(self, row, column, taken) -> None:
        frames = [plane((0, 0, 0), (row, column))]
        if taken:
            assert frame_grid(frames, 1).order == (0,)
            return
        with pytest.raises(UnreadableImageError, match="not two perpendicular unit vectors"):
            frame_grid(frames, 1)

    def test_refused_directions_are_told_to_four_places(self) -> None:
        frames = [plane((0, 0, 0), ((0.123456, 0, 0), (0, 1, 0)))]
        with pytest.raises(UnreadableImageError, match=r"\[0.1235, 0.0, 0.0, 0.0, 1.0, 0.0\]"):
            frame_grid(frames, 1)

    @pytest.mark.parametrize(
        ("other", "parallel"),
        [
            # 100 rows of 1.5 mm and 200 columns of 0.75 mm: 150 mm each way, a pixel is 0.75 mm
            (plane((9, 9, 9)), True),
            (plane((0, 0, 0), ((1, 0.0049, 0), (0, 1, 0))), True),
            (plane((0, 0, 0), ((1, 0.0051, 0), (0, 1, 0))), False),
            (plane((0, 0, 0), ((1, 0, 0.0049), (0, 1, 0))), True),
            (plane((0, 0, 0), ((1, 0, 0), (-0.0051, 1, 0))), False),
            (plane((0, 0, 0), ((1, 0.003, 0), (0.004, 1, 0))), True),
            (plane((0, 0, 0), ((1, 0.004, 0), (0.004, 1, 0))), False),
            (plane((0, 0, 0), rows_mm=1.5074), True),
            (plane((0, 0, 0), rows_mm=1.5076), False),
            (plane((0, 0, 0), columns_mm=0.7461), False),
            (plane((0, 0, 0), ((-1, 0, 0), (0, 1, 0))), False),
            (plane((0, 0, 0), ((float("nan"), 0, 0), (0, 1, 0))), False),
        ],
    )
    def test_corners_of_parallel_frames_lie_within_a_pixel(self, other, parallel) -> None:
        assert plane((0, 0, 0)).is_parallel(other, (100, 200)) is parallel


class TestDirections:
    @pytest.mark.parametrize(
        ("direction", "letters"),
        [
            ((1, 0, 0), "L"), ((-1, 0, 0), "R"), ((0, 1, 0), "P"), ((0, -1, 0), "A"),
            ((0, 0, 1), "H"), ((0, 0, -1), "F"),
            ((0.29, 0, 0.957), "H"), ((0.31, 0, 0.951), "HL"), ((3, 0, 4), "HL"),
            ((-2, -2, 1), "RAH"), ((2, 2, 0), "LP"),
        ],
    )  # fmt: skip
    def test_a_direction_gets_the_letters_of_what_it_runs_along(self, direction, letters) -> None:
        assert direction_letters(np.array(direction)) == letters

    @pytest.mark.parametrize(
        ("letters", "opposite"), [("LA", "RP"), ("HR", "FL"), ("F", "H"), ("P", "A"), ("", "")]
    )
    def test_opposite_letters(self, letters, opposite) -> None:
        assert opposite_letters(letters) == opposite

    def test_each_voxel_axis_belongs_to_the_nearest_patient_axis(self) -> None:
        # I runs to the foot, J to the left, K to the front; sizes do not count.
        affine = np.zeros((4, 4))
        affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = -9, 0.1, -3, 1
        assert nearest_voxel_axes(affine) == ((1, 1), (2, -1), (0, -1))

    def test_the_sum_of_cosines_decides_where_one_axis_is_near_to_two(self) -> None:
        # I = (0.8, 0.6, 0) and J = (0.6, -0.8, 0): I along L and J along P have 1.6, else 1.2.
        affine = np.eye(4)
        affine[:2, :2] = [[0.8, 0.6], [0.6, -0.8]]
        assert nearest_voxel_axes(affine) == ((0, 1), (1, -1), (2, 1))

    def test_the_size_of_voxels_does_not_count_for_the_nearest_axis(self) -> None:
        # Sheared: I = (1, 0, 0) and J = (0.75, 0.66, 0), which is nearer to L than to P.
        affine = np.eye(4)
        affine[:2, :2] = [[0.05, 0.75], [0, 0.66]]
        assert nearest_voxel_axes(affine) == ((0, 1), (1, 1), (2, 1))

    def test_a_picture_says_by_itself_how_the_patient_lies(self) -> None:
        picture = volume((4, 3, 1), is_picture=True, patient_orientation=("L", "F"))
        mapping = slice_mapping(picture, Plane.ACQUIRED, 0)
        assert edge_letters(picture, mapping) == ("R", "L", "H", "F")

    def test_an_oblique_slice_has_two_letters_at_an_edge(self) -> None:
        affine = np.eye(4)
        affine[:3, :3] = np.array([[0.8, 0, -0.6], [0, 1, 0], [0.6, 0, 0.8]])
        oblique = volume((4, 3, 5), affine)
        mapping = slice_mapping(oblique, Plane.AXIAL, 2)
        assert edge_letters(oblique, mapping) == ("RF", "LH", "A", "P")


class TestSlices:
    @pytest.mark.parametrize(
        ("z_mm", "index"),
        [(-2.5, 0), (2.4, 0), (2.5, 1), (7.5, 2), (47.4, 9), (47.5, 9), (-2.6, None), (47.6, None)],
    )
    def test_a_slice_reaches_from_half_before_its_centre_to_half_behind(self, z_mm, index) -> None:
        stack = volume((4, 4, 10), np.diag([1.0, 1, 5, 1]))
        if index is not None:
            assert slice_index_at(stack, Plane.AXIAL, (0, 0, z_mm)) == index
            return
        with pytest.raises(SliceOutOfRangeError) as caught:
            slice_index_at(stack, Plane.AXIAL, (1.26, 0, z_mm))
        assert str(caught.value) == (
            f"The position (1.3, 0.0, {z_mm:.1f}) mm (LPS) lies outside the image: in the axial "
            f"plane it would be slice {z_mm / 5:.1f}, and there are the slices 0 to 9."
        )

    @pytest.mark.parametrize("index", [0, 9])
    def test_the_first_and_the_last_slice_can_be_shown(self, index) -> None:
        mapping = slice_mapping(volume((4, 5, 10)), Plane.AXIAL, index)
        assert (mapping.index, mapping.slice_axis, mapping.model_size) == (index, 2, 840)

    @pytest.mark.parametrize("index", [-2, -1, 5, 6])
    def test_a_slice_that_is_not_there_is_refused_in_one_sentence(self, index) -> None:
        with pytest.raises(SliceOutOfRangeError) as caught:
            slice_mapping(volume((4, 5, 10)), Plane.CORONAL, index)
        assert str(caught.value) == (
            f"Slice {index} of the coronal plane does not exist: this image has the slices 0 to 4."
        )

    def test_a_square_of_one_pixel_is_the_smallest(self) -> None:
        mapping = slice_mapping(volume((4, 5, 10)), Plane.AXIAL, 0, model_size=1)
        assert mapping.reasoner_content_wh_px == (1, 1)
        with pytest.raises(InputError, match="at least 1 px, got 0"):
            slice_mapping(volume((4, 5, 10)), Plane.AXIAL, 0, model_size=0)

    @pytest.mark.parametrize(
        ("shape", "content", "padding"),
        [
            ((100, 50, 1), (101, 50), (0, 25)),
            ((50, 100, 1), (50, 101), (25, 0)),
            ((100, 51, 1), (101, 52), (0, 24)),
            ((1000, 1, 1), (101, 1), (0, 50)),
            ((1, 1000, 1), (1, 101), (50, 0)),
        ],
    )
    def test_the_slice_fills_whole_pixels_of_the_square_and_at_least_one(
        self, shape, content, padding
    ) -> None:
        mapping = slice_mapping(volume(shape), Plane.AXIAL, 0, model_size=101)
        assert mapping.reasoner_content_wh_px == content
        assert mapping.reasoner_padding_xy_px == padding

    @staticmethod
    def flipped() -> SliceMapping:
        """4 x 6 px that show I to the left and J upwards: both grow against the convention."""
        return slice_mapping(volume((4, 6, 3), np.diag([-1.0, -2.0, 5.0, 1.0])), Plane.AXIAL, 1)

    def test_flipped_axes_count_from_the_far_edge(self) -> None:
        mapping = self.flipped()
        assert mapping.shape_hw == (6, 4)
        assert mapping.slice_px_to_ijk([(0, 0), (0.5, 5.5)]).tolist() == [[3.5, 5.5, 1], [3, 0, 1]]
        assert mapping.ijk_to_slice_px((3, 0, 1)).tolist() == [0.5, 5.5]
        assert mapping.slice_px_to_lps((0.5, 5.5)).tolist() == [-3, 0, 5]
        assert mapping.lps_to_slice_px((-3, 0, 99)).tolist() == [0.5, 5.5]

    def test_a_mask_is_flipped_back(self) -> None:
        out = np.zeros((4, 6, 3), np.uint8)
        mask = np.zeros((6, 4), np.uint8)
        mask[0, 1] = 7
        put_mask(mask, self.flipped(), out)
        assert np.argwhere(out).tolist() == [[2, 5, 1]]
        assert out.max() == 1

    def test_coordinates_of_another_dimension_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"shape \(\) were given; expected \(..., 2\)"):
            self.flipped().slice_px_to_ijk(7.0)


class TestWindows:
    @pytest.mark.parametrize("width", [0, -1, float("inf"), float("nan")])
    def test_a_width_is_a_number_above_zero(self, width) -> None:
        with pytest.raises(InputError, match="a width above 0, got centre 40"):
            Window(40, width)

    def test_a_centre_is_a_number_and_a_width_may_be_small(self) -> None:
        with pytest.raises(InputError, match="finite centre"):
            Window(float("inf"), 1)
        assert (Window(0.5, 0.25).lower, Window(0.5, 0.25).upper) == (0.375, 0.625)

    def test_levels_are_rounded_and_inverted_ones_count_from_white(self) -> None:
        # 0 to 510 in 255 levels: 2 a level; a half goes to the even level.
        values = np.array([-9, 0, 1, 2, 3, 509, 510, 999])
        window = Window(255, 510)
        assert apply_window(values, window).tolist() == [0, 0, 0, 1, 2, 254, 255, 255]
        assert apply_window(values, window, True).tolist() == [255, 255, 255, 254, 253, 1, 0, 0]

    @pytest.mark.parametrize(
        ("values", "center", "width"),
        [([7, 7, 7], 7, 1), ([0, 0, 0], 0, 1), ([0, 5, 5], 5, 1), ([0, 0, 100, 300], 200, 198)],
    )
    def test_percentiles_of_few_values(self, values, center, width) -> None:
        # Of two values the 0.5th percentile lies 0.005 of the way to the other one.
        found = percentile_window(np.array(values, float).reshape(-1, 1, 1))
        assert (found.center, found.width) == (pytest.approx(center), pytest.approx(width))

    @pytest.mark.parametrize(("side", "step"), [(126, 2), (250, 2), (260, 3)])
    def test_arrays_beyond_two_million_values_are_thinned_along_each_axis(self, side, step) -> None:
        values = np.full((side,) * 3, 1000, np.float32)
        values[::step, ::step, ::step] = 1
        assert (percentile_window(values).center, percentile_window(values).width) == (1, 1)

    def test_smaller_arrays_are_looked_at_whole(self) -> None:
        values = np.ones((125,) * 3, np.float32)  # 1,953,125 of them
        values[1::2] = 3
        assert (percentile_window(values).lower, percentile_window(values).upper) == (1, 3)
