# SPDX-License-Identifier: Apache-2.0
"""Errors of the server side; ``common.http_errors`` maps them to HTTP statuses."""

from __future__ import annotations

from medreasoner_infer.errors import InputError, ServiceError

# Begins the sentence with which the command line ends.
ERROR_PREFIX = "Error: "


class SettingsError(InputError):
    """A ``--conf`` key is unknown or its value cannot be used."""


class NotFoundError(InputError):
    """What the request names does not exist here."""


class ConflictError(InputError):
    """What is asked for cannot be done beside something that goes on already."""


class UnknownImageError(NotFoundError):
    """No study of the datastore has this image id."""


class UnknownTaskError(NotFoundError):
    """The app has no model of this name."""


class UnknownRecordError(NotFoundError):
    """The store holds no inference of this id."""


class UnknownSessionError(NotFoundError):
    """The session has expired or never existed."""


class ServerBusyError(ServiceError):
    """Too many inferences are waiting already."""


class PacsUnreachableError(ServiceError):
    """The DICOMweb server did not answer, or answered with a fault."""


class PacsTimeoutError(PacsUnreachableError):
    """The DICOMweb server did not answer in time, or did not come to an end."""


class PacsFaultError(PacsUnreachableError):
    """The DICOMweb server answered this one request with an HTTP error."""


class PacsAnswerError(PacsUnreachableError):
    """The DICOMweb server's answer is cut short, garbled, or about something else."""


class RecordStoreError(ServiceError):
    """An inference could not be recorded, e.g. because the disk is full."""


class StudiesAwayError(ServiceError):
    """The folder of the studies is not there now, e.g. because a share is not mounted."""


class StudiesWriteError(ServiceError):
    """The studies could not be written to, e.g. because the disk is full."""


class FolderInUseError(ServiceError):
    """Another server writes to the same folder."""


class StartError(ServiceError):
    """The server cannot start as things are; the command line ends with :attr:`exit_status`."""

    exit_status = 3  # uvicorn's for a start that failed
