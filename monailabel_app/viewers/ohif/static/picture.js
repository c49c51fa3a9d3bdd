// SPDX-License-Identifier: Apache-2.0
// Images without a place in the patient: radiographs, ultrasound. Server and viewer each make up
// millimetres of their own, so positions pass between them as pixels.

import { inverse, transform } from './grid.js';

/** The images of a stack viewport as the server sees them: voxel index to its own millimetres. */
export class Picture {
  #affine;
  #toIndex;
  #count;

  /** Whether a viewport shows such an image. Cornerstone then makes up its orientation. */
  static isIn(viewport) {
    if (viewport.type !== 'stack') return false;
    const imageId = viewport.getCurrentImageId();
    const plane = imageId && window.cornerstone.metaData.get('imagePlaneModule', imageId);
    return Boolean(plane?.isDefaultValueSetForRowCosine);
  }

  /** `affine` of the server; `count`: how many images it sees in the series. */
  constructor(affine, { count }) {
    this.#affine = affine;
    this.#toIndex = inverse(affine);
    this.#count = count;
  }

  /** Throws where the viewport shows other images than the server has read. */
  check(viewport) {
    const shown = viewport.getImageIds().length;
    if (shown !== this.#count) {
      throw new Error(
        `The series holds ${this.#count} images and ${shown} of them are shown here, ` +
          'so it is not certain which one was read.'
      );
    }
  }

  toWorld(viewport, position) {
    const [i, j] = transform(this.#toIndex, position);
    return Array.from(viewport.getImageData().imageData.indexToWorld([i, j, 0]));
  }

  fromWorld(viewport, world) {
    const [i, j] = viewport.getImageData().imageData.worldToIndex(world);
    return transform(this.#affine, [i, j, viewport.getCurrentImageIdIndex()]);
  }

  /** The number of the image on which a position lies, from 0. */
  imageIndex(position) {
    return Math.round(transform(this.#toIndex, position)[2]);
  }

  isShown(viewport, position) {
    return this.imageIndex(position) === viewport.getCurrentImageIdIndex();
  }

  /** As gridMapping of grid.js: both sides hold the same pixels in the same order. */
  mapping(mask, grid) {
    if (mask.shape_ijk.some((size, axis) => size !== grid.shape[axis])) {
      throw new Error('The mask lies on other pixels than the image that is shown.');
    }
    return { start: 0, steps: [1, grid.shape[0], grid.shape[0] * grid.shape[1]] };
  }
}
