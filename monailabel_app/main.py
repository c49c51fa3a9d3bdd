# SPDX-License-Identifier: Apache-2.0
"""What ``monailabel start_server --app <this folder>`` loads; the app is in ``app.py``."""

from __future__ import annotations

from monailabel_app.app import MedReasonerApp

__all__ = ["MedReasonerApp"]
