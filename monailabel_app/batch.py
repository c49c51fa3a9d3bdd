# SPDX-License-Identifier: Apache-2.0
"""One question asked of many images, one after the other, in a thread of the server."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from medreasoner_infer.errors import CancelledError, MedReasonerError
from monailabel_app.errors import ConflictError, NotFoundError
from monailabel_app.params import InferParams
from monailabel_app.tasks import Call

if TYPE_CHECKING:
    from monailabel_app.app import MedReasonerApp

logger = logging.getLogger(__name__)

_RUNNING, _DONE, _STOPPED, _ERROR = "RUNNING", "DONE", "STOPPED", "ERROR"
_LAST_LINES = 20


class BatchRun:
    """The latest batch of an app; its status has the form of MONAI Label's tasks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._status: dict[str, Any] | None = None
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

    def start(
        self,
        app: MedReasonerApp,
        model: str,
        images: Sequence[str],
        params: InferParams,
        save_as: str,
    ) -> dict[str, Any]:
        """Begin to ask.

        Raises:
            UnknownTaskError: if there is no such model.
            ConflictError: if a batch runs already.
        """
        app.task(model)
        with self._lock:
            if self._status is not None and self._status["status"] == _RUNNING:
                raise ConflictError("A batch runs already; stop it, or wait for its end.")
            self._stop.clear()
            self._details.clear()
            self._status = {
                "id": uuid.uuid4().hex,
                "status": _RUNNING,
                # Not the question: every reader may ask for the status.
                "request": {"model": model, "images": len(images)},
                "start_ts": _now(),
            }
        arguments = (app, model, images, params, save_as)
        threading.Thread(target=self._work, args=arguments, name="batch", daemon=True).start()
        return self.status()

    def stop(self) -> dict[str, Any]:
        """Stop at the next step.

        Raises:
            NotFoundError: if none was started.
        """
        self._stop.set()
        return self.status()

    def _work(
        self,
        app: MedReasonerApp,
        model: str,
        images: Sequence[str],
        params: InferParams,
        save_as: str,
    ) -> None:
        state = _ERROR
        try:
            failed = sum(
                not self._answer(app, model, image_id, number, len(images), params, save_as)
                for number, image_id in enumerate(images, start=1)
            )
            state = _ERROR if images and failed == len(images) else _DONE
        except CancelledError:
            state = _STOPPED
        finally:
            with self._lock:
                self._status = {**(self._status or {}), "status": state, "end_ts": _now()}

    def _answer(
        self,
        app: MedReasonerApp,
        model: str,
        image_id: str,
        number: int,
        total: int,
        params: InferParams,
        save_as: str,
    ) -> bool:
        if self._stop.is_set():
            raise CancelledError("The batch was stopped.")
        with app.scratch.place() as folder:
            try:
                source = app.image_source(image_id)
                call = Call(params, source, self._stop.is_set, folder)
                app.answer(model, call, save_as)
            except CancelledError:
                raise
            except MedReasonerError as error:
                # One image that cannot be read or answered does not end the others' turn.
                logger.warning("Image %d of %d of a batch: %s", number, total, error)
                self._tell(f"{number} of {total}: {error}")
                return False
        self._tell(f"{number} of {total}: answered")
        return True

    def _tell(self, line: str) -> None:
        with self._lock:
            self._details.append(line)


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")
