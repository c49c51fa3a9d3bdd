# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medreasoner_training.embedded.phantom import Label
from medreasoner_training.embedded.queries import known_targets
from medreasoner_training.embedded.reasoner.losses import soft_integers, token_loss
from medreasoner_training.embedded.reasoner.modelling import (
    NanoConfig,
    build_model,
    build_processor,
    integer_token_ids,
)
from medreasoner_training.embedded.reasoner.packing import ABSENT_WEIGHT, PRESENT_WEIGHT, Packer
from medreasoner_training.embedded.reasoner.samples import sample_questions
from medreasoner_training.embedded.reasoner.scoring import mean_with_interval, read_strictly, score
from medreasoner_training.embedded.reasoner.train import fast_vision

TINY = NanoConfig(
    hidden=32, layers=2, heads=2, intermediate=32, vision_hidden=32, vision_depth=2, vision_heads=2
)


@pytest.fixture(scope="module")
def processor():
    return build_processor(TINY)


@pytest.fixture(scope="module")
def model(processor):
    return build_model(TINY, processor.tokenizer).eval()


@pytest.fixture(scope="module")
def packer(model, processor):
    return Packer(model, processor)


@pytest.fixture(scope="module")
def samples():
    return [sample_questions(np.random.default_rng(seed), 3) for seed in (1, 2)]


def test_packed_branches_give_the_logits_of_separate_sequences(model, packer, samples):
    batch = packer.pack(samples)
    embeddings = model.get_input_embeddings()(batch.input_ids)
    with torch.no_grad():
        visual = model.model.visual(batch.pixel_values, grid_thw=batch.grid_thw).pooler_output
        is_image = (batch.input_ids == model.config.image_token_id)[..., None]
        hidden = model.model.language_model(
            inputs_embeds=embeddings.masked_scatter(is_image, visual),
            position_ids=batch.position_ids,
            attention_mask={"full_attention": batch.attention},
            use_cache=False,
        ).last_hidden_state
        packed = model.lm_head(hidden[1])[batch.labels[1] >= 0]
        alone = []
        for question in samples[1].questions:
            answer = packer._answer(question.completion)
            ids = torch.tensor([packer.prompt(question.query) + answer])
            output = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == model.config.image_token_id).int(),
                pixel_values=packer.pixels([samples[1].image.grey]),
                image_grid_thw=packer.grids(1),
            )
            alone.append(output.logits[0, -len(answer) :])
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_fast_vision_gives_the_same_features_and_undoes_itself(model, packer, samples):
    batch = packer.pack(samples)
    visual = model.model.visual
    with torch.no_grad():
        before = visual(batch.pixel_values, grid_thw=batch.grid_thw).pooler_output
        with fast_vision(model):
            fast = visual(batch.pixel_values, grid_thw=batch.grid_thw).pooler_output
    assert "forward" not in vars(visual.patch_embed)
    assert all("forward" not in vars(block.attn) for block in visual.blocks)
    torch.testing.assert_close(fast, before, atol=1e-4, rtol=1e-4)


def test_coordinates_are_marked_but_the_point_numbers_are_not(packer, samples):
    batch = packer.pack(samples)
    for row, sample in enumerate(samples):
        expected = sum(8 for question in sample.questions if question.truth is not None)
        assert int(batch.is_coordinate[row].sum()) == expected


def test_occupancy_of_a_cell_part_is_the_share_of_its_pixels(packer, samples):
    batch = packer.pack(samples)
    labels = samples[0].image.labels
    column = 1 + list(known_targets()).index(Label.SPINE)
    # token 36 is row 4, column 4 of 8 x 8 cells of 16 px; part 6 is row 1, column 2 of 4 x 4 parts
    part = labels[4 * 16 + 4 : 4 * 16 + 8, 4 * 16 + 8 : 4 * 16 + 12]
    share = float((part == Label.SPINE).mean())
    assert batch.occupancy[0, 36, 6, column].item() == pytest.approx(share)
    torch.testing.assert_close(batch.occupancy.sum(-1), torch.ones(2, 64, 16))


def test_one_presence_token_of_each_answer_weighs_most(packer, samples):
    batch = packer.pack(samples)
    decides = (batch.weights == PRESENT_WEIGHT) | (batch.weights == ABSENT_WEIGHT)
    assert (decides & (batch.labels >= 0)).sum(1).tolist() == [3, 3]


def test_tokenizer_has_one_token_for_each_integer(processor):
    ids = integer_token_ids(processor.tokenizer)
    assert len(set(ids)) == 256
    assert processor.tokenizer.decode([ids[113]]) == "113"


def test_tokenizer_refuses_a_vocabulary_without_all_integers():
    from medreasoner_training.embedded.reasoner.modelling import build_tokenizer

    with pytest.raises(ValueError, match="not single tokens"):
        integer_token_ids(build_tokenizer(300))


def test_soft_targets_peak_at_the_value_and_sum_to_one():
    soft = soft_integers(torch.tensor([100]), 1.0)
    assert soft.argmax() == 100
    torch.testing.assert_close(soft.sum(), torch.tensor(1.0))
    torch.testing.assert_close(soft[0, 101] / soft[0, 100], torch.exp(torch.tensor(-0.5)))


def test_token_loss_without_coordinates_is_cross_entropy():
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 300), torch.arange(5)
    none = torch.full((5,), -1)
    loss = token_loss(logits, targets, none, torch.ones(5), torch.arange(256))
    torch.testing.assert_close(loss.total, F.cross_entropy(logits, targets))


def test_a_near_miss_costs_less_than_a_far_miss():
    values, targets = torch.tensor([50]), torch.tensor([50])
    near, far = torch.zeros(2, 1, 300).unbind(0)
    near[0, 51] = far[0, 90] = 5.0
    integers, weight = torch.arange(256), torch.ones(1)
    losses = [token_loss(x, targets, values, weight, integers).total for x in (near, far)]
    assert losses[0] < losses[1]


def test_own_completion_scores_full_and_a_malformed_one_zero(samples):
    for question in (q for sample in samples for q in sample.questions):
        perfect = score(question, question.completion)
        assert perfect.well_formed
        assert perfect.named
        assert perfect.says_present is perfect.present
        if perfect.present:
            assert (perfect.iou, perfect.points_inside) == (1.0, 1.0)
            broken = score(question, question.completion.replace("]}", "]"))
            assert (broken.well_formed, broken.iou) == (False, 0.0)


def test_text_around_an_answer_is_malformed():
    assert read_strictly("Sure! <think>x</think><answer>null</answer>") is None


def test_bootstrap_interval_encloses_the_mean():
    entry = mean_with_interval([0.0, 1.0] * 50)
    assert entry["mean"] == 0.5
    assert 0.35 < entry["low"] < 0.5 < entry["high"] < 0.65
    assert mean_with_interval([])["mean"] is None
