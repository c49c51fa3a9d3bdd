# SPDX-License-Identifier: Apache-2.0
"""Typing the faults of the database and the disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from medreasoner_infer.errors import MalformedInferenceError
from monailabel_app.errors import RecordStoreError

ANSWER = "The answer could not be recorded, so it is not given out"
LABEL = "The label could not be recorded, so it was not taken; what was there before is unchanged"
DECISION = "The decision could not be recorded; the earlier one, if any, still counts"
DELETION = "The records could not be deleted; they are there as before"
SENDING = "What became of a result on its way to the archive could not be recorded"
_ADVICE = "Check the disk space and the rights of the records' folder, and try again"


@contextmanager
def recording(consequence: str = ANSWER) -> Iterator[None]:
    """Type what can go wrong while something is written.

    Args:
        consequence: what is true then, as the beginning of the message.

    Raises:
        RecordStoreError: instead of a fault of the database or the disk.
    """
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        # The statement's parameters hold the question, so only the kind of the fault is said.
        raise RecordStoreError(f"{consequence} ({_kind(error)}). {_ADVICE}.") from error


@contextmanager
def reading() -> Iterator[None]:
    """Type what can go wrong while something is read.

    Raises:
        RecordStoreError: instead of a fault of the database or the disk.
    """
    try:
        yield
    except MalformedInferenceError as error:
        raise RecordStoreError(f"A record cannot be read. {error}") from error
    except (SQLAlchemyError, OSError) as error:
        raise RecordStoreError(
            f"The records cannot be read now ({_kind(error)}). {_ADVICE}."
        ) from (error)


def _kind(error: Exception) -> str:
    if "locked" in str(getattr(error, "orig", "")):
        return "another process keeps the database locked"
    return type(error).__name__
