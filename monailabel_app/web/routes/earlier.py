# SPDX-License-Identifier: Apache-2.0
"""Recorded answers that a request goes on from, of the same image, if the caller may see them."""

from __future__ import annotations

from pathlib import Path

from medreasoner_infer.errors import InputError
from medreasoner_infer.result import Inference
from monailabel_app.errors import UnknownRecordError
from monailabel_app.images.source import ImageSource
from monailabel_app.inference.correction import SentMask
from monailabel_app.inference.earlier import EarlierRecord
from monailabel_app.inference.params import QuestionBody
from monailabel_app.web.routes.callers import Caller
from monailabel_app.web.routes.records import visible_record
from monailabel_app.web.services import Services


def kept_answer(
    caller: Caller, app: Services, source: ImageSource, inference_id: str, key: str
) -> tuple[Inference, Path]:
    """A recorded answer on an image, and where its mask is.

    Raises:
        UnknownRecordError: there is none that the caller may see, or its mask is not kept.
        InputError: it is about another image.
    """
    record = visible_record(caller, app.site.records, inference_id)
    if record.image_id != source.image_id:
        raise InputError(f"The answer that '{key}' names is about another image.")
    if record.mask_file is None:
        raise UnknownRecordError("The mask of this inference is not kept any more; ask again.")
    return record.result, record.mask_file


def earlier_record(
    caller: Caller, app: Services, source: ImageSource, body: QuestionBody
) -> EarlierRecord | None:
    """What a question goes on from, where its body names a recorded answer.

    Raises:
        UnknownRecordError: as :func:`kept_answer`.
        InputError: likewise; or a mask is sent without the answer that it is of.
    """
    mask = body.about_mask
    if body.about_inference is None:
        if mask is not None:
            raise InputError("'about_mask' goes with the 'about_inference' that it is the mask of.")
        return None
    answer, file = kept_answer(caller, app, source, body.about_inference, "about_inference")
    corrected = None if mask is None else SentMask(mask.shape_ijk, mask.runs)
    return EarlierRecord(answer, file, corrected)
