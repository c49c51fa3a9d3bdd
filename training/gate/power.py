# SPDX-License-Identifier: Apache-2.0
"""Which gain a comparison can show, told before anything is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import norm

from medreasoner_training.gate.config import GateConfig
from medreasoner_training.gate.levels import attempt_level, standard_errors

#: Standard deviation of patients' mean differences of box IoU where this store has measured none:
#: ten fine-tunings at a synthetic site had 0.06 to 0.11.
USUAL_PATIENT_SD = 0.10
PROMOTED_WITH = 0.8


@dataclass(frozen=True)
class Power:
    """What an attempt can show, by the normal approximation.

    Attributes:
        patients: held out, two or more.
        attempt: number of the comparison with the live model.
        patient_sd: standard deviation of patients' mean differences of the primary metric.
        measured: whether an earlier comparison of this store had that deviation; else it is
            :data:`USUAL_PATIENT_SD`.
        config: the gate's settings.
    """

    patients: int
    attempt: int
    patient_sd: float
    measured: bool
    config: GateConfig

    @property
    def true_gain(self) -> float:
        """The gain that is promoted with a probability of 80 %, if no guard is broken."""
        level = attempt_level(self.config, self.attempt)
        errors = standard_errors(level, self.patients) + float(norm.ppf(PROMOTED_WITH))
        return self.config.gain + errors * self.patient_sd / math.sqrt(self.patients)

    @property
    def sentence(self) -> str:
        """For whoever starts a training."""
        source = "as last measured here" if self.measured else "assumed"
        confidence = 1 - 2 * attempt_level(self.config, self.attempt)
        return (
            f"{self.patients} patients are held out. This will be attempt {self.attempt} against "
            f"the live model, judged at {confidence:.2%}: a true gain of {self.true_gain:+.3f} in "
            f"{self.config.primary} would be promoted with a probability of {PROMOTED_WITH:.0%} "
            f"(standard deviation of patients {self.patient_sd:.3f}, {source})."
        )
