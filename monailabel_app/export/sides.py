# SPDX-License-Identifier: Apache-2.0
"""On which side of the split each patient stands, copies of whose images stand on the same one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from medreasoner_infer.errors import InputError
from medreasoner_training.samples import LeftOut, TooFewPatientsError, assign_splits
from medreasoner_training.samples.fingerprints import Fingerprint, fingerprint, joined_owners
from monailabel_app.errors import PacsAnswerError, PacsFaultError
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import VolumeCache

_COLOURED = 4
ALIKE = "the image is that of another patient, or nearly; both stand on one side of the split"


@dataclass(frozen=True)
class OwnedImage:
    """An image by its pseudonym, where it lies, and its patient's pseudonym."""

    case_key: str
    source: ImageSource
    patient_key: str


Assign = Callable[[Mapping[str, str], float], dict[str, str]]
"""From the leader of each pseudonym and the share that validates to the split of each."""


def assign_together(leaders: Mapping[str, str], val_share: float) -> dict[str, str]:
    """The split of each pseudonym, which is that of its leader.

    Raises:
        TooFewPatientsError: there are not enough leaders for the splits.
    """
    splits = assign_splits(set(leaders.values()), val_share)
    return {key: splits[leader] for key, leader in leaders.items()}


def sides_of(
    images: Sequence[OwnedImage],
    volumes: VolumeCache,
    val_share: float,
    notes: LeftOut,
    assign: Assign = assign_together,
) -> dict[str, str]:
    """The split of each patient and each image; patients whose images are alike are split as one.

    Images are assigned by their own pseudonyms, too: a site that tells later whose they are gives
    them another patient, and they keep their side.

    Args:
        images: each once.
        volumes: reads them.
        val_share: share of the patients that validate.
        notes: told how many images are alike to another patient's.
        assign: who trains and who validates.

    Raises:
        TooFewPatientsError: there are not enough patients for the splits.
    """
    patients = [image.patient_key for image in images]
    if not val_share:
        return assign({patient: patient for patient in patients}, val_share)
    joined = joined_owners(patients, [_print_of(image.source, volumes) for image in images])
    moved = [patient for patient, leader in joined.items() if patient != leader]
    together = {*moved, *(joined[patient] for patient in moved)}
    alike = sum(patient in together for patient in patients)
    if alike:
        notes.add("", ALIKE, alike)
    if len(joined) > 1 and len(set(joined.values())) == 1:
        raise TooFewPatientsError(
            f"The images of all {len(joined)} patients are the same, or nearly, so that none can "
            "be held out. Approve labels of other patients, or leave the validation split out "
            "with a share of 0."
        )
    of_images = {image.case_key: joined[image.patient_key] for image in images}
    return assign(of_images | joined, val_share)


def _print_of(source: ImageSource, volumes: VolumeCache) -> Fingerprint | None:
    """``None`` where the image cannot be read, which the export tells when it comes to it."""
    try:
        values = volumes.get(source).array
        return fingerprint(values, has_colours=values.ndim == _COLOURED)
    except (InputError, PacsAnswerError, PacsFaultError):
        return None
