# SPDX-License-Identifier: Apache-2.0
"""Markups, segments and slice views of 3D Slicer: the only module here that needs it."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import slicer
import vtk

from .errors import EmptySegmentError, ViewerError
from .geometry import Grid, Roi
from .viewer import Prompts, Segment, ShownVolume

VIEWS = ("Red", "Yellow", "Green")
INSIDE, OUTSIDE = "MedReasoner inside", "MedReasoner outside"
LASSO_INSIDE, LASSO_OUTSIDE = "MedReasoner lasso inside", "MedReasoner lasso outside"
_BOX = "MedReasoner box"
_INSIDE_RGB, _OUTSIDE_RGB = (0.0, 0.62, 0.45), (0.84, 0.37, 0.0)
_MARK_RGB = {
    INSIDE: _INSIDE_RGB,
    OUTSIDE: _OUTSIDE_RGB,
    LASSO_INSIDE: _INSIDE_RGB,
    LASSO_OUTSIDE: _OUTSIDE_RGB,
}
_BOX_RGB = (0.9, 0.62, 0.0)
_SEGMENTATION = "MedReasoner segmentation"
_AGREEMENT = "MedReasoner agreement"
_AGREEMENT_OPACITY = 0.5
_VIRIDIS = "vtkMRMLColorTableNodeFileViridis.txt"
_KINDS = {
    INSIDE: "vtkMRMLMarkupsFiducialNode",
    OUTSIDE: "vtkMRMLMarkupsFiducialNode",
    LASSO_INSIDE: "vtkMRMLMarkupsClosedCurveNode",
    LASSO_OUTSIDE: "vtkMRMLMarkupsClosedCurveNode",
    _BOX: "vtkMRMLMarkupsROINode",
    _SEGMENTATION: "vtkMRMLSegmentationNode",
    _AGREEMENT: "vtkMRMLScalarVolumeNode",
}
_ROLE_ATTRIBUTE = "MedReasoner.role"
_KEY_ATTRIBUTE = "MedReasoner.key"
_IMAGE_ATTRIBUTE = "MedReasoner.image"
_VOLUME_REFERENCE = "MedReasoner.volume"
_SERIES_UID_TAG = "0020,000e"


class Scene:
    """Slicer's scene and slice views as a :class:`~.viewer.Viewer`.

    Nodes are looked up whenever they are needed: the reader may delete them or close the scene.
    They are known by an attribute of ours, as Slicer gives names and ids out again: after a scene
    was closed, the id of our points may be that of points which the reader made.
    """

    def __init__(self):
        self.volume_node_id = None
        self.view = VIEWS[0]

    @property
    def volume(self) -> ShownVolume | None:
        """The chosen volume, ``None`` while there is none."""
        node = self._volume_node()
        if node is None or node.GetImageData() is None:
            return None
        if node.GetParentTransformNode() is not None:
            raise ViewerError(
                "This volume is moved by a transform, of which the server knows nothing; remove "
                "it, or harden it and ask about the volume that this makes."
            )
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        grid = Grid.from_ras(
            tuple(node.GetImageData().GetDimensions()), slicer.util.arrayFromVTKMatrix(matrix)
        )
        image_id = node.GetAttribute(_IMAGE_ATTRIBUTE) or None
        return ShownVolume(_key_of(node), grid, image_id, _series_uid_of(node))

    @property
    def slice_to_ras(self) -> np.ndarray:
        """The matrix (4, 4) of the chosen slice view; its origin is the view's centre."""
        return slicer.util.arrayFromVTKMatrix(self._slice_node().GetSliceToRAS())

    def jump_to(self, position_ras_mm: np.ndarray) -> None:
        """Show the slice at a position in the chosen view."""
        self._slice_node().JumpSliceByOffsetting(*(float(value) for value in position_ras_mm))

    def show_prompts(self, prompts: Prompts | None) -> None:
        """Show box and points as markups; lassos go."""
        none = np.zeros((0, 3))
        inside = none if prompts is None else prompts.inside_ras_mm
        outside = none if prompts is None else prompts.outside_ras_mm
        for name, points in ((INSIDE, inside), (OUTSIDE, outside)):
            node = self.mark_node(name)
            node.RemoveAllControlPoints()
            if len(points):
                slicer.util.updateMarkupsControlPointsFromArray(node, points)
        for name in (LASSO_INSIDE, LASSO_OUTSIDE):
            self.mark_node(name).RemoveAllControlPoints()
        box = None if prompts is None else prompts.box
        if box is None:
            self._remove(_BOX)
        else:
            self._show_box(box)

    def read_prompts(self) -> Prompts:
        """The markups as the reader has left them."""
        inside, outside = (
            slicer.util.arrayFromMarkupsControlPoints(self.mark_node(name)).reshape(-1, 3)
            for name in (INSIDE, OUTSIDE)
        )
        lassos = [self._read_curve(name) for name in (LASSO_INSIDE, LASSO_OUTSIDE)]
        node = self._node(_BOX)
        if node is None:
            return Prompts(None, inside, outside, *lassos)
        matrix = slicer.util.arrayFromVTKMatrix(node.GetObjectToWorldMatrix())
        box = Roi(matrix[:3, 3], matrix[:3, :3], np.array(node.GetSize(), dtype=float))
        return Prompts(box, inside, outside, *lassos)

    def has_segment(self, segment: Segment) -> bool:
        """Whether the chosen volume has the segment already."""
        node = self._node(_SEGMENTATION, self._volume_node())
        return node is not None and node.GetSegmentation().GetSegment(segment.key) is not None

    def read_segment(self, segment: Segment) -> Segment:
        """A segment with the name and colour that the reader has given it."""
        if not self.has_segment(segment):
            return segment
        node = self._segmentation_node(self._volume_node())
        shown = node.GetSegmentation().GetSegment(segment.key)
        return Segment(segment.key, shown.GetName(), tuple(shown.GetColor()))

    def show_mask(self, segment: Segment, values_ijk: np.ndarray) -> None:
        """Show a mask on the chosen volume's grid as a segment, which it replaces."""
        volume = self._volume_node()
        node = self._segmentation_node(volume)
        if node.GetSegmentation().GetSegment(segment.key) is None:
            node.GetSegmentation().AddEmptySegment(segment.key, segment.name, segment.rgb)
        # Slicer's arrays are indexed K, J, I.
        values_kji = np.ascontiguousarray(values_ijk.transpose(2, 1, 0))
        try:
            slicer.util.updateSegmentBinaryLabelmapFromArray(values_kji, node, segment.key, volume)
        except RuntimeError as error:  # as Slicer says that it cannot
            raise ViewerError(
                "Slicer could not show the mask; look into its log, then ask again."
            ) from error

    def read_mask(self, segment: Segment) -> np.ndarray:
        """A segment on the chosen volume's grid, as the reader has left it."""
        volume = self._volume_node()
        node = self._segmentation_node(volume)
        try:
            values_kji = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment.key, volume)
        except RuntimeError:  # as Slicer says that a segment is empty
            values_kji = None
        if values_kji is None or not values_kji.any():
            raise EmptySegmentError("The segment is empty; draw it, or reject the answer.")
        return (values_kji.transpose(2, 1, 0) != 0).astype(np.uint8)

    def show_agreement(self, per_cent_ijk: np.ndarray | None) -> None:
        """Lay a map on the chosen volume's grid over it in the slice views, in colours."""
        self._remove(_AGREEMENT)
        if per_cent_ijk is None:
            return
        volume, node = self._volume_node(), self._add(_AGREEMENT)
        node.SetHideFromEditors(True)  # it is no volume to ask about
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        node.SetIJKToRASMatrix(matrix)
        values_kji = np.ascontiguousarray(per_cent_ijk.transpose(2, 1, 0))
        slicer.util.updateVolumeFromArray(node, values_kji)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetAndObserveColorNodeID(_VIRIDIS)
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0, 100)
        display.AutoThresholdOff()
        display.SetThreshold(1, 100)  # what no reading holds is not coloured
        display.ApplyThresholdOn()
        slicer.util.setSliceViewerLayers(foreground=node, foregroundOpacity=_AGREEMENT_OPACITY)

    def save_volume(self, path: Path) -> None:
        """Write the chosen volume to a file."""
        if not slicer.util.saveNode(self._volume_node(), str(path)):
            raise ViewerError("The volume could not be written for sending; is the disk full?")

    def load_volume(self, path: Path, image_id: str, name: str) -> None:
        """Read a file, show it in the slice views, and remember which image it is."""
        try:
            node = slicer.util.loadVolume(str(path), properties={"name": name})
        except RuntimeError as error:  # as Slicer says that it cannot
            raise ViewerError("Slicer cannot read this image; look into its log.") from error
        node.SetAttribute(_IMAGE_ATTRIBUTE, image_id)
        self.volume_node_id = node.GetID()
        slicer.util.setSliceViewerLayers(background=node, fit=True)

    def mark_node(self, name: str):
        """The points or the lasso inside or outside the target, made where it is not there."""
        node = self._node(name)
        if node is None:
            node = self._add(name)
            node.CreateDefaultDisplayNodes()
            node.GetDisplayNode().SetSelectedColor(_MARK_RGB[name])
            node.GetDisplayNode().SetPointLabelsVisibility(False)
        return node

    def _read_curve(self, name: str) -> np.ndarray:
        """Places along a closed curve, as it is drawn between its control points; RAS mm."""
        node = self.mark_node(name)
        if node.GetNumberOfControlPoints() == 0:
            return np.zeros((0, 3))
        return slicer.util.arrayFromMarkupsCurvePoints(node, world=True).reshape(-1, 3)

    def _show_box(self, box: Roi) -> None:
        node = self._node(_BOX)
        if node is None:
            node = self._add(_BOX)
            node.CreateDefaultDisplayNodes()
            node.GetDisplayNode().SetFillVisibility(False)
            node.GetDisplayNode().SetSelectedColor(_BOX_RGB)
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = box.axes, box.centre_ras_mm
        node.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(matrix))
        node.SetSize(*(float(value) for value in box.size_mm))

    def _segmentation_node(self, volume):
        """The segmentation of the chosen volume, made where it is not there."""
        if volume is None:
            raise ViewerError("No volume is chosen; load one first.")
        node = self._node(_SEGMENTATION, volume)
        if node is None:
            node = self._add(_SEGMENTATION)
            node.SetName(f"{volume.GetName()} MedReasoner")
            node.SetNodeReferenceID(_VOLUME_REFERENCE, volume.GetID())
            node.CreateDefaultDisplayNodes()
            node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        return node

    def _volume_node(self):
        node_id = self.volume_node_id
        return None if node_id is None else slicer.mrmlScene.GetNodeByID(node_id)

    def _slice_node(self):
        return slicer.app.layoutManager().sliceWidget(self.view).mrmlSliceNode()

    def _node(self, role: str, volume=None):
        """Our node of a role, of those that belong to a volume where one is given."""
        for node in slicer.util.getNodesByClass(_KINDS[role]):
            of_volume = volume is None or (
                node.GetNodeReferenceID(_VOLUME_REFERENCE) == volume.GetID()
            )
            if node.GetAttribute(_ROLE_ATTRIBUTE) == role and of_volume:
                return node
        return None

    def _add(self, role: str):
        node = slicer.mrmlScene.AddNewNodeByClass(_KINDS[role], role)
        node.SetAttribute(_ROLE_ATTRIBUTE, role)
        return node

    def _remove(self, role: str) -> None:
        node = self._node(role)
        if node is not None:
            slicer.mrmlScene.RemoveNode(node)


def _key_of(node) -> str:
    """What tells a volume from every other, also from one that gets its node's id later."""
    if not node.GetAttribute(_KEY_ATTRIBUTE):
        node.SetAttribute(_KEY_ATTRIBUTE, uuid.uuid4().hex)
    # A clone in the scene has its original's attributes.
    return f"{node.GetID()} {node.GetAttribute(_KEY_ATTRIBUTE)}"


def _series_uid_of(node) -> str | None:
    """The DICOM series that a volume was loaded from, as Slicer's DICOM database knows it."""
    instances = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not instances or database is None:
        return None
    return database.instanceValue(instances[0], _SERIES_UID_TAG) or None
