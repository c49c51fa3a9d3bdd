# SPDX-License-Identifier: Apache-2.0
"""Which slices are asked, and which answer wins, with scores worked out by hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.errors import InputError, SliceOutOfRangeError
from medreasoner_infer.hooks import Hooks
from medreasoner_infer.imaging import Plane, Volume
from medreasoner_infer.request import Click, SliceSelection
from medreasoner_infer.slice_choice import fixed_choice, plane_of, search_slice
from medreasoner_infer.types import Grounding, ReasonerAnswer

ABSENT = ReasonerAnswer("", Grounding("", None, None), 0.9, 1)
PUZZLED = ReasonerAnswer("", Grounding("", None, None, outcome="not_understood"), None, 1)


def volume_of(slices: int, grey: int = 200) -> Volume:
    """10 x 10 px a slice, shown as stored; axial slices cut K, every 5 mm."""
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    return Volume(np.full((10, 10, slices), grey, np.uint8), affine, "MR", "v", Path("v.nii"))


def square(side: float, confidence: float | None, corner: float = 0.0) -> ReasonerAnswer:
    """An answer whose box is a square at a corner on the image's diagonal."""
    box = (corner, corner, corner + side, corner + side)
    return ReasonerAnswer("", Grounding("", box, ((corner, corner),) * 2), confidence, 1)


class Listening:
    """Answers by the slice's index, ``ABSENT`` where none is given, and keeps what it was asked."""

    input_size = 64
    image_encoding = "rgb"

    def __init__(self, by_index: dict[int, ReasonerAnswer] | None = None) -> None:
        self.by_index = by_index or {}
        self.batches: list[list[int]] = []

    def answer_batch(self, requests, *, cancelled=None):
        indices = [int(re.search(r"/axial/(\d+)/", r.image_key)[1]) for r in requests]
        self.batches.append(indices)
        return [self.by_index.get(index, ABSENT) for index in indices]

    @property
    def asked(self) -> list[int]:
        return [index for batch in self.batches for index in batch]


def search(volume: Volume, reasoner: Listening, hooks: Hooks | None = None):
    return search_slice(volume, Plane.AXIAL, None, reasoner, "Where?", hooks or Hooks())


@pytest.mark.parametrize(
    ("count", "indices"),
    [
        (36, [1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34]),
        (60, [2, 7, 12, 17, 22, 27, 32, 37, 42, 47, 52, 57]),
        (12, list(range(12))),
        (5, [0, 1, 2, 3, 4]),
        (1, [0]),
    ],
)
def test_at_most_twelve_slices_are_asked_each_in_the_middle_of_its_share(count, indices) -> None:
    reasoner = Listening()
    search(volume_of(count), reasoner)
    assert reasoner.asked == indices


def test_six_slices_are_asked_at_a_time_and_progress_is_told() -> None:
    told = []
    reasoner = Listening()
    search(volume_of(36), reasoner, Hooks(progress=lambda *step: told.append(step)))
    assert [len(batch) for batch in reasoner.batches] == [6, 6]
    assert told == [("search", 6, 12), ("search", 12, 12)]


def test_slices_that_are_all_but_black_are_not_asked() -> None:
    values = np.zeros((10, 10, 6), np.uint8)
    values[:, :, 1] = 12  # as dark as nothing
    values[0, :2, 2] = 255  # 2 of 100 pixels
    values[0, :3, 3] = 255  # 3 of 100 pixels
    values[:, :, 4] = 13
    reasoner = Listening()
    search(Volume(values, np.eye(4), "MR", "v", Path("v.nii")), reasoner)
    assert reasoner.asked == [3, 4]


def test_of_a_black_volume_all_candidates_are_asked() -> None:
    reasoner = Listening()
    search(volume_of(4, grey=0), reasoner)
    assert reasoner.asked == [0, 1, 2, 3]


def test_a_slice_scores_confidence_times_the_root_of_its_share_of_the_largest_area() -> None:
    # Far apart, so each run is 1. Areas 2500 and 900: the root of 0.36 is 0.6, and 0.9 x 0.6 =
    # 0.54 beats 0.5 x 1, which 0.9 x 0.36 does not.
    answers = {1: square(50, 0.5), 5: square(30, 0.9)}
    index, choice = search(volume_of(8), Listening(answers))
    assert index == 5
    assert [(c.index, c.present, c.score) for c in choice.candidates] == [
        (0, False, 0.0), (1, True, 0.5), (2, False, 0.0), (3, False, 0.0), (4, False, 0.0),
        (5, True, 0.54), (6, False, 0.0), (7, False, 0.0),
    ]  # fmt: skip
    assert choice.method == "search"
    assert choice.explanation == (
        "Slice 5 was chosen: of 8 slices looked at, 2 show the target, and this one shows it best "
        "(confidence, size of the box, agreement of neighbours)."
    )


def test_a_slice_scores_by_its_share_of_the_longest_run() -> None:
    # Equal boxes on slices 1 to 3 count 3 each, the one on slice 6 counts 1.
    answers = {1: square(20, 0.6), 2: square(20, 0.7), 3: square(20, 0.6), 6: square(20, 0.9)}
    index, choice = search(volume_of(8), Listening(answers))
    assert index == 2
    assert [c.score for c in choice.candidates] == [0, 0.6, 0.7, 0.6, 0, 0, 0.3, 0]


def test_an_engine_that_tells_no_confidence_counts_as_sure() -> None:
    index, choice = search(volume_of(8), Listening({1: square(20, None), 5: square(20, 0.9)}))
    assert index == 1
    assert choice.candidates[1].score == 1.0


def test_boxes_away_from_the_corner_have_the_area_of_their_sides() -> None:
    answers = {1: square(20, 0.5, corner=40), 5: square(40, 0.5)}
    _, choice = search(volume_of(8), Listening(answers))
    # Areas 400 and 1600.
    assert [choice.candidates[k].score for k in (1, 5)] == [0.25, 0.5]


def test_where_no_slice_shows_the_target_the_middle_candidate_is_read() -> None:
    index, choice = search(volume_of(36), Listening())
    assert index == 19  # the seventh of twelve
    assert choice.explanation == "The target was seen on none of 12 slices; slice 19 is shown."
    assert [c.present for c in choice.candidates] == [False] * 12


@pytest.mark.parametrize(
    ("puzzled", "read", "explanation"),
    [
        ({0, 1, 2, 3, 4, 5, 6, 7}, 4, "The question was not understood on 8 of 8 slices"),
        # The middle one of those that say what most of them say, which is not the middle of all.
        ({0, 1, 5, 6, 7}, 5, "The question was not understood on 5 of 8 slices"),
        # Half of them are no majority.
        (
            {0, 1, 2, 4},
            6,
            "The target was seen on none of 8 slices, on 4 of which the question was not "
            "understood",
        ),
        ({4}, 3, "The target was seen on none of 8 slices, on 1 of which the question was not "
                 "understood"),
    ],
)  # fmt: skip
def test_most_slices_decide_whether_the_question_was_not_understood(
    puzzled, read, explanation
) -> None:
    index, choice = search(volume_of(8), Listening(dict.fromkeys(puzzled, PUZZLED)))
    assert index == read
    assert choice.explanation == f"{explanation}; slice {read} is shown."
    assert {c.index for c in choice.candidates if c.outcome == "not_understood"} == puzzled
    assert not any(c.present for c in choice.candidates)
    assert {c.score for c in choice.candidates} == {0.0}


def test_one_slice_that_shows_the_target_wins_over_all_that_did_not_understand() -> None:
    reasoner = Listening({**dict.fromkeys(range(8), PUZZLED), 6: square(20, 0.4)})
    index, choice = search(volume_of(8), reasoner)
    assert index == 6
    assert [c.outcome for c in choice.candidates].count("not_understood") == 7


@pytest.mark.parametrize(
    ("selection", "clicks", "index", "method"),
    [
        (SliceSelection(index=7), (Click((1, 1, 3)),), 7, "index"),
        (SliceSelection(position_lps_mm=(0, 0, 12)), (Click((1, 1, 3)),), 2, "position"),
        (SliceSelection(), (Click((1, 1, 3)), Click((8, 9, 5.4))), 5, "click"),
        (SliceSelection(plane="sagittal"), (Click((8, 9, 5)),), 8, "click"),
    ],
)
def test_an_index_goes_before_a_position_and_that_before_the_last_click(
    selection, clicks, index, method
) -> None:
    volume = volume_of(10)
    found, choice = fixed_choice(volume, plane_of(volume, selection), selection, clicks)
    assert (found, choice.method) == (index, method)


def test_a_click_on_an_image_of_one_slice_is_on_that_slice() -> None:
    found = fixed_choice(volume_of(1), Plane.AXIAL, SliceSelection(), (Click((3, 4, 0)),))
    assert found is not None
    assert (found[0], found[1].method) == (0, "click")


def test_only_an_image_of_one_slice_needs_no_search() -> None:
    found = fixed_choice(volume_of(1), Plane.AXIAL, SliceSelection(), ())
    assert found is not None
    assert (found[0], found[1].method) == (0, "single")
    assert fixed_choice(volume_of(2), Plane.AXIAL, SliceSelection(), ()) is None


def test_a_position_beside_the_stack_is_refused() -> None:
    selection = SliceSelection(position_lps_mm=(0, 0, 53))
    with pytest.raises(SliceOutOfRangeError, match="slices 0 to 9"):
        fixed_choice(volume_of(10), Plane.AXIAL, selection, ())


def test_the_plane_is_the_one_asked_for_or_the_acquisition_s() -> None:
    volume = volume_of(3)
    assert plane_of(volume, SliceSelection()) is Plane.AXIAL
    assert plane_of(volume, SliceSelection(plane="Coronal")) is Plane.CORONAL
    with pytest.raises(InputError, match="not known"):
        plane_of(volume, SliceSelection(plane="oblique"))
