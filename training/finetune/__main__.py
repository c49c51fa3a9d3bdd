# SPDX-License-Identifier: Apache-2.0
"""``python -m medreasoner_training.finetune RUN_DIR``; also under ``accelerate launch -m``.

Exit codes: 0 promoted or, with ``promotion.promote: false``, compared; 1 failed; 3 refused by the
gate; 4 stopped on request. With ``--dry-run``: 0 nothing speaks against the run, 1 something does.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from medreasoner_infer.earlier_files import require_replaceable
from medreasoner_infer.errors import MedReasonerError
from medreasoner_training.finetune.config import CONFIG_FILE, read_config
from medreasoner_training.finetune.progress import read_progress


def main(
    run_dir: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Folder with config.yaml.")
    ],
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check settings and data, reckon the memory, load nothing."),
    ] = False,
    gpu_gb: Annotated[
        float | None, typer.Option(min=0.1, help="Memory of a card in 10^9 B, of a dry run.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="Cards of a dry run.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="File of a dry run: JSON, or with .md a table.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that no dry run made.")
    ] = False,
) -> None:
    """Fine-tune, compare and promote the site's reasoner, or resume that."""
    if dry_run:
        raise typer.Exit(_dry_run(run_dir.resolve(), gpu_gb, gpus, out, overwrite))
    from medreasoner_training.finetune.run import run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    code = run(run_dir.resolve())
    typer.echo(read_progress(run_dir).message)
    raise typer.Exit(code)


def _dry_run(
    run_dir: Path, gpu_gb: float | None, gpus: int, out: Path | None, overwrite: bool
) -> int:
    from medreasoner_training.finetune.dry_run import dry_run_of
    from medreasoner_training.finetune.dry_run_table import is_dry_run, show

    try:
        if out is not None:
            require_replaceable(out, is_dry_run, overwrite=overwrite)
        config = read_config(run_dir / CONFIG_FILE)
        return show(dry_run_of(run_dir, config, gpu_gb=gpu_gb, gpus=gpus), out)
    except MedReasonerError as error:
        typer.echo(str(error), err=True)
        return 1


if __name__ == "__main__":
    typer.run(main)
