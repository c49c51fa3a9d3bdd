# SPDX-License-Identifier: Apache-2.0
"""The benchmark's questions: enough of them, none that names its target, none of the vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.language import LANGUAGES, plain_text, vocabulary
from medreasoner_training.dataset import BenchmarkError, BenchmarkQuestions
from medreasoner_training.dataset.benchmark import benchmark, read_benchmark
from medreasoner_training.dataset.checks import Carried, Checkable, faults_of
from medreasoner_training.dataset.questions import Subject
from medreasoner_training.dataset.targets import named_target
from medreasoner_training.evaluation.readers.labelled import plain_name

_SHORTEST = 8
"""Characters of a fact that is more than a name."""


def every_question():
    for wordings in benchmark().questions:
        for label in wordings.labels:
            for kind in ("implicit", "explicit"):
                for language, texts in wordings.of_kind(kind).items():
                    for text in texts:
                        yield label, kind, language, text


def test_no_question_has_a_fault() -> None:
    bad = []
    for label, kind, language, text in every_question():
        row = Checkable(text, kind, language, named_target(plain_name(label)), None, (), None, None,
                        "CC0-1.0", "test", None)  # fmt: skip
        bad += [(label, text, fault) for fault in faults_of(row, Carried())]
    assert bad == []


def test_each_label_has_four_implicit_english_wordings_and_two_other_languages() -> None:
    for wordings in benchmark().questions:
        texts = wordings.implicit["en"]
        assert len(set(map(plain_text, texts))) >= 4, wordings.labels
        assert len(wordings.implicit) >= 3, wordings.labels
        assert len(wordings.explicit["en"]) >= 2, wordings.labels
    used = {language for _, _, language, _ in every_question()}
    assert used == set(LANGUAGES)


def test_no_question_stands_in_the_vocabulary() -> None:
    told = {
        plain_text(text.partition(" | ")[2] or text)
        for target in vocabulary().targets.values()
        for fact in target.facts
        for text in fact.texts.values()
    }
    for label, kind, _, text in every_question():
        if kind == "implicit":
            plain = plain_text(text)
            assert not any(fact in plain for fact in told if len(fact) > _SHORTEST), (label, text)


def test_absent_targets_have_questions_that_tell_no_place() -> None:
    source = BenchmarkQuestions()
    for modality, names in benchmark().absent.items():
        for name in names:
            named = named_target(name)
            assert named.target is not None, name
            for kind in ("implicit", "explicit"):
                found = list(
                    source.questions(
                        Subject(name, named, modality), kind, 1, np.random.default_rng(0)
                    )
                )
                assert found, (modality, name)
                assert not any("{" in asked.text for asked in found)


def test_what_is_marked_on_an_image_is_not_asked_for_as_absent() -> None:
    source = BenchmarkQuestions()
    assert "liver" in source.absent("dermoscopy", frozenset({"skin lesion"}))
    assert "liver" not in source.absent("dermoscopy", frozenset({"liver"}))
    assert source.absent("thermography", frozenset()) == ()


def test_every_label_of_the_real_images_is_asked_for(shared_data: Path) -> None:
    listed = json.loads((shared_data / "real" / "manifest.json").read_text())
    missing = {
        (entry["label"], entry["modality"])
        for entry in listed
        if not benchmark().wordings(entry["label"], entry["modality"])
    }
    assert missing == set()
    assert {entry["modality"] for entry in listed} == set(benchmark().absent)


@pytest.mark.parametrize(
    "text", ["version: 1\nquestions: [{labels: [liver]}]\nabsent: {}", "[", "x: 1"]
)
def test_a_malformed_file_is_refused(text) -> None:
    with pytest.raises(BenchmarkError):
        read_benchmark(text)
