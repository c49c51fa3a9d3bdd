# SPDX-License-Identifier: Apache-2.0
"""Augmentation moves image, mask, box and points together, and never mirrors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("monai")

from scipy import ndimage

from medreasoner_training.samples import Augmentation, AugmentationSettings, Augmented

SIZE = 112
SEEDS = range(12)


def ell() -> np.ndarray:
    """An L, whose mirror image no rotation of a few degrees gives."""
    mask = np.zeros((SIZE, SIZE), bool)
    mask[30:80, 40:52] = True
    mask[68:80, 40:84] = True
    return mask


def picture(mask: np.ndarray) -> np.ndarray:
    return np.repeat(np.where(mask, 220, 30).astype(np.uint8)[..., None], 3, axis=2)


def draw(seed: int, mask: np.ndarray | None = None, **changes) -> Augmented:
    mask = ell() if mask is None else mask
    settings = replace(AugmentationSettings(), probability=1.0, **changes)
    return Augmentation(settings)(picture(mask), mask, seed)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_box_is_that_of_the_moved_mask_and_the_points_lie_in_it(seed) -> None:
    drawn = draw(seed)
    (rows, columns), = ndimage.find_objects(drawn.mask.astype(int))  # fmt: skip
    assert drawn.truth.bbox_xyxy_px == (columns.start, rows.start, columns.stop, rows.stop)
    assert all(drawn.mask[y, x] for x, y in drawn.truth.points_xy_px)


@pytest.mark.parametrize("seed", SEEDS)
def test_image_and_mask_move_together_and_really_move(seed) -> None:
    drawn = draw(seed)
    assert iou(drawn.image[..., 0] > 120, drawn.mask) > 0.9
    assert iou(drawn.mask, ell()) < 0.999


@pytest.mark.parametrize("seed", SEEDS)
def test_left_stays_left_and_top_stays_top(seed) -> None:
    moved = np.array(ndimage.center_of_mass(draw(seed).mask))
    y1, x1 = (np.flatnonzero(draw(seed).mask.any(axis=axis))[0] for axis in (1, 0))
    # The L's mass lies towards its foot and its stem: bottom left of its box.
    size = np.array([draw(seed).mask.any(axis=axis).sum() for axis in (1, 0)])
    share = (moved - (y1, x1)) / size
    assert share[0] > 0.55
    assert share[1] < 0.45


def test_equal_seeds_draw_equal_images_and_others_do_not() -> None:
    first, again, other = draw(1), draw(1), draw(2)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert (first.image != other.image).any()


def test_grey_stays_grey_and_the_original_is_untouched() -> None:
    mask = ell()
    image = picture(mask)
    drawn = Augmentation()(image, mask, 3)
    assert (drawn.image == drawn.image[..., :1]).all()
    assert drawn.image.dtype == np.uint8
    np.testing.assert_array_equal(image, picture(ell()))


def test_a_target_that_would_leave_the_image_stays() -> None:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:6, :6] = True
    for seed in SEEDS:
        drawn = draw(seed, mask, translate_share=0.5)
        assert drawn.mask.sum() >= 0.7 * mask.sum()


def test_an_absent_target_stays_absent() -> None:
    drawn = draw(1, np.zeros((SIZE, SIZE), bool))
    assert drawn.truth is None
    assert not drawn.mask.any()
