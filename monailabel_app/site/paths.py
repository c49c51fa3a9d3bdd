# SPDX-License-Identifier: Apache-2.0
"""Where a site's studies and records lie."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from medreasoner_infer.addresses import is_usable_address, is_web_address, shown_address
from medreasoner_infer.home import home_folder
from monailabel_app.common.records_mark import marked_database
from monailabel_app.errors import SettingsError, StudiesAwayError

HIDDEN_FOLDER = ".medreasoner"


@dataclass(frozen=True)
class SitePaths:
    """The folders of one site.

    Attributes:
        studies: a folder, or the address of a DICOMweb server.
        data_dir: records and all else that the server writes beside the studies.
        database: address of the database server with the records; ``None`` where they lie in
            ``data_dir`` themselves.
    """

    studies: str
    data_dir: Path
    database: str | None = None

    @classmethod
    def of(
        cls, studies: str, data_dir: Path | None = None, database: str | None = None
    ) -> SitePaths:
        """Of these studies, with absolute paths.

        ``data_dir`` is :func:`default_data_dir` unless it is given, ``database`` the one that the
        folder says it belongs to.

        Raises:
            SettingsError: the folder cannot be asked which that is, or the address is none.
        """
        if not is_web_address(studies):
            studies = os.path.abspath(studies)
        else:
            _require_address(studies)
        data_dir = (data_dir or default_data_dir(studies)).absolute()
        return cls(studies, data_dir, database or marked_database(data_dir))

    @property
    def is_pacs(self) -> bool:
        """Whether the studies are those of a DICOMweb server."""
        return is_web_address(self.studies)

    @property
    def may_write_studies(self) -> bool:
        """Whether the folder of studies may be written to; never of a DICOMweb server's."""
        return not self.is_pacs and os.access(self.studies, os.W_OK)

    @property
    def is_shared(self) -> bool:
        """Whether other workers, maybe on other machines, use the same records and files."""
        return self.is_pacs and self.database is not None

    @property
    def own_dir(self) -> Path:
        """What this worker alone writes to: the records' folder unless that is shared."""
        return default_data_dir(self.studies).absolute() if self.is_shared else self.data_dir

    @property
    def fetched(self) -> Path | None:
        """Where workers share what a DICOMweb server gave; ``None`` where MONAI Label says it."""
        return self.data_dir / "dicomweb" if self.is_shared else None

    @property
    def results(self) -> Path:
        """DICOM results of studies that are a folder."""
        return self.data_dir / "dicom"

    @property
    def series(self) -> Path:
        """NIfTI copies of DICOM series, which viewers download."""
        return self.data_dir / "series"

    @property
    def scratch(self) -> Path:
        """Uploads that nobody has looked at yet."""
        return self.own_dir / "scratch"


def require_studies(studies: str) -> None:
    """Check that a folder of studies is there; it is never made, as its name may be mistyped.

    Raises:
        StudiesAwayError: it is not there, or is a file.
        SettingsError: it is an address that there cannot be.
    """
    if is_web_address(studies):
        _require_address(studies)
        return
    if os.path.isdir(studies):
        return
    if os.path.exists(studies):
        raise StudiesAwayError(
            f"{studies} is a file; --studies takes the folder that the images lie in, or the "
            "address of a DICOMweb server."
        )
    raise StudiesAwayError(
        f"There is no folder {studies}; connect the share, or make the folder, and start again."
    )


def _require_address(studies: str) -> None:
    if not is_usable_address(studies):
        raise SettingsError(
            f"The studies are to be at {shown_address(studies)}; expected the address of a "
            "DICOMweb server such as http://pacs:8042/dicom-web."
        )


def default_data_dir(studies: str) -> Path:
    """``.medreasoner`` in a folder of studies; a folder of the account's for a DICOMweb server."""
    if is_web_address(studies):
        address = studies.rstrip("/").strip()
        name = hashlib.sha256(address.encode()).hexdigest()[:16]
        return home_folder() / "dicomweb" / name
    return Path(studies) / HIDDEN_FOLDER
