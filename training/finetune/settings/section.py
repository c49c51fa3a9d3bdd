# SPDX-License-Identifier: Apache-2.0
"""How a section of the configuration declares its settings: type, range, and what TRL calls them.

A setting that TRL, or peft, has as well is declared here once, with ``theirs``, and handed on by
:func:`their_arguments`. TRL's own dataclasses are not taken over: servers without TRL read
configurations as well, and most of its 150 fields are no site's to set (``hub_token``).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Strict
from pydantic_core import PydanticCustomError

from medreasoner_training.finetune.errors import FineTuneConfigError


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "Input should be a number")
    return value


#: ``true`` is no number and 2.5 no count. A text may be a float: YAML 1.1 reads 1e-5 as text.
Count = Annotated[int, Strict()]
Real = Annotated[float, BeforeValidator(_no_flag)]


@dataclass(frozen=True)
class Range:
    """Finite numbers from ``least``, or above ``above``, up to ``most``, or below ``below``."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        low = f"above {self.above}" if self.least is None else f"{self.least}"
        if self.below is not None:
            return f"{low} to below {self.below}"
        if self.most is not None:
            return f"{low} to {self.most}"
        return low if self.least is None else f"{low} or more"


def setting(default: Any, *, theirs: str | None = None, **bounds: float) -> Any:
    """A field of a :class:`Section`.

    Args:
        default: its value where the configuration gives none; ``None`` is in every range.
        theirs: name of the argument of TRL or peft that it is.
        bounds: of its :class:`Range`.
    """
    metadata = {"theirs": theirs, "range": Range(**bounds) if bounds else None}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Section:
    """A part of the configuration, whose values are checked against their ranges.

    Raises:
        FineTuneConfigError: naming the key.
    """

    key: ClassVar[str] = ""
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "coerce_numbers_to_str": True}

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            allowed, value = each.metadata.get("range"), getattr(self, each.name)
            if allowed is not None and value is not None:
                self.require(value in allowed, each.name, allowed)

    def require(self, ok: bool, name: str, expected: object) -> None:
        """Refuse the value of a field.

        Raises:
            FineTuneConfigError: unless ``ok``.
        """
        if not ok:
            value = getattr(self, name)
            raise FineTuneConfigError(f"{self.key}.{name} is {value!r}; expected {expected}.")


def their_arguments(section: Section) -> dict[str, Any]:
    """The settings that TRL or peft has as well, by the names that they have there."""
    named = [(each.metadata.get("theirs"), each.name) for each in dataclasses.fields(section)]
    found = {theirs: getattr(section, name) for theirs, name in named if theirs is not None}
    return {key: value.value if isinstance(value, Enum) else value for key, value in found.items()}
