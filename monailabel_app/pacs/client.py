# SPDX-License-Identifier: Apache-2.0
"""The DICOMweb client of the studies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from email.message import Message
from typing import IO, TYPE_CHECKING, Any

from monailabel_app.framework import DICOMwebClientX, settings
from monailabel_app.pacs.limits import PACS_LIMITS, PacsLimits
from monailabel_app.pacs.session import pacs_session

if TYPE_CHECKING:
    import requests
    from pydicom.dataset import Dataset

# PS3.18, 8.7.3: any transfer syntax, so what is stored is sent as it is.
AS_STORED = (("application/dicom", "*"),)
# An epilogue may follow the last boundary.
_TAIL_BYTES = 4096


class PacsClient(DICOMwebClientX):
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

    def iter_series(
        self,
        study_instance_uid: str,
        series_instance_uid: str,
        media_types: tuple[str | tuple[str, str], ...] | None = AS_STORED,
        additional_params: dict[str, Any] | None = None,
    ) -> Iterator[Dataset]:
        """The same, one after the other; the server's answer is on disk meanwhile."""
        found: Iterator[Dataset] = super().iter_series(
            study_instance_uid, series_instance_uid, media_types, additional_params
        )
        return found

    def _http_get_application_json(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """DICOM JSON: a list of objects (PS3.18, F.2)."""
        found = super()._http_get_application_json(*args, **kwargs)
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise ValueError("no list of DICOM JSON objects")
        return found

    def _decode_multipart_message(
        self, response: requests.Response, stream: bool
    ) -> Iterator[bytes]:
        """The parts of an answer that has come to its end (RFC 2046, 5.1.1)."""
        _require_close_delimiter(response)
        return super()._decode_multipart_message(response, stream)


def _require_close_delimiter(response: requests.Response) -> None:
    """Where the length was not told, a broken connection looks like the end.

    Raises:
        ValueError: the last boundary is missing.
    """
    boundary = Message()
    boundary["content-type"] = response.headers.get("content-type", "")
    name = boundary.get_param("boundary")
    if isinstance(name, str) and f"--{name}--".encode() not in _tail(response):
        raise ValueError("a multipart message without its last boundary")


def _tail(response: requests.Response) -> bytes:
    """The last bytes of an answer, which is still to be read where it is a stream."""
    body: IO[bytes] | None = getattr(response.raw, "_fp", None)
    is_unread_file = response._content is False and body is not None and body.seekable()
    if body is None or not is_unread_file:
        return (response.content or b"")[-_TAIL_BYTES:]
    body.seek(0, os.SEEK_END)
    body.seek(max(0, body.tell() - _TAIL_BYTES))
    tail = body.read()
    body.seek(0)
    return tail


def connect_client(address: str, limits: PacsLimits = PACS_LIMITS) -> PacsClient:
    """A client of the server at ``address`` with MONAI Label's credentials and prefixes."""
    client = PacsClient(
        url=address,
        session=pacs_session(limits),
        qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
        wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
        stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX,
    )
    # The queue tries again by itself, and a chunked body cannot be sent twice.
    client.set_http_retry_params(retry=False)
    return client
