# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, and how their text is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from medreasoner_infer.errors import InputError
from medreasoner_infer.modalities import KNOWN_MODALITIES, known_modality
from medreasoner_infer.models.registry import EMBEDDED
from medreasoner_infer.types import XY, XYXY, XYZ
from monailabel_app.cli.places import folder_of_records, usable_folder
from monailabel_app.settings import ADDRESS_VARIABLES
from monailabel_app.studies.set_aside import SetAside

ReasonerOption = Annotated[
    str,
    typer.Option(help="Registry name, Hugging Face id (optionally @revision) or local folder."),
]
SegmenterOption = Annotated[
    str,
    typer.Option(
        help="Registry name (optionally @revision or @path), Hugging Face id (optionally "
        "@revision) or local path."
    ),
]
ReasonerUrlOption = Annotated[
    str | None,
    typer.Option(
        help="Address of a vLLM server that serves the reasoner, e.g. http://host:8001/v1; of "
        "replicas several with commas between."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
PlaneOption = Annotated[
    str | None,
    typer.Option(help="axial, coronal, sagittal or acquired; the acquisition's if not given."),
]
SliceOption = Annotated[
    int | None,
    typer.Option("--slice", help="Voxel index along the axis that the plane cuts, from 0."),
]
WindowOption = Annotated[
    str | None,
    typer.Option(help="soft_tissue, lung, bone, brain, … or centre/width, e.g. 40/400."),
]
SeriesOption = Annotated[
    str | None,
    typer.Option("--series", help="Series Instance UID, where a folder holds several series."),
]


def _modality(text: str | None) -> str | None:
    """Check what is given for --modality.

    Raises:
        typer.BadParameter: no image has such a modality.
    """
    try:
        return None if text is None else known_modality(text)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error


ModalityOption = Annotated[
    str | None,
    typer.Option(
        help="Modality, whatever the file says, where it does not tell or tells wrongly: "
        f"{', '.join(KNOWN_MODALITIES)}.",
        callback=_modality,
    ),
]


RecordsDatabaseOption = Annotated[
    str | None,
    typer.Option(
        envvar=ADDRESS_VARIABLES["records_database"],
        help="PostgreSQL database of the records, e.g. "
        "postgresql+psycopg://medreasoner@db.example/medreasoner, without a password (PGPASSWORD "
        "or PGPASSFILE has it); by default what the folder of the records says.",
    ),
]


def show_set_aside(found: Sequence[SetAside], console: Console) -> None:
    """Name what is not offered, and why."""
    for one in found:
        said = Text.assemble(("Set aside: ", "yellow"), f"{one.name}: {one.reason}")
        console.print(said, soft_wrap=True)


OutOption = Annotated[
    Path, typer.Option("--out", help="Folder for the written files.", callback=usable_folder)
]
RecordsOption = Annotated[
    Path | None,
    typer.Option(
        "--records",
        help="Folder of the app's records, if it was given one.",
        callback=folder_of_records,
    ),
]
DEFAULT_MODEL = EMBEDDED


def parse_point(text: str, what: str) -> XY:
    """Read ``x,y``; raises as :func:`parse_numbers`."""
    x, y = parse_numbers(text, 2, what)
    return x, y


def parse_position(text: str, what: str) -> XYZ:
    """Read ``x,y,z``; raises as :func:`parse_numbers`."""
    x, y, z = parse_numbers(text, 3, what)
    return x, y, z


def parse_box(text: str, what: str) -> XYXY:
    """Read ``x1,y1,x2,y2``; raises as :func:`parse_numbers`."""
    x1, y1, x2, y2 = parse_numbers(text, 4, what)
    return x1, y1, x2, y2


def parse_numbers(text: str, count: int, what: str) -> tuple[float, ...]:
    """Read ``count`` numbers separated by commas.

    Raises:
        typer.BadParameter: if ``text`` is anything else; ``what`` names the option.
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise typer.BadParameter(f"{text!r} given for {what}; expected {count} numbers like 1,2.5")
    return numbers
