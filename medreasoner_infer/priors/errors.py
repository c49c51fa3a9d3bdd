# SPDX-License-Identifier: Apache-2.0
"""Why two examinations cannot be compared; no message holds an identifier."""

from __future__ import annotations

from medreasoner_infer.errors import InputError


class PriorError(InputError):
    """The prior examination cannot be compared with the current one."""


class OtherPatientError(PriorError):
    """The examinations are of two patients, or nothing tells that they are of one."""


class NotComparableError(PriorError):
    """Modality, geometry or order in time of the examinations do not fit."""


class RegistrationError(PriorError):
    """The examinations could not be registered well enough to be trusted."""


class OutsidePriorError(PriorError):
    """The place in question was not examined by the prior examination."""
