# SPDX-License-Identifier: Apache-2.0
"""Whether an answer's reasoning holds, as far as pixels, mask and geometry can tell.

:mod:`.statements` finds what a trace says of the image, :mod:`.verdicts` tests it by the
:mod:`.measures`, and :mod:`.removal` asks again where the region that was pointed at is gone.
"""

from __future__ import annotations

from medreasoner_infer.checks_record import (
    Checks,
    RemovalTest,
    StatementCheck,
    StatementKind,
    Verdict,
)

__all__ = ["Checks", "RemovalTest", "StatementCheck", "StatementKind", "Verdict"]
