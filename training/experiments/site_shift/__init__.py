# SPDX-License-Identifier: Apache-2.0
"""An experiment: a site whose scanner and patients differ from those that a reasoner knows.

Synthetic patients are written as MONAI Label keeps what readers have approved; whoever tunes a
reasoner on them measures it here, on patients of both sites that it has not seen. The whole
experiment is ``benchmarks/site_shift.py``.
"""

from __future__ import annotations
