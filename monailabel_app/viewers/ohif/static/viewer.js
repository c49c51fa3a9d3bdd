// SPDX-License-Identifier: Apache-2.0
// What the viewer shows, and going elsewhere in it; with segments.js the only module that knows
// OHIF's and Cornerstone's services.

import { gridMapping, planeOf } from './grid.js';
import { Picture } from './picture.js';

const SHOW_TIMEOUT_MS = 20_000;
const LOOK_AGAIN_MS = 100;
const STACK_NEW_IMAGE = 'CORNERSTONE_STACK_NEW_IMAGE';
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
  #pictures = new Map();

  constructor(services) {
    this.#services = services;
  }

  /** The series that is shown; `null` while there is none. */
  get series() {
    return this.#displaySet?.SeriesInstanceUID ?? null;
  }

  /** The study that is shown; `null` while there is none. */
  get study() {
    return this.#displaySet?.StudyInstanceUID ?? null;
  }

  /** What the viewer calls a series of the study; `null` where it has none of that UID. */
  seriesName(series) {
    const found = this.#services.displaySetService.getDisplaySetsForSeries(series)?.[0];
    if (!found) return null;
    const { SeriesNumber, SeriesDescription, Modality } = found;
    return [SeriesNumber, SeriesDescription || Modality].filter(Boolean).join(': ');
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

  /**
   * The window that is looked through, as the server takes it: centre and width in the image's
   * values. `{}` where the image has none of its own: colour, and doses and uptakes, which the
   * viewer scales otherwise.
   */
  get window() {
    const viewport = this.#need(this.viewport);
    const { lower, upper } = viewport.getProperties?.()?.voiRange ?? {};
    if (this.#isUnwindowed || !(upper > lower)) return {};
    const { toWindowLevel } = window.cornerstone.utilities.windowLevel;
    const { windowCenter, windowWidth } = toWindowLevel(lower, upper);
    const [center, width] = [windowCenter, windowWidth].map(value => Number(value.toPrecision(7)));
    return { window: `${center}/${width}` };
  }

  get #isUnwindowed() {
    const { Modality, PhotometricInterpretation } = this.#displaySet?.instances?.[0] ?? {};
    return ['PT', 'RTDOSE'].includes(Modality) || !/^MONOCHROME/.test(PhotometricInterpretation);
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
    if (!Picture.isIn(viewport)) return;
    const picture = new Picture(affine, slice);
    picture.check(viewport);
    this.#pictures.set(this.series, picture);
  }

  /** Whether setGrid has told of the series that is shown. */
  get hasGrid() {
    return this.#picture !== null;
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
      await scrollTo(viewport, index);
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

  /** Where segments.js shows masks. */
  get place() {
    return {
      viewportId: this.#services.viewportGridService.getState().activeViewportId,
      displaySet: this.#need(this.#displaySet),
      mappingOf: this.mappingOf,
    };
  }

  /** As gridMapping of grid.js, from a mask's grid to a labelmap's of a series. */
  mappingOf = (grid, labelmap, series = this.series) =>
    this.#pictures.get(series)?.mapping(grid, labelmap) ??
    gridMapping({ affine: grid.ijk_to_lps, shape: grid.shape_ijk }, labelmap);

  /** Of the series that is shown, where that has no place in the patient. */
  get #picture() {
    return this.#pictures.get(this.series) ?? null;
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

/**
 * Show an image of a stack. By `setImageIdIndex` alone the viewport keeps another one as its target,
 * and the viewer's next scrolling to that one leaves "Loading..." on the page for ever.
 */
async function scrollTo(viewport, index) {
  if (viewport.getCurrentImageIdIndex() === index) return;
  const isShown = new Promise(done => {
    viewport.element.addEventListener(STACK_NEW_IMAGE, done, { once: true });
  });
  viewport.scroll(index - viewport.getTargetImageIdIndex(), false);
  await Promise.race([isShown, wait(SHOW_TIMEOUT_MS)]);
}
