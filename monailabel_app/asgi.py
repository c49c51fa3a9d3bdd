# SPDX-License-Identifier: Apache-2.0
"""For MONAI Label's own start, as its option ``--uvicorn_app monailabel_app.asgi:app``."""

from __future__ import annotations

from monailabel_app.web.secured_app import secured_app

app = secured_app()
