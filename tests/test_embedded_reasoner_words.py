# SPDX-License-Identifier: Apache-2.0
"""The embedded reasoner's training on questions in a user's own words."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from medreasoner_training.embedded.phantom.projections import chest_radiograph
from medreasoner_training.embedded.questions import Question, QuestionWriter
from medreasoner_training.embedded.reasoner.asking import Asker
from medreasoner_training.embedded.reasoner.growth import grown
from medreasoner_training.embedded.reasoner.modelling import (
    NanoConfig,
    build_model,
    build_processor,
)
from medreasoner_training.embedded.reasoner.packing import STATED_WEIGHT, Packer
from medreasoner_training.embedded.reasoner.pictures import (
    Picture,
    drawn,
    phantom_picture,
    training_pictures,
    unknown_picture,
)
from medreasoner_training.embedded.reasoner.real_ct import RealSlice
from medreasoner_training.embedded.reasoner.train import save_model_folder
from medreasoner_training.embedded.reasoner.understanding import Asking, askings, understanding

TINY = NanoConfig(
    hidden=32, layers=2, heads=2, intermediate=32, vision_hidden=32, vision_depth=2, vision_heads=2
)


@pytest.fixture(scope="module")
def writer() -> QuestionWriter:
    return QuestionWriter(held_out_languages=())


@pytest.fixture(scope="module")
def asker(writer: QuestionWriter) -> Asker:
    grey = np.full((90, 120), 90, np.uint8)
    mask = np.zeros((90, 120), bool)
    mask[20:60, 30:90] = True
    return Asker(writer, [Picture(grey, "endoscopy", {"polyp": mask})])


@pytest.fixture(scope="module")
def samples(asker: Asker) -> list:
    return [asker.sample(np.random.default_rng(seed), 3, 2) for seed in range(25)]


def test_each_outcome_has_its_form_and_the_question_alone_decides_the_beginning(samples) -> None:
    forms = {
        "present": r"<think>The question points to the [a-z -]+, a .*</think><answer>\{",
        "absent": r"<think>The question points to the [a-z -]+, which is not .*null",
        "refused": r'<think>Th.*</think><answer>"not understood"</answer>',
        "begun": r"<think>The question points to the [a-z -]+,$",
    }
    met = set()
    for asked in (asked for sample in samples for asked in sample.questions):
        (form,) = [name for name, form in forms.items() if re.match(form, asked.completion)]
        met.add(form)
        assert asked.whole == (form != "begun")
        assert asked.completion.startswith(asked.stated)
    assert met == set(forms)


def test_a_picture_of_no_kind_is_refused_whatever_is_asked(asker: Asker) -> None:
    for seed in range(400):
        sample = asker.sample(np.random.default_rng(seed), 1, 0)
        if sample.image.mode == "none":
            assert "no picture of a kind" in sample.questions[0].completion
            return
    pytest.fail("no such picture in 400 samples")


def test_unknown_pictures_are_grey_squares() -> None:
    for seed in range(12):
        grey = unknown_picture(64, np.random.default_rng(seed))
        assert (grey.dtype, grey.shape) == (np.uint8, (64, 64))


def test_questions_about_one_target_ask_for_it(writer: QuestionWriter) -> None:
    rng = np.random.default_rng(3)
    found = [writer.write("name", "en", "train", rng, about="kidney") for _ in range(60)]
    assert {q.target for q in found if q} == {"kidney", "left kidney", "right kidney"}


def test_a_radiograph_shows_the_patients_left_lung_on_the_right() -> None:
    masks = chest_radiograph(np.random.default_rng(1)).masks
    left, right, middle = (
        np.nonzero(masks[name])[1].mean()
        for name in ("left lung", "right lung", "cardiomediastinum")
    )
    assert right < middle < left


def test_a_drawn_picture_keeps_its_target_and_tells_its_box() -> None:
    grey = np.zeros((100, 160), np.uint8)
    mask = np.zeros((100, 160), bool)
    mask[30:70, 40:120] = True
    grey[mask] = 200
    for seed in range(20):
        square, truths = drawn(
            Picture(grey, "dermoscopy", {"skin lesion": mask}), 128, np.random.default_rng(seed)
        )
        x0, y0, x1, y1 = truths["skin lesion"].bbox_xyxy_px
        assert square[y0:y1, x0:x1].mean() > 4 * square.mean() / 3
        assert square[(y0 + y1) // 2, (x0 + x1) // 2] > 100


def test_only_rows_that_may_be_trained_on_are_read(tmp_path: Path) -> None:
    rows = []
    for name, may_train, label in (
        ("a", True, "polyp"),
        ("b", False, "polyp"),
        ("c", True, "nucleus"),  # one among many
    ):
        for kind in ("image", "mask"):
            Image.fromarray(np.full((20, 20), 200, np.uint8)).save(tmp_path / f"{name}_{kind}.png")
        files = {kind: f"{name}_{kind}.png" for kind in ("image", "mask")}
        rows.append({**files, "label": label, "modality": name, "may_train": may_train})
    (tmp_path / "manifest.json").write_text(json.dumps(rows))
    assert [picture.modality for picture in training_pictures(tmp_path)] == ["a"]


@torch.no_grad()
def test_rows_of_questions_without_images_give_the_logits_of_separate_ones(asker: Asker) -> None:
    processor = build_processor(TINY)
    model = build_model(TINY, processor.tokenizer).eval()
    packer = Packer(model, processor)
    row = asker.words(np.random.default_rng(5), 3)
    batch = packer.pack_words([row])
    decoder = model.model.language_model
    packed = decoder(
        inputs_embeds=model.get_input_embeddings()(batch.input_ids),
        position_ids=batch.position_ids,
        attention_mask={"full_attention": batch.attention},
        use_cache=False,
    ).last_hidden_state[0]
    alone = []
    for asked in row:
        question, answer = packer._branch(asked)
        ids = torch.tensor([question + answer])
        alone.append(decoder(inputs_embeds=model.get_input_embeddings()(ids)).last_hidden_state[0])
        assert (answer[-1] == processor.tokenizer.eos_token_id) == asked.whole
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-4, rtol=1e-4)
    assert (batch.weights[batch.labels >= 0] == STATED_WEIGHT).float().mean() > 0.5


@torch.no_grad()
def test_a_grown_model_answers_as_the_smaller_one_did(
    writer: QuestionWriter, tmp_path: Path
) -> None:
    processor = build_processor(TINY)
    small = build_model(TINY, processor.tokenizer)
    save_model_folder(small, processor, tmp_path)
    larger = replace(TINY, layers=4, vocabulary=2400, seed=1)
    model, words = grown(tmp_path, writer, larger, questions=300)
    shared = set(words.tokenizer.get_vocab()) & set(processor.tokenizer.get_vocab())
    tokens = sorted(shared - set(words.tokenizer.all_special_tokens))[::40]
    old, new = (
        torch.tensor([tokenizer.convert_tokens_to_ids(tokens)])
        for tokenizer in (processor.tokenizer, words.tokenizer)
    )
    assert len(model.model.language_model.layers) == 4
    assert len(words.tokenizer) > len(processor.tokenizer)
    torch.testing.assert_close(
        model(input_ids=new).logits[0][:, new[0]], small(input_ids=old).logits[0][:, old[0]]
    )


def test_of_a_grown_model_only_what_is_new_is_trained(
    writer: QuestionWriter, tmp_path: Path
) -> None:
    processor = build_processor(TINY)
    save_model_folder(build_model(TINY, processor.tokenizer), processor, tmp_path)
    model, words = grown(tmp_path, writer, replace(TINY, layers=3, vocabulary=2400), questions=300)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("layers.0." in name or "embed_tokens" in name for name in trained)
    shared = set(words.tokenizer.get_vocab()) & set(processor.tokenizer.get_vocab())
    ids = torch.tensor([[words.tokenizer.get_vocab()[token] for token in sorted(shared)[:50]]])
    new = torch.tensor(
        [[i for t, i in words.tokenizer.get_vocab().items() if t not in shared][:50]]
    )
    model(input_ids=torch.cat([ids, new], 1)).logits.square().mean().backward()
    gradient = model.get_input_embeddings().weight.grad
    assert gradient[ids].abs().max() == 0
    assert gradient[new].abs().max() > 0


def _asked(text: str, kind: str, *targets: str) -> Asking:
    question = Question(text, "en", kind, targets, "test")  # type: ignore[arg-type]
    return Asking(np.zeros((4, 4), np.uint8), question)


def test_understanding_counts_names_sides_and_refusals() -> None:
    asked = [
        _asked("liver", "name", "liver"),
        _asked("left kidney", "name", "left kidney"),
        _asked("spleen", "synonym", "spleen"),
        _asked("appendix", "outside"),
        _asked("asdf", "nonsense"),
    ]
    answers = {
        "liver": "<think>The question points to the liver, a bright",
        "left kidney": "<think>The question points to the right kidney, a",
        "spleen": "<think>The question names no single target that this model knows.",
        "appendix": "<think>The question names no single target that this model knows.",
        "asdf": "<think>The question points to the aorta, which",
    }
    found = understanding(asked, lambda _, queries: [answers[query] for query in queries])
    assert found["named"]["all"]["mean"] == pytest.approx(1 / 3, abs=1e-4)
    assert found["named"]["synonym"]["mean"] == 0.0
    assert found["refused"]["outside"]["mean"] == 1.0
    assert found["refused"]["nonsense"]["mean"] == 0.0
    assert found["refused"]["good questions"]["mean"] == pytest.approx(1 / 3, abs=1e-4)
    assert found["wrong_side"]["mean"] == 1.0


def test_each_target_is_asked_on_the_slice_where_it_is_largest(writer: QuestionWriter) -> None:
    labels = np.zeros((2, 8, 8), np.uint8)
    labels[0, :2], labels[1, :5] = 5, 5  # the liver
    greys = [np.full((8, 8), value, np.uint8) for value in (10, 20)]
    slices = [RealSlice(grey, label) for grey, label in zip(greys, labels, strict=True)]
    asked = askings(slices, writer, refused=5)
    targets = [a for a in asked if a.question.targets == ("liver",)]
    assert len({a.question.language for a in targets}) == 8
    assert {int(a.grey[0, 0]) for a in targets} == {20}
    assert all(a.question.split == "test" for a in asked)


@pytest.mark.parametrize(("kind", "is_bright"), [("fundus", True), ("OCTA", False)])
def test_the_eye_s_target_stands_out_and_is_one_piece(kind: str, is_bright: bool) -> None:
    for seed in range(12):
        picture = phantom_picture(kind, np.random.default_rng(seed))
        ((_, mask),) = picture.masks.items()
        ring = ndimage.binary_dilation(mask, iterations=4) & ~mask
        inside, around = (picture.grey[where].mean() for where in (mask, ring))
        assert (inside > around + 5) if is_bright else (inside < around - 5)
        assert ndimage.label(mask)[1] == 1
        assert 0.002 < mask.mean() < 0.15


def test_real_pictures_take_the_place_of_phantoms_of_their_kind(writer: QuestionWriter) -> None:
    mask = np.zeros((90, 120), bool)
    mask[30:60, 40:80] = True
    real = Picture(np.full((90, 120), 7, np.uint8), "OCTA", {"foveal avascular zone": mask})
    asker = Asker(writer, [real], picture_share=1.0)
    drawn = [asker.sample(np.random.default_rng(seed), 1, 0).image for seed in range(60)]
    kinds = {image.mode for image in drawn}
    assert {"fundus", "OCTA", "X-ray"} <= kinds
    assert all(image.grey.max() < 25 for image in drawn if image.mode == "OCTA")
