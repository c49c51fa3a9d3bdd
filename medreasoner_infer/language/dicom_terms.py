# SPDX-License-Identifier: Apache-2.0
"""English terms of medicine that the vocabulary has not: those of pydicom's table of DICOM's codes.

Structures, disorders and findings that SNOMED CT names for DICOM; that a question asks for one of
them says that it asks for something, and for none of the targets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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
_STRUCTURES = frozenset({"body structure"})
_LONGEST = 6
"""Words of a term; longer ones are made by rule and typed by nobody."""


def other_term_in(tokens: Tokens, at: int) -> Tokens:
    """The longest term that begins there and is no name of the vocabulary; empty if none does."""
    return _terms().longest_at(tokens, at)


def is_structure(tokens: Tokens) -> bool:
    """Whether this is the whole name of a structure of the body, as of a target's part or vessel.

    ``middle hepatic veins`` is one, though vessels are told in facts of other targets.
    """
    said = tuple(token for token in tokens if token != "the")
    return not _structures().isdisjoint({said, (*said[:-1], said[-1].removesuffix("s"))})


@computed_once
def _structures() -> frozenset[Tokens]:
    return frozenset(map(plain_tokens, structure_names()))


def structure_names() -> Iterator[str]:
    """Names of structures of the body in English, some of them twice."""
    return _texts(_STRUCTURES, _groups("Anatom|FindingSites|Structures|LymphNode"))


@computed_once
def _terms() -> Phrases[None]:
    groups = _groups("Anatom|FindingSites|Disease|Structures|LymphNode|Pathology")
    terms = (plain_tokens(text) for text in _texts(_MEDICAL_KINDS, groups))
    others = (term for term in terms if len(term) <= _LONGEST and not _names_target(term))
    return Phrases(dict.fromkeys(others))


def _names_target(term: Tokens) -> bool:
    """Whether a name of a target stands in it: it may be another name of that, or of its part."""
    names, targets = all_names("en"), vocabulary().targets
    found = (names.longest_at(term, at) for at in range(len(term)))
    return any(
        single.name in targets for name in found if name for single in names.meanings[name].singles
    )


def _texts(kinds: frozenset[str], in_groups: frozenset[int]) -> Iterator[str]:
    """Terms of some kinds, or of context groups, without what SNOMED CT adds to them."""
    from pydicom.sr._concepts_dict import concepts  # half a second, and few questions need it

    by_keyword = cast("dict[str, dict[str, tuple[str, list[int]]]]", concepts[_SCHEME])
    for codes in by_keyword.values():
        for meaning, groups in codes.values():
            kind = _KIND.search(meaning)
            if kind["kind"] in kinds if kind else in_groups & set(groups):
                yield _FRAME.sub("", _KIND.sub("", meaning))


def _groups(words: str) -> frozenset[int]:
    """Numbers of the context groups of DICOM about people whose names hold one of these words."""
    from pydicom.sr._cid_dict import name_for_cid

    no_human = re.compile("Animal|Modifier|Reference|Breed|Observation|Window|Types|Model")
    named = name_for_cid.items()
    return frozenset(
        at for at, name in named if re.search(words, name) and not no_human.search(name)
    )
