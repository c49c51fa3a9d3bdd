# SPDX-License-Identifier: Apache-2.0
"""Kinds of picture, and which targets of the vocabulary each of them can show.

A radiograph shows no optic disc, whoever it is of; that it shows no heart would have to be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from medreasoner_infer.language.errors import VocabularyError
from medreasoner_infer.language.plain import plain_text
from medreasoner_infer.language.reading import read_checked, vocabulary
from medreasoner_infer.language.sides import unsided
from medreasoner_infer.language.vocabulary import Vocabulary
from medreasoner_infer.modalities import KNOWN_MODALITIES

KINDS_FILE = "kinds.yaml"


@dataclass(frozen=True)
class PictureKind:
    """A kind of picture.

    Attributes:
        name: e.g. ``chest radiograph``.
        called: what data sets call its pictures.
        modalities: codes of DICOM's Modality that such pictures have, the usual one first.
        shows: names of the targets, without a side, that a picture of the kind can show.
    """

    name: str
    called: tuple[str, ...]
    modalities: tuple[str, ...]
    shows: frozenset[str]

    def can_show(self, target: str) -> bool:
        """Whether some picture of the kind shows a target, with or without the patient's side."""
        return unsided(target) in self.shows


@cache
def picture_kinds() -> Mapping[str, PictureKind]:
    """All kinds by name, in the order of ``kinds.yaml``."""
    return read_kinds(Path(str(resources.files(__package__))) / KINDS_FILE, vocabulary())


def kind_called(words: str) -> PictureKind | None:
    """The kind that a data set calls so; ``None`` for words that say less, or something else."""
    said = plain_text(words)
    return next(
        (
            kind
            for kind in picture_kinds().values()
            if said in {plain_text(name) for name in (kind.name, *kind.called)}
        ),
        None,
    )


def modality_called(words: str) -> str:
    """The code of DICOM's Modality that a data set's words come to; empty where they tell none.

    ``MR`` and ``cardiac MR`` are ``MR``; no more is told than a header of the image would tell.
    """
    code = words.strip().upper()
    if code in KNOWN_MODALITIES:
        return code
    kind = kind_called(words)
    return kind.modalities[0] if kind else ""


def read_kinds(path: Path, known: Vocabulary) -> dict[str, PictureKind]:
    """The kinds of a file.

    Raises:
        VocabularyError: it is missing or of another form, or names a target, a group or a modality
            that there is not.
    """
    table = read_checked(path, dict[str, _KindEntry])
    return {name: _kind(name, entry, known) for name, entry in table.items()}


@dataclass(frozen=True)
class _KindEntry:
    """A kind as the file writes it."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    modalities: tuple[str, ...]
    called: tuple[str, ...] = ()
    groups: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()
    but: frozenset[str] = frozenset()


def _kind(name: str, entry: _KindEntry, known: Vocabulary) -> PictureKind:
    of_groups = {t.name for t in known.targets.values() if t.group in entry.groups}
    for what, said, expected in (
        ("groups", entry.groups, {target.group for target in known.targets.values()}),
        ("targets", entry.targets, set(known.targets) - of_groups),
        ("but", entry.but, of_groups),
        ("modalities", frozenset(entry.modalities), set(KNOWN_MODALITIES)),
    ):
        strange = sorted(said - expected)
        if strange:
            raise VocabularyError(
                f"The kind {name!r} has {strange[0]!r} among its {what}; expected one that is "
                "known and is not said twice."
            )
    shows = (of_groups - entry.but) | entry.targets
    return PictureKind(name, entry.called, entry.modalities, frozenset(shows))
