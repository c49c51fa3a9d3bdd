# SPDX-License-Identifier: Apache-2.0
"""One place that decides whether a fault is refused or repaired, so that no repair is silent."""

from __future__ import annotations

from dataclasses import dataclass, field

from medreasoner_infer.errors import AnswerError


@dataclass
class Repairs:
    """Collects the repairs of one answer; where strict, it refuses the first fault."""

    tolerant: bool
    warnings: list[str] = field(default_factory=list)

    def add(self, error: type[AnswerError], problem: str, repair: str) -> None:
        """Record ``repair``, or raise ``error`` with ``problem`` when strict.

        Args:
            error: the fault's type.
            problem: what was received and what was expected.
            repair: what is done about it, past tense, for the person who reads the result.
        """
        if not self.tolerant:
            raise error(problem)
        self.warnings.append(f"{problem}; {repair}")


def describe(value: object) -> str:
    """``value`` for a message: numbers as they are, text only by its length."""
    if isinstance(value, int) and abs(value) >= 10**12:
        return "a huge integer"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    if isinstance(value, list):
        if len(value) > 8:
            return f"a list of {len(value)} items"
        return "[" + ", ".join(describe(item) for item in value) + "]"
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    return f"a {type(value).__name__}"
