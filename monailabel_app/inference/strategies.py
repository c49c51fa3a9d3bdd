# SPDX-License-Identifier: Apache-2.0
"""Which image is offered next to a reader who labels one after the other."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from monailabel_app.framework import Datastore, Strategy

STRATEGY = "random"


class OfferedImages(Strategy):
    """A random one of the images that were offered least often since the server was started.

    MONAI Label's own strategy writes who was offered what into the image's info, where a client
    may have written before, and logs it.
    """

    def __init__(self) -> None:
        super().__init__("A random image, those not offered before first")
        self._lock = threading.Lock()
        self._offered: dict[str, int] = {}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """As MONAI Label calls a strategy."""
        image_id = self.next(datastore.get_unlabeled_images())
        return None if image_id is None else {"id": image_id}

    def next(self, images: Sequence[str]) -> str | None:
        """One of ``images``, which counts as offered; ``None`` where there is none."""
        with self._lock:
            self._offered = {image: self._offered.get(image, 0) for image in images}
            if not images:
                return None
            least = min(self._offered.values())
            least_often = [i for i, count in self._offered.items() if count == least]
            chosen = random.choice(least_often)  # nosec B311 # guards nothing
            self._offered[chosen] += 1
            return chosen
