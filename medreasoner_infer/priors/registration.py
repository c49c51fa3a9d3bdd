# SPDX-License-Identifier: Apache-2.0
"""Rigid and affine registration of two examinations by SimpleITK.

Mattes mutual information on grids of bounded size, coarse to fine, from the best of several
starting positions; sampled by a fixed seed, so that equal images give equal results but for
rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.priors.errors import RegistrationError
from medreasoner_infer.priors.similarity import similarity
from medreasoner_infer.priors.working_image import WorkingImage

if TYPE_CHECKING:
    import SimpleITK as sitk

SEED = 20_240
_BINS = 32
_SAMPLED = 0.25
_ITERATIONS = 120
_AFFINE_ITERATIONS = 80
# Shrink factors, and smoothing in units of the working grid's spacing.
_COARSE = ((4, 2.0),)
_FINE = ((2, 1.0), (1, 0.0))
_LEAST_LENGTH = 8
_SWEEP_MM = 20.0
_STARTS = 3
_STARTS_APART_MM = 35.0
_LEAST_START_OVERLAP = 0.4
_MIDDLE_POINTS = 50_000


@dataclass(frozen=True, eq=False)
class Registered:
    """What registration found: (4, 4) from LPS mm of the current to LPS mm of the prior."""

    matrix: NDArray[np.float64]
    start: NDArray[np.float64]


def register_rigid(current: WorkingImage, prior: WorkingImage) -> Registered:
    """Find rotation and shift.

    Raises:
        RegistrationError: the examinations overlap at no position, or the optimiser fails.
    """
    centre = _middle_lps_mm(current.body_points_lps_mm(_MIDDLE_POINTS))
    starts = _best_starts(current, prior)
    coarse = [_rigid(current, prior, start, centre, _COARSE) for start in starts]
    scores = [similarity(current, prior, matrix).mutual_information or 0.0 for matrix in coarse]
    best = int(np.argmax(scores))
    return Registered(_rigid(current, prior, coarse[best], centre, _FINE), starts[best])


def register_affine(
    current: WorkingImage, prior: WorkingImage, rigid: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Let stretch and shear join a rigid result.

    Raises:
        RegistrationError: the optimiser fails.
    """
    import SimpleITK as sitk

    centre = _middle_lps_mm(current.body_points_lps_mm(_MIDDLE_POINTS))
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(rigid[:3, :3].ravel().tolist())
    transform.SetCenter(centre.tolist())
    transform.SetTranslation((rigid[:3, :3] @ centre + rigid[:3, 3] - centre).tolist())
    return _optimised(current, prior, transform, _FINE[:1], _AFFINE_ITERATIONS)


def rotation_deg(matrix: NDArray[np.float64]) -> float:
    """Angle of the rotation nearest to a (4, 4) affine."""
    left, _, right = np.linalg.svd(matrix[:3, :3])
    cosine = (np.trace(left @ right) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _middle_lps_mm(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """To a micrometre: a sum's last digit depends on where in memory its terms lie, and the
    optimiser would carry it on, so that equal images would not be registered equally."""
    return np.asarray(np.round(points.mean(axis=0), 3))


def _best_starts(current: WorkingImage, prior: WorkingImage) -> list[NDArray[np.float64]]:
    """The most alike of some shifts, apart from each other."""
    scored = []
    for shift in _shifts_mm(current, prior):
        matrix = np.eye(4)
        matrix[:3, 3] = shift
        found = similarity(current, prior, matrix)
        if found.overlap >= _LEAST_START_OVERLAP and found.mutual_information is not None:
            scored.append((found.mutual_information, matrix))
    kept: list[NDArray[np.float64]] = []
    for _, matrix in sorted(scored, key=lambda each: -each[0]):
        apart = [np.linalg.norm(matrix[:3, 3] - other[:3, 3]) for other in kept]
        if len(kept) < _STARTS and all(each >= _STARTS_APART_MM for each in apart):
            kept.append(matrix)
    if not kept:
        raise RegistrationError(
            "The two examinations do not show enough of the same part of the body to be "
            "registered; choose a prior of the same region."
        )
    return kept


def _shifts_mm(current: WorkingImage, prior: WorkingImage) -> Iterator[NDArray[np.float64]]:
    """None; middle on middle of the bodies; and that at all heights at which they may meet."""
    own, other = (image.body_points_lps_mm(_MIDDLE_POINTS) for image in (current, prior))
    middle = _middle_lps_mm(other) - _middle_lps_mm(own)
    yield np.zeros(3)
    yield middle
    low = other[:, 2].min() - own[:, 2].max()
    high = other[:, 2].max() - own[:, 2].min()
    for height in np.arange(low + _SWEEP_MM, high, _SWEEP_MM):
        yield np.array([middle[0], middle[1], height])


def _rigid(
    current: WorkingImage,
    prior: WorkingImage,
    start: NDArray[np.float64],
    centre: NDArray[np.float64],
    levels: Sequence[tuple[int, float]],
) -> NDArray[np.float64]:
    import SimpleITK as sitk

    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(_nearest_rotation(start).ravel().tolist(), 1e-6)
    transform.SetTranslation((start[:3, :3] @ centre + start[:3, 3] - centre).tolist())
    return _optimised(current, prior, transform, levels, _ITERATIONS)


def _nearest_rotation(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    left, _, right = np.linalg.svd(matrix[:3, :3])
    return np.asarray(left @ right)


def _optimised(
    current: WorkingImage,
    prior: WorkingImage,
    transform: sitk.Transform,
    levels: Sequence[tuple[int, float]],
    iterations: int,
) -> NDArray[np.float64]:
    """Change ``transform`` until the images are most alike; as (4, 4)."""
    import SimpleITK as sitk

    spacing = current.spacing_mm
    shortest = min(*current.values.shape, *prior.values.shape)
    used = [each for each in levels if shortest // each[0] >= _LEAST_LENGTH] or [(1, 0.0)]
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricFixedMask(_itk(current, current.body.astype(np.uint8)))
    method.SetMetricMovingMask(_itk(prior, prior.body.astype(np.uint8)))
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(_SAMPLED, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([shrink for shrink, _ in used])
    method.SetSmoothingSigmasPerLevel([sigma * spacing for _, sigma in used])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=spacing,
        minStep=spacing * 1e-3,
        numberOfIterations=iterations,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-9,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(_itk(current, current.values), _itk(prior, prior.values))
    except RuntimeError as error:
        raise RegistrationError(
            "The two examinations could not be registered: they do not overlap enough. Choose a "
            "prior of the same region."
        ) from error
    return _as_affine(transform)


def _itk(image: WorkingImage, array_ijk: NDArray[np.float32] | NDArray[np.uint8]) -> sitk.Image:
    import SimpleITK as sitk

    made = sitk.GetImageFromArray(np.ascontiguousarray(array_ijk.transpose(2, 1, 0)))
    made.SetOrigin(image.origin_lps_mm.tolist())
    made.SetSpacing((image.spacing_mm,) * 3)
    return made


def _as_affine(transform: sitk.Transform) -> NDArray[np.float64]:
    """(4, 4): where the origin and a step along each axis go."""
    points = np.vstack([np.zeros(3), np.eye(3)])
    origin, *steps = (np.array(transform.TransformPoint(point.tolist())) for point in points)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([step - origin for step in steps], axis=1)
    affine[:3, 3] = origin
    return affine
