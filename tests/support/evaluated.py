# SPDX-License-Identifier: Apache-2.0
"""A reasoner that answers by the question, and a segmenter that fills the box."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np

from medreasoner_infer.errors import PromptError
from medreasoner_infer.reasoners.base import Reasoner, ground
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.types import ModelIdentity, ReasonerAnswer, SliceMask

IDENTITY = ModelIdentity("toy", "toy", None, "ab" * 32, "Apache-2.0", "Not for clinical use.")


def answer_text(box, first, second) -> str:
    return (
        f'<think>There.</think><answer>{{"bbox": {list(box)}, "points_1": {list(first)}, '
        f'"points_2": {list(second)}}}</answer>'
    )


class Scripted(Reasoner):
    """Completes a question with the text that ``texts`` has for it, in pixels of 84."""

    identity = IDENTITY
    input_size = 84
    image_encoding = "rgb"

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self.batches: list[int] = []

    def answer_batch(self, requests, *, cancelled=None):
        self.batches.append(len(requests))
        return super().answer_batch(requests, cancelled=cancelled)

    def _sample(self, request, count, on_text, cancelled):
        text = self.texts[request.query]
        grounding = ground(text, AnswerFrame(84), require_reasoning=False)
        return (ReasonerAnswer(text, grounding, None, 1),) * count


class BoxFiller:
    """The mask is the box; points alone become a square of 4 pixels around each."""

    identity = IDENTITY

    def __init__(self, takes_points: bool = True) -> None:
        self.takes_points = takes_points
        self.calls = 0

    def segment_slice(self, image, prompt):
        self.calls += 1
        if not self.takes_points and prompt.points_xy_px:
            raise PromptError("This segmenter takes a box only.")
        mask = np.zeros(image.shape_hw, bool)
        boxes = (
            [prompt.bbox_xyxy_px]
            if prompt.bbox_xyxy_px is not None
            else [(x - 2, y - 2, x + 2, y + 2) for x, y in prompt.points_xy_px]
        )
        for box in boxes:
            x1, y1, x2, y2 = (round(max(edge, 0)) for edge in box)
            mask[y1:y2, x1:x2] = True
        return SliceMask(mask, 1.0)


class Fatal(BoxFiller):
    """Ends the process without a word at one of its masks."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.fatal_call = call

    def segment_slice(self, image, prompt):
        if self.calls == self.fatal_call:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().segment_slice(image, prompt)


def run_command(arguments: list[str], said: str) -> None:
    """``medreasoner`` with these arguments; what it says goes into the file ``said``."""
    from contextlib import redirect_stdout

    from monailabel_app.cli.app import app

    with open(said, "w", encoding="utf-8") as file, redirect_stdout(file):
        app(arguments)


def predict_until_killed(call: int, data: str, out: str, texts: dict[str, str]) -> None:
    from medreasoner_training.evaluation import Run, RunSettings, open_rows
    from medreasoner_training.evaluation.running import predict

    predict(Run(open_rows(data), Scripted(texts), Fatal(call), RunSettings(batch=2), Path(out)))
