# SPDX-License-Identifier: Apache-2.0
"""Whether a written question is implicit: it must lead to its target without naming it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cache
from importlib.resources import files

import yaml

from medreasoner_infer.imaging import Plane
from medreasoner_training.samples.templates import fits_display, target_of, words_of

NAMES_TARGET = "the question names its target"
WRONG_SIDE = "the question points to the other side of the patient"
NO_SIDE = "the question leaves the side of the patient open"
WRONG_DISPLAY = "the question speaks of a side or a brightness that the image does not show"
BAD_LENGTH = "the question is too short, too long, or not one line"
MIN_CHARS, MAX_CHARS = 15, 200
_LEFT, _RIGHT = "left", "right"
_SIDES = {"left": _LEFT, "lt": _LEFT, "l": _LEFT, "right": _RIGHT, "rt": _RIGHT, "r": _RIGHT}
# They say of what kind a structure is or where it lies, and not which one it is.
_GENERIC = frozenset(
    ("a", "and", "anterior", "area", "artery", "body", "bone", "gland", "inferior", "lower",
     "middle", "muscle", "of", "organ", "part", "posterior", "region", "structure", "superior",
     "the", "tissue", "upper", "vein", "vessel")
)  # fmt: skip
_ENDINGS = ("ae", "es", "um", "us", "a", "s")
_WHOLE_WORD_CHARS = 3
_SHORTEST_STEM = 4
_SIDE = re.compile(
    r"\b(left|right)\b(?P<of_image>(?:[- ]?(?:hand|side|sided|half|part))*"
    r"\s+of\s+(?:(?:the|this)\s+)?(?:image|slice|picture))?",
    re.IGNORECASE,
)


def fault_of_question(
    text: str, label_name: str, plane: Plane, modality: str, neighbours: Collection[str] = ()
) -> str | None:
    """Why a question about a structure may not be asked; ``None`` if it may.

    Args:
        text: the question.
        label_name: of the structure.
        plane: in which slices are displayed; in axial and coronal ones the patient's left is on the
            right of the image.
        modality: DICOM code.
        neighbours: names of other structures; one that a question mentions tells the side, too.
    """
    if not MIN_CHARS <= len(text) <= MAX_CHARS or "\n" in text:
        return BAD_LENGTH
    if any(_occurs(stem, text) for stem in forbidden_stems(label_name)):
        return NAMES_TARGET
    if not fits_display(text, plane, modality):
        return WRONG_DISPLAY
    own = side_of(label_name)
    if own is None:
        return None
    told = set(_sides_told(text, plane))
    if told and own not in told:
        return WRONG_SIDE
    landmarks = (stem for name in neighbours for stem in forbidden_stems(name))
    if not told and not any(_occurs(stem, text) for stem in landmarks):
        return NO_SIDE
    return None


def forbidden_stems(label_name: str) -> tuple[str, ...]:
    """Beginnings of the words that name a structure: its own, its synonyms', its initials.

    A target of the table of implicit questions has those that the table keeps for it. Empty where
    the name says of no structure which one it is, as ``structure`` does.
    """
    target = target_of(label_name)
    words = words_of(label_name)
    names = [word for word in words if word not in _SIDES and word not in _GENERIC]
    if target is not None:
        stems = list(target.stems)
    else:
        own = [_stem(word) for word in names]
        groups = (group for group in _synonyms() if any(_begins(stem, group) for stem in own))
        stems = [*own, *(word for group in groups for word in group)]
    if len(words) >= _WHOLE_WORD_CHARS and names:
        stems.append("".join(word[0] for word in words))
    return tuple(dict.fromkeys(stems))


def side_of(label_name: str) -> str | None:
    """``left`` or ``right`` of the patient if the name tells one of them."""
    sides = {_SIDES[word] for word in words_of(label_name) if word in _SIDES}
    return sides.pop() if len(sides) == 1 else None


def _sides_told(text: str, plane: Plane) -> Iterator[str]:
    """Sides of the patient that a text speaks of."""
    mirrored = plane in (Plane.AXIAL, Plane.CORONAL)
    for side, of_image in sides_in(text):
        if of_image and mirrored:
            yield _LEFT if side == _RIGHT else _RIGHT
        else:
            yield side


def sides_in(text: str) -> Iterator[tuple[str, bool]]:
    """Each ``left`` or ``right`` of a text, and whether it is said of the image."""
    return ((match[1].lower(), bool(match["of_image"])) for match in _SIDE.finditer(text))


def _stem(word: str) -> str:
    """A word without its ending, so that ``aorta`` is found in ``aortic``."""
    for ending in _ENDINGS:
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= _SHORTEST_STEM:
            return stem
    return word


def _occurs(stem: str, text: str) -> bool:
    pattern = r"\s+".join(map(re.escape, stem.split()))
    end = r"\b" if len(stem) <= _WHOLE_WORD_CHARS else ""
    return re.search(rf"\b{pattern}{end}", text, re.IGNORECASE) is not None


def _begins(stem: str, group: Collection[str]) -> bool:
    return any(stem.startswith(word) or word.startswith(stem) for word in group)


@cache
def _synonyms() -> tuple[tuple[str, ...], ...]:
    text = files(__package__).joinpath("synonyms.yaml").read_text(encoding="utf-8")
    return tuple(map(tuple, yaml.safe_load(text)))
