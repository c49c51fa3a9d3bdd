# SPDX-License-Identifier: Apache-2.0
"""The app behind MONAI Label's server in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import monailabel.app
import monailabel.interfaces.utils.app as app_registry
import pytest
from fastapi.testclient import TestClient
from monailabel.config import settings

from monailabel_app.app import MedReasonerApp


@contextmanager
def app_client(
    monkeypatch: pytest.MonkeyPatch, folder: Path, pipeline: Any
) -> Iterator[TestClient]:
    """A client of an app on ``folder/studies``; its ``site`` and ``services`` are the app's."""
    studies, app_folder = str(folder / "studies"), str(folder / "app")
    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    monkeypatch.setattr(settings, "MONAI_LABEL_SESSION_PATH", str(folder / "sessions"))
    monkeypatch.setattr(settings, "MONAI_LABEL_APP_DIR", app_folder)
    monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", studies)
    app = MedReasonerApp(app_folder, studies, {}, pipeline=pipeline)
    monkeypatch.setitem(app_registry.apps, f"{app_folder}{studies}", app)
    client = TestClient(monailabel.app.app, raise_server_exceptions=False)
    client.site, client.services = app.site, app.services
    yield client
    app.site.results.stop()
    app.site.records.close()
