# SPDX-License-Identifier: Apache-2.0
"""One question asked of many images, one after the other, in a thread of the server."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from medreasoner_infer.errors import CancelledError, InputError, MedReasonerError
from medreasoner_infer.hooks import Hooks
from monailabel_app.errors import ConflictError, NotFoundError
from monailabel_app.inference.call import Call
from monailabel_app.inference.params import InferParams
from monailabel_app.inference.replies import answer_file, keep_as_label
from monailabel_app.inference.service import AnsweringService
from monailabel_app.site.opening import Site

logger = logging.getLogger(__name__)

_RUNNING, _DONE, _STOPPED, _ERROR = "RUNNING", "DONE", "STOPPED", "ERROR"
_LAST_LINES = 20


@dataclass(frozen=True)
class Batch:
    """What is asked of which images; each mask is kept as a label of the tag ``save_as``.

    Raises:
        InputError: the question follows up on an answer, which is one about one image.
    """

    model: str
    images: Sequence[str]
    params: InferParams
    save_as: str
    asked_by: str | None = None

    def __post_init__(self) -> None:
        if self.params.about is not None or self.params.about_inference is not None:
            raise InputError("'about' is of one image, and a batch asks many; leave it out.")


class BatchRun:
    """The latest batch of an app; its status has the form of MONAI Label's tasks."""

    def __init__(self, site: Site, answering: AnsweringService) -> None:
        self._site = site
        self._answering = answering
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._status: dict[str, Any] | None = None
        self._thread: threading.Thread | None = None
        self._details: deque[str] = deque(maxlen=_LAST_LINES)

    def status(self) -> dict[str, Any]:
        """Id, state and last lines.

        Raises:
            NotFoundError: if none was started.
        """
        with self._lock:
            if self._status is None:
                raise NotFoundError("No batch was started since the server was.")
            return {**self._status, "details": list(self._details)}

    def start(self, batch: Batch) -> dict[str, Any]:
        """Begin to ask.

        Raises:
            ConflictError: if a batch runs already.
        """
        with self._lock:
            if self._status is not None and self._status["status"] == _RUNNING:
                raise ConflictError("A batch runs already; stop it, or wait for its end.")
            self._stop.clear()
            self._details.clear()
            self._status = {
                "id": uuid.uuid4().hex,
                "status": _RUNNING,
                # Not the question: every reader may ask for the status.
                "request": {"model": batch.model, "images": len(batch.images)},
                "start_ts": _now(),
            }
        self._thread = threading.Thread(target=self._work, args=(batch,), name="batch", daemon=True)
        self._thread.start()
        return self.status()

    def stop(self) -> dict[str, Any]:
        """Stop at the next step.

        Raises:
            NotFoundError: if none was started.
        """
        self._stop.set()
        return self.status()

    def end(self) -> None:
        """Stop, and wait until what is being answered is kept or given up."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self, batch: Batch) -> None:
        state, answered = _ERROR, 0
        try:
            for number in range(len(batch.images)):
                answered += self._answer(batch, number)
            state = _DONE if answered or not batch.images else _ERROR
        except CancelledError:
            state = _STOPPED
        finally:
            with self._lock:
                self._status = {**(self._status or {}), "status": state, "end_ts": _now()}

    def _answer(self, batch: Batch, number: int) -> bool:
        if self._stop.is_set():
            raise CancelledError("The batch was stopped.")
        place = f"{number + 1} of {len(batch.images)}"
        try:
            with self._site.scratch.place() as folder:
                source = self._site.image_source(batch.images[number])
                call = Call(batch.model, source, batch.params, asked_by=batch.asked_by)
                answer = self._answering.answer(call, Hooks(cancelled=self._stop.is_set))
                file = answer_file(answer, call, folder)
                keep_as_label(self._site.studies, answer, call, file, batch.save_as)
        except CancelledError:
            raise
        except MedReasonerError as error:
            # One image that cannot be read or answered does not end the others' turn.
            logger.warning("Image %s of a batch: %s", place, error)
            self._tell(f"{place}: {error}")
            return False
        understood = answer.result.outcome != "not_understood"
        self._tell(f"{place}: {'answered' if understood else 'question not understood'}")
        return True

    def _tell(self, line: str) -> None:
        with self._lock:
            self._details.append(line)


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")
