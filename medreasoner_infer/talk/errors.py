# SPDX-License-Identifier: Apache-2.0
"""What a question may fail to refer to."""

from __future__ import annotations

from medreasoner_infer.errors import MedReasonerError


class NotResolved(MedReasonerError):
    """What a question refers to cannot be told; the message tells the reader what is missing.

    It never leaves :mod:`medreasoner_infer.talk`, where it becomes an answer that says that the
    question was not understood.
    """
