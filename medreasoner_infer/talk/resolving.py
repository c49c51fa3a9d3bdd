# SPDX-License-Identifier: Apache-2.0
"""From what a question refers to, to the question that it comes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.hooks import Hooks
from medreasoner_infer.imaging import Plane, Volume, choose_window
from medreasoner_infer.language import unsided, vocabulary
from medreasoner_infer.language.follow_up_words import Place
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.reasoners.known_targets import KnownTargets
from medreasoner_infer.request import AskRequest, SliceSelection
from medreasoner_infer.talk.errors import NotResolved
from medreasoner_infer.talk.looking import Look, nearest_neighbour, question_for
from medreasoner_infer.talk.names import (
    ANATOMY,
    has_sides,
    is_target,
    neighbours_at,
    on_side,
    other_side,
    part_of,
    split_side,
    target_named,
)
from medreasoner_infer.talk.reference import Reference
from medreasoner_infer.talk.slices import runs_across, stepped
from medreasoner_infer.types import EarlierTarget, ModelIdentity

PLACES: dict[Place, str] = {
    "beside": "beside", "above": "above", "below": "below", "in front of": "in front of",
    "behind": "behind", "left of": "to the patient's left of",
    "right of": "to the patient's right of",
}  # fmt: skip


@dataclass(frozen=True)
class Earlier:
    """What a question goes on from.

    Attributes:
        about: name, slice and box.
        asked: the question that the earlier answer is to, as a model understands it.
        target: the vocabulary's name of it; ``None`` where that is not known.
        mask_ijk: its mask; ``None`` where the caller did not say.
    """

    about: EarlierTarget
    asked: str
    target: str | None
    mask_ijk: NDArray[np.uint8] | None

    @property
    def name(self) -> str:
        """What it is called, for the reader."""
        return self.target or self.about.name


@dataclass(frozen=True)
class Resolved:
    """What a question comes to: what is asked, of which target, on which slice."""

    asked: str
    target: str | None
    selection: SliceSelection
    read_as: str


@dataclass(frozen=True)
class Scene:
    """Where a question is asked: the image, the request, and which models there are."""

    volume: Volume
    request: AskRequest
    reasoner: Callable[[], Reasoner]
    segmenter: Callable[[], ModelIdentity]
    hooks: Hooks


def resolve(reference: Reference, earlier: Earlier, scene: Scene) -> Resolved:
    """What a question comes to, asked anew.

    Raises:
        NotResolved: with a sentence that tells what is missing.
    """
    found = _RESOLVERS[reference.to](reference, earlier, scene)
    if reference.step is None:
        return found
    plane = Plane.parse(earlier.about.plane)
    index, way = stepped(scene.volume, plane, earlier.about.index, reference.step)
    selection = replace(found.selection, plane=plane.value, index=index, position_lps_mm=None)
    return replace(found, selection=selection, read_as=f"{found.read_as}, {way}")


def _same(reference: Reference, earlier: Earlier, scene: Scene) -> Resolved:
    selection = scene.request.selection
    where = " on this slice" if reference.here else ""
    read_as = f"segment the {earlier.name}{where}"
    return Resolved(earlier.asked, earlier.target, selection, read_as)


def _named(reference: Reference, earlier: Earlier, scene: Scene) -> Resolved:
    name, side = reference.named or ("", None)
    sided = f"{side} {name}" if side else name
    return _of(sided, scene)


def _side(reference: Reference, earlier: Earlier, scene: Scene) -> Resolved:
    if reference.side is None or earlier.target is None:
        raise NotResolved(_unnamed(earlier, "side"))
    found = on_side(earlier.target, reference.side)
    if found is None:
        raise NotResolved(
            f"There is no {earlier.target} on either side that the vocabulary knows; say in full "
            "what you are looking for."
        )
    return _of(found, scene)


def _other(reference: Reference, earlier: Earlier, scene: Scene) -> Resolved:
    target = earlier.target
    if reference.named is not None:
        name = reference.named[0]
        if target is None or split_side(target)[1] != name:
            raise NotResolved(
                f"The earlier answer is about the {earlier.name}, so that it is open which {name} "
                "is the other one; say left or right."
            )
    if target is None:
        raise NotResolved(_unnamed(earlier, "other side"))
    found = other_side(target)
    if found is not None:
        return _of(found, scene)
    if has_sides(target):
        raise NotResolved(
            f"The earlier answer does not say on which side its {target} is; ask for the left or "
            f"the right {target}."
        )
    raise NotResolved(f"There is one {target}, so that it has no other side.")


def _part(reference: Reference, earlier: Earlier, scene: Scene) -> Resolved:
    known = _known(scene)
    found = None if earlier.target is None else part_of(earlier.target, reference.part)
    if found is not None and (known is None or _is_known(found, known)):
        return _of(found, scene)
    named = f"{reference.part} of the {earlier.name}"
    if known is not None and known.refuses_others:
        raise NotResolved(f"The {named} is nothing that this model was taught to find.")
    return Resolved(f"Segment the {named}.", found, scene.request.selection, f"segment the {named}")


def _neighbour(reference: Reference, earlier: Earlier, scene: Scene) -> Resolved:
    place: Place = reference.place or "beside"
    known = _known(scene)
    told = () if earlier.target is None else neighbours_at(earlier.target, place)
    names = [name for name in told if known is None or _is_known(name, known)]
    if len(names) == 1:
        found = _on_earlier_slice(names[0], earlier, scene)
        if not _lies_on_other_slices(place, earlier, scene):
            return found
        return replace(found, selection=replace(found.selection, index=None))
    if known is None:
        asked = f"the structure {PLACES[place]} the {earlier.name}"
        return replace(
            _on_earlier_slice("structure", earlier, scene),
            asked=f"Segment {asked}.", target=None, read_as=f"segment {asked}",
        )  # fmt: skip
    return _seen(place, names or _anatomy(known, earlier.target), earlier, scene)


def _lies_on_other_slices(place: Place, earlier: Earlier, scene: Scene) -> bool:
    plane = Plane.parse(earlier.about.plane)
    return (
        place != "beside"
        and not scene.volume.is_picture
        and runs_across(scene.volume, plane, place)
    )


def _seen(place: Place, names: Sequence[str], earlier: Earlier, scene: Scene) -> Resolved:
    """The nearest of several, as far as the model sees them."""
    volume, about = scene.volume, earlier.about
    wanted = f"{PLACES[place]} the {earlier.name}"
    if volume.is_picture:
        raise NotResolved(
            f"This image does not tell how the patient lies, so that what lies {wanted} cannot be "
            "told; name it."
        )
    if about.bbox_xyxy_slice_px is None:
        raise NotResolved(f"The earlier answer marks nothing, so that nothing lies {wanted}.")
    window = choose_window(volume, scene.request.selection.window)
    look = Look(volume, Plane.parse(about.plane), window, about.index, about.bbox_xyxy_slice_px)
    seen = nearest_neighbour(look, place, names, scene.reasoner(), scene.hooks, earlier.mask_ijk)
    if seen is None:
        raise NotResolved(
            f"Of the {len(names)} structures that may lie {wanted}, none is seen there; name the "
            "one that you mean."
        )
    found = _on_earlier_slice(seen.name, earlier, scene)
    return replace(found, selection=replace(found.selection, index=seen.index))


_RESOLVERS = {
    "same": _same, "named": _named, "side": _side, "other": _other, "part": _part,
    "neighbour": _neighbour,
}  # fmt: skip


def _of(name: str, scene: Scene) -> Resolved:
    return Resolved(question_for(name), name, scene.request.selection, f"segment the {name}")


def _on_earlier_slice(name: str, earlier: Earlier, scene: Scene) -> Resolved:
    selection = replace(
        scene.request.selection,
        plane=earlier.about.plane, index=earlier.about.index, position_lps_mm=None,
    )  # fmt: skip
    return replace(_of(name, scene), selection=selection)


def _unnamed(earlier: Earlier, wanted: str) -> str:
    return (
        f"The earlier target, {earlier.about.name}, is no name of the vocabulary, so that its "
        f"{wanted} is not known; say in full what you are looking for."
    )


def _known(scene: Scene) -> KnownTargets | None:
    template = scene.reasoner().template
    return None if template is None else template.targets


def _is_known(name: str, known: KnownTargets) -> bool:
    return name in known.questions


def _anatomy(known: KnownTargets, target: str | None) -> list[str]:
    """What the model can find of a patient's anatomy, but for the target itself.

    Of what is known with and without its side the one with it.
    """
    names = [
        name
        for name in known.questions
        if vocabulary().targets[unsided(name)].group in ANATOMY and name != target
    ]
    return [name for name in names if not has_sides(name) or split_side(name)[0] is not None]


def earlier_named(name: str) -> str | None:
    """The vocabulary's name of what a reader calls a target, if it is one."""
    found = target_named(name)
    return found if found is not None and is_target(found) else None
