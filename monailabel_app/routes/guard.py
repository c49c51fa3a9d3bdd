# SPDX-License-Identifier: Apache-2.0
"""Refusing what would leave the studies, what only an administrator may do, and open doors.

MONAI Label joins image ids, label tags and session ids to folders, and leaves reloading, its log
and the weights to anyone. These routes stand before all others and match only what must be
refused; the rest falls through to the routes behind them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from urllib.parse import parse_qsl, unquote

from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from monailabel_app.security.exposure import is_from_network

_NAMES = frozenset({"image", "label", "id", "tag", "session_id"})
_SEPARATORS = ("/", "\\", "\0")
# First segment of a path, and the methods that are closed below it.
_CLOSED_BELOW = {
    "reload": frozenset({"POST"}),
    "logs": frozenset({"GET", "HEAD"}),
    "model": frozenset({"GET", "HEAD", "PUT", "DELETE"}),
    "datastore": frozenset({"DELETE"}),
    "scoring": frozenset({"POST", "DELETE"}),
}
_CLOSED_PATHS = frozenset({"/datastore/dataset"})
_TRUE = frozenset({"1", "true", "yes", "on", "t", "y"})


class Refusal(BaseRoute, ABC):
    """Answers what :meth:`refuses` with ``status`` and a sentence."""

    status: int
    detail: str

    @abstractmethod
    def refuses(self, scope: Scope) -> bool:
        """Whether this request must be refused."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match only what must be refused."""
        if scope["type"] == "http" and self.refuses(scope):
            return Match.FULL, {}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse."""
        await JSONResponse({"detail": self.detail}, status_code=self.status)(scope, receive, send)


class PathGuard(Refusal):
    """Paths with ``..`` and names with a path separator."""

    status = 404
    detail = "Nothing of this name is here; ids and tags hold no path."

    def refuses(self, scope: Scope) -> bool:
        """Whether the path climbs, or an id is a path."""
        return _climbs(scope) or _names_a_path(scope)


class ArchiveGuard(Refusal):
    """Sessions from archives: MONAI Label unpacks a tar with members such as ``../x``."""

    status = 422
    detail = "Archives are not unpacked here; send the image's files one by one."

    def refuses(self, scope: Scope) -> bool:
        """Whether the request asks to unpack what it uploads."""
        return scope["path"].startswith("/session") and any(
            name == "uncompress" and value.lower() in _TRUE for name, value in _query(scope)
        )


class AdminGuard(Refusal):
    """Routes that reload the app, read its log, exchange weights, or take or delete all images."""

    status = 403
    detail = (
        "This belongs to the administrator, who works on the server itself; it can be opened with "
        "MEDREASONER_ADMIN_ROUTES=1."
    )

    def refuses(self, scope: Scope) -> bool:
        """Whether it is one of them."""
        first = scope["path"].strip("/").split("/", 1)[0]
        closed = scope["method"] in _CLOSED_BELOW.get(first, ())
        return closed or scope["path"].rstrip("/") in _CLOSED_PATHS


class DocsGuard(Refusal):
    """FastAPI's page of the routes, which stays blank without scripts from the internet."""

    status = 404
    detail = (
        "The page that shows the routes would load its scripts from the internet, which no page of "
        "this server does; the routes are described in /openapi.json."
    )

    def refuses(self, scope: Scope) -> bool:
        """Whether it is that page."""
        return scope["path"].rstrip("/") == "/docs"


class ExposureGuard(Refusal):
    """Callers of other machines while nobody has to log in."""

    status = 403
    detail = (
        "This server answers its own machine only, because nobody has to log in. The administrator "
        "can set MEDREASONER_TOKEN_FILE and start it by 'medreasoner serve', or set "
        "MEDREASONER_ALLOW_UNAUTHENTICATED=1."
    )

    def refuses(self, scope: Scope) -> bool:
        """Whether the request came in by an address that other machines reach."""
        return is_from_network(scope.get("server"))


def _climbs(scope: Scope) -> bool:
    # Decoded twice: the server decodes once, and a proxied server behind it might decode again.
    path = unquote(unquote(scope["path"]))
    return ".." in path.replace("\\", "/").split("/")


def _names_a_path(scope: Scope) -> bool:
    return any(
        name in _NAMES and (value in {".", ".."} or any(s in value for s in _SEPARATORS))
        for name, value in _query(scope)
    )


def _query(scope: Scope) -> list[tuple[str, str]]:
    text = scope.get("query_string", b"").decode("latin-1")
    return parse_qsl(text, keep_blank_values=True)
