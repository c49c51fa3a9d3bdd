# SPDX-License-Identifier: Apache-2.0
"""From the reasoner's square and the reader's clicks to a prompt, on a slice of 40 x 20 px.

The square has 80 px: 2 reasoner px for 1 slice px, and 20 reasoner px of padding above and below.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.errors import PromptError
from medreasoner_infer.imaging import Plane, SliceMapping, Volume, slice_mapping
from medreasoner_infer.prompting import (
    SourcedPrompt,
    add_clicks,
    prompt_from_grounding,
    prompt_from_reader,
    record_prompt,
)
from medreasoner_infer.request import Click
from medreasoner_infer.types import Grounding, SlicePrompt

CUT = "The reasoner's box reached beyond the slice and was cut at its edge."
BESIDE = "The reasoner's box lies beside the slice and was left out."
INSIDE = ((10.0, 30.0), (20.0, 40.0))  # reasoner px: (5, 5) and (10, 10) on the slice


@pytest.fixture
def mapping() -> SliceMapping:
    affine = np.diag([0.5, 0.5, 3.0, 1.0])
    volume = Volume(np.zeros((40, 20, 6), np.int16), affine, "CT", "v", Path("v.nii"))
    return slice_mapping(volume, Plane.AXIAL, 4, model_size=80)


def grounding(box, points=INSIDE) -> Grounding:
    return Grounding("", tuple(map(float, box)), points)


@pytest.mark.parametrize(
    ("box", "on_slice", "warnings"),
    [
        ((20, 30, 60, 50), (10, 5, 30, 15), ()),
        ((0, 20, 80, 60), (0, 0, 40, 20), ()),
        ((-8, 10, 60, 50), (0, 0, 30, 15), (CUT,)),
        ((20, 30, 90, 70), (10, 5, 40, 20), (CUT,)),
        ((20, 19, 60, 50), (10, 0, 30, 15), (CUT,)),
        ((20, 0, 60, 20), None, (BESIDE,)),
        ((20, 60, 60, 80), None, (BESIDE,)),
        ((-9, 30, 0, 50), None, (BESIDE,)),
        ((80, 30, 90, 50), None, (BESIDE,)),
        ((20, 0, 60, 22), (10, 0, 30, 1), (CUT,)),
        ((-8, 30, 2, 50), (0, 5, 1, 15), (CUT,)),
    ],
)
def test_a_box_is_cut_at_the_slice_s_edges_and_left_out_beside_it(
    mapping, box, on_slice, warnings
) -> None:
    found = prompt_from_grounding(grounding(box), (), mapping)
    assert found == SourcedPrompt(
        SlicePrompt(on_slice, ((5.0, 5.0), (10.0, 10.0)), (1, 1)),
        None if on_slice is None else "reasoner",
        ("reasoner", "reasoner"),
        warnings,
    )


@pytest.mark.parametrize(
    ("points", "on_slice"),
    [
        (((0, 20), (80, 60)), ((0, 0), (40, 20))),
        (((-1, 30), (20, 40)), ((10, 10),)),
        (((81, 30), (20, 40)), ((10, 10),)),
        (((10, 19), (20, 40)), ((10, 10),)),
        (((10, 61), (20, 40)), ((10, 10),)),
        (((10, 0), (10, 80)), ()),
        (((1, 21), (0, 21)), ((0.5, 0.5), (0, 0.5))),
    ],
)
def test_key_points_beside_the_slice_are_left_out_and_counted(mapping, points, on_slice) -> None:
    found = prompt_from_grounding(grounding((20, 30, 60, 50), points), (), mapping)
    assert found.prompt == SlicePrompt((10, 5, 30, 15), on_slice, (1,) * len(on_slice))
    assert found.point_sources == ("reasoner",) * len(on_slice)
    left_out = 2 - len(on_slice)
    expected = f"{left_out} key point(s) lie beside the slice and were left out."
    assert found.warnings == ((expected,) if left_out else ())


def test_without_anything_inside_there_is_no_prompt(mapping) -> None:
    absent = Grounding("", None, None)
    outside = Click((3.0, 4.0, 4.0), positive=False)
    beside = grounding((20, 0, 60, 20), ((10.0, 0.0), (10.0, 80.0)))
    assert prompt_from_grounding(absent, (), mapping) is None
    assert prompt_from_grounding(absent, (outside,), mapping) is None
    assert prompt_from_grounding(beside, (outside,), mapping) is None
    clicked = prompt_from_grounding(absent, (outside, Click((5.0, 6.0, 4.0))), mapping)
    # The centre of voxel (5, 6) is (5.5, 6.5) px.
    assert clicked == SourcedPrompt(
        SlicePrompt(None, ((3.5, 4.5), (5.5, 6.5)), (0, 1)), None, ("reader", "reader")
    )


@pytest.mark.parametrize(
    ("box", "fits"),
    [
        ((0, 0, 40, 20), True),
        ((0.5, 0.5, 1, 1), True),
        ((-0.5, 0, 40, 20), False),
        ((0, -0.5, 40, 20), False),
        ((0, 0, 40.5, 20), False),
        ((0, 0, 40, 20.5), False),
        ((7, 0, 7, 20), False),
        ((0, 7, 40, 7), False),
        ((9, 0, 7, 20), False),
    ],
)
def test_a_reader_s_box_fits_the_slice(mapping, box, fits) -> None:
    if fits:
        found = prompt_from_reader(SlicePrompt(box), (), mapping)
        assert found == SourcedPrompt(SlicePrompt(box), "reader", ())
        return
    with pytest.raises(PromptError, match="does not fit the slice of 40 x 20 pixels"):
        prompt_from_reader(SlicePrompt(box), (), mapping)


@pytest.mark.parametrize(
    ("point", "inside"),
    [
        ((0, 0), True),
        ((40, 20), True),
        ((0.5, 0.5), True),
        ((-0.5, 5), False),
        ((5, -0.5), False),
        ((40.5, 5), False),
        ((5, 20.5), False),
    ],
)
def test_a_reader_s_point_lies_on_the_slice(mapping, point, inside) -> None:
    prompt = SlicePrompt(None, (point,), (1,))
    if inside:
        found = prompt_from_reader(prompt, (), mapping)
        assert found == SourcedPrompt(prompt, None, ("reader",))
        return
    with pytest.raises(PromptError, match="lies outside the slice of 40 x 20 pixels"):
        prompt_from_reader(prompt, (), mapping)


def test_clicks_alone_are_a_reader_s_prompt(mapping) -> None:
    found = prompt_from_reader(None, (Click((0.0, 0.0, 4.4)),), mapping)
    assert found == SourcedPrompt(SlicePrompt(None, ((0.5, 0.5),), (1,)), None, ("reader",))


@pytest.mark.parametrize("k", [3.4, 4.6])
def test_a_click_lies_on_the_slice_that_is_nearest(mapping, k) -> None:
    with pytest.raises(PromptError, match=f"on slice {round(k)}, the question is about slice 4"):
        add_clicks(SourcedPrompt(SlicePrompt(None), None, ()), (Click((1.0, 1.0, k)),), mapping)


def test_a_click_beside_the_slice_is_refused(mapping) -> None:
    with pytest.raises(PromptError, match=r"point \(40.5, 1.5\) lies outside"):
        add_clicks(SourcedPrompt(SlicePrompt(None), None, ()), (Click((40.0, 1.0, 4.0)),), mapping)


def test_clicks_follow_what_is_there_and_keep_its_warnings(mapping) -> None:
    start = SourcedPrompt(
        SlicePrompt((1, 1, 5, 5), ((2, 2),), (1,)), "reasoner", ("reasoner",), ("w",)
    )
    assert add_clicks(start, (), mapping) is start
    clicks = (Click((9.0, 8.0, 4.0), positive=False),)
    assert add_clicks(start, clicks, mapping) == SourcedPrompt(
        SlicePrompt((1, 1, 5, 5), ((2, 2), (9.5, 8.5)), (1, 0)),
        "reasoner",
        ("reasoner", "reader"),
        ("w",),
    )


def test_a_prompt_is_recorded_in_pixels_voxels_and_millimetres(mapping) -> None:
    sourced = SourcedPrompt(
        SlicePrompt((0, 2, 4, 20), ((1.5, 3.5),), (1,)), "reader", ("reasoner",)
    )
    record = record_prompt(sourced, mapping)
    assert record.bbox_xyxy_slice_px == (0, 2, 4, 20)
    assert record.bbox_corners_ijk == ((-0.5, 1.5, 4.0), (3.5, 19.5, 4.0))
    assert record.bbox_corners_lps_mm == ((-0.25, 0.75, 12.0), (1.75, 9.75, 12.0))
    assert record.points_ijk == ((1.0, 3.0, 4.0),)
    assert record.points_lps_mm == ((0.5, 1.5, 12.0),)
    assert (record.bbox_source, record.point_sources) == ("reader", ("reasoner",))


def test_a_prompt_without_a_box_or_without_points_is_recorded_so(mapping) -> None:
    record = record_prompt(SourcedPrompt(SlicePrompt((0, 2, 4, 20)), "reader", ()), mapping)
    assert (record.points_ijk, record.points_lps_mm) == ((), ())
    record = record_prompt(
        SourcedPrompt(SlicePrompt(None, ((1, 1),), (1,)), None, ("reader",)), mapping
    )
    assert (record.bbox_corners_ijk, record.bbox_corners_lps_mm) == (None, None)
