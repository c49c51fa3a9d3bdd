# SPDX-License-Identifier: Apache-2.0
"""Questions about images of every modality in a real Orthanc, and results kept there."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

pytest.importorskip("monailabel")

from medreasoner_infer.pipeline import Pipeline
from monailabel_app.app import MedReasonerApp
from monailabel_app.framework import settings
from monailabel_app.images.volumes import read_volume
from monailabel_app.studies.pacs import PacsStudies

pytestmark = pytest.mark.slow

QUESTION = "Where is the bright round structure in the middle?"
SHAPE_JI = (96, 128)
CENTRE_IJ = (70, 40)


def send(orthanc, images: Iterable[Dataset]) -> None:
    for image in images:
        content = io.BytesIO()
        pydicom.dcmwrite(content, image, write_like_original=False)
        orthanc.store(content.getvalue())


# Compressed images.


def jpeg_2000_ct(folder: Path) -> list[Dataset]:
    """The real CT with the identifiers that de-identification has emptied; pixels untouched."""
    study, series = generate_uid(), generate_uid()
    images = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    for image in images:
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.SOPClassUID, image.PatientID = CTImageStorage, "jpeg2000"
    return images


def test_jpeg_2000_of_orthanc_is_read_as_another_library_reads_it(
    orthanc, shared_data, tmp_path, monkeypatch
) -> None:
    """Debian's Orthanc cannot decode JPEG 2000, so it must be asked for what it has."""
    monkeypatch.setattr(settings, "MONAI_LABEL_DICOMWEB_CACHE_PATH", str(tmp_path / "cache"))
    studies = PacsStudies.connect(orthanc.dicom_web)
    folder = shared_data / "totalsegmentator" / "example_ct_dicom"
    images = jpeg_2000_ct(folder)
    assert {image.file_meta.TransferSyntaxUID for image in images} == {JPEG2000Lossless}
    send(orthanc, images)
    source = studies.image_source(images[0].SeriesInstanceUID)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))  # GDCM has its own OpenJPEG
    expected = reader.Execute()
    expected_hu_ijk = sitk.GetArrayFromImage(expected).transpose(2, 1, 0)
    volume = read_volume(source)
    np.testing.assert_array_equal(volume.array, expected_hu_ijk)
    assert volume.ijk_to_lps[:3, 3] == pytest.approx(expected.GetOrigin())
    # what viewers download
    np.testing.assert_array_equal(np.asarray(nibabel.load(source.path).dataobj), expected_hu_ijk)


# Radiographs and ultrasound.


def disc_image(brightness: int = 200) -> np.ndarray:
    """A bright disc on noise, uint8 (rows, columns)."""
    rows, columns = np.indices(SHAPE_JI)
    noise = np.random.default_rng(3).integers(20, 50, SHAPE_JI)
    disc = np.hypot(columns - CENTRE_IJ[0], rows - CENTRE_IJ[1]) < 14
    return np.where(disc, brightness, noise).astype(np.uint8)


def as_image(pixels: np.ndarray, sop_class: str, modality: str, number: int = 1) -> Dataset:
    """A DICOM image without a place in the patient; (rows, columns), frames before, RGB behind."""
    image = Dataset()
    image.SOPClassUID, image.Modality, image.InstanceNumber = sop_class, modality, number
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.1", "1.2.840.99.1"
    image.SOPInstanceUID = generate_uid()
    image.PatientID, image.PatientName, image.StudyID = "p", "A^B", "1"
    image.PatientOrientation = ["L", "F"] if modality != "US" else ""
    colour = pixels.shape[-1] == 3
    image.SamplesPerPixel = 3 if colour else 1
    image.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        image.PlanarConfiguration = 0
    if pixels.ndim - colour == 3:
        image.NumberOfFrames = len(pixels)
    image.Rows, image.Columns = SHAPE_JI
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    image.PixelData = pixels.tobytes()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.is_little_endian, image.is_implicit_VR = True, False
    return image


def radiograph(sop_class: str, modality: str) -> list[Dataset]:
    image = as_image(disc_image(), sop_class, modality)
    image.ImagerPixelSpacing = [0.2, 0.1]
    return [image]


def stills() -> list[Dataset]:
    """Three images of one ultrasound examination in colour; the disc of the second is brightest."""
    values = (120, 220, 80)
    pixels = [np.repeat(disc_image(value)[..., None], 3, axis=-1) for value in values]
    return [as_image(p, UltrasoundImageStorage, "US", n) for n, p in enumerate(pixels, start=1)]


def clip() -> list[Dataset]:
    frames = np.stack([disc_image(value) for value in (80, 120, 220, 150)])
    return [as_image(frames, UltrasoundMultiFrameImageStorage, "US")]


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.from_registry("embedded", "embedded")


@pytest.fixture
def app(orthanc, pipeline, tmp_path, monkeypatch) -> MedReasonerApp:
    """The app without a server around it."""
    monkeypatch.setattr(settings, "MONAI_LABEL_DICOMWEB_CACHE_PATH", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    monkeypatch.delitem(sys.modules, "monailabel.app", raising=False)
    return MedReasonerApp(str(tmp_path / "app"), orthanc.dicom_web, {}, pipeline=pipeline)


def submit(app: MedReasonerApp, image_id: str, file: str, params: dict) -> dict:
    info = {"label_info": params["label_info"]}
    with app.site.studies.label_kept(image_id, file, "final", info) as submission:
        label = app.site.results.record_label(submission)
    document = app.site.results.send_label(label)
    return {**label.to_dict(), "pacs": None if document is None else document.to_dict()}


def segmentations(orthanc) -> list[Dataset]:
    query = {"Level": "Instance", "Query": {"Modality": "SEG"}}
    found = httpx.post(f"{orthanc.url}/tools/find", json=query).json()
    files = [httpx.get(f"{orthanc.url}/instances/{name}/file").content for name in found]
    return [pydicom.dcmread(io.BytesIO(content)) for content in files]


@pytest.mark.parametrize(
    ("images", "index"),
    [
        (radiograph(DigitalXRayImageStorageForPresentation, "DX"), 0),
        (radiograph(ComputedRadiographyImageStorage, "CR"), 0),
        (stills(), 1),
        (clip(), 2),
    ],
    ids=["DX", "CR", "US images", "US clip"],
)
def test_a_question_is_answered_and_its_mask_kept_for_the_image_it_lies_on(
    orthanc, app, images, index
) -> None:
    send(orthanc, images)
    image_id = images[0].SeriesInstanceUID
    assert app.datastore().list_images() == [image_id]
    asked = {"model": "medreasoner", "image": image_id, "query": QUESTION, "slice": index}
    answer = app.infer(asked)["params"]
    assert answer["reasoning"]
    asked_about = answer["medreasoner"]
    assert asked_about["modality"] == images[0].Modality
    assert asked_about["slice"]["index"] == index
    clicked = {
        "model": "medreasoner_click", "image": image_id, "foreground": [[*CENTRE_IJ, index]],
        "result_extension": ".nii.gz",
    }  # fmt: skip
    answer = app.infer(clicked)
    mask_ijk = np.asarray(nibabel.load(answer["file"]).dataobj)
    assert np.flatnonzero(mask_ijk.any(axis=(0, 1))).tolist() == [index]
    joined = submit(app, image_id, answer["file"], answer["params"])
    assert joined["pacs"]["state"] == "sent"
    (kept,) = segmentations(orthanc)
    np.testing.assert_array_equal(np.squeeze(kept.pixel_array), mask_ijk[:, :, index].T)
    reference = (
        kept.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    )
    is_clip = "NumberOfFrames" in images[0]
    about = images[0 if is_clip else index]
    assert reference.ReferencedSOPInstanceUID == about.SOPInstanceUID
    assert reference.get("ReferencedFrameNumber") == (index + 1 if is_clip else None)
    assert "FrameOfReferenceUID" not in kept


def test_a_mask_through_a_clip_without_a_place_is_kept_here_and_refused_there(orthanc, app) -> None:
    images = clip()
    send(orthanc, images)
    image_id = images[0].SeriesInstanceUID
    asked = {
        "model": "medreasoner_click", "image": image_id, "foreground": [[*CENTRE_IJ, 2]],
    }  # fmt: skip
    answer = app.infer(asked)
    volume = nibabel.load(answer["file"])
    through = np.repeat(np.asarray(volume.dataobj)[:, :, 2:3], 4, axis=2)
    nibabel.save(nibabel.Nifti1Image(through, volume.affine), answer["file"])
    joined = submit(app, image_id, answer["file"], answer["params"])
    assert joined["pacs"]["state"] == "failed"
    assert "4 frames of a clip" in joined["pacs"]["error"]
    assert segmentations(orthanc) == []
    kept = app.datastore().get_label_uri(image_id, "final", "")
    np.testing.assert_array_equal(np.asarray(nibabel.load(kept).dataobj), through)
