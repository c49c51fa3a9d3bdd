# SPDX-License-Identifier: Apache-2.0
"""A page of the run's folder that shows what the model answers while it learns.

:class:`~medreasoner_training.finetune.watch.watching.Watching` writes it, from a record that lies
beside it. Both are off by default, since they show patients' images, and for their owner only.
"""

from __future__ import annotations

from medreasoner_training.finetune.watch.record import page_of

__all__ = ["page_of"]
