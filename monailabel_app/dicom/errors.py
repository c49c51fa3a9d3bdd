# SPDX-License-Identifier: Apache-2.0
"""Why a result cannot be kept as DICOM, or not be read back."""

from __future__ import annotations

from medreasoner_infer.errors import InputError


class DicomResultError(InputError):
    """A result cannot be written as DICOM, or a DICOM object is no result of ours."""


class UnusableSeriesError(DicomResultError):
    """The source images lack what a result must refer to; the message says what to fill in."""


class UnreadableResultError(DicomResultError):
    """A stored result is damaged, incomplete, or of a version that is not known here."""


class ArchiveRefusedError(DicomResultError):
    """The archive does not take an object; sending it again would not help."""
