// SPDX-License-Identifier: Apache-2.0
// A label map as NRRD, which carries its geometry (http://teem.sourceforge.net/nrrd/format.html).

/** The file as a Blob: uint8 voxels, I fastest, on a grid of `shape` with an affine to LPS mm. */
export function nrrdOf(values, shape, affine) {
  const column = axis => `(${[0, 1, 2].map(row => affine[row][axis]).join(',')})`;
  const header = [
    'NRRD0004',
    'type: uint8',
    'dimension: 3',
    'space: left-posterior-superior',
    `sizes: ${shape.join(' ')}`,
    `space directions: ${column(0)} ${column(1)} ${column(2)}`,
    'kinds: domain domain domain',
    'encoding: raw',
    `space origin: ${column(3)}`,
    '',
    '',
  ].join('\n');
  return new Blob([header, values], { type: 'application/octet-stream' });
}
