# SPDX-License-Identifier: Apache-2.0
"""Typing the faults of the database and the disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from monailabel_app.errors import RecordStoreError


@contextmanager
def recording() -> Iterator[None]:
    """Type what can go wrong while something is written.

    Raises:
        RecordStoreError: instead of a fault of the database or the disk.
    """
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        # The statement's parameters hold the question, so only the kind of the fault is said.
        raise RecordStoreError(
            f"The answer could not be recorded ({type(error).__name__}), so it is not given out. "
            "Check the disk space and the rights of the records' folder."
        ) from error
