// SPDX-License-Identifier: Apache-2.0
// A Cornerstone labelmap as one array with its grid. A volume viewport keeps it as a volume, a
// stack viewport as one image per slice.

import { gridOfPlanes } from './grid.js';

/** The labelmap of a volume viewport. */
export function labelmapOfVolume(volume) {
  const { imageData, voxelManager } = volume;
  const origin = imageData.indexToWorld([0, 0, 0]);
  const units = [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ].map(unit => imageData.indexToWorld(unit));
  const affine = [0, 1, 2].map(row => [
    ...units.map(place => place[row] - origin[row]),
    origin[row],
  ]);
  return {
    grid: { affine, shape: Array.from(imageData.getDimensions()) },
    read: () => voxelManager.getCompleteScalarDataArray(),
    write: values => voxelManager.setCompleteScalarDataArray(values),
  };
}

/** The labelmap of a stack viewport; `planes` are the DICOM image planes of its images. */
export function labelmapOfImages(images, planes) {
  const grid = gridOfPlanes(planes);
  const size = grid.shape[0] * grid.shape[1];
  return {
    grid,
    read() {
      const values = new Uint8Array(size * images.length);
      images.forEach((image, k) => values.set(image.voxelManager.getScalarData(), k * size));
      return values;
    },
    write(values) {
      images.forEach((image, k) => {
        const slice = values.subarray(k * size, (k + 1) * size);
        image.voxelManager.getScalarData().set(slice);
      });
    },
  };
}
