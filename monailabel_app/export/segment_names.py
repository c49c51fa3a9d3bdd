# SPDX-License-Identifier: Apache-2.0
"""What the values of a label map are called."""

from __future__ import annotations

from collections.abc import Mapping

from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.dicom_file import DAMAGED_HEADER
from monailabel_app.export.approved import ApprovedLabel, fetched_folder
from monailabel_app.labels.segments import answer_value, entries_by_value
from monailabel_app.studies.pacs_labels import open_segmentation

UNNAMED = "unnamed"


def segment_names(label: ApprovedLabel) -> dict[int, str]:
    """Names by label value: from the label's info, else from the DICOM segmentation itself.

    Clients send ``label_info``, a list of entries with ``name`` and ``idx``, or ``label_names``,
    values by name; an entry without ``idx`` counts by its place in the list.
    """
    places = [label.info, label.info.get("params")]
    for place in places:
        if not isinstance(place, Mapping):
            continue
        names = _from_list(place.get("label_info")) or _from_mapping(place.get("label_names"))
        if names:
            return names
    return _from_dicom(label)


def asked_value(label: ApprovedLabel, values: list[int]) -> int | None:
    """The label value that answers the inference's question: the only one, or the marked one."""
    if label.inference is None or label.inference.query is None:
        return None
    entries = entries_by_value(label.info.get("label_info"))
    return answer_value(entries, values, label.inference.id)


def _from_list(label_info: object) -> dict[int, str]:
    entries = entries_by_value(label_info)
    return {value: str(entry["name"]) for value, entry in entries.items() if entry.get("name")}


def _from_mapping(names: object) -> dict[int, str]:
    if not isinstance(names, Mapping):
        return {}
    return {value: str(name) for name, value in names.items() if isinstance(value, int)}


def _from_dicom(label: ApprovedLabel) -> dict[int, str]:
    """Segment labels (DICOM PS3.3 C.8.20.4) of a segmentation fetched from a DICOMweb server."""
    folder = fetched_folder(label)
    if folder is None:
        return {}
    header, _ = open_segmentation(folder)
    with reading(DAMAGED_HEADER):
        segments = header.get("SegmentSequence") or []
        return {int(segment.SegmentNumber): str(segment.SegmentLabel) for segment in segments}
