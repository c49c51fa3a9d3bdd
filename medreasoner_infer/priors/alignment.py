# SPDX-License-Identifier: Apache-2.0
"""Finding in a prior examination what was read in the current one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.change import Alignment, AlignmentMethod, as_matrix
from medreasoner_infer.errors import SliceOutOfRangeError
from medreasoner_infer.imaging import (
    Plane,
    Volume,
    default_plane,
    slice_index_at,
    slice_of_mask,
)
from medreasoner_infer.imaging.mapping import transform_points
from medreasoner_infer.priors.errors import OutsidePriorError, RegistrationError
from medreasoner_infer.priors.examination import Examination
from medreasoner_infer.priors.registration import register_affine, register_rigid, rotation_deg
from medreasoner_infer.priors.similarity import Similarity, similarity
from medreasoner_infer.priors.working_image import (
    WorkingImage,
    common_spacing_mm,
    working_image,
)
from medreasoner_infer.request import SliceSelection
from medreasoner_infer.result import Inference
from medreasoner_infer.types import XYZ

# What a patient who lies down again does not exceed.
MAX_ROTATION_DEG = 30.0
MAX_SHIFT_FROM_START_MM = 100.0
MIN_OVERLAP = 0.3
# Of the normalised mutual information; images of different regions stay below.
MIN_SIMILARITY = 1.06
# Beyond the noise of the figure.
_WORSE = 0.002
_AFFINE_PAYS = 0.01
_MAX_STRETCH = 1.2
_LITTLE_OVERLAP = 0.6
_MIDDLE_POINTS = 10_000

_CHOOSE = "Choose a prior of the same region, or compare the two by eye."


def align(current: Examination, prior: Examination, *, same_space: bool = False) -> Alignment:
    """Find how positions of the current examination lie in the prior one.

    Equal frames of reference mean equal positions, as does the user's word. Else the images are
    registered, rigidly and then with stretch and shear where that makes them clearly more alike.

    Args:
        current: the later examination.
        prior: the earlier one.
        same_space: the user says that patient positions agree.

    Raises:
        NotComparableError: an image shows hardly anything.
        RegistrationError: positions that should agree do not overlap, or registration failed.
    """
    spacing = common_spacing_mm(current.volume, prior.volume)
    images = working_image(current.volume, spacing), working_image(prior.volume, spacing)
    unmoved = similarity(*images, np.eye(4))
    frames = current.facts.frame_of_reference_uid, prior.facts.frame_of_reference_uid
    is_one_frame = frames[0] != "" and frames[0] == frames[1]
    if is_one_frame or same_space:
        return _by_position("same_frame" if is_one_frame else "stated", unmoved)
    return _by_registration(*images, unmoved)


def corresponding(
    result: Inference,
    mask_ijk: NDArray[Any],
    volume: Volume,
    prior: Volume,
    alignment: Alignment,
) -> SliceSelection:
    """The slice of the prior that shows what was read, in the same plane and window.

    It goes through the middle of the mask on the slice that was read, or of the slice where there
    is no mask.

    Args:
        result: the answer about the current examination.
        mask_ijk: its mask (I, J, K).
        volume: the current examination.
        prior: the earlier one.
        alignment: of both.

    Raises:
        OutsidePriorError: the prior did not examine that place.
    """
    place = alignment.position_in_prior(place_read(result, mask_ijk, volume))
    plane = Plane(result.slice.plane)
    if plane is Plane.ACQUIRED:
        plane = default_plane(volume)
    try:
        slice_index_at(prior, plane, place)
    except SliceOutOfRangeError as error:
        raise OutsidePriorError(
            f"The place that was read lies outside the prior examination: {error} {_CHOOSE}"
        ) from error
    if mask_ijk.any() and not is_within(prior, np.array([place]))[0]:
        raise OutsidePriorError(
            "The target lies beside what the prior examination shows, whose field of view is "
            f"smaller. {_CHOOSE}"
        )
    window = result.window()
    told = None if window is None else f"{window.center:g}/{window.width:g}"
    return SliceSelection(plane=plane.value, position_lps_mm=place, window=told)


def place_read(result: Inference, mask_ijk: NDArray[Any], volume: Volume) -> XYZ:
    """LPS mm of the middle of the mask on the slice that was read, else of that slice."""
    mapping = result.mapping(volume)
    rows, columns = np.nonzero(slice_of_mask(mask_ijk, mapping))
    if not len(rows):
        return result.slice.center_lps_mm
    x, y, z = mapping.slice_px_to_lps((columns.mean() + 0.5, rows.mean() + 0.5))
    return float(x), float(y), float(z)


def is_within(volume: Volume, points_lps_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) whether positions (N, 3) lie in a voxel of the volume."""
    indices = transform_points(np.linalg.inv(volume.ijk_to_lps), points_lps_mm)
    ends = np.array(volume.shape_ijk) - 0.5
    return np.asarray(((indices >= -0.5) & (indices <= ends)).all(axis=-1))


def _by_position(method: AlignmentMethod, unmoved: Similarity) -> Alignment:
    if unmoved.overlap < MIN_OVERLAP:
        raise RegistrationError(
            f"Only {unmoved.overlap:.0%} of the smaller examination lies in the other by patient "
            "position, so positions cannot be those of one space, or different regions were "
            f"examined. {_CHOOSE}"
        )
    return Alignment(
        method,
        as_matrix(np.eye(4)),
        similarity=unmoved.mutual_information,
        similarity_unaligned=unmoved.mutual_information,
        overlap=unmoved.overlap,
        warnings=_overlap_warnings(unmoved),
    )


def _by_registration(current: WorkingImage, prior: WorkingImage, unmoved: Similarity) -> Alignment:
    registered = register_rigid(current, prior)
    rigid, points = registered.matrix, current.body_points_lps_mm(_MIDDLE_POINTS)
    middle = points.mean(axis=0)
    turned = rotation_deg(rigid)
    _require_plausible(turned, _distance_mm(rigid, registered.start, middle))
    found = similarity(current, prior, rigid)
    if _distance_mm(rigid, np.eye(4), points) <= current.spacing_mm and _is_worse(found, unmoved):
        # To move less than the working grid shows is worse than not to move at all.
        rigid, turned, found = np.eye(4), 0.0, unmoved
    _require_alike(found, unmoved)
    method, matrix, found = _stretched(current, prior, rigid, found)
    return Alignment(
        method,
        as_matrix(matrix),
        rotation_deg=turned,
        shift_mm=_distance_mm(matrix, np.eye(4), middle),
        similarity=found.mutual_information,
        similarity_unaligned=unmoved.mutual_information,
        overlap=found.overlap,
        warnings=_overlap_warnings(found),
    )


def _distance_mm(
    first: NDArray[np.float64], second: NDArray[np.float64], points_lps_mm: NDArray[np.float64]
) -> float:
    """How far apart two (4, 4) transforms bring a position (3,), of several (N, 3) the most."""
    apart = transform_points(first, points_lps_mm) - transform_points(second, points_lps_mm)
    return float(np.linalg.norm(apart, axis=-1).max())


def _is_worse(found: Similarity, unmoved: Similarity) -> bool:
    """Whether the images were more alike where they lay."""
    if unmoved.mutual_information is None or unmoved.overlap < MIN_OVERLAP:
        return False
    return (found.mutual_information or 0.0) < unmoved.mutual_information - _WORSE


def _stretched(
    current: WorkingImage, prior: WorkingImage, rigid: NDArray[np.float64], found: Similarity
) -> tuple[AlignmentMethod, NDArray[np.float64], Similarity]:
    """The affine result where it pays and is one that a body allows, else the rigid one."""
    affine = register_affine(current, prior, rigid)
    stretched = similarity(current, prior, affine)
    stretches = np.linalg.svd(affine[:3, :3], compute_uv=False)
    allowed = stretches.min() >= 1 / _MAX_STRETCH and stretches.max() <= _MAX_STRETCH
    gain = (stretched.mutual_information or 0.0) - (found.mutual_information or 0.0)
    if allowed and gain > _AFFINE_PAYS and stretched.overlap >= MIN_OVERLAP:
        return "affine", affine, stretched
    return "rigid", rigid, found


def _require_plausible(turned_deg: float, from_start_mm: float) -> None:
    if turned_deg > MAX_ROTATION_DEG or from_start_mm > MAX_SHIFT_FROM_START_MM:
        raise RegistrationError(
            f"Registration would turn the patient by {turned_deg:.0f} degrees and shift them by "
            f"{from_start_mm:.0f} mm beyond the first guess; at most {MAX_ROTATION_DEG:.0f} "
            f"degrees and {MAX_SHIFT_FROM_START_MM:.0f} mm are believed. {_CHOOSE}"
        )


def _require_alike(found: Similarity, unmoved: Similarity) -> None:
    reached = found.mutual_information
    if found.overlap < MIN_OVERLAP or reached is None:
        raise RegistrationError(
            f"Registered, only {found.overlap:.0%} of the smaller examination lies in the other; "
            f"at least {MIN_OVERLAP:.0%} is needed. {_CHOOSE}"
        )
    before = unmoved.mutual_information
    if reached < MIN_SIMILARITY or _is_worse(found, unmoved):
        than = "" if before is None else f", {before:.3f} without moving anything"
        raise RegistrationError(
            f"Registration failed: the examinations stay unlike (mutual information "
            f"{reached:.3f}{than}; at least {MIN_SIMILARITY} is needed). {_CHOOSE}"
        )


def _overlap_warnings(found: Similarity) -> tuple[str, ...]:
    if found.overlap >= _LITTLE_OVERLAP:
        return ()
    return (
        f"Only {found.overlap:.0%} of the smaller examination lies in the other; check on both "
        "pictures that the same place is shown.",
    )
