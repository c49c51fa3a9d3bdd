# SPDX-License-Identifier: Apache-2.0
"""Faults of making and reading a data set of samples."""

from __future__ import annotations

from medreasoner_infer.errors import InputError


class SampleSettingsError(InputError):
    """A setting of sample making is out of range."""


class TooFewPatientsError(InputError):
    """There are not enough patients for a training and a validation split."""


class NoSamplesError(InputError):
    """Nothing that was offered became a sample."""


class DatasetFolderError(InputError):
    """The folder cannot take a new data set, or holds none."""


class DatasetChangedError(InputError):
    """A file of the data set is not the one that was written."""


class LicenceRefusedError(InputError):
    """Rows whose licence does not let them be trained on stand where trainings read."""


class RowSchemaError(InputError):
    """A table or a row of one has not the columns of U-MRG-14K."""
