# SPDX-License-Identifier: Apache-2.0
"""Where a place of one examination lies in a prior one, against motions that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.moving import examined_again, middle_lps_mm, motion, volume_of

from medreasoner_infer.imaging import Volume
from medreasoner_infer.priors import (
    Examination,
    ExaminationFacts,
    RegistrationError,
    align,
)
from medreasoner_infer.priors.errors import NotComparableError
from medreasoner_infer.priors.working_image import (
    MAX_VOXELS,
    common_spacing_mm,
    working_image,
)
from medreasoner_training.embedded.phantom import torso_ct

SPACING_MM = (3.0, 3.0, 6.0)
DIAGONAL_MM = float(np.linalg.norm(SPACING_MM))
FRAME = ExaminationFacts(frame_of_reference_uid="1.2.3")


@pytest.fixture(scope="module")
def phantom():
    """The torso from pelvis to liver: volume, and positions (N, 3) in its organs."""
    study = torso_ct(5, spacing_mm=SPACING_MM, matrix=128, z_range_mm=(100, 400))
    hu = np.ascontiguousarray(study.hu.transpose(2, 1, 0))
    places = np.argwhere(study.labels.transpose(2, 1, 0) > 0)[::200]
    affine = study.ijk_to_lps
    return volume_of(hu, affine, "current"), places @ affine[:3, :3].T + affine[:3, 3]


def moved_prior(volume: Volume, degrees, shift_mm, **grid) -> tuple[Volume, np.ndarray]:
    moved = motion(degrees, shift_mm, middle_lps_mm(volume))
    affine = grid.get("affine", volume.ijk_to_lps)
    shape = grid.get("shape", volume.shape_ijk)
    array = examined_again(volume.array, volume.ijk_to_lps, moved, affine, shape)
    return volume_of(array, affine, "prior"), moved


def errors_mm(alignment, places, moved) -> np.ndarray:
    return np.linalg.norm(
        alignment.to_prior(places) - (places @ moved[:3, :3].T + moved[:3, 3]), axis=1
    )


@pytest.mark.parametrize(
    ("degrees", "shift_mm"),
    [((0, 0, 0), (0, 0, 0)), ((5, -4, 8), (12, -20, 35)), ((-6, 7, -3), (-25, 10, -60))],
)
def test_a_moved_patient_is_found_within_a_voxel(phantom, degrees, shift_mm) -> None:
    volume, places = phantom
    prior, moved = moved_prior(volume, degrees, shift_mm)
    alignment = align(Examination(volume), Examination(prior))
    assert alignment.method == "rigid"
    assert np.percentile(errors_mm(alignment, places, moved), 95) < DIAGONAL_MM / 2


@pytest.mark.slow
def test_a_coarser_oblique_prior_of_a_part_is_found(phantom) -> None:
    """Grids are the scanners', the body is the patient's."""
    volume, places = phantom
    grid = motion((0, 0, 12), (0, 0, 0), middle_lps_mm(volume)) @ volume.ijk_to_lps
    grid = grid @ np.diag([1.5, 1.5, 1.3, 1.0])
    grid[:3, 3] += [0, 0, 40]
    prior, moved = moved_prior(volume, (3, 2, -4), (5, 15, -10), affine=grid, shape=(90, 90, 30))
    alignment = align(Examination(volume), Examination(prior))
    assert np.percentile(errors_mm(alignment, places, moved), 95) < DIAGONAL_MM


@pytest.mark.slow
def test_equal_images_are_registered_equally(phantom) -> None:
    volume, _ = phantom
    prior, _ = moved_prior(volume, (5, -4, 8), (12, -20, 35))
    first, second = (align(Examination(volume), Examination(prior)) for _ in range(2))
    np.testing.assert_allclose(first.matrix, second.matrix, atol=1e-9)


@pytest.mark.slow
def test_stretch_counts_where_it_makes_the_images_alike(phantom) -> None:
    volume, places = phantom
    stretch = np.diag([1.1, 0.92, 1.0, 1.0])
    middle = middle_lps_mm(volume)
    stretch[:3, 3] = middle - stretch[:3, :3] @ middle
    array = examined_again(
        volume.array, volume.ijk_to_lps, stretch, volume.ijk_to_lps, volume.shape_ijk
    )
    prior = volume_of(array, volume.ijk_to_lps, "prior")
    alignment = align(Examination(volume), Examination(prior))
    assert alignment.method == "affine"
    assert np.percentile(errors_mm(alignment, places, stretch), 95) < DIAGONAL_MM / 2


@pytest.mark.slow
def test_one_frame_of_reference_or_the_users_word_means_equal_positions(phantom) -> None:
    volume, places = phantom
    prior, _ = moved_prior(volume, (0, 0, 0), (6, 0, 0))
    same = align(Examination(volume, FRAME), Examination(prior, FRAME))
    stated = align(Examination(volume), Examination(prior), same_space=True)
    assert (same.method, stated.method) == ("same_frame", "stated")
    for alignment in (same, stated):
        np.testing.assert_array_equal(alignment.to_prior(places), places)
    other = replace(FRAME, frame_of_reference_uid="1.2.4")
    assert align(Examination(volume, FRAME), Examination(prior, other)).method == "rigid"


def test_positions_that_do_not_overlap_are_not_believed_to_be_of_one_space(phantom) -> None:
    volume, _ = phantom
    far = volume.ijk_to_lps.copy()
    far[2, 3] += 5000
    prior = volume_of(volume.array, far, "far")
    with pytest.raises(RegistrationError, match="patient position"):
        align(Examination(volume), Examination(prior), same_space=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["another_body", "upside_down"])
def test_a_registration_that_failed_is_refused(phantom, kind) -> None:
    """A block of noise in air is a body as much as any; a patient on the head is not believed."""
    volume, _ = phantom
    if kind == "another_body":
        array = np.full(volume.shape_ijk, -1000, np.int16)
        noise = np.random.default_rng(1).normal(60, 200, (70, 50, 40))
        array[30:100, 40:90, 5:45] = noise
    else:
        array = volume.array[:, ::-1, ::-1]
    prior = volume_of(np.ascontiguousarray(array), volume.ijk_to_lps, kind)
    with pytest.raises(RegistrationError):
        align(Examination(volume), Examination(prior))


def test_an_empty_examination_is_refused(phantom) -> None:
    volume, _ = phantom
    prior = volume_of(np.full(volume.shape_ijk, -1000, np.int16), volume.ijk_to_lps, "air")
    with pytest.raises(NotComparableError, match="too little of a body"):
        align(Examination(volume), Examination(prior))


def test_the_working_grid_is_bounded_and_holds_values_where_they_are() -> None:
    """A ramp along x in mm stays one on the working grid, of a sheared volume too."""
    affine = np.diag([0.7, 0.7, 1.0, 1.0])
    affine[:3, 3] = [-150, -150, 20]
    affine[1, 2] = 0.3
    i, j, k = np.meshgrid(*map(np.arange, (400, 400, 60)), indexing="ij")
    x = affine[0, 0] * i + affine[0, 3]
    y = affine[1, 1] * j + affine[1, 2] * k + affine[1, 3]
    body = np.hypot(x, y) < 120
    volume = volume_of(np.where(body, x, -1000).astype(np.float32), affine)
    spacing = common_spacing_mm(volume)
    image = working_image(volume, spacing)
    assert image.values.size <= 1.1 * MAX_VOXELS
    points = image.body_points_lps_mm(5000)
    deep = np.hypot(points[:, 0], points[:, 1]) < 100
    found = image.values[tuple(np.rint(image.indices_of(points[deep])).astype(int).T)]
    np.testing.assert_allclose(found, points[deep][:, 0], atol=0.75)
