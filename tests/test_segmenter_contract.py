# SPDX-License-Identifier: Apache-2.0
"""What every family of segmenters does alike, asked of a network of each.

The embedded SAM2 is trained; the others are small and random, so that nothing is said of how good
their masks are.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.published_sam import (
    SMALL_TINY_VIT,
    SMALL_VIT,
    lite_medsam_state,
    sam_med2d_state,
    save_medsam,
)

from medreasoner_infer.errors import (
    CancelledError,
    OutOfMemoryError,
    PromptError,
    SliceOutOfRangeError,
)
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.segmenters import load_segmenter, sam_loading
from medreasoner_infer.segmenters.crop import whole_slice
from medreasoner_infer.segmenters.sam import SamSegmenter
from medreasoner_infer.types import ModelSpec, SliceImage, SliceMask, SlicePrompt

BOX = (50.0, 20.0, 90.0, 60.0)
POINT = (70.0, 40.0)


@dataclass(frozen=True)
class Family:
    """A segmenter of one family, its weights, and whether it knows more than boxes."""

    segmenter: SamSegmenter
    spec: ModelSpec
    weights: Path
    box_only: bool


def embedded(folder: Path) -> tuple[ModelSpec, Path]:
    spec = resolve_model("segmenter", "embedded")
    return spec, Path(spec.source) / "model.safetensors"


def medsam(folder: Path) -> tuple[ModelSpec, Path]:
    save_medsam(folder)
    return resolve_model("segmenter", f"medsam@{folder}"), folder / "model.safetensors"


def litemedsam(folder: Path) -> tuple[ModelSpec, Path]:
    torch.save(lite_medsam_state(), folder / "lite_medsam.pth")
    spec = resolve_model("segmenter", f"litemedsam@{folder}")
    return replace(spec, weights_sha256=None), folder / "lite_medsam.pth"


def sam_med2d(folder: Path) -> tuple[ModelSpec, Path]:
    torch.save({"model": sam_med2d_state()}, folder / "sam-med2d_b.pth")
    return resolve_model("segmenter", f"sam-med2d@{folder}"), folder / "sam-med2d_b.pth"


FAMILIES: dict[str, tuple[Callable[[Path], tuple[ModelSpec, Path]], bool]] = {
    "embedded": (embedded, False),
    "medsam": (medsam, True),
    "litemedsam": (litemedsam, True),
    "sam-med2d": (sam_med2d, False),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory) -> Family:
    torch.set_num_threads(1)
    make, box_only = FAMILIES[request.param]
    spec, weights = make(tmp_path_factory.mktemp(request.param))
    with pytest.MonkeyPatch.context() as patch:
        for name, small in (
            ("build_litemedsam", lambda build=sam_loading.build_litemedsam: build(SMALL_TINY_VIT)),
            ("build_sam_med2d", lambda build=sam_loading.build_sam_med2d: build(**SMALL_VIT)),
        ):
            patch.setattr(sam_loading, name, small)
        segmenter = load_segmenter(spec, device="cpu")
    return Family(segmenter, spec, weights, box_only)


@pytest.fixture
def segmenter(family) -> SamSegmenter:
    return family.segmenter


@pytest.fixture
def image(request) -> SliceImage:
    """A bright disc on a slice that is wider than high, under a key of its own."""
    return disc_slice(request.node.name)


@pytest.fixture
def shown(segmenter, monkeypatch) -> list[tuple]:
    """What the network is shown at each decoding: coordinates, labels, mask."""
    network, seen = segmenter._engine.network, []
    decode = network.decode

    def watched(embedding, prompt, mask=None):
        seen.append((prompt.coordinates.clone(), prompt.labels.tolist(), mask))
        return decode(embedding, prompt, mask)

    monkeypatch.setattr(network, "decode", watched)
    return seen


def disc_slice(key: str) -> SliceImage:
    y, x = np.mgrid[:80, :128] + 0.5
    disc = (x - POINT[0]) ** 2 + (y - POINT[1]) ** 2 < 20**2
    noise = np.random.default_rng(0).normal(0, 4, disc.shape)
    grey = np.clip(np.where(disc, 170, 90) + noise, 0, 255).astype(np.uint8)
    return SliceImage(grey, (1.0, 1.0), key)


def frames(key: str, count: int = 4) -> list[SliceImage]:
    return [disc_slice(f"{key}/{index}") for index in range(count)]


def test_a_box_gives_a_mask_of_the_slices_size(segmenter, image):
    answer = segmenter.segment_slice(image, SlicePrompt(BOX))
    assert answer.mask.dtype == bool
    assert answer.mask.shape == (80, 128)
    assert 0 <= answer.predicted_iou <= 1


def test_points_alone_are_answered_or_refused_with_what_to_do(family, image):
    prompt = SlicePrompt(None, (POINT, (60.0, 40.0)), (1, 1))
    if family.box_only:
        with pytest.raises(PromptError, match=rf"^{family.spec.name} .* boxes alone .* give a box"):
            family.segmenter.segment_slice(image, prompt)
    else:
        assert family.segmenter.segment_slice(image, prompt).mask.shape == (80, 128)


def test_clicks_beside_a_box_are_shown_to_those_that_were_trained_on_points(family, image, shown):
    clicks = SlicePrompt(BOX, (POINT, (20.0, 20.0)), (1, 0))
    family.segmenter.segment_slice(image, clicks)
    (_, labels, mask), *_ = shown
    assert labels[0] == ([2, 3] if family.box_only else [2, 3, 1, 0])
    assert mask is None


def test_a_last_mask_is_shown_to_those_that_were_trained_on_masks(family, image, shown):
    last = np.zeros((80, 128), bool)
    last[30:50, 60:80] = True
    family.segmenter.segment_slice(image, SlicePrompt(BOX, last_mask=last))
    mask = shown[0][2]
    if family.box_only:
        assert mask is None
    else:
        size = family.segmenter._engine.network.input_size
        assert mask.shape == (size, size)
        assert 0 < mask.mean() < 1


def test_every_kind_of_prompt_moves_the_logits_of_the_network(segmenter, image):
    engine = segmenter._engine
    box = SlicePrompt(BOX)
    others = [
        SlicePrompt((10.0, 10.0, 60.0, 60.0)),
        SlicePrompt(BOX, (POINT,), (1,)),
        SlicePrompt(BOX, (POINT,), (0,)),
        SlicePrompt(None, (POINT,), (1,)),
    ]
    with engine.inference() as network:
        crop = whole_slice(image)
        embedding = network.encode(image.pixels, crop)
        size = network.input_size
        rough = np.zeros((size, size), np.float32)
        rough[: size // 2] = 1

        def logits(prompt, mask=None):
            return network.decode(embedding, network.sparse_prompt(prompt, crop), mask).logits

        plain = logits(box)
        assert plain.shape == (size, size)
        assert np.array_equal(plain, logits(box))
        for other in others:
            assert not np.array_equal(plain, logits(other))
        assert not np.array_equal(plain, logits(box, rough))


def test_a_box_reaches_the_network_in_its_own_frame(family, image, shown):
    family.segmenter.segment_slice(image, SlicePrompt((0.0, 0.0, 128.0, 80.0)))
    size = family.segmenter._engine.network.input_size
    corners = shown[0][0][0, :2].numpy() + 0.5  # SAM adds half a pixel
    if family.spec.name == "litemedsam":  # padded below
        expected = [[0, 0], [size, size * 80 / 128]]
    elif family.spec.name == "embedded":  # zoomed, see its own tests
        return
    else:
        expected = [[0, 0], [size, size]]
    np.testing.assert_allclose(corners, expected)


def test_colour_of_equal_channels_answers_like_grey(segmenter, image):
    colour = SliceImage(np.repeat(image.pixels[..., None], 3, -1), (1.0, 1.0), image.key + "rgb")
    prompt = SlicePrompt(BOX)
    first = segmenter.segment_slice(image, prompt).mask
    np.testing.assert_array_equal(segmenter.segment_slice(colour, prompt).mask, first)


def test_with_a_mirrored_view_left_and_right_are_alike(segmenter, image):
    both = SamSegmenter(
        segmenter._engine.network, segmenter.identity, replace(segmenter.settings, mirror=True)
    )
    pixels = np.ascontiguousarray(image.pixels[:, ::-1])
    flipped = SliceImage(pixels, (1.0, 1.0), image.key + "flipped")
    left = both.segment_slice(image, SlicePrompt((50.0, 20.0, 94.0, 60.0))).mask
    right = both.segment_slice(flipped, SlicePrompt((34.0, 20.0, 78.0, 60.0))).mask
    assert (left == right[:, ::-1]).mean() > 0.99


@pytest.mark.parametrize(
    "prompt",
    [
        SlicePrompt(None),
        SlicePrompt((5.0, 5.0, 5.0, 5.0)),
        SlicePrompt((200.0, 5.0, 220.0, 9.0)),
        SlicePrompt(BOX, ((500.0, 5.0),), (1,)),
        SlicePrompt(BOX, (POINT,), (1, 0)),
        SlicePrompt(BOX, last_mask=np.zeros((3, 3), bool)),
    ],
    ids=["nothing", "empty box", "box outside", "point outside", "labels", "mask's shape"],
)
def test_malformed_prompts_are_refused_before_the_image_is_read(segmenter, image, shown, prompt):
    with pytest.raises(PromptError):
        segmenter.segment_slice(image, prompt)
    assert shown == []
    assert not segmenter.segment_slice(image, SlicePrompt(BOX)).from_cache


def test_answers_are_the_same_from_many_threads(segmenter, image):
    expected = segmenter.segment_slice(image, SlicePrompt(BOX)).mask
    answers: list[np.ndarray] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(segmenter.segment_slice(image, SlicePrompt(BOX)).mask)
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 3
    assert all((answer == expected).all() for answer in answers)


class TestCache:
    def test_a_further_prompt_reuses_the_embedding(self, segmenter, image):
        first = segmenter.segment_slice(image, SlicePrompt(BOX))
        second = segmenter.segment_slice(image, SlicePrompt(BOX, (POINT,), (1,)))
        assert (first.from_cache, second.from_cache) == (False, True)

    def test_equal_pixels_under_another_key_are_encoded_anew(self, segmenter, image):
        segmenter.segment_slice(image, SlicePrompt(BOX))
        other = replace(image, key=image.key + "other")
        assert not segmenter.segment_slice(other, SlicePrompt(BOX)).from_cache

    def test_out_of_memory_is_typed_and_empties_it(self, segmenter, image, monkeypatch):
        segmenter.segment_slice(image, SlicePrompt(BOX))

        def exhausted(*args, **kwargs):
            raise torch.OutOfMemoryError("CUDA out of memory")

        with monkeypatch.context() as patch:
            patch.setattr(segmenter._engine.network, "decode", exhausted)
            with pytest.raises(OutOfMemoryError, match="ran out of memory"):
                segmenter.segment_slice(image, SlicePrompt(BOX))
        assert not segmenter.segment_slice(image, SlicePrompt(BOX)).from_cache


class TestPropagation:
    def test_the_prompted_slice_comes_first_and_each_slice_once(self, segmenter, request):
        volume = frames(request.node.name)
        found = list(segmenter.propagate(volume, 1, SlicePrompt(BOX)))
        indices = [index for index, _ in found]
        assert indices[0] == 1
        assert len(set(indices)) == len(indices)
        assert set(indices) <= set(range(4))
        assert all(answer.mask.shape == (80, 128) for _, answer in found)
        alone = segmenter.segment_slice(volume[1], SlicePrompt(BOX)).mask
        np.testing.assert_array_equal(found[0][1].mask, alone)

    def test_progress_ends_at_all_slices(self, segmenter, request):
        seen: list[tuple[int, int]] = []
        volume = frames(request.node.name)
        list(
            segmenter.propagate(
                volume, 1, SlicePrompt(BOX), progress=lambda done, n: seen.append((done, n))
            )
        )
        assert seen == sorted(seen)
        assert seen[0] == (1, 4)
        assert seen[-1] == (4, 4)

    def test_cancelling_stops_it(self, segmenter, request):
        with pytest.raises(CancelledError):
            list(
                segmenter.propagate(
                    frames(request.node.name), 1, SlicePrompt(BOX), cancelled=lambda: True
                )
            )

    @pytest.mark.parametrize("index", [-1, 4])
    def test_a_start_outside_the_volume_is_refused_at_the_call(self, segmenter, request, index):
        with pytest.raises(SliceOutOfRangeError, match="slices 0 to 3"):
            segmenter.propagate(frames(request.node.name), index, SlicePrompt(BOX))

    def test_a_given_mask_stays_as_it_is_and_prompts_its_neighbours(
        self, segmenter, request, shown
    ):
        given = np.zeros((80, 128), bool)
        given[20:60, 50:90] = True
        volume = frames(request.node.name)
        found = dict(segmenter.propagate_mask(volume, 1, SliceMask(given, 0.9)))
        np.testing.assert_array_equal(found[1].mask, given)
        assert shown, "the neighbours are asked for the target"


class TestIdentity:
    def test_it_names_the_model_and_the_hash_of_its_file(self, family):
        identity = family.segmenter.identity
        assert identity.name == family.spec.name
        assert identity.weights_sha256 == hashlib.sha256(family.weights.read_bytes()).hexdigest()

    def test_licence_and_notice_are_those_of_the_registry(self, family):
        identity = family.segmenter.identity
        registered = resolve_model("segmenter", family.spec.name)
        assert (identity.licence, identity.notice) == (registered.licence, registered.notice)
        assert identity.licence == "Apache-2.0"
