// SPDX-License-Identifier: Apache-2.0
// Sets of voxels as lengths of alternating runs of zeros and ones: zeros first (0 long where the
// first voxel is in the set), I fastest. Two sets are equal exactly if their runs are.

/** The runs of a mask of zeros and ones. */
export function packRuns(mask) {
  const runs = [];
  let value = 0;
  let start = 0;
  for (let at = 0; at < mask.length; at += 1) {
    if (mask[at] === value) continue;
    runs.push(at - start);
    start = at;
    value = mask[at];
  }
  runs.push(mask.length - start);
  return runs;
}

/** A mask's voxels, 0 or 1. */
export function unpackRuns(runs) {
  const mask = new Uint8Array(lengthOf(runs));
  let position = 0;
  runs.forEach((length, number) => {
    mask.fill(number % 2, position, position + length);
    position += length;
  });
  return mask;
}

/** How many voxels the grid has. */
export function lengthOf(runs) {
  return runs.reduce((sum, length) => sum + length, 0);
}

/** How many voxels the set has. */
export function countOf(runs) {
  return runs.reduce((sum, length, number) => (number % 2 === 1 ? sum + length : sum), 0);
}

/** The set of no voxel, on the grid of `runs`. */
export function emptyLike(runs) {
  return [lengthOf(runs)];
}

/** Whether two sets, `null` for none at all, are the same. */
export function sameRuns(first, second) {
  if (first === second) return true;
  if (first === null || second === null || first.length !== second.length) return false;
  return first.every((length, number) => length === second[number]);
}

/** All voxels of which `keep(inFirst, inSecond)` holds; `keep(false, false)` must not. */
function combine(first, second, keep) {
  if (lengthOf(first) !== lengthOf(second)) {
    throw new Error('The two masks lie on different grids.');
  }
  const runs = [];
  let kept = false;
  let length = 0;
  let [i, j] = [0, 0];
  let [left, right] = [first[0], second[0]];
  while (i < first.length && j < second.length) {
    const step = Math.min(left, right);
    const keeps = keep(i % 2 === 1, j % 2 === 1);
    if (step > 0 && keeps !== kept) {
      runs.push(length);
      [kept, length] = [keeps, 0];
    }
    length += step;
    left -= step;
    right -= step;
    if (left === 0) left = first[(i += 1)];
    if (right === 0) right = second[(j += 1)];
  }
  runs.push(length);
  return runs;
}

export const union = (first, second) => combine(first, second, (a, b) => a || b);
export const difference = (first, second) => combine(first, second, (a, b) => a && !b);
export const intersection = (first, second) => combine(first, second, (a, b) => a && b);

/** All voxels of a grid whose index along `axis` is `index`. */
export function slab(shape, axis, index) {
  const before = shape.slice(0, axis).reduce((product, size) => product * size, 1);
  const period = before * shape[axis];
  const periods = shape.slice(axis + 1).reduce((product, size) => product * size, 1);
  const runs = [index * before];
  for (let number = 1; number < periods; number += 1) runs.push(before, period - before);
  runs.push(before, period - (index + 1) * before);
  return runs.at(-1) === 0 ? runs.slice(0, -1) : runs;
}

/**
 * SHA-256 of the run lengths as the server writes them, decimal and with commas between, as
 * hexadecimal text; `null` where the browser computes none, which it does over HTTPS only.
 */
export async function hashOf(runs, subtle = globalThis.crypto?.subtle) {
  if (!subtle) return null;
  const digest = await subtle.digest('SHA-256', new TextEncoder().encode(runs.join(',')));
  return Array.from(new Uint8Array(digest), byte => byte.toString(16).padStart(2, '0')).join('');
}
