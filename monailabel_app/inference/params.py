# SPDX-License-Identifier: Apache-2.0
"""The ``params`` of a question, read strictly into one dataclass.

Viewers show options as text cells and send what was typed, so numbers, points and truth values may
be texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from medreasoner_infer.imaging import Plane
from medreasoner_infer.request import (
    MAX_CONTOUR_POINTS,
    MAX_KNOWN,
    MAX_NAME_CHARACTERS,
    MAX_POINTS,
    MAX_QUERY_CHARACTERS,
    MAX_SAMPLES,
    Click,
    SliceSelection,
)
from medreasoner_infer.types import READER, EarlierTarget
from monailabel_app.common.door import DoorModel, Token, read_model
from monailabel_app.common.fields import (
    given,
    read_bool,
    read_choice,
    read_int,
    read_numbers,
    read_points,
    read_runs,
    read_text,
)

RESULT_EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha", ".png")
RESULT_DTYPES = ("uint8", "uint16", "int16", "int32", "float32")
DEFAULT_PLANE = "default"
PLANES = tuple(plane.value for plane in Plane)
PLANE_CHOICES = (DEFAULT_PLANE, *PLANES)
MAX_SLICE = 100_000
MAX_SEED = 2**63 - 1
MAX_DISTANCE = 1e6

_POSITION = "three numbers x,y,z: a patient position in LPS millimetres"
_VOXELS = "a list of points [[i, j, k], ...] in voxel coordinates (IJK)"
_BOX = "four numbers x1,y1,x2,y2 in px of the slice"
_POSITIONS = "a list of patient positions [[x, y, z], ...] in LPS millimetres"


def _by(read: Callable[..., Any], key: str, *expected: Any) -> BeforeValidator:
    """Reads one value as clients write it; its message names the key and what was expected."""

    def value_of(value: Any) -> Any:
        return read({key: value}, key, *expected)

    return BeforeValidator(value_of)


_Coordinate = Annotated[float, Field(ge=-MAX_DISTANCE, le=MAX_DISTANCE)]
_Point = tuple[_Coordinate, _Coordinate, _Coordinate]
_Px = Annotated[float, Field(ge=-1.0, le=MAX_SLICE)]
_Box = tuple[_Px, _Px, _Px, _Px]
_Points = Annotated[tuple[_Point, ...], Field(max_length=MAX_POINTS)]
_Contour = Annotated[tuple[_Point, ...], Field(max_length=MAX_CONTOUR_POINTS)]


class GivenOnly(DoorModel):
    """A model for which a blank text means that nothing was given, as in an untouched cell."""

    @model_validator(mode="before")
    @classmethod
    def _drop_blanks(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {key: value for key, value in values.items() if given(values, key) is not None}


class ViewerKeys(DoorModel):
    """What MONAI Label's viewers send along with any request, and nobody here reads."""

    client_id: Any = None
    device: Any = None
    gpus: Any = None
    label: Any = None
    label_names: Any = None
    label_prompt: Any = None
    logging: Any = None
    model: Any = None
    image: Any = None
    session: Any = None
    point_labels: Any = None
    points: Any = None
    reset_state: Any = None
    restore_label_idx: Any = None
    roi: Any = None


def _one_line(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError("expected one line of text")
    return name.strip()


class AboutBody(DoorModel):
    """The target of an earlier answer on the same image, which a follow-up question goes on from.

    ``name`` is what the reader calls it; ``plane`` and ``slice`` are those of that answer, ``box``
    is where the target was: x1, y1, x2, y2 in slice px of that slice.
    """

    name: Annotated[str, Field(max_length=MAX_NAME_CHARACTERS), AfterValidator(_one_line)]
    plane: Annotated[str, _by(read_choice, "plane", PLANES)]
    slice: Annotated[int, Field(ge=0, le=MAX_SLICE)]
    box: Annotated[_Box, _by(read_numbers, "box", 4, _BOX)] | None = None


class LastMaskBody(DoorModel):
    """A mask as the reader sees it: as in a ``mask`` event, ``runs`` as a list or as text.

    Only the slice that is clicked on need be in it.
    """

    shape_ijk: Annotated[tuple[int, int, int], Field(strict=False)]
    runs: Annotated[tuple[int, ...], _by(read_runs, "runs")]


class QuestionBody(GivenOnly, ViewerKeys):
    """What the ``params`` of ``/infer``, or the body of a stream, may hold.

    ``query`` is the question; ``slice`` the voxel index along the axis that the plane cuts (-1
    means not given); ``position`` a patient position in LPS millimetres, as DICOM and ITK have it
    (3D Slicer's RAS needs its first two signs changed); ``foreground`` and ``background`` are
    clicks in voxel coordinates (IJK); ``about`` is what a follow-up question goes on from,
    ``about_inference`` the recorded answer itself, on the same image, and ``about_mask`` its mask
    as the reader has corrected it, all of it, where that is to be measured. ``known`` are other
    targets of the image, by which the reasoning is checked; ``removal_test`` asks again without
    the region that the answer points to.
    """

    query: (
        Annotated[str, Field(max_length=MAX_QUERY_CHARACTERS), _by(read_text, "query")] | None
    ) = None
    plane: Annotated[str, _by(read_choice, "plane", PLANE_CHOICES)] | None = None
    window: Annotated[str, Field(max_length=64), _by(read_text, "window")] | None = None
    slice: Annotated[int, Field(le=MAX_SLICE), _by(read_int, "slice", -1)] | None = None
    position: Annotated[_Point, _by(read_numbers, "position", 3, _POSITION)] | None = None
    propagate: Annotated[bool, _by(read_bool, "propagate")] | None = None
    samples: Annotated[int, Field(ge=1, le=MAX_SAMPLES), _by(read_int, "samples")] | None = None
    seed: Annotated[int, Field(le=MAX_SEED), _by(read_int, "seed", 0)] | None = None
    foreground: Annotated[_Points, _by(read_points, "foreground", _VOXELS)] = ()
    background: Annotated[_Points, _by(read_points, "background", _VOXELS)] = ()
    about: AboutBody | None = None
    known: Annotated[tuple[AboutBody, ...], Field(max_length=MAX_KNOWN, strict=False)] = ()
    removal_test: Annotated[bool, _by(read_bool, "removal_test")] | None = None
    about_inference: Token | None = None
    about_mask: LastMaskBody | None = None


class InferBody(QuestionBody):
    """What ``params`` of ``/infer`` may hold besides: the form of the reply.

    ``inference_id`` names an earlier answer about the image; clicks join its prompts and its mask.
    """

    inference_id: Token | None = None
    result_extension: (
        Annotated[str, _by(read_choice, "result_extension", RESULT_EXTENSIONS)] | None
    ) = None
    result_dtype: Annotated[str, _by(read_choice, "result_dtype", RESULT_DTYPES)] | None = None
    result_compress: Annotated[bool, _by(read_bool, "result_compress")] | None = None
    save_label: Annotated[bool, _by(read_bool, "save_label")] | None = None
    label_tag: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    label_info: list[dict[str, Any]] | None = None


class PlacedPointBody(DoorModel):
    """A point of a correction: where (LPS mm), inside or outside the target, who set it.

    ``new`` tells that the mask that is corrected does not know it yet. With ``contour``, closed and
    on the same slice (LPS mm), it stands for all that lies within.
    """

    position: Annotated[_Point, _by(read_numbers, "position", 3, _POSITION)]
    inside: bool
    by: Literal["reasoner", "reader"] = READER
    new: bool = False
    contour: Annotated[_Contour, _by(read_points, "contour", _POSITIONS)] = ()


class CorrectionBody(QuestionBody):
    """What the body of ``streams/segment`` may hold besides: box and points, LPS mm.

    ``inside`` and ``outside`` are points of the reader's; ``points`` says more of each, in the
    order in which they were set. With ``last``, the mask on the screen, new points correct that
    mask: those of ``points`` that say so, and those of ``inside`` and ``outside``.
    """

    box: Annotated[_Points, _by(read_points, "box", _POSITIONS)] = ()
    box_by: Literal["reasoner", "reader"] = READER
    inside: Annotated[_Points, _by(read_points, "inside", _POSITIONS)] = ()
    outside: Annotated[_Points, _by(read_points, "outside", _POSITIONS)] = ()
    points: Annotated[tuple[PlacedPointBody, ...], Field(max_length=MAX_POINTS, strict=False)] = ()
    last: LastMaskBody | None = None


@dataclass(frozen=True)
class OutputFormat:
    """How the mask is written; ``extension`` is ``None`` for the image's own format."""

    extension: str | None = None
    dtype: str = "uint8"
    compress: bool = False


@dataclass(frozen=True)
class InferParams:
    """What a client asks for, whichever way it said so.

    In ``clicks`` the reader's last foreground click comes last. Without a question they join the
    answer that ``inference_id`` names.
    """

    query: str | None = None
    selection: SliceSelection = field(default_factory=SliceSelection)
    clicks: tuple[Click, ...] = ()
    propagate: bool = False
    samples: int = 1
    seed: int = 0
    about: EarlierTarget | None = None
    known: tuple[EarlierTarget, ...] = ()
    removal_test: bool = False
    about_inference: str | None = None
    inference_id: str | None = None
    output: OutputFormat = field(default_factory=OutputFormat)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> InferParams:
        """Read a request's values.

        Raises:
            InputError: if a key is unknown or a value is of the wrong kind; the message names it.
        """
        return cls.of(read_model(InferBody, dict(values), "'params'"))

    @classmethod
    def of(cls, body: QuestionBody) -> InferParams:
        """What a validated body asks for.

        Raises:
            InputError: if both a slice and a position are given.
        """
        return cls(
            query=body.query,
            selection=_selection(body),
            clicks=_clicks(body),
            propagate=body.propagate or False,
            samples=1 if body.samples is None else body.samples,
            seed=body.seed or 0,
            about=_about(body.about),
            known=tuple(map(_earlier, body.known)),
            removal_test=body.removal_test or False,
            about_inference=body.about_inference,
            inference_id=body.inference_id if isinstance(body, InferBody) else None,
            output=_output(body) if isinstance(body, InferBody) else OutputFormat(),
        )


def _selection(body: QuestionBody) -> SliceSelection:
    return SliceSelection(
        plane=None if body.plane == DEFAULT_PLANE else body.plane,
        index=None if body.slice == -1 else body.slice,
        position_lps_mm=body.position,
        window=body.window,
    )


def _clicks(body: QuestionBody) -> tuple[Click, ...]:
    return tuple(
        Click(point, positive)
        for points, positive in ((body.background, False), (body.foreground, True))
        for point in points
    )


def _about(body: AboutBody | None) -> EarlierTarget | None:
    return None if body is None else _earlier(body)


def _earlier(body: AboutBody) -> EarlierTarget:
    return EarlierTarget(body.name, body.plane, body.slice, body.box)


def _output(body: InferBody) -> OutputFormat:
    default = OutputFormat()
    return OutputFormat(
        extension=body.result_extension,
        dtype=body.result_dtype or default.dtype,
        compress=default.compress if body.result_compress is None else body.result_compress,
    )
