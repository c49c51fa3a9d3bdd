# SPDX-License-Identifier: Apache-2.0
"""The two engines with the same weights on synthetic slices: speed, and whether they agree.

Run: ``python benchmarks/vllm_engine.py --vllm .venv-vllm/bin/vllm`` starts a server with the
embedded reasoner, measures both engines and, at the end, stops the server in the middle of an
answer. Without ``--vllm`` only the transformers engine is measured. Medians over the slices.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from medreasoner_infer.errors import MedReasonerError
from medreasoner_infer.reasoners import (
    Reasoner,
    connect_vllm_reasoner,
    load_transformers_reasoner,
    prepare_image,
)
from medreasoner_infer.types import ReasonerAnswer, ReasonerRequest

EMBEDDED = Path(__file__).resolve().parents[1] / "medreasoner_infer" / "embedded" / "reasoner"
SERVE = (
    "--dtype=float32",
    "--max-model-len=1024",
    "--max-num-seqs=8",
    "--enforce-eager",
    '--limit-mm-per-prompt={"image":1,"video":0}',
)
START_TIMEOUT_S = 300
SECOND_QUESTION = "Which structure here carries blood away from the heart?"

Figures = dict[str, str]


def phantom_requests(count: int, reasoner: Reasoner) -> list[ReasonerRequest]:
    """One question about each of ``count`` synthetic slices."""
    from medreasoner_training.embedded.reasoner.samples import sample_questions

    rng = np.random.default_rng(20_000)
    requests = []
    for number in range(count):
        sample = sample_questions(rng, 1, size_px=reasoner.input_size)
        image = prepare_image(sample.image.grey, reasoner.image_encoding)
        requests.append(ReasonerRequest(image, sample.questions[0].query, f"phantom {number}"))
    return requests


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def first_answers(
    reasoner: Reasoner, requests: list[ReasonerRequest]
) -> tuple[list[ReasonerAnswer], Figures]:
    """Answer one by one; time to the first text, to the end, and tokens a second after it."""
    answers, first, total, rate = [], [], [], []
    for request in requests:
        arrivals: list[float] = []
        start = time.perf_counter()
        (answer,) = reasoner.answer(
            request, on_text=lambda _, seen=arrivals: seen.append(time.perf_counter())
        )
        answers.append(answer)
        first.append(arrivals[0] - start)
        total.append(time.perf_counter() - start)
        rate.append(answer.completion_tokens / total[-1])
    figures = {
        "first text": f"{statistics.median(first) * 1000:.0f} ms",
        "whole answer": f"{statistics.median(total) * 1000:.0f} ms",
        "tokens a second": f"{statistics.median(rate):.0f}",
    }
    return answers, figures


def further_figures(reasoner: Reasoner, requests: list[ReasonerRequest]) -> Figures:
    """A second question about images just seen, and all slices in one batch."""
    second = []
    for request in requests:
        again = ReasonerRequest(request.image, SECOND_QUESTION, request.image_key)
        reasoner.answer(request)
        second.append(timed(lambda asked=again: reasoner.answer(asked)))
    batch = timed(lambda: reasoner.answer_batch(requests))
    return {
        "second question": f"{statistics.median(second) * 1000:.0f} ms",
        "a slice in a batch": f"{batch / len(requests) * 1000:.0f} ms",
    }


def without_cache(reasoner: Reasoner, requests: list[ReasonerRequest]) -> str:
    """The second question once more, the image's keys and values dropped before each."""
    times = []
    for request in requests:
        reasoner.prefixes.clear()
        again = ReasonerRequest(request.image, SECOND_QUESTION, request.image_key)
        times.append(timed(lambda asked=again: reasoner.answer(asked)))
    return f"{statistics.median(times) * 1000:.0f} ms"


@contextmanager
def serving(vllm: Path, model: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server of ``model`` on a free port, ready to answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    command = [vllm, "serve", model, "--host=127.0.0.1", f"--port={port}", *SERVE]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_until_ready(f"http://127.0.0.1:{port}/health", server)
            yield f"http://127.0.0.1:{port}", server
        finally:
            stop(server)


def wait_until_ready(address: str, server: subprocess.Popen[bytes]) -> None:
    """Wait for the server's first answer; fail if its process ends before."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(address).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise typer.BadParameter("The vLLM server did not start; run the command by hand to see why.")


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and its engine process, which share one process group."""
    if server.poll() is None:
        os.killpg(server.pid, 9)
        server.wait()


def stopped_in_mid_answer(
    reasoner: Reasoner, request: ReasonerRequest, server: subprocess.Popen[bytes]
) -> str:
    """What the caller gets when the server is killed as the first text arrives."""
    try:
        reasoner.answer(request, on_text=lambda _: stop(server))
    except MedReasonerError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def compare(ours: list[ReasonerAnswer], theirs: list[ReasonerAnswer]) -> Figures:
    pairs = list(zip(ours, theirs, strict=True))
    same = sum(a.completion == b.completion for a, b in pairs)
    gaps = [abs(a.confidence - b.confidence) for a, b in pairs if a.completion == b.completion]
    return {
        "equal completions": f"{same} of {len(pairs)}",
        "largest gap of confidence": f"{max(gaps, default=float('nan')):.1e}",
    }


def show(columns: dict[str, Figures]) -> None:
    table = Table("what", *columns, title="embedded reasoner, one question a slice")
    names = dict.fromkeys(name for figures in columns.values() for name in figures)
    for name in names:
        table.add_row(name, *(figures.get(name, "") for figures in columns.values()))
    Console().print(table)


def main(
    model: Annotated[Path, typer.Option(help="Folder of the reasoner.")] = EMBEDDED,
    vllm: Annotated[Path | None, typer.Option(help="Executable of vLLM.")] = None,
    slices: Annotated[int, typer.Option(help="Synthetic slices to ask about.")] = 40,
) -> None:
    """Measure both engines."""
    local = load_transformers_reasoner(model, device="cpu")
    requests = phantom_requests(slices, local)
    local.answer(requests[-1])
    local.prefixes.clear()
    answers, figures = first_answers(local, requests)
    figures |= further_figures(local, requests)
    figures["second question, uncached"] = without_cache(local, requests)
    columns = {"transformers": figures}
    if vllm is not None:
        with serving(vllm, model) as (address, server):
            remote = connect_vllm_reasoner(address, str(model), folder=model)
            remote.answer(requests[-1])
            served, figures = first_answers(remote, requests)
            figures |= further_figures(remote, requests) | compare(answers, served)
            figures["server killed"] = stopped_in_mid_answer(remote, requests[0], server)
            columns["vLLM"] = figures
    show(columns)


if __name__ == "__main__":
    typer.run(main)
