# SPDX-License-Identifier: Apache-2.0
"""A stored result as it was on the screen: record and mask, from DICOM objects alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_infer.imaging import Volume
from medreasoner_infer.records import summarise_mask
from medreasoner_infer.result import Inference
from monailabel_app.dicom.errors import UnreadableResultError
from monailabel_app.dicom.report_reading import ReportHeader, read_header, read_report
from monailabel_app.dicom.seg_reading import read_segment
from monailabel_app.dicom.source import SourceSeries
from monailabel_app.store.records import InferenceRecord, Outcome

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True, eq=False)
class StoredResult:
    """A record read back, its mask uint8 (I, J, K) on the images' grid, and where it was found."""

    header: ReportHeader
    record: InferenceRecord
    mask_ijk: np.ndarray
    source: SourceSeries


def newest_reports(
    reports: Iterable[Dataset],
) -> tuple[list[tuple[ReportHeader, Dataset]], list[str]]:
    """The newest version of each record, and why other reports cannot be read.

    A version is newer if its number is greater, whatever the archive says of the older one.
    """
    newest: dict[str, tuple[ReportHeader, Dataset]] = {}
    unreadable: list[str] = []
    for report in reports:
        try:
            header = read_header(report)
        except UnreadableResultError as error:
            unreadable.append(str(error))
            continue
        known = newest.get(header.inference_id)
        if known is None or header.version > known[0].version:
            newest[header.inference_id] = (header, report)
    return list(newest.values()), unreadable


def read_result(
    report: Dataset, segmentation: Dataset | None, source: SourceSeries
) -> StoredResult:
    """Put record and mask together.

    The mask is that which the reader approved, so its sizes replace those of the inferred one.
    Without a segmentation it is empty; a rejected answer keeps the sizes of what was rejected.

    Raises:
        UnreadableResultError: report or segmentation is damaged or about another series.
    """
    header = read_header(report)
    record = read_report(report, source)
    mask_ijk = np.zeros(source.volume.shape_ijk, dtype=np.uint8)
    if segmentation is not None and header.segment is not None:
        mask_ijk = read_segment(segmentation, header.segment.number, source)
    rejected = record.decision is not None and record.decision.outcome is Outcome.REJECTED
    if not rejected:
        record = replace(record, result=_measured(record.result, mask_ijk, source.volume))
    return StoredResult(header, record, mask_ijk, source)


def _measured(inference: Inference, mask_ijk: np.ndarray, volume: Volume) -> Inference:
    mapping = inference.mapping(volume)
    sizes = summarise_mask(mask_ijk, mapping, inference.mask.predicted_iou)
    return replace(inference, mask=sizes)
