# SPDX-License-Identifier: Apache-2.0
"""The recorded answer that a follow-up question goes on from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medreasoner_infer.imaging import Volume
from medreasoner_infer.result import Inference, InferenceResult
from monailabel_app.inference.correction import SentMask, kept_mask


@dataclass(frozen=True)
class EarlierRecord:
    """A recorded answer, and its mask as it was inferred or as the reader has corrected it."""

    answer: Inference
    mask_file: Path
    corrected: SentMask | None = None

    def result(self, volume: Volume) -> InferenceResult:
        """The answer with its mask on the grid of ``volume``.

        Of a corrected mask the further answers of the model tell nothing, and are left out.

        Raises:
            InputError: it is about another image.
        """
        mask = kept_mask(self.mask_file, volume, "about_inference")
        if self.corrected is None:
            return InferenceResult.of(self.answer, (mask != 0).astype(np.uint8))
        corrected = self.corrected.on_grid(volume).astype(np.uint8)
        return InferenceResult.of(replace(self.answer, samples=()), corrected)
