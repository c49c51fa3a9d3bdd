# SPDX-License-Identifier: Apache-2.0
"""The benchmark's questions, written by hand for the labels of public images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar

import numpy as np
import yaml
from pydantic import TypeAdapter, ValidationError

from medreasoner_infer.language import LANGUAGES, Language, plain_text
from medreasoner_training.dataset.errors import BenchmarkError
from medreasoner_training.dataset.questions import Asked, QuestionKind, Subject
from medreasoner_training.dataset.targets import NamedTarget, named_target

_PLACES = ("{across}", "{down}")


@dataclass(frozen=True)
class Wordings:
    """The questions about some labels.

    ``{across}`` and ``{down}`` in a text stand for where the target's first key point lies, in
    percent of the image from its left and its top edge.

    Attributes:
        labels: as the manifest names them, or names of absent targets.
        implicit: by language; none of them names the target.
        explicit: by language; all of them do.
        modalities: in the manifest's words; empty for all.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    labels: tuple[str, ...]
    implicit: Mapping[Language, tuple[str, ...]]
    explicit: Mapping[Language, tuple[str, ...]]
    modalities: tuple[str, ...] = ()

    def of_kind(self, kind: QuestionKind) -> Mapping[Language, tuple[str, ...]]:
        """The questions of a kind, by language."""
        return self.implicit if kind == "implicit" else self.explicit


@dataclass(frozen=True)
class Benchmark:
    """The file ``benchmark.yaml``.

    Attributes:
        version: counts changes of the texts.
        questions: about all labels.
        absent: by modality, labels that the benchmark's images of it cannot show.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    version: int
    questions: tuple[Wordings, ...]
    absent: Mapping[str, tuple[str, ...]]

    def wordings(self, label: str, modality: str) -> tuple[Wordings, ...]:
        """Those about a label of an image of the modality."""
        wanted = plain_text(modality)
        return tuple(
            each
            for each in self.questions
            if label in each.labels
            and (not each.modalities or wanted in map(plain_text, each.modalities))
        )

    def of_name(self, named: NamedTarget) -> tuple[Wordings, ...]:
        """Those about a target, on images of any modality."""
        return tuple(
            each
            for each in self.questions
            if any(named_target(label).name == named.name for label in each.labels)
        )


@cache
def benchmark() -> Benchmark:
    """The questions that come with the package.

    Raises:
        BenchmarkError: the file is malformed.
    """
    return read_benchmark(files(__package__).joinpath("benchmark.yaml").read_text(encoding="utf-8"))


def read_benchmark(text: str) -> Benchmark:
    """Read such a file.

    Raises:
        BenchmarkError: it is no YAML, or of another form.
    """
    try:
        return TypeAdapter(Benchmark).validate_python(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise BenchmarkError(f"The benchmark's questions are no YAML ({error}).") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise BenchmarkError(
            f"The benchmark's questions, {where}: {fault['msg']}; expected labels with implicit "
            "and explicit questions by language."
        ) from error


@dataclass(frozen=True)
class BenchmarkQuestions:
    """A :class:`~.questions.QuestionSource` of the texts of a benchmark.

    Half of the questions are in English, if the languages allow it.
    """

    languages: tuple[Language, ...] = LANGUAGES
    texts: Benchmark = field(default_factory=benchmark)

    @property
    def settings(self) -> dict[str, object]:
        """See :class:`~.questions.QuestionSource`."""
        return {
            "questions": "benchmark",
            "version": self.texts.version,
            "languages": list(self.languages),
        }

    def questions(
        self, subject: Subject, kind: QuestionKind, count: int, rng: np.random.Generator
    ) -> Iterator[Asked]:
        """See :class:`~.questions.QuestionSource`."""
        found = subject.metadata
        if found is None:
            about = self.texts.of_name(subject.named)
        else:
            about = self.texts.wordings(subject.label, subject.modality)
        said = [
            (language, text)
            for wordings in about
            for language, texts in wordings.of_kind(kind).items()
            if language in self.languages
            for text in texts
            if found is not None or not any(place in text for place in _PLACES)
        ]
        for language, text in _half_english(said, rng):
            yield Asked(_placed(text, subject), kind, language, "benchmark")

    def absent(self, modality: str, shown: frozenset[str]) -> tuple[str, ...]:
        """See :class:`~.questions.QuestionSource`."""
        known = {plain_text(name): names for name, names in self.texts.absent.items()}
        marked = {named_target(name).name for name in shown}
        names = known.get(plain_text(modality), ())
        return tuple(name for name in names if named_target(name).name not in marked)


def _half_english(
    said: Sequence[tuple[Language, str]], rng: np.random.Generator
) -> Iterator[tuple[Language, str]]:
    """In a drawn order, English and other languages in turn while there are both."""
    drawn = [said[int(at)] for at in rng.permutation(len(said))]
    english = [each for each in drawn if each[0] == "en"]
    others = [each for each in drawn if each[0] != "en"]
    first, second = (english, others) if rng.random() < 0.5 else (others, english)
    for at in range(max(len(first), len(second))):
        yield from (*first[at : at + 1], *second[at : at + 1])


def _placed(text: str, subject: Subject) -> str:
    if subject.metadata is None:
        return text
    across, down = subject.metadata.at_percent
    return text.replace("{across}", str(across)).replace("{down}", str(down))
