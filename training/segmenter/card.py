# SPDX-License-Identifier: Apache-2.0
"""Figures of an evaluation as tables in a model card, so that none is written by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

BEGIN = "<!-- figures: written by medreasoner_training.segmenter.evaluate, not by hand -->"
END = "<!-- end of figures -->"


def write_figures(card: Path, result: dict) -> None:
    """Replace what stands between the markers of a card; atomic.

    Raises:
        ValueError: if the card does not hold both markers.
    """
    text = card.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{card} must hold the lines {BEGIN!r} and {END!r}.")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    partial = card.with_suffix(".partial")
    body = f"{BEGIN}\n\n{figures(result)}\n{END}"
    partial.write_text(before + body + after, encoding="utf-8")
    os.replace(partial, card)


def figures(result: dict) -> str:
    """The tables of an evaluation in Markdown."""
    return "\n".join(
        [
            f"Weights `sha256:{result['model']['weights_sha256']}`.",
            "",
            *_section_table(result["sections"]),
            "",
            *_propagation_table(result["propagation"]),
            "",
        ]
    )


def _section_table(sections: dict) -> list[str]:
    lines = [
        "| real images | cross-sections | Dice | inscribed ellipse | filled box | Dice − ellipse |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in sections.items():
        columns = [_interval(row[key]) for key in ("model", "ellipse", "box")]
        gain = _interval(row["model_minus_ellipse"], signed=True)
        lines.append(f"| {name} | {row['sections']} | {' | '.join(columns)} | {gain} |")
    return lines


def _interval(summary: dict, signed: bool = False) -> str:
    low, high = summary["ci95"]
    sign = "+" if signed else ""
    return f"{summary['mean']:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def _propagation_table(propagation: dict) -> list[str]:
    strategies = list(propagation)
    header = " | ".join(f"{name}: Dice | missed | leaked" for name in strategies)
    lines = [f"| organ | slices | {header} |", "|---|---|" + "---|---|---|" * len(strategies)]
    for organ in propagation[strategies[0]]:
        rows = [propagation[name][organ] for name in strategies]
        cells = " | ".join(
            f"{row['dice']:.3f} | {row['slices_missed']} | {row['slices_leaked']}" for row in rows
        )
        lines.append(f"| {organ} | {rows[0]['slices']} | {cells} |")
    means = " | ".join(
        f"**{np.mean([row['dice'] for row in propagation[name].values()]):.3f}** | | "
        for name in strategies
    )
    return [*lines, f"| mean | | {means} |"]
