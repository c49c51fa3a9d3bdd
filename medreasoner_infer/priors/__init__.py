# SPDX-License-Identifier: Apache-2.0
"""Comparing an examination with a prior one of the same patient.

:func:`compare` asks both the same question, on the slices that correspond by patient position or by
registration, and tells the change of the sizes with its uncertainty. Its records are in
:mod:`medreasoner_infer.change`.
"""

from __future__ import annotations

from medreasoner_infer.priors.alignment import align, corresponding
from medreasoner_infer.priors.comparing import Comparison, compare, measured_change
from medreasoner_infer.priors.errors import (
    NotComparableError,
    OtherPatientError,
    OutsidePriorError,
    PriorError,
    RegistrationError,
)
from medreasoner_infer.priors.examination import (
    Examination,
    ExaminationFacts,
    is_same_patient,
    read_facts,
)

__all__ = [
    "Comparison",
    "Examination",
    "ExaminationFacts",
    "NotComparableError",
    "OtherPatientError",
    "OutsidePriorError",
    "PriorError",
    "RegistrationError",
    "align",
    "compare",
    "corresponding",
    "is_same_patient",
    "measured_change",
    "read_facts",
]
