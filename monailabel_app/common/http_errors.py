# SPDX-License-Identifier: Apache-2.0
"""Every error as an HTTP answer: JSON ``{"detail": sentence}``, as MONAI Label's viewers show it.

========================================  ======
error                                     status
========================================  ======
nothing of that name or id                404
not beside what goes on already           409
any other :class:`InputError`             422
:class:`CancelledError`                   499
a model, the PACS, the disk unavailable   503
no sense in the answer of model or PACS   502
no end of the PACS's answer               504
anything unexpected                       500
========================================  ======
"""

from __future__ import annotations

import errno
import logging
import traceback
import uuid

from fastapi import HTTPException
from fastapi.responses import JSONResponse

from medreasoner_infer.errors import (
    AnswerError,
    CancelledError,
    InputError,
    MissingExtraError,
    ServiceError,
)
from monailabel_app.errors import (
    ConflictError,
    NotFoundError,
    PacsAnswerError,
    PacsTimeoutError,
    ServerBusyError,
)

logger = logging.getLogger(__name__)

CLIENT_CLOSED_REQUEST = 499
BUSY_RETRY_S = 10
SERVICE_RETRY_S = 60

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (InputError, 422),
    (CancelledError, CLIENT_CLOSED_REQUEST),
    (AnswerError, 502),
    (PacsAnswerError, 502),
    (PacsTimeoutError, 504),
    (ServiceError, 503),
    (MissingExtraError, 503),
)


def as_http_error(error: Exception, withhold: str | None = None) -> HTTPException:
    """The HTTP answer for ``error``.

    Args:
        withhold: text that must not reach the log (the question).
    """
    if isinstance(error, HTTPException):
        return error
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return HTTPException(status, detail=str(error), headers=_headers(error, status))
    if isinstance(error, OSError):
        return _refer(error, 503, "The server cannot read or write a file that it needs", withhold)
    return _refer(error, 500, "The server met an unexpected fault", withhold)


def error_response(error: HTTPException) -> JSONResponse:
    """The answer's body and headers, as FastAPI itself would send them."""
    return JSONResponse(
        {"detail": error.detail}, status_code=error.status_code, headers=error.headers
    )


def _headers(error: Exception, status: int) -> dict[str, str] | None:
    if status != 503:
        return None
    seconds = BUSY_RETRY_S if isinstance(error, ServerBusyError) else SERVICE_RETRY_S
    return {"Retry-After": str(seconds)}


def _refer(error: Exception, status: int, sentence: str, withhold: str | None) -> HTTPException:
    reference = uuid.uuid4().hex[:12]
    logger.error("Fault %s\n%s", reference, _trace(error))
    detail = f"{sentence}; tell the administrator the reference {reference}."
    return HTTPException(status, detail=detail, headers=_headers(error, status))


def _trace(error: BaseException) -> str:
    """Where a fault came from, and of which types; its texts may hold a question or a path."""
    cause = error.__cause__ or error.__context__
    before = "" if cause is None or cause is error else f"{_trace(cause)}, then:\n"
    number = f" {errno.errorcode.get(error.errno or 0, '')}" if isinstance(error, OSError) else ""
    return (
        f"{before}{''.join(traceback.format_tb(error.__traceback__))}{type(error).__name__}{number}"
    )
