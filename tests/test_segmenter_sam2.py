# SPDX-License-Identifier: Apache-2.0
"""The embedded SAM2 on synthetic slices and volumes whose truth is known by construction."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from medreasoner_infer.errors import (
    CancelledError,
    PromptError,
    SliceOutOfRangeError,
)
from medreasoner_infer.keypoints import bbox_from_mask, key_points_from_mask
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.segmenters import PropagationStrategy, load_sam2
from medreasoner_infer.segmenters.crop import Crop
from medreasoner_infer.segmenters.sam import SamSegmenter
from medreasoner_infer.types import SliceImage, SliceMask, SlicePrompt
from medreasoner_training.embedded.segmenter.appearance import Appearance
from medreasoner_training.embedded.segmenter.scenes import sample_scene

_KEYS = itertools.count()


def fresh_key() -> str:
    """A key that no earlier test has put into a cache."""
    return f"slice-{next(_KEYS)}"


def ellipse(shape: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float]):
    """Bool mask; centre and radii are (x, y) in edge-based px."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1


def slice_of(mask: np.ndarray, spacing_xy_mm=(1.0, 1.0), inside=170, outside=90) -> SliceImage:
    noise = np.random.default_rng(0).normal(0, 4, mask.shape)
    grey = np.where(mask, inside, outside) + noise
    return SliceImage(np.clip(grey, 0, 255).astype(np.uint8), spacing_xy_mm, fresh_key())


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.fixture(scope="module")
def segmenter() -> SamSegmenter:
    torch.set_num_threads(1)
    return load_sam2(resolve_model("segmenter", "embedded"), device="cpu")


def leaks_and_clicks(segmenter: SamSegmenter) -> Iterator[tuple[int, int]]:
    """Leaked area before and after a negative click into the leak, on unseen synthetic scenes.

    Boxes are 15 % too wide on each side, so that there is something to leak into.
    """
    rng = np.random.default_rng(1000)
    while True:
        scene = sample_scene(rng)
        look = Appearance.sample(rng, scene)
        labels, target = scene.render(0.0)
        target = look.pixelated(target)
        if target.sum() < 150:
            continue
        x1, y1, x2, y2 = bbox_from_mask(target)
        pad = 0.15 * max(x2 - x1, y2 - y1)
        box = tuple(float(v) for v in np.clip((x1 - pad, y1 - pad, x2 + pad, y2 + pad), 0, 128))
        image = SliceImage(look.image(rng, labels).astype(np.uint8), (1.0, 1.0), fresh_key())
        points = key_points_from_mask(target)
        first = segmenter.segment_slice(image, SlicePrompt(box, points, (1, 1))).mask & ~target
        if first.sum() < 60:
            continue
        click, _ = key_points_from_mask(first)
        clicked = SlicePrompt(box, (*points, click), (1, 1, 0))
        yield int(first.sum()), int((segmenter.segment_slice(image, clicked).mask & ~target).sum())


DISC = ellipse((128, 128), (70.0, 50.0), (20.0, 20.0))
DISC_BOX = (50.0, 30.0, 90.0, 70.0)


class TestSlice:
    @pytest.mark.parametrize(
        ("prompt", "floor"),
        [
            (SlicePrompt(DISC_BOX, ((70.0, 50.0), (60.0, 50.0)), (1, 1)), 0.95),
            (SlicePrompt(DISC_BOX), 0.9),
            (SlicePrompt(None, ((70.0, 50.0), (60.0, 50.0)), (1, 1)), 0.8),
        ],
        ids=["box and points", "box", "points"],
    )
    def test_prompted_disc_is_found(self, segmenter, prompt, floor):
        answer = segmenter.segment_slice(slice_of(DISC), prompt)
        assert answer.mask.dtype == bool
        assert dice(answer.mask, DISC) > floor
        assert 0 <= answer.predicted_iou <= 1

    def test_mask_is_not_shifted(self, segmenter):
        # A half-pixel error of the coordinates would move the centroid by as much.
        rows, columns = np.nonzero(
            segmenter.segment_slice(slice_of(DISC), SlicePrompt(DISC_BOX)).mask
        )
        assert columns.mean() + 0.5 == pytest.approx(70.0, abs=0.4)
        assert rows.mean() + 0.5 == pytest.approx(50.0, abs=0.4)

    def test_colour_of_equal_channels_answers_like_grey(self, segmenter):
        grey = slice_of(DISC)
        colour = SliceImage(np.repeat(grey.pixels[..., None], 3, -1), (1.0, 1.0), fresh_key())
        prompt = SlicePrompt(DISC_BOX)
        first = segmenter.segment_slice(grey, prompt).mask
        assert (segmenter.segment_slice(colour, prompt).mask == first).all()

    def test_target_is_found_on_anisotropic_pixels(self, segmenter):
        # The same disc of 20 mm radius on pixels of 1 mm x 4 mm.
        mask = ellipse((32, 128), (70.0, 12.5), (20.0, 5.0))
        answer = segmenter.segment_slice(
            slice_of(mask, (1.0, 4.0)), SlicePrompt((50.0, 7.5, 90.0, 17.5))
        )
        assert dice(answer.mask, mask) > 0.85

    def test_large_slices_are_read_without_aliasing(self, segmenter):
        mask = ellipse((900, 900), (500.0, 400.0), (200.0, 200.0))
        prompt = SlicePrompt((300.0, 200.0, 700.0, 600.0))
        assert dice(segmenter.segment_slice(slice_of(mask), prompt).mask, mask) > 0.9

    def test_clicks_outside_the_target_reduce_leaks(self, segmenter):
        before, after = zip(*itertools.islice(leaks_and_clicks(segmenter), 8), strict=True)
        assert sum(after) < 0.95 * sum(before)

    def test_malformed_prompt_is_refused(self, segmenter):
        with pytest.raises(PromptError):
            segmenter.segment_slice(slice_of(DISC), SlicePrompt((5.0, 5.0, 5.0, 5.0)))

    def test_answers_are_the_same_from_many_threads(self, segmenter):
        image = slice_of(DISC)
        expected = segmenter.segment_slice(image, SlicePrompt(DISC_BOX)).mask
        answers: list[np.ndarray] = []
        threads = [
            threading.Thread(
                target=lambda: answers.append(
                    segmenter.segment_slice(image, SlicePrompt(DISC_BOX)).mask
                )
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 4
        assert all((answer == expected).all() for answer in answers)


class TestCache:
    def test_further_point_reuses_the_embedding(self, segmenter):
        image = slice_of(DISC)
        first = segmenter.segment_slice(image, SlicePrompt(DISC_BOX))
        clicked = SlicePrompt(DISC_BOX, ((70.0, 50.0),), (1,))
        second = segmenter.segment_slice(image, clicked)
        assert (first.from_cache, second.from_cache) == (False, True)

    def test_equal_pixels_under_another_key_are_encoded_anew(self, segmenter):
        image = slice_of(DISC)
        segmenter.segment_slice(image, SlicePrompt(DISC_BOX))
        other = SliceImage(image.pixels, image.spacing_xy_mm, fresh_key())
        assert not segmenter.segment_slice(other, SlicePrompt(DISC_BOX)).from_cache

    def test_bound_lets_go_of_the_oldest(self, segmenter):
        crop = Crop(0.0, 0.0, 128.0, 128.0)
        one = segmenter._engine.network.encode(np.zeros((128, 128), np.uint8), crop).nbytes
        small = SamSegmenter(
            segmenter._engine.network,
            segmenter.identity,
            segmenter.settings,
            cache_bytes=2 * one,
        )
        first, second, third = (slice_of(DISC) for _ in range(3))
        for image in (first, second, third):
            small.segment_slice(image, SlicePrompt(DISC_BOX))
        assert small.segment_slice(third, SlicePrompt(DISC_BOX)).from_cache
        assert not small.segment_slice(first, SlicePrompt(DISC_BOX)).from_cache


class Ellipsoid:
    """Slices 0 to 39 of an ellipsoid that is present from slice 12 to slice 27."""

    present = range(12, 28)

    def __init__(self) -> None:
        self.asked: list[int] = []
        self._key = fresh_key()

    def __len__(self) -> int:
        return 40

    def mask(self, index: int) -> np.ndarray:
        height = (index + 0.5 - 20) / 8
        scale = np.sqrt(max(0.0, 1 - height**2))
        if scale == 0:
            return np.zeros((96, 96), bool)
        return ellipse((96, 96), (50.0, 46.0), (22.0 * scale, 16.0 * scale))

    def __getitem__(self, index: int) -> SliceImage:
        self.asked.append(index)
        image = slice_of(self.mask(index))
        return SliceImage(image.pixels, image.spacing_xy_mm, f"{self._key}/{index}")


ELLIPSOID_PROMPT = SlicePrompt((28.0, 30.0, 72.0, 62.0), ((50.0, 46.0), (40.0, 46.0)), (1, 1))


class TestPropagation:
    def test_masks_follow_the_target_and_end_with_it(self, segmenter):
        frames = Ellipsoid()
        found = dict(segmenter.propagate(frames, 20, ELLIPSOID_PROMPT))
        truth = np.stack([frames.mask(index) for index in range(40)])
        masks = np.zeros_like(truth)
        for index, answer in found.items():
            masks[index] = answer.mask
        assert dice(masks, truth) > 0.85
        assert min(found) >= 11
        assert max(found) <= 28

    def test_start_slice_comes_first_then_up_then_down(self, segmenter):
        order = [index for index, _ in segmenter.propagate(Ellipsoid(), 20, ELLIPSOID_PROMPT)]
        top = max(order)
        assert order[: top - 19] == list(range(20, top + 1))
        assert order[top - 19 :] == list(range(19, min(order) - 1, -1))

    def test_slices_past_the_end_are_never_asked_for(self, segmenter):
        frames = Ellipsoid()
        list(segmenter.propagate(frames, 20, ELLIPSOID_PROMPT))
        assert min(frames.asked) >= 9
        assert max(frames.asked) <= 30

    def test_progress_ends_at_all_slices(self, segmenter):
        seen: list[tuple[int, int]] = []
        list(
            segmenter.propagate(
                Ellipsoid(), 20, ELLIPSOID_PROMPT, progress=lambda done, n: seen.append((done, n))
            )
        )
        assert seen[0] == (1, 40)
        assert seen[-1] == (40, 40)
        assert seen == sorted(seen)

    def test_cancelling_stops_it(self, segmenter):
        answers = iter([False, False, False, True])
        masks = segmenter.propagate(
            Ellipsoid(), 20, ELLIPSOID_PROMPT, cancelled=lambda: next(answers)
        )
        assert next(masks)[0] == 20
        with pytest.raises(CancelledError):
            list(masks)

    @pytest.mark.parametrize("index", [-1, 40])
    def test_start_outside_the_volume_is_refused_at_the_call(self, segmenter, index):
        with pytest.raises(SliceOutOfRangeError, match="slices 0 to 39"):
            segmenter.propagate(Ellipsoid(), index, ELLIPSOID_PROMPT)

    def test_single_slice_is_a_volume_too(self, segmenter):
        (only,) = segmenter.propagate([slice_of(DISC)], 0, SlicePrompt(DISC_BOX))
        assert only[0] == 0

    @pytest.mark.parametrize("strategy", PropagationStrategy)
    def test_a_given_mask_stays_as_it_is_and_is_followed(self, segmenter, strategy):
        settings = replace(segmenter.settings, strategy=strategy)
        follower = SamSegmenter(segmenter._engine.network, segmenter.identity, settings)
        frames = Ellipsoid()
        given = frames.mask(20)
        given[46, 50] = False
        found = dict(follower.propagate_mask(frames, 20, SliceMask(given, 0.9)))
        np.testing.assert_array_equal(found[20].mask, given)
        assert dice(found[21].mask, frames.mask(21)) > 0.7
        empty = SliceMask(np.zeros((96, 96), bool), 0.9)
        assert list(dict(follower.propagate_mask(frames, 20, empty))) == [20]

    def test_a_mask_prompt_is_heeded(self, segmenter):
        image = slice_of(DISC)
        half = DISC.copy()
        half[:, : DISC.shape[1] // 2] = False
        found = segmenter.segment_slice(image, SlicePrompt(DISC_BOX)).mask
        shown = segmenter.segment_slice(image, SlicePrompt(DISC_BOX, last_mask=half)).mask
        assert dice(shown, half) > dice(found, half)

    def test_memory_strategy_yields_masks_of_the_slices_size(self, segmenter):
        settings = replace(segmenter.settings, strategy=PropagationStrategy.MEMORY)
        tracker = SamSegmenter(segmenter._engine.network, segmenter.identity, settings)
        frames = Ellipsoid()
        found = dict(tracker.propagate(frames, 20, ELLIPSOID_PROMPT))
        assert dice(found[21].mask, frames.mask(21)) > 0.7
        assert all(answer.mask.shape == (96, 96) for answer in found.values())


def test_mirrored_prompts_keep_the_left_corner_first(segmenter):
    prompt = SlicePrompt((10.0, 20.0, 50.0, 60.0), ((30.0, 40.0),), (1,))
    network = segmenter._engine.network
    mirrored = network.sparse_prompt(prompt, Crop(0.0, 0.0, 128.0, 128.0), mirror=True)
    assert (mirrored.coordinates[1] + 0.5).tolist() == [[78, 20], [118, 60], [98, 40]]


def test_mirrored_view_makes_left_and_right_alike(segmenter):
    settings = replace(segmenter.settings, mirror=True)
    both = SamSegmenter(segmenter._engine.network, segmenter.identity, settings)
    mask = ellipse((128, 128), (54.0, 50.0), (20.0, 26.0))
    image = slice_of(mask)
    flipped = SliceImage(np.ascontiguousarray(image.pixels[:, ::-1]), (1.0, 1.0), fresh_key())
    left = both.segment_slice(image, SlicePrompt((34.0, 24.0, 74.0, 76.0))).mask
    right = both.segment_slice(flipped, SlicePrompt((54.0, 24.0, 94.0, 76.0))).mask
    assert dice(left, right[:, ::-1]) > 0.99


def test_points_are_shifted_by_sams_half_pixel_only(segmenter):
    # SAM adds 0.5 to what it is given: edge-based 64 of 128 must reach it as 63.5.
    prompt = SlicePrompt((0.0, 0.0, 128.0, 128.0), ((64.0, 64.0),), (1,))
    sparse = segmenter._engine.network.sparse_prompt(prompt, Crop(0.0, 0.0, 128.0, 128.0))
    assert sparse.coordinates.tolist() == [[[-0.5, -0.5], [127.5, 127.5], [63.5, 63.5]]]
    assert sparse.labels.tolist() == [[2, 3, 1]]
