# SPDX-License-Identifier: Apache-2.0
"""Statements on where the target lies from another structure, by what the session knows of it.

Where another structure lies is known from the box of another answer about the image alone; without
one such a statement cannot be checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.checks.measures import Scene
from medreasoner_infer.checks.statements import IMAGE_RELATIONS, Statement
from medreasoner_infer.checks_record import Verdict
from medreasoner_infer.imaging import Plane, SliceMapping, slice_mapping
from medreasoner_infer.language.recognition import target_called
from medreasoner_infer.types import XYXY, EarlierTarget

ALONG_SHARE: Final = 1 / 3
"""Of the distance of two centres that must lead in the direction that is told."""
NEAR_SHARE: Final = 0.1
"""Nearer to it than this nothing is said."""
NEAR_CENTRES: Final = 0.02
"""Of the slice's longer side: nearer to each other than this neither centre lies any way from the
other."""
BESIDE_MM: Final = 20.0
"""As far apart two boxes may be that lie beside each other."""

_IN_LPS: Mapping[str, tuple[float, float, float]] = {
    "left of": (1, 0, 0), "right of": (-1, 0, 0), "behind": (0, 1, 0), "in front of": (0, -1, 0),
    "above": (0, 0, 1), "below": (0, 0, -1),
}  # fmt: skip
_ON_DISPLAY: Mapping[str, tuple[float, float]] = {
    "left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)
}  # fmt: skip


def neighbour_verdict(
    statement: Statement, scene: Scene, known: Sequence[EarlierTarget]
) -> tuple[Verdict, str]:
    """Test a relation to another structure; see :func:`.verdicts.verdict_of`."""
    other = _known_as(statement.other, known)
    if other is None or other.bbox_xyxy_slice_px is None:
        return "cannot be checked", f"where the {statement.other} lies is not known here"
    if statement.kind == "brightness":
        return "cannot be checked", f"there is no mask of the {statement.other}"
    mapping = slice_mapping(scene.shown.volume, Plane.parse(other.plane), other.index)
    relation = statement.values[0]
    if relation == "beside":
        return _beside(scene, mapping, other.bbox_xyxy_slice_px, statement.other)
    if statement.frame == "image" and relation in IMAGE_RELATIONS:
        return _in_image(relation, scene, mapping, other.bbox_xyxy_slice_px, statement.other)
    return _in_patient(relation, scene, mapping, other.bbox_xyxy_slice_px, statement.other)


def _known_as(name: str, known: Sequence[EarlierTarget]) -> EarlierTarget | None:
    """The last of them that is the structure; the reader may have called it as they asked."""
    return next((t for t in reversed(known) if name in (t.name, target_called(t.name))), None)


def _in_patient(
    relation: str, scene: Scene, mapping: SliceMapping, box: XYXY, name: str
) -> tuple[Verdict, str]:
    if scene.shown.volume.is_picture:
        return "cannot be checked", "the picture does not tell how the patient lies"
    here = scene.shown.mapping.slice_px_to_lps(_middle(scene.bbox_xyxy_px))
    between = here - mapping.slice_px_to_lps(_middle(box))
    towards = np.array(_IN_LPS[relation])
    corner, *steps = mapping.slice_px_to_lps([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
    seen = np.hypot(*[towards @ (s - corner) / np.linalg.norm(s - corner) for s in steps])
    if seen < ALONG_SHARE and mapping.index == scene.shown.mapping.index:
        return "cannot be checked", "both were found on one slice, which does not show it"
    return _directed(relation, float(between @ towards), between, scene, name)


def _in_image(
    relation: str, scene: Scene, mapping: SliceMapping, box: XYXY, name: str
) -> tuple[Verdict, str]:
    if mapping.plane is not scene.shown.mapping.plane:
        return "cannot be checked", f"the {name} was found in another plane"
    spacing = np.array(mapping.spacing_xy_mm)
    between = (_middle(scene.bbox_xyxy_px) - _middle(box)) * spacing
    along = float(between @ np.array(_ON_DISPLAY[relation]))
    return _directed(relation, along, between, scene, name)


def _directed(
    relation: str, along: float, between: NDArray[np.float64], scene: Scene, name: str
) -> tuple[Verdict, str]:
    distance, unit = float(np.linalg.norm(between)), scene.unit
    said = f"centre {along:.0f} {unit} {relation} that of the {name}, {distance:.0f} {unit} apart"
    is_near = distance < NEAR_CENTRES * scene.longer_side
    if is_near or abs(along / distance - ALONG_SHARE) < NEAR_SHARE:
        return "cannot be checked", f"{said}, too near to tell"
    return "holds" if along / distance > ALONG_SHARE else "does not hold", said


def _beside(scene: Scene, mapping: SliceMapping, box: XYXY, name: str) -> tuple[Verdict, str]:
    shown = scene.shown.mapping
    if mapping.plane is not shown.plane or mapping.index != shown.index:
        return "cannot be checked", f"the {name} was found on another slice"
    if not shown.spacing_known:
        return "cannot be checked", "the image does not tell its scale"
    (x1, y1, x2, y2), (u1, v1, u2, v2) = scene.bbox_xyxy_px, box
    gaps = np.maximum(0, [max(u1 - x2, x1 - u2), max(v1 - y2, y1 - v2)])
    gap_mm = float(np.linalg.norm(gaps * np.array(shown.spacing_xy_mm)))
    said = f"boxes {gap_mm:.0f} mm apart" if gap_mm else "boxes touch"
    return "holds" if gap_mm <= BESIDE_MM else "does not hold", said


def _middle(box: XYXY) -> NDArray[np.float64]:
    x1, y1, x2, y2 = box
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2])
