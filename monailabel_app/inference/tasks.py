# SPDX-License-Identifier: Apache-2.0
"""The two models that MONAI Label's viewers list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from monailabel_app.framework import InferTask, InferType
from monailabel_app.images.source import ImageSource
from monailabel_app.inference.call import ASK_TASK, CLICK_TASK, Call
from monailabel_app.inference.params import PLANE_CHOICES, InferBody, InferParams
from monailabel_app.inference.replies import answer_file, result_params
from monailabel_app.inference.service import AnsweringService
from monailabel_app.labels.segments import LABEL_VALUE, SEGMENT_NAME

# Shown by the viewers as an option each; a list becomes a choice with its first entry as default.
_OPTIONS: dict[str, Any] = {
    "query": "",
    "plane": list(PLANE_CHOICES),
    "window": "",
    "slice": "",
    "position": "",
    "propagate": False,
    "samples": 1,
    "removal_test": False,
}


class ViewerTask(InferTask):
    """A model as MONAI Label lists it: kind, options, labels."""

    def __init__(
        self,
        model: str,
        service: AnsweringService,
        type: InferType,
        dimension: int,
        description: str,
    ) -> None:
        super().__init__(
            type=type,
            labels={SEGMENT_NAME: LABEL_VALUE},
            dimension=dimension,
            description=description,
            config=_OPTIONS,
        )
        self._model = model
        self._service = service

    def is_valid(self) -> bool:
        """Models are loaded at first use, so the task is always offered."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """As MONAI Label calls a task, with options beside ``image``: a path, or its source."""
        image = request["image"]
        source = image if isinstance(image, ImageSource) else ImageSource(Path(image))
        call = Call(self._model, source, params_of(request))
        answer = self._service.answer(call)
        return str(answer_file(answer, call, Path(mkdtemp()))), result_params(answer.result)


def viewer_tasks(service: AnsweringService) -> dict[str, InferTask]:
    """Both models by their names; their weights are loaded at first use."""
    return {
        ASK_TASK: ViewerTask(
            ASK_TASK,
            service,
            InferType.SEGMENTATION,
            3,
            "Type a clinical question into 'query'; the model reasons, then segments.",
        ),
        CLICK_TASK: ViewerTask(
            CLICK_TASK,
            service,
            InferType.DEEPGROW,
            2,
            "Click on the target; a question in 'query' is asked on the same slice.",
        ),
    }


def params_of(request: Mapping[str, Any]) -> InferParams:
    """The options of a request that MONAI Label made, which holds keys of its own besides.

    Raises:
        InputError: if one of them cannot be used.
    """
    known = InferBody.model_fields.keys()
    return InferParams.parse({key: value for key, value in request.items() if key in known})
