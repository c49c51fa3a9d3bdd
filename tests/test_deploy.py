# SPDX-License-Identifier: Apache-2.0
"""The files for a site fit the program and each other, as far as can be told without containers."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from monailabel_app.cli.app import app

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def last_command(containerfile: str) -> list[str]:
    text = (DEPLOY / containerfile).read_text(encoding="utf-8")
    return json.loads(re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)[-1])


def unit() -> dict[str, str]:
    """The unit's section [Service]; of a setting that stands twice the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "medreasoner.service")
    return dict(parser["Service"])


@pytest.mark.parametrize(
    "words",
    [
        last_command("Containerfile"),
        *(SERVICES[name]["command"] for name in ("server", "server-gpu")),
        shlex.split(unit()["ExecStart"])[1:],
    ],
    ids=["image", "server", "server-gpu", "unit"],
)
def test_the_server_takes_the_options_that_it_is_started_with(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts it names the studies, or the environment does."""
    monkeypatch.setenv("MEDREASONER_STUDIES", "http://orthanc:8042/dicom-web")
    tree = typer.main.get_command(app)
    assert words[0] == "serve"
    context = tree.commands["serve"].make_context("serve", words[1:])  # type: ignore[attr-defined]
    assert context.params["token_file"] is not None, "others could reach it without a login"


def test_each_service_may_do_little() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service["profiles"]) <= {"cpu", "gpu"}, name


def test_only_the_proxy_can_be_reached() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    outside = [name for name, service in SERVICES.items() if "outside" in service["networks"]]
    assert outside == ["proxy"]


def test_what_is_mounted_and_built_from_is_there() -> None:
    for service in SERVICES.values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert not source.startswith("./") or (DEPLOY / source).is_file(), source
        if "build" in service:
            assert (DEPLOY.parent / service["build"]["dockerfile"]).is_file()


def test_an_image_runs_as_nobody_in_particular_and_tells_its_health() -> None:
    for name in ("Containerfile", "Containerfile.vllm"):
        last_stage = (DEPLOY / name).read_text(encoding="utf-8").rpartition("\nFROM ")[2]
        assert re.search(r"^USER 10001:10001$", last_stage, re.MULTILINE), name
        assert re.search(r"^HEALTHCHECK ", last_stage, re.MULTILINE), name


def test_no_studies_records_or_tokens_can_get_into_an_image() -> None:
    for name in ("Containerfile", "Containerfile.vllm"):
        lines = (DEPLOY / f"{name}.dockerignore").read_text(encoding="utf-8").splitlines()
        rules = [line for line in lines if not line.startswith("#")]
        assert rules[0] == "*"
        carried = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
        assert all((DEPLOY.parent / path).exists() for path in carried)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("CapabilityBoundingSet", ""),
        ("UMask", "0077"),
    ],
)
def test_the_unit_keeps_the_server_in_its_own_folders(setting: str, value: str) -> None:
    assert unit()[setting] == value
