# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import (
    Plane,
    SliceStack,
    Volume,
    Window,
    letterbox,
    put_mask,
    slice_image,
    slice_mapping,
    slice_values,
)
from medreasoner_infer.types import SliceImage

WINDOW = Window(40, 400)
RSP = np.diag([-1.0, 1.0, 1.0, 1.0])[[0, 2, 1, 3]] * np.array([0.7, 2.0, 1.1, 1.0])


def random_volume(affine: np.ndarray = RSP) -> Volume:
    values = np.random.default_rng(0).integers(-1000, 1000, (12, 20, 16)).astype(np.int16)
    return Volume(values, affine, "CT", "content", Path("image"))


@pytest.mark.parametrize("plane", list(Plane))
def test_a_mask_put_back_lies_on_the_voxels_that_were_displayed(plane: Plane) -> None:
    volume = random_volume()
    mapping = slice_mapping(volume, plane, 4)
    out = np.zeros(volume.shape_ijk, dtype=np.uint8)
    put_mask(slice_values(volume, mapping) > 900, mapping, out)
    on_slice = np.zeros(volume.shape_ijk, dtype=bool)
    on_slice[(slice(None),) * mapping.slice_axis + (4,)] = True
    assert np.array_equal(out == 1, (volume.array > 900) & on_slice)


@pytest.mark.parametrize("plane", list(Plane))
def test_pixels_of_a_slice_are_the_voxels_at_their_mapped_positions(plane: Plane) -> None:
    volume = random_volume()
    mapping = slice_mapping(volume, plane, 7)
    values = slice_values(volume, mapping)
    rows, columns = np.indices(values.shape)
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=-1)
    i, j, k = np.rint(mapping.slice_px_to_ijk(centres)).astype(int).T
    assert np.array_equal(values.ravel(), volume.array[i, j, k])


def test_putting_a_mask_overwrites_its_slice_and_no_other() -> None:
    volume = random_volume()
    mapping = slice_mapping(volume, Plane.ACQUIRED, 2)
    out = np.full(volume.shape_ijk, 9, dtype=np.uint8)
    mask = np.zeros(mapping.shape_hw, dtype=bool)
    mask[3, 5] = True
    put_mask(mask, mapping, out, label=4)
    assert out[5, 3, 2] == 4
    assert out[:, :, 2].sum() == 4
    assert (out[:, :, [0, 1, 3]] == 9).all()


def test_a_mask_of_another_shape_is_refused() -> None:
    volume = random_volume()
    mapping = slice_mapping(volume, Plane.ACQUIRED, 2)
    with pytest.raises(InputError, match=r"shape \(12, 20\); the mapping describes \(20, 12\)"):
        put_mask(np.zeros((12, 20)), mapping, np.zeros(volume.shape_ijk, dtype=np.uint8))
    with pytest.raises(InputError, match=r"volume mask has shape \(2, 2, 2\)"):
        put_mask(np.zeros((20, 12)), mapping, np.zeros((2, 2, 2), dtype=np.uint8))


def test_equal_keys_mean_equal_pixels() -> None:
    volume = random_volume()
    mapping = slice_mapping(volume, Plane.AXIAL, 3)
    keys = {
        slice_image(volume, mapping, WINDOW).key,
        slice_image(volume, mapping, Window(40, 401)).key,
        slice_image(volume, slice_mapping(volume, Plane.AXIAL, 4), WINDOW).key,
        slice_image(volume, slice_mapping(volume, Plane.CORONAL, 3), WINDOW).key,
        slice_image(replace(volume, inverted=True), mapping, WINDOW).key,
        slice_image(replace(volume, key="other"), mapping, WINDOW).key,
    }
    assert len(keys) == 6
    assert slice_image(volume, mapping, Window(40, 400, "named")).key in keys


def test_the_model_image_shows_each_pixel_where_the_mapping_says() -> None:
    """A bright spot in an anisotropic slice, found again by its centre of mass."""
    values = np.zeros((60, 40, 3), dtype=np.int16)
    values[41:44, 9:12, 1] = 1000
    volume = Volume(values, np.diag([1.0, 2.0, 5.0, 1.0]), "CT", "k", Path("image"))
    mapping = slice_mapping(volume, Plane.ACQUIRED, 1, model_size=336)
    square = letterbox(slice_image(volume, mapping, Window(500, 1000)), mapping)
    assert square.shape == (336, 336, 3)
    assert square.dtype == np.uint8
    weights = square[..., 0].astype(float)
    rows, columns = np.indices(weights.shape)
    found = np.array([(columns + 0.5) * weights, (rows + 0.5) * weights]).sum((1, 2))
    expected = mapping.slice_px_to_reasoner_px((42.5, 10.5))
    assert found / weights.sum() == pytest.approx(expected, abs=0.25)


def test_padding_of_the_model_image_is_black() -> None:
    volume = Volume(np.full((30, 60, 1), 200, np.uint8), np.eye(4), "OT", "k", Path("image"))
    mapping = slice_mapping(volume, Plane.ACQUIRED, 0, model_size=120)
    square = letterbox(slice_image(volume, mapping, None), mapping)
    assert (square[:, 30:90] == 200).all()
    assert not square[:, :30].any()
    assert not square[:, 90:].any()


def test_reduction_is_anti_aliased() -> None:
    """Lines of one pixel average to grey instead of turning into a moire of black and white."""
    values = np.zeros((512, 512, 1), dtype=np.uint8)
    values[::2] = 255
    volume = Volume(values, np.eye(4), "OT", "k", Path("image"))
    mapping = slice_mapping(volume, Plane.ACQUIRED, 0, model_size=200)
    square = letterbox(slice_image(volume, mapping, None), mapping)
    assert abs(square[5:-5, 5:-5].astype(float) - 127.5).max() < 12


def test_colour_survives_slicing_and_letterboxing() -> None:
    values = np.zeros((4, 4, 1, 3), dtype=np.uint8)
    values[1, 2, 0] = (200, 100, 50)
    volume = Volume(values, np.eye(4), "OT", "k", Path("image"), is_picture=True)
    mapping = slice_mapping(volume, Plane.ACQUIRED, 0, model_size=4)
    image = slice_image(volume, mapping, None)
    assert image.pixels[2, 1].tolist() == [200, 100, 50]
    assert np.array_equal(letterbox(image, mapping), image.pixels)


def test_letterboxing_another_slice_is_refused() -> None:
    volume = random_volume()
    with pytest.raises(InputError, match="the mapping describes"):
        letterbox(
            SliceImage(np.zeros((3, 3), np.uint8), (1, 1), "k"),
            slice_mapping(volume, Plane.AXIAL, 0),
        )


def test_a_stack_yields_every_slice_once_and_in_order() -> None:
    volume = random_volume()
    stack = SliceStack(volume, Plane.ACQUIRED, WINDOW)
    assert len(stack) == 16
    for index, image in enumerate(stack):
        expected = slice_image(volume, slice_mapping(volume, Plane.ACQUIRED, index), WINDOW)
        assert image.key == expected.key
        assert np.array_equal(image.pixels, expected.pixels)
    assert index == 15
    for outside in (-1, 16):
        with pytest.raises(IndexError, match="slices 0 to 15"):
            stack[outside]
