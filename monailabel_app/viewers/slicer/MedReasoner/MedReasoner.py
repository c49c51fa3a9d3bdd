# SPDX-License-Identifier: Apache-2.0
"""The module as 3D Slicer sees it: its widgets. All else is in MedReasonerLib."""

from __future__ import annotations

import sys

import ctk
import numpy as np
import qt
import slicer
from MedReasonerLib.background import POLL_EVERY_MS
from MedReasonerLib.client import Server
from MedReasonerLib.doubt import describe_doubt
from MedReasonerLib.geometry import Roi
from MedReasonerLib.panel import Panel
from MedReasonerLib.scene import INSIDE, LASSO_INSIDE, LASSO_OUTSIDE, OUTSIDE, VIEWS, Scene
from MedReasonerLib.viewer import Prompts, Segment
from MedReasonerLib.words import describe_answer, describe_record
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

DEFAULT_ADDRESS = "http://127.0.0.1:8000"
_PARTS = "MedReasonerLib"
_MARKS = {
    INSIDE: "Points inside the target",
    OUTSIDE: "Points outside the target",
    LASSO_INSIDE: "Lasso around what belongs to it",
    LASSO_OUTSIDE: "Lasso around what does not",
}
_TIMES = {"once": 1, "3 times": 3, "5 times": 5}
_ALERT = "color: #b35900; font-weight: bold;"


class MedReasoner(ScriptedLoadableModule):
    """Name, category and help of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "MedReasoner"
        parent.categories = ["Segmentation"]
        parent.dependencies = ["Markups", "Segmentations"]
        parent.contributors = ["The MedReasoner for MONAI Label authors"]
        parent.helpText = (
            "Ask a clinical question about the slice that is shown; a MedReasoner server of your "
            "site answers with its reasoning, a box, points and a mask. Not for clinical use."
        )
        parent.acknowledgementText = "Licence: Apache-2.0."


class MedReasonerLogic(ScriptedLoadableModuleLogic):
    """The scene, and the panel that works with it; usable without the widget.

    Args:
        changed: called after every change of the panel's state.
    """

    def __init__(self, changed=lambda: None):
        ScriptedLoadableModuleLogic.__init__(self)
        self.scene = Scene()
        self.panel = Panel(self.scene, changed)


class MedReasonerWidget(ScriptedLoadableModuleWidget):
    """The module's panel: shows what the Panel of MedReasonerLib knows, and passes clicks to it."""

    def setup(self) -> None:
        """Build the panel; Slicer calls this once, when the module is opened first."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = MedReasonerLogic(self.render)
        self.panel, self.scene = self.logic.panel, self.logic.scene
        self._listed = (None, None)
        self._add_server()
        self._add_question()
        self._add_answer()
        self._add_history()
        self.layout.addStretch(1)
        self._connect_choices()
        self.timer = qt.QTimer()
        self.timer.setInterval(POLL_EVERY_MS)
        self.timer.connect("timeout()", self.panel.poll)
        self.timer.start()
        self.on_volume(self.volumes.currentNode())
        self.render()

    def cleanup(self) -> None:
        """Leave; Slicer calls this when it closes or reloads the module."""
        self.timer.stop()
        self.panel.close()

    def onReload(self) -> None:
        """Slicer's *Reload*, which reads this file alone anew."""
        for name in [name for name in sys.modules if name.partition(".")[0] == _PARTS]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def _add_server(self) -> None:
        form = self._section("Server")
        self.address = qt.QLineEdit(qt.QSettings().value("MedReasoner/address") or DEFAULT_ADDRESS)
        # Never stored: settings are a file that others may read.
        self.token = qt.QLineEdit()
        self.token.setEchoMode(qt.QLineEdit.Password)
        self.certificates = ctk.ctkPathLineEdit()
        self.images = qt.QComboBox()
        form.addRow("Address", self.address)
        form.addRow("Token, if the site uses one", self.token)
        form.addRow("Certificates (PEM) of the site's own", self.certificates)
        self.connect_button = self._button("Connect", self.on_connect)
        form.addRow(self.connect_button)
        form.addRow("Image of the studies", self.images)
        self.load_button = self._button("Load", self.on_load)
        form.addRow(self.load_button)

    def _add_question(self) -> None:
        form = self._section("Question")
        self.volumes = slicer.qMRMLNodeComboBox()
        self.volumes.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        # Label maps derive from it.
        self.volumes.showChildNodeTypes = False
        self.volumes.addEnabled = self.volumes.removeEnabled = False
        self.volumes.setMRMLScene(slicer.mrmlScene)
        self.views = qt.QComboBox()
        self.views.addItems(list(VIEWS))
        self.question = qt.QPlainTextEdit()
        self.question.setMaximumHeight(70)
        self.propagate = qt.QCheckBox("Segment through the volume")
        self.propagate.checked = True
        form.addRow("Volume", self.volumes)
        form.addRow("Slice in view", self.views)
        form.addRow("Question", self.question)
        self.follow_up_button = qt.QCheckBox("Follow up on the target that is answered")
        self.times = qt.QComboBox()
        self.times.addItems(list(_TIMES))
        form.addRow("How often to ask", self.times)
        form.addRow(self.propagate)
        form.addRow(self.follow_up_button)
        self.ask_button = self._button("Ask", self.on_ask)
        self.cancel_button = self._button("Cancel", lambda: self.panel.cancel())
        form.addRow(self._row(self.ask_button, self.cancel_button))
        self.status, self.error = self._label(), self._label(_ALERT)
        form.addRow(self.status)
        form.addRow(self.error)

    def _add_answer(self) -> None:
        form = self._section("Answer")
        self.reasoning = qt.QPlainTextEdit()
        self.reasoning.setReadOnly(True)
        self.facts, self.alerts = self._label(), self._label(_ALERT)
        self.reason = qt.QLineEdit()
        self.jump_button = self._button("Go to slice", lambda: self.panel.jump())
        self.correct_button = self._button("Segment by what is drawn", self.on_correct)
        self.undo_button = self._button("Undo", lambda: self.panel.undo())
        self.redo_button = self._button("Redo", lambda: self.panel.redo())
        self.reset_button = self._button("Back to the answer", lambda: self.panel.reset())
        self.accept_button = self._button("Accept", lambda: self.panel.accept())
        self.submit_button = self._button("Submit segment as edited", lambda: self.panel.submit())
        self.reject_button = self._button("Reject", self.on_reject)
        self.places = {name: slicer.qSlicerMarkupsPlaceWidget() for name in _MARKS}
        form.addRow(self.reasoning)
        form.addRow(self.facts)
        form.addRow(self.alerts)
        form.addRow(self.jump_button)
        self.agreement_button = qt.QCheckBox("Map of agreement")
        self.agreement_button.connect("toggled(bool)", self.on_agreement)
        self.previous_button = self._button("Previous doubtful slice", lambda: self.panel.go(-1))
        self.next_button = self._button("Next doubtful slice", lambda: self.panel.go(1))
        form.addRow(self._row(self.agreement_button, self.previous_button, self.next_button))
        for name, place in self.places.items():
            place.setMRMLScene(slicer.mrmlScene)
            form.addRow(_MARKS[name], place)
        form.addRow(self.correct_button)
        form.addRow(self._row(self.undo_button, self.redo_button, self.reset_button))
        form.addRow(self._row(self.accept_button, self.submit_button))
        form.addRow("Reason for rejecting", self.reason)
        form.addRow(self.reject_button)

    def _add_history(self) -> None:
        form = self._section("Earlier questions")
        self.history = qt.QListWidget()
        self.show_button = self._button("Show again", self.on_show)
        form.addRow(self.history)
        form.addRow(self.show_button)

    def _connect_choices(self) -> None:
        """Only once all widgets are there: a combo box tells its first choice at once."""
        self.volumes.connect("currentNodeChanged(vtkMRMLNode*)", self.on_volume)
        self.views.connect("currentTextChanged(QString)", self.on_view)
        shortcut = qt.QShortcut(qt.QKeySequence("Ctrl+Return"), self.question)
        shortcut.connect("activated()", self.on_ask)

    def on_connect(self) -> None:
        """Connect to the address; it is remembered, the token is not."""
        server = Server(self.address.text, self.token.text, self.certificates.currentPath)
        qt.QSettings().setValue("MedReasoner/address", server.address)
        self.panel.connect(server)
        if server.warning:
            slicer.util.warningDisplay(server.warning)

    def on_load(self) -> None:
        """Load the chosen image of the studies."""
        index = self.images.currentIndex
        if 0 <= index < len(self.panel.images):
            self.panel.load(self.panel.images[index])

    def on_volume(self, node) -> None:
        """Another volume is chosen."""
        chosen = None if node is None else node.GetID()
        if chosen != self.scene.volume_node_id:
            self.scene.volume_node_id = chosen
            self.panel.follow()

    def on_view(self, name: str) -> None:
        """Another slice view is chosen."""
        self.scene.view = name

    def on_ask(self) -> None:
        """Ask about the slice in the chosen view."""
        self.panel.ask(
            self.question.plainText,
            propagate=self.propagate.checked,
            follow_up=self.follow_up_button.checked,
            samples=_TIMES.get(self.times.currentText, 1),
        )
        self.follow_up_button.checked = False

    def on_agreement(self, is_checked) -> None:
        """Show the map of agreement, or show it no more."""
        self.panel.draw_agreement(bool(is_checked))

    def on_correct(self) -> None:
        """Segment by what is drawn: box, points and lassos."""
        self.panel.correct(propagate=self.propagate.checked)

    def on_reject(self) -> None:
        """Reject with the typed reason."""
        self.panel.reject(self.reason.text)

    def on_show(self) -> None:
        """Show the chosen earlier question."""
        row, history = self.history.currentRow, self.panel.state.history
        if 0 <= row < len(history):
            self.panel.show(history[row])

    def render(self) -> None:
        """Show the panel's state."""
        state = self.panel.state
        for name, allowed in state.may.items():
            getattr(self, f"{name}_button").enabled = allowed
        decided = f"This answer is {state.decision}." if state.decision else ""
        self.status.text = " ".join(filter(None, (state.step, decided)))
        self.error.text = state.error
        if self.reasoning.plainText != state.reasoning:
            self.reasoning.setPlainText(state.reasoning)
        lines = describe_answer(state.answer) if state.answer else []
        lines += describe_doubt(state.doubt.told) if state.doubt else []
        self.facts.text = "\n".join(line.text for line in lines if not line.alert)
        alerts = [line.text for line in lines if line.alert]
        self.alerts.text = "\n".join(filter(None, [state.note, *alerts]))
        self._render_lists()

    def _render_lists(self) -> None:
        """Fill the lists anew only where they have changed, or the reader's choice would go."""
        images, history = self.panel.images, self.panel.state.history
        if self._listed[0] is not images:
            self.images.clear()
            self.images.addItems([image.name for image in images])
        if self._listed[1] is not history:
            self.history.clear()
            self.history.addItems([describe_record(record) for record in history])
        self._listed = (images, history)
        if (self.scene.volume_node_id or "") != (self.volumes.currentNodeID or ""):
            self.volumes.setCurrentNodeID(self.scene.volume_node_id or "")
        if self.panel.state.answer is not None:
            for name, place in self.places.items():
                place.setCurrentNode(self.scene.mark_node(name))

    def _section(self, title: str):
        box = ctk.ctkCollapsibleButton()
        box.text = title
        self.layout.addWidget(box)
        return qt.QFormLayout(box)

    def _button(self, text: str, action):
        button = qt.QPushButton(text)
        button.connect("clicked()", action)
        return button

    def _label(self, style: str = ""):
        label = qt.QLabel()
        # What a model or a server wrote is text, never markup.
        label.setTextFormat(qt.Qt.PlainText)
        label.setWordWrap(True)
        label.setStyleSheet(style)
        return label

    def _row(self, *widgets):
        row = qt.QHBoxLayout()
        for widget in widgets:
            row.addWidget(widget)
        return row


class MedReasonerTest(ScriptedLoadableModuleTest):
    """Run inside Slicer (Reload and Test): what MRML gives back is what it was given."""

    def runTest(self) -> None:
        """Run all tests."""
        for test in (self.test_mask, self.test_prompts, self.test_closed_scene):
            slicer.mrmlScene.Clear()
            test()

    def test_mask(self) -> None:
        """A mask on an oblique volume comes back voxel for voxel."""
        scene = self._scene()
        mask = np.zeros((7, 6, 5), np.uint8)
        mask[1:4, 2:5, 3] = 1
        first, second = Segment.of("a", "liver?", 0), Segment.of("b", "spleen?", 1)
        scene.show_mask(first, mask)
        scene.show_mask(second, 1 - mask)
        np.testing.assert_array_equal(scene.read_mask(first), mask)
        np.testing.assert_array_equal(scene.read_mask(second), 1 - mask)

    def test_prompts(self) -> None:
        """Box and points come back where they were put."""
        scene = self._scene()
        turned = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        box = Roi(np.array([1.0, 2.0, 3.0]), turned, np.array([4.0, 5.0, 6.0]))
        points = np.array([[1.0, 2.0, 3.0]])
        scene.show_prompts(Prompts(box, points, points + 1))
        read = scene.read_prompts()
        np.testing.assert_allclose(read.box.centre_ras_mm, box.centre_ras_mm, atol=1e-6)
        np.testing.assert_allclose(
            read.box.axes * read.box.size_mm, turned * box.size_mm, atol=1e-6
        )
        np.testing.assert_allclose(read.outside_ras_mm, points + 1, atol=1e-6)

    def test_closed_scene(self) -> None:
        """Nodes of a new scene are nobody's, whatever ids they got."""
        scene = self._scene()
        scene.mark_node(INSIDE)
        key = scene.volume.key
        slicer.mrmlScene.Clear()
        own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "the reader's")
        own.AddControlPoint(1.0, 2.0, 3.0)
        scene.volume_node_id = self._scene().volume_node_id
        scene.show_prompts(None)
        np.testing.assert_equal(own.GetNumberOfControlPoints(), 1)
        np.testing.assert_equal(scene.volume.key == key, False)

    def _scene(self) -> Scene:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "test")
        slicer.util.updateVolumeFromArray(node, np.zeros((5, 6, 7), np.int16))
        ijk_to_ras = np.diag([-2.0, -1.5, 3.0, 1.0])
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))
        scene = Scene()
        scene.volume_node_id = node.GetID()
        return scene
