# SPDX-License-Identifier: Apache-2.0
"""Requests that MONAI Label 0.8.5 as shipped carries out, and this server refuses.

Both servers run as their own processes, on loopback, on a folder of studies and on an archive; the
shipped one has an app that does the least there is to do. Each request goes to both.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import matplotlib
import nibabel
import numpy as np
import pytest

pytest.importorskip("monailabel")

from monailabel.main import Main
from support.servers import ServerProcess, free_port

from monailabel_app.errors import SettingsError
from monailabel_app.web.server import ServerOptions, run_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ANSWER_TIMEOUT_S = 120.0
EVIL = "https://evil.example"
QUESTION = "Where would a stone cause left flank pain?"
TOKEN = "correct-horse-battery-staple"
# Both servers have a model of this name; the shipped server's returns the image it was given.
SHIPPED_APP = """
import os, shutil, tempfile
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType


class Echo(InferTask):
    def __init__(self, weights):
        super().__init__(InferType.SEGMENTATION, ["target"], 3, "Returns the image")
        self.weights = weights

    def is_valid(self):
        return True

    def get_path(self, validate=True):
        return self.weights

    def __call__(self, request):
        handle, path = tempfile.mkstemp(suffix=".nii.gz")
        os.close(handle)
        return shutil.copyfile(request["image"], path), {}


class App(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        super().__init__(app_dir, studies, conf, name="As shipped")

    def init_infers(self):
        return {"medreasoner": Echo(os.path.join(self.app_dir, "model.pt"))}
"""


def image(value: int) -> bytes:
    volume = nibabel.Nifti1Image(np.full((3, 3, 3), value, np.int16), np.eye(4))
    return gzip.compress(volume.to_bytes(), mtime=0)


SECRET = image(7)
UPLOAD = image(9)


class Server(ServerProcess):
    """One of the servers; everything that it may write to lies below ``root``."""

    def __init__(self, root: Path, arguments: list[str], probe: str) -> None:
        port = free_port()
        command = [sys.executable, "-m", *arguments, "--port", str(port)]
        super().__init__(command, f"http://127.0.0.1:{port}", probe, root / "server.log")
        self.root = root
        self.secret = root / "outside" / "secret.nii.gz"

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        own = {
            "HOME": str(self.root), "TMPDIR": str(self.root / "scratch"),
            "MEDREASONER_HOME": str(self.root / "home"),
            "MPLCONFIGDIR": matplotlib.get_cachedir(),  # making its list of fonts takes long
        }  # fmt: skip
        super().start({**own, **(environment or {})})

    def ask(self, method: str, path: str, **content: object) -> httpx.Response:
        url = self.url + path.format(secret=self.secret)
        return httpx.request(method, url, timeout=ANSWER_TIMEOUT_S, **content)


def lay_out(root: Path) -> None:
    """Studies, a secret outside them, the shipped server's app, and our readers' tokens."""
    studies = root / "studies"
    (studies / "labels" / "final").mkdir(parents=True)
    for folder in ("app/bin", "scratch", "outside"):
        (root / folder).mkdir(parents=True)
    for name in ("case", "replaced", "deleted", "labels/final/case"):
        (studies / f"{name}.nii.gz").write_bytes(image(1))
    (root / "outside" / "secret.nii.gz").write_bytes(SECRET)
    (root / "app" / "main.py").write_text(SHIPPED_APP)
    (root / "app" / "model.pt").write_bytes(b"weights")
    (root / "app" / "bin" / "itkimage2segimage").touch()  # looked for, and else downloaded
    (root / "tokens").write_text(f"ann:{TOKEN}\n")
    (root / "tokens").chmod(0o600)


@dataclass(frozen=True)
class Hole:
    """A request, what shows that it was carried out, and the status of our refusal."""

    method: str
    path: str
    content: dict[str, object]
    carried_out: Callable[[Server, httpx.Response], bool]
    refusal: int


def tar_with(member: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(member), io.BytesIO())
    return content.getvalue()


def is_ok(server: Server, answer: httpx.Response) -> bool:
    return answer.status_code == 200


def is_secret(server: Server, answer: httpx.Response) -> bool:
    return answer.content == SECRET


def writes(path: str) -> Callable[[Server, httpx.Response], bool]:
    return lambda server, _: bool(list(server.root.glob(path)))


def holds(text: bytes) -> Callable[[Server, httpx.Response], bool]:
    return lambda _, answer: answer.status_code == 200 and text in answer.content


def started_a_process(_: Server, answer: httpx.Response) -> bool:
    return answer.status_code == 200 and answer.json()["status"] in ("SUBMITTED", "RUNNING", "DONE")


def reflects_origin(server: Server, answer: httpx.Response) -> bool:
    return (
        answer.headers.get("access-control-allow-origin") == EVIL
        and answer.headers.get("access-control-allow-credentials") == "true"
    )


def form(**values: object) -> dict[str, object]:
    return {"data": {"params": json.dumps(values)}}


def upload(field: str, name: str, content: bytes = UPLOAD) -> dict[str, object]:
    return {"files": {field: (name, content)}}


ORIGIN = {"headers": {"Origin": EVIL}}
HOLES = {
    "reads any file": Hole(
        "POST", "/infer/medreasoner?image={secret}&output=image", {}, is_secret, 422
    ),
    "writes a label outside": Hole(
        "PUT", "/datastore/label?image=case&tag=../../outside/label", upload("label", "l.nii.gz"),
        writes("outside/label/*"), 422,
    ),
    "writes an image outside": Hole(
        "PUT", "/datastore/image?image=../outside/image", upload("file", "i.nii.gz"),
        writes("outside/image*"), 422,
    ),
    "writes above the studies": Hole(
        "PUT", "/datastore/", upload("file", ".."), writes("tmp*"), 422
    ),
    "replaces an image": Hole(
        "PUT", "/datastore/image?image=replaced", upload("file", "i.nii.gz"),
        lambda server, _: (server.root / "studies/replaced.nii.gz").read_bytes() == UPLOAD, 409,
    ),
    "unpacks outside": Hole(
        "PUT", "/session/?uncompress=true",
        upload("files", "a.tar", tar_with("../../outside/unpacked")),
        writes("outside/unpacked"), 422,
    ),
    "deletes an image": Hole(
        "DELETE", "/datastore/image?id=deleted", {},
        lambda server, _: not (server.root / "studies/deleted.nii.gz").exists(), 403,
    ),
    "gives out all studies": Hole("GET", "/datastore/dataset", {}, holds(b"case.nii.gz"), 403),
    "reloads the app": Hole("POST", "/reload", {}, is_ok, 404),
    "shows its log": Hole("GET", "/logs/?text=true&lines=9999", {}, holds(b"Initializing"), 404),
    "exchanges weights": Hole(
        "PUT", "/model/medreasoner", upload("file", "m.pt", b"forged"),
        lambda server, _: (server.root / "app/model.pt").read_bytes() == b"forged", 404,
    ),
    "starts processes": Hole("POST", "/scoring/anything", {}, started_a_process, 404),
    "changes things for a foreign page": Hole("POST", "/reload", ORIGIN, is_ok, 403),
    "answers under any name": Hole(
        "GET", "/info/", {"headers": {"Host": "rebound.evil.example"}}, is_ok, 400
    ),
    "reads a body of any size": Hole(
        "POST", "/activelearning/random", {"json": {"filling": "x" * 3_000_000}}, is_ok, 413
    ),
}  # fmt: skip
AUTHORISED = {"headers": {"Authorization": f"Bearer {TOKEN}"}}
ARCHIVE_HOLES = {
    "passes into the archive's own interface": Hole(
        "GET", "/proxy/dicom/wado/%2e%2e/system", AUTHORISED, holds(b"DicomAet"), 404
    ),
    "passes anything posted to the archive": Hole(
        "POST", "/proxy/dicom/%2e%2e/tools/find",
        AUTHORISED | {"json": {"Level": "Patient", "Query": {}}}, is_ok, 404,
    ),
    "lets everyone in": Hole("GET", "/datastore/?output=all", {}, is_ok, 401),
}  # fmt: skip


@pytest.fixture(scope="module")
def servers(tmp_path_factory, orthanc_factory) -> Iterator[dict[str, Server]]:
    """The shipped server and ours, each on a folder and on an archive; ours with login there."""
    archive = orthanc_factory(tmp_path_factory.mktemp("archive")).dicom_web
    made = {}
    for name in ("shipped", "ours", "shipped on archive", "ours on archive"):
        root = tmp_path_factory.mktemp("server")
        lay_out(root)
        studies = ["--studies", archive if name.endswith("archive") else str(root / "studies")]
        start = ["monailabel.main", "start_server", "--app", str(root / "app")]
        serve = ["monailabel_app.cli", "serve", "--no-preload"]
        if name == "ours on archive":
            serve += ["--token-file", str(root / "tokens")]
        if name.startswith("shipped"):
            made[name] = Server(root, [*start, *studies, "--host", "127.0.0.1"], "/info/")
        else:
            made[name] = Server(root, [*serve, *studies], "/auth/")
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Server.start, made.values()))
        yield made
    finally:
        for server in made.values():
            server.kill()


def assert_only_shipped_does_it(hole: Hole, shipped: Server, ours: Server) -> None:
    answer = shipped.ask(hole.method, hole.path, **hole.content)
    assert hole.carried_out(shipped, answer), (answer.status_code, answer.text[:300])
    answer = ours.ask(hole.method, hole.path, **hole.content)
    assert answer.status_code == hole.refusal
    assert answer.text
    assert not hole.carried_out(ours, answer)


@pytest.mark.parametrize("name", HOLES)
def test_the_shipped_server_does_it_and_ours_does_not(servers, name) -> None:
    assert_only_shipped_does_it(HOLES[name], servers["shipped"], servers["ours"])


@pytest.mark.parametrize("name", ARCHIVE_HOLES)
def test_with_an_archive_the_shipped_server_does_it_and_ours_does_not(servers, name) -> None:
    assert_only_shipped_does_it(
        ARCHIVE_HOLES[name], servers["shipped on archive"], servers["ours on archive"]
    )


def test_a_path_in_the_params_is_read_by_the_shipped_server_alone(servers) -> None:
    """``params`` may hold ``image``, which replaces the one of the address."""
    path = "/infer/medreasoner?image=case&output=image"
    shipped, ours = servers["shipped"], servers["ours"]
    assert shipped.ask("POST", path, **form(image=str(shipped.secret))).content == SECRET
    answer = ours.ask("POST", path, **form(image=str(ours.secret), query=QUESTION))
    assert SECRET not in answer.content


def test_a_foreign_origin_is_reflected_by_the_shipped_server_alone(servers) -> None:
    answers = [servers[name].ask("GET", "/info/", **ORIGIN) for name in ("shipped", "ours")]
    assert [reflects_origin(servers["ours"], answer) for answer in answers] == [True, False]


def test_a_question_is_logged_by_the_shipped_server_alone(servers) -> None:
    for name in ("shipped", "ours"):
        path = "/infer/medreasoner?image=case&output=json"
        assert servers[name].ask("POST", path, **form(query=QUESTION, slice=1)).status_code == 200
    assert QUESTION in servers["shipped"].log.read_text()
    assert QUESTION not in servers["ours"].log.read_text()


def test_only_ours_confines_what_a_browser_does(servers) -> None:
    shipped, ours = (servers[name].ask("GET", "/info/").headers for name in ("shipped", "ours"))
    for header in ("content-security-policy", "x-content-type-options", "referrer-policy"):
        assert header not in shipped
        assert header in ours


def test_the_shipped_server_listens_on_every_address_and_ours_wants_a_login_for_it() -> None:
    shipped = argparse.ArgumentParser()
    Main().args_start_server(shipped)
    assert shipped.parse_args([]).host == "0.0.0.0"
    assert ServerOptions("studies").host == "127.0.0.1"
    with pytest.raises(SettingsError, match="--token-file"):
        run_server(ServerOptions("studies", host="0.0.0.0"))
