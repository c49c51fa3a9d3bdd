# SPDX-License-Identifier: Apache-2.0
"""The tab in OHIF: how the viewer and its modules are served; tests/ohif tests the modules."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("monailabel")

from fastapi import FastAPI
from fastapi.testclient import TestClient
from monailabel.config import settings
from support.servers import free_port

from monailabel_app.security.headers import content_security_policy
from monailabel_app.security.settings import SecuritySettings
from monailabel_app.studies.pacs import PacsStudies
from monailabel_app.viewers.ohif import STATIC_FOLDER
from monailabel_app.web.routes import ohif

MODULES = sorted(STATIC_FOLDER.glob("*.js"))
# The extra "dev" brings Node into the environment.
WHERE_NODE_IS = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_every_module_is_valid(module) -> None:
    node = shutil.which("node", path=WHERE_NODE_IS)
    if node is None:
        pytest.skip("Node is absent; it comes with the extra dev")
    done = subprocess.run([node, "--check", module], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_text_never_becomes_markup_and_nothing_comes_from_elsewhere() -> None:
    for module in MODULES:
        source = module.read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source
        )
        addresses = set(re.findall(r"https?://[^\s'\")]+", source))
        assert addresses <= {
            "http://www.w3.org/2000/svg",  # a name, not an address
            "http://teem.sourceforge.net/nrrd/format.html",  # in a comment
        }


@pytest.fixture
def client() -> TestClient:
    server = FastAPI()
    server.include_router(ohif.router)
    server.dependency_overrides[ohif.instead_of_worklist] = lambda: None
    server.state.security = SecuritySettings(frame_ancestors="https://portal.example")
    return TestClient(server)


def test_the_viewer_reads_our_configuration(client) -> None:
    answer = client.get("/ohif/app-config.js")
    assert answer.text == (STATIC_FOLDER / "app-config.js").read_text()
    assert "javascript" in answer.headers["content-type"]


@pytest.mark.parametrize("path", ["", "monai-label?StudyInstanceUIDs=1.2", "viewer", "index.html"])
def test_addresses_of_the_viewer_show_its_page(client, path) -> None:
    answer = client.get(f"/ohif/{path}")
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    for script in re.findall(r"<script>(.*?)</script>", answer.text, re.S):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "frame-ancestors https://portal.example" in policy


def test_only_the_viewers_page_and_workers_may_make_functions_from_text(client) -> None:
    """The codecs in OHIF's decoding worker need it, and ndarray, by which the page reads a SEG."""
    script = next(Path(ohif._VIEWER_FOLDER).glob("4571.bundle.*.js")).name
    for path in ("", "viewer?StudyInstanceUIDs=1.2", script):
        assert "'unsafe-eval'" in client.get(f"/ohif/{path}").headers["content-security-policy"]
    answer = client.get("/ohif/assets/favicon.ico")
    assert "'unsafe-eval'" not in answer.headers["content-security-policy"]
    assert "'unsafe-eval'" not in content_security_policy()


def test_a_pacs_that_is_down_is_said_with_what_to_do(client, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(settings, "MONAI_LABEL_DICOMWEB_CACHE_PATH", str(tmp_path))
    nobody = f"http://127.0.0.1:{free_port()}/dicom-web"
    studies = PacsStudies.connect(nobody)
    client.app.state.services = SimpleNamespace(site=SimpleNamespace(studies=studies))
    client.app.dependency_overrides.clear()
    answer = client.get("/ohif/")
    assert answer.status_code == 503
    assert "The PACS does not answer" in answer.text
    assert "--studies" in answer.text
    # A study's address is no worklist: the viewer itself may have it still.
    assert "OHIF Viewer" in client.get("/ohif/viewer?StudyInstanceUIDs=1.2").text


def test_files_in_folders_of_the_viewer_are_files(client) -> None:
    """MONAI Label answered each of them with the start page."""
    answer = client.get("/ohif/assets/favicon.ico")
    assert "icon" in answer.headers["content-type"]


@pytest.mark.parametrize("path", ["%00", "a%00.js", "x" * 300, "y/" * 2000, "%ed%a0%80", "%ff"])
def test_what_no_file_is_called_is_an_address_of_the_viewer(client, path) -> None:
    answer = client.get(f"/ohif/{path}")
    assert answer.status_code == 200
    assert "<title>OHIF Viewer</title>" in answer.text


def test_a_viewer_that_is_not_installed_is_said(client, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(ohif, "_VIEWER_FOLDER", tmp_path)
    answer = client.get("/ohif/")
    assert answer.status_code == 503
    assert "reference" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["%2e%2e/%2e%2e/ohif.py", "..%2f..%2fohif.py", "/etc/passwd"])
def test_no_file_outside_the_viewer_is_served(client, path) -> None:
    answer = client.get(f"/ohif/{path}")
    assert "<title>OHIF Viewer</title>" in answer.text
