# SPDX-License-Identifier: Apache-2.0
"""Bad objects among the studies and in the PACS: they are named, and the rest goes on."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import generate_uid
from support.servers import Orthanc, ServerProcess

pytest.importorskip("monailabel")
pytest.importorskip("datasets")

from medreasoner_infer.imaging import load_volume
from medreasoner_training.samples import SampleSettings
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.dicom.codes import code_table
from monailabel_app.dicom.encoding import new_ids, to_bytes
from monailabel_app.dicom.segmentation import SegmentSpec, write_segmentation
from monailabel_app.dicom.source import open_source
from monailabel_app.errors import StudiesWriteError
from monailabel_app.export.exporting import ExportSettings, export_studies
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import read_volume
from monailabel_app.studies.local import StudiesFolder
from monailabel_app.studies.looking import look_through
from monailabel_app.studies.pacs import PacsStudies
from monailabel_app.studies.pacs_labels import write_label_map

LIVER = code_table().find("liver")
SHAPE_IJK = (24, 20, 6)
SMALL = ExportSettings(0.0, SampleSettings(model_size=112, min_area_px=20, max_slices=2))
BAD = {
    "bad/cut.dcm": "cut short",
    "bad/empty.dcm": "named as DICOM",
    "broken": "",
    "case1.png": "same name",
    "CASE2.NII": "no extension",
    "below/c.nii.gz": "folder within",
}


def ct(folder: Path, seed: int) -> Path:
    hu = np.random.default_rng(seed).integers(-100, 150, SHAPE_IJK[::-1])
    return write_ct_series(hu, CtGrid((2.0, 2.0, 5.0), (0.0, 0.0, 0.0), np.eye(3)), folder, seed)


def series_uid(folder: Path) -> str:
    return str(pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID)


@pytest.fixture
def mixed(tmp_path) -> Path:
    """A good series, a good NIfTI file, and one of each thing that cannot be offered."""
    studies = tmp_path / "studies"
    ct(studies / "good", seed=1)
    image = nibabel.Nifti1Image(np.zeros((8, 8, 4), np.float32), np.eye(4))
    nibabel.save(image, studies / "case1.nii.gz")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(studies / "case1.png")
    for name in ("bad", "below"):
        (studies / name).mkdir()
    whole = next((studies / "good").iterdir()).read_bytes()
    (studies / "bad" / "cut.dcm").write_bytes(whole[:300])
    (studies / "bad" / "empty.dcm").touch()
    (studies / "CASE2.NII").touch()
    shutil.copy(studies / "case1.nii.gz", studies / "below" / "c.nii.gz")
    for path in ct(studies / "broken", seed=2).iterdir():
        header = pydicom.dcmread(path)
        del header.PixelData
        header.save_as(path)
    return studies


def opened(studies: Path, **options: bool) -> StudiesFolder:
    records = studies.parent / "records"
    return StudiesFolder(studies, records / "series", auto_reload=False, **options)


def mask_file(store: StudiesFolder, image_id: str, folder: Path) -> Path:
    volume = read_volume(store.image_source(image_id))
    labels = np.zeros(volume.shape_ijk, np.uint8)
    labels[4:12, 3:9, 2:4] = 1
    target = folder / "mask.nii.gz"
    nibabel.save(nibabel.Nifti1Image(labels, nibabel.load(
        store.get_image_uri(image_id)).affine), target)  # fmt: skip
    return target


def test_a_folder_names_and_counts_what_it_does_not_offer(mixed, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        store = opened(mixed)
    assert sorted(store.list_images()) == sorted([series_uid(mixed / "good"), "case1"])
    told = store.status()
    assert told["set_aside_total"] == len(BAD)
    assert {one["name"] for one in told["set_aside"]} == set(BAD)
    for one in told["set_aside"]:
        assert BAD[one["name"]] in one["reason"]
    assert not [name for name in (*BAD, "good") if name in caplog.text]


@pytest.mark.parametrize("name", [b"caf\xe9.nii.gz", b"caf\xe9.dcm", b"caf\xe9/cut.dcm"])
def test_a_name_that_is_no_text_is_told_in_a_reply(mixed, name) -> None:
    """A file that was named on a machine of another character set made each list a fault."""
    path = Path(os.fsdecode(os.fsencode(mixed) + b"/" + name))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((mixed / "bad" / "cut.dcm").read_bytes())
    told = opened(mixed).status()
    assert json.dumps(told, ensure_ascii=False).encode()
    assert told["set_aside_total"] == len(BAD) + 1
    assert [one for one in told["set_aside"] if "caf\\udce9" in one["name"]]


@pytest.mark.parametrize("name", ["pair.hdr", "brain.mgz", "scan.GIPL", "below/a.mnc"])
def test_an_image_of_a_format_that_is_not_read_is_named(mixed, name) -> None:
    (mixed / name).write_bytes(b"voxels")
    assert name in {one.name for one in opened(mixed).set_aside()}


def test_what_is_not_opened_is_named(mixed, tmp_path) -> None:
    elsewhere = ct(tmp_path / "elsewhere", seed=7)
    (mixed / "linked study").symlink_to(elsewhere)
    (mixed / "below" / "outside.dcm").symlink_to(next(elsewhere.iterdir()))
    (mixed / "gone.nii.gz").symlink_to("nowhere.nii.gz")
    (mixed / "circle").symlink_to("circle")
    os.mkfifo(mixed / "pipe.nii.gz")
    (mixed / ".hidden").symlink_to("nowhere")
    (mixed / "within.dcm").symlink_to(next((mixed / "good").iterdir()))
    named = {one.name: one.reason for one in opened(mixed).set_aside()}
    not_opened = {"linked study", "below/outside.dcm", "gone.nii.gz", "circle", "pipe.nii.gz"}
    assert set(named) == {*BAD, *not_opened}
    assert all("link" in named[name] for name in not_opened)


def test_a_name_of_several_lines_is_told_in_one(mixed) -> None:
    (mixed / "two\nlines\x1b[31m.dcm").touch()
    assert r"two\nlines\x1b[31m.dcm" in {one.name for one in opened(mixed).set_aside()}


def test_what_is_mended_is_offered_again(mixed) -> None:
    store = opened(mixed)
    (mixed / "case1.png").rename(mixed / "case3.png")
    store.refresh()
    assert "case3" in store.list_images()
    assert "case1.png" not in {one.name for one in store.set_aside()}


def test_a_listed_file_that_cannot_be_read_is_found_by_looking(mixed) -> None:
    whole = (mixed / "case1.nii.gz").read_bytes()
    (mixed / "case1.nii.gz").write_bytes(whole[: len(whole) // 2])
    looked = look_through(opened(mixed))
    assert looked.offered == 1
    assert {one.name for one in looked.set_aside} == {*BAD, "case1"}


@pytest.mark.parametrize("is_relative", [True, False])
def test_the_good_label_is_exported_beside_bad_ones(
    mixed, tmp_path, monkeypatch, is_relative
) -> None:
    monkeypatch.chdir(tmp_path)
    store = opened(mixed)
    uid = series_uid(mixed / "good")
    info = {"label_info": [{"name": "liver", "idx": 1}]}
    store.save_label(uid, str(mask_file(store, uid, tmp_path)), "final", info)
    store.save_label("case1", str(mask_file(store, "case1", tmp_path)), "final", info)
    (mixed / "labels" / "final" / "case1.nii.gz").write_bytes(b"no label")
    before = json.loads((mixed / "datastore_v2.json").read_text())["objects"]
    told = []
    records = (tmp_path / "records").relative_to(tmp_path) if is_relative else tmp_path / "records"
    studies = mixed.relative_to(tmp_path) if is_relative else mixed
    out = export_studies(
        str(studies), tmp_path / "set", SMALL, data_dir=records, tell=told.append
    )  # fmt: skip
    assert {row["extra_info"]["category"] for row in out.load("train")} == {"liver"}
    assert [(entry.reason, entry.count) for entry in out.manifest.left_out] == [
        ("the image or the label cannot be read", 1)
    ]
    assert {one.name for one in told} == {*BAD, "case1"}
    assert json.loads((mixed / "datastore_v2.json").read_text())["objects"] == before


@pytest.mark.parametrize("image_id", ["case.v1.2", "1.2.840.7", "a.b c", "scan.2024-01-02"])
def test_a_dotted_name_keeps_its_end(mixed, tmp_path, image_id) -> None:
    store = opened(mixed)
    store.add_new_image(image_id, mixed / "case1.nii.gz", {})
    mask = mask_file(store, image_id, tmp_path)
    store.save_label(image_id, str(mask), "final", {})
    again = opened(mixed)
    assert image_id in again.list_images()
    assert image_id in again.get_labeled_images()
    assert (mixed / "labels" / "final" / f"{image_id}.nii.gz").is_file()


# --- studies that may only be read ----------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes | None]:
    paths = sorted(folder.rglob("*"))
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def test_studies_that_may_only_be_read_are_listed_and_left_as_they_are(mixed, tmp_path) -> None:
    before = contents(mixed)
    store = opened(mixed, read_only=True)
    uid = series_uid(mixed / "good")
    assert sorted(store.list_images()) == sorted([uid, "case1"])
    assert read_volume(store.image_source(uid)).shape_ijk == SHAPE_IJK
    with pytest.raises(StudiesWriteError, match="may only be read"):
        store.save_label(uid, str(mask_file(store, uid, tmp_path)), "final", {})
    assert contents(mixed) == before


# --- segmentations --------------------------------------------------------------------------------


def segmentation_of(folder: Path, labels: np.ndarray, names: list[str]) -> pydicom.Dataset:
    source = open_source(folder, load_volume(folder))
    specs = [SegmentSpec(value, name, LIVER) for value, name in enumerate(names, start=1)]
    made = write_segmentation(labels, specs, source, new_ids())
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(to_bytes(made)))


def overlapping(folder: Path) -> tuple[pydicom.Dataset, np.ndarray, np.ndarray]:
    """A segmentation of two segments that share voxels, and both masks (I, J, K)."""
    first, second = (np.zeros(SHAPE_IJK, bool) for _ in range(2))
    first[4:12, 3:9, 2:4] = True
    second[8:18, 3:12, 2:4] = True
    made = segmentation_of(
        folder, np.where(first, 1, 2 * second).astype(np.uint8), ["Liver", "Spleen"]
    )
    pixels = np.unpackbits(np.frombuffer(made.PixelData, np.uint8), bitorder="little")[
        : len(made.PerFrameFunctionalGroupsSequence) * SHAPE_IJK[0] * SHAPE_IJK[1]
    ]
    frames = pixels.reshape(-1, SHAPE_IJK[1], SHAPE_IJK[0]).copy()
    for frame, item in zip(frames, made.PerFrameFunctionalGroupsSequence, strict=True):
        number = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        frame[:] = (first if number == 1 else second)[:, :, 2].T
    made.PixelData = np.packbits(frames, bitorder="little").tobytes()
    made.SegmentsOverlap = "YES"
    return made, first, second


def test_overlapping_segments_are_told_of(tmp_path, caplog) -> None:
    folder = ct(tmp_path / "ct", seed=4)
    made, first, second = overlapping(folder)
    (tmp_path / "seg").mkdir()
    made.save_as(tmp_path / "seg" / "seg.dcm", write_like_original=False)
    target = tmp_path / "l.nii.gz"
    with caplog.at_level(logging.WARNING):
        loss = write_label_map(tmp_path / "seg", ImageSource(folder, dicom_folder=folder), target)
    assert loss.overlapped == (1,)
    shared = int((first & second).sum())
    assert shared == 4 * 6 * 2
    assert f"lost {shared} voxel(s)" in caplog.text
    found = np.asarray(nibabel.load(target).dataobj)
    assert ((found == 1).sum(), (found == 2).sum()) == (first.sum() - shared, second.sum())


def test_more_than_255_segments_keep_their_numbers(tmp_path) -> None:
    folder = ct(tmp_path / "ct", seed=5)
    labels = np.zeros(SHAPE_IJK, np.int32)
    labels.reshape(-1)[:300] = np.arange(1, 301)
    made = segmentation_of(folder, labels, [str(value) for value in range(1, 301)])
    (tmp_path / "seg").mkdir()
    made.save_as(tmp_path / "seg" / "seg.dcm", write_like_original=False)
    target = tmp_path / "l.nii.gz"
    loss = write_label_map(tmp_path / "seg", ImageSource(folder, dicom_folder=folder), target)
    assert np.array_equal(np.asarray(nibabel.load(target).dataobj), labels)
    assert loss.warnings == ()


@pytest.fixture
def orthanc(tmp_path) -> Iterator[Orthanc]:
    if shutil.which("Orthanc") is None or not Orthanc.PLUGINS.is_dir():
        pytest.skip("Orthanc with its DICOMweb plugin is absent; apt-get install orthanc-dicomweb")
    server = Orthanc(tmp_path / "orthanc")
    server.start()
    yield server
    server.stop()


def stored(server: Orthanc, folder: Path, segmentation: pydicom.Dataset) -> str:
    for path in folder.iterdir():
        server.store(path.read_bytes())
    segmentation.save_as(folder.parent / "to_store.dcm", write_like_original=False)
    server.store((folder.parent / "to_store.dcm").read_bytes())
    return str(segmentation.SeriesInstanceUID)


def one_of_each_bad_thing(
    orthanc: Orthanc, tmp_path: Path
) -> tuple[dict[str, Path], dict[str, str]]:
    """Fill a PACS; the folders of the images, and the UIDs of their segmentations."""
    labels = np.zeros(SHAPE_IJK, np.uint8)
    labels[4:12, 3:9, 2:4] = 1
    folders = {name: ct(tmp_path / name, seed) for seed, name in enumerate(
        ("good", "overlap", "foreign", "pixels", "unreadable"), start=10)}  # fmt: skip
    for path in folders["unreadable"].iterdir():
        image = pydicom.dcmread(path)
        image.ImageOrientationPatient = [1, 0, 0, 1, 0, 0]
        image.save_as(path)
    good = {name: segmentation_of(folders[name], labels, ["Pancreas"]) for name in
            ("good", "foreign", "pixels")}  # fmt: skip
    good["foreign"].FrameOfReferenceUID = generate_uid()
    good["pixels"].PixelData = good["pixels"].PixelData[:20]
    of_unreadable = segmentation_of(folders["good"], labels, ["Pancreas"])
    of_unreadable.SeriesInstanceUID, of_unreadable.SOPInstanceUID = generate_uid(), generate_uid()
    of_unreadable.file_meta.MediaStorageSOPInstanceUID = of_unreadable.SOPInstanceUID
    reference = of_unreadable.ReferencedSeriesSequence[0]
    reference.SeriesInstanceUID = series_uid(folders["unreadable"])
    overlap, _, _ = overlapping(folders["overlap"])
    uids = {name: stored(orthanc, folders[name], made) for name, made in good.items()}
    uids["overlap"] = stored(orthanc, folders["overlap"], overlap)
    uids["unreadable"] = stored(orthanc, folders["unreadable"], of_unreadable)
    return folders, uids


@pytest.mark.slow
def test_a_pacs_with_one_of_each_bad_thing_is_listed_and_exported(
    orthanc, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    _, uids = one_of_each_bad_thing(orthanc, tmp_path)
    told = []
    monkeypatch.setattr(
        PacsStudies,
        "connect",
        classmethod(lambda cls, address, *_: _connected(cls, address, tmp_path)),
    )
    out = export_studies(orthanc.dicom_web, tmp_path / "set", SMALL, tell=told.append)
    assert {row["extra_info"]["category"] for row in out.load("train")} == {
        "Pancreas",
        "Liver",
        "Spleen",
    }
    boxes = {
        row["extra_info"]["category"]: json.loads(row["reward_model"]["ground_truth"])["bbox_2d"]
        for row in out.load("train")
    }
    # 24 pixels across a square of 112: 4.67 px each. Both segments are whole.
    assert (boxes["Liver"][0], boxes["Liver"][2]) == (round(4 * 112 / 24), round(12 * 112 / 24))
    assert (boxes["Spleen"][0], boxes["Spleen"][2]) == (round(8 * 112 / 24), round(18 * 112 / 24))
    reasons = {one.name: one.reason for one in told}
    assert set(reasons) == {uids[name] for name in ("foreign", "pixels", "unreadable", "overlap")}
    assert "frame of reference" in reasons[uids["foreign"]]
    assert "overlap" in reasons[uids["overlap"]]


def _connected(cls: type[PacsStudies], address: str, folder: Path) -> PacsStudies:
    from monailabel_app.pacs.client import connect_client

    return cls(client=connect_client(address), search_filter={}, cache_path=str(folder / "cache"))


@pytest.mark.slow
def test_a_server_on_such_a_folder_starts_lists_and_answers(mixed, tmp_path) -> None:
    import httpx
    from support.servers import free_port

    port = free_port()
    command = [sys.executable, "-m", "monailabel_app.cli", "serve", "--studies", str(mixed)]
    command += ["--port", str(port), "--records", str(tmp_path / "records")]
    url = f"http://127.0.0.1:{port}"
    server = ServerProcess(command, url, "/info/", tmp_path / "server.log")
    server.start({"MEDREASONER_HOME": str(tmp_path / "home")})
    try:
        told = httpx.get(f"{url}/datastore/").json()
        uid = series_uid(mixed / "good")
        params = {"params": json.dumps({"query": "Which organ makes bile?"})}
        answered = httpx.post(
            f"{url}/infer/medreasoner?image={uid}&output=json", data=params, timeout=300
        )
        refused = httpx.post(
            f"{url}/infer/medreasoner?image={uid}", data={"params": '{"query": 7}'}
        )
    finally:
        server.stop()
    assert (told["total"], told["set_aside_total"]) == (2, len(BAD))
    assert answered.status_code == 200
    assert refused.status_code == 422
    log = (tmp_path / "server.log").read_text()
    assert "POST /infer/{model}: 422" in log
    assert uid not in log
    assert "bile" not in log
    assert (tmp_path / "records" / "records.sqlite").is_file()
    assert not (mixed / ".medreasoner").exists()
    done = subprocess.run(
        [sys.executable, "-m", "monailabel_app.cli", "doctor", "--studies", str(mixed)],
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert "2 image(s) offered" in done.stdout
    assert "Set aside: case1.png" in done.stdout


@pytest.mark.slow
def test_a_server_on_such_a_pacs_starts_lists_and_answers(orthanc, tmp_path) -> None:
    import httpx
    from support.servers import free_port

    folders, segmentations = one_of_each_bad_thing(orthanc, tmp_path)
    series = {name: series_uid(folder) for name, folder in folders.items()}
    port = free_port()
    command = [sys.executable, "-m", "monailabel_app.cli", "serve"]
    command += ["--studies", orthanc.dicom_web, "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    server = ServerProcess(command, url, "/info/", tmp_path / "server.log")
    environment = {
        "MEDREASONER_HOME": str(tmp_path / "home"),
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(tmp_path / "cache"),
    }
    params = {"params": json.dumps({"query": "Which organ makes bile?"})}
    server.start(environment)
    try:
        answers = {
            name: httpx.post(
                f"{url}/infer/medreasoner?image={uid}&output=json", data=params, timeout=300
            )
            for name, uid in series.items()
        }
        told = httpx.get(f"{url}/datastore/", timeout=300).json()
    finally:
        server.stop()
    assert told["total"] == len(series)
    codes = {name: answer.status_code for name, answer in answers.items()}
    assert codes == {**dict.fromkeys(series, 200), "unreadable": 422}
    assert "image orientation" in answers["unreadable"].text
    done = subprocess.run(
        [sys.executable, "-m", "monailabel_app.cli", "doctor", "--studies", orthanc.dicom_web],
        capture_output=True, text=True, timeout=500, env={**os.environ, **environment},
    )  # fmt: skip
    bad = [segmentations[name] for name in ("foreign", "pixels", "unreadable", "overlap")]
    assert f"{len(series)} image(s) offered, {len(bad)} set aside" in done.stdout
    assert [uid for uid in bad if f"Set aside: {uid}" not in done.stdout] == []
