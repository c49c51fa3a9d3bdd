# SPDX-License-Identifier: Apache-2.0
"""What a site says of the patients of images whose headers tell none, as NIfTI files do.

``patients.csv`` in the folder of the app's records, or in the folder of the studies, has the
columns ``image`` (the image's id, or its file's name) and ``patient``. ``patients.yaml`` in the
folder of the records has the key ``pattern``: a regular expression whose group ``patient`` is found
in the id. What either says is hashed under the site's salt like any other patient's id, and stands
nowhere else.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from medreasoner_infer.errors import InputError
from monailabel_app.site.paths import SitePaths

TABLE_NAME, PATTERN_NAME = "patients.csv", "patients.yaml"
_COLUMNS = ("image", "patient")
_GROUP = "patient"
_FILE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".jpg", ".jpeg")


class PatientTableError(InputError):
    """``patients.csv`` or ``patients.yaml`` cannot be used."""


@dataclass(frozen=True)
class PatientTable:
    """The site's own word on patients.

    Attributes:
        by_image: the patient of an image, by the image's id or its file's name.
        pattern: finds the patient in the id of any other image.
    """

    by_image: Mapping[str, str] = field(default_factory=dict)
    pattern: re.Pattern[str] | None = None

    def patient_of(self, image_id: str) -> str | None:
        """The patient as the site writes it; ``None`` where it says nothing of the image."""
        for name in _names(image_id):
            if name in self.by_image:
                return self.by_image[name]
        found = None if self.pattern is None else self.pattern.search(image_id)
        return found[_GROUP] or None if found else None

    def unknown(self, image_ids: Collection[str]) -> list[str]:
        """The images of the table that are none of these."""
        known = {name for image_id in image_ids for name in _names(image_id)}
        return sorted(name for name in self.by_image if name not in known)


def read_patients(paths: SitePaths) -> PatientTable:
    """What the site says; an empty table where it says nothing.

    Raises:
        PatientTableError: a file has another form, or names two patients of one image.
    """
    folders = [paths.data_dir] if paths.is_pacs else [paths.data_dir, Path(paths.studies)]
    tables = [path for path in (folder / TABLE_NAME for folder in folders) if path.is_file()]
    by_image = _read_table(tables[0]) if tables else {}
    pattern = paths.data_dir / PATTERN_NAME
    return PatientTable(by_image, _read_pattern(pattern) if pattern.is_file() else None)


def _names(image_id: str) -> Iterator[str]:
    yield image_id
    for ending in _FILE_ENDINGS:
        yield f"{image_id}{ending}"


def _read_table(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not set(_COLUMNS) <= set(rows.fieldnames or ()):
                raise PatientTableError(
                    f"{TABLE_NAME} has not the columns image and patient in its first line; write "
                    "a line 'image,patient', and one for each image."
                )
            for row in rows:
                image, patient = ((row[name] or "").strip() for name in _COLUMNS)
                if not image or not patient:
                    raise PatientTableError(
                        f"Line {rows.line_num} of {TABLE_NAME} lacks its image or its patient; "
                        "complete or remove it."
                    )
                if found.setdefault(image, patient) != patient:
                    raise PatientTableError(
                        f"Line {rows.line_num} of {TABLE_NAME} names another patient of an image "
                        "that an earlier line has; an image is of one patient."
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PatientTableError(
            f"{TABLE_NAME} cannot be read ({type(error).__name__}); expected comma-separated text "
            "in UTF-8."
        ) from error
    return found


def _read_pattern(path: Path) -> re.Pattern[str]:
    expected = "expected 'pattern: ' and a regular expression with a group (?P<patient>...)."
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        pattern = re.compile(values["pattern"])
    except (OSError, ValueError, yaml.YAMLError, re.error, TypeError, KeyError) as error:
        raise PatientTableError(
            f"{PATTERN_NAME} cannot be used ({type(error).__name__}); {expected}"
        ) from error
    if set(values) != {"pattern"} or _GROUP not in pattern.groupindex:
        raise PatientTableError(
            f"{PATTERN_NAME} has other keys, or its group is missing; {expected}"
        )
    return pattern
