# SPDX-License-Identifier: Apache-2.0
"""Pages for reading without a PACS, and for what to do when the PACS is down; no scripts."""

from __future__ import annotations

from pathlib import Path

TEMPLATES = Path(__file__).parent
