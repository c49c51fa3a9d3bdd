# SPDX-License-Identifier: Apache-2.0
"""The outermost place where a fault of the server is turned into an answer."""

from __future__ import annotations

import logging

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monailabel_app.common.http_errors import as_http_error, error_response

logger = logging.getLogger(__name__)


class AnswerEndedError(Exception):
    """An answer that had begun cannot be finished; makes the server close the connection."""


class FaultBoundary:
    """Answers what nobody else has answered, and logs it without what it is about.

    Starlette's own boundary raises a fault again once it is answered; uvicorn then logs its text,
    which may hold a question or a path. It also stands outside the security headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            # Whom to answer has left, or was too slow; there is nothing to tell the log.
            return
        except Exception as error:  # noqa: BLE001 - the boundary: each fault has an answer
            withheld = scope.get("state", {}).get("withheld")
            answer = error_response(as_http_error(error, withheld))
            if begun:
                raise AnswerEndedError("the answer had begun") from None
            await answer(scope, receive, send)
