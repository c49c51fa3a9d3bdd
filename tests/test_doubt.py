# SPDX-License-Identifier: Apache-2.0
"""Readings of a slice, what they agree on, and where a propagated mask is to be looked at."""

from __future__ import annotations

import itertools
import json
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from support.bright import BrightReasoner

from medreasoner_infer.doubt import VIEWS, DoubtCalibration, View, doubt_calibration_path
from medreasoner_infer.doubt.looks import Look
from medreasoner_infer.doubt.naming import first_named
from medreasoner_infer.doubt.overlap import mean_with_answer, pairwise_dice
from medreasoner_infer.doubt.volume import (
    MOST_FOLLOWED,
    SliceFigures,
    followed_of,
    near_ends,
    slice_figures,
    weights_of,
)
from medreasoner_infer.errors import CancelledError, ModelUnavailableError
from medreasoner_infer.hooks import Hooks
from medreasoner_infer.imaging import Plane, Volume, Window
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import AskRequest, Click, SliceSelection
from medreasoner_infer.result import Inference
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import Grounding, ModelIdentity, ReasonerAnswer, SliceMask

IDENTITY = ModelIdentity("known", "nowhere", None, "0" * 64, "Apache-2.0")
LEFT = Grounding("The spleen.", (8.0, 16.0, 24.0, 32.0), ((12.0, 20.0), (20.0, 28.0)))
RIGHT = Grounding("The stomach.", (40.0, 16.0, 56.0, 32.0), ((44.0, 20.0), (52.0, 28.0)))
ABSENT = Grounding("The spleen is not here.", None, None)
PUZZLED = Grounding("What is that?", None, None, outcome="not_understood")


class Saying(BrightReasoner):
    """Answers greedily with the first of ``said``, then with the others in turn, then the first."""

    identity, input_size = IDENTITY, 64

    def __init__(self, *said: Grounding) -> None:
        self.said = said

    def _sample(self, request, count, on_text, cancelled):
        given = self.said[1 : 1 + count] if request.temperature > 0 else self.said[:1]
        return tuple(ReasonerAnswer("text", each, 0.5, 3) for each in given)


class Boxes:
    """The mask is the box; it is carried to ``reach`` slices upwards, less sure on each."""

    identity = IDENTITY

    def __init__(self, reach: int = 2) -> None:
        self.reach = reach
        self.propagated = []

    def segment_slice(self, image, prompt):
        mask = np.zeros(image.pixels.shape[:2], dtype=bool)
        if prompt.bbox_xyxy_px is not None:
            x1, y1, x2, y2 = (round(v) for v in prompt.bbox_xyxy_px)
            mask[y1:y2, x1:x2] = True
        for (x, y), label in zip(prompt.points_xy_px, prompt.point_labels, strict=True):
            mask[int(y), int(x)] = label == 1
        return SliceMask(mask, 0.95)

    def propagate(self, frames, start_index, prompt, *, progress=None, cancelled=None):
        self.propagated.append(prompt)
        for index in range(start_index, min(start_index + self.reach + 1, len(frames))):
            mask = self.segment_slice(frames[index], prompt).mask
            yield index, SliceMask(mask, 0.95 - 0.2 * (index - start_index))


@pytest.fixture
def volume():
    """32 x 32 x 10 voxels of 2 x 2 x 5 mm, axes L, P, S; axial slices show I right, J down."""
    values = np.full((32, 32, 10), 100, dtype=np.int16)
    return Volume(values, np.diag([2.0, 2.0, 5.0, 1.0]), "CT", "key", Path("known.nii.gz"))


def asked(volume, *said, propagate=False, segmenter=None, hooks=None, clicks=()):
    made = segmenter or Boxes()
    pipeline = Pipeline(lambda: Saying(*said), lambda: made)
    request = AskRequest(
        "Where?", SliceSelection(index=3), propagate=propagate, samples=len(said), clicks=clicks
    )
    return pipeline.ask(volume, request, hooks or Hooks())


def look(mask, outcome="present", name="spleen") -> Look:
    return Look(outcome, name, None, None, np.array(mask, dtype=bool))


# --- views ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_what_a_reasoner_points_at_in_a_view_lies_where_it_is(view):
    values = np.zeros((60, 40, 1), dtype=np.int16)
    values[20:32, 10:22] = 500
    volume = Volume(values, np.diag([1.0, 1.5, 1.0, 1.0]), "CT", "k", Path("k.nii.gz"))
    reasoner = BrightReasoner()
    window, size = Window(200, 400), reasoner.input_size
    shown = DisplayedSlice.of(volume, Plane.AXIAL, 0, window, model_size=size)
    request = view.request(view.displayed(shown), "Where?", reasoner.image_encoding)
    (answer,) = reasoner.answer(request)
    found = view.in_whole(answer.grounding, size)
    expected = shown.mapping.slice_box_to_reasoner_px((20.0, 10.0, 32.0, 22.0))
    assert found.bbox_xyxy_px == pytest.approx(expected, abs=2.0)
    centre = ((expected[0] + expected[2]) / 2, (expected[1] + expected[3]) / 2)
    assert found.points_xy_px[0] == pytest.approx(centre, abs=2.0)


def test_views_are_pictures_of_their_own_and_none_is_mirrored(volume):
    values = np.random.default_rng(0).normal(100, 80, (32, 32, 1)).astype(np.int16)
    noise = Volume(values, volume.ijk_to_lps, "CT", "noise", Path("noise.nii.gz"))
    shown = DisplayedSlice.of(noise, Plane.AXIAL, 0, Window(100, 400), model_size=64)
    plain = shown.request("Where?", "rgb")
    seen = [view.request(view.displayed(shown), "Where?", "rgb") for view in VIEWS]
    assert len({plain.image_key, *(each.image_key for each in seen)}) == len(VIEWS) + 1
    for each in seen:
        assert (each.image != plain.image).any()
        images = (plain.image, plain.image[:, ::-1], plain.image[::-1])
        likeness = [np.corrcoef(each.image.ravel(), i.ravel())[0, 1] for i in images]
        assert np.argmax(likeness) == 0


def test_a_picture_without_a_window_has_views_of_other_contrast():
    values = np.arange(64, dtype=np.uint8).reshape(8, 8, 1) + 90
    picture = Volume(values, np.eye(4), "OT", "k", Path("k.png"), is_picture=True)
    shown = DisplayedSlice.of(picture, Plane.ACQUIRED, 0, None, model_size=16)
    narrow = View(width=0.5).displayed(shown)
    spread = [int(np.ptp(each.image.pixels)) for each in (shown, narrow)]
    assert spread[1] == pytest.approx(2 * spread[0], abs=1)


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("The question points to the spleen, a bright oval region beside the stomach.", "spleen"),
        ("It asks for the Left Kidney.", "left kidney"),
        ("The hepatic parenchyma is homogeneous.", "liver"),
        ("A bright oval region in the upper left of the image.", None),
        ("", None),
    ],
)
def test_a_reading_is_called_by_the_first_target_that_it_names(text, name):
    assert first_named(text) == name


def test_readings_are_counted_by_what_they_say_and_where(volume):
    doubt = asked(volume, LEFT, LEFT, RIGHT, ABSENT, PUZZLED).doubt
    same = 2 + len(VIEWS)
    assert doubt.readings == 5 + len(VIEWS)
    assert doubt.words == (
        f"{same} of {doubt.readings}: spleen; 1 of {doubt.readings}: stomach, at another place; "
        f"1 of {doubt.readings}: not present; 1 of {doubt.readings}: not understood"
    )


# --- agreement -----------------------------------------------------------------------------------


def test_dice_of_pairs_is_that_of_sets():
    masks = np.random.default_rng(1).random((4, 6, 5)) > 0.6
    dice = pairwise_dice([look(mask) for mask in masks])
    for a, b in itertools.product(range(4), repeat=2):
        first, second = (set(map(tuple, np.argwhere(masks[at]))) for at in (a, b))
        assert dice[a, b] == pytest.approx(2 * len(first & second) / (len(first) + len(second)))
    assert mean_with_answer(dice) == pytest.approx(sum(dice[0, at] for at in (1, 2, 3)) / 3)


def test_readings_without_a_mask_agree_if_they_say_the_same():
    nothing = np.zeros((2, 2))
    looks = [look(nothing, "absent"), look(nothing, "absent"), look(nothing, "not_understood")]
    assert pairwise_dice(looks).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert pairwise_dice([look(nothing, "absent"), look(np.ones((2, 2)))])[0, 1] == 0


def test_one_who_always_says_the_same_agrees_fully(volume):
    result = asked(volume, ABSENT, ABSENT)
    assert result.doubt.agreement == 1.0
    assert not result.readings_ijk.any()


def test_each_pixel_is_counted_by_the_readings_that_hold_it(volume):
    result = asked(volume, LEFT, RIGHT, ABSENT)
    expected = np.zeros((32, 32), dtype=np.uint8)
    expected[4:12, 8:16] = 1  # px of the slice: half of the reasoner's
    expected[20:28, 8:16] = 1
    counts = result.readings_ijk[:, :, 3]
    # The views of a part move the box by less than a pixel, which rounding may show at its edge.
    inner = np.zeros_like(expected, dtype=bool)
    inner[6:10, 10:14] = True
    assert (counts[inner] == 1 + len(VIEWS)).all()
    assert (counts[20:28, 8:16] == 1).all()
    assert not np.delete(result.readings_ijk, 3, axis=2).any()
    assert result.doubt.followed == 0
    assert result.doubt.doubtful_slices == ()


def test_clicks_of_the_reader_are_in_every_reading(volume):
    result = asked(volume, LEFT, ABSENT, clicks=(Click((25.0, 25.0, 3.0)),))
    assert result.readings_ijk[25, 25, 3] == result.doubt.readings


def test_a_single_answer_is_read_once(volume):
    result = asked(volume, LEFT)
    assert result.doubt is None
    assert result.readings_ijk is None


def test_a_doubt_is_kept_in_the_record_and_old_records_have_none(volume):
    result = asked(volume, LEFT, RIGHT, propagate=True)
    values = json.loads(json.dumps(result.to_dict()))
    assert "readings_ijk" not in values
    assert Inference.from_dict(values).doubt == result.doubt
    del values["doubt"]
    assert Inference.from_dict(values).doubt is None


def test_every_piece_of_work_takes_a_turn_after_the_answer_was_told(volume):
    events = []

    @contextmanager
    def take_turn(work):
        events.append(work.value)
        yield None

    hooks = Hooks(take_turn=take_turn, slice_answered=lambda *_: events.append("told"))
    asked(volume, LEFT, RIGHT, hooks=hooks)
    assert events[:4] == ["answer", "answer", "slice", "told"]
    assert events[4] == "search"
    assert set(events[5:]) == {"propagation"}
    events.clear()
    assert asked(volume, LEFT, RIGHT, propagate=True, hooks=hooks).doubt.followed > 1
    assert events.count("slice") == 1


def test_who_leaves_is_not_read_for(volume):
    told = []
    hooks = Hooks(slice_answered=lambda *_: told.append(True), cancelled=lambda: bool(told))
    with pytest.raises(CancelledError):
        asked(volume, LEFT, RIGHT, hooks=hooks)


# --- through the volume --------------------------------------------------------------------------


def test_the_readings_least_like_the_others_are_followed_and_stand_for_those_like_them():
    mask = np.zeros((4, 10))
    answer, near, far, other = (mask.copy() for _ in range(4))
    answer[:, :4], near[:, :5], far[:, 6:], other[2:, 5:] = 1, 1, 1, 1
    looks = [look(m) for m in (answer, near, far, answer, other, mask)]
    dice = pairwise_dice(looks)
    chosen = followed_of(looks, dice)
    assert chosen == [0, 2, 4]
    assert len(chosen) == MOST_FOLLOWED
    assert weights_of(looks, dice, chosen) == [3, 1, 1]


def test_readings_alike_are_followed_once_and_those_without_a_mask_never(volume):
    mask = np.ones((4, 4))
    looks = [look(mask), look(mask), look(mask * 0, "absent")]
    assert followed_of(looks, pairwise_dice(looks)) == [0]
    segmenter = Boxes()
    doubt = asked(volume, ABSENT, RIGHT, propagate=True, segmenter=segmenter).doubt
    assert (doubt.followed, segmenter.propagated) == (0, [])


def test_a_followed_reading_counts_for_those_like_it_on_every_slice(volume):
    result = asked(volume, LEFT, RIGHT, RIGHT, propagate=True)
    assert result.doubt.followed >= 2
    for index in (3, 4, 5):
        assert (result.readings_ijk[22:26, 10:14, index] == 2).all()
        assert (result.readings_ijk[6:10, 10:14, index] == result.doubt.readings - 2).all()
    assert not result.readings_ijk[:, :, 6:].any()
    assert result.mask_ijk[:, :, 3:6].any(axis=(0, 1)).all()


def test_slices_are_found_on_which_readings_differ_the_segmenter_is_unsure_or_the_mask_ends(volume):
    doubt = asked(volume, LEFT, RIGHT, RIGHT, RIGHT, propagate=True).doubt
    reasons = {each.index: each.reason for each in doubt.doubtful_slices}
    told = ["end", "readings", "segmenter", "segmenter", "end"]  # it is less sure on each
    assert [reasons.get(index) for index in (2, 3, 4, 5, 6)] == told
    assert set(reasons) == {2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        (SliceFigures(4, 0.12, 0.25, False), None),
        (SliceFigures(4, 0.12, 0.26, True), "readings"),
        (SliceFigures(4, 0.13, 0.26, True), "segmenter"),
        (SliceFigures(4, 0.0, 0.0, True), "end"),
    ],
)
def test_a_slice_is_doubtful_for_one_reason(figures, reason):
    assert figures.reason == reason


def test_figures_of_slices_are_those_of_the_masks():
    mask = np.zeros((6, 4, 4), dtype=np.uint8)
    mask[1:3, :2] = 1
    counts = mask * np.uint8(4)
    counts[2, 0], counts[4, 0] = 3, 1
    found = {each.index: each for each in slice_figures(mask, counts, 4, 5.0, {1: 0.9, 2: 0.8})}
    # Of a largest section of 8 px: a tenth and a fifth, and a quarter of a row of 4 px.
    assert (found[1].expected_wrong, found[1].differing) == (pytest.approx(0.1), 0.0)
    assert (found[2].expected_wrong, found[2].differing) == (pytest.approx(0.2), 1 / 8)
    assert (found[4].expected_wrong, found[4].differing) == (0.0, 1 / 8)
    assert [index for index in found if found[index].is_end] == [0, 1, 2, 3]
    assert sorted(found) == [0, 1, 2, 3, 4]


def test_an_estimate_weighs_by_the_size_of_the_section():
    mask = np.zeros((3, 10, 10), dtype=np.uint8)
    mask[0], mask[1, :3] = 1, 1  # 100 px, 30 px; the image ends at both
    figures = slice_figures(mask, mask, 1, 5.0, {0: 0.8, 1: 0.8})
    assert [each.expected_wrong for each in figures][:2] == pytest.approx([0.2, 0.06])


def test_readings_of_an_answer_without_a_mask_differ_everywhere():
    counts = np.zeros((2, 4, 4), dtype=np.uint8)
    counts[0, 0] = 1
    (found,) = slice_figures(np.zeros_like(counts), counts, 4, 5.0, {})
    assert found.reason == "readings"


@pytest.mark.parametrize(
    ("areas", "px_per_slice", "near"),
    [
        ([0, 0, 4, 9, 4, 0, 0], 1.0, {1, 2, 4, 5}),
        # A disc of 314 px has a radius of 10: half of it are 5 slices of a pixel, or 2 of 2.5.
        ([0] * 8 + [314] * 3 + [0] * 8, 1.0, {*range(3, 9), *range(10, 16)}),
        ([0] * 8 + [314] * 3 + [0] * 8, 2.5, {6, 7, 8, 10, 11, 12}),
        ([0] * 8 + [314] * 3 + [0] * 8, np.inf, {7, 8, 10, 11}),
        ([9, 9, 0], 1.0, {1, 2}),
        ([9, 9, 9], 1.0, set()),
        ([0, 0, 0], 1.0, set()),
    ],
)
def test_a_mask_that_breaks_off_at_a_large_section_is_doubtful_further_beyond(
    areas, px_per_slice, near
):
    assert near_ends(np.array(areas), px_per_slice) == near


# --- support -------------------------------------------------------------------------------------


def test_readings_and_segmenter_speak_for_a_mask_and_half_as_much_for_none(volume):
    doubt = asked(volume, LEFT, RIGHT).doubt
    assert 0 < doubt.agreement < 1
    assert doubt.support == pytest.approx(0.95 * doubt.agreement, abs=1e-4)  # as it estimates
    assert asked(volume, ABSENT, ABSENT).doubt.support == 0.5
    divided = asked(volume, ABSENT, LEFT).doubt
    assert divided.support == pytest.approx(divided.agreement / 2, abs=1e-4)


def test_nothing_speaks_for_an_answer_to_what_was_not_understood(volume):
    doubt = asked(volume, PUZZLED, PUZZLED).doubt
    assert (doubt.agreement, doubt.support) == (1.0, 0.0)


def test_a_doubt_of_before_there_was_support_is_still_read(volume):
    result = asked(volume, LEFT, RIGHT)
    values = json.loads(json.dumps(result.to_dict()))
    del values["doubt"]["support"]
    assert Inference.from_dict(values).doubt == replace(result.doubt, support=None)


# --- the probability -----------------------------------------------------------------------------


def test_a_probability_is_told_where_a_site_fitted_one_for_both_weights(
    volume, tmp_path, monkeypatch
):
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path))
    assert asked(volume, LEFT, LEFT).doubt.probability is None
    path = doubt_calibration_path("0" * 64, "0" * 64)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(asdict(DoubtCalibration((-1.0, 2.0, 3.0), (-2.0, 1.0), "a test"))))
    doubt = asked(volume, LEFT, RIGHT).doubt
    score = -1 + 2 * doubt.agreement + 3 * 0.95  # the segmenter's own estimate
    assert doubt.probability == pytest.approx(1 / (1 + np.exp(-score)))
    nothing = asked(volume, ABSENT, LEFT).doubt
    assert nothing.probability == pytest.approx(1 / (1 + np.exp(2 - nothing.agreement)))
    path.write_text('{"with_mask": 1}')
    with pytest.raises(ModelUnavailableError, match="fit it anew"):
        asked(volume, LEFT, LEFT)
