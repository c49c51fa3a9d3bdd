# SPDX-License-Identifier: Apache-2.0
"""Reads the vocabulary from YAML and checks what no type can say.

``targets/`` and ``outside/`` beside this module hold one file per group, ``forms/`` one per
language.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import yaml
from pydantic import TypeAdapter, ValidationError

from medreasoner_infer.language.errors import VocabularyError
from medreasoner_infer.language.grammar import (
    LANGUAGES,
    SIDES,
    Language,
    Name,
    Side,
    Tongue,
    parse_name,
)
from medreasoner_infer.language.vocabulary import (
    Fact,
    FactKind,
    Forms,
    Neighbour,
    Outside,
    Target,
    Vocabulary,
)

try:  # ten times as fast, where PyYAML was built with it
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

_T = TypeVar("_T")
# A cache alone lets all threads that come before the first is done read it, each slower for that.
_READING = threading.Lock()


def vocabulary() -> Vocabulary:
    """The vocabulary that comes with the package, read by the first thread that needs it."""
    with _READING:
        return _packaged()


@cache
def _packaged() -> Vocabulary:
    return read_vocabulary(Path(str(resources.files(__package__))))


def read_vocabulary(folder: Path) -> Vocabulary:
    """Read the folders ``targets``, ``outside`` and ``forms``.

    Raises:
        VocabularyError: a file is missing, no YAML or of another form, a name stands twice, or a
            neighbour is no target.
    """
    written: dict[str, tuple[str, _TargetEntry]] = {}
    for path in _files(folder / "targets"):
        for name, entry in read_checked(path, dict[str, _TargetEntry]).items():
            _add(written, name, (path.stem, entry))
    targets = {name: _target(name, *pair, written) for name, pair in written.items()}
    outside: dict[str, Outside] = {}
    for path in _files(folder / "outside"):
        for row in read_checked(path, list[tuple[str | None, ...]]):
            term = _outside(row, path.stem)
            _add(outside, term.name, term)
    forms = {lang: read_checked(folder / "forms" / f"{lang}.yaml", Forms) for lang in LANGUAGES}
    return Vocabulary(targets, outside, forms)


@dataclass(frozen=True)
class _TargetEntry:
    """A target as its file writes it."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    names: dict[Tongue, list[str]]
    facts: list[dict[str, str]]
    paired: bool = False
    code: str | None = None
    lay: dict[Language, list[str]] = field(default_factory=dict)
    abbreviations: dict[Language, list[str]] = field(default_factory=dict)
    adjectives: dict[Language, list[str]] = field(default_factory=dict)
    both: dict[Language, list[str]] = field(default_factory=dict)
    neighbours: list[list[str]] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _FactEntry:
    """A fact as its file writes it."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    kind: FactKind
    en: str
    side: Side | None = None
    de: str | None = None
    fr: str | None = None
    es: str | None = None
    it: str | None = None
    pt: str | None = None
    zh: str | None = None
    ja: str | None = None


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.yaml"))
    if not found:
        raise VocabularyError(f"{folder} holds no *.yaml file; expected one per group.")
    return found


def read_checked(path: Path, schema: type[_T]) -> _T:
    """A file of the vocabulary as what its schema says.

    Raises:
        VocabularyError: it is missing, no YAML or of another form.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=SafeLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise VocabularyError(
            f"{path} cannot be read as YAML ({type(error).__name__}: {error})."
        ) from error
    return _checked(values, schema, str(path))


def _checked(values: Any, schema: type[_T], where: str) -> _T:
    try:
        checked: _T = _adapter(cast("Any", schema)).validate_python(values)
        return checked
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise VocabularyError(f"{where}, {key}: {fault['msg']}.") from error


@cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


def _add(table: dict[str, _T], name: str, entry: _T) -> None:
    if name in table:
        raise VocabularyError(f"{name!r} stands twice in the vocabulary; expected one entry.")
    table[name] = entry


_Written = Mapping[str, tuple[str, _TargetEntry]]


def _target(name: str, group: str, entry: _TargetEntry, all_written: _Written) -> Target:
    return Target(
        name,
        group,
        entry.paired,
        entry.code,
        _names(entry.names),
        _names(entry.lay),
        _names(entry.abbreviations),
        {language: tuple(words) for language, words in entry.adjectives.items()},
        _names(entry.both),
        tuple(_fact(name, values) for values in entry.facts),
        tuple(_neighbour(name, words, all_written) for words in entry.neighbours),
        frozenset(entry.ambiguous),
    )


_Key = TypeVar("_Key", bound=Tongue)


def _names(table: Mapping[_Key, list[str]]) -> dict[_Key, tuple[Name, ...]]:
    return {key: tuple(parse_name(text, key) for text in texts) for key, texts in table.items()}


def _fact(target: str, values: dict[str, str]) -> Fact:
    entry = _checked(values, _FactEntry, f"facts of {target}")
    head, bar, clause = entry.en.partition(" | ")
    if not (head and bar and clause):
        raise VocabularyError(
            f"The fact {entry.en!r} of {target} has no ' | ' between its head and its clause."
        )
    texts = {language: getattr(entry, language) for language in LANGUAGES}
    return Fact(entry.kind, {lang: text for lang, text in texts.items() if text}, entry.side)


def _neighbour(target: str, words: list[str], all_written: _Written) -> Neighbour:
    """``[below, liver]``; of one side of a paired target: ``[below, liver, right]``."""
    if len(words) not in (2, 3):
        raise VocabularyError(
            f"The neighbour {words} of {target} has {len(words)} parts; "
            "expected relation, other target and, of a paired target, its side."
        )
    to, to_side = words[1], None
    first, _, rest = to.partition(" ")
    if to not in all_written and first in SIDES and rest in all_written:
        to, to_side = rest, first
    if to not in all_written:
        raise VocabularyError(f"{target} lies {words[0]} {to!r}, which is no target.")
    parts = {
        "where": words[0],
        "to": to,
        "to_side": to_side,
        "side": words[2] if len(words) == 3 else None,
    }
    return _checked(parts, Neighbour, f"neighbours of {target}")


def _outside(row: tuple[str | None, ...], group: str) -> Outside:
    """A row of the table: the term in each of ``LANGUAGES``, null where it is not certain."""
    if len(row) != len(LANGUAGES) or row[0] is None:
        raise VocabularyError(
            f"The row {row} of {group} has {len(row)} columns; "
            f"expected {len(LANGUAGES)}: {', '.join(LANGUAGES)}, the first of them not null."
        )
    pairs = zip(LANGUAGES, row, strict=True)
    return Outside(row[0], group, {lang: parse_name(text, lang) for lang, text in pairs if text})
