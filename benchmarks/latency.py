# SPDX-License-Identifier: Apache-2.0
"""Latency and memory of the embedded models on this machine, against the bare libraries.

Run: ``python benchmarks/latency.py [IMAGE]`` (default: a generated CT study). The peer is what a
script without this project would do in the same process with the same weights: transformers'
``generate`` without grammar and without the image's cached prefix. Medians over several rounds.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from medreasoner_infer.hooks import Hooks
from medreasoner_infer.imaging import Volume, load_volume
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.request import AskRequest, Click, SegmentRequest, SliceSelection

ROUNDS = 7
# In the words that the model was taught, so that the peer is asked alike.
QUESTIONS = ("Where is the liver?", "Where is the spleen?")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_memory_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def generated_study() -> Volume:
    import tempfile

    from monailabel_app.cli.quickstart_study import write_quickstart_study

    with tempfile.TemporaryDirectory() as folder:
        write_quickstart_study(Path(folder), seed=7)
        return load_volume(folder)


class FirstToken:
    """Remembers when the first piece of text came."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.seconds: float | None = None

    def __call__(self, text: str) -> None:
        if self.seconds is None and text:
            self.seconds = time.perf_counter() - self.start


def bare_generate(
    pipeline: Pipeline, volume: Volume, index: int, question: str
) -> Callable[[], str]:
    """The peer: the same model through plain ``generate`` on the same image and question."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from medreasoner_infer.imaging import choose_window, default_plane
    from medreasoner_infer.models.registry import resolve_model
    from medreasoner_infer.reasoners.prompts import load_prompt_file
    from medreasoner_infer.slice_choice import DisplayedSlice

    folder = Path(resolve_model("reasoner", "embedded").source)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    reasoner = pipeline.reasoner
    shown = DisplayedSlice.of(
        volume, default_plane(volume), index, choose_window(volume), model_size=reasoner.input_size
    )
    image = shown.request(question, reasoner.image_encoding).image
    system, user = load_prompt_file(folder).template.render(
        question, AnswerFrame(reasoner.input_size)
    )
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": user}]},
    ]

    def run() -> str:
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs = processor(text=[text], images=[image], return_tensors="pt")
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=160, do_sample=False)
        (answer,) = processor.batch_decode(
            tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return answer

    return run


def measure(volume: Volume) -> list[tuple[str, str, str]]:
    """Rows of the table: what, its median, and against what."""
    pipeline = Pipeline.from_registry()
    count = volume.shape_ijk[2]
    rows = [("load both models", f"{seconds(pipeline.load):.2f} s", "")]
    pipeline.ask(volume, AskRequest(QUESTIONS[0], SliceSelection(index=count // 2)))

    first, fresh, second, clicked, token = [], [], [], [], []
    indices = [count * (n + 1) // (ROUNDS + 2) for n in range(ROUNDS)]
    for index in indices:
        selection, clock = SliceSelection(index=index), FirstToken()
        result = pipeline.ask(volume, AskRequest(QUESTIONS[0], selection), Hooks(text=clock))
        fresh.append(result.timings_s["total"])
        first.append(result.timings_s["reason"])
        token.append(clock.seconds)
        again = pipeline.ask(volume, AskRequest(QUESTIONS[1], selection))
        second.append(again.timings_s["total"])
        inside = Click((volume.shape_ijk[0] / 2, volume.shape_ijk[1] / 2, index))
        click = SegmentRequest(selection, clicks=(inside,))
        clicked.append(seconds(partial(pipeline.segment, volume, click)))
    peer_run = bare_generate(pipeline, volume, indices[0], QUESTIONS[0])
    peer_run()
    peer = statistics.median(seconds(peer_run) for _ in range(ROUNDS))
    median = statistics.median
    rows += [
        ("question to first token", f"{median(token):.3f} s", ""),
        (
            "question to reasoning",
            f"{median(first):.3f} s",
            f"{median(first) / peer:.2f} x bare generate ({peer:.3f} s)",
        ),
        ("question to mask", f"{median(fresh):.3f} s", ""),
        (
            "second question, same slice",
            f"{median(second):.3f} s",
            f"{median(second) / median(fresh):.2f} x the first",
        ),
    ]
    rows.append(("click on the same slice to mask", f"{median(clicked):.3f} s", ""))
    search = pipeline.ask(volume, AskRequest(QUESTIONS[0]))
    rows.append(("question without a slice", f"{search.timings_s['total']:.2f} s", ""))
    request = AskRequest(QUESTIONS[0], SliceSelection(index=search.slice.index), propagate=True)
    through = pipeline.ask(volume, request)
    first_slice, last_slice = through.mask.slice_range or (0, -1)
    slices = last_slice - first_slice + 1
    rows.append(
        (
            f"propagation, {slices} of {count} slices",
            f"{through.timings_s['segment']:.2f} s",
            f"{through.timings_s['segment'] / max(1, slices) * 1000:.0f} ms a slice",
        )
    )
    rows.append(("peak memory of the process", f"{peak_memory_gb():.2f} GiB", ""))
    return rows


def main(
    image: Annotated[Path | None, typer.Argument(help="Default: a generated CT study.")] = None,
) -> None:
    """Measure and print the table of medians."""
    volume = generated_study() if image is None else load_volume(image)
    table = Table("what", "median", "against", title=f"{volume.modality} {volume.shape_ijk}")
    for row in measure(volume):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
