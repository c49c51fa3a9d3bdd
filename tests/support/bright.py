# SPDX-License-Identifier: Apache-2.0
"""Models that find what is bright, for tests of all that lies around a model."""

from __future__ import annotations

import numpy as np

from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.types import Grounding, ModelIdentity, ReasonerAnswer, SliceMask

MODEL = ModelIdentity("toy", "packaged", None, "ab" * 32, "Apache-2.0")
SHAPE_IJK = (24, 20, 9)
BRIGHT_IJK = (slice(6, 14), slice(4, 12), slice(2, 7))


class BrightReasoner(Reasoner):
    """Points at what is brighter than the rest, or says that nothing is."""

    identity, input_size, image_encoding = MODEL, 120, "rgb"

    def _sample(self, request, count, on_text, cancelled):
        rows, columns = np.nonzero(request.image[..., 0] > 200)
        if not rows.size:
            return (ReasonerAnswer("text", Grounding("Dark.", None, None), 0.9, 3),) * count
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        x1, y1, x2, y2 = (float(edge) for edge in box)
        centre = ((x1 + x2) / 2, (y1 + y2) / 2)
        grounding = Grounding("Bright.", (x1, y1, x2, y2), (centre, centre))
        return (ReasonerAnswer("text", grounding, 0.9, 3),) * count


class BrightSegmenter:
    """What is bright, and each pixel that was clicked on."""

    identity = MODEL

    def segment_slice(self, image, prompt):
        mask = image.pixels.reshape(*image.pixels.shape[:2], -1).max(axis=2) > 200
        for (x, y), label in zip(prompt.points_xy_px, prompt.point_labels, strict=True):
            mask[int(y), int(x)] = label == 1
        return SliceMask(mask, 0.8)

    def propagate(self, frames, start_index, prompt, *, progress=None, cancelled=None):
        yield start_index, self.segment_slice(frames[start_index], prompt)
        for index in range(len(frames)):
            if index != start_index:
                yield index, SliceMask(frames[index].pixels > 200, 0.8)
