# SPDX-License-Identifier: Apache-2.0
"""Every family's coordinates and sizes, against its own processor and tiny models."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.tiny_families import (
    GEMMA_MARKS,
    INTERN_MARKS,
    TINY,
    gemma3_processor,
    internvl_processor,
    tokenizer_with,
)
from support.vllm_stub import PIECES, card, running, score, serves, stream

from medreasoner_infer.errors import AnswerError, InputError, ModelUnavailableError
from medreasoner_infer.hooks import Question
from medreasoner_infer.imaging import Plane, Volume, slice_mapping
from medreasoner_infer.models.loading import load_reasoner
from medreasoner_infer.models.registry import registered_models, resolve_model
from medreasoner_infer.reasoners import connect_vllm_reasoner, load_transformers_reasoner
from medreasoner_infer.reasoners.base import ground
from medreasoner_infer.reasoners.budget import reasoning_chars
from medreasoner_infer.reasoners.coordinates import (
    PIXELS,
    THOUSANDTHS,
    THOUSANDTHS_Y_FIRST,
    AnswerFrame,
)
from medreasoner_infer.reasoners.families import (
    FAMILIES,
    ImageSizeChangedError,
    UnknownFamilyError,
    family_in,
    family_of,
    named_family,
)
from medreasoner_infer.reasoners.prompts import (
    DIRECT_PROMPT,
    OFFICIAL_PROMPT,
    REASONING_PROMPT,
    PromptTemplate,
)
from medreasoner_infer.reasoners.resizing import SmartResize
from medreasoner_infer.types import EarlierTargetInView, ReasonerRequest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIDES = (20, 56, 100, 448, 512, 800, 833, 840, 864, 896, 1000, 1344, 1792)
QUESTION = "What stores bile?"


def blank(side: int) -> np.ndarray:
    return np.zeros((side, side, 3), np.uint8)


# ---- sizes, against the processors' own classes


@pytest.mark.parametrize("bounds", [(3136, 12845056), (640_000, 640_000), (200_704, 501_760)])
@pytest.mark.parametrize(("patch", "model_type"), [(14, "qwen2_5_vl"), (16, "qwen3_vl")])
def test_qwen_s_processor_makes_the_sizes_that_are_reckoned(bounds, patch, model_type) -> None:
    processor = transformers.Qwen2VLImageProcessor(
        patch_size=patch,
        merge_size=2,
        size={"shortest_edge": bounds[0], "longest_edge": bounds[1]},
    )
    resizing = named_family(model_type).as_served(bounds).resizing
    for side in SIDES:
        _, rows, columns = processor(images=[blank(side)])["image_grid_thw"][0]
        assert resizing.seen_px(side) == rows * patch == columns * patch, side
        assert resizing.tokens(side) == rows * columns // 4, side


def test_800_px_are_784_or_812_px_of_qwen2_5_vl_by_the_bounds_and_840_px_are_864_of_qwen3() -> None:
    exact = (800 * 800, 800 * 800)
    qwen25 = named_family("qwen2_5_vl")
    assert qwen25.as_served(exact).resizing.seen_px(800) == 784
    assert qwen25.as_served(None).resizing.seen_px(800) == 812
    assert named_family("qwen3_vl").as_served((840**2, 840**2)).resizing.seen_px(840) == 864


def test_gemma_s_processor_makes_896_px_of_everything() -> None:
    processor = gemma3_processor(tokenizer_with(GEMMA_MARKS))
    resizing = named_family("gemma3").resizing
    for side in SIDES:
        made = processor(text=["<start_of_image>"], images=[[blank(side)]], return_tensors="pt")
        assert made["pixel_values"].shape[2:] == (896, 896)
        assert resizing.seen_px(side) == 896
        ids = made["input_ids"][0]
        assert resizing.tokens(side) == (ids == processor.tokenizer.image_token_id).sum()


def test_internvl_s_processor_makes_the_tiles_that_are_reckoned() -> None:
    processor = internvl_processor(tokenizer_with(INTERN_MARKS))
    resizing = named_family("internvl").resizing
    for side in SIDES:
        made = processor(text=["<IMG_CONTEXT>"], images=[[blank(side)]], return_tensors="pt")
        tiles = made["pixel_values"].shape[0]
        grid = resizing.seen_px(side) // 448
        assert tiles == grid**2 + (grid > 1), side
        assert resizing.tokens(side) == (made["input_ids"] == processor.image_token_id).sum()


@pytest.mark.parametrize("model_type", FAMILIES)
def test_kept_sizes_are_those_at_which_nothing_changes(model_type) -> None:
    family = named_family(model_type).as_served(None)
    for side in SIDES:
        kept = family.resizing.kept_px(side)
        assert kept, side
        assert all(family.resizing.seen_px(each) == each for each in kept), side
    assert family.frame(family.usual_px).side_px == family.usual_px


def test_sizes_of_published_models_are_kept() -> None:
    usual = {name: named_family(name).usual_px for name in FAMILIES}
    assert usual == {
        "qwen2_vl": 840, "qwen2_5_vl": 840, "qwen3_vl": 832, "qwen3_vl_moe": 832,
        "internvl": 896, "gemma3": 896,
    }  # fmt: skip
    for spec in registered_models("reasoner").values():
        if spec.model_type is not None:
            family = named_family(spec.model_type).as_served(None)
            assert family.frame(spec.input_size).side_px == spec.input_size, spec.name


def test_a_changed_size_is_refused_with_what_would_become_of_it_and_what_is_kept() -> None:
    for model_type, side, seen, kept in (
        ("qwen2_5_vl", 800, 812, "784 px or 812 px"),
        ("qwen3_vl", 840, 832, "832 px or 864 px"),
        ("qwen3_vl", 64, 256, "256 px"),
        ("gemma3", 840, 896, "expected 896 px"),
        ("internvl", 840, 896, "448 px or 896 px"),
    ):
        with pytest.raises(ImageSizeChangedError, match=f"would make {seen} px.*{kept}"):
            named_family(model_type).as_served(None).frame(side)


# ---- which family


@pytest.mark.parametrize(
    "config", [{}, {"model_type": "llava"}, {"model_type": ["qwen3_vl"]}, {"model_type": "qwen"}]
)
def test_a_model_of_unknown_type_is_refused_by_the_known_ones_names(config, tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnknownFamilyError, match="expected one of qwen2_vl, qwen2_5_vl, qwen3_vl"):
        family_in(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_damaged_config_is_refused(text, tmp_path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelUnavailableError, match=r"config\.json"):
        family_in(tmp_path)


def test_the_patch_grid_is_that_of_the_model_s_own_config() -> None:
    vision = {"patch_size": 8, "spatial_merge_size": 3}
    family = family_of({"model_type": "qwen3_vl", "vision_config": vision})
    assert family.resizing == SmartResize(24)
    assert family_of({"model_type": "qwen2_5_vl"}).resizing == SmartResize(28)


# ---- coordinates


ANSWER = '<think>At [1, 2], 40 px.</think><answer>{"bbox": %s, "points_1": %s, "points_2": %s}'
FRAMES = {
    "pixels": (AnswerFrame(840, PIXELS), ("[84, 210, 420, 630]", "[126, 252]", "[168, 336]")),
    "thousandths": (
        AnswerFrame(840, THOUSANDTHS), ("[100, 250, 500, 750]", "[150, 300]", "[200, 400]")
    ),
    "y first": (
        AnswerFrame(840, THOUSANDTHS_Y_FIRST),
        ("[250, 100, 750, 500]", "[300, 150]", "[400, 200]"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("frame", "written"), FRAMES.values(), ids=FRAMES)
def test_one_answer_is_read_alike_however_it_is_written(frame, written) -> None:
    found = ground(ANSWER % written + "</answer>", frame, require_reasoning=True)
    assert found.bbox_xyxy_px == pytest.approx((84, 210, 420, 630))
    assert found.points_xy_px == (pytest.approx((126, 252)), pytest.approx((168, 336)))
    assert found.reasoning == "At [1, 2], 40 px."
    assert not found.warnings


@pytest.mark.parametrize(
    "body",
    [
        '{"bbox": ["250", "100px", "750", "500"], "points_1": [300, 150], "points_2": [400, 200]}',
        "{'bbox': [[250, 100], [750, 500]], 'points_1': [300, 150], 'points_2': [400, 200]}",
        '{"bbox_2d": [250.0, 1e2, 750, 500,], "points": [300, 150, 400, 200]}',
        '{"bbox": [250, 100, 750, 500], "points_1": [300, 150], "points_2": [400, 200',
    ],
)
def test_numbers_are_converted_in_each_form_that_is_repaired(body) -> None:
    text = f"<think>x</think><answer>{body}</answer>"
    found = ground(text, AnswerFrame(840, THOUSANDTHS_Y_FIRST), require_reasoning=True)
    assert found.bbox_xyxy_px == pytest.approx((84, 210, 420, 630))
    assert found.points_xy_px == (pytest.approx((126, 252)), pytest.approx((168, 336)))
    assert found.warnings


@pytest.mark.parametrize(
    "body",
    ["null", '"not understood"', "{}", '{"bbox": [1, 2, 3]}', '{"bbox": [NaN, 1, 2, 3]}',
     "[1e999, 2]", '{"bbox": [true, 1, 2, 3]}', '{"bbox": [' + "9" * 400 + ", 1, 2, 3]}",
     "I cannot."],
)  # fmt: skip
def test_what_holds_no_box_stays_as_the_model_wrote_it(body) -> None:
    text = f"<think>From [1, 2] on.</think><answer>{body}</answer>"
    assert AnswerFrame(840, THOUSANDTHS_Y_FIRST).in_px(text) == text


def test_a_long_answer_without_numbers_is_read_in_one_pass() -> None:
    text = "<answer>" + "[" * 1000 + "[1" + " " * 100_000 + "px" + " " * 100_000 + "9" * 100_000
    assert AnswerFrame(840, THOUSANDTHS).in_px(text) == text


def test_room_is_kept_for_what_the_family_says_of_coordinates() -> None:
    room = [
        reasoning_chars(REASONING_PROMPT, 2000, context=2400, image_tokens=256, frame=frame)
        for frame, _ in FRAMES.values()
    ]
    assert room[0] > room[1] > room[2] > 1


def test_an_answer_outside_the_image_is_told_in_reasoner_px() -> None:
    text = ANSWER % ("[-10, 250, 500, 1100]", "[150, 300]", "[200, 400]") + "</answer>"
    found = ground(text, AnswerFrame(840, THOUSANDTHS), require_reasoning=True)
    assert found.bbox_xyxy_px == pytest.approx((0, 210, 420, 840))
    assert "beyond the image of 840 x 840 px" in found.warnings[0]
    with pytest.raises(AnswerError):
        ground(
            text.replace("bbox", "nothing"), AnswerFrame(840, THOUSANDTHS), require_reasoning=True
        )


def sample_of(truth, side: int):
    """A target on a black square of ``side`` px."""
    from medreasoner_training.finetune.raw_samples import RawSample

    image = blank(side)
    return RawSample(image, image[..., 0] > 0, truth, QUESTION, "liver", "p", "Seen.")


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_box_in_slice_px_comes_back_from_the_family_s_text(model_type) -> None:
    """Within half a step of the text, on a slice that is letterboxed on both sides."""
    from medreasoner_training.finetune.traces import completion_of
    from medreasoner_training.rewards import GroundTruth

    family = named_family(model_type)
    frame = family.frame(family.usual_px)
    array, affine = np.zeros((300, 200, 3), np.float32), np.diag([0.8, 1.6, 3.0, 1.0])
    volume = Volume(array, affine, "CT", "k", Path("image"))
    mapping = slice_mapping(volume, Plane.AXIAL, 1, model_size=frame.side_px)
    width, height = mapping.shape_hw[::-1]
    box = (0.2 * width, 0.1 * height, 0.7 * width, 0.9 * height)
    points = np.array([[0.3 * width, 0.4 * height], [0.6 * width, 0.5 * height]])
    truth = GroundTruth(
        mapping.slice_box_to_reasoner_px(box),
        tuple(map(tuple, mapping.slice_px_to_reasoner_px(points).tolist())),
    )
    text = completion_of(sample_of(truth, frame.side_px), REASONING_PROMPT, frame)
    found = ground(text, frame, require_reasoning=True)
    step_px = frame.side_px / frame.units / min(mapping.reasoner_px_per_slice_px)
    assert mapping.reasoner_box_to_slice_px(found.bbox_xyxy_px) == pytest.approx(box, abs=step_px)
    back = mapping.reasoner_px_to_slice_px(np.array(found.points_xy_px))
    np.testing.assert_allclose(back, points, atol=step_px)
    assert not found.warnings


# ---- prompts


@pytest.mark.parametrize("template", [REASONING_PROMPT, DIRECT_PROMPT])
def test_each_family_is_asked_for_its_own_coordinates(template) -> None:
    pixels, thousandths, y_first = (
        template.render(QUESTION, frame)[1] for frame, _ in FRAMES.values()
    )
    assert "whole pixels of this 840 x 840 image" in pixels
    for text in (thousandths, y_first):
        assert "whole thousandths of the image's side" in text
        assert "pixel" not in text
    usual = '{"bbox": [x1, y1, x2, y2], "points_1": [x, y], "points_2": [x, y]}'
    assert usual in pixels
    assert usual in thousandths
    assert '{"bbox": [y1, x1, y2, x2], "points_1": [y, x], "points_2": [y, x]}' in y_first
    assert "the vertical value comes first" in y_first
    assert not re.search(r"\{[a-z]+\}", pixels + thousandths + y_first)


def test_a_follow_up_s_box_is_told_as_the_family_writes_it() -> None:
    about = EarlierTargetInView("liver", 0, (0.1, 0.25, 0.5, 0.75))
    told = [DIRECT_PROMPT.render("Its left lobe?", f, about)[1] for f, _ in FRAMES.values()]
    for text, (_, (box, *_)), unit in zip(
        told, FRAMES.values(), ("pixels", "thousandths", "thousandths"), strict=True
    ):
        assert f"within {box} in the {unit} of this image" in text


def test_a_prompt_that_says_nothing_of_coordinates_leaves_them_to_a_model_that_writes_x_first():
    mute = PromptTemplate("s", "{query}")
    sized = PromptTemplate("This image has {size} px.", "{query}")
    for template in (mute, sized, OFFICIAL_PROMPT):
        template.require_told(AnswerFrame(840, PIXELS))
    for template in (mute, OFFICIAL_PROMPT):
        template.require_told(AnswerFrame(840, THOUSANDTHS))
        with pytest.raises(InputError, match="y1, x1, y2, x2"):
            template.require_told(AnswerFrame(840, THOUSANDTHS_Y_FIRST))
    with pytest.raises(InputError, match="thousandths"):
        sized.require_told(AnswerFrame(840, THOUSANDTHS))


def test_a_model_is_not_trained_by_a_prompt_that_it_could_not_be_asked_by() -> None:
    pytest.importorskip("datasets")
    from medreasoner_infer.reasoners.prompts import PromptFile
    from medreasoner_training.finetune.rows import RowMaker

    with pytest.raises(InputError, match="y1, x1, y2, x2"):
        RowMaker(PromptFile(OFFICIAL_PROMPT, "rgb", 896), AnswerFrame(896, THOUSANDTHS_Y_FIRST))


# ---- models in this process


@pytest.fixture(scope="module", params=TINY)
def tiny(request, tmp_path_factory):
    """Type, folder and size of a tiny model, and the reasoner that it makes."""
    save, side = TINY[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    save(folder)
    reasoner = load_transformers_reasoner(folder, device="cpu", input_size=side, prompt="direct")
    return request.param, folder, side, reasoner


def picture(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_a_tiny_model_sees_the_size_and_the_tokens_that_are_reckoned(tiny) -> None:
    model_type, _, side, reasoner = tiny
    loaded = reasoner._loaded
    encoded = reasoner._encode([ReasonerRequest(picture(side), QUESTION, "")])
    image_token = loaded.model.config.image_token_id
    assert (encoded["input_ids"] == image_token).sum() == loaded.image_tokens
    if "image_grid_thw" in encoded:
        _, *patches = encoded["image_grid_thw"][0].tolist()
        assert [count * 8 for count in patches] == [side, side]
    else:  # InternVL: four tiles and all of it on a fifth
        assert len(encoded["pixel_values"]) == {"gemma3": 1, "internvl": 5}[model_type]
    assert loaded.family.name == FAMILIES[model_type].name


def test_a_tiny_model_s_answer_is_in_reasoner_px(tiny) -> None:
    model_type, _, side, reasoner = tiny
    request = ReasonerRequest(picture(side), QUESTION, "", samples=16, temperature=1.5)
    sampled = [
        a for seed in range(4) for a in reasoner.answer(dataclasses.replace(request, seed=seed))
    ]
    boxed = [a for a in sampled if a.grounding.present and not a.grounding.warnings]
    assert boxed
    for answer in boxed:
        text = re.search(r'"bbox": ?\[([^]]*)\]', answer.completion).group(1)
        x1, y1, x2, y2 = map(int, text.split(","))
        if model_type == "gemma3":
            y1, x1, y2, x2 = x1, y1, x2, y2
        px_per_step = 1 if model_type == "qwen2_5_vl" else side / 1000
        told = [value * px_per_step for value in (x1, y1, x2, y2)]
        assert answer.grounding.bbox_xyxy_px == pytest.approx(told)
    assert len({answer.completion for answer in sampled}) > 1


def test_several_questions_at_once_are_answered_as_one_by_one(tiny) -> None:
    side, reasoner = tiny[2], tiny[3]
    requests = [ReasonerRequest(picture(side), f"{QUESTION} {n}", f"k{n}") for n in range(2)]
    together = reasoner.answer_batch(requests)
    singly = [reasoner.answer(request)[0].completion for request in requests]
    assert [answer.completion for answer in together] == singly
    each = reasoner.answer_each([Question(request) for request in requests])
    assert [answer.completion for answer in each] == singly
    assert len(reasoner.prefixes) == (2 if reasoner._loaded.family.keeps_prefix else 0)


def test_a_kept_image_changes_no_answer(tiny) -> None:
    side, reasoner = tiny[2], tiny[3]
    request = ReasonerRequest(picture(side), QUESTION, "kept", samples=2, temperature=1.0, seed=3)
    fresh = reasoner.answer(dataclasses.replace(request, image_key=""))
    assert reasoner.answer(request) == reasoner.answer(request) == fresh


def test_a_tiny_model_at_another_size_is_refused(tiny) -> None:
    _, folder, side, reasoner = tiny
    with pytest.raises(ImageSizeChangedError, match=reasoner._loaded.family.name):
        load_transformers_reasoner(folder, device="cpu", input_size=side + 5)


# ---- models on a server


@pytest.fixture
def server():
    pytest.importorskip("openai")
    with running() as stub:
        yield stub


BODIES = {
    "qwen2_5_vl": "[84, 210, 420, 630]",
    "qwen3_vl": "[100, 250, 500, 750]",
    "internvl": "[100, 250, 500, 750]",
    "gemma3": "[250, 100, 750, 500]",
}


@pytest.mark.parametrize("model_type", BODIES)
def test_a_served_model_is_asked_and_read_as_its_family_writes(
    server, model_type, tmp_path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    side = named_family(model_type).usual_px
    reasoner = connect_vllm_reasoner(server.url, "tiny", folder=tmp_path, prompt="direct")
    assert reasoner.input_size == side
    points = '"points_1": [300, 300], "points_2": [300, 300]'
    server.replies = [stream([f'<answer>{{"bbox": {BODIES[model_type]}, {points}}}</answer>'])]
    (answer,) = reasoner.answer(ReasonerRequest(blank(side), QUESTION, ""))
    assert answer.grounding.bbox_xyxy_px == pytest.approx(
        [share * side for share in (0.1, 0.25, 0.5, 0.75)]
    )
    asked = server.seen[0]
    text = asked["messages"][1]["content"][1]["text"]
    assert ("thousandths" in text) == (model_type != "qwen2_5_vl")
    regex = asked["structured_outputs"]["regex"]
    whole = f'<answer>{{"bbox": [0, 0, %d, %d], {points}}}</answer>'
    steps = side if model_type == "qwen2_5_vl" else 1000
    assert re.fullmatch(regex, whole % (steps, steps))
    assert not re.fullmatch(regex, whole % (steps + 1, steps))


def test_an_image_that_the_server_s_processor_would_change_is_not_sent(server, tmp_path) -> None:
    def connect(side: int):
        return connect_vllm_reasoner(server.url, "tiny", folder=tmp_path, input_size=side)

    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    with pytest.raises(ImageSizeChangedError, match="812 px"):
        connect(800)
    assert connect(840).input_size == 840
    settings = {"min_pixels": 3136, "max_pixels": 512 * 28 * 28}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ImageSizeChangedError, match="616 px"):
        connect(840)
    assert connect(616).input_size == 616


def test_a_server_that_resizes_the_image_all_the_same_is_refused(server) -> None:
    def ask(tokens: int):
        pieces = ["<|image_pad|>"] * tokens + PIECES
        server.score_reply = score(pieces, [0.5] * len(pieces))
        reasoner = connect_vllm_reasoner(
            server.url, "tiny", input_size=56, prompt=prompt, model_type="qwen2_5_vl"
        )
        return reasoner.answer(ReasonerRequest(blank(56), QUESTION, ""))

    prompt = PromptTemplate("Ground.", "{query}")
    for tokens in (0, 4):
        assert ask(tokens)[0].confidence == pytest.approx(0.5)
    with pytest.raises(ImageSizeChangedError, match=r"9 tokens of an image of 56 px.*takes 4"):
        ask(9)


def test_this_machine_s_copy_of_a_pinned_repository_tells_the_type(server, tmp_path, monkeypatch):
    copy = tmp_path / "models--org--model" / "snapshots" / "0123abc"
    copy.mkdir(parents=True)
    (copy / "config.json").write_text('{"model_type": "gemma3"}')
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    spec = resolve_model("reasoner", "org/model@0123abc")
    server.models_reply = serves(card("org/model", max_model_len=4096))
    assert load_reasoner(spec, url=server.url).input_size == 896


def test_a_served_model_s_name_is_no_folder_of_this_machine(server, tmp_path, monkeypatch) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text('{"model_type": "gemma3"}')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownFamilyError):
        connect_vllm_reasoner(server.url, "tiny")
    assert connect_vllm_reasoner(server.url, "tiny", folder="tiny").input_size == 896


def test_a_served_model_of_which_nobody_tells_the_type_is_refused(server) -> None:
    with pytest.raises(UnknownFamilyError, match=r"config\.json.*qwen2_5_vl"):
        connect_vllm_reasoner(server.url, "tiny")
    with pytest.raises(UnknownFamilyError, match="'llava'"):
        connect_vllm_reasoner(server.url, "tiny", model_type="llava")


def test_the_model_beneath_a_served_adapter_tells_the_type(server, tmp_path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_vl"}')
    adapter = card("site-a", root="/adapters/site-a", parent="tiny")
    server.models_reply = serves(card("tiny", root=str(tmp_path), max_model_len=2048), adapter)
    reasoner = connect_vllm_reasoner(server.url, "site-a", prompt="direct")
    assert reasoner.input_size == 832


# ---- what is learnt


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_approved_answer_earns_all_in_each_family_s_numbers(model_type) -> None:
    pytest.importorskip("datasets")
    from medreasoner_infer.reasoners.prompts import PromptFile
    from medreasoner_training.finetune.config import config_from_dict
    from medreasoner_training.finetune.grpo import reward_functions
    from medreasoner_training.finetune.rows import RowMaker
    from medreasoner_training.finetune.settings import ImageSizes
    from medreasoner_training.rewards import GroundTruth

    family = named_family(model_type)
    frame = family.frame(family.usual_px)
    maker = RowMaker(PromptFile(REASONING_PROMPT, "rgb", frame.side_px), frame, ImageSizes.scale)
    truth = GroundTruth((20, 40, 60, 80), ((30, 50), (50, 60)))
    row = maker(sample_of(truth, 128), 0)
    scale = frame.side_px / 128
    assert json.loads(row["ground_truth"])["bbox_2d"] == pytest.approx(
        [scale * value for value in (20, 40, 60, 80)]
    )
    functions = reward_functions(config_from_dict({"rewards": {"mode": "hard"}}), frame, None)
    names = [function.__name__ for function in functions]
    assert "bbox_iou" in names
    assert len(set(names)) == 8
    truths = {"ground_truth": [row["ground_truth"]]}
    earned = {f.__name__: f([row["completion"]], **truths)[0] for f in functions}
    assert earned == pytest.approx(dict.fromkeys(names, 1.0), abs=0.02)
    transposed = AnswerFrame(
        frame.side_px, PIXELS if frame.coordinates != PIXELS else THOUSANDTHS_Y_FIRST
    )
    others = reward_functions(config_from_dict({"rewards": {"mode": "hard"}}), transposed, None)
    iou = {f.__name__: f([row["completion"]], **truths)[0] for f in others}["bbox_iou"]
    assert iou < 0.9
