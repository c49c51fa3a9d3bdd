# SPDX-License-Identifier: Apache-2.0
"""A question through the server beside the bare libraries, and many questions in a row.

Run: ``python benchmarks/through_server.py [--questions 300]``. The peer is a script without this
project that has the same weights in memory: transformers' ``generate`` on each slice, then SAM2's
own image predictor on the box of the server's answer. Slices are new to both, and both are asked in
the words that the model was taught; how many of the peer's texts are the server's is told. After a
first round the server answers the questions one after the other, always about the slices of the
first twenty, so that its caches are full then; its memory and latency at the end stand beside those
after these twenty.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import psutil
import typer
from latency import QUESTIONS, bare_generate, generated_study
from rich.console import Console
from rich.table import Table
from serving import serving

from medreasoner_infer.imaging import Volume
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.result import Inference
from medreasoner_infer.types import XYXY

WARM = 20


@dataclass(frozen=True)
class Reply:
    """What the server answered, and the seconds from the request to the reply."""

    inference: Inference
    seconds: float


def answered(url: str, image: str, query: str, index: int) -> Reply:
    """The answer about one slice, with its mask."""
    with httpx.Client(timeout=120) as client:  # a viewer has its TLS settings read already
        start = time.perf_counter()
        reply = client.post(
            f"{url}/infer/medreasoner",
            params={"image": image, "output": "json"},
            data={"params": json.dumps({"query": query, "slice": index})},
        )
        taken = time.perf_counter() - start
    return Reply(Inference.from_dict(reply.raise_for_status().json()["medreasoner"]), taken)


def bare(volume: Volume, replies: list[Reply]) -> list[tuple[float, bool]]:
    """Seconds of the peer for the slice and box of each reply, and whether its text is the same."""
    import torch
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from safetensors.torch import load_file
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    source = Path(resolve_model("segmenter", "embedded").source)
    network = instantiate(OmegaConf.load(source / "config.yaml").model).eval()
    network.load_state_dict(load_file(source / "model.safetensors"))
    predictor, pipeline = SAM2ImagePredictor(network), Pipeline.from_registry(device="cpu")
    # The predictor knows SAM2's 1024 px only.
    predictor._bb_feat_sizes = [(network.image_size // step,) * 2 for step in (4, 8, 16)]

    def segment(index: int, bbox_xyxy_px: XYXY) -> None:
        grey = np.asarray(volume.array[:, :, index], np.float32)
        picture = np.clip((grey + 160) / 400 * 255, 0, 255).astype(np.uint8)
        with torch.inference_mode():
            predictor.set_image(np.repeat(picture[..., None], 3, axis=2))
            predictor.predict(box=np.array(bbox_xyxy_px), multimask_output=False)

    found = []
    for reply in replies:
        answer, index = reply.inference, reply.inference.slice.index
        ask = bare_generate(pipeline, volume, index, QUESTIONS[0])
        start = time.perf_counter()
        text = ask()
        segment(index, answer.prompts.bbox_xyxy_slice_px)
        found.append((time.perf_counter() - start, text.strip() == answer.completion.strip()))
    return found


def serve_study(work: Callable[[str, str, int], None]) -> None:
    """Run ``work(url, image id, slices)`` against a server on the generated study."""
    from monailabel_app.cli.quickstart_study import write_quickstart_study

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_quickstart_study(root / "studies", seed=7)
        with serving(root / "home", "--studies", str(root / "studies")) as url:
            images = httpx.get(f"{url}/datastore/", params={"output": "all"}, timeout=60).json()
            (image,) = images["objects"]
            work(url, image, generated_study().shape_ijk[2])


def server_process(url: str) -> psutil.Process:
    """The process that listens there."""
    port = httpx.URL(url).port
    return next(
        psutil.Process(link.pid)
        for link in psutil.net_connections("tcp")
        if link.status == psutil.CONN_LISTEN and link.laddr.port == port
    )


def rows(url: str, image: str, count: int, questions: int) -> Iterator[tuple[str, str, str]]:
    """Lines of the table."""
    answered(url, image, QUESTIONS[0], count // 2)
    replies = [answered(url, image, QUESTIONS[0], at) for at in range(count) if at != count // 2]
    replies = [reply for reply in replies if reply.inference.present]
    ours = statistics.median(reply.seconds for reply in replies)
    found = bare(generated_study(), replies)
    peer = statistics.median(taken for taken, _ in found)
    same = sum(is_same for _, is_same in found)
    yield "question to mask, new slice", f"{ours:.3f} s", f"{ours / peer:.2f} x bare ({peer:.3f} s)"
    yield "texts that both wrote alike", f"{same}", f"of {len(replies)} slices with a target"
    process = server_process(url)
    taken, memory = [], 0
    for number in range(questions):
        taken.append(answered(url, image, QUESTIONS[number % 2], number % WARM).seconds)
        if number + 1 == WARM:
            memory = process.memory_info().rss
    first, last = (statistics.median(part) for part in (taken[:WARM], taken[-WARM:]))
    grown = process.memory_info().rss / memory - 1
    yield (
        f"{questions} questions, median of the last {WARM}",
        f"{last:.3f} s",
        f"{last / first:.2f} x the first",
    )
    yield (
        "memory after them",
        f"{process.memory_info().rss / 2**20:.0f} MiB",
        f"{grown:+.1%} since the first {WARM}",
    )


def main(questions: Annotated[int, typer.Option(min=2 * WARM)] = 300) -> None:
    """Measure and print the table."""
    table = Table("what", "value", "against")

    def work(url: str, image: str, count: int) -> None:
        for row in rows(url, image, count, questions):
            table.add_row(*row)

    serve_study(work)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
