# SPDX-License-Identifier: Apache-2.0
"""What the embedded models' cards say is what was measured, with the weights that are shipped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.hashing import files_sha256
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.segmenters import load_sam2
from medreasoner_training.embedded.segmenter.card import figures
from medreasoner_training.embedded.segmenter.real_data import load_volumes
from medreasoner_training.embedded.segmenter.section_scores import Section, prompted

SECTIONS = 40


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(resolve_model("segmenter", "embedded").source)


@pytest.fixture(scope="module")
def evaluation(folder) -> dict:
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


class TestSegmenter:
    def test_figures_are_those_of_the_shipped_weights(self, folder, evaluation):
        shipped = files_sha256(folder / "model.safetensors")
        assert evaluation["model"]["weights_sha256"] == shipped
        assert f"sha256:{shipped}" in (folder / "README.md").read_text(encoding="utf-8")

    def test_tables_of_the_card_are_those_of_the_evaluation(self, folder, evaluation):
        assert figures(evaluation) in (folder / "README.md").read_text(encoding="utf-8")

    def test_means_are_those_of_the_stored_scores(self, evaluation):
        for row in evaluation["sections"].values():
            values = [value for _, _, value in row["scores"]]
            assert len(values) == row["model"]["n"]
            assert np.mean(values) == pytest.approx(row["model"]["mean"], abs=1e-4)
            assert row["model"]["low"] < row["model"]["mean"] < row["model"]["high"]

    def test_real_images_are_segmented_better_than_by_the_ellipse_in_the_box(self, evaluation):
        for name, floor in {"CT": 0.76, "MR": 0.84, "CT (DICOM)": 0.76}.items():
            assert evaluation["sections"][name]["model"]["mean"] > floor
            assert evaluation["sections"][name]["model_minus_ellipse"]["low"] > 0

    @pytest.mark.slow
    def test_a_sample_of_the_scores_can_be_measured_again(self, shared_data, evaluation):
        segmenter = load_sam2(resolve_model("segmenter", "embedded"), device="cpu")
        volumes = {volume.name: volume for volume in load_volumes(shared_data)}
        stored = [
            (volumes[name], *row)
            for name, figures in evaluation["sections"].items()
            for row in figures["scores"]
        ]
        sample = np.random.default_rng(20).permutation(len(stored))[:SECTIONS]
        for volume, index, label, expected in (stored[i] for i in sample):
            measured = Section(volume, index, label).judge(prompted(segmenter)).dice
            assert measured == pytest.approx(expected, abs=0.01), (volume.name, index, label)
