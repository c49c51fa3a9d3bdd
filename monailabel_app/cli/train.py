# SPDX-License-Identifier: Apache-2.0
"""``medreasoner train``: fine-tune on what readers approved or on a data set, without a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from monailabel_app.cli.dry_run import LearntData, reckoned
from monailabel_app.cli.options import RecordsOption
from monailabel_app.cli.places import replaceable, usable_file, usable_folder
from monailabel_app.cli.train_dataset import DatasetTraining, method_changes, summary_of

if TYPE_CHECKING:
    from medreasoner_infer.models.store import ReasonerStore
    from medreasoner_training.finetune import FineTuneConfig, Progress
    from monailabel_app.training.folder import TrainingFolder
    from monailabel_app.training.trainer import OnProgress

# As the trainer itself exits; every other end is a success.
_STATUSES = {"failed": 1, "refused": 3, "stopped": 4}
_TELL_ROWS = 50
console = Console()


def train(
    studies: Annotated[
        str | None, typer.Option(help="Folder of studies, or the address of a DICOMweb server.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Any data set that evaluate reads, instead of studies; needs --out, and nothing "
            "goes live."
        ),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Table of questions about the data set's images.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Split of the data set to learn from; train, if it has splits."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="sft or grpo; by default as the configuration says.")
    ] = None,
    config: Annotated[
        str, typer.Option(help="Name of a shipped configuration, or a YAML file.")
    ] = "embedded",
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="A changed value, e.g. grpo.steps=50; may be repeated."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            "--out",
            help="Folder for the run instead of one beside the records.",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Begin anew, or go on with an unfinished run.")
    ] = False,
    val_share: Annotated[float, typer.Option(help="Share of the patients that validate.")] = 0.2,
    max_slices: Annotated[int, typer.Option(help="Slices per target.")] = 8,
    command: Annotated[
        str | None, typer.Option(help="Trainer of another environment, e.g. accelerate launch …")
    ] = None,
    records: RecordsOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check settings and data and reckon the memory of a card; load nothing, and write "
            "nothing but the file of --out: JSON, or a table if it ends with .md.",
        ),
    ] = False,
    gpu_gb: Annotated[
        float | None,
        typer.Option(min=0.1, max=1e6, help="Memory of a card in 10^9 B, of a dry run."),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="Cards of a dry run.")] = 1,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Write a page into the run's folder, for your account only, that shows images, "
            "answers and rewards while it learns.",
        ),
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Show the last training.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the running training.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that no dry run made.")
    ] = False,
) -> None:
    """Fine-tune the reasoner on what readers approved; a gate decides whether it goes live.

    With --dataset it learns from any data set and needs no studies; see docs/fine_tuning.md.
    Exit status: 0 promoted or finished, 1 failed, 3 refused by the gate, 4 stopped.
    """
    if dry_run:
        from medreasoner_training.finetune.dry_run_table import is_dry_run

        usable_file(run)
        replaceable(run, "--out", overwrite, is_dry_run)
        data = LearntData(dataset, questions, split, val_share)
        raise typer.Exit(reckoned(_changed(config, change, method)[1], data, gpu_gb, gpus, run))
    usable_folder(run)
    if dataset is not None:
        if studies is not None or run is None:
            raise typer.BadParameter("give --dataset with --out, and no --studies")
        on = DatasetTraining(dataset, run, questions, split, val_share)
        if fresh and on.is_begun:
            raise typer.BadParameter(f"{run} holds a run; give a new folder", param_hint="--fresh")
        if stop:
            on.stop()
        elif not status:
            _train_on(on, _changed(config, change, method, watch), change, command)
        _show_run(on)
        raise typer.Exit(0 if status or stop else _STATUSES.get(on.progress.state.value, 0))
    folder = _folder(studies, records)
    if stop:
        _stop(folder)
    if status or stop:
        _show(folder)
        return
    if studies is None:
        raise typer.BadParameter("give the studies to learn from", param_hint="--studies")
    from monailabel_app.training.options import TrainOptions
    from monailabel_app.training.site import SiteTraining
    from monailabel_app.training.trainer import trainer_command
    from monailabel_app.training.watching import watch_run

    training = SiteTraining(studies, folder, trainer_command(command))
    with _bars(folder.latest) as tell, _stopped_early(folder):
        if run is not None and not fresh and (run / "config.yaml").is_file():
            _refuse_changes(run, change)
            if watch:
                watch_run(run)
            last = training.resume(run.absolute(), tell)
        else:
            label, changed = _changed(config, change, method, watch)
            options = TrainOptions(label, changed, fresh, val_share, max_slices)
            place = None if run is None else _free(run)
            last = training.train(options, tell, place)
    _show(folder)
    raise typer.Exit(_STATUSES.get(last.state.value, 0))


@contextmanager
def _stopped_early(folder: TrainingFolder) -> Iterator[None]:
    """A stop asked for before the trainer was started ends like any other stop."""
    from monailabel_app.training.errors import TrainingStoppedError

    try:
        yield
    except TrainingStoppedError:
        _show(folder)
        raise typer.Exit(_STATUSES["stopped"]) from None


def _stop(folder: TrainingFolder) -> None:
    from monailabel_app.training.stopping import stop_training

    with console.status("Stopping after the current step, with a checkpoint"):
        stop_training(folder)


def _folder(studies: str | None, records: Path | None) -> TrainingFolder:
    from monailabel_app.site.paths import SitePaths, require_studies
    from monailabel_app.training.errors import NothingTrainsError
    from monailabel_app.training.folder import TrainingFolder, last_training

    if studies is not None:
        require_studies(studies)
        return TrainingFolder(SitePaths.of(studies, records).data_dir)
    if records is not None:
        return TrainingFolder(records)
    last = last_training()
    if last is None:
        raise NothingTrainsError("No training was started yet; give --studies to start one.")
    return last


def _changed(
    name: str, changes: list[str] | None, method: str | None, watch: bool = False
) -> tuple[str, FineTuneConfig]:
    """What a configuration is called, and the configuration with what the options change."""
    from monailabel_app.training.options import overridden

    label, config = _config(name)
    asked = dict(map(_key_and_value, changes or ()))
    page = {"watch.enabled": "true"} if watch else {}
    return label, overridden(config, method_changes(config, method) | asked | page)


def _train_on(
    on: DatasetTraining,
    named: tuple[str, FineTuneConfig],
    changes: list[str] | None,
    command: str | None,
) -> None:
    """Train on a data set, or go on with a run that was begun."""
    from medreasoner_training.finetune import Progress, State
    from monailabel_app.training.watching import watch_run

    with _bars(lambda: on.run.absolute()) as tell:

        def on_row(done: int, total: int) -> None:
            if done % _TELL_ROWS == 0 or done == total:
                message = f"Reading the data set, {done} of {total} rows."
                tell(Progress(State.PREPARING, message=message))

        if on.is_begun:
            _refuse_changes(on.run, changes)
            if named[1].watch.enabled:
                watch_run(on.run)
        found = on.begin(named[1], on_row)
        console.print(Text(f"Learning set: {summary_of(found)}"), soft_wrap=True)
        on.train(command, tell)


def _show_run(on: DatasetTraining) -> None:
    """How a run on a data set stands, and where its model lies."""
    console.print(_table(on.run, on.progress, on.store))
    for folder in on.models:
        console.print(Text(f"model: {folder}"), soft_wrap=True)


def _config(name: str) -> tuple[str, FineTuneConfig]:
    """A shipped configuration or a file; what it is called in the run's name."""
    from medreasoner_training.finetune import read_config
    from monailabel_app.training.options import known_configs, named_config

    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path.stem, read_config(path)
    return name, named_config(name, known_configs())


def _key_and_value(change: str) -> tuple[str, str]:
    key, found, value = change.partition("=")
    if not found or not key:
        raise typer.BadParameter(f"{change!r}; expected KEY=VALUE", param_hint="--set")
    return key, value


def _refuse_changes(run: Path, changes: list[str] | None) -> None:
    if changes:
        raise typer.BadParameter(
            f"{run} goes on with its own configuration; give --fresh and a new folder",
            param_hint="--set",
        )


def _free(run: Path) -> Path:
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise typer.BadParameter(f"{run} holds something; give a new folder", param_hint="--run")
    return run.absolute()


@contextmanager
def _bars(run: Callable[[], Path | None]) -> Iterator[OnProgress]:
    """A bar of the optimiser steps, with what the run tells beside it, and once where its page is.

    Args:
        run: gives the run's folder, once it has one.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    from monailabel_app.training.reporting import NewsFilter, progress_line

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[line]}"))  # fmt: skip  # noqa: E501
    with Bars(*columns, console=console, transient=True) as bars:
        task, news = bars.add_task("training", total=None, line=""), NewsFilter()
        pages: list[str] = []

        def tell(progress: Progress) -> None:
            line = progress_line(progress)
            bars.update(
                task, completed=progress.step, total=progress.total_steps or None, line=line
            )
            if not console.is_terminal and news.is_news(progress):
                console.print(Text(line), soft_wrap=True)
            page = None if pages else _page(run())
            if page is not None:
                pages.append(page)
                console.print(Text(f"page: {page}"), soft_wrap=True)

        yield tell


def _page(run: Path | None) -> str | None:
    """The address of a run's page, if it has one."""
    from medreasoner_training.finetune.watch import page_of

    page = None if run is None else page_of(run.absolute())
    return page.as_uri() if page is not None and page.is_file() else None


def _show(folder: TrainingFolder) -> None:
    """The last training in a table, with the gate's reasons."""
    from monailabel_app.training.errors import NothingTrainsError

    progress = folder.progress()
    if progress is None:
        raise NothingTrainsError("No training was started for these studies yet.")
    from medreasoner_infer.models.store import ReasonerStore

    console.print(_table(folder.latest(), progress, ReasonerStore()))
    page = _page(folder.latest())
    if page is not None:  # outside the table, which would break it
        console.print(Text(f"page: {page}"), soft_wrap=True)


def _table(run: Path | None, progress: Progress, store: ReasonerStore) -> Any:
    from rich.table import Table

    from monailabel_app.training.reporting import progress_line

    table = Table(show_header=False, title="Training", title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("run", Text(str(run)))
    table.add_row("state", Text(progress_line(progress)))
    if progress.candidate is not None:
        decided = [e for e in store.history() if e.candidate == progress.candidate]
        for event in decided[-1:]:
            table.add_row(event.action, Text("\n".join(event.reasons)))
    return table
