# SPDX-License-Identifier: Apache-2.0
"""Looking through studies for what cannot be offered, reading each image once."""

from __future__ import annotations

from dataclasses import dataclass

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import load_volume
from monailabel_app.studies.local import StudiesFolder
from monailabel_app.studies.pacs import PacsStudies
from monailabel_app.studies.set_aside import SetAside


@dataclass(frozen=True)
class Looked:
    """How many images can be asked about, and what cannot."""

    offered: int
    set_aside: tuple[SetAside, ...]


def look_through(studies: StudiesFolder | PacsStudies) -> Looked:
    """Read the images of a folder, or the labelled series and their segmentations of a server.

    Raises:
        PacsUnreachableError: the server does not answer.
    """
    images = studies.list_images()
    if isinstance(studies, PacsStudies):
        studies.datalist()
        return Looked(len(images), studies.set_aside())
    # Series of DICOM files were read when the folder was opened.
    unreadable = tuple(_unreadable(studies, images))
    return Looked(len(images) - len(unreadable), (*studies.set_aside(), *unreadable))


def _unreadable(studies: StudiesFolder, images: list[str]) -> list[SetAside]:
    found = []
    for image_id in images:
        try:
            source = studies.image_source(image_id)
            if source.dicom_folder is None:
                load_volume(source.path, modality=source.modality)
        except InputError as error:
            found.append(SetAside(image_id, str(error)))
    return found
