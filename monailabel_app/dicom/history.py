# SPDX-License-Identifier: Apache-2.0
"""The history of a study from its archive alone: what was asked, answered and decided."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import load_volume
from monailabel_app.dicom.archive import ResultArchive
from monailabel_app.dicom.errors import UnreadableResultError
from monailabel_app.dicom.report_reading import ReportHeader, source_series_uid
from monailabel_app.dicom.results import StoredResult, newest_reports, read_result
from monailabel_app.dicom.source import SourceSeries, open_source

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class StudyHistory:
    """The newest version of each record, the earliest first, and why others cannot be read."""

    results: tuple[StoredResult, ...]
    unreadable: tuple[str, ...]


OpenSeries = Callable[[str], SourceSeries]
"""The images of a series by its UID; raises InputError where they are not there."""


def read_record(
    archive: ResultArchive,
    study_uid: str,
    open_series: OpenSeries | None = None,
    inference_id: str | None = None,
) -> StudyHistory:
    """Read every record of a study: reports, masks and the images that they are about.

    Args:
        open_series: where images are kept already; if not given, they are fetched as well.
        inference_id: of the one record that is wanted; all if not given.

    Raises:
        PacsUnreachableError: the archive does not answer.
    """
    results: list[StoredResult] = []
    newest, unreadable = newest_reports(archive.reports(study_uid))
    with tempfile.TemporaryDirectory(prefix="medreasoner-history-") as scratch:
        fetched = _FetchedSeries(archive, study_uid, Path(scratch))
        reader = _Reader(archive, study_uid, open_series or fetched.open)
        for header, report in newest:
            if inference_id not in (None, header.inference_id):
                continue
            try:
                results.append(reader.read(header, report))
            except InputError as error:
                unreadable.append(str(error))
    results.sort(key=lambda result: result.record.created_at)
    return StudyHistory(tuple(results), tuple(unreadable))


class _FetchedSeries:
    """Series fetched from the archive into a folder."""

    def __init__(self, archive: ResultArchive, study_uid: str, scratch: Path) -> None:
        self._archive = archive
        self._study_uid = study_uid
        self._scratch = scratch

    def open(self, series_uid: str) -> SourceSeries:
        """The images of a series."""
        path = self._archive.fetch_series(self._study_uid, series_uid, self._scratch)
        return open_source(path, load_volume(path, series_uid=series_uid), series_uid)


class _Reader:
    """Opens each series once, however many records are about it."""

    def __init__(self, archive: ResultArchive, study_uid: str, open_series: OpenSeries) -> None:
        self._archive = archive
        self._study_uid = study_uid
        self._open_series = open_series
        self._sources: dict[str, SourceSeries] = {}

    def read(self, header: ReportHeader, report: Dataset) -> StoredResult:
        """The result of one report, with its mask on the grid of its source series."""
        source = self._source(source_series_uid(report))
        segmentation = None
        if header.segment is not None:
            uid = header.segment.instance_uid
            segmentation = self._archive.segmentation(self._study_uid, uid)
            if segmentation is None:
                raise UnreadableResultError(
                    "A report's mask is not in the archive; send the whole study again."
                )
        return read_result(report, segmentation, source)

    def _source(self, series_uid: str) -> SourceSeries:
        if series_uid not in self._sources:
            self._sources[series_uid] = self._open_series(series_uid)
        return self._sources[series_uid]
