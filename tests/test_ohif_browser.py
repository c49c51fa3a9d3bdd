# SPDX-License-Identifier: Apache-2.0
"""A question asked in the real OHIF viewer, in Chromium, about a real CT in Orthanc.

``scripts/setup_browser.sh`` installs what is needed. ``MEDREASONER_SCREENSHOTS`` names a folder
for pictures of what was seen.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import pydicom
import pytest
from pydicom.uid import CTImageStorage, generate_uid

pytest.importorskip("monailabel")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is absent; run scripts/setup_browser.sh"
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

START_TIMEOUT_S = 600.0
WAIT_MS = 90_000
ORTHANC_PLUGINS = Path("/usr/share/orthanc/plugins")
# Headless Chromium draws WebGL by software with these.
FLAGS = [
    "--no-sandbox", "--disable-background-networking", "--use-gl=angle",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip
QUESTION = "Which organ makes bile and fills the right upper abdomen?"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, process: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(url, timeout=30).raise_for_status()
        except httpx.TransportError:
            time.sleep(1)
        else:
            return url
    raise AssertionError(f"{url} did not come up:\n{log.read_text()[-3000:]}")


def stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def archive(tmp_path_factory, shared_data: Path) -> Iterator[tuple[str, str]]:
    """Orthanc with the CT; its address and the Study Instance UID."""
    if shutil.which("Orthanc") is None or not ORTHANC_PLUGINS.is_dir():
        pytest.skip("Orthanc is absent; run scripts/setup_browser.sh")
    folder, port = tmp_path_factory.mktemp("orthanc"), free_port()
    configuration = {
        "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        "HttpPort": port, "DicomServerEnabled": False, "AuthenticationEnabled": False,
        "Plugins": [str(ORTHANC_PLUGINS)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    log = folder / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            ["Orthanc", str(folder / "orthanc.json")], stdout=stream, stderr=stream
        )
    try:
        url = wait_for(f"http://127.0.0.1:{port}/system", process, log).removesuffix("/system")
        study = store_ct(url, shared_data / "totalsegmentator" / "example_ct_dicom")
        yield f"{url}/dicom-web", study
    finally:
        stop(process)


def store_ct(url: str, series: Path) -> str:
    """De-identification has emptied UIDs and SOP class, so the series gets new ones."""
    study, series_uid = generate_uid(), generate_uid()
    for number, path in enumerate(sorted(series.glob("*.dcm")), start=1):
        image = pydicom.dcmread(path)
        image.decompress()  # Debian's Orthanc gives out no other form of JPEG 2000
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series_uid
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
        image.FrameOfReferenceUID = image.get("FrameOfReferenceUID") or f"{series_uid}.1"
        image.PatientID, image.PatientName, image.StudyID = "browser", "Browser^Test", "1"
        image.SeriesNumber = image.SeriesNumber or 1
        image.InstanceNumber = image.get("InstanceNumber") or number
        content = BytesIO()
        image.save_as(content)
        httpx.post(f"{url}/instances", content=content.getvalue()).raise_for_status()
    return study


@pytest.fixture(scope="module")
def server(archive: tuple[str, str], tmp_path_factory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    environment = {
        **os.environ,
        "MEDREASONER_HOME": str(folder / "home"),
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(folder / "cache"),
    }
    command = [sys.executable, "-m", "monailabel_app.cli", "serve", "--studies", archive[0]]
    log = folder / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=stream, stderr=stream, env=environment
        )
    try:
        url = wait_for(f"http://127.0.0.1:{port}/info/", process, log).removesuffix("/info/")
        yield url
        assert "bile" not in log.read_text()
    finally:
        stop(process)


@pytest.fixture(scope="module")
def page(server: str, archive: tuple[str, str]) -> Iterator[object]:
    """The viewer with the study open and the tab shown."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is absent; run scripts/setup_browser.sh")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(WAIT_MS)
        page.outside = []
        page.on("request", lambda request: page.outside.append(request.url))
        page.console = []
        page.on("console", lambda message: page.console.append(message.text))
        page.on("pageerror", lambda error: page.console.append(f"PAGE ERROR {error}"))
        page.goto(f"{server}/ohif/monai-label?StudyInstanceUIDs={archive[1]}")
        try:
            page.wait_for_selector('[data-cy="viewport-pane"] canvas')
            # The tabs show icons only; ours is the last.
            page.locator('[data-cy="question-btn"]').click()
            page.wait_for_selector("#medreasoner-question")
        finally:
            picture(page, "opened")
        yield page
        browser.close()


def picture(page, name: str) -> None:
    folder = os.environ.get("MEDREASONER_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")
        (Path(folder) / f"{name}.txt").write_text("\n".join(page.console[-200:]))


def test_a_question_is_answered_in_the_viewer_with_the_keyboard_alone(page, server) -> None:
    question = page.locator("#medreasoner-question")
    question.focus()
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    try:
        page.wait_for_selector(".medreasoner [aria-label='About the answer'] li")
        playwright.expect(page.locator(".medreasoner button", has_text="Reject")).to_be_enabled()
    finally:
        picture(page, "answered")
    assert page.locator(".medreasoner [role=alert]").text_content() == ""
    assert page.locator(".medreasoner .reasoning").text_content()
    assert page.locator(".medreasoner h2 + ul li").count() == 1


def test_nothing_is_fetched_from_elsewhere(page, server) -> None:
    answered = [url for url in page.outside if not url.startswith((server, "blob:", "data:"))]
    # The start page names a font host; the content security policy stops the request.
    assert all("fonts." in url for url in answered)
    blocked = [text for text in page.console if "fonts.googleapis.com" in text]
    assert any("Content Security Policy" in text for text in blocked)


def recorded(server: str, archive: tuple[str, str]) -> list[dict]:
    query = {"study": archive[1]}
    return httpx.get(f"{server}/medreasoner/inferences", params=query).json()


def test_a_box_drawn_on_the_image_runs_the_segmenter_alone(page, server, archive) -> None:
    pane = page.locator('[data-cy="viewport-pane"]').first
    window_before = re.search(r"W:\s*\d+\s*L:\s*\d+", pane.inner_text()).group()
    page.get_by_role("button", name="Draw box").click()
    bounds = page.locator("svg.medreasoner-overlay").bounding_box()
    x, y = bounds["x"] + bounds["width"] / 2, bounds["y"] + bounds["height"] / 2
    page.mouse.move(x - 70, y - 40)
    page.mouse.down()
    page.mouse.move(x, y + 40, steps=4)
    page.mouse.up()
    try:
        page.wait_for_selector(".medreasoner [role=status]:has-text('Segmenting')")
        page.wait_for_selector(".medreasoner button:text('Submit mask as edited'):enabled")
    finally:
        picture(page, "corrected")
    correction, question = recorded(server, archive)
    assert (correction["result"]["kind"], question["result"]["kind"]) == ("segment", "ask")
    assert correction["result"]["prompts"]["bbox_source"] == "reader"
    assert page.get_by_role("button", name="Accept").is_disabled()
    assert window_before in pane.inner_text()  # drawing is no windowing


def test_the_edited_mask_is_submitted_for_the_question(page, server, archive) -> None:
    page.get_by_role("button", name="Submit mask as edited").click()
    try:
        page.wait_for_selector(".medreasoner [role=status]:has-text('This answer is edited.')")
    finally:
        picture(page, "submitted")
    question = recorded(server, archive)[1]
    assert question["decision"]["outcome"] == "edited"
    assert [label["joined_by"] for label in question["labels"]] == ["id"]
