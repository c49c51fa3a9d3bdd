# SPDX-License-Identifier: Apache-2.0
"""Reading values that clients send as text or as JSON.

MONAI Label's viewers show options as text cells and send what was typed; ``--conf`` values are
always text. A blank text means "not given". Every reader names the key, what was received and what
was expected; a free-text value is never repeated in a message.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from medreasoner_infer.errors import InputError

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_SHOWN_CHARACTERS = 60
_RUN_LENGTH = re.compile(r"[0-9]{1,12}", re.ASCII)
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def given(values: Mapping[str, Any], key: str) -> Any:
    """The value under ``key``, or ``None`` if it is absent, null or a blank text."""
    value = values.get(key)
    if isinstance(value, str) and not value.strip():
        return None
    return value


def read_text(values: Mapping[str, Any], key: str) -> str | None:
    """A text without surrounding blanks."""
    value = given(values, key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(f"{key!r} is of type {type(value).__name__}; expected a text.")
    return value.strip()


def read_choice(values: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> str | None:
    """One of ``allowed``, compared without case."""
    text = read_text(values, key)
    if text is not None and text.lower() not in allowed:
        raise InputError(f"{key!r} is {shown(text)}; expected one of: {', '.join(allowed)}.")
    return None if text is None else text.lower()


def read_bool(values: Mapping[str, Any], key: str) -> bool | None:
    """A truth value: JSON true or false, 0 or 1, or true/false, yes/no, on/off as text."""
    value = given(values, key)
    if value is None or isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise InputError(f"{key!r} is {shown(value)}; expected true or false.")


def read_int(values: Mapping[str, Any], key: str, minimum: int | None = None) -> int | None:
    """A whole number, ``8``, ``8.0`` or ``"8"``."""
    value = given(values, key)
    if value is None:
        return None
    number = _number(value)
    if number is None or number != int(number):
        raise InputError(f"{key!r} is {shown(value)}; expected a whole number.")
    if minimum is not None and number < minimum:
        raise InputError(f"{key!r} is {int(number)}; expected {minimum} or more.")
    return int(number)


def read_numbers(
    values: Mapping[str, Any], key: str, count: int, meaning: str
) -> tuple[float, ...] | None:
    """``count`` numbers as a list or as text, ``"x,y,z"`` or ``"[x, y, z]"``."""
    value = given(values, key)
    if value is None:
        return None
    numbers = _numbers(_items(value))
    if numbers is None or len(numbers) != count:
        raise InputError(f"{key!r} is {shown(value)}; expected {meaning}.")
    return numbers


def read_points(values: Mapping[str, Any], key: str, meaning: str) -> tuple[tuple[float, ...], ...]:
    """A list of points of three numbers each, also as JSON text; empty if not given."""
    value = given(values, key)
    if value is None:
        return ()
    points = _decoded(value)
    if not isinstance(points, (list, tuple)):
        raise InputError(f"{key!r} is {shown(value)}; expected {meaning}.")
    read = tuple(_numbers(point) for point in points)
    if any(point is None or len(point) != 3 for point in read):
        raise InputError(f"{key!r} is {shown(value)}; expected {meaning}.")
    return tuple(point for point in read if point is not None)


def read_runs(values: Mapping[str, Any], key: str) -> tuple[int, ...] | None:
    """Lengths of runs as a list, or as text with commas between."""
    value = given(values, key)
    if value is None:
        return None
    items = value.split(",") if isinstance(value, str) else value
    lengths = _run_lengths(items) if isinstance(items, (list, tuple)) else None
    if lengths is None:
        raise InputError(f"{key!r} is {shown(value)}; expected lengths of runs, zeros first.")
    return lengths


def _run_lengths(items: list[Any] | tuple[Any, ...]) -> tuple[int, ...] | None:
    written = [item if isinstance(item, str) else str(item) for item in items]
    if not all(_RUN_LENGTH.fullmatch(text) for text in written):
        return None
    return tuple(int(text) for text in written)


def shown(value: Any) -> str:
    """``value`` as it may stand in a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _items(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip().strip("[]()").replace(",", " ").split()
    return value


def _numbers(items: Any) -> tuple[float, ...] | None:
    if not isinstance(items, (list, tuple)):
        return None
    numbers = [_number(item) for item in items]
    if any(number is None for number in numbers):
        return None
    return tuple(number for number in numbers if number is not None)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def is_uid(text: str) -> bool:
    """Whether ``text`` is a UID (DICOM PS3.5, 9.1): digits and dots, at most 64 characters."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None
