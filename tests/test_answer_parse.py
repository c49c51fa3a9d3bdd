# SPDX-License-Identifier: Apache-2.0
"""The parser against literal completions, each with the reason why it is there."""

from __future__ import annotations

import pytest

from medreasoner_infer import answer as fmt
from medreasoner_infer.errors import AnswerError
from medreasoner_infer.types import Grounding

GOOD = '{"bbox": [10, 20, 30, 40], "points_1": [15, 25], "points_2": [20, 30]}'
BOX, POINTS = (10.0, 20.0, 30.0, 40.0), ((15.0, 25.0), (20.0, 30.0))


def completion(body: str, think: str = "Left lobe.") -> str:
    return f"<think>{think}</think><answer>{body}</answer>"


def strict(text: str, size: int = 100, **options: object) -> Grounding:
    return fmt.parse_answer(text, mode="strict", image_size=size, **options)


def tolerant(text: str, size: int = 100, **options: object) -> Grounding:
    return fmt.parse_answer(text, mode="tolerant", image_size=size, **options)


def test_strict_reads_the_agreed_format() -> None:
    assert strict(completion(GOOD)) == Grounding("Left lobe.", BOX, POINTS)


def test_null_means_absent() -> None:
    grounding = strict(completion("null"))
    assert grounding == Grounding("Left lobe.", None, None)
    assert not grounding.present


def test_space_and_line_breaks_between_the_parts_are_no_fault() -> None:
    text = f"\n<think>\n Left lobe.\n</think>\n\n<answer>\n{GOOD}\n</answer>\n"
    assert strict(text) == Grounding("Left lobe.", BOX, POINTS)


def test_fractions_of_a_pixel_are_kept() -> None:
    body = '{"bbox": [1.5, 2.25, 3.75, 4.5], "points_1": [2.5, 3], "points_2": [3, 4]}'
    assert strict(completion(body)).bbox_xyxy_px == (1.5, 2.25, 3.75, 4.5)


@pytest.mark.parametrize("box", ["bbox_2d", "box", "box_2d", "bounding_box"])
@pytest.mark.parametrize(("first", "second"), [("point1", "point2"), ("point_1", "point_2")])
def test_other_names_of_a_key_stand_for_that_key(box: str, first: str, second: str) -> None:
    text = f'{{"{second}": [20, 30], "{first}": [15, 25], "{box}": [10, 20, 30, 40]}}'
    grounding = tolerant(completion(text))
    assert (grounding.bbox_xyxy_px, grounding.points_xy_px) == (BOX, POINTS)
    assert set(grounding.warnings) == {
        f"The key is {box}; it was read as bbox",
        f"The key is {first}; it was read as points_1",
        f"The key is {second}; it was read as points_2",
    }


def test_the_second_corner_may_lie_on_the_far_edge() -> None:
    body = '{"bbox": [0, 0, 100, 100], "points_1": [0, 0], "points_2": [99, 99]}'
    assert strict(completion(body)).bbox_xyxy_px == (0, 0, 100, 100)


def test_width_and_height_are_told_apart() -> None:
    body = '{"bbox": [10, 20, 150, 40], "points_1": [140, 25], "points_2": [20, 30]}'
    assert strict(completion(body), size=(200, 50)).bbox_xyxy_px == (10, 20, 150, 40)
    with pytest.raises(fmt.OutsideImageError, match="50 x 200"):
        strict(completion(body), size=(50, 200))


def test_a_direct_prompt_needs_no_trace() -> None:
    grounding = strict(f"<answer>{GOOD}</answer>", require_reasoning=False)
    assert grounding == Grounding("", BOX, POINTS)


FAULTS = [
    ("no think block", f"<answer>{GOOD}</answer>", fmt.MissingReasoningError),
    ("empty think block", completion(GOOD, think=" \n"), fmt.MissingReasoningError),
    ("think cut", "<think>The left lo", fmt.MissingAnswerError),
    ("no answer block", "<think>Left lobe.</think>", fmt.MissingAnswerError),
    ("answer not closed", f"<think>x</think><answer>{GOOD}", fmt.MissingAnswerError),
    ("text before", "Sure! " + completion(GOOD), fmt.ExtraTextError),
    ("text behind", completion(GOOD) + " I hope this helps.", fmt.ExtraTextError),
    ("text between", f"<think>x</think>so<answer>{GOOD}</answer>", fmt.ExtraTextError),
    ("a tag in the trace", completion(GOOD, think="an <answer> tag"), fmt.ExtraTextError),
    ("single quotes", completion(GOOD.replace('"', "'")), fmt.NotJsonError),
    ("code fence", completion(f"```json\n{GOOD}\n```"), fmt.NotJsonError),
    ("a list", completion(f"[{GOOD}]"), fmt.NotJsonError),
    ("a number", completion("7"), fmt.NotJsonError),
    ("words", completion("not present"), fmt.NotJsonError),
    ("empty", completion(""), fmt.NotJsonError),
    ("a key missing", completion('{"bbox": [1, 2, 3, 4]}'), fmt.MissingKeyError),
    ("empty object", completion("{}"), fmt.MissingKeyError),
    ("a further key", completion(GOOD[:-1] + ', "confidence": 0.9}'), fmt.UnexpectedKeyError),
    ("a key twice", completion(GOOD[:-1] + ', "bbox": [1, 2, 3, 4]}'), fmt.UnexpectedKeyError),
    ("null values", completion('{"bbox": null}'), fmt.NotJsonError),
]


@pytest.mark.parametrize(("text", "error"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_strict_names_the_fault(text: str, error: type[AnswerError]) -> None:
    with pytest.raises(error):
        strict(text)


def with_box(box: str) -> str:
    return completion(f'{{"bbox": {box}, "points_1": [15, 25], "points_2": [20, 30]}}')


def with_point(point: str) -> str:
    return completion(f'{{"bbox": [10, 20, 30, 40], "points_1": {point}, "points_2": [20, 30]}}')


BAD_VALUES = [
    ("three numbers", with_box("[1, 2, 3]"), fmt.MalformedBoxError),
    ("five numbers", with_box("[1, 2, 3, 4, 5]"), fmt.MalformedBoxError),
    ("booleans are no numbers", with_box("[true, false, true, true]"), fmt.MalformedBoxError),
    ("a null in the box", with_box("[1, null, 3, 4]"), fmt.MalformedBoxError),
    ("a word in the box", with_box('[1, "two", 3, 4]'), fmt.MalformedBoxError),
    ("a text instead of a box", with_box('"1, 2, 3, 4"'), fmt.MalformedBoxError),
    ("NaN", with_box("[1, 2, NaN, 4]"), fmt.NotFiniteError),
    ("infinity", with_box("[1, 2, Infinity, 4]"), fmt.NotFiniteError),
    ("too large for a float", with_box("[1, 2, 1e999, 4]"), fmt.NotFiniteError),
    ("too large an integer", with_box(f"[1, 2, {10**400}, 4]"), fmt.NotFiniteError),
    ("no width", with_box("[10, 20, 10, 40]"), fmt.DegenerateBoxError),
    ("no height", with_box("[10, 20, 30, 20]"), fmt.DegenerateBoxError),
    ("one number for a point", with_point("[15]"), fmt.MalformedPointError),
    ("three numbers for a point", with_point("[15, 25, 1]"), fmt.MalformedPointError),
    ("null for a point", with_point("null"), fmt.MalformedPointError),
    ("NaN in a point", with_point("[NaN, 25]"), fmt.NotFiniteError),
]


@pytest.mark.parametrize("mode", ["strict", "tolerant"])
@pytest.mark.parametrize(
    ("text", "error"), [f[1:] for f in BAD_VALUES], ids=[f[0] for f in BAD_VALUES]
)
def test_values_beyond_repair_are_refused_in_both_modes(
    text: str, error: type[AnswerError], mode: str
) -> None:
    with pytest.raises(error):
        fmt.parse_answer(text, mode=mode, image_size=100)


OUTSIDE = [
    ("reversed corners", with_box("[30, 40, 10, 20]"), fmt.ReversedCornersError),
    ("box beyond the edge", with_box("[10, 20, 130, 40]"), fmt.OutsideImageError),
    ("negative box", with_box("[-1, 20, 30, 40]"), fmt.OutsideImageError),
    ("point beyond the edge", with_point("[100, 25]"), fmt.OutsideImageError),
]


@pytest.mark.parametrize(("text", "error"), [f[1:] for f in OUTSIDE], ids=[f[0] for f in OUTSIDE])
def test_strict_refuses_what_tolerant_moves(text: str, error: type[AnswerError]) -> None:
    with pytest.raises(error):
        strict(text)


REPAIRS = [
    ("single quotes", completion(GOOD.replace('"', "'")), "single quotes"),
    (
        "an apostrophe in single quotes",
        completion("{'note': 'the patient's left', " + GOOD[1:].replace('"', "'")),
        "single quotes",
    ),
    (
        "an apostrophe in double quotes",
        completion('{"note": "the patient\'s left", ' + GOOD[1:-1] + ",}"),
        "further key note",
    ),
    ("bare keys", completion(GOOD.replace('"', "")), "without quotes"),
    ("code fence", completion(f"```json\n{GOOD}\n```"), "code fence"),
    ("numbers as texts", with_box('["10", " 20 ", "30.0", "40px"]'), "written as text"),
    ("a list around it", completion(f"[{GOOD}]"), "list with 1 objects"),
    ("trailing comma", completion(GOOD[:-1] + ",}"), "trailing comma"),
    ("unclosed bracket", completion(GOOD[:-2]), "unclosed bracket"),
    ("answer not closed", f"<think>Left lobe.</think><answer>{GOOD}", "not closed"),
    ("no answer tags", f"<think>Left lobe.</think> {GOOD}", "no <answer> block"),
    ("think not closed", f"<think>Left lobe.<answer>{GOOD}</answer>", "not closed"),
    ("text around the JSON", completion(f"The box is {GOOD}, I think."), "around the JSON"),
    ("text before", "Sure! " + completion(GOOD), "before the <think>"),
    ("text behind", completion(GOOD) + " Done.", "behind the <answer>"),
    ("a further key", completion(GOOD[:-1] + ', "confidence": 0.9}'), "further key confidence"),
    (
        "names of the data set",
        completion('{"bbox_2d": [10, 20, 30, 40], "point_2d": [[15, 25], [20, 30]]}'),
        "one list point_2d",
    ),
    (
        "three points in one list",
        completion('{"bbox": [10, 20, 30, 40], "points": [[15, 25], [20, 30], [1, 1]]}'),
        "1 more ignored",
    ),
    ("corners as two points", with_box("[[10, 20], [30, 40]]"), "nested lists"),
    ("reversed corners", with_box("[30, 40, 10, 20]"), "swapped"),
    ("a key twice", completion('{"bbox": [1, 2, 3, 4], ' + GOOD[1:]), "last value"),
]


@pytest.mark.parametrize(("text", "words"), [r[1:] for r in REPAIRS], ids=[r[0] for r in REPAIRS])
def test_tolerant_repairs_and_says_so(text: str, words: str) -> None:
    grounding = tolerant(text)
    assert grounding.bbox_xyxy_px == BOX
    assert grounding.points_xy_px == POINTS
    assert any(words in warning for warning in grounding.warnings), grounding.warnings
    assert grounding.reasoning == "Left lobe."


def test_tolerant_leaves_a_good_answer_without_warning() -> None:
    assert tolerant(completion(GOOD)) == strict(completion(GOOD))


def test_a_missing_trace_is_told() -> None:
    grounding = tolerant(f"<answer>{GOOD}</answer>")
    assert grounding.reasoning == ""
    assert grounding.warnings == ("There is no <think> block; the answer is without a trace",)


@pytest.mark.parametrize(
    "body",
    [
        "None",
        "not present",
        "Not_present.",
        '"not present"',
        "N/A",
        "absent",
        "The target is not visible on this slice.",
        '{"bbox": null, "points_1": null, "points_2": null}',
        '{"bbox": null}',
        "{'bbox': None, 'points': None}",
    ],
)
def test_other_words_for_null_are_read_and_told(body: str) -> None:
    grounding = tolerant(completion(body))
    assert not grounding.present
    assert grounding.points_xy_px is None
    assert grounding.warnings


@pytest.mark.parametrize("body", ["I cannot tell.", "present", "{}", "[]", "7", "[1, 2, 3, 4]"])
def test_words_that_do_not_say_absent_are_refused(body: str) -> None:
    with pytest.raises(AnswerError):
        tolerant(completion(body))


def test_a_box_beyond_the_image_is_clipped() -> None:
    grounding = tolerant(with_box("[-5, 20, 130, 40.5]"))
    assert grounding.bbox_xyxy_px == (0, 20, 100, 40.5)
    assert "beyond the image of 100 x 100 px; it was clipped" in grounding.warnings[0]


@pytest.mark.parametrize("box", ["[-50, 10, -5, 40]", "[10, 110, 20, 120]"])
def test_a_box_wholly_outside_is_refused_even_where_boxes_may_be_widened(box: str) -> None:
    with pytest.raises(fmt.DegenerateBoxError):
        tolerant(with_box(box), min_side_px=1)


@pytest.mark.parametrize(
    ("box", "widened"),
    [
        ("[50, 20, 50, 40]", (49.5, 20, 50.5, 40)),
        ("[0, 20, 0, 40]", (0, 20, 1, 40)),
        ("[10, 100, 20, 100]", (10, 99, 20, 100)),
    ],
)
def test_a_box_without_area_is_widened_where_asked_for(
    box: str, widened: tuple[float, ...]
) -> None:
    grounding = tolerant(with_box(box), min_side_px=1)
    assert grounding.bbox_xyxy_px == widened
    assert "widened to 1 px" in grounding.warnings[-1]


def test_a_point_outside_is_clipped_where_that_leaves_it_in_the_box() -> None:
    body = '{"bbox": [80, 20, 100, 40], "points_1": [103, 25], "points_2": [90, 30]}'
    grounding = tolerant(completion(body))
    assert grounding.points_xy_px == ((99.5, 25), (90, 30))
    assert "it was clipped" in grounding.warnings[0]


@pytest.mark.parametrize(
    ("point", "fitted"),
    [
        ("[150, -3]", (150, 0)),
        ("[150, 120]", (150, 99.5)),
        ("[-7, 90]", (0, 90)),
        ("[200, 100]", (199.5, 99.5)),
    ],
)
def test_each_axis_of_a_point_is_clipped_by_its_own_side(point: str, fitted: tuple) -> None:
    # The last pixel of an image of 200 x 100 px has its centre at (199.5, 99.5).
    body = f'{{"bbox": [0, 0, 200, 100], "points_1": {point}, "points_2": [20, 30]}}'
    grounding = fmt.parse_answer(completion(body), mode="tolerant", image_size=(200, 100))
    assert grounding.points_xy_px == (fitted, (20, 30))


def test_a_point_far_outside_gives_way_to_the_other_one() -> None:
    grounding = tolerant(with_point("[5000, 5000]"))
    assert grounding.points_xy_px == ((20, 30), (20, 30))
    assert "used twice" in grounding.warnings[0]


def test_two_points_far_outside_are_refused() -> None:
    body = '{"bbox": [10, 20, 30, 40], "points_1": [500, 1], "points_2": [-90, 300]}'
    with pytest.raises(fmt.OutsideImageError, match="both outside"):
        tolerant(completion(body))


# A completion that ran out of tokens within the last coordinate, which may be 3 or 30.
CUT = '{"bbox": [10, 20, 30, 40], "points_1": [15, 25], "points_2": [20, 3'


@pytest.mark.parametrize("opened", ["<think>x</think><answer>", "<think>x</think>"])
@pytest.mark.parametrize("cut", [CUT, CUT + " "])
def test_a_last_coordinate_that_may_have_lost_digits_is_refused(opened: str, cut: str) -> None:
    with pytest.raises(fmt.NotJsonError):
        tolerant(opened + cut)


@pytest.mark.parametrize("opened", ["<think>x</think><answer>", "<think>x</think>"])
@pytest.mark.parametrize("end", ["0]", "0,", "0</answer>", "0.5</answer>"])
def test_a_last_coordinate_that_something_follows_is_whole(opened: str, end: str) -> None:
    grounding = tolerant(opened + CUT[:-1] + "3" + end)
    assert grounding.points_xy_px == ((15, 25), (20, 30.5 if "." in end else 30))


def test_an_answer_inside_an_unfinished_trace_is_no_answer() -> None:
    with pytest.raises(fmt.MissingAnswerError, match="cut"):
        tolerant(f"<think>Perhaps {GOOD}, but")


def test_messages_repeat_no_sentence_of_the_completion() -> None:
    secret = "Jane Doe has a mass"  # pragma: allowlist secret - made up
    texts = [completion(secret, secret), with_box(f'"{secret}"'), with_point(f'["{secret}", 2]')]
    for text in texts:
        with pytest.raises(AnswerError) as caught:
            tolerant(text)
        assert "Jane" not in str(caught.value)


def test_unknown_mode_and_size_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="'lenient'"):
        fmt.parse_answer("", mode="lenient", image_size=100)
    with pytest.raises(ValueError, match="image_size is 0"):
        fmt.parse_answer("", image_size=0)


def test_real_looking_completions_parse_or_raise_an_answer_error(reward_cases) -> None:
    parsed = {"strict": 0, "tolerant": 0}
    for text in (case["completion"] for case in reward_cases):
        for mode in parsed:
            try:
                grounding = fmt.parse_answer(text, mode=mode, image_size=840)
            except AnswerError:
                continue
            parsed[mode] += 1
            x1, y1, x2, y2 = grounding.bbox_xyxy_px
            assert 0 <= x1 < x2 <= 840
            assert 0 <= y1 < y2 <= 840
            assert mode == "tolerant" or not grounding.warnings
    assert parsed["strict"] < parsed["tolerant"]
