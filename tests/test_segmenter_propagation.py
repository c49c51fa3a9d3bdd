# SPDX-License-Identifier: Apache-2.0
"""The walk through the slices, with a tracker that answers from a script."""

from __future__ import annotations

import numpy as np
import pytest

from medreasoner_infer.errors import SliceOutOfRangeError
from medreasoner_infer.segmenters.propagation import propagate_both_ways
from medreasoner_infer.segmenters.settings import SamSettings, StopRule
from medreasoner_infer.segmenters.stopping import TrackedMask
from medreasoner_infer.segmenters.trackers import RepromptTracker
from medreasoner_infer.types import SliceImage, SliceMask, SlicePrompt

PROMPT = SlicePrompt((0.0, 0.0, 10.0, 10.0))


def square(side: int, corner: int = 0) -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[corner : corner + side, corner : corner + side] = True
    return mask


def tracked(mask: np.ndarray, presence: float = 5.0) -> TrackedMask:
    return TrackedMask(SliceMask(mask, 0.9), presence)


def grey(value: int) -> SliceImage:
    return SliceImage(np.full((64, 64), value, np.uint8), (1.0, 1.0), str(value))


class Script:
    """A tracker that has a mask for some slices and notes what it was asked."""

    def __init__(self, present: range) -> None:
        self.present = present
        self.calls: list[str] = []

    def begin(self, index, image, prompt, mask) -> None:
        self.calls.append(f"begin {index}")

    def turn(self) -> None:
        self.calls.append("turn")

    def step(self, index, image) -> TrackedMask | None:
        self.calls.append(f"step {index}")
        return tracked(square(20)) if index in self.present else None


def walk(script: Script, frames: list[SliceImage], start: int, first: np.ndarray):
    return [
        index
        for index, _ in propagate_both_ways(
            lambda image, prompt: SliceMask(first, 0.9), script, StopRule(), frames, start, PROMPT
        )
    ]


def test_each_direction_starts_anew_and_ends_by_itself():
    script = Script(range(3, 7))
    assert walk(script, [grey(100)] * 12, 5, square(20)) == [5, 6, 4, 3]
    assert script.calls == [
        "begin 5", "turn", "step 6", "step 7", "turn", "step 4", "step 3", "step 2",
    ]  # fmt: skip


def test_a_slice_that_looks_different_ends_the_target():
    frames = [grey(100)] * 7 + [grey(180)] + [grey(100)] * 4
    assert walk(Script(range(12)), frames, 5, square(20)) == [5, 6, 4, 3, 2, 1, 0]


def settled(script: Script, start: int, first: np.ndarray) -> list[tuple[int, int]]:
    """What the caller is told of the progress through twelve slices."""
    told = []
    masks = propagate_both_ways(
        lambda image, prompt: SliceMask(first, 0.9),
        script,
        StopRule(),
        [grey(100)] * 12,
        start,
        PROMPT,
        progress=lambda *step: told.append(step),
    )
    list(masks)
    return told


def test_slices_that_an_end_leaves_out_are_settled_as_well():
    # After the prompted slice 5, two above (to 3 of 12), then two below, of which slice 4 settles
    # all but the four below it.
    assert settled(Script(range(3, 8)), 5, square(20)) == [
        (1, 12), (2, 12), (3, 12), (8, 12), (9, 12), (12, 12),
    ]  # fmt: skip
    assert settled(Script(range(12)), 5, square(0)) == [(1, 12), (12, 12)]


@pytest.mark.parametrize("start", [-1, 12, 13])
def test_a_slice_that_is_not_there_is_refused_at_the_call(start):
    with pytest.raises(SliceOutOfRangeError, match=rf"^Slice {start} was .* slices 0 to 11\.$"):
        propagate_both_ways(None, None, StopRule(), [grey(100)] * 12, start, PROMPT)


@pytest.mark.parametrize(("start", "order"), [(0, [0, *range(1, 12)]), (11, [*range(11, -1, -1)])])
def test_from_an_end_of_the_stack_there_is_one_way(start, order):
    assert walk(Script(range(12)), [grey(100)] * 12, start, square(20)) == order


def test_an_empty_first_mask_leads_nowhere():
    script = Script(range(12))
    assert walk(script, [grey(100)] * 12, 5, square(0)) == [5]
    assert script.calls == []


class GrowingEngine:
    """Answers with a square one pixel larger than the one it is prompted with, and counts down."""

    def __init__(self) -> None:
        self.presence = 9.0

    def segment_next(self, image, prompt, crop) -> TrackedMask:
        self.presence -= 1.0
        last_mask = prompt.last_mask
        assert prompt.bbox_xyxy_px == (0, 0, *[int(last_mask.any(0).sum())] * 2)
        side = int(last_mask.any(0).sum()) + 1
        return tracked(square(side if side <= 24 else 0), self.presence)


def looking(looks: int, first: np.ndarray) -> RepromptTracker:
    settings = SamSettings(zoom=1.65, mask_prompt=True, looks=looks)
    tracker = RepromptTracker(GrowingEngine(), settings)
    tracker.begin(5, grey(100), PROMPT, first)
    tracker.turn()
    return tracker


def test_further_looks_are_prompted_with_the_slice_s_own_answer():
    tracker = looking(3, square(20))
    first = tracker.step(6, grey(100))
    assert int(first.slice_mask.mask.sum()) == 23**2
    assert first.presence == 8.0, "whether the target goes on is asked at the first look"


def test_target_that_a_further_look_does_not_find_has_ended():
    tracker = looking(2, square(23))
    assert not tracker.step(6, grey(100)).slice_mask.mask.any()
    assert tracker.step(7, grey(100)) is None
