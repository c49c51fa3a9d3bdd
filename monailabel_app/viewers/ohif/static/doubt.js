// SPDX-License-Identifier: Apache-2.0
// Where the model doubts: an answer set against further readings of its slice. No page, no network.

import { cutAxis, inverse, transform } from './grid.js';

// Red, green, blue of the shares up to a quarter, a half, three quarters, and all of the readings:
// matplotlib's viridis, whose lightness rises evenly, so that everybody tells the bands apart.
export const BANDS = [
  { upTo: 0.25, colour: [68, 1, 84] },
  { upTo: 0.5, colour: [49, 104, 142] },
  { upTo: 0.75, colour: [53, 183, 121] },
  { upTo: 1, colour: [253, 231, 37] },
];
const REASONS = {
  segmenter: 'the segmenter is not sure of its mask',
  readings: 'the readings mark different areas',
  end: 'the mask ends at or near this slice, and the target may go on',
};
const OUTCOMES = { absent: 'not present', not_understood: 'not understood' };
const GOOD_DICE = 0.7;
// A third of three readings and two of six are the same share.
const ROUNDING = 1e-6;

/**
 * The doubt of an answer as the server tells it, `null` where there is none; of a recorded one there
 * is no `map`: by voxel how many readings hold it, as `counts` and lengths of `runs`.
 */
export function doubtOf(told) {
  if (!told) return null;
  const { counts, runs, shape_ijk, ijk_to_lps, ...doubt } = told;
  return { ...doubt, map: runs ? { counts, runs, shape_ijk, ijk_to_lps } : null };
}

/** What the readings say, as `{text, alert}` lines; `alert` marks what needs a second look. */
export function describeDoubt(doubt) {
  const { readings, agreement, support, probability, named, doubtful_slices: slices } = doubt;
  const lines = named.map((reading, number) => ({
    text: `${reading.count} of ${readings}: ${saying(reading)}`,
    alert: number > 0,
  }));
  const percent = share => `${Math.round(share * 100)} %`;
  lines.push({ text: `Their masks agree to ${percent(agreement)}.`, alert: false });
  if (support !== null && support !== undefined) {
    lines.push({ text: `Support for the answer: ${percent(support)}.`, alert: support < 0.5 });
  }
  if (probability !== null && probability !== undefined) {
    const text = `The probability of a Dice of ${GOOD_DICE} or more is ${percent(probability)}.`;
    lines.push({ text, alert: probability < 0.5 });
  }
  if (slices.length > 0) {
    const many = slices.length === 1 ? '1 slice' : `${slices.length} slices`;
    lines.push({ text: `${many} to look at.`, alert: true });
  }
  return lines;
}

function saying({ outcome, name, elsewhere }) {
  if (outcome !== 'present') return OUTCOMES[outcome];
  return `${name ?? 'target'}${elsewhere ? ', at another place' : ''}`;
}

/** Why a slice is to be looked at. */
export function describeDoubtful({ reason }) {
  return `This slice: ${REASONS[reason]}.`;
}

/** The doubtful slice of that index; `null` where it is none. */
export function doubtfulAt(doubt, index) {
  return doubt.doubtful_slices.find(slice => slice.index === index) ?? null;
}

/** The next doubtful slice from `index` in a direction (1 or -1), round the end. */
export function nextDoubtful({ doubtful_slices: slices }, index, step) {
  const inOrder = step > 0 ? slices : [...slices].reverse();
  return inOrder.find(slice => (slice.index - index) * step > 0) ?? inOrder[0] ?? null;
}

/** The index along its cut axis of the slice on which a position (LPS mm) lies. */
export function indexAt(affine, plane, position) {
  return Math.floor(transform(inverse(affine), position)[cutAxis(affine, plane)] + 0.5);
}

/** The centre (LPS mm) of another slice than the one that was read. */
export function centreOf({ slice }, affine, index) {
  const axis = cutAxis(affine, slice.plane);
  const away = index - slice.index;
  return slice.center_lps_mm.map((value, row) => value + away * affine[row][axis]);
}

/** How many readings hold each voxel, I fastest. */
export function unpackCounts({ counts, runs }) {
  const values = new Uint8Array(runs.reduce((sum, length) => sum + length, 0));
  let at = 0;
  runs.forEach((length, number) => {
    values.fill(counts[number], at, at + length);
    at += length;
  });
  return values;
}

/** The colour of a share of the readings; `null` where none hold it. */
export function colourOf(share) {
  if (share <= 0) return null;
  return BANDS.find(({ upTo }) => share <= upTo + ROUNDING).colour;
}

/**
 * One slice of a map as a picture: `{width, height, pixels}` (RGBA, `alpha` where a reading holds
 * it), and the positions (LPS mm) of its first corner and of those at the end of its first row and
 * of its first column.
 */
export function pictureOf(values, { shape_ijk: shape, ijk_to_lps: affine }, readings, cut, alpha) {
  const [u, v] = [0, 1, 2].filter(axis => axis !== cut.axis);
  const strides = [1, shape[0], shape[0] * shape[1]];
  const [width, height] = [shape[u], shape[v]];
  const pixels = new Uint8ClampedArray(4 * width * height);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const at = cut.index * strides[cut.axis] + column * strides[u] + row * strides[v];
      const colour = colourOf(values[at] / readings);
      if (colour !== null) pixels.set([...colour, alpha], 4 * (row * width + column));
    }
  }
  const corner = (column, row) => {
    const voxel = [0, 0, 0];
    [voxel[cut.axis], voxel[u], voxel[v]] = [cut.index, column - 0.5, row - 0.5];
    return transform(affine, voxel);
  };
  return { width, height, pixels, corners: [corner(0, 0), corner(width, 0), corner(0, height)] };
}
