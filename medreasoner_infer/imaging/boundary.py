# SPDX-License-Identifier: Apache-2.0
"""The one place where what a library raises over foreign bytes becomes a typed error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from medreasoner_infer.errors import InputError, MedReasonerError, UnreadableImageError


@contextmanager
def reading(refusal: str, error: type[InputError] = UnreadableImageError) -> Iterator[None]:
    """Turn any fault of a library that reads foreign bytes into a typed error.

    Readers of damaged files raise whatever the damage leads to (struct.error, KeyError,
    RecursionError, MemoryError, ...), and no list of these is complete. So this catches all of
    them, and turns none into a value: the file is refused, and the fault is the error's cause.
    Errors of this project pass as they are.

    Args:
        refusal: the sentences for the person who gave the file, with what to do; they must not
            name file or patient.
        error: the type raised.

    Raises:
        InputError: of the type ``error``, where anything was raised within.
    """
    try:
        yield
    except MedReasonerError:
        raise
    except Exception as fault:
        raise error(refusal) from fault
