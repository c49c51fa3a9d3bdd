# SPDX-License-Identifier: Apache-2.0
"""The completion that supervised steps teach: a trace and the approved answer."""

from __future__ import annotations

from medreasoner_infer.answer import format_answer
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.reasoners.prompts import PromptTemplate
from medreasoner_infer.scaling import rescale
from medreasoner_training.embedded.reasoner.reasonings import compact, position_in_words
from medreasoner_training.finetune.raw_samples import RawSample

_SPACED = '"bbox": ['


def completion_of(sample: RawSample, template: PromptTemplate, frame: AnswerFrame) -> str:
    """The approved answer behind the stored trace, or behind one from a template.

    Coordinates are whole numbers as the model's family writes them, and the left key point comes
    first, so that equal targets have equal answers. JSON is spaced as the prompt shows it; a prompt
    that shows no format belongs to a model that answers without spaces, as the embedded one does.

    Args:
        sample: the sample, on any square.
        template: the served prompt.
        frame: how the model writes coordinates.
    """
    trace = _trace(sample) if template.asks_reasoning else ""
    if sample.truth is None:
        return format_answer(trace, None, None)
    truth = rescale(sample.truth, frame.units / len(sample.image))
    box = [round(value) for value in truth.bbox_xyxy_px]
    box[2], box[3] = max(box[2], box[0] + 1), max(box[3], box[1] + 1)
    points = sorted([int(x), int(y)] for x, y in truth.points_xy_px)
    text = format_answer(trace, frame.ordered(box), [frame.ordered(point) for point in points])
    return text if _SPACED in template.user_template + template.system else compact(text)


def _trace(sample: RawSample) -> str:
    if sample.reasoning:
        return sample.reasoning
    name = sample.label.replace("_", " ").lower()
    if sample.truth is None:
        return f"The question points to the {name}, which is not visible on this slice."
    x1, y1, x2, y2 = sample.truth.bbox_xyxy_px
    where = position_in_words((x1 + x2) / 2, (y1 + y2) / 2, len(sample.image))
    return f"The question points to the {name}, a region in the {where} of the image."
