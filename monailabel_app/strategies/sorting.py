# SPDX-License-Identifier: Apache-2.0
"""Of what sort an image is, told from its header in codes that identify nobody."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.recognition import recognised
from medreasoner_infer.modalities import KNOWN_MODALITIES
from medreasoner_training.next_case import Kind

PATIENT_ID, STUDY_UID, MODALITY = "PatientID", "StudyInstanceUID", "Modality"
_BODY_PART = "BodyPartExamined"
_SCANNER = ("Manufacturer", "ManufacturerModelName")
#: Attributes that :meth:`Sorts.of` reads.
KEYWORDS = (MODALITY, _BODY_PART, *_SCANNER)
# Code String (CS), DICOM PS3.5, 6.2; anything else may be somebody's words.
_CODE = re.compile(r"[A-Z][A-Z0-9_ ]{0,15}")
_KEY_DIGITS = 16


@dataclass(frozen=True)
class Sorts:
    """What a header tells of an image; empty where it does not.

    Attributes:
        modality: one of :data:`medreasoner_infer.modalities.KNOWN_MODALITIES`.
        body_part: Body Part Examined (0018,0015).
        scanner: key made of Manufacturer (0008,0070) and its Model Name (0008,1090).
    """

    modality: str = ""
    body_part: str = ""
    scanner: str = ""

    @classmethod
    def of(cls, header: Mapping[str, object]) -> Sorts:
        """From the texts of a header, by keyword; what is no code is left out."""
        texts = {keyword: str(header.get(keyword) or "").strip() for keyword in KEYWORDS}
        modality, body_part = texts[MODALITY].upper(), texts[_BODY_PART].upper()
        scanner = "\0".join(" ".join(texts[keyword].casefold().split()) for keyword in _SCANNER)
        return cls(
            modality=modality if modality in KNOWN_MODALITIES else "",
            body_part=body_part if _CODE.fullmatch(body_part) else "",
            scanner=_key(scanner) if scanner.strip("\0") else "",
        )

    def by_kind(self) -> dict[Kind, frozenset[str]]:
        """The known ones, as strategies take them."""
        told = {
            Kind.MODALITY: self.modality,
            Kind.BODY_PART: self.body_part,
            Kind.SCANNER: self.scanner,
        }
        return {kind: frozenset([value]) for kind, value in told.items() if value}


def target_of(text: str) -> str:
    """The vocabulary's name of what a question or a segment's name speaks of; empty if none."""
    found = recognised(text, frozenset(vocabulary().targets))
    return found.name if found is not None and found.read == "known" else ""


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]
