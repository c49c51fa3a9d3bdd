# SPDX-License-Identifier: Apache-2.0
"""The two models that MONAI Label's viewers list."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from monailabel_app.framework import InferTask, InferType
from monailabel_app.images.source import ImageSource
from monailabel_app.inference.outputs import result_params, write_result
from monailabel_app.inference.params import PLANE_CHOICES, InferBody, InferParams
from monailabel_app.inference.service import Answer, AnsweringService, Cancelled
from monailabel_app.labels.segments import LABEL_VALUE, SEGMENT_NAME

ASK_TASK = "medreasoner"
CLICK_TASK = "medreasoner_click"

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
    """One use of a task.

    The mask's file is written to ``mask_folder``; none is without it, as for ``output=json``.
    ``asked_by`` is the reader who is logged in.
    """

    params: InferParams
    source: ImageSource
    cancelled: Cancelled | None = None
    mask_folder: Path | None = None
    asked_by: str | None = None


class ViewerTask(InferTask):  # type: ignore[misc]
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
        """As MONAI Label calls a task: ``request["image"]`` is a path, other keys are options."""
        source = ImageSource(Path(request["image"]))
        return self.answer(Call(params_of(request), source, mask_folder=Path(mkdtemp())))

    def answer(self, call: Call) -> tuple[str | None, dict[str, Any]]:
        """The mask's file and what :func:`~.outputs.result_params` tells of it."""
        return _reply(self._answer(call), call)

    @abstractmethod
    def _answer(self, call: Call) -> Answer:
        """Let the service answer."""


class AskTask(ViewerTask):
    """Answers a clinical question: reasoning, box, key points and mask."""

    def __init__(self, service: AnsweringService) -> None:
        super().__init__(
            service,
            InferType.SEGMENTATION,
            3,
            "Type a clinical question into 'query'; the model reasons, then segments.",
        )

    def _answer(self, call: Call) -> Answer:
        return self._service.ask(ASK_TASK, call.source, call.params, call.cancelled, call.asked_by)


class ClickTask(ViewerTask):
    """Segments what the reader clicks on; with a question the model reasons there first."""

    def __init__(self, service: AnsweringService) -> None:
        super().__init__(
            service,
            InferType.DEEPGROW,
            2,
            "Click on the target; a question in 'query' is asked on the same slice.",
        )

    def _answer(self, call: Call) -> Answer:
        answer = self._service.segment if call.params.query is None else self._service.ask
        return answer(CLICK_TASK, call.source, call.params, call.cancelled, call.asked_by)


def params_of(request: Mapping[str, Any]) -> InferParams:
    """The options of a request that MONAI Label made, which holds keys of its own besides.

    Raises:
        InputError: if one of them cannot be used.
    """
    known = InferBody.model_fields.keys()
    return InferParams.parse({key: value for key, value in request.items() if key in known})


def _reply(answer: Answer, call: Call) -> tuple[str | None, dict[str, Any]]:
    reply = result_params(answer.result)
    if call.mask_folder is None:
        return None, reply
    name, output = call.source.path.name, call.params.output
    path = write_result(answer.result.mask_ijk, answer.volume, name, output, call.mask_folder)
    return str(path), reply
