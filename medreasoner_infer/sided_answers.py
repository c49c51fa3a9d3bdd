# SPDX-License-Identifier: Apache-2.0
"""An answer with the side on which its mask lies, and a warning where the question tells another.

What :mod:`.laterality` says, put into the result.
"""

from __future__ import annotations

from dataclasses import replace

from medreasoner_infer.imaging import Volume
from medreasoner_infer.laterality import asked_side, contradiction, judge_side
from medreasoner_infer.result import InferenceResult


def with_side(result: InferenceResult, volume: Volume) -> InferenceResult:
    """The result with its ``laterality`` judged anew by its mask.

    Where the question tells a side that the mask contradicts, a warning says so; that of an earlier
    mask of the same result goes.

    Args:
        result: of a question about ``volume``.
        volume: whose grid the mask is on.
    """
    told = asked_side(result.asks_for)
    found = None if told is None else judge_side(told, result.mask_ijk, volume)
    query = result.asks_for or ""
    earlier, warning = contradiction(result.laterality, query), contradiction(found, query)
    warnings = tuple(said for said in result.warnings if said != earlier)
    if warning is not None:
        warnings += (warning,)
    return replace(result, laterality=found, warnings=warnings)
