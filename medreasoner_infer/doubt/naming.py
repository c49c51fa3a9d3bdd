# SPDX-License-Identifier: Apache-2.0
"""Which target a reasoning names."""

from __future__ import annotations

import unicodedata

from medreasoner_infer.language import vocabulary
from medreasoner_infer.language.recognition import LONGEST_NAME_TOKENS
from medreasoner_infer.language.spoken import Single, plain_tokens
from medreasoner_infer.language.words import names_as_texts

_LEAST_LETTERS = 3
"""Of a name of one word; shorter ones are words of their own: PA, AS."""


def first_named(text: str) -> str | None:
    """The first target of the vocabulary that an English text names, with the patient's side.

    Of names that begin at the same word the longest counts: ``left kidney``. ``None`` where no
    target is named.
    """
    tokens, names = plain_tokens(unicodedata.normalize("NFC", text)), names_as_texts("en")
    for start in range(len(tokens)):
        for end in range(min(len(tokens), start + LONGEST_NAME_TOKENS), start, -1):
            words = " ".join(tokens[start:end])
            single = names.get(words)
            if single is not None and len(words) >= _LEAST_LETTERS and _is_target(single):
                return f"{single.side} {single.name}" if single.side else single.name
    return None


def _is_target(single: Single) -> bool:
    return single.name in vocabulary().targets
