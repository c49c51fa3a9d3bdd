# SPDX-License-Identifier: Apache-2.0
"""What the header of a DICOM image says, for single-frame and multi-frame objects alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from medreasoner_infer.imaging.content import pixel_sides
from medreasoner_infer.imaging.dicom_geometry import FramePlane
from medreasoner_infer.imaging.window import Window

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Objects that have pixels and are not images to be read by a person.
_NOT_IMAGES = {"SEG": "segmentation", "RTDOSE": "radiotherapy dose"}
# Words of the names of storage classes (PS3.4, B.5), the particular before the general.
_STORAGE_CLASSES = {
    " CT ": "CT", " MR ": "MR", " PET ": "PT", "Positron Emission": "PT", "Ultrasound": "US",
    "Mammography": "MG", "Tomosynthesis": "MG", "Digital X-Ray": "DX",
    "Computed Radiography": "CR", "Angiographic": "XA", " XA ": "XA", "Radiofluoroscopic": "RF",
    " XRF ": "RF", "Nuclear Medicine": "NM", "Ophthalmic Tomography": "OPT", "Endoscopic": "ES",
    "Ophthalmic Photography": "OP",
}  # fmt: skip
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")
_REQUIRED = {
    "SOPClassUID": "SOP Class UID",
    "SOPInstanceUID": "SOP Instance UID",
    "StudyInstanceUID": "Study Instance UID",
    "SeriesInstanceUID": "Series Instance UID",
    "PatientID": "Patient ID",
}


def code_string(header: Dataset, keyword: str) -> str:
    """A code (VR CS, PS3.5, 6.2), ``""`` where it is absent or no code.

    In a damaged file anything may stand in its place, a patient's name too, and codes are shown.
    """
    code = str(header.get(keyword) or "").strip()
    return code if _CODE.fullmatch(code) else ""


def non_image_kind(header: Dataset) -> str | None:
    """What a DICOM object is when it is no image, e.g. ``"segmentation (SEG)"``."""
    code = code_string(header, "Modality")
    if code in _NOT_IMAGES:
        return f"{_NOT_IMAGES[code]} ({code})"
    if not header.get("Rows") or not header.get("Columns"):
        return f"document without pixels ({code or 'no modality'})"
    return None


def is_cut_image(header: Dataset) -> bool:
    """Whether it is stored as an image but has no size, as a file that ends in its header."""
    return "Image Storage" in _storage_class(header) and not (
        header.get("Rows") and header.get("Columns")
    )


def modality_of(header: Dataset) -> str | None:
    """The modality, read from the storage class of the file where the attribute is empty."""
    code = code_string(header, "Modality")
    if code:
        return code
    name = f" {_storage_class(header)} "
    return next((code for words, code in _STORAGE_CLASSES.items() if words in name), None)


def _storage_class(header: Dataset) -> str:
    """The name of the SOP Class (PS3.6, A); ``""`` where none is given."""
    meta = getattr(header, "file_meta", {})
    uid = header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID")
    return str(uid.name) if uid else ""


def missing_fields_warning(header: Dataset) -> tuple[str, ...]:
    """A warning that lists required identifiers that are empty; such files can be read."""
    names = [name for keyword, name in _REQUIRED.items() if not header.get(keyword)]
    if not names:
        return ()
    return (
        f"The DICOM files leave required fields empty ({', '.join(names)}). They can be read, but "
        "a result can only be stored with them in a PACS once the fields are filled.",
    )


def frame_count(header: Dataset) -> int:
    """Number of Frames, 1 where absent."""
    return int(header.get("NumberOfFrames") or 1)


def frame_planes(header: Dataset) -> list[FramePlane] | None:
    """The plane of every frame, or ``None`` where any frame has no place in the patient."""
    planes = [_frame_plane(header, index) for index in range(frame_count(header))]
    if any(plane is None for plane in planes):
        return None
    return [plane for plane in planes if plane is not None]


def placed_frames(header: Dataset) -> int:
    """How many frames have a place in the patient."""
    return sum(_frame_plane(header, index) is not None for index in range(frame_count(header)))


def functional_attribute(header: Dataset, index: int, group: str, keyword: str) -> Any:
    """An attribute of one frame: from its functional group, the shared one, or the top level.

    Args:
        header: single-frame or enhanced multi-frame object (PS3.3 C.7.6.16).
        index: frame, from 0.
        group: keyword of the functional group's sequence, e.g. ``"PlanePositionSequence"``.
        keyword: the attribute within it, e.g. ``"ImagePositionPatient"``.

    Returns:
        The value, ``None`` where it is absent or empty.
    """
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    for item in (*per_frame[index : index + 1], *shared[:1]):
        functional_group = item.get(group)
        if functional_group and functional_group[0].get(keyword) not in (None, ""):
            return functional_group[0].get(keyword)
    value = header.get(keyword)
    return None if value in (None, "") else value


def rescale_of(header: Dataset, index: int) -> tuple[float, float]:
    """Rescale Slope and Intercept of a frame, 1 and 0 where absent."""
    group = "PixelValueTransformationSequence"
    slope = functional_attribute(header, index, group, "RescaleSlope")
    intercept = functional_attribute(header, index, group, "RescaleIntercept")
    return (
        1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept),
    )


def padding_range(header: Dataset) -> tuple[int, int] | None:
    """Pixel Padding Value and Pixel Padding Range Limit as written; ``None`` where absent."""
    value = header.get("PixelPaddingValue")
    limit = header.get("PixelPaddingRangeLimit")
    if not isinstance(value, int):
        return None
    return value, limit if isinstance(limit, int) else value


def is_mosaic(header: Dataset) -> bool:
    """Whether this is a Siemens mosaic: the slices of a volume side by side in one picture."""
    kinds = header.get("ImageType") or ()
    return "MOSAIC" in ([kinds] if isinstance(kinds, str) else map(str, kinds))


def slice_thickness_mm(header: Dataset) -> float:
    """Slice Thickness, else Spacing Between Slices, else 1 mm."""
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        value = functional_attribute(header, 0, "PixelMeasuresSequence", keyword)
        if value is not None and float(value) > 0:
            return float(value)
    return 1.0


def projection_spacing_mm(header: Dataset) -> tuple[float, float] | None:
    """Distance between rows and between columns of an image without a place in the patient."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        value = header.get(keyword)
        if value and len(value) == 2 and min(map(float, value)) > 0:
            return float(value[0]), float(value[1])
    return None


def pixel_aspect(header: Dataset) -> tuple[float, float]:
    """Height and width of a pixel by Pixel Aspect Ratio (PS3.3 C.7.6.3.1.7); the width is 1."""
    value = header.get("PixelAspectRatio")
    if not value or isinstance(value, str) or len(value) != 2:
        return 1.0, 1.0
    return pixel_sides(float(value[0]), float(value[1]))


def patient_orientation(header: Dataset) -> tuple[str, str] | None:
    """Patient Orientation (0020,0020) where it uses the letters for humans (PS3.3 C.7.6.1.1.1)."""
    value = header.get("PatientOrientation")
    if not value or len(value) != 2:
        return None
    row, column = (str(letters) for letters in value)
    valid = row and column and set(row + column) <= set("RLAPHF")
    return (row, column) if valid else None


def stored_window(header: Dataset) -> Window | None:
    """The first linear window of the file, ``None`` where there is none or it is not usable."""
    group = "FrameVOILUTSequence"
    function = functional_attribute(header, 0, group, "VOILUTFunction")
    try:
        center = functional_attribute(header, 0, group, "WindowCenter")
        width = functional_attribute(header, 0, group, "WindowWidth")
        if center is None or width is None or function == "SIGMOID":
            return None
        return Window(_first(center), _first(width), "stored")
    except ValueError:  # no numbers, or no window
        return None


def _frame_plane(header: Dataset, index: int) -> FramePlane | None:
    position = functional_attribute(header, index, "PlanePositionSequence", "ImagePositionPatient")
    cosines = functional_attribute(
        header, index, "PlaneOrientationSequence", "ImageOrientationPatient"
    )
    spacing = functional_attribute(header, index, "PixelMeasuresSequence", "PixelSpacing")
    if position is None or cosines is None or spacing is None:
        return None
    x, y, z = (float(value) for value in position)
    row_x, row_y, row_z, column_x, column_y, column_z = (float(value) for value in cosines)
    return FramePlane(
        position_lps_mm=(x, y, z),
        row_direction=(row_x, row_y, row_z),
        column_direction=(column_x, column_y, column_z),
        spacing_rows_mm=float(spacing[0]),
        spacing_columns_mm=float(spacing[1]),
    )


def _first(value: Any) -> float:
    return float(value if isinstance(value, (int, float, str)) else value[0])
