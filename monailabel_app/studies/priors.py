# SPDX-License-Identifier: Apache-2.0
"""Earlier examinations of an image's patient among the studies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from medreasoner_infer.errors import InputError
from medreasoner_infer.priors import ExaminationFacts, is_same_patient, read_facts
from medreasoner_infer.priors.examination import facts_of
from monailabel_app.images.source import ImageSource
from monailabel_app.studies.local import StudiesFolder
from monailabel_app.studies.pacs import PacsStudies


@dataclass(frozen=True)
class PriorSeries:
    """An earlier series of the patient, without whose it is."""

    image_id: str
    study_uid: str
    study_date: str
    modality: str
    body_part: str
    description: str


def find_priors(studies: StudiesFolder | PacsStudies, image_id: str) -> list[PriorSeries]:
    """Series of the same patient, modality and body part of earlier studies, the latest first.

    A body part that is not told fits any. Without a Patient ID nothing is found, as in files other
    than DICOM.

    Raises:
        UnknownImageError: the studies hold no such image.
        PacsUnreachableError: the PACS does not answer.
    """
    if isinstance(studies, PacsStudies):
        return _of_pacs(studies, image_id)
    current = source_facts(studies.image_source(image_id))
    if not current.patient_id:
        return []
    return _earlier(current, _of_folder(studies, image_id))


def source_facts(source: ImageSource) -> ExaminationFacts:
    """What the headers of an image say; nothing for formats other than DICOM.

    Raises:
        UnreadableImageError: they cannot be read.
    """
    return read_facts(source.dicom_folder or source.path, source.series_uid or None)


def _of_folder(studies: StudiesFolder, image_id: str) -> Iterator[tuple[str, ExaminationFacts]]:
    for other in studies.list_images():
        if other == image_id:
            continue
        try:
            source = studies.image_source(other)
            if source.dicom_folder is not None:
                yield other, source_facts(source)
        except InputError:  # what has gone or is damaged is no prior
            continue


def _of_pacs(studies: PacsStudies, image_id: str) -> list[PriorSeries]:
    known = studies.described({"SeriesInstanceUID": image_id})
    facts = [facts_of(each) for each in known]
    current = next((each for each in facts if each.series_uid == image_id), None)
    if current is None:
        studies.image_source(image_id)  # says that there is none
        return []
    if not current.patient_id:
        return []
    wanted = {"PatientID": current.patient_id, "Modality": current.modality}
    others = (facts_of(each) for each in studies.described(wanted))
    return _earlier(current, ((each.series_uid, each) for each in others))


def _earlier(
    current: ExaminationFacts, others: Iterable[tuple[str, ExaminationFacts]]
) -> list[PriorSeries]:
    found = [(image_id, facts) for image_id, facts in others if _is_prior(facts, current)]
    found.sort(key=lambda each: each[1].when, reverse=True)
    return [
        PriorSeries(
            image_id,
            facts.study_uid,
            facts.study_date,
            facts.modality,
            facts.body_part,
            facts.description,
        )
        for image_id, facts in found
    ]


def _is_prior(facts: ExaminationFacts, current: ExaminationFacts) -> bool:
    parts = {part for part in (facts.body_part, current.body_part) if part}
    return (
        is_same_patient(current, facts) is True
        and facts.modality == current.modality
        and facts.study_uid != current.study_uid
        and facts.study_date > ""
        and facts.when < current.when
        and len(parts) < 2
    )
