# SPDX-License-Identifier: Apache-2.0
"""What a model's name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from medreasoner_infer.errors import UnknownModelError
from medreasoner_infer.models.registry import registered_models, resolve_model


@pytest.mark.parametrize("kind", ["reasoner", "segmenter"])
def test_embedded_models_are_shipped_with_the_package(kind):
    spec = resolve_model(kind, "embedded")
    assert spec.is_local
    assert list(Path(spec.source).glob("*.safetensors"))
    assert "Not for clinical use" in spec.notice


@pytest.mark.parametrize("kind", ["reasoner", "segmenter"])
def test_every_entry_states_a_licence_and_a_notice(kind):
    for spec in registered_models(kind).values():
        assert spec.licence
        assert spec.notice


def test_restricted_licence_is_shown():
    assert "research and education" in resolve_model("segmenter", "medsam2").notice


def test_revision_is_taken_from_the_name():
    pinned = resolve_model("reasoner", "lingshu-7b@0123abc")
    assert pinned.source == "lingshu-medical-mllm/Lingshu-7B"
    assert pinned.revision == "0123abc"
    assert resolve_model("reasoner", "some-lab/some-model@v2").revision == "v2"


def test_weights_of_a_registered_model_are_taken_from_a_path(tmp_path, monkeypatch):
    (tmp_path / "MedSAM2.pt").touch()
    monkeypatch.chdir(tmp_path)
    registered = resolve_model("segmenter", "medsam2@v1")
    for wanted in (f"medsam2@{tmp_path}/MedSAM2.pt", "medsam2@./MedSAM2.pt"):
        here = resolve_model("segmenter", wanted)
        assert here.source == str(tmp_path / "MedSAM2.pt")
        assert here.revision is None
        assert (here.config, here.licence) == (registered.config, registered.licence)
    (tmp_path / "v1").mkdir()
    assert resolve_model("segmenter", "medsam2@v1").revision == "v1"
    with pytest.raises(UnknownModelError, match=r"/gone\.pt, which does not exist"):
        resolve_model("segmenter", "medsam2@/gone.pt")


def test_each_size_of_sam2_is_its_own_model():
    sizes = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}
    for size, letter in sizes.items():
        spec = resolve_model("segmenter", f"sam2.1-{size}")
        assert spec.source == f"facebook/sam2.1-hiera-{size}"
        assert spec.filename == f"sam2.1_hiera_{size.replace('-', '_')}.pt"
        assert spec.config == f"sam2.1_hiera_{letter}"
    assert (
        resolve_model("segmenter", "sam2.1-hiera-tiny").source
        == resolve_model("segmenter", "sam2.1-tiny").source
    )


def test_local_folder_wins_over_a_hugging_face_id(tmp_path, monkeypatch):
    (tmp_path / "lab" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    spec = resolve_model("reasoner", "lab/model")
    assert spec.source == str(tmp_path / "lab" / "model")
    assert "licence" in spec.notice


def test_name_without_meaning_is_refused_with_the_known_ones():
    with pytest.raises(UnknownModelError, match="embedded, medsam2"):
        resolve_model("segmenter", "medsam3")
