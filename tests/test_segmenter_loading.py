# SPDX-License-Identifier: Apache-2.0
"""From a model specification to weights: folders, checkpoints, configurations, Hugging Face."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

import medreasoner_infer
from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.segmenters import PropagationStrategy, load_sam2
from medreasoner_infer.segmenters.loading import build_model, config_path, find_files, read_config
from medreasoner_infer.segmenters.settings import SamSettings
from medreasoner_infer.types import ModelSpec, SliceImage, SlicePrompt

EMBEDDED = Path(medreasoner_infer.__file__).parent / "embedded" / "segmenter"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded model that a test may spoil."""
    return Path(shutil.copytree(EMBEDDED, tmp_path / "model"))


@pytest.fixture
def disc_slice() -> SliceImage:
    y, x = np.mgrid[:96, :64]
    disc = (x - 30) ** 2 + (y - 40) ** 2 < 15**2
    return SliceImage(np.where(disc, 170, 90).astype(np.uint8), (1.0, 1.0), "disc")


@pytest.fixture
def disc_prompt() -> SlicePrompt:
    return SlicePrompt((15.0, 25.0, 46.0, 56.0), ((30.5, 40.5),), (1,))


def spec_of(source: Path | str, **fields) -> ModelSpec:
    return ModelSpec("test", "segmenter", str(source), "Apache-2.0", **fields)


class TestFolder:
    def test_embedded_model_loads_with_its_identity(self):
        identity = load_sam2(resolve_model("segmenter", "embedded")).identity
        weights = (EMBEDDED / "model.safetensors").read_bytes()
        assert identity.name == "embedded"
        assert identity.licence == "Apache-2.0"
        assert identity.weights_sha256 == hashlib.sha256(weights).hexdigest()
        assert identity.revision is None

    def test_embedded_weights_stay_small(self):
        assert (EMBEDDED / "model.safetensors").stat().st_size < 10_000_000

    def test_settings_come_from_the_folder(self):
        settings = load_sam2(resolve_model("segmenter", "embedded")).settings
        assert settings.zoom == 1.65
        assert settings.stop.min_presence == -1.0

    def test_missing_weights_are_named(self, folder):
        (folder / "model.safetensors").unlink()
        with pytest.raises(ModelUnavailableError, match=r"holds no model\.safetensors"):
            load_sam2(spec_of(folder))

    def test_truncated_weights_are_refused(self, folder):
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(ModelUnavailableError, match="could not be loaded"):
            load_sam2(spec_of(folder))

    def test_weights_of_another_network_are_refused(self, folder):
        tensors = load_file(folder / "model.safetensors")
        tensors.pop("no_mem_embed")
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(ModelUnavailableError, match="Check that both belong together"):
            load_sam2(spec_of(folder))

    def test_unknown_setting_is_refused(self, folder):
        config = folder / "config.yaml"
        config.write_text(config.read_text() + "  zooom: 2\n")
        with pytest.raises(ModelUnavailableError, match="zooom"):
            load_sam2(spec_of(folder))


class TestCheckpoint:
    def test_checkpoint_file_equals_the_folder_it_was_made_of(self, tmp_path):
        tensors = load_file(EMBEDDED / "model.safetensors")
        torch.save({"model": tensors}, tmp_path / "checkpoint.pt")
        spec = spec_of(tmp_path / "checkpoint.pt", config=str(EMBEDDED / "config.yaml"))
        loaded = load_sam2(spec)._engine.network.model.state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())

    def test_checkpoint_without_a_configuration_is_refused(self, tmp_path):
        torch.save({"model": {}}, tmp_path / "checkpoint.pt")
        with pytest.raises(ModelUnavailableError, match="name its configuration"):
            load_sam2(spec_of(tmp_path / "checkpoint.pt"))

    def test_checkpoint_that_would_run_code_is_refused(self, tmp_path):
        class Harmful:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "harm",))

        torch.save({"model": Harmful()}, tmp_path / "checkpoint.pt")
        spec = spec_of(tmp_path / "checkpoint.pt", config=str(EMBEDDED / "config.yaml"))
        with pytest.raises(ModelUnavailableError):
            load_sam2(spec)
        assert not (tmp_path / "harm").exists()

    def test_unknown_configuration_is_named(self):
        with pytest.raises(ModelUnavailableError, match="no SAM2 configuration 'sam3'"):
            config_path("sam3")


@pytest.mark.parametrize(
    ("size", "width", "blocks"),
    [
        ("tiny", 96, [1, 2, 7, 2]),
        ("small", 96, [1, 2, 11, 2]),
        ("base-plus", 112, [2, 3, 16, 3]),
        ("large", 144, [2, 6, 36, 4]),
    ],
)
def test_sizes_of_sam2_have_the_networks_of_their_publication(size, width, blocks):
    # Ravi et al., SAM 2, and the released configurations: channels and blocks of Hiera's stages.
    spec = resolve_model("segmenter", f"sam2.1-{size}")
    trunk = read_config(config_path(spec.config)).model.image_encoder.trunk
    assert trunk.get("embed_dim", 96) == width
    assert trunk.get("stages", [2, 3, 16, 3]) == blocks


class TestMedSam2Configuration:
    @pytest.fixture(scope="class")
    def checkpoint(self, tmp_path_factory) -> Path:
        """A checkpoint of SAM 2.1 Hiera-tiny's tensors at random: MedSAM2's are of these shapes."""
        torch.manual_seed(0)
        model = build_model(read_config(config_path("sam2.1_hiera_t")))
        path = tmp_path_factory.mktemp("medsam2") / "MedSAM2_latest.pt"
        torch.save({"model": model.state_dict()}, path)
        return path

    def test_it_is_hiera_tiny_at_512_px(self):
        config = read_config(config_path("sam2.1_hiera_t512"))
        layer = config.model.memory_attention.layer
        assert config.model.image_size == 512
        assert layer.self_attention.feat_sizes == layer.cross_attention.feat_sizes == [32, 32]
        assert config.model.image_encoder.trunk.embed_dim == 96

    def test_a_hiera_tiny_checkpoint_loads_and_segments(self, checkpoint, disc_slice, disc_prompt):
        registered = resolve_model("segmenter", "medsam2")
        segmenter = load_sam2(replace(registered, source=str(checkpoint)), device="cpu")
        answer = segmenter.segment_slice(disc_slice, disc_prompt)
        assert answer.mask.shape == disc_slice.pixels.shape
        assert 0 <= answer.predicted_iou <= 1
        assert segmenter.settings.strategy is PropagationStrategy.MEMORY
        assert segmenter.settings.zoom is None


class TestHuggingFace:
    def test_download_pins_the_revision_and_reports_the_commit(self, monkeypatch, tmp_path):
        asked = {}

        def download(repo: str, filename: str, revision: str | None) -> str:
            asked.update(repo=repo, filename=filename, revision=revision)
            path = tmp_path / "snapshots" / "0123abc" / filename
            path.parent.mkdir(parents=True)
            path.touch()
            return str(path)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        files = find_files(replace(resolve_model("segmenter", "medsam2"), revision="v1"))
        assert asked == {
            "repo": "wanglab/MedSAM2",
            "filename": "MedSAM2_latest.pt",
            "revision": "v1",
        }
        assert files.revision == "0123abc"
        assert files.config.name == "sam2.1_hiera_t512.yaml"

    def test_an_unreachable_hub_says_what_to_do(self, monkeypatch):
        def download(*args, **kwargs) -> str:
            raise LocalEntryNotFoundError("offline")

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        with pytest.raises(ModelUnavailableError, match="give a local path, or fetch it before"):
            load_sam2(resolve_model("segmenter", "medsam2"))

    def test_an_id_without_a_file_is_refused(self):
        with pytest.raises(ModelUnavailableError, match="name the checkpoint file"):
            find_files(spec_of("wanglab/MedSAM2", config="sam2.1_hiera_t512"))


def test_cuda_is_refused_where_there_is_none():
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ModelUnavailableError, match="no CUDA device"):
        load_sam2(resolve_model("segmenter", "embedded"), device="cuda")


def test_given_settings_win():
    settings = SamSettings(zoom=None, multimask=True)
    segmenter = load_sam2(resolve_model("segmenter", "embedded"), settings=settings)
    assert segmenter.settings == settings
