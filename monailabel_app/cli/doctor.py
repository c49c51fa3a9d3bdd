# SPDX-License-Identifier: Apache-2.0
"""``medreasoner doctor``: what is installed, which device, which weights, what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medreasoner_infer.advice import download_command, install_command
from medreasoner_infer.errors import MissingExtraError
from medreasoner_infer.models.registry import registered_models
from medreasoner_infer.types import ModelSpec
from monailabel_app.cli.options import RecordsDatabaseOption, RecordsOption, show_set_aside

REQUIRED = ("torch", "torchvision", "transformers", "sam2", "xgrammar", "SimpleITK", "pydicom")
BY_EXTRA = {
    "monailabel": ("monailabel", "monai", "sqlalchemy", "alembic"),
    "vllm": ("vllm",),
    "train": ("trl", "peft", "datasets"),
    "pacs": ("highdicom", "dicomweb_client"),
    "postgres": ("psycopg",),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``ok`` is ``None`` for something optional that is absent."""

    subject: str
    ok: bool | None
    detail: str


def doctor(
    studies: Annotated[
        str | None,
        typer.Option(help="Also look through a folder of studies or a DICOMweb server."),
    ] = None,
    records: RecordsOption = None,
    records_database: RecordsDatabaseOption = None,
) -> None:
    """Check the installation; the exit status is 1 if something needed is missing.

    With --studies every image is read as the server reads it, and what cannot be offered is named;
    where the records are in a database, it is asked how many there are.
    """
    findings = [*_packages(), _device(), *_weights()]
    table = Table(show_header=False, box=None)
    marks = {True: ("ok", "green"), False: ("missing", "bold red"), None: ("absent", "yellow")}
    for finding in findings:
        table.add_row(Text(*marks[finding.ok]), finding.subject, Text(finding.detail))
    console = Console()
    console.print(f"Python {platform.python_version()} on {platform.platform()}", highlight=False)
    console.print(table)
    if studies is not None:
        _look_through(studies, records, records_database, console)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def _look_through(
    studies: str, records: Path | None, database: str | None, console: Console
) -> None:
    from monailabel_app.common.privacy import quiet_request_logs
    from monailabel_app.site.opening import open_studies
    from monailabel_app.site.paths import SitePaths, require_studies
    from monailabel_app.store.databases import look_at_database
    from monailabel_app.studies.looking import look_through

    require_studies(studies)
    quiet_request_logs()
    paths = SitePaths.of(studies, records, database)
    if paths.database is not None:
        said = look_at_database(paths.data_dir, paths.database)
        console.print(f"Records: {said}", highlight=False, soft_wrap=True)
    with console.status("Reading the studies"):
        looked = look_through(open_studies(paths, read_only=True))
    console.print(f"Studies: {looked.offered} image(s) offered, {len(looked.set_aside)} set aside")
    show_set_aside(looked.set_aside, console)


def _packages() -> list[Finding]:
    findings = [_package(name, f"reinstall: {install_command()}", False) for name in REQUIRED]
    for extra, names in BY_EXTRA.items():
        advice = f"optional: {install_command(extra)}"
        if extra == "vllm":
            advice = "not in this environment, as it should be; see scripts/setup_vllm.sh"
        findings += [_package(name, advice, None) for name in names]
    return findings


def _package(name: str, advice: str, when_missing: bool | None) -> Finding:
    if importlib.util.find_spec(name) is None:
        return Finding(name, when_missing, advice)
    return Finding(name, True, importlib.metadata.version(name.replace("_", "-")))


def _device() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("device", False, "torch is not installed")
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        memory_gb = properties.total_memory / 2**30
        return Finding("device", True, f"cuda: {properties.name}, {memory_gb:.0f} GiB, bf16")
    return Finding(
        "device", True, f"cpu, {torch.get_num_threads()} threads; a 7B reasoner needs a GPU"
    )


def _weights() -> list[Finding]:
    kinds = ("reasoner", "segmenter")
    return [_weight(spec) for kind in kinds for spec in registered_models(kind).values()]


def _weight(spec: ModelSpec) -> Finding:
    subject = f"{spec.kind} {spec.name}"
    if spec.extra is not None:
        return _installed_weight(subject, spec)
    folder = Path(spec.source)
    if folder.is_absolute():
        sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
        detail = f"{sum(sizes) / 1e6:.1f} MB" if sizes else "reinstall: the wheel holds the weights"
        return Finding(subject, bool(sizes), detail)
    from huggingface_hub import try_to_load_from_cache

    marker = spec.filename or "config.json"
    revision = f"revision: {spec.revision or 'not pinned'}"
    if isinstance(try_to_load_from_cache(spec.source, marker, revision=spec.revision), str):
        where = f"in the local Hugging Face cache ({spec.source}); {revision}"
        return Finding(subject, True, where)
    command = download_command(spec.source, spec.filename, spec.revision)
    return Finding(subject, None, f"{revision}; get it with: {command}")


def _installed_weight(subject: str, spec: ModelSpec) -> Finding:
    from medreasoner_infer.segmenters.sam_loading import installed_weights

    try:
        size = installed_weights(spec).stat().st_size
    except MissingExtraError:
        return Finding(subject, None, f"get it with: {install_command(spec.extra)}")
    return Finding(subject, True, f"{size / 1e6:.1f} MB in the package {spec.source}")
