# SPDX-License-Identifier: Apache-2.0
"""Scripted dialogues on real volumes, and diameters of real masks measured twice.

Each line of ``dialogues.tsv`` is a dialogue: the image, the target that was found first, what the
reader says next (turns are divided by ``|``), and what each turn is to come to:

* ``measure``: sizes of the last target's true mask; ``measure@feet1``: on another slice;
* a name: that target is asked for next; ``spleen@head2``: that many slices towards head or feet;
* ``?``: it cannot be told, and the answer says so.

A turn that names a labelled target goes on with that target's true mask. Targets are looked for
with the given reasoner, on the slice on which the first target is largest. The second computation
of diameters needs the package shapely::

    python benchmarks/dialogues.py --data ../shared/data --out dialogues.json
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from medreasoner_infer.hooks import NO_HOOKS
from medreasoner_infer.imaging import (
    Plane,
    Volume,
    choose_window,
    load_volume,
    slice_mapping,
    slice_of_mask,
)
from medreasoner_infer.measuring.measured import measure_target
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.prompting import SourcedPrompt, record_prompt
from medreasoner_infer.records import now, record_slice, summarise_mask
from medreasoner_infer.request import AskRequest
from medreasoner_infer.result import InferenceResult, SliceChoice
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.talk.answering import Read, read_question
from medreasoner_infer.talk.looking import question_for
from medreasoner_infer.types import REASONER, ModelIdentity, SlicePrompt

DIALOGUES = Path(__file__).with_name("dialogues.tsv")
TRUTH = ModelIdentity("label map", "TotalSegmentator", None, None, "Apache-2.0")
MR_LABELS = {
    "spleen": 1, "right kidney": 2, "left kidney": 3, "gallbladder": 4, "liver": 5, "stomach": 6,
    "pancreas": 7, "vertebra": 19, "spinal cord": 21, "aorta": 23, "inferior vena cava": 24,
}  # fmt: skip
"""Label values of the ``total_mr`` task of TotalSegmentator v2."""
LEAST_SLICE_PX = 12


@dataclass(frozen=True, eq=False)
class Labelled:
    """A volume and the true masks (I, J, K) of its targets."""

    volume: Volume
    masks: Mapping[str, NDArray[np.uint8]]

    def found(self, name: str, index: int | None = None) -> InferenceResult:
        """The answer that a reader has before a dialogue: the true mask, on its largest slice."""
        mask = self.masks[name]
        if index is None:
            index = int(np.count_nonzero(mask, axis=(0, 1)).argmax())
        shown = DisplayedSlice.of(self.volume, Plane.AXIAL, index, choose_window(self.volume, None))
        on_slice = slice_of_mask(mask, shown.mapping)
        prompts = None
        if on_slice.any():
            rows, columns = np.nonzero(on_slice)
            x1, x2 = float(columns.min()), float(columns.max() + 1)
            y1, y2 = float(rows.min()), float(rows.max() + 1)
            prompt = SourcedPrompt(SlicePrompt((x1, y1, x2, y2)), REASONER, ())
            prompts = record_prompt(prompt, shown.mapping)
        return InferenceResult(
            inference_id=name, created_at=now(), kind="ask", query=question_for(name),
            reasoning=None, completion=None, present=True, confidence=None, agreement=None,
            samples=(), prompts=prompts, slice=record_slice(shown),
            slice_choice=SliceChoice("index", "By the label map."), propagated=True,
            mask_ijk=mask, mask=summarise_mask(mask, shown.mapping, None),
            modality=self.volume.modality, reasoner=None, segmenter=TRUTH, timings_s={},
        )  # fmt: skip


@dataclass(frozen=True)
class Turn:
    """What a reader said, what it was to come to, and what it came to."""

    said: str
    expected: str
    got: str

    @cached_property
    def is_right(self) -> bool:
        """Whether the referent is the right one."""
        return self.got == self.expected


def images(data: Path) -> dict[str, Labelled]:
    """Two CT volumes and one of MR, by the names of the table."""
    from medreasoner_training.embedded.end_to_end.cases import real_organs

    folder = data / "totalsegmentator"
    found: dict[str, tuple[Volume, dict[str, NDArray[np.uint8]]]] = {}
    keys: dict[str, str] = {}
    for organ in real_organs(data):
        name = keys.setdefault(organ.volume.key, f"ct{len(keys) + 1}")
        mask = np.asfortranarray(organ.truth_khw.transpose(2, 1, 0)).astype(np.uint8)
        found.setdefault(name, (organ.volume, {}))[1][organ.name] = mask
    labels = load_volume(folder / "example_seg_mr.nii.gz").array
    masks = {name: (labels == value).astype(np.uint8) for name, value in MR_LABELS.items()}
    found["mr"] = load_volume(folder / "example_mr_sm.nii.gz", modality="MR"), masks
    return {name: Labelled(*parts) for name, parts in found.items()}


def talked(labelled: Labelled, first: str, said: str, expected: str, asked: Any) -> list[Turn]:
    """One dialogue, turn by turn."""
    earlier = labelled.found(first)
    turns = []
    for text, wanted in zip(said.split(" | "), expected.split(" | "), strict=True):
        read = asked(labelled.volume, AskRequest(text, earlier=earlier))
        turns.append(Turn(text, wanted, came_to(read, earlier)))
        target = None if read.reading is None else read.reading.target
        if read.answer is None and target is not None and target in labelled.masks:
            earlier = labelled.found(target, read.request.selection.index)
    return turns


def came_to(read: Read, earlier: InferenceResult) -> str:
    """What a turn came to, as the table writes it."""
    if read.reading is None:
        return "stands by itself"
    answer = read.answer
    if answer is not None and answer.outcome == "not_understood":
        return "?"
    is_step = "towards" in read.reading.read_as
    index = read.request.selection.index if answer is None else answer.slice.index
    moved = 0 if index is None else index - earlier.slice.index
    if answer is not None:
        return "measure" + (_way(moved) if moved else "")
    return f"{read.reading.target}{_way(moved) if is_step else ''}"


def _way(moved: int) -> str:
    """Slices of these volumes count towards the head."""
    return f"@{'head' if moved > 0 else 'feet'}{abs(moved)}"


def diameters(labelled: Mapping[str, Labelled]) -> Iterator[dict[str, Any]]:
    """Both diameters of each true mask on three slices, and those of an independent computation.

    The longest: of all pairs of corners of the outline, which shapely draws. The one across it, or
    across any that is as long: shapely cuts the outline by parallel lines, a tenth of a pixel
    apart.
    """
    for name, image in labelled.items():
        for target, mask in image.masks.items():
            filled = np.flatnonzero(np.count_nonzero(mask, axis=(0, 1)) >= LEAST_SLICE_PX)
            for index in np.unique(filled[np.linspace(0, len(filled) - 1, 3).astype(int)]):
                mapping = slice_mapping(image.volume, Plane.AXIAL, int(index))
                measured = measure_target(mask, mapping)
                if measured is None:
                    continue
                lines = (measured.longest, measured.perpendicular)
                ours = [line.length_mm or line.length_px for line in lines]
                theirs = _by_shapely(slice_of_mask(mask, mapping), mapping.spacing_xy_mm)
                voxel_mm = max(mapping.spacing_xy_mm)
                off = [abs(a - b) / voxel_mm for a, b in zip(ours, theirs, strict=True)]
                yield {"image": name, "target": target, "index": int(index), "off_voxels": off}


def _by_shapely(mask: NDArray[np.bool_], spacing: tuple[float, float]) -> tuple[float, float]:
    from scipy.spatial.distance import pdist, squareform
    from shapely import LineString, box  # type: ignore[import-untyped]
    from shapely.ops import unary_union  # type: ignore[import-untyped]

    wide, high = spacing
    pixels = [box(x * wide, y * high, (x + 1) * wide, (y + 1) * high) for y, x in np.argwhere(mask)]
    outline = unary_union(pixels)
    parts = getattr(outline, "geoms", [outline])
    points = np.concatenate([np.array(part.exterior.coords)[:-1] for part in parts])
    distances = squareform(pdist(points))
    reach, longest = float(distances.max()), 0.0
    for start, end in np.argwhere(np.triu(distances) > reach * (1 - 1e-9)):
        along = (points[end] - points[start]) / reach
        across = np.array([-along[1], along[0]])
        for offset in np.arange(0, reach, min(spacing) / 10) + min(spacing) / 23:
            place = points[start] + offset * along
            line = LineString([place - reach * across, place + reach * across])
            cut = outline.intersection(line)
            longest = max([longest, *(piece.length for piece in getattr(cut, "geoms", [cut]))])
    return reach, longest


def main(
    data: Annotated[Path, typer.Option(help="folder with the public volumes")],
    out: Annotated[Path, typer.Option(help="what was measured, as JSON")],
    reasoner: Annotated[str, typer.Option(help="that looks for neighbours")] = "embedded",
) -> None:
    """Measure both, print the shares, write every turn."""
    started = time.monotonic()
    labelled = images(data)
    model = Pipeline.from_registry(reasoner).reasoner

    def asked(volume: Volume, request: AskRequest) -> Read:
        return read_question(volume, request, lambda: model, lambda: TRUTH, NO_HOOKS)

    rows = [line.split("\t") for line in DIALOGUES.read_text(encoding="utf-8").splitlines()]
    dialogues = [
        (image, first, talked(labelled[image], first, said, expected, asked))
        for image, first, said, expected in rows
    ]
    right = sum(all(turn.is_right for turn in turns) for *_, turns in dialogues)
    turns = [turn for *_, each in dialogues for turn in each]
    print(f"dialogues right throughout: {right} of {len(dialogues)}")
    print(f"turns right: {sum(turn.is_right for turn in turns)} of {len(turns)}")
    for image, first, each in dialogues:
        for turn in each:
            if not turn.is_right:
                print(f"  {image}, {first}: {turn.said!r} came to {turn.got}, not {turn.expected}")
    measured = list(diameters(labelled))
    off = np.array([row["off_voxels"] for row in measured])
    print(f"masks on a slice: {len(off)}; largest difference {off.max(axis=0)} voxels")
    told = [
        {"image": image, "first": first, "turns": [asdict(turn) for turn in each]}
        for image, first, each in dialogues
    ]
    out.write_text(json.dumps({"dialogues": told, "diameters": measured}, indent=1) + "\n")
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    typer.run(main)
