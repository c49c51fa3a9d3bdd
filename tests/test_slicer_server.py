# SPDX-License-Identifier: Apache-2.0
"""3D Slicer's module, all but its window, against the running server; and the stock module's calls.

A stand-in for Slicer's scene reads and writes images by SimpleITK, as Slicer does by ITK.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("monailabel")

from MedReasonerLib.client import Server, ServerImage, Target
from MedReasonerLib.doubt import describe_doubt
from MedReasonerLib.errors import ViewerError
from MedReasonerLib.geometry import Grid, Roi, ras_lps
from MedReasonerLib.panel import Panel
from MedReasonerLib.state import Phase, State
from MedReasonerLib.viewer import Prompts, Segment, ShownVolume
from MedReasonerLib.words import describe_answer
from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 900.0
WAIT_S = 300.0
TOKEN = "0f1e2d3c4b5a69788796a5b4"  # pragma: allowlist secret - made up
QUERY = "Which organ makes bile and fills the right upper abdomen?"
IMAGE_ID, OTHER_ID = "case", "other"
LIVER_K = 14
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Running:
    """The server, its studies and what it has logged."""

    url: str
    studies: Path
    log: Path

    def get(self, path: str, **query: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx.get(self.url + path, params=query, headers=headers, timeout=60)

    def record(self, inference_id: str) -> dict:
        return self.get(f"/medreasoner/inferences/{inference_id}").json()


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Running]:
    """``medreasoner serve`` on two phantom CTs, with a login."""
    folder = tmp_path_factory.mktemp("slicer")
    studies, log, tokens = folder / "studies", folder / "log", folder / "tokens"
    studies.mkdir()
    for image_id in (IMAGE_ID, OTHER_ID):
        write_phantom(studies / f"{image_id}.nii.gz")
    tokens.write_text(f"ann:{TOKEN}\n")
    tokens.chmod(0o600)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MEDREASONER_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    environment |= {"MONAI_LABEL_SESSION_PATH": str(folder / "sessions")}
    command = [sys.executable, "-m", "monailabel_app.cli", "serve", "--studies", str(studies)]
    command += ["--port", str(port), "--token-file", str(tokens)]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(url) or process.poll() is not None, START_TIMEOUT_S)
        assert process.poll() is None, log.read_text()[-3000:]
        yield Running(url, studies, log)
    finally:
        process.terminate()
        process.wait(60)


def write_phantom(path: Path) -> None:
    """A CT that lies obliquely, stored as scanners do, 4 x 4 x 20 mm."""
    from medreasoner_training.embedded.phantom import torso_ct

    study = torso_ct(3, spacing_mm=(4.0, 4.0, 20.0), matrix=96)
    c, s = np.cos(0.12), np.sin(0.12)
    turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    voxels = np.ascontiguousarray(study.hu.transpose(2, 1, 0).astype(np.int16))
    nibabel.save(nibabel.Nifti1Image(voxels, FLIP @ turn @ study.ijk_to_lps), path)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/auth/", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


class ItkScene:
    """Slicer's scene with one volume, which it reads, writes and describes by SimpleITK."""

    def __init__(self) -> None:
        self.image: sitk.Image | None = None
        self.image_id: str | None = None
        self.k = LIVER_K
        self.prompts: Prompts | None = None
        self.masks_ijk: dict[str, np.ndarray] = {}
        self.masks: list[int] = []
        self.names: dict[str, str] = {}
        self.jumped: np.ndarray | None = None
        self.agreement: np.ndarray | None = None

    @property
    def volume(self) -> ShownVolume | None:
        if self.image is None:
            return None
        key = f"{self.image_id}{self.image.GetOrigin()}"
        return ShownVolume(key, Grid.from_ras(self.image.GetSize(), self.ijk_to_ras), self.image_id)

    @property
    def ijk_to_ras(self) -> np.ndarray:
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(self.image.GetDirection(), (3, 3)) * self.image.GetSpacing()
        affine[:3, 3] = self.image.GetOrigin()
        return FLIP @ affine

    @property
    def slice_to_ras(self) -> np.ndarray:
        """The red view, through the middle of the k-th slice."""
        i, j, _ = self.image.GetSize()
        centre = self.image.TransformContinuousIndexToPhysicalPoint((i / 2, j / 2, float(self.k)))
        matrix = np.diag([-1.0, 1.0, 1.0, 1.0])
        matrix[:3, 3] = np.multiply(centre, (-1, -1, 1))
        return matrix

    def jump_to(self, position_ras_mm: np.ndarray) -> None:
        self.jumped = position_ras_mm

    def show_prompts(self, prompts: Prompts | None) -> None:
        self.prompts = prompts

    def read_prompts(self) -> Prompts:
        return self.prompts or Prompts(None, np.zeros((0, 3)), np.zeros((0, 3)))

    def has_segment(self, segment: Segment) -> bool:
        return segment.key in self.masks_ijk

    def read_segment(self, segment: Segment) -> Segment:
        return replace(segment, name=self.names.get(segment.key, segment.name))

    def show_mask(self, segment: Segment, values_ijk: np.ndarray) -> None:
        self.masks_ijk[segment.key] = values_ijk.copy()
        self.masks.append(int(values_ijk.sum()))

    def show_agreement(self, per_cent_ijk: np.ndarray | None) -> None:
        self.agreement = None if per_cent_ijk is None else per_cent_ijk.copy()

    def read_mask(self, segment: Segment) -> np.ndarray:
        if not self.masks_ijk[segment.key].any():
            raise ViewerError("The segment is empty.")
        return self.masks_ijk[segment.key]

    def save_volume(self, path: Path) -> None:
        sitk.WriteImage(self.image, str(path))

    def load_volume(self, path: Path, image_id: str, name: str) -> None:
        self.image, self.image_id = sitk.ReadImage(str(path)), image_id


class Reader:
    """Somebody at the module: acts, then polls as the window's timer does."""

    def __init__(self, url: str, token: str = TOKEN) -> None:
        self.scene, self.states = ItkScene(), []
        self.panel = Panel(self.scene, lambda: self.states.append(self.panel.state))
        self.panel.connect(Server(url, token))

    @property
    def state(self) -> State:
        return self.panel.state

    @property
    def mask_ijk(self) -> np.ndarray:
        """Of the target that is shown."""
        return self.scene.masks_ijk[self.state.segment.key]

    def until(self, condition: Callable[[], bool]) -> None:
        def polled() -> bool:
            self.panel.poll()
            return condition()

        wait_for(polled)

    def until_settled(self) -> State:
        self.until(lambda: self.state.phase is not Phase.WORKING)
        return self.state

    def load(self) -> None:
        self.until(lambda: bool(self.panel.images) or bool(self.state.error))
        (image,) = (image for image in self.panel.images if image.image_id == IMAGE_ID)
        self.panel.load(image)
        self.until(lambda: self.scene.image is not None)

    def ask(self, *, propagate: bool = False, samples: int = 1) -> State:
        self.states.clear()
        self.panel.ask(QUERY, propagate=propagate, samples=samples)
        return self.until_settled()

    def until_decided(self, decision: str) -> None:
        self.until(lambda: self.state.decision == decision or bool(self.state.error))
        assert self.state.error == ""


@pytest.fixture
def reader(running) -> Iterator[Reader]:
    """Connected, with the server's image loaded."""
    reader = Reader(running.url)
    reader.load()
    yield reader
    reader.panel.close()


# --- connecting ----------------------------------------------------------------------------------


def test_the_servers_images_are_listed_and_loaded_as_they_are(reader, running) -> None:
    listed = {image.image_id: image for image in reader.panel.images}
    assert listed[IMAGE_ID] == ServerImage(IMAGE_ID, f"{IMAGE_ID}.nii.gz")
    original = sitk.ReadImage(str(running.studies / f"{IMAGE_ID}.nii.gz"))
    assert reader.scene.image.GetSize() == original.GetSize()
    np.testing.assert_allclose(reader.scene.image.GetDirection(), original.GetDirection())


@pytest.mark.parametrize("token", ["", "wrong-but-long-enough-token"])
def test_without_the_token_a_sentence_says_so(running, token) -> None:
    reader = Reader(running.url, token)
    reader.until(lambda: bool(reader.state.error))
    assert "wants a login" in reader.state.error
    assert reader.panel.images == ()


def test_an_action_that_comes_too_early_is_told_why(running) -> None:
    panel = Panel(ItkScene(), lambda: None)
    for act, said in (
        (lambda: panel.ask(" ", propagate=False), "Type a question"),
        (lambda: panel.ask(QUERY, propagate=False), "Connect to the server"),
        (panel.cancel, "Connect to the server"),
        (panel.jump, "No volume is chosen"),
        (lambda: panel.reject(""), "Say why"),
    ):
        act()
        assert said in panel.state.error


# --- a question ----------------------------------------------------------------------------------


def test_a_question_is_answered_on_the_slice_of_the_view_and_through_the_volume(
    reader, running
) -> None:
    state = reader.ask(propagate=True)
    assert (state.phase, state.error) == (Phase.ANSWERED, "")
    assert (state.answer["slice"]["plane"], state.answer["slice"]["index"]) == ("axial", LIVER_K)
    assert state.answer["present"]
    # The reasoning grew while nothing else was known.
    written = [s.reasoning for s in reader.states if s.answer is None and s.reasoning]
    assert len(set(written)) > 2
    assert state.reasoning.startswith(written[0])
    record = running.record(state.inference_id)
    assert record["result"]["query"] == QUERY
    assert_mask_is_the_servers(reader, running)
    # Cleared when asked and when answered, then the slice's, then the volume's.
    on_slice, through = reader.scene.masks[-2:]
    assert reader.scene.masks[:-2] == []
    assert 0 < on_slice < through


def test_a_list_is_asked_one_by_one_each_with_its_segment(reader, running) -> None:
    reader.states.clear()
    reader.panel.ask("Segment liver and spleen", propagate=False)
    asked = ["Segment liver", "Segment spleen"]

    def recorded() -> dict[str, str]:
        answered = (s for s in reader.states if s.phase is Phase.ANSWERED)
        return {s.question: s.inference_id for s in answered if s.question in asked}

    reader.until(lambda: len(recorded()) == 2 or bool(reader.state.error))
    assert reader.state.error == ""
    assert list(recorded()) == asked
    for question, inference_id in recorded().items():
        assert running.record(inference_id)["result"]["query"] == question
    shown = {state.segment.key for state in reader.states if state.question in asked}
    assert len(shown) == 2


def assert_mask_is_the_servers(reader: Reader, running: Running) -> None:
    """The file that the server keeps, placed in the patient by ITK on the scene's volume."""
    path = running.log.parent / "mask.nii.gz"
    answer = running.get(f"/medreasoner/inferences/{reader.state.inference_id}/mask")
    path.write_bytes(answer.content)
    mask = sitk.Resample(
        sitk.ReadImage(str(path)), reader.scene.image, sitk.Transform(), sitk.sitkNearestNeighbor
    )
    expected = sitk.GetArrayFromImage(mask).transpose(2, 1, 0)
    np.testing.assert_array_equal(reader.mask_ijk, expected)


def test_box_and_points_lie_where_the_answer_puts_them(reader) -> None:
    answer = reader.ask().answer
    image, box = reader.scene.image, reader.scene.prompts.box
    corners = np.array(answer["prompts"]["bbox_corners_ijk"])
    centre = image.TransformContinuousIndexToPhysicalPoint(corners.mean(axis=0).tolist())
    np.testing.assert_allclose(box.centre_ras_mm, np.multiply(centre, (-1, -1, 1)), atol=1e-3)
    extent = np.ptp(corners, axis=0) * image.GetSpacing()
    np.testing.assert_allclose(box.size_mm, (*extent[:2], image.GetSpacing()[2]), atol=1e-3)
    points = np.array(answer["prompts"]["points_ijk"])
    shown = reader.scene.prompts.inside_ras_mm * (-1, -1, 1)
    found = [image.TransformPhysicalPointToContinuousIndex(point.tolist()) for point in shown]
    np.testing.assert_allclose(found, points, atol=1e-3)
    reader.panel.jump()
    position = reader.scene.jumped * (-1, -1, 1)
    k = image.TransformPhysicalPointToContinuousIndex(position.tolist())[2]
    assert k == pytest.approx(LIVER_K, abs=1e-3)


def test_an_earlier_question_is_listed_and_shown_again_with_its_mask(reader, running) -> None:
    asked = reader.ask()
    reader.until(lambda: asked.inference_id in {r["inference_id"] for r in reader.state.history})
    later = Reader(running.url)
    later.load()
    later.until(lambda: bool(later.state.history))
    latest = later.state.history[0]
    assert latest["inference_id"] == asked.inference_id
    later.panel.show(latest)
    later.until(lambda: later.scene.jumped is not None)
    assert (later.state.question, later.state.reasoning) == (QUERY, asked.reasoning)
    np.testing.assert_array_equal(later.mask_ijk, reader.mask_ijk)
    np.testing.assert_allclose(
        later.scene.prompts.box.centre_ras_mm, reader.scene.prompts.box.centre_ras_mm
    )


def test_of_several_answers_the_map_is_drawn_and_again_when_the_question_is_shown_again(
    reader, running
) -> None:
    asked = reader.ask(samples=2)
    doubt = running.record(asked.inference_id)["result"]["doubt"]
    assert asked.doubt.told["named"] == doubt["named"]
    assert describe_doubt(asked.doubt.told)[0].text.startswith(f"{doubt['named'][0]['count']} of")
    assert reader.scene.agreement is None
    reader.panel.draw_agreement(True)
    drawn = reader.scene.agreement
    assert drawn.max() <= 100
    # The answer is one of the readings.
    assert (drawn[reader.mask_ijk > 0] >= 100 // doubt["readings"]).all()
    reader.panel.draw_agreement(False)
    assert reader.scene.agreement is None
    later = Reader(running.url)
    later.load()
    later.until(lambda: bool(later.state.history))
    later.panel.show(later.state.history[0])
    later.until(lambda: later.scene.jumped is not None)
    assert later.state.inference_id == asked.inference_id
    later.panel.draw_agreement(True)
    np.testing.assert_array_equal(later.scene.agreement, drawn)
    later.panel.close()


def test_a_question_that_is_cancelled_leaves_no_record(reader, running) -> None:
    def recorded() -> int:
        return len(running.get("/medreasoner/inferences", image=IMAGE_ID).json())

    before = recorded()
    reader.panel.ask(QUERY, propagate=True)
    reader.until(lambda: reader.state.stream_id is not None)
    reader.panel.cancel()
    state = reader.until_settled()
    assert (state.phase, state.error, state.inference_id) == (Phase.IDLE, "", None)
    assert recorded() == before


# --- corrections and decisions -------------------------------------------------------------------


def test_a_box_of_the_readers_own_is_segmented_without_reasoning_and_submitted(
    reader, running
) -> None:
    asked = reader.ask()
    box = reader.scene.prompts.box
    smaller = Roi(box.centre_ras_mm, box.axes, box.size_mm * (0.5, 0.5, 1.0))
    reader.scene.prompts = Prompts(smaller, np.zeros((0, 3)), np.zeros((0, 3)))
    reader.panel.correct(propagate=False)
    state = reader.until_settled()
    assert (state.phase, state.error, state.inference_id) == (
        Phase.ANSWERED, "", asked.inference_id,
    )  # fmt: skip
    assert state.answer["prompts"]["bbox_source"] == "reader"
    sent = np.ptp(np.array(asked.answer["prompts"]["bbox_corners_ijk"]), axis=0)
    used = np.ptp(np.array(state.answer["prompts"]["bbox_corners_ijk"]), axis=0)
    np.testing.assert_allclose(used, sent / 2, atol=1e-3)
    edited = reader.mask_ijk.copy()
    edited[:5, :5, 2] = 1
    reader.scene.masks_ijk[state.segment.key] = edited
    reader.panel.submit()
    reader.until_decided("edited")
    record = running.record(asked.inference_id)
    assert record["decision"]["outcome"] == "edited"
    assert record["decision"]["reader"] == "ann"
    stored = sitk.ReadImage(str(next((running.studies / "labels" / "final").glob("case*"))))
    assert stored.GetSize() == reader.scene.image.GetSize()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(stored).transpose(2, 1, 0), edited)
    np.testing.assert_allclose(stored.GetOrigin(), reader.scene.image.GetOrigin(), atol=1e-3)


def test_a_new_point_outside_takes_away_of_the_segment_and_adds_nothing(reader) -> None:
    asked = reader.ask()
    painted = reader.mask_ijk.copy()
    painted[:3, :3, 2] = 1
    reader.scene.masks_ijk[reader.state.segment.key] = painted
    slice_k = int(np.round(asked.answer["prompts"]["points_ijk"][0][2]))
    place = np.argwhere(painted[..., slice_k])[0]
    grid, prompts = reader.scene.volume.grid, reader.scene.prompts
    point_ras = ras_lps(grid.to_lps(np.array([[*place, slice_k]], float)))
    reader.scene.prompts = Prompts(prompts.box, prompts.inside_ras_mm, point_ras)
    reader.panel.correct(propagate=False)
    state = reader.until_settled()
    assert state.error == ""
    assert state.answer["prompts"]["point_sources"][-1] == "reader"
    assert state.answer["prompts"]["bbox_source"] == "reasoner"
    left = reader.mask_ijk
    assert left[(*place, slice_k)] == 0
    assert not (left > painted).any()
    assert (left == painted)[..., [k for k in range(left.shape[2]) if k != slice_k]].all()


def test_a_lasso_takes_away_exactly_what_is_within_it_and_can_be_undone(reader) -> None:
    reader.ask()
    answered = reader.mask_ijk.copy()
    slice_k = int(reader.state.answer["slice"]["index"])
    i, j = np.argwhere(answered[..., slice_k]).mean(axis=0).round().astype(int)
    corners = [(i - 3.5, j - 2.5), (i + 3.5, j - 2.5), (i + 3.5, j + 2.5), (i - 3.5, j + 2.5)]
    grid, prompts = reader.scene.volume.grid, reader.scene.prompts
    curve = ras_lps(grid.to_lps(np.array([(*corner, slice_k) for corner in corners])))
    reader.scene.prompts = replace(prompts, lasso_outside_ras_mm=curve)
    reader.panel.correct(propagate=False)
    state = reader.until_settled()
    assert state.error == ""
    expected = answered.copy()
    expected[i - 3 : i + 4, j - 2 : j + 3, slice_k] = 0
    np.testing.assert_array_equal(reader.mask_ijk, expected)
    assert len(reader.scene.prompts.lasso_outside_ras_mm) == 0
    reader.panel.undo()
    np.testing.assert_array_equal(reader.mask_ijk, answered)
    reader.panel.redo()
    np.testing.assert_array_equal(reader.mask_ijk, expected)
    reader.panel.reset()
    np.testing.assert_array_equal(reader.mask_ijk, answered)
    reader.panel.undo()
    np.testing.assert_array_equal(reader.mask_ijk, expected)


def test_a_follow_up_tells_the_server_what_it_goes_on_from(reader, running) -> None:
    asked = reader.ask()
    reader.scene.names[asked.segment.key] = "my liver"
    reader.panel.ask("Segment the spleen", propagate=False, follow_up=True)
    state = reader.until_settled()
    assert state.error == ""
    follow_up = running.record(state.inference_id)["result"]["follow_up"]
    prompts = asked.answer["prompts"]
    assert follow_up["target"]["name"] == "my liver"
    assert follow_up["target"]["index"] == asked.answer["slice"]["index"]
    np.testing.assert_allclose(
        follow_up["target"]["bbox_xyxy_slice_px"], prompts["bbox_xyxy_slice_px"]
    )
    assert follow_up["used"] is False
    assert any("follow" in line.text for line in describe_answer(state.answer) if line.alert)


def test_there_is_nothing_to_follow_up_on_before_an_answer(reader) -> None:
    reader.panel.ask("Its left lobe?", propagate=False, follow_up=True)
    assert reader.state.error != ""


def test_an_accepted_answer_is_submitted_as_it_was(reader, running) -> None:
    asked = reader.ask()
    inference = asked.inference_id
    reader.scene.names[asked.segment.key] = "liver, right lobe"
    reader.panel.accept()
    reader.until_decided("accepted")
    record = running.record(inference)
    assert record["decision"]["outcome"] == "accepted"
    assert [label["tag"] for label in record["labels"]] == ["final"]
    info = running.get("/datastore/", output="all").json()["objects"][IMAGE_ID]
    (segment,) = info["labels"]["final"]["info"]["label_info"]
    assert (segment["name"], segment["color"]) == (
        "liver, right lobe", [round(255 * value) for value in asked.segment.rgb],
    )  # fmt: skip


def test_an_answer_that_was_painted_over_is_not_accepted_as_it_was_answered(
    reader, running
) -> None:
    inference = reader.ask().inference_id
    painted = reader.mask_ijk.copy()
    painted[:3, :3, 1] = 1
    reader.scene.masks_ijk[reader.state.segment.key] = painted
    reader.panel.accept()
    reader.until_decided("edited")
    stored = sitk.ReadImage(str(next((running.studies / "labels" / "final").glob("case*"))))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(stored).transpose(2, 1, 0), painted)
    assert running.record(inference)["decision"]["outcome"] == "edited"


def test_an_answer_whose_segment_was_emptied_is_not_submitted(reader) -> None:
    key = reader.ask().segment.key
    reader.scene.masks_ijk[key] = np.zeros_like(reader.mask_ijk)
    reader.panel.accept()
    assert "segment is empty" in reader.state.error
    assert reader.state.decision is None


def test_the_next_question_leaves_the_earlier_target_as_the_reader_left_it(reader) -> None:
    first = reader.ask()
    painted = reader.mask_ijk.copy()
    painted[:3, :3, 1] = 1
    reader.scene.masks_ijk[first.segment.key] = painted
    second = reader.ask()
    assert second.segment.key != first.segment.key
    assert second.segment.rgb != first.segment.rgb
    np.testing.assert_array_equal(reader.scene.masks_ijk[first.segment.key], painted)
    reader.until(lambda: first.inference_id in {r["inference_id"] for r in reader.state.history})
    (record,) = (r for r in reader.state.history if r["inference_id"] == first.inference_id)
    reader.panel.show(record)
    reader.until(lambda: reader.state.inference_id == first.inference_id)
    np.testing.assert_array_equal(reader.mask_ijk, painted)
    reader.panel.reset()
    assert not reader.mask_ijk[:3, :3, 1].all()


def test_a_rejected_answer_says_why(reader, running) -> None:
    inference = reader.ask().inference_id
    reader.panel.reject(" It is the spleen. ")
    reader.until_decided("rejected")
    assert running.record(inference)["decision"]["reason"] == "It is the spleen."


# --- a volume that the server has not ------------------------------------------------------------


@pytest.fixture
def stranger(running) -> Reader:
    """A reader whose volume lies on the reader's machine only, with axes in another order."""
    reader = Reader(running.url)
    image = sitk.ReadImage(str(running.studies / f"{IMAGE_ID}.nii.gz"))
    reader.scene.image = sitk.Flip(image, [True, False, False])
    reader.until(lambda: bool(reader.panel.images))
    return reader


def test_a_volume_of_the_readers_own_is_sent_once_and_asked_about(stranger, running) -> None:
    state = stranger.ask()
    assert (state.phase, state.error) == (Phase.ANSWERED, "")
    assert state.answer["slice"]["index"] == LIVER_K
    assert_mask_is_the_servers(stranger, running)
    (sent,) = stranger.panel._link.sessions.values()
    assert stranger.ask().phase is Phase.ANSWERED
    assert list(stranger.panel._link.sessions.values()) == [sent]
    assert running.record(state.inference_id)["image_id"] is None


def test_of_such_a_volume_the_decision_is_kept_and_a_label_is_refused(stranger, running) -> None:
    inference = stranger.ask().inference_id
    stranger.panel.submit()
    assert "do not hold this volume" in stranger.state.error
    stranger.panel.accept()
    stranger.until_decided("accepted")
    record = running.record(inference)
    assert (record["decision"]["outcome"], record["labels"]) == ("accepted", [])


def test_a_session_that_is_over_is_told_and_opened_anew(stranger) -> None:
    stranger.ask()
    link = stranger.panel._link
    (session,) = link.sessions.values()
    link.client._json("DELETE", f"/session/{session}")
    assert "session" in stranger.ask().error
    assert stranger.ask().phase is Phase.ANSWERED


def test_a_session_of_nobody_is_not_found(stranger) -> None:
    from MedReasonerLib.errors import NotFoundError

    with pytest.raises(NotFoundError):
        stranger.panel._link.client.ask(Target(session_id="nobody"), {"query": QUERY})


# --- the stock module of MONAI Label -------------------------------------------------------------


@pytest.fixture
def stock(running, tmp_path) -> MONAILabelClient:
    """As the stock module makes it: logged in by its dialog, if the server wants it."""
    client = MONAILabelClient(running.url, tmpdir=str(tmp_path), client_id="user-xyz")
    assert client.auth_enabled()
    client.update_auth(client.auth_token("ann", TOKEN))
    assert client.auth_valid_token()
    return client


def options(info: dict, model: str) -> dict:
    """What the stock module sends of a model's options: all of them, of a choice the first."""
    config = info["models"][model]["config"]
    return {key: value[0] if isinstance(value, list) else value for key, value in config.items()}


def test_the_stock_module_asks_clicks_and_submits(stock, running, tmp_path) -> None:
    info = stock.info()
    sample = stock.next_sample("random", {})
    assert sample["id"] in (IMAGE_ID, OTHER_ID)
    download = running.get("/datastore/image", image=sample["id"])
    (tmp_path / "sample.nii.gz").write_bytes(download.content)
    volume = sitk.ReadImage(str(tmp_path / "sample.nii.gz"))
    with pytest.raises(MONAILabelClientException):
        stock.download_label(sample["id"], "original")  # there is none; the module goes on

    params = {**options(info, "medreasoner"), "query": QUERY, "slice": LIVER_K}
    mask, reply = stock.infer("medreasoner", sample["id"], params)
    assert reply["label_names"] == {"MedReasoner target": 1}
    assert sitk.ReadImage(mask).GetSize() == volume.GetSize()

    i, j, k = (int(v) for v in np.mean(reply["medreasoner"]["prompts"]["points_ijk"], axis=0))
    params = {
        "label": "MedReasoner target", "foreground": [[i, j, k]], "background": [],
        **options(info, "medreasoner_click"),
    }  # fmt: skip
    mask, clicked = stock.infer("medreasoner_click", sample["id"], params)
    values = sitk.GetArrayFromImage(sitk.ReadImage(mask))
    assert set(np.nonzero(values)[0]) == {k}
    assert clicked["medreasoner"]["kind"] == "segment"

    label_info = [{"name": "MedReasoner target", "idx": 1}]
    saved = stock.save_label(sample["id"], mask, "final", {"label_info": label_info})
    assert saved["medreasoner"]["inference_id"] == clicked["inference_id"]
    assert stock.info()["datastore"]["completed"] == info["datastore"]["completed"] + 1
    assert stock.train_status(check_if_running=True) is False


def test_the_stock_module_keeps_an_unknown_volume_in_a_session(stock, running, tmp_path) -> None:
    info, volume = stock.info(), tmp_path / "volume.nii.gz"
    volume.write_bytes((running.studies / f"{IMAGE_ID}.nii.gz").read_bytes())
    session = stock.create_session(str(volume))["session_id"]
    assert stock.get_session(session)["name"] == session
    params = {**options(info, "medreasoner"), "query": QUERY, "slice": LIVER_K}
    mask, reply = stock.infer("medreasoner", "MyVolume", params, session_id=session)
    assert reply["medreasoner"]["slice"]["index"] == LIVER_K
    # Submitting, it first adds the volume to the studies, under the name that it has in Slicer.
    assert stock.upload_image(str(volume), "MyVolume")["image"] == "MyVolume"
    assert stock.save_label("MyVolume", mask, "final", {"label_info": []})["label"] == "MyVolume"
    stock.remove_session(session)
    with pytest.raises(MONAILabelClientException):
        stock.get_session(session)


def test_the_stock_module_shows_its_user_the_sentence_of_a_fault(stock) -> None:
    with pytest.raises(MONAILabelClientException) as refused:
        stock.infer("medreasoner", IMAGE_ID, {"query": ""})
    assert "question is missing" in refused.value.msg


# --- after all that ------------------------------------------------------------------------------


def test_neither_question_nor_token_is_in_the_log(running) -> None:
    log = running.log.read_text()
    assert len(log) > 1000
    assert "bile" not in log
    assert TOKEN not in log
    assert json.dumps(QUERY) not in log
