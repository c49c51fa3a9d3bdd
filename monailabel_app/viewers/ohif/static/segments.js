// SPDX-License-Identifier: Apache-2.0
// Masks on the screen. Nothing else here writes labelmaps. Each target has a segmentation of its
// own, since a labelmap of Cornerstone holds one segment per voxel and targets may overlap.

import { gatherMask, paintRuns } from './grid.js';
import { labelmapOfImages, labelmapOfVolume } from './labelmap.js';
import { packRuns } from './runs.js';

const SEGMENT = 1;
const PREFIX = 'medreasoner-';
const TYPE = 'Labelmap';
const DATA_MODIFIED = 'CORNERSTONE_TOOLS_SEGMENTATION_DATA_MODIFIED';

const idOf = target => `${PREFIX}${target.id}`;
const targetIdOf = segmentationId => segmentationId.slice(PREFIX.length);

/** The segmentations of the targets in an OHIF viewer. */
export class Segments {
  #services;
  #on;
  // What was written last, by segmentation: the target's mask, name, colour, and whether it shows.
  #written = new Map();
  // Those that tools of the viewer have changed since.
  #painted = new Set();
  #isWriting = false;
  #stop;

  /**
   * `on.painted()` is called when a tool of the viewer has changed a mask, which may be long before
   * the stroke ends; `on.removed(targetId)` when the viewer's own panel has deleted
   * one; `on.added()` when a segmentation was added, which may change the tab.
   */
  constructor(services, on) {
    this.#services = services;
    this.#on = on;
    const { segmentationService } = services;
    const { eventTarget } = window.cornerstone;
    const onData = ({ detail }) => this.#onData(detail.segmentationId);
    eventTarget.addEventListener(DATA_MODIFIED, onData);
    const { unsubscribe } = segmentationService.subscribe(
      segmentationService.EVENTS.SEGMENTATION_MODIFIED,
      ({ segmentationId }) => this.#onModified(segmentationId)
    );
    this.#stop = () => {
      eventTarget.removeEventListener(DATA_MODIFIED, onData);
      unsubscribe();
    };
  }

  /** Listen no more; the viewer removes the segmentations itself. */
  close() {
    this.#stop();
  }

  /**
   * Show `targets`, those that are deleted or without a mask not, in the viewport `viewportId` of
   * `displaySet`; `mappingOf(grid, labelmapGrid)` tells where voxels lie.
   */
  async show(targets, activeId, { viewportId, displaySet, mappingOf }) {
    for (const target of targets) {
      const { listed, mask } = target.edit;
      if (listed && mask !== null) {
        await this.#add(target, viewportId, displaySet);
        this.#write(target, mappingOf);
        this.#style(target, viewportId);
      } else this.#remove(idOf(target));
    }
    const active = targets.find(({ id }) => id === activeId);
    if (active && this.#written.has(idOf(active))) {
      this.#services.segmentationService.setActiveSegmentation(viewportId, idOf(active));
    }
  }

  /** Whether a tool of the viewer has changed a mask that nobody has taken yet. */
  get isPainted() {
    return this.#painted.size > 0;
  }

  /** Remove all of them, as another study is shown. */
  clear() {
    for (const id of [...this.#written.keys()]) this.#remove(id);
  }

  /**
   * What was written for a target, and what the screen shows now if a tool has changed it since;
   * else `null`.
   */
  takePainted(target, mappingOf) {
    const id = idOf(target);
    const written = this.#written.get(id)?.mask;
    if (!this.#painted.delete(id) || !written) return null;
    const { grid, read } = this.#labelmap(id);
    const { shape_ijk: shape } = target.edit.grid;
    const mask = gatherMask(read(), shape, mappingOf(target.edit.grid, grid), SEGMENT);
    return { before: written, after: packRuns(mask) };
  }

  /** The screen shows `mask` of a target already. */
  keep(target, mask) {
    const id = idOf(target);
    this.#written.set(id, { ...this.#written.get(id), mask });
  }

  #onData(segmentationId) {
    if (this.#isWriting || !this.#written.has(segmentationId)) return;
    this.#painted.add(segmentationId);
    this.#on.painted();
  }

  #onModified(segmentationId) {
    if (this.#isWriting || !this.#written.has(segmentationId)) return;
    const segmentation = this.#services.segmentationService.getSegmentation(segmentationId);
    if (segmentation?.segments[SEGMENT]) return;
    this.#remove(segmentationId);
    this.#on.removed(targetIdOf(segmentationId));
  }

  #quietly(action) {
    this.#isWriting = true;
    try {
      action();
    } finally {
      this.#isWriting = false;
    }
  }

  #remove(id) {
    this.#painted.delete(id);
    if (!this.#written.delete(id)) return;
    const { segmentationService } = this.#services;
    this.#quietly(() => {
      if (segmentationService.getSegmentation(id)) segmentationService.remove(id);
    });
  }

  async #add(target, viewportId, displaySet) {
    const id = idOf(target);
    const { segmentationService } = this.#services;
    if (!segmentationService.getSegmentation(id)) {
      const { name } = target.edit;
      await segmentationService.createLabelmapForDisplaySet(displaySet, {
        segmentationId: id,
        label: name,
        segments: { [SEGMENT]: { segmentIndex: SEGMENT, label: name, active: true } },
      });
      this.#written.set(id, {});
    }
    const drawn = segmentationService.getSegmentationRepresentations(viewportId, {
      segmentationId: id,
    });
    if (drawn.length > 0) return;
    await segmentationService.addSegmentationRepresentation(viewportId, {
      segmentationId: id,
      type: TYPE,
    });
    this.#written.set(id, { mask: this.#written.get(id)?.mask });
    this.#on.added();
  }

  #write(target, mappingOf) {
    const id = idOf(target);
    const { mask, grid } = target.edit;
    // A stroke that nobody has taken yet must not be written away; it is followed by another call.
    if (this.#written.get(id).mask === mask || this.#painted.has(id)) return;
    const labelmap = this.#labelmap(id);
    const values = new Uint8Array(labelmap.grid.shape.reduce((product, size) => product * size, 1));
    paintRuns(mask, grid.shape_ijk, mappingOf(grid, labelmap.grid), values, SEGMENT);
    labelmap.write(values);
    this.keep(target, mask);
    const { cornerstone } = window;
    this.#quietly(() =>
      cornerstone.triggerEvent(cornerstone.eventTarget, DATA_MODIFIED, { segmentationId: id })
    );
  }

  #style(target, viewportId) {
    const id = idOf(target);
    const { segmentationService } = this.#services;
    const written = this.#written.get(id);
    const { hidden, colour, edit } = target;
    this.#quietly(() => {
      if (written.colour !== colour) {
        // Segmentations share one table of colours unless each is given its own.
        const { color } = window.cornerstoneTools.segmentation.config;
        color.setColorLUT(viewportId, id, color.addColorLUT([[0, 0, 0, 0], [...colour, 255]]));
      }
      if (written.hidden !== hidden) {
        segmentationService.setSegmentVisibility(viewportId, id, SEGMENT, !hidden, TYPE);
      }
      if (written.name !== edit.name) {
        segmentationService.getSegmentation(id).label = edit.name;
        segmentationService.setSegmentLabel(id, SEGMENT, edit.name);
      }
    });
    this.#written.set(id, { ...written, colour, hidden, name: edit.name });
  }

  #labelmap(id) {
    const { segmentationService } = this.#services;
    const volume = segmentationService.getLabelmapVolume(id);
    if (volume) return labelmapOfVolume(volume);
    const { cache, metaData } = window.cornerstone;
    const { imageIds } = segmentationService.getSegmentation(id).representationData.Labelmap;
    const images = imageIds.map(imageId => cache.getImage(imageId));
    const planes = images.map(image => metaData.get('imagePlaneModule', image.referencedImageId));
    return labelmapOfImages(images, planes);
  }
}
