# SPDX-License-Identifier: Apache-2.0
"""Patients as a folder of MONAI Label's, with one approved label map each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medreasoner_infer.atomic import replacing, write_durably
from medreasoner_infer.imaging.nifti import RAS_TO_LPS
from medreasoner_training.experiments.site_shift.site import PatientVolume, Site, patient_volume

CONFIG_NAME = "datastore_v2.json"
LABELS = Path("labels") / "final"
_NIFTI = ".nii.gz"


def write_site(
    folder: Path,
    site: Site,
    seed: int,
    patients: range,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the patients with those numbers, unless the folder is complete already.

    MONAI Label's own file is written last, so that what a crash left is begun anew.

    Args:
        folder: of the studies.
        site: where the patients are examined.
        seed: of the experiment.
        patients: their numbers.
        progress: told the number of patients done and of all.
    """
    if (folder / CONFIG_NAME).is_file():
        return folder
    (folder / LABELS).mkdir(parents=True, exist_ok=True)
    objects = {}
    for done, number in enumerate(patients, start=1):
        image_id = f"{site.name}-{number:04d}"
        objects[image_id] = _write_patient(folder, image_id, patient_volume(site, seed, number))
        if progress is not None:
            progress(done, len(patients))
    config = {"name": site.name, "description": "", "images_dir": ".", "objects": objects}
    write_durably(folder / CONFIG_NAME, json.dumps(config, indent=2))
    return folder


def _write_patient(folder: Path, image_id: str, patient: PatientVolume) -> dict[str, Any]:
    _write_nifti(folder / f"{image_id}{_NIFTI}", patient.hu, patient.ijk_to_lps)
    _write_nifti(folder / LABELS / f"{image_id}{_NIFTI}", patient.labels, patient.ijk_to_lps)
    label_info = [{"name": name, "idx": value} for value, name in patient.names.items()]
    return {
        "image": {"ext": _NIFTI, "info": {"Modality": "CT"}},
        "labels": {"final": {"ext": _NIFTI, "info": {"label_info": label_info}}},
    }


def _write_nifti(path: Path, array_kji: np.ndarray, ijk_to_lps: np.ndarray) -> None:
    import nibabel

    image = nibabel.Nifti1Image(array_kji.transpose(2, 1, 0), RAS_TO_LPS @ ijk_to_lps)
    image.header.set_xyzt_units("mm")
    with replacing(path, _NIFTI) as unfinished:
        nibabel.save(image, unfinished)
