# SPDX-License-Identifier: Apache-2.0
"""Server-sent events (HTML standard, section 9.2.6) from the lines of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """One event; ``data`` holds plain JSON types."""

    name: str
    data: dict[str, Any]


def read_events(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events in ``lines``, each as soon as the empty line after it has come.

    Raises:
        ValueError: if an event's data is no JSON.
    """
    name, data = "message", []
    for raw in lines:
        line = raw.decode("utf-8").rstrip("\r\n")
        if not line:
            if data:
                yield Event(name, json.loads("\n".join(data)))
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        # A field without a name is a comment, by which the server keeps the connection open.
