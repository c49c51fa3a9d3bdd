# SPDX-License-Identifier: Apache-2.0
"""What is known of every image of a site: records, headers and looks as cases of a strategy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medreasoner_training.next_case import Case, Kind, Reading
from medreasoner_training.samples import pseudonym
from monailabel_app.export.approved import is_approved
from monailabel_app.export.patients import read_patients
from monailabel_app.export.salt import site_salt
from monailabel_app.framework import DefaultLabelTag
from monailabel_app.site.opening import Site
from monailabel_app.store.answer_figures import AnswerFigures
from monailabel_app.strategies.looking import Looking, Wanted
from monailabel_app.strategies.sorting import MODALITY, STUDY_UID, Sorts
from monailabel_app.studies.indexed import IndexedFolder

_FINAL = DefaultLabelTag.FINAL.value


@dataclass(frozen=True)
class Gathered:
    """The images that wait for a mask and those with an approved one, in a fixed order.

    ``wanted`` is what would have to be looked at to know more.
    """

    waiting: tuple[Case, ...]
    approved: tuple[Case, ...]
    wanted: Wanted


def gather(site: Site, looking: Looking) -> Gathered:
    """Everything that is known now; no image is read and no PACS asked but for its lists.

    An image whose final label a reviewer has not approved is neither waiting nor approved.

    Raises:
        PacsUnreachableError: the DICOMweb server does not list its series.
        RecordStoreError: the records cannot be read.
        PatientTableError: the site's table of patients cannot be used.
    """
    waiting = sorted(site.studies.get_unlabeled_images())
    labels = _approved_labels(site, sorted(set(site.studies.list_images()) - set(waiting)))
    figures: dict[str, list[AnswerFigures]] = defaultdict(list)
    for each in site.records.answer_figures():
        figures[each.image_id].append(each)
    make = _CaseMaker(site, looking)
    open_questions = {
        image_id: [each for each in figures[image_id] if not each.settled] for image_id in waiting
    }
    named = {
        image_id: [each.query for each in figures[image_id] if each.settled] + list(names)
        for image_id, names in labels.items()
    }
    texts = [each.query for asked in open_questions.values() for each in asked]
    texts += [text for spoken in named.values() for text in spoken]
    return Gathered(
        tuple(
            make.case(image_id, [each.query for each in asked], asked)
            for image_id, asked in open_questions.items()
        ),
        tuple(make.case(image_id, spoken) for image_id, spoken in named.items()),
        Wanted((*labels, *waiting), tuple(dict.fromkeys(texts))),
    )


def _approved_labels(site: Site, labelled: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The names that the segments of each approved label have; clients may send any."""
    infos = {
        image_id: IndexedFolder.get_label_info(site.studies, image_id, _FINAL)
        for image_id in labelled
    }
    return {
        image_id: tuple(_segment_names(info))
        for image_id, info in infos.items()
        if is_approved(info)
    }


def _segment_names(info: Mapping[str, object]) -> Iterator[str]:
    segments = info.get("label_info")
    for segment in segments if isinstance(segments, list) else []:
        name = segment.get("name") if isinstance(segment, Mapping) else None
        if isinstance(name, str):
            yield name


class _CaseMaker:
    """Makes cases of one request."""

    def __init__(self, site: Site, looking: Looking) -> None:
        self._site = site
        self._looking = looking
        self._patients = read_patients(site.paths)
        self._salt = site_salt(site.paths.data_dir)

    def case(
        self, image_id: str, texts: Sequence[str], asked: Sequence[AnswerFigures] = ()
    ) -> Case:
        """Of an image, what readers wrote about it, and the answers that are open."""
        look, (patient, sorts) = self._looking.look(image_id), self._told(image_id)
        targets = frozenset(filter(None, map(self._looking.target, texts)))
        return Case(
            image_id=image_id,
            patient=patient,
            sorts=sorts.by_kind() | ({Kind.TARGET: targets} if targets else {}),
            readings=tuple(
                Reading(a.understood, a.probability, a.agreement, a.support) for a in asked
            ),
            feature=None if look is None else look.vector,
        )

    def _told(self, image_id: str) -> tuple[str, Sorts]:
        """Patient and sorts: as seen, as the PACS lists it, or as the datastore knows it."""
        look = self._looking.look(image_id)
        if look is not None:
            return look.patient, look.sorts
        listed = self._looking.listed(image_id)
        if listed is not None:
            return listed.patient, listed.sorts
        info = self._site.studies.get_image_info(image_id)
        patient = self._patients.patient_of(image_id) or info.get(STUDY_UID) or image_id
        return pseudonym(str(patient), self._salt), Sorts.of({MODALITY: info.get(MODALITY)})
