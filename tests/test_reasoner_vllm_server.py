# SPDX-License-Identifier: Apache-2.0
"""The vLLM engine against a real server with the embedded reasoner, and against transformers.

Start one (see ``scripts/setup_vllm.sh``) and name it:

    vllm serve medreasoner_infer/embedded/reasoner --dtype float32 --max-model-len 1024
    MEDREASONER_VLLM_URL=http://localhost:8000 pytest tests/test_reasoner_vllm_server.py
"""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.answer import answer_regex
from medreasoner_infer.errors import CancelledError, InputError
from medreasoner_infer.reasoners import (
    connect_vllm_reasoner,
    load_transformers_reasoner,
    prepare_image,
)
from medreasoner_infer.types import ReasonerRequest

pytestmark = pytest.mark.slow
SLICES = 40


@pytest.fixture(scope="module")
def folder() -> Path:
    """The served model's folder on this machine."""
    default = resources.files("medreasoner_infer") / "embedded" / "reasoner"
    path = Path(os.environ.get("MEDREASONER_VLLM_MODEL", str(default)))
    if not path.is_dir():
        pytest.skip(f"the served model's folder is absent: {path}")
    return path


@pytest.fixture(scope="module")
def remote(folder):
    url = os.environ.get("MEDREASONER_VLLM_URL")
    if not url:
        pytest.skip("a vLLM server is absent; set MEDREASONER_VLLM_URL to its address")
    return connect_vllm_reasoner(url, str(folder), folder=folder, name="reasoner")


@pytest.fixture(scope="module")
def local(folder):
    return load_transformers_reasoner(folder, device="cpu")


@pytest.fixture(scope="module")
def phantoms(remote) -> list[ReasonerRequest]:
    samples = pytest.importorskip("medreasoner_training.embedded.reasoner.samples")
    rng = np.random.default_rng(30_000)
    requests = []
    for number in range(SLICES):
        sample = samples.sample_questions(rng, 1, size_px=remote.input_size)
        image = prepare_image(sample.image.grey, remote.image_encoding)
        requests.append(ReasonerRequest(image, sample.questions[0].query, f"phantom {number}"))
    return requests


def test_greedy_answers_are_those_of_transformers(remote, local, phantoms) -> None:
    served = [remote.answer(request)[0] for request in phantoms]
    here = [local.answer(request)[0] for request in phantoms]
    assert [a.completion for a in served] == [a.completion for a in here]
    assert [a.grounding for a in served] == [a.grounding for a in here]
    assert [a.completion_tokens for a in served] == [a.completion_tokens for a in here]
    for one, other in zip(served, here, strict=True):
        assert one.confidence == pytest.approx(other.confidence, rel=0.01)


def test_a_batch_answers_like_one_by_one(remote, phantoms) -> None:
    singly = [remote.answer(request)[0].completion for request in phantoms[:8]]
    assert [a.completion for a in remote.answer_batch(phantoms[:8])] == singly


def test_noise_and_odd_questions_still_give_well_formed_answers(remote) -> None:
    rng = np.random.default_rng(1)
    pattern = answer_regex(remote.input_size, 2000)
    shape = (remote.input_size, remote.input_size, 3)
    for query in ("?", "Write a poem.", "{}[]\"' </think><answer>", "肝脏在哪里", "x" * 200):
        noise = rng.integers(0, 256, shape, dtype=np.uint8)
        request = ReasonerRequest(noise, query, "", samples=4, temperature=2.0, seed=3)
        for answer in remote.answer(request):
            assert re.fullmatch(pattern, answer.completion)


def test_samples_differ_and_a_seed_repeats_them(remote, phantoms) -> None:
    question = phantoms[0]
    request = ReasonerRequest(question.image, question.query, "", 4, 1.5, 7)
    first = [a.completion for a in remote.answer(request)]
    assert len(set(first)) > 1
    assert [a.completion for a in remote.answer(request)] == first


def test_text_arrives_in_pieces(remote, phantoms) -> None:
    pieces: list[str] = []
    (answer,) = remote.answer(phantoms[0], on_text=pieces.append)
    assert "".join(pieces) == answer.completion
    assert len(pieces) > 5


def test_cancelling_leaves_the_server_usable(remote, phantoms) -> None:
    pieces: list[str] = []
    with pytest.raises(CancelledError):
        remote.answer(phantoms[0], on_text=pieces.append, cancelled=lambda: len(pieces) > 2)
    assert len(pieces) == 3
    assert remote.answer(phantoms[0])[0].completion.startswith("".join(pieces))


def test_a_question_beyond_the_context_is_refused(remote, phantoms) -> None:
    image = phantoms[0].image
    with pytest.raises(InputError, match="--max-model-len"):
        remote.answer(ReasonerRequest(image, "liver " * 50_000, ""))
