# SPDX-License-Identifier: Apache-2.0
"""The pipeline's orchestration, with a reasoner and a segmenter whose answers are known."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.doubt import VIEWS
from medreasoner_infer.errors import (
    CancelledError,
    InputError,
    MalformedInferenceError,
    PromptError,
)
from medreasoner_infer.hooks import Hooks
from medreasoner_infer.imaging import Volume
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import AskRequest, Click, SegmentRequest, SliceSelection
from medreasoner_infer.result import Inference
from medreasoner_infer.slice_choice import run_lengths
from medreasoner_infer.types import (
    Grounding,
    ModelIdentity,
    ReasonerAnswer,
    SliceMask,
    SlicePrompt,
)

MODEL_SIZE = 64
IDENTITY = ModelIdentity("known", "nowhere", None, "0" * 64, "Apache-2.0")


class KnownReasoner:
    """Says what ``say(request)`` says; remembers what it was asked."""

    identity = IDENTITY
    input_size = MODEL_SIZE
    image_encoding = "rgb"

    def __init__(self, say):
        self.say = say
        self.requests = []

    def answer(self, request, *, on_text=None, cancelled=None):
        self.requests.append(request)
        return tuple(self._one(request, n) for n in range(request.samples))

    def answer_batch(self, requests, *, cancelled=None):
        return tuple(self.answer(request)[0] for request in requests)

    def _one(self, request, number):
        return ReasonerAnswer("text", self.say(request, number), 0.5, 10)


class BoxSegmenter:
    """The mask is the box (or a pixel per positive point); propagates one slice either way."""

    identity = IDENTITY

    def segment_slice(self, image, prompt):
        mask = np.zeros(image.pixels.shape[:2], dtype=bool)
        if prompt.bbox_xyxy_px is not None:
            x1, y1, x2, y2 = (round(v) for v in prompt.bbox_xyxy_px)
            mask[y1:y2, x1:x2] = True
        for (x, y), label in zip(prompt.points_xy_px, prompt.point_labels, strict=True):
            mask[int(y), int(x)] = label == 1
        return SliceMask(mask, 0.75)

    def propagate(self, frames, start_index, prompt, *, progress=None, cancelled=None):
        for done, index in enumerate((start_index, start_index + 1, start_index - 1), start=1):
            yield index, self.segment_slice(frames[index], prompt)
            if progress is not None:
                progress(done, 3)


PRESENT = Grounding("A bright disc.", (8.0, 16.0, 24.0, 32.0), ((12.0, 20.0), (20.0, 28.0)))
ABSENT = Grounding("It is not here.", None, None)
PUZZLED = Grounding("There is no such organ.", None, None, outcome="not_understood")


@pytest.fixture
def volume():
    """32 x 32 x 10 voxels of 2 x 2 x 5 mm, axes L, P, S, so axial slices show I right, J down."""
    values = np.full((32, 32, 10), 100, dtype=np.int16)
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    return Volume(values, affine, "CT", "volume-key", Path("known.nii.gz"))


def make_pipeline(say=lambda request, number: PRESENT):
    reasoner = KnownReasoner(say)
    return Pipeline(lambda: reasoner, lambda: BoxSegmenter()), reasoner


def test_prompts_and_mask_lie_where_the_answer_points(volume):
    pipeline, _ = make_pipeline()
    result = pipeline.ask(volume, AskRequest("Where?", SliceSelection(index=3)))
    # 64 reasoner px show 32 slice px: coordinates halve; IJK centres are half a pixel less.
    assert result.prompts.bbox_xyxy_slice_px == (4.0, 8.0, 12.0, 16.0)
    assert result.prompts.points_ijk == ((5.5, 9.5, 3.0), (9.5, 13.5, 3.0))
    assert result.prompts.points_lps_mm == ((11.0, 19.0, 15.0), (19.0, 27.0, 15.0))
    expected = np.zeros((32, 32, 10), dtype=np.uint8)
    expected[4:12, 8:16, 3] = 1
    np.testing.assert_array_equal(result.mask_ijk, expected)
    assert result.mask.slice_area_mm2 == 64 * 4.0
    assert result.mask.volume_mm3 == 64 * 20.0


def test_each_mask_takes_a_turn_and_the_caller_is_told_of_it_afterwards(volume):
    """A caller who is slow to listen must not keep the device."""
    events = []

    @contextmanager
    def take_turn(work):
        events.append(f"begin {work.value}")
        yield None
        events.append(f"end {work.value}")

    pipeline, _ = make_pipeline()
    hooks = Hooks(
        slice_answered=lambda *_: events.append("told the slice"),
        progress=lambda stage, done, total: events.append(f"told {done}"),
        take_turn=take_turn,
    )
    asked = AskRequest("Where?", SliceSelection(index=3), propagate=True)
    pipeline.ask(volume, asked, hooks)
    further = [["begin propagation", "end propagation", f"told {done}"] for done in (1, 2, 3)]
    assert events == [
        "begin answer", "end answer", "begin slice", "end slice", "told the slice",
        *itertools.chain(*further),
    ]  # fmt: skip


def test_absent_target_gives_an_all_zero_mask_and_no_prompts(volume):
    pipeline, _ = make_pipeline(lambda request, number: ABSENT)
    result = pipeline.ask(volume, AskRequest("Where?", SliceSelection(index=3)))
    assert not result.present
    assert result.prompts is None
    assert result.mask_ijk.shape == (32, 32, 10)
    assert not result.mask_ijk.any()
    assert result.mask.slice_range is None


def test_click_on_an_absent_target_is_followed_and_said(volume):
    pipeline, _ = make_pipeline(lambda request, number: ABSENT)
    clicks = (Click((6.0, 7.0, 4.0)),)
    result = pipeline.ask(volume, AskRequest("Where?", clicks=clicks))
    assert result.slice.index == 4
    assert result.slice_choice.method == "click"
    assert result.mask_ijk[6, 7, 4] == 1
    assert result.mask.voxels == 1
    assert result.prompts.point_sources == ("reader",)
    assert any("clicks alone" in warning for warning in result.warnings)


def test_a_question_not_understood_has_no_mask_no_prompts_and_no_confidence(volume):
    pipeline, _ = make_pipeline(lambda request, number: PUZZLED)
    result = pipeline.ask(volume, AskRequest("The florb?", SliceSelection(index=3), samples=3))
    assert (result.outcome, result.present) == ("not_understood", False)
    assert result.reasoning == "There is no such organ."
    assert (result.prompts, result.confidence) == (None, None)
    assert not result.mask_ijk.any()
    assert result.agreement == 1.0
    assert [(s.outcome, s.present, s.confidence) for s in result.samples] == [
        ("not_understood", False, None)
    ] * 2


def test_a_question_that_no_slice_makes_understandable_is_not_called_absent(volume):
    def say(request, number):
        index = int(request.image_key.split("axial/")[1].split("/")[0])
        return PUZZLED if index > 3 else ABSENT

    pipeline, _ = make_pipeline(say)
    result = pipeline.ask(volume, AskRequest("The florb?"))
    assert result.outcome == "not_understood"
    assert result.slice.index == 7
    assert result.slice_choice.explanation == (
        "The question was not understood on 6 of 10 slices; slice 7 is shown."
    )


def test_a_click_beside_a_question_not_understood_is_followed_and_said(volume):
    pipeline, _ = make_pipeline(lambda request, number: PUZZLED)
    result = pipeline.ask(volume, AskRequest("The florb?", clicks=(Click((6.0, 7.0, 4.0)),)))
    assert result.outcome == "not_understood"
    assert result.mask.voxels == 1
    assert result.warnings == (
        "The reasoner did not understand the question; the mask follows the clicks alone.",
    )


def test_a_click_that_only_says_where_an_absent_target_is_not_makes_no_prompt(volume):
    pipeline, _ = make_pipeline(lambda request, number: ABSENT)
    clicks = (Click((6.0, 7.0, 4.0), positive=False),)
    result = pipeline.ask(volume, AskRequest("Where?", clicks=clicks))
    assert result.slice.index == 4
    assert result.prompts is None
    assert not result.present
    assert not result.mask_ijk.any()


def test_a_click_outside_joins_the_box_of_a_target_that_is_there(volume):
    pipeline, _ = make_pipeline()
    clicks = (Click((6.0, 9.0, 4.0), positive=False),)
    result = pipeline.ask(volume, AskRequest("Where?", clicks=clicks))
    assert result.prompts.point_labels == (1, 1, 0)
    assert result.prompts.point_sources == ("reasoner", "reasoner", "reader")
    # The box covers 8 x 8 px.
    assert (int(result.mask_ijk[6, 9, 4]), result.mask.voxels) == (0, 63)


def test_position_chooses_the_slice_that_holds_it(volume):
    pipeline, _ = make_pipeline()
    selection = SliceSelection(position_lps_mm=(10.0, 10.0, 26.0))
    assert pipeline.ask(volume, AskRequest("Where?", selection)).slice.index == 5


def test_search_takes_the_slice_with_the_largest_box_among_equals(volume):
    larger_on_slice_6 = Grounding("Larger.", (8.0, 8.0, 56.0, 56.0), ((30.0, 30.0),) * 2)

    def say(request, number):
        index = int(request.image_key.split("axial/")[1].split("/")[0])
        if index == 6:
            return larger_on_slice_6
        return PRESENT if index in (5, 7) else ABSENT

    pipeline, _ = make_pipeline(say)
    result = pipeline.ask(volume, AskRequest("Where?"))
    assert result.slice.index == 6
    assert result.slice_choice.method == "search"
    seen = [c.index for c in result.slice_choice.candidates if c.present]
    assert seen == [5, 6, 7]


def test_search_prefers_a_target_that_neighbouring_slices_show_too(volume):
    larger_alone = Grounding("Larger.", (8.0, 8.0, 28.0, 40.0), ((12.0, 20.0),) * 2)

    def say(request, number):
        index = int(request.image_key.split("axial/")[1].split("/")[0])
        if index == 1:
            return larger_alone
        return PRESENT if index in (5, 6, 7) else ABSENT

    pipeline, _ = make_pipeline(say)
    assert pipeline.ask(volume, AskRequest("Where?")).slice.index == 5


def test_a_run_counts_the_overlap_with_its_neighbours_and_ends_where_the_target_is_absent():
    half = Grounding("Half.", (8.0, 16.0, 16.0, 32.0), ((12.0, 20.0),) * 2)
    runs = run_lengths([PRESENT, half, half, ABSENT, PRESENT])
    # Boxes of 16 x 16 and its half: IoU 0.5.
    assert runs.tolist() == [2.0, 2.5, 2.5, 0.0, 1.0]
    assert run_lengths([PRESENT, half, half]).tolist() == [1 + 0.5 + 0.5, 1 + 0.5 + 1, 1 + 1 + 0.5]
    assert run_lengths([ABSENT]).tolist() == [0.0]


def test_propagation_reaches_the_neighbouring_slices_and_reports_progress(volume):
    pipeline, _ = make_pipeline()
    steps = []
    request = AskRequest("Where?", SliceSelection(index=3), propagate=True)
    result = pipeline.ask(volume, request, Hooks(progress=lambda *step: steps.append(step)))
    assert result.mask.slice_range == (2, 4)
    assert result.mask.predicted_iou == 0.75
    assert steps == [("propagate", 1, 3), ("propagate", 2, 3), ("propagate", 3, 3)]


def test_agreement_is_the_mean_box_iou_of_the_further_samples(volume):
    shifted = Grounding("Shifted.", (16.0, 16.0, 32.0, 32.0), ((20.0, 20.0), (24.0, 24.0)))

    def say(request, number):
        if request.temperature == 0:
            return PRESENT
        return (PRESENT, shifted, ABSENT)[number]

    pipeline, reasoner = make_pipeline(say)
    result = pipeline.ask(volume, AskRequest("Where?", SliceSelection(index=3), samples=4, seed=9))
    # Boxes of 16 x 16 shifted by half their width: IoU 1/3.
    assert result.agreement == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert [request.samples for request in reasoner.requests] == [1, 3, *[1] * len(VIEWS)]
    assert reasoner.requests[1].seed == 9


def test_box_beyond_the_slice_is_cut_with_a_warning(volume):
    outside = Grounding("Edge.", (50.0, 50.0, 80.0, 60.0), ((55.0, 55.0), (70.0, 55.0)))
    pipeline, _ = make_pipeline(lambda request, number: outside)
    result = pipeline.ask(volume, AskRequest("Where?", SliceSelection(index=3)))
    assert result.prompts.bbox_xyxy_slice_px == (25.0, 25.0, 32.0, 30.0)
    assert len(result.prompts.points_ijk) == 1
    assert any("cut at its edge" in warning for warning in result.warnings)
    assert any("key point" in warning for warning in result.warnings)


def test_segmenter_alone_takes_prompts_in_pixels_of_the_displayed_slice(volume):
    pipeline, _ = make_pipeline()
    prompt = SlicePrompt((1.0, 2.0, 3.0, 4.0))
    result = pipeline.segment(volume, SegmentRequest(SliceSelection(index=2), prompt))
    assert result.reasoner is None
    assert result.query is None
    assert np.argwhere(result.mask_ijk).tolist() == [[1, 2, 2], [1, 3, 2], [2, 2, 2], [2, 3, 2]]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (SlicePrompt((3.0, 2.0, 1.0, 4.0)), r"expected 0 <= x1 < x2"),
        (SlicePrompt((0.0, 0.0, 33.0, 4.0)), r"does not fit the slice of 32 x 32"),
        (SlicePrompt(None, ((40.0, 2.0),), (1,)), r"point \(40.0, 2.0\) lies outside"),
    ],
)
def test_prompts_outside_the_slice_are_refused(volume, prompt, message):
    pipeline, _ = make_pipeline()
    with pytest.raises(PromptError, match=message):
        pipeline.segment(volume, SegmentRequest(SliceSelection(index=2), prompt))


def test_a_click_on_another_slice_than_the_position_is_refused(volume):
    pipeline, _ = make_pipeline()
    selection = SliceSelection(position_lps_mm=(10.0, 10.0, 15.0))
    request = AskRequest("Where?", selection, clicks=(Click((6.0, 7.0, 4.0)),))
    with pytest.raises(PromptError, match="lies on slice 4, the question is about slice 3"):
        pipeline.ask(volume, request)


CLICKS = (
    Click((5.0, 5.0, 3.0), False),
    Click((9.0, 9.0, 8.0), False),
    Click((6.0, 7.0, 3.0)),
    Click((8.0, 9.0, 8.0)),
)


@pytest.mark.parametrize(
    ("index", "kept", "why"),
    [(None, 8, "of the last click"), (3, 3, "it was clicked on"), (5, 8, "nobody clicked there")],
)
def test_of_clicks_on_several_slices_those_of_one_count(volume, index, kept, why):
    pipeline, _ = make_pipeline(lambda request, number: ABSENT)
    selection = SliceSelection(index=index)
    asked = pipeline.ask(volume, AskRequest("Where?", selection, clicks=CLICKS))
    segmented = pipeline.segment(volume, SegmentRequest(selection, clicks=CLICKS))
    for result in (asked, segmented):
        assert result.slice.index == kept, why
        assert result.slice_choice.method == "click"
        assert (
            result.prompts.points_ijk
            == {
                3: ((5.0, 5.0, 3.0), (6.0, 7.0, 3.0)),
                8: ((9.0, 9.0, 8.0), (8.0, 9.0, 8.0)),
            }[kept]
        )
        assert result.prompts.point_labels == (0, 1)


def test_the_hooks_tell_the_slice_the_answer_on_it_and_then_the_volume(volume):
    pipeline, _ = make_pipeline()
    told = []
    hooks = Hooks(
        slice_chosen=lambda plane, index, choice: told.append((plane.value, index, choice.method)),
        slice_answered=lambda result, image: told.append(
            (image is volume, result.propagated, np.unique(np.nonzero(result.mask_ijk)[2]).tolist())
        ),
        progress=lambda *step: told.append(step),
    )
    request = AskRequest("Where?", SliceSelection(index=3), propagate=True)
    result = pipeline.ask(volume, request, hooks)
    assert told[:2] == [("axial", 3, "index"), (True, False, [3])]
    assert told[2:] == [("propagate", 1, 3), ("propagate", 2, 3), ("propagate", 3, 3)]
    assert result.propagated
    assert result.mask.slice_range == (2, 4)
    assert result.mask.voxels == result.mask_ijk.sum() == 3 * 64


def test_a_record_comes_back_from_json_as_it_was(volume):
    pipeline, _ = make_pipeline()
    result = pipeline.ask(volume, AskRequest("Where?", samples=3))
    read = Inference.from_dict(json.loads(json.dumps(result.to_dict())))
    assert read == Inference(
        **{
            key: value
            for key, value in vars(result).items()
            if key not in ("mask_ijk", "readings_ijk")
        }
    )
    assert read.mapping(volume).index == result.slice.index
    assert str(read.window()) == "soft tissue (C 40 / W 400)"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slice": None}, "slice"),
        ({"present": "perhaps"}, "present"),
        ({"outcome": "perhaps"}, "outcome"),
        ({"outcome": None}, "outcome"),
        ({"present": False}, "its top: Value error, The outcome is present, but"),
        ({"outcome": "not_understood"}, "its top: Value error, The outcome is not_understood"),
        ({"mask": {}}, "mask.voxels"),
    ],
)
def test_a_damaged_record_is_refused_by_the_field(volume, change, said):
    pipeline, _ = make_pipeline()
    told = pipeline.ask(volume, AskRequest("Where?", SliceSelection(index=3))).to_dict()
    with pytest.raises(MalformedInferenceError, match=rf"damaged at {said}"):
        Inference.from_dict({**told, **change})


@pytest.mark.parametrize(
    ("said", "present", "outcome"),
    [
        (PRESENT, True, "present"),
        (ABSENT, False, "absent"),
        (PUZZLED, False, "not_understood"),
    ],
)
def test_a_record_tells_its_outcome_beside_whether_the_target_is_present(
    volume, said, present, outcome
):
    pipeline, _ = make_pipeline(lambda request, number: said)
    told = pipeline.ask(volume, AskRequest("Where?", samples=2)).to_dict()
    parts = (told, *told["samples"], *told["slice_choice"]["candidates"])
    assert len(parts) == 12
    assert {(part["present"], part["outcome"]) for part in parts} == {(present, outcome)}
    assert Inference.from_dict(told).to_dict() == told


@pytest.mark.parametrize(("said", "outcome"), [(PRESENT, "present"), (ABSENT, "absent")])
def test_a_record_that_was_written_before_has_the_outcome_that_present_says(volume, said, outcome):
    pipeline, _ = make_pipeline(lambda request, number: said)
    told = pipeline.ask(volume, AskRequest("Where?", samples=2)).to_dict()
    before = json.loads(json.dumps(told))
    for part in (before, *before["samples"], *before["slice_choice"]["candidates"]):
        del part["outcome"]
    assert Inference.from_dict(before).to_dict() == told
    assert told["outcome"] == outcome


def test_cancelling_raises(volume):
    pipeline, _ = make_pipeline()
    request = AskRequest("Where?", SliceSelection(index=3))
    with pytest.raises(CancelledError):
        pipeline.ask(volume, request, Hooks(cancelled=lambda: True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AskRequest("  "), "question is empty"),
        (lambda: AskRequest("x" * 2001), "2001 characters"),
        (lambda: AskRequest("Where?", samples=0), "samples is 0"),
        (lambda: SliceSelection(index=1, position_lps_mm=(0.0, 0.0, 0.0)), "give one of them"),
        (lambda: SegmentRequest(), "box or at least one point"),
        (
            lambda: SegmentRequest(prompt=SlicePrompt(None, ((1.0, 1.0),), (0,))),
            "box or at least one point",
        ),
    ],
)
def test_requests_that_cannot_be_answered_are_refused_at_once(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_models_load_at_first_use_and_once(volume):
    loads = []

    def load():
        loads.append("reasoner")
        return KnownReasoner(lambda request, number: PRESENT)

    pipeline = Pipeline(load, BoxSegmenter)
    assert pipeline.reasoner_identity is None
    assert loads == []
    for _ in range(2):
        pipeline.ask(volume, AskRequest("Where?", SliceSelection(index=3)))
    assert loads == ["reasoner"]
    assert pipeline.reasoner_identity is IDENTITY


def test_record_is_plain_json_and_holds_all_but_the_mask(volume):
    pipeline, _ = make_pipeline()
    result = pipeline.ask(volume, AskRequest("Where?", SliceSelection(index=3), samples=2))
    record = json.loads(json.dumps(result.to_dict()))
    assert "mask_ijk" not in record
    assert record["schema_version"] == 1
    assert record["software_version"] == importlib.metadata.version("medreasoner")
    assert record["query"] == "Where?"
    assert record["prompts"]["bbox_corners_lps_mm"] == [[7.0, 15.0, 15.0], [23.0, 31.0, 15.0]]
    assert record["reasoner"]["weights_sha256"] == "0" * 64
    assert record["slice"]["window_name"] == "soft_tissue"
    assert record["timings_s"]["total"] >= record["timings_s"]["segment"]
