# SPDX-License-Identifier: Apache-2.0
"""What the programmes of the embedded models cannot do without."""

from __future__ import annotations

from typing import Any, TypeVar, cast

T = TypeVar("T")


def required(value: T | None, missing: str) -> T:
    """``value``.

    Raises:
        ValueError: with the sentence ``missing``, where there is none.
    """
    if value is None:
        raise ValueError(missing)
    return value


def command_line(options: type[T]) -> T:
    """The command line, read into a dataclass by transformers' parser; ends the programme if wrong.

    Args:
        options: the dataclass; ``help`` in a field's metadata is shown by ``--help``.
    """
    from transformers import HfArgumentParser

    (read,) = HfArgumentParser(cast("Any", options)).parse_args_into_dataclasses()
    return cast("T", read)
