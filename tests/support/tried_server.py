# SPDX-License-Identifier: Apache-2.0
"""``medreasoner serve`` as tests attack it: it writes into one folder only, and no rates bind."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

import httpx
import matplotlib
import psutil
import pydicom
from pydicom.dataset import Dataset
from support.doors import Door, Known, described_doors, hidden_doors, write_studies
from support.fuzzing import LogReader
from support.series import ct_study
from support.servers import MedReasonerServer, Orthanc

_MOST_MEMORY = 6 << 30
READER_TOKEN = "a-token-of-a-test-reader"
# As of one address come more requests than a reader's hands can send.
_NO_RATES = {
    "MEDREASONER_REQUESTS_PER_MINUTE": "10000000",
    "MEDREASONER_LOGINS_PER_MINUTE": "10000000",
}


class TriedServer(MedReasonerServer):
    """A server below ``root``, on a folder of small studies or on an archive.

    Attributes:
        headers: of a caller who may use it.
        archive: what holds the studies, ``None`` where they are a folder.
        scratch: its folder of temporary files, and ``studies`` its own folder of studies.
        image: the id of an image that it has; ``study`` is the study of that image.
    """

    def __init__(self, root: Path, orthanc: Orthanc | None = None, login: bool = False) -> None:
        self.root = root
        self.archive = orthanc
        self.studies = root / "studies"
        self.scratch = root / "scratch"
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.headers: Mapping[str, str] = {}
        arguments: list[str] = []
        if login:
            tokens = root / "tokens"
            tokens.touch(mode=0o600)
            tokens.write_text(f"ann:{READER_TOKEN}:administrator\n")
            arguments = ["--token-file", str(tokens)]
            self.headers = {"Authorization": f"Bearer {READER_TOKEN}"}
        if orthanc is None:
            self.image = self.study = write_studies(self.studies)[0]
            source = str(self.studies)
        else:
            stored = ct_study(None)
            for image in stored.images:
                orthanc.store(_encoded(image))
            self.image, self.study = stored.series_uid, stored.study_uid
            source = orthanc.dicom_web
        super().__init__(root, source, *arguments)
        self._probe = "/auth/"  # needs no login

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start, and wait until it knows its studies."""
        own = {
            "HOME": str(self.root), "TMPDIR": str(self.scratch), **_NO_RATES,
            "MPLCONFIGDIR": matplotlib.get_cachedir(),  # making its list of fonts takes long
        }  # fmt: skip
        super().start({**own, **(environment or {})})
        # A claim of terabytes must not take the memory of the machine that tries it.
        psutil.Process(self.pid).rlimit(psutil.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))

    def restart(self) -> None:
        """Stop in order and start on the same folders."""
        self.stop()
        self.start()

    def known(self) -> Known:
        """What requests can be about, with a new question and a new session."""
        return Known.of(self.url, self.image, self.headers, self.study)

    def doors(self) -> list[Door]:
        """Every way in, described or not."""
        known = self.known()
        answer = httpx.get(f"{self.url}/openapi.json", headers=self.headers, timeout=60)
        described = described_doors(answer.raise_for_status().json(), known)
        names = {door.name for door in described}
        hidden = [door for door in hidden_doors(known) if door.name not in names]
        return [*described, *hidden]

    def new_log(self) -> LogReader:
        """Reads what the server writes to its log from now on."""
        return LogReader(self.log)


@contextmanager
def tried_server(
    root: Path, orthanc: Orthanc | None = None, login: bool = False
) -> Iterator[TriedServer]:
    """A server that runs until the block ends."""
    server = TriedServer(root, orthanc, login)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class Mode(str, Enum):
    """Where the studies lie."""

    FOLDER = "folder"
    PACS = "pacs"


@contextmanager
def serving(root: Path, mode: Mode, login: bool) -> Iterator[TriedServer]:
    """A server on an emptied folder, with an archive of its own where one is wanted."""
    fresh(root)
    if mode is Mode.FOLDER:
        with tried_server(root, login=login) as server:
            yield server
        return
    archive = Orthanc(root / "orthanc")
    archive.start()
    try:
        with tried_server(root, archive, login) as server:
            yield server
    finally:
        archive.stop()


def fresh(root: Path) -> Path:
    """``root``, empty."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    return root


def _encoded(image: Dataset) -> bytes:
    content = io.BytesIO()
    pydicom.dcmwrite(content, image, write_like_original=False)
    return content.getvalue()
