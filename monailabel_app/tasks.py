# SPDX-License-Identifier: Apache-2.0
"""The two models that MONAI Label's viewers list."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monailabel_app.answering import Answer, AnsweringService, Cancelled
from monailabel_app.framework import BatchInferTask, InferTask, InferType
from monailabel_app.outputs import result_params, write_result
from monailabel_app.params import PLANE_CHOICES, InferParams
from monailabel_app.segments import LABEL_VALUE, SEGMENT_NAME
from monailabel_app.studies.source import ImageSource

ASK_TASK = "medreasoner"
CLICK_TASK = "medreasoner_click"
CALL_KEY = "medreasoner_call"

# Shown by the viewers as an option each; a list becomes a choice with its first entry as default.
_OPTIONS: dict[str, Any] = {
    "query": "",
    "plane": list(PLANE_CHOICES),
    "window": "",
    "slice": "",
    "position": "",
    "propagate": False,
    "samples": 1,
}


@dataclass(frozen=True)
class Call:
    """What the app tells a task besides the client's params; no client can send one.

    Without ``wants_mask`` no file is written, as for ``output=json``.
    """

    source: ImageSource
    cancelled: Cancelled | None = None
    wants_mask: bool = True


class _ViewerTask(InferTask):  # type: ignore[misc]
    """What both tasks have in common: the options, and an answer in MONAI Label's form."""

    def __init__(
        self, service: AnsweringService, type: InferType, dimension: int, description: str
    ) -> None:
        super().__init__(
            type=type,
            labels={SEGMENT_NAME: LABEL_VALUE},
            dimension=dimension,
            description=description,
            config=_OPTIONS,
        )
        self._service = service

    def is_valid(self) -> bool:
        """Models are loaded at first use, so the task is always offered."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """The mask's file and the params of :func:`monailabel_app.outputs.result_params`."""
        params = InferParams.parse(request)
        call = _call_of(request)
        return _reply(self._answer(call, params), call, params)

    @abstractmethod
    def _answer(self, call: Call, params: InferParams) -> Answer:
        """Let the service answer."""


class AskTask(_ViewerTask):
    """Answers a clinical question: reasoning, box, key points and mask."""

    def __init__(self, service: AnsweringService) -> None:
        super().__init__(
            service,
            InferType.SEGMENTATION,
            3,
            "Type a clinical question into 'query'; the model reasons, then segments.",
        )

    def _answer(self, call: Call, params: InferParams) -> Answer:
        return self._service.ask(ASK_TASK, call.source, params, call.cancelled)


class ClickTask(_ViewerTask):
    """Segments what the reader clicks on; with a question the model reasons there first."""

    def __init__(self, service: AnsweringService) -> None:
        super().__init__(
            service,
            InferType.DEEPGROW,
            2,
            "Click on the target; a question in 'query' is asked on the same slice.",
        )

    def _answer(self, call: Call, params: InferParams) -> Answer:
        answer = self._service.segment if params.query is None else self._service.ask
        return answer(CLICK_TASK, call.source, params, call.cancelled)


class OneByOne(BatchInferTask):  # type: ignore[misc]
    """Batch inference on one device: the pipeline chose it, and runs one inference at a time.

    MONAI Label would spread the images over the GPUs, and fails where there is none.
    """

    def __call__(self, request: Mapping[str, Any], *args: Any) -> dict[str, Any]:
        """Answer the request for each image in turn."""
        single = {**request, "multi_gpu": False, "max_workers": 1}
        answers: dict[str, Any] = super().__call__(single, *args)
        return answers


def _call_of(request: Mapping[str, Any]) -> Call:
    call = request.get(CALL_KEY)
    if isinstance(call, Call):
        return call
    return Call(ImageSource(Path(request["image"])))


def _reply(answer: Answer, call: Call, params: InferParams) -> tuple[str | None, dict[str, Any]]:
    reply = result_params(answer.result)
    if not call.wants_mask:
        return None, reply
    name = call.source.path.name
    path = write_result(answer.result.mask_ijk, answer.volume, name, params.output)
    return str(path), reply
