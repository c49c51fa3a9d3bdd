# SPDX-License-Identifier: Apache-2.0
"""Why no decision can be made."""

from __future__ import annotations

from medreasoner_infer.errors import InputError


class GateConfigError(InputError):
    """A setting of the gate is out of its range."""


class ScoresError(InputError):
    """Scores that do not belong together or are no scores."""


class TooFewHeldOutPatientsError(InputError):
    """The held-out samples come from too few patients to decide on."""


class GateReportError(InputError):
    """A file is no report of the gate."""
