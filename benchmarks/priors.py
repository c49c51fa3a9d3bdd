# SPDX-License-Identifier: Apache-2.0
"""Priors against known truth: places, growth, and a patient who did not change.

Run: ``python benchmarks/priors.py --ct CT.nii.gz``. It prints one JSON line. Patients are phantoms,
and a real CT where one is given; the second examination is the first one, turned and shifted by a
known rigid motion and scanned on another grid.

``registration``: the error of a place, against the diagonal of a voxel. ``growth``: one organ of a
phantom is larger or smaller by a known factor, and both examinations are asked for it. ``still``:
nothing has changed, so that "larger", "smaller", "new" and "not found any more" are false.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medreasoner_infer.change import Change
from medreasoner_infer.imaging import Volume, load_volume
from medreasoner_infer.imaging.mapping import transform_points
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.priors import Examination, PriorError, align, compare
from medreasoner_infer.request import AskRequest, SliceSelection
from medreasoner_training.embedded.phantom import Label, Phase, SliceGrid, sample_torso
from medreasoner_training.embedded.phantom.study import render_volume
from medreasoner_training.embedded.phantom.tissues import sample_hu_table

MAX_TURN_DEG, MAX_SHIFT_MM = 8.0, 40.0
AIR_HU = -1024
SPACING_MM = np.array([2.0, 2.0, 4.0])
MATRIX = 200
ORGANS = {"liver": Label.LIVER, "spleen": Label.SPLEEN, "left kidney": Label.LEFT_KIDNEY}
FACTORS = (1.6, 1.0, 0.6, 1.25, 0.8)
QUESTIONS = "liver,spleen,right kidney,left kidney,aorta,urinary bladder"


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options; every field is a command line option."""

    ct: str | None = field(default=None, metadata={"help": "a real CT"})
    parts: str = "registration,growth,still"
    cases: int = field(default=20, metadata={"help": "of registration"})
    growths: int = field(default=15, metadata={"help": "comparisons of a grown organ"})
    stills: int = field(default=4, metadata={"help": "motions of each unchanged patient"})
    organs: str = field(default=QUESTIONS, metadata={"help": "of patients who have not changed"})
    seed: int = 1


@dataclass(frozen=True, eq=False)
class Patient:
    """An examination: HU (I, J, K), and labels of the same shape where truth is known."""

    volume: Volume
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Motion:
    """How the patient lies the next time, LPS mm to LPS mm, and on which grid it is scanned."""

    moved: np.ndarray
    grid: np.ndarray
    shape: tuple[int, int, int]

    def again(self, array: np.ndarray, affine: np.ndarray, order: int, outside: int) -> np.ndarray:
        """``array`` on the other grid."""
        to_source = np.linalg.inv(affine) @ np.linalg.inv(self.moved) @ self.grid
        return ndimage.affine_transform(
            array, to_source[:3, :3], to_source[:3, 3], self.shape, order=order, cval=outside
        )


def phantom(seed: int, organ: str | None = None, factor: float = 1.0, anew: int = 0) -> Patient:
    """A torso from pelvis to liver, of which one organ has ``factor`` times its volume.

    Examinations of one patient differ by ``anew``, the seed of the noise.
    """
    rng = np.random.default_rng([77, seed])
    torso = sample_torso(rng, vary=0.8)
    kept = {
        name: replace(variation, absent=variation.absent and name != organ)
        for name, variation in torso.variations.items()
    }
    if organ is not None:
        own, side = kept[organ], float(np.cbrt(factor))
        scale_u, scale_v = own.scale_uv
        kept[organ] = replace(
            own, scale_uv=(scale_u * side, scale_v * side), scale_z=own.scale_z * side
        )
    torso = replace(torso, variations=kept, lesions=())
    grid = SliceGrid((MATRIX, MATRIX), float(SPACING_MM[0]))
    heights = np.arange(110.0, 420.0, SPACING_MM[2])
    table_hu, noise = sample_hu_table(rng, Phase.VENOUS), np.random.default_rng([seed, anew])
    hu, labels = render_volume(torso, heights, grid, table_hu, noise, 12.0, 0.6)
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = [*(-(MATRIX - 1) / 2 * SPACING_MM[:2]), heights[0]]
    return Patient(_volume(hu.transpose(2, 1, 0), affine), labels.transpose(2, 1, 0))


def motion(volume: Volume, rng: np.random.Generator) -> Motion:
    """A random one, and a grid of another spacing and direction about the same field of view."""
    middle = transform_points(volume.ijk_to_lps, (np.array(volume.shape_ijk) - 1) / 2)
    moved = np.eye(4)
    turn = rng.uniform(-MAX_TURN_DEG, MAX_TURN_DEG, 3)
    moved[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    shift = rng.uniform(-MAX_SHIFT_MM, MAX_SHIFT_MM, 3)
    moved[:3, 3] = middle + shift - moved[:3, :3] @ middle
    scale = np.array([*[rng.uniform(0.8, 1.25)] * 2, rng.uniform(0.8, 1.5)])
    shape = tuple(int(n) for n in np.maximum(np.array(volume.shape_ijk) / scale, 8))
    grid = volume.ijk_to_lps @ np.diag([*scale, 1.0])
    grid[:3, 3] += rng.uniform(-10, 10, 3)
    return Motion(moved, grid, (shape[0], shape[1], shape[2]))


def examined_again(volume: Volume, how: Motion) -> Volume:
    """The same patient, moved."""
    array = how.again(np.asarray(volume.array), volume.ijk_to_lps, 1, AIR_HU)
    return replace(_volume(array, how.grid), modality=volume.modality)


def registration(options: BenchmarkOptions, patients: list[Patient]) -> dict[str, object]:
    """Errors (mm) at places in the body, by case."""
    rng = np.random.default_rng(options.seed)
    rows = []
    for case in range(options.cases):
        current = patients[case % len(patients)].volume
        how = motion(current, rng)
        prior = examined_again(current, how)
        started = time.process_time()
        try:
            alignment = align(Examination(current), Examination(prior))
        except PriorError as error:
            rows.append({"refused": type(error).__name__})
            continue
        places = _places(current, how)
        apart = alignment.to_prior(places) - transform_points(how.moved, places)
        errors = np.linalg.norm(apart, axis=1)
        diagonal = float(np.linalg.norm(current.spacing_ijk_mm))
        rows.append(
            {
                "mean_mm": round(float(errors.mean()), 2),
                "p95_mm": round(float(np.percentile(errors, 95)), 2),
                "diagonal_mm": round(diagonal, 2),
                "method": alignment.method,
                "similarity": round(alignment.similarity or 0, 3),
                "cpu_s": round(time.process_time() - started, 1),
            }
        )
    good = sum(row.get("p95_mm", np.inf) <= row.get("diagonal_mm", 0) for row in rows)
    return {"cases": len(rows), "within_a_diagonal": good, "by_case": rows}


def growth(options: BenchmarkOptions, pipeline: Pipeline) -> dict[str, object]:
    """Whether the true change of volume lies within what is told, and what is said of it."""
    rng = np.random.default_rng(options.seed + 1)
    rows = []
    names = list(ORGANS)
    for case in range(options.growths):
        organ, factor = names[case % len(names)], FACTORS[case // len(names) % len(FACTORS)]
        before, after = phantom(case, organ), phantom(case, organ, factor, anew=1)
        how = motion(before.volume, rng)
        sizes = [np.count_nonzero(p.labels == ORGANS[organ]) for p in (before, after)]
        truth = float(100 * (sizes[1] / sizes[0] - 1))
        prior = examined_again(before.volume, how)
        told = _compared(pipeline, after.volume, prior, organ, _middle(after, organ))
        row: dict[str, object] = {"organ": organ, "truth_percent": round(truth)}
        row |= _told(told, truth) if isinstance(told, Change) else {"refused": told}
        rows.append(_noted(row))
    measured = [row for row in rows if "within" in row]
    still = [row for row in measured if row["truth_percent"] == 0]
    return {
        "comparisons": len(rows),
        "measured": len(measured),
        "truth_within": sum(bool(row["within"]) for row in measured),
        "wrong_direction": sum(bool(row["wrong"]) for row in measured),
        "unchanged": len(still),
        "false_change": sum(row["kind"] != "within_uncertainty" for row in still),
        "by_case": rows,
    }


def still(options: BenchmarkOptions, pipeline: Pipeline, patients: list[Patient]) -> dict:
    """What is said of organs that have not changed."""
    rng = np.random.default_rng(options.seed + 2)
    rows = []
    for patient in patients:
        for _ in range(options.stills):
            prior = examined_again(patient.volume, motion(patient.volume, rng))
            for organ in options.organs.split(","):
                told = _compared(pipeline, patient.volume, prior, organ, None)
                row: dict[str, object] = {"organ": organ}
                row |= _told(told, 0.0) if isinstance(told, Change) else {"kind": told}
                rows.append(_noted(row))
    kinds = Counter(str(row["kind"]) for row in rows)
    return {"comparisons": len(rows), "kinds": dict(kinds), "by_case": rows}


def _compared(
    pipeline: Pipeline, current: Volume, prior: Volume, organ: str, place: np.ndarray | None
) -> Change | str:
    where = None if place is None else (float(place[0]), float(place[1]), float(place[2]))
    request = AskRequest(
        f"Where is the {organ}?", SliceSelection(plane="axial", position_lps_mm=where)
    )
    try:
        found = compare(
            lambda volume, asked, keep: keep(pipeline.ask(volume, asked)),
            Examination(current),
            Examination(prior),
            request,
            segment=pipeline.segment,
            same_patient=True,
        )
    except PriorError as error:
        return type(error).__name__
    return found.told.change


def _noted(row: dict[str, object]) -> dict[str, object]:
    """Each case at once, as all take long."""
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def _told(change: Change, truth_percent: float) -> dict[str, object]:
    volume = change.volume_ml
    row: dict[str, object] = {"kind": change.kind}
    if volume.percent is not None and volume.percent_uncertainty is not None:
        off = abs(volume.percent - truth_percent)
        direction = {"larger": 1, "smaller": -1}.get(change.kind, 0)
        row |= {
            "percent": round(volume.percent),
            "uncertainty": round(volume.percent_uncertainty),
            "within": off <= volume.percent_uncertainty,
            "wrong": direction * truth_percent < 0,
        }
    return row


def _places(volume: Volume, how: Motion) -> np.ndarray:
    """(N, 3) LPS mm in the body that the moved examination shows as well."""
    indices = np.argwhere(volume.array > -200)[::997]
    places = transform_points(volume.ijk_to_lps, indices)
    there = transform_points(np.linalg.inv(how.grid) @ how.moved, places)
    within = ((there >= 0) & (there <= np.array(how.shape) - 1)).all(axis=1)
    return np.asarray(places[within])


def _middle(patient: Patient, organ: str) -> np.ndarray:
    """LPS mm on the slice that shows most of an organ."""
    of_organ = patient.labels == ORGANS[organ]
    k = int(of_organ.sum(axis=(0, 1)).argmax())
    return transform_points(patient.volume.ijk_to_lps, (MATRIX / 2, MATRIX / 2, k))


def _volume(array: np.ndarray, affine: np.ndarray) -> Volume:
    array = np.ascontiguousarray(array)
    key = f"{array.shape}/{int(array.sum(dtype=np.int64))}/{affine.ravel().tolist()}"
    return Volume(array, affine, "CT", key, Path("priors"))


def _patients(options: BenchmarkOptions) -> Iterator[Patient]:
    for seed in (101, 102, 103):
        yield phantom(seed)
    if options.ct is not None:
        volume = load_volume(options.ct, modality="CT")
        yield Patient(volume, np.zeros(volume.shape_ijk, np.uint8))


def main() -> None:
    """Measure the parts that are asked for and print a row of JSON for each."""
    import torch
    from transformers import HfArgumentParser

    (options,) = HfArgumentParser(BenchmarkOptions).parse_args_into_dataclasses()
    torch.set_num_threads(1)
    parts = options.parts.split(",")
    patients, pipeline = list(_patients(options)), Pipeline.from_registry()
    done: dict[str, object] = {}
    if "registration" in parts:
        done["registration"] = registration(options, patients)
    if "growth" in parts:
        done["growth"] = growth(options, pipeline)
    if "still" in parts:
        # The real patient where there is one, else phantoms.
        done["still"] = still(options, pipeline, patients[-1:])
    print(json.dumps(done))


if __name__ == "__main__":
    main()
