# SPDX-License-Identifier: Apache-2.0
"""Which image is labelled next, so that as few approved masks as possible teach as much.

:class:`Case` is what is known of an image; :func:`ranked` puts the waiting ones in the order of a
:class:`Strategy`, with a reason for each; :func:`pick` takes one for a reader. No pixels are
touched: :func:`appearance` makes the figures of an image once, and whoever asks keeps them. The
server and ``benchmarks/next_case.py`` rank by the same functions.
"""

from __future__ import annotations

from medreasoner_training.next_case.appearance import FEATURES, appearance
from medreasoner_training.next_case.case import Case, Kind, Reading
from medreasoner_training.next_case.ranking import (
    DESCRIPTIONS,
    Ranked,
    Strategy,
    pick,
    ranked,
)

__all__ = [
    "DESCRIPTIONS",
    "FEATURES",
    "Case",
    "Kind",
    "Ranked",
    "Reading",
    "Strategy",
    "appearance",
    "pick",
    "ranked",
]
