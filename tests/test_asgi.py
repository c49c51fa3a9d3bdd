# SPDX-License-Identifier: Apache-2.0
"""How ``medreasoner serve`` starts the server, and what it refuses to start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("monailabel")

from monailabel_app.errors import SettingsError
from monailabel_app.security.exposure import is_loopback
from monailabel_app.security.settings import SecuritySettings, security_settings
from monailabel_app.web.server import (
    ServerOptions,
    app_conf,
    refuse_exposure,
    security_environment,
)

TOKEN = "correct-horse-battery-staple"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "workstation"])
def test_no_server_without_login_listens_to_the_network(host) -> None:
    """MONAI Label's default host is 0.0.0.0, without authentication."""
    with pytest.raises(SettingsError, match="--token-file"):
        refuse_exposure(host, SecuritySettings())
    refuse_exposure(host, SecuritySettings(allow_unauthenticated=True))
    refuse_exposure(host, SecuritySettings(token=TOKEN))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_needs_no_login(host) -> None:
    assert is_loopback(host)
    refuse_exposure(host, SecuritySettings())


def test_a_bad_token_file_stops_the_start(tmp_path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        refuse_exposure("127.0.0.1", SecuritySettings(token_file=tmp_path / "missing"))


def test_options_reach_the_access_control_by_the_environment(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    options = ServerOptions(
        "/data", token_file=Path("tokens"), allowed_origins=("https://a.example", "http://b:1")
    )
    for name, value in security_environment(options).items():
        monkeypatch.setenv(name, value)
    settings = security_settings()
    assert settings.token_file == tmp_path / "tokens"
    assert settings.allowed_origins == ("https://a.example", "http://b:1")
    assert settings.allow_unauthenticated is False


def test_options_that_are_not_given_leave_the_environment_alone() -> None:
    assert security_environment(ServerOptions("/data")) == {}


def test_what_is_said_to_the_app_holds_no_secret(tmp_path) -> None:
    conf = app_conf(ServerOptions("/data", token_file=tmp_path / "tokens"))
    assert set(conf) == {"reasoner", "segmenter", "device", "preload"}


@pytest.mark.slow
def test_the_module_wraps_monai_labels_server_before_it_starts() -> None:
    code = (
        "from monailabel_app.asgi import app; import monailabel.app; "
        "print(app is monailabel.app.app, app.middleware_stack, "
        "[m.cls.__name__ for m in app.user_middleware])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = done.stdout.splitlines()[-1]
    assert told.startswith("True None")
    assert "CORSMiddleware" not in told
    assert told.index("SecurityHeaders") < told.index("CrossSiteGuard") < told.index("BodyLimits")
