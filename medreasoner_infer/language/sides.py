# SPDX-License-Identifier: Apache-2.0
"""Names of targets with and without the patient's side."""

from __future__ import annotations

from medreasoner_infer.errors import InputError
from medreasoner_infer.language.grammar import SIDES
from medreasoner_infer.language.reading import vocabulary


def unsided(target: str) -> str:
    """The vocabulary's name of a target that may begin with the patient's side.

    Raises:
        InputError: the vocabulary does not hold it.
    """
    first, _, rest = target.partition(" ")
    known = vocabulary().targets
    if target in known:
        return target
    if first in SIDES and rest in known and known[rest].paired:
        return rest
    raise InputError(
        f"The target {target!r} is not in the clinical vocabulary; expected a name such as liver, "
        "left kidney or aorta."
    )
