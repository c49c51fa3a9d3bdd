# SPDX-License-Identifier: Apache-2.0
"""``report.html``: a run on one page, which needs neither a server nor the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from medreasoner_training import pages
from medreasoner_training.evaluation.picked import Pictured
from medreasoner_training.evaluation.plots import plot_box_and_mask, plot_groups
from medreasoner_training.evaluation.predictions import Prediction
from medreasoner_training.evaluation.prompts import JITTER
from medreasoner_training.evaluation.report import Report
from medreasoner_training.evaluation.summary import WORDS, Estimate, Measure

PAGE_NAME = "report.html"
COLUMNS: tuple[Measure, ...] = (
    "box_iou", "pdice_as_released", "pdice", "dice_points", "dice_box", "dice",
    "dice_true_prompts",
)  # fmt: skip
FURTHER: tuple[Measure, ...] = (
    "dice_true_points", "dice_true_box", "dice_jittered_box", "surface_dice", "hausdorff95_px",
)  # fmt: skip
FAITHFULNESS_WORDS = {
    "statements_hold": "statements that hold, of those that can be checked",
    "not_checkable": "statements that cannot be checked, of all",
    "removal_flips": "right answers that go when what they point to is taken away",
    "elsewhere_flips": "right answers that go when another region of that size is: false alarms",
    "removal_gone": "right answers that are gone or elsewhere in one such way at least",
    "elsewhere_gone": "right answers that are when another region of that size is taken away",
    "shuffled_same_box": "right answers whose box comes for another patient's image as well",
    "shuffled_same_trace": "right answers whose reasoning does, word for word",
}
GROUPING_WORDS = {
    "super_category": "By super-category",
    "category": "By category",
    "modality": "By modality",
}
_NOT_IN_PERCENT: tuple[Measure, ...] = ("hausdorff95_px",)


def percent(measure: Measure, value: float, sign: Literal["", "+"] = "") -> str:
    """A value as the paper writes it: in percent, lengths as they are; ``+`` shows every sign."""
    if measure in _NOT_IN_PERCENT:
        return f"{value:{sign}.1f}"
    return f"{100 * value:{sign}.2f}"


def interval(measure: Measure, found: Estimate) -> str:
    """The bounds of a mean as the paper would write them; empty where there are none."""
    if found.low is None or found.high is None:
        return ""
    return f"{percent(measure, found.low)} to {percent(measure, found.high)}"


def write_page(
    report: Report, predictions: Sequence[Prediction], pictures: Sequence[Pictured], folder: Path
) -> Path:
    """Write ``report.html``, whole or not at all.

    Raises:
        MissingExtraError: Jinja is not installed.
    """
    groups, path = report.summary.groups, folder / PAGE_NAME
    render_page(
        PAGE_NAME,
        path,
        report=report,
        pictures=pictures,
        plots={
            "Mask Dice by super-category": plot_groups(groups["super_category"]),
            "The box and the mask of each answer": plot_box_and_mask(predictions),
        },
        columns=COLUMNS,
        further=FURTHER,
        words=WORDS,
        grouping_words=GROUPING_WORDS,
        faithfulness_words=FAITHFULNESS_WORDS,
        percent=percent,
        interval=interval,
        jitter=JITTER,
    )
    return path


def render_page(template_name: str, path: Path, **values: object) -> None:
    """Fill a template of this package and write it, whole or not at all; texts are escaped.

    Raises:
        MissingExtraError: Jinja is not installed.
    """
    pages.write_page(__package__, template_name, path, values)
