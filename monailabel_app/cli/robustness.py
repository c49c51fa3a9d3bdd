# SPDX-License-Identifier: Apache-2.0
"""``medreasoner robustness``: how far an answer depends on what must not matter."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monailabel_app.cli.options import (
    DEFAULT_MODEL,
    DeviceOption,
    ModalityOption,
    PlaneOption,
    ReasonerOption,
    ReasonerUrlOption,
    SeriesOption,
    SliceOption,
    WindowOption,
)
from monailabel_app.cli.places import OverwriteOption, replaceable, usable_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medreasoner_infer.types import ModelIdentity
    from medreasoner_training.robustness import KindSummary, Varied

console = Console()
_REPORT_KEYS = ("reasoner", "slice_index", "answers")


def robustness(
    image: Annotated[Path, typer.Argument(help="As for ask.")],
    target: Annotated[
        str, typer.Argument(help="Name in the clinical vocabulary: liver, left kidney …")
    ],
    plane: PlaneOption = None,
    slice_index: SliceOption = None,
    window: WindowOption = None,
    reasoner: ReasonerOption = DEFAULT_MODEL,
    reasoner_url: ReasonerUrlOption = None,
    device: DeviceOption = "auto",
    modality: ModalityOption = None,
    series: SeriesOption = None,
    per_kind: Annotated[int, typer.Option(min=1, help="Questions of each way of wording.")] = 4,
    out: Annotated[
        Path | None,
        typer.Option(help="Write every answer to this JSON file.", callback=usable_file),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Ask for one target in other words, languages and windows, shifted and mirrored; compare.

    A JSON file of an earlier run is replaced, any other file only with --overwrite.
    """
    from medreasoner_infer.earlier_files import is_json_with
    from medreasoner_infer.hooks import NO_HOOKS
    from medreasoner_infer.imaging import choose_window, load_volume
    from medreasoner_infer.language import unsided
    from medreasoner_infer.pipeline import Pipeline
    from medreasoner_infer.request import SliceSelection
    from medreasoner_infer.slice_choice import (
        DisplayedSlice,
        fixed_choice,
        plane_of,
        require_selection,
        search_slice,
    )
    from medreasoner_training.robustness import (
        plain_question,
        summary,
        variations,
        varied_answers,
    )

    replaceable(out, "--out", overwrite, lambda file: is_json_with(file, _REPORT_KEYS))
    unsided(target)  # before anything is loaded
    volume = load_volume(image, modality=modality, series_uid=series)
    selection = SliceSelection(plane, slice_index, window=window)
    require_selection(volume, selection)
    chosen_plane, chosen_window = plane_of(volume, selection), choose_window(volume, window)
    model = Pipeline.from_registry(reasoner, device=device, reasoner_url=reasoner_url).reasoner
    choice = fixed_choice(volume, chosen_plane, selection, ()) or search_slice(
        volume, chosen_plane, chosen_window, model, plain_question(target), NO_HOOKS
    )
    shown = DisplayedSlice.of(
        volume, chosen_plane, choice[0], chosen_window, model_size=model.input_size
    )
    answers = varied_answers(model, list(variations(shown, target, per_kind)), target)
    console.print(Text(choice[1].explanation))
    _show(summary(answers))
    if out is not None:
        _write(answers, model.identity, choice[0], out)


def _show(kinds: Sequence[KindSummary]) -> None:
    table = Table("asked in", "times", "box IoU", "same outcome", "not understood", "other side")
    for kind in kinds:
        shares = (kind.same_outcome, kind.not_understood, kind.other_side)
        table.add_row(
            kind.kind,
            str(kind.asked),
            f"{kind.mean_iou:.2f}",
            *(f"{share:.0%}" for share in shares),
        )
    console.print(table)


def _write(answers: Sequence[Varied], identity: ModelIdentity, index: int, out: Path) -> None:
    from medreasoner_infer.atomic import write_durably

    values = (asdict(identity), index, [asdict(answer) for answer in answers])
    report = dict(zip(_REPORT_KEYS, values, strict=True))
    write_durably(out, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    console.print(Text(f"wrote {out}"), soft_wrap=True)
