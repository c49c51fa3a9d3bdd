// SPDX-License-Identifier: Apache-2.0
// What the tab says of a comparison with a prior; run by: node --test tests/ohif
import assert from 'node:assert/strict';
import { test } from 'node:test';

const at = name => import(new URL(`../../monailabel_app/viewers/ohif/static/${name}`, import.meta.url));
const { describePrior, linesOf, shownDate, tableOf } = await at('priors.js');
const { Api } = await at('api.js');

const TOLD = {
  prior: 'a/b',
  prior_date: '20250102',
  current_date: '',
  rows: [{ name: 'volume', before: '1.0 ml', after: '2.0 ml', change: '+1.0 ml', verdict: 'larger' }],
  change: { kind: 'larger', statement: 'Volume larger.', cautions: ['Look.'] },
  alignment: { told: 'Registered.', warnings: ['Little overlap.'] },
};

test('a date is shown as one, and what is none as it is', () => {
  assert.equal(shownDate('20250102'), '2025-01-02');
  assert.equal(shownDate('2025'), '2025');
  assert.equal(shownDate(''), '');
});

test('a prior is named by date, kind and description, as far as they are told', () => {
  const prior = { study_date: '20250102', modality: 'CT', body_part: 'ABDOMEN', description: 'venous' };
  assert.equal(describePrior(prior), '2025-01-02, CT ABDOMEN, venous');
  assert.equal(describePrior({ ...prior, body_part: '', description: '' }), '2025-01-02, CT');
});

test('the table has the prior before the current examination, with their dates', () => {
  assert.deepEqual(tableOf(TOLD), {
    head: ['', 'prior 2025-01-02', 'current', 'change', ''],
    rows: [['volume', '1.0 ml', '2.0 ml', '+1.0 ml', 'larger']],
  });
});

test('cautions and warnings go with the statement, and growth needs a second look', () => {
  assert.deepEqual(linesOf(TOLD), [
    { text: 'Volume larger.', alert: true },
    { text: 'Registered.', alert: false },
    { text: 'Little overlap.', alert: true },
    { text: 'Look.', alert: true },
  ]);
  const still = { ...TOLD, change: { ...TOLD.change, kind: 'within_uncertainty' } };
  assert.equal(linesOf(still)[0].alert, false);
});

test('the question goes in the body, and ids are escaped', async () => {
  const calls = [];
  const api = new Api(async (path, options) => {
    calls.push({ path, method: options.method ?? 'GET', body: options.body });
    return new Response('{}');
  });
  await api.priors('1.2&x');
  await api.compare('1.2', { query: 'Where?', prior: '1.3' });
  await api.storeComparison('a/b');
  assert.deepEqual(calls, [
    { path: '/medreasoner/priors?image=1.2%26x', method: 'GET', body: undefined },
    {
      path: '/medreasoner/priors?image=1.2',
      method: 'POST',
      body: '{"query":"Where?","prior":"1.3"}',
    },
    { path: '/medreasoner/priors/a%2Fb/report', method: 'POST', body: undefined },
  ]);
});
