// SPDX-License-Identifier: Apache-2.0
// Between the server's voxel grid and the viewer's. Both hold the same slices, but may count them
// from the other end. Affines are arrays of three or four rows, voxel index to LPS millimetres.

// Of a voxel, at every corner: beyond it, the grids are not the same voxels.
const TOLERANCE = 0.25;

/** The affine times a point. */
export function transform(affine, [x, y, z]) {
  return affine.slice(0, 3).map(row => row[0] * x + row[1] * y + row[2] * z + row[3]);
}

/** The inverse of an affine whose axes are linearly independent. */
export function inverse(affine) {
  const [[a, b, c], [d, e, f], [g, h, i]] = affine;
  const determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  if (determinant === 0) throw new Error('The image has no extent along one of its axes.');
  const rows = [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ].map(row => row.map(value => value / determinant));
  const origin = affine.slice(0, 3).map(row => row[3]);
  return rows.map(row => [...row, -(row[0] * origin[0] + row[1] * origin[1] + row[2] * origin[2])]);
}

/**
 * Where a voxel of one grid lies in the other's array (I varies fastest in both):
 * `start + i * steps[0] + j * steps[1] + k * steps[2]`.
 *
 * Throws where the grids do not hold the same voxels.
 */
export function gridMapping(from, to) {
  const toIndex = inverse(to.affine);
  const map = index => transform(toIndex, transform(from.affine, index));
  const strides = [1, to.shape[0], to.shape[0] * to.shape[1]];
  const offset = index =>
    index.reduce((sum, value, axis) => sum + Math.round(value) * strides[axis], 0);
  const origin = map([0, 0, 0]);
  const last = from.shape.map(size => size - 1);
  for (const corner of corners(last)) {
    const place = map(corner);
    const fits = place.every(
      (value, axis) =>
        Math.abs(value - Math.round(value)) <= TOLERANCE &&
        Math.round(value) >= 0 &&
        Math.round(value) < to.shape[axis]
    );
    if (!fits) {
      throw new Error('The mask lies on other voxels than the series that is shown.');
    }
  }
  const start = offset(origin);
  const steps = [0, 1, 2].map(axis => {
    const unit = [0, 0, 0];
    unit[axis] = 1;
    return last[axis] === 0 ? 0 : offset(map(unit)) - start;
  });
  return { start, steps };
}

function corners([i, j, k]) {
  return [0, i].flatMap(x => [0, j].flatMap(y => [0, k].map(z => [x, y, z])));
}

/**
 * Write a mask's voxels into the viewer's array.
 *
 * `runs` are lengths of alternating runs of zeros and ones, I fastest, on a grid of `shape`.
 */
export function paintRuns(runs, shape, mapping, target, value) {
  const [width, height, depth] = shape;
  const total = runs.reduce((sum, length) => sum + length, 0);
  if (total !== width * height * depth) {
    throw new Error(`The mask has ${total} voxels, expected ${width * height * depth}.`);
  }
  const [stepI, stepJ, stepK] = mapping.steps;
  let position = 0;
  runs.forEach((length, number) => {
    for (let at = position; number % 2 === 1 && at < position + length; at += 1) {
      const i = at % width;
      const j = Math.floor(at / width) % height;
      const k = Math.floor(at / (width * height));
      target[mapping.start + i * stepI + j * stepJ + k * stepK] = value;
    }
    position += length;
  });
}

/** The viewer's array read back onto the server's grid: 1 where it holds anything. */
export function gatherMask(source, shape, mapping) {
  const [width, height, depth] = shape;
  const [stepI, stepJ, stepK] = mapping.steps;
  const mask = new Uint8Array(width * height * depth);
  let at = 0;
  for (let k = 0; k < depth; k += 1) {
    for (let j = 0; j < height; j += 1) {
      let place = mapping.start + j * stepJ + k * stepK;
      for (let i = 0; i < width; i += 1, at += 1, place += stepI) {
        if (source[place] !== 0) mask[at] = 1;
      }
    }
  }
  return mask;
}

/**
 * The grid of a stack of DICOM image planes (PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1), in its order.
 *
 * Throws where the slices are not evenly spaced.
 */
export function gridOfPlanes(planes) {
  const [first] = planes;
  const origin = first.imagePositionPatient;
  const last = planes[planes.length - 1].imagePositionPatient;
  const gaps = Math.max(planes.length - 1, 1);
  const step = origin.map((value, axis) => (last[axis] - value) / gaps);
  planes.forEach(({ imagePositionPatient }, k) => {
    const strays = imagePositionPatient.some(
      (value, axis) => Math.abs(value - origin[axis] - k * step[axis]) > TOLERANCE
    );
    if (strays) throw new Error('The slices of this series are not evenly spaced.');
  });
  const normal = planes.length > 1 ? step : cross(first.rowCosines, first.columnCosines);
  const affine = [0, 1, 2].map(row => [
    first.rowCosines[row] * first.columnPixelSpacing,
    first.columnCosines[row] * first.rowPixelSpacing,
    normal[row],
    origin[row],
  ]);
  return { affine, shape: [first.columns, first.rows, planes.length] };
}

function cross([a, b, c], [d, e, f]) {
  return [b * f - c * e, c * d - a * f, a * e - b * d];
}

/** Half of a voxel's size along a direction (a unit vector), in mm; of the axis closest to it. */
export function halfSlice(affine, normal) {
  const sizes = [0, 1, 2].map(axis =>
    Math.abs(affine.slice(0, 3).reduce((sum, row, at) => sum + row[axis] * normal[at], 0))
  );
  return Math.max(...sizes) / 2;
}

/** The plane that a view direction (LPS) looks onto. */
export function planeOf(normal) {
  const sizes = normal.map(Math.abs);
  const axis = sizes.indexOf(Math.max(...sizes));
  return ['sagittal', 'coronal', 'axial'][axis];
}

/** The axis of the voxel grid that a plane cuts across; of an acquired image that of its slices. */
export function cutAxis(affine, plane) {
  const row = ['sagittal', 'coronal', 'axial'].indexOf(plane);
  if (row < 0) return 2;
  const share = column => {
    const length = Math.hypot(affine[0][column], affine[1][column], affine[2][column]);
    return Math.abs(affine[row][column]) / length;
  };
  return [0, 1, 2].reduce((best, column) => (share(column) > share(best) ? column : best), 0);
}
