# SPDX-License-Identifier: Apache-2.0
"""Turning a device that ran out of memory into an error that a caller can act on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from medreasoner_infer.errors import OutOfMemoryError

# The CPU's allocator and some back ends raise a plain RuntimeError.
_PHRASES = ("out of memory", "not enough memory", "can't allocate memory")


@contextmanager
def memory_guard(release: Callable[[], None]) -> Iterator[None]:
    """Run the block; when the device runs out of memory, ``release`` what can be given back.

    Raises:
        OutOfMemoryError: in that case.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        message = str(error).splitlines()[0]
    else:
        return
    # Outside the handler: the traceback held the tensors of the failed call.
    release()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise OutOfMemoryError(
        f"The device ran out of memory ({message}). Ask for fewer samples, close other programs on "
        "the device, or choose a smaller model."
    )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch raised ``error`` because an allocation failed."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(phrase in str(error).lower() for phrase in _PHRASES)
