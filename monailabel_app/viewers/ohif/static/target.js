// SPDX-License-Identifier: Apache-2.0
// One target of a question: what was asked and answered, and what the reader has made of it. Its
// `edit` holds all that can be undone. Values are never changed, always replaced.

import { doubtOf } from './doubt.js';
import { cutAxis, inverse, transform } from './grid.js';
import { countOf, difference, emptyLike, intersection, sameRuns, slab, union } from './runs.js';

// Red, green, blue; told apart in all common kinds of colour blindness, the first is OHIF's own.
const COLOURS = [
  [221, 84, 84],
  [86, 180, 233],
  [240, 228, 66],
  [0, 158, 115],
  [204, 121, 167],
  [230, 159, 0],
];

/** As long as DICOM takes it. */
export const LONGEST_NAME = 64;

const NO_PROMPTS = { box: null, points: [] };

const NO_EDIT = {
  name: '',
  // A target that was deleted, or whose question was undone, is in no list.
  listed: true,
  // Not on the screen, by the reader's choice.
  hidden: false,
  answer: null,
  prompts: NO_PROMPTS,
  grid: null,
  // The segmenter's last mask, what the reader has painted over it, and what is shown of it all.
  model: null,
  painted: null,
  erased: null,
  mask: null,
  sizes: null,
};

/** The target of a question that has no answer yet; `number` counts those of a study from 1. */
export function newTarget(number, series, question) {
  return {
    id: `target-${number}`,
    number,
    colour: COLOURS[(number - 1) % COLOURS.length],
    series,
    question,
    reasoning: '',
    // Of several answers: where the model doubts, see doubt.js.
    doubt: null,
    // The inference that a submitted label belongs to; a correction keeps the question's.
    inferenceId: null,
    models: null,
    // The edit as the model made it.
    first: null,
    // What was decided: `{outcome, decidedAt, pacs, mask, name, check}`; mask and name are what was
    // stored, the mask `null` where this page does not know it.
    stored: null,
    // Sizes that the server told, of measure.js, and the mask that they are of.
    measured: null,
    measuredMask: null,
    edit: { ...NO_EDIT, name: numbered(number) },
  };
}

/**
 * A recorded question as a target; `mask` is the data of a `mask` event or `null`, `doubt` that of a
 * `doubt` event where the map is kept.
 */
export function targetOfRecord(number, record, mask, doubt = null) {
  const { result, decision } = record;
  const asked = newTarget(number, record.image_id, result.query ?? '');
  const made = calledAs(asked, record.target ?? {});
  const grid = mask === null ? null : gridOf(mask);
  const answered = withAnswer(made.edit, { ...result, ijk_to_lps: grid?.ijk_to_lps });
  const edit = mask === null ? answered : withModel(answered, mask.runs, grid);
  return {
    ...made,
    reasoning: result.reasoning ?? '',
    doubt: doubtOf(doubt ?? result.doubt),
    inferenceId: record.inference_id,
    models: modelsOf(result),
    first: edit,
    edit,
    stored: decision && {
      outcome: decision.outcome,
      decidedAt: decision.decided_at ?? null,
      name: made.edit.name,
      pacs: record.archived ? { state: 'sent' } : (record.pacs?.at(-1) ?? null),
      // Of an answer that was edited the server gives out the model's mask, the PACS what was stored.
      mask: record.archived || decision.outcome !== 'edited' ? edit.mask : null,
      check: null,
    },
  };
}

/** The target under the name and the colour that the server tells, where it does. */
export function calledAs(target, { name, color }) {
  const edit = { ...target.edit, name: name ?? target.edit.name };
  return { ...target, edit, colour: color ?? target.colour };
}

/** What the reader calls it, for the server; a number of this page is no name. */
export function calling({ edit, colour, number }) {
  return { name: edit.name === numbered(number) ? null : edit.name, color: colour };
}

/**
 * What a question that follows up on a target says of it, as the server takes it: name, slice and box
 * (px of the slice) of its last answer that had one. A target without a name is called as it was
 * asked for.
 */
export function aboutOf(target) {
  const { edit, first, question } = target;
  const boxOf = answer => answer?.prompts?.bbox_xyxy_slice_px ?? null;
  const answer = [edit.answer, first?.answer].find(known => boxOf(known) !== null) ?? edit.answer;
  const called = calling(target).name ?? question;
  return {
    name: called.split(/\s+/).join(' ').trim().slice(0, LONGEST_NAME),
    plane: answer.slice.plane,
    slice: answer.slice.index,
    box: boxOf(answer),
    center: answer.slice.center_lps_mm,
  };
}

const numbered = number => `Target ${number}`;

/** Whether an answer says nothing of a target, since the question was not understood. */
export function isPuzzled(answer) {
  return answer?.outcome === 'not_understood';
}

/** The names of those who answered and segmented. */
export function modelsOf({ reasoner, segmenter }) {
  return { reasoner: reasoner?.name ?? null, segmenter: segmenter?.name ?? null };
}

/** The answer of a model, its prompts included. */
export function withAnswer(edit, answer) {
  return { ...edit, answer, prompts: promptsOf(answer.prompts) };
}

function promptsOf(record) {
  if (!record) return NO_PROMPTS;
  return {
    box: record.bbox_corners_lps_mm,
    boxByReader: record.bbox_source === 'reader',
    points: record.points_lps_mm.map((position, number) => ({
      position,
      inside: record.point_labels[number] === 1,
      byReader: record.point_sources?.[number] === 'reader',
    })),
  };
}

/** The reader's point joins those that the model and the reader have set, as the last of them. */
export function withPoint(prompts, position, inside) {
  return { ...prompts, points: [...prompts.points, { position, inside, byReader: true }] };
}

/** A scribble: its points belong together. */
export function withScribble(prompts, positions, inside) {
  const stroke = 1 + Math.max(0, ...prompts.points.map(point => point.stroke ?? 0));
  const points = positions.map(position => ({ position, inside, byReader: true, stroke }));
  return { ...prompts, points: [...prompts.points, ...points] };
}

/** A lasso: all within the contour is meant, and a position within stands for it. */
export function withLasso(prompts, position, contour, inside) {
  return { ...prompts, points: [...prompts.points, { position, inside, byReader: true, contour }] };
}

/** The prompts without one of their points, or the scribble that it is of. */
export function withoutPoint(prompts, number) {
  const { stroke } = prompts.points[number];
  const isKept = (point, at) => (stroke ? point.stroke !== stroke : at !== number);
  return { ...prompts, points: prompts.points.filter(isKept) };
}

/** What the reader has set, as it can be taken away: each point, the first one of each scribble. */
export function marksOf({ points }) {
  return points
    .map((point, number) => ({ point, number }))
    .filter(
      ({ point: { byReader, stroke }, number }) =>
        byReader && !(stroke && points[number - 1]?.stroke === stroke)
    );
}

/**
 * Prompts as the server takes them; `isNew(point, number)` tells which points the mask that goes
 * with them does not know.
 */
export function sentPrompts({ box, boxByReader, points }, isNew = () => false) {
  return {
    box: box ?? [],
    box_by: boxByReader ? 'reader' : 'reasoner',
    points: points.map((point, number) => {
      const { position, inside, byReader, contour } = point;
      const sent = { position, inside, by: byReader ? 'reader' : 'reasoner', new: isNew(point, number) };
      return sent.new && contour ? { ...sent, contour } : sent;
    }),
  };
}

/** A mask on the slice of a position (LPS mm), as runs of the whole grid; `null` without a mask. */
export function onSliceAt(runs, grid, plane, position) {
  if (runs === null) return null;
  const voxel = transform(inverse(grid.ijk_to_lps), position);
  const index = Math.floor(voxel[cutAxis(grid.ijk_to_lps, plane)] + 0.5);
  return intersection(runs, sliceOf({ plane, index }, grid));
}

/** Voxels of the segmenter; what the reader has painted and erased stays. */
export function withModel(edit, runs, grid) {
  const painted = edit.painted ?? emptyLike(runs);
  const erased = edit.erased ?? emptyLike(runs);
  const mask = difference(union(runs, painted), erased);
  return measured({ ...edit, grid, model: runs, painted, erased, mask });
}

/** As `withModel`, for a mask of one slice: the others keep what the segmenter made of them. */
export function withModelOnSlice(edit, runs, grid, earlier) {
  if (earlier === null) return withModel(edit, runs, grid);
  return withModel(edit, union(difference(earlier, sliceOf(edit.answer.slice, grid)), runs), grid);
}

/**
 * As `withModelOnSlice`, for what the server made of `sent`, which the screen showed on that slice:
 * what was painted or erased there counts as far as the server has kept it.
 */
export function withCorrection(edit, runs, grid, earlier, sent) {
  const painted = difference(edit.painted, difference(sent, runs));
  const erased = difference(edit.erased, difference(runs, sent));
  return withModelOnSlice({ ...edit, painted, erased }, runs, grid, earlier);
}

/** The reader has painted: the screen showed `before` and shows `after`. */
export function withBrush(edit, before, after) {
  const added = difference(after, before);
  const removed = difference(before, after);
  return measured({
    ...edit,
    painted: difference(union(edit.painted, added), removed),
    erased: difference(union(edit.erased, removed), added),
    mask: difference(union(edit.mask, added), removed),
  });
}

/** The data of a `mask` event without its voxels. */
export function gridOf({ shape_ijk, ijk_to_lps }) {
  return { shape_ijk, ijk_to_lps };
}

/** Whether the screen shows something else than the model's answer. */
export function isEdited({ edit, first }) {
  return !sameRuns(edit.mask, first.mask);
}

/** Whether what is on the screen is what was stored last, by mask and by name. */
export function isStored({ edit, stored }) {
  return stored !== null && sameRuns(edit.mask, stored.mask) && edit.name === stored.name;
}

export function hasVoxels({ edit }) {
  return edit.mask !== null && countOf(edit.mask) > 0;
}

function sliceOf({ plane, index }, { shape_ijk, ijk_to_lps }) {
  return slab(shape_ijk, cutAxis(ijk_to_lps, plane), index);
}

function measured(edit) {
  return { ...edit, sizes: measure(edit.mask, edit.grid, edit.answer.slice) };
}

/** Sizes of a mask: of all of it, and of its part on a slice. */
export function measure(mask, grid, slice) {
  const axis = cutAxis(grid.ijk_to_lps, slice.plane);
  const sides = [0, 1, 2].map(column => Math.hypot(...[0, 1, 2].map(row => grid.ijk_to_lps[row][column])));
  const voxelMm3 = sides[0] * sides[1] * sides[2];
  const voxels = countOf(mask);
  const onSlice = countOf(intersection(mask, sliceOf(slice, grid)));
  return {
    voxels,
    volumeMm3: voxels * voxelMm3,
    sliceAreaMm2: (onSlice * voxelMm3) / sides[axis],
    isOnOneSlice: voxels === onSlice,
  };
}
