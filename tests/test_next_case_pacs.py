# SPDX-License-Identifier: Apache-2.0
"""The next image of a DICOMweb server: told by its headers, without fetching any series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

pytest.importorskip("monailabel")

from dicomweb_client.api import DICOMfileClient

from medreasoner_training.next_case import Strategy
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.site.opening import Site
from monailabel_app.site.paths import SitePaths
from monailabel_app.store import RecordStore
from monailabel_app.strategies.next_cases import NextCases
from monailabel_app.studies.pacs import PacsStudies

LOOKED_S = 120
PATIENTS = ("Anna", "Anna", "Bert")


class Server:
    """Files as a DICOMweb server; each call opens them anew, as their index is of one thread."""

    def __init__(self, folder: Path) -> None:
        self.base_url = folder.as_uri()
        self.fetched = 0

    def _open(self) -> DICOMfileClient:
        return DICOMfileClient(self.base_url, update_db=True, in_memory=True)

    def search_for_series(self, **query):
        return self._open().search_for_series(**query)

    def iter_series(self, *uids):
        self.fetched += 1
        return iter(self._open().retrieve_series(*uids))


@pytest.fixture
def pacs(tmp_path: Path):
    """Server, site and what offers its images; two series of one patient and one of another."""
    for number, patient in enumerate(PATIENTS):
        grid = CtGrid((1, 1, 2), (0, 0, 0), np.eye(3))
        folder = write_ct_series(
            np.zeros((3, 8, 8)), grid, tmp_path / "server" / str(number), seed=number
        )
        for path in folder.iterdir():
            header = pydicom.dcmread(path)
            header.PatientID = patient
            header.save_as(path)
    server = Server(tmp_path / "server")
    studies = PacsStudies(
        client=server, search_filter={"Modality": "CT"}, cache_path=str(tmp_path / "cache")
    )
    paths = SitePaths.of("http://server/dicom-web", tmp_path / "records")
    records = RecordStore(paths.data_dir)
    # Neither results nor uploads have to do with it.
    site = Site(paths, studies, records, VolumeCache(0), None, None)
    yield server, site, NextCases(site, lambda: False)
    records.close()


def test_series_are_offered_with_study_and_modality_and_none_is_fetched(pacs) -> None:
    server, site, cases = pacs
    first = cases.offer(Strategy.COMBINED)
    assert cases.looking.wait(LOOKED_S)
    assert set(site.studies.list_images()) == {cases.offer(Strategy.COVERAGE).image_id} | {
        first.image_id,
        cases.offer(Strategy.NOVELTY).image_id,
    }
    for image_id in site.studies.list_images():
        assert cases.looking.listed(image_id) is not None
        assert cases.info(image_id)["Modality"] == "CT"
        assert pydicom.uid.UID(cases.info(image_id)["StudyInstanceUID"]).is_valid
    assert server.fetched == 0


def test_before_its_header_is_known_a_series_is_asked_for_alone(pacs) -> None:
    _, site, cases = pacs
    image_id = site.studies.list_images()[0]
    assert cases.looking.listed(image_id) is None
    assert cases.info(image_id)["StudyInstanceUID"]


def test_what_was_fetched_anyway_is_looked_at(pacs) -> None:
    server, site, cases = pacs
    image_id = site.studies.list_images()[0]
    assert site.studies.kept_source(image_id) is None
    site.studies.image_source(image_id)
    cases.offer(Strategy.COMBINED)
    assert cases.looking.wait(LOOKED_S)
    assert cases.looking.look(image_id).vector is not None
    assert server.fetched == 1


def test_what_is_no_uid_is_no_fetched_series(pacs) -> None:
    assert pacs[1].studies.kept_source("../x") is None
