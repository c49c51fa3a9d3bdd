# SPDX-License-Identifier: Apache-2.0
"""Data sets in the schema of U-MRG-14K: built, checked, converted and reviewed.

:func:`build_dataset` makes one of images with masks in the paper's three stages (metadata; a
description and the format of a question; question and reasoning), :func:`check_dataset` checks one
of any format that an evaluation reads and counts what is in it, :func:`convert_dataset` writes it
in another format, and :mod:`~medreasoner_training.dataset.review` puts it before people.
"""

from __future__ import annotations

from medreasoner_training.dataset.asking import Wanted
from medreasoner_training.dataset.benchmark import BenchmarkQuestions
from medreasoner_training.dataset.building import Build, Built, build_dataset, working_folder
from medreasoner_training.dataset.checking import CheckReport, check_dataset, write_check
from medreasoner_training.dataset.converting import FORMATS, Format, convert_dataset
from medreasoner_training.dataset.errors import (
    BenchmarkError,
    BuildError,
    ConversionError,
    PairsError,
    ReviewError,
)
from medreasoner_training.dataset.pairs import read_pairs
from medreasoner_training.dataset.templates import Templates, parse_languages
from medreasoner_training.dataset.written import WrittenByModel

__all__ = [
    "FORMATS",
    "BenchmarkError",
    "BenchmarkQuestions",
    "Build",
    "BuildError",
    "Built",
    "CheckReport",
    "ConversionError",
    "Format",
    "PairsError",
    "ReviewError",
    "Templates",
    "Wanted",
    "WrittenByModel",
    "build_dataset",
    "check_dataset",
    "convert_dataset",
    "parse_languages",
    "read_pairs",
    "working_folder",
    "write_check",
]
