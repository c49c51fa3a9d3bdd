# SPDX-License-Identifier: Apache-2.0
"""The next image in the tab: it is named with its reason, and opened in the viewer."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SHOWS_SERIES = """series => {
  const { viewportGridService, displaySetService } = window.services ?? {};
  if (!viewportGridService) return false;
  const { activeViewportId, viewports } = viewportGridService.getState();
  const uid = viewports.get(activeViewportId)?.displaySetInstanceUIDs?.[0];
  return uid && displaySetService.getDisplaySetByUID(uid)?.SeriesInstanceUID === series;
}"""


def test_the_next_image_is_named_with_its_reason_and_opens(readers, room) -> None:
    reader = readers()
    reader.open_study(room.ct.study_uid, "segmentation")
    section = reader.tab.get_by_label("What to label next")
    said, link = section.get_by_role("status"), section.get_by_role("link", name="Open it")
    seen = set()
    for _ in range(3):
        section.get_by_role("button", name="Next image").click()
        expect(section.get_by_role("button", name="Next image")).to_be_enabled()
        expect(said).to_have_text(
            re.compile(r"^Next: (CT|MR|DX|CR) image …[\d.]{6}, because .+\.$")
        )
        query = parse_qs(urlsplit(link.get_attribute("href")).query)
        seen.add(query["StudyInstanceUIDs"][0])
    reader.picture("next-image")
    assert seen == {study.study_uid for study in (room.ct, room.mr, room.dx)}
    link.click()
    reader.page.wait_for_url(re.compile(r"initialSeriesInstanceUID="))
    reader.page.wait_for_selector('[data-cy="viewport-pane"] canvas')
    reader.page.wait_for_function(SHOWS_SERIES, arg=query["initialSeriesInstanceUID"][0])
    assert urlsplit(reader.page.url).path == "/ohif/segmentation"
    reader.page.close()
