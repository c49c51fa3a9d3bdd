# SPDX-License-Identifier: Apache-2.0
"""The questions of ``queries.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from .phantom.anatomy import Label


@dataclass(frozen=True)
class Target:
    """One thing that can be asked for: its name in the reasoning and its questions."""

    name: str
    stems: tuple[str, ...]
    trained: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class QueryTable:
    """All targets in label order, what may stand around a question, exchangeable imperatives."""

    targets: dict[Label, Target]
    prefixes: tuple[str, ...]
    suffixes: tuple[str, ...]
    verbs: tuple[str, ...]


@cache
def query_table() -> QueryTable:
    """Read ``queries.yaml`` (once)."""
    text = files(__package__).joinpath("queries.yaml").read_text(encoding="utf-8")
    table = yaml.safe_load(text)
    targets = {
        Label[label]: Target(
            entry["name"],
            tuple(entry["stems"]),
            tuple(entry["trained"]),
            tuple(entry["held_out"]),
        )
        for label, entry in table["targets"].items()
    }
    around = (tuple(table[key]) for key in ("prefixes", "suffixes", "verbs"))
    return QueryTable(targets, *around)


def known_targets() -> dict[Label, Target]:
    """Every target that can be asked for."""
    return query_table().targets
