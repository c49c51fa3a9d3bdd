# SPDX-License-Identifier: Apache-2.0
"""HTTP routes that replace or add to MONAI Label's."""

from __future__ import annotations

from monailabel_app.routes.install import install_routes

__all__ = ["install_routes"]
