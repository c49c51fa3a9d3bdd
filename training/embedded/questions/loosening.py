# SPDX-License-Identifier: Apache-2.0
"""Loosened forms: a name is to be found among words that were never heard.

The forms of a language are a few dozen, and those of its speakers are not. A model that has seen
only the former takes a new one for a new name. So in training words of a form are left out,
exchanged for those of other forms or for invented ones, and set in front.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from medreasoner_infer.language.spoken import UNSPACED

from .nonsense import invented_word

DROPPED_SHARE, EXCHANGED_SHARE, INVENTED_SHARE = 0.22, 0.25, 0.3
FRONT_SHARE = 0.3
FACT_DROPPED_SHARE = 0.12
_SLOT = re.compile(r"(\{[^}]+\})")


def filler_of(forms: Sequence[str], language: str) -> tuple[str, ...]:
    """The words of forms without their slots; short pieces where words are not spaced."""
    texts = [piece for form in forms for piece in _SLOT.split(form) if not _SLOT.fullmatch(piece)]
    if language in UNSPACED:
        pieces = {text[i : i + n] for text in texts for n in (1, 2, 3, 4) for i in range(len(text))}
        return tuple(sorted(piece for piece in pieces if piece.strip()))
    return tuple(sorted({word for text in texts for word in text.split() if word.strip(".,?!¿¡")}))


def loosened(form: str, filler: Sequence[str], language: str, rng: np.random.Generator) -> str:
    """A form with other words around its slots, which stay as they are."""
    joint = "" if language in UNSPACED else " "
    parts = []
    for piece in _SLOT.split(form):
        if _SLOT.fullmatch(piece):
            parts.append(piece)
        elif language in UNSPACED:
            parts.append(_exchanged([*_cut(piece, rng)], filler, language, rng, joint))
        else:
            words = _exchanged(piece.split(), filler, language, rng, joint)
            begin = " " if parts and (piece.startswith(" ") or words[:1].isalnum()) else ""
            parts.append(begin + words + (" " if piece.endswith(" ") else ""))
    text = "".join(parts).strip()
    if rng.random() < FRONT_SHARE:
        front = [_other(filler, language, rng) for _ in range(int(rng.integers(1, 4)))]
        text = joint.join([*front, text])
    return text


def with_words_dropped(text: str, language: str, rng: np.random.Generator) -> str:
    """A description of which some words are missing; unspaced ones stay."""
    words = text.split(" ")
    if language in UNSPACED or len(words) < 5:
        return text
    return " ".join(word for word in words if rng.random() >= FACT_DROPPED_SHARE)


def _cut(text: str, rng: np.random.Generator) -> Sequence[str]:
    pieces = []
    while text:
        length = int(rng.integers(1, 5))
        pieces.append(text[:length])
        text = text[length:]
    return pieces


def _exchanged(
    words: Sequence[str], filler: Sequence[str], language: str, rng: np.random.Generator, joint: str
) -> str:
    kept = []
    for word in words:
        draw = rng.random()
        if draw < DROPPED_SHARE:
            continue
        exchanged = draw < DROPPED_SHARE + EXCHANGED_SHARE
        kept.append(_other(filler, language, rng) if exchanged else word)
    return joint.join(kept)


def _other(filler: Sequence[str], language: str, rng: np.random.Generator) -> str:
    if language not in UNSPACED and rng.random() < INVENTED_SHARE:
        return invented_word(rng, ())
    return filler[int(rng.integers(len(filler)))]
