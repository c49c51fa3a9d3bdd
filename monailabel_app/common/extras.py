# SPDX-License-Identifier: Apache-2.0
"""A helpful error where an optional dependency is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from medreasoner_infer.errors import MissingExtraError


@contextmanager
def needs_extra(package: str, extra: str) -> Iterator[None]:
    """Import ``package`` inside this block; the extra ``extra`` of this project installs it.

    A module that is missing *inside* an installed package is reported as it is.

    Raises:
        MissingExtraError: if ``package`` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == package:
            raise MissingExtraError(package, extra) from error
        raise
