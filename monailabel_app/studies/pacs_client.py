# SPDX-License-Identifier: Apache-2.0
"""The DICOMweb client of the studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monailabel_app.framework import DICOMwebClientX, settings
from monailabel_app.studies.pacs_session import pacs_session

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# PS3.18, 8.7.3: any transfer syntax, so what is stored is sent as it is.
AS_STORED = (("application/dicom", "*"),)


class PacsClient(DICOMwebClientX):  # type: ignore[misc]
    """Retrieves objects as they are stored, and leaves trying again to its callers.

    A request that names no transfer syntax asks for Explicit VR Little Endian (PS3.18, 8.7.3),
    and an archive that cannot decode what it holds fails: Orthanc without its GDCM plugin answers
    500 for JPEG 2000. Here every compression is decoded that pydicom has a decoder for.
    """

    def retrieve_series(
        self,
        study_instance_uid: str,
        series_instance_uid: str,
        media_types: tuple[str | tuple[str, str], ...] | None = AS_STORED,
        additional_params: dict[str, Any] | None = None,
    ) -> list[Dataset]:
        """All instances of a series, compressed or not."""
        found: list[Dataset] = super().retrieve_series(
            study_instance_uid, series_instance_uid, media_types, additional_params
        )
        return found


def connect_client(address: str) -> PacsClient:
    """A client of the server at ``address`` with MONAI Label's credentials and prefixes."""
    client = PacsClient(
        url=address,
        session=pacs_session(),
        qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
        wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
        stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX,
    )
    # The queue tries again by itself, and a chunked body cannot be sent twice.
    client.set_http_retry_params(retry=False)
    return client
