# SPDX-License-Identifier: Apache-2.0
"""What a task gives back: the mask's file, and the params beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medreasoner_infer.imaging import Volume, write_mask
from medreasoner_infer.laterality import stated_name
from medreasoner_infer.output import says_nothing
from medreasoner_infer.result import InferenceResult
from monailabel_app.dicom.codes import code_table
from monailabel_app.inference.call import Call
from monailabel_app.inference.params import RESULT_EXTENSIONS, OutputFormat
from monailabel_app.inference.service import Answer
from monailabel_app.labels.segments import LABEL_VALUE, SEGMENT_NAME, segment_info
from monailabel_app.studies.indexed import IndexedFolder

RESULT_KEY = "medreasoner"
DEFAULT_EXTENSION = ".nii.gz"


def result_params(result: InferenceResult) -> dict[str, Any]:
    """The params that go to the client.

    ``medreasoner`` holds the whole result (:meth:`InferenceResult.to_dict`). The others repeat what
    viewers look at: ``inference_id``, ``present``, ``outcome``, ``target`` (as the question names
    it, without a side that the mask contradicts), ``reasoning``, ``warnings``, ``label_names``
    (segment name to label value, read by 3D Slicer), ``label_info`` (to be sent back with a
    submitted label, so that it is coded and finds its inference) and ``latencies`` in seconds.
    """
    name = code_table().named_by(result.asks_for)
    return {
        RESULT_KEY: result.to_dict(),
        "inference_id": result.inference_id,
        "present": result.present,
        "outcome": result.outcome,
        "target": {"name": None if name is None else stated_name(name, result.laterality)},
        "reasoning": result.reasoning,
        "warnings": list(result.warnings),
        "label_names": {SEGMENT_NAME: LABEL_VALUE},
        "label_info": [segment_info(result.inference_id)],
        "latencies": {**result.timings_s, "total": result.total_s},
    }


def answer_file(answer: Answer, call: Call, folder: Path) -> Path:
    """The mask of an answer as a file in ``folder``, in the form that the call asks for."""
    name, output = call.source.path.name, call.params.output
    return write_result(answer.result.mask_ijk, answer.volume, name, output, folder)


def keep_as_label(studies: IndexedFolder, answer: Answer, call: Call, file: Path, tag: str) -> None:
    """Keep the mask of an image of the studies as a label, beside what readers submit.

    Where the question was not understood none is kept: an empty label says that nothing is there.
    """
    result = answer.result
    if call.source.image_id is not None and not says_nothing(result, result.mask_ijk):
        info = {"model": call.model, "params": result_params(result)}
        studies.save_label(call.source.image_id, str(file), tag, info)


def write_result(
    mask_ijk: np.ndarray, volume: Volume, image_name: str, output: OutputFormat, folder: Path
) -> Path:
    """Write the mask to a file in ``folder``.

    Args:
        mask_ijk: uint8 of shape (I, J, K).
        image_name: gives the format where ``output`` names none.
    """
    extension = output.extension or _extension_of(image_name)
    path = folder / f"mask{extension}"
    return write_mask(mask_ijk, volume, path, dtype=output.dtype, compress=output.compress)


def _extension_of(image_name: str) -> str:
    name = image_name.lower()
    return next((e for e in RESULT_EXTENSIONS if name.endswith(e)), DEFAULT_EXTENSION)
