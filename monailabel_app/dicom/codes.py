# SPDX-License-Identifier: Apache-2.0
"""SNOMED CT codes of segments by their names, from ``codes.yaml``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

SCHEME = "SCT"
_SIDE = re.compile(r"\b(left|right)\b")
# A question of which nothing but a name is left, once these are taken away.
_ASKS = re.compile(
    r"(?:please )?(?:(?:where(?: is| are| s)?|find|locate|segment|show|mark|outline|contour) )?"
    r"(?:me )?(?:(?:the|a|an) )?(.+?)"
)


@dataclass(frozen=True)
class ConceptCode:
    """A coded concept (DICOM PS3.3, 8.8): SNOMED CT unless another scheme is named."""

    value: str
    meaning: str
    scheme: str = SCHEME


@dataclass(frozen=True)
class SegmentCodes:
    """How a segment is coded.

    ``region`` is the anatomic region of a finding; an anatomical structure is its own region.
    ``laterality`` modifies the region if there is one, else the type.
    """

    category: ConceptCode
    kind: ConceptCode
    region: ConceptCode | None = None
    laterality: ConceptCode | None = None


class CodeTable:
    """Looks names up as radiologists and TotalSegmentator write them.

    ``kidney_left``, ``Left kidney`` and ``kidney left`` are the same name.
    """

    def __init__(self, table: dict[str, Any]) -> None:
        self._laterality = {side: ConceptCode(*pair) for side, pair in table["laterality"].items()}
        tissue = ConceptCode(*table["unspecified"])
        self.unspecified = SegmentCodes(tissue, tissue)
        self._entries: dict[str, tuple[SegmentCodes, bool]] = {}
        for group, category in (("structures", "structure"), ("findings", "finding")):
            for name, entry in table[group].items():
                self._add(name, entry, ConceptCode(*table["categories"][category]))

    def find(self, name: str) -> SegmentCodes:
        """The codes of a segment's name; an unspecified tissue where it is not listed.

        A pair of organs that is named without its side is coded without laterality.
        """
        words = _normalised(name)
        sides = set(_SIDE.findall(words))
        entry = self._entries.get(words)
        if entry is not None:
            return entry[0]
        if len(sides) == 1:
            codes, sided = self._entries.get(_normalised(_SIDE.sub(" ", words)), (None, False))
            if codes is not None and sided:
                laterality = self._laterality[sides.pop()]
                return SegmentCodes(codes.category, codes.kind, codes.region, laterality)
        return self.unspecified

    def named_by(self, question: str | None) -> str | None:
        """The listed name that a question asks for and says nothing else, such as *Where is the
        left kidney?*; ``None`` for any other, whose target would have to be guessed.
        """
        asked = _ASKS.fullmatch(_normalised(question or ""))
        if asked is None or self.find(asked.group(1)) is self.unspecified:
            return None
        return asked.group(1)

    def _add(self, name: str, entry: dict[str, Any], category: ConceptCode) -> None:
        region = ConceptCode(*entry["region"]) if "region" in entry else None
        codes = SegmentCodes(category, ConceptCode(*entry["code"]), region)
        for alias in (name, *entry.get("aliases", ())):
            self._entries[_normalised(alias)] = (codes, bool(entry.get("sided")))


@lru_cache(maxsize=1)
def code_table() -> CodeTable:
    """The table that comes with the package."""
    text = (files("monailabel_app.dicom") / "codes.yaml").read_text(encoding="utf-8")
    return CodeTable(yaml.safe_load(text))


def _normalised(name: str) -> str:
    return " ".join(re.sub(r"[\W_]+", " ", name.lower()).split())
