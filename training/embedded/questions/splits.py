# SPDX-License-Identifier: Apache-2.0
"""What is held out: whole facts, forms, terms and sentences, decided by digests of their texts.

A digest rather than a seed decides, so that neither the order of the files nor the training's seed
moves anything from one side to the other.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping

from medreasoner_infer.language import plain_text

from .question import Split

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
_SLOT = re.compile(r"{\w+}")


def split_of_each(
    keys: Iterable[str], given: Mapping[str, Split] | None = None
) -> dict[str, Split]:
    """A split for each key: a fifth for the test and a tenth for validation, each rounded up.

    Args:
        keys: of facts, forms or terms.
        given: splits that are decided already, which keep and count.
    """
    ranked = sorted(set(keys), key=_digest)
    found = {key: given[key] for key in ranked if given and key in given}
    shares: dict[Split, float] = {"test": TEST_SHARE, "validation": VALIDATION_SHARE}
    for split, share in shares.items():
        wanted = math.ceil(len(ranked) * share) - list(found.values()).count(split)
        open_keys = [key for key in ranked if key not in found]
        found |= dict.fromkeys(open_keys[: max(0, wanted)], split)
    return {key: found.get(key, "train") for key in ranked}


def split_of_text(text: str) -> Split:
    """The split of a text that no list holds, such as random letters."""
    share = _digest(text) / 16**64
    if share < TEST_SHARE:
        return "test"
    return "validation" if share < TEST_SHARE + VALIDATION_SHARE else "train"


def form_key(form: str) -> str:
    """The words of a form without its slots; forms of equal words are held out together."""
    return plain_text(_SLOT.sub(" ", form))


def _digest(key: str) -> int:
    return int(hashlib.sha256(plain_text(key).encode()).hexdigest(), 16)
