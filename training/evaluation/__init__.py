# SPDX-License-Identifier: Apache-2.0
"""Evaluation as in the paper (arXiv 2508.08177), on any data set of images, masks and questions.

:func:`open_rows` reads a data set of any format into one row type, a :class:`Run` puts its
questions to a reasoner and a segmenter, :func:`evaluate` measures the answers and writes the
reports, :func:`compare_reports` sets two of them against each other. What is measured is defined in
:mod:`medreasoner_training.evaluation.metrics`.
"""

from __future__ import annotations

from medreasoner_training.evaluation.comparing import Compared, compare_reports
from medreasoner_training.evaluation.errors import (
    DataUnavailableError,
    EvaluationDataError,
    EvaluationRunError,
)
from medreasoner_training.evaluation.evaluating import evaluate
from medreasoner_training.evaluation.measuring import Measuring
from medreasoner_training.evaluation.predictions import Prediction, read_predictions
from medreasoner_training.evaluation.readers import open_rows
from medreasoner_training.evaluation.report import Report
from medreasoner_training.evaluation.rows import EvaluationRow, RowSource
from medreasoner_training.evaluation.running import Run, RunSettings

__all__ = [
    "Compared",
    "DataUnavailableError",
    "EvaluationDataError",
    "EvaluationRow",
    "EvaluationRunError",
    "Measuring",
    "Prediction",
    "Report",
    "RowSource",
    "Run",
    "RunSettings",
    "compare_reports",
    "evaluate",
    "open_rows",
    "read_predictions",
]
