# SPDX-License-Identifier: Apache-2.0
"""One archive, one server and one browser for all tests of the viewer."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pydicom
import pytest

pytest.importorskip("monailabel")
pytest.importorskip(
    "playwright.sync_api", reason="Playwright is absent; run scripts/setup_browser.sh"
)

from playwright.sync_api import Browser, sync_playwright
from support.conformance import objects_in
from support.series import DicomStudy, ct_study, dx_study, mr_study
from support.servers import MedReasonerServer
from support.viewer import FLAGS, SIZE, Reader


@dataclass(frozen=True)
class ReadingRoom:
    """Archive and server, both running; ``ct``, ``mr`` and ``dx`` are in the archive."""

    archive_url: str
    server: MedReasonerServer
    ct: DicomStudy
    mr: DicomStudy
    dx: DicomStudy

    @property
    def url(self) -> str:
        return self.server.url

    def stored(self, study: DicomStudy, modality: str) -> list[bytes]:
        """What the archive holds of a study."""
        return objects_in(self.archive_url, study.study_uid, modality)

    def add(self, study: DicomStudy) -> None:
        """Put a study into the archive."""
        for image in study.images:
            content = io.BytesIO()
            pydicom.dcmwrite(content, image, write_like_original=False)
            httpx.post(
                f"{self.archive_url}/instances", content=content.getvalue(), timeout=60
            ).raise_for_status()

    def records(self, study: DicomStudy) -> list[dict]:
        """What the server has recorded of a study, the latest first."""
        return self.server.records(study.study_uid)

    def forget(self, study: DicomStudy) -> None:
        """Delete all that the server has of a study; the archive keeps what it has."""
        answer = httpx.delete(
            f"{self.url}/medreasoner/inferences", params={"study": study.study_uid}
        )
        answer.raise_for_status()


@pytest.fixture(scope="session")
def real_images() -> Path | None:
    """The folder of real images, ``None`` where it is absent: the phantom stands for them."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("MEDREASONER_SHARED_DATA", beside))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="module")
def room(orthanc_factory, tmp_path_factory, real_images) -> Iterator[ReadingRoom]:
    """An archive and a server for one module's tests; nobody else leaves results in them."""
    archive = orthanc_factory(tmp_path_factory.mktemp("archive"))
    studies = [make(real_images) for make in (ct_study, mr_study, dx_study)]
    server = MedReasonerServer(tmp_path_factory.mktemp("server"), archive.dicom_web)
    room = ReadingRoom(archive.url, server, *studies)
    for study in studies:
        room.add(study)
    server.start()
    yield room
    server.stop()
    assert "bile" not in server.log.read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for each module: while it runs, its event loop is that of every test of the process."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is absent; run scripts/setup_browser.sh")
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def readers(room, browser) -> Iterator[Callable[[], Reader]]:
    """Makes a reader with a page of their own; they share what the browser has cached."""
    context = browser.new_context(viewport=SIZE)
    yield lambda: Reader.at(context.new_page(), room.url)
    context.close()
