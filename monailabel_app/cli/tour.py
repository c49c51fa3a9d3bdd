# SPDX-License-Identifier: Apache-2.0
"""The guided tour: a server on a study, questions over its REST API as a viewer asks them."""

from __future__ import annotations

import contextlib
import socket
import subprocess  # nosec B404 # starts our own server
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medreasoner_infer.errors import ServiceError
from monailabel_app.errors import ERROR_PREFIX

if TYPE_CHECKING:
    from medreasoner_infer.result import Inference

STUDY_SEED = 7
START_TIMEOUT_S = 600.0  # a busy machine compiles modules at the first start
LOCALHOST = "127.0.0.1"


@dataclass(frozen=True)
class DemoQuestion:
    """A question and how it is asked."""

    query: str
    propagate: bool = False


DEFAULT_QUESTIONS = (
    DemoQuestion("Which organ makes bile and fills the right upper abdomen?"),
    DemoQuestion("Which organ under the left ribs filters aged red blood cells?", propagate=True),
    DemoQuestion("Where would an aneurysm of the body's main artery be measured?"),
)


@dataclass(frozen=True)
class DemoAnswer:
    """One answered question and the files that show it."""

    question: DemoQuestion
    inference: Inference
    files: tuple[Path, ...]
    seconds: float


def make_demo_study(folder: Path) -> None:
    """Write a generated CT study (DICOM) into ``folder`` unless one is there already."""
    if folder.exists() and any(folder.iterdir()):
        return
    from monailabel_app.cli.quickstart_study import write_quickstart_study

    write_quickstart_study(folder, seed=STUDY_SEED)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        return probe.getsockname()[1]


@contextmanager
def running_server(studies: Path, port: int, log: Path) -> Iterator[str]:
    """Run ``medreasoner serve`` until the block ends; yields its address once it answers.

    Raises:
        ServiceError: if it does not answer in time; the message names the log.
    """
    command = [sys.executable, "-m", "monailabel_app.cli", "serve"]
    command += ["--studies", str(studies), "--port", str(port)]
    with log.open("w", encoding="utf-8") as stream:
        # A list and no shell; the folder of studies is the user's own argument.
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)  # nosec B603
    url = f"http://{LOCALHOST}:{port}"
    try:
        _wait_until_ready(url, process, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen, log: Path) -> None:
    import httpx

    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{url}/info/", timeout=10)
            if answer.is_success:
                return
            if answer.status_code == 401:
                raise ServiceError(
                    "The server asks for a login, which the demo has none for; start it without "
                    "MEDREASONER_TOKEN and MEDREASONER_TOKEN_FILE in the environment."
                )
        time.sleep(0.5)
    raise ServiceError(f"{_last_words(log)} The server's log is {log}.")


def _last_words(log: Path) -> str:
    """The sentence with which ``medreasoner serve`` has ended, if it has."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line.removeprefix(ERROR_PREFIX) for line in lines if line.startswith(ERROR_PREFIX)]
    return said[-1] if said else "The server did not come up."


class DemoClient:
    """Asks one image of a running server, through MONAI Label's own client."""

    def __init__(self, url: str, work_folder: Path) -> None:
        from monailabel.client import MONAILabelClient

        self._client = MONAILabelClient(url, tmpdir=str(work_folder))
        self._work_folder = work_folder

    def first_image(self) -> str:
        """The id of the first image of the datastore.

        Raises:
            ServiceError: if the server has no image.
        """
        images = self._client.datastore()["objects"]
        if not images:
            raise ServiceError("The studies folder holds no image that the server can read.")
        return sorted(images)[0]

    def download(self, image_id: str) -> Path:
        """Fetch the image as the server serves it to viewers."""
        import httpx

        url = f"{self._client.get_server_url()}/datastore/image"
        with httpx.stream("GET", url, params={"image": image_id}, timeout=60) as response:
            response.raise_for_status()
            disposition = response.headers.get("content-disposition", "")
            suffix = "".join(Path(disposition.partition("filename=")[2].strip('"')).suffixes[-2:])
            path = self._work_folder / f"image{suffix or '.nii.gz'}"
            with path.open("wb") as stream:
                stream.writelines(response.iter_bytes())
        return path

    def ask(self, image_id: str, question: DemoQuestion) -> tuple[Inference, Path]:
        """Ask a question; returns the record and the mask's file."""
        from medreasoner_infer.result import Inference

        params = {"query": question.query, "propagate": question.propagate}
        params["result_extension"] = ".nii.gz"
        mask, body = self._client.infer("medreasoner", image_id, params)
        return Inference.from_dict(body["medreasoner"]), Path(mask)


def answer_questions(
    url: str, questions: tuple[DemoQuestion, ...], out: Path
) -> Iterator[DemoAnswer]:
    """Ask the server's first image each question and write answer, mask and overlay for each."""
    import nibabel
    import numpy as np

    from medreasoner_infer.imaging import load_volume
    from medreasoner_infer.output import write_result

    with tempfile.TemporaryDirectory(prefix=".work-", dir=out) as work_folder:
        client = DemoClient(url, Path(work_folder))
        image_id = client.first_image()
        volume = load_volume(client.download(image_id))
        for number, question in enumerate(questions, start=1):
            start = time.perf_counter()
            inference, mask_path = client.ask(image_id, question)
            seconds = time.perf_counter() - start
            label = nibabel.Nifti1Image.from_filename(mask_path)
            mask_ijk = np.asarray(label.dataobj).astype(np.uint8)
            files = write_result(inference, mask_ijk, volume, out, suffix=f"_{number}")
            yield DemoAnswer(question, inference, files.paths, seconds)
