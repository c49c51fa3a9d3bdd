# SPDX-License-Identifier: Apache-2.0
"""Refusing names that would leave the studies.

MONAI Label joins image ids, label tags and session ids to folders, and passes proxied paths on to
the PACS. This route matches only requests that try to climb out with them, and refuses those; all
others fall through to the routes behind it.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote

from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

_NAMES = frozenset({"image", "label", "id", "tag", "session_id"})
_SEPARATORS = ("/", "\\", "\0")


class PathGuard(BaseRoute):
    """Answers 404 to a path with ``..`` and to a name with a path separator."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match only what must be refused."""
        if scope["type"] == "http" and (_climbs(scope) or _names_a_path(scope)):
            return Match.FULL, {}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse."""
        detail = "Nothing of this name is here; ids and tags hold no path."
        await JSONResponse({"detail": detail}, status_code=404)(scope, receive, send)


def _climbs(scope: Scope) -> bool:
    # Decoded twice: the server decodes once, and a proxied server behind it might decode again.
    path = unquote(unquote(scope["path"]))
    return ".." in path.replace("\\", "/").split("/")


def _names_a_path(scope: Scope) -> bool:
    query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    return any(
        name in _NAMES and (value in {".", ".."} or any(s in value for s in _SEPARATORS))
        for name, value in query
    )
