# SPDX-License-Identifier: Apache-2.0
"""A folder of studies: files, folders of DICOM series, and what viewers download of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from medreasoner_infer.imaging import load_volume

pytest.importorskip("monailabel")

from monailabel_app.errors import UnknownImageError
from monailabel_app.studies.dicom_folder import SeriesFinder
from monailabel_app.studies.local import StudiesFolder

STUDY_UID = "1.2.826.0.1.3680043.10.999.1"
SERIES_UID = f"{STUDY_UID}.2"
ROWS, COLUMNS, SLICES = 4, 3, 5
ROW_DIRECTION = (1.0, 0.0, 0.0)
COLUMN_DIRECTION = (0.0, 0.8, 0.6)
NORMAL = (0.0, -0.6, 0.8)


def write_series(folder: Path, series_uid: str = SERIES_UID, modality: str = "CT") -> None:
    """Tilted slices, written last first; slice k, row r, column c holds 100k + 10r + c."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in reversed(range(SLICES)):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"{series_uid}.{k + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{series_uid}-{SLICES - k}.dcm"
        slice_ = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        slice_.is_little_endian, slice_.is_implicit_VR = True, False
        slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, f"{series_uid}.{k + 1}"
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = STUDY_UID, series_uid
        slice_.PatientName, slice_.PatientID, slice_.Modality = "Doe^John", "4711", modality
        slice_.Rows, slice_.Columns = ROWS, COLUMNS
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated = slice_.BitsStored = 16
        slice_.HighBit, slice_.PixelRepresentation = 15, 1
        slice_.RescaleSlope, slice_.RescaleIntercept = 2, -1000
        slice_.PixelSpacing, slice_.SliceThickness = [2.0, 1.5], 3.0
        slice_.ImageOrientationPatient = [*ROW_DIRECTION, *COLUMN_DIRECTION]
        slice_.ImagePositionPatient = [10 + 3 * k * n for n in NORMAL]
        r, c = np.mgrid[:ROWS, :COLUMNS]
        slice_.PixelData = (100 * k + 10 * r + c).astype(np.int16).tobytes()
        slice_.save_as(path)


def open_studies(folder: Path) -> StudiesFolder:
    return StudiesFolder(folder, folder / ".medreasoner" / "series", auto_reload=False)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    write_series(folder / "anna" / "ct")
    return folder


def test_a_folder_of_dicom_files_is_one_image_named_by_its_series(studies) -> None:
    store = open_studies(studies)
    assert store.list_images() == [SERIES_UID]
    info = store.get_image_info(SERIES_UID)
    assert info["StudyInstanceUID"] == STUDY_UID
    assert info["Modality"] == "CT"
    assert "Doe" not in str(info)


def test_viewers_download_the_series_with_its_values_and_geometry(studies) -> None:
    image = sitk.ReadImage(open_studies(studies).get_image_uri(SERIES_UID))
    assert image.GetSize() == (COLUMNS, ROWS, SLICES)
    np.testing.assert_allclose(image.GetSpacing(), (1.5, 2.0, 3.0), atol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), (10, 10, 10), atol=1e-5)
    expected = np.array([ROW_DIRECTION, COLUMN_DIRECTION, NORMAL]).T
    np.testing.assert_allclose(np.reshape(image.GetDirection(), (3, 3)), expected, atol=1e-6)
    assert image.GetPixel(2, 3, 4) == 2 * 432 - 1000


def test_questions_are_answered_on_the_dicom_files_on_the_same_grid(studies) -> None:
    store = open_studies(studies)
    source = store.image_source(SERIES_UID)
    assert source.path == studies / "anna" / "ct"
    volume = load_volume(source.path, series_uid=source.series_uid)
    copy = load_volume(Path(store.get_image_uri(SERIES_UID)))
    np.testing.assert_allclose(copy.ijk_to_lps, volume.ijk_to_lps, atol=1e-5)
    np.testing.assert_array_equal(copy.array, volume.array)


def test_two_series_in_one_folder_are_two_images(studies) -> None:
    write_series(studies / "anna" / "ct", f"{STUDY_UID}.3", modality="MR")
    store = open_studies(studies)
    assert sorted(store.list_images()) == [SERIES_UID, f"{STUDY_UID}.3"]
    assert store.get_image_info(f"{STUDY_UID}.3")["Modality"] == "MR"
    assert store.image_source(f"{STUDY_UID}.3").series_uid == f"{STUDY_UID}.3"


def test_every_kind_of_image_file_is_listed(studies) -> None:
    image = sitk.GetImageFromArray(np.zeros((2, 3, 4), dtype=np.int16))
    for name in ("a.nii.gz", "b.nii", "c.nrrd", "d.mha"):
        sitk.WriteImage(image, str(studies / name))
    for name in ("e.png", "f.jpg"):
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4), np.uint8)), str(studies / name))
    store = open_studies(studies)
    assert sorted(store.list_images()) == [SERIES_UID, "a", "b", "c", "d", "e", "f"]
    for image_id in "abcdef":
        assert load_volume(store.image_source(image_id).path).array.size


def test_segmentations_and_hidden_and_label_folders_are_no_images(studies, tmp_path) -> None:
    write_series(studies / "seg", f"{STUDY_UID}.4", modality="SEG")
    write_series(studies / ".trash", f"{STUDY_UID}.5")
    write_series(studies / "labels" / "final", f"{STUDY_UID}.6")
    assert open_studies(studies).list_images() == [SERIES_UID]


def test_a_series_that_cannot_be_read_is_left_out_and_the_log_names_no_one(studies, caplog) -> None:
    write_series(studies / "broken", f"{STUDY_UID}.7")
    for path in (studies / "broken").iterdir():
        header = pydicom.dcmread(path)
        del header.PixelData
        header.save_as(path)
    assert open_studies(studies).list_images() == [SERIES_UID]
    assert "left out" in caplog.text
    assert "Doe" not in caplog.text


def test_a_damaged_dicom_file_stops_nothing(studies) -> None:
    (studies / "damaged.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04")
    assert open_studies(studies).list_images() == [SERIES_UID]


def test_reopening_reads_no_series_again(studies) -> None:
    copy = Path(open_studies(studies).get_image_uri(SERIES_UID))
    written = copy.stat().st_mtime_ns
    store = open_studies(studies)
    assert store.list_images() == [SERIES_UID]
    assert copy.stat().st_mtime_ns == written


def test_a_series_whose_uid_is_a_path_writes_nowhere_else(studies, tmp_path) -> None:
    write_series(studies / "evil", f"{STUDY_UID}.8")
    for path in (studies / "evil").iterdir():
        header = pydicom.dcmread(path)
        header.SeriesInstanceUID = "../../../evil"
        header.save_as(path)
    evil, good = sorted(open_studies(studies).list_images(), reverse=True)
    assert good == SERIES_UID
    assert evil.startswith("series-")
    assert not list(tmp_path.rglob("evil.nii.gz"))


def test_looking_again_reads_changed_headers_only(studies, monkeypatch) -> None:
    finder = SeriesFinder(studies)
    (before,) = finder.find()
    (changed, *_) = sorted((studies / "anna" / "ct").iterdir())
    os.utime(changed, ns=(1, 1))
    read: list[Path] = []
    dcmread = pydicom.dcmread
    monkeypatch.setattr(
        pydicom, "dcmread", lambda file, **k: read.append(Path(file.name)) or dcmread(file, **k)
    )
    (again,) = finder.find()
    assert read == [changed]
    assert again.image_id == before.image_id


def test_a_label_of_a_series_is_kept_beside_the_others(studies, tmp_path) -> None:
    store = open_studies(studies)
    label = tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4)), label)
    assert store.save_label(SERIES_UID, str(label), "final", {"a": 1}) == SERIES_UID
    assert (studies / "labels" / "final" / f"{SERIES_UID}.nii.gz").is_file()
    submission = store.take_submission(SERIES_UID)
    assert submission is not None
    assert (submission.tag, submission.file.read_bytes()) == ("final", label.read_bytes())
    assert store.take_submission(SERIES_UID) is None
    assert Path(store.get_image_uri(SERIES_UID)).is_file()
    assert open_studies(studies).get_labeled_images() == [SERIES_UID]


def test_removed_dicom_files_leave_the_list(studies) -> None:
    open_studies(studies)
    shutil.rmtree(studies / "anna")
    store = open_studies(studies)
    assert store.list_images() == []
    with pytest.raises(UnknownImageError):
        store.image_source(SERIES_UID)


def test_moved_dicom_files_are_found_where_they_are(studies) -> None:
    open_studies(studies)
    (studies / "anna").rename(studies / "moved")
    assert open_studies(studies).image_source(SERIES_UID).path == studies / "moved" / "ct"


@pytest.mark.parametrize("image_id", ["", "nobody", "../studies/anna", "/etc/passwd", "anna/ct"])
def test_an_id_that_is_not_listed_is_unknown(studies, image_id) -> None:
    with pytest.raises(UnknownImageError):
        open_studies(studies).image_source(image_id)


def test_a_real_series_with_empty_fields_is_usable(shared_data, tmp_path) -> None:
    shutil.copytree(shared_data / "totalsegmentator" / "example_ct_dicom", tmp_path / "s" / "ct")
    store = open_studies(tmp_path / "s")
    (image_id,) = store.list_images()
    reader = sitk.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(tmp_path / "s" / "ct"))
    reader.SetFileNames(names)
    expected = reader.Execute()
    copy = sitk.ReadImage(store.get_image_uri(image_id))
    np.testing.assert_allclose(copy.GetOrigin(), expected.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(copy.GetSpacing(), expected.GetSpacing(), atol=1e-3)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(copy), sitk.GetArrayFromImage(expected))
