# SPDX-License-Identifier: Apache-2.0
"""Readers: one for each format, all into one row type."""

from __future__ import annotations

from medreasoner_training.evaluation.readers.opening import open_rows

__all__ = ["open_rows"]
