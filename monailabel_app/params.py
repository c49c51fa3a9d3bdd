# SPDX-License-Identifier: Apache-2.0
"""The ``params`` of a request, parsed strictly into one dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medreasoner_infer.imaging import Plane
from medreasoner_infer.request import Click, SliceSelection
from monailabel_app.fields import (
    read_bool,
    read_choice,
    read_int,
    read_numbers,
    read_points,
    read_text,
)

RESULT_EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha", ".png")
RESULT_DTYPES = ("uint8", "uint16", "int16", "int32", "float32")
DEFAULT_PLANE = "default"
PLANE_CHOICES = (DEFAULT_PLANE, *(plane.value for plane in Plane))

_POSITION = "three numbers x,y,z: a patient position in LPS millimetres"
_POINTS = "a list of points [[i, j, k], ...] in voxel coordinates (IJK)"


@dataclass(frozen=True)
class OutputFormat:
    """How the mask is written; ``extension`` is ``None`` for the image's own format."""

    extension: str | None = None
    dtype: str = "uint8"
    compress: bool = False


@dataclass(frozen=True)
class InferParams:
    """What a client asks for.

    Keys of ``params``: ``query`` (text), ``plane``, ``window``, ``slice`` (voxel index along the
    axis that the plane cuts; -1 means not given), ``position`` (patient position, LPS
    millimetres, as DICOM and ITK have it; 3D Slicer's RAS needs its first two signs changed),
    ``propagate``, ``samples``, ``seed``, ``foreground`` and ``background`` (clicks, IJK),
    ``result_extension``, ``result_dtype``, ``result_compress``. Other keys are not ours and are
    left alone.

    In ``clicks`` the reader's last foreground click comes last.
    """

    query: str | None = None
    selection: SliceSelection = field(default_factory=SliceSelection)
    clicks: tuple[Click, ...] = ()
    propagate: bool = False
    samples: int = 1
    seed: int = 0
    output: OutputFormat = field(default_factory=OutputFormat)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> InferParams:
        """Read a request's values.

        Raises:
            InputError: if a value is of the wrong kind; the message names the key.
        """
        return cls(
            query=read_text(values, "query"),
            selection=_read_selection(values),
            clicks=_read_clicks(values),
            propagate=read_bool(values, "propagate") or False,
            samples=_or(read_int(values, "samples"), 1),
            seed=_or(read_int(values, "seed", minimum=0), 0),
            output=_read_output(values),
        )


def _read_selection(values: Mapping[str, Any]) -> SliceSelection:
    plane = read_choice(values, "plane", PLANE_CHOICES)
    index = read_int(values, "slice", minimum=-1)
    position = read_numbers(values, "position", 3, _POSITION)
    return SliceSelection(
        plane=None if plane == DEFAULT_PLANE else plane,
        index=None if index == -1 else index,
        position_lps_mm=None if position is None else (position[0], position[1], position[2]),
        window=read_text(values, "window"),
    )


def _read_clicks(values: Mapping[str, Any]) -> tuple[Click, ...]:
    background = read_points(values, "background", _POINTS)
    foreground = read_points(values, "foreground", _POINTS)
    return tuple(
        Click((point[0], point[1], point[2]), positive)
        for points, positive in ((background, False), (foreground, True))
        for point in points
    )


def _read_output(values: Mapping[str, Any]) -> OutputFormat:
    default = OutputFormat()
    return OutputFormat(
        extension=read_choice(values, "result_extension", RESULT_EXTENSIONS),
        dtype=read_choice(values, "result_dtype", RESULT_DTYPES) or default.dtype,
        compress=_or(read_bool(values, "result_compress"), default.compress),
    )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
