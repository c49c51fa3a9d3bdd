# SPDX-License-Identifier: Apache-2.0
"""A server on a folder, in a real browser: its form names its origin as only a browser does."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from playwright.sync_api import expect
from support.servers import MedReasonerServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def folder_server(tmp_path_factory):
    studies = tmp_path_factory.mktemp("studies")
    voxels = np.random.default_rng(1).normal(0, 100, (64, 64, 6)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([4, 4, 5, 1])), studies / "noise.nii.gz")
    server = MedReasonerServer(tmp_path_factory.mktemp("server"), str(studies))
    server.start()
    yield server
    server.stop()


def test_a_folder_is_asked_about_in_the_browser_from_its_start_on(folder_server, browser) -> None:
    page = browser.new_context().new_page()
    page.goto(folder_server.url)
    page.get_by_role("link", name="noise").click()
    page.get_by_label("Question about this image").fill("Which organ makes bile?")
    with page.expect_response(lambda answer: "/overlay?" in answer.url) as overlay:
        page.get_by_role("button", name="Ask").click()
        expect(page.get_by_role("heading", name="Which organ makes bile?")).to_be_visible()
    assert overlay.value.headers["content-type"] == "image/png"
    assert page.url.startswith(f"{folder_server.url}/medreasoner/studies/image")
    page.context.close()
