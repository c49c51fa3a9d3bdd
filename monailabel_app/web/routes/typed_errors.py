# SPDX-License-Identifier: Apache-2.0
"""The route class of all routes: bodies are bounded, and every fault has a JSON answer."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import AwaitableOrContextManager

from medreasoner_infer.errors import InputError
from monailabel_app.common.door import decode_json, faults
from monailabel_app.common.http_errors import as_http_error
from monailabel_app.web.routes.serving import attended, in_own_thread

logger = logging.getLogger(__name__)

_UNUSABLE = 422
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def withhold(request: Request, text: str | None) -> None:
    """Keep ``text`` (the question) out of the log should the request fail."""
    request.state.withheld = text


# Parts of a multipart body: a label comes with its params.
FORM_LIMITS = {"max_files": 4, "max_fields": 16, "max_part_size": 1 << 20}


class BoundedRequest(Request):
    """A request whose JSON is within the door's bounds, and whose form has few parts."""

    form_limits: ClassVar[dict[str, int]] = FORM_LIMITS

    def form(self, **limits: Any) -> AwaitableOrContextManager[FormData]:
        """The form, with our limits where FastAPI gives none."""
        return super().form(**{**self.form_limits, **limits})

    async def json(self) -> Any:
        """The body as Python values.

        Raises:
            HTTPException: 422 if it is no JSON or goes beyond a bound.
        """
        try:
            return decode_json(await self.body(), "the body")
        except InputError as error:
            # FastAPI lets no other exception through here.
            raise HTTPException(422, detail=str(error)) from None


class TypedErrorRoute(APIRoute):
    """Answers as :mod:`monailabel_app.common.http_errors` says; nothing ends as a plain-text 500.

    A handler that is no coroutine gets a thread of its own, for as long as its caller waits.
    """

    request_class: ClassVar[type[BoundedRequest]] = BoundedRequest

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not inspect.iscoroutinefunction(endpoint):
            endpoint = in_own_thread(endpoint)
            watched = Depends(attended, scope="function")
            options["dependencies"] = [*(options.get("dependencies") or ()), watched]
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        """Wrap FastAPI's handler."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            bounded = self.request_class(request.scope, request.receive)
            try:
                return await handler(bounded)
            except HTTPException as error:
                self._log(error.status_code, error)
                raise
            except RequestValidationError as error:
                # What was sent is not repeated: it may be a question, or no valid Unicode.
                sentence = f"The request cannot be used: {faults(error.errors())}"
                self._log(422, error)
                raise HTTPException(422, detail=sentence) from None
            except Exception as error:  # noqa: BLE001 - the boundary: each fault has an answer
                answer = as_http_error(error, getattr(bounded.state, "withheld", None))
                self._log(answer.status_code, error)
                raise answer from None

        return handle

    def _log(self, status: int, error: Exception) -> None:
        """Tell of a request that cannot be used, by route and kind, without anything of it."""
        if status == _UNUSABLE:
            methods = ",".join(sorted(self.methods or ()))
            logger.warning("%s %s: %d (%s)", methods, self.path, status, type(error).__name__)
