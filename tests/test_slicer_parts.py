# SPDX-License-Identifier: Apache-2.0
"""3D Slicer's module without Slicer: frames, events, masks, states; SimpleITK is the oracle."""

from __future__ import annotations

import ast
import http.server
import json
import re
import shutil
import ssl
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib.path
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from MedReasonerLib.background import Background
from MedReasonerLib.client import Client, Server, Stream, Target
from MedReasonerLib.doubt import describe_doubt, next_doubtful, place_of, read_doubt
from MedReasonerLib.errors import GridError, ServerError, ViewerError
from MedReasonerLib.events import Event, read_events
from MedReasonerLib.geometry import (
    Grid,
    Roi,
    box_of_roi,
    onto_grid,
    plane_of_view,
    position_on_view,
    ras_lps,
    roi_of_box,
    tilt_degrees,
)
from MedReasonerLib.masks import Mask, read_mask, to_nrrd
from MedReasonerLib.multipart import FilePart, encode
from MedReasonerLib.panel import Panel
from MedReasonerLib.prompts import correction_of, prompts_of_answer
from MedReasonerLib.state import Phase, State
from MedReasonerLib.viewer import Prompts, Segment, ShownVolume
from MedReasonerLib.words import describe_answer, describe_record, describe_tilt

MODULE = (
    Path(__file__).resolve().parents[1] / "monailabel_app" / "viewers" / "slicer" / "MedReasoner"
)
NEEDS_SLICER = {"MedReasoner.py", "scene.py"}
SHAPE = (6, 5, 4)
# The orientations of vtkMRMLSliceNode; the third column looks through the slice.
VIEWS = {
    "axial": [[-1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "sagittal": [[0, 0, 1], [-1, 0, 0], [0, 1, 0]],
    "coronal": [[-1, 0, 0], [0, 0, 1], [0, 1, 0]],
}


def itk_image(direction, spacing=(2.0, 1.5, 3.0), origin=(-20.0, 11.0, 7.0), shape=SHAPE):
    image = sitk.Image(list(shape), sitk.sitkUInt8)
    image.SetDirection(np.ravel(direction).tolist())
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    return image


def grid_of(image: sitk.Image) -> Grid:
    """By the places of four voxels."""
    voxels = np.eye(4, 3, dtype=int).tolist()
    corners = [image.TransformIndexToPhysicalPoint(voxel) for voxel in voxels]
    columns = np.array(corners[:3]) - np.array(corners[3])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns.T, corners[3]
    return Grid(image.GetSize(), affine)


def turned(degrees: float) -> np.ndarray:
    """A rotation about the patient's first axis."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def view(name: str, position_ras, rotation=None) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = VIEWS[name] if rotation is None else rotation @ np.array(VIEWS[name])
    matrix[:3, 3] = position_ras
    return matrix


# --- what Slicer's Python can run ----------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(MODULE.rglob("*.py")), ids=lambda path: path.name)
def test_every_file_is_python_3_9_and_needs_no_package_but_numpy(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    imports = {
        name.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for name in node.names
    } | {
        (node.module or "").split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 0
    }
    allowed = sys.stdlib_module_names | {"numpy", "MedReasonerLib"}
    if path.name in NEEDS_SLICER:
        allowed |= {"slicer", "qt", "ctk", "vtk"}
    assert imports <= allowed


def test_slicers_build_knows_every_file() -> None:
    listed = set(re.findall(r"MedReasonerLib/\w+\.py", (MODULE / "CMakeLists.txt").read_text()))
    assert listed == {f"MedReasonerLib/{path.name}" for path in MODULE.glob("MedReasonerLib/*.py")}


# --- frames --------------------------------------------------------------------------------------


def test_ras_and_lps_differ_in_the_first_two_signs() -> None:
    np.testing.assert_array_equal(ras_lps(np.array([[1.0, -2.0, 3.0]])), [[-1.0, 2.0, 3.0]])


def test_a_volume_of_slicers_has_its_grid_in_lps() -> None:
    # IJK to RAS of a volume with LPS axes, 2 x 1.5 x 3 mm.
    grid = Grid.from_ras(SHAPE, np.diag([-2.0, -1.5, 3.0, 1.0]))
    np.testing.assert_array_equal(grid.to_lps(np.array([1.0, 2.0, 3.0])), [2.0, 3.0, 9.0])
    np.testing.assert_array_equal(grid.to_ijk(np.array([2.0, 3.0, 9.0])), [1.0, 2.0, 3.0])


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("degrees", [0.0, 20.0, -40.0])
def test_the_plane_of_a_view_is_the_closest_one(name, degrees) -> None:
    assert plane_of_view(view(name, (0, 0, 0), turned(degrees))) == name


@pytest.mark.parametrize(("degrees", "told"), [(0.0, False), (4.0, False), (12.0, True)])
def test_a_view_that_is_tilted_against_the_volume_is_told(degrees, told) -> None:
    grid = grid_of(itk_image(turned(degrees)))
    found = tilt_degrees(view("axial", (0, 0, 0)), grid)
    assert found == pytest.approx(degrees, abs=1e-4)
    assert bool(describe_tilt(found)) is told
    # The view turned as the volume is: nothing is tilted. RAS turns the other way about X.
    along = view("axial", (0, 0, 0), np.diag([-1, -1, 1]) @ turned(degrees) @ np.diag([-1, -1, 1]))
    assert tilt_degrees(along, grid) == pytest.approx(0, abs=1e-4)


def test_the_position_is_the_views_centre_or_the_images_centre_on_the_slice() -> None:
    image = itk_image(np.eye(3))
    inside = image.TransformContinuousIndexToPhysicalPoint((1.0, 2.0, 3.0))
    centred = view("axial", ras_lps(np.array(inside)))
    np.testing.assert_allclose(position_on_view(centred, grid_of(image)), inside)
    beside = np.add(inside, (500.0, 0.0, 0.0))
    moved = position_on_view(view("axial", ras_lps(beside)), grid_of(image))
    middle = image.TransformContinuousIndexToPhysicalPoint((2.5, 2.0, 1.5))
    np.testing.assert_allclose(moved, (*middle[:2], inside[2]))


@pytest.mark.parametrize("degrees", [0.0, 15.0])
@pytest.mark.parametrize(("plane", "cut"), [("axial", 2), ("coronal", 1), ("sagittal", 0)])
def test_a_box_is_a_roi_around_the_same_voxels_and_back(plane, cut, degrees) -> None:
    image = itk_image(turned(degrees))
    low, high = np.array([0.5, 1.5, 0.5]), np.array([3.5, 2.5, 2.5])
    low[cut] = high[cut] = 2.0
    corners = [image.TransformContinuousIndexToPhysicalPoint(end.tolist()) for end in (low, high)]
    roi = roi_of_box(np.array(corners), plane, grid_of(image))
    assert np.linalg.det(roi.axes) == pytest.approx(1.0)
    thick = np.where(np.arange(3) == cut, 1.0, high - low) * image.GetSpacing()
    np.testing.assert_allclose(roi.size_mm, thick)
    reach = [roi.centre_ras_mm + roi.axes @ (roi.size_mm * sign / 2) for sign in (-1, 1)]
    voxels = [image.TransformPhysicalPointToContinuousIndex(ras_lps(r).tolist()) for r in reach]
    half = np.eye(3)[cut] / 2
    np.testing.assert_allclose(np.sort(voxels, axis=0), [low - half, high + half], atol=1e-6)
    np.testing.assert_allclose(box_of_roi(roi, plane, grid_of(image)), corners, atol=1e-6)


def test_a_roi_that_is_moved_to_another_slice_counts_there() -> None:
    grid = Grid.from_ras(SHAPE, np.eye(4))
    roi = Roi(np.array([2.0, 3.0, 1.0]), np.eye(3), np.array([2.0, 4.0, 9.0]))
    corners = box_of_roi(roi, "axial", grid)
    np.testing.assert_allclose(corners[:, 2], 1.0)
    np.testing.assert_allclose(np.sort(ras_lps(corners), axis=0)[:, :2], [[1, 1], [3, 5]])


REARRANGED = st.tuples(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))


@given(REARRANGED, st.integers(0, 2**32 - 1))
def test_a_mask_is_placed_by_the_patient_however_the_axes_are_counted(rearranged, seed) -> None:
    order, flips = rearranged
    values = np.random.default_rng(seed).integers(0, 2, SHAPE, dtype=np.uint8)
    mask = sitk.GetImageFromArray(values.transpose(2, 1, 0))
    mask.CopyInformation(itk_image(turned(15.0)))
    shown = sitk.Flip(sitk.PermuteAxes(mask, order), flips)
    expected = sitk.Resample(mask, shown, sitk.Transform(), sitk.sitkNearestNeighbor)
    found = onto_grid(values, grid_of(mask), grid_of(shown))
    np.testing.assert_array_equal(found, sitk.GetArrayFromImage(expected).transpose(2, 1, 0))
    np.testing.assert_array_equal(onto_grid(found, grid_of(shown), grid_of(mask)), values)


def test_a_mask_of_a_part_of_the_volume_is_placed_there() -> None:
    whole = Grid.from_ras((6, 5, 4), np.eye(4))
    offset = np.eye(4)
    offset[:3, 3] = (3, 1, 2)
    part = Grid((2, 2, 1), whole.ijk_to_lps @ offset)
    placed = onto_grid(np.ones((2, 2, 1), np.uint8), part, whole)
    assert np.argwhere(placed).tolist() == [[3, 1, 2], [3, 2, 2], [4, 1, 2], [4, 2, 2]]


@pytest.mark.parametrize(
    "other",
    [
        itk_image(np.eye(3), spacing=(2.0, 1.5, 2.5)),
        itk_image(np.eye(3), origin=(-20.0, 11.0, 8.0)),
        itk_image(turned(10.0)),
        itk_image(np.eye(3), shape=(6, 5, 3)),
    ],
    ids=["spacing", "origin", "direction", "smaller"],
)
def test_a_mask_of_other_voxels_is_refused(other) -> None:
    with pytest.raises(GridError, match="other voxels"):
        onto_grid(np.zeros(SHAPE, np.uint8), grid_of(itk_image(np.eye(3))), grid_of(other))


# --- prompts -------------------------------------------------------------------------------------


def test_the_prompts_of_an_answer_become_markups_and_a_correction() -> None:
    grid = Grid.from_ras(SHAPE, np.diag([-2.0, -1.5, 3.0, 1.0]))
    answer = {
        "slice": {"plane": "axial"},
        "prompts": {
            "bbox_corners_lps_mm": [[0.0, 1.5, 6.0], [4.0, 4.5, 6.0]],
            "points_lps_mm": [[2.0, 3.0, 6.0], [0.0, 0.0, 6.0]],
            "point_labels": [1, 0],
        },
    }
    prompts = prompts_of_answer(answer, grid)
    np.testing.assert_allclose(prompts.box.centre_ras_mm, [-2.0, -3.0, 6.0])
    np.testing.assert_allclose(prompts.inside_ras_mm, [[-2.0, -3.0, 6.0]])
    np.testing.assert_allclose(prompts.outside_ras_mm, [[0.0, 0.0, 6.0]])
    values = correction_of(prompts, "axial", grid)
    assert values["plane"] == "axial"
    np.testing.assert_allclose(np.sort(values["box"], axis=0), [[0.0, 1.5, 6.0], [4.0, 4.5, 6.0]])
    np.testing.assert_allclose(values["inside"], [[2.0, 3.0, 6.0]])
    json.dumps(values)


def test_a_correction_needs_a_box_or_a_point_inside() -> None:
    none = np.zeros((0, 3))
    with pytest.raises(ViewerError, match="Draw a box"):
        correction_of(Prompts(None, none, np.ones((1, 3))), "axial", Grid(SHAPE, np.eye(4)))
    assert prompts_of_answer({"prompts": None}, Grid(SHAPE, np.eye(4))) is None


BOX_LPS_MM = [[0.0, 1.5, 6.0], [4.0, 4.5, 6.0]]
STATED = {
    "bbox_corners_lps_mm": BOX_LPS_MM,
    "bbox_source": "reasoner",
    "points_lps_mm": [[2.0, 3.0, 6.0], [0.0, 0.0, 6.0]],
    "point_labels": [1, 0],
    "point_sources": ["reasoner", "reader"],
}


def drawn(inside_lps=(), outside_lps=()) -> Prompts:
    """The box of :data:`STATED`, with these points."""
    grid = Grid.from_ras(SHAPE, np.diag([-2.0, -1.5, 3.0, 1.0]))
    points = (ras_lps(np.reshape(points, (-1, 3))) for points in (inside_lps, outside_lps))
    return Prompts(roi_of_box(np.array(BOX_LPS_MM), "axial", grid), *points)


def corrected(prompts: Prompts, stated=STATED) -> dict:
    grid = Grid.from_ras(SHAPE, np.diag([-2.0, -1.5, 3.0, 1.0]))
    values = np.zeros(SHAPE, np.uint8)
    values[1, 2, 2] = 1
    return correction_of(prompts, "axial", grid, stated, Mask(values, grid))


def test_new_points_go_with_the_mask_that_they_correct() -> None:
    new, removed = [4.0, 3.0, 6.0], [0.0, 0.0, 6.0]
    values = corrected(drawn([[2.0, 3.0, 6.0], new], [removed]))
    assert (values["inside"], values["outside"]) == ([new], [])
    assert values["points"] == [
        {"position": [2.0, 3.0, 6.0], "inside": True, "by": "reasoner"},
        {"position": removed, "inside": False, "by": "reader"},
    ]
    assert values["box_by"] == "reasoner"
    assert values["last"]["shape_ijk"] == SHAPE
    runs = list(map(int, values["last"]["runs"].split(",")))
    read = read_mask({"shape_ijk": SHAPE, "runs": runs, "ijk_to_lps": np.eye(4)})
    assert np.argwhere(read.values_ijk).tolist() == [[1, 2, 2]]
    json.dumps(values)


def test_a_point_outside_is_a_correction_of_a_mask_though_there_is_no_box() -> None:
    none = np.zeros((0, 3))
    stated = {**STATED, "bbox_corners_lps_mm": None, "bbox_source": None}
    values = corrected(Prompts(None, none, ras_lps(np.array([[4.0, 3.0, 6.0]]))), stated)
    assert (values["outside"], "last" in values) == ([[4.0, 3.0, 6.0]], True)


def test_another_box_or_no_new_point_is_segmented_anew() -> None:
    moved = [[0.0, 1.5, 6.0], [6.0, 4.5, 6.0]]
    values = corrected(drawn([[4.0, 3.0, 6.0]]), {**STATED, "bbox_corners_lps_mm": moved})
    assert ("last" in values, values["box_by"]) == (False, "reader")
    assert "last" not in corrected(drawn([[2.0, 3.0, 6.0]]))


def lassoed(*corners_lps, inside: bool) -> Prompts:
    """The box of :data:`STATED` and a closed curve."""
    curve = ras_lps(np.array(corners_lps, float))
    sides = {"lasso_inside_ras_mm" if inside else "lasso_outside_ras_mm": curve}
    return replace(drawn([[2.0, 3.0, 6.0]]), **sides)


@pytest.mark.parametrize("inside", [True, False])
def test_a_lasso_is_a_new_point_within_its_contour_and_corrects_the_mask(inside) -> None:
    # A horseshoe, whose middle is not in it; 2 x 1.5 x 3 mm voxels, slice K = 2.
    corners = [
        (0, 0, 6.4), (8, 0, 6.4), (8, 6, 6.4), (6, 6, 6.4), (6, 1, 6.4), (2, 1, 6.4), (2, 6, 6.4),
        (0, 6, 6.4),
    ]  # fmt: skip
    values = corrected(lassoed(*corners, inside=inside))
    known, lasso = values["points"]
    assert (known["by"], lasso["new"], lasso["inside"]) == ("reasoner", True, inside)
    assert ("last" in values, values["inside"], values["outside"]) == (True, [], [])
    contour, place = np.array(lasso["contour"]), np.array(lasso["position"])
    np.testing.assert_allclose(contour[:, :2], np.array(corners)[:, :2])
    np.testing.assert_allclose(contour[:, 2], 6.0)  # on the slice, not between two
    assert matplotlib.path.Path(contour[:, :2]).contains_point(place[:2])
    assert place[2] == pytest.approx(6.0)
    json.dumps(values)


def test_a_long_lasso_keeps_its_form_within_what_a_server_takes() -> None:
    turn = np.linspace(0, 2 * np.pi, 3001)[:-1]
    circle = np.stack([40 * np.cos(turn), 40 * np.sin(turn), np.full(3000, 6.0)], axis=1)
    (_, lasso) = corrected(lassoed(*circle, inside=False))["points"]
    contour = np.array(lasso["contour"])
    assert 100 < len(contour) <= 512
    x, y = contour[:, 0], contour[:, 1]
    area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
    assert area == pytest.approx(np.pi * 1600, rel=0.005)


@pytest.mark.parametrize(
    ("corners", "said"),
    [
        ([(0, 0, 0), (8, 0, 6), (8, 6, 12)], "several axial slices"),
        ([(0, 0, 6), (8, 0, 6)], "holds nothing"),
        ([(0, 0, 6), (4, 0, 6), (8, 0, 6)], "holds nothing"),
    ],
)
def test_a_lasso_that_cannot_be_told_is_refused(corners, said) -> None:
    with pytest.raises(ViewerError, match=said):
        corrected(lassoed(*corners, inside=True))


def test_a_lasso_alone_gives_an_absent_target_a_mask() -> None:
    none = np.zeros((0, 3))
    curve = ras_lps(np.array([[0.0, 0, 6], [8, 0, 6], [8, 6, 6]]))
    grid = Grid.from_ras(SHAPE, np.diag([-2.0, -1.5, 3.0, 1.0]))
    values = correction_of(Prompts(None, none, none, curve), "axial", grid, None, None)
    assert [point["inside"] for point in values["points"]] == [True]
    with pytest.raises(ViewerError, match="Draw a box"):
        correction_of(Prompts(None, none, none, none, curve), "axial", grid, None, None)


# --- events, masks, forms ------------------------------------------------------------------------


def test_events_are_read_line_by_line() -> None:
    lines = [b": ping\n", b"\n", b"event: text\n", b'data: {"text":\n', b'data: "a: b"}\n', b"\n"]
    lines += [b'data: {"x": 1}\r\n', b"\r\n", b"event: record\n", b"data: {}\n"]
    assert list(read_events(lines)) == [
        Event("text", {"text": "a: b"}),
        Event("message", {"x": 1}),
    ]


def test_a_mask_is_unpacked_with_i_fastest_and_written_as_itk_reads_it(tmp_path) -> None:
    affine = np.eye(4)
    affine[:3, :3] = turned(15.0) @ np.diag([2.0, 1.5, 3.0])
    affine[:3, 3] = (-20.0, 11.0, 7.0)
    data = {"shape_ijk": [3, 2, 1], "ijk_to_lps": affine.tolist(), "runs": [0, 1, 1, 2, 2]}
    mask = read_mask(data)
    assert np.argwhere(mask.values_ijk).tolist() == [[0, 0, 0], [0, 1, 0], [2, 0, 0]]
    path = tmp_path / "label.nrrd"
    path.write_bytes(to_nrrd(mask))
    image = sitk.ReadImage(str(path))
    assert image.GetPixelIDValue() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), mask.values_ijk)
    np.testing.assert_allclose(grid_of(image).ijk_to_lps, affine, atol=1e-6)


def test_runs_that_do_not_fill_the_grid_are_refused() -> None:
    with pytest.raises(ServerError, match="5 voxels, expected 6"):
        read_mask({"shape_ijk": [3, 2, 1], "ijk_to_lps": np.eye(4).tolist(), "runs": [5]})


def test_a_form_is_read_back_by_a_server(tmp_path) -> None:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    async def echo(request):
        form = await request.form()
        image = form["files"]
        return JSONResponse([form["params"], image.filename, (await image.read()).hex()])

    content = bytes(range(256)) + b"\r\n--"
    (tmp_path / "Patient Name.nrrd").write_bytes(content)
    part = FilePart("files", "image.nrrd", tmp_path / "Patient Name.nrrd")
    content_type, body, length = encode({"params": '{"a": "ü"}'}, [part])
    with body:
        sent = body.read()
    assert len(sent) == length
    client = TestClient(Starlette(routes=[Route("/", echo, methods=["PUT"])]))
    answer = client.put("/", content=sent, headers={"Content-Type": content_type})
    assert answer.json() == ['{"a": "ü"}', "image.nrrd", content.hex()]


# --- states and sentences ------------------------------------------------------------------------

ANSWER = {
    "present": True, "reasoning": "It is the liver.", "confidence": 0.4, "agreement": 0.25,
    "prompts": None, "slice_choice": {"explanation": "As asked."}, "warnings": ["Careful."],
    "slice": {"plane": "axial"},
}  # fmt: skip
MASK = {"scope": "slice", "shape_ijk": [1, 1, 2], "ijk_to_lps": np.eye(4).tolist(), "runs": [1, 1]}


def told(*events: Event) -> State:
    state = State().asked("Which organ?", "volume", Segment.of("a", "Which organ?", 0))
    for event in events:
        state = state.heard(event)
    return state


def test_a_question_runs_from_waiting_to_recorded() -> None:
    state = told(Event("accepted", {"stream_id": "s"}), Event("text", {"text": "It "}))
    assert (state.phase, state.reasoning, state.may["cancel"]) == (Phase.WORKING, "It ", True)
    assert not state.may["ask"]
    state = state.heard(Event("answer", ANSWER)).heard(Event("mask", MASK))
    assert state.reasoning == "It is the liver."
    assert state.mask.values_ijk.ravel().tolist() == [0, 1]
    state = state.heard(Event("record", {"inference_id": "i"})).ended()
    assert (state.phase, state.inference_id, state.error) == (Phase.ANSWERED, "i", "")
    may = state.may
    assert all(may[name] for name in ("ask", "correct", "accept", "submit", "reject"))
    assert not state.decided("accepted").may["reject"]


def test_back_to_the_answer_is_before_the_first_correction() -> None:
    state = told(
        Event("answer", ANSWER), Event("mask", MASK), Event("record", {"inference_id": "i"})
    )
    other = {**MASK, "runs": [0, 2]}
    corrected = (
        state.corrects().heard(Event("mask", other)).heard(Event("record", {"inference_id": "j"}))
    )
    assert corrected.mask.values_ijk.ravel().tolist() == [1, 1]
    assert corrected.corrects().original is state
    back = corrected.reset()
    assert (back.mask, back.corrected, back.inference_id) == (state.mask, False, "i")
    assert back.may["accept"]


def runs_of(state: State) -> list[int] | None:
    return None if state.mask is None else state.mask.values_ijk.ravel().tolist()


def test_corrections_are_undone_and_done_again_with_what_was_painted_between() -> None:
    answered = told(
        Event("answer", ANSWER), Event("mask", MASK), Event("record", {"inference_id": "i"})
    )
    painted = replace(answered.mask, values_ijk=np.array([[[1, 1]]], np.uint8))
    erased = {**MASK, "runs": [2]}
    corrected = answered.corrects(painted)
    corrected = corrected.heard(Event("mask", erased)).heard(Event("record", {"inference_id": "j"}))
    assert (answered.may["undo"], corrected.may["undo"], corrected.may["redo"]) == (
        False, True, False,
    )  # fmt: skip
    undone = corrected.undone(corrected.mask)
    assert (runs_of(undone), undone.inference_id, undone.corrected) == ([1, 1], "i", False)
    assert (undone.may["undo"], undone.may["redo"]) == (False, True)
    redone = undone.redone(undone.mask)
    assert (runs_of(redone), redone.corrected) == ([0, 0], True)
    assert (redone.may["undo"], redone.may["redo"]) == (True, False)
    assert runs_of(redone.undone(redone.mask)) == [1, 1]
    back = redone.reset(redone.mask)
    assert runs_of(back) == [0, 1]
    assert runs_of(back.undone(back.mask)) == [0, 0]
    assert not undone.corrects(None).may["redo"]
    assert answered.undone(None) is answered


def test_what_was_decided_stays_decided_when_a_correction_is_undone() -> None:
    state = told(Event("answer", ANSWER), Event("record", {"inference_id": "i"})).corrects(None)
    state = state.heard(Event("answer", ANSWER)).heard(Event("record", {"inference_id": "j"}))
    assert state.decided("edited").undone(None).decision == "edited"


def test_what_the_answer_follows_up_on_is_said_where_it_counted() -> None:
    follow_up = {"target": {"name": "liver"}, "used": True}
    lines = [line.text for line in describe_answer({**ANSWER, "follow_up": follow_up})]
    assert "It follows up on: liver." in lines
    unused = describe_answer({**ANSWER, "follow_up": {**follow_up, "used": False}})
    assert not [line for line in unused if "follows up" in line.text]


def test_what_was_checked_is_told_by_sign_and_word() -> None:
    statement = {"start": 2, "end": 6, "verdict": "does not hold", "measured": "34 mm right"}
    removal = {"explanation": "It does not depend on it.", "depends": False}
    checks = {"statements": [statement], "removal": removal}
    answer = {**ANSWER, "reasoning": "A left one.", "checks": checks}
    lines = {line.text: line.alert for line in describe_answer(answer)}
    assert lines["✗ “left” does not hold: 34 mm right"]
    assert lines["It does not depend on it."]


DOUBT = {
    "readings": 8, "agreement": 0.75, "probability": None,
    "named": [
        {"outcome": "present", "name": "spleen", "count": 6, "elsewhere": False},
        {"outcome": "present", "name": None, "count": 1, "elsewhere": True},
        {"outcome": "absent", "name": None, "count": 1, "elsewhere": False},
    ],
    "doubtful_slices": [{"index": 3, "reason": "end"}, {"index": 8, "reason": "segmenter"}],
}  # fmt: skip


def test_the_readings_are_told_by_name_and_the_first_alone_needs_no_second_look() -> None:
    lines = describe_doubt(DOUBT)
    assert [line.text for line in lines] == [
        "6 of 8: spleen", "1 of 8: target, at another place", "1 of 8: not present",
        "Their masks agree to 75%.", "2 slices to look at.",
    ]  # fmt: skip
    assert [line.alert for line in lines] == [False, True, True, False, True]


@pytest.mark.parametrize(("support", "alert"), [(0.5, False), (0.31, True)])
def test_support_is_told_where_the_record_has_it_little_of_it_as_an_alert(support, alert) -> None:
    lines = [
        line for line in describe_doubt({**DOUBT, "support": support}) if "Support" in line.text
    ]
    assert [(line.text, line.alert) for line in lines] == [
        (f"Support for the answer: {support:.0%}.", alert)
    ]


@pytest.mark.parametrize(
    ("index", "step", "expected"),
    [(0, 1, 3), (3, 1, 8), (8, 1, 3), (9, -1, 8), (8, -1, 3), (3, -1, 8), (5, 1, 8), (5, -1, 3)],
)
def test_one_goes_from_one_doubtful_slice_to_the_next_round_the_end(index, step, expected) -> None:
    assert next_doubtful(DOUBT, index, step)["index"] == expected
    assert next_doubtful({**DOUBT, "doubtful_slices": []}, index, step) is None


def test_a_map_is_unpacked_with_i_fastest_and_lies_on_the_volume_in_per_cent() -> None:
    """A grid of 2 x 1 x 3 voxels; the viewer counts K from the other end."""
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    data = {**DOUBT, "shape_ijk": [2, 1, 3], "ijk_to_lps": affine.tolist(),
            "counts": [0, 8, 2], "runs": [1, 2, 3]}  # fmt: skip
    found = read_doubt(data)
    assert found.counts_ijk[:, 0, :].T.tolist() == [[0, 8], [8, 2], [2, 2]]
    turned = np.diag([1.0, 1.0, -2.0, 1.0])
    turned[2, 3] = 4.0
    per_cent = found.per_cent_on(Grid((2, 1, 3), turned))
    assert per_cent[:, 0, :].T.tolist() == [[25, 25], [100, 25], [0, 100]]
    with pytest.raises(ServerError, match="expected 6"):
        read_doubt({**data, "runs": [1, 2, 2]})
    recorded = read_doubt(DOUBT)
    assert recorded.per_cent_on(Grid((2, 1, 3), turned)) is None


def test_the_place_of_another_slice_is_its_centre_in_ras() -> None:
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    shown = {"plane": "axial", "index": 4, "center_lps_mm": [10.0, 20.0, 30.0]}
    place = place_of(shown, Grid((4, 4, 9), affine), 6)
    np.testing.assert_allclose(place, [-10.0, -20.0, 40.0])


def test_each_target_has_a_colour_and_a_short_name() -> None:
    targets = [Segment.of(str(n), "  which\norgan makes bile and lies under the right dome? ", n)
               for n in range(6)]  # fmt: skip
    assert len({target.rgb for target in targets}) == 6
    assert targets[0].rgb == (221 / 255, 84 / 255, 84 / 255)
    assert targets[0].name == "which organ makes bile and lies under t…"
    assert len({target.key for target in targets}) == 6


def test_a_correction_keeps_the_question_and_cannot_be_accepted_as_answered() -> None:
    state = told(Event("answer", ANSWER), Event("record", {"inference_id": "i"})).corrects()
    corrected = {**ANSWER, "reasoning": None}
    state = state.heard(Event("answer", corrected)).heard(Event("mask", MASK))
    state = state.heard(Event("record", {"inference_id": "other"}))
    assert (state.inference_id, state.reasoning) == ("i", "It is the liver.")
    assert state.may["submit"]
    assert not state.may["accept"]


@pytest.mark.parametrize(
    ("status", "phase", "error"), [(499, Phase.IDLE, ""), (503, Phase.FAILED, "No weights.")]
)
def test_cancelled_is_no_fault_and_a_fault_is_a_sentence(status, phase, error) -> None:
    state = told(Event("error", {"status": status, "detail": "No weights."})).ended()
    assert (state.phase, state.error) == (phase, error)


def test_a_stream_that_stops_before_its_record_is_a_fault() -> None:
    assert "ended the answer early" in told(Event("text", {"text": "It"})).ended().error


def test_low_agreement_and_warnings_are_alerts() -> None:
    alerts = [line.text for line in describe_answer(ANSWER) if line.alert]
    assert alerts[0].startswith("Several answers agree to 25%: low")
    assert alerts[1:] == ["The model itself is not sure of this answer.", "Careful."]
    sure = {**ANSWER, "agreement": 0.9, "confidence": 0.9, "warnings": []}
    assert not any(line.alert for line in describe_answer(sure))


def test_a_calibrated_confidence_is_a_probability_and_a_low_one_is_uncertain() -> None:
    calibrated = {**ANSWER, "calibrated": True, "agreement": 0.9, "warnings": []}
    (unsure,) = [line.text for line in describe_answer(calibrated) if line.alert]
    assert unsure == "Uncertain: the probability that its place is right is 40%."
    absent = {**calibrated, "present": False, "outcome": "absent", "confidence": 0.9}
    texts = [line.text for line in describe_answer(absent)]
    assert "The probability that it is not there is 90%." in texts


def test_not_present_is_said_first() -> None:
    first = describe_answer({**ANSWER, "present": False})[0]
    assert first.alert
    assert first.text.startswith("Not present")


PUZZLED = {**ANSWER, "present": False, "outcome": "not_understood", "confidence": None}


def test_a_question_not_understood_is_said_without_any_percentage() -> None:
    first, *others = describe_answer({**PUZZLED, "agreement": 1.0, "warnings": []})
    assert first.alert
    assert first.text == "The question was not understood: nothing is said of any target."
    assert [line.text for line in others] == ["As asked.", "Further answers say the same."]
    divided = describe_answer({**PUZZLED, "agreement": 0.25, "warnings": []})[-1]
    assert (divided.text, divided.alert) == ("Further answers do not all say the same.", True)


def test_what_was_not_found_has_no_certainty() -> None:
    absent = describe_answer({**ANSWER, "present": False})
    assert not any("Confidence" in line.text for line in absent)


def test_a_question_not_understood_is_rejected_or_asked_again_but_not_accepted() -> None:
    record = Event("record", {"inference_id": "i"})
    puzzled = told(Event("answer", PUZZLED), record)
    may = {name: puzzled.may[name] for name in ("ask", "correct", "accept", "submit", "reject")}
    assert may == {"ask": True, "correct": True, "accept": False, "submit": False, "reject": True}
    absent = told(Event("answer", {**PUZZLED, "outcome": "absent"}), record)
    assert absent.may["accept"]
    empty = puzzled.heard(Event("mask", {**MASK, "runs": [2]})).heard(record)  # as it is kept
    assert (empty.may["accept"], empty.may["reject"]) == (False, True)
    segmented = puzzled.corrects().heard(Event("answer", ANSWER)).heard(Event("mask", MASK))
    assert segmented.heard(record).may["submit"]


def test_an_earlier_question_is_one_line() -> None:
    record = {
        "result": {"query": "Which organ?"}, "present": False, "decision": None,
        "created_at": "2026-01-02T03:04:05.000+00:00",
    }  # fmt: skip
    assert describe_record(record).startswith("Which organ? (not present, 2026-01-0")
    puzzled = describe_record({**record, "outcome": "not_understood"})
    assert puzzled.startswith("Which organ? (not understood, 2026-01-0")
    decided = {**record, "decision": {"outcome": "rejected"}}
    assert "(rejected, " in describe_record(decided)


# --- threads and secrets -------------------------------------------------------------------------


def test_everything_is_told_in_the_thread_that_polls_and_in_order() -> None:
    background, said = Background(), []

    def note(value) -> None:
        said.append((value, threading.get_ident()))

    def work(tell):
        tell(1)
        tell(2)
        return 3

    background.run(work, done=note, failed=note, told=note)
    while len(said) < 3:
        background.poll(0.05)
    assert said == [(value, threading.get_ident()) for value in (1, 2, 3)]


def test_a_fault_in_a_thread_names_no_content() -> None:
    background, said = Background(), []

    def work(tell):
        raise KeyError("Which organ?")

    background.run(work, done=said.append, failed=said.append)
    while not said:
        background.poll(0.05)
    assert said == ["Something went wrong in the module (KeyError)."]


def test_a_listener_that_lets_the_timer_fire_does_not_mix_up_the_order() -> None:
    background, said = Background(), []

    def told(value) -> None:
        background.poll(0.0)
        said.append(value)

    def work(tell):
        for value in range(5):
            tell(value)

    background.run(work, done=lambda nothing: said.append("done"), failed=said.append, told=told)
    while "done" not in said:
        background.poll(0.05)
    assert said == [0, 1, 2, 3, 4, "done"]


def test_what_is_forgotten_is_heard_no_more() -> None:
    background, said = Background(), []
    release = threading.Event()
    background.run(lambda tell: release.wait(20), done=said.append, failed=said.append)
    background.forget()
    release.set()
    background.run(lambda tell: "second", done=said.append, failed=said.append)
    while not said:
        background.poll(0.05)
    background.poll(0.05)
    assert said == ["second"]


@pytest.mark.parametrize("address", ["", "ftp://a", "http://", "localhost:8000", "http://a:b"])
def test_an_unusable_address_is_refused_with_an_example(address) -> None:
    with pytest.raises(ServerError, match="expected one such as"):
        Client(Server(address))


def test_a_token_is_never_repeated() -> None:
    server = Server("http://127.0.0.1:1", "s3cret token\n")
    assert "s3cret" not in repr(server)
    with pytest.raises(ServerError) as refused:
        Client(server)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "token", "warned"),
    [
        ("http://10.0.0.1", "t", True), ("https://10.0.0.1", "t", False),
        ("http://127.0.0.1:8000", "t", False), ("http://10.0.0.1", "", False),
    ],
)  # fmt: skip
def test_a_token_over_plain_http_is_warned_about(address, token, warned) -> None:
    assert bool(Server(address, token).warning) is warned


def test_a_server_that_is_not_there_is_said_in_a_sentence() -> None:
    with pytest.raises(ServerError, match="is it running"):
        Client(Server("http://127.0.0.1:9")).connect()


@pytest.fixture
def elsewhere():
    """A server that sends everybody to another place; yields it and what it was asked for."""
    asked = []

    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *values):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, asked
        server.shutdown()


def test_the_token_does_not_follow_a_redirect(elsewhere) -> None:
    server, asked = elsewhere
    with pytest.raises(ServerError, match="HTTP 302"):
        Client(Server(f"http://127.0.0.1:{server.server_port}", "token")).connect()
    assert asked == [("/info/", "Bearer token")]


def test_a_certificate_is_checked_and_the_sites_own_authority_can_be_named(
    elsewhere, tmp_path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is absent")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    server, asked = elsewhere
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    address = f"https://localhost:{server.server_port}"
    with pytest.raises(ServerError, match="certificate is not trusted"):
        Client(Server(address)).connect()
    assert asked == []
    with pytest.raises(ServerError, match="HTTP 302"):
        Client(Server(address, certificates=str(certificate))).connect()
    with pytest.raises(ServerError, match="expected PEM"):
        Client(Server(address, certificates=str(tmp_path / "absent.pem"))).connect()


def test_the_end_of_a_question_does_not_end_the_correction_that_follows_it(monkeypatch) -> None:
    volume = ShownVolume("v", Grid(SHAPE, np.eye(4)))
    panel = Panel(SimpleNamespace(volume=volume), lambda: None)
    link = SimpleNamespace(target=lambda volume: Target("case"), image_id=lambda volume: None)
    link.open_stream = lambda volume, file, start: start(None)
    ends = []
    monkeypatch.setattr(panel, "_start", lambda work, done, told=None: ends.append((work, done)))
    for _ in range(2):
        stream = Stream(SimpleNamespace(sock=None, close=lambda: None), [])
        panel.state = State(phase=Phase.WORKING)
        panel._consume(link, volume, lambda target, stream=stream: stream)
    (first, first_done), (second, _) = ends[:2]
    panel._heard(second(lambda item: None))
    first_done(first(lambda item: None))
    assert panel.state.phase is Phase.WORKING
