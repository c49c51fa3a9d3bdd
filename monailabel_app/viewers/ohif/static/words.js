// SPDX-License-Identifier: Apache-2.0
// Sentences for the reader.

import { hasVoxels, isEdited, isPuzzled, isStored } from './target.js';

const LOW_AGREEMENT = 0.5;
const LOW_CONFIDENCE = 0.5;
const MM2_PER_CM2 = 100;
const MM3_PER_CM3 = 1000;

/**
 * What an answer says, as `{text, alert}` lines; `alert` marks what needs a second look, `puzzled`
 * what says that the question was not understood.
 */
export function describeAnswer(answer, sizes = null) {
  const lines = [presence(answer)];
  const { follow_up: followUp } = answer;
  if (followUp?.used) lines.push({ text: `It follows up on: ${followUp.target.name}.`, alert: false });
  const search = describeSearch(answer);
  if (search !== null) lines.push({ text: search, alert: false });
  const { agreement } = answer;
  if (agreement !== null && agreement !== undefined && isPuzzled(answer)) {
    const same = agreement === 1;
    const text = `Further answers ${same ? 'say the same' : 'do not all say the same'}.`;
    lines.push({ text, alert: !same });
  } else if (agreement !== null && agreement !== undefined) {
    const low = agreement < LOW_AGREEMENT;
    const text = `Several answers agree to ${percent(agreement)}${low ? ': low, look closely' : ''}.`;
    lines.push({ text, alert: low });
  }
  const certainty = describeCertainty(answer);
  if (certainty !== null) lines.push(certainty);
  for (const text of [describeSize(answer, sizes), describeWindow(answer.slice)]) {
    if (text !== null) lines.push({ text, alert: false });
  }
  for (const text of answer.warnings ?? []) lines.push({ text, alert: true });
  return lines;
}

// Without a calibration there is no number: a model that finds nothing says so with the same certainty
// about a word that it never learned.
function describeCertainty(answer) {
  const { calibrated, confidence, present } = answer;
  if (isPuzzled(answer) || confidence === null || confidence === undefined) return null;
  if (!calibrated) {
    if (!present || confidence >= LOW_CONFIDENCE) return null;
    return { text: 'The model itself is not sure of this answer.', alert: true };
  }
  const low = confidence < LOW_CONFIDENCE;
  const what = present ? 'its place is right' : 'it is not there';
  const text = `${low ? 'Uncertain: the' : 'The'} probability that ${what} is ${percent(confidence)}.`;
  return { text, alert: low };
}

// The viewer may count slices from the other end, so no number of a slice is ever said.
function presence(answer) {
  const { present, slice, slice_choice } = answer;
  const { method, candidates } = slice_choice;
  if (present) return { text: 'The target is on this slice.', alert: false };
  if (isPuzzled(answer)) return puzzled(slice_choice);
  const where =
    method === 'search'
      ? `any of the ${candidates.length} slices looked at, of ${slice.count} in the series`
      : 'this slice';
  return { text: `Not present: the target was not found on ${where}.`, alert: true };
}

function puzzled({ method, candidates }) {
  const where =
    method === 'search'
      ? ` on ${candidates.filter(isPuzzled).length} of ${candidates.length} slices looked at`
      : '';
  const text = `The question was not understood${where}: nothing is said of any target.`;
  return { text, alert: false, puzzled: true };
}

function describeSearch({ present, outcome, slice_choice: { method, candidates } }) {
  if (method !== 'search' || isPuzzled({ outcome })) return null;
  const unclear = candidates.filter(isPuzzled).length;
  if (!present) {
    return unclear === 0 ? null : `On ${unclear} of these slices the question was not understood.`;
  }
  const seen = candidates.filter(candidate => candidate.present).length;
  return `Of ${candidates.length} slices looked at, ${seen} show the target; this one shows it best.`;
}

function describeSize(answer, sizes) {
  // A projection magnifies, so its millimetres are none of the patient.
  if (!sizes?.voxels || answer.slice.plane === 'acquired') return null;
  const area = (sizes.sliceAreaMm2 / MM2_PER_CM2).toFixed(1);
  const volume = (sizes.volumeMm3 / MM3_PER_CM3).toFixed(1);
  const area_text = `Area on this slice: ${area} cm²`;
  return sizes.isOnOneSlice ? `${area_text}.` : `${area_text}; volume: ${volume} cm³.`;
}

function describeWindow({ plane, window_name: name, window_center: center, window_width: width }) {
  if (center === null || center === undefined) return null;
  const rounded = value => Number(value.toPrecision(4));
  const named = name ? ` (${name.replaceAll('_', ' ')})` : '';
  return `Read: ${plane}, window W ${rounded(width)} L ${rounded(center)}${named}.`;
}

function percent(share) {
  return `${Math.round(share * 100)} %`;
}

/** What was decided, and where it is kept: `{text, alert}`. */
export function describeDecision(outcome, pacs) {
  const decided = `This answer is ${outcome}.`;
  if (pacs === null) return { text: decided, alert: false };
  const kept = {
    sent: 'The PACS has it.',
    pending: `It is kept here and goes to the PACS as soon as that answers. ${pacs.error ?? ''}`,
    failed: `It is kept here, but the PACS has not got it. ${pacs.error ?? ''}`,
    superseded: 'A newer version has taken its place.',
  };
  return { text: `${decided} ${kept[pacs.state]}`.trim(), alert: pacs.state === 'failed' };
}

/** Whether what was stored is what was on the screen: `{text, alert}`. */
export function describeCheck({ screen, stored }) {
  if (screen === null || stored === null) {
    const text = 'Whether it is what was on the screen was not compared; that needs HTTPS.';
    return { text, alert: true };
  }
  const text =
    screen === stored
      ? `Stored as it was on the screen (SHA-256 ${stored.slice(0, 8)}…).`
      : 'What the server has stored is not what was on the screen; submit it again.';
  return { text, alert: screen !== stored };
}

/** Who answered. */
export function describeModels({ reasoner, segmenter }) {
  const parts = [reasoner && `Answer: ${reasoner}.`, segmenter && `Mask: ${segmenter}.`];
  return parts.filter(Boolean).join(' ');
}

/** What became of a target, in a few words: `{state, alert}`; `puzzled` as of an answer. */
export function describeTarget(target) {
  const { edit, stored } = target;
  if (stored !== null && !isStored(target)) {
    return { state: `${stored.outcome}, changed since`, alert: true };
  }
  if (stored !== null) return { state: stored.outcome, alert: false };
  if (isPuzzled(edit.answer) && !hasVoxels(target)) {
    return { state: 'not understood', alert: false, puzzled: true };
  }
  if (edit.mask === null) return { state: 'not present', alert: true };
  if (!hasVoxels(target)) return { state: 'empty', alert: true };
  return { state: isEdited(target) ? 'edited' : 'answered', alert: false };
}

/** What the next question follows up on. */
export function describeAbout({ name, plane, center }) {
  return [`about: ${name}`, describePlace({ plane, center_lps_mm: center })].filter(Boolean).join(', ');
}

/** One of the reader's points, scribbles or lassos. */
export function describePoint({ inside, stroke, contour }, number) {
  const drawn = stroke ? 'scribble' : 'point';
  return `${contour ? 'lasso' : drawn} ${number} ${inside ? 'inside' : 'outside'}`;
}

const KINDS = {
  question: 'new question',
  click: 'click',
  scribble: 'scribble',
  lasso: 'lasso',
  box: 'box',
  brush: 'brush or eraser',
  point: 'point taken away',
  reset: 'back to the answer',
  rename: 'new name',
  delete: 'delete',
  hide: 'hide or show',
};

/** What a command did, and to what. */
export function describeCommand({ kind, before, after }) {
  return `${KINDS[kind]}: ${(after.listed ? after : before).name}`;
}

/** An earlier question on a series of that name or `null`: `{question, details}`. */
export function describeRecord(record, seriesName = null) {
  const { query, slice } = record.result;
  const asked = new Date(record.created_at).toLocaleString(undefined, {
    dateStyle: 'medium',
    timeStyle: 'short',
  });
  const missing = isPuzzled(record) ? 'not understood' : 'not present';
  const found = record.present ? 'present' : missing;
  const outcome = record.decision?.outcome ?? 'not decided';
  const kept = record.archived ? 'in the PACS' : null;
  const details = [outcome, found, seriesName, describePlace(slice), asked, kept].filter(Boolean);
  const name = record.target?.name;
  return { question: name ? `${name}: ${query}` : query, details: details.join(' · ') };
}

// The axis across a plane, and its ends: LPS grows to the left, to the back and to the head.
const ACROSS = { sagittal: [0, 'L', 'R'], coronal: [1, 'P', 'A'], axial: [2, 'S', 'I'] };

/** A slice by its place in the patient, such as "axial 12.5 mm S". */
function describePlace({ plane, center_lps_mm: center }) {
  const across = ACROSS[plane];
  if (across === undefined) return null;
  const [axis, above, below] = across;
  return `${plane} ${Math.abs(center[axis]).toFixed(1)} mm ${center[axis] < 0 ? below : above}`;
}

/** A fault as a sentence. */
export function describeFault(error) {
  if (error instanceof TypeError) return 'The server cannot be reached; is it running?';
  return error?.message || 'Something went wrong; ask again.';
}
