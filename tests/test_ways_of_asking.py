# SPDX-License-Identifier: Apache-2.0
"""With or without a trace, by the paper's prompt, held to the format or free."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from huggingface_hub import constants
from support.tiny_qwen import save_tiny_qwen
from typer.testing import CliRunner

from medreasoner_infer.errors import AnswerError, InputError, ModelUnavailableError
from medreasoner_infer.models.loading import load_reasoner
from medreasoner_infer.models.registry import LIVE, resolve_model
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.reasoners.base import ground
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.reasoners.prompts import (
    DIRECT_PROMPT,
    OFFICIAL_DIRECT_PROMPT,
    OFFICIAL_PROMPT,
    REASONING_PROMPT,
    Asking,
    PromptTemplate,
    in_prompting,
    named_prompt,
)
from medreasoner_infer.types import ReasonerRequest
from monailabel_app.cli import main

COMMIT = "0123456789abcdef0123456789abcdef01234567"  # pragma: allowlist secret
REPOSITORY = "zzzyzh/MedReasoner-Soft-7B"
# Of what the released code passes on behind the image, with "{query}" as the question.
RELEASED = {
    # pragma: allowlist nextline secret
    "official": "139869ad975d24d26885c1e26cfbe85892d61e0b0830f70e61b4e02f3d7cd01c",
    # pragma: allowlist nextline secret
    "official-direct": "fad5636cd7dde3f5f88e7f8c3ea168d4ccbea8635e4f367befc1e635bc2c869a",
}
AS_RELEASED_ANSWER = (
    "<think>The left lung.</think><answer>{'bbox': [445, 136, 708, 729], "
    "'points_1': [534, 273], 'points_2': [595, 455]}</answer>"
)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """The cache of a machine without a network that holds the released checkpoint's like."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(hub: Path) -> Path:
    repository = hub / "models--zzzyzh--MedReasoner-Soft-7B"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    save_tiny_qwen(snapshot, context=4096, patch_px=28, shard_size="100KB")
    return snapshot


def question(size: int) -> ReasonerRequest:
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return ReasonerRequest(image, "Which part lies on the left?", "picture")


@pytest.mark.parametrize("name", RELEASED)
def test_the_official_prompt_is_the_released_one(name) -> None:
    system, user = named_prompt(name).render("{query}", AnswerFrame(840))
    assert hashlib.sha256(user.encode()).hexdigest() == RELEASED[name]
    assert system == "You are a helpful assistant."


def test_an_answer_in_the_official_prompts_own_quotes_is_read() -> None:
    found = ground(AS_RELEASED_ANSWER, AnswerFrame(840), require_reasoning=True)
    assert found.bbox_xyxy_px == (445, 136, 708, 729)
    assert found.points_xy_px == ((534, 273), (595, 455))


def test_each_prompt_has_its_counterpart_and_a_models_own_keeps_its_words() -> None:
    directly, free = Asking(None, "direct"), Asking(None, "direct", constrained=False)
    assert in_prompting(REASONING_PROMPT, directly) == DIRECT_PROMPT
    assert in_prompting(REASONING_PROMPT, free) == DIRECT_PROMPT
    assert in_prompting(OFFICIAL_DIRECT_PROMPT, Asking(None, "reasoning")) == OFFICIAL_PROMPT
    assert in_prompting(DIRECT_PROMPT, directly) == in_prompting(DIRECT_PROMPT, Asking())
    own = PromptTemplate("Ground.", "Where is {query}?")
    direct = in_prompting(own, directly)
    assert (direct.system, direct.user_template) == (own.system, own.user_template)
    assert (own.asks_reasoning, direct.asks_reasoning) == (True, False)
    assert in_prompting(own, Asking(constrained=False)) == own
    with pytest.raises(InputError, match="a prompt of its own"):
        in_prompting(own, free)


def test_the_released_checkpoint_is_loaded_by_name_at_the_commit_that_is_there(hub) -> None:
    """As transformers loads it: shards with an index, from the hub's own cache."""
    snapshot = cached(hub)
    assert len(list(snapshot.glob("model-*.safetensors"))) > 1
    spec = resolve_model("reasoner", "medreasoner-7b")
    reasoner = load_reasoner(spec, device="cpu")
    identity = reasoner.identity
    assert (spec.source, reasoner.input_size) == (REPOSITORY, 840)
    assert reasoner.template == OFFICIAL_PROMPT
    assert (identity.source, identity.revision) == (REPOSITORY, COMMIT)
    assert identity.licence.startswith("Apache-2.0")
    assert "Not a medical device" in identity.notice


def test_asked_directly_it_answers_without_a_trace(hub) -> None:
    cached(hub)
    models = Pipeline.from_registry("medreasoner-7b", device="cpu", asking=Asking(None, "direct"))
    assert models.reasoner.template == OFFICIAL_DIRECT_PROMPT
    (answer,) = models.reasoner.answer(question(840))
    assert answer.completion.startswith("<answer>")


def test_only_free_decoding_lets_a_model_break_the_format(hub) -> None:
    spec = resolve_model("reasoner", f"medreasoner-7b@{cached(hub)}")
    free = load_reasoner(spec, device="cpu", asking=Asking(None, "direct", constrained=False))
    with pytest.raises(AnswerError):  # its weights are random
        free.answer(question(840))


def test_a_prompt_that_is_asked_for_goes_before_the_folders_own(hub) -> None:
    folder = cached(hub)
    own = {"system": "Own.", "user_template": "{query}", "input_size": 112}
    (folder / "prompt.json").write_text(json.dumps(own | {"image_encoding": "rgb"}))
    spec = resolve_model("reasoner", str(folder))
    as_told = load_reasoner(spec, device="cpu", asking=Asking("official"))
    assert load_reasoner(spec, device="cpu").template.system == "Own."
    assert (as_told.template, as_told.input_size) == (OFFICIAL_PROMPT, 112)


def test_offline_it_is_said_what_to_fetch(hub) -> None:
    with pytest.raises(ModelUnavailableError, match=f"hf download {REPOSITORY}"):
        load_reasoner(resolve_model("reasoner", "medreasoner-7b"), device="cpu")


def test_a_way_of_asking_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="'terse'; expected one of reasoning, direct, official"):
        Asking("terse")
    with pytest.raises(InputError, match="'long'; expected one of reasoning, direct"):
        Asking(None, "long")
    with pytest.raises(InputError, match="asked as it was trained"):
        Pipeline.from_registry(LIVE, asking=Asking("official"))


def test_the_command_says_in_a_sentence_what_is_missing(hub, tmp_path, monkeypatch, capsys) -> None:
    from support import umrg

    row = umrg.row(0, (10, 20, 50, 40), "What is bright?", "liver")
    data = str(umrg.write(tmp_path / "test.parquet", [row]))
    command = ["evaluate", data, "--out", str(tmp_path / "out"), "--reasoner", "medreasoner-7b"]
    monkeypatch.setattr("sys.argv", ["medreasoner", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert f"hf download {REPOSITORY}" in capsys.readouterr().err


def test_a_report_tells_a_pinned_model_from_one_that_may_be_exchanged(hub, tmp_path) -> None:
    from support import umrg

    from monailabel_app.cli.app import app

    cached(hub)
    row = umrg.row(0, (10, 20, 50, 40), "What is bright?", "liver")
    data = str(umrg.write(tmp_path / "test.parquet", [row]))
    said = {}
    for name in ("medreasoner-7b", f"medreasoner-7b@{COMMIT}"):
        out = tmp_path / name
        command = ["evaluate", data, "--out", str(out), "--reasoner", name, "--prompting", "direct"]
        result = CliRunner().invoke(app, [*command, "--resamples", "100", "--no-parts"])
        assert result.exit_code == 0, result.output
        report = json.loads((out / "report.json").read_text())
        assert report["reasoner"]["revision"] == COMMIT
        page = " ".join((out / "report.html").read_text().split())
        said[name] = (report["unpinned"], page, " ".join(result.output.split()))
    unpinned, page, output = said["medreasoner-7b"]
    assert unpinned == ["reasoner"]
    assert f"Revision: not pinned; loaded was {COMMIT}." in page
    assert f"revision: not pinned. {COMMIT} was loaded." in output
    unpinned, page, output = said[f"medreasoner-7b@{COMMIT}"]
    assert unpinned == []
    assert f"Revision: {COMMIT}." in page
    assert "not pinned" not in page + output


def test_a_report_tells_how_was_asked_and_counts_every_outcome(tmp_path) -> None:
    from support import umrg

    from monailabel_app.cli.app import app

    row = umrg.row(0, (10, 20, 50, 40), "Which organ produces bile?", "liver")
    data = str(umrg.write(tmp_path / "test.parquet", [row]))
    out = tmp_path / "out"
    command = ["evaluate", data, "--out", str(out), "--prompting", "direct"]
    result = CliRunner().invoke(app, [*command, "--resamples", "100"])
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())
    assert report["prompting"] == {
        "prompt": "the model's",
        "way": "direct",
        "decoding": "constrained",
    }
    counted = report["outcomes"]["present"]
    assert set(counted) == {"present", "absent", "not_understood", "refused", "failed"}
    assert sum(counted.values()) == 1
    again = CliRunner().invoke(app, [*command[:-2], "--resamples", "100"])
    assert "an evaluation with other prompting" in str(again.exception)
