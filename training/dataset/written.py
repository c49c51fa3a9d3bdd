# SPDX-License-Identifier: Apache-2.0
"""Questions and traces that a language model writes in the paper's three stages.

The first stage, metadata, is measured (:mod:`.metadata`). In the second the model describes a
target as images of the modality show it, and gives forms of questions; that is asked once for each
target and kept on the disk. In the third it writes questions and traces from both. The model gets
no pixels, no file names and no patients. What it writes is checked like everything else, and where
too little passes, the templates stand in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from medreasoner_training.dataset.journal import journal_at
from medreasoner_training.dataset.questions import Asked, QuestionKind, Subject
from medreasoner_training.dataset.templates import Templates
from medreasoner_training.json_lines import JsonLines

PROMPT_VERSION = "1"
_ATTEMPTS = 3
_MOST_CHARS, _MOST_REASONING_CHARS = 300, 1200
_TOKENS_PER_ITEM, _TOKENS_PER_QUESTION = 80, 420
_SYSTEM = (
    "You write training questions for a program that marks structures and findings on medical "
    "images. You are told a target. Never write its name: no synonym, no adjective of it, no "
    "abbreviation, in any language, except in a reasoning. Left and right are the patient's. Write "
    "in English. Answer with the JSON object that is asked for and nothing else."
)
_DESCRIBE = (
    "Describe the target in short noun phrases that lead to it and to nothing else: what it does, "
    "what disease or symptom points to it, where it lies, how images of this modality show it. "
    "Then give forms of clinicians' questions with {description} in the place of such a phrase."
)
_ASK = (
    "Write questions that clinicians would ask about this image and whose only answer is the "
    "target. Use the descriptions and forms freely. To each write the reasoning of an expert who "
    "goes from the question to the target's name, to what the image shows of it and to its place, "
    "in two to four sentences, with nothing that the facts do not tell."
)


class Complete(Protocol):
    """A chat completion with a JSON schema, as OpenAI-compatible servers offer it."""

    def __call__(
        self,
        messages: Sequence[Mapping[str, str]],
        schema: Mapping[str, Any],
        most_tokens: int,
        seed: int,
    ) -> str:
        """The text of the answer.

        Raises:
            ServiceError: the server cannot be used.
        """
        ...


@dataclass(frozen=True)
class Description:
    """What the second stage gave."""

    phrases: tuple[str, ...]
    forms: tuple[str, ...]


class WrittenByModel:
    """A :class:`~.questions.QuestionSource` of a language model, with templates behind it.

    Args:
        complete: asks the model.
        model: as its server names it.
        kept: file for what the second stage gave, so that a build that goes on has the same.
    """

    def __init__(self, complete: Complete, model: str, kept: Callable[[], Path]) -> None:
        self._complete = complete
        self._model = model
        self._kept = kept
        self._journal: JsonLines[Any] | None = None
        self._templates = Templates()

    @property
    def settings(self) -> dict[str, object]:
        """See :class:`~.questions.QuestionSource`."""
        return {"questions": "model", "model": self._model, "prompt_version": PROMPT_VERSION}

    def questions(
        self, subject: Subject, kind: QuestionKind, count: int, rng: np.random.Generator
    ) -> Iterator[Asked]:
        """See :class:`~.questions.QuestionSource`; explicit ones and absent ones are templates.

        Raises:
            ServiceError: the model's server cannot be used.
        """
        found = subject.metadata
        if kind == "implicit" and found is not None and found.is_alone:
            description = self._described(subject)
            for attempt in range(_ATTEMPTS):
                seed = int(rng.integers(1 << 31)) + attempt
                yield from self._asked(subject, description, count, seed)
        yield from self._templates.questions(subject, kind, count, rng)

    def absent(self, modality: str, shown: frozenset[str]) -> tuple[str, ...]:
        """See :class:`~.questions.QuestionSource`."""
        return self._templates.absent(modality, shown)

    def _described(self, subject: Subject) -> Description:
        if self._journal is None:
            self._journal = journal_at(self._kept())
        key = [subject.named.name, subject.modality]
        known = next((v for v in self._journal.values if v["of"] == key), None)
        if known is None:
            told = {"target": subject.named.name, "modality": subject.modality}
            answer = self._answer(_DESCRIBE, told, _describe_schema(), 12 * _TOKENS_PER_ITEM, 0)
            phrases, forms = (
                _texts(answer.get(name), _MOST_CHARS) for name in ("phrases", "forms")
            )
            known = {"of": key, "phrases": phrases, "forms": forms}
            self._journal.append(known)
        return Description(tuple(known["phrases"]), tuple(known["forms"]))

    def _asked(
        self, subject: Subject, description: Description, count: int, seed: int
    ) -> Iterator[Asked]:
        assert subject.metadata is not None  # nosec B101 # for the type checker
        found = subject.metadata
        told = {
            "target": subject.named.name,
            "modality": subject.modality,
            "appears as": found.seen,
            "place in the image": found.place,
            "beside": found.neighbour,
            "share of the image in percent": round(100 * found.area_share, 1),
            "box x1 y1 x2 y2 in pixels": list(found.truth.bbox_xyxy_px),
            "two points inside in pixels": [list(point) for point in found.truth.points_xy_px],
            "descriptions": list(description.phrases),
            "forms": list(description.forms),
            "number of questions": count,
        }
        answer = self._answer(_ASK, told, _ask_schema(count), count * _TOKENS_PER_QUESTION, seed)
        written = answer.get("questions")
        for each in written if isinstance(written, list) else ():
            text, reasoning = (
                _texts([each.get(name)] if isinstance(each, Mapping) else None, most)
                for name, most in (("question", _MOST_CHARS), ("reasoning", _MOST_REASONING_CHARS))
            )
            if text and reasoning:
                yield Asked(
                    text[0], "implicit", "en", "model", reasoning=reasoning[0], model=self._model
                )

    def _answer(
        self, task: str, told: Mapping[str, Any], schema: Mapping[str, Any], most: int, seed: int
    ) -> Mapping[str, Any]:
        """The object that the model wrote; empty where it wrote something else."""
        messages = [
            {"role": "system", "content": f"{_SYSTEM} {task}"},
            {"role": "user", "content": json.dumps(told, ensure_ascii=False)},
        ]
        try:
            found = json.loads(self._complete(messages, schema, most, seed))
        except ValueError:
            return {}
        return found if isinstance(found, Mapping) else {}


def _texts(values: object, most_chars: int) -> list[str]:
    """The texts of one line among them, without blanks around."""
    texts = values if isinstance(values, list) else []
    found = [text.strip() for text in texts if isinstance(text, str)]
    return [text for text in found if text and len(text) <= most_chars and "\n" not in text]


def _describe_schema() -> dict[str, Any]:
    texts = {"type": "array", "items": {"type": "string"}, "minItems": 3, "maxItems": 6}
    return _object({"phrases": texts, "forms": texts})


def _ask_schema(count: int) -> dict[str, Any]:
    text = {"type": "string"}
    each = _object({"question": text, "reasoning": text})
    return _object(
        {"questions": {"type": "array", "items": each, "minItems": count, "maxItems": count}}
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
