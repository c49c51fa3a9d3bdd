# SPDX-License-Identifier: Apache-2.0
"""How the app is found, and what is loaded when."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_importing_the_package_loads_neither_monailabel_nor_torch() -> None:
    code = (
        "import sys, monailabel_app, monailabel_app.settings, monailabel_app.inference.params;"
        "print([m for m in ('monailabel', 'torch', 'fastapi', 'sqlalchemy') if m in sys.modules])"
    )
    assert run(code) == "[]"


@pytest.mark.parametrize(
    ("missing", "module"),
    [("monailabel", "monailabel_app.app"), ("sqlalchemy", "monailabel_app.store")],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(missing, module) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from medreasoner_infer.errors import MissingExtraError\n"
        f"try:\n    import {module}\n"
        "except MissingExtraError as error:\n    print(error)"
    )
    said = run(code)
    assert repr(missing) in said
    assert "[monailabel]'" in said


@pytest.mark.parametrize(
    ("folder", "name", "models"),
    [
        ("monailabel_app", "MedReasonerApp", ("embedded", "embedded")),
        ("sample_apps/quickstart", "MedReasonerApp", ("embedded", "embedded")),
        ("sample_apps/radiology", "RadiologyApp", ("qwen2.5-vl-7b", "medsam2")),
    ],
)
def test_monailabel_finds_the_app_of_each_folder(folder, name, models) -> None:
    class_utils = pytest.importorskip("monailabel.utils.others.class_utils")
    from medreasoner_infer.models.registry import resolve_model

    file = ROOT / folder / "main.py"
    found = class_utils.get_class_of_subclass_from_file("main", str(file), "MONAILabelApp")
    assert found.__name__ == name
    assert (found.defaults.reasoner, found.defaults.segmenter) == models
    assert resolve_model("reasoner", models[0]).name == models[0]
    assert resolve_model("segmenter", models[1]).name == models[1]


def test_records_lie_in_the_studies_or_in_the_home_of_a_dicomweb_server(monkeypatch) -> None:
    pytest.importorskip("monailabel")
    from monailabel_app.site.paths import default_data_dir

    monkeypatch.setenv("MEDREASONER_HOME", "/srv/medreasoner")
    assert default_data_dir("/data/studies") == Path("/data/studies/.medreasoner")
    web = default_data_dir("https://pacs/dicom-web")
    assert web.parent == Path("/srv/medreasoner/dicomweb")
    assert web == default_data_dir("https://pacs/dicom-web/")
    assert web != default_data_dir("https://other/dicom-web")
