# SPDX-License-Identifier: Apache-2.0
"""Results of questions, as small as they can be."""

from __future__ import annotations

import numpy as np

from medreasoner_infer.result import InferenceResult, MaskSummary, SliceChoice, SliceRecord
from medreasoner_infer.types import ModelIdentity

MODEL = ModelIdentity("toy", "packaged", None, "ab" * 32, "Apache-2.0")


def make_result(
    inference_id: str, second: int = 0, present: bool = True, outcome=None
) -> InferenceResult:
    return InferenceResult(
        inference_id=inference_id,
        created_at=f"2026-01-02T03:04:{second:02d}.000+00:00",
        kind="ask",
        query="Which organ makes bile?",
        reasoning="The liver does.",
        completion="<think>The liver does.</think>",
        present=present,
        outcome=outcome,
        confidence=0.5,
        agreement=None,
        samples=(),
        prompts=None,
        slice=SliceRecord("axial", 4, 9, (7, 5), (1.0, 1.0), (0.0, 0.0, 0.0), "soft", 40.0, 400.0),
        slice_choice=SliceChoice("index", "Slice 4 was asked for."),
        propagated=False,
        mask_ijk=np.zeros((5, 7, 9), dtype=np.uint8),
        mask=MaskSummary(0, 0.0, 0.0, None, None),
        modality="CT",
        reasoner=MODEL,
        segmenter=MODEL,
        timings_s={"reason": 0.25},
    )
