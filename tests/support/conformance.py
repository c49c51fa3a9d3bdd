# SPDX-License-Identifier: Apache-2.0
"""What independent programs and plain arithmetic say of the DICOM objects that were stored."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import httpx
import pydicom
import pytest


def objects_in(orthanc_url: str, study_uid: str, modality: str) -> list[bytes]:
    """Every DICOM object of a modality that Orthanc holds of a study."""
    query = {"StudyInstanceUID": study_uid, "Modality": modality}
    asked = httpx.post(
        f"{orthanc_url}/tools/find", json={"Level": "Instance", "Query": query}, timeout=60
    )
    files = [
        httpx.get(f"{orthanc_url}/instances/{identifier}/file", timeout=60)
        for identifier in asked.raise_for_status().json()
    ]
    return [file.raise_for_status().content for file in files]


def parsed(content: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(content))


def assert_dciodvfy_finds_no_error(content: bytes, folder: Path) -> None:
    said = _said_by("dciodvfy", content, folder, "-new")
    assert [line for line in said.splitlines() if line.startswith("Error")] == []


def assert_dsrdump_reads(content: bytes, folder: Path) -> str:
    """Returns the document as text."""
    said = _said_by("dsrdump", content, folder, "+Pl")
    assert "E: " not in said
    assert "Comprehensive SR Document" in said
    return said


def _said_by(program: str, content: bytes, folder: Path, *arguments: str) -> str:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is absent; install it with scripts/setup_pacs.sh")
    path = folder / "object.dcm"
    path.write_bytes(content)
    done = subprocess.run([program, *arguments, path], capture_output=True, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")
