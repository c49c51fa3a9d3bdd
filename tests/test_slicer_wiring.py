# SPDX-License-Identifier: Apache-2.0
"""3D Slicer's module with stand-ins for Slicer: that it loads, and that every button is wired.

The stand-ins record what they are told and know nothing of Slicer; whether Slicer does with it
what is meant can only be seen in Slicer (``MedReasonerTest`` there).
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from MedReasonerLib.client import ServerImage
from MedReasonerLib.errors import ViewerError
from MedReasonerLib.events import Event
from MedReasonerLib.geometry import Roi
from MedReasonerLib.state import Phase, State
from MedReasonerLib.viewer import Prompts, Segment

SEGMENT = Segment.of("a", "?", 0)


class Widget(MagicMock):
    """Takes anything; remembers its slots, and the text that it was made with."""

    Password = 2  # of QLineEdit.EchoMode

    def __init__(self, *made_with, **options) -> None:
        super().__init__()
        text = made_with[0] if made_with and isinstance(made_with[0], str) else ""
        object.__setattr__(self, "slots", {})
        self.text = self.plainText = text
        self.setPlainText = lambda value: setattr(self, "plainText", value)
        self.connect = self.slots.__setitem__
        self.items = []
        self.addItems, self.clear = self.items.extend, self.items.clear

    def _get_child_mock(self, **options):
        return MagicMock(**options)

    def emit(self, signal: str, *values) -> None:
        self.slots[signal](*values)


class Settings:
    """QSettings, which outlives the widgets."""

    stored: dict = {}  # noqa: RUF012 - shared on purpose, as Qt's are

    def value(self, key):
        return self.stored.get(key)

    def setValue(self, key, value):
        self.stored[key] = value


class Base:
    """Of the four classes that a scripted module derives from."""

    def __init__(self, parent=None) -> None:
        self.parent = parent
        self.layout = MagicMock()

    def setup(self) -> None:
        pass


@pytest.fixture
def slicer(monkeypatch):
    """Stand-ins for Slicer's Python modules; returns that of ``slicer``."""
    fakes = {name: MagicMock(name=name) for name in ("slicer", "qt", "ctk", "vtk")}
    names = ("QLineEdit", "QComboBox", "QPlainTextEdit", "QCheckBox", "QPushButton", "QLabel",
             "QListWidget", "QTimer", "QShortcut")  # fmt: skip
    for name in names:
        setattr(fakes["qt"], name, Widget)
    fakes["qt"].QSettings = Settings
    fakes["ctk"].ctkPathLineEdit = Widget
    fakes["slicer"].qMRMLNodeComboBox = fakes["slicer"].qSlicerMarkupsPlaceWidget = Widget
    scripted = ModuleType("slicer.ScriptedLoadableModule")
    for name in ("", "Logic", "Test", "Widget"):
        setattr(scripted, f"ScriptedLoadableModule{name}", type(f"Base{name}", (Base,), {}))
    Settings.stored.clear()
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setitem(sys.modules, "slicer.ScriptedLoadableModule", scripted)
    for name in ("MedReasoner", "MedReasonerLib.scene"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield fakes["slicer"]
    for name in ("MedReasoner", "MedReasonerLib.scene"):
        sys.modules.pop(name, None)


@pytest.fixture
def widget(slicer):
    """The widget, set up; its panel records what it is told and has no server."""
    made = importlib.import_module("MedReasoner").MedReasonerWidget()
    made.setup()
    real = made.panel
    made.panel = MagicMock(state=real.state, images=real.images)
    return made


def test_the_module_says_what_it_is(slicer) -> None:
    parent = SimpleNamespace()
    importlib.import_module("MedReasoner").MedReasoner(parent)
    assert parent.title == "MedReasoner"
    assert "Not for clinical use" in parent.helpText


def test_a_timer_of_the_window_polls_until_the_module_is_closed(slicer) -> None:
    made = importlib.import_module("MedReasoner").MedReasonerWidget()
    made.setup()
    assert made.timer.slots["timeout()"] == made.panel.poll
    made.timer.setInterval.assert_called_once_with(40)
    made.timer.start.assert_called_once_with()
    made.panel.close = MagicMock()
    made.cleanup()
    made.timer.stop.assert_called_once_with()
    made.panel.close.assert_called_once_with()


@pytest.mark.parametrize("name", ["cancel", "jump", "reset", "accept", "submit"])
def test_a_button_without_a_text_passes_its_click_on(widget, name) -> None:
    getattr(widget, f"{name}_button").emit("clicked()")
    getattr(widget.panel, name).assert_called_once_with()


def test_a_question_goes_with_its_choice_by_button_and_by_keys(widget) -> None:
    widget.question.plainText, widget.propagate.checked = "Which organ?", False
    widget.follow_up_button.checked = False
    widget.ask_button.emit("clicked()")
    widget.panel.ask.assert_called_once_with(
        "Which organ?", propagate=False, follow_up=False, samples=1
    )
    widget.correct_button.emit("clicked()")
    widget.panel.correct.assert_called_once_with(propagate=False)
    widget.reason.text = "Too large."
    widget.reject_button.emit("clicked()")
    widget.panel.reject.assert_called_once_with("Too large.")


def test_how_often_to_ask_and_the_map_are_the_readers_choice(widget) -> None:
    assert widget.times.items == ["once", "3 times", "5 times"]
    widget.times.currentText = "5 times"
    widget.ask_button.emit("clicked()")
    assert widget.panel.ask.call_args.kwargs["samples"] == 5
    widget.agreement_button.emit("toggled(bool)", True)
    widget.panel.draw_agreement.assert_called_once_with(True)
    widget.next_button.emit("clicked()")
    widget.previous_button.emit("clicked()")
    assert [call.args for call in widget.panel.go.call_args_list] == [(1,), (-1,)]


def test_a_follow_up_is_the_readers_choice_for_one_question(widget) -> None:
    widget.question.plainText, widget.propagate.checked = "Its left lobe?", False
    widget.follow_up_button.checked = True
    widget.ask_button.emit("clicked()")
    widget.ask_button.emit("clicked()")
    told = [call.kwargs["follow_up"] for call in widget.panel.ask.call_args_list]
    assert told == [True, False]


def test_the_address_is_remembered_and_the_token_is_not(widget) -> None:
    widget.address.text, widget.token.text = "https://reading.room:8000", "0123456789abcdef"
    widget.certificates.currentPath = ""
    widget.connect_button.emit("clicked()")
    (server,) = widget.panel.connect.call_args.args
    assert (server.address, server.token) == ("https://reading.room:8000", "0123456789abcdef")
    assert Settings.stored == {"MedReasoner/address": "https://reading.room:8000"}


def test_images_and_earlier_questions_are_listed_and_chosen(widget) -> None:
    widget.panel.images = (ServerImage("a", "Liver"), ServerImage("b", "Head"))
    record = {
        "result": {"query": "Which organ?"}, "present": True, "inference_id": "i",
        "created_at": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    widget.panel.state = State(history=(record,))
    widget.render()
    assert widget.images.items == ["Liver", "Head"]
    assert widget.history.items[0].startswith("Which organ? (open")
    widget.images.currentIndex, widget.history.currentRow = 1, 0
    widget.load_button.emit("clicked()")
    widget.panel.load.assert_called_once_with(ServerImage("b", "Head"))
    widget.show_button.emit("clicked()")
    widget.panel.show.assert_called_once_with(record)
    widget.render()
    assert widget.images.items == ["Liver", "Head"], "a list that did not change is left alone"


def test_volume_and_view_reach_the_scene(widget) -> None:
    widget.volumes.emit("currentNodeChanged(vtkMRMLNode*)", SimpleNamespace(GetID=lambda: "v1"))
    assert widget.scene.volume_node_id == "v1"
    widget.panel.follow.assert_called_once_with()
    widget.views.emit("currentTextChanged(QString)", "Green")
    assert widget.scene.view == "Green"
    widget.volumes.emit("currentNodeChanged(vtkMRMLNode*)", None)
    assert widget.scene.volume_node_id is None


def test_every_button_is_enabled_as_the_state_allows(widget) -> None:
    for state in (State(), State(phase=Phase.WORKING, stream_id="s"), State(inference_id="i")):
        widget.panel.state = state
        widget.render()
        shown = {name: getattr(widget, f"{name}_button").enabled for name in state.may}
        assert shown == dict(state.may)


def test_what_a_model_writes_is_shown_as_text_only(widget) -> None:
    answer = {
        "present": False, "reasoning": "<b>x</b>", "warnings": ["<img src=x>"],
        "slice_choice": {"explanation": "As asked."}, "slice": {"plane": "axial"},
    }  # fmt: skip
    widget.panel.state = State().asked("?", "v", SEGMENT, "Tilted.").heard(Event("answer", answer))
    widget.render()
    assert widget.reasoning.plainText == "<b>x</b>"
    assert widget.alerts.text.splitlines()[0] == "Tilted."
    assert "<img src=x>" in widget.alerts.text
    assert widget.facts.text == "As asked."
    plain = sys.modules["qt"].Qt.PlainText
    for label in (widget.status, widget.error, widget.facts, widget.alerts):
        label.setTextFormat.assert_called_once_with(plain)


# --- the scene -----------------------------------------------------------------------------------

IJK_TO_RAS = np.diag([-2.0, -1.5, 3.0, 1.0])


@pytest.fixture
def scene(slicer):
    """The scene with a chosen volume of 3 x 4 x 5 voxels that no transform moves."""
    made = importlib.import_module("MedReasonerLib.scene").Scene()
    node = MagicMock()
    node.GetID.return_value = "v1"
    node.GetImageData().GetDimensions.return_value = (3, 4, 5)
    node.GetParentTransformNode.return_value = None
    node.GetAttribute.side_effect = {"DICOM.instanceUIDs": "1.2 1.3"}.get
    slicer.mrmlScene.GetNodeByID.return_value = node
    slicer.util.arrayFromVTKMatrix.return_value = IJK_TO_RAS
    slicer.dicomDatabase.instanceValue.side_effect = lambda uid, tag: f"{uid}/{tag}"
    made.volume_node_id = "v1"
    return made


def test_the_volume_is_described_in_lps_with_its_series(scene) -> None:
    volume = scene.volume
    assert (volume.image_id, volume.series_uid) == (None, "1.2/0020,000e")
    assert volume.grid.shape_ijk == (3, 4, 5)
    np.testing.assert_array_equal(volume.grid.ijk_to_lps, np.diag([2.0, 1.5, 3.0, 1.0]))


def test_a_volume_that_a_transform_moves_is_refused(scene, slicer) -> None:
    slicer.mrmlScene.GetNodeByID("v1").GetParentTransformNode.return_value = MagicMock()
    with pytest.raises(ViewerError, match="transform"):
        _ = scene.volume


def test_a_mask_goes_in_and_out_with_the_axes_turned_as_slicer_has_them(scene, slicer) -> None:
    mask = np.arange(60).reshape(3, 4, 5) % 2
    scene.show_mask(SEGMENT, mask)
    values, _, segment, volume = slicer.util.updateSegmentBinaryLabelmapFromArray.call_args.args
    assert (values.shape, values.flags.c_contiguous) == ((5, 4, 3), True)
    assert values[4, 3, 2] == mask[2, 3, 4]
    assert (segment, volume) == ("medreasoner-a", slicer.mrmlScene.GetNodeByID("v1"))
    slicer.util.arrayFromSegmentBinaryLabelmap.return_value = values
    np.testing.assert_array_equal(scene.read_mask(SEGMENT), mask)


def test_an_empty_segment_is_said_in_a_sentence(scene, slicer) -> None:
    slicer.util.arrayFromSegmentBinaryLabelmap.side_effect = RuntimeError("export failed")
    with pytest.raises(ViewerError, match="segment is empty"):
        scene.read_mask(SEGMENT)
    slicer.util.arrayFromSegmentBinaryLabelmap.side_effect = None
    slicer.util.arrayFromSegmentBinaryLabelmap.return_value = np.zeros((5, 4, 3), np.uint8)
    with pytest.raises(ViewerError, match="segment is empty"):
        scene.read_mask(SEGMENT)


def test_what_slicer_cannot_do_is_said_and_does_not_reach_its_timer(scene, slicer) -> None:
    slicer.util.updateSegmentBinaryLabelmapFromArray.side_effect = RuntimeError("no memory")
    with pytest.raises(ViewerError, match="could not show the mask"):
        scene.show_mask(SEGMENT, np.ones((3, 4, 5), np.uint8))
    slicer.util.loadVolume.side_effect = RuntimeError("no reader")
    with pytest.raises(ViewerError, match="cannot read this image"):
        scene.load_volume(Path("x.nii.gz"), "x", "x")


class Node:
    """A node with attributes and references; a new one may have the id of one that is gone."""

    def __init__(self, kind: str, node_id: str) -> None:
        self.kind, self.node_id = kind, node_id
        self.attributes, self.references, self.points = {}, {}, 0

    def __getattr__(self, name):
        return MagicMock()

    def GetID(self):
        return self.node_id

    def GetAttribute(self, name):
        return self.attributes.get(name)

    def SetAttribute(self, name, value):
        self.attributes[name] = value

    def GetNodeReferenceID(self, role):
        return self.references.get(role)

    def SetNodeReferenceID(self, role, node_id):
        self.references[role] = node_id

    def GetNumberOfControlPoints(self):
        return self.points

    def RemoveAllControlPoints(self):
        self.points = 0


@pytest.fixture
def nodes(slicer):
    """The scene's nodes, which the stand-ins look up; clear them to close the scene."""
    known = []

    def add(kind, name=""):
        known.append(Node(kind, f"{kind}{sum(node.kind == kind for node in known) + 1}"))
        return known[-1]

    slicer.mrmlScene.AddNewNodeByClass.side_effect = add
    slicer.mrmlScene.GetNodeByID.side_effect = lambda node_id: next(
        (node for node in known if node.node_id == node_id), None
    )
    slicer.util.getNodesByClass.side_effect = lambda kind: [n for n in known if n.kind == kind]
    slicer.util.arrayFromVTKMatrix.return_value = IJK_TO_RAS
    return known


def test_points_of_the_readers_own_are_not_touched_after_the_scene_was_closed(
    slicer, nodes
) -> None:
    module = importlib.import_module("MedReasonerLib.scene")
    scene = module.Scene()
    ours = scene.mark_node(module.INSIDE)
    assert scene.mark_node(module.INSIDE) is ours
    nodes.clear()
    own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    own.points = 3
    assert own.GetID() == ours.GetID()
    scene.show_prompts(None)
    assert own.points == 3
    assert scene.mark_node(module.INSIDE) is not own


def test_a_volume_that_gets_the_id_of_an_earlier_one_is_another(slicer, nodes) -> None:
    scene = importlib.import_module("MedReasonerLib.scene").Scene()

    def chosen_volume() -> str:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        node.GetParentTransformNode = lambda: None
        image = MagicMock()
        image.GetDimensions.return_value = (3, 4, 5)
        node.GetImageData = lambda: image
        scene.volume_node_id = node.GetID()
        assert scene.volume.key == scene.volume.key
        return scene.volume.key

    first = chosen_volume()
    nodes.clear()
    assert chosen_volume() != first


def test_each_volume_has_a_segmentation_and_each_target_a_segment(slicer, nodes) -> None:
    scene = importlib.import_module("MedReasonerLib.scene").Scene()
    made = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode") for _ in range(2)]
    shown = slicer.util.updateSegmentBinaryLabelmapFromArray
    of_volumes = []
    for volume in made:
        scene.volume_node_id = volume.GetID()
        for key in ("a", "b"):
            scene.show_mask(Segment.of(key, "?", 0), np.ones((3, 4, 5), np.uint8))
        (_, first, *_), (_, second, *_) = (call.args for call in shown.call_args_list[-2:])
        assert first is second
        of_volumes.append(first)
    assert of_volumes[0] is not of_volumes[1]
    assert [call.args[2] for call in shown.call_args_list] == [
        "medreasoner-a", "medreasoner-b", "medreasoner-a", "medreasoner-b",
    ]  # fmt: skip


def test_the_map_of_agreement_is_laid_over_the_volume_and_is_no_volume_to_ask_about(
    slicer, nodes
) -> None:
    scene = importlib.import_module("MedReasonerLib.scene").Scene()
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    volume.GetIJKToRASMatrix = MagicMock()
    scene.volume_node_id = volume.GetID()
    per_cent = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    scene.show_agreement(per_cent)
    node, values_kji = slicer.util.updateVolumeFromArray.call_args.args
    assert node is nodes[-1]
    assert node is not volume
    np.testing.assert_array_equal(values_kji, per_cent.transpose(2, 1, 0))
    assert slicer.util.setSliceViewerLayers.call_args.kwargs["foreground"] is node
    scene.show_agreement(None)
    (removed,) = (call.args[0] for call in slicer.mrmlScene.RemoveNode.call_args_list)
    assert removed is node


def test_label_maps_are_not_offered_as_volumes(widget) -> None:
    assert widget.volumes.showChildNodeTypes is False


def test_reload_reads_all_files_of_the_module_anew(widget, monkeypatch) -> None:
    reloaded = []
    base = type(widget).__mro__[1]
    monkeypatch.setattr(base, "onReload", lambda self: reloaded.append(self), raising=False)
    kept = {name: module for name, module in sys.modules.items()
            if name.startswith("MedReasonerLib")}  # fmt: skip
    try:
        widget.onReload()
        assert reloaded == [widget]
        assert not [name for name in sys.modules if name.startswith("MedReasonerLib")]
    finally:
        sys.modules.update(kept)


def test_lassos_are_closed_curves_that_go_when_an_answer_is_shown(slicer, nodes) -> None:
    module = importlib.import_module("MedReasonerLib.scene")
    scene, drawn = module.Scene(), np.arange(9.0).reshape(3, 3)
    around = scene.mark_node(module.LASSO_OUTSIDE)
    assert around.kind == "vtkMRMLMarkupsClosedCurveNode"
    around.points = 3
    slicer.util.arrayFromMarkupsControlPoints.return_value = np.zeros((0, 3))
    slicer.util.arrayFromMarkupsCurvePoints.side_effect = lambda node, world: (
        drawn if node is around and world else None
    )
    read = scene.read_prompts()
    np.testing.assert_array_equal(read.lasso_outside_ras_mm, drawn)
    assert len(read.lasso_inside_ras_mm) == 0
    scene.show_prompts(None)
    assert around.points == 0
    assert len(scene.read_prompts().lasso_outside_ras_mm) == 0


def test_box_and_points_become_a_roi_and_two_lists(scene, slicer) -> None:
    axes = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    box = Roi(np.array([1.0, 2.0, 3.0]), axes, np.array([4.0, 5.0, 6.0]))
    points = np.array([[7.0, 8.0, 9.0]])
    scene.show_prompts(Prompts(box, points, np.zeros((0, 3))))
    (matrix,) = slicer.util.vtkMatrixFromArray.call_args.args
    np.testing.assert_array_equal(matrix[:3], np.column_stack([axes, [1.0, 2.0, 3.0]]))
    update = slicer.util.updateMarkupsControlPointsFromArray
    _, shown = update.call_args.args
    update.assert_called_once()
    np.testing.assert_array_equal(shown, points)
    node = slicer.mrmlScene.AddNewNodeByClass.return_value
    node.SetSize.assert_called_once_with(4.0, 5.0, 6.0)
