# SPDX-License-Identifier: Apache-2.0
"""``/datastore``: what callers send is typed, becomes no key and no file of the server's, and a
reply tells what is on disk."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import shutil
import sqlite3
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints.user.auth import User, get_current_user

from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.framework import app_instance
from monailabel_app.studies.infos import SERVER_KEYS

SHAPE_IJK = (3, 3, 3)
# A reply that the server does not know how to give must not take until the client gives up.
CEILING_S = 15.0
INDEX = "datastore_v2.json"


def nifti(value: int = 1, shape=SHAPE_IJK, affine=None) -> bytes:
    affine = np.eye(4) if affine is None else affine
    image = nibabel.Nifti1Image(np.full(shape, value, np.uint8), affine)
    return gzip.compress(image.to_bytes(), mtime=0)


def itk(tmp_path: Path, suffix: str, value: int = 1) -> bytes:
    path = tmp_path / f"itk{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(np.full(SHAPE_IJK, value, np.uint8)), str(path))
    return path.read_bytes()


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".medreasoner" not in path.parts
    }


def scratch_of(studies: Path) -> list[Path]:
    return list((studies / ".medreasoner" / "scratch").glob("*"))


def submit(http, content: bytes = b"", image="case", tag="final", name="l.nii.gz", **params):
    return http.put(
        "/datastore/label",
        params={"image": image, "tag": tag},
        data={"params": json.dumps(params)},
        files={"label": (name, content or nifti())},
    )


@pytest.fixture
def as_role(serve, monkeypatch):
    """The server, called by a reader of that role."""

    def start(role: str, name: str = "ann", **settings: object):
        import monailabel.app

        client = serve(**settings)
        overrides = dict(monailabel.app.app.dependency_overrides)
        setting = getattr(monailabel_settings, f"MONAI_LABEL_AUTH_ROLE_{role.upper()}")
        user = User(username=name, roles=[setting])
        monkeypatch.setattr(
            monailabel.app.app, "dependency_overrides",
            {**overrides, get_current_user: lambda: user},
        )  # fmt: skip
        return client

    return start


# --- uploads -------------------------------------------------------------------------------------

CODE = b"import os\n" + b"os.system('id')\n" * 9
DETACHED_NRRD = (
    b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 3 3 3\nencoding: raw\n"
    b"data file: /etc/os-release\n\n"
)
DETACHED_MHA = (
    b"ObjectType = Image\nNDims = 3\nDimSize = 3 3 3\nElementType = MET_UCHAR\n"
    b"ElementDataFile = /etc/os-release\n"
)
NO_IMAGES = {
    "code": CODE, "empty": b"", "zip": b"PK\x03\x04" + bytes(64), "html": b"<html></html>",
    "elf": b"\x7fELF" + bytes(64), "detached nrrd": DETACHED_NRRD, "detached mha": DETACHED_MHA,
    "gzip of code": gzip.compress(CODE), "cut gzip": nifti()[:40], "cut nifti": nifti()[:-30],
    "png head": b"\x89PNG\r\n\x1a\n" + bytes(32), "nrrd head": b"NRRD0004\n",
    "link text": b"/etc/passwd",
}  # fmt: skip
NAMES = ["x.py", "sitecustomize.pth", "x.nii.gz", "..", "../../x.so", ""]


@pytest.mark.parametrize("content", NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_is_refused_under_any_name_and_leaves_nothing(
    serve, studies, content
) -> None:
    client = serve()
    before = files_of(studies)
    for name in ("sitecustomize.py", "x.nii.gz", "x.nrrd", "x.mha", "x.png"):
        answer = client.put("/datastore/image?image=sitecustomize", files={"file": (name, content)})
        assert answer.status_code == 422
        assert isinstance(answer.json()["detail"], str)
    assert files_of(studies) == before
    assert scratch_of(studies) == []


@pytest.mark.parametrize("name", ["x.py", "sitecustomize.pth", "../../x.so", "x.nrrd", "no"])
def test_the_format_is_told_by_the_content_and_never_by_the_name(serve, studies, name) -> None:
    client = serve()
    content = nifti()
    answer = client.put("/datastore/image?image=new", files={"file": (name, content)})
    assert answer.json() == {"image": "new"}
    assert (studies / "new.nii.gz").read_bytes() == content
    assert (studies / "new.nii.gz").stat().st_mode & 0o777 == 0o600
    assert not [path for path in files_of(studies) if path.endswith((".py", ".pth", ".so"))]
    assert scratch_of(studies) == []


@pytest.mark.parametrize(
    ("image_id", "status"),
    [("case", 409), ("CASE", 409), ("labels", 422), ("datastore_v2.json", 422), (".lock", 422),
     (".medreasoner", 422), ("new.nii.gz", 422), ("x.py", 422), ("a" * 250, 422), ("", 422),
     ("a\tb", 422)],
)  # fmt: skip
def test_an_id_that_is_taken_or_means_something_else_is_refused(
    serve, studies, image_id, status
) -> None:
    client = serve()
    before = files_of(studies)
    answer = client.put(
        "/datastore/image", params={"image": image_id}, files={"file": ("n", nifti())}
    )
    assert answer.status_code == status
    assert files_of(studies) == before


@pytest.mark.parametrize("content", [*NO_IMAGES.values()], ids=[*NO_IMAGES])
def test_a_label_that_cannot_be_read_is_refused_and_leaves_nothing(serve, studies, content) -> None:
    client = serve()
    before = files_of(studies)
    for name in ("l.nrrd", "l.nii.gz", "l.bin", "l.py"):
        answer = submit(client, content or b"\0", name=name)
        assert answer.status_code == 422, answer.text
        assert "PRETTY_NAME" not in answer.text
    assert files_of(studies) == before
    assert scratch_of(studies) == []
    assert client.get("/datastore/").json()["completed"] == 0


def colour(tmp_path: Path) -> bytes:
    pixels = sitk.GetImageFromArray(np.zeros((3, 3, 3), np.uint8), isVector=True)
    sitk.WriteImage(pixels, str(tmp_path / "c.png"))
    return (tmp_path / "c.png").read_bytes()


def test_a_label_that_cannot_be_of_the_image_is_refused(serve, studies, tmp_path) -> None:
    client = serve()
    away = np.eye(4)
    away[:3, 3] = 1000
    negative = gzip.compress(
        nibabel.Nifti1Image(np.full(SHAPE_IJK, -1, np.int16), np.eye(4)).to_bytes()
    )
    for content in (nifti(affine=away), colour(tmp_path), negative):
        answer = submit(client, content)
        assert answer.status_code == 422, answer.text
    assert not (studies / "labels" / "final" / "case.nii.gz").exists()


def test_every_format_of_a_label_is_kept_under_its_own_extension(serve, studies, tmp_path) -> None:
    client = serve()
    contents = {".nrrd": itk(tmp_path, ".nrrd"), ".mha": itk(tmp_path, ".mha"), ".nii.gz": nifti()}
    for suffix, content in contents.items():
        assert submit(client, content, name="label").status_code == 200
        (kept,) = (studies / "labels" / "final").iterdir()
        assert kept.name == f"case{suffix}"
        assert kept.read_bytes() == content
        assert client.get("/datastore/label?label=case&tag=final").content == content


def test_bare_voxels_are_put_onto_the_images_grid(serve, studies) -> None:
    values = np.zeros(SHAPE_IJK, np.uint8)
    values[2, 1, 0] = 7
    assert submit(serve(), values.tobytes(order="F"), name="label.bin").status_code == 200
    kept = nibabel.load(studies / "labels" / "final" / "case.nii.gz")
    np.testing.assert_array_equal(np.asarray(kept.dataobj), values)


# --- whose word ----------------------------------------------------------------------------------

POISON = [
    '{"note": "\\ud800"}', '{"note": "a\\u0000b"}', '{"x": NaN}', '{"x": -Infinity}',
    '{"x": 1e999}', '{"x": ' + "9" * 5000 + "}", '{"a":' * 200 + "1" + "}" * 200,
    '{"a":' * 935 + "1" + "}" * 935, "[" * 100_000, "[1]", "null", "7", '"text"', "{", "\ufeff{}",
    '{"inference_id": ["x"]}', '{"inference_id": {}}', '{"label_info": {}}', '{"label_info": [1]}',
    '{"label_info": "x"}', '{"outcome": []}', '{"outcome": "perfect"}', '{"outcome_reason": 5}',
    '{"segmentationMeta": []}', '{"segmentationMeta": {"status": "great"}}',
    '{"segmentationMeta": {"status": ["approved"]}}', '{"segmentationMeta": {"rank": 1}}',
    json.dumps({"x": "y" * (300 << 10)}), json.dumps({"label_info": [{}] * 2000}),
]  # fmt: skip


@pytest.mark.parametrize("text", POISON, ids=range(len(POISON)))
def test_poison_is_refused_by_every_route_that_takes_words(serve, studies, text) -> None:
    client = serve()
    assert submit(client).status_code == 200
    before = (studies / INDEX).read_bytes()
    answers = [
        client.put("/datastore/image/info?image=case", data={"info": text}),
        client.put("/datastore/label/info?label=case&tag=final", data={"info": text}),
        client.put("/datastore/updatelabelinfo?label=case&tag=final", data={"params": text}),
        client.put(
            "/datastore/label?image=case", data={"params": text}, files={"label": ("l", nifti(2))}
        ),
        client.put(
            "/datastore/image?image=new", data={"params": text}, files={"file": ("n", nifti())}
        ),
    ]
    assert [answer.status_code for answer in answers] == [422] * 5
    assert all("detail" in answer.json() for answer in answers)
    assert (studies / INDEX).read_bytes() == before
    assert not (studies / "new.nii.gz").exists()
    assert client.get("/datastore/?output=all").status_code == 200


FORGED = {key: f"forged {key}" for key in sorted(SERVER_KEYS - {"segmentationMeta"})}


def test_no_key_of_the_servers_can_be_said_by_a_caller(serve, studies) -> None:
    client = serve()
    submit(client, **FORGED, note="mine")
    client.put("/datastore/image/info?image=case", data={"info": json.dumps({**FORGED, "a": 1})})
    client.put(
        "/datastore/label/info?label=case&tag=final", data={"info": json.dumps({**FORGED, "b": 2})}
    )
    client.put(
        "/datastore/image?image=new", data={"params": json.dumps(FORGED)},
        files={"file": ("n", nifti())},
    )  # fmt: skip
    listed = client.get("/datastore/?output=all").text
    assert "forged" not in listed
    assert "forged" not in (studies / INDEX).read_text()
    entry = json.loads(listed)["objects"]["case"]
    assert entry["image"]["info"]["a"] == 1
    assert entry["labels"]["final"]["info"]["note"] == "mine"
    assert entry["labels"]["final"]["info"]["b"] == 2
    assert entry["labels"]["final"]["info"]["name"] == "case.nii.gz"


def test_a_forged_place_of_a_series_makes_no_segmentation_of_a_foreign_patient(
    serve, studies, tmp_path
) -> None:
    grid = CtGrid((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    write_ct_series(np.zeros((2, 4, 4), np.int16), grid, studies / "ct", seed=1)
    write_ct_series(np.zeros((2, 4, 4), np.int16), grid, tmp_path / "foreign", seed=2)
    client = serve()
    store = app_instance().datastore()
    (uid,) = set(store.list_images()) - {"case"}
    before = store.image_source(uid)
    lie = {"dicom_folder": str(tmp_path / "foreign"), "SeriesInstanceUID": "1.2", "path": "/etc"}
    for image in (uid, "case"):
        client.put(f"/datastore/image/info?image={image}", data={"info": json.dumps(lie)})
    assert store.image_source(uid) == before
    assert store.image_source("case").dicom_folder is None
    assert "path" not in client.get(f"/datastore/image/info?image={uid}").json()


APPROVED = {
    "status": "approved", "level": "easy", "approvedBy": "somebody else", "comment": "fine",
    "editTime": 12,
}  # fmt: skip


def test_only_a_reviewer_sets_the_status_of_a_label_and_signs_for_it(as_role) -> None:
    words = json.dumps({"segmentationMeta": APPROVED})
    paths = (
        ("/datastore/label/info?label=case&tag=final", "info"),
        ("/datastore/updatelabelinfo?label=case&tag=final", "params"),
    )
    client = as_role("annotator")
    assert submit(client).status_code == 200
    for path, field in paths:
        assert client.put(path, data={field: words}).status_code == 403
    assert submit(client, segmentationMeta=APPROVED).status_code == 403
    info = client.get("/datastore/label/info?label=case&tag=final").json()
    assert "segmentationMeta" not in info
    client = as_role("reviewer", "rita")
    for path, field in paths:
        assert client.put(path, data={field: words}).status_code == 200
    stored = client.get("/datastore/?output=all").json()["objects"]["case"]["labels"]["final"]
    meta = stored["info"]["segmentationMeta"]
    assert (meta["status"], meta["approvedBy"], meta["comment"]) == ("approved", "rita", "fine")
    assert meta["editTime"] > 1_700_000_000
    client = as_role("annotator")
    assert submit(client, nifti(2)).status_code == 200
    info = client.get("/datastore/label/info?label=case&tag=final").json()
    assert "segmentationMeta" not in info
    assert info["reader"] == "ann"


def test_where_nobody_logs_in_everybody_reviews(serve) -> None:
    client = serve()
    submit(client)
    words = json.dumps({"segmentationMeta": APPROVED})
    assert client.put(
        "/datastore/updatelabelinfo?label=case&tag=final", data={"params": words}
    ).is_success
    info = client.get("/datastore/label/info?label=case&tag=final").json()
    assert info["segmentationMeta"] == APPROVED


@pytest.mark.parametrize("role", ["annotator", "reviewer"])
def test_a_reader_removes_nothing(as_role, studies, role) -> None:
    client = as_role(role, admin_routes=True)
    submit(client)
    for path in ("image?id=case", "?id=case", "label?id=case&tag=final"):
        assert client.delete(f"/datastore/{path}").status_code == 403
    assert client.get("/datastore/dataset").status_code == (200 if role == "reviewer" else 403)
    assert (studies / "case.nii.gz").is_file()


# --- what a reply tells --------------------------------------------------------------------------


def labels_of(client) -> list[dict]:
    records = app_instance().site.records
    with sqlite3.connect(records._database.engine.url.database) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM labels ORDER BY id")]


@contextlib.contextmanager
def locked_database(studies: Path) -> Iterator[None]:
    path = studies / ".medreasoner" / "records.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@pytest.mark.parametrize("earlier", [True, False], ids=["a label before", "none before"])
def test_a_locked_database_is_a_503_that_leaves_all_as_it_was(serve, studies, earlier) -> None:
    client = serve()
    if earlier:
        assert submit(client, nifti(1), note="first").status_code == 200
    before, recorded = files_of(studies), labels_of(client)
    with locked_database(studies):
        begun = time.monotonic()
        answer = submit(client, nifti(2), note="second")
        assert time.monotonic() - begun < CEILING_S
    assert answer.status_code == 503
    assert "locked" in answer.json()["detail"]
    assert "was not taken" in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) > 0
    assert files_of(studies) == before
    assert labels_of(client) == recorded
    assert client.get("/datastore/").json()["completed"] == int(earlier)
    kept = studies / ".medreasoner" / "labels"
    assert len(list(kept.iterdir())) == int(earlier)
    assert submit(client, nifti(2), note="second").status_code == 200
    assert len(labels_of(client)) == int(earlier) + 1


def test_the_same_label_once_more_is_one_record(serve, studies) -> None:
    client = serve()
    first = submit(client, nifti(2), note="x").json()
    again = submit(client, nifti(2), note="x").json()
    assert again["medreasoner"] == first["medreasoner"]
    assert len(labels_of(client)) == 1
    assert (
        submit(client, nifti(2), note="y").json()["medreasoner"]["id"]
        != (first["medreasoner"]["id"])
    )
    assert submit(client, nifti(2), tag="version_1").status_code == 200
    assert len(labels_of(client)) == 3


def test_removed_studies_are_a_503_and_stay_removed(serve, studies) -> None:
    client = serve()
    submit(client)
    shutil.rmtree(studies)
    words = {"info": '{"a": 1}'}
    answers = [
        submit(client, nifti(2)),
        client.put("/datastore/image?image=new", files={"file": ("n", nifti())}),
        client.put("/datastore/image/info?image=case", data=words),
        client.put("/datastore/label/info?label=case&tag=final", data=words),
        client.get("/datastore/"),
        client.get("/datastore/?output=all"),
        client.get("/datastore/image?image=case"),
    ]
    assert [answer.status_code for answer in answers] == [503] * len(answers)
    assert all("not there" in answer.json()["detail"] for answer in answers)
    assert not studies.exists()


def test_records_that_are_removed_alone_are_a_503_and_no_label_is_kept(serve, studies) -> None:
    client = serve()
    before = files_of(studies)
    shutil.rmtree(studies / ".medreasoner")
    answer = submit(client)
    assert answer.status_code == 503
    assert files_of(studies) == before


@pytest.fixture
def full_records(studies: Path) -> Iterator[Path]:
    """The records' folder on a disk of its own, of 2 MB."""
    folder = studies / ".medreasoner"
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_of_the_records_is_a_503_that_leaves_all_as_it_was(
    serve, studies, full_records
) -> None:
    client = serve()
    assert submit(client, nifti(1)).status_code == 200
    before, recorded = files_of(studies), labels_of(client)
    ballast = full_records / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    answer = submit(client, nifti(2), note="x" * 100_000)
    assert answer.status_code == 503
    assert answer.json()["detail"]
    assert files_of(studies) == before
    ballast.unlink()
    assert labels_of(client) == recorded
    assert submit(client, nifti(2), note="second").status_code == 200
    assert len(labels_of(client)) == 2


def test_a_record_that_fails_after_the_file_takes_the_label_back(serve, studies) -> None:
    """The disk fills up between the upload and the record: the copy of the label is refused."""
    client = serve()
    assert submit(client, nifti(1)).status_code == 200
    before = files_of(studies)
    kept = studies / ".medreasoner" / "labels"
    shutil.rmtree(kept)
    kept.write_text("a file where a folder belongs")
    assert submit(client, nifti(2)).status_code == 503
    assert files_of(studies) == before


# --- reading -------------------------------------------------------------------------------------


def test_images_and_labels_are_checked_and_given_out(serve, studies) -> None:
    client = serve()
    submit(client)
    content = (studies / "case.nii.gz").read_bytes()
    answer = client.get("/datastore/image?image=case")
    assert answer.content == content
    assert 'filename="case.nii.gz"' in answer.headers["content-disposition"]
    digests = {"": "sha256", "SHA256:": "sha256", "MD5:": "md5", "SHA512:": "sha512"}
    for prefix, algorithm in digests.items():
        digest = hashlib.new(algorithm, content).hexdigest()
        query = {"image": "case", "check_sum": prefix + digest}
        assert client.head("/datastore/image", params=query).status_code == 200
        query["check_sum"] = prefix + "0" * len(digest)
        assert client.head("/datastore/image", params=query).status_code == 404
    assert client.head("/datastore/image?image=case&check_sum=CRC:1").status_code == 422
    assert client.head("/datastore/label?image=case&tag=final").status_code == 200
    assert client.head("/datastore/label?image=case&tag=original").status_code == 404
    for path in (
        "image?image=nobody", "label?label=nobody&tag=final", "label?label=case&tag=other",
        "image/info?image=nobody", "label/info?label=nobody&tag=final",
    ):  # fmt: skip
        assert client.get(f"/datastore/{path}").status_code == 404


@pytest.mark.parametrize("query", ["output=everything", "output=", "output=all&output=x"])
def test_an_output_that_is_none_is_refused(serve, query) -> None:
    assert serve().get(f"/datastore/?{query}").status_code == 422


def test_no_path_of_the_server_is_told(serve, studies) -> None:
    client = serve()
    submit(client)
    listed = client.get("/datastore/?output=train").json()
    assert listed == [{"image": "case.nii.gz", "label": "labels/final/case.nii.gz"}]
    for path in ("?output=all", "?output=stats", "image/info?image=case"):
        assert str(studies) not in client.get(f"/datastore/{path}").text


def test_the_administrator_removes_and_takes_out(serve, studies) -> None:
    client = serve(admin_routes=True)
    assert client.get("/datastore/dataset").status_code == 404
    assert client.get("/datastore/dataset?limit_cases=0").status_code == 422
    submit(client)
    with zipfile.ZipFile(io.BytesIO(client.get("/datastore/dataset").content)) as archive:
        assert sorted(archive.namelist()) == [
            "image/case.nii.gz", "label/case.nii.gz", "metadata.json",
        ]  # fmt: skip
        assert archive.testzip() is None
    assert scratch_of(studies) == []
    assert client.delete("/datastore/label?id=case&tag=final").status_code == 200
    assert client.delete("/datastore/label?id=case&tag=final").status_code == 404
    assert client.delete("/datastore/image?id=case").status_code == 200
    assert client.delete("/datastore/image?id=case").status_code == 404
    assert client.get("/datastore/?output=all").json()["objects"] == {}
    assert not (studies / "case.nii.gz").exists()


def test_a_link_that_was_put_in_is_not_given_out(serve, studies) -> None:
    client = serve()
    (studies / "case.nii.gz").unlink()
    (studies / "case.nii.gz").symlink_to("/etc/passwd")
    assert client.get("/datastore/image?image=case").status_code == 404
    (studies / "case.nii.gz").unlink()
    (studies / "case.nii.gz").write_text("root:x:0:0")
    answer = client.get("/datastore/image?image=case")
    assert answer.status_code == 422
    assert "root" not in answer.text


# --- rights --------------------------------------------------------------------------------------


def test_what_the_server_keeps_is_closed_to_other_accounts(serve, studies) -> None:
    """Also what an earlier version had left open."""
    data = studies / ".medreasoner"
    for folder in (data / "masks", data / "scratch", data / "outbox"):
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        (folder / "left.nii.gz").write_bytes(b"x")
        (folder / "left.nii.gz").chmod(0o644)
    data.chmod(0o755)
    client = serve()
    submit(client)
    places = [data, *data.rglob("*"), studies / INDEX]
    modes = {str(path.relative_to(studies)): path.stat().st_mode & 0o077 for path in places}
    assert {name: mode for name, mode in modes.items() if mode} == {}
    assert not (data / "scratch" / "left.nii.gz").exists()
    assert (data / "masks" / "left.nii.gz").is_file()
