# SPDX-License-Identifier: Apache-2.0
"""Loaders of MedSAM, LiteMedSAM and SAM-Med2D, each used as its authors publish it.

All three are parts of transformers' ``SamModel``. They read a whole slice, take the candidate and
the pixel scaling that they were trained with, and follow a target by re-prompting.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from medreasoner_infer.errors import MissingExtraError, ModelUnavailableError
from medreasoner_infer.segmenters.base import PropagationStrategy
from medreasoner_infer.segmenters.checkpoints import (
    download,
    identity_of,
    load_state,
    read_state,
    torch_device,
)
from medreasoner_infer.segmenters.crop import Resampling
from medreasoner_infer.segmenters.pixels import ByImageNet, ByRange, ReadPixels
from medreasoner_infer.segmenters.settings import SamSettings
from medreasoner_infer.types import ModelIdentity, ModelSpec

if TYPE_CHECKING:
    from transformers import SamModel

    from medreasoner_infer.segmenters.sam import SamSegmenter
    from medreasoner_infer.segmenters.tiny_vit import TinyVitShape

_WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
_REPROMPT = PropagationStrategy.REPROMPT
#: MedSAM squeezes a slice to a square, LiteMedSAM pads it; both were trained on boxes alone.
MEDSAM = SamSettings(box_only=True, multimask=False, strategy=_REPROMPT)
LITE_MEDSAM = SamSettings(pad=True, box_only=True, multimask=False, strategy=_REPROMPT)
#: SAM-Med2D was trained on boxes, points and its own last masks.
SAM_MED2D = SamSettings(multimask=True, strategy=_REPROMPT)
#: How each resizes and scales, as its authors do. LiteMedSAM is published with two ways:
#: ten connected targets, five of them on radiographs, have a mean Dice of 0.86 with the linear
#: resampling of the package of its weights, and 0.73 with the area means of its other script.
_MEDSAM_PIXELS = ByRange(Resampling.CUBIC)
_LITE_MEDSAM_PIXELS = ByRange(Resampling.LINEAR)
_SAM_MED2D_PIXELS = ByImageNet(Resampling.NEAREST)


@dataclass(frozen=True)
class _Weights:
    """A file of weights on this machine; ``revision`` is the Hugging Face commit, if any."""

    path: Path
    revision: str | None = None


def load_medsam(
    spec: ModelSpec, *, device: str = "auto", settings: SamSettings = MEDSAM
) -> SamSegmenter:
    """Load MedSAM, or a fine-tuned one, from a folder that transformers has saved.

    Raises:
        ModelUnavailableError: if files are missing, cannot be read or do not fit each other.
    """
    weights = _find_saved(spec)
    identity = identity_of(spec, weights.path, weights.revision)
    return _segmenter(_saved_model(weights.path.parent), identity, device, settings, _MEDSAM_PIXELS)


def load_litemedsam(
    spec: ModelSpec, *, device: str = "auto", settings: SamSettings = LITE_MEDSAM
) -> SamSegmenter:
    """Load LiteMedSAM from its published checkpoint.

    Raises:
        ModelUnavailableError: if the file cannot be read or is not the published one.
        MissingExtraError: if the package that holds it is not installed.
    """
    from medreasoner_infer.segmenters.published_names import lite_medsam_names

    weights = _find_checkpoint(spec)
    identity = identity_of(spec, weights.path, weights.revision)
    model = build_litemedsam()
    load_state(model, weights.path, lambda path: lite_medsam_names(read_state(path)))
    return _segmenter(model, identity, device, settings, _LITE_MEDSAM_PIXELS)


def load_sam_med2d(
    spec: ModelSpec, *, device: str = "auto", settings: SamSettings = SAM_MED2D
) -> SamSegmenter:
    """Load SAM-Med2D from its published checkpoint.

    Raises:
        ModelUnavailableError: if the file is missing, cannot be read or is of another network.
    """
    from medreasoner_infer.segmenters.published_names import sam_med2d_names

    weights = _find_checkpoint(spec)
    identity = identity_of(spec, weights.path, weights.revision)
    model = build_sam_med2d()
    load_state(model, weights.path, lambda path: sam_med2d_names(read_state(path)))
    return _segmenter(model, identity, device, settings, _SAM_MED2D_PIXELS)


def build_litemedsam(shape: TinyVitShape | None = None) -> SamModel:
    """LiteMedSAM's network with fresh weights: input 256 px, feature map 64 x 64.

    Args:
        shape: of the encoder, if not the published one.
    """
    from medreasoner_infer.segmenters.tiny_vit import TinyVit

    # SAM's own encoder is exchanged, so that it need not be built.
    model = _sam(256, 4, num_hidden_layers=0)
    parts: Any = model
    parts.vision_encoder = TinyVit(shape)
    return model


def build_sam_med2d(**vision: Any) -> SamModel:
    """SAM-Med2D's network with fresh weights: ViT-B with adapters, input 256 px.

    Args:
        vision: what differs from transformers' ``SamVisionConfig``, which is ViT-B.
    """
    from medreasoner_infer.segmenters.adapters import AdaptedPerceptron

    model = _sam(256, 16, **vision)
    encoder: Any = model.vision_encoder
    for layer in encoder.layers:
        layer.mlp = AdaptedPerceptron(layer.mlp, encoder.config.hidden_size)
    return model


def _sam(input_size: int, stride: int, **vision: Any) -> SamModel:
    from transformers import SamConfig, SamModel

    config = SamConfig(
        vision_config={"image_size": input_size, "patch_size": stride, **vision},
        prompt_encoder_config={"image_size": input_size, "patch_size": stride},
        mask_decoder_config={"layer_norm_eps": 1e-5},  # PyTorch's, as in the published decoder
    )
    return SamModel(config)


def _segmenter(
    model: SamModel,
    identity: ModelIdentity,
    device: str,
    settings: SamSettings,
    read: ReadPixels,
) -> SamSegmenter:
    from medreasoner_infer.segmenters.sam import SamSegmenter
    from medreasoner_infer.segmenters.sam_network import SamNetwork

    network = SamNetwork(model, torch_device(device), settings.multimask, read)
    return SamSegmenter(network, identity, settings)


def _find_checkpoint(spec: ModelSpec) -> _Weights:
    path = Path(spec.source).expanduser()
    if path.is_dir() and spec.filename is not None:
        path /= Path(spec.filename).name
    if path.is_file():
        return _Weights(path)
    if path.is_absolute():
        raise ModelUnavailableError(f"There is no file {path} with the weights of {spec.name}.")
    if spec.extra is not None:
        return _Weights(installed_weights(spec))
    if spec.filename is None:
        raise ModelUnavailableError(
            f"{spec.source} is a Hugging Face id without a file name; name the checkpoint file."
        )
    return _Weights(*download(spec.source, spec.filename, spec.revision))


def installed_weights(spec: ModelSpec) -> Path:
    """The file of weights that an installed package holds; the package is not imported.

    Raises:
        MissingExtraError: if the package is not installed, or without that file.
    """
    try:
        path = Path(str(metadata.distribution(spec.source).locate_file(spec.filename or "")))
    except metadata.PackageNotFoundError as error:
        raise MissingExtraError(spec.source, spec.extra) from error
    if not path.is_file():
        raise MissingExtraError(spec.source, spec.extra)
    return path


def _find_saved(spec: ModelSpec) -> _Weights:
    """The weights of a folder of transformers, with ``config.json`` beside them."""
    folder = Path(spec.source).expanduser()
    if not folder.is_dir():
        return _download_saved(spec)
    if (folder / "config.json").is_file():
        for name in _WEIGHTS_FILES:
            if (folder / name).is_file():
                return _Weights(folder / name)
    raise ModelUnavailableError(
        f"The model folder {folder} does not hold config.json with one of "
        f"{', '.join(_WEIGHTS_FILES)}."
    )


def _download_saved(spec: ModelSpec) -> _Weights:
    download(spec.source, "config.json", spec.revision, alone=False)
    faults = []
    for name in _WEIGHTS_FILES:
        try:
            return _Weights(*download(spec.source, name, spec.revision, alone=False))
        except ModelUnavailableError as error:
            faults.append(error)
    raise faults[0]


def _saved_model(folder: Path) -> SamModel:
    from safetensors import SafetensorError
    from transformers import SamModel

    try:
        loaded = SamModel.from_pretrained(  # nosec B615 # a folder that is here already
            folder, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelUnavailableError(
            f"{folder} could not be loaded as a SAM ({type(error).__name__}: {str(error)[:300]})."
        ) from error
    model, info = cast("tuple[SamModel, dict[str, Any]]", loaded)
    lacking = sorted(info["missing_keys"])
    if lacking:  # transformers would leave them at random values, with a log line only
        raise ModelUnavailableError(
            f"{folder} is no whole SAM: {len(lacking)} weights are missing, e.g. {lacking[0]}."
        )
    return model
