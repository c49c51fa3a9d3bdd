# SPDX-License-Identifier: Apache-2.0
"""``medreasoner models``: what can be asked for by name, and under which licence."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from medreasoner_infer.models.registry import EMBEDDED, ModelSpec, registered_models


def models() -> None:
    """List the registered reasoners and segmenters with source, licence and notice."""
    console = Console()
    for kind in ("reasoner", "segmenter"):
        table = Table(title=f"{kind.capitalize()}s", title_justify="left", show_lines=True)
        for column in ("name", "source", "input px", "licence", "notice"):
            table.add_column(column, overflow="fold")
        for spec in registered_models(kind).values():
            table.add_row(*_row(spec))
        console.print(table)
    console.print(
        f"The default is {EMBEDDED!r}. A Hugging Face id (organisation/name, optionally @revision) "
        "or a local path is taken as well."
    )


def _row(spec: ModelSpec) -> tuple[str, ...]:
    source = "shipped with this package" if spec.is_local else spec.source
    if spec.revision:
        source += f"@{spec.revision}"
    size = "as its folder says" if spec.input_size is None else str(spec.input_size)
    return spec.name, source, size, spec.licence, spec.notice or ""
