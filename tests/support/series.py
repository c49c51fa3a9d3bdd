# SPDX-License-Identifier: Apache-2.0
"""DICOM studies to ask about: of real images where they are at hand, of the phantom elsewhere."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)
from scipy import ndimage

from medreasoner_training.embedded.phantom import torso_ct

_DATE, _TIME = "20260102", "101500"
_PHANTOM_SEED = 11
_LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_DX_SPACING_MM = 1.0


@dataclass(frozen=True)
class DicomStudy:
    """A study of one series; ``is_real`` tells whether its pixels are of a patient."""

    images: tuple[Dataset, ...]
    is_real: bool

    @property
    def study_uid(self) -> str:
        return str(self.images[0].StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        return str(self.images[0].SeriesInstanceUID)


@dataclass(frozen=True)
class Voxels:
    """Grey values (K, J, I) and the affine (4, 4) from voxel centres (I, J, K) to LPS mm."""

    values_kji: np.ndarray
    ijk_to_lps: np.ndarray


def ct_study(shared: Path | None) -> DicomStudy:
    """The real CT series, else the phantom's."""
    if shared is not None:
        folder = shared / "totalsegmentator" / "example_ct_dicom"
        return DicomStudy(tuple(_mended_ct(folder)), True)
    phantom = _phantom_ct(25.0)
    common = _header(CTImageStorage, "CT", "Phantom CT")
    common.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    common.KVP = "120"
    common.RescaleIntercept, common.RescaleSlope, common.RescaleType = -1024, 1, "HU"
    common.WindowCenter, common.WindowWidth = 40, 400
    stored = Voxels(np.clip(phantom.values_kji + 1024, 0, 4095), phantom.ijk_to_lps)
    return DicomStudy(tuple(_slices(common, stored, bits=12)), False)


def earlier_study(study: DicomStudy, date: str) -> DicomStudy:
    """The same patient in the same frame of reference before, ``date`` as YYYYMMDD.

    The image's left five sixteenths are as dark as air, so that something differs.
    """
    study_uid, series_uid = generate_uid(), generate_uid()
    images = []
    for image in study.images:
        earlier = copy.deepcopy(image)
        earlier.StudyInstanceUID, earlier.SeriesInstanceUID = study_uid, series_uid
        earlier.SOPInstanceUID = earlier.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        earlier.StudyDate = earlier.SeriesDate = earlier.ContentDate = date
        pixels = image.pixel_array.copy()
        pixels[:, : pixels.shape[1] * 5 // 16] = pixels.min()
        earlier.PixelData = pixels.tobytes()
        earlier["PixelData"].VR = "OW"
        images.append(earlier)
    return DicomStudy(tuple(images), study.is_real)


def mr_study(shared: Path | None) -> DicomStudy:
    """An MR series of the real voxels, which lie there as NIfTI; else one of the phantom."""
    voxels = _phantom_mr() if shared is None else _voxels_of(shared, "example_mr_sm.nii.gz")
    common = _header(MRImageStorage, "MR", "T1 VIBE")
    common.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
    common.ScanningSequence, common.SequenceVariant, common.ScanOptions = "GR", "SP", ""
    common.MRAcquisitionType = "3D"
    common.RepetitionTime, common.EchoTime, common.EchoTrainLength = "4", "2", ""
    values = np.clip(voxels.values_kji, 0, 4095)
    high = float(np.percentile(values, 99.5))
    common.WindowCenter, common.WindowWidth = round(high / 2), round(high)
    stored = Voxels(values, voxels.ijk_to_lps)
    return DicomStudy(tuple(_slices(common, stored, bits=12)), shared is not None)


def dx_study(shared: Path | None) -> DicomStudy:
    """A radiograph for presentation (PS3.3 A.26): a CT summed from front to back."""
    voxels = _phantom_ct(5.0) if shared is None else _voxels_of(shared, "example_ct.nii.gz")
    attenuation = np.clip(voxels.values_kji + 1000.0, 0, None).sum(axis=1)[::-1]  # head on top
    spacing = np.linalg.norm(voxels.ijk_to_lps[:3, :3], axis=0)
    projection = ndimage.zoom(attenuation, spacing[[2, 0]] / _DX_SPACING_MM, order=1)
    stored = np.rint(projection / projection.max() * 4095).astype("<u2")
    low, high = np.percentile(stored[stored > 0], (5, 95))
    image = _header(DigitalXRayImageStorageForPresentation, "DX", "Projection")
    image.update(_radiograph_attributes())
    image.WindowCenter, image.WindowWidth = round((low + high) / 2), round(high - low)
    _set_pixels(image, stored, bits=12)
    return DicomStudy((image,), shared is not None)


def _mended_ct(folder: Path) -> list[Dataset]:
    """De-identification has emptied UIDs and SOP class, so the series gets new ones."""
    study_uid, series_uid, frame_uid = generate_uid(), generate_uid(), generate_uid()
    images = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    for number, image in enumerate(images, start=1):
        image.decompress()  # Debian's Orthanc gives out no other form of JPEG 2000
        image["PixelData"].VR = "OW"
        image.StudyInstanceUID, image.SeriesInstanceUID = study_uid, series_uid
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
        image.FrameOfReferenceUID = image.get("FrameOfReferenceUID") or frame_uid
        image.PatientID, image.PatientName, image.StudyID = "test-CT", "Browser^CT", "1"
        image.SeriesNumber = image.SeriesNumber or 1
        image.InstanceNumber = image.get("InstanceNumber") or number
    return images


def _voxels_of(shared: Path, name: str) -> Voxels:
    """A NIfTI file's voxels with I to the patient's left and J to the back, as scanners store."""
    image = nibabel.as_closest_canonical(nibabel.load(shared / "totalsegmentator" / name))
    flipped = image.slicer[::-1, ::-1]
    values_ijk = np.asarray(flipped.dataobj)
    return Voxels(values_ijk.transpose(2, 1, 0), _LPS_OF_RAS @ flipped.affine)


def _phantom_ct(slice_mm: float) -> Voxels:
    study = torso_ct(_PHANTOM_SEED, spacing_mm=(3.2, 3.2, slice_mm), matrix=128)
    return Voxels(study.hu.astype(np.int32), study.ijk_to_lps)


def _phantom_mr() -> Voxels:
    """Signal that falls with attenuation: fat bright, air and bone dark."""
    ct = _phantom_ct(25.0)
    signal = np.interp(ct.values_kji, [-900, -100, 50, 200, 800], [0, 700, 350, 500, 40])
    return Voxels(np.rint(signal).astype(np.int32), ct.ijk_to_lps)


def _header(sop_class: str, modality: str, description: str) -> Dataset:
    """Patient, study, series and equipment (PS3.3 C.7.1 to C.7.5)."""
    header = Dataset()
    header.SOPClassUID, header.Modality = sop_class, modality
    header.PatientName, header.PatientID = f"Browser^{modality}", f"test-{modality}"
    header.PatientBirthDate, header.PatientSex = "", "O"
    header.StudyInstanceUID, header.SeriesInstanceUID = generate_uid(), generate_uid()
    header.StudyDate = header.SeriesDate = header.ContentDate = header.AcquisitionDate = _DATE
    header.StudyTime = header.SeriesTime = header.ContentTime = header.AcquisitionTime = _TIME
    header.StudyID, header.AccessionNumber, header.ReferringPhysicianName = "1", "", ""
    header.StudyDescription = header.SeriesDescription = description
    header.SeriesNumber, header.AcquisitionNumber = 1, 1
    header.Manufacturer, header.PatientPosition = "Test", "HFS"
    header.BodyPartExamined = "ABDOMEN"
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    return header


def _slices(common: Dataset, voxels: Voxels, bits: int) -> list[Dataset]:
    """One image for each K (PS3.3 C.7.6.2)."""
    edges = voxels.ijk_to_lps[:3, :3]
    spacing = np.linalg.norm(edges, axis=0)
    frame_of_reference = generate_uid()
    images = []
    for k, pixels in enumerate(voxels.values_kji.astype("<u2")):
        image = Dataset()
        image.update(common)
        image.FrameOfReferenceUID, image.PositionReferenceIndicator = frame_of_reference, ""
        image.InstanceNumber = k + 1
        position = voxels.ijk_to_lps[:3, 3] + k * edges[:, 2]
        image.ImagePositionPatient = [_decimal(value) for value in position]
        cosines = itertools.chain(edges[:, 0] / spacing[0], edges[:, 1] / spacing[1])
        image.ImageOrientationPatient = [_decimal(value) for value in cosines]
        image.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
        image.SliceThickness = _decimal(spacing[2])
        _set_pixels(image, pixels, bits)
        images.append(image)
    return images


def _set_pixels(image: Dataset, stored: np.ndarray, bits: int) -> None:
    image.Rows, image.Columns = stored.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, bits, bits - 1
    image.PixelRepresentation = 0
    image.PixelData = np.ascontiguousarray(stored).tobytes()
    image.SOPInstanceUID = generate_uid()
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.is_little_endian, image.is_implicit_VR = True, False


def _radiograph_attributes() -> Dataset:
    """Modules of a DX image (PS3.3 C.8.11) beyond those that every image has."""
    extra = Dataset()
    extra.ImageType = ["DERIVED", "PRIMARY"]
    extra.PresentationIntentType = "FOR PRESENTATION"
    extra.InstanceNumber = 1
    extra.PatientOrientation = ["L", "F"]
    extra.ImageLaterality = "U"
    extra.AnatomicRegionSequence = [_code("818981001", "SCT", "Abdomen")]
    extra.ViewPosition, extra.PositionerType = "AP", ""
    extra.DetectorType, extra.DetectorConfiguration = "DIRECT", "AREA"
    extra.ImagerPixelSpacing = [_decimal(_DX_SPACING_MM)] * 2
    extra.PixelIntensityRelationship, extra.PixelIntensityRelationshipSign = "LIN", -1
    extra.RescaleIntercept, extra.RescaleSlope, extra.RescaleType = 0, 1, "US"
    extra.PresentationLUTShape = "IDENTITY"
    extra.LossyImageCompression, extra.BurnedInAnnotation = "00", "NO"
    extra.AcquisitionContextSequence = []
    return extra


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _decimal(value: float) -> str:
    """A Decimal String of at most 16 characters (PS3.5, 6.2)."""
    return f"{float(value):.9g}"
