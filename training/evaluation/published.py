# SPDX-License-Identifier: Apache-2.0
"""The figures of the paper, beside which a report sets its own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

PERCENT = 100.0


@dataclass(frozen=True)
class PublishedRow:
    """A model's published means: IoU and Dice 0...1, pDice as released 0...2."""

    name: str
    box_iou: float
    pdice_as_released: float
    dice: float


@dataclass(frozen=True)
class Published:
    """What is published, and on what; ``super_categories`` are MedReasoner's columns, 0...1."""

    source: str
    rows: tuple[PublishedRow, ...]
    super_categories: dict[str, float]


def published() -> Published:
    """The published figures, as shares and not in percent."""
    text = files("medreasoner_training.evaluation").joinpath("published.yaml").read_text("utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    rows = [
        PublishedRow(**{k: v if k == "name" else v / PERCENT for k, v in row.items()})
        for row in table["rows"]
    ]
    columns = {name: value / PERCENT for name, value in table["super_categories"].items()}
    return Published(table["source"], tuple(rows), columns)
