# SPDX-License-Identifier: Apache-2.0
"""A site's approved masks as a data set that an evaluation reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medreasoner_infer.addresses import is_web_address
from monailabel_app.studies import INDEX_NAME

if TYPE_CHECKING:
    from monailabel_app.export.exporting import Progress


def is_site(data: str) -> bool:
    """Whether this is a folder of studies that a server has served, or a DICOMweb address."""
    return is_web_address(data) or (Path(data) / INDEX_NAME).is_file()


def approved_data_set(studies: str, folder: Path, records: Path | None, progress: Progress) -> Path:
    """Export all approved masks of a site into one split, unless that was done before.

    Args:
        studies: folder, or address of a DICOMweb server.
        folder: of the data set.
        records: folder of the app's records, where it is not the default one.
        progress: told (labels done, all labels).

    Raises:
        NoSamplesError: nothing that was approved can be asked for.
        PacsUnreachableError: the DICOMweb server does not answer.
    """
    from monailabel_app.export.exporting import ExportSettings, export_studies

    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        export_studies(
            studies, folder, ExportSettings(val_share=0.0), data_dir=records, progress=progress
        )
    return folder
