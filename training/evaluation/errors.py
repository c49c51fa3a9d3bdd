# SPDX-License-Identifier: Apache-2.0
"""Faults of data and runs of an evaluation."""

from __future__ import annotations

from medreasoner_infer.errors import InputError, ServiceError


class EvaluationDataError(InputError):
    """The data set is of no known format, or a row of it cannot be used."""


class EvaluationRunError(InputError):
    """The output folder holds something else, or the reports do not belong together."""


class DataUnavailableError(ServiceError):
    """A data set of the Hugging Face hub cannot be had now."""
