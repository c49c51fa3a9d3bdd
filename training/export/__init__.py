# SPDX-License-Identifier: Apache-2.0
"""Trained reasoners in the form in which others load them."""

from __future__ import annotations

from medreasoner_training.export.merge import MergeError, merge_adapter

__all__ = ["MergeError", "merge_adapter"]
