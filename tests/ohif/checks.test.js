// SPDX-License-Identifier: Apache-2.0
// What was checked of an answer, as the tab shows it; run by: node --test tests/ohif
import assert from 'node:assert/strict';
import { test } from 'node:test';

const at = name => import(new URL(`../../monailabel_app/viewers/ohif/static/${name}`, import.meta.url));
const { checksOf, describeChecks, knownTargets, piecesOf, withChecks } = await at('checks.js');
const { initialState, listed, reduce } = await at('session.js');

const TRACE = '🫁 A bright region on the left, beside the liver.';
const said = (text, verdict, measured = 'so much') => {
  const start = TRACE.indexOf(text) - 1; // the lung is one letter of two units
  return { kind: 'side', start, end: start + text.length, claim: text, verdict, measured };
};
const STATEMENTS = [
  said('bright', 'holds', 'mean 80 HU inside, 40 HU around'),
  said('on the left', 'does not hold', 'centre 34 mm right of the midline of the body'),
  said('beside the liver', 'cannot be checked', 'where the liver lies is not known here'),
];
const CHECKS = { statements: STATEMENTS, removal: null };

test('pieces joined are the reasoning, and each statement is one, also behind an emoji', () => {
  const pieces = piecesOf(TRACE, CHECKS);
  assert.equal(pieces.map(({ text }) => text).join(''), TRACE);
  const marked = pieces.filter(({ statement }) => statement !== null);
  assert.deepEqual(
    marked.map(({ text }) => text),
    ['bright', 'on the left', 'beside the liver']
  );
  assert.deepEqual(marked.map(({ statement }) => statement), STATEMENTS);
});

test('what is not checked, and what is still being written, is one piece', () => {
  assert.deepEqual(piecesOf(TRACE, null), [{ text: TRACE, statement: null }]);
  assert.deepEqual(piecesOf('🫁 A', CHECKS), [{ text: '🫁 A', statement: null }]);
  assert.deepEqual(piecesOf('', CHECKS), []);
});

test('verdicts are told by sign and word, and what fails is marked', () => {
  const lines = describeChecks(TRACE, CHECKS);
  assert.deepEqual(
    lines.map(({ text, alert }) => [text.slice(0, 1), alert]),
    [['✓', false], ['✗', true], ['?', false]]
  );
  assert.match(lines[1].text, /“on the left” does not hold: .*34 mm right of the midline/);
  assert.deepEqual(describeChecks(TRACE, null), []);
});

test('the removal test is said first, and as an alert only if the answer stays', () => {
  for (const depends of [true, false]) {
    const removal = { depends, explanation: 'It depends, or not.' };
    const [first] = describeChecks(TRACE, { ...CHECKS, removal });
    assert.deepEqual(first, { text: 'It depends, or not.', alert: !depends });
  }
});

test('the checks are of the question and come with the record once more', () => {
  const answer = {
    present: true,
    checks: CHECKS,
    prompts: { bbox_xyxy_slice_px: [1, 2, 3, 4], points_lps_mm: [], point_labels: [] },
    slice: { plane: 'axial', index: 7, center_lps_mm: [0, 0, 0] },
  };
  const removal = { depends: false, explanation: 'It does not depend on it.' };
  const events = [
    { type: 'asked', question: 'Where is the liver?', series: 's', search: false },
    { type: 'event', name: 'answer', data: answer },
    {
      type: 'event',
      name: 'record',
      data: { inference_id: 'i', target: { name: 'liver' }, medreasoner: { checks: { ...CHECKS, removal } } },
    },
  ];
  const state = events.reduce(reduce, initialState());
  const [target] = listed(state);
  assert.equal(checksOf(target).removal, removal);
  // A correction has an answer of its own, without a reasoning.
  const corrected = { ...target, edit: { ...target.edit, answer: { ...answer, checks: null } } };
  assert.equal(checksOf(corrected).removal, removal);
  assert.equal(withChecks(target, undefined), target);
  assert.deepEqual(knownTargets([target], 's'), [
    { name: 'liver', plane: 'axial', slice: 7, box: [1, 2, 3, 4] },
  ]);
  assert.deepEqual(knownTargets([target], 'another'), []);
});
