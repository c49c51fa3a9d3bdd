# SPDX-License-Identifier: Apache-2.0
"""What may be said of two sizes of one target, and what may not."""

from __future__ import annotations

import math
from dataclasses import replace

from medreasoner_infer.change import (
    VERDICT_WORDS,
    Change,
    ChangeKind,
    SizeChange,
    Uncertain,
    Verdict,
    signed,
)
from medreasoner_infer.priors.sizes import TargetSizes
from medreasoner_infer.types import Outcome

_MAY_BE_MISSED = "A model can miss what is there: look at both pictures before this is believed."
_NOT_CONFIRMED = "A model measured both; look at both masks before this is believed."
_ONLY_ON_ONE_SIDE: dict[ChangeKind, str] = {
    "new": "New: found in the current examination and not in the prior one, where it may have been "
    "missed.",
    "not_found_any_more": "Not found any more: found in the prior examination and not in the "
    "current one, where it may have been missed.",
}
_UNTOLD = "Nothing is said of a change:"
_CONTRADICTION = (
    f"{_UNTOLD} the volumes differ and the diameters do not, so that one of the masks may be wrong "
    "beside the slice that was read."
)


def size_change(before: Uncertain | None, after: Uncertain | None) -> SizeChange:
    """The change of one size; uncertainties of the two examinations are independent.

    It counts where both the difference and the ratio of the sizes are beyond theirs.
    """
    if before is None or after is None:
        return SizeChange(before, after)
    difference = after.value - before.value
    uncertainty = math.hypot(before.uncertainty, after.uncertainty)
    percent = percent_uncertainty = None
    is_beyond = abs(difference) > uncertainty
    if before.value > 0:
        ratio = after.value / before.value
        parts = before.uncertainty / before.value * ratio, after.uncertainty / before.value
        percent, percent_uncertainty = 100 * (ratio - 1), 100 * math.hypot(*parts)
        is_beyond = is_beyond and abs(percent) > percent_uncertainty
    verdict: Verdict = "within_uncertainty"
    if is_beyond:
        verdict = "larger" if difference > 0 else "smaller"
    return SizeChange(before, after, difference, uncertainty, percent, percent_uncertainty, verdict)


def change_of(
    before: TargetSizes,
    after: TargetSizes,
    outcomes: tuple[Outcome, Outcome],
    cautions: tuple[str, ...] = (),
) -> Change:
    """Put the changes of all sizes together.

    Args:
        before: sizes in the prior examination.
        after: sizes in the current one.
        outcomes: of the answers about the prior and about the current one.
        cautions: further sentences for the reader.
    """
    volume = size_change(before.volume_ml, after.volume_ml)
    long_axis = size_change(before.long_axis_mm, after.long_axis_mm)
    short_axis = size_change(before.short_axis_mm, after.short_axis_mm)
    told: tuple[ChangeKind, str] = ("not_comparable", _CONTRADICTION)
    if _contradict(volume, long_axis, short_axis):
        volume = replace(volume, verdict=None)
    else:
        told = _statement(volume, long_axis, outcomes)
    kind, statement = told
    is_missing = kind in _ONLY_ON_ONE_SIDE or kind == "absent_in_both"
    caution = _MAY_BE_MISSED if is_missing else _NOT_CONFIRMED
    return Change(kind, statement, volume, long_axis, short_axis, (caution, *cautions))


def _contradict(volume: SizeChange, long_axis: SizeChange, short_axis: SizeChange) -> bool:
    """Whether a volume has changed by what the diameters on the slice should show and do not.

    A mask that runs on into a neighbour, or ends early, does so beside the slice that was read.
    """
    if volume.verdict in (None, "within_uncertainty"):
        return False
    if volume.percent is None or long_axis.before is None or long_axis.uncertainty is None:
        return False
    ratio = max(1 + volume.percent / 100, 0.0) ** (1 / 3)
    expected_mm = abs(ratio - 1) * long_axis.before.value
    told = (long_axis.verdict, short_axis.verdict)
    return expected_mm > long_axis.uncertainty and volume.verdict not in told


def _statement(
    volume: SizeChange, long_axis: SizeChange, outcomes: tuple[Outcome, Outcome]
) -> tuple[ChangeKind, str]:
    if "not_understood" in outcomes:
        return "not_comparable", f"{_UNTOLD} the question was not understood in both examinations."
    before, after = (outcome == "present" for outcome in outcomes)
    if before != after:
        kind: ChangeKind = "new" if after else "not_found_any_more"
        return kind, _ONLY_ON_ONE_SIDE[kind]
    if not before:
        return "absent_in_both", "Not found in either examination."
    for name, unit, size in (("Volume", "ml", volume), ("Long diameter", "mm", long_axis)):
        if size.verdict is not None:
            return size.verdict, _told(name, unit, size, size.verdict)
    return "not_comparable", f"{_UNTOLD} the target could not be measured in both examinations."


def _told(name: str, unit: str, size: SizeChange, verdict: Verdict) -> str:
    before, after = (each.told(unit) for each in (size.before, size.after) if each is not None)
    percent = ""
    if size.percent is not None and size.percent_uncertainty is not None:
        percent = f", {signed(size.percent, 0)} % ± {size.percent_uncertainty:.0f} %"
    return f"{name} {VERDICT_WORDS[verdict]}: {before} before, {after} now{percent}."
