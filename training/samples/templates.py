# SPDX-License-Identifier: Apache-2.0
"""Implicit questions for common anatomy by the name of a label."""

from __future__ import annotations

import re

from medreasoner_infer.imaging import Plane
from medreasoner_training.embedded.queries import Target, known_targets
from medreasoner_training.samples.cases import QuerySource, Question

# Further names that segmentation tools and readers give to targets of the table.
_ALIASES = {
    "bladder": "urinary bladder",
    "gall bladder": "gallbladder",
    "ivc": "inferior vena cava",
    "postcava": "inferior vena cava",
    "spine": "vertebra",
    "vertebrae": "vertebra",
    "liver tumor": "liver lesion",
    "liver tumour": "liver lesion",
    "kidney cyst": "renal cyst",
    "lung tumor": "lung tumour",
}
_CAMEL_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_IMAGE_SIDE = re.compile(r"\b(?:image|slice)\b")
_CT_APPEARANCE = re.compile(r"\b(?:dark|bright|CT)\b")


def template_questions(
    label_name: str, plane: Plane, modality: str, *, held_out: bool = False
) -> tuple[Question, ...]:
    """Questions that describe a structure without naming it; none where the table has no such name.

    Upper case, order of words, ``_`` and ``-`` do not matter: ``Kidney_Right`` is the right kidney.
    Questions that speak of a side of the image are left out in planes other than axial and coronal,
    and those that speak of brightness for modalities other than CT.

    Args:
        label_name: as the reader or tool has named the label.
        plane: in which the slices are displayed.
        modality: DICOM code.
        held_out: take the phrasings that are kept for validation.
    """
    target = target_of(label_name)
    if target is None:
        return ()
    texts = target.held_out if held_out else target.trained
    return tuple(
        Question(text, QuerySource.TEMPLATE)
        for text in texts
        if fits_display(text, plane, modality)
    )


def target_of(label_name: str) -> Target | None:
    """The target of the table that a label is named after, if there is one."""
    words = words_of(label_name)
    name = words_of(_ALIASES.get(" ".join(words), label_name))
    by_words = {frozenset(words_of(target.name)): target for target in known_targets().values()}
    return by_words.get(frozenset(name))


def words_of(name: str) -> list[str]:
    """The words of a label's name in lower case: ``Kidney_Right`` and ``KidneyRight`` have two."""
    return re.findall(r"[a-z0-9]+", _CAMEL_HUMP.sub(" ", name).lower())


def fits_display(text: str, plane: Plane, modality: str) -> bool:
    """Whether what a question says of sides and brightness holds in that plane and modality."""
    if plane not in (Plane.AXIAL, Plane.CORONAL) and _IMAGE_SIDE.search(text):
        return False
    return modality == "CT" or not _CT_APPEARANCE.search(text)
