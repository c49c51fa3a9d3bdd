# SPDX-License-Identifier: Apache-2.0
"""Searching a DICOMweb server for series (QIDO-RS, DICOM PS3.18, 10.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient

IMAGE_MODALITIES = ("CT", "MR", "CR", "DX", "US")
MODALITY = "Modality"
_SERIES_UID = "0020000E"


def find_series(client: DICOMwebClient, search_filter: Mapping[str, Any]) -> list[str]:
    """Series Instance UIDs that match, each once.

    Args:
        search_filter: attributes to match. ``Modality`` may be several, as a list or as
            ``"CT,MR"``; QIDO matches one value, so each is asked for by itself. Without it, all of
            :data:`IMAGE_MODALITIES` are.
    """
    found: dict[str, None] = {}
    others = {key: value for key, value in search_filter.items() if key != MODALITY}
    for modality in _modalities(search_filter.get(MODALITY)):
        found |= dict.fromkeys(_pages(client, {**others, MODALITY: modality}))
    return list(found)


def _modalities(value: object) -> Sequence[str]:
    if not value:
        return IMAGE_MODALITIES
    if isinstance(value, str):
        return [part.strip() for part in value.replace("\\", ",").split(",") if part.strip()]
    if isinstance(value, Sequence):
        return [str(part) for part in value]
    return IMAGE_MODALITIES


def _pages(client: DICOMwebClient, filters: dict[str, Any]) -> Iterator[str]:
    """UIDs page by page, as servers cap an answer; ends too where a server ignores the offset."""
    seen: set[str] = set()
    offset = 0
    while True:
        page = client.search_for_series(search_filters=filters, offset=offset)
        uids = [series[_SERIES_UID]["Value"][0] for series in page]
        fresh = [uid for uid in uids if uid not in seen]
        if not fresh:
            return
        yield from fresh
        seen.update(fresh)
        offset += len(page)
