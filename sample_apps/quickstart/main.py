# SPDX-License-Identifier: Apache-2.0
"""MedReasoner with the small models that come with the package; runs on any computer."""

from __future__ import annotations

from monailabel_app.app import MedReasonerApp

__all__ = ["MedReasonerApp"]
