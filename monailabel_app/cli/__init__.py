# SPDX-License-Identifier: Apache-2.0
"""The ``medreasoner`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; an error of ours becomes one sentence, and exit status 1 or its own."""
    from rich.console import Console
    from rich.text import Text

    from medreasoner_infer.errors import MedReasonerError
    from monailabel_app.cli.app import app
    from monailabel_app.errors import ERROR_PREFIX

    try:
        app()
    except MedReasonerError as error:
        message = Text.assemble((ERROR_PREFIX, "bold red"), str(error))
        Console(stderr=True).print(message, soft_wrap=True)
        sys.exit(getattr(error, "exit_status", 1))
