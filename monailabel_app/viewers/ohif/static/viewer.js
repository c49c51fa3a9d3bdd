// SPDX-License-Identifier: Apache-2.0
// What is shown, and showing masks: the only module that knows OHIF's and Cornerstone's services.

import { gatherMask, gridMapping, paintRuns, planeOf } from './grid.js';
import { labelmapOfImages, labelmapOfVolume } from './labelmap.js';
import { Picture } from './picture.js';

const LABEL = 'MedReasoner';
const SEGMENT = 1;
const DATA_MODIFIED = 'CORNERSTONE_TOOLS_SEGMENTATION_DATA_MODIFIED';
const SHOW_TIMEOUT_MS = 20_000;
const LOOK_AGAIN_MS = 100;
export const IMAGE_RENDERED = 'CORNERSTONE_IMAGE_RENDERED';

const dot = (a, b) => a.reduce((sum, value, axis) => sum + value * b[axis], 0);
const along = (point, direction, distance) =>
  point.map((value, axis) => value + direction[axis] * distance);
const wait = milliseconds => new Promise(done => setTimeout(done, milliseconds));

/**
 * The active viewport of an OHIF viewer. Positions are LPS mm in the patient; of an image without
 * a place in the patient they are the server's own, see picture.js.
 */
export class Viewer {
  #services;
  #onSegmentation;
  #picture = null;

  /** `onSegmentation()` is called when a segmentation was added, which may change the tab. */
  constructor(servicesManager, onSegmentation) {
    this.#services = servicesManager.services;
    this.#onSegmentation = onSegmentation;
  }

  /** The series that is shown; `null` while there is none. */
  get series() {
    return this.#displaySet?.SeriesInstanceUID ?? null;
  }

  /** The study that is shown; `null` while there is none. */
  get study() {
    return this.#displaySet?.StudyInstanceUID ?? null;
  }

  /** The Cornerstone viewport; `null` while there is none. */
  get viewport() {
    const { viewportGridService, cornerstoneViewportService } = this.#services;
    const id = viewportGridService.getState().activeViewportId;
    return (id && cornerstoneViewportService.getCornerstoneViewport(id)) || null;
  }

  /** What tells the server which slice is shown. */
  get slice() {
    const viewport = this.#need(this.viewport);
    if (Picture.isIn(viewport)) {
      return { slice: viewport.getCurrentImageIdIndex(), plane: 'acquired' };
    }
    return { position: Array.from(viewport.getCamera().focalPoint), plane: this.plane };
  }

  /** The plane that is looked at. */
  get plane() {
    const viewport = this.#need(this.viewport);
    if (Picture.isIn(viewport)) return 'acquired';
    return planeOf(Array.from(viewport.getCamera().viewPlaneNormal));
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

  /**
   * Take the server's affine (voxel index to mm) of an image; needed before positions of a picture
   * mean anything here.
   *
   * Throws where the series has other images than those that are shown.
   */
  setGrid(affine, slice) {
    const viewport = this.#need(this.viewport);
    this.#picture = Picture.isIn(viewport) ? new Picture(affine, slice) : null;
    this.#picture?.check(viewport);
  }

  /** A patient position on the canvas, in CSS px. */
  toCanvas(position) {
    const { viewport } = this;
    return viewport.worldToCanvas(this.#picture?.toWorld(viewport, position) ?? position);
  }

  /** A place on the canvas (CSS px) in the patient. */
  fromCanvas(place) {
    const { viewport } = this;
    const world = Array.from(viewport.canvasToWorld(place));
    return this.#picture?.fromWorld(viewport, world) ?? world;
  }

  /** Whether a patient position lies on the slice that is shown, up to half of its thickness. */
  isOnSlice(position, halfSliceMm) {
    const viewport = this.#need(this.viewport);
    if (this.#picture) return this.#picture.isShown(viewport, position);
    const { focalPoint, viewPlaneNormal } = viewport.getCamera();
    return Math.abs(dot(along(position, focalPoint, -1), viewPlaneNormal)) <= halfSliceMm + 1e-3;
  }

  /** Show the slice on which a patient position lies. */
  async jumpTo(position) {
    const viewport = this.#need(this.viewport);
    if (viewport.type === 'stack') {
      const index = this.#picture?.imageIndex(position) ?? this.#closestImage(viewport, position);
      await viewport.setImageIdIndex(index);
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

  /** Show another series of the study in place of the active viewport's. */
  async showSeries(series) {
    if (this.series === series) return;
    const { displaySetService, hangingProtocolService, viewportGridService } = this.#services;
    const wanted = displaySetService.getDisplaySetsForSeries(series)?.[0];
    if (!wanted) throw new Error('The series of this question is not among those of the study.');
    const { activeViewportId } = viewportGridService.getState();
    viewportGridService.setDisplaySetsForViewports(
      hangingProtocolService.getViewportsRequireUpdate(
        activeViewportId,
        wanted.displaySetInstanceUID
      )
    );
    for (let waited = 0; this.#drawnSeries !== series; waited += LOOK_AGAIN_MS) {
      if (waited > SHOW_TIMEOUT_MS) throw new Error('The series of this question does not show.');
      await wait(LOOK_AGAIN_MS);
    }
  }

  /** Show a mask (the data of a `mask` event) as the segment, `null` for none. */
  async showMask(mask) {
    if (mask === null && !this.#services.segmentationService.getSegmentation(this.#segmentationId)) {
      return;
    }
    const labelmap = await this.#labelmap();
    const { grid } = labelmap;
    const values = new Uint8Array(grid.shape[0] * grid.shape[1] * grid.shape[2]);
    if (mask !== null) {
      paintRuns(mask.runs, mask.shape_ijk, this.#mapping(mask, grid), values, SEGMENT);
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
    return gatherMask(read(), mask.shape_ijk, this.#mapping(mask, grid), SEGMENT);
  }

  #mapping(mask, grid) {
    if (this.#picture) return this.#picture.mapping(mask, grid);
    return gridMapping({ affine: mask.ijk_to_lps, shape: mask.shape_ijk }, grid);
  }

  get #displaySet() {
    const { viewportGridService, displaySetService } = this.#services;
    const { activeViewportId, viewports } = viewportGridService.getState();
    const uid = viewports.get(activeViewportId)?.displaySetInstanceUIDs?.[0];
    return uid ? displaySetService.getDisplaySetByUID(uid) : null;
  }

  get #drawnSeries() {
    const imageId = this.viewport?.getCurrentImageId?.();
    return imageId
      ? window.cornerstone.metaData.get('instance', imageId)?.SeriesInstanceUID
      : undefined;
  }

  get #segmentationId() {
    return `medreasoner-${this.#need(this.#displaySet).displaySetInstanceUID}`;
  }

  async #labelmap() {
    const { segmentationService } = this.#services;
    const id = this.#segmentationId;
    await this.#showSegmentation(id);
    const volume = segmentationService.getLabelmapVolume(id);
    if (volume) return labelmapOfVolume(volume);
    const { cache, metaData } = window.cornerstone;
    const { imageIds } = segmentationService.getSegmentation(id).representationData.Labelmap;
    const images = imageIds.map(imageId => cache.getImage(imageId));
    const planes = images.map(image => metaData.get('imagePlaneModule', image.referencedImageId));
    return labelmapOfImages(images, planes);
  }

  /** Add the segmentation if there is none yet, and have the viewport draw it. */
  async #showSegmentation(id) {
    const { segmentationService, viewportGridService } = this.#services;
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
    if (shown.length > 0) return;
    await segmentationService.addSegmentationRepresentation(viewportId, {
      segmentationId: id,
      type: 'Labelmap',
    });
    this.#onSegmentation();
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
