# SPDX-License-Identifier: Apache-2.0
"""Foreign files in the studies, labels of clients, and segmentations of other programs."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from support.image_samples import slice_of
from support.mutations import mutations

from medreasoner_infer.errors import InputError, MedReasonerError, UnreadableImageError
from medreasoner_infer.imaging import Volume, load_volume, write_mask
from medreasoner_infer.imaging.places import inside

pytest.importorskip("monailabel")

from monailabel_app.dicom.archive import FolderArchive
from monailabel_app.dicom.seg_reading import read_segment, segment_numbers
from monailabel_app.dicom.source import open_source
from monailabel_app.images.source import ImageSource
from monailabel_app.labels.grid import is_empty_label, label_of_voxels, require_on_image
from monailabel_app.studies.dicom_folder import SeriesFinder
from monailabel_app.studies.pacs_labels import write_label_map

STORED = np.arange(30, dtype=np.int16).reshape(5, 6)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    (folder / "anna").mkdir(parents=True)
    slice_of(STORED).save_as(folder / "anna" / "good.dcm")
    return folder


def test_damaged_files_are_set_aside_by_number_and_the_rest_is_found(studies, caplog) -> None:
    whole = (studies / "anna" / "good.dcm").read_bytes()
    (studies / "damaged").mkdir()
    for number, content in enumerate(mutations(whole, 500, seed=3)):
        (studies / "damaged" / f"{number}.dcm").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        finder = SeriesFinder(studies)
        found = {series.image_id for series in finder.find()}
        again = {series.image_id for series in finder.find()}
    assert "1.2.3.4" in found
    assert again == found
    assert caplog.text.count("damaged DICOM file(s) of the studies are set aside") == 1
    assert not [name for name in ("Doe", "4711", "1.2.3", ".dcm", "anna") if name in caplog.text]


def test_a_link_that_leaves_the_studies_is_no_image_of_them(studies, tmp_path) -> None:
    (tmp_path / "outside").mkdir()
    made = slice_of(STORED)
    made.SeriesInstanceUID = "9.9.9"
    made.save_as(tmp_path / "outside" / "foreign.dcm")
    (studies / ".medreasoner").mkdir()
    made.save_as(studies / ".medreasoner" / "hidden.dcm")
    (studies / "link.dcm").symlink_to(tmp_path / "outside" / "foreign.dcm")
    (studies / "hidden.dcm").symlink_to(studies / ".medreasoner" / "hidden.dcm")
    (studies / "folder").symlink_to(tmp_path / "outside")
    (studies / "anna" / "again.dcm").symlink_to(studies / "anna" / "good.dcm")
    (tmp_path / "the-studies").symlink_to(studies)
    for root in (studies, tmp_path / "the-studies"):
        (series,) = SeriesFinder(root).find()
        assert series.series_uid == "1.2.3.4"
        assert inside(root, series.folder)
        with pytest.raises(UnreadableImageError, match="not in the folder"):
            load_volume(root, series_uid="9.9.9")


def test_a_pipe_among_the_studies_stops_nobody(studies) -> None:
    os.mkfifo(studies / "anna" / "pipe.dcm")
    found: list[str] = []
    archive = FolderArchive(studies, studies / ".medreasoner" / "results")

    def look() -> None:
        found.extend(series.series_uid for series in SeriesFinder(studies).find())
        found.append(archive.fetch_series("1.2.3", "1.2.3.4", studies).name)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(30)
    assert found == ["1.2.3.4", "anna"]


def test_results_are_found_among_damaged_files(studies) -> None:
    whole = (studies / "anna" / "good.dcm").read_bytes()
    for number, content in enumerate(mutations(whole, 300, seed=4)):
        (studies / "anna" / f"{number}.dcm").write_bytes(content)
    archive = FolderArchive(studies, studies / ".medreasoner" / "results")
    assert archive.fetch_series("1.2.3", "1.2.3.4", studies).name == "anna"
    assert archive.reports("1.2.3") == []


# Labels


def volume_of(shape: tuple[int, int, int]) -> Volume:
    return Volume(np.zeros(shape, np.int16), np.diag([1, 2, 3, 1]), "CT", "key", Path("image"))


def test_bare_voxels_lie_where_simpleitk_would_put_them(tmp_path: Path) -> None:
    volume = volume_of((4, 5, 6))
    image = sitk.Image(4, 5, 6, sitk.sitkUInt8)
    image[3, 0, 0], image[0, 4, 2], image[1, 1, 5] = 1, 2, 3
    sent = tmp_path / "label.bin"
    sent.write_bytes(sitk.GetArrayFromImage(image).tobytes())
    label_ijk = label_of_voxels(sent, volume)
    assert (label_ijk[3, 0, 0], label_ijk[0, 4, 2], label_ijk[1, 1, 5]) == (1, 2, 3)
    assert np.count_nonzero(label_ijk) == 3
    written = sitk.ReadImage(str(write_mask(label_ijk, volume, tmp_path / "label.nii.gz")))
    assert (written[3, 0, 0], written[0, 4, 2], written[1, 1, 5]) == (1, 2, 3)


@pytest.mark.parametrize("length", [0, 1, 119, 121, 240, 1 << 20])
def test_bare_voxels_of_another_number_are_refused(length: int, tmp_path: Path) -> None:
    (tmp_path / "label.bin").write_bytes(bytes(length))
    with pytest.raises(InputError, match=f"has {length} bytes and no header.*120 in all"):
        label_of_voxels(tmp_path / "label.bin", volume_of((4, 5, 6)))


@pytest.mark.parametrize("value", [0.5, 0.2, 1.5])
def test_a_map_of_probabilities_is_no_label_that_rounding_would_empty(value: float) -> None:
    volume = volume_of((4, 5, 6))
    array = np.zeros((4, 5, 6), np.float32)
    label = replace(volume, array=array)
    require_on_image(label, volume)
    array[1, 1, 1] = 2
    require_on_image(label, volume)
    array[2, 2, 2] = value
    with pytest.raises(InputError, match="holds fractions"):
        require_on_image(label, volume)


@pytest.mark.parametrize("name", ["l.nii.gz", "l.nrrd", "l.mha"])
@pytest.mark.parametrize("value", [0, 1])
def test_an_empty_label_is_told_from_one_that_is_not(name: str, value: int, tmp_path: Path) -> None:
    label = np.zeros((4, 5, 6), np.uint8)
    label[2, 2, 2] = value
    write_mask(label, volume_of((4, 5, 6)), tmp_path / name)
    assert is_empty_label(tmp_path / name) == (value == 0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.nrrd", "NRRD0004\ntype: uint8\ndimension: 1\nsizes: 100\nencoding: raw\n"
         "data file: /etc/os-release\n\n"),
        ("l.mha", "ObjectType = Image\nNDims = 2\nDimSize = 10 10\nElementType = MET_UCHAR\n"
         "ElementDataFile = /etc/os-release\n"),
        ("l.nii.gz", "root:x:0:0"),
        ("l", "import os"),
        ("l.py", "import os"),
    ],
)  # fmt: skip
def test_a_label_that_is_none_is_refused(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UnreadableImageError):
        is_empty_label(tmp_path / name)


# Segmentations of others


@pytest.fixture
def liver(shared_data: Path, tmp_path: Path) -> tuple[Path, Path]:
    """dcmqi's example: the folder of the images, and the segmentation's file."""
    shutil.copytree(shared_data / "dcmqi" / "ct-3slice", tmp_path / "ct")
    (tmp_path / "seg").mkdir()
    shutil.copy(shared_data / "dcmqi" / "liver.dcm", tmp_path / "seg" / "seg.dcm")
    return tmp_path / "ct", tmp_path / "seg" / "seg.dcm"


def test_a_damaged_segmentation_is_read_or_refused(liver, tmp_path: Path) -> None:
    images, segmentation = liver
    whole = segmentation.read_bytes()
    write_label_map(segmentation.parent, ImageSource(images), tmp_path / "l.nii.gz")
    assert np.asarray(nibabel.load(tmp_path / "l.nii.gz").dataobj).any()
    refused = 0
    for content in mutations(whole, 60, seed=8):
        segmentation.write_bytes(content)
        try:
            write_label_map(segmentation.parent, ImageSource(images), tmp_path / "l.nii.gz")
        except MedReasonerError:
            refused += 1
    assert 0 < refused < 60


@pytest.mark.parametrize("thickness", [1e9, float("inf"), float("nan"), -3e7])
def test_a_segmentation_of_boundless_frames_is_refused(liver, thickness: float) -> None:
    images, path = liver
    segmentation = pydicom.dcmread(path)
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = measures.SliceThickness = thickness
    source = open_source(images, load_volume(images))
    with pytest.raises(MedReasonerError, match="thick"):
        read_segment(segmentation, segment_numbers(segmentation)[0], source)


def test_a_segmentation_that_claims_pixels_it_has_not_is_refused(liver) -> None:
    images, path = liver
    source = open_source(images, load_volume(images))
    for keyword, value in (("NumberOfFrames", 99_999), ("Rows", 65_535), ("BitsAllocated", 64)):
        segmentation = pydicom.dcmread(path)
        setattr(segmentation, keyword, value)
        with pytest.raises(MedReasonerError):
            read_segment(segmentation, 1, source)


def renumber(path: Path, number: int) -> None:
    segmentation = pydicom.dcmread(path)
    segmentation.SegmentSequence[0].SegmentNumber = number
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = number
    segmentation.save_as(path)


def label_map(images: Path, path: Path, target: Path) -> np.ndarray:
    write_label_map(path.parent, ImageSource(images, dicom_folder=images), target)
    return np.asarray(nibabel.load(target).dataobj)


def test_a_segment_above_255_does_not_wrap(liver, tmp_path: Path) -> None:
    images, path = liver
    as_1 = label_map(images, path, tmp_path / "1.nii.gz")
    renumber(path, 300)
    as_300 = label_map(images, path, tmp_path / "300.nii.gz")
    assert as_1.sum() > 0
    assert np.array_equal(as_300, as_1.astype(np.uint16) * 300)


def test_a_segment_that_no_label_map_can_hold_is_refused(liver, tmp_path: Path) -> None:
    images, path = liver
    renumber(path, 0)
    with pytest.raises(MedReasonerError, match="from 1 to 65535"):
        label_map(images, path, tmp_path / "l.nii.gz")
