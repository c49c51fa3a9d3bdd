# SPDX-License-Identifier: Apache-2.0
"""English terms of medicine that the vocabulary has not: those of pydicom's table of DICOM's codes.

Structures, disorders and findings that SNOMED CT names for DICOM; that a question asks for one of
them says that it asks for something, and for none of the targets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import cast

from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.spoken import Phrases, Tokens, plain_tokens
from medreasoner_infer.language.words import all_names
from medreasoner_infer.once import computed_once

_SCHEME = "SCT"
_KIND = re.compile(r" \((?P<kind>[^()]+)\)$")
_FRAME = re.compile(r"^(entire |structure of (the )?)| structure$", re.IGNORECASE)
_MEDICAL_KINDS = frozenset(
    {"body structure", "disorder", "finding", "morphologic abnormality", "procedure", "cell"}
)
_LONGEST = 6
"""Words of a term; longer ones are made by rule and typed by nobody."""


def other_term_in(tokens: Tokens, at: int) -> Tokens:
    """The longest term that begins there and is no name of the vocabulary; empty if none does."""
    return _terms().longest_at(tokens, at)


@computed_once
def _terms() -> Phrases[None]:
    terms = (plain_tokens(text) for text in _texts())
    others = (term for term in terms if len(term) <= _LONGEST and not _names_target(term))
    return Phrases(dict.fromkeys(others))


def _names_target(term: Tokens) -> bool:
    """Whether a name of a target stands in it: it may be another name of that, or of its part."""
    names, targets = all_names("en"), vocabulary().targets
    found = (names.longest_at(term, at) for at in range(len(term)))
    return any(
        single.name in targets for name in found if name for single in names.meanings[name].singles
    )


def _texts() -> Iterator[str]:
    """Terms of the kinds that a picture may be asked for, without what SNOMED CT adds to them."""
    from pydicom.sr._concepts_dict import concepts  # half a second, and few questions need it

    anatomy = _anatomic_groups()
    by_keyword = cast("dict[str, dict[str, tuple[str, list[int]]]]", concepts[_SCHEME])
    for codes in by_keyword.values():
        for meaning, groups in codes.values():
            kind = _KIND.search(meaning)
            is_medical = kind["kind"] in _MEDICAL_KINDS if kind else anatomy & set(groups)
            if is_medical:
                yield _FRAME.sub("", _KIND.sub("", meaning))


@cache
def _anatomic_groups() -> frozenset[int]:
    """Numbers of DICOM's context groups of structures and diseases."""
    from pydicom.sr._cid_dict import name_for_cid

    words = re.compile("Anatom|FindingSites|Disease|Structures|LymphNode|Pathology")
    no_human = re.compile("Animal|Modifier|Reference|Breed|Observation|Window|Types|Model")
    named = name_for_cid.items()
    return frozenset(at for at, name in named if words.search(name) and not no_human.search(name))
