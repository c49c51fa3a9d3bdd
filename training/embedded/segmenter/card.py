# SPDX-License-Identifier: Apache-2.0
"""Figures of an evaluation as tables in a model card, so that none is written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medreasoner_training.embedded.marked_text import write_marked
from medreasoner_training.markdown import table_lines

MODULE = "medreasoner_training.embedded.segmenter.evaluate"

_METHODS = {
    "model": "this model",
    "ellipse": "inscribed ellipse",
    "box": "filled box",
    "graph_cut": "graph cut",
    "region_growing": "region growing",
}
_PROMPTS = {
    "model": "box and points, zoomed",
    "box_only": "box only",
    "points_only": "points only",
    "whole_slice": "box and points, whole slice",
}


def write_figures(card: Path, result: dict) -> None:
    """Replace what stands between the markers of a card; atomic.

    Raises:
        ValueError: if the card does not hold both markers.
    """
    write_marked(card, MODULE, figures(result))


def figures(result: dict) -> str:
    """The tables of an evaluation in Markdown."""
    parts = [
        [f"Weights `sha256:{result['model']['weights_sha256']}`."],
        _section_table(result["sections"]),
        ["The same prompts answered by other methods, on a random choice of the cross-sections:"],
        _comparison_table(result["compared"], _METHODS),
        ["Other prompts for this model, on the same choice:"],
        _comparison_table(result["compared"], _PROMPTS),
        *_propagation(result["propagation"]),
        _structure_table(result["sections"]),
        [f"The whole evaluation took {result['seconds']} s."],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _section_table(sections: dict) -> list[str]:
    rows = []
    for name, row in sections.items():
        columns = [_interval(row[key]) for key in ("model", "ellipse", "box")]
        gain = _interval(row["model_minus_ellipse"], signed=True)
        rows.append([name, row["model"]["n"], *columns, gain])
    header = ["real images", "cross-sections", "Dice", "inscribed ellipse", "filled box"]
    return table_lines([*header, "Dice − ellipse"], rows)


def _comparison_table(compared: dict, titles: dict[str, str]) -> list[str]:
    first = next(iter(compared.values()))
    keys = [key for key in titles if key in first]
    rows = [
        [name, methods["model"]["n"], *(_interval(methods[key]) for key in keys)]
        for name, methods in compared.items()
    ]
    times = [[methods[key]["median_seconds"] for key in keys] for methods in compared.values()]
    slowest = [f"{1000 * value:.0f} ms" for value in np.max(times, axis=0)]
    rows.append(["median time, slowest set", "", *slowest])
    return table_lines(["real images", "cross-sections", *(titles[key] for key in keys)], rows)


def _interval(summary: dict, signed: bool = False) -> str:
    sign = "+" if signed else ""
    mean, low, high = (f"{summary[key]:{sign}.3f}" for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _propagation(propagation: dict) -> list[list[str]]:
    parts = []
    for name, strategies in propagation.items():
        parts += [[f"Propagation through {name}:"], _propagation_table(strategies)]
    return parts


def _propagation_table(strategies: dict) -> list[str]:
    header = ["structure", "slices", "prompted slice"]
    for name in strategies:
        header += [f"{name}: Dice", "missed", "leaked before, after"]
    rows = []
    structures = list(next(iter(strategies.values())))
    for structure in structures:
        found = [strategy[structure] for strategy in strategies.values()]
        cells = [structure, found[0]["slices"], f"{found[0]['prompted_slice_dice']:.3f}"]
        for row in found:
            leaked = f"{row['leaked_before']}, {row['leaked_after']}"
            cells += [f"{row['dice']:.3f}", row["slices_missed"], leaked]
        rows.append(cells)
    mean: list[object] = ["mean", "", ""]
    by_kind: list[object] = ["mean of the kinds", "", ""]
    for strategy in strategies.values():
        mean += [f"**{np.mean([row['dice'] for row in strategy.values()]):.3f}**", "", ""]
        by_kind += [f"{_mean_of_kinds(strategy):.3f}", "", ""]
    return table_lines(header, [*rows, mean, by_kind])


def _mean_of_kinds(strategy: dict) -> float:
    """Mean Dice where both kidneys, both lungs and all vertebrae count once each."""
    kinds: dict[str, list[float]] = {}
    for structure, row in strategy.items():
        kinds.setdefault(structure.split("_")[0], []).append(row["dice"])
    return float(np.mean([np.mean(dices) for dices in kinds.values()]))


def _structure_table(sections: dict) -> list[str]:
    names = sorted({name for row in sections.values() for name in row["structures"]})
    rows = []
    for name in names:
        cells = [row["structures"].get(name) for row in sections.values()]
        rows.append([name, *("" if c is None else f"{c['mean']:.3f} ({c['n']})" for c in cells)])
    table = table_lines(["structure: mean Dice (cross-sections)", *sections], rows)
    return ["<details><summary>Each structure</summary>", "", *table, "", "</details>"]
