# SPDX-License-Identifier: Apache-2.0
"""Studies of a DICOMweb server; dicomweb-client's own file client stands for the server."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import requests

from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series

pytest.importorskip("monailabel")

from dicomweb_client import DICOMfileClient

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import Plane
from monailabel_app.dicom.recording import ResultRecorder
from monailabel_app.errors import PacsUnreachableError, UnknownImageError
from monailabel_app.images.volumes import VolumeCache, read_volume
from monailabel_app.inference.dicom_seg import dicom_seg_of
from monailabel_app.store import RecordStore
from monailabel_app.studies.pacs import PacsStudies

GRID = CtGrid((1.5, 2.0, 3.0), (-20.5, 7.25, 100.0), np.eye(3))
HU_KJI = np.arange(4 * 5 * 6).reshape(4, 5, 6) * 10 - 500


@pytest.fixture
def series_uid(tmp_path: Path) -> str:
    folder = write_ct_series(HU_KJI, GRID, tmp_path / "server" / "ct", seed=1)
    return str(pydicom.dcmread(folder / "0001.dcm").SeriesInstanceUID)


class CountingClient:
    """Counts the series that are fetched; a test may have it fail.

    The file client's index belongs to one thread, so each call opens the folder anew.
    """

    def __init__(self, url: str) -> None:
        self.base_url = url
        self.fetched = 0
        self.stored: list[pydicom.Dataset] = []
        self.error: Exception | None = None

    def _open(self) -> DICOMfileClient:
        return DICOMfileClient(self.base_url, update_db=True, in_memory=True)

    def search_for_series(self, **filters):
        return self._open().search_for_series(**filters)

    def iter_series(self, *uids):
        self.fetched += 1
        if self.error is not None:
            raise self.error
        return iter(self._open().retrieve_series(*uids))

    def store_instances(self, datasets):
        self.stored += datasets
        return pydicom.Dataset()


@pytest.fixture
def client(tmp_path: Path, series_uid: str) -> CountingClient:
    return CountingClient((tmp_path / "server").as_uri())


@pytest.fixture
def store(tmp_path: Path, client: CountingClient) -> PacsStudies:
    return PacsStudies(client=client, search_filter={"Modality": "CT"}, cache_path=str(tmp_path))


def test_a_series_is_fetched_with_its_modality_values_and_geometry(store, series_uid) -> None:
    source = store.image_source(series_uid)
    assert source.modality == "CT"
    image = nibabel.load(source.path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), HU_KJI.T)
    np.testing.assert_allclose(
        image.affine, np.diag([-1.5, -2.0, 3.0, 1.0]) + np.array(
            [[0, 0, 0, 20.5], [0, 0, 0, -7.25], [0, 0, 0, 100.0], [0, 0, 0, 0]]
        ), atol=1e-5,
    )  # fmt: skip


def test_the_path_stays_the_same_and_no_temporary_file_is_left(
    store, series_uid, tmp_path, monkeypatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    first = store.image_source(series_uid)
    assert store.image_source(series_uid) == first
    assert list(scratch.iterdir()) == []


def test_many_that_ask_for_a_series_fetch_it_once(store, client, series_uid) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(store.image_source(series_uid).path))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(found)) == 1
    assert len(found) == 6
    assert client.fetched == 1


def test_an_interrupted_fetch_is_begun_anew(store, client, series_uid) -> None:
    client.error = requests.ConnectionError("gone")
    with pytest.raises(PacsUnreachableError, match="did not answer"):
        store.image_source(series_uid)
    client.error = None
    assert store.image_source(series_uid).path.is_file()
    assert client.fetched == 2


@pytest.mark.parametrize(
    ("status", "kind"), [(404, UnknownImageError), (500, PacsUnreachableError)]
)
def test_the_servers_faults_are_typed(store, client, series_uid, status, kind) -> None:
    response = requests.Response()
    response.status_code = status
    client.error = requests.HTTPError("fault", response=response)
    with pytest.raises(kind):
        store.image_source(series_uid)


@pytest.mark.parametrize(
    "image_id", ["1.2.3", "", "../x", "/etc/passwd", "1" * 65, "1..2", "1.2/3"]
)
def test_what_the_server_does_not_hold_is_unknown(store, image_id) -> None:
    with pytest.raises(UnknownImageError):
        store.image_source(image_id)


def test_a_label_without_codes_is_stored_with_honest_ones(
    store, client, series_uid, tmp_path
) -> None:
    image = nibabel.load(store.image_source(series_uid).path)
    mask = np.zeros(image.shape, np.uint8)
    mask[1:3, 2:4, 1:3] = 1
    nibabel.save(nibabel.Nifti1Image(mask, image.affine), tmp_path / "l.nii.gz")
    store.save_label(series_uid, str(tmp_path / "l.nii.gz"), "final", {"client_id": "slicer"})
    submission = store.take_submission(series_uid)
    assert submission is not None
    assert np.asarray(nibabel.load(submission.file).dataobj).sum() == mask.sum()
    records = RecordStore(tmp_path / "records")
    keeper = ResultRecorder(records, store.image_source, VolumeCache(1 << 20), store.archive())
    keeper.label(submission)
    records.close()
    (segmentation,) = client.stored
    (segment,) = segmentation.SegmentSequence
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "85756007"
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == series_uid


def test_an_empty_label_is_refused_with_a_reason(store, series_uid, tmp_path) -> None:
    image = nibabel.load(store.image_source(series_uid).path)
    empty = nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine)
    nibabel.save(empty, tmp_path / "l.nii.gz")
    with pytest.raises(InputError, match="empty"):
        store.save_label(series_uid, str(tmp_path / "l.nii.gz"), "final", {})


def test_a_mask_becomes_a_segmentation_of_the_fetched_series(store, series_uid, answered) -> None:
    source = store.image_source(series_uid)
    volume = read_volume(source)
    mask = np.zeros(volume.shape_ijk, np.uint8)
    mask[4, 3, 2] = 1
    written = dicom_seg_of(answered(volume, Plane.AXIAL, 2, mask), volume, source)
    segmentation = pydicom.dcmread(io.BytesIO(written))
    assert segmentation.pixel_array.squeeze()[3, 4] == 1
    # The server knows what made it, whatever the client says of its segments.
    assert segmentation.SegmentSequence[0].SegmentAlgorithmName == "MedReasoner"
    position = segmentation.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    assert [float(v) for v in position.ImagePositionPatient] == [-20.5, 7.25, 106.0]
