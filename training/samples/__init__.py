# SPDX-License-Identifier: Apache-2.0
"""Samples from masks that readers approved: the data side of fine-tuning at a site.

A case is an image with the masks of its targets (:class:`LabelledCase`); :func:`samples_of_case`
makes questions on slices of it, each with box and key points in reasoner px or ``null``;
:func:`writing_dataset` puts them into a folder in the format of U-MRG-14K, :func:`open_dataset`
reads it back, refusing changed files, and reads U-MRG-14K's own; :class:`Augmentation` varies a
sample in training. Where the masks come from is not known here.
"""

from __future__ import annotations

from medreasoner_training.samples.augmentation import (
    Augmentation,
    AugmentationSettings,
    Augmented,
)
from medreasoner_training.samples.cases import (
    Components,
    LabelledCase,
    LeftOut,
    QuerySource,
    Question,
    Sample,
    SampleSettings,
    Target,
)
from medreasoner_training.samples.errors import (
    DatasetChangedError,
    DatasetFolderError,
    LicenceRefusedError,
    NoSamplesError,
    RowSchemaError,
    SampleSettingsError,
    TooFewPatientsError,
)
from medreasoner_training.samples.making import samples_of_case
from medreasoner_training.samples.manifest import Manifest
from medreasoner_training.samples.reading import SampleDataset, open_dataset
from medreasoner_training.samples.schema import StoredRow, require_columns, stored_row
from medreasoner_training.samples.split import TRAIN, VALIDATION, assign_splits, pseudonym
from medreasoner_training.samples.templates import template_questions
from medreasoner_training.samples.umrg import split_of
from medreasoner_training.samples.writing import require_free, writing_dataset

__all__ = [
    "TRAIN",
    "VALIDATION",
    "Augmentation",
    "AugmentationSettings",
    "Augmented",
    "Components",
    "DatasetChangedError",
    "DatasetFolderError",
    "LabelledCase",
    "LeftOut",
    "LicenceRefusedError",
    "Manifest",
    "NoSamplesError",
    "QuerySource",
    "Question",
    "RowSchemaError",
    "Sample",
    "SampleDataset",
    "SampleSettings",
    "SampleSettingsError",
    "StoredRow",
    "Target",
    "TooFewPatientsError",
    "assign_splits",
    "open_dataset",
    "pseudonym",
    "require_columns",
    "require_free",
    "samples_of_case",
    "split_of",
    "stored_row",
    "template_questions",
    "writing_dataset",
]
