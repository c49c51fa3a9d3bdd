# SPDX-License-Identifier: Apache-2.0
"""The bounded regular expression of well-formed answers, for constrained decoding.

It keeps to what Python's ``re``, xgrammar and vLLM's back ends all read: no look-around, no
anchors, every repetition bounded. A regular expression of sensible size cannot say x1 < x2, so a
constrained box may still be reversed or without area;
:func:`~medreasoner_infer.answer.parse_answer` deals with both.
"""

from __future__ import annotations

from medreasoner_infer.answer.outcome_words import NOT_UNDERSTOOD

DEFAULT_REASONING_CHARS = 2000
UTF8_BYTES = 4

# No "<", which could open a tag, and no control character but the line feed: a trace goes into
# databases and DICOM text values, which refuse them. The first character is not a space.
_FIRST = r"[^<\x00-\x20\x7f]"
_FURTHER = r"[^<\x00-\x09\x0b-\x1f\x7f]"


def answer_regex(
    image_size: int | tuple[int, int], max_reasoning_chars: int = DEFAULT_REASONING_CHARS
) -> str:
    """Regular expression that the whole completion of a well-behaved reasoner matches.

    Coordinates are integers without leading zeros: 0…size - 1 for points and the box's first
    corner, 0…size for its second corner. JSON may have one space after a comma or a colon.

    Args:
        image_size: side of the square, or (width, height), in reasoner px.
        max_reasoning_chars: bound on the reasoning trace; 0 leaves the ``<think>`` block out, for a
            direct prompt.

    Raises:
        ValueError: a size below 1 or a negative bound.
    """
    width, height = split_size(image_size)
    if max_reasoning_chars < 0:
        raise ValueError(f"max_reasoning_chars is {max_reasoning_chars}; expected 0 or more.")
    start, end = rf"{_upto(width - 1)}, ?{_upto(height - 1)}", rf"{_upto(width)}, ?{_upto(height)}"
    box = rf'"bbox": ?\[{start}, ?{end}\]'
    points = ", ?".join(rf'"{key}": ?\[{start}\]' for key in ("points_1", "points_2"))
    answer = rf'<answer>(?:null|\{{{box}, ?{points}\}}|"{NOT_UNDERSTOOD}")</answer>'
    if max_reasoning_chars == 0:
        return answer
    return rf"<think>{_FIRST}{_FURTHER}{{0,{max_reasoning_chars - 1}}}</think>\n?{answer}"


def max_answer_bytes(image_size: int | tuple[int, int], max_reasoning_chars: int) -> int:
    """Length in UTF-8 bytes that no match of :func:`answer_regex` exceeds.

    Every token stands for at least one byte, so this many tokens always suffice.
    """
    width, height = split_size(image_size)
    corner = f"{width}, {height}"
    longest = (
        f'<think></think>\n<answer>{{"bbox": [{corner}, {corner}], '
        f'"points_1": [{corner}], "points_2": [{corner}]}}</answer>'
    )
    return len(longest) + UTF8_BYTES * max_reasoning_chars


def split_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a square's side or of a pair.

    Raises:
        ValueError: a side below one pixel.
    """
    width, height = (image_size, image_size) if isinstance(image_size, int) else image_size
    if width < 1 or height < 1:
        raise ValueError(f"image_size is {image_size!r}; expected sides of at least 1 px.")
    return int(width), int(height)


def _upto(maximum: int) -> str:
    """Group that matches exactly the decimal integers 0…maximum."""
    digits = str(maximum)
    choices = [f"[0-{digits}]"] if len(digits) == 1 else ["[0-9]"]
    choices += [f"[1-9][0-9]{{{n - 1}}}" for n in range(2, len(digits))]
    if len(digits) > 1:
        choices += _same_length(digits)
    return "(?:" + "|".join(choices) + ")"


def _same_length(digits: str) -> list[str]:
    """Alternatives for the integers with as many digits as ``digits``, up to it."""
    choices = []
    for index, digit in enumerate(digits):
        low, high = (1 if index == 0 else 0), int(digit) - 1
        if high >= low:
            rest = len(digits) - index - 1
            tail = f"[0-9]{{{rest}}}" if rest else ""
            choices.append(f"{digits[:index]}[{low}-{high}]{tail}")
    return [*choices, digits]
