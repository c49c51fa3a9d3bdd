# SPDX-License-Identifier: Apache-2.0
"""How clinicians and patients speak of what an image shows, in eight languages and Latin."""

from __future__ import annotations

from medreasoner_infer.language.errors import VocabularyError
from medreasoner_infer.language.grammar import (
    LANGUAGES,
    SIDES,
    SLOTS,
    Language,
    Name,
    Side,
    Slot,
    Tongue,
    phrase,
)
from medreasoner_infer.language.lists import questions_of
from medreasoner_infer.language.plain import plain_text
from medreasoner_infer.language.reading import read_vocabulary, vocabulary
from medreasoner_infer.language.sides import unsided
from medreasoner_infer.language.vocabulary import (
    Fact,
    FactKind,
    Forms,
    Neighbour,
    Outside,
    Target,
    Vocabulary,
    led_by_sentence,
)

__all__ = [
    "LANGUAGES",
    "SIDES",
    "SLOTS",
    "Fact",
    "FactKind",
    "Forms",
    "Language",
    "Name",
    "Neighbour",
    "Outside",
    "Side",
    "Slot",
    "Target",
    "Tongue",
    "Vocabulary",
    "VocabularyError",
    "led_by_sentence",
    "phrase",
    "plain_text",
    "questions_of",
    "read_vocabulary",
    "unsided",
    "vocabulary",
]
