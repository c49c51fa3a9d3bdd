# SPDX-License-Identifier: Apache-2.0
"""From the text of an answer block to the object in it, or to what it says without one."""

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
from medreasoner_infer.answer.outcome_words import (
    NOT_UNDERSTOOD,
    WithoutBox,
    said_in_words,
    says_not_understood,
)
from medreasoner_infer.answer.repairs import Repairs, describe
from medreasoner_infer.types import OUTCOME_WORDS

MAX_STARTS = 16
_EXPECTED = "expected one JSON object or null"
_FENCE = re.compile(r"```[A-Za-z0-9]*")
_OUTCOME_KEYS = {"outcome", "answer", "result", "status"}
_AGREED: dict[WithoutBox, str | None] = {"absent": None, "not_understood": NOT_UNDERSTOOD}


class _DuplicateKeyError(ValueError):
    """A JSON object names one key twice."""


def read_body(text: str, repairs: Repairs, *, cut: bool = False) -> dict[str, object] | WithoutBox:
    """The object that an answer block holds, or what it says without one.

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
    said = said_in_words(text)
    if said is not None:
        asked = "null" if said == "absent" else "JSON"
        repairs.add(NotJsonError, f"The answer is in words, not {asked}", _read_as(said))
        return _AGREED[said]
    return _read_first_object(text.strip(), repairs, cut)


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


def _unwrap(value: object, repairs: Repairs) -> dict[str, object] | WithoutBox:
    """The object itself, taken out of a list where a model listed its findings."""
    for outcome, agreed in _AGREED.items():
        if value == agreed:
            return outcome
    if isinstance(value, list):
        value = _first_object(value, repairs)
    if isinstance(value, str):
        return _unwrap_text(value, repairs)
    if not isinstance(value, dict):
        raise NotJsonError(f"The answer is {describe(value)}; {_EXPECTED}.")
    said = _said_in_object(value)
    if said is None:
        return value
    repairs.add(NotJsonError, "The answer is an object that holds words", _read_as(said))
    return said


def _first_object(items: list[object], repairs: Repairs) -> object:
    """The first object of a list, or its only text; the list itself where it holds neither."""
    objects = [item for item in items if isinstance(item, dict)]
    if not objects:
        return items[0] if len(items) == 1 and isinstance(items[0], str) else items
    repairs.add(
        NotJsonError,
        f"The answer is a list with {len(objects)} objects",
        "the first object was taken",
    )
    return objects[0]


def _unwrap_text(text: str, repairs: Repairs) -> WithoutBox:
    said = said_in_words(text)
    if said is None:
        raise NotJsonError(f"The answer is {describe(text)}; {_EXPECTED}.")
    asked = "not null" if said == "absent" else f'not "{NOT_UNDERSTOOD}"'
    repairs.add(NotJsonError, f"The answer is a text, {asked}", _read_as(said))
    return said


def _said_in_object(members: dict[str, object]) -> WithoutBox | None:
    """What an object says in words, such as ``{"outcome": "not_understood"}``.

    Words beside a box count where they are an outcome of ours; others are the model's notes.
    """
    texts = {key.lower(): value for key, value in members.items() if isinstance(value, str)}
    if any(isinstance(value, (list, dict)) for value in members.values()):
        is_ours = texts.get("outcome", "").lower().replace("_", " ") == NOT_UNDERSTOOD
        return "not_understood" if is_ours else None
    if members.get("not_understood") is True or members.get("understood") is False:
        return "not_understood"
    if any(says_not_understood(text) for text in texts.values()):
        return "not_understood"
    said = (said_in_words(text) for key, text in texts.items() if key in _OUTCOME_KEYS)
    return next((outcome for outcome in said if outcome is not None), None)


def _read_as(said: WithoutBox) -> str:
    return f"it was read as: {OUTCOME_WORDS[said]}"
