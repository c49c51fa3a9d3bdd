# SPDX-License-Identifier: Apache-2.0
"""Display convention for every way in which a scanner or a converter can store a volume."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from medreasoner_infer.errors import ImageKindError, InputError
from medreasoner_infer.imaging import (
    Plane,
    Volume,
    default_plane,
    edge_letters,
    load_volume,
    slice_count,
    slice_index_at,
    slice_mapping,
    slice_values,
)
from medreasoner_infer.imaging.orientation import direction_letters, nearest_voxel_axes

ORIENTATIONS = [
    (axes, signs)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
UPRIGHT = Rotation.identity()
OBLIQUE = Rotation.from_rotvec(np.radians(20) * np.array([1, 2, 3]) / np.sqrt(14))
SPACING = (0.7, 1.3, 4.0)
SHAPE = (11, 13, 9)
CENTRE, LEFT, POSTERIOR, HEAD = 1, 2, 3, 4
# Display directions (dx, dy) of what lies to the left, behind and above, in slice px.
CONVENTION = {
    Plane.AXIAL: {LEFT: (1, 0), POSTERIOR: (0, 1)},
    Plane.CORONAL: {LEFT: (1, 0), HEAD: (0, -1)},
    Plane.SAGITTAL: {POSTERIOR: (1, 0), HEAD: (0, -1)},
}
LETTERS = {
    Plane.AXIAL: ("R", "L", "A", "P"),
    Plane.CORONAL: ("R", "L", "H", "F"),
    Plane.SAGITTAL: ("A", "P", "H", "F"),
}


def marked_image(
    axes: tuple[int, ...], signs: tuple[int, ...], rotation: Rotation
) -> tuple[sitk.Image, np.ndarray]:
    """An ITK image whose voxel axis n runs along the patient axis ``axes[n]``, sense ``signs[n]``,
    and the LPS position of its centre. Markers lie left of, behind and above the centre."""
    direction = np.zeros((3, 3))
    for voxel_axis, (patient_axis, sign) in enumerate(zip(axes, signs, strict=True)):
        direction[patient_axis, voxel_axis] = sign
    direction = rotation.as_matrix() @ direction
    image = sitk.Image(list(SHAPE), sitk.sitkInt16)
    image.SetSpacing(SPACING)
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin((-31.0, 17.0, 250.0))
    centre_index = [length // 2 for length in SHAPE]
    image.SetPixel(centre_index, CENTRE)
    centre = np.array(image.TransformContinuousIndexToPhysicalPoint(centre_index))
    for label, patient_axis in ((LEFT, 0), (POSTERIOR, 1), (HEAD, 2)):
        step_mm = 2 * SPACING[axes.index(patient_axis)]
        point = centre + step_mm * rotation.as_matrix()[:, patient_axis]
        image.SetPixel(image.TransformPhysicalPointToIndex(point.tolist()), label)
    return image, centre


def displayed_offset(values: np.ndarray, label: int) -> tuple[int, int]:
    """From the centre marker to another one, (dx, dy) in pixels of two from the display."""
    ((centre_row, centre_column),) = np.argwhere(values == CENTRE)
    ((row, column),) = np.argwhere(values == label)
    return (column - centre_column) // 2, (row - centre_row) // 2


@pytest.mark.parametrize("rotation", [UPRIGHT, OBLIQUE], ids=["upright", "oblique"])
@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_every_stored_orientation_is_displayed_by_radiological_convention(
    axes: tuple[int, ...], signs: tuple[int, ...], rotation: Rotation, tmp_path: Path
) -> None:
    image, centre = marked_image(axes, signs, rotation)
    sitk.WriteImage(image, str(tmp_path / "image.mha"))
    volume = load_volume(tmp_path / "image.mha")
    for plane, expected in CONVENTION.items():
        mapping = slice_mapping(volume, plane, slice_index_at(volume, plane, centre))
        values = slice_values(volume, mapping)
        assert {label: displayed_offset(values, label) for label in expected} == expected
        if rotation is UPRIGHT:
            assert edge_letters(volume, mapping) == LETTERS[plane]


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_nifti_and_itk_files_of_one_image_have_the_same_geometry(
    axes: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path
) -> None:
    image, _ = marked_image(axes, signs, OBLIQUE)
    for name in ("image.nii", "image.nrrd"):
        sitk.WriteImage(image, str(tmp_path / name))
        volume = load_volume(tmp_path / name)
        for index in ((0, 0, 0), (10, 0, 0), (0, 12, 0), (0, 0, 8)):
            expected = image.TransformContinuousIndexToPhysicalPoint(index)
            assert volume.ijk_to_lps @ (*index, 1) == pytest.approx((*expected, 1), abs=1e-4)
            assert volume.array[index] == image.GetPixel(index)


@pytest.mark.parametrize("rotation", [UPRIGHT, OBLIQUE], ids=["upright", "oblique"])
@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_orientation_codes_agree_with_nibabel(
    axes: tuple[int, ...], signs: tuple[int, ...], rotation: Rotation
) -> None:
    image, _ = marked_image(axes, signs, rotation)
    lps = np.array(image.GetDirection()).reshape(3, 3) * SPACING
    affine = np.eye(4)
    affine[:3, :3] = lps
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    volume = Volume(np.zeros((2, 2, 2)), affine, "OT", "k", Path("image"))
    assert volume.orientation == "".join(nibabel.aff2axcodes(ras))


def test_axial_slice_against_literal_pixels() -> None:
    """RAS storage (I to the right of the patient... towards R is -x): both axes must turn."""
    array = np.zeros((4, 3, 2), dtype=np.int16)
    array[0, 0, 1] = 7
    ras_storage = np.diag([-1.0, -1.0, 1.0, 1.0])
    volume = Volume(array, ras_storage, "CT", "k", Path("image"))
    assert volume.orientation == "RAS"
    values = slice_values(volume, slice_mapping(volume, Plane.AXIAL, 1))
    # index (0, 0) is the patient's left and back: lower right corner of the display
    assert values.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 7]]


@pytest.mark.parametrize(
    ("cut_patient_axis", "plane"), [(2, Plane.AXIAL), (1, Plane.CORONAL), (0, Plane.SAGITTAL)]
)
def test_default_plane_is_the_acquired_one(cut_patient_axis: int, plane: Plane) -> None:
    others = [axis for axis in range(3) if axis != cut_patient_axis]
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE.as_matrix() @ np.eye(3)[:, [*others, cut_patient_axis]]
    volume = Volume(np.zeros((5, 6, 7)), affine, "MR", "k", Path("image"))
    assert default_plane(volume) is plane
    assert slice_count(volume, plane) == 7


def test_acquired_plane_shows_rows_downwards_as_stored() -> None:
    array = np.arange(24).reshape(4, 3, 2)
    volume = Volume(array, np.diag([-1.0, 1.0, -1.0, 1.0]), "MR", "k", Path("image"))
    values = slice_values(volume, slice_mapping(volume, Plane.ACQUIRED, 1))
    assert np.array_equal(values, array[:, :, 1].T)


def test_a_picture_has_the_acquired_plane_only() -> None:
    picture = Volume(np.zeros((4, 3, 1)), np.eye(4), "OT", "k", Path("image"), is_picture=True)
    assert default_plane(picture) is Plane.ACQUIRED
    assert edge_letters(picture, slice_mapping(picture, Plane.ACQUIRED, 0)) is None
    with pytest.raises(ImageKindError, match=r"no patient geometry.*'acquired'"):
        slice_mapping(picture, Plane.AXIAL, 0)


def test_plane_names() -> None:
    assert Plane.parse(" Coronal ") is Plane.CORONAL
    with pytest.raises(InputError, match=r"'transverse' is not known. Expected one of axial"):
        Plane.parse("transverse")


def test_letters_of_oblique_directions_name_the_dominant_one_first() -> None:
    assert direction_letters(np.array([0.0, 0.0, 1.0])) == "H"
    assert direction_letters(np.array([-0.9, 0.4, 0.0])) == "RP"
    assert direction_letters(np.array([0.5, -0.6, -0.62])) == "FAL"
    assert direction_letters(np.array([0.99, 0.1, 0.0])) == "L"


def test_a_rotation_by_45_degrees_uses_every_axis_once() -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("z", 45, degrees=True).as_matrix()
    assert sorted(axis for axis, _ in nearest_voxel_axes(affine)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("example_ct", "example_seg_fast_force_split"),  # stored as RAS
        ("example_mr_sm", "example_seg_mr"),  # stored as LPS
    ],
)
def test_organs_of_real_patients_are_displayed_where_a_radiologist_expects_them(
    image: str, labels: str, shared_data: Path
) -> None:
    """Labels 2 and 3 are the right and the left kidney, 5 is the liver."""
    folder = shared_data / "totalsegmentator"
    volume = load_volume(folder / f"{image}.nii.gz")
    organs = load_volume(folder / f"{labels}.nii.gz")
    assert organs.ijk_to_lps == pytest.approx(volume.ijk_to_lps, abs=1e-3)
    centre_px = {
        (plane, label): np.mean(
            slice_mapping(organs, plane, 0).ijk_to_slice_px(np.argwhere(organs.array == label)),
            axis=0,
        )
        for plane in CONVENTION
        for label in (2, 3, 5)
    }
    for plane in (Plane.AXIAL, Plane.CORONAL):
        assert centre_px[plane, 2][0] < centre_px[plane, 3][0]
        assert centre_px[plane, 5][0] < centre_px[plane, 3][0]
    assert centre_px[Plane.AXIAL, 5][1] < centre_px[Plane.AXIAL, 2][1]  # liver before the kidney
    assert centre_px[Plane.SAGITTAL, 5][0] < centre_px[Plane.SAGITTAL, 2][0]
    assert centre_px[Plane.CORONAL, 5][1] < centre_px[Plane.CORONAL, 2][1]  # and above it
