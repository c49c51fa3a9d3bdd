# SPDX-License-Identifier: Apache-2.0
"""Targets that a small model was taught, and how it is asked for one that is recognised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from medreasoner_infer.answer import format_answer
from medreasoner_infer.errors import InputError
from medreasoner_infer.language import led_by_sentence, unsided
from medreasoner_infer.language.recognition import Recognition, recognised
from medreasoner_infer.language.recollection import FactIndex

SEVERAL_TARGETS = "The question asks for several targets; ask for one at a time."
UNKNOWN_TARGET = "The question names no single target that this model knows."


@dataclass(frozen=True)
class KnownTargets:
    """What a model was taught of the vocabulary.

    Attributes:
        questions: by target, with the patient's side where it is paired: how the model is asked
            for one that a question names, in the words that it knows best. With ``kidney`` beside
            ``left kidney`` a question may leave the side open.
        refuses_others: whether it knows nothing else. A model that was trained further may have
            learned what no list holds, and is asked everything.
        facts: by which a target is recognised; by default all facts and neighbours of the
            vocabulary.
    """

    questions: Mapping[str, str]
    refuses_others: bool = True
    facts: FactIndex | None = None

    def __post_init__(self) -> None:
        """Check what a file may have wrong.

        Raises:
            InputError: a name is not in the vocabulary, or a question is empty.
        """
        if not self._names:
            raise InputError("The model knows no target; expected one at least.")
        if not all(question.strip() for question in self.questions.values()):
            raise InputError("The question for a target is empty; expected one for each.")

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(map(unsided, self.questions))

    def asked(self, query: str) -> str:
        """The question as it is put to the model: in its own words, if it asks for one target."""
        found = self._recognised(query)
        return query if found is None else self.questions.get(found.name, query)

    def named(self, query: str) -> str:
        """The target that a question asks for, as far as the vocabulary tells; else empty."""
        found = self._recognised(query)
        return found.name if found is not None and found.read == "known" else ""

    def led_by(self, query: str) -> str:
        """A sentence on what led to the target that the model is asked for instead; or nothing."""
        found = self._recognised(query)
        if found is None or found.name not in self.questions:
            return ""
        return led_by_sentence(found.by)

    def refusal(self, query: str) -> str | None:
        """The answer to a question that the model need not be asked; ``None`` if it has to be."""
        found = self._recognised(query) if self.refuses_others else None
        if found is None or found.name in self.questions:
            return None
        return format_answer(_reason(found), None, None, outcome="not_understood")

    def _recognised(self, query: str) -> Recognition | None:
        return recognised(query, self._names, self.facts)


def _reason(found: Recognition) -> str:
    if found.read == "several":
        return SEVERAL_TARGETS
    if found.read == "known":
        return f"The question leaves the side open; ask for the left or the right {found.name}."
    if found.read == "outside":
        return f"The question asks for: {found.name}. This model does not know that target."
    return UNKNOWN_TARGET
