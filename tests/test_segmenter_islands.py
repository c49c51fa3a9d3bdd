# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from medreasoner_infer.segmenters.islands import without_islands
from medreasoner_infer.types import SlicePrompt

POINT = SlicePrompt(None, ((2.5, 2.5),), (1,))


def logits(**parts: float) -> np.ndarray:
    """Three separate squares on a negative slice: ``left``, ``right`` and the larger ``below``."""
    field = np.full((12, 12), -3.0)
    boxes = {"left": np.s_[1:4, 1:4], "right": np.s_[1:4, 8:11], "below": np.s_[6:11, 2:10]}
    for name, value in parts.items():
        field[boxes[name]] = value
    return field


def test_unsure_part_without_a_point_is_left_out():
    field = logits(left=4.0, right=1.0)
    assert without_islands(field, POINT, 0.3).nonzero()[1].max() == 3


def test_part_as_sure_as_the_target_belongs_to_it():
    field = logits(left=4.0, right=2.0)
    np.testing.assert_array_equal(without_islands(field, POINT, 0.3), field > 0)


def test_part_with_a_point_stays_however_unsure_it_is():
    both = SlicePrompt(None, ((2.5, 2.5), (9.0, 2.0)), (1, 1))
    field = logits(left=4.0, right=0.1)
    np.testing.assert_array_equal(without_islands(field, both, 0.3), field > 0)


def test_negative_point_does_not_keep_a_part():
    clicks = SlicePrompt(None, ((2.5, 2.5), (9.0, 2.0)), (1, 0))
    assert without_islands(logits(left=4.0, right=1.0), clicks, 0.3).sum() == 9


@pytest.mark.parametrize("points", [(), ((6.0, 5.0),)])
def test_largest_part_is_the_target_where_no_point_lies_in_one(points):
    prompt = SlicePrompt((0.0, 0.0, 12.0, 12.0), points, (1,) * len(points))
    mask = without_islands(logits(left=1.0, below=4.0), prompt, 0.3)
    assert mask[8, 5]
    assert not mask[2, 2]


def test_point_on_the_far_border_is_inside_the_slice():
    field = np.full((4, 4), 1.0)
    edge = SlicePrompt(None, ((4.0, 4.0),), (1,))
    assert without_islands(field, edge, 0.3).all()


def test_ratio_of_zero_keeps_every_part():
    field = logits(left=4.0, right=0.01)
    np.testing.assert_array_equal(without_islands(field, POINT, 0.0), field > 0)
