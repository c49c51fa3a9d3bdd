# SPDX-License-Identifier: Apache-2.0
"""A LoRA adapter that a live vLLM server takes up answers as it does merged in this process.

Start a server (see ``scripts/setup_vllm.sh``) and name it:

    VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve "$PWD/medreasoner_infer/embedded/reasoner" \
        --dtype float32 --max-model-len 1024 --enable-lora
    MEDREASONER_VLLM_LORA_URL=http://localhost:8000 pytest tests/test_lora_served.py

``MEDREASONER_LORA_ADAPTER`` names an adapter of the embedded reasoner; without it one with random
weights is made.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import medreasoner_infer
from medreasoner_infer.errors import ReasonerUnreachableError
from medreasoner_infer.models.store.lora_route import set_lora_adapter
from medreasoner_infer.reasoners import (
    connect_vllm_reasoner,
    load_transformers_reasoner,
    prepare_image,
)
from medreasoner_infer.reasoners.server_link import api_address
from medreasoner_infer.types import ReasonerRequest

pytestmark = pytest.mark.slow
EMBEDDED = Path(medreasoner_infer.__file__).parent / "embedded" / "reasoner"
NAME = "adapter-under-test"
SLICES = 6


@pytest.fixture(scope="module")
def url() -> str:
    address = os.environ.get("MEDREASONER_VLLM_LORA_URL")
    if not address:
        pytest.skip("a vLLM server that takes adapters is absent; set MEDREASONER_VLLM_LORA_URL")
    return address


@pytest.fixture(scope="module")
def base_name(url) -> str:
    """What the server calls the model beneath its adapters."""
    import httpx

    cards = httpx.get(f"{api_address(url)}/models", timeout=60).json()["data"]
    return next(card["id"] for card in cards if not card.get("parent"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    """A given adapter, or one whose two halves are both random, so that it changes answers."""
    if given := os.environ.get("MEDREASONER_LORA_ADAPTER"):
        return Path(given)
    peft = pytest.importorskip("peft")
    import torch
    from transformers import AutoModelForImageTextToText

    from medreasoner_training.finetune.arguments import lora_config
    from medreasoner_training.finetune.config import FineTuneConfig

    torch.manual_seed(11)
    config = lora_config(FineTuneConfig())
    config.init_lora_weights = False
    base = AutoModelForImageTextToText.from_pretrained(EMBEDDED, dtype=torch.float32)
    folder = tmp_path_factory.mktemp("adapter")
    peft.get_peft_model(base, config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def questions() -> list[ReasonerRequest]:
    from medreasoner_training.embedded.reasoner.samples import sample_questions

    base = load_transformers_reasoner(EMBEDDED, device="cpu")
    rng = np.random.default_rng(40_000)
    found = []
    for number in range(SLICES):
        sample = sample_questions(rng, 1, size_px=base.input_size)
        image = prepare_image(sample.image.grey, base.image_encoding)
        found.append(ReasonerRequest(image, sample.questions[0].query, f"phantom {number}"))
    return found


def answers(reasoner, questions) -> list[str]:
    return [reasoner.answer(question)[0].completion for question in questions]


def test_an_adapter_taken_up_by_a_live_server_answers_as_merged_here(
    url, base_name, adapter, questions
):
    base = connect_vllm_reasoner(url, base_name, folder=EMBEDDED)
    before = answers(base, questions)
    set_lora_adapter(url, NAME, adapter)
    try:
        served = answers(connect_vllm_reasoner(url, NAME, folder=EMBEDDED), questions)
    finally:
        set_lora_adapter(url, NAME, None)
    merged = load_transformers_reasoner(EMBEDDED, device="cpu", adapter=adapter)
    assert served == answers(merged, questions)
    assert served != before
    # The base answers as before, and the adapter is gone.
    assert answers(base, questions) == before
    with pytest.raises(ReasonerUnreachableError, match=NAME):
        connect_vllm_reasoner(url, NAME)
