# SPDX-License-Identifier: Apache-2.0
"""Properties of writer, pattern and parser together, on generated input."""

from __future__ import annotations

import re
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medreasoner_infer.answer import (
    DegenerateBoxError,
    ReversedCornersError,
    answer_regex,
    format_answer,
    max_answer_bytes,
    parse_answer,
)
from medreasoner_infer.errors import AnswerError

SIZE = 112
WELL_FORMED = answer_regex(SIZE, 40)
EXAMPLE = (
    '<think>Left lobe.</think><answer>{"bbox": [10, 20, 30, 40], "points_1": [15, 25], '
    '"points_2": [20, 30]}</answer>'
)

coordinate = st.floats(0, SIZE, exclude_max=True) | st.integers(0, SIZE - 1)
point = st.tuples(coordinate, coordinate)
trace = st.text(min_size=1, max_size=60).filter(
    lambda text: text.strip(" \t\n\r\f\v") and not re.search(r"</?(think|answer)>", text)
)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    edges = []
    for _ in range(2):
        low = draw(coordinate)
        edges.append((low, draw(st.floats(low, SIZE, exclude_min=True))))
    (x1, x2), (y1, y2) = edges
    return x1, y1, x2, y2


@given(trace, boxes(), st.tuples(point, point))
def test_what_is_written_is_read_back(text, box, points) -> None:
    grounding = parse_answer(format_answer(text, box, points), image_size=SIZE)
    assert grounding.reasoning == text.strip(" \t\n\r\f\v")
    assert grounding.bbox_xyxy_px == box
    assert grounding.points_xy_px == points
    assert grounding.warnings == ()


@given(trace)
def test_absence_is_read_back(text) -> None:
    assert not parse_answer(format_answer(text, None, None), image_size=SIZE).present


def test_written_whole_numbers_are_integers() -> None:
    text = format_answer("Left lobe.", (10.0, 20, 30, 40), ((15, 25), (20.0, 30)))
    assert text == EXAMPLE
    assert re.fullmatch(WELL_FORMED, text)


def test_an_empty_trace_is_left_out() -> None:
    assert format_answer("", None, None) == "<answer>null</answer>"


@pytest.mark.parametrize(
    ("text", "box", "points"),
    [
        ("</think>", None, None),
        ("x", (1, 2, 3, 4), None),
        ("x", None, ((1, 2), (3, 4))),
        ("x", (1, 2, 3), ((1, 2), (3, 4))),
        ("x", (1, 2, 3, 4), ((1, 2),)),
        ("x", (1, 2, 3, float("nan")), ((1, 2), (3, 4))),
    ],
)
def test_what_cannot_be_read_back_is_not_written(text, box, points) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - several messages, one kind of mistake
        format_answer(text, box, points)


@given(st.from_regex(WELL_FORMED, fullmatch=True))
def test_every_match_parses_strictly_but_for_corners_that_no_pattern_can_order(text) -> None:
    numbers = [
        int(n) for n in re.findall(r"\d+", re.sub(r"points_.", "", text.split("answer>")[1]))
    ]
    ordered = not numbers or (numbers[0] < numbers[2] and numbers[1] < numbers[3])
    try:
        grounding = parse_answer(text, image_size=SIZE)
    except (ReversedCornersError, DegenerateBoxError):
        assert not ordered
        return
    assert ordered
    box = [] if grounding.bbox_xyxy_px is None else [*grounding.bbox_xyxy_px]
    points = [] if grounding.points_xy_px is None else [*chain(*grounding.points_xy_px)]
    assert box + points == numbers


@given(st.from_regex(WELL_FORMED, fullmatch=True))
def test_every_match_can_be_used_where_thin_boxes_are_widened(text) -> None:
    grounding = parse_answer(text, mode="tolerant", image_size=SIZE, min_side_px=1)
    if grounding.bbox_xyxy_px is not None:
        x1, y1, x2, y2 = grounding.bbox_xyxy_px
        assert 0 <= x1 < x2 <= SIZE
        assert 0 <= y1 < y2 <= SIZE


@given(st.from_regex(WELL_FORMED, fullmatch=True))
def test_no_match_is_longer_than_told(text) -> None:
    assert len(text.encode()) <= max_answer_bytes(SIZE, 40)


def test_the_longest_match_is_as_long_as_told() -> None:
    text = "<think>" + "\U0001f600" * 40 + "</think>\n" + EXAMPLE.split("</think>")[1]
    longest = re.sub(r"\b\d\d\b", "100", text)
    assert re.fullmatch(WELL_FORMED, longest)
    assert len(longest.encode()) == max_answer_bytes(SIZE, 40)


@pytest.mark.parametrize("size", [1, 2, 9, 10, 11, 99, 100, 101, 112, 128, 840, 1000, 1092])
def test_integers_of_the_pattern_are_those_inside_the_image(size) -> None:
    pattern = re.compile(answer_regex((size, 10**4), 0))
    template = '<answer>{{"bbox":[{0},0,{1},9],"points_1":[0,0],"points_2":[0,0]}}</answer>'
    for value in range(size + 120):
        first = pattern.fullmatch(template.format(value, 0)) is not None
        second = pattern.fullmatch(template.format(0, value)) is not None
        assert (first, second) == (value < size, value <= size)
    for odd in ("00", "01", "-1", "+1", "1.0", "1e1", ""):
        assert not pattern.fullmatch(template.format(odd, 0))


@pytest.mark.parametrize(
    "trace_text", ["", " x", "a<b", "a\x00b", "a\tb", "a\x1bb", "x" * 41], ids=repr
)
def test_the_pattern_refuses_traces_that_do_not_travel(trace_text) -> None:
    assert not re.fullmatch(WELL_FORMED, f"<think>{trace_text}</think><answer>null</answer>")


@pytest.mark.parametrize("trace_text", ["x", "x" * 40, "Größe 3 cm\nlinks", "肝脏", "a > b"])
def test_the_pattern_takes_ordinary_traces(trace_text) -> None:
    assert re.fullmatch(WELL_FORMED, f"<think>{trace_text}</think><answer>null</answer>")


def test_without_reasoning_the_pattern_is_the_answer_block_alone() -> None:
    pattern = answer_regex(SIZE, 0)
    assert re.fullmatch(pattern, "<answer>null</answer>")
    assert not re.fullmatch(pattern, "<think>x</think><answer>null</answer>")


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, len(EXAMPLE)), st.integers(0, 6), st.text("{}[]\"'<>,:019-.e/N ", max_size=4)
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300)
@given(MUTATIONS, st.sampled_from(["strict", "tolerant"]))
def test_damaged_answers_parse_or_raise_an_answer_error(mutations, mode) -> None:
    text = EXAMPLE
    for start, cut, inserted in mutations:
        text = text[:start] + inserted + text[start + cut :]
    try:
        grounding = parse_answer(text, mode=mode, image_size=SIZE)
    except AnswerError:
        return
    assert grounding.present == (grounding.points_xy_px is not None)


@pytest.mark.parametrize("body", ["[" * 100_000, '{"bbox":' * 5_000, "9" * 10_000, "'" * 3_000])
def test_hostile_bodies_are_refused(body) -> None:
    with pytest.raises(AnswerError):
        parse_answer(f"<think>x</think><answer>{body}</answer>", mode="tolerant", image_size=SIZE)
