# SPDX-License-Identifier: Apache-2.0
"""Left and right: what a question says of them, and where the patient's are on an image."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

import yaml

from medreasoner_infer.language import SIDES, Language, Side
from medreasoner_infer.language.sides import side_words
from medreasoner_infer.language.spoken import plain_tokens

_OF_IMAGE = re.compile(
    r"\b(left|right)\b(?:[- ]?(?:hand|side|sided|half|part|edge|border))*"
    r"\s+(?:of|in)\s+(?:(?:the|this)\s+)?(?:image|slice|picture|photo|field)|"
    r"\bimage[- ](left|right)\b",
    re.IGNORECASE,
)


def told_sides(text: str, language: Language) -> frozenset[Side]:
    """Sides that a question speaks of and does not say of the image."""
    tokens = set(plain_tokens(_OF_IMAGE.sub(" ", text)))
    return frozenset(side for side in SIDES if tokens & side_words(language)[side])


def is_mirrored(projection: str, modality: str) -> bool | None:
    """Whether the patient's left is on the right of the image; ``None`` where nobody can say.

    Axial, coronal and frontal images are displayed so by radiological convention. What is told of
    the image comes first, then what images of its modality are.

    Args:
        projection: in the data set's words; may be empty.
        modality: likewise.
    """
    table = _table()
    said = projection.strip().lower()
    if said:
        return True if said in table["mirrored"] else False if said in table["seen"] else None
    return True if modality.strip().lower() in table["mirrored_modalities"] else None


@cache
def _table() -> dict[str, frozenset[str]]:
    text = files(__package__).joinpath("projections.yaml").read_text(encoding="utf-8")
    return {key: frozenset(words) for key, words in yaml.safe_load(text).items()}
