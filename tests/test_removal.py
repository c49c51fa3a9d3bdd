# SPDX-License-Identifier: Apache-2.0
"""Asked again without what an answer points to: what is filled, what is said, what is counted."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.checks import Checks
from medreasoner_infer.checks.removal import (
    Taken,
    answer_goes,
    compared,
    elsewhere,
    emptied,
    filled,
    greyed,
    pointed_at,
)
from medreasoner_infer.errors import InputError
from medreasoner_infer.hooks import Hooks
from medreasoner_infer.imaging import Plane, Volume
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.request import AskRequest, SliceSelection
from medreasoner_infer.result import Inference
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import (
    EarlierTarget,
    Grounding,
    ModelIdentity,
    ReasonerAnswer,
    SliceMask,
)

IDENTITY = ModelIdentity("known", "nowhere", None, "0" * 64, "Apache-2.0")
SIDE = 64
ABSENT = Grounding("It is not here.", None, None)
SEEN_BOX = (16.0, 16.0, 32.0, 32.0)
SEEN = Grounding("A bright square.", SEEN_BOX, ((20.0, 20.0), (28.0, 28.0)))


class SeesBright(Reasoner):
    """Points at the bright square where it sees one; a blind one points there all the same."""

    identity, input_size, image_encoding = IDENTITY, SIDE, "rgb"

    def __init__(self, is_blind=False):
        self.is_blind = is_blind
        self.asked = []

    def _sample(self, request, count, on_text, cancelled):
        self.asked.append(request)
        bright = request.image[16:32, 16:32].mean() > 200
        return (ReasonerAnswer("text", SEEN if bright or self.is_blind else ABSENT, 0.5, 3),)


class BoxSegmenter:
    identity = IDENTITY

    def segment_slice(self, image, prompt):
        mask = np.zeros(image.pixels.shape[:2], bool)
        x1, y1, x2, y2 = map(int, prompt.bbox_xyxy_px)
        mask[y1:y2, x1:x2] = True
        return SliceMask(mask, 0.9)


@pytest.fixture
def volume() -> Volume:
    """64 x 64 px of 1 mm in one slice: a bright square in grey."""
    values = np.full((SIDE, SIDE, 1), 90, np.uint8)
    values[16:32, 16:32] = 250
    return Volume(values, np.eye(4), "OT", "square", Path("square.png"), is_picture=True)


def asked(volume, reasoner, hooks=None, **request):
    pipeline = Pipeline(lambda: reasoner, BoxSegmenter)
    request = AskRequest("Where is the square?", SliceSelection(index=0), **request)
    return pipeline.ask(volume, request, *([hooks] if hooks else []))


def test_an_answer_that_reads_the_image_goes_with_the_region(volume) -> None:
    reasoner = SeesBright()
    result = asked(volume, reasoner, removal_test=True)
    removal = result.checks.removal
    assert (removal.depends, removal.outcome, removal.bbox_iou) == (True, "absent", None)
    assert removal.removed_px >= 16 * 16
    assert "depends on what is there" in removal.explanation
    first, second = reasoner.asked
    assert first.query == second.query
    assert first.image_key != second.image_key  # engines keep what they computed of an image
    assert result.reasoning == "A bright square."
    assert "removal_test" in result.timings_s
    assert Inference.from_dict(result.record().to_dict()) == result.record()


def test_an_answer_that_stays_is_said_not_to_depend_on_it(volume) -> None:
    reasoner = SeesBright(is_blind=True)
    removal = asked(volume, reasoner, removal_test=True).checks.removal
    assert (removal.depends, removal.outcome, removal.bbox_iou) == (False, "present", 1.0)
    assert "does not depend on what is there" in removal.explanation
    assert "answers by position" in removal.explanation
    assert len(reasoner.asked) == 1 + 4  # as it is, and without the region in four ways
    assert len({request.image_key for request in reasoner.asked}) == 5


class SeesGrey(SeesBright):
    """Points to the square wherever it is not black: what surrounds it is as good."""

    def _sample(self, request, count, on_text, cancelled):
        self.asked.append(request)
        found = SEEN if request.image[16:32, 16:32].mean() > 60 else ABSENT
        return (ReasonerAnswer("text", found, 0.5, 3),)


def test_an_answer_that_takes_the_filling_for_the_target_goes_when_it_is_emptied() -> None:
    values = np.full((SIDE, SIDE, 1), 90, np.uint8)
    values[:, :8] = 0  # the slice's darkest
    values[16:32, 16:32] = 250
    square = Volume(values, np.eye(4), "OT", "square", Path("square.png"), is_picture=True)
    removal = asked(square, SeesGrey(), removal_test=True).checks.removal
    assert (removal.depends, removal.how, removal.outcome) == (True, "emptied", "absent")
    assert removal.explanation == (
        "The answer depends on what is there: with the region emptied, the model says that the "
        "target is not there."
    )


class SeesDark(SeesBright):
    """Points to a dark square: emptying it is no removal."""

    def _sample(self, request, count, on_text, cancelled):
        self.asked.append(request)
        found = SEEN if request.image[16:32, 16:32].mean() < 60 else ABSENT
        return (ReasonerAnswer("text", found, 0.5, 3),)


def test_a_dark_target_is_gone_though_it_is_no_darker_when_it_is_emptied() -> None:
    values = np.full((SIDE, SIDE, 1), 150, np.uint8)
    values[16:32, 16:32] = 5
    dark = Volume(values, np.eye(4), "OT", "dark", Path("dark.png"), is_picture=True)
    removal = asked(dark, SeesDark(), removal_test=True).checks.removal
    assert (removal.depends, removal.outcome) == (True, "absent")


def moved_by(px: float) -> Grounding:
    x1, y1, x2, y2 = SEEN_BOX
    return Grounding(
        "A square.", (x1 + px, y1, x2 + px, y2), ((20.0 + px, 20.0), (28.0 + px, 28.0))
    )


@pytest.mark.parametrize(
    ("moves_px", "goes"),
    [
        ((0, 0, 0, 0), False),
        ((1, 1, 1, 1), False),  # IoU 15 / 17 each
        ((2, 2, 2, 2), False),  # 14 / 18
        ((3, 3, 3, 3), True),  # 13 / 19
        ((0, 0, 0, None), True),  # gone in one way
        ((0, 2, 4, 6), True),  # 1, 14 / 18, 12 / 20, 10 / 22
        ((0, 0, 0, 8), False),  # 8 / 24 once, and never else
    ],
)
def test_an_answer_goes_as_its_box_moves_over_all_ways(moves_px, goes) -> None:
    replies = [ABSENT if px is None else moved_by(px) for px in moves_px]
    assert answer_goes(SEEN, replies, 4) == goes


def test_what_goes_already_goes_whatever_the_other_ways_would_say() -> None:
    assert answer_goes(SEEN, [ABSENT], 4)
    assert not answer_goes(SEEN, [moved_by(3)], 4)
    assert not answer_goes(SEEN, [], 4)


def test_what_is_told_is_the_answer_that_differs_most() -> None:
    ways = [Taken(how, np.ones((2, size), bool)) for size, how in
            enumerate(("filled", "emptied", "greyed", "greyed"), 1)]  # fmt: skip
    found = compared(SEEN, [moved_by(3), moved_by(4), moved_by(3), moved_by(3)], ways)
    assert (found.depends, found.how, found.removed_px) == (True, "emptied", 4)
    assert found.bbox_iou == pytest.approx(12 / 20)
    assert found.explanation == (
        "The answer depends on what is there: with the region emptied, the box moves more than it "
        "does without another region."
    )
    found = compared(SEEN, [moved_by(3), moved_by(4), moved_by(40), moved_by(3)], ways)
    assert (found.how, found.bbox_iou) == ("greyed", 0.0)
    assert found.explanation.endswith("with the region greyed, the model points to another place.")


@pytest.mark.parametrize("colours", [(), (3,)])
def test_what_is_greyed_has_the_median_of_what_is_shown(colours) -> None:
    pixels = np.full((SIDE, SIDE, *colours), 120, np.uint8)
    pixels[:, :40] = 0  # air, more than half of the slice
    pixels[:5, 40:] = 250
    region = np.zeros((SIDE, SIDE), bool)
    region[20:40, 20:40] = True
    made = greyed(pixels, region)
    np.testing.assert_array_equal(made[~region], pixels[~region])
    assert abs(made[region].mean() - 120) < 2
    np.testing.assert_array_equal(greyed(pixels, region), made)
    air = np.zeros((SIDE, SIDE, *colours), np.uint8)
    assert greyed(air, region).max() < 40


@pytest.mark.parametrize("colours", [(), (3,)])
def test_what_is_emptied_is_as_dark_as_the_darkest_and_nothing_else_changes(colours) -> None:
    pixels = np.full((SIDE, SIDE, *colours), 120, np.uint8)
    pixels[:, :10] = 7
    region = np.zeros((SIDE, SIDE), bool)
    region[20:40, 20:40] = True
    made = emptied(pixels, region)
    np.testing.assert_array_equal(made[~region], pixels[~region])
    assert abs(made[region].mean() - 7) < 2
    assert made[region].max() < 40
    np.testing.assert_array_equal(emptied(pixels, region), made)


def test_the_test_is_made_only_if_it_is_asked_for_and_takes_a_turn_of_its_own(volume) -> None:
    turns = []
    hooks = Hooks(take_turn=lambda work: nullcontext(turns.append(work.value)))
    reasoner = SeesBright()
    assert asked(volume, reasoner, hooks).checks.removal is None
    assert turns.count("answer") == len(reasoner.asked) == 1
    turns.clear()
    asked(volume, reasoner, hooks, removal_test=True)
    assert turns.count("answer") == 2


def test_an_answer_that_points_nowhere_is_not_asked_again(volume) -> None:
    reasoner = SeesBright()
    dark = Volume(
        np.full((SIDE, SIDE, 1), 90, np.uint8), np.eye(4), "OT", "dark", Path("d"), is_picture=True
    )
    assert asked(dark, reasoner, removal_test=True).checks.removal is None
    assert len(reasoner.asked) == 1


@pytest.mark.parametrize("colours", [(), (3,)])
def test_what_is_filled_looks_like_what_surrounds_it(colours) -> None:
    """A bright disc on a ramp from 40 to 168 with grain: gone, and nothing else has changed."""
    rng = np.random.default_rng(3)
    ramp = np.linspace(40, 168, SIDE)[None, :] + rng.normal(0, 4, (SIDE, SIDE))
    rows, columns = np.ogrid[:SIDE, :SIDE]
    disc = np.hypot(rows - 30, columns - 30) <= 8
    pixels = np.where(disc, 250, ramp).astype(np.uint8)
    pixels = np.broadcast_to(pixels.reshape(*pixels.shape, *(1 for _ in colours)),
                             (SIDE, SIDE, *colours)).copy()  # fmt: skip
    ways = {taken.how: taken.region_hw for taken in pointed_at(disc, (22, 22, 44, 39))}
    region = ways["filled"]
    assert region[disc].all()
    assert not region[25:38, 43].any()  # of the box, beside the mask
    for wider in (ways["emptied"], ways["greyed"]):
        assert wider[region].all()
        assert wider[25:38, 43].all()
    made = filled(pixels, region)
    np.testing.assert_array_equal(made[~region], pixels[~region])
    inside = made[region].reshape(region.sum(), -1)[:, 0].astype(float)
    assert abs(inside.mean() - ramp[region].mean()) < 10
    assert 1 < (inside - np.broadcast_to(ramp, region.shape)[region]).std() < 15
    np.testing.assert_array_equal(filled(pixels, region), made)


def test_a_region_elsewhere_is_as_large_and_overlaps_nothing() -> None:
    region = np.zeros((SIDE, SIDE), bool)
    region[10:20, 12:30] = True
    content = np.ones_like(region)
    content[:, 40:] = False
    for seed in range(20):
        right, down = elsewhere(region, content, seed)
        moved = np.zeros_like(region)
        moved[10 + down : 20 + down, 12 + right : 30 + right] = True
        assert moved.sum() == region.sum()
        assert not (moved & region).any()
        assert content[moved].mean() >= 0.5
    assert elsewhere(np.ones_like(region), content, 0) is None


def test_without_a_mask_the_box_is_what_is_pointed_at() -> None:
    for taken in pointed_at(np.zeros((SIDE, SIDE), bool), SEEN_BOX):
        assert taken.region_hw[24, 24]
        assert not taken.region_hw[10, 10]


def test_known_targets_of_another_image_are_refused(volume) -> None:
    beyond = EarlierTarget("liver", "acquired", 5, None)
    with pytest.raises(InputError, match="Slice 5"):
        asked(volume, SeesBright(), known=(beyond,))
    with pytest.raises(InputError, match="at most 32"):
        AskRequest("Where?", known=(beyond,) * 33)


def test_statements_are_checked_with_every_answer(volume) -> None:
    checks = asked(volume, SeesBright()).checks
    (bright,) = checks.statements
    assert (bright.claim, bright.verdict) == ("bright", "holds")


def test_faithfulness_tells_a_blind_model_from_one_that_reads(volume) -> None:
    from medreasoner_training.evaluation.faithfulness import CheckedAnswer, faithfulness_of

    def answers():
        for number, (at, patient) in enumerate((((16, 16), "a"), ((40, 40), "b"))):
            values = np.full((SIDE, SIDE, 1), 90, np.uint8)
            values[at[0] : at[0] + 16, at[1] : at[1] + 16] = 250
            image = Volume(values, np.eye(4), "OT", f"{number}", Path("x"), is_picture=True)
            shown = DisplayedSlice.of(image, Plane.ACQUIRED, 0, None, model_size=SIDE)
            mask = values[:, :, 0].T > 200
            yield CheckedAnswer(shown, "Where?", SEEN, mask, Checks(()), number == 0, patient, "OT")

    for is_blind, flips, same in ((False, 1, 0), (True, 0, 1)):
        found = faithfulness_of(SeesBright(is_blind), list(answers()))
        assert (found.answers, found.removal_flips.n) == (2, 1)
        assert found.removal_flips.share == flips
        assert found.elsewhere_flips.share == 0
        assert (found.removal_gone.share, found.elsewhere_gone.share) == (flips, 0)
        assert found.shuffled_same_box.share == found.shuffled_same_trace.share == same
