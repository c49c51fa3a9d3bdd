# SPDX-License-Identifier: Apache-2.0
"""Whether a fine-tuned reasoner may replace the live one: a paired comparison on held-out samples.

Both models answer the same samples. :func:`decide` compares their scores sample by sample and
resamples whole *patients* for confidence intervals, since slices of one patient are no independent
evidence. It promotes the candidate only if it is surely better, the more surely the more candidates
were tried, and breaks no guard: it must not fail more often, forget how to say "not present", let a
single label down, or forget the site before. No model is loaded here, and no patient's identifier
leaves :class:`HeldOut`.
"""

from __future__ import annotations

from medreasoner_training.gate.config import GateConfig
from medreasoner_training.gate.decision import decide
from medreasoner_training.gate.errors import (
    GateConfigError,
    GateReportError,
    ScoresError,
    TooFewHeldOutPatientsError,
)
from medreasoner_training.gate.intervals import (
    Comparison,
    compare_paired,
    mean_with_interval,
)
from medreasoner_training.gate.levels import attempt_level
from medreasoner_training.gate.model_card import model_card_section
from medreasoner_training.gate.power import USUAL_PATIENT_SD, Power
from medreasoner_training.gate.report import GateReport, Reason
from medreasoner_training.gate.scores import (
    METRICS,
    HeldOut,
    Metric,
    ModelScores,
    PairedScores,
    metric_values,
)

__all__ = [
    "METRICS",
    "USUAL_PATIENT_SD",
    "Comparison",
    "GateConfig",
    "GateConfigError",
    "GateReport",
    "GateReportError",
    "HeldOut",
    "Metric",
    "ModelScores",
    "PairedScores",
    "Power",
    "Reason",
    "ScoresError",
    "TooFewHeldOutPatientsError",
    "attempt_level",
    "compare_paired",
    "decide",
    "mean_with_interval",
    "metric_values",
    "model_card_section",
]
