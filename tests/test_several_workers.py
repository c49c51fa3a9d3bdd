# SPDX-License-Identifier: Apache-2.0
"""Two workers, one PACS, one PostgreSQL, each of which is killed while readers go on."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pydicom
import pytest

pytest.importorskip("monailabel")
pytest.importorskip("highdicom")
pytest.importorskip("psycopg")

from support.postgres import PASSWORD, Postgres
from support.series import DicomStudy, ct_study
from support.servers import MedReasonerServer, Orthanc

QUESTION = "Where is the liver?"
ANSWER_S, WAIT_S = 180.0, 600.0
_ENVIRONMENT = {
    "PGPASSWORD": PASSWORD,
    # Where it is not stated, workers keep what they fetch in the folder that they share.
    "MONAI_LABEL_DICOMWEB_CACHE_PATH": "",
    "MEDREASONER_REQUESTS_PER_MINUTE": "100000",
}


class Worker(MedReasonerServer):
    """One of several; its home is its own."""

    def __init__(self, folder: Path, pacs: str, shared: Path, database: str) -> None:
        folder.mkdir()
        options = ["--records", str(shared), "--records-database", database]
        super().__init__(folder, pacs, *options)
        self._own = {**_ENVIRONMENT, "HOME": str(folder)}

    def start(self, environment=None) -> None:
        super().start({**self._own, **(environment or {})})


@dataclass
class Reader:
    """Asks and submits, of whichever worker answers; keeps what was acknowledged.

    Attributes:
        seed: 0 or 1; asks that worker first.
        labels: by the answer's id, the number under which the label was recorded.
        faults: answers that no outage excuses.
    """

    workers: list[Worker]
    series: str
    seed: int
    labels: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def read(self, enough: threading.Event) -> None:
        for number in itertools.count():
            if enough.is_set():
                return
            answer = self._until_taken(self._ask(number)).json()["medreasoner"]["inference_id"]
            told = self._until_taken(self._submit(answer, 2 * number + self.seed))
            self.labels[answer] = told.json()["medreasoner"]["id"]

    def _ask(self, number: int) -> Callable[[str], httpx.Response]:
        values = {"query": QUESTION, "slice": number % 4, "propagate": False}

        def send(url: str) -> httpx.Response:
            return httpx.post(
                f"{url}/infer/medreasoner", params={"output": "json", "image": self.series},
                data={"params": json.dumps(values)}, timeout=ANSWER_S,
            )  # fmt: skip

        return send

    def _submit(self, answer: str, number: int) -> Callable[[str], httpx.Response]:
        entry = {"name": "Liver", "idx": 1, "inference_id": answer}
        params = json.dumps({"label_info": [entry], "outcome": "edited"})
        content: list[bytes] = []

        def send(url: str) -> httpx.Response:
            if not content:
                content.append(self._label(url, number))
            return httpx.put(
                f"{url}/datastore/label", params={"image": self.series, "tag": "final"},
                files={"label": ("label.nii.gz", content[0])}, data={"params": params},
                timeout=ANSWER_S,
            )  # fmt: skip

        return send

    def _label(self, url: str, number: int) -> bytes:
        """A block on the image's grid, in another place for each number."""
        answer = httpx.get(
            f"{url}/datastore/image", params={"image": self.series}, timeout=ANSWER_S
        )
        path = self.workers[0].log.with_name(f"image{self.seed}.nii.gz")
        path.write_bytes(answer.raise_for_status().content)
        image = nibabel.load(path)
        mask = np.zeros(image.shape, np.uint8)
        i, j = 2 + number % (mask.shape[0] - 4), 2 + number // (mask.shape[0] - 4)
        mask[i : i + 2, j : j + 2, 1:3] = 1
        return gzip.compress(nibabel.Nifti1Image(mask, image.affine).to_bytes())

    def _until_taken(self, send: Callable[[str], httpx.Response]) -> httpx.Response:
        """As a client behind a proxy does: the next worker, where one is away or cannot now."""
        deadline, turn = time.monotonic() + WAIT_S, self.seed
        while time.monotonic() < deadline:
            try:
                answer = send(self.workers[turn % 2].url)
            except (httpx.TransportError, httpx.HTTPStatusError):
                turn += 1
                time.sleep(0.5)
                continue
            if answer.status_code == 200:
                return answer
            if answer.status_code not in (502, 503, 504):
                self.faults.append(f"{answer.status_code}: {answer.text}")
            turn += 1
            time.sleep(0.5)
        raise AssertionError(f"Nobody answered: {self.faults}")


@pytest.fixture
def study() -> DicomStudy:
    return ct_study(None)


@pytest.fixture
def workers(
    postgres: Postgres, orthanc: Orthanc, study: DicomStudy, tmp_path: Path
) -> Iterator[list[Worker]]:
    for image in study.images:
        content = io.BytesIO()
        pydicom.dcmwrite(content, image, write_like_original=False)
        orthanc.store(content.getvalue())
    shared = tmp_path / "shared"
    database = postgres.on_loopback(postgres.new_database())
    pair = [Worker(tmp_path / name, orthanc.dicom_web, shared, database) for name in "ab"]
    try:
        for worker in pair:
            worker.start()
        yield pair
    finally:
        for worker in pair:
            worker.kill()


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def documents(worker: Worker, study: DicomStudy) -> list[dict]:
    return [document for record in worker.records(study.study_uid) for document in record["pacs"]]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_nothing_is_lost_and_nothing_sent_twice_whoever_is_killed(
    workers: list[Worker], postgres: Postgres, orthanc: Orthanc, study: DicomStudy
) -> None:
    first, second = workers
    readers = [Reader(workers, study.series_uid, seed) for seed in (0, 1)]
    enough = threading.Event()
    threads = [threading.Thread(target=r.read, args=(enough,), daemon=True) for r in readers]
    for thread in threads:
        thread.start()

    def two_more_labels() -> None:
        before = sum(len(reader.labels) for reader in readers)
        until(lambda: sum(len(reader.labels) for reader in readers) >= before + 2)

    two_more_labels()
    first.kill()
    two_more_labels()
    first.start()
    two_more_labels()
    with postgres.away():
        time.sleep(3.0)
    two_more_labels()
    with orthanc.paused():
        # Whatever it was sending, or holding for the archive, it holds no more.
        time.sleep(5.0)
        second.kill()
    two_more_labels()
    second.start()
    two_more_labels()
    enough.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert [thread.is_alive() for thread in threads] == [False, False]
    assert [reader.faults for reader in readers] == [[], []]
    until(lambda: all(d["state"] != "pending" for d in documents(first, study)))

    records = {record["inference_id"]: record for record in first.records(study.study_uid)}
    assert second.records(study.study_uid) == first.records(study.study_uid)
    given = {answer: label for reader in readers for answer, label in reader.labels.items()}
    assert len(given) == sum(len(reader.labels) for reader in readers) >= 12
    for answer, label in given.items():
        record = records[answer]
        assert [known["id"] for known in record["labels"]] == [label]
        assert [document["state"] for document in record["pacs"]] == ["sent"]
        assert record["decision"]["outcome"] == "edited"
    sent = documents(first, study)
    kept = orthanc.instances()
    assert kept["SEG"] == sum(document["seg_instance_uid"] is not None for document in sent)
    assert kept["SR"] == sum(document["report_instance_uid"] is not None for document in sent)
    assert kept["SEG"] == len(given)
    for worker in workers:
        label = httpx.get(
            f"{worker.url}/datastore/label", params={"label": study.series_uid, "tag": "final"},
            timeout=ANSWER_S,
        )  # fmt: skip
        assert label.status_code == 200
        assert PASSWORD not in worker.log.read_text()
