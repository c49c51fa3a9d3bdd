# SPDX-License-Identifier: Apache-2.0
"""The one door for what a caller writes: bounded JSON, and strict models with named faults.

Nothing behind it has to expect a lone surrogate, a NaN, an integer of five thousand digits or a
list where a text belongs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from medreasoner_infer.errors import InputError

MAX_DEPTH = 16
MAX_ITEMS = 100_000
MAX_DIGITS = 40
MAX_NAME_CHARACTERS = 255
MAX_FAULTS = 5

_SEPARATORS = ("/", "\\")

Model = TypeVar("Model", bound="DoorModel")


class DoorModel(BaseModel):
    """What a route takes: known keys, no conversion between types, finite numbers."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


def is_clean_text(text: str) -> bool:
    """Whether ``text`` is valid Unicode (no lone surrogates) without NUL."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _clean(text: str) -> str:
    if not is_clean_text(text):
        raise ValueError("expected valid Unicode text without NUL")
    return text


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError("expected a name, which is no path and holds no control characters")
    return text


def is_name(text: str) -> bool:
    """Whether ``text`` may stand for a file in a folder of ours: no path, nothing unprintable."""
    return (
        0 < len(text.encode(errors="replace")) <= MAX_NAME_CHARACTERS
        and not text.startswith(".")
        and text.isprintable()
        and is_clean_text(text)
        and not any(separator in text for separator in _SEPARATORS)
    )


CleanText = Annotated[str, AfterValidator(_clean)]
# The id of an image or of another thing that was kept under the name its owner gave it.
Name = Annotated[str, Field(max_length=MAX_NAME_CHARACTERS), AfterValidator(_name)]
# Clients write an empty value for one that they do not give.
GivenName = Annotated[Name | None, BeforeValidator(lambda value: value or None)]
# What the server itself makes: stream ids, inference ids, session ids, tags of labels.
Token = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
GivenToken = Annotated[Token | None, BeforeValidator(lambda value: value or None)]


def decode_json(text: str | bytes, what: str) -> Any:
    """JSON as Python values, with every bound that the code behind relies on.

    Depth at most :data:`MAX_DEPTH`, :data:`MAX_ITEMS` values, integers of :data:`MAX_DIGITS`
    digits, finite numbers, valid Unicode without NUL.

    Args:
        what: how to name the text in a message, e.g. ``"the form field 'params'"``.

    Raises:
        InputError: if it is not JSON or goes beyond a bound; the value is not repeated.
    """
    try:
        value = json.loads(
            text, parse_constant=_not_finite, parse_int=_bounded_int, parse_float=_finite_float
        )
    except json.JSONDecodeError as error:
        raise InputError(
            f"{_upper(what)} is not JSON (at character {error.pos}); expected an object such as "
            '{"query": "..."}.'
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{_upper(what)} is not UTF-8 text.") from error
    except RecursionError as error:
        raise InputError(f"{_upper(what)} is nested too deeply; expected {MAX_DEPTH}.") from error
    except BoundError as error:
        raise InputError(f"{_upper(what)} {error}.") from error
    _check_bounds(value, what)
    return value


def decode_object(text: str | bytes, what: str) -> dict[str, Any]:
    """Like :func:`decode_json`, for a JSON object.

    Raises:
        InputError: as :func:`decode_json`, or if it is no object.
    """
    value = decode_json(text or "{}", what)
    if not isinstance(value, dict):
        raise InputError(
            f"{_upper(what)} holds a JSON {type(value).__name__}; expected an object such as "
            '{"query": "..."}.'
        )
    return value


def read_model(kind: type[Model], values: Any, what: str) -> Model:
    """``values`` as a model.

    Raises:
        InputError: if they do not fit; the message names the fields and repeats no value.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{_upper(what)} cannot be used: {faults(error.errors())}") from None


def faults(errors: Sequence[Any]) -> str:
    """The faults that pydantic or FastAPI found, by field, without what was sent."""
    told = [_fault(error) for error in errors[:MAX_FAULTS]]
    if len(errors) > MAX_FAULTS:
        told.append(f"{len(errors) - MAX_FAULTS} more")
    return "; ".join(told) + "."


def _fault(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    place = _place(error["loc"])
    # Our own readers name the key already.
    return message if message.startswith(place) else f"{place}: {message}"


def _place(location: Sequence[int | str]) -> str:
    # A key that the caller made up stands here as well, so it is cut.
    words = [str(part)[:40] for part in location if part not in ("body", "query", "path")]
    return repr(".".join(words).encode("ascii", "backslashreplace").decode() or "body")


class BoundError(Exception):
    """A value beyond what the server works with; the message finishes a sentence."""


def _not_finite(_: str) -> float:
    raise BoundError("holds a number that is not finite (NaN or Infinity)")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BoundError("holds a number that is not finite (NaN or Infinity)")
    return number


def _bounded_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise BoundError(f"holds an integer of {len(text)} digits; expected at most {MAX_DIGITS}")
    return int(text)


def _check_bounds(value: Any, what: str) -> None:
    try:
        for item in every_value(value, MAX_DEPTH, MAX_ITEMS):
            if isinstance(item, str) and not is_clean_text(item):
                raise BoundError("holds text that is not valid Unicode, or NUL")
    except BoundError as error:
        raise InputError(f"{_upper(what)} {error}.") from None


def every_value(value: Any, max_depth: int, max_items: int) -> Iterator[Any]:
    """A value of JSON and all within it, level by level, keys included.

    Raises:
        BoundError: it is nested deeper than ``max_depth``, or holds more than ``max_items``.
    """
    level, count = [value], 0
    for _ in range(max_depth):
        count += len(level)
        if count > max_items:
            raise BoundError(f"holds more than {max_items} values")
        yield from level
        level = [inner for item in level for inner in _inside(item)]
        if not level:
            return
    raise BoundError(f"is nested more than {max_depth} levels deep")


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _upper(what: str) -> str:
    return what[:1].upper() + what[1:]
