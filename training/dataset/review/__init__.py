# SPDX-License-Identifier: Apache-2.0
"""People look at each row of a data set: a table and a page out, their decisions in."""

from __future__ import annotations

from medreasoner_training.dataset.review.deciding import Reviewed, apply_review
from medreasoner_training.dataset.review.page import write_review_page
from medreasoner_training.dataset.review.table import (
    Decision,
    as_cell,
    from_cell,
    read_decisions,
    write_review_table,
)

__all__ = [
    "Decision",
    "Reviewed",
    "apply_review",
    "as_cell",
    "from_cell",
    "read_decisions",
    "write_review_page",
    "write_review_table",
]
