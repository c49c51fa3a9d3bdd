# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with a DICOMweb server, typed at one place."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree import ElementTree  # nosec B405 # names an error only, parses nothing

import requests
from pydicom.errors import InvalidDicomError

from medreasoner_infer.errors import MedReasonerError
from monailabel_app.errors import (
    PacsAnswerError,
    PacsFaultError,
    PacsTimeoutError,
    PacsUnreachableError,
    UnknownImageError,
)
from monailabel_app.pacs.limits import AnswerTooLongError

# What the client and pydicom raise at bytes that are no DICOMweb answer.
_GARBLED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    ElementTree.ParseError,
)


@contextmanager
def pacs_faults() -> Iterator[None]:
    """Type what goes wrong with a DICOMweb server; the block holds only what reads its answers.

    Raises:
        UnknownImageError: HTTP 404.
        PacsTimeoutError: no answer, or no end of it, in time.
        PacsAnswerError: an answer that cannot be read.
        PacsUnreachableError: any other fault.
    """
    from retrying import RetryError

    try:
        yield
    except MedReasonerError:
        raise
    except requests.exceptions.JSONDecodeError as error:
        raise _unreadable(error) from error
    except (requests.RequestException, RetryError) as error:
        raise _unanswered(error) from error
    except _GARBLED as error:
        raise _unreadable(error) from error


def _unanswered(error: Exception) -> MedReasonerError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 404:
        return UnknownImageError("The DICOMweb server holds no images of a series of this id.")
    if isinstance(error, requests.Timeout):
        return PacsTimeoutError("The DICOMweb server did not answer in time; try again.")
    if isinstance(error, AnswerTooLongError):
        return PacsAnswerError(
            "The DICOMweb server's answer is longer than this server takes; ask its administrator."
        )
    if status is None:
        return PacsUnreachableError("The DICOMweb server did not answer; try again.")
    return PacsFaultError(f"The DICOMweb server answered with HTTP {status}; try again.")


def _unreadable(error: Exception) -> PacsAnswerError:
    return PacsAnswerError(
        f"The DICOMweb server's answer is cut short or is no DICOM ({type(error).__name__}); "
        "try again."
    )
