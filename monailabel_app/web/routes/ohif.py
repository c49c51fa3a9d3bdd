# SPDX-License-Identifier: Apache-2.0
"""``/ohif``: the viewer that comes with MONAI Label, with our configuration and its tab.

MONAI Label answers every file in a sub-folder with the start page, which a browser that respects
``nosniff`` then refuses as a script.
"""

from __future__ import annotations

import base64
import hashlib
import re
import stat
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import monailabel.endpoints
from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from medreasoner_infer.errors import MedReasonerError
from monailabel_app.framework import settings
from monailabel_app.security.headers import content_security_policy
from monailabel_app.security.settings import SecuritySettings
from monailabel_app.studies.local import StudiesFolder
from monailabel_app.viewers.ohif import STATIC_FOLDER
from monailabel_app.web.routes.callers import MayRead
from monailabel_app.web.routes.studies import STUDIES_PATH, page
from monailabel_app.web.routes.typed_errors import TypedErrorRoute
from monailabel_app.web.services import App

_VIEWER_FOLDER = Path(monailabel.endpoints.__file__).parent / "static" / "ohif"
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.S)
_START_PAGE = "index.html"
# The policy of a script's answer holds in workers only. The image codecs, compiled by Emscripten,
# run there and make their functions from text. So does ndarray in the page itself, by which OHIF
# reads every SEG (ndarray.js, compileConstructor); no text of an image or answer gets there.
_EVAL = "'unsafe-eval'"

router = APIRouter(tags=["Others"], route_class=TypedErrorRoute)


@router.get("/", include_in_schema=False)
async def start() -> RedirectResponse:
    """MONAI Label's page of its routes loads scripts from the internet; the viewer does not."""
    return RedirectResponse(f"{settings.MONAI_LABEL_API_STR}/ohif/")


def instead_of_worklist(request: Request, app: App, path: str = "") -> Response | None:
    """What to show in place of OHIF's worklist, which says nothing of use without a PACS."""
    if path:
        return None
    studies = app.site.studies
    if isinstance(studies, StudiesFolder):
        return RedirectResponse(f"{settings.MONAI_LABEL_API_STR}{STUDIES_PATH}")
    try:
        studies.require_reachable()
    except MedReasonerError as error:
        return page(request, "pacs_down.html", 503, problem=str(error))
    return None


@router.get("/favicon.ico", include_in_schema=False)
async def icon() -> FileResponse:
    """The icon that browsers ask for."""
    return _file(_VIEWER_FOLDER.parent / "favicon.ico")


@router.get("/ohif/app-config.js", include_in_schema=False)
async def configuration(caller: MayRead) -> FileResponse:
    """Our configuration of the viewer."""
    return _file(STATIC_FOLDER / "app-config.js")


@router.get("/ohif/{path:path}", include_in_schema=False, response_model=None)
def viewer(
    request: Request,
    caller: MayRead,
    instead: Annotated[Response | None, Depends(instead_of_worklist)],
    path: str = "",
) -> Response:
    """A file of the viewer, or its start page for the addresses that it handles itself."""
    if instead is not None:
        return instead
    found = _viewer_file(path)
    if found is not None and found.name != _START_PAGE:
        return _with_policy(request, found, (_EVAL,) if path.endswith(".js") else ())
    page = _VIEWER_FOLDER / _START_PAGE
    return _with_policy(request, page, (_EVAL, *inline_script_hashes(page)))


def _viewer_file(path: str) -> Path | None:
    try:
        found, status = StaticFiles(directory=_VIEWER_FOLDER).lookup_path(path)
    except (OSError, ValueError):  # too long for a file's name, or with NUL
        return None
    return Path(found) if status is not None and stat.S_ISREG(status.st_mode) else None


def _with_policy(request: Request, path: Path, scripts: tuple[str, ...]) -> FileResponse:
    access: SecuritySettings | None = getattr(request.app.state, "security", None)
    ancestors = () if access is None else access.frame_ancestors
    answer = _file(path)
    answer.headers["Content-Security-Policy"] = content_security_policy(ancestors, scripts)
    return answer


@lru_cache
def inline_script_hashes(page: Path) -> tuple[str, ...]:
    """Sources that allow exactly the inline scripts of ``page`` (CSP level 2, section 4.2.5)."""
    return tuple(
        f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in _INLINE_SCRIPT.findall(page.read_bytes())
    )


def _file(path: Path) -> FileResponse:
    # Asked for anew each time, answered 304 by the ETag: an upgrade shows at once.
    return FileResponse(path, headers={"Cache-Control": "no-cache"})
