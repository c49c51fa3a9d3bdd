# SPDX-License-Identifier: Apache-2.0
"""No result states a side that its mask contradicts, or that nobody can know.

A segment's name and code are what a reader or the question says; where the mask lies is judged
here, before anything is written, by :mod:`medreasoner_infer.laterality`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medreasoner_infer.imaging import Volume
from medreasoner_infer.language import Side
from medreasoner_infer.laterality import (
    contradiction,
    judge_side,
    side_word,
    told_side,
    without_side,
)
from monailabel_app.dicom.codes import CodeTable, SegmentCodes, code_table
from monailabel_app.dicom.segmentation import SegmentSpec


@dataclass(frozen=True)
class CheckedSegments:
    """Segments whose sides may be stated, and sentences about those that may not."""

    segments: list[SegmentSpec]
    warnings: tuple[str, ...]


def with_checked_sides(
    segments: Sequence[SegmentSpec], values_ijk: np.ndarray, volume: Volume
) -> CheckedSegments:
    """Take the side from the name and the code of each segment that its mask contradicts.

    Where the image does not tell the patient's sides, or name and code tell different ones, the
    code's goes and the name stays as it was said.

    Args:
        segments: of the label.
        values_ijk: label values (I, J, K) on the grid of ``volume``.
        volume: the image.
    """
    checked: list[SegmentSpec] = []
    warnings: list[str] = []
    for segment in segments:
        told = told_side(segment.label) or _coded_side(segment.codes)
        found = None if told is None else judge_side(told, values_ijk == segment.value, volume)
        verdict = None if found is None else found.verdict
        warning = contradiction(found, segment.label)
        if warning is not None:
            warnings.append(warning)
            segment = replace(segment, label=without_side(segment.label))
        is_other = told is not None and _coded_side(segment.codes) not in (None, told)
        if is_other or verdict in ("contradicts", "unspecified"):
            segment = replace(segment, codes=_without_side(segment.codes, code_table()))
        checked.append(segment)
    return CheckedSegments(checked, tuple(warnings))


def _coded_side(codes: SegmentCodes) -> Side | None:
    if codes.laterality is not None:
        return side_word(codes.laterality.meaning)
    return side_word(codes.kind.meaning)


def _without_side(codes: SegmentCodes, table: CodeTable) -> SegmentCodes:
    """Codes that state no side; unspecified where the side is part of what they mean."""
    meanings = [code.meaning for code in (codes.kind, codes.region) if code is not None]
    if any(side_word(meaning) for meaning in meanings):
        return table.unspecified
    return replace(codes, laterality=None)
