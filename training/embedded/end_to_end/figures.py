# SPDX-License-Identifier: Apache-2.0
"""The figures of an end-to-end evaluation as Markdown."""

from __future__ import annotations

from medreasoner_training.markdown import table_lines

MODULE = "medreasoner_training.embedded.end_to_end.evaluate"

_SETS = {"phantoms": "held-out phantoms", "real_ct": "real CT"}
_ROWS = (
    ("Dice, question to mask", "dice"),
    ("Dice of the ellipse in the reasoner's box", "ellipse_in_the_same_box"),
    ("visible target answered with a mask", "present_found"),
    ("absent target answered with none", "absent_refused"),
)
_SEARCH_ROWS = (
    ("chosen slice shows the target", "shows_target"),
    ("its section there, of its largest", "section_share"),
    ("Dice on the chosen slice", "dice"),
)


def figures(report: dict) -> str:
    """Tables of all figures.

    Args:
        report: what :func:`evaluate.evaluate` returns.
    """
    sets = [name for name in _SETS if name in report]
    targets = sorted({target for name in sets for target in report[name]["dice_by_target"]})
    titles = [_SETS[name] for name in sets]
    lines = [
        f"Reasoner `sha256:{report['reasoner_sha256']}`, "
        f"segmenter `sha256:{report['segmenter_sha256']}`.",
        "",
        *table_lines(
            ["", *titles],
            ([title, *(_cell(report[name][key]) for name in sets)] for title, key in _ROWS),
        ),
        "",
        *_search(report.get("real_ct_search")),
        *table_lines(
            ["Dice by target", *titles],
            (
                [target, *(_cell(report[name]["dice_by_target"].get(target)) for name in sets)]
                for target in targets
            ),
        ),
    ]
    return "\n".join([*lines, ""])


def _search(part: dict | None) -> list[str]:
    if part is None:
        return []
    rows = ([title, _cell(part[key])] for title, key in _SEARCH_ROWS)
    return [*table_lines(["Asked without a slice", _SETS["real_ct"]], rows), ""]


def _cell(entry: dict | None) -> str:
    if entry is None or entry["mean"] is None:
        return "-"
    return f"{entry['mean']:.3f} ({entry['low']:.3f} to {entry['high']:.3f}, n={entry['n']})"
