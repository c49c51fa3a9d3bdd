# SPDX-License-Identifier: Apache-2.0
"""Backups of a site: whole while the server writes, restored whole or not at all."""

from __future__ import annotations

import hashlib
import io
import sqlite3
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.results import make_result
from typer.testing import CliRunner

pytest.importorskip("sqlalchemy")

from medreasoner_infer.doubt_record import Doubt, NamedReading
from medreasoner_infer.home import models_folder
from medreasoner_infer.reasoners.calibration import site_calibration_path
from monailabel_app.cli.app import app
from monailabel_app.site.backup import BackupError, write_backup
from monailabel_app.site.restore import restore_backup
from monailabel_app.store import LabelSubmission, RecordStore


def add_label(store: RecordStore, folder: Path, number: int) -> None:
    file = folder / f"{number}.nii.gz"
    file.write_bytes(f"mask {number}".encode())
    store.join_label(LabelSubmission(f"image{number}", "final", file, {}))


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Path]:
    """Of a server that is running: its last writes stand in SQLite's log alone."""
    folder = tmp_path / "records"
    store = RecordStore(folder)
    add_label(store, tmp_path, 0)
    store.add_inference(
        replace(make_result("a"), doubt=Doubt(9, 0.8, (NamedReading("present", "liver", 9),))),
        task="t", image_id="image0",
        write_mask=lambda path: path.write_bytes(b"mask"),
        write_doubt=lambda path: path.write_bytes(b"readings"),
    )  # fmt: skip
    (folder / "export.salt").write_bytes(b"s" * 32)
    (folder / "training" / "run").mkdir(parents=True)
    (folder / "training" / "run" / "progress.json").write_text("{}")
    (folder / "scratch").mkdir(exist_ok=True)
    (folder / "scratch" / "upload.dcm").write_bytes(b"not looked at")
    (folder / "away").symlink_to("/etc/hostname")
    yield folder
    store.close()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "candidates" / "a").mkdir(parents=True)
    (folder / "candidates" / "a" / "model.safetensors").write_bytes(bytes(range(256)) * 4096)
    (folder / "live.json").write_text('{"live": "a"}')
    return folder


def labels_of(folder: Path) -> dict[str, str]:
    """Name and hash of each label, as the database says; each file is there and has that hash."""
    with closing(sqlite3.connect(folder / "records.sqlite")) as database:
        rows = dict(database.execute("SELECT label_file, label_sha256 FROM labels").fetchall())
    for name, sha256 in rows.items():
        assert hashlib.sha256((folder / "labels" / name).read_bytes()).hexdigest() == sha256
    return rows


def test_what_is_restored_is_what_was_saved(records: Path, models: Path, tmp_path: Path) -> None:
    write_backup(records, models, tmp_path / "site.backup")
    there = tmp_path / "there"
    restore_backup(tmp_path / "site.backup", there / "records", there / "models")
    assert labels_of(there / "records") == labels_of(records)
    for name in ("export.salt", "training/run/progress.json"):
        assert (there / "records" / name).read_bytes() == (records / name).read_bytes()
    for name in ("live.json", "candidates/a/model.safetensors"):
        assert (there / "models" / name).read_bytes() == (models / name).read_bytes()
    reopened = RecordStore(there / "records")
    assert reopened.label(1).image_id == "image0"
    assert reopened.get("a").doubt_file.read_bytes() == b"readings"
    reopened.close()


def test_a_sites_calibrations_are_saved_with_its_models(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    fitted = site_calibration_path("ab" * 32)
    fitted.parent.mkdir(parents=True)
    fitted.write_text("{}")
    saved = write_backup(tmp_path / "records", models_folder(), tmp_path / "site.backup")
    assert list(saved.files) == [f"models/calibrations/{'ab' * 32}.json"]


def test_uploads_links_and_locks_stay_behind(records: Path, models: Path, tmp_path: Path) -> None:
    saved = write_backup(records, models, tmp_path / "site.backup").files
    assert not any(name.startswith("records/scratch") or ".lock" in name for name in saved)
    assert "records/away" not in saved


def test_a_backup_and_what_is_restored_is_its_owners_only(
    records: Path, models: Path, tmp_path: Path
) -> None:
    write_backup(records, models, tmp_path / "site.backup")
    restore_backup(tmp_path / "site.backup", tmp_path / "there", None)
    paths = [tmp_path / "site.backup", tmp_path / "there", *(tmp_path / "there").rglob("*")]
    assert [path for path in paths if path.stat().st_mode & 0o077] == []


def test_every_record_of_a_backup_during_writes_finds_its_file(
    records: Path, models: Path, tmp_path: Path
) -> None:
    ended = threading.Event()
    written = threading.Event()

    def write() -> None:
        store = RecordStore(records)
        number = 1
        while not ended.is_set():
            add_label(store, tmp_path, number)
            number += 1
            written.set()
        store.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(120)
        for number in range(3):
            write_backup(records, models, tmp_path / f"{number}.backup")
            written.clear()
            assert written.wait(120)
    finally:
        ended.set()
        writer.join()
    for number in range(3):
        there = tmp_path / f"there{number}"
        restore_backup(tmp_path / f"{number}.backup", there, None)
        saved = labels_of(there)
        assert len(saved) > number + 1
        assert saved.items() <= labels_of(records).items()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_an_archive_that_was_cut_off_is_refused_and_leaves_nothing(
    records: Path, models: Path, tmp_path: Path, share: float
) -> None:
    whole = tmp_path / "site.backup"
    write_backup(records, models, whole)
    with tarfile.open(whole) as archive:
        end = archive.getmember("manifest.json").offset_data
    cut = tmp_path / "cut.backup"
    cut.write_bytes(whole.read_bytes()[: int(end * share)])
    with pytest.raises(BackupError, match="no whole backup"):
        restore_backup(cut, tmp_path / "there" / "records", tmp_path / "there" / "models")
    assert [*(tmp_path / "there").iterdir()] == []


def test_a_byte_that_changed_is_noticed(records: Path, models: Path, tmp_path: Path) -> None:
    backup = tmp_path / "site.backup"
    write_backup(records, models, backup)
    content = backup.read_bytes()
    backup.write_bytes(content.replace(b"mask 0", b"mask 1"))
    with pytest.raises(BackupError, match="not what its manifest says"):
        restore_backup(backup, tmp_path / "there", None)
    assert not (tmp_path / "there").exists()


def link_to_password(archive: tarfile.TarFile) -> None:
    member = tarfile.TarInfo("records/labels/link")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive.addfile(member)


def file_named(name: str) -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))

    return add


@pytest.mark.parametrize(
    "add",
    [
        link_to_password,
        *map(
            file_named,
            [
                "records/../../outside",
                "/outside",
                "outside",
                "../outside",
                "records//outside",
                "records/./outside",
                "records/a\\..\\outside",
                "records/line\nbreak",
                "records",
            ],
        ),
    ],
)
def test_an_archive_that_leads_outside_is_refused_and_leaves_nothing(
    tmp_path: Path, add: Callable[[tarfile.TarFile], None]
) -> None:
    with tarfile.open(tmp_path / "evil.backup", "w") as archive:
        file_named("records/labels/first")(archive)
        add(archive)
    there = tmp_path / "there"
    with pytest.raises(BackupError, match="nothing was restored"):
        restore_backup(tmp_path / "evil.backup", there / "records", there / "models")
    assert [*there.iterdir()] == []
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("taken", ["records", "models"])
def test_nothing_is_overwritten(records: Path, models: Path, tmp_path: Path, taken: str) -> None:
    write_backup(records, models, tmp_path / "site.backup")
    there = tmp_path / "there"
    (there / taken).mkdir(parents=True)
    (there / taken / "mine").write_text("mine")
    with pytest.raises(BackupError, match="nothing is overwritten"):
        restore_backup(tmp_path / "site.backup", there / "records", there / "models")
    assert [path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()] == [
        f"{taken}/mine"
    ]
    with pytest.raises(BackupError, match="there already"):
        write_backup(records, models, tmp_path / "site.backup")
    with pytest.raises(BackupError, match="outside"):
        write_backup(records, models, records / "labels" / "new.backup")


def test_a_store_that_was_only_looked_into_is_no_content(
    records: Path, models: Path, tmp_path: Path
) -> None:
    write_backup(records, models, tmp_path / "site.backup")
    there = tmp_path / "there"
    (there / "models").mkdir(parents=True)
    (there / "models" / ".live.lock").touch()
    restore_backup(tmp_path / "site.backup", there / "records", there / "models")
    names = {path.name for path in (there / "models").rglob("*")}
    assert names
    assert ".live.lock" not in names


def test_the_command_line_saves_a_site_and_puts_it_back(
    records: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies, home = tmp_path / "studies", tmp_path / "home"
    studies.mkdir()
    records.rename(studies / ".medreasoner")
    monkeypatch.setenv("MEDREASONER_HOME", str(home))
    home.mkdir()
    models.rename(home / "models")
    out = str(tmp_path / "site.backup")
    done = CliRunner().invoke(app, ["backup", str(studies), "--out", out])
    assert done.exit_code == 0, done.output
    before = labels_of(studies / ".medreasoner")
    other = tmp_path / "other"
    other.mkdir()
    restore = ["restore", out, "--studies", str(other)]
    refused = CliRunner().invoke(app, restore)
    assert isinstance(refused.exception, BackupError)
    done = CliRunner().invoke(app, [*restore, "--without-models"])
    assert done.exit_code == 0, done.output
    assert labels_of(other / ".medreasoner") == before
