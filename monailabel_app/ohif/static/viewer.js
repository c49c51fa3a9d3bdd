// SPDX-License-Identifier: Apache-2.0
// What is shown, and showing masks: the only module that knows OHIF's and Cornerstone's services.

import { gatherMask, gridMapping, paintRuns, planeOf, transform } from './grid.js';
import { labelmapOfImages, labelmapOfVolume } from './labelmap.js';

const LABEL = 'MedReasoner';
const SEGMENT = 1;
const DATA_MODIFIED = 'CORNERSTONE_TOOLS_SEGMENTATION_DATA_MODIFIED';
export const IMAGE_RENDERED = 'CORNERSTONE_IMAGE_RENDERED';

const dot = (a, b) => a.reduce((sum, value, axis) => sum + value * b[axis], 0);
const along = (point, direction, distance) =>
  point.map((value, axis) => value + direction[axis] * distance);

/** The active viewport of an OHIF viewer. */
export class Viewer {
  #services;

  constructor(servicesManager) {
    this.#services = servicesManager.services;
  }

  /** The series that is shown; `null` while there is none. */
  get series() {
    return this.#displaySet?.SeriesInstanceUID ?? null;
  }

  /** The Cornerstone viewport; `null` while there is none. */
  get viewport() {
    const { viewportGridService, cornerstoneViewportService } = this.#services;
    const id = viewportGridService.getState().activeViewportId;
    return (id && cornerstoneViewportService.getCornerstoneViewport(id)) || null;
  }

  /** A patient position on the slice that is shown (LPS mm), and the slice's plane. */
  get slice() {
    const { focalPoint, viewPlaneNormal } = this.#need(this.viewport).getCamera();
    return { position: Array.from(focalPoint), plane: planeOf(Array.from(viewPlaneNormal)) };
  }

  /** Call back when the viewer shows another series or viewport; returns how to stop that. */
  onChange(callback) {
    const { viewportGridService } = this.#services;
    const { GRID_STATE_CHANGED, ACTIVE_VIEWPORT_ID_CHANGED, VIEWPORTS_READY } =
      viewportGridService.EVENTS;
    const subscriptions = [GRID_STATE_CHANGED, ACTIVE_VIEWPORT_ID_CHANGED, VIEWPORTS_READY]
      .filter(Boolean)
      .map(event => viewportGridService.subscribe(event, callback));
    return () => subscriptions.forEach(({ unsubscribe }) => unsubscribe());
  }

  /** How far a patient position lies before or behind the slice that is shown, in mm. */
  distanceTo(position) {
    const { focalPoint, viewPlaneNormal } = this.#need(this.viewport).getCamera();
    return Math.abs(dot(along(position, focalPoint, -1), viewPlaneNormal));
  }

  /** Show the slice on which a patient position lies. */
  jumpTo(position) {
    const viewport = this.#need(this.viewport);
    if (typeof viewport.setImageIdIndex === 'function' && viewport.type === 'stack') {
      viewport.setImageIdIndex(this.#closestImage(viewport, position));
      return;
    }
    const camera = viewport.getCamera();
    const normal = camera.viewPlaneNormal;
    const distance = dot(along(position, camera.focalPoint, -1), normal);
    viewport.setCamera({
      focalPoint: along(Array.from(camera.focalPoint), normal, distance),
      position: along(Array.from(camera.position), normal, distance),
    });
    viewport.render();
  }

  /** Show a mask (the data of a `mask` event) as the segment, `null` for none. */
  async showMask(mask) {
    const labelmap = await this.#labelmap();
    const { grid } = labelmap;
    const values = new Uint8Array(grid.shape[0] * grid.shape[1] * grid.shape[2]);
    if (mask !== null) {
      const from = { affine: mask.ijk_to_lps, shape: mask.shape_ijk };
      paintRuns(mask.runs, mask.shape_ijk, gridMapping(from, grid), values, SEGMENT);
    }
    labelmap.write(values);
    const { cornerstone } = window;
    cornerstone.triggerEvent(cornerstone.eventTarget, DATA_MODIFIED, {
      segmentationId: this.#segmentationId,
    });
  }

  /** The segment as it is now, also if it was edited, on the grid of `mask`. */
  async readMask(mask) {
    const { grid, read } = await this.#labelmap();
    const from = { affine: mask.ijk_to_lps, shape: mask.shape_ijk };
    return gatherMask(read(), mask.shape_ijk, gridMapping(from, grid), SEGMENT);
  }

  get #displaySet() {
    const { viewportGridService, displaySetService } = this.#services;
    const { activeViewportId, viewports } = viewportGridService.getState();
    const uid = viewports.get(activeViewportId)?.displaySetInstanceUIDs?.[0];
    return uid ? displaySetService.getDisplaySetByUID(uid) : null;
  }

  get #segmentationId() {
    return `medreasoner-${this.#need(this.#displaySet).displaySetInstanceUID}`;
  }

  async #labelmap() {
    const { segmentationService, viewportGridService } = this.#services;
    const id = this.#segmentationId;
    if (!segmentationService.getSegmentation(id)) {
      await segmentationService.createLabelmapForDisplaySet(this.#need(this.#displaySet), {
        segmentationId: id,
        label: LABEL,
        segments: {
          [SEGMENT]: { segmentIndex: SEGMENT, label: 'MedReasoner target', active: true },
        },
      });
    }
    const viewportId = viewportGridService.getState().activeViewportId;
    const shown = segmentationService.getSegmentationRepresentations(viewportId, {
      segmentationId: id,
    });
    if (shown.length === 0) {
      await segmentationService.addSegmentationRepresentation(viewportId, {
        segmentationId: id,
        type: 'Labelmap',
      });
    }
    const volume = segmentationService.getLabelmapVolume(id);
    if (volume) return labelmapOfVolume(volume);
    const { cache, metaData } = window.cornerstone;
    const { imageIds } = segmentationService.getSegmentation(id).representationData.Labelmap;
    const images = imageIds.map(imageId => cache.getImage(imageId));
    const planes = images.map(image => metaData.get('imagePlaneModule', image.referencedImageId));
    return labelmapOfImages(images, planes);
  }

  #closestImage(viewport, position) {
    const { cornerstone } = window;
    const { viewPlaneNormal } = viewport.getCamera();
    const distances = viewport.getImageIds().map(imageId => {
      const { imagePositionPatient } = cornerstone.metaData.get('imagePlaneModule', imageId);
      return Math.abs(dot(along(position, imagePositionPatient, -1), viewPlaneNormal));
    });
    return distances.indexOf(Math.min(...distances));
  }

  #need(thing) {
    if (!thing) throw new Error('No image is shown; open a series first.');
    return thing;
  }
}

/** Half of a voxel's size along the axis that a mask's slices are counted on, in mm. */
export function halfSlice(mask, normal) {
  const centre = transform(mask.ijk_to_lps, [0, 0, 0]);
  const sizes = [0, 1, 2].map(axis => {
    const unit = [0, 0, 0];
    unit[axis] = 1;
    return Math.abs(dot(along(transform(mask.ijk_to_lps, unit), centre, -1), normal));
  });
  return Math.max(...sizes) / 2;
}
