# SPDX-License-Identifier: Apache-2.0
"""Which split of a data set is taken."""

from __future__ import annotations

from collections.abc import Collection

from medreasoner_training.evaluation.errors import EvaluationDataError

ALL = "all"
_BY_DEFAULT = ("test", "validation")


def chosen_split(splits: Collection[str], wanted: str | None) -> str:
    """The split to take: the wanted one, else ``test``, else ``validation``, else ``all``.

    Args:
        splits: that the data set has; an empty name is of rows that belong to none.
        wanted: by the user.

    Raises:
        EvaluationDataError: there is no such split.
    """
    if wanted is None:
        return next((name for name in _BY_DEFAULT if name in splits), ALL)
    if wanted != ALL and wanted not in splits:
        has = ", ".join(sorted(name for name in splits if name)) or "none"
        raise EvaluationDataError(f"The data set has no split {wanted!r}; it has: {has}.")
    return wanted
