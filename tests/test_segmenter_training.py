# SPDX-License-Identifier: Apache-2.0
"""Synthetic scenes, prompts, losses and the training loop of the segmenter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medreasoner_infer.keypoints import bbox_from_mask
from medreasoner_training.embedded.segmenter.appearance import (
    Appearance,
    acquisition_matrix,
    linear_matrix,
)
from medreasoner_training.embedded.segmenter.batches import sample_clips, sample_crops
from medreasoner_training.embedded.segmenter.chains import column_of, sample_chains
from medreasoner_training.embedded.segmenter.losses import (
    candidate_ious,
    candidate_loss,
    mask_losses,
)
from medreasoner_training.embedded.segmenter.prompts import (
    NEGATIVE,
    POSITIVE,
    PromptKind,
    correction_click,
    jittered_box,
    sample_prompt,
)
from medreasoner_training.embedded.segmenter.scenes import SIZE_PX, sample_scene
from medreasoner_training.embedded.segmenter.stages import (
    ChainStage,
    Features,
    ImageStage,
    MemoryStage,
    follow,
    next_prompt_masks,
)
from medreasoner_training.embedded.segmenter.train import Training, TrainingOptions, make_stage

SEEDS = range(12)


class TestScenes:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_labels_lie_in_the_declared_range(self, seed):
        scene = sample_scene(np.random.default_rng(seed))
        labels, target = scene.render(0.0)
        assert labels.shape == target.shape == (SIZE_PX, SIZE_PX)
        assert labels.min() >= 0
        assert labels.max() < scene.labels

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("z", [0.0, 0.6])
    def test_target_fills_the_crop_as_the_zoom_says(self, seed, z):
        scene = sample_scene(np.random.default_rng(seed), (2.0, 2.0), z)
        whole = scene.target.field(z) < 1  # before neighbours in front cover parts of it
        x1, y1, x2, y2 = bbox_from_mask(whole)
        assert max(x2 - x1, y2 - y1) == pytest.approx(64, abs=7)
        assert abs((x1 + x2) / 2 - 64) < 7

    @pytest.mark.parametrize("seed", SEEDS)
    def test_target_has_ended_beyond_its_extent(self, seed):
        scene = sample_scene(np.random.default_rng(seed))
        assert not scene.render(1.01)[1].any()
        assert not scene.render(-1.01)[1].any()

    def test_neighbouring_slices_resemble_each_other(self):
        scene = sample_scene(np.random.default_rng(5))
        first, second = scene.render(0.0)[1], scene.render(0.02)[1]
        assert 2 * (first & second).sum() / (first.sum() + second.sum()) > 0.9

    def test_the_same_seed_draws_the_same_scene(self):
        first, second = (sample_scene(np.random.default_rng(3)).render(0.1) for _ in range(2))
        assert (first[0] == second[0]).all()


class TestAppearance:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_image_is_eight_bit_grey(self, seed):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng)
        image = Appearance.sample(rng, scene).image(rng, scene.render(0.0)[0])
        assert image.shape == (SIZE_PX, SIZE_PX)
        assert image.min() >= 0
        assert image.max() <= 255

    @pytest.mark.parametrize("matrix", [acquisition_matrix(128, 30, 0.7), linear_matrix(30, 128)])
    def test_resampling_keeps_a_constant(self, matrix):
        assert matrix.sum(1) == pytest.approx(1, abs=1e-5)

    def test_resampling_down_and_up_keeps_the_place(self):
        ramp = np.arange(128, dtype=np.float32)
        there_and_back = linear_matrix(32, 128) @ (acquisition_matrix(128, 32, 0.3) @ ramp)
        assert there_and_back[8:-8] == pytest.approx(ramp[8:-8], abs=0.5)

    def test_pixelated_mask_consists_of_whole_native_pixels(self):
        rng = np.random.default_rng(0)
        scene = sample_scene(rng)
        looks = (Appearance.sample(rng, scene) for _ in range(1000))
        look = next(look for look in looks if look.native_px == 16 or look.native_px == 14)
        mask = np.zeros((128, 128), bool)
        mask[20:90, 30:100] = True
        pixelated = look.pixelated(mask)
        edges = np.flatnonzero(np.diff(pixelated.any(0).astype(int))) + 1
        assert edges * look.native_px / 128 == pytest.approx(
            np.round(edges * look.native_px / 128), abs=0.12
        )
        assert pixelated.sum() == pytest.approx(mask.sum(), rel=0.2)


class TestPrompts:
    mask = np.zeros((128, 128), bool)
    mask[30:70, 40:100] = True

    def test_exact_box_is_the_masks_box(self):
        box = jittered_box(np.random.default_rng(0), self.mask, exact=True)
        assert box.tolist() == [[40, 30], [100, 70]]

    @pytest.mark.parametrize(
        ("kind", "labels"),
        [
            (PromptKind.BOX_AND_POINTS, [2, 3, 1, 1]),
            (PromptKind.BOX, [2, 3]),
            (PromptKind.TWO_POINTS, [1, 1]),
            (PromptKind.ONE_POINT, [1]),
            (PromptKind.NEIGHBOUR, [2, 3, 1, 1]),
        ],
    )
    def test_each_kind_has_sams_labels(self, kind, labels):
        prompt = sample_prompt(np.random.default_rng(0), self.mask, kind)
        assert prompt.labels.tolist() == labels
        assert prompt.coordinates_xy_px.shape == (len(labels), 2)

    @pytest.mark.parametrize("seed", SEEDS)
    def test_extra_click_lies_where_its_label_says(self, seed):
        prompt = sample_prompt(np.random.default_rng(seed), self.mask, PromptKind.BOX_AND_CLICKS)
        x, y = prompt.coordinates_xy_px[-1]
        assert self.mask[int(y), int(x)] == (prompt.labels[-1] == POSITIVE)

    def test_correction_of_a_miss_is_positive_and_of_a_leak_negative(self):
        rng = np.random.default_rng(0)
        miss, miss_label = correction_click(rng, np.zeros_like(self.mask), self.mask)
        leak, leak_label = correction_click(rng, np.ones_like(self.mask), self.mask)
        assert miss_label == POSITIVE
        assert self.mask[int(miss[1]), int(miss[0])]
        assert leak_label == NEGATIVE
        assert not self.mask[int(leak[1]), int(leak[0])]


class TestBatches:
    @pytest.mark.parametrize("kind", list(PromptKind))
    def test_crops_have_the_shapes_of_the_model(self, kind):
        batch = sample_crops(np.random.default_rng(0), 3, kind)
        assert batch.images.shape == (3, 3, 128, 128)
        assert batch.targets.shape == (3, 128, 128)
        assert batch.coordinates.shape[:2] == batch.labels.shape
        assert (batch.prompt_masks is not None) == (kind is PromptKind.NEIGHBOUR)

    def test_neighbour_prompts_include_ended_targets(self):
        batch = sample_crops(np.random.default_rng(0), 40, PromptKind.NEIGHBOUR)
        present = batch.targets.flatten(1).any(1)
        assert 0 < present.sum() < 40

    def test_clips_start_with_the_target_and_some_end_without(self):
        batch = sample_clips(np.random.default_rng(0), 12, 8)
        present = batch.targets.flatten(2).any(2)
        assert present[:, 0].all()
        assert not present[:, -1].all()


class TestChains:
    def test_clips_start_with_the_target_and_many_outlast_it(self):
        batch = sample_chains(np.random.default_rng(0), 24, 4)
        assert batch.images.shape == (24, 4, 3, 128, 128)
        present = batch.targets.flatten(2).any(2)
        assert present[:, 0].all()
        assert 4 <= (~present[:, -1]).sum() <= 20

    def test_targets_grow_in_the_share_of_clips_that_is_asked_for(self):
        grown = [
            sample_chains(np.random.default_rng(0), 24, 4, growing).targets.sum((2, 3))
            for growing in (0.0, 1.0)
        ]
        usual, growing = (int((areas[:, -1] > 1.1 * areas[:, 0]).sum()) for areas in grown)
        assert usual <= 6
        assert growing >= 16

    def test_each_further_look_is_prompted_with_the_slice_s_own_last_answer(self, monkeypatch):
        """Answers grow by a row a look, so that each prompt tells which answer it came from."""
        batch = sample_chains(np.random.default_rng(0), 1, 2)
        asked = []

        def answering(model, features, crops):
            prompted = crops.prompt_masks
            asked.append((crops.images, None if prompted is None else int(prompted[0].sum())))
            logits = torch.full((1, 1, 128, 128), -5.0)
            logits[0, 0, : len(asked), :] = 5.0
            return logits, torch.zeros(1, 1), torch.zeros(1, 1)

        stages = "medreasoner_training.embedded.segmenter.stages"
        monkeypatch.setattr(f"{stages}.encode", lambda model, images: Features((images,)))
        monkeypatch.setattr(f"{stages}.decode", answering)
        assert len(list(follow(None, np.random.default_rng(0), batch, looks=2))) == 4
        on_slice = [int(not torch.equal(images, batch.images[:, 0])) for images, _ in asked]
        assert on_slice == [0, 0, 1, 1]
        assert [area for _, area in asked] == [None, 128, 256, 384]

    def test_a_look_alike_follows_the_target_and_is_no_part_of_it(self):
        rng = np.random.default_rng(1)
        columns = [column_of(rng, sample_scene(rng)) for _ in range(20)]
        followed = 0
        for column in columns:
            labels, target = column.render(2.3)
            assert not target.any()
            followed += bool((labels == column.target.label).any())
        assert followed > 5

    def test_a_slice_is_prompted_with_the_last_answer_or_the_truth_if_that_is_empty(self):
        logits = torch.full((3, 32, 32), -5.0)
        logits[0, :8, :8] = 5.0
        truth = torch.zeros(3, 128, 128)
        truth[1, 64:, 64:] = 1
        last = np.zeros((3, 128, 128), bool)
        last[2, 10:20, 10:20] = True
        masks = next_prompt_masks(logits, truth, last)
        assert masks[0].sum() == pytest.approx(32 * 32, rel=0.1)
        assert (masks[1] == truth[1].bool().numpy()).all()
        assert (masks[2] == last[2]).all()


class TestLosses:
    target = torch.zeros(1, 128, 128)
    target[:, :, :64] = 1

    def logits(self, *columns: int) -> torch.Tensor:
        """Candidates (1, M, 32, 32) that fill this many of 32 columns, with certainty."""
        logits = torch.full((1, len(columns), 32, 32), -30.0)
        for candidate, count in enumerate(columns):
            logits[0, candidate, :, :count] = 30.0
        return logits

    def test_perfect_mask_costs_next_to_nothing(self):
        assert float(mask_losses(self.logits(16), self.target)) < 0.25

    def test_empty_mask_has_no_dice(self):
        # Dice loss: 1 - 1 / (2048 + 1); cross-entropy: 30 on half of the pixels, weight 2.
        expected = 1 - 1 / 2049 + 2 * 15
        assert float(mask_losses(self.logits(0), self.target)) == pytest.approx(expected, rel=1e-3)

    def test_ious_of_half_and_double_masks(self):
        ious = candidate_ious(self.logits(16, 8, 32), self.target)
        assert ious.tolist() == [[1.0, 0.5, 0.5]]

    def test_only_the_best_of_three_is_pushed(self):
        logits = self.logits(16, 0, 16, 0).requires_grad_()
        loss, _ = candidate_loss(logits, torch.zeros(1, 4), torch.zeros(1, 1), self.target)
        loss.backward()
        assert logits.grad[0, 1].abs().sum() == 0
        assert logits.grad[0, 3].abs().sum() == 0

    def test_absent_target_teaches_the_presence_alone(self):
        logits = self.logits(16, 16, 16, 16).requires_grad_()
        presence = torch.full((1, 1), 3.0, requires_grad=True)
        absent = torch.zeros(1, 128, 128)
        loss, _ = candidate_loss(logits, torch.zeros(1, 4), presence, absent)
        loss.backward()
        assert logits.grad.abs().sum() == 0
        assert loss.item() == pytest.approx(0.3 * math.log(1 + math.exp(3)), rel=1e-5)


class TestTraining:
    def options(self, out, **fields) -> TrainingOptions:
        defaults = {"batch_size": 2, "warmup_steps": 1, "decay_steps": 2, "save_every": 2}
        return TrainingOptions(out=str(out), steps=4, **{**defaults, **fields})

    def test_interrupted_run_ends_with_the_same_weights(self, tmp_path):
        whole = Training(self.options(tmp_path / "whole"))
        whole.run(ImageStage(2))
        first = Training(self.options(tmp_path / "parts"))
        for _ in range(2):
            first._train_step(ImageStage(2))
        first.save()
        second = Training(self.options(tmp_path / "parts"))
        assert second.step == 2
        second.run(ImageStage(2))
        pairs = zip(whole.model.parameters(), second.model.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)

    def test_memory_stage_leaves_the_image_encoder_alone(self, tmp_path):
        training = Training(self.options(tmp_path, stage="memory"))
        encoder = [p.detach().clone() for p in training.model.image_encoder.parameters()]
        memory = [p.detach().clone() for p in training.model.memory_attention.parameters()]
        training._train_step(MemoryStage(2, 3, image_probability=0.0))
        after = training.model.image_encoder.parameters()
        assert all(torch.equal(a, b) for a, b in zip(encoder, after, strict=True))
        after = training.model.memory_attention.parameters()
        assert any(not torch.equal(a, b) for a, b in zip(memory, after, strict=True))

    def test_chain_stage_learns_from_its_own_prompts(self, tmp_path):
        training = Training(self.options(tmp_path, stage="chain"))
        before = [p.detach().clone() for p in training.model.sam_prompt_encoder.parameters()]
        stage = ChainStage(2, 3, growing=0.5, looks=2, image_probability=0.0)
        scalars = training._train_step(stage)
        assert 0 <= scalars["presence/chain"] <= 1
        after = training.model.sam_prompt_encoder.parameters()
        assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))

    def test_unknown_stage_is_named(self, tmp_path):
        with pytest.raises(ValueError, match="'video'"):
            make_stage(self.options(tmp_path, stage="video"))
