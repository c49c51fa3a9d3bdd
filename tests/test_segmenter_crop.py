# SPDX-License-Identifier: Apache-2.0
"""Crop geometry and prompt checks, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medreasoner_infer.errors import PromptError
from medreasoner_infer.segmenters.crop import (
    Crop,
    check_prompt,
    crop_for_prompt,
    square_around_box,
    whole_slice,
)
from medreasoner_infer.types import SliceImage, SlicePrompt


def image_of(
    height: int, width: int, spacing_xy_mm: tuple[float, float] = (1.0, 1.0)
) -> SliceImage:
    return SliceImage(np.zeros((height, width), np.uint8), spacing_xy_mm, "key")


class TestCoordinates:
    def test_crop_edges_are_the_edges_of_crop_px(self):
        crop = Crop(10.0, 20.0, 40.0, 80.0)
        corners = crop.to_crop_px(np.array([[10, 20], [50, 100], [30, 60]]), 128)
        assert corners.tolist() == [[0, 0], [128, 128], [64, 64]]

    def test_centre_of_a_slice_pixel_maps_to_the_centre_of_its_crop_pixels(self):
        # 64 slice px on 128 crop px: slice pixel 0 is crop pixels 0 and 1, centre at edge 1.0.
        assert Crop(0.0, 0.0, 64.0, 64.0).to_crop_px(np.array([[0.5, 0.5]]), 128).tolist() == [
            [1.0, 1.0]
        ]

    def test_reading_at_the_same_size_returns_the_pixels(self):
        pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
        assert (Crop(0.0, 0.0, 16.0, 16.0).read(pixels, 16) == pixels).all()

    def test_reading_a_quarter_of_the_size_averages(self):
        # Stripes of two pixels' period vanish when every second pixel is dropped without averaging.
        pixels = np.zeros((64, 64), np.uint8)
        pixels[:, ::2] = 200
        small = Crop(0.0, 0.0, 64.0, 64.0).read(pixels, 16)
        assert (small[:, 1:-1] == 100).all()  # the outermost filters end at the image's edge

    def test_beyond_the_border_is_black(self):
        pixels = np.full((8, 8), 200, np.uint8)
        read = Crop(-8.0, 0.0, 16.0, 8.0).read(pixels, 16)
        assert (read[:, :6] == 0).all()
        assert (read[:, 10:] == 200).all()

    def test_colour_is_kept(self):
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[..., 2] = 90
        assert Crop(0.0, 0.0, 8.0, 8.0).read(pixels, 4)[0, 0].tolist() == [0, 0, 90]

    @pytest.mark.parametrize(("x1", "y1", "side"), [(4.0, 6.0, 16.0), (3.3, 5.7, 20.4), (0, 0, 64)])
    def test_a_mask_that_is_read_and_written_back_stays_in_place(self, x1, y1, side):
        mask = np.zeros((64, 64), bool)
        mask[10:16, 8:14] = True
        crop = Crop(x1, y1, side, side)
        grey = crop.read(mask.astype(np.uint8) * 255, 128)
        assert (
            crop.write(grey.astype(np.float32), (64, 64), 0.0) > 127.5
        ).tolist() == mask.tolist()

    def test_writing_leaves_the_outside_alone(self):
        written = Crop(4.0, 6.0, 8.0, 8.0).write(np.ones((16, 16), np.float32), (32, 32), -5.0)
        assert (written == 1).sum() == 64
        assert (written[6:14, 4:12] == 1).all()
        assert written[0, 0] == -5

    def test_crop_beside_the_slice_writes_nothing(self):
        written = Crop(100.0, 0.0, 8.0, 8.0).write(np.ones((4, 4), np.float32), (16, 16), -5.0)
        assert (written == -5).all()


class TestChoice:
    def test_crop_is_about_zoom_times_the_longer_side_of_the_box(self):
        crop = square_around_box((40.0, 50.0, 80.0, 70.0), (1.0, 1.0), 1.65)
        assert crop.width == crop.height
        assert 66 / 2 ** (1 / 12) <= crop.width <= 66 * 2 ** (1 / 12)
        assert crop.x1 + crop.width / 2 == pytest.approx(60, abs=crop.width / 64)
        assert crop.y1 + crop.height / 2 == pytest.approx(60, abs=crop.width / 64)

    def test_crop_is_square_in_millimetres(self):
        # 20 px x 3 mm is the longer side, not 40 px x 1 mm.
        crop = square_around_box((40.0, 50.0, 80.0, 70.0), (1.0, 3.0), 1.65)
        assert crop.width * 1.0 == pytest.approx(crop.height * 3.0)
        assert 99 / 2 ** (1 / 12) <= crop.width <= 99 * 2 ** (1 / 12)

    def test_crop_of_a_tiny_box_shows_some_surroundings(self):
        assert square_around_box((5.0, 5.0, 6.0, 6.0), (1.0, 1.0), 1.65).width >= 15

    def test_points_inside_leave_the_crop_as_it_is(self):
        image, box = image_of(128, 128), (40.0, 50.0, 80.0, 70.0)
        alone = crop_for_prompt(image, SlicePrompt(box), 1.65)
        clicked = SlicePrompt(box, ((60.0, 60.0), (35.0, 80.0)), (1, 0))
        assert crop_for_prompt(image, clicked, 1.65) == alone

    def test_slightly_different_boxes_share_a_crop(self):
        image = image_of(128, 128)
        boxes = [(40.0, 50.0, 80.0, 70.0), (40.4, 50.2, 80.3, 70.1)]
        crops = {crop_for_prompt(image, SlicePrompt(box), 1.65) for box in boxes}
        assert len(crops) == 1

    def test_point_outside_the_crop_widens_it(self):
        image, box = image_of(256, 256), (40.0, 50.0, 80.0, 70.0)
        crop = crop_for_prompt(image, SlicePrompt(box, ((200.0, 200.0),), (0,)), 1.65)
        assert crop.contains(np.array([[200.0, 200.0], [40.0, 50.0], [80.0, 70.0]]))

    def test_without_a_box_the_crop_stays_around_the_first_positive_point(self):
        image = image_of(128, 128)
        one = SlicePrompt(None, ((60.0, 60.0),), (1,))
        two = SlicePrompt(None, ((60.0, 60.0), (70.0, 50.0)), (1, 1))
        assert crop_for_prompt(image, one, 1.65) == crop_for_prompt(image, two, 1.65)

    def test_whole_slice_covers_each_pixel(self):
        assert whole_slice(image_of(100, 60)) == Crop(0.0, 0.0, 60.0, 100.0)


class TestPromptCheck:
    @pytest.mark.parametrize(
        ("prompt", "message"),
        [
            (SlicePrompt(None), "neither a box nor a point inside"),
            (SlicePrompt(None, ((1.0, 1.0),), (0,)), "neither a box nor a point inside"),
            (SlicePrompt(None, ((1.0, 1.0),), ()), "1 points and 0 labels"),
            (SlicePrompt(None, ((1.0, 1.0),), (2,)), r"labels are \(2,\)"),
            (SlicePrompt(None, ((61.0, 1.0),), (1,)), "outside the slice of 60 x 100"),
            (SlicePrompt(None, ((math.nan, 1.0),), (1,)), "outside the slice"),
            (SlicePrompt((5.0, 5.0, 5.0, 9.0)), "empty or lies outside"),
            (SlicePrompt((9.0, 5.0, 5.0, 9.0)), "empty or lies outside"),
            (SlicePrompt((-9.0, 5.0, -1.0, 9.0)), "empty or lies outside"),
            (SlicePrompt((5.0, 101.0, 9.0, 109.0)), "empty or lies outside"),
            (SlicePrompt((math.nan, 5.0, 9.0, 9.0)), "empty or lies outside"),
            (SlicePrompt((1.0, 5.0, math.inf, 9.0)), "not finite"),
        ],
    )
    def test_unusable_prompts_are_refused(self, prompt, message):
        with pytest.raises(PromptError, match=message):
            check_prompt(image_of(100, 60), prompt)

    def test_box_over_the_border_is_accepted_and_lies_in_the_crop(self):
        image, box = image_of(100, 60), (-5.0, 90.0, 20.0, 110.0)
        check_prompt(image, SlicePrompt(box))
        crop = crop_for_prompt(image, SlicePrompt(box), zoom=1.65)
        assert crop.contains(np.reshape(box, (2, 2)))
