# SPDX-License-Identifier: Apache-2.0
"""Implicit questions by a language model behind an OpenAI-compatible server of the site."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from medreasoner_infer.imaging import Plane
from medreasoner_training.samples.naming import fault_of_question, forbidden_stems
from monailabel_app.export.questions.cache import QuestionCache, WrittenSet
from monailabel_app.export.questions.chat import SiteChat
from monailabel_app.export.questions.settings import QueryWriterSettings

PROMPT_VERSION = "1"
CACHE_FOLDER = "query_writer"
NOT_OF_SCHEMA = "the answer is not of the schema"
REPEATED = "the question was written before"
_TOKENS_PER_QUESTION = 64
_SYSTEM = (
    "You write questions for radiologists. Each question leads to one structure in a medical image "
    "by its function, by a symptom or disease, by its appearance or by its position, so that only "
    "that structure is meant. It never names the structure: no part of its name, no synonym, no "
    "adjective of it, no abbreviation. If the structure has a side, the question tells the "
    "patient's side. One sentence of at most 25 words, in English; vary the wording."
)


@dataclass(frozen=True)
class Structure:
    """All that the model is told: what the questions are about.

    Attributes:
        label: name of the structure.
        modality: DICOM code.
        plane: in which slices are displayed.
        neighbours: names of other structures in the label map, sorted.
    """

    label: str
    modality: str
    plane: str
    neighbours: tuple[str, ...] = ()


class QueryWriter:
    """Asks the model, checks what it writes, and keeps it.

    Args:
        settings: which model.
        records: folder of the app's records, in which the cache lies.
        api_key: of the server, if it wants one.

    Raises:
        QueryWriterSettingsError: the address is not at the site.
        QueryWriterUnreachableError: the address has no such host.
    """

    def __init__(
        self, settings: QueryWriterSettings, records: Path, api_key: str | None = None
    ) -> None:
        self._chat = SiteChat(settings, api_key)
        self.settings = settings
        self._cache = QuestionCache(records / CACHE_FOLDER)

    def write(self, structure: Structure) -> WrittenSet:
        """Questions about a structure, from the cache if they were written before.

        Raises:
            QueryWriterUnreachableError: the server fails, or does not know the model.
        """
        key = {
            **asdict(structure),
            "model": self.settings.model,
            "prompt_version": PROMPT_VERSION,
            "questions": self.settings.questions,
        }
        written = self._cache.get(key)
        if written is None:
            written = self._ask(structure)
            self._cache.put(key, written)
        return written

    def close(self) -> None:
        """Nothing is kept open."""

    def _ask(self, structure: Structure) -> WrittenSet:
        accepted: list[str] = []
        refused: Counter[str] = Counter()
        for attempt in range(self.settings.attempts):
            missing = self.settings.questions - len(accepted)
            if not missing:
                break
            texts = read_questions(self._complete(structure, missing, seed=attempt))
            if texts is None:
                refused[NOT_OF_SCHEMA] += 1
                continue
            for text in texts[:missing]:
                fault = _fault(text, structure, accepted)
                if fault is None:
                    accepted.append(text)
                else:
                    refused[fault] += 1
        return WrittenSet(tuple(accepted), dict(refused))

    def _complete(self, structure: Structure, number: int, seed: int) -> str:
        return self._chat(
            messages(structure, number), answer_schema(number), _TOKENS_PER_QUESTION * number, seed
        )


def messages(structure: Structure, number: int) -> list[dict[str, str]]:
    """The chat that asks for ``number`` questions; it holds nothing but the structure."""
    asked = {
        "structure": structure.label,
        "modality": structure.modality,
        "plane": structure.plane,
        "other structures in the image": list(structure.neighbours),
        "words that must not occur, however they end": list(forbidden_stems(structure.label)),
        "number of questions": number,
    }
    return [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": json.dumps(asked, ensure_ascii=False)},
    ]


def answer_schema(number: int) -> dict[str, object]:
    """An object with ``number`` questions."""
    questions = {
        "type": "array",
        "items": {"type": "string", "maxLength": 200},
        "minItems": number,
        "maxItems": number,
    }
    return {
        "type": "object",
        "properties": {"questions": questions},
        "required": ["questions"],
        "additionalProperties": False,
    }


def read_questions(answer: str) -> list[str] | None:
    """The questions of an answer; ``None`` if it is not of :func:`answer_schema`."""
    try:
        fields = json.loads(answer)
    except ValueError:
        return None
    texts = fields.get("questions") if isinstance(fields, Mapping) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return None
    return [text.strip() for text in texts]


def _fault(text: str, structure: Structure, accepted: Sequence[str]) -> str | None:
    if text.lower() in (known.lower() for known in accepted):
        return REPEATED
    plane = Plane(structure.plane)
    return fault_of_question(text, structure.label, plane, structure.modality, structure.neighbours)
