# SPDX-License-Identifier: Apache-2.0
"""Files as public bug reports describe them, through label, export and archive.

Those that an image reader alone can answer are in ``test_imaging_cases.py``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("monailabel")
pytest.importorskip("datasets")

from medreasoner_infer.imaging import load_volume, write_mask
from medreasoner_training.samples import SampleSettings
from monailabel_app.dicom.codes import code_table
from monailabel_app.dicom.encoding import new_ids, to_bytes
from monailabel_app.dicom.segmentation import SegmentSpec, write_segmentation
from monailabel_app.dicom.source import open_source
from monailabel_app.export.exporting import ExportSettings, export_studies
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import read_volume
from monailabel_app.studies.local import StudiesFolder
from monailabel_app.studies.pacs_labels import write_label_map


@pytest.fixture(scope="session")
def cases(shared_data: Path) -> Path:
    folder = shared_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"files after public bug reports are absent: no folder {folder}")
    return folder


@pytest.mark.parametrize("is_relative", [True, False])
def test_a_label_of_a_series_is_exported_by_a_relative_path_too(
    is_relative: bool, cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    studies = tmp_path / "studies"
    shutil.copytree(cases / "23_export_relative_path" / "studies", studies)
    store = StudiesFolder(studies, tmp_path / "records" / "series", auto_reload=False)
    (image_id,) = store.list_images()
    volume = read_volume(store.image_source(image_id))
    mask = np.zeros(volume.shape_ijk, np.uint8)
    mask[5:9, 5:9, 1] = 1
    info = {"label_info": [{"name": "liver", "idx": 1}]}
    written = write_mask(mask, volume, tmp_path / "mask.nii.gz")
    store.save_label(image_id, str(written), "final", info)
    before = (studies / "datastore_v2.json").read_text()
    settings = ExportSettings(0.0, SampleSettings(model_size=112, min_area_px=5))
    out = export_studies(
        "studies" if is_relative else str(studies),
        tmp_path / "set", settings, data_dir=tmp_path / "records",
    )  # fmt: skip
    assert {row["extra_info"]["category"] for row in out.load("train")} == {"liver"}
    assert (studies / "datastore_v2.json").read_text() == before


def test_of_overlapping_segments_the_loss_is_told(cases: Path, tmp_path: Path) -> None:
    folder = cases / "26_overlapping_segments"
    source = ImageSource(folder / "ct", dicom_folder=folder / "ct")
    loss = write_label_map(folder / "seg", source, tmp_path / "l.nii.gz")
    labels = np.asanyarray(nibabel.load(tmp_path / "l.nii.gz").dataobj)
    assert ((labels == 1).sum(), (labels == 2).sum()) == (280 - 96, 512)
    assert loss.overlapped == (1,)
    assert loss.warnings


def test_a_birth_date_of_zeros_keeps_no_result_out_of_the_archive(cases: Path) -> None:
    folder = cases / "29_malformed_date_keeps_result_from_pacs" / "folder"
    volume = load_volume(folder)
    mask = np.zeros(volume.shape_ijk, np.uint8)
    mask[5:9, 5:9, 1] = 1
    liver = SegmentSpec(1, "Liver", code_table().find("liver"))
    made = write_segmentation(mask, [liver], open_source(folder, volume), new_ids())
    assert made.PatientBirthDate in (None, "")
    assert to_bytes(made)
