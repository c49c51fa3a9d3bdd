# SPDX-License-Identifier: Apache-2.0
"""The reward ablation: what its variants have in common, and its table."""

from __future__ import annotations

import numpy as np
import pytest

from medreasoner_training.experiments.ablation import (
    UNTOUCHED,
    VARIANTS,
    AblationSettings,
    table,
    variant_config,
)
from medreasoner_training.experiments.site_shift.measuring import Measured, load, save
from medreasoner_training.gate import GateConfig, HeldOut, ModelScores

SETTINGS = AblationSettings(seed=3, steps=7)
REWARDED = {
    "soft": ("format_think", "format_seg", "bbox_iou", "points_dice"),
    "hard": (
        "format_think", "format_seg", "bbox_iou", "points_dice", "bbox_align", "bbox_scale",
        "points_align", "points_angle",
    ),
    "base": ("thinking", "segment", "iou", "bbox_l1", "points_l1"),
    "iou-only": ("bbox_iou",),
    "pdice-only": ("points_dice",),
}  # fmt: skip


def test_every_variant_rewards_its_terms_with_unit_weights():
    configs = {name: variant_config(name, SETTINGS, "../set").reward_config for name in VARIANTS}
    assert {name: config.selected_terms for name, config in configs.items()} == REWARDED
    assert all(c.weight_of(term) == 1.0 for c in configs.values() for term in c.selected_terms)


def test_variants_differ_in_rewards_and_name_only():
    dicts = [variant_config(name, SETTINGS, "../set").to_dict() for name in VARIANTS]
    for fields in dicts:
        assert fields["grpo"]["steps"] == 7
        assert fields["run"]["seed"] == 3
        assert not fields["promotion"]["promote"]
        del fields["rewards"], fields["promotion"]["name"]
    assert all(fields == dicts[0] for fields in dicts)


def measured(iou: float, failed: int = 0) -> Measured:
    """Ten patients with a present and an absent target each."""
    present = np.tile([True, False], 10)
    held_out = HeldOut(np.repeat(np.arange(10), 2).astype(str), np.full(20, "liver"), present)
    scores = ModelScores(
        "m", np.arange(20) < failed, np.zeros(20, bool), np.where(present, iou, 0.0), np.zeros(20)
    )
    points = {"points_dice": np.full(20, 0.25), "points_inside": np.full(20, 0.5)}
    return Measured(held_out, scores, points)


def test_the_table_shows_values_and_paired_differences():
    text = table({UNTOUCHED: measured(0.25), "soft": measured(0.5)}, GateConfig(resamples=100))
    lines = text.splitlines()
    cells = [cell.strip() for cell in lines[3].split("|")[1:-1]]
    assert cells[0] == "soft"
    assert cells[1] == "0.500 (0.500 to 0.500)"
    assert cells[2] == "0.250 (0.250 to 0.250)"
    assert cells[-1] == "1.000"
    assert "| soft | +0.250 (+0.250 to +0.250) | +0.000 (+0.000 to +0.000) |" in text
    assert all(line.count("|") == 8 for line in lines[:4])


def test_unreadable_answers_show_as_a_share(tmp_path):
    save(measured(0.25, failed=2), tmp_path / "m.npz")
    kept = load(tmp_path / "m.npz")
    np.testing.assert_array_equal(kept.points["points_inside"], np.full(20, 0.5))
    last = table({UNTOUCHED: kept}, GateConfig(resamples=100)).splitlines()[2]
    assert last.endswith("| 0.900 |")
    assert last.split("|")[2].strip().startswith("0.225")  # 9 of 10 boxes of 0.25


def test_an_unknown_variant_has_no_configuration():
    with pytest.raises(KeyError):
        variant_config("other", SETTINGS, "../set")
