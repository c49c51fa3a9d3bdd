# SPDX-License-Identifier: Apache-2.0
"""Patients of the site experiment, and the figures that are drawn from its runs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import nibabel
import numpy as np
import pytest

from medreasoner_infer.imaging import load_volume
from medreasoner_training.embedded.phantom import Label
from medreasoner_training.experiments.site_shift import datastore
from medreasoner_training.experiments.site_shift.datastore import write_site
from medreasoner_training.experiments.site_shift.measuring import Measured, compare, load, save
from medreasoner_training.experiments.site_shift.report import draw, read_run, table
from medreasoner_training.experiments.site_shift.site import SHIFTED, USUAL, marked, patient_volume
from medreasoner_training.gate import Comparison, GateConfig, HeldOut, ModelScores

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


def measured(iou: float) -> Measured:
    """Two samples a patient, the second asks for something absent."""
    present = np.tile([True, False], 10)
    held_out = HeldOut(np.repeat(np.arange(10), 2).astype(str), np.full(20, "liver"), present)
    no = np.zeros(20, bool)
    said_absent = ~present & (np.arange(20) < 10)
    scores = ModelScores("m", no, said_absent, np.where(present, iou, 0.0), np.full(20, 0.5))
    return Measured(held_out, scores)


def test_measures_before_and_after_and_their_difference(tmp_path):
    save(measured(0.3), tmp_path / "before.npz")
    found = compare(load(tmp_path / "before.npz"), measured(0.7), GateConfig(resamples=100))
    line = found["box_iou"]
    assert (line.live_mean, line.candidate_mean) == pytest.approx((0.3, 0.7))
    assert (line.low, line.high) == pytest.approx((0.4, 0.4))
    assert (line.samples, line.patients) == (10, 10)
    assert found["boxes_above_half"].difference == 1.0
    assert found["absence"].live_mean == 0.5
    assert found["mask_dice"].difference == 0.0


def write_run(folder, tuning: str, seed: int, gain: float):
    folder.mkdir()
    line = Comparison("box_iou", None, 0.3 + gain, 0.3, gain, gain - 0.1, gain + 0.1, 50, 10)
    sites = {"usual": {"box_iou": asdict(replace(line, difference=-0.05))},
             "shifted": {"box_iou": asdict(line)}}  # fmt: skip
    result = {"tuning": tuning, "seed": seed, "settings": {}, "decision": "promoted",
              "seconds": 600.0, "sites": sites}  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    points = [{"step": s, "reward": 2.0 + s, "held_out_iou": None if s else 0.3} for s in range(3)]
    (folder / "curve.jsonl").write_text("".join(json.dumps(p) + "\n" for p in points))
    return folder


def test_runs_become_a_table_and_a_picture(tmp_path):
    runs = [read_run(write_run(tmp_path / f"r{s}", "lora", s, 0.2 + 0.1 * s)) for s in range(2)]
    text = table(runs)
    assert "| lora | 0 | 0 | 1 | box IoU | 0.300 | 0.500 | +0.200 (+0.100 to +0.300) | 50 |" in text
    assert "| lora | 0 | 1 | shifted site | 2 | +0.250 | +0.200 | +0.300 |" in text
    assert "| lora | 0 | 1 | usual site | 2 | -0.050 | -0.050 | -0.050 |" in text
    draw(runs, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
