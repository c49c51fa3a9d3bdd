# SPDX-License-Identifier: Apache-2.0
"""Export from a DICOMweb server; dicomweb-client's own file client stands for the server."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import requests

pytest.importorskip("monailabel")
pytest.importorskip("datasets")

from dicomweb_client import DICOMfileClient

from medreasoner_infer.errors import InputError
from medreasoner_training.samples import LeftOut, SampleSettings
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.dicom.recording import ResultRecorder
from monailabel_app.errors import PacsUnreachableError
from monailabel_app.export.approved import approved_labels
from monailabel_app.export.exporting import ExportSettings, export_approved
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.store import LabelSubmission, RecordStore
from monailabel_app.studies.pacs import PacsStudies

GRID = CtGrid((2.0, 2.0, 5.0), (-20.0, 7.0, 100.0), np.eye(3))
SHAPE_IJK = (24, 20, 16)
SALT = b"s" * 32
SMALL = ExportSettings(0.0, SampleSettings(model_size=112, min_area_px=20, max_slices=4))


class FileClient:
    """A folder of DICOM files behind the calls of a DICOMweb client.

    The file client's index belongs to one thread, so each call opens the folder anew.
    """

    def __init__(self, url: str) -> None:
        self.base_url = url
        self.error: Exception | None = None

    def _open(self) -> DICOMfileClient:
        if self.error is not None:
            raise self.error
        return DICOMfileClient(self.base_url, update_db=True, in_memory=True)

    def search_for_series(self, **filters):
        return self._open().search_for_series(**filters)

    def iter_series(self, *uids):
        return iter(self._open().retrieve_series(*uids))

    def retrieve_series_metadata(self, *uids):
        return self._open().retrieve_series_metadata(*uids)

    def store_instances(self, datasets):
        folder = Path(self.base_url.removeprefix("file://"))
        for dataset in datasets:
            dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm", write_like_original=False)
        return pydicom.Dataset()


@pytest.fixture
def server(tmp_path: Path) -> Path:
    hu = np.random.default_rng(5).integers(-100, 150, SHAPE_IJK[::-1])
    write_ct_series(hu, GRID, tmp_path / "server" / "ct", seed=1)
    return tmp_path / "server"


@pytest.fixture
def series_uid(server: Path) -> str:
    return str(pydicom.dcmread(server / "ct" / "0001.dcm").SeriesInstanceUID)


def open_store(server: Path, cache: Path) -> PacsStudies:
    return PacsStudies(
        client=FileClient(server.as_uri()), search_filter={"Modality": "CT"}, cache_path=str(cache)
    )


@pytest.fixture
def submitted(server, series_uid, tmp_path) -> None:
    """A label of two segments, stored on the server as DICOM SEG by one workstation."""
    store = open_store(server, tmp_path / "first")
    image = nibabel.load(store.image_source(series_uid).path)
    labels = np.zeros(SHAPE_IJK, np.uint8)
    labels[4:12, 3:9, 6:9] = 1
    labels[16:20, 12:16, 6:9] = 2
    nibabel.save(nibabel.Nifti1Image(labels, image.affine), tmp_path / "l.nii.gz")
    info = [{"name": "Liver", "idx": 1}, {"name": "Spleen", "idx": 2}]
    store.save_label(series_uid, str(tmp_path / "l.nii.gz"), "final", {"label_info": info})
    records = RecordStore(tmp_path / "records")
    keeper = ResultRecorder(
        records, store.image_source, VolumeCache(1 << 20), store.archive(), store.label_sent
    )
    keeper.label(store.take_submission(series_uid))
    records.close()


@pytest.mark.parametrize("cache", ["first", "second"])
def test_segmentations_of_the_server_are_exported_by_their_names(
    submitted, server, series_uid, tmp_path, cache
) -> None:
    """From the workstation that stored them, and from one that fetches them."""
    store = open_store(server, tmp_path / cache)
    dataset = export_approved(store, None, SALT, tmp_path / "set", SMALL)
    boxes = {
        (row["extra_info"]["category"], row["extra_info"]["slice_index"]): json.loads(
            row["reward_model"]["ground_truth"]
        )["bbox_2d"]
        for row in dataset.load("train")
    }
    # 24 x 20 pixels in a square of 112: 4.67 px wide, 4.65 px high, 9 px of padding on top.
    liver, spleen = [19, 23, 56, 51], [75, 65, 93, 83]
    expected = {("Liver", k): liver for k in (6, 7, 8)}
    assert boxes == expected | {("Spleen", k): spleen for k in (6, 7, 8)}
    texts = json.dumps([row["extra_info"] for row in dataset.load("train")])
    assert series_uid not in texts
    assert "QUICKSTART" not in texts


def test_a_server_that_does_not_answer_is_a_typed_error(server, tmp_path) -> None:
    store = open_store(server, tmp_path / "cache")
    store._client.error = requests.ConnectionError("gone")
    with pytest.raises(PacsUnreachableError, match="try again"):
        approved_labels(store, None, LeftOut())


def send_draft(server: Path, series_uid: str, folder: Path) -> PacsStudies:
    """A mask that no reader has looked at, stored on the server by one workstation."""
    store = open_store(server, folder / "first")
    image = nibabel.load(store.image_source(series_uid).path)
    mask = np.zeros(SHAPE_IJK, np.uint8)
    mask[2:8, 2:8, 9:12] = 1
    nibabel.save(nibabel.Nifti1Image(mask, image.affine), folder / "draft.nii.gz")
    records = RecordStore(folder / "records")
    keeper = ResultRecorder(
        records, store.image_source, VolumeCache(1 << 20), store.archive(), store.label_sent
    )
    info = {"label_info": [{"name": "Liver", "idx": 1}]}
    draft = LabelSubmission(series_uid, "original-1", folder / "draft.nii.gz", info)
    keeper.send_label(keeper.draft(draft, to_archive=True))
    records.close()
    return store


@pytest.mark.parametrize("cache", ["first", "second"])
def test_what_nobody_has_reviewed_is_no_label_of_the_server(
    server, series_uid, tmp_path, cache
) -> None:
    send_draft(server, series_uid, tmp_path)
    stored = [pydicom.dcmread(path) for path in server.glob("*.dcm")]
    assert [(each.Modality, each.SegmentSequence[0].SegmentAlgorithmType) for each in stored] == [
        ("SEG", "AUTOMATIC")
    ]
    store = open_store(server, tmp_path / cache)
    assert store.get_labeled_images() == []
    assert approved_labels(store, None, LeftOut()) == []


def test_a_draft_leaves_the_reader_s_label_as_it_was(
    submitted, server, series_uid, tmp_path
) -> None:
    before = open_store(server, tmp_path / "first").get_label_info(series_uid, "final")
    store = send_draft(server, series_uid, tmp_path)
    (label,) = approved_labels(store, None, LeftOut())
    assert label.info["SeriesInstanceUID"] == before["SeriesInstanceUID"]
    assert store.get_label_info(series_uid, "final") == before


def test_a_draft_is_no_final_label(server, series_uid, tmp_path) -> None:
    store = open_store(server, tmp_path / "first")
    records = RecordStore(tmp_path / "records")
    keeper = ResultRecorder(records, store.image_source, VolumeCache(1 << 20), store.archive())
    with pytest.raises(InputError, match="cannot have the tag 'final'"):
        keeper.draft(LabelSubmission(series_uid, "final", None, {}), to_archive=True)
