# SPDX-License-Identifier: Apache-2.0
"""The installation follows pip's own settings, also where uv does it."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distributions, metadata
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
install = SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "install.py")))

CONFIGURATION = """
[global]
index-url = https://mirror.example/simple
extra-index-url =
    https://one.example/simple
    file:///srv/simple
timeout = 7
progress-bar = off
[install]
timeout = 30
trusted-host = mirror.example
[wheel]
no-binary = :all:
"""


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is pip's configuration, beside that of the whole machine."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    path = tmp_path / "pip.conf"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(path))
    return path


def values_of(options: tuple[str, ...], name: str) -> list[str]:
    return [value for option, value in pairwise(options) if option == name]


def test_indexes_and_limits_of_pips_configuration_reach_uv(configuration: Path) -> None:
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    settings = install.as_uv_takes_them(install.pip_settings())
    assert values_of(settings.options, "--default-index") == ["https://mirror.example/simple"]
    extra = ["https://one.example/simple", "file:///srv/simple"]
    assert values_of(settings.options, "--extra-index-url") == extra
    assert values_of(settings.options, "--allow-insecure-host") == ["mirror.example"]
    assert settings.environment["UV_HTTP_TIMEOUT"] == "30"


def test_the_environment_counts_before_the_files(
    configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    monkeypatch.setenv("PIP_INDEX_URL", "https://other.example/simple")
    monkeypatch.setenv("PIP_TIMEOUT", "90")
    settings = install.as_uv_takes_them(install.pip_settings())
    assert values_of(settings.options, "--default-index") == ["https://other.example/simple"]
    assert settings.environment["UV_HTTP_TIMEOUT"] == "90"


@pytest.mark.parametrize(("said", "offline"), [("1", True), ("true", True), ("0", False)])
def test_an_index_is_given_up_where_pip_is_told_so(said: str, offline: bool) -> None:
    assert ("--no-index" in install.as_uv_takes_them({"no-index": said}).options) == offline


def test_a_setting_that_changes_what_is_installed_is_never_passed_over(
    configuration: Path,
) -> None:
    configuration.write_text("[install]\nonly-binary = :all:\n", encoding="utf-8")
    with pytest.raises(install.UnknownSettingError, match="only-binary"):
        install.as_uv_takes_them(install.pip_settings())


def test_a_machine_without_network_installs_from_a_folder(
    configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("uv", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("uv is not installed in this environment")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_wheel(wheels / "smallest-1.0-py3-none-any.whl")
    configuration.write_text(f"[global]\nno-index = 1\nfind-links = {wheels}\n", encoding="utf-8")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    settings = install.as_uv_takes_them(install.pip_settings())
    command = [
        *install.uv_install(settings, (install.LEFT_OUT,)),
        "--target",
        str(tmp_path / "there"),
    ]
    subprocess.run([*command, "smallest"], check=True, timeout=300)
    assert (tmp_path / "there" / "smallest.py").read_text() == "here = True\n"


def write_wheel(path: Path) -> None:
    info = "smallest-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("smallest.py", "here = True\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: smallest\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(
            f"{info}/RECORD", f"smallest.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )


def names_in(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {re.split("[ =;]", line)[0] for line in lines if line and not line.startswith("#")}


@pytest.mark.parametrize("left_out", [install.LEFT_OUT, install.LEFT_OUT_WITHOUT_GPU])
def test_what_is_left_out_is_asked_for_by_others_alone(left_out: Path) -> None:
    """pip, which leaves nothing out, installs the pinned version."""
    ours = metadata("medreasoner").get_all("Requires-Dist") or []
    declared = {canonicalize_name(Requirement(line).name) for line in ours}
    assert declared.isdisjoint(names_in(left_out))
    assert names_in(left_out) <= names_in(install.CONSTRAINTS)


def test_the_installation_names_extras_that_there_are() -> None:
    known = set(metadata("medreasoner").get_all("Provides-Extra") or [])
    assert all(known.issuperset(extras) for extras in install.EXTRAS.values())
    assert set(install.EXTRAS["run"]) < set(install.EXTRAS["all"])


# Ubuntu 22.04, Debian 12 and Ubuntu 24.04 bring these; later ones are satisfied by what they are.
OLDEST_PYTHON = {"3.10": "3.10.0", "3.11": "3.11.0", "3.12": "3.12.0"}


def test_what_is_pinned_can_be_installed_on_the_oldest_python_that_is_promised() -> None:
    """A pin that wants Python 3.11.5 ends the whole installation on Debian's 3.11.2."""
    oldest = OLDEST_PYTHON.get(f"{sys.version_info.major}.{sys.version_info.minor}")
    if oldest is None:
        pytest.skip("only 3.10 to 3.12 are promised")
    pins = [
        Requirement(line)
        for line in (ROOT / "constraints" / "monailabel.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    pinned = {
        canonicalize_name(pin.name): str(pin.specifier)
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }
    looked_at, too_new = 0, []
    for found in distributions():
        if pinned.get(canonicalize_name(found.name)) == f"=={found.version}":
            looked_at += 1
            wanted = SpecifierSet(found.metadata.get("Requires-Python") or "")
            too_new += [] if oldest in wanted else [f"{found.name} {wanted}"]
    assert looked_at > len(pinned) / 2
    assert too_new == []
