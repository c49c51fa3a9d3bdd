# SPDX-License-Identifier: Apache-2.0
"""Searching the PACS for image series of every modality."""

from __future__ import annotations

import pytest

pytest.importorskip("monailabel")

from monailabel_app.pacs.series_search import find_series

SERIES = {
    "1.1": "CT", "1.2": "CT", "1.3": "CT", "2.1": "MR", "3.1": "CR", "3.2": "DX", "4.1": "US",
    "9.1": "SEG", "9.2": "SR",
}  # fmt: skip


class Server:
    """Matches one modality exactly, as QIDO-RS does, and gives two series a page."""

    def __init__(self, ignores_offset: bool = False) -> None:
        self.filters: list[dict] = []
        self._ignores_offset = ignores_offset

    def search_for_series(self, search_filters, offset=0):
        self.filters.append(dict(search_filters))
        found = [uid for uid, code in SERIES.items() if code == search_filters["Modality"]]
        start = 0 if self._ignores_offset else offset
        return [{"0020000E": {"vr": "UI", "Value": [uid]}} for uid in found[start : start + 2]]


def test_without_a_filter_all_images_are_listed_and_no_results() -> None:
    assert find_series(Server(), {}) == ["1.1", "1.2", "1.3", "2.1", "3.1", "3.2", "4.1"]


@pytest.mark.parametrize("value", [["MR", "US"], "MR,US", "MR\\US"])
def test_several_modalities_are_asked_for_one_by_one(value) -> None:
    server = Server()
    assert find_series(server, {"Modality": value, "StudyDate": "20260101"}) == ["2.1", "4.1"]
    assert {filters["Modality"] for filters in server.filters} == {"MR", "US"}
    assert all(filters["StudyDate"] == "20260101" for filters in server.filters)


def test_a_server_that_ignores_the_offset_does_not_keep_us_for_ever() -> None:
    assert find_series(Server(ignores_offset=True), {"Modality": "CT"}) == ["1.1", "1.2"]
