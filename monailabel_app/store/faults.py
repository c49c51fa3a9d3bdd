# SPDX-License-Identifier: Apache-2.0
"""Typing the faults of the database and the disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from medreasoner_infer.errors import MalformedInferenceError
from monailabel_app.errors import RecordStoreError

logger = logging.getLogger(__name__)

ANSWER = "The answer could not be recorded, so it is not given out"
LABEL = "The label could not be recorded, so it was not taken; what was there before is unchanged"
DECISION = "The decision could not be recorded; the earlier one, if any, still counts"
DELETION = "The records could not be deleted; they are there as before"
SENDING = "What became of a result on its way to the archive could not be recorded"
MOVING = "The records could not be moved; those that were there are as before"
_ADVICE = "Check the disk space and the rights of the records' folder, and try again"
_AWAY = "the database's server does not answer"
_AWAY_ADVICE = (
    "Have the administrator look at the database's server; it is used again as soon as it answers"
)
# Classes and codes of PostgreSQL's SQLSTATE: connection lost, shut down, still starting.
_AWAY_STATES = ("08", "57P01", "57P02", "57P03")
_LOCK_NOT_AVAILABLE = "55P03"


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
        raise RecordStoreError(f"{consequence} ({_kind(error)}). {_advice(error)}.") from error


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
            f"The records cannot be read now ({_kind(error)}). {_advice(error)}."
        ) from (error)


def _kind(error: Exception) -> str:
    origin = getattr(error, "orig", None)
    if _is_away(error):
        if getattr(error, "statement", None) is None:
            # What the driver says of a connection holds no password and nothing of a record.
            logger.warning("The records' database: %s", "; ".join(str(origin).splitlines()))
        return _AWAY
    if "locked" in str(origin) or getattr(origin, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
        return "another process keeps the database locked"
    return type(error).__name__


def _advice(error: Exception) -> str:
    return _AWAY_ADVICE if _is_away(error) else _ADVICE


def _is_away(error: Exception) -> bool:
    """Whether a database server could not be asked, which its driver tells without a state."""
    if not isinstance(error, (OperationalError, InterfaceError)):
        return False
    if error.orig is None or not hasattr(error.orig, "sqlstate"):
        return False  # SQLite's
    state = error.orig.sqlstate
    return error.connection_invalidated or state is None or state.startswith(_AWAY_STATES)
