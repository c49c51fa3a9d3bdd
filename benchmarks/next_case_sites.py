# SPDX-License-Identifier: Apache-2.0
"""The sites of ``next_case.py``: images that wait for masks, questions about other patients."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medreasoner_infer.imaging import Volume
    from medreasoner_training.evaluation.rows import EvaluationRow
    from medreasoner_training.next_case import Case
    from medreasoner_training.samples import Sample

PHANTOMS = "phantoms"
#: Of the patients whose examinations are drawn for ``phantoms``, every third is of a new scanner.
_SHIFTED_EVERY = 3
_HELD_OUT_FROM = 10_000
_PHANTOM_PATIENTS = 60
_MIN_AREA_PX = 9.0
_SALT = b"next_case"


@dataclass(frozen=True, eq=False)
class Image:
    """An image of the site: how it is told to a strategy, and what its masks would teach."""

    case: Case
    samples: tuple[Sample, ...]

    @property
    def masks(self) -> int:
        """Targets that a reader marks."""
        return len({sample.label_name for sample in self.samples if sample.present})


@dataclass(frozen=True)
class Size:
    """How large a site is.

    Attributes:
        pool: images that wait; 0 for all that there are.
        held_out: questions about other patients.
        side_px: side of the square that the reasoner reads, in reasoner px.
    """

    pool: int
    held_out: int
    side_px: int


def open_site(data: str, size: Size) -> tuple[list[Image], list[Sample]]:
    """The images that wait, and questions about other patients whose targets are there."""
    pool, held_out = _phantom_site(size) if data == PHANTOMS else _benchmark_site(data, size)
    print(
        f"{len(pool)} images of {len({i.case.patient for i in pool})} patients wait, with "
        f"{sum(i.masks for i in pool)} masks; {len(held_out)} questions are held out", flush=True,
    )  # fmt: skip
    return pool, held_out


def _benchmark_site(data: str, size: Size) -> tuple[list[Image], list[Sample]]:
    """The rows that may be trained on, by image; test rows of the same modalities, spread."""
    from medreasoner_training.evaluation import open_rows
    from medreasoner_training.evaluation.running import places_of
    from medreasoner_training.learning import why_not_to_train_on

    train, test = open_rows(data, split="train"), open_rows(data, split="test")
    by_image: dict[str, list[EvaluationRow]] = defaultdict(list)
    for row in train.read(range(train.count)):
        if row.ground_truth != "null" and why_not_to_train_on(row) is None:
            by_image[_sha256(row)].append(row)
    kept = sorted(by_image)[: size.pool or None]
    pool = [
        image for key in kept if (image := _picture(key, by_image[key], size.side_px)) is not None
    ]
    modalities = {row.modality for key in kept for row in by_image[key]}
    patients = {image.case.patient for image in pool}
    asked = [
        row
        for row in test.read(range(test.count))
        if row.modality in modalities and row.ground_truth != "null"
    ]
    held_out = [
        sample
        for place in places_of(len(asked), size.held_out)
        if (sample := _sample(asked[place], size.side_px)) is not None
        and sample.present
        and sample.patient_key not in patients
    ]
    return pool, held_out


def _picture(key: str, rows: Sequence[EvaluationRow], side_px: int) -> Image | None:
    from medreasoner_training.evaluation.pictures import load_case

    samples = tuple(s for row in rows if (s := _sample(row, side_px)) is not None and s.present)
    if not samples:
        return None
    volume = load_case(rows[0], side_px).shown.volume
    return _image(key[:16], samples, volume, rows[0].modality)


def _sample(row: EvaluationRow, side_px: int) -> Sample | None:
    from medreasoner_training.learning.making import sample_of
    from medreasoner_training.samples import pseudonym

    sample = sample_of(row, side_px, pseudonym(row.patient or _sha256(row), _SALT))
    # The data set's own traces are longer than any that the shipped reasoner writes.
    return sample and replace(sample, question=replace(sample.question, reasoning=None))


def _sha256(row: EvaluationRow) -> str:
    content = row.image.read_bytes() if isinstance(row.image, Path) else row.image
    return hashlib.sha256(content).hexdigest()


def _phantom_site(size: Size) -> tuple[list[Image], list[Sample]]:
    """Synthetic patients, two thirds on a scanner that the reasoner knows, one third on another."""
    count = size.pool or _PHANTOM_PATIENTS
    pool = [
        image for number in range(count) if (image := _patient(number, size.side_px)) is not None
    ]
    held_out: list[Sample] = []
    for number in range(_HELD_OUT_FROM, _HELD_OUT_FROM + size.held_out):
        if len(held_out) >= size.held_out:
            break
        image = _patient(number, size.side_px)
        held_out += [] if image is None else image.samples
    return pool, held_out[: size.held_out]


def _patient(number: int, side_px: int) -> Image | None:
    from medreasoner_infer.imaging import Plane, Volume, choose_window
    from medreasoner_training.experiments.site_shift.site import SHIFTED, USUAL, patient_volume
    from medreasoner_training.samples import (
        LabelledCase,
        LeftOut,
        SampleSettings,
        Target,
        samples_of_case,
        template_questions,
    )

    site = USUAL if number % _SHIFTED_EVERY else SHIFTED
    patient = patient_volume(site, 0, number)
    key = f"{PHANTOMS}-{number}"
    volume = Volume(patient.hu.transpose(2, 1, 0), patient.ijk_to_lps, "CT", key, Path(key))
    labels = patient.labels.transpose(2, 1, 0)
    asked = {
        value: template_questions(name, Plane.AXIAL, "CT") for value, name in patient.names.items()
    }
    targets = tuple(
        Target(patient.names[value], labels, questions, value)
        for value, questions in asked.items()
        if questions
    )
    case = LabelledCase(volume, targets, key, key, Plane.AXIAL, choose_window(volume))
    settings = SampleSettings(side_px, 1, 0, _MIN_AREA_PX)
    samples = tuple(s for s in samples_of_case(case, settings, LeftOut()) if s.present)
    return _image(key, samples, volume, "CT", site.name) if samples else None


def _image(
    key: str, samples: tuple[Sample, ...], volume: Volume, modality: str, scanner: str = ""
) -> Image:
    from medreasoner_training.next_case import Case, Kind, appearance

    sorts = {Kind.MODALITY: frozenset([modality]), Kind.TARGET: frozenset([samples[0].label_name])}
    if scanner:
        sorts[Kind.SCANNER] = frozenset([scanner])
    case = Case(key, samples[0].patient_key, sorts, feature=appearance(volume))
    return Image(case, samples)
