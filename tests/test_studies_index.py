# SPDX-License-Identifier: Apache-2.0
"""The index of a folder of studies: whole after every crash, and believed only as far as it can be.

Real folders, real processes that are killed, and a real full disk where mounting is permitted.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("monailabel")

from medreasoner_infer.errors import InputError
from monailabel_app.errors import (
    ConflictError,
    FolderInUseError,
    StudiesAwayError,
    StudiesWriteError,
    UnknownImageError,
)
from monailabel_app.studies import INDEX_NAME
from monailabel_app.studies.index import MAX_SET_ASIDE
from monailabel_app.studies.infos import CLIENT, SERVER_KEYS, told_by
from monailabel_app.studies.local import StudiesFolder
from monailabel_app.studies.server_lock import ServerLock

WAIT_S = 30.0
IMAGES = ("anna", "berta")


def write_image(path: Path, value: int = 0) -> Path:
    nibabel.save(nibabel.Nifti1Image(np.full((3, 4, 5), value, np.int16), np.eye(4)), path)
    return path


def open_studies(folder: Path, **options: bool) -> StudiesFolder:
    given = {"auto_reload": False, **options}
    return StudiesFolder(folder, folder / ".medreasoner" / "series", **given)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Two images; the first one has a label with an info."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in IMAGES:
        write_image(folder / f"{name}.nii.gz")
    label = write_image(tmp_path / "label.nii.gz", 1)
    open_studies(folder).save_label("anna", str(label), "final", {"label_info": [{"name": "x"}]})
    return folder


@pytest.fixture
def label(tmp_path: Path, studies: Path) -> Path:
    return tmp_path / "label.nii.gz"


def read_index(folder: Path) -> dict:
    return json.loads((folder / INDEX_NAME).read_text())


def set_aside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(f"{INDEX_NAME}.broken-*"))


def unfinished(folder: Path) -> list[Path]:
    return list(folder.rglob(".medreasoner-part-*"))


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[Path]:
    """A file system of that size at ``folder``; skips where it cannot be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte free."""
    path = folder / ".ballast"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def fail(_: object) -> None:
    """As a record does that cannot be written."""
    raise ZeroDivisionError


# --- what cannot be read -------------------------------------------------------------------------

BROKEN = {
    "empty": b"",
    "cut": b'{"name": "new-dataset", "objects": {"anna": {"image"',
    "nul": bytes(4096),
    "text": b"not json",
    "list": b"[1, 2]",
    "no objects": b'{"name": "x"}',
    "objects are a list": b'{"objects": []}',
    "too deep": b'{"objects": ' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
    "long integer": b'{"objects": {}, "x": ' + b"9" * 5_000 + b"}",
    "not UTF-8": b'{"name": "\xff\xfe", "objects": {}}',
    "other folders": b'{"objects": {}, "images_dir": "/etc", "labels_dir": "labels"}',
    "other labels": b'{"objects": {}, "images_dir": ".", "labels_dir": "../labels"}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_index_is_set_aside_and_made_anew_from_the_files(studies, caplog, content) -> None:
    (studies / INDEX_NAME).write_bytes(content)
    store = open_studies(studies)
    assert sorted(store.list_images()) == list(IMAGES)
    assert store.get_labeled_images() == ["anna"]
    (name,) = set_aside(studies)
    assert (studies / name).read_bytes() == content
    assert store.status()["broken_indexes"] == [name]
    assert "set aside" in caplog.text
    assert sorted(read_index(studies)["objects"]) == list(IMAGES)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("make", [make_fifo, make_link, Path.mkdir])
def test_an_index_that_is_no_plain_file_is_set_aside(studies, make) -> None:
    (studies / INDEX_NAME).unlink()
    make(studies / INDEX_NAME)
    assert sorted(open_studies(studies).list_images()) == list(IMAGES)
    assert len(set_aside(studies)) == 1
    assert (studies / INDEX_NAME).is_file()
    assert not (studies / INDEX_NAME).is_symlink()


def test_broken_files_are_kept_in_bounded_number(studies) -> None:
    for _ in range(MAX_SET_ASIDE + 3):
        (studies / INDEX_NAME).write_bytes(b"{")
        open_studies(studies)
    assert len(set_aside(studies)) == MAX_SET_ASIDE


GOOD = {"image": {"ext": ".nii.gz", "info": {}}, "labels": {}}
PLANTED = {
    "id climbs": ("../../etc/passwd", GOOD),
    "id is a path": ("/etc/passwd", GOOD),
    "id is hidden": (".ssh", GOOD),
    "id has NUL": ("a\0b", GOOD),
    "extension climbs": ("berta", {"image": {"ext": "/../../etc/passwd", "info": {}}}),
    "extension is code": ("sitecustomize", {"image": {"ext": ".py", "info": {}}}),
    "extension is a number": ("berta", {"image": {"ext": 7, "info": {}}}),
    "tag climbs": ("berta", {**GOOD, "labels": {"../x": {"ext": ".nii.gz", "info": {}}}}),
    "label climbs": ("berta", {**GOOD, "labels": {"final": {"ext": "/../../x", "info": {}}}}),
    "info is a list": ("berta", {"image": {"ext": ".nii.gz", "info": []}}),
    "entry is a text": ("berta", "x"),
    "lone surrogate": ("berta", {"image": {"ext": ".nii.gz", "info": {"note": "\ud800"}}}),
    "not finite": ("berta", {"image": {"ext": ".nii.gz", "info": {"note": math.nan}}}),
    "long integer": ("berta", {"image": {"ext": ".nii.gz", "info": {"note": 10**50}}}),
}


@pytest.mark.parametrize(("image_id", "entry"), PLANTED.values(), ids=PLANTED)
def test_an_entry_that_cannot_be_believed_is_left_out_and_the_others_stay(
    studies, image_id, entry
) -> None:
    index = read_index(studies)
    index["objects"][image_id] = entry
    (studies / INDEX_NAME).write_text(json.dumps(index))
    store = open_studies(studies)
    assert sorted(store.list_images()) == list(IMAGES)
    assert store.get_label_info("anna", "final")["label_info"] == [{"name": "x"}]
    assert len(set_aside(studies)) == 1
    json.dumps(store.json(), allow_nan=False).encode()
    if image_id not in IMAGES:
        with pytest.raises(UnknownImageError):
            store.image_source(image_id)


def deep(levels: int) -> dict:
    value: dict = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "info",
    [
        {"note": "\ud800"}, {"\udfff": 1}, {"note": "a\0b"}, deep(200), deep(935), deep(5_000),
        {"x": math.nan}, {"x": [math.inf]}, {"x": 10**60}, {"x": list(range(600_000))},
        {CLIENT: {"note": "x" * (300 << 10)}},
    ],
    ids=["surrogate", "surrogate key", "nul", "200", "935", "5000", "nan", "inf", "long", "many",
         "large"],
)  # fmt: skip
@pytest.mark.parametrize("change", ["label", "label info", "image info", "image"])
def test_what_could_not_be_read_back_is_refused_and_changes_nothing(
    studies, label, info, change
) -> None:
    store = open_studies(studies)
    before = (studies / INDEX_NAME).read_bytes()
    changes_by_name = {
        "label": lambda: store.save_label("anna", str(label), "final", info),
        "label info": lambda: store.update_label_info("anna", "final", info),
        "image info": lambda: store.update_image_info("anna", info),
        "image": lambda: store.add_image("new", str(label), info),
    }
    with pytest.raises(InputError):
        changes_by_name[change]()
    assert (studies / INDEX_NAME).read_bytes() == before
    assert not (studies / "new.nii.gz").exists()
    assert sorted(open_studies(studies).list_images()) == list(IMAGES)


# --- writing -------------------------------------------------------------------------------------


def test_the_index_is_replaced_whole_and_closed_to_others(studies) -> None:
    store = open_studies(studies)
    before = (studies / INDEX_NAME).stat()
    store.update_image_info("anna", {"note": "é"})
    after = (studies / INDEX_NAME).stat()
    assert after.st_ino != before.st_ino
    assert after.st_mode & 0o777 == 0o600
    assert open_studies(studies).get_image_info("anna")["note"] == "é"
    assert unfinished(studies) == []


def test_looking_again_without_changes_writes_nothing(studies) -> None:
    store = open_studies(studies)
    before = (studies / INDEX_NAME).stat()
    store.refresh()
    open_studies(studies)
    after = (studies / INDEX_NAME).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_full_disk_leaves_index_label_and_memory_as_they_were(tmp_path) -> None:
    with small_disk(tmp_path / "disk") as folder:
        write_image(folder / "anna.nii.gz")
        first, second = (write_image(tmp_path / f"{n}.nii.gz", n) for n in (1, 2))
        store = open_studies(folder)
        store.save_label("anna", str(first), "final", {"note": "first"})
        index, kept = read_index(folder), (folder / "labels/final/anna.nii.gz").read_bytes()
        ballast = fill(folder)
        for change in (
            lambda: store.save_label("anna", str(second), "final", {"note": "second"}),
            lambda: store.update_label_info("anna", "final", {"note": "x" * 100_000}),
            lambda: store.update_image_info("anna", {"note": "x" * 100_000}),
            lambda: store.add_image("new", str(second), {}),
        ):
            with pytest.raises(StudiesWriteError, match="No space left"):
                change()
        assert read_index(folder) == index
        assert (folder / "labels/final/anna.nii.gz").read_bytes() == kept
        assert store.get_label_info("anna", "final")["note"] == "first"
        assert unfinished(folder) == []
        ballast.unlink()
        store.save_label("anna", str(second), "final", {"note": "second"})
        assert open_studies(folder).get_label_info("anna", "final")["note"] == "second"


def test_a_label_is_taken_back_with_its_info_without_space_on_the_disk(tmp_path) -> None:
    with small_disk(tmp_path / "disk") as folder:
        write_image(folder / "anna.nii.gz")
        first, second = (write_image(tmp_path / f"{n}.nii.gz", n) for n in (1, 2))
        store = open_studies(folder)
        store.save_label("anna", str(first), "final", {"note": "first"})
        kept = (folder / "labels/final/anna.nii.gz").read_bytes()
        with (
            pytest.raises(ZeroDivisionError),
            store.label_kept("anna", str(second), "final", {"note": "second"}),
        ):
            fail(fill(folder))
        assert store.get_label_info("anna", "final")["note"] == "first"
        assert read_index(folder)["objects"]["anna"]["labels"]["final"]["info"]["note"] == "first"
        assert (folder / "labels/final/anna.nii.gz").read_bytes() == kept


def test_a_first_label_that_is_taken_back_leaves_nothing(studies, label) -> None:
    store = open_studies(studies)
    kept = store.label_kept("berta", str(label), "version_1", {})
    with pytest.raises(ZeroDivisionError), kept:
        fail(None)
    assert store.get_labels_by_image_id("berta") == {}
    assert list((studies / "labels" / "version_1").iterdir()) == []
    assert (
        "labels" not in read_index(studies)["objects"]["berta"]
        or not (read_index(studies)["objects"]["berta"]["labels"])
    )


def test_a_new_label_has_not_the_review_of_the_one_before(studies, label) -> None:
    store = open_studies(studies)
    approved = told_by({}, "ann", {"status": "approved"})
    store.save_label("anna", str(label), "final", approved)
    assert store.get_label_info("anna", "final")["segmentationMeta"] == {"status": "approved"}
    store.save_label("anna", str(label), "final", told_by({}, "bob"))
    assert "segmentationMeta" not in store.get_label_info("anna", "final")


def test_a_label_in_another_format_takes_the_place_of_the_one_before(studies, label) -> None:
    import SimpleITK as sitk

    nrrd = label.with_suffix("").with_suffix(".nrrd")
    sitk.WriteImage(sitk.ReadImage(str(label)), str(nrrd))
    store = open_studies(studies)
    store.save_label("anna", str(nrrd), "final", {})
    assert [path.name for path in (studies / "labels" / "final").iterdir()] == ["anna.nrrd"]
    (studies / INDEX_NAME).unlink()
    again = open_studies(studies)
    assert Path(again.get_label_uri("anna", "final")).name == "anna.nrrd"


SAVING = """
import sys
from pathlib import Path
from monailabel_app.studies.local import StudiesFolder
folder, label = Path(sys.argv[1]), sys.argv[2]
store = StudiesFolder(folder, folder / ".medreasoner" / "series", auto_reload=False)
print("ready", flush=True)
for number in range(200):
    store.save_label("anna", label, "final", {"number": number, "text": "x" * 20_000})
    print(number, flush=True)
"""


@pytest.mark.slow
def test_killing_a_loop_of_200_saves_leaves_the_index_and_the_label_whole(studies, label) -> None:
    rng = np.random.default_rng(7)
    whole = label.read_bytes()
    for _ in range(12):
        command = [sys.executable, "-c", SAVING, str(studies), str(label)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(float(rng.uniform(0.0, 1.5)))
            process.send_signal(signal.SIGKILL)
            saved = [int(line) for line in process.stdout.read().split()]
        info = read_index(studies)["objects"]["anna"]["labels"]["final"]["info"]
        assert not saved or info["number"] >= saved[-1]
        assert (studies / "labels" / "final" / "anna.nii.gz").read_bytes() == whole
        store = open_studies(studies)
        store.take_back_interrupted(lambda about: False)
        assert sorted(store.list_images()) == list(IMAGES)
        assert unfinished(studies) == []
        assert set_aside(studies) == []


NOTING = """
import sys
from pathlib import Path
from monailabel_app.studies.local import StudiesFolder
folder, key = Path(sys.argv[1]), sys.argv[2]
store = StudiesFolder(folder, folder / ".medreasoner" / "series", auto_reload=False)
for number in range(30):
    store.update_image_info("anna", {f"{key}{number}": number})
"""


@pytest.mark.slow
def test_two_processes_lose_no_info_of_each_other(studies) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", NOTING, str(studies), key]) for key in ("a", "b")
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    info = open_studies(studies).get_image_info("anna")
    assert {key for key in info if key[0] in "ab" and key[1:].isdigit()} == {
        f"{key}{number}" for key in "ab" for number in range(30)
    }


# --- studies that are away -----------------------------------------------------------------------


def changes(store: StudiesFolder, label: Path) -> list:
    return [
        lambda: store.save_label("anna", str(label), "final", {}),
        lambda: store.update_label_info("anna", "final", {"a": 1}),
        lambda: store.update_image_info("anna", {"a": 1}),
        lambda: store.add_image("new", str(label), {}),
        lambda: store.remove_label("anna", "final"),
        lambda: store.remove_image("anna"),
        store.refresh,
        lambda: store.set_name("x"),
    ]


def test_removed_studies_are_not_made_again(studies, label) -> None:
    store = open_studies(studies)
    shutil.rmtree(studies)
    for change in changes(store, label):
        with pytest.raises(StudiesAwayError, match="not there"):
            change()
    assert not studies.exists()
    with pytest.raises(StudiesAwayError):
        open_studies(studies)
    assert not studies.exists()


def test_the_empty_place_of_a_share_is_not_taken_for_the_studies(studies, label, tmp_path) -> None:
    store = open_studies(studies)
    store.update_image_info("berta", {"note": "kept"})
    studies.rename(tmp_path / "share")
    studies.mkdir()
    for change in changes(store, label):
        with pytest.raises(StudiesAwayError):
            change()
    assert list(studies.iterdir()) == []
    studies.rmdir()
    (tmp_path / "share").rename(studies)
    store.refresh()
    assert store.get_image_info("berta")["note"] == "kept"
    assert store.get_label_info("anna", "final")["label_info"] == [{"name": "x"}]


def test_an_index_that_is_removed_alone_is_written_again_with_what_was_known(studies) -> None:
    store = open_studies(studies)
    (studies / INDEX_NAME).unlink()
    store.update_image_info("berta", {"note": "new"})
    again = open_studies(studies)
    assert again.get_label_info("anna", "final")["label_info"] == [{"name": "x"}]
    assert again.get_image_info("berta")["note"] == "new"


def test_an_index_that_breaks_meanwhile_is_written_again_with_what_was_known(studies) -> None:
    store = open_studies(studies)
    (studies / INDEX_NAME).write_bytes(b"")
    store.update_image_info("berta", {"note": "new"})
    again = open_studies(studies)
    assert again.get_label_info("anna", "final")["label_info"] == [{"name": "x"}]


# --- files that come and go ----------------------------------------------------------------------


def wait_for(condition) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_watcher_outlives_whatever_it_meets(studies, monkeypatch) -> None:
    store = open_studies(studies, auto_reload=True)
    look = store._find_series
    met = []

    def stumble() -> list:
        met.append(True)
        if len(met) == 1:
            raise RuntimeError("a file that nobody had thought of")
        return look()

    monkeypatch.setattr(store, "_find_series", stumble)
    write_image(studies / "first.nii.gz")
    wait_for(lambda: met)
    write_image(studies / "second.nii.gz")
    wait_for(lambda: {"first", "second"} <= set(store.list_images()))
    store._observer.stop()


def test_a_file_that_is_moved_in_is_seen(studies, tmp_path) -> None:
    store = open_studies(studies, auto_reload=True)
    write_image(studies / ".arriving.part.nii.gz").rename(studies / "moved.nii.gz")
    wait_for(lambda: "moved" in store.list_images())
    assert sorted(store.list_images()) == ["anna", "berta", "moved"]
    store._observer.stop()


@pytest.mark.parametrize("number", range(40))
def test_a_mutated_dicom_file_ends_neither_the_list_nor_the_start(studies, number) -> None:
    from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series

    grid = CtGrid((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    folder = write_ct_series(np.zeros((1, 4, 4), np.int16), grid, studies / "ct", seed=1)
    (path,) = folder.iterdir()
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(number)
    for place in rng.integers(132, len(content), 8):
        content[place] = rng.integers(256)
    path.write_bytes(content[: rng.integers(133, len(content))] if number % 3 == 0 else content)
    assert set(IMAGES) <= set(open_studies(studies).list_images())


@pytest.mark.parametrize("name", ["out.nii.gz", "text.png", "labels/final/berta.nii.gz"])
def test_a_link_that_leaves_the_studies_is_not_followed(studies, tmp_path, name) -> None:
    secret = write_image(tmp_path / "secret.nii.gz")
    (studies / name).symlink_to("/etc/passwd" if name.endswith("png") else secret)
    store = open_studies(studies)
    assert sorted(store.list_images()) == list(IMAGES)
    assert store.get_label_uri("berta", "final") == ""


def test_a_file_that_becomes_a_link_is_not_followed(studies, tmp_path) -> None:
    store = open_studies(studies)
    (studies / "anna.nii.gz").unlink()
    (studies / "anna.nii.gz").symlink_to(write_image(tmp_path / "secret.nii.gz"))
    with pytest.raises(UnknownImageError):
        store.image_source("anna")
    assert store.get_image_uri("anna") == ""


def test_a_link_within_the_studies_is_an_image(studies) -> None:
    (studies / "again.nii.gz").symlink_to(studies / "anna.nii.gz")
    assert "again" in open_studies(studies).list_images()


def test_what_killed_processes_left_is_removed(studies) -> None:
    for folder in (studies, studies / "labels" / "final"):
        (folder / ".medreasoner-part-1").write_bytes(b"x")
    open_studies(studies)
    assert unfinished(studies) == []


def test_a_copy_of_a_series_does_not_rest_on_the_clock(studies) -> None:
    """A series that is replaced by one with earlier times is copied anew."""
    from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series

    grid = CtGrid((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    for value, seconds in ((10, 2_000_000_000), (20, 1_000_000_000)):
        shutil.rmtree(studies / "ct", ignore_errors=True)
        values = np.full((2, 4, 4), value, np.int16)
        for path in write_ct_series(values, grid, studies / "ct", seed=1).iterdir():
            os.utime(path, (seconds, seconds))
        store = open_studies(studies)
        (uid,) = set(store.list_images()) - set(IMAGES)
        copy = Path(store.get_image_uri(uid))
        assert np.asarray(nibabel.load(copy).dataobj).max() == value
    assert copy.stat().st_mode & 0o777 == 0o600


# --- whose word ----------------------------------------------------------------------------------


def test_a_caller_says_nothing_under_the_servers_keys(studies) -> None:
    store = open_studies(studies)
    before = store.get_image_info("anna")
    forged = dict.fromkeys(SERVER_KEYS, "forged")
    store.update_image_info("anna", told_by({**forged, "note": "mine"}, None))
    assert store.get_image_info("anna") == {**before, "note": "mine"}
    assert store.json()["objects"]["anna"]["image"]["info"]["note"] == "mine"
    assert "forged" not in (studies / INDEX_NAME).read_text()


def test_a_planted_place_of_a_series_is_not_believed(studies, tmp_path) -> None:
    from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series

    grid = CtGrid((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    values = np.zeros((2, 4, 4), np.int16)
    write_ct_series(values, grid, studies / "ct", seed=1)
    write_ct_series(values, grid, tmp_path / "foreign", seed=2)
    (uid,) = set(open_studies(studies).list_images()) - set(IMAGES)
    index = read_index(studies)
    lies = {"dicom_folder": "../foreign", "SeriesInstanceUID": "1.2", "StudyInstanceUID": "1.3"}
    index["objects"][uid]["image"]["info"] |= lies
    index["objects"]["anna"]["image"]["info"] |= lies
    (studies / INDEX_NAME).write_text(json.dumps(index))
    for store in (open_studies(studies), open_studies(studies, read_only=True)):
        source = store.image_source(uid)
        assert source.dicom_folder == studies / "ct"
        assert (source.series_uid, source.study_uid) != ("1.2", "1.3")
        assert store.image_source("anna").dicom_folder is None


@pytest.mark.parametrize(
    "image_id",
    ["", ".hidden", "..", "a/b", "a\\b", "labels", "Labels", "datastore_v2", "datastore_v2.json",
     "new.nii.gz", "new.NII", "sitecustomize.py", "x ", "x.", "a\nb", "x" * 201, "a\u202eb"],
)  # fmt: skip
def test_an_id_that_could_be_something_else_is_refused(studies, label, image_id) -> None:
    with pytest.raises(InputError):
        open_studies(studies).add_new_image(image_id, label, {})


@pytest.mark.parametrize("image_id", ["anna", "Anna", "ANNA", "BERTA"])
def test_an_id_that_some_file_system_takes_for_another_is_refused(studies, label, image_id) -> None:
    with pytest.raises(ConflictError):
        open_studies(studies).add_new_image(image_id, label, {})


def test_a_file_that_is_not_listed_is_not_replaced(studies, label) -> None:
    (studies / "notes.txt").write_text("mine")
    (studies / "damaged.nii.gz").symlink_to("/nowhere")
    store = open_studies(studies)
    with pytest.raises(ConflictError):
        store.add_new_image("damaged", label, {})
    assert (studies / "damaged.nii.gz").is_symlink()


# --- one server ----------------------------------------------------------------------------------

HOLDING = """
import sys, time
from pathlib import Path
from monailabel_app.studies.server_lock import ServerLock
lock = ServerLock([Path(sys.argv[1])])
print("ready", flush=True)
time.sleep(600)
"""


def test_a_second_server_is_refused_by_name_until_the_first_one_is_killed(tmp_path) -> None:
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(FolderInUseError, match=f"process {process.pid} on "):
            ServerLock([tmp_path])
        process.send_signal(signal.SIGKILL)
    ServerLock([tmp_path]).release()


def test_an_app_that_is_built_anew_in_the_same_process_shares_the_lock(tmp_path) -> None:
    first = ServerLock([tmp_path])
    second = ServerLock([tmp_path])
    first.release()
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert f"process {os.getpid()}" in refused.stderr
    second.release()
