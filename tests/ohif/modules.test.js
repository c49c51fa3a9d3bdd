// SPDX-License-Identifier: Apache-2.0
// The tab's modules that know no page; run by: node --test tests/ohif
import assert from 'node:assert/strict';
import { test } from 'node:test';

const at = name => import(new URL(`../../monailabel_app/viewers/ohif/static/${name}`, import.meta.url));
const { EventParser, readEvents } = await at('sse.js');
const grids = await at('grid.js');
const { gatherMask, gridMapping, gridOfPlanes, halfSlice, inverse, paintRuns } = grids;
const { planeOf, transform, unpackRuns } = grids;
const { labelmapOfImages, labelmapOfVolume } = await at('labelmap.js');
const { nrrdOf } = await at('nrrd.js');
const { allowed, earlierQuestions, initialState, reduce } = await at('session.js');
const { describeAnswer, describeDecision, describeFault, describeRecord } = await at('words.js');
const { Picture } = await at('picture.js');
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

test('half a slice is half the voxel along the view', () => {
  assert.equal(halfSlice(ROWS, [0, 0, -1]), 1.5);
  assert.equal(halfSlice(ROWS, [1, 0, 0]), 1);
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
  slice: { plane: 'axial' },
  slice_choice: { method: 'position', explanation: 'Slice 9 holds the position asked for.' },
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
  { type: 'listed', records: [{ inference_id: 'q' }] },
];

test('the reasoning grows while it is written', () => {
  assert.equal(run(ANSWERED.slice(0, 3)).reasoning, 'The ');
  assert.equal(run(ANSWERED.slice(0, 4)).reasoning, 'The liver.');
});

test('from the moment a question is asked one can cancel and nothing else', () => {
  for (const state of [run(ASKED.slice(0, 1)), run(ASKED)]) {
    const may = allowed(state);
    assert.deepEqual(
      Object.keys(may).filter(name => may[name]),
      ['cancel']
    );
  }
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
  const record = { decision: { outcome: 'accepted' }, pacs: [{ state: 'sent' }] };
  const state = reduce(run(ANSWERED), { type: 'decided', record });
  assert.deepEqual([state.decision, state.pacs.state], ['accepted', 'sent']);
  const may = allowed(state);
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

test('a record that only the PACS has is shown and cannot be decided upon', () => {
  const record = { inference_id: 'old', image_id: '1.2', archived: true, result: ANSWER };
  const may = allowed(reduce(initialState(), { type: 'shown', record, mask: { runs: [] } }));
  assert.equal(may.correct, true);
  assert.equal(may.accept || may.submit || may.reject, false);
});

test('what server and PACS have is one list, the latest first', () => {
  const local = [
    { inference_id: 'b', created_at: '2026-01-02T00:00:00+00:00', mask_kept: true },
    { inference_id: 'c', created_at: '2026-01-03T00:00:00+00:00', mask_kept: true },
  ];
  const archived = [
    { inference_id: 'a', created_at: '2026-01-01T00:00:00+00:00' },
    { inference_id: 'b', created_at: '2026-01-02T00:00:00+00:00', mask_kept: false },
  ];
  const found = earlierQuestions({ local, archived });
  const said = found.map(known => [known.inference_id, known.archived ?? false, known.mask_kept]);
  assert.deepEqual(said, [
    ['c', false, true],
    ['b', true, true],
    ['a', true, undefined],
  ]);
});

// --- pictures ------------------------------------------------------------------------------------

test('pixels of a picture are the same on both sides, whatever the millimetres', () => {
  // The server's pixel is 0.5 mm; the viewer takes 0.2 mm and lays rows along Y, columns along -Z.
  const affine = [
    [0.5, 0, 0, 0],
    [0, 0.5, 0, 0],
    [0, 0, 1, 0],
  ];
  const imageData = {
    indexToWorld: ([i, j]) => [0, 0.2 * i, -0.2 * j],
    worldToIndex: ([, y, z]) => [y / 0.2, -z / 0.2, 0],
  };
  const viewport = {
    getImageData: () => ({ imageData }),
    getImageIds: () => ['a', 'b'],
    getCurrentImageIdIndex: () => 1,
  };
  const picture = new Picture(affine, { count: 2 });
  picture.check(viewport);
  const world = picture.toWorld(viewport, [5, 10, 1]);
  assert.deepEqual(world, [0, 2, -4]);
  assert.deepEqual(picture.fromWorld(viewport, world), [5, 10, 1]);
  assert.equal(picture.isShown(viewport, [5, 10, 1]), true);
  assert.equal(picture.isShown(viewport, [5, 10, 0]), false);
  assert.throws(() => new Picture(affine, { count: 3 }).check(viewport), /3 images and 2/);
  const same = { shape: [4, 3, 2] };
  const mapping = { start: 0, steps: [1, 4, 12] };
  assert.deepEqual(picture.mapping({ shape_ijk: [4, 3, 2] }, same), mapping);
  assert.throws(() => picture.mapping({ shape_ijk: [4, 3, 1] }, same), /other pixels/);
});

// --- words ---------------------------------------------------------------------------------------

test('absence and low agreement ask for a second look', () => {
  const lines = describeAnswer({ ...ANSWER, present: false, agreement: 0.25 });
  const alerts = lines.filter(line => line.alert).map(line => line.text);
  assert.match(alerts[0], /^Not present/);
  assert.match(alerts[1], /25 %: low/);
  assert.ok(describeAnswer(ANSWER).every(line => !line.alert));
});

test('no number of a slice is said, as the viewer may count from the other end', () => {
  const said = describeAnswer(ANSWER).map(line => line.text).join(' ');
  assert.doesNotMatch(said, /Slice 9/);
  const candidates = [{ present: true }, { present: false }];
  const searched = { ...ANSWER, slice_choice: { method: 'search', explanation: 'x', candidates } };
  assert.match(describeAnswer(searched)[1].text, /Of 2 slices looked at, 1 show/);
});

test('sizes are those of the patient, never of a projection', () => {
  const sizes = { voxels: 9, slice_area_mm2: 4560, volume_mm3: 123400, slice_range: [2, 5] };
  const said = answered => describeAnswer(answered, sizes).map(line => line.text).join(' ');
  assert.match(said(ANSWER), /45\.6 cm².*123\.4 cm³/);
  assert.doesNotMatch(said({ ...ANSWER, slice: { plane: 'acquired' } }), /cm/);
});

test('a decision says where it is kept', () => {
  assert.equal(describeDecision('accepted', null).text, 'This answer is accepted.');
  assert.match(describeDecision('edited', { state: 'sent' }).text, /edited\. The PACS has it\./);
  const waiting = describeDecision('edited', { state: 'pending', error: 'It did not answer.' });
  assert.match(waiting.text, /as soon as that answers\. It did not answer\./);
  assert.equal(describeDecision('edited', { state: 'failed', error: 'x' }).alert, true);
});

test('an earlier question says what became of it', () => {
  const record = { result: { query: 'Where?' }, present: true, created_at: '2026-01-02T03:04:05Z' };
  const { question, details } = describeRecord({ ...record, archived: true });
  assert.equal(question, 'Where?');
  assert.match(details, /^not decided · present · .* · in the PACS$/);
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
    [413, 'Content Too Large', /larger than the server takes/],
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
  await api.submit('1.2', new Blob(['x']), 'q', undefined);
  assert.deepEqual(sent, {
    path: '/datastore/label?image=1.2&tag=final',
    params: { inference_id: 'q' },
    method: 'PUT',
  });
});

test('the mask of what the PACS has comes from there', async () => {
  const asked = [];
  const api = new Api(async path => {
    asked.push(path);
    return new Response('{}');
  });
  const record = { inference_id: 'a/b', study_uid: '1.2' };
  await api.mask({ ...record, archived: true, mask_kept: true });
  await api.mask({ ...record, mask_kept: true });
  assert.equal(await api.mask({ ...record, mask_kept: false }), null);
  assert.deepEqual(asked, [
    '/medreasoner/history/a%2Fb/mask?study=1.2',
    '/medreasoner/masks/a%2Fb',
  ]);
});
