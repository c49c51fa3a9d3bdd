# SPDX-License-Identifier: Apache-2.0
"""Requests by which an ordinary reader once ran code, read foreign files or stopped the server.

Each goes to the real server as a process of its own: on a folder and on a PACS, with and without
login. ``SECRET`` and ``FOREIGN`` lie outside the studies.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import matplotlib
import nibabel
import numpy as np
import psutil
import pydicom
import pytest

pytest.importorskip("monailabel")

from support.series import ct_study
from support.servers import ServerProcess, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TOKEN = "correct-horse-battery-staple"
SECRET = b"root:only-the-server-may-read-this"
FOREIGN = "FOREIGN^PATIENT"
QUICK_S = 5.0
CODE = "import pathlib; pathlib.Path({marker!r}).write_text('ran')\n"
KINDS = ("folder", "folder with login", "archive", "archive with login")


class Server(ServerProcess):
    """``medreasoner serve``; all that it may write to lies below ``root``."""

    def __init__(self, root: Path, studies: str, image: str, login: bool) -> None:
        self.root, self.image = root, image
        self.headers = {"Authorization": f"Bearer {TOKEN}"} if login else {}
        port = free_port()
        command = ["-m", "monailabel_app.cli", "serve", "--no-preload", "--studies", studies]
        if login:
            tokens = root / "tokens"
            tokens.touch(mode=0o600)
            tokens.write_text(f"ann:{TOKEN}:administrator\n")
            command += ["--token-file", str(tokens)]
        command = [os.sys.executable, *command, "--port", str(port)]
        super().__init__(command, f"http://127.0.0.1:{port}", "/auth/", root / "server.log")

    def start(self, environment=None) -> None:
        own = {
            "HOME": str(self.root), "TMPDIR": str(self.root / "scratch"),
            "MEDREASONER_HOME": str(self.root / "home"),
            "MEDREASONER_REQUESTS_PER_MINUTE": "100000",
            "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(self.root / "cache"),
            "MPLCONFIGDIR": matplotlib.get_cachedir(),
        }  # fmt: skip
        super().start({**own, **(environment or {})})

    def ask(self, method: str, path: str, **content: object) -> httpx.Response:
        headers = {**self.headers, **content.pop("headers", {})}
        content.setdefault("timeout", 60.0)
        return httpx.request(method, self.url + path, headers=headers, **content)

    @property
    def memory_bytes(self) -> int:
        return psutil.Process(self._process.pid).memory_info().rss

    def wrote(self, content: bytes) -> list[Path]:
        """Files below ``root`` that hold ``content``, but for the secret and the logs."""
        return [
            path
            for path in self.root.rglob("*")
            if path.is_file()
            and path.name != "secret.txt"
            and path.stat().st_size < 10_000_000
            and content in path.read_bytes()
        ]


def nifti(value: int = 1) -> bytes:
    volume = nibabel.Nifti1Image(np.full((4, 4, 4), value, np.int16), np.eye(4))
    return gzip.compress(volume.to_bytes(), mtime=0)


def dicom_bytes(image: pydicom.Dataset) -> bytes:
    content = io.BytesIO()
    pydicom.dcmwrite(content, image, write_like_original=False)
    return content.getvalue()


def lay_out(root: Path) -> None:
    for folder in ("studies", "scratch", "outside"):
        (root / folder).mkdir()
    (root / "studies" / "case.nii.gz").write_bytes(nifti())
    (root / "outside" / "secret.txt").write_bytes(SECRET)
    foreign = ct_study(None).images[:3]
    for number, image in enumerate(foreign):
        image.PatientName = FOREIGN
        (root / "outside" / f"{number}.dcm").write_bytes(dicom_bytes(image))


@pytest.fixture(scope="module")
def servers(tmp_path_factory, orthanc_factory) -> Iterator[dict[str, Server]]:
    archive = orthanc_factory(tmp_path_factory.mktemp("archive"))
    study = ct_study(None)
    for image in study.images[::4]:
        archive.store(dicom_bytes(image))
    made = {}
    for kind in KINDS:
        root = tmp_path_factory.mktemp("server")
        lay_out(root)
        in_folder = kind.startswith("folder")
        studies = str(root / "studies") if in_folder else archive.dicom_web
        image = "case" if in_folder else study.series_uid
        made[kind] = Server(root, studies, image, kind.endswith("login"))
        made[kind].archive = archive
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Server.start, made.values()))
        yield made
    finally:
        for server in made.values():
            server.kill()


@pytest.fixture(params=KINDS)
def server(request, servers) -> Server:
    return servers[request.param]


@pytest.fixture
def folder_server(servers) -> Server:
    return servers["folder"]


def assert_refused(answer: httpx.Response, *statuses: int) -> None:
    assert answer.status_code in statuses, (answer.status_code, answer.text[:300])
    assert answer.json()["detail"]


# 1. Code of a reader.


@pytest.mark.parametrize("name", ["sitecustomize.py", "numpy.py", "x.nii.gz", "evil.pth"])
def test_code_is_not_kept_among_the_studies(server, name) -> None:
    code = CODE.format(marker=str(server.root / "ran")).encode()
    for path in (f"/datastore/image?image={name.split('.')[0]}", "/datastore/", "/session/"):
        field = "files" if path == "/session/" else "file"
        assert_refused(server.ask("PUT", path, files={field: (name, code)}), 422)
    assert not server.wrote(code)


@pytest.mark.parametrize("key", ["bundle_path", "PYTHONPATH", "gpus", "model_path", "__class__"])
def test_no_path_of_a_caller_reaches_a_process(server, key) -> None:
    body = {key: str(server.root / "studies")}
    assert_refused(server.ask("POST", "/batch/infer/medreasoner", json=body), 404)
    if key != "gpus":
        assert_refused(server.ask("POST", "/train/medreasoner", json=body), 422)
        assert_refused(server.ask("POST", "/train/", json={"medreasoner": body}), 422)


def test_code_in_the_studies_is_not_run_by_a_training(folder_server) -> None:
    marker = folder_server.root / "ran"
    for name in ("sitecustomize.py", "usercustomize.py", "monailabel.py", "numpy.py", "main.py"):
        path = folder_server.root / "studies" / name
        path.write_text(CODE.format(marker=str(marker)))
    try:
        started = folder_server.ask("POST", "/train/medreasoner", json={})
        assert started.status_code == 200, started.text
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            status = folder_server.ask("GET", "/train/").json()["status"]
            if status not in ("SUBMITTED", "RUNNING"):
                break
            time.sleep(1)
        assert status == "ERROR"  # nothing is approved yet
    finally:
        for path in (folder_server.root / "studies").glob("*.py"):
            path.unlink()
    assert not marker.exists()


# 2. Files of the server.


def detached(secret: Path) -> dict[str, bytes]:
    size = len(SECRET)
    nrrd = (
        "NRRD0004\ntype: uchar\ndimension: 3\nsizes: {n} 1 1\nencoding: raw\n"
        "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
        "space origin: (0,0,0)\n{key}: {file}\n\n"
    )
    mha = (
        "ObjectType = Image\nNDims = 3\nDimSize = {n} 1 1\nElementType = MET_UCHAR\n"
        "ElementSpacing = 1 1 1\n{key} = {file}\n"
    )
    keys = ("data file", "datafile", "Data File", "DATA FILE")
    made = {f"{key}.nrrd": nrrd.format(n=size, key=key, file=secret).encode() for key in keys}
    made["list.nrrd"] = nrrd.format(n=size, key="data file", file=f"LIST\n{secret}").encode()
    for key in ("ElementDataFile", "elementdatafile"):
        made[f"{key}.mha"] = mha.format(n=size, key=key, file=secret).encode()
    made["list.mha"] = mha.format(n=size, key="ElementDataFile", file=f"LIST\n{secret}").encode()
    return made


def test_a_header_that_names_a_file_of_the_server_is_refused(server) -> None:
    for name, content in detached(server.root / "outside" / "secret.txt").items():
        label = server.ask(
            "PUT", f"/datastore/label?image={server.image}", files={"label": (name, content)}
        )
        assert_refused(label, 422)
        assert_refused(
            server.ask("PUT", "/datastore/image?image=new", files={"file": (name, content)}), 422
        )
        infer = server.ask(
            "POST", "/infer/medreasoner?output=json", files={"file": (name, content)},
            data={"params": json.dumps({"query": "Where is the liver?"})},
        )  # fmt: skip
        assert_refused(infer, 422)
        assert SECRET not in label.content + infer.content
    assert not server.wrote(SECRET)


# 3. Out of the studies.


def test_info_does_not_lead_out_of_the_studies(server) -> None:
    foreign = pydicom.dcmread(server.root / "outside" / "0.dcm")
    forged = {
        "dicom_folder": str(server.root / "outside"),
        "SeriesInstanceUID": str(foreign.SeriesInstanceUID),
        "StudyInstanceUID": "1.2.3", "reader": "someone", "status": "approved", "path": "/etc",
    }  # fmt: skip
    server.ask(
        "PUT", f"/datastore/image/info?image={server.image}", data={"info": json.dumps(forged)}
    )
    answer = server.ask(
        "POST", f"/infer/medreasoner_click?image={server.image}&output=dicom_seg",
        data={"params": json.dumps({"foreground": [[1, 1, 1]]})},
    )  # fmt: skip
    assert FOREIGN.encode() not in answer.content
    info = server.ask("GET", f"/datastore/image/info?image={server.image}").json()
    for key in ("dicom_folder", "SeriesInstanceUID", "StudyInstanceUID", "path"):
        assert info.get(key) != forged[key]


def test_links_out_of_the_studies_are_not_followed(folder_server) -> None:
    studies, outside = folder_server.root / "studies", folder_server.root / "outside"
    links = {"linked.png": outside / "secret.txt", "series": outside, "l.nii.gz": "/etc/passwd"}
    for name, target in links.items():
        (studies / name).symlink_to(target)
    try:
        time.sleep(2)
        listed = folder_server.ask("GET", "/datastore/?output=all").json()["objects"]
        assert {"linked", "series", "l"}.isdisjoint(listed)
        foreign = pydicom.dcmread(outside / "0.dcm")
        assert str(foreign.SeriesInstanceUID) not in listed
        for name in ("linked", "l", str(foreign.SeriesInstanceUID)):
            assert_refused(folder_server.ask("GET", f"/datastore/image?image={name}"), 404)
    finally:
        for name in links:
            (studies / name).unlink()


# 4. Around the proxy.


@pytest.mark.parametrize(
    "path",
    ["servers", "/servers", "/servers/inner/get", "wado//servers", "wado/%2fservers", "stow",
     "wado/studies/../../system", "wado/%2e%2e/system", "qido/studies%2f..%2f..%2fsystem",
     "./servers", "instances", "wado/studies//servers", "wado/patients"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_the_proxy_leads_to_dicomweb_alone(server, method, path) -> None:
    answer = server.ask(method, f"/proxy/dicom/{path}", json={"Uri": "http://127.0.0.1:1/"})
    assert answer.status_code in (404, 405), answer.text[:300]


# 5. A slow archive.


def test_a_pacs_that_hangs_stops_nobody_else(servers) -> None:
    server = servers["archive"]
    with server.archive.paused(), ThreadPoolExecutor() as pool:
        waiting = [pool.submit(server.ask, "GET", "/info/") for _ in range(8)]
        waiting += [pool.submit(server.ask, "GET", "/datastore/?output=all") for _ in range(8)]
        time.sleep(1)
        for path in ("/auth/", "/openapi.json", "/medreasoner/inferences?image=x"):
            assert server.ask("GET", path, timeout=QUICK_S).status_code == 200
        statuses = {call.result().status_code for call in waiting}
    assert statuses <= {200, 503, 504}


# 6. Poison.


@pytest.mark.parametrize(
    "info",
    ['{"note": "\\ud800"}', '{"note": "a\\u0000b"}', '{"a":' * 200 + "1" + "}" * 200,
     '{"a":' * 935 + "1" + "}" * 935, '{"a": NaN}', '{"a": ' + "9" * 5000 + "}", "[]", "7", '"x"'],
)  # fmt: skip
def test_poisoned_info_is_refused(server, info) -> None:
    answer = server.ask("PUT", f"/datastore/image/info?image={server.image}", data={"info": info})
    assert_refused(answer, 422)
    assert server.ask("GET", "/datastore/?output=all").status_code == 200


def test_a_server_restarts_after_all_of_this(servers) -> None:
    server = servers["folder"]
    (server.root / "studies" / "damaged.dcm").write_bytes(
        dicom_bytes(ct_study(None).images[0])[:700] + os.urandom(900)
    )
    server.stop()
    server.start()
    assert "case" in server.ask("GET", "/datastore/?output=all").json()["objects"]


# 7. Work without bound.


def test_thousands_of_points_are_refused_before_any_work(server) -> None:
    points = [[float(i % 50), 0.0, 0.0] for i in range(5000)]
    begun = time.monotonic()
    for body in ({"inside": points}, {"box": points}, {"inside": points[:1], "outside": points}):
        answer = server.ask("POST", f"/medreasoner/streams/segment?image={server.image}", json=body)
        assert_refused(answer, 422)
    clicks = {"params": json.dumps({"foreground": points, "query": "x"})}
    assert_refused(server.ask("POST", f"/infer/medreasoner?image={server.image}", data=clicks), 422)
    assert time.monotonic() - begun < QUICK_S


def test_a_small_file_that_claims_gigabytes_takes_none(server) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((1000, 1000, 5000))
    header.set_data_dtype(np.int16)
    bomb = gzip.compress(header.binaryblock + struct.pack("4x"), mtime=0)
    before = server.memory_bytes
    answer = server.ask(
        "POST", "/infer/medreasoner?output=json", files={"file": ("x.nii.gz", bomb)},
        data={"params": json.dumps({"query": "Where is the liver?"})},
    )  # fmt: skip
    assert_refused(answer, 422)
    assert server.memory_bytes - before < 1 << 29


# 8. Login.


def test_a_wrong_password_is_no_fault_of_the_server(servers) -> None:
    server = servers["folder with login"]
    for form in (
        {"password": "wrong"},  # pragma: allowlist secret - made up
        {"username": "ann", "password": "x"},
        {"password": "\ud7ff"},
    ):
        answer = httpx.post(server.url + "/medreasoner/login", data=form, timeout=60)
        assert answer.status_code in (303, 401, 429)


def test_a_cookie_ends_with_the_logout(servers) -> None:
    server = servers["archive with login"]
    with httpx.Client(base_url=server.url, timeout=60) as client:
        client.post("/medreasoner/login", data={"username": "ann", "password": TOKEN})
        cookies = dict(client.cookies)
        assert cookies
        assert client.get("/info/").status_code == 200
        client.post("/medreasoner/logout")
    assert httpx.get(server.url + "/info/", cookies=cookies, timeout=60).status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_guesses_are_limited_whatever_address_they_claim(servers, scheme) -> None:
    server = servers["archive with login"]

    def guess(number: int) -> int:
        headers = {
            "Authorization": f"{scheme} Z3Vlc3M6{number:08d}",
            "X-Forwarded-For": f"10.0.{number // 250}.{number % 250}",
        }
        return httpx.get(server.url + "/info/", headers=headers, timeout=60).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(guess, range(300)))
    assert statuses.count(401) <= 60
    assert set(statuses) <= {401, 429}
    # Who knows the token is not locked out by who guesses.
    assert server.ask("GET", "/info/").status_code == 200


# 9. Privacy.


def test_nothing_of_a_patient_is_logged_or_readable_by_others(servers) -> None:
    server = servers["archive"]
    assert server.ask("POST", "/activelearning/random", json={}).json()["id"] == server.image
    log = server.log.read_text()
    patient = str(ct_study(None).images[0].PatientID)
    assert server.image not in log
    assert f"'{patient}'" not in log
    for name in ("home", "cache"):
        for path in [server.root / name, *(server.root / name).rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert not mode & 0o077, (path, oct(mode))


def test_no_temporary_file_is_left(server) -> None:
    server.ask(
        "PUT", f"/datastore/label?image={server.image}", files={"label": ("l.nii.gz", b"no label")}
    )
    time.sleep(1)
    left = [path for path in (server.root / "scratch").rglob("*") if path.is_file()]
    assert not left
