// SPDX-License-Identifier: Apache-2.0
// Sizes that the server measured of a target, and what a question that asks for them sends along.

import { sameRuns } from './runs.js';
import { aboutOf } from './target.js';

const MEASURE = 'measure';

/** Whether an answer repeats the mask of an earlier one, with its sizes. */
export function isMeasurement({ kind }) {
  return kind === MEASURE;
}

/**
 * The sizes that an answer tells, `null` without any: `{text, lines}`. A line is the two ends of a
 * diameter, LPS mm.
 */
export function sizesOf({ reading, reasoning, kind }) {
  const measured = reading?.measured ?? null;
  if (measured === null) return null;
  const lines = [measured.longest, measured.perpendicular].map(({ ends_lps_mm: ends }) => ends);
  // Of a question for a place the sizes stand behind the reasoning, which is shown as it is.
  return { lines, text: kind === MEASURE ? reasoning : null };
}

/** The target with what was measured of the mask that it has now. */
export function withSizes(target, answer) {
  return { ...target, measured: sizesOf(answer), measuredMask: target.edit.mask };
}

/** What was measured of the mask that a target has on the screen; `null` where it has changed. */
export function shownSizes(target) {
  const measured = target?.measured ?? null;
  return measured !== null && sameRuns(target.measuredMask, target.edit.mask) ? measured : null;
}

/** The targets, with the sizes on the one that was measured; `id` of it or `null`. */
export function measuredIn(targets, result) {
  const about = result.reading?.about_inference_id ?? null;
  const found = targets.find(({ inferenceId }) => about !== null && inferenceId === about);
  const put = target => (target === found ? withSizes(target, result) : target);
  return { targets: targets.map(put), id: found?.id ?? null };
}

/**
 * What a question sends of the target that it goes on from: place, the recorded answer, and the mask
 * where the reader has changed it.
 */
export function sentAbout(target) {
  const { name, plane, slice, box } = aboutOf(target);
  const { edit, first, inferenceId } = target;
  const about = { about: { name, plane, slice, box } };
  if (inferenceId === null) return about;
  const isChanged = edit.mask !== null && !sameRuns(edit.mask, first.mask);
  const mask = { shape_ijk: edit.grid?.shape_ijk, runs: edit.mask?.join(',') };
  return { ...about, about_inference: inferenceId, ...(isChanged ? { about_mask: mask } : {}) };
}
