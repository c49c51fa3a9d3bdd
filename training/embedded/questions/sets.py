# SPDX-License-Identifier: Apache-2.0
"""Whole sets of distinct questions."""

from __future__ import annotations

import numpy as np

from medreasoner_infer.language import LANGUAGES, Language

from .question import KINDS, SPLITS, Kind, Question, Split
from .writer import QuestionWriter

KIND_SHARES: dict[Kind, float] = {
    "name": 0.16,
    "synonym": 0.11,
    "latin": 0.05,
    "abbreviation": 0.03,
    "lay": 0.05,
    "implicit": 0.22,
    "misspelt": 0.12,
    "several": 0.08,
    "outside": 0.12,
    "nonsense": 0.06,
}
ENGLISH_SHARE = 0.4
"""Of the questions; the other languages have equal parts of the rest."""
DRAWS_PER_QUESTION = 20


def question_set(
    writer: QuestionWriter,
    split: Split,
    count: int,
    seed: int,
    kinds: dict[Kind, float] | None = None,
) -> list[Question]:
    """Distinct questions of one split in random order; fewer than ``count`` where it holds no more.

    Args:
        writer: writes them.
        split: what they are for.
        count: how many.
        seed: equal seeds give equal sets; those of the splits differ.
        kinds: the share of each kind; :data:`KIND_SHARES` by default.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    shares = kinds or KIND_SHARES
    names = [kind for kind in KINDS if kind in shares]
    weights = np.array([shares[kind] for kind in names])
    found: dict[str, Question] = {}
    for _ in range(DRAWS_PER_QUESTION * count):
        if len(found) == count:
            break
        kind = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        question = writer.write(kind, _language(rng), split, rng)
        if question is not None:
            found.setdefault(question.text, question)
    return list(found.values())


def _language(rng: np.random.Generator) -> Language:
    if rng.random() < ENGLISH_SHARE:
        return "en"
    return LANGUAGES[1 + int(rng.integers(len(LANGUAGES) - 1))]
