# SPDX-License-Identifier: Apache-2.0
"""What ``medreasoner ask`` says of a model's doubt."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from rich.text import Text

from medreasoner_infer.doubt_record import GOOD_DICE, REASON_WORDS, Doubt, DoubtfulSlice


def doubt_lines(doubt: Doubt) -> Iterator[Text]:
    """The readings by name, how far they agree, and the slices to look at."""
    yield Text.assemble(("Readings ", "bold"), f"{doubt.words}.")
    told = f"Their masks agree to {doubt.agreement:.0%}"
    if doubt.support is not None:
        told += f", support for the answer {doubt.support:.0%}"
    if doubt.probability is not None:
        told += f"; a Dice of {GOOD_DICE:g} or more has the probability {doubt.probability:.0%}"
    yield Text(f"{told}.")
    if doubt.doubtful_slices:
        yield Text(f"Slices to look at: {_slices(doubt.doubtful_slices)}.")


def _slices(doubtful: tuple[DoubtfulSlice, ...]) -> str:
    """Neighbouring slices with one reason as a range: ``12 to 15 (the mask ends here)``."""
    runs = itertools.groupby(
        enumerate(doubtful), key=lambda pair: (pair[1].index - pair[0], pair[1].reason)
    )
    return "; ".join(
        _range([each.index for _, each in run]) + f" ({REASON_WORDS[reason]})"
        for (_, reason), run in runs
    )


def _range(indices: list[int]) -> str:
    first, last = indices[0], indices[-1]
    return str(first) if first == last else f"{first} to {last}"
