// SPDX-License-Identifier: Apache-2.0
// The tab's modules that know no page; run by: node --test tests/ohif
import assert from 'node:assert/strict';
import { test } from 'node:test';

const at = name => import(new URL(`../../monailabel_app/viewers/ohif/static/${name}`, import.meta.url));
const { EventParser, readEvents } = await at('sse.js');
const grids = await at('grid.js');
const { gatherMask, gridMapping, gridOfPlanes, halfSlice, inverse, paintRuns } = grids;
const { cutAxis, planeOf, transform } = grids;
const runsModule = await at('runs.js');
const { difference, hashOf, intersection, packRuns, slab, union, unpackRuns } = runsModule;
const { labelmapOfImages, labelmapOfVolume } = await at('labelmap.js');
const { nrrdOf } = await at('nrrd.js');
const sessions = await at('session.js');
const { active, allowed, askedTexts, earlierQuestions, followedUp, initialState, listed } = sessions;
const { hasUnstored, reduce, shown } = sessions;
const targetModule = await at('target.js');
const { aboutOf, calling, measure, onSliceAt, sentPrompts, targetOfRecord } = targetModule;
const { marksOf, withLasso, withPoint, withScribble, withoutPoint } = targetModule;
const { isClick, lassoed, scribbled } = await at('stroke.js');
const words = await at('words.js');
const { describeAnswer, describeCheck, describeDecision, describeFault, describeRecord } = words;
const { describeAbout, describeCommand, describePoint, describeTarget } = words;
const { isWithAlt, meaningOf } = await at('keys.js');
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
  assert.deepEqual(gatherMask(target, SHAPE, mapping), unpackRuns(runs));
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

// --- sets of voxels ------------------------------------------------------------------------------

const bits = text => Uint8Array.from(text, Number);

test('runs are zeros first, and the same set has the same runs', () => {
  assert.deepEqual(packRuns(bits('0110')), [1, 2, 1]);
  assert.deepEqual(packRuns(bits('1100')), [0, 2, 2]);
  assert.deepEqual(packRuns(bits('0000')), [4]);
  assert.deepEqual(unpackRuns([0, 2, 2]), bits('1100'));
});

test('sets are joined, taken away and cut as their voxels are', () => {
  // All pairs of sets of four voxels, against the operators on numbers.
  const setOf = number => bits(number.toString(2).padStart(4, '0'));
  for (let a = 0; a < 16; a += 1) {
    for (let b = 0; b < 16; b += 1) {
      const [first, second] = [packRuns(setOf(a)), packRuns(setOf(b))];
      assert.deepEqual(union(first, second), packRuns(setOf(a | b)));
      assert.deepEqual(difference(first, second), packRuns(setOf(a & ~b)));
      assert.deepEqual(intersection(first, second), packRuns(setOf(a & b)));
    }
  }
  assert.throws(() => union([4], [5]), /different grids/);
});

test('a slab is all voxels of one index', () => {
  const shape = [2, 3, 2];
  const indices = { 0: '010101010101', 1: '001100001100', 2: '000000111111' };
  for (const [axis, expected] of Object.entries(indices)) {
    assert.deepEqual(slab(shape, Number(axis), 1), packRuns(bits(expected)), `axis ${axis}`);
  }
});

test('a mask has the hash that the server gives it', async () => {
  // printf 1,2,9,1,11 | sha256sum
  const said = 'e26cf98847df6b3c7f082ea802b257ebe9b1368f9414f02bf9c5e8740c144784'; // pragma: allowlist secret
  assert.equal(await hashOf([1, 2, 9, 1, 11]), said);
  assert.equal(await hashOf([1], null), null);
});

test('a plane cuts across the axis of the grid that lies along its normal', () => {
  const coronalFirst = [
    [2, 0, 0, 0],
    [0, 0, 3, 0],
    [0, -1.5, 0, 0],
  ];
  const axes = ['sagittal', 'coronal', 'axial', 'acquired'].map(name => cutAxis(coronalFirst, name));
  assert.deepEqual(axes, [0, 2, 1, 2]);
});

test('sizes are those of the voxels', () => {
  // 2 × 1.5 × 3 mm; two voxels on slice 0, one on slice 1.
  const sizes = measure([1, 2, 9, 1, 11], GRID, { plane: 'axial', index: 0 });
  assert.deepEqual(sizes, { voxels: 3, volumeMm3: 27, sliceAreaMm2: 6, isOnOneSlice: false });
});

// --- the session ---------------------------------------------------------------------------------

const GRID = { shape_ijk: SHAPE, ijk_to_lps: ROWS };
const ANSWER = {
  present: true,
  reasoning: 'The liver.',
  confidence: 0.9,
  agreement: null,
  prompts: {
    bbox_corners_lps_mm: [[10, -20, 7], [16, -17, 7]],
    points_lps_mm: [[12, -20, 7]],
    point_labels: [1],
    point_sources: ['reasoner'],
  },
  slice: { plane: 'axial', index: 0, count: 112 },
  slice_choice: { method: 'position', explanation: 'Slice 9 holds the position asked for.' },
  warnings: [],
};
// Voxels 1 and 2 of slice 0; with the volume also the first one of slice 1.
const ON_SLICE = [1, 2, 21];
const IN_VOLUME = [1, 2, 9, 1, 11];
const run = (actions, state = initialState()) => actions.reduce(reduce, state);
const event = (name, data) => ({ type: 'event', name, data });
const mask = (scope, runs) => event('mask', { scope, runs, ...GRID });
const asked = (question = 'Where?') => [
  { type: 'asked', question, series: '1.2' },
  event('accepted', { stream_id: 's' }),
];
const answered = (id, answer = ANSWER) => [
  ...asked(id),
  event('text', { text: 'The ' }),
  event('text', { text: 'liver.' }),
  event('answer', answer),
  ...(answer.present ? [mask('slice', ON_SLICE), mask('volume', IN_VOLUME)] : []),
  event('record', { inference_id: id }),
  { type: 'ended' },
];
const RECORDED = { type: 'listed', records: [{ inference_id: 'q' }, { inference_id: 'r' }] };
const ANSWERED = [...answered('q'), RECORDED];
const corrected = (kind, runs, prompts = { box: null, points: [] }) => [
  { type: 'corrected', kind, prompts },
  event('answer', { ...ANSWER, reasoning: null }),
  mask('volume', runs),
  event('record', { inference_id: 'c' }),
  { type: 'ended' },
];
const brushed = (state, after, id = active(state).id) =>
  reduce(state, { type: 'brushed', id, before: active(state).edit.mask, after });
const maskOf = state => active(state).edit.mask;
const undo = state => reduce(state, { type: 'undone' });
const redo = state => reduce(state, { type: 'redone' });
const may = state => Object.keys(allowed(state)).filter(name => allowed(state)[name]);

test('the reasoning grows while it is written', () => {
  assert.equal(active(run(ANSWERED.slice(0, 3))).reasoning, 'The ');
  assert.equal(active(run(ANSWERED.slice(0, 4))).reasoning, 'The liver.');
});

test('from the moment a question is asked one can cancel and nothing else', () => {
  for (const state of [run(asked().slice(0, 1)), run(asked())]) assert.deepEqual(may(state), ['cancel']);
});

test('an answer can be looked at, corrected, accepted and rejected', () => {
  assert.deepEqual(may(run(ANSWERED)), ['ask', 'undo', 'jump', 'followUp', 'correct', 'accept', 'reject']);
});

test('several targets stay, each with its own question, name, colour and mask', () => {
  const state = run([...ANSWERED, ...answered('r')]);
  const said = listed(state).map(({ question, edit }) => [question, edit.name, edit.mask]);
  assert.deepEqual(said, [
    ['q', 'Target 1', IN_VOLUME],
    ['r', 'Target 2', IN_VOLUME],
  ]);
  assert.notDeepEqual(listed(state)[0].colour, listed(state)[1].colour);
  assert.equal(active(state).question, 'r');
});

test('a correction keeps the question it belongs to and is no plain acceptance', () => {
  const state = run(corrected('click', ON_SLICE), run(ANSWERED));
  const { inferenceId, series, reasoning, edit } = active(state);
  assert.deepEqual([inferenceId, series, reasoning], ['q', '1.2', 'The liver.']);
  assert.deepEqual(edit.mask, ON_SLICE);
  assert.equal(allowed(state).accept, false);
  assert.equal(allowed(state).submit, true);
});

test('a brush stroke makes it an edited mask with new sizes', () => {
  const before = run(ANSWERED);
  const state = brushed(before, [1, 3, 8, 1, 11]);
  assert.deepEqual(maskOf(state), [1, 3, 8, 1, 11]);
  assert.deepEqual([allowed(state).accept, allowed(state).submit], [false, true]);
  assert.equal(active(before).edit.sizes.sliceAreaMm2, 6);
  assert.equal(active(state).edit.sizes.sliceAreaMm2, 9);
});

test('the answer of a click keeps what was painted and what was erased', () => {
  // Painted voxel 3, erased voxel 1; the segmenter then finds 1 and 5, and later 3 as well.
  let state = brushed(run(ANSWERED), [2, 2, 8, 1, 11]);
  state = run(corrected('click', [1, 1, 3, 1, 18]), state);
  assert.deepEqual(unpackRuns(maskOf(state)), bits('000101000000000000000000'));
  state = run(corrected('click', [3, 1, 20]), state);
  state = run(corrected('click', [8, 1, 15]), state);
  assert.deepEqual(unpackRuns(maskOf(state)), bits('000100001000000000000000'));
});

test('a stroke while the segmenter works is kept as well', () => {
  const actions = corrected('click', [8, 1, 15]);
  const working = brushed(run(actions.slice(0, 2), run(ANSWERED)), [1, 3, 8, 1, 11]);
  assert.deepEqual(maskOf(run(actions.slice(2), working)), [3, 1, 4, 1, 15]);
});

test('a correction of one slice leaves the others as they are', () => {
  const actions = corrected('click', []);
  actions[2] = mask('slice', [5, 1, 18]);
  assert.deepEqual(maskOf(run(actions, run(ANSWERED))), [5, 1, 6, 1, 11]);
});

test('a click joins the points of the model and the reader, and says which is new', () => {
  const box = [[0, 0, 0], [2, 2, 0]];
  const model = { box, boxByReader: false, points: [{ position: [1, 1, 0], inside: true, byReader: false }] };
  const clicked = withPoint(model, [2, 1, 0], false);
  const sent = sentPrompts(clicked, point => point.position[0] === 2);
  assert.deepEqual(sent, {
    box,
    box_by: 'reasoner',
    points: [
      { position: [1, 1, 0], inside: true, by: 'reasoner', new: false },
      { position: [2, 1, 0], inside: false, by: 'reader', new: true },
    ],
  });
  assert.deepEqual(withoutPoint(clicked, 1), model);
  assert.equal(sentPrompts({ ...model, boxByReader: true }).box_by, 'reader');
  assert.deepEqual(sentPrompts({ box: null, points: [] }).box, []);
});

const PROMPTED = {
  box: null,
  points: [{ position: [1, 1, 0], inside: true, byReader: false }],
};
const AROUND = [[0, 0, 0], [4, 0, 0], [0, 4, 0]];

test('a scribble is one mark of several points, each new to the mask, and is taken away as one', () => {
  const once = withScribble(PROMPTED, [[2, 1, 0], [3, 1, 0]], false);
  const twice = withScribble(once, [[5, 1, 0], [6, 1, 0], [7, 1, 0]], true);
  const sent = sentPrompts(twice, (_, number) => number >= 3).points;
  assert.deepEqual(
    sent.map(point => [point.position[0], point.inside, point.by, point.new]),
    [
      [1, true, 'reasoner', false],
      [2, false, 'reader', false],
      [3, false, 'reader', false],
      [5, true, 'reader', true],
      [6, true, 'reader', true],
      [7, true, 'reader', true],
    ]
  );
  const named = marksOf(twice).map(({ point }, order) => describePoint(point, order + 1));
  assert.deepEqual(named, ['scribble 1 outside', 'scribble 2 inside']);
  assert.deepEqual(withoutPoint(twice, marksOf(twice)[1].number), once);
  assert.deepEqual(withoutPoint(once, 2), PROMPTED);
});

test('a lasso stands for all within it while it is new, and for a point in it later', () => {
  const drawn = withLasso(PROMPTED, [1, 1, 0], AROUND, true);
  const last = isNew => sentPrompts(drawn, isNew).points[1];
  const point = { position: [1, 1, 0], inside: true, by: 'reader' };
  assert.deepEqual(last(() => true), { ...point, new: true, contour: AROUND });
  assert.deepEqual(last(() => false), { ...point, new: false });
  assert.deepEqual(withoutPoint(drawn, 1), PROMPTED);
  assert.equal(describePoint(drawn.points[1], 1), 'lasso 1 inside');
});

test('scribble and lasso are undone and done again as one command each', () => {
  let state = run(ANSWERED);
  const { prompts } = active(state).edit;
  const scribble = withScribble(prompts, [[2, 1, 0], [3, 1, 0]], false);
  state = run(corrected('scribble', [1, 1, 22], scribble), state);
  const lasso = withLasso(scribble, [1, 1, 0], AROUND, true);
  state = run(corrected('lasso', [1, 4, 19], lasso), state);
  const seen = shownState => [maskOf(shownState), active(shownState).edit.prompts];
  const [last, before, first] = [state, undo(state), undo(undo(state))];
  assert.deepEqual(seen(last), [[1, 4, 19], lasso]);
  assert.deepEqual(seen(before), [[1, 1, 22], scribble]);
  assert.deepEqual(seen(first), [IN_VOLUME, prompts]);
  assert.deepEqual(seen(redo(redo(first))), seen(last));
  assert.equal(describeCommand(last.past.at(-1)), 'lasso: Target 1');
  assert.equal(describeCommand(before.past.at(-1)), 'scribble: Target 1');
});

// --- what a hand has drawn -----------------------------------------------------------------------

test('a hand that trembles has clicked', () => {
  assert.equal(isClick([[10, 10], [12, 11], [10, 13]]), true);
  assert.equal(isClick([[10, 10], [14, 10], [10, 10]]), false);
});

test('places along a stroke are evenly apart, its ends among them, and not many', () => {
  assert.deepEqual(scribbled([[0, 0], [3, 0], [24, 0], [24, 12]]), [[0, 0], [12, 0], [24, 0], [24, 12]]);
  const long = scribbled([[0, 0], [0, 3000]]);
  assert.equal(long.length, 16);
  assert.deepEqual([long[0], long[3], long[15]], [[0, 0], [0, 600], [0, 3000]]);
  assert.deepEqual(scribbled([[5, 5], [5, 5], [9, 5]]), [[5, 5]]);
});

test('the place that stands for a lasso lies within it, whatever its form', () => {
  const square = lassoed([[0, 0], [40, 0], [40, 40], [0, 40]]);
  assert.ok(Math.abs(square.place[0] - 20) < 1);
  assert.ok(square.contour.length <= 256);
  // A U whose middle lies outside of it: the arms are 10 px wide, the floor 5 px high.
  const u = [[0, 0], [10, 0], [10, 45], [30, 45], [30, 0], [40, 0], [40, 50], [0, 50]];
  const [x, y] = lassoed(u).place;
  assert.ok(x < 10 || x > 30 || y > 45, `${x}, ${y}`);
  assert.equal(lassoed([[0, 0], [40, 0]]), null);
  assert.equal(lassoed([[3, 3], [3, 3]]), null);
});

test('what a click corrects is the mask of its own slice, brush strokes included', () => {
  const grid = { shape_ijk: SHAPE, ijk_to_lps: ROWS };
  // IN_VOLUME holds voxels 1 and 2 of slice 0 and voxel 12 of slice 1, which lies at 7 + 3 mm.
  const both = [1, 2, 9, 1, 11];
  assert.deepEqual(unpackRuns(onSliceAt(both, grid, 'axial', [12, -19, 10])), bits('000000000000100000000000'));
  assert.deepEqual(unpackRuns(onSliceAt(both, grid, 'axial', [12, -19, 8.4])), bits('011000000000000000000000'));
  assert.deepEqual(unpackRuns(onSliceAt(both, grid, 'sagittal', [10, -20, 7])), bits('000000000000100000000000'));
  assert.equal(onSliceAt(null, grid, 'axial', [12, -19, 7]), null);
});

/** A click on slice 0, which showed `sent`, and what the server makes of that. */
const clickedOn = (state, sent, runs) => {
  const [start, answer, , ...end] = corrected('click', []);
  return run([{ ...start, sent }, answer, mask('slice', runs), ...end], state);
};

test('a click outside takes away what was painted there, and only there', () => {
  const state = brushed(run(ANSWERED), [1, 5, 6, 1, 11]);
  const after = clickedOn(state, [1, 5, 18], [1, 3, 20]);
  assert.deepEqual(maskOf(after), [1, 3, 8, 1, 11]);
  assert.deepEqual(maskOf(undo(after)), [1, 5, 6, 1, 11]);
});

test('a click inside brings back what was erased there, and only there', () => {
  const state = brushed(run(ANSWERED), [12, 1, 11]);
  const after = clickedOn(state, [24], [2, 1, 21]);
  assert.deepEqual(maskOf(after), [2, 1, 9, 1, 11]);
});

test('a click that leaves nothing of its slice is shown', () => {
  assert.deepEqual(maskOf(clickedOn(run(ANSWERED), [1, 2, 21], [24])), [12, 1, 11]);
});

test('strokes while a click is on its way outlive it', () => {
  const [start, answer, , ...end] = corrected('click', []);
  const working = run([{ ...start, sent: [1, 2, 21] }, answer], run(ANSWERED));
  const painted = brushed(working, [2, 1, 2, 1, 6, 1, 11]);
  const state = run([mask('slice', [1, 3, 20]), ...end], painted);
  assert.deepEqual(maskOf(state), [2, 2, 1, 1, 6, 1, 11]);
});

test('everything is undone and done again: question, click, box, brush, name, reset, delete', () => {
  const steps = [
    state => run(ANSWERED, state),
    state => run(corrected('click', ON_SLICE), state),
    state => run(corrected('box', [24]), state),
    state => brushed(state, [4, 1, 19]),
    state => reduce(state, { type: 'renamed', id: active(state).id, name: 'Liver' }),
    state => reduce(state, { type: 'reset' }),
    state => run(answered('r'), state),
    state => reduce(state, { type: 'removed', id: 'target-1' }),
  ];
  const states = [initialState()];
  for (const step of steps) states.push(step(states.at(-1)));
  const seen = state => listed(state).map(({ id, edit }) => [id, edit]);
  let state = states.at(-1);
  for (const earlier of states.slice(0, -1).reverse()) {
    state = undo(state);
    assert.deepEqual(seen(state), seen(earlier));
  }
  assert.equal(allowed(state).undo, false);
  for (const later of states.slice(1)) {
    state = redo(state);
    assert.deepEqual(seen(state), seen(later));
  }
  assert.equal(allowed(state).redo, false);
});

test('what was undone cannot be done again after something else', () => {
  const state = brushed(undo(run(corrected('click', ON_SLICE), run(ANSWERED))), [4, 1, 19]);
  assert.equal(allowed(state).redo, false);
});

test('a command says what it did and to what', () => {
  const state = run([...ANSWERED, { type: 'removed', id: 'target-1' }]);
  assert.equal(describeCommand(state.past.at(-1)), 'delete: Target 1');
});

test('without the last point of the reader it is the answer again, and brush edits stay', () => {
  let state = run(corrected('click', ON_SLICE), run(ANSWERED));
  state = brushed(state, [1, 3, 20]);
  const { prompts } = active(state).first;
  state = reduce(state, { type: 'pointRemoved', prompts });
  assert.deepEqual(maskOf(state), [1, 3, 8, 1, 11]);
  assert.deepEqual(active(state).edit.prompts, prompts);
});

test('a correction that is cancelled or fails leaves mask and sizes of before', () => {
  const before = run(ANSWERED);
  for (const end of [
    { type: 'cancelled' },
    event('error', { status: 499, detail: 'Cancelled.' }),
    event('error', { status: 422, detail: 'No.' }),
    { type: 'failed', error: 'No.' },
  ]) {
    const state = run([...corrected('box', ON_SLICE).slice(0, 3), end], before);
    assert.deepEqual(active(state), active(before));
    assert.equal(allowed(state).submit, false);
  }
});

test('a target that was deleted cannot be submitted, and a mask without a voxel neither', () => {
  const removed = reduce(run(ANSWERED), { type: 'removed', id: 'target-1' });
  assert.equal(active(removed), null);
  assert.deepEqual(may(removed), ['ask', 'undo']);
  const empty = brushed(run(ANSWERED), [24]);
  assert.deepEqual([allowed(empty).accept, allowed(empty).submit], [false, false]);
  assert.equal(describeTarget(active(empty)).state, 'empty');
});

test('what was stored is what is on the screen, or the tab says that it is not', () => {
  const record = { decision: { outcome: 'accepted' }, pacs: [{ state: 'sent' }] };
  const stored = { type: 'stored', id: 'target-1', record, mask: IN_VOLUME, name: 'Target 1', check: null };
  const state = reduce(run(ANSWERED), stored);
  assert.deepEqual([active(state).stored.outcome, active(state).stored.pacs.state], ['accepted', 'sent']);
  assert.equal(allowed(state).accept || allowed(state).submit || allowed(state).reject, false);
  const changed = brushed(state, ON_SLICE);
  assert.deepEqual(describeTarget(active(changed)), { state: 'accepted, changed since', alert: true });
  assert.equal(allowed(changed).submit, true);
  assert.deepEqual(describeTarget(active(undo(changed))), { state: 'accepted', alert: false });
});

test('a name that is changed after it was stored is not what the archive has', () => {
  const record = { decision: { outcome: 'accepted' }, pacs: [{ state: 'sent' }] };
  const stored = { type: 'stored', id: 'target-1', record, mask: IN_VOLUME, name: 'Target 1', check: null };
  const state = run([...ANSWERED, stored, { type: 'renamed', id: 'target-1', name: 'Liver' }]);
  assert.deepEqual(describeTarget(active(state)), { state: 'accepted, changed since', alert: true });
  assert.equal(allowed(state).accept, true);
});

// --- follow-up questions -------------------------------------------------------------------------

const BOXED = {
  ...ANSWER,
  prompts: { ...ANSWER.prompts, bbox_xyxy_slice_px: [1, 0, 3, 2] },
  slice: { plane: 'axial', index: 57, count: 112, center_lps_mm: [0, 0, 12.54] },
};

test('a question follows up on a target by the choice of the reader, once, and never by itself', () => {
  let state = run([...answered('q', BOXED), RECORDED]);
  assert.equal(followedUp(state), null);
  const { id } = active(state);
  state = reduce(state, { type: 'followUp', id });
  assert.equal(followedUp(state).id, id);
  assert.equal(allowed(state).followUp, false);
  assert.equal(followedUp(reduce(state, { type: 'followUp', id: null })), null);
  assert.equal(followedUp(run(answered('r').slice(0, -2), state)).id, id);
  assert.equal(followedUp(run([...asked(), { type: 'cancelled' }], state)).id, id);
  assert.equal(followedUp(run(answered('r'), state)), null);
  const removed = reduce(state, { type: 'removed', id });
  assert.equal(followedUp(removed), null);
  assert.equal(followedUp(undo(removed)).id, id);
  assert.equal(followedUp(reduce(state, { type: 'opened' })), null);
});

test('nothing follows up on what was not understood', () => {
  const puzzled = { ...ANSWER, present: false, outcome: 'not_understood', prompts: null };
  const state = run([...answered('q', puzzled), RECORDED]);
  assert.equal(allowed(state).followUp, false);
  assert.equal(followedUp(reduce(state, { type: 'followUp', id: active(state).id })), null);
});

test('name, slice and box of the last answer that has one go along', () => {
  const place = { plane: 'axial', slice: 57, box: [1, 0, 3, 2], center: [0, 0, 12.54] };
  let state = run([...answered('Which organ\n makes bile?', BOXED), RECORDED]);
  assert.deepEqual(aboutOf(active(state)), { name: 'Which organ makes bile?', ...place });
  state = reduce(state, { type: 'renamed', id: active(state).id, name: 'liver' });
  assert.deepEqual(aboutOf(active(state)), { name: 'liver', ...place });
  // A click on another slice has no box there.
  state = run(corrected('click', ON_SLICE), state);
  assert.deepEqual(aboutOf(active(state)), { name: 'liver', ...place });
  const absent = { ...BOXED, present: false, prompts: null };
  const missing = run(answered('x'.repeat(70), absent));
  assert.deepEqual(aboutOf(active(missing)), { name: 'x'.repeat(64), ...place, box: null });
});

test('the reader sees what the question follows up on, by its place, and whether it counted', () => {
  const about = { name: 'liver', plane: 'axial', center: [0, 0, 12.54] };
  assert.equal(describeAbout(about), 'about: liver, axial 12.5 mm S');
  assert.equal(describeAbout({ ...about, plane: 'acquired' }), 'about: liver');
  const target = { name: 'liver', plane: 'axial', index: 57, bbox_xyxy_slice_px: null };
  const said = used =>
    describeAnswer({ ...ANSWER, follow_up: { target, used } }).map(({ text }) => text).join(' ');
  assert.match(said(true), /It follows up on: liver\./);
  assert.doesNotMatch(said(false), /follows up/);
});

test('a target is called as the question names it, and shown again as it was kept', () => {
  assert.deepEqual(calling(active(run(ANSWERED))), { name: null, color: [221, 84, 84] });
  const named = answered('q').map(action =>
    action.name === 'record' ? { ...action, data: { ...action.data, target: { name: 'spleen' } } } : action
  );
  const target = active(run(named));
  assert.deepEqual(calling(target), { name: 'spleen', color: [221, 84, 84] });
  assert.equal(target.first.name, 'spleen');
  const kept = {
    inference_id: 'q',
    result: { ...ANSWER, query: 'Where?' },
    target: { name: 'Milz', color: [1, 2, 3] },
    decision: { outcome: 'accepted' },
  };
  const again = targetOfRecord(2, kept, null);
  assert.deepEqual(calling(again), { name: 'Milz', color: [1, 2, 3] });
  assert.equal(again.stored.name, 'Milz');
});

test('an absent target has no mask and can be accepted; by a box it gets one', () => {
  const state = run([...answered('q', { ...ANSWER, present: false, prompts: null }), RECORDED]);
  assert.equal(maskOf(state), null);
  assert.equal(allowed(state).accept, true);
  const boxed = run(corrected('box', ON_SLICE), state);
  assert.deepEqual(maskOf(boxed), ON_SLICE);
  assert.deepEqual([allowed(boxed).accept, allowed(boxed).submit], [false, true]);
  assert.equal(maskOf(undo(boxed)), null);
});

test('what was not understood is rejected or asked again, never accepted; a box gives it a mask', () => {
  const puzzled = { ...ANSWER, present: false, outcome: 'not_understood', prompts: null };
  const state = run([...answered('q', puzzled), RECORDED]);
  assert.equal(maskOf(state), null);
  const { ask, accept, submit, reject } = allowed(state);
  assert.deepEqual({ ask, accept, submit, reject }, {
    ask: true, accept: false, submit: false, reject: true,
  });
  assert.deepEqual(describeTarget(active(state)), {
    state: 'not understood', alert: false, puzzled: true,
  });
  const boxed = run(corrected('box', ON_SLICE), state);
  assert.deepEqual([allowed(boxed).accept, allowed(boxed).submit], [false, true]);
  assert.equal(allowed(undo(boxed)).accept, false);
  // Shown again, it comes with the mask that the server has kept, which is empty.
  const result = { ...puzzled, query: '?' };
  const record = { inference_id: 'q', image_id: '1.2', result, decision: null };
  const again = run([RECORDED, { type: 'shown', record, mask: { runs: [24], ...GRID } }]);
  assert.equal(describeTarget(active(again)).state, 'not understood');
  assert.deepEqual([allowed(again).accept, allowed(again).reject], [false, true]);
});

test('a fault keeps what was known and lets one ask again', () => {
  const state = run([...ANSWERED, ...asked(), event('error', { status: 503, detail: 'No weights.' })]);
  assert.equal(state.error, 'No weights.');
  assert.equal(allowed(state).ask, true);
  assert.deepEqual(maskOf(state), IN_VOLUME);
});

test('a cancelled question is no fault and leaves no target', () => {
  const state = run([...asked(), event('error', { status: 499, detail: 'Cancelled.' })]);
  assert.equal(state.phase, 'idle');
  assert.equal(state.error, null);
  assert.deepEqual(shown(state), []);
});

test('an answer that breaks off is said to', () => {
  const state = run([...asked(), { type: 'ended' }]);
  assert.match(state.error, /ended the answer early/);
});

test('an earlier question is shown with what was decided, beside the targets of now', () => {
  const record = {
    inference_id: 'old',
    image_id: '1.2',
    result: { ...ANSWER, query: 'Then?' },
    decision: { outcome: 'rejected' },
  };
  const show = { type: 'shown', record, mask: { runs: ON_SLICE, ...GRID } };
  const state = run([show, show], run(ANSWERED));
  assert.deepEqual(listed(state).map(({ question }) => question), ['q', 'Then?']);
  const { question, series, stored } = active(state);
  assert.deepEqual([question, series, stored.outcome], ['Then?', '1.2', 'rejected']);
  assert.equal(allowed(state).accept, false);
});

test('a record that only the PACS has is shown and cannot be decided upon', () => {
  const record = { inference_id: 'old', image_id: '1.2', archived: true, result: ANSWER };
  const state = reduce(initialState(), { type: 'shown', record, mask: { runs: ON_SLICE, ...GRID } });
  const { accept, submit, reject, correct } = allowed(state);
  assert.equal(correct, true);
  assert.equal(accept || submit || reject, false);
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

test('what was not found has no certainty, and is absent only from the slices looked at', () => {
  const candidates = Array.from({ length: 12 }, () => ({ present: false }));
  const absent = { ...ANSWER, present: false, confidence: 1 };
  const said = shownAnswer => describeAnswer(shownAnswer).map(line => line.text).join(' ');
  assert.doesNotMatch(said(absent), /probability|100 %/);
  assert.match(said(absent), /not found on this slice/);
  const searched = { ...absent, slice_choice: { method: 'search', candidates } };
  assert.match(said(searched), /not found on any of the 12 slices looked at, of 112 in the series/);
});

test('a calibrated confidence is a probability, and a low one is called uncertain', () => {
  const said = (answer) => describeAnswer(answer).map((line) => line.text).join(' ');
  const sure = { ...ANSWER, calibrated: true, confidence: 0.82 };
  assert.match(said(sure), /The probability that its place is right is 82 %\./);
  const unsure = describeAnswer({ ...sure, confidence: 0.3 }).find((line) => /Uncertain/.test(line.text));
  assert.match(unsure.text, /Uncertain: the probability that its place is right is 30 %\./);
  assert.equal(unsure.alert, true);
  const absent = { ...sure, present: false, outcome: 'absent' };
  assert.match(said(absent), /The probability that it is not there is 82 %\./);
  assert.doesNotMatch(said({ ...sure, calibrated: false }), /probability|82/);
});

test('what was not understood is no absence, has no percentage and a mark of its own', () => {
  const puzzled = { ...ANSWER, present: false, outcome: 'not_understood', confidence: null };
  const text = 'The question was not understood: nothing is said of any target.';
  assert.deepEqual(describeAnswer(puzzled), [{ text, alert: false, puzzled: true }]);
  const said = shownAnswer => describeAnswer(shownAnswer).map(line => line.text);
  assert.deepEqual(said({ ...puzzled, agreement: 1 }), [text, 'Further answers say the same.']);
  const [, divided] = describeAnswer({ ...puzzled, agreement: 0.25 });
  assert.deepEqual(divided, { text: 'Further answers do not all say the same.', alert: true });
  const candidates = ['not_understood', 'not_understood', 'absent'].map(outcome => ({
    present: false,
    outcome,
  }));
  const searched = { ...puzzled, slice_choice: { method: 'search', candidates } };
  assert.deepEqual(said(searched), [
    'The question was not understood on 2 of 3 slices looked at: nothing is said of any target.',
  ]);
  const absent = { ...searched, outcome: 'absent' };
  assert.match(said(absent)[1], /^On 2 of these slices the question was not understood/);
});

test('an earlier question that was not understood is not called absent', () => {
  const slice = { plane: 'axial', center_lps_mm: [1, 2, -12.25] };
  const record = { result: { query: '?', slice }, present: false, created_at: '2026-01-02' };
  const details = outcome => describeRecord({ ...record, outcome }).details;
  assert.match(details('not_understood'), /^not decided · not understood · axial/);
  assert.match(details('absent'), /^not decided · not present · axial/);
});

test('the window that was read is named', () => {
  const slice = { plane: 'axial', window_name: 'soft_tissue', window_center: 40, window_width: 400 };
  const said = describeAnswer({ ...ANSWER, slice }).map(line => line.text);
  assert.equal(said.at(-1), 'Read: axial, window W 400 L 40 (soft tissue).');
});

test('a stored mask that differs from the screen is an alarm', () => {
  assert.equal(describeCheck({ screen: 'a1', stored: 'a1' }).alert, false);
  assert.match(describeCheck({ screen: 'a1', stored: 'b2' }).text, /not what was on the screen/);
  assert.match(describeCheck({ screen: null, stored: 'b2' }).text, /not compared/);
});

test('sizes are those of the patient, never of a projection', () => {
  const sizes = { voxels: 9, sliceAreaMm2: 4560, volumeMm3: 123400, isOnOneSlice: false };
  const said = shownAnswer => describeAnswer(shownAnswer, sizes).map(line => line.text).join(' ');
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
  const slice = { plane: 'axial', center_lps_mm: [1, 2, -12.25] };
  const result = { query: 'Where?', slice };
  const record = { result, present: true, created_at: '2026-01-02T03:04:05Z' };
  const { question, details } = describeRecord({ ...record, archived: true }, '3: Abdomen');
  assert.equal(question, 'Where?');
  assert.match(details, /^not decided · present · 3: Abdomen · axial 12.3 mm I · .* · in the PACS$/);
  const places = [['sagittal', '1.0 mm L'], ['coronal', '2.0 mm P'], ['acquired', null]].map(
    ([cut, place]) => {
      const there = { ...result, slice: { ...slice, plane: cut } };
      return [describeRecord({ ...record, result: there }).details, place];
    }
  );
  for (const [told, place] of places) assert.equal(told.includes(place ?? 'mm'), place !== null);
  const named = describeRecord({ ...record, target: { name: 'Liver', color: null } });
  assert.equal(named.question, 'Liver: Where?');
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

test('what was typed is sent in the body to be read as questions', async () => {
  let sent = null;
  const api = new Api(async (path, options) => {
    sent = { path, method: options.method, body: JSON.parse(options.body) };
    return new Response('{"questions":["liver","spleen"],"follows_up":false}');
  });
  const read = { questions: ['liver', 'spleen'], follows_up: false };
  assert.deepEqual(await api.questions('liver and spleen'), read);
  const body = { query: 'liver and spleen' };
  assert.deepEqual(sent, { path: '/medreasoner/questions', method: 'POST', body });
});

const LIVER = { name: 'Liver', color: [1, 2, 3] };

test('a label names the question it answers', async () => {
  let sent = null;
  const api = new Api(async (path, options) => {
    sent = { path, params: JSON.parse(options.body.get('params')), method: options.method };
    return new Response('{"medreasoner":{"voxels_sha256":"ab"}}');
  });
  assert.equal(await api.submit('1.2', new Blob(['x']), 'q', LIVER, undefined), 'ab');
  assert.deepEqual(sent, {
    path: '/datastore/label?image=1.2&tag=final',
    params: { inference_id: 'q', label_info: [{ ...LIVER, idx: 1, inference_id: 'q' }] },
    method: 'PUT',
  });
});

test('a decision without a mask says what the reader calls it', async () => {
  let sent = null;
  const api = new Api(async (path, options) => {
    sent = JSON.parse(options.body);
    return new Response('{}');
  });
  await api.decide('q', LIVER, 'rejected', 'No.');
  assert.deepEqual(sent, { outcome: 'rejected', reason: 'No.', target: LIVER });
});

test('the mask of what the PACS has comes from there', async () => {
  const paths = [];
  const api = new Api(async path => {
    paths.push(path);
    return new Response('{}');
  });
  const record = { inference_id: 'a/b', study_uid: '1.2' };
  await api.mask({ ...record, archived: true, mask_kept: true });
  await api.mask({ ...record, mask_kept: true });
  assert.equal(await api.mask({ ...record, mask_kept: false }), null);
  assert.deepEqual(paths, [
    '/medreasoner/history/a%2Fb/mask?study=1.2',
    '/medreasoner/masks/a%2Fb',
  ]);
});

test('questions that were asked on the study can be taken again, each once', () => {
  const record = (id, query, created_at) => ({ inference_id: id, created_at, result: { query } });
  const local = [
    record('a', 'liver', '2026-01-01T10:00:00Z'),
    record('b', 'spleen', '2026-01-01T11:00:00Z'),
    record('c', '', '2026-01-01T12:00:00Z'),
  ];
  const archived = [record('d', 'liver', '2026-01-01T13:00:00Z')];
  assert.deepEqual(askedTexts({ local, archived }), ['liver', 'spleen']);
  const many = Array.from({ length: 30 }, (_, n) => record(`${n}`, `q${n}`, `2026-01-01T10:00:${n + 10}Z`));
  assert.equal(askedTexts({ local: many, archived: [] }).length, 12);
});

// --- what could be lost or differ without a word --------------------------------------------------

const during = (action, kind = 'click') => {
  const [start, ...rest] = corrected(kind, ON_SLICE);
  return run([start, action, ...rest], run(ANSWERED));
};

test('a name and a choice to hide that are given while a click is on its way outlive it', () => {
  const named = during({ type: 'renamed', id: 'target-1', name: 'Liver' });
  assert.deepEqual([active(named).edit.name, maskOf(named)], ['Liver', ON_SLICE]);
  assert.equal(active(undo(named)).edit.name, 'Liver');
  const hidden = during({ type: 'hidden', id: 'target-1' });
  assert.deepEqual([active(hidden).edit.hidden, maskOf(hidden)], [true, ON_SLICE]);
});

test('a target that is deleted while a click is on its way does not come back by it', () => {
  const [start] = corrected('click', ON_SLICE);
  const state = run([start, { type: 'removed', id: 'target-1' }], run(ANSWERED));
  assert.deepEqual([listed(state), state.draft, state.phase], [[], null, 'idle']);
  assert.deepEqual(maskOf(undo(state)), IN_VOLUME);
  const unanswered = run([...asked(), { type: 'removed', id: 'target-1' }]);
  assert.deepEqual([listed(unanswered), unanswered.draft], [[], null]);
});

test('hiding is undone and done again, and one goes on with the target of before', () => {
  const two = run([...ANSWERED, ...answered('r')]);
  const hidden = reduce(two, { type: 'hidden', id: 'target-1' });
  const seen = state => listed(state).map(({ edit }) => edit.hidden);
  assert.deepEqual(seen(hidden), [true, false]);
  assert.equal(active(hidden).id, 'target-2');
  assert.equal(describeCommand(hidden.past.at(-1)), 'hide or show: Target 1');
  assert.deepEqual(seen(undo(hidden)), [false, false]);
  assert.deepEqual(seen(redo(undo(hidden))), [true, false]);
  const reset = run([{ type: 'selected', id: 'target-1' }, { type: 'reset' }], hidden);
  assert.deepEqual(seen(reset), [true, false]);
});

test('an earlier question that is here already is looked at, whatever was under way', () => {
  const record = { inference_id: 'q', image_id: '1.2', result: ANSWER };
  const state = run([...asked('Next?'), { type: 'shown', record, mask: null }], run(ANSWERED));
  assert.deepEqual([state.phase, state.draft, active(state).question], ['idle', null, 'q']);
  assert.equal(allowed(state).ask, true);
});

test('what was decided in another tab is known here, and what was edited there is not what is here', () => {
  const decided = (outcome, decided_at) => ({
    type: 'listed',
    records: [{ inference_id: 'q', decision: { outcome, decided_at }, pacs: [{ state: 'sent' }] }],
  });
  const accepted = reduce(run(ANSWERED), decided('accepted', '2026-01-02T00:00:00+00:00'));
  assert.deepEqual(describeTarget(active(accepted)), { state: 'accepted', alert: false });
  assert.deepEqual([allowed(accepted).accept, allowed(accepted).reject], [false, false]);
  const edited = reduce(accepted, decided('edited', '2026-01-03T00:00:00+00:00'));
  assert.deepEqual(describeTarget(active(edited)), { state: 'edited, changed since', alert: true });
  const older = reduce(edited, decided('accepted', '2026-01-02T00:00:00+00:00'));
  assert.equal(active(older).stored.outcome, 'edited');
});

test('the mask of the model is not said to be what was stored of an edited answer', () => {
  const decision = { outcome: 'edited', decided_at: '2026-01-02T00:00:00+00:00' };
  const of = values => ({ inference_id: 'old', image_id: '1.2', result: ANSWER, decision, ...values });
  const shownAs = record => {
    const show = { type: 'shown', record, mask: { runs: ON_SLICE, ...GRID } };
    return describeTarget(active(reduce(initialState(), show))).state;
  };
  assert.equal(shownAs(of({ archived: true })), 'edited');
  assert.equal(shownAs(of({ pacs: [{ state: 'pending' }] })), 'edited, changed since');
});

test('a study that is shown again has its targets, and what can be undone, but nothing under way', () => {
  const [start] = corrected('click', ON_SLICE);
  const left = run([start], run(ANSWERED));
  const other = reduce(left, { type: 'opened' });
  assert.deepEqual([listed(other), other.past], [[], []]);
  const again = reduce(other, { type: 'opened', kept: left });
  assert.deepEqual([maskOf(again), again.draft, again.phase], [IN_VOLUME, null, 'idle']);
  assert.deepEqual(listed(undo(again)), []);
});

test('the browser has something to ask about where an edited mask was not stored', () => {
  const edited = brushed(run(ANSWERED), ON_SLICE);
  assert.deepEqual([run(ANSWERED), edited, undo(edited)].map(hasUnstored), [false, true, false]);
  const record = { decision: { outcome: 'edited' }, pacs: [] };
  const stored = { type: 'stored', id: 'target-1', record, mask: ON_SLICE, name: 'Target 1', check: null };
  assert.equal(hasUnstored(reduce(edited, stored)), false);
});

test('what the viewer paints as another segment of a target is of that target', () => {
  const mapping = gridMapping({ affine: ROWS, shape: SHAPE }, { affine: ROWS, shape: SHAPE });
  const values = unpackRuns([1, 2, 9, 1, 11]);
  values[5] = 2;
  assert.deepEqual(packRuns(gatherMask(values, SHAPE, mapping)), [1, 2, 2, 1, 6, 1, 11]);
});

// --- keys ----------------------------------------------------------------------------------------

const key = (name, held = {}, inside = []) => ({
  key: name,
  altKey: false,
  ctrlKey: false,
  metaKey: false,
  shiftKey: false,
  ...held,
  target: {
    matches: () => inside.includes('text'),
    closest: () => (inside.includes('name') ? {} : null),
  },
});

test('keys mean the same wherever they are pressed, but in a text they edit it', () => {
  const [ctrl, meta, alt] = [{ ctrlKey: true }, { metaKey: true }, { altKey: true }];
  const undone = [key('z', ctrl), key('Z', meta), key('z', { ...ctrl, shiftKey: true }), key('y', ctrl)];
  assert.deepEqual(undone.map(meaningOf), ['undo', 'undo', 'redo', 'redo']);
  assert.equal(meaningOf(key('z', ctrl, ['text'])), null);
  assert.equal(meaningOf(key('z')), null);
  assert.deepEqual([key('Enter', alt), key('Enter')].map(meaningOf), ['store', null]);
  assert.deepEqual([key('Escape'), key('Escape', {}, ['text'])].map(meaningOf), ['escape', 'escape']);
  assert.equal(meaningOf(key('Escape', {}, ['text', 'name'])), null);
});

test('a letter that is written by AltGr is no shortcut', () => {
  const held = { altKey: true, ctrlKey: true };
  assert.equal(meaningOf(key('Enter', held)), null);
  assert.equal(meaningOf(key('z', held)), null);
  const graph = { ...key('@', { altKey: true }), getModifierState: name => name === 'AltGraph' };
  assert.deepEqual([isWithAlt(key('q', { altKey: true })), isWithAlt(key('q', held)), isWithAlt(graph)],
    [true, false, false]);
});
