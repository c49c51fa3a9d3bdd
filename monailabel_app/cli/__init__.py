# SPDX-License-Identifier: Apache-2.0
"""The ``medreasoner`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; an error becomes one sentence, and exit status 1 or its own.

    Errors are ours, and the system's about a file; anything else is a bug and keeps its traceback.
    """
    from rich.console import Console
    from rich.text import Text

    from medreasoner_infer.errors import MedReasonerError
    from monailabel_app.cli.app import app
    from monailabel_app.errors import ERROR_PREFIX

    try:
        app()
    except (MedReasonerError, OSError) as error:
        said = str(error) if isinstance(error, MedReasonerError) else _about_file(error)
        message = Text.assemble((ERROR_PREFIX, "bold red"), said)
        Console(stderr=True).print(message, soft_wrap=True)
        sys.exit(getattr(error, "exit_status", 1))


def _about_file(error: OSError) -> str:
    """What the system says of a file; raised again where it is about none."""
    if error.filename is None or error.strerror is None:
        raise error
    return (
        f"{error.filename} cannot be used ({error.strerror}). Check the path, its rights and the "
        "space on the disk, then try again."
    )
