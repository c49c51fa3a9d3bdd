# SPDX-License-Identifier: Apache-2.0
"""Answers a second in three ways, as ratios within one run, and whether the answers are equal.

One by one by transformers, in batches by transformers, and by a vLLM server that gets several
requests at a time::

    python benchmarks/answer_throughput.py
    python benchmarks/answer_throughput.py --server http://localhost:8001/v1
    python benchmarks/answer_throughput.py --vllm .venv-vllm/bin/vllm

``--server`` takes a server that serves the same folder already, ``--vllm`` starts one; without them
the first two ways are measured. The ways take turns, so that a machine whose load changes slows all
of them alike; a ratio is the median over the rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from vllm_engine import EMBEDDED, phantom_requests, serving

from medreasoner_infer.reasoners import (
    Reasoner,
    connect_vllm_reasoner,
    load_transformers_reasoner,
)
from medreasoner_infer.reasoners.transformers_engine import BATCH_ROWS
from medreasoner_infer.reasoners.vllm_engine import PARALLEL_REQUESTS
from medreasoner_infer.types import ReasonerRequest

ONE_BY_ONE = "transformers, one by one"
Way = Callable[[list[ReasonerRequest]], list[str]]


def one_by_one(reasoner: Reasoner) -> Way:
    """Each question waits for the answer to the one before."""
    return lambda requests: [reasoner.answer(each)[0].completion for each in requests]


def together(reasoner: Reasoner) -> Way:
    """All questions are handed over at once; the engine makes batches or parallel requests."""
    return lambda requests: [each.completion for each in reasoner.answer_batch(requests)]


def measure(
    ways: dict[str, Way], requests: list[ReasonerRequest], rounds: int, forget: Callable[[], None]
) -> tuple[dict[str, list[float]], dict[str, list[str]]]:
    """Seconds of each way and round, and the completions of its last round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    completions: dict[str, list[str]] = {}
    for _ in range(rounds):
        for name, answer in ways.items():
            forget()  # or a later round would find the images of the first
            start = time.perf_counter()
            completions[name] = answer(requests)
            seconds[name].append(time.perf_counter() - start)
    return seconds, completions


def main(
    count: Annotated[int, typer.Option(help="Questions, each about an image of its own.")] = 48,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    server: Annotated[str | None, typer.Option(help="Address of a vLLM server.")] = None,
    vllm: Annotated[Path | None, typer.Option(help="vLLM's command, to start a server.")] = None,
    model: Annotated[Path, typer.Option(help="Folder of the reasoner.")] = EMBEDDED,
) -> None:
    """Measure the ways that can be had here and print their ratios."""
    local = load_transformers_reasoner(model, device="cpu")
    ways = {
        ONE_BY_ONE: one_by_one(local),
        f"transformers, {BATCH_ROWS} at a time": together(local),
    }
    with ExitStack() as stack:
        address = server or (stack.enter_context(serving(vllm, model))[0] if vllm else None)
        if address is not None:
            remote = connect_vllm_reasoner(address, str(model), folder=model)
            ways["vLLM server, one by one"] = one_by_one(remote)
            ways[f"vLLM server, {PARALLEL_REQUESTS} requests at a time"] = together(remote)
        requests = phantom_requests(count, local)
        for answer in ways.values():
            answer(requests[:2])  # the first use compiles
        seconds, completions = measure(ways, requests, rounds, local.prefixes.clear)
    Console().print(_table(seconds, completions, count))


def _table(seconds: dict[str, list[float]], completions: dict[str, list[str]], count: int) -> Table:
    table = Table("way", "answers a second", "ratio", "equal answers")
    slowest, expected = seconds[ONE_BY_ONE], completions[ONE_BY_ONE]
    for name, taken in seconds.items():
        ratio = statistics.median(one / own for one, own in zip(slowest, taken, strict=True))
        equal = sum(a == b for a, b in zip(completions[name], expected, strict=True))
        rate = count / statistics.median(taken)
        table.add_row(name, f"{rate:.2f}", f"{ratio:.2f}", f"{equal} of {count}")
    return table


if __name__ == "__main__":
    typer.run(main)
