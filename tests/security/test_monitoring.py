# SPDX-License-Identifier: Apache-2.0
"""What may be known of the server without a login, and with one."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from medreasoner_infer.types import ModelIdentity

TOKEN = "reader-" + "x" * 24


@pytest.fixture
def client(serve, tmp_path: Path):
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(f"ann:{TOKEN}:reader\n")
    return serve(token_file=tokens)


def test_whoever_watches_learns_that_the_server_answers_and_nothing_else(client) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_server_without_its_app_says_that_it_cannot_answer(client) -> None:
    client.app.state.services = None  # the fixture puts the server's state in order
    assert client.get("/healthz").status_code == 503


def test_metrics_need_a_login_and_name_the_models(client) -> None:
    assert client.get("/metrics").status_code == 401
    pipeline = client.app.state.services.answering._pipeline
    pipeline.reasoner_identity = ModelIdentity("toy", "packaged", "r1", "ab" * 32, "Apache-2.0")
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    families = {each.name: each for each in text_string_to_metric_families(answer.text)}
    (model,) = families["medreasoner_model_info"].samples
    expected = {"role": "reasoner", "name": "toy", "revision": "r1", "weights_sha256": "ab" * 32}
    assert model.labels == expected
    assert families["process_resident_memory_bytes"].samples[0].value > 0
    assert families["medreasoner_questions_waiting"].samples[0].value == 0
    assert "ann" not in answer.text


def test_two_apps_count_for_themselves(serve) -> None:
    first = serve().app.state.services.measures
    second = serve().app.state.services.measures
    first.waited("question", 1.0)
    name = "medreasoner_wait_seconds_count"
    counted = [
        each.registry.get_sample_value(name, {"stage": "question"}) for each in (first, second)
    ]
    assert counted == [1, None]
