# SPDX-License-Identifier: Apache-2.0
"""From a DICOM series to the DICOM result, against an ellipsoid that is known in the patient.

The series is written here by pydicom; each pixel's value follows from its place by equation
C.7.6.2.1-1 of PS3.3 and the ellipsoid's equation in LPS millimetres. Stand-ins for the models look
at nothing but the pixels that they are given. What comes out is read back by pydicom (and dcmqi)
and compared with the ellipsoid itself: its place, its outline on the slice, its voxels.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

pytest.importorskip("highdicom")
pytest.importorskip("sqlalchemy")

import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from support.physical_space import pixel_to_lps, report_regions_lps_mm, segment_lps_mm

from medreasoner_infer.imaging import load_volume
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.request import AskRequest, SliceSelection
from medreasoner_infer.result import Inference
from medreasoner_infer.types import Grounding, ModelIdentity, ReasonerAnswer, SliceMask
from monailabel_app.dicom.codes import code_table
from monailabel_app.dicom.encoding import new_ids, to_bytes
from monailabel_app.dicom.report import ReferencedSegment, ReportContent, tracking_of, write_report
from monailabel_app.dicom.segmentation import SegmentSpec, write_segmentation
from monailabel_app.dicom.source import open_source
from monailabel_app.store.records import InferenceRecord

SHAPE = (36, 30, 18)  # columns, rows, slices
SPACING_MM = (1.5, 1.25, 3.0)
MIDDLE_LPS_MM = np.array([-31.0, 54.0, 212.0])
# Half a voxel is what is asked for; a quarter also tells pixel centres from pixel edges.
VOXELS = 0.25
SURFACE_HU, SLOPE_HU = 40.0, 400.0  # the surface is the middle of the window "40/400"
NEAR_SURFACE = 0.02
IDENTITY = ModelIdentity("stand-in", "test", None, "ab" * 32, "Apache-2.0")


def turned(x: float, y: float, z: float) -> np.ndarray:
    """Rotation by three angles in degrees, about X, then Y, then Z."""
    a, b, c = np.deg2rad((x, y, z))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


CORONAL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
SAGITTAL = np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]])
TILT = np.deg2rad(18.0)
# Columns: directions of rows (I), of columns (J), and from slice to slice (K).
ACQUISITIONS = {
    "axial": np.eye(3),
    "axial, feet first": np.diag([1.0, -1.0, -1.0]),
    "coronal": CORONAL,
    "sagittal": SAGITTAL,
    "oblique": turned(14, -9, 21),
    "gantry tilted": np.array([[1, 0, 0], [0, np.cos(TILT), 0], [0, np.sin(TILT), 1]], dtype=float),
    "gantry tilted the other way": np.array(
        [[1, 0, 0], [0, np.cos(TILT), 0], [0, -np.sin(TILT), 1]], dtype=float
    ),
}
# Where display x goes in the patient (LPS); nothing for the image as acquired.
DISPLAY_X = {"axial": (1, 0, 0), "coronal": (1, 0, 0), "sagittal": (0, 1, 0), "acquired": None}
PATIENT_AXIS = {"axial": 2, "coronal": 1, "sagittal": 0}


@dataclass(frozen=True)
class Ellipsoid:
    """All points x with (x - centre) . matrix (x - centre) <= 1; LPS mm."""

    centre: np.ndarray
    matrix: np.ndarray

    @classmethod
    def of(cls, centre, radii_mm, rotation) -> Ellipsoid:
        return cls(np.asarray(centre), rotation @ np.diag(np.square(radii_mm) ** -1.0) @ rotation.T)

    def radius(self, points_lps: np.ndarray) -> np.ndarray:
        """1 on the surface, less inside."""
        offset = points_lps - self.centre
        return np.sqrt(np.einsum("...i,ij,...j", offset, self.matrix, offset))

    def section(
        self, ijk_to_lps: np.ndarray, axis: int, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Centre (3,) and half extents (3,) of the cut with a slice of a grid, in voxels.

        In IJK the ellipsoid is the quadric N = A' M A about its centre; with one coordinate fixed
        at distance d, the other two run over an ellipse about -inv(Npp) Npc d.
        """
        linear = ijk_to_lps[:3, :3]
        middle = np.linalg.solve(linear, self.centre - ijk_to_lps[:3, 3])
        quadric = linear.T @ self.matrix @ linear
        rest = [other for other in range(3) if other != axis]
        inverse = np.linalg.inv(quadric[np.ix_(rest, rest)])
        coupling, distance = quadric[rest, axis], index - middle[axis]
        level = 1 - distance**2 * (quadric[axis, axis] - coupling @ inverse @ coupling)
        assert level > 0.2, "the slice should cut well into the ellipsoid"
        centre, half = np.zeros(3), np.zeros(3)
        centre[axis] = index
        centre[rest] = middle[rest] - inverse @ coupling * distance
        half[rest] = np.sqrt(level * np.diag(inverse))
        return centre, half


TARGET = Ellipsoid.of(
    np.add(MIDDLE_LPS_MM, (2.3, -1.7, 3.1)), (13.0, 10.0, 15.0), turned(25, 35, -20)
)


# --- the series ----------------------------------------------------------------------------------


def write_series(folder: Path, directions: np.ndarray) -> list[Dataset]:
    """The headers in the order of K; the files lie there in another order."""
    folder.mkdir()
    grid = directions * SPACING_MM
    origin = MIDDLE_LPS_MM - grid @ ((np.array(SHAPE) - 1) / 2)
    common = common_header(directions)
    headers = []
    for k in range(SHAPE[2]):
        header = Dataset()
        header.update(common)
        header.SOPInstanceUID, header.InstanceNumber = generate_uid(), SHAPE[2] - k
        header.ImagePositionPatient = [f"{value:.10g}" for value in origin + grid[:, 2] * k]
        rows, columns = np.mgrid[: SHAPE[1], : SHAPE[0]]
        radius = TARGET.radius(pixel_to_lps(header, columns, rows))
        hu = np.rint(SURFACE_HU + SLOPE_HU * (1 - radius)).clip(-1024, 3071)
        header.PixelData = (hu + 1024).astype("<u2").tobytes()
        header.file_meta = FileMetaDataset()
        header.file_meta.MediaStorageSOPClassUID = CTImageStorage
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.is_little_endian, header.is_implicit_VR = True, False
        header.save_as(folder / f"{(k * 7) % SHAPE[2]:02d}.dcm", write_like_original=False)
        headers.append(header)
    return headers


def common_header(directions: np.ndarray) -> Dataset:
    header = Dataset()
    header.SOPClassUID, header.Modality = CTImageStorage, "CT"
    header.PatientName, header.PatientID, header.PatientBirthDate = "Oracle", "oracle", ""
    header.PatientSex, header.PatientPosition = "O", "HFS"
    header.StudyInstanceUID, header.SeriesInstanceUID = generate_uid(), generate_uid()
    header.FrameOfReferenceUID, header.PositionReferenceIndicator = generate_uid(), ""
    header.StudyDate, header.StudyTime, header.StudyID = "20260101", "120000", "1"
    header.AccessionNumber = header.ReferringPhysicianName = ""
    header.Manufacturer, header.SeriesNumber, header.AcquisitionNumber = "Test", 1, 1
    header.ImageType, header.KVP = ["ORIGINAL", "PRIMARY", "AXIAL"], "120"
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Columns, header.Rows = SHAPE[:2]
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.PixelRepresentation, header.RescaleType = 0, "HU"
    header.RescaleIntercept, header.RescaleSlope = -1024, 1
    header.PixelSpacing = [SPACING_MM[1], SPACING_MM[0]]
    header.SliceThickness = SPACING_MM[2]
    cosines = itertools.chain(directions[:, 0], directions[:, 1])
    header.ImageOrientationPatient = [f"{value:.10g}" for value in cosines]
    return header


# --- stand-ins for the models: they see pixels only ----------------------------------------------


class OutlineReasoner(Reasoner):
    """The bright region's box; its centre, and the point halfway from there to the box's right."""

    identity, input_size, image_encoding = IDENTITY, 840, "rgb"

    def _sample(self, request, count, on_text, cancelled):
        rows, columns = np.nonzero(request.image[..., 0] >= 128)
        x, y = columns.mean() + 0.5, rows.mean() + 0.5
        x1, x2 = float(columns.min()), float(columns.max() + 1)
        box = (x1, float(rows.min()), x2, float(rows.max() + 1))
        grounding = Grounding("Bright.", box, ((x, y), ((x + x2) / 2, y)))
        return (ReasonerAnswer("text", grounding, 0.5, 3),)


class BrightSegmenter:
    """Bright pixels; on the prompted slice those in the box, and every point must lie on one."""

    identity = IDENTITY

    def segment_slice(self, image, prompt):
        bright = image.pixels >= 128
        x1, y1, x2, y2 = prompt.bbox_xyxy_px
        rows, columns = np.nonzero(bright)
        assert columns.min() + 0.5 >= x1 - VOXELS
        assert columns.max() + 0.5 <= x2 + VOXELS
        assert rows.min() + 0.5 >= y1 - VOXELS
        assert rows.max() + 0.5 <= y2 + VOXELS
        assert all(bright[int(y), int(x)] for x, y in prompt.points_xy_px)
        return SliceMask(bright, 0.9)

    def propagate(self, frames, start_index, prompt, *, progress=None, cancelled=None):
        yield start_index, self.segment_slice(frames[start_index], prompt)
        for index in range(len(frames)):
            if index != start_index:
                yield index, SliceMask(frames[index].pixels >= 128, 0.9)


# --- from the series to the result ---------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What came out, and where the series itself says that voxels lie."""

    headers: list[Dataset]
    plane: str
    axis: int
    index: int
    result: object
    segmentation: Dataset
    report: Dataset

    @property
    def ijk_to_lps(self) -> np.ndarray:
        """By the headers alone."""
        first, last = self.headers[0], self.headers[-1]
        voxels = pixel_to_lps(first, np.array([0, 1, 0]), np.array([0, 0, 1]))
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1] = voxels[1] - voxels[0], voxels[2] - voxels[0]
        positions = [np.array(h.ImagePositionPatient, dtype=float) for h in (first, last)]
        affine[:3, 2] = (positions[1] - positions[0]) / (len(self.headers) - 1)
        affine[:3, 3] = positions[0]
        return affine

    def in_voxels(self, points_lps: np.ndarray) -> np.ndarray:
        return (np.asarray(points_lps) - self.ijk_to_lps[:3, 3]) @ np.linalg.inv(
            self.ijk_to_lps[:3, :3]
        ).T


def run(tmp_path: Path, acquisition: str, plane: str) -> Outcome:
    directions = ACQUISITIONS[acquisition]
    headers = write_series(tmp_path / "series", directions)
    volume = load_volume(tmp_path / "series")
    axis = 2
    if plane in PATIENT_AXIS:
        axis = int(np.argmax(np.abs(directions[PATIENT_AXIS[plane]])))
    target_ijk = np.linalg.solve(
        directions * SPACING_MM, TARGET.centre - np.array(headers[0].ImagePositionPatient, float)
    )
    beside = target_ijk[axis] + 2.4  # off the middle, where a tilted ellipsoid lies elsewhere
    position = np.array(headers[0].ImagePositionPatient, float) + (directions * SPACING_MM) @ (
        np.where(np.arange(3) == axis, beside, target_ijk)
    )
    pipeline = Pipeline(OutlineReasoner, BrightSegmenter)
    selection = SliceSelection(
        plane=plane, position_lps_mm=tuple(position.tolist()), window="40/400"
    )
    result = pipeline.ask(volume, AskRequest("Where is it bright?", selection, propagate=True))
    segmentation, report = as_dicom(result, tmp_path / "series", volume)
    return Outcome(headers, plane, axis, round(beside), result, segmentation, report)


def as_dicom(result, series: Path, volume) -> tuple[Dataset, Dataset]:
    """SEG and SR as their files read back."""
    source, table = open_source(series, volume), code_table()
    record = InferenceRecord(
        id=result.inference_id, created_at=datetime.fromisoformat(result.created_at),
        task="medreasoner", image_id="series", present=result.present,
        result=Inference.from_dict(json.loads(json.dumps(result.to_dict()))), mask_sha256=None,
        mask_file=None,
    )  # fmt: skip
    codes = table.find("liver")
    spec = SegmentSpec(1, "Liver", codes, tracking_of(record.id), ("MedReasoner", "1"))
    segmentation = write_segmentation(result.mask_ijk, [spec], source, new_ids())
    answer = ReferencedSegment(segmentation, 1)
    content = ReportContent(record, result.mask_ijk, answer, codes, "MedReasoner")
    report = write_report(content, source, new_ids())
    return tuple(
        pydicom.dcmread(pydicom.filebase.DicomBytesIO(to_bytes(made)))
        for made in (segmentation, report)
    )


CASES = [
    *((acquisition, "acquired") for acquisition in ACQUISITIONS),
    *itertools.product(("axial", "oblique", "gantry tilted"), PATIENT_AXIS),
    *itertools.product(("coronal", "sagittal"), ("axial",)),
    ("axial, feet first", "coronal"),
    ("gantry tilted the other way", "sagittal"),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def outcome(request, tmp_path_factory) -> Outcome:
    return run(tmp_path_factory.mktemp("oracle"), *request.param)


# --- against the ellipsoid -----------------------------------------------------------------------


def test_the_slice_is_the_one_at_the_position(outcome) -> None:
    assert outcome.result.slice.index in (outcome.index, SHAPE[outcome.axis] - 1 - outcome.index)
    centre = outcome.in_voxels(outcome.result.slice.center_lps_mm)
    assert centre[outcome.axis] == pytest.approx(outcome.index, abs=1e-4)


def expected_box(outcome: Outcome) -> np.ndarray:
    """The lowest and highest voxel coordinates of the ellipsoid's outline on the slice."""
    centre, half = TARGET.section(outcome.ijk_to_lps, outcome.axis, outcome.index)
    return np.array([centre - half, centre + half])


def expected_points(outcome: Outcome) -> np.ndarray:
    centre, half = TARGET.section(outcome.ijk_to_lps, outcome.axis, outcome.index)
    right = DISPLAY_X[outcome.plane]
    towards = np.array([1.0, 0.0, 0.0])
    if right is not None:
        cosines = np.array(right) @ outcome.ijk_to_lps[:3, :3] / SPACING_MM
        cosines[outcome.axis] = 0
        along = np.argmax(np.abs(cosines))
        towards = np.sign(cosines) * (np.arange(3) == along)
    return np.array([centre, centre + towards * half / 2])


def test_box_and_points_are_the_outlines_in_the_patient(outcome) -> None:
    prompts = outcome.result.prompts
    box = np.sort(outcome.in_voxels(prompts.bbox_corners_lps_mm), axis=0)
    np.testing.assert_allclose(box, expected_box(outcome), atol=VOXELS)
    points = outcome.in_voxels(prompts.points_lps_mm)
    np.testing.assert_allclose(points, expected_points(outcome), atol=VOXELS)


def test_box_and_points_of_the_report_are_the_outlines(outcome) -> None:
    if outcome.axis != 2:
        # No image holds them: they are told in words alone.
        texts = texts_of(outcome.report)
        (told,) = (text for text in texts if "bbox_corners" in text)
        prompts = json.loads(told)["result"]["prompts"]
        box = np.sort(outcome.in_voxels(prompts["bbox_corners_lps_mm"]), axis=0)
        points = outcome.in_voxels(prompts["points_lps_mm"])
    else:
        # After the answer's outline, which its sizes are inferred from, too.
        *_, box, inside, further = regions_of(outcome)
        box = np.array([box.min(axis=0), box.max(axis=0)])
        points = np.concatenate([inside, further])
    np.testing.assert_allclose(box, expected_box(outcome), atol=VOXELS)
    np.testing.assert_allclose(points, expected_points(outcome), atol=VOXELS)


def test_the_outline_of_the_report_lies_on_the_ellipsoid(outcome) -> None:
    """Its vertices are corners of voxels, each within a voxel of the surface."""
    by_uid = {header.SOPInstanceUID: header for header in outcome.headers}
    outline, *_ = report_regions_lps_mm(outcome.report, by_uid)
    radii = TARGET.radius(outline)
    assert len(outline) > 8
    assert 0.7 < radii.min() < radii.max() < 1.3


def texts_of(report: Dataset) -> list[str]:
    """What the text content items of the measurement groups say."""
    groups = report.ContentSequence[-1].ContentSequence
    items = (item for group in groups for item in group.ContentSequence)
    return [item.TextValue for item in items if item.ValueType == "TEXT"]


def regions_of(outcome: Outcome) -> list[np.ndarray]:
    """The regions of the report in voxels."""
    by_uid = {header.SOPInstanceUID: header for header in outcome.headers}
    found = report_regions_lps_mm(outcome.report, by_uid)
    return [outcome.in_voxels(points) for points in found]


def assert_is_the_ellipsoid(outcome: Outcome, positions_lps: np.ndarray) -> None:
    """Every voxel centre inside, no other, and so the middle and the extents."""
    radius = TARGET.radius(positions_lps)
    assert radius.max() < 1 + NEAR_SURFACE
    rows, columns = np.mgrid[: SHAPE[1], : SHAPE[0]]
    all_radii = [TARGET.radius(pixel_to_lps(header, columns, rows)) for header in outcome.headers]
    inside = int((np.array(all_radii) < 1 - NEAR_SURFACE).sum())
    assert (radius < 1 - NEAR_SURFACE).sum() == inside > 500
    voxels = outcome.in_voxels(positions_lps)
    middle = outcome.in_voxels(TARGET.centre)
    np.testing.assert_allclose(voxels.mean(axis=0), middle, atol=VOXELS)
    quadric = outcome.ijk_to_lps[:3, :3].T @ TARGET.matrix @ outcome.ijk_to_lps[:3, :3]
    half = np.sqrt(np.diag(np.linalg.inv(quadric)))
    # A voxel belongs to it by its centre, so the outermost lie up to one voxel further in.
    np.testing.assert_allclose(np.ptp(voxels, axis=0) / 2 + 0.5, half, atol=0.5)


def test_the_segmentation_holds_the_ellipsoids_voxels(outcome) -> None:
    assert_is_the_ellipsoid(outcome, segment_lps_mm(outcome.segmentation))
    assert outcome.segmentation.FrameOfReferenceUID == outcome.headers[0].FrameOfReferenceUID


def test_the_volume_is_the_ellipsoids(outcome) -> None:
    axes_mm = np.linalg.eigvalsh(TARGET.matrix) ** -0.5
    expected_mm3 = 4 / 3 * np.pi * axes_mm.prod()
    assert outcome.result.mask.volume_mm3 == pytest.approx(expected_mm3, rel=0.03)


@pytest.mark.parametrize("acquisition", ["axial", "coronal", "sagittal", "oblique"])
def test_dcmqi_reads_the_same_voxels(tmp_path, acquisition) -> None:
    tool = Path(sys.executable).with_name("segimage2itkimage")
    if not tool.exists():
        pytest.skip("dcmqi is absent; pip install -e '.[dev]'")
    outcome = run(tmp_path, acquisition, "acquired")
    path = tmp_path / "seg.dcm"
    outcome.segmentation.save_as(path, write_like_original=False)
    subprocess.run(
        [tool, "--inputDICOM", path, "--outputDirectory", tmp_path, "--outputType", "nrrd"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    image = sitk.ReadImage(str(next(tmp_path.glob("*.nrrd"))))
    indices = np.argwhere(sitk.GetArrayFromImage(image))[:, ::-1].tolist()
    positions = np.array([image.TransformIndexToPhysicalPoint(index) for index in indices])
    assert_is_the_ellipsoid(outcome, positions)
