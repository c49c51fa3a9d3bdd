# SPDX-License-Identifier: Apache-2.0
"""What is repaired in an answer is told once, in these words, and nothing else is told."""

from __future__ import annotations

import math

import pytest

from medreasoner_infer import answer as fmt
from medreasoner_infer.answer.lenient_json import MAX_DEPTH, LenientReader, LenientSyntaxError
from medreasoner_infer.answer.repairs import describe
from medreasoner_infer.types import Grounding

KEYS = '"bbox": [10, 20, 30, 40], "points_1": [15, 25], "points_2": [20, 30]'
GOOD = f"{{{KEYS}}}"
BARE = GOOD.replace('"', "")
BOX, POINTS = (10.0, 20.0, 30.0, 40.0), ((15.0, 25.0), (20.0, 30.0))
SINGLE_QUOTES = "The answer is not valid JSON; single quotes were read as double quotes"
BARE_KEYS = "The answer is not valid JSON; a key without quotes was read"
COMMA = "The answer is not valid JSON; a trailing comma was dropped"
BRACKET = "The answer is not valid JSON; an unclosed bracket was closed"
WORD = "The answer is not valid JSON; a word that is not JSON was read"
AROUND = "Text stands around the JSON; it was ignored"
NOTE = "The answer has the further key note; ignored"


def tolerant(body: str, **options: object) -> Grounding:
    text = f"<think>Left lobe.</think><answer>{body}</answer>"
    return fmt.parse_answer(text, mode="tolerant", image_size=100, **options)


def single(text: str) -> str:
    """The good answer in single quotes, behind a note."""
    return "{'note': '" + text + "', " + KEYS.replace('"', "'") + "}"


@pytest.mark.parametrize(
    ("body", "warnings"),
    [
        (GOOD, ()),
        (GOOD.replace(", ", ",").replace(": ", ":"), ()),
        (BARE, (BARE_KEYS,)),
        (BARE.replace(", ", ",").replace(": ", ":"), (BARE_KEYS,)),
        (single(""), (SINGLE_QUOTES, NOTE)),
        (single("the patient's left"), (SINGLE_QUOTES, NOTE)),
        (single("the patients'"), (SINGLE_QUOTES, NOTE)),
        (single("the \\'left\\', I think"), (SINGLE_QUOTES, NOTE)),
        (single(": left"), (SINGLE_QUOTES, NOTE)),
        (single("left\\nlobe"), (SINGLE_QUOTES, NOTE)),
        (GOOD[:-1] + ",}", (COMMA,)),
        (GOOD.replace("40]", "40,]"), (COMMA,)),
        (GOOD[:-1], (BRACKET,)),
        (GOOD[:-2], (BRACKET,)),
        (GOOD.replace("30]}", "30}"), (BRACKET,)),
        (f"{GOOD[:-1]}, note: None}}", (BARE_KEYS, WORD, NOTE)),
        (f"{GOOD[:-1]}, note: null}}", (BARE_KEYS, NOTE)),
        (
            f"{{bbox: [1, 2, 3, 4], {KEYS}}}",
            (BARE_KEYS, "The answer is not valid JSON; the last of a repeated key was taken"),
        ),
        (f"The box: {GOOD}", (AROUND,)),
        (f"{GOOD} it is", (AROUND,)),
        (f" {BARE} ", (BARE_KEYS,)),
        ("{what} " + GOOD, (AROUND,)),
        (f"```\n{GOOD}\n```", ("A code fence surrounds the JSON; it was dropped",)),
        (
            f"[{GOOD}, {{}}]",
            ("The answer is a list with 2 objects; the first object was taken",),
        ),
        (
            f'[7, {GOOD}, "x"]',
            ("The answer is a list with 1 objects; the first object was taken",),
        ),
        (
            f'{{"bbox": [1, 2, 3, 4], {KEYS}}}',
            ("The answer names a key twice; its last value was taken",),
        ),
        (
            '{"bbox": [[10, 20], [30, 40]], "points_1": [15, 25], "points_2": [20, 30]}',
            (
                "bbox is [[10, 20], [30, 40]]; expected a list of 4 numbers; the nested lists were "
                "joined",
            ),
        ),
        (
            '{"bbox": ["10", " +20. ", "30 px", 40], "points_1": [15, 25], "points_2": [20, 30]}',
            (
                "bbox is [a text of 2 characters, a text of 6 characters, a text of 5 characters, "
                "40]; expected a list of 4 numbers; numbers written as text were read",
            ),
        ),
        (
            '{"bbox": [10, 20, 30, 40], "points": [15, 25, 20, 30]}',
            ("The points are in one list points; the first two were taken",),
        ),
        (
            '{"bbox": [10, 20, 30, 40], "keypoints": [[15, 25], [20, 30], [1, 1], [2, 2]]}',
            ("The points are in one list keypoints; the first two were taken, 2 more ignored",),
        ),
        (
            f'{{{KEYS}, "box": [1, 2, 3, 4], "points": [[1, 1], [2, 2]]}}',
            (
                "The answer has the further key box; ignored",
                "The answer has the further key points; ignored",
            ),
        ),
        (
            f'{{{KEYS}, "{"n" * 20}": 1, "{"n" * 21}": 1, "a b": 1}}',
            (
                f"The answer has the further key {'n' * 20}; ignored",
                "The answer has the further key a text of 21 characters; ignored",
                "The answer has the further key a text of 3 characters; ignored",
            ),
        ),
        (
            '{"bbox": [30, 40, 10, 20], "points_1": [15, 25], "points_2": [20, 30]}',
            (
                "bbox is [30.0, 40.0, 10.0, 20.0] with corners in reverse; expected x1 < x2 and "
                "y1 < y2; they were swapped",
            ),
        ),
        (
            '{"bbox": [10, 40, 30, 20], "points_1": [15, 25], "points_2": [20, 30]}',
            (
                "bbox is [10.0, 40.0, 30.0, 20.0] with corners in reverse; expected x1 < x2 and "
                "y1 < y2; they were swapped",
            ),
        ),
    ],
)
def test_each_repair_is_told_in_its_words_and_none_that_was_not_made(body, warnings) -> None:
    assert tolerant(body) == Grounding("Left lobe.", BOX, POINTS, warnings)


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("<think></think>", ("The <think> block is empty; the answer is without a trace",)),
        ("", ("There is no <think> block; the answer is without a trace",)),
        (
            "Well, <think></think>",
            (
                "Text stands before the <think> block; it was ignored",
                "The <think> block is empty; the answer is without a trace",
            ),
        ),
        (
            "<think></think> so ",
            (
                "The <think> block is empty; the answer is without a trace",
                "Text stands before the <answer> block; it was ignored",
            ),
        ),
    ],
)
def test_what_is_wrong_around_the_answer_is_told(text, warnings) -> None:
    found = fmt.parse_answer(f"{text}<answer>null</answer>", mode="tolerant", image_size=9)
    assert found == Grounding("", None, None, warnings)


def test_without_a_trace_to_be_there_an_empty_one_is_no_fault() -> None:
    for text in ("<think> </think>", ""):
        found = fmt.parse_answer(
            f"{text}<answer>null</answer>", image_size=9, require_reasoning=False
        )
        assert found == Grounding("", None, None)


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (
            "<think>a <answer> b</think><answer>null</answer>",
            ("The <think> block holds a tag of the format; it was dropped",),
        ),
        (
            "<think>a  b<answer>null</answer>",
            ("The <think> block is not closed; it was ended at the answer",),
        ),
        (
            "<think>a  b</think><answer>null",
            ("The <answer> block is not closed; it was read as it is",),
        ),
        (
            "<think>a  b</think><answer>null</answer> done",
            ("Text stands behind the <answer> block; it was ignored",),
        ),
        (
            "<think>a  b</think><answer>n/a</answer>",
            ("The answer is in words, not null; it was read as: not present",),
        ),
        (
            '<think>a  b</think><answer>"n/a"</answer>',
            ("The answer is a text, not null; it was read as: not present",),
        ),
        (
            '<think>a  b</think><answer>{"bbox": null, "points": null}</answer>',
            ("The answer's values are all null; it was read as: not present",),
        ),
    ],
)
def test_an_absent_target_is_told_with_what_was_repaired(text, warnings) -> None:
    found = fmt.parse_answer(text, mode="tolerant", image_size=9)
    assert found == Grounding("a  b", None, None, warnings)


@pytest.mark.parametrize("count", [16, 17])
def test_an_object_is_looked_for_at_sixteen_places(count) -> None:
    text = "{! " * (count - 1) + BARE
    if count == 16:
        assert tolerant(text).warnings == (BARE_KEYS, AROUND)
        return
    with pytest.raises(fmt.NotJsonError, match="no readable JSON object"):
        tolerant(text)


@pytest.mark.parametrize(
    ("text", "value", "repairs", "position"),
    [
        ("7", 7, set(), 1),
        (" -7.50 ", -7.5, set(), 6),
        ("+.5e1", 5.0, set(), 5),
        ("9" * 18, 10**18 - 1, set(), 18),
        ("null x", None, set(), 4),
        ("True", True, {"a word that is not JSON was read"}, 4),
        ("false", False, set(), 5),
        ("Infinity", math.inf, {"a word that is not JSON was read"}, 8),
        ("-inf", -math.inf, {"a word that is not JSON was read"}, 4),
        ("[]", [], set(), 2),
        ("[1,2]x", [1, 2], set(), 5),
        ("[1, [2], ]", [1, [2]], {"a trailing comma was dropped"}, 10),
        ("[1, 2", [1, 2], {"an unclosed bracket was closed"}, 5),
        ("{}", {}, set(), 2),
        ('{"a":1,"b":[2]}', {"a": 1, "b": [2]}, set(), 15),
        ('{"a": [1}', {"a": [1]}, {"an unclosed bracket was closed"}, 9),
        ("{a_1: 'x'}", {"a_1": "x"},
         {"a key without quotes was read", "single quotes were read as double quotes"}, 10),
        ('"a\\u00e9\\n"', "aé\n", set(), 11),
        ('"a\\q"', "a\\q", set(), 5),
    ],
)  # fmt: skip
def test_almost_json_is_read_up_to_its_end(text, value, repairs, position) -> None:
    reader = LenientReader(text)
    assert repr(reader.read()) == repr(value)
    assert (reader.repairs, reader.position) == (repairs, position)


@pytest.mark.parametrize(
    ("text", "position"),
    [("", 0), ("  ", 2), ("!", 0), ("[1 2]", 3), ("{1: 2}", 1), ("{a 1}", 3), ('"open', 0),
     ("-word", 0), ("[,]", 1), ("{'a'", 4)],
)  # fmt: skip
def test_what_cannot_be_read_says_where(text, position) -> None:
    with pytest.raises(LenientSyntaxError, match=f"at character {position}$") as caught:
        LenientReader(text).read()
    assert caught.value.position == position


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_values_may_be_nested_sixteen_deep(opening) -> None:
    assert MAX_DEPTH == 16
    assert LenientReader(opening * 16 + "7").read()
    with pytest.raises(LenientSyntaxError):
        LenientReader(opening * 17 + "7").read()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10**12 - 1, "999999999999"),
        (10**12, "a huge integer"),
        (-(10**12), "a huge integer"),
        (1.5, "1.5"),
        (True, "True"),
        (None, "None"),
        ("abc", "a text of 3 characters"),
        ([1] * 8, "[1, 1, 1, 1, 1, 1, 1, 1]"),
        ([1] * 9, "a list of 9 items"),
        ({"a": 1}, "an object with 1 keys"),
        ((1,), "a tuple"),
    ],
)
def test_messages_show_numbers_and_of_texts_the_length(value, text) -> None:
    assert describe(value) == text


@pytest.mark.parametrize(
    ("box", "widened", "side"),
    [
        ("[50, 20, 50, 40]", (48.0, 20, 52.0, 40), 4),
        ("[1, 20, 1, 40]", (0, 20, 4, 40), 4),
        ("[99, 20, 99, 40]", (96, 20, 100, 40), 4),
        ("[100, 20, 100, 40]", (96, 20, 100, 40), 4),
        ("[100, 20, 130, 40]", (96, 20, 100, 40), 4),
        ("[-9, 20, 0, 40]", (0, 20, 4, 40), 4),
        ("[10, 50, 30, 50]", (10, 0, 30, 100), 500),
    ],
)
def test_a_box_without_width_is_widened_about_its_place_and_stays_inside(
    box, widened, side
) -> None:
    body = f'{{"bbox": {box}, "points_1": [15, 25], "points_2": [20, 30]}}'
    found = tolerant(body, min_side_px=side)
    assert found.bbox_xyxy_px == widened
    assert found.warnings[-1].endswith(f"it was widened to {min(side, 100)} px")


def test_a_thin_box_keeps_its_own_width() -> None:
    body = '{"bbox": [50, 20, 50.5, 40], "points_1": [15, 25], "points_2": [20, 30]}'
    found = tolerant(body, min_side_px=4)
    assert (found.bbox_xyxy_px, found.warnings) == ((50, 20, 50.5, 40), ())


@pytest.mark.parametrize(
    ("first", "second", "points", "said"),
    [
        ([99.9, 0], [0, 99.9], ((99.9, 0.0), (0.0, 99.9)), ()),
        ([-1, 25], [20, 30], ((20.0, 30.0), (20.0, 30.0)), ("points_1",)),
        ([20, 30], [20, 100], ((20.0, 30.0), (20.0, 30.0)), ("points_2",)),
    ],
)
def test_a_point_is_inside_from_the_first_edge_to_before_the_last(
    first, second, points, said
) -> None:
    body = f'{{"bbox": [10, 20, 30, 40], "points_1": {first}, "points_2": {second}}}'
    found = tolerant(body)
    assert found.points_xy_px == points
    assert tuple(warning.split()[0] for warning in found.warnings) == said
    for warning in found.warnings:
        assert warning.endswith(
            "outside the image of 100 x 100 px; the other key point was used twice"
        )


@pytest.mark.parametrize(
    ("box", "point", "fitted"),
    [
        # The clipped point (0, 25) lies on the box's edge, or just beside the box.
        ("[0, 20, 30, 40]", "[-5, 25]", (0.0, 25.0)),
        ("[1, 20, 30, 40]", "[-5, 25]", (20.0, 30.0)),
        ("[80, 20, 99.5, 40]", "[105, 25]", (99.5, 25.0)),
        ("[80, 20, 99, 40]", "[105, 25]", (20.0, 30.0)),
        ("[0, 0, 30, 40]", "[15, -5]", (15.0, 0.0)),
        ("[0, 1, 30, 40]", "[15, -5]", (20.0, 30.0)),
        ("[0, 60, 30, 99.5]", "[15, 105]", (15.0, 99.5)),
        ("[0, 60, 30, 99]", "[15, 105]", (20.0, 30.0)),
    ],
)
def test_a_clipped_point_counts_up_to_the_edge_of_the_box(box, point, fitted) -> None:
    body = f'{{"bbox": {box}, "points_1": {point}, "points_2": [20, 30]}}'
    assert tolerant(body).points_xy_px == (fitted, (20.0, 30.0))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[1, 2]", "bbox is [1, 2]; expected a list of 4 numbers."),
        ("[[1, 2], 3, 4]", "bbox is [[1, 2], 3, 4]; expected a list of 4 numbers."),
        ("[]", "bbox is []; expected a list of 4 numbers."),
        ('["x"]', "bbox is [a text of 1 characters]; expected a list of 4 numbers."),
        ("[1, 2, 3, false]", "bbox is [1, 2, 3, False]; expected a list of 4 numbers."),
    ],
)  # fmt: skip
def test_a_box_beyond_repair_is_described(value, message) -> None:
    body = f'{{"bbox": {value}, "points_1": [15, 25], "points_2": [20, 30]}}'
    with pytest.raises(fmt.MalformedBoxError) as caught:
        tolerant(body)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ('{"points_1": [1, 2]}', fmt.MissingKeyError,
         "The answer has no bbox, points_2; expected bbox, points_1, points_2."),
        ('{"bbox": [1, 2, 3, 4], "points": [[1, 2]]}', fmt.MalformedPointError,
         "points is [[1, 2]]; expected two points [x, y]."),
        ('{"bbox": [1, 2, 3, 4], "points": [1, 2, 3, 4, 5]}', fmt.MalformedPointError,
         "points_1 is 1; expected a list of 2 numbers."),
        ('{"bbox": [1, 2, 3, 4], "points": 7}', fmt.MalformedPointError,
         "points is 7; expected two points [x, y]."),
        ("  ", fmt.MissingAnswerError,
         "The <answer> block is empty; expected one JSON object or null."),
        ("7", fmt.NotJsonError, "The answer is 7; expected one JSON object or null."),
        ("[7]", fmt.NotJsonError, "The answer is [7]; expected one JSON object or null."),
    ],
)  # fmt: skip
def test_an_answer_beyond_repair_is_described(body, error, message) -> None:
    with pytest.raises(error) as caught:
        tolerant(body)
    assert str(caught.value) == message


@pytest.mark.parametrize("size", [0, -1, (0, 5), (5, 0)])
def test_an_image_has_at_least_one_pixel(size) -> None:
    with pytest.raises(ValueError, match="at least 1 px"):
        fmt.answer_regex(size)


def test_a_pattern_s_trace_has_no_negative_length_and_may_have_one_character() -> None:
    with pytest.raises(ValueError, match="max_reasoning_chars is -1; expected 0 or more"):
        fmt.answer_regex(100, -1)
    assert "{0,0}</think>" in fmt.answer_regex(100, 1)
    assert fmt.DEFAULT_REASONING_CHARS == 2000
    assert "{0,1999}</think>" in fmt.answer_regex(100)
