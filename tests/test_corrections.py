# SPDX-License-Identifier: Apache-2.0
"""Clicks on a mask never do more than they say, whatever the segmenter answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from medreasoner_infer.corrections import Correction, within_contour
from medreasoner_infer.errors import InputError, PromptError
from medreasoner_infer.imaging import Volume
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import AskRequest, Click, SegmentRequest, SliceSelection
from medreasoner_infer.segmenters.crop import check_prompt
from medreasoner_infer.types import (
    ModelIdentity,
    PromptSources,
    SliceImage,
    SliceMask,
    SlicePrompt,
)

SHAPE_HW = (12, 15)
WHOLE = (0.0, 0.0, 15.0, 12.0)
masks = hnp.arrays(bool, SHAPE_HW)
blobs = masks.map(lambda mask: ndimage.binary_opening(ndimage.binary_dilation(mask)))
pixels = st.tuples(st.integers(0, SHAPE_HW[0] - 1), st.integers(0, SHAPE_HW[1] - 1))
spacings = st.sampled_from([(1.0, 1.0), (0.5, 2.0), (3.0, 0.7)])


def image(spacing_xy_mm=(1.0, 1.0)) -> SliceImage:
    return SliceImage(np.zeros(SHAPE_HW, np.uint8), spacing_xy_mm, "slice")


def click(at, inside, box=WHOLE, earlier=()) -> SlicePrompt:
    """A prompt whose last point is the centre of the pixel (row, column)."""
    points = [(column + 0.5, row + 0.5) for (row, column), _ in (*earlier, (at, inside))]
    labels = tuple(int(label) for _, label in (*earlier, (at, inside)))
    return SlicePrompt(box, tuple(points), labels)


def saying(*answers):
    """A segmenter that gives these masks in turn, again and again; it notes what it was told."""
    told = []

    def segment(shown, prompt):
        check_prompt(shown, prompt)
        told.append(prompt)
        return SliceMask(answers[(len(told) - 1) % len(answers)], 0.8)

    segment.told = told
    return segment


def part_of(mask, at):
    """The part of a mask around a pixel, by flooding from it: written apart from the library."""
    part, edge = set(), [at] if mask[at] else []
    while edge:
        row, column = edge.pop()
        part.add((row, column))
        around = [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        edge += [
            (r, c) for r, c in around
            if 0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and mask[r, c]
            and (r, c) not in part and (r, c) not in edge
        ]  # fmt: skip
    return part


@given(masks, masks, masks, pixels, st.booleans(), spacings)
def test_a_click_changes_its_place_in_one_direction_and_in_one_part(
    last, joined, with_mask, at, inside, spacing
) -> None:
    segment = saying(joined, with_mask)
    result = Correction(click(at, inside), 1, last).apply(segment, image(spacing)).mask
    assert result[at] == inside
    changed = result != last
    assert (result[changed] == inside).all()
    assert set(map(tuple, np.argwhere(changed))) == part_of(changed, at)


@given(masks, masks, masks, pixels, st.booleans())
def test_a_click_on_what_is_so_already_changes_nothing_and_asks_nobody(
    last, joined, with_mask, at, inside
) -> None:
    last[at] = inside
    segment = saying(joined, with_mask)
    answer = Correction(click(at, inside), 1, last).apply(segment, image())
    np.testing.assert_array_equal(answer.mask, last)
    assert segment.told == []


@given(blobs, masks, masks, st.lists(st.tuples(pixels, st.booleans()), min_size=2, max_size=4))
def test_several_clicks_are_as_one_after_the_other(last, joined, with_mask, clicks) -> None:
    def answering(shown, prompt):
        return SliceMask(joined if prompt.last_mask is None else with_mask, 0.8)

    at, inside = clicks[-1]
    prompt = click(at, inside, earlier=tuple(clicks[:-1]))
    together = Correction(prompt, len(clicks), last).apply(answering, image()).mask
    step = last
    for count in range(1, len(clicks) + 1):
        shown = SlicePrompt(WHOLE, prompt.points_xy_px[:count], prompt.point_labels[:count])
        step = Correction(shown, 1, step).apply(answering, image()).mask
    np.testing.assert_array_equal(together, step)
    assert together[at] == inside


# An L of 4 columns by 5 rows, without its upper right 2 by 3; and its pixels (row, column).
L_XY_PX = ((2.0, 3.0), (4.0, 3.0), (4.0, 6.0), (6.0, 6.0), (6.0, 8.0), (2.0, 8.0))
L_PIXELS = {(row, column) for row in range(3, 8) for column in range(2, 6 if row > 5 else 4)}


@given(masks, st.booleans())
def test_a_lasso_changes_all_that_lies_within_and_nothing_else_and_asks_nobody(
    last, inside
) -> None:
    segment = saying(~last)
    prompt = click((4, 3), inside)
    answer = Correction(prompt, 1, last, (L_XY_PX,)).apply(segment, image((0.5, 2.0)))
    expected = last.copy()
    for pixel in L_PIXELS:
        expected[pixel] = inside
    np.testing.assert_array_equal(answer.mask, expected)
    assert segment.told == []


def test_a_lasso_beyond_the_slice_is_cut_and_one_that_crosses_itself_is_what_it_goes_around() -> (
    None
):
    beyond = ((-5.0, -5.0), (2.0, -5.0), (2.0, 1.0), (-5.0, 1.0))
    assert np.argwhere(within_contour(beyond, SHAPE_HW)).tolist() == [[0, 0], [0, 1]]
    hourglass = ((0.0, 0.0), (8.0, 0.0), (0.0, 8.0), (8.0, 8.0))
    within = within_contour(hourglass, SHAPE_HW)
    assert within[1, 4]
    assert within[6, 4]
    assert not within[4, 1]
    assert not within[4, 7]


@given(blobs, masks, masks, st.lists(st.tuples(pixels, st.booleans()), min_size=1, max_size=3))
def test_clicks_behind_a_lasso_are_clicks_on_what_it_left(last, joined, with_mask, clicks) -> None:
    def answering(shown, prompt):
        return SliceMask(joined if prompt.last_mask is None else with_mask, 0.8)

    at, inside = clicks[-1]
    earlier = (((4, 3), True), *clicks[:-1])
    prompt = click(at, inside, earlier=earlier)
    contours = (L_XY_PX, *((),) * len(clicks))
    together = Correction(prompt, len(contours), last, contours).apply(answering, image()).mask
    lassoed = last | within_contour(L_XY_PX, SHAPE_HW)
    apart = Correction(prompt, len(clicks), lassoed).apply(answering, image()).mask
    np.testing.assert_array_equal(together, apart)


@given(blobs, masks, masks, pixels)
def test_what_lies_far_from_a_click_outside_stays_as_the_reader_has_drawn_it(
    last, joined, with_mask, at
) -> None:
    result = Correction(click(at, False), 1, last).apply(saying(joined, with_mask), image()).mask
    row, column = np.indices(SHAPE_HW)
    away = np.hypot(row - at[0], column - at[1])
    # A reach is at most half the radius of a disc as large as the mask; five of them are the bound.
    reach = max(1.0, 0.5 * np.sqrt(last.sum() / np.pi))
    assert (result == last)[away >= 5 * reach].all()


def test_a_segmenter_that_answers_everything_leaks_no_farther_than_the_bound() -> None:
    last = np.zeros((100, 100), bool)
    last[40:60, 40:60] = True
    everywhere = np.ones((100, 100), bool)
    shown = SliceImage(np.zeros((100, 100), np.uint8), (1.0, 1.0), "large")
    prompt = SlicePrompt((40.0, 40.0, 60.0, 60.0), ((62.5, 50.5),), (1,))
    result = Correction(prompt, 1, last).apply(saying(everywhere), shown).mask
    assert last.sum() < result.sum() < 1.6 * last.sum()


def test_a_segmenter_that_answers_nothing_leaves_of_the_mask_what_was_not_clicked_on() -> None:
    last = np.zeros(SHAPE_HW, bool)
    last[2:9, 3:10] = True
    nothing = np.zeros(SHAPE_HW, bool)
    result = Correction(click((5, 6), False), 1, last).apply(saying(nothing), image()).mask
    assert not result[5, 6]
    assert result.sum() > last.sum() / 2


def test_the_model_is_told_all_points_and_the_last_mask_and_a_box_around_all_of_it() -> None:
    last = np.zeros(SHAPE_HW, bool)
    last[2:9, 3:10] = True
    segment = saying(last, last)
    prompt = click((4, 12), True, box=(4.0, 1.0, 8.0, 7.0), earlier=(((3, 4), True),))
    Correction(prompt, 1, last).apply(segment, image())
    without, with_mask = segment.told
    assert without.bbox_xyxy_px == with_mask.bbox_xyxy_px == (3.0, 1.0, 12.5, 9.0)
    assert without.points_xy_px == with_mask.points_xy_px == ((4.5, 3.5), (12.5, 4.5))
    assert without.last_mask is None
    np.testing.assert_array_equal(with_mask.last_mask, last)


def test_an_empty_mask_becomes_what_the_segmenter_finds_around_a_click_inside() -> None:
    found = np.zeros(SHAPE_HW, bool)
    found[2:5, 2:6] = found[9:11, 9:12] = True
    last = np.zeros(SHAPE_HW, bool)
    result = Correction(click((3, 3), True, box=None), 1, last).apply(saying(found), image()).mask
    assert set(map(tuple, np.argwhere(result))) == part_of(found, (3, 3))


def test_a_mask_of_another_slice_is_refused() -> None:
    prompt = SlicePrompt(WHOLE, last_mask=np.zeros((3, 4), bool))
    with pytest.raises(PromptError, match=r"last mask has shape \(3, 4\)"):
        check_prompt(image(), prompt)


# --- through the pipeline ------------------------------------------------------------------------


class FillingSegmenter:
    """Says that all is target, knows no mask prompt, and follows a mask one slice up and down."""

    identity = ModelIdentity("filling", "nowhere", None, "0" * 64, "Apache-2.0")

    def segment_slice(self, shown, prompt):
        return SliceMask(np.ones(shown.shape_hw, bool), 0.75)

    def propagate_mask(self, frames, start_index, mask, *, progress=None, cancelled=None):
        for done, index in enumerate((start_index, start_index + 1, start_index - 1), start=1):
            yield index, mask
            progress(done, 3)


@pytest.fixture
def volume() -> Volume:
    return Volume(
        np.full((20, 18, 7), 100, np.int16), np.diag([1.0, 1.0, 4.0, 1.0]), "CT", "v", Path("v")
    )


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(lambda: None, FillingSegmenter)


@pytest.fixture
def last_ijk() -> np.ndarray:
    """On the slices 2 to 4."""
    mask = np.zeros((20, 18, 7), np.uint8)
    mask[5:12, 4:11, 2:5] = 1
    return mask


EARLIER = SlicePrompt((5.0, 4.0, 12.0, 11.0), ((8.0, 7.0),), (1,))
SOURCES = PromptSources("reasoner", ("reasoner",))


def correct(last_ijk, *clicks, propagate=False) -> SegmentRequest:
    return SegmentRequest(SliceSelection("axial", 3), EARLIER, clicks, propagate, SOURCES, last_ijk)


def test_a_correction_changes_its_slice_of_a_propagated_mask_and_no_other(
    pipeline, volume, last_ijk
) -> None:
    result = pipeline.segment(volume, correct(last_ijk, Click((12.0, 7.0, 3.0))))
    changed = result.mask_ijk != last_ijk
    assert np.unique(np.nonzero(changed)[2]).tolist() == [3]
    assert (result.mask_ijk[12, 7, 3], result.mask_ijk[changed].all()) == (1, True)
    assert result.mask.slice_range == (2, 4)
    assert last_ijk[12, 7, 3] == 0


def test_the_record_says_who_set_what(pipeline, volume, last_ijk) -> None:
    clicks = (Click((12.0, 7.0, 3.0)), Click((5.0, 4.0, 3.0), positive=False))
    prompts = pipeline.segment(volume, correct(last_ijk, *clicks)).prompts
    assert prompts.bbox_source == "reasoner"
    assert prompts.point_sources == ("reasoner", "reader", "reader")
    assert prompts.point_labels == (1, 1, 0)


def test_a_click_outside_alone_is_a_correction(pipeline, volume, last_ijk) -> None:
    request = SegmentRequest(
        SliceSelection("axial", 3), clicks=(Click((5.0, 4.0, 3.0), False),), last_mask_ijk=last_ijk
    )
    result = pipeline.segment(volume, request)
    assert result.mask_ijk[5, 4, 3] == 0
    assert not (result.mask_ijk > last_ijk).any()


def test_a_corrected_slice_is_what_is_propagated(pipeline, volume, last_ijk) -> None:
    request = correct(last_ijk, Click((5.0, 4.0, 3.0), positive=False), propagate=True)
    result = pipeline.segment(volume, request)
    assert result.propagated
    assert result.mask_ijk[5, 4, 3] == 0
    for index in (2, 4):
        np.testing.assert_array_equal(result.mask_ijk[..., index], result.mask_ijk[..., 3])
    assert not result.mask_ijk[..., [0, 1, 5, 6]].any()


def test_without_a_new_click_the_mask_is_as_it_was(pipeline, volume, last_ijk) -> None:
    np.testing.assert_array_equal(pipeline.segment(volume, correct(last_ijk)).mask_ijk, last_ijk)


def test_the_mask_of_another_image_is_refused(pipeline, volume) -> None:
    with pytest.raises(InputError, match=r"shape \(3, 3, 3\)"):
        pipeline.segment(volume, correct(np.zeros((3, 3, 3), bool)))


def test_a_contour_without_a_mask_to_correct_is_refused() -> None:
    contour = ((0.0, 0.0, 1.0), (3.0, 0.0, 1.0), (0.0, 3.0, 1.0))
    lasso = Click((1.0, 1.0, 1.0), True, contour)
    with pytest.raises(PromptError, match="send the last one"):
        SegmentRequest(clicks=(lasso,))
    with pytest.raises(PromptError, match="a question has none"):
        AskRequest("Where?", clicks=(lasso,))
    for count in (1, 2, 513):
        with pytest.raises(PromptError, match=f"{count} points; expected 3 to 512"):
            Click((1.0, 1.0, 1.0), True, contour[:1] * count)
