# SPDX-License-Identifier: Apache-2.0
"""Targets that are certainly absent from an image."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from importlib.resources import files

import yaml

from medreasoner_training.dataset.targets import named_target


def absent_targets(modality: str, shown: Collection[str]) -> tuple[str, ...]:
    """Targets that an image of the modality cannot show, in the order of ``absent.yaml``.

    Masks that are missing say nothing: nobody may have looked for their labels.

    Args:
        modality: in the data set's words; of an unknown one nothing is certain.
        shown: names of what is marked on the image, which is left out even so.
    """
    marked = {named_target(name).name for name in shown}
    found = _table().get(modality.strip().lower(), ())
    return tuple(name for name in found if not _is_marked(name, marked))


def _is_marked(name: str, marked: Collection[str]) -> bool:
    target = named_target(name).target
    return any(named_target(other).target is target or other == name for other in marked)


@cache
def _table() -> Mapping[str, tuple[str, ...]]:
    text = files(__package__).joinpath("absent.yaml").read_text(encoding="utf-8")
    return {
        modality: tuple(entry["absent"])
        for entry in yaml.safe_load(text)
        for modality in entry["modalities"]
    }
