// SPDX-License-Identifier: Apache-2.0
// The tab's modules that know no page; run by: node --test tests/ohif
import assert from 'node:assert/strict';
import { test } from 'node:test';

const at = name => import(new URL(`../../monailabel_app/ohif/static/${name}`, import.meta.url));
const { EventParser, readEvents } = await at('sse.js');
const { gatherMask, gridMapping, gridOfPlanes, inverse, paintRuns, planeOf, transform, unpackRuns } =
  await at('grid.js');
const { labelmapOfImages, labelmapOfVolume } = await at('labelmap.js');
const { nrrdOf } = await at('nrrd.js');
const { allowed, initialState, reduce } = await at('session.js');
const { describeAnswer, describeFault } = await at('words.js');
const { Api } = await at('api.js');

const STREAM =
  ': ping\n\nevent: text\ndata: {"text":"a\\nb"}\n\nevent: mask\r\ndata: [1,\r\ndata: 2]\r\n\r\n';

// --- events --------------------------------------------------------------------------------------

test('events are the same however the network cuts them', () => {
  const whole = new EventParser().push(STREAM);
  assert.deepEqual(whole, [
    { event: 'text', data: '{"text":"a\\nb"}' },
    { event: 'mask', data: '[1,\n2]' },
  ]);
  for (let cut = 0; cut <= STREAM.length; cut += 1) {
    const parser = new EventParser();
    const parts = [...parser.push(STREAM.slice(0, cut)), ...parser.push(STREAM.slice(cut))];
    assert.deepEqual(parts, whole, `cut at ${cut}`);
  }
});

test('an unfinished event is not told', () => {
  assert.deepEqual(new EventParser().push('event: text\ndata: {}\n'), []);
});

test('events of a body are read as JSON, also where a letter is cut', async () => {
  const bytes = new TextEncoder().encode('event: text\ndata: {"text":"Größe"}\n\n');
  const parts = [bytes.slice(0, 32), bytes.slice(32)];
  const body = ReadableStream.from(parts);
  const events = [];
  for await (const event of readEvents(body)) events.push(event);
  assert.deepEqual(events, [{ event: 'text', data: { text: 'Größe' } }]);
});

// --- grids ---------------------------------------------------------------------------------------

const ROWS = [
  [2, 0, 0, 10],
  [0, 1.5, 0, -20],
  [0, 0, 3, 7],
];
const SHAPE = [4, 3, 2];
// The same voxels with K counted from the other end: slice 0 lies at 7 + 3.
const FLIPPED = [
  [2, 0, 0, 10],
  [0, 1.5, 0, -20],
  [0, 0, -3, 10],
];

test('an affine times its inverse is the identity', () => {
  const oblique = [
    [1.6, -1.2, 0.1, 5],
    [1.2, 1.6, 0, 6],
    [0, 0.2, 3, 7],
  ];
  const back = transform(inverse(oblique), transform(oblique, [1, 2, 3]));
  back.forEach((value, axis) => assert.ok(Math.abs(value - (axis + 1)) < 1e-9));
});

test('a mask is painted where its voxels lie in the patient', () => {
  const mapping = gridMapping({ affine: ROWS, shape: SHAPE }, { affine: FLIPPED, shape: SHAPE });
  const target = new Uint8Array(24);
  // Voxels (1, 0, 0), (2, 0, 0) and (0, 0, 1) of the server's grid.
  paintRuns([1, 2, 9, 1, 11], SHAPE, mapping, target, 7);
  const painted = [...target.keys()].filter(index => target[index] === 7);
  assert.deepEqual(painted, [0, 13, 14]);
});

test('axes may be exchanged', () => {
  const exchanged = [
    [0, 2, 0, 10],
    [1.5, 0, 0, -20],
    [0, 0, 3, 7],
  ];
  const mapping = gridMapping(
    { affine: ROWS, shape: SHAPE },
    { affine: exchanged, shape: [3, 4, 2] }
  );
  const target = new Uint8Array(24);
  paintRuns([1, 1, 22], SHAPE, mapping, target, 1);
  assert.equal(target.indexOf(1), 3);
});

test('what was painted is read back', () => {
  const mapping = gridMapping({ affine: ROWS, shape: SHAPE }, { affine: FLIPPED, shape: SHAPE });
  const runs = [1, 2, 9, 1, 11];
  const target = new Uint8Array(24);
  paintRuns(runs, SHAPE, mapping, target, 1);
  assert.deepEqual(gatherMask(target, SHAPE, mapping, 1), unpackRuns(runs));
});

test('other voxels than those shown are refused', () => {
  const shifted = ROWS.map(row => [...row]);
  shifted[0][3] += 1;
  for (const other of [
    { affine: shifted, shape: SHAPE },
    { affine: ROWS, shape: [4, 3, 1] },
  ]) {
    assert.throws(() => gridMapping({ affine: ROWS, shape: SHAPE }, other), /other voxels/);
  }
});

test('runs that do not fill the grid are refused', () => {
  const mapping = { start: 0, steps: [1, 4, 12] };
  assert.throws(() => paintRuns([1, 2], SHAPE, mapping, new Uint8Array(24), 1), /3 voxels/);
});

// Rows run along x (columns 2 mm apart), columns along y (rows 1.5 mm apart).
const plane = z => ({
  imagePositionPatient: [10, -20, z],
  rowCosines: [1, 0, 0],
  columnCosines: [0, 1, 0],
  columnPixelSpacing: 2,
  rowPixelSpacing: 1.5,
  columns: 4,
  rows: 3,
});

test('a stack of image planes is a grid in its own order', () => {
  assert.deepEqual(gridOfPlanes([plane(10), plane(7)]), { affine: FLIPPED, shape: SHAPE });
  assert.deepEqual(gridOfPlanes([plane(7)]).affine[2], [0, 0, 1, 7]);
  assert.throws(() => gridOfPlanes([plane(0), plane(1), plane(5)]), /evenly spaced/);
});

const voxels = data => ({
  getScalarData: () => data,
  getCompleteScalarDataArray: () => data,
  setCompleteScalarDataArray: values => data.set(values),
});

test('labelmaps of stacks and of volumes are written and read alike', () => {
  const values = Uint8Array.from({ length: 24 }, (_, index) => index);
  const images = [0, 1].map(() => ({ voxelManager: voxels(new Uint8Array(12)) }));
  const imageData = {
    indexToWorld: index => transform(FLIPPED, index),
    getDimensions: () => SHAPE,
  };
  const labelmaps = [
    labelmapOfImages(images, [plane(10), plane(7)]),
    labelmapOfVolume({ imageData, voxelManager: voxels(new Uint8Array(24)) }),
  ];
  for (const { grid, read, write } of labelmaps) {
    assert.deepEqual(grid, { affine: FLIPPED, shape: SHAPE });
    write(values);
    assert.deepEqual(read(), values);
  }
});

test('a plane is named by where it looks', () => {
  assert.equal(planeOf([0, 0.1, -0.99]), 'axial');
  assert.equal(planeOf([0, -1, 0]), 'coronal');
  assert.equal(planeOf([0.9, 0.3, 0.1]), 'sagittal');
});

test('a label map carries its geometry', async () => {
  const text = await nrrdOf(new Uint8Array([0, 1]), [2, 1, 1], FLIPPED).text();
  const [header, data] = text.split('\n\n');
  assert.match(header, /^NRRD0004\n/);
  assert.match(header, /space: left-posterior-superior/);
  assert.match(header, /space directions: \(2,0,0\) \(0,1.5,0\) \(0,0,-3\)/);
  assert.match(header, /space origin: \(10,-20,10\)/);
  assert.equal(data, '\u0000\u0001');
});

// --- the tab's states ----------------------------------------------------------------------------

const ANSWER = {
  present: true,
  reasoning: 'The liver.',
  confidence: 0.9,
  agreement: null,
  slice_choice: { explanation: 'As asked.' },
  warnings: [],
};
const run = (actions, state = initialState()) => actions.reduce(reduce, state);
const event = (name, data) => ({ type: 'event', name, data });
const ASKED = [
  { type: 'asked', question: 'Where?', series: '1.2' },
  event('accepted', { stream_id: 's' }),
];
const ANSWERED = [
  ...ASKED,
  event('text', { text: 'The ' }),
  event('text', { text: 'liver.' }),
  event('answer', ANSWER),
  event('mask', { scope: 'slice' }),
  event('mask', { scope: 'volume' }),
  event('record', { inference_id: 'q' }),
  { type: 'ended' },
];

test('the reasoning grows while it is written', () => {
  assert.equal(run(ANSWERED.slice(0, 3)).reasoning, 'The ');
  assert.equal(run(ANSWERED.slice(0, 4)).reasoning, 'The liver.');
});

test('while the model works one can cancel and nothing else', () => {
  const may = allowed(run(ASKED));
  assert.deepEqual(
    Object.keys(may).filter(name => may[name]),
    ['cancel']
  );
});

test('an answer can be looked at, corrected, accepted, submitted and rejected', () => {
  const state = run(ANSWERED);
  assert.equal(state.phase, 'answered');
  const may = allowed(state);
  assert.deepEqual(
    Object.keys(may).filter(name => !may[name]),
    ['cancel']
  );
});

test('a correction keeps the question it belongs to and is no plain acceptance', () => {
  const corrected = run(
    [
      { type: 'corrected' },
      event('accepted', { stream_id: 't' }),
      event('answer', { ...ANSWER, reasoning: null }),
      event('mask', { scope: 'slice' }),
      event('record', { inference_id: 'c' }),
    ],
    run(ANSWERED)
  );
  assert.equal(corrected.inferenceId, 'q');
  assert.equal(corrected.series, '1.2');
  assert.equal(corrected.reasoning, 'The liver.');
  assert.deepEqual(corrected.masks, { slice: { scope: 'slice' }, volume: null });
  assert.equal(allowed(corrected).accept, false);
  assert.equal(allowed(corrected).submit, true);
});

test('a decision is taken once', () => {
  const may = allowed(reduce(run(ANSWERED), { type: 'decided', decision: 'accepted' }));
  assert.equal(may.accept || may.reject, false);
});

test('a fault keeps what was known and lets one ask again', () => {
  const state = run([...ASKED, event('error', { status: 503, detail: 'No weights.' })]);
  assert.equal(state.error, 'No weights.');
  assert.equal(allowed(state).ask, true);
});

test('a cancelled question is no fault', () => {
  const state = run([...ASKED, event('error', { status: 499, detail: 'Cancelled.' })]);
  assert.equal(state.phase, 'idle');
  assert.equal(state.error, null);
});

test('an answer that breaks off is said to', () => {
  const state = run([...ASKED, { type: 'ended' }]);
  assert.match(state.error, /ended the answer early/);
});

test('an earlier question is shown with what was decided', () => {
  const record = {
    inference_id: 'old',
    image_id: '1.2',
    result: { ...ANSWER, query: 'Then?' },
    decision: { outcome: 'rejected' },
  };
  const state = reduce(initialState(), { type: 'shown', record, mask: null });
  assert.equal(state.question, 'Then?');
  assert.equal(state.series, '1.2');
  assert.equal(state.decision, 'rejected');
  assert.equal(allowed(state).accept, false);
});

// --- words ---------------------------------------------------------------------------------------

test('absence and low agreement ask for a second look', () => {
  const lines = describeAnswer({ ...ANSWER, present: false, agreement: 0.25 });
  const alerts = lines.filter(line => line.alert).map(line => line.text);
  assert.match(alerts[0], /^Not present/);
  assert.match(alerts[1], /25 %: low/);
  assert.ok(describeAnswer(ANSWER).every(line => !line.alert));
});

test('a server that is gone is a sentence', () => {
  assert.match(describeFault(new TypeError('Failed to fetch')), /cannot be reached/);
});

// --- the server's routes -------------------------------------------------------------------------

const answer = (status, body) => async () => new Response(body, { status });

test('a refusal is the sentence of the server', async () => {
  const cases = [
    [422, '{"detail":"The slice is outside."}', /The slice is outside/],
    [401, '{"detail":"x"}', /login has expired/],
    [502, '<html>', /HTTP 502/],
    [422, '{"detail":[{"msg":"x"}]}', /HTTP 422/],
  ];
  for (const [status, body, said] of cases) {
    await assert.rejects(new Api(answer(status, body)).history('1.2'), said);
  }
});

test('a question goes out as JSON with the position, and events come back', async () => {
  let sent = null;
  const api = new Api(async (path, options) => {
    sent = { path, body: JSON.parse(options.body) };
    return new Response(STREAM);
  });
  const names = [];
  for await (const { event: name } of await api.ask('1.2&x', { query: 'a', position: [1, 2, 3] })) {
    names.push(name);
  }
  assert.equal(sent.path, '/medreasoner/streams/ask?image=1.2%26x');
  assert.deepEqual(sent.body, { query: 'a', position: [1, 2, 3] });
  assert.deepEqual(names, ['text', 'mask']);
});

test('a label names the question it answers', async () => {
  let sent = null;
  const api = new Api(async (path, options) => {
    sent = { path, params: JSON.parse(options.body.get('params')), method: options.method };
    return new Response('{}');
  });
  await api.submit('1.2', new Blob(['x']), 'q');
  assert.deepEqual(sent, {
    path: '/datastore/label?image=1.2&tag=final',
    params: { inference_id: 'q' },
    method: 'PUT',
  });
});
