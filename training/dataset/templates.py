# SPDX-License-Identifier: Apache-2.0
"""Questions from the clinical vocabulary: its facts and names in its forms of questions.

The second stage, description and question format, draws a fact and a form; the third makes the
sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medreasoner_infer.language import LANGUAGES, Fact, Language, vocabulary
from medreasoner_training.dataset.absent import absent_targets
from medreasoner_training.dataset.errors import BuildError
from medreasoner_training.dataset.questions import Asked, QuestionKind, Subject
from medreasoner_training.embedded.questions.wording import described, filled, named, slot_of

_MODALITY_WORDS = {
    "ct": re.compile(r"\bCT\b|computed tomogra|Hounsfield", re.IGNORECASE),
    "mr": re.compile(r"\bMRI?\b|\bT[12]\b|gadolinium|magnetic", re.IGNORECASE),
    "x-ray": re.compile(r"radiograph|x-ray|mammogra|tomosynthesis", re.IGNORECASE),
    "ultrasound": re.compile(r"ultrasound|echo|sonogra|acoustic|Doppler", re.IGNORECASE),
    "oct": re.compile(r"\bOCT\b|OCT angiography", re.IGNORECASE),
}
_LIGHT = re.compile(r"\b(?:bright|dark|white|black|grey|dens\w+|hyper\w+|hypo\w+)\b", re.IGNORECASE)
_PHOTOGRAPHS = ("endoscopy", "fundus", "dermoscopy", "histology")
_NUMBER_OF_FORMS = 3


@dataclass(frozen=True)
class Templates:
    """A :class:`~.questions.QuestionSource` that needs no model.

    Attributes:
        languages: of the questions, each as likely as any other that has words for the target.
    """

    languages: tuple[Language, ...] = ("en",)

    @property
    def settings(self) -> dict[str, object]:
        """See :class:`~.questions.QuestionSource`."""
        return {"questions": "templates", "languages": list(self.languages)}

    def questions(
        self, subject: Subject, kind: QuestionKind, count: int, rng: np.random.Generator
    ) -> Iterator[Asked]:
        """See :class:`~.questions.QuestionSource`.

        No implicit ones of what the vocabulary does not hold, and none of one among several of a
        name: nothing in it tells them apart.
        """
        if subject.metadata is not None and not subject.metadata.is_alone:
            return iter(())
        if subject.named.target is None:
            return iter(self._by_label(subject, rng) if kind == "explicit" else ())
        if kind == "explicit":
            return self._by_name(subject, rng)
        return self._by_fact(subject, rng)

    def absent(self, modality: str, shown: frozenset[str]) -> tuple[str, ...]:
        """See :class:`~.questions.QuestionSource`."""
        return absent_targets(modality, shown)

    def _by_fact(self, subject: Subject, rng: np.random.Generator) -> Iterator[Asked]:
        target, side = subject.named.target, subject.named.side
        assert target is not None  # nosec B101 # for the type checker
        told = [
            (language, fact)
            for fact in target.facts
            if fact.side in (None, side) and fits_modality(fact, subject.modality)
            for language in self.languages
            if language in fact.texts
        ]
        for language, fact in _one_of_each(told, rng):
            forms = vocabulary().forms[language]
            on_side = forms.on_side[side] if side and fact.side is None else None
            form = _drawn(forms.descriptions, rng)
            text = described(form, fact, language, on_side)
            leads = fact.texts["en"].partition(" | ")[2]
            yield Asked(_sentence(text), "implicit", language, "template", leads)

    def _by_name(self, subject: Subject, rng: np.random.Generator) -> Iterator[Asked]:
        target, side = subject.named.target, subject.named.side
        assert target is not None  # nosec B101 # for the type checker
        said = [
            (language, name, form)
            for language in self.languages
            for form in _some(vocabulary().forms[language].requests, rng)
            for name in target.names.get(language, ())
            if name.fits(slot_of(form))
        ]
        for language, name, form in _shuffled(said, rng):
            text = filled(form, named(name, language, slot_of(form), side))
            yield Asked(_sentence(text), "explicit", language, "template")

    def _by_label(self, subject: Subject, rng: np.random.Generator) -> list[Asked]:
        forms = [f for f in vocabulary().forms["en"].requests if slot_of(f) != "bare"]
        texts = [filled(form, f"the {subject.named.label}") for form in _shuffled(forms, rng)]
        return [Asked(_sentence(text), "explicit", "en", "template") for text in texts]


def parse_languages(text: str) -> tuple[Language, ...]:
    """``all``, or codes separated by commas: ``en,de``.

    Raises:
        BuildError: one of them is no language of the vocabulary.
    """
    if text.strip() == "all":
        return LANGUAGES
    wanted = [code.strip() for code in text.split(",")]
    unknown = [code for code in wanted if code not in LANGUAGES]
    if unknown:
        raise BuildError(
            f"{unknown[0]!r} is no language of the vocabulary; expected {', '.join(LANGUAGES)}, "
            "separated by commas, or all."
        )
    return tuple(language for language in LANGUAGES if language in wanted)


def fits_modality(fact: Fact, modality: str) -> bool:
    """Whether a fact may be told of an image of the modality.

    Facts that speak of another kind of image do not, nor do those of light and dark where that
    depends on the sequence, as in MR.
    """
    text, own = fact.texts["en"], modality.strip().lower()
    speaks_of = [name for name, words in _MODALITY_WORDS.items() if words.search(text)]
    if speaks_of:
        return any(name in re.split(r"[^a-z-]+", own) or own.startswith(name) for name in speaks_of)
    return own.startswith(_PHOTOGRAPHS) or not _LIGHT.search(text)


def _one_of_each(
    told: Sequence[tuple[Language, Fact]], rng: np.random.Generator
) -> Iterator[tuple[Language, Fact]]:
    """Facts in a drawn order, in a language of their own each; then the rest of them."""
    seen: set[int] = set()
    later = []
    for language, fact in _shuffled(told, rng):
        if id(fact) in seen:
            later.append((language, fact))
        else:
            seen.add(id(fact))
            yield language, fact
    yield from later


def _some(forms: Sequence[str], rng: np.random.Generator) -> list[str]:
    with_words = [form for form in forms if not re.fullmatch(r"\W*{\w+}\W*", form)]
    return _shuffled(with_words, rng)[:_NUMBER_OF_FORMS]


def _drawn(forms: Sequence[str], rng: np.random.Generator) -> str:
    """A form of descriptions that is a sentence, not the bare fact."""
    asking = [form for form in forms if form.strip() != "{fact}"]
    return asking[int(rng.integers(len(asking)))]


def _shuffled(items: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    return [items[int(at)] for at in rng.permutation(len(items))]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
