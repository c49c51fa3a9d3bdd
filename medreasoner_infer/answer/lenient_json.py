# SPDX-License-Identifier: Apache-2.0
"""A small reader of almost-JSON as language models write it.

Beyond JSON it takes single quotes (an apostrophe inside such a text stays one), Python's ``True``,
``False`` and ``None``, bare keys, trailing commas, and brackets that were never closed. ``json``
and ``ast.literal_eval`` each refuse most of these; replacing ``'`` by ``"`` breaks every text that
holds an apostrophe.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

MAX_DEPTH = 16
_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CLOSES_TEXT = re.compile(r"\s*(?:[:,\]}]|$)")
_WORDS: dict[str, object] = {
    "null": None,
    "None": None,
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "NaN": float("nan"),
    "nan": float("nan"),
    "Infinity": float("inf"),
    "inf": float("inf"),
}
_JSON_WORDS = ("null", "true", "false")


class LenientSyntaxError(ValueError):
    """The text cannot be read even leniently; ``position`` is where reading stopped."""

    def __init__(self, position: int) -> None:
        super().__init__(f"cannot read the value at character {position}")
        self.position = position


@dataclass
class LenientReader:
    """Reads one value of ``text`` from ``position`` on; ``repairs`` names what was not JSON.

    ``cut`` says that the text was ended from outside (no ``</answer>`` followed).
    """

    text: str
    position: int = 0
    cut: bool = False
    repairs: set[str] = field(default_factory=set)

    def read(self, depth: int = 0) -> object:
        """The value at the position, which afterwards stands behind it.

        Raises:
            LenientSyntaxError: no value starts here, or it is nested deeper than ``MAX_DEPTH``.
        """
        char = self._peek()
        if depth > MAX_DEPTH or char == "":
            raise LenientSyntaxError(self.position)
        if char == "{":
            return self._read_object(depth)
        if char == "[":
            return self._read_list(depth)
        if char in "\"'":
            return self._read_text(char)
        return self._read_number_or_word()

    def _peek(self) -> str:
        """The next character that is not space, or an empty text at the end."""
        space = _SPACE.match(self.text, self.position)
        self.position = space.end() if space else self.position
        return self.text[self.position : self.position + 1]

    def _at_end_of(self, closing: str) -> bool:
        """Whether the collection ends here, taking its closing bracket if there is one."""
        char = self._peek()
        if char == "":
            if self.cut and self.text.rstrip()[-1:].isdigit():
                raise LenientSyntaxError(self.position)  # the last number may have lost digits
            self.repairs.add("an unclosed bracket was closed")
            return True
        if char in "]}":
            if char == closing:
                self.position += 1
            else:
                self.repairs.add("an unclosed bracket was closed")
            return True
        return False

    def _skip_comma(self, closing: str) -> None:
        if self._peek() == ",":
            self.position += 1
            if self._peek() in ("]", "}"):
                self.repairs.add("a trailing comma was dropped")
        elif self._peek() not in ("", "]", "}"):
            raise LenientSyntaxError(self.position)

    def _read_list(self, depth: int) -> list[object]:
        self.position += 1
        items: list[object] = []
        while not self._at_end_of("]"):
            items.append(self.read(depth + 1))
            self._skip_comma("]")
        return items

    def _read_object(self, depth: int) -> dict[str, object]:
        self.position += 1
        members: dict[str, object] = {}
        while not self._at_end_of("}"):
            key = self._read_key()
            if self._peek() != ":":
                raise LenientSyntaxError(self.position)
            self.position += 1
            if key in members:
                self.repairs.add("the last of a repeated key was taken")
            members[key] = self.read(depth + 1)
            self._skip_comma("}")
        return members

    def _read_key(self) -> str:
        char = self._peek()
        if char and char in "\"'":
            return self._read_text(char)
        word = _WORD.match(self.text, self.position)
        if word is None:
            raise LenientSyntaxError(self.position)
        self.repairs.add("a key without quotes was read")
        self.position = word.end()
        return word.group()

    def _read_text(self, quote: str) -> str:
        """A quoted text. A quote closes it only where a text may end, so ``'it's'`` is one text."""
        start = self.position
        end = start + 1
        while True:
            end = self.text.find(quote, end)
            if end < 0:
                raise LenientSyntaxError(start)
            if self.text[end - 1] != "\\" and _CLOSES_TEXT.match(self.text, end + 1):
                break
            end += 1
        if quote == "'":
            self.repairs.add("single quotes were read as double quotes")
        self.position = end + 1
        return self._unescape(self.text[start + 1 : end])

    @staticmethod
    def _unescape(body: str) -> str:
        try:
            text: str = json.loads(f'"{body}"')
        except ValueError:  # quotes or escapes that JSON does not know: keep the text as it stands
            return body
        return text

    def _read_number_or_word(self) -> object:
        number = _NUMBER.match(self.text, self.position)
        if number is not None:
            self.position = number.end()
            return _to_number(number.group())
        sign = -1 if self._peek() == "-" else 1
        word = _WORD.match(self.text, self.position + (sign < 0))
        if word is None or word.group() not in _WORDS:
            raise LenientSyntaxError(self.position)
        if word.group() not in _JSON_WORDS:
            self.repairs.add("a word that is not JSON was read")
        self.position = word.end()
        value = _WORDS[word.group()]
        return sign * value if isinstance(value, float) else value


def _to_number(text: str) -> int | float:
    """``text`` as int where it is one; a float otherwise (also for thousands of digits)."""
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    return float(text)
