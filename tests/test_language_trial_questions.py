# SPDX-License-Identifier: Apache-2.0
"""Implicit questions that were written before the facts were: how many the vocabulary reads.

A row of ``data/trial_questions.tsv`` is language, target (empty: none is known) and question. They
are by the hand that wrote the facts, so the shares are not those of strangers' questions. A wrong
target is worse than none, so none may be wrong.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from medreasoner_infer.language.recognition import recognised
from medreasoner_training.embedded.questions import known_names

FILE = Path(__file__).parent / "data" / "trial_questions.tsv"

MENTIONS = (
    "which organ is inflamed in hepatitis?",
    "What is scarred in cirrhosis?",
    "Which organ is enlarged in infectious mononucleosis?",
    "where is the blockage in renal colic",
    "Which tubes are inflamed in bronchiolitis?",
    "Which gland is inflamed in pancreatitis?",
    "Welches Organ ist bei Hepatitis entzündet?",
)


Asked = tuple[bool, bool]
"""Whether a question is in English, and whether it asks for a target."""


def outcome(target: str, question: str) -> str:
    """``right``, ``wrong``, ``model`` if left to it, or ``refused`` against a target."""
    found = recognised(question, known_names())
    if found is None:
        return "model"
    if found.read != "known":
        return "refused" if target else "right"
    sided = {target, f"left {target}", f"right {target}"}
    return "right" if target and found.name in sided else "wrong"


@pytest.fixture(scope="module")
def outcomes() -> Counter[tuple[Asked, str]]:
    counts: Counter[tuple[Asked, str]] = Counter()
    for line in FILE.read_text(encoding="utf-8").splitlines():
        language, target, question = line.split("\t")
        counts[(language == "en", bool(target)), outcome(target, question)] += 1
    return counts


@pytest.mark.parametrize(
    ("asked", "questions", "least_right"),
    [
        ((True, True), 113, 42),
        ((False, True), 43, 26),
        ((True, False), 38, 22),
        ((False, False), 18, 12),
    ],
)
def test_trial_questions_are_read_right_or_left_to_the_model(
    outcomes, asked, questions, least_right
) -> None:
    found = {result: count for (of, result), count in outcomes.items() if of == asked}
    assert sum(found.values()) == questions
    assert found["right"] >= least_right
    assert found.get("wrong", 0) == 0
    assert found.get("refused", 0) == 0


@pytest.mark.parametrize("question", MENTIONS)
def test_a_question_that_mentions_a_disease_is_not_about_the_disease(question) -> None:
    found = recognised(question, known_names())
    assert found is None or found.read == "known"
