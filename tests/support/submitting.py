# SPDX-License-Identifier: Apache-2.0
"""Labels kept and recorded by processes that are killed at it, and what is there afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from pathlib import Path

import nibabel
import numpy as np

from monailabel_app.store import RecordStore
from monailabel_app.studies.local import StudiesFolder


class KeptLabel:
    """What folder, index and records hold of an image's final label, read by no code of ours.

    Attributes:
        sha256: of the file, ``None`` where there is none.
        listed: the number that the index says its submitter gave it.
        recorded: hash and number of each submission, in order.
    """

    def __init__(self, studies: Path, data: Path, image: str) -> None:
        files = list((studies / "labels" / "final").glob(f"{image}.*"))
        assert len(files) < 2
        self.sha256 = hashlib.sha256(files[0].read_bytes()).hexdigest() if files else None
        index = json.loads((studies / "datastore_v2.json").read_text())
        label = index["objects"][image]["labels"].get("final", {"info": {}})
        self.listed = label["info"].get("client", {}).get("number")
        with contextlib.closing(sqlite3.connect(data / "records.sqlite")) as records:
            self.recorded = [
                (sha256, json.loads(info)["number"])
                for sha256, info in records.execute(
                    "SELECT label_sha256, info FROM labels WHERE image_id = ? ORDER BY id", (image,)
                )
            ]

    @property
    def number(self) -> int | None:
        """Which label it is; fails where file, index and record tell of different ones."""
        if self.sha256 is None:
            assert (self.listed, self.recorded) == (None, [])
        else:
            assert (self.sha256, self.listed) == self.recorded[-1]
        return self.listed


def open_site(studies: Path) -> tuple[StudiesFolder, RecordStore]:
    """A folder of studies and its records."""
    data = studies / ".medreasoner"
    return StudiesFolder(studies, data / "series", auto_reload=False), RecordStore(data)


def write_label(path: Path, number: int) -> None:
    """A label that is another one for each number below 64."""
    mask = np.zeros((4, 4, 4), np.uint8)
    mask.flat[: number % 64 + 1] = 1
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), path)


def submit(site: tuple[StudiesFolder, RecordStore], label: Path, number: int) -> None:
    """Keep and record the label of that number."""
    studies, records = site
    write_label(label, number)
    with studies.label_kept(
        "anna", str(label), "final", {"client": {"number": number}}
    ) as submission:
        records.join_label(submission)


def submit_for_ever(studies: Path, label: Path, acknowledged: Path, number: int) -> None:
    """One label after the other; the file tells the number of each that is kept."""
    site = open_site(studies)
    with acknowledged.open("a", buffering=1) as told:
        while True:
            print(number, file=told)
            number += 1
            submit(site, label, number)


def die_while_submitting(studies: Path, label: Path, number: int, recorded: bool) -> None:
    """End without a word once the files are changed, before or after the label is recorded."""
    store, records = open_site(studies)
    write_label(label, number)
    with store.label_kept(
        "anna", str(label), "final", {"client": {"number": number}}
    ) as submission:
        if recorded:
            records.join_label(submission)
        os._exit(0)


def die_while_adding(studies: Path, image: Path) -> None:
    """End without a word once a new image is copied, before it is in the index."""
    store, _ = open_site(studies)
    store._save = lambda _: os._exit(0)
    store.add_image("carla", str(image), {})
