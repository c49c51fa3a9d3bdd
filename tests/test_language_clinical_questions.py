# SPDX-License-Identifier: Apache-2.0
"""How many questions of clinicians the vocabulary reads without a model.

The questions of ``data/clinical_questions.tsv`` were written before the tables were widened, but
by the same hand: the shares are those of a reading that may know the wording, not of strangers'
questions. The bounds are a little below and above what was measured.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from medreasoner_infer.language import unsided
from medreasoner_infer.language.recognition import recognised
from medreasoner_training.embedded.questions import known_names

FILE = Path(__file__).parent / "data" / "clinical_questions.tsv"


def read(question: str) -> str:
    """Name of the target without a side; ``model`` if left to it; ``refused`` if none is known."""
    found = recognised(question, known_names())
    if found is None:
        return "model"
    return unsided(found.name) if found.read == "known" else "refused"


@pytest.fixture(scope="module")
def outcomes() -> Counter[tuple[str, str]]:
    """How questions in English and in other languages come out; ``outside`` have no target."""
    counts: Counter[tuple[str, str]] = Counter()
    for line in FILE.read_text(encoding="utf-8").splitlines():
        language, target, question = line.split("\t")
        got = read(question)
        outcome = got if got in ("model", "refused") else "right" if got == target else "wrong"
        tongue = "en" if language == "en" else "other"
        counts[f"{tongue} {'known' if target else 'outside'}", outcome] += 1
    return counts


@pytest.mark.parametrize(
    ("asked", "questions", "least_right", "most_wrong", "most_refused"),
    [("en known", 148, 88, 0, 0), ("other known", 259, 150, 2, 1)],
)
def test_implicit_questions_are_read_right_or_left_to_the_model(
    outcomes, asked, questions, least_right, most_wrong, most_refused
):
    found = {outcome: count for (of, outcome), count in outcomes.items() if of == asked}
    assert sum(found.values()) == questions
    assert found["right"] >= least_right
    assert found.get("wrong", 0) <= most_wrong
    assert found.get("refused", 0) <= most_refused


@pytest.mark.parametrize(
    ("asked", "questions", "least_refused", "most_wrong"),
    [("en outside", 45, 32, 1), ("other outside", 22, 20, 0)],
)
def test_questions_about_what_is_outside_are_hardly_ever_read_as_a_target(
    outcomes, asked, questions, least_refused, most_wrong
):
    found = {outcome: count for (of, outcome), count in outcomes.items() if of == asked}
    assert sum(found.values()) == questions
    assert found["refused"] >= least_refused
    assert found.get("wrong", 0) <= most_wrong
