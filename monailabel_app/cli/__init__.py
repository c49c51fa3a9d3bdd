# SPDX-License-Identifier: Apache-2.0
"""The ``medreasoner`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; an error of ours becomes one sentence and exit status 1."""
    from rich.console import Console
    from rich.text import Text

    from medreasoner_infer.errors import MedReasonerError
    from monailabel_app.cli.app import app

    try:
        app()
    except MedReasonerError as error:
        message = Text.assemble(("Error: ", "bold red"), str(error))
        Console(stderr=True).print(message, soft_wrap=True)
        sys.exit(1)
