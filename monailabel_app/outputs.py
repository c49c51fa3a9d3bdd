# SPDX-License-Identifier: Apache-2.0
"""What a task gives back: the mask's file, and the params beside it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from medreasoner_infer.imaging import Volume, write_mask
from medreasoner_infer.result import InferenceResult
from monailabel_app.params import RESULT_EXTENSIONS, OutputFormat
from monailabel_app.segments import LABEL_VALUE, SEGMENT_NAME, segment_info

RESULT_KEY = "medreasoner"
DEFAULT_EXTENSION = ".nii.gz"
_NIFTI_EXTENSIONS = (".nii.gz", ".nii")


def result_params(result: InferenceResult) -> dict[str, Any]:
    """The params that go to the client.

    ``medreasoner`` holds the whole result (:meth:`InferenceResult.to_dict`). The others repeat what
    viewers look at: ``inference_id``, ``present``, ``reasoning``, ``warnings``, ``label_names``
    (segment name to label value, read by 3D Slicer), ``label_info`` (to be sent back with a
    submitted label, so that it is coded and finds its inference) and ``latencies`` in seconds.
    """
    return {
        RESULT_KEY: result.to_dict(),
        "inference_id": result.inference_id,
        "present": result.present,
        "reasoning": result.reasoning,
        "warnings": list(result.warnings),
        "label_names": {SEGMENT_NAME: LABEL_VALUE},
        "label_info": [segment_info(result.inference_id)],
        "latencies": {**result.timings_s, "total": round(sum(result.timings_s.values()), 3)},
    }


def write_result(
    mask_ijk: np.ndarray, volume: Volume, image_name: str, output: OutputFormat
) -> Path:
    """Write the mask to a temporary file that the server removes after sending it.

    Args:
        mask_ijk: uint8 of shape (I, J, K).
        image_name: gives the format where ``output`` names none.
    """
    extension = output.extension or _extension_of(image_name)
    with tempfile.NamedTemporaryFile(suffix=extension, delete=False) as file:
        path = Path(file.name)
    write_mask(mask_ijk, volume, path)
    if extension in _NIFTI_EXTENSIONS:
        _retype_nifti(path, output)
    elif extension != ".png":
        _rewrite_itk(path, output)
    return path


def _extension_of(image_name: str) -> str:
    name = image_name.lower()
    return next((e for e in RESULT_EXTENSIONS if name.endswith(e)), DEFAULT_EXTENSION)


def _retype_nifti(path: Path, output: OutputFormat) -> None:
    if output.dtype == "uint8":
        return
    import nibabel

    image = nibabel.load(path)
    values = np.asarray(image.dataobj).astype(output.dtype)
    header = image.header.copy()
    header.set_data_dtype(values.dtype)
    nibabel.save(nibabel.Nifti1Image(values, image.affine, header), path)


def _rewrite_itk(path: Path, output: OutputFormat) -> None:
    import SimpleITK as sitk

    pixel_types = {
        "uint8": sitk.sitkUInt8,
        "uint16": sitk.sitkUInt16,
        "int16": sitk.sitkInt16,
        "int32": sitk.sitkInt32,
        "float32": sitk.sitkFloat32,
    }
    image = sitk.Cast(sitk.ReadImage(str(path)), pixel_types[output.dtype])
    sitk.WriteImage(image, str(path), useCompression=output.compress)
