# SPDX-License-Identifier: Apache-2.0
"""Priors of a patient in a real Orthanc, by what its DICOMweb tells."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

pytest.importorskip("monailabel")

from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.errors import UnknownImageError
from monailabel_app.framework import settings
from monailabel_app.studies.pacs import PacsStudies
from monailabel_app.studies.priors import find_priors

pytestmark = pytest.mark.slow


def test_earlier_series_of_the_patient_are_found(orthanc, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(settings, "MONAI_LABEL_DICOMWEB_CACHE_PATH", str(tmp_path / "cache"))
    told = [("A", "20260301"), ("A", "20240301"), ("A", "20250301"), ("A", "20260401"),
            ("AB", "20250301")]  # fmt: skip
    grid = CtGrid((1, 1, 2), (0, 0, 0), np.eye(3))
    uids = []
    for seed, (patient, date) in enumerate(told, start=1):
        folder = write_ct_series(np.zeros((2, 8, 8)), grid, tmp_path / str(seed), seed=seed)
        for path in sorted(folder.iterdir()):
            header = pydicom.dcmread(path)
            header.PatientID, header.StudyDate = patient, date
            header.save_as(path)
            orthanc.store(path.read_bytes())
        uids.append(str(header.SeriesInstanceUID))
    studies = PacsStudies.connect(orthanc.dicom_web)
    found = find_priors(studies, uids[0])
    assert [each.image_id for each in found] == [uids[2], uids[1]]
    assert found[0].study_date == "20250301"
    assert found[0].modality == "CT"
    with pytest.raises(UnknownImageError):
        find_priors(studies, "1.2.3")
