# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from medreasoner_infer.agreement import box_iou


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 4, 4), (6, 6, 8, 8), 0.0),
        ((0, 0, 10, 10), (2, 2, 7, 6), 0.2),
    ],
)
def test_box_iou_of_known_boxes(a, b, expected):
    assert box_iou(a, b) == pytest.approx(expected)
