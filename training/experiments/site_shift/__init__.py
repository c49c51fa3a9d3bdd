# SPDX-License-Identifier: Apache-2.0
"""Synthetic sites: one as the reasoner knows it, one whose scanner and patients differ.

Patients are written as MONAI Label keeps what readers have approved, and a reasoner is measured on
those that it has not seen.
"""

from __future__ import annotations
