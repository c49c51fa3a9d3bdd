# SPDX-License-Identifier: Apache-2.0
"""A question answered as server-sent events; a toy pipeline stands for the models."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medreasoner_infer.errors import CancelledError, ModelUnavailableError
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.request import AskRequest, SegmentRequest
from medreasoner_infer.types import Grounding, ModelIdentity, ReasonerAnswer, SliceMask

pytest.importorskip("monailabel")

import monailabel.app
from fastapi.testclient import TestClient
from monailabel.config import settings
from monailabel.interfaces.utils import app as app_registry

from monailabel_app.app import MedReasonerApp
from monailabel_app.web.routes.install import install_routes
from monailabel_app.web.streaming.events import ReasoningText, mask_runs
from monailabel_app.web.streaming.running import RunningStreams

WAIT_S = 20
QUERY = "Which organ stores the bile?"
SHAPE_IJK = (6, 5, 4)
# RAS with negative I and J, i.e. LPS axes along the voxel axes, 2 x 1.5 x 3 mm.
AFFINE_RAS = np.diag([-2.0, -1.5, 3.0, 1.0])
MODEL = ModelIdentity("toy", "packaged", None, "ab" * 32, "Apache-2.0")
PIECES = ("<th", "ink>The gall", "bladder</thi", 'nk><answer>{"bbox"', ": [1]}</answer>")


class ToyReasoner(Reasoner):
    """Writes :data:`PIECES`, and points at a box on any slice."""

    identity = MODEL
    input_size = 60
    image_encoding = "rgb"

    def __init__(self, toy: ToyPipeline) -> None:
        self._toy = toy

    def _sample(self, request, count, on_text, cancelled):
        self._toy.wait(cancelled)
        for piece in PIECES:
            on_text(piece)
        found = Grounding("The gallbladder", (10.0, 10.0, 30.0, 40.0), ((20.0, 25.0), (22.0, 25.0)))
        nothing = Grounding("The gallbladder", None, None, outcome=self._toy.outcome)
        return (ReasonerAnswer("text", found if self._toy.present else nothing, 0.75, 5),) * count


class ToySegmenter:
    """Its mask is voxel (1, 2) of the slice, or of all slices."""

    identity = MODEL

    def __init__(self, toy: ToyPipeline) -> None:
        self._toy = toy

    def segment_slice(self, image, prompt):
        mask = np.zeros(image.pixels.shape[:2], bool)
        mask[2, 1] = True
        return SliceMask(mask, 0.9)

    def propagate(self, frames, start_index, prompt, *, progress=None, cancelled=None):
        others = [index for index in range(len(frames)) if index != start_index]
        for index in (start_index, *others):
            yield index, self.segment_slice(frames[index], prompt)
        progress(len(frames), len(frames))


class ToyPipeline(Pipeline):
    """The real one with toy models; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(lambda: ToyReasoner(self), lambda: ToySegmenter(self))
        self.requests: list[AskRequest | SegmentRequest] = []
        self.present = True
        self.outcome = "absent"
        self.error: Exception | None = None
        self.started = threading.Event()
        self.proceed = threading.Event()
        self.proceed.set()

    def ask(self, volume, request, hooks):
        self.requests.append(request)
        return super().ask(volume, request, hooks)

    def segment(self, volume, request, hooks):
        self.requests.append(request)
        return super().segment(volume, request, hooks)

    def wait(self, cancelled) -> None:
        self.started.set()
        while not self.proceed.wait(0.01):
            if cancelled():
                raise CancelledError("Cancelled.")
        if self.error is not None:
            raise self.error


@pytest.fixture
def pipeline() -> ToyPipeline:
    return ToyPipeline()


@pytest.fixture
def client(monkeypatch, tmp_path: Path, pipeline: ToyPipeline) -> TestClient:
    studies = tmp_path / "studies"
    studies.mkdir()
    voxels = np.arange(np.prod(SHAPE_IJK), dtype=np.int16).reshape(SHAPE_IJK)
    nibabel.save(nibabel.Nifti1Image(voxels, AFFINE_RAS), studies / "case.nii.gz")
    for name, value in (
        ("DATASTORE_AUTO_RELOAD", False), ("SESSION_PATH", str(tmp_path / "sessions")),
        ("APP_DIR", str(tmp_path / "app")), ("STUDIES", str(studies)),
    ):  # fmt: skip
        monkeypatch.setattr(settings, f"MONAI_LABEL_{name}", value)
    app = MedReasonerApp(str(tmp_path / "app"), str(studies), {}, pipeline=pipeline)
    monkeypatch.setitem(app_registry.apps, f"{tmp_path / 'app'}{studies}", app)
    install_routes(monailabel.app.app)
    return TestClient(monailabel.app.app, raise_server_exceptions=False)


def events_of(text: str) -> list[tuple[str, dict]]:
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    fields = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    return [(event["event"], json.loads(event["data"])) for event in fields]


def ask(client: TestClient, image="case", **values) -> list[tuple[str, dict]]:
    values = {"query": QUERY, "position": [0, 0, 6], "propagate": True, **values}
    answer = client.post("/medreasoner/streams/ask", params={"image": image}, json=values)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return events_of(answer.text)


def named(events, name) -> list[dict]:
    return [data for event, data in events if event == name]


def unpacked(mask: dict) -> np.ndarray:
    values = np.repeat(np.arange(len(mask["runs"])) % 2, mask["runs"])
    return values.reshape(mask["shape_ijk"], order="F")


# --- what is told, and when ----------------------------------------------------------------------


def test_the_steps_come_in_the_order_in_which_they_are_made(client) -> None:
    names = [name for name, _ in ask(client)]
    assert names[:2] == ["accepted", "slice"]
    assert names[-6:] == ["text", "answer", "mask", "progress", "mask", "record"]


def test_the_reasoning_is_streamed_without_tags_and_without_the_answer(client) -> None:
    pieces = [data["text"] for data in named(ask(client), "text")]
    assert "".join(pieces) == "The gallbladder"
    assert len(pieces) > 1


def test_the_masks_are_those_of_the_slice_and_of_the_volume_on_the_images_grid(client) -> None:
    on_slice, in_volume = named(ask(client), "mask")
    assert (on_slice["scope"], in_volume["scope"]) == ("slice", "volume")
    assert np.argwhere(unpacked(on_slice)).tolist() == [[1, 2, 2]]
    assert np.argwhere(unpacked(in_volume)).tolist() == [[1, 2, k] for k in range(4)]
    np.testing.assert_allclose(on_slice["ijk_to_lps"], np.diag([2.0, 1.5, 3.0, 1.0]))


def test_it_is_one_inference_recorded_with_the_volumes_mask(client, tmp_path) -> None:
    (record,) = named(ask(client), "record")
    listed = client.get("/medreasoner/inferences?image=case").json()
    assert [entry["inference_id"] for entry in listed] == [record["inference_id"]]
    assert listed[0]["result"]["propagated"] is True
    assert listed[0]["result"]["mask"]["voxels"] == 4
    runs = client.get(f"/medreasoner/masks/{record['inference_id']}").json()
    assert np.argwhere(unpacked(runs)).tolist() == [[1, 2, k] for k in range(4)]


def test_without_propagation_the_slice_is_all(client, pipeline) -> None:
    events = ask(client, propagate=False)
    assert [mask["scope"] for mask in named(events, "mask")] == ["slice"]
    assert pipeline.requests[0].propagate is False


@pytest.mark.parametrize(("outcome", "confidence"), [("absent", 0.75), ("not_understood", None)])
def test_an_answer_without_a_target_has_no_mask(client, pipeline, outcome, confidence) -> None:
    pipeline.present, pipeline.outcome = False, outcome
    events = ask(client)
    (answer,), (record,) = named(events, "answer"), named(events, "record")
    assert (answer["present"], answer["outcome"]) == (False, outcome)
    assert answer["confidence"] == confidence
    assert named(events, "mask") == []
    assert (record["present"], record["outcome"]) == (False, outcome)


# --- a corrected box or a click ------------------------------------------------------------------


def correct(client: TestClient, **values):
    return client.post("/medreasoner/streams/segment?image=case", json=values)


def test_a_corrected_box_runs_the_segmenter_alone(client, pipeline) -> None:
    answer = correct(client, box=[[7, 1, 9], [-40, 4, 9]], plane="axial")
    (request,) = pipeline.requests
    assert isinstance(request, SegmentRequest)
    assert (request.selection.plane, request.selection.index) == ("axial", 3)
    # Voxels are 2 x 1.5 mm, the first centred at the origin; x is cut at the slice's edge.
    expected = (0.0, 1 / 1.5 + 0.5, 7 / 2 + 0.5, 4 / 1.5 + 0.5)
    np.testing.assert_allclose(request.prompt.bbox_xyxy_px, expected)
    assert [name for name, _ in events_of(answer.text)] == [
        "accepted", "slice", "answer", "mask", "record",
    ]  # fmt: skip


def test_clicks_inside_and_outside_are_told_apart(client, pipeline) -> None:
    correct(client, inside=[[2, 3, 3]], outside=[[0, 0, 3], [4, 0, 3]])
    (request,) = pipeline.requests
    assert request.prompt.point_labels == (1, 0, 0)
    np.testing.assert_allclose(request.prompt.points_xy_px[0], (1.5, 2.5))


@pytest.mark.parametrize(
    ("values", "said"),
    [({}, "Draw a box"), ({"outside": [[0, 0, 0]]}, "Draw a box"), ({"box": [[0, 0, 0]]}, "two")],
)
def test_a_correction_without_a_target_is_refused_at_once(client, values, said) -> None:
    answer = correct(client, **values)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


# Of the toy's grid: voxels (1, 2) and (2, 2) of slice 1, and (3, 3) of slice 2.
LAST_IJK = np.zeros(SHAPE_IJK, bool)
LAST_IJK[1:3, 2, 1] = LAST_IJK[3, 3, 2] = True
RUNS = mask_runs(LAST_IJK)


def last_mask(runs=RUNS, shape=SHAPE_IJK) -> dict:
    return {"shape_ijk": list(shape), "runs": runs}


def point(i, j, k, **said) -> dict:
    """At a voxel's centre, by the grid of 2 x 1.5 x 3 mm."""
    return {"position": [2.0 * i, 1.5 * j, 3.0 * k], "inside": True, **said}


@pytest.mark.parametrize("runs", [RUNS, ",".join(map(str, RUNS))], ids=["list", "text"])
def test_new_points_correct_the_mask_on_the_screen(client, pipeline, runs) -> None:
    points = [
        point(1, 2, 1, by="reasoner"),
        point(2, 2, 1, by="reader"),
        point(2, 2, 1, inside=False, new=True),
        point(4, 2, 1, by="reader", new=True),
    ]
    box = [[1, 1, 3], [7, 4, 3]]
    answer = correct(
        client, box=box, box_by="reasoner", points=points, last=last_mask(runs), plane="axial"
    )
    (request,) = pipeline.requests
    np.testing.assert_array_equal(request.last_mask_ijk, LAST_IJK)
    assert request.selection.index == 1
    assert request.prompt.points_xy_px == ((1.5, 2.5), (2.5, 2.5))
    assert [(click.position_ijk, click.positive) for click in request.clicks] == [
        ((2.0, 2.0, 1.0), False), ((4.0, 2.0, 1.0), True),
    ]  # fmt: skip
    events = events_of(answer.text)
    prompts = named(events, "answer")[0]["prompts"]
    assert prompts["bbox_source"] == "reasoner"
    assert prompts["point_sources"] == ["reasoner", "reader", "reader", "reader"]
    (mask,) = named(events, "mask")
    assert np.argwhere(unpacked(mask)).tolist() == [[1, 2, 1], [3, 3, 2], [4, 2, 1]]


# Around the centres of the voxels I 1 to 3 and J 0 to 2 of slice 1, in LPS mm.
SQUARE = [[1, -0.5, 3], [7, -0.5, 3], [7, 3.5, 3], [1, 3.5, 3]]


@pytest.mark.parametrize(
    ("inside", "left"),
    [
        (True, [*([i, j, 1] for i in (1, 2, 3) for j in (0, 1, 2)), [3, 3, 2]]),
        (False, [[3, 3, 2]]),
    ],
)
def test_a_lasso_adds_or_takes_away_all_that_lies_within(client, inside, left) -> None:
    points = [
        point(1, 2, 1, by="reasoner"),
        point(2, 1, 1, inside=inside, new=True, contour=SQUARE),
    ]
    events = events_of(correct(client, points=points, last=last_mask(), plane="axial").text)
    assert sorted(np.argwhere(unpacked(named(events, "mask")[0])).tolist()) == sorted(left)
    assert named(events, "answer")[0]["prompts"]["point_labels"] == [1, int(inside)]


def test_a_lasso_draws_a_target_where_there_is_no_mask(client) -> None:
    points = [point(2, 1, 1, new=True, contour=SQUARE)]
    events = events_of(correct(client, points=points, plane="axial").text)
    assert unpacked(named(events, "mask")[0]).sum() == 9


@pytest.mark.parametrize(
    ("contour", "said"),
    [
        (SQUARE[:2], "contour has 2 points; expected 3 to 512"),
        (SQUARE * 129, "at most 512 items"),
        ([[1, 2], [3, 4], [5, 6]], "LPS millimetres"),
        ([[1e9, 0, 3], *SQUARE], "less than or equal to"),
        ("around it", "LPS millimetres"),
    ],
)
def test_a_contour_that_is_none_is_refused(client, contour, said) -> None:
    points = [point(2, 1, 1, new=True, contour=contour)]
    assert said in correct(client, points=points, last=last_mask(), plane="axial").text


def test_a_scribble_of_more_points_than_are_taken_is_refused(client) -> None:
    points = [point(2, 1, 1, new=True)] * 257
    answer = correct(client, points=points, last=last_mask(), plane="axial")
    assert answer.status_code == 422
    assert "at most 256 items" in answer.text


def test_a_click_that_leaves_nothing_is_told(client) -> None:
    only = np.zeros(SHAPE_IJK, bool)
    only[4, 2, 1] = True
    points = [point(4, 2, 1, inside=False, new=True)]
    events = events_of(correct(client, points=points, last=last_mask(mask_runs(only))).text)
    assert not unpacked(named(events, "mask")[0]).any()
    assert named(events, "record")[0]["present"] is False


def test_what_was_set_on_another_slice_is_left_out(client, pipeline) -> None:
    points = [point(1, 2, 1, by="reasoner"), point(3, 3, 2, inside=False, new=True)]
    correct(client, box=[[1, 1, 3], [7, 4, 3]], points=points, last=last_mask(), plane="axial")
    (request,) = pipeline.requests
    assert request.selection.index == 2
    assert (request.prompt.bbox_xyxy_px, request.prompt.points_xy_px) == (None, ())
    assert [click.position_ijk for click in request.clicks] == [(3.0, 3.0, 2.0)]


def test_a_click_midway_between_two_slices_is_on_one_of_them(client, pipeline) -> None:
    points = [point(3, 3, 1.5, inside=False, new=True)]
    events = events_of(correct(client, points=points, last=last_mask(), plane="axial").text)
    assert not unpacked(named(events, "mask")[0])[3, 3, 2]
    assert pipeline.requests[0].clicks[0].position_ijk == (3.0, 3.0, 2.0)


def test_points_inside_and_outside_are_new_where_a_mask_is_sent(client, pipeline) -> None:
    correct(client, inside=[[8, 3, 3]], outside=[[2, 3, 3]], last=last_mask())
    (request,) = pipeline.requests
    assert [(click.position_ijk, click.positive) for click in request.clicks] == [
        ((4.0, 2.0, 1.0), True), ((1.0, 2.0, 1.0), False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (last_mask(runs=[119]), "cover 119 voxels; expected all 120"),
        (last_mask(runs=[121]), "cover 121 voxels; expected all 120"),
        (last_mask(runs=""), "cover|runs"),
        (last_mask(shape=(6, 4, 5)), "has .6, 4, 5. voxels and the image .6, 5, 4."),
        (last_mask(runs=[-1, 121]), "expected lengths of runs"),
        (last_mask(runs="60,x,60"), "expected lengths of runs"),
        (last_mask(runs=[60.5, 59.5]), "expected lengths of runs"),
        (last_mask(runs={"0": 120}), "expected lengths of runs"),
        (last_mask(runs=[10**30]), "expected lengths of runs"),
        (last_mask(shape=(6, 5)), "shape_ijk"),
        ({"runs": RUNS}, "shape_ijk"),
        ("all", "last"),
    ],
)  # fmt: skip
def test_a_mask_that_is_none_of_the_image_is_refused_by_name(client, last, said) -> None:
    answer = correct(client, points=[point(1, 2, 1, inside=False, new=True)], last=last)
    if answer.status_code == 422:
        detail = answer.json()["detail"]
    else:
        ((name, data),) = events_of(answer.text)[1:]
        assert (name, data["status"]) == ("error", 422)
        detail = data["detail"]
    assert re.search(said, detail)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([{"position": [2, 3], "inside": True}], "position"),
        ([{"position": [2, 3, 3]}], "inside"),
        ([point(1, 2, 1, by="somebody")], "by"),
        ([point(1, 2, 1, colour="red")], "colour"),
        ([point(1, 2, 1)] * 257, "points"),
    ],
)
def test_a_point_says_where_it_is_and_what_it_means(client, points, said) -> None:
    answer = correct(client, points=points, last=last_mask())
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_a_mask_without_a_slice_to_correct_is_refused(client) -> None:
    assert "which slice" in events_of(correct(client, last=last_mask()).text)[-1][1]["detail"]


# --- errors, leaving, the line -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ModelUnavailableError("No weights."), 503, "No weights."),
        (ZeroDivisionError("oh"), 500, "tell the administrator the reference"),
    ],
)
def test_a_fault_on_the_way_is_an_event_with_a_sentence(
    client, pipeline, error, status, said
) -> None:
    pipeline.error = error
    name, data = ask(client)[-1]
    assert name == "error"
    assert data["status"] == status
    assert said in data["detail"]


def test_an_unknown_image_and_a_slice_outside_are_events_too(client) -> None:
    assert ask(client, image="nobody")[-1][1]["status"] == 404
    assert ask(client, position=[0, 0, 900])[-1][1]["status"] == 422


def test_a_missing_question_is_refused_at_once(client) -> None:
    answer = client.post("/medreasoner/streams/ask?image=case", json={})
    assert answer.status_code == 422
    assert "question is missing" in answer.json()["detail"]


def test_questions_stay_out_of_the_log(client, pipeline, caplog) -> None:
    pipeline.error = KeyError(f"no such thing: {QUERY}")
    ask(client)
    assert "KeyError" in caplog.text
    assert "bile" not in caplog.text


def test_cancelling_stops_the_work_and_records_nothing(client, pipeline) -> None:
    pipeline.proceed.clear()
    with client:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(ask(client)))
        thread.start()
        assert pipeline.started.wait(WAIT_S)
        assert client.get("/info/").status_code == 200
        (stream_id,) = monailabel.app.app.state.medreasoner_streams._stops
        assert client.delete(f"/medreasoner/streams/{stream_id}").status_code == 200
        thread.join(WAIT_S)
        assert client.delete(f"/medreasoner/streams/{stream_id}").status_code == 404
    assert answers[0][-1] == ("error", {"status": 499, "detail": "Cancelled."})
    assert client.get("/medreasoner/inferences?image=case").json() == []


def test_a_client_that_leaves_stops_the_work() -> None:
    stopped = threading.Event()

    def work(emit, cancelled) -> None:
        emit("text", {"text": "a"})
        while not cancelled():
            threading.Event().wait(0.01)
        stopped.set()

    async def read_one_and_leave() -> None:
        events = RunningStreams().events(work, None)
        assert (await anext(events)).event == "accepted"
        assert (await anext(events)).event == "text"
        await events.aclose()
        assert await asyncio.to_thread(stopped.wait, WAIT_S)

    asyncio.run(read_one_and_leave())


# --- encodings -----------------------------------------------------------------------------------


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3), elements=st.integers(0, 1)))
def test_runs_unpack_to_the_mask(mask) -> None:
    runs = mask_runs(mask)
    values = np.repeat(np.arange(len(runs)) % 2, runs)
    np.testing.assert_array_equal(values.reshape(mask.shape, order="F"), mask)


def test_runs_start_with_zeros_and_i_varies_fastest() -> None:
    mask = np.zeros((3, 2, 1), np.uint8)
    mask[0, 0, 0] = mask[2, 0, 0] = mask[0, 1, 0] = 1
    assert mask_runs(mask) == [0, 1, 1, 2, 2]


@given(st.data())
def test_the_reasoning_is_the_same_however_it_is_cut(data) -> None:
    text = '<think>a < b, so the liver</think>\n<answer>{"bbox": []}</answer>'
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    reasoning = ReasoningText()
    bounds = zip([0, *cuts], [*cuts, len(text)], strict=True)
    shown = "".join(reasoning.feed(text[start:end]) for start, end in bounds)
    assert shown.strip() == "a < b, so the liver"
