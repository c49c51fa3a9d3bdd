# SPDX-License-Identifier: Apache-2.0
"""The tab in the OHIF viewer: plain JavaScript modules in ``static/``, served as they are."""

from __future__ import annotations

from pathlib import Path

STATIC_FOLDER = Path(__file__).parent / "static"
STATIC_PATH = "/medreasoner/ohif"
