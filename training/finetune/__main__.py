# SPDX-License-Identifier: Apache-2.0
"""``python -m medreasoner_training.finetune RUN_DIR``; also under ``accelerate launch -m``.

Exit codes: 0 promoted or, with ``promotion.promote: false``, compared; 1 failed; 3 refused by the
gate; 4 stopped on request.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from medreasoner_training.finetune.progress import read_progress
from medreasoner_training.finetune.run import run


def main(
    run_dir: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Folder with config.yaml.")
    ],
) -> None:
    """Fine-tune, compare and promote the site's reasoner, or resume that."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    code = run(run_dir.resolve())
    typer.echo(read_progress(run_dir).message)
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
