# SPDX-License-Identifier: Apache-2.0
"""From the text of an answer block to the object in it, or ``None`` for an absent target."""

from __future__ import annotations

import json
import re

from medreasoner_infer.answer.errors import (
    ExtraTextError,
    MissingAnswerError,
    NotJsonError,
    UnexpectedKeyError,
)
from medreasoner_infer.answer.lenient_json import LenientReader, LenientSyntaxError
from medreasoner_infer.answer.repairs import Repairs, describe

MAX_STARTS = 16
_EXPECTED = "expected one JSON object or null"
_FENCE = re.compile(r"```[A-Za-z0-9]*")
_ABSENT_WORD = re.compile(r"(?:none|n/?a|absent|not[ _-]?present|no target)\.?", re.IGNORECASE)
_ABSENT_SENTENCE = re.compile(
    r"\b(?:absent|not (?:present|visible|seen|found|there|shown|identifiable|on this))\b",
    re.IGNORECASE,
)


class _DuplicateKeyError(ValueError):
    """A JSON object names one key twice."""


def read_body(text: str, repairs: Repairs, *, cut: bool = False) -> dict[str, object] | None:
    """The object that an answer block holds; ``None`` when it says that the target is absent.

    Args:
        text: what stands between the tags.
        repairs: decides about them and collects them.
        cut: whether the text ended without its closing tag, so that its last number
            may be incomplete.

    Raises:
        AnswerError: the text is no JSON object (or cannot be repaired into one).
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique_keys)
    except _DuplicateKeyError:
        repairs.add(UnexpectedKeyError, "The answer names a key twice", "its last value was taken")
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _read_leniently(text, repairs, cut)
    return _unwrap(value, repairs)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _DuplicateKeyError
    return members


def _read_leniently(text: str, repairs: Repairs, cut: bool) -> object:
    """A value out of text that is not JSON."""
    if not repairs.tolerant:
        raise NotJsonError(f"The answer block is not JSON; {_EXPECTED}.")
    text, fences = _FENCE.subn("", text)
    if fences:
        repairs.add(ExtraTextError, "A code fence surrounds the JSON", "it was dropped")
    if _says_absent(text):
        repairs.add(NotJsonError, "The answer is in words, not null", "it was read as: not present")
        return None
    return _read_first_object(text.strip(), repairs, cut)


def _says_absent(text: str) -> bool:
    """Whether words without any coordinate say that the target is not on the image."""
    if re.search(r"[\[{\d]", text):
        return False
    return bool(_ABSENT_WORD.fullmatch(text.strip()) or _ABSENT_SENTENCE.search(text))


def _read_first_object(text: str, repairs: Repairs, cut: bool) -> object:
    """The first object or list in ``text`` that can be read, ignoring what stands around it."""
    if not text:
        raise MissingAnswerError(f"The <answer> block is empty; {_EXPECTED}.")
    for start in [m.start() for m in re.finditer(r"[{\[]", text)][:MAX_STARTS]:
        reader = LenientReader(text, start, cut)
        try:
            value = reader.read()
        except LenientSyntaxError:
            continue
        for repair in sorted(reader.repairs):
            repairs.add(NotJsonError, "The answer is not valid JSON", repair)
        if start > 0 or text[reader.position :].strip():
            repairs.add(ExtraTextError, "Text stands around the JSON", "it was ignored")
        return value
    raise NotJsonError(f"The answer block holds no readable JSON object; {_EXPECTED}.")


def _unwrap(value: object, repairs: Repairs) -> dict[str, object] | None:
    """The object itself, taken out of a list where a model listed its findings."""
    if value is None:
        return None
    if isinstance(value, str) and _says_absent(value):
        repairs.add(NotJsonError, "The answer is a text, not null", "it was read as: not present")
        return None
    if isinstance(value, list):
        objects = [item for item in value if isinstance(item, dict)]
        if objects:
            repairs.add(
                NotJsonError,
                f"The answer is a list with {len(objects)} objects",
                "the first object was taken",
            )
            return objects[0]
    if not isinstance(value, dict):
        raise NotJsonError(f"The answer is {describe(value)}; {_EXPECTED}.")
    return value
