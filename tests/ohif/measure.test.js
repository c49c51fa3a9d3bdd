// SPDX-License-Identifier: Apache-2.0
// Sizes in the tab; run by: node --test tests/ohif
import assert from 'node:assert/strict';
import { test } from 'node:test';

const at = name => import(new URL(`../../monailabel_app/viewers/ohif/static/${name}`, import.meta.url));
const { isMeasurement, sentAbout, shownSizes } = await at('measure.js');
const { active, initialState, lastAnswered, listed, reduce } = await at('session.js');

const GRID = { shape_ijk: [4, 3, 2], ijk_to_lps: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]] };
const RUNS = [5, 2, 17];
const ANSWER = {
  present: true, outcome: 'present', kind: 'ask', reasoning: 'There.', confidence: null,
  prompts: { bbox_xyxy_slice_px: [1, 1, 3, 2], bbox_corners_lps_mm: [[1, 1, 0], [2, 1, 0]],
    points_lps_mm: [], point_labels: [] },
  slice: { plane: 'axial', index: 0, count: 2, center_lps_mm: [2, 1.5, 0] },
  slice_choice: { method: 'index', candidates: [] }, warnings: [], ...GRID,
};
const ENDS = [[[0.5, 0.5, 0], [2.5, 1.5, 0]], [[1.5, 0.5, 0], [1.5, 1.5, 0]]];
const SIZES = {
  kind: 'measure', reasoning: 'Longest diameter 2.2 mm.', samples: [],
  reading: {
    about_inference_id: 'first',
    measured: { longest: { ends_lps_mm: ENDS[0] }, perpendicular: { ends_lps_mm: ENDS[1] } },
  },
};

const event = (name, data) => ({ type: 'event', name, data });
const asked = question => ({ type: 'asked', question, series: 's', search: false });
const mask = event('mask', { scope: 'slice', runs: RUNS, ...GRID });
const run = (actions, state = initialState()) => actions.reduce(reduce, state);
const answered = id => [
  asked('Where is the liver?'), event('answer', ANSWER), mask,
  event('record', { inference_id: id, medreasoner: ANSWER }),
];
const measured = [
  asked('How large is it?'), event('answer', { ...ANSWER, kind: 'measure' }), mask,
  event('record', { inference_id: 'sizes', medreasoner: SIZES }),
];

test('sizes join the target that they are of, and make none', () => {
  const state = run([...answered('first'), ...answered('second'), ...measured]);
  assert.equal(listed(state).length, 2);
  assert.equal(active(state).inferenceId, 'first');
  assert.deepEqual(shownSizes(active(state)), { lines: ENDS, text: SIZES.reasoning });
  assert.equal(state.past.length, 2); // nothing was changed that could be undone
  assert.equal(state.draft, null);
  assert.equal(shownSizes(listed(state)[1]), null);
});

test('sizes are shown of the mask that was measured alone', () => {
  const state = run([...answered('first'), ...measured]);
  const target = active(state);
  const painted = reduce(state, { type: 'brushed', id: target.id, before: RUNS, after: [5, 3, 16] });
  assert.equal(shownSizes(active(painted)), null);
  assert.notEqual(shownSizes(active(reduce(painted, { type: 'undone' }))), null);
});

test('a question for a size and a place has its diameters drawn, and its text once', () => {
  const both = { ...ANSWER, reading: { ...SIZES.reading, about_inference_id: null } };
  const record = event('record', { inference_id: 'first', medreasoner: both });
  const state = run([...answered('first').slice(0, 3), record]);
  assert.deepEqual(shownSizes(active(state)), { lines: ENDS, text: null });
  assert.equal(isMeasurement(both), false);
});

test('the recorded answer goes along, and a mask only where the reader has changed it', () => {
  const state = run(answered('first'));
  const sent = sentAbout(active(state));
  assert.equal(sent.about_inference, 'first');
  assert.deepEqual(sent.about.box, [1, 1, 3, 2]);
  assert.equal(sent.about_mask, undefined);
  const id = active(state).id;
  const painted = reduce(state, { type: 'brushed', id, before: RUNS, after: [5, 3, 16] });
  assert.deepEqual(sentAbout(active(painted)).about_mask, { shape_ijk: [4, 3, 2], runs: '5,3,16' });
});

test('a question refers to the last answer on its series that was understood', () => {
  const puzzled = { ...ANSWER, present: false, outcome: 'not_understood', prompts: null };
  const odd = [
    asked('and?'), event('answer', puzzled), event('record', { inference_id: 'odd', medreasoner: puzzled }),
  ];
  const state = run([...answered('first'), ...odd]);
  assert.equal(active(state).inferenceId, 'odd');
  assert.equal(lastAnswered(state, 's').inferenceId, 'first');
  assert.equal(lastAnswered(state, 'other'), null);
  assert.equal(lastAnswered(initialState(), 's'), null);
});
