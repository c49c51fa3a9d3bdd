# SPDX-License-Identifier: Apache-2.0
"""The completion that supervised steps teach: a trace and the approved answer."""

from __future__ import annotations

import re

from medreasoner_infer.answer import format_answer
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.reasoners.prompts import PromptTemplate
from medreasoner_infer.scaling import rescale
from medreasoner_training.embedded.reasoner.reasonings import compact, position_in_words
from medreasoner_training.finetune.raw_samples import RawSample
from medreasoner_training.samples.naming import side_of, sides_in

_SPACED = '"bbox": ['
_HEIGHT = re.compile(
    r"\b(upper|lower|top|bottom)\b(?:[ -]\w+){0,2} of (?:the|this) (?:image|slice|picture)\b",
    re.IGNORECASE,
)


def completion_of(sample: RawSample, template: PromptTemplate, frame: AnswerFrame) -> str:
    """The approved answer behind the stored trace, or behind one from a template.

    A stored trace that contradicts the approved answer, which a reader may have corrected, is not
    taught (:func:`contradicts`).

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
    if sample.reasoning and not contradicts(sample.reasoning, sample):
        return sample.reasoning
    name = sample.label.replace("_", " ").lower()
    if sample.truth is None:
        return f"The question points to the {name}, which is not visible on this slice."
    x1, y1, x2, y2 = sample.truth.bbox_xyxy_px
    where = position_in_words((x1 + x2) / 2, (y1 + y2) / 2, len(sample.image))
    return f"The question points to the {name}, a region in the {where} of the image."


def contradicts(trace: str, sample: RawSample) -> bool:
    """Whether a trace speaks of another side than the target's.

    A side of the patient is compared with the target's name, a side of the image (left, right,
    upper, lower) with the true box, which must not lie in the other half as a whole. A trace that
    names both sides says nothing.
    """
    told = set(sides_in(trace))
    own = side_of(sample.label)
    of_patient = {side for side, of_image in told if not of_image}
    if own is not None and of_patient and own not in of_patient:
        return True
    if sample.truth is None:
        return False
    x1, y1, x2, y2 = sample.truth.bbox_xyxy_px
    across = {side for side, of_image in told if of_image}
    heights = {word.lower() for word in _HEIGHT.findall(trace)}
    down = {"low" if word in ("lower", "bottom") else "up" for word in heights}
    middle = len(sample.image) / 2
    return (
        (across == {"left"} and x1 >= middle)
        or (across == {"right"} and x2 <= middle)
        or (down == {"up"} and y1 >= middle)
        or (down == {"low"} and y2 <= middle)
    )
