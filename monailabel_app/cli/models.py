# SPDX-License-Identifier: Apache-2.0
"""``medreasoner models``: what can be asked for by name, and which of the site's own is live."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from medreasoner_infer.models.registry import EMBEDDED, LIVE, registered_models
from medreasoner_infer.types import ModelSpec
from monailabel_app.cli.calibrate import calibrate
from monailabel_app.cli.calibrate_doubt import calibrate_doubt
from monailabel_app.cli.places import usable_folder

if TYPE_CHECKING:
    from medreasoner_infer.models.store import Candidate, ReasonerStore

models = typer.Typer(help="Models that can be asked for by name, and which one is live.")

models.command()(calibrate)
models.command("calibrate-doubt")(calibrate_doubt)

By = Annotated[str | None, typer.Option(help="Who decides; by default the user logged in.")]


@models.callback(invoke_without_command=True)
def models_group(context: typer.Context) -> None:
    """List the models, unless a sub-command says otherwise."""
    if context.invoked_subcommand is None:
        list_models()


@models.command("list")
def list_models() -> None:
    """List the registered models and the site's own with source, licence and notice."""
    console = Console()
    for kind in ("reasoner", "segmenter"):
        table = _table(f"{kind.capitalize()}s", "name", "source", "input px", "licence", "notice")
        for spec in registered_models(kind).values():
            table.add_row(*_row(spec))
        console.print(table)
    store = _store()
    if store.names():
        console.print(_candidates(store))
    console.print(
        f"The default is {EMBEDDED!r}. A Hugging Face id (organisation/name, optionally @revision) "
        "or a local path is taken as well, and NAME@PATH for a copy of these weights; "
        f"{LIVE!r} is the live one of the site's own reasoners."
    )


@models.command()
def history() -> None:
    """Show every promotion, refusal and rollback of the site's own reasoners."""
    console = Console()
    events = _store().history()
    if not events:
        console.print(f"Nothing was promoted or refused yet; {EMBEDDED} answers.")
    for event in events:
        what = f"{event.at} {event.action} {event.candidate}"
        said = Text.assemble((what, "bold"), f", then live: {event.live or EMBEDDED}; {event.by}")
        console.print(said, soft_wrap=True)
        for reason in event.reasons:
            console.print(Padding(Text(reason), (0, 0, 0, 2)))


@models.command()
def promote(
    name: Annotated[str, typer.Argument(help="Candidate to make live.")],
    report: Annotated[
        Path | None, typer.Option(help="JSON report of the gate about this candidate.")
    ] = None,
    without_gate: Annotated[
        str | None,
        typer.Option(
            help="Promote without a report, whatever the gate said: the reason goes on record, "
            "with the refusal that it overrides."
        ),
    ] = None,
    by: By = None,
) -> None:
    """Make a candidate live, if the gate's report says so; servers need no restart."""
    if (report is None) == (without_gate is None):
        raise typer.BadParameter("give either --report or --without-gate with a reason")
    store = _store()
    if report is not None:
        _promote_by_report(store, name, report, by or getpass.getuser())
    else:
        reasons = (f"Without the gate: {without_gate}", *_overridden(store, name))
        store.promote(name, by=by or getpass.getuser(), reasons=reasons)
        Console().print(Text("\n".join(reasons)))
    Console().print(Text(f"{name} is live now."))


@models.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Goes on record.")] = "",
    by: By = None,
) -> None:
    """Make live again what was live before the last promotion."""
    reasons = (reason,) if reason else ()
    event = _store().rollback(by=by or getpass.getuser(), reasons=reasons)
    Console().print(Text(f"{event.candidate} is replaced by {event.live or EMBEDDED}."))


@models.command()
def add(
    folder: Annotated[Path, typer.Argument(help="Folder of a full model or a LoRA adapter.")],
    name: Annotated[str, typer.Option(help="Of the candidate, e.g. site-2026-01.")],
    base: Annotated[
        str | None,
        typer.Option(help="Model that was tuned: registry name, Hugging Face id or folder."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data set that it was trained on.")
    ] = None,
    parent: Annotated[
        str | None, typer.Option(help="Candidate from which the training started.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the training.")] = None,
    code_version: Annotated[
        str | None, typer.Option(help="Version or commit of the code that trained it.")
    ] = None,
) -> None:
    """Copy a model trained elsewhere into the store; safetensors only, it does not go live.

    The folder of a candidate in a run's own store tells where it comes from.
    """
    from monailabel_app.cli.provenance import provenance_of

    provenance = provenance_of(
        folder, base=base, data=data, parent=parent, seed=seed, code_version=code_version
    )
    candidate = _store().add(folder, provenance, name=name)
    Console().print(
        Text(f"Added the {candidate.kind} {candidate.name}, licence {candidate.licence}. ")
        + Text(f"Compare it by the gate, then: medreasoner models promote {candidate.name} …")
    )


@models.command()
def merge(
    adapter: Annotated[Path, typer.Argument(help="Folder of a LoRA adapter.")],
    out: Annotated[
        Path, typer.Option(help="New folder for the full model.", callback=usable_folder)
    ],
    base: Annotated[
        str | None, typer.Option(help="Its base, if adapter_config.json names another.")
    ] = None,
) -> None:
    """Add a LoRA adapter to its base and write one full model."""
    from medreasoner_training.finetune.merge import merge_adapter

    Console().print(Text(f"Wrote {merge_adapter(adapter, out, base=base)}."))


def _store() -> ReasonerStore:
    from medreasoner_infer.models.store import ReasonerStore

    return ReasonerStore()


def _overridden(store: ReasonerStore, name: str) -> tuple[str, ...]:
    """What a promotion without the gate overrides."""
    refusals = [e for e in store.history() if (e.action, e.candidate) == ("refused", name)]
    if not refusals:
        return ("The gate has not refused it; nobody has shown that it is better.",)
    last = refusals[-1]
    return (f"This overrides the refusal of {last.at}:", *last.reasons)


def _promote_by_report(store: ReasonerStore, name: str, path: Path, by: str) -> None:
    """Do what the gate decided; a refusal goes on record as well."""
    from medreasoner_training.gate import GateReport

    report = GateReport.read(path)
    if report.candidate != name:
        raise typer.BadParameter(
            f"the report is about {report.candidate!r}, not {name!r}", param_hint="--report"
        )
    if report.attempt is None:
        raise typer.BadParameter(
            "the report is of a gate that asked for 'not worse' only; compare the candidate anew, "
            "or give --without-gate with a reason",
            param_hint="--report",
        )
    if not report.promote:
        broken = tuple(reason.sentence for reason in report.reasons if not reason.passed)
        store.refuse(name, by=by, reasons=broken)
        Console(stderr=True).print(Text("\n".join((f"{name} is refused:", *broken))))
        raise typer.Exit(1)
    expected = None if report.live == EMBEDDED else report.live
    store.promote(name, by=by, reasons=report.sentences, expected_live=expected)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", show_lines=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _row(spec: ModelSpec) -> tuple[str, ...]:
    source = "shipped with this package" if spec.is_local else spec.source
    if spec.revision:
        source += f"@{spec.revision}"
    elif not spec.is_local and spec.extra is None:
        source += "@main"
    size = "as its folder says" if spec.input_size is None else str(spec.input_size)
    return spec.name, source, size, spec.licence, spec.notice or ""


def _candidates(store: ReasonerStore) -> Table:
    table = _table("The site's own reasoners", "name", "kind", "base", "created", "licence")
    live = store.live()
    for name in store.names():
        table.add_row(*map(Text, _candidate_row(store.candidate(name), live)))
    return table


def _candidate_row(candidate: Candidate, live: Candidate | None) -> tuple[str, ...]:
    is_live = live is not None and candidate.name == live.name
    name = f"{candidate.name} (live)" if is_live else candidate.name
    base = candidate.provenance.base
    return name, candidate.kind, base, candidate.created_at, candidate.licence
