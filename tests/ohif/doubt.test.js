// SPDX-License-Identifier: Apache-2.0
// Doubt without a page; run by: node --test tests/ohif
import assert from 'node:assert/strict';
import { test } from 'node:test';

const at = name => import(new URL(`../../monailabel_app/viewers/ohif/static/${name}`, import.meta.url));
const doubts = await at('doubt.js');
const { BANDS, centreOf, colourOf, describeDoubt, doubtOf, doubtfulAt, indexAt } = doubts;
const { nextDoubtful, pictureOf, unpackCounts } = doubts;
const { active, initialState, reduce } = await at('session.js');
const { targetOfRecord } = await at('target.js');

const DOUBT = {
  readings: 8,
  agreement: 0.714,
  probability: null,
  named: [
    { outcome: 'present', name: 'spleen', count: 5, elsewhere: false },
    { outcome: 'present', name: 'spleen', count: 1, elsewhere: true },
    { outcome: 'absent', name: null, count: 1, elsewhere: false },
    { outcome: 'not_understood', name: null, count: 1, elsewhere: false },
  ],
  followed: 3,
  doubtful_slices: [
    { index: 4, reason: 'end' },
    { index: 7, reason: 'readings' },
    { index: 9, reason: 'segmenter' },
  ],
};
// Columns are the LPS mm of one voxel's step; K runs downwards.
const AFFINE = [
  [2, 0, 0, 10],
  [0, 3, 0, 20],
  [0, 0, -5, 30],
  [0, 0, 0, 1],
];
const ANSWER = { slice: { plane: 'axial', index: 6, center_lps_mm: [13, 24.5, 0] } };
const SHAPE = [2, 3, 2];
const RUNS = { counts: [0, 8, 2, 0], runs: [1, 2, 3, 6] };

test('what the readings say is told by name, what differs from the answer as an alert', () => {
  const lines = describeDoubt(DOUBT);
  assert.deepEqual(lines.map(({ text }) => text), [
    '5 of 8: spleen',
    '1 of 8: spleen, at another place',
    '1 of 8: not present',
    '1 of 8: not understood',
    'Their masks agree to 71 %.',
    '3 slices to look at.',
  ]);
  assert.deepEqual(lines.map(({ alert }) => alert), [false, true, true, true, false, true]);
});

test('support is told where the record has it, little of it as an alert', () => {
  const said = support =>
    describeDoubt({ ...DOUBT, support }).filter(({ text }) => text.startsWith('Support'));
  assert.deepEqual(said(null), []);
  assert.deepEqual(said(undefined), []);
  assert.deepEqual(said(0.5), [{ text: 'Support for the answer: 50 %.', alert: false }]);
  assert.deepEqual(said(0.31), [{ text: 'Support for the answer: 31 %.', alert: true }]);
});

test('a probability is told where there is one, a low one as an alert', () => {
  const said = probability =>
    describeDoubt({ ...DOUBT, probability }).filter(({ text }) => text.includes('probability'));
  assert.deepEqual(said(null), []);
  assert.deepEqual(said(0.9).map(({ alert }) => alert), [false]);
  assert.match(said(0.2)[0].text, /Dice of 0.7 or more is 20 %/);
  assert.ok(said(0.2)[0].alert);
});

test('one goes from doubtful slice to doubtful slice both ways and round the end', () => {
  const visited = (from, step) => nextDoubtful(DOUBT, from, step).index;
  assert.deepEqual([visited(0, 1), visited(4, 1), visited(8, 1), visited(9, 1)], [4, 7, 9, 4]);
  assert.deepEqual([visited(9, -1), visited(6, -1), visited(4, -1)], [7, 4, 9]);
  assert.equal(nextDoubtful({ doubtful_slices: [] }, 3, 1), null);
  assert.equal(doubtfulAt(DOUBT, 7).reason, 'readings');
  assert.equal(doubtfulAt(DOUBT, 6), null);
});

test('the centre of another slice lies as many voxels away, and on that slice', () => {
  assert.deepEqual(centreOf(ANSWER, AFFINE, 9), [13, 24.5, -15]);
  for (const index of [0, 4, 11]) {
    assert.equal(indexAt(AFFINE, 'axial', centreOf(ANSWER, AFFINE, index)), index);
  }
});

test('counts are unpacked voxel by voxel', () => {
  assert.deepEqual([...unpackCounts(RUNS)], [0, 8, 8, 2, 2, 2, 0, 0, 0, 0, 0, 0]);
});

test('bands hold their upper border, and what no reading holds has no colour', () => {
  assert.equal(colourOf(0), null);
  assert.deepEqual(colourOf(0.01), BANDS[0].colour);
  assert.deepEqual(colourOf(2 / 8), BANDS[0].colour);
  assert.deepEqual(colourOf(3 / 6), BANDS[1].colour);
  assert.deepEqual(colourOf(0.76), BANDS[3].colour);
  assert.deepEqual(colourOf(1), BANDS[3].colour);
});

test('a slice of the map is a picture whose corners are those of its voxels', () => {
  const map = { shape_ijk: SHAPE, ijk_to_lps: AFFINE };
  const values = unpackCounts(RUNS);
  const { width, height, pixels, corners } = pictureOf(values, map, 8, { axis: 2, index: 0 }, 128);
  assert.deepEqual([width, height], [2, 3]);
  const rgba = (column, row) => [...pixels.slice(4 * (row * width + column)).slice(0, 4)];
  assert.deepEqual(rgba(0, 0), [0, 0, 0, 0]);
  assert.deepEqual(rgba(1, 0), [...BANDS[3].colour, 128]);
  assert.deepEqual(rgba(1, 1), [...BANDS[0].colour, 128]);
  assert.deepEqual(corners, [[9, 18.5, 30], [13, 18.5, 30], [9, 27.5, 30]]);
  const across = pictureOf(values, map, 8, { axis: 0, index: 1 }, 128);
  assert.deepEqual([across.width, across.height], [3, 2]);
  assert.deepEqual([...across.pixels.slice(0, 4)], [...BANDS[3].colour, 128]);
});

test('a doubt comes with the stream, stays with its target, and its map with it', () => {
  let state = reduce(initialState(), {
    type: 'asked', question: 'Where?', series: '1.2', search: false,
  });
  const told = { ...DOUBT, ...RUNS, shape_ijk: SHAPE, ijk_to_lps: AFFINE };
  state = reduce(state, { type: 'event', name: 'doubt', data: told });
  state = reduce(state, { type: 'event', name: 'record', data: { inference_id: 'a' } });
  const { doubt } = active(state);
  assert.equal(doubt.readings, 8);
  assert.deepEqual(doubt.map.runs, RUNS.runs);
  assert.equal('runs' in doubt, false);
});

test('of a recorded question the doubt is known, and of an older one that there is none', () => {
  const record = doubt => ({
    inference_id: 'a', image_id: '1.2', decision: null, result: { ...ANSWER, query: 'Where?', doubt },
  });
  const known = targetOfRecord(1, record(DOUBT), null).doubt;
  assert.equal(known.map, null);
  assert.equal(known.named.length, 4);
  assert.equal(targetOfRecord(1, record(undefined), null).doubt, null);
  const kept = { ...DOUBT, ...RUNS, shape_ijk: SHAPE, ijk_to_lps: AFFINE };
  const shown = reduce(initialState(), { type: 'shown', record: record(DOUBT), mask: null, doubt: kept });
  assert.deepEqual(active(shown).doubt.map, { ...RUNS, shape_ijk: SHAPE, ijk_to_lps: AFFINE });
  assert.equal(doubtOf(null), null);
});
