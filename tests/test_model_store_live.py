# SPDX-License-Identifier: Apache-2.0
"""A promoted model answers the next question without a restart; a broken one never does."""

from __future__ import annotations

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from medreasoner_infer.errors import InputError, ModelUnavailableError, ReasonerUnreachableError
from medreasoner_infer.imaging import Volume
from medreasoner_infer.models.store import (
    AdapterNotServedError,
    CandidateChangedError,
    LiveReasoner,
    Provenance,
    ReasonerStore,
    live_reasoner,
    set_lora_adapter,
)
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import AskRequest, SliceSelection
from medreasoner_infer.types import Grounding, ModelIdentity, ReasonerAnswer, SliceMask

PROVENANCE = Provenance("embedded", "d" * 64, "1", 0)
BOX = Grounding("Here.", (8.0, 16.0, 24.0, 32.0), ((12.0, 20.0), (20.0, 28.0)))


class NamedReasoner:
    """Answers with a box, under the name of its candidate."""

    input_size = 64
    image_encoding = "rgb"

    def __init__(self, name):
        self.identity = ModelIdentity(name, "nowhere", None, "0" * 64, "Apache-2.0")

    def answer(self, request, *, on_text=None, cancelled=None):
        return (ReasonerAnswer(self.identity.name, BOX, 0.5, 1),)


class EmptySegmenter:
    identity = ModelIdentity("empty", "nowhere", None, "0" * 64, "Apache-2.0")

    def segment_slice(self, image, prompt):
        return SliceMask(np.zeros(image.pixels.shape[:2], bool), 0.5)


class Loader:
    """Makes named reasoners, as told; remembers what it was asked for."""

    def __init__(self):
        self.asked = []
        self.error = None

    def __call__(self, candidate):
        name = "fallback" if candidate is None else candidate.name
        self.asked.append(name)
        if self.error is not None:
            raise self.error
        return NamedReasoner(name)


@pytest.fixture
def store(tmp_path):
    store = ReasonerStore(tmp_path / "models")
    for value, name in enumerate("ab"):
        source = tmp_path / name
        source.mkdir()
        save_file({"weight": np.full(4, value, np.float32)}, source / "model.safetensors")
        (source / "config.json").write_text("{}")
        store.add(source, PROVENANCE, name=name)
    return store


@pytest.fixture
def volume():
    values = np.full((32, 32, 4), 100, dtype=np.int16)
    return Volume(values, np.diag([2.0, 2.0, 5.0, 1.0]), "CT", "key", Path("known.nii.gz"))


def test_a_promoted_model_answers_at_every_worker_that_shares_the_store(store, tmp_path):
    """Each worker has a home, in which the store is a link to the shared one."""
    stores = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "models").symlink_to(store.folder)
        stores.append(ReasonerStore(tmp_path / name / "models"))
    answering = [LiveReasoner(shared, Loader()) for shared in stores]
    assert [live().identity.name for live in answering] == ["fallback"] * 2
    stores[0].promote("b", by="test")
    assert [live().identity.name for live in answering] == ["b"] * 2
    stores[1].rollback(by="test")
    assert [live().identity.name for live in answering] == ["fallback"] * 2


def test_next_question_is_answered_by_the_promoted_model(store, volume):
    pipeline = Pipeline(LiveReasoner(store, Loader()), EmptySegmenter)
    request = AskRequest("Where?", SliceSelection(index=1))

    def who_answers():
        result = pipeline.ask(volume, request)
        assert result.completion == result.reasoner.name
        return result.reasoner.name

    assert who_answers() == "fallback"
    store.promote("a", by="test")
    assert who_answers() == "a"
    store.promote("b", by="test")
    assert who_answers() == "b"
    assert pipeline.reasoner_identity.name == "b"
    store.rollback(by="test")
    assert who_answers() == "a"


def test_model_is_loaded_once_per_switch(store):
    load = Loader()
    live = LiveReasoner(store, load)
    assert live() is live()
    store.promote("a", by="test")
    assert live() is live()
    assert load.asked == ["fallback", "a"]


def test_question_keeps_the_reasoner_it_began_with(store, volume):
    """A switch between choosing the slice and answering must not mix two models."""
    live = LiveReasoner(store, Loader())
    first = live()

    def search_and_switch(requests, **_):
        if store.live() is None:
            store.promote("a", by="test")
        return tuple(first.answer(request)[0] for request in requests)

    first.answer_batch = search_and_switch
    result = Pipeline(live, EmptySegmenter).ask(volume, AskRequest("Where?"))
    assert store.live().name == "a"
    assert result.slice_choice.method == "search"
    assert (result.completion, result.reasoner.name) == ("fallback", "fallback")
    assert live().identity.name == "a"


def test_model_that_was_live_at_the_start_is_loaded_once(store):
    store.promote("a", by="test")
    load = Loader()
    live = LiveReasoner(store, load)
    assert live() is live()
    assert load.asked == ["a"]


def test_old_model_stays_when_the_new_one_does_not_load(store, caplog):
    load = Loader()
    live = LiveReasoner(store, load)
    live()
    load.error = ModelUnavailableError("The weights are torn.")
    store.promote("a", by="test")
    with caplog.at_level(logging.ERROR):
        assert live().identity.name == "fallback"
    assert "ModelUnavailableError: The weights are torn." in caplog.text
    assert live.failure is load.error
    assert live().identity.name == "fallback"
    assert load.asked == ["fallback", "a"]  # not tried at every question
    load.error = None
    store.promote("b", by="test")
    assert live().identity.name == "b"
    assert live.failure is None


def test_fault_of_a_server_is_tried_again_after_a_minute(store):
    now = [0.0]
    load = Loader()
    live = LiveReasoner(store, load, clock=lambda: now[0])
    live()
    store.promote("a", by="test")
    load.error = ReasonerUnreachableError("The server is down.")
    assert live().identity.name == "fallback"
    load.error = None
    now[0] = 59.0
    assert live().identity.name == "fallback"
    now[0] = 60.0
    assert live().identity.name == "a"


def test_first_model_that_does_not_load_is_an_error(store):
    load = Loader()
    load.error = ModelUnavailableError("No weights.")
    live = LiveReasoner(store, load)
    with pytest.raises(ModelUnavailableError, match="No weights"):
        live()
    load.error = None
    assert live().identity.name == "fallback"


def test_old_model_answers_other_threads_while_the_new_one_loads(store):
    entered, proceed = threading.Event(), threading.Event()

    def load(candidate):
        if candidate is None:
            return NamedReasoner("fallback")
        entered.set()
        assert proceed.wait(10)
        return NamedReasoner(candidate.name)

    live = LiveReasoner(store, load)
    live()
    store.promote("a", by="test")
    got = []
    loading = threading.Thread(target=lambda: got.append(live().identity.name))
    loading.start()
    assert entered.wait(10)
    assert live().identity.name == "fallback"
    proceed.set()
    loading.join(10)
    assert got == ["a"]
    assert live().identity.name == "a"


def test_first_load_is_shared_by_all_threads(store):
    load = Loader()
    live = LiveReasoner(store, load)
    barrier = threading.Barrier(8)
    got = []

    def ask():
        barrier.wait(10)
        got.append(live())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(set(map(id, got))) == 1
    assert load.asked == ["fallback"]


def test_changed_file_of_a_live_candidate_is_refused_when_loaded(store):
    store.promote("a", by="test")
    weights = store.folder / "candidates/a/model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with pytest.raises(CandidateChangedError, match=r"model\.safetensors was changed"):
        live_reasoner(store)()


def test_adapter_on_another_base_than_it_was_trained_on_is_refused(store, tmp_path):
    source = tmp_path / "adapter"
    source.mkdir()
    save_file({"lora_A": np.ones(4, np.float32)}, source / "adapter_model.safetensors")
    (source / "adapter_config.json").write_text("{}")
    trained_on = Provenance("embedded", "d" * 64, "1", 0, base_weights_sha256="e" * 64)
    store.add(source, trained_on, name="astray")
    store.promote("astray", by="test")
    with pytest.raises(CandidateChangedError, match="trained on weights eeeeeeeeeeee"):
        live_reasoner(store)()


def test_live_takes_no_adapter():
    with pytest.raises(InputError, match="promote one instead"):
        Pipeline.from_registry("live", adapter="/adapters/a")


# --- a vLLM server's adapters -----------------------------------------------------------------


class LoraServer(ThreadingHTTPServer):
    """Lists, loads and unloads adapters with the statuses and bodies of vLLM."""

    daemon_threads = True

    def __init__(self, *, updating=True, refuses=None):
        super().__init__(("127.0.0.1", 0), LoraHandler)
        self.updating, self.refuses = updating, refuses
        self.adapters = {}
        self.posts = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class LoraHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        cards = [{"id": "base", "root": "/models/base"}]
        cards += [{"id": name, "root": path} for name, path in self.server.adapters.items()]
        self.send(200, {"object": "list", "data": cards})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posts.append((self.path, body))
        if not self.server.updating:
            self.send(404, {"detail": "Not Found"})
        elif self.server.refuses is not None:
            self.send(self.server.refuses, {"error": {"message": "x", "type": "BadRequestError"}})
        elif self.path == "/v1/load_lora_adapter":
            self.server.adapters[body["lora_name"]] = body["lora_path"]
            self.send(200, "Success")
        elif self.path == "/v1/unload_lora_adapter":
            del self.server.adapters[body["lora_name"]]
            self.send(200, "Success")

    def send(self, status, body):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        """Keep the test's output clean."""


@pytest.fixture
def serve():
    servers = []

    def start(**options):
        server = LoraServer(**options)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_adapter_is_loaded_once_and_unloaded_once(serve, tmp_path):
    server = serve()
    for _ in range(2):
        set_lora_adapter(server.url, "site-a", tmp_path)
    assert server.adapters == {"site-a": str(tmp_path)}
    for _ in range(2):
        set_lora_adapter(server.url, "site-a", None)
    assert server.posts == [
        ("/v1/load_lora_adapter", {"lora_name": "site-a", "lora_path": str(tmp_path)}),
        ("/v1/unload_lora_adapter", {"lora_name": "site-a"}),
    ]


def test_other_adapter_of_the_same_name_is_not_taken_for_ours(serve, tmp_path):
    server = serve()
    set_lora_adapter(server.url, "site-a", tmp_path / "one")
    with pytest.raises(AdapterNotServedError, match="offers 'site-a' already"):
        set_lora_adapter(server.url, "site-a", tmp_path / "two")


def test_server_without_runtime_updating_says_how_to_start_it(serve, tmp_path):
    with pytest.raises(AdapterNotServedError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"):
        set_lora_adapter(serve(updating=False).url, "site-a", tmp_path)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_refusal_of_the_server_is_typed_and_tells_what_to_check(serve, tmp_path, status):
    with pytest.raises(AdapterNotServedError, match=rf"HTTP {status} \(BadRequestError\)"):
        set_lora_adapter(serve(refuses=status).url, "site-a", tmp_path)


def test_server_that_is_down_is_unreachable(serve, tmp_path):
    server = serve()
    server.shutdown()
    server.server_close()
    with pytest.raises(ReasonerUnreachableError, match="could not be reached"):
        set_lora_adapter(server.url, "site-a", tmp_path)


def test_promoted_adapter_is_loaded_by_the_server_and_asked_for_by_name(serve, tmp_path):
    pytest.importorskip("openai")
    server = serve()
    source = tmp_path / "adapter"
    source.mkdir()
    save_file({"lora_A": np.ones(4, np.float32)}, source / "adapter_model.safetensors")
    (source / "adapter_config.json").write_text("{}")
    store = ReasonerStore(tmp_path / "models")
    store.add(source, PROVENANCE, name="site-a")
    store.promote("site-a", by="test")
    reasoner = live_reasoner(store, url=server.url)()
    assert server.adapters == {"site-a": str(store.candidate("site-a").folder)}
    assert reasoner.identity.name == "site-a"
    assert reasoner.identity.licence == "Apache-2.0"
    assert reasoner.input_size == 128  # as the base's prompt.json says
