# SPDX-License-Identifier: Apache-2.0
"""The server behind its access control, in the test's own process."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("monailabel")

import monailabel.app
from fastapi.testclient import TestClient
from monailabel.config import settings as monailabel_settings
from monailabel.interfaces.utils import app as app_registry

from monailabel_app.app import MedReasonerApp
from monailabel_app.security.settings import SecuritySettings
from monailabel_app.security.stack import secure
from monailabel_app.web.routes.guard import ExposureGuard


class NoPipeline:
    """The requests below never reach the models."""

    reasoner_identity = segmenter_identity = None


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    image = nibabel.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4))
    nibabel.save(image, folder / "case.nii.gz")
    return folder


@pytest.fixture
def serve(monkeypatch, tmp_path: Path, studies: Path):
    """Starts the app behind the access control of given settings."""
    server = monailabel.app.app
    for name, value in (
        ("DATASTORE_AUTO_RELOAD", False), ("SESSION_PATH", str(tmp_path / "sessions")),
        ("APP_DIR", str(tmp_path / "app")), ("STUDIES", str(studies)),
    ):  # fmt: skip
        monkeypatch.setattr(monailabel_settings, f"MONAI_LABEL_{name}", value)
    for name in ("user_middleware", "exception_handlers"):
        monkeypatch.setattr(server, name, type(getattr(server, name))(getattr(server, name)))
    monkeypatch.setattr(server, "middleware_stack", None)
    # An app that another test has built leaves its guards on the server, which is one for all.
    routes = [route for route in server.router.routes if not isinstance(route, ExposureGuard)]
    lifespan = server.router.lifespan_context
    state = dict(server.state._state)

    def start(base_url="http://127.0.0.1:8000", **settings: object) -> TestClient:
        server.state._state.pop("medreasoner_routes_installed", None)
        server.middleware_stack = None
        monkeypatch.setattr(server.router, "routes", list(routes))
        # Each router that is included wraps the one before.
        monkeypatch.setattr(server.router, "lifespan_context", lifespan)
        secure(server, SecuritySettings(**settings))
        app = MedReasonerApp(str(tmp_path / "app"), str(studies), {}, pipeline=NoPipeline())
        monkeypatch.setitem(app_registry.apps, f"{tmp_path / 'app'}{studies}", app)
        return TestClient(server, base_url=base_url, raise_server_exceptions=False)

    yield start
    server.state._state.clear()
    server.state._state.update(state)
