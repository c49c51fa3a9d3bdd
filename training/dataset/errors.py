# SPDX-License-Identifier: Apache-2.0
"""Faults of building, converting and reviewing a data set."""

from __future__ import annotations

from medreasoner_infer.errors import InputError


class PairsError(InputError):
    """The folder of images, masks and labels cannot be used."""


class BuildError(InputError):
    """A setting of the build means nothing, or its output folder holds something else."""


class BenchmarkError(InputError):
    """The file of the benchmark's questions is malformed."""


class ConversionError(InputError):
    """The data set would lose something in the other format."""


class ReviewError(InputError):
    """A table of a review does not belong to the data set, or a cell of it means nothing."""
