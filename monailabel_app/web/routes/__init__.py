# SPDX-License-Identifier: Apache-2.0
"""All HTTP routes of the server; none of MONAI Label's is left."""

from __future__ import annotations

from monailabel_app.web.routes.install import install_routes

__all__ = ["install_routes"]
