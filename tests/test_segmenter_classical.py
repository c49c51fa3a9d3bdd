# SPDX-License-Identifier: Apache-2.0
"""The classical peers of the segmenter and the picture of an evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from medreasoner_infer.types import SliceImage, SlicePrompt
from medreasoner_training.embedded.segmenter.classical import CLASSICAL
from medreasoner_training.embedded.segmenter.gallery import (
    JudgedSection,
    choose_sections,
    write_gallery,
)

pytest.importorskip("numpymaxflow", reason="graph cut comes with the extra 'monailabel'")


@pytest.fixture
def disc():
    """A bright noisy disc of radius 14 px at (40, 30) on a darker noisy ground."""
    y, x = np.mgrid[:64, :80] + 0.5
    truth = (x - 40) ** 2 + (y - 30) ** 2 < 14**2
    noise = np.random.default_rng(0).normal(0, 8, truth.shape)
    pixels = np.clip(np.where(truth, 170, 80) + noise, 0, 255).astype(np.uint8)
    prompt = SlicePrompt((26.0, 16.0, 54.0, 44.0), ((36.0, 30.0), (46.0, 32.0)), (1, 1))
    return SliceImage(pixels, (1.0, 1.0), "disc"), prompt, truth


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_clear_disc_is_found_and_nothing_outside_the_box(disc, name):
    image, prompt, truth = disc
    mask = CLASSICAL[name](image, prompt)
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.95
    outside = np.ones_like(truth)
    outside[16:44, 26:54] = False
    assert not mask[outside].any()


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_box_at_the_image_s_corner_is_accepted(disc, name):
    image, _, truth = disc
    prompt = SlicePrompt((0.0, 0.0, 12.0, 10.0), ((5.0, 5.0), (8.0, 6.0)), (1, 1))
    assert CLASSICAL[name](image, prompt).shape == truth.shape


def judged(disc, titles: list[str]) -> list[JudgedSection]:
    image, prompt, truth = disc
    return [
        JudgedSection(title, image, prompt, truth, truth, n / 20) for n, title in enumerate(titles)
    ]


def test_gallery_ranks_by_dice_and_draws(disc, tmp_path):
    sections = judged(disc, [f"section {n}" for n in range(20)])
    chosen = {row: [s.dice for s in found] for row, found in choose_sections(sections).items()}
    assert chosen == {
        "best": [19 / 20, 18 / 20, 17 / 20, 16 / 20, 15 / 20, 14 / 20],
        "median": [12 / 20, 11 / 20, 10 / 20, 9 / 20, 8 / 20, 7 / 20],
        "worst": [5 / 20, 4 / 20, 3 / 20, 2 / 20, 1 / 20, 0.0],
    }
    write_gallery(sections, tmp_path / "gallery.png")
    assert Image.open(tmp_path / "gallery.png").width == 1260


def test_a_row_of_the_gallery_shows_each_title_once(disc):
    titles = ["liver"] * 8 + ["aorta"] * 8 + ["spleen", "colon", "liver", "liver"]
    chosen = choose_sections(judged(disc, titles))
    assert [(s.title, s.dice) for s in chosen["best"]] == [
        ("liver", 19 / 20), ("colon", 17 / 20), ("spleen", 16 / 20), ("aorta", 15 / 20),
    ]  # fmt: skip
    assert [(s.title, s.dice) for s in chosen["worst"]] == [
        ("colon", 17 / 20), ("spleen", 16 / 20), ("aorta", 8 / 20), ("liver", 0.0),
    ]  # fmt: skip
