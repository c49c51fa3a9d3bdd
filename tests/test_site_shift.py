# SPDX-License-Identifier: Apache-2.0
"""Patients of the synthetic sites."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from medreasoner_infer.imaging import load_volume
from medreasoner_training.embedded.phantom import Label
from medreasoner_training.experiments.site_shift import datastore
from medreasoner_training.experiments.site_shift.datastore import write_site
from medreasoner_training.experiments.site_shift.site import SHIFTED, USUAL, marked, patient_volume

# Few slices: the painting of a slice is tested elsewhere, and takes the time.
FEW_SLICES = (260.0, 320.0)


@pytest.fixture(autouse=True)
def _few_slices(monkeypatch):
    monkeypatch.setattr("medreasoner_training.experiments.site_shift.site.Z_RANGE_MM", FEW_SLICES)


def body_share(patient) -> float:
    """Pixels brighter than air, at either contrast."""
    return float(np.mean(patient.hu[len(patient.hu) // 2] > -300))


def test_equal_arguments_give_equal_patients_and_others_differ():
    first, again = (patient_volume(SHIFTED, 1, 2) for _ in range(2))
    np.testing.assert_array_equal(first.hu, again.hu)
    np.testing.assert_array_equal(first.labels, again.labels)
    other = patient_volume(SHIFTED, 1, 3)
    assert other.hu.shape != first.hu.shape or not np.array_equal(other.hu, first.hu)


def test_the_shifted_site_shows_smaller_bodies_of_less_contrast():
    usual = [patient_volume(USUAL, 0, number) for number in range(4)]
    shifted = [patient_volume(SHIFTED, 0, number) for number in range(4)]
    share = np.mean([body_share(p) for p in shifted]) / np.mean([body_share(p) for p in usual])
    assert 0.15 < share < 0.6  # half the size is a quarter of the area
    liver_to_fat = [
        np.median(p.hu[p.labels == Label.LIVER]) - np.percentile(p.hu[p.hu > -300], 5)
        for p in (*usual, *shifted)
    ]
    assert np.mean(liver_to_fat[4:]) < np.mean(liver_to_fat[:4])


def test_readers_mark_organs_with_their_lesions_and_no_findings():
    values = np.array([[Label.LIVER, Label.LIVER_LESION], [Label.KIDNEY_CYST, Label.BACKGROUND]])
    np.testing.assert_array_equal(marked(values.astype(np.uint8)), [[5, 5], [0, 0]])


def test_a_site_is_written_as_monai_label_keeps_it(tmp_path):
    folder = write_site(tmp_path / "site", SHIFTED, 0, range(2))
    objects = json.loads((folder / "datastore_v2.json").read_text())["objects"]
    assert sorted(objects) == ["shifted-0000", "shifted-0001"]
    patient = patient_volume(SHIFTED, 0, 0)
    image = load_volume(folder / "shifted-0000.nii.gz", modality="CT")
    np.testing.assert_allclose(image.ijk_to_lps, patient.ijk_to_lps, atol=1e-3)
    np.testing.assert_array_equal(image.array, patient.hu.transpose(2, 1, 0))
    label = nibabel.load(folder / "labels" / "final" / "shifted-0000.nii.gz")
    np.testing.assert_array_equal(np.asarray(label.dataobj), patient.labels.transpose(2, 1, 0))
    (final,) = objects["shifted-0000"]["labels"].values()
    names = {entry["idx"]: entry["name"] for entry in final["info"]["label_info"]}
    assert names == patient.names
    assert names[5] == "liver"
    assert len(names) > 2


def test_an_interrupted_site_is_begun_anew_and_a_complete_one_is_kept(tmp_path, monkeypatch):
    write_site(tmp_path / "site", USUAL, 0, range(1))
    (tmp_path / "site" / "datastore_v2.json").unlink()
    write_site(tmp_path / "site", USUAL, 0, range(1))
    monkeypatch.setattr(datastore, "patient_volume", None)
    assert write_site(tmp_path / "site", USUAL, 0, range(1)) == tmp_path / "site"


def test_the_export_reads_a_written_site(tmp_path):
    pytest.importorskip("monailabel")
    pytest.importorskip("datasets")
    from medreasoner_training.samples import SampleSettings
    from monailabel_app.export.exporting import ExportSettings, export_studies

    folder = write_site(tmp_path / "site", SHIFTED, 0, range(2))
    settings = ExportSettings(0.0, SampleSettings(128, 1, 1, min_area_px=40))
    data_set = export_studies(str(folder), tmp_path / "out", settings, data_dir=tmp_path / "r")
    counts = data_set.manifest.splits["train"]
    assert counts.patients == 2
    assert counts.present["liver"] == 2
    assert not data_set.manifest.left_out or {
        entry.reason for entry in data_set.manifest.left_out
    } == {"every section is smaller than the smallest one asked for"}
