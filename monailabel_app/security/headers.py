# SPDX-License-Identifier: Apache-2.0
"""Response headers that confine what a browser does with the pages."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# OHIF compiles WebAssembly codecs, starts workers from blobs and sets style attributes.
_POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'wasm-unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}
_FIXED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_CACHED_BY_BROWSERS = ("/ohif/", "/static/", "/medreasoner/ohif/")


def content_security_policy(
    frame_ancestors: Sequence[str] = (), scripts: Sequence[str] = ()
) -> str:
    """The policy as header text.

    Args:
        frame_ancestors: origins that may show the page in a frame; none if empty.
        scripts: further sources of scripts, e.g. hashes of inline ones.
    """
    directives = dict(_POLICY)
    directives["script-src"] = " ".join((directives["script-src"], *scripts))
    directives["frame-ancestors"] = " ".join(frame_ancestors) or "'none'"
    return "; ".join(f"{name} {value}" for name, value in directives.items())


class SecurityHeaders:
    """Adds the headers to every answer; a policy that a route sets itself is kept."""

    def __init__(self, app: ASGIApp, frame_ancestors: Sequence[str] = ()) -> None:
        self._app = app
        self._policy = content_security_policy(frame_ancestors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and add headers to the answer's start."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add(MutableHeaders(scope=message), scope)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _add(self, headers: MutableHeaders, scope: Scope) -> None:
        headers.update(_FIXED)
        headers.setdefault("Content-Security-Policy", self._policy)
        if scope.get("scheme") == "https":
            headers["Strict-Transport-Security"] = "max-age=31536000"
        if not scope["path"].startswith(_CACHED_BY_BROWSERS):
            # Answers hold patient data, which has no place in a browser's cache.
            headers.setdefault("Cache-Control", "no-store")
