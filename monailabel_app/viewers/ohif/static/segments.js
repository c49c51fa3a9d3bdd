// SPDX-License-Identifier: Apache-2.0
// Masks on the screen. Nothing else here writes labelmaps. Each target has a segmentation of its
// own, since a labelmap of Cornerstone holds one segment per voxel and targets may overlap.

import { gatherMask, paintRuns } from './grid.js';
import { labelmapOfImages, labelmapOfVolume } from './labelmap.js';
import { packRuns } from './runs.js';
import { LONGEST_NAME } from './target.js';

const SEGMENT = 1;
const MOST_SEGMENTS = 255;
const PREFIX = 'medreasoner-';
const TYPE = 'Labelmap';
const DATA_MODIFIED = 'CORNERSTONE_TOOLS_SEGMENTATION_DATA_MODIFIED';

const idOf = target => `${PREFIX}${target.id}`;
const targetIdOf = segmentationId => segmentationId.slice(PREFIX.length);

/** The segmentations of the targets in an OHIF viewer. */
export class Segments {
  #services;
  #on;
  // What was written last, by segmentation: the target's mask, and how it shows in which viewport.
  #written = new Map();
  // Those that tools of the viewer have changed since.
  #painted = new Set();
  #isWriting = false;
  #viewportId = null;
  #stop;

  /**
   * `on.painted()` is called when a tool of the viewer has changed a mask, which may be long before
   * the stroke ends; `on.removed(targetId)`, `on.renamed(targetId, name)`, `on.coloured(targetId, rgb)`
   * and `on.hidden(targetId)` (or shown again) when the viewer's own panel has done that to one;
   * `on.added()` when a segmentation was added, which may change the tab.
   */
  constructor(services, on) {
    this.#services = services;
    this.#on = on;
    const { segmentationService } = services;
    const { eventTarget } = window.cornerstone;
    const onData = ({ detail }) => this.#onData(detail.segmentationId);
    eventTarget.addEventListener(DATA_MODIFIED, onData);
    const { SEGMENTATION_MODIFIED, SEGMENTATION_REPRESENTATION_MODIFIED } =
      segmentationService.EVENTS;
    const subscriptions = [
      segmentationService.subscribe(SEGMENTATION_MODIFIED, ({ segmentationId }) =>
        this.#onModified(segmentationId)
      ),
      segmentationService.subscribe(SEGMENTATION_REPRESENTATION_MODIFIED, () => this.#onRestyled()),
    ];
    this.#stop = () => {
      eventTarget.removeEventListener(DATA_MODIFIED, onData);
      subscriptions.forEach(({ unsubscribe }) => unsubscribe());
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
    this.#viewportId = viewportId;
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
    const mask = gatherMask(read(), shape, mappingOf(target.edit.grid, grid));
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
    if (!segmentation?.segments[SEGMENT]) {
      this.#remove(segmentationId);
      this.#on.removed(targetIdOf(segmentationId));
      return;
    }
    const written = this.#written.get(segmentationId);
    const names = [segmentation.segments[SEGMENT].label, segmentation.label];
    const name = names.find(said => said !== written.name)?.trim().slice(0, LONGEST_NAME);
    if (written.name === undefined || !name) return;
    this.#written.set(segmentationId, { ...written, name });
    this.#quietly(() => this.#label(segmentationId, name));
    this.#on.renamed(targetIdOf(segmentationId), name);
  }

  /** The viewer's own panel may have hidden or coloured one of them. */
  #onRestyled() {
    if (this.#isWriting) return;
    const { segmentationService } = this.#services;
    for (const [id, written] of this.#written) {
      if (written.viewportId !== this.#viewportId) continue;
      const [drawn] = segmentationService.getSegmentationRepresentations(this.#viewportId, {
        segmentationId: id,
      });
      if (!drawn) continue;
      const { visible, color } = drawn.segments[SEGMENT];
      const colour = Array.from(color).slice(0, 3);
      const isRecoloured = colour.some((value, at) => value !== written.colour[at]);
      const hidden = !visible;
      this.#written.set(id, { ...written, hidden, colour: isRecoloured ? colour : written.colour });
      if (isRecoloured) this.#on.coloured(targetIdOf(id), colour);
      if (hidden !== written.hidden) this.#on.hidden(targetIdOf(id));
    }
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
    const known = this.#written.get(id);
    // Each viewport has colours and what it hides of its own.
    const written = known.viewportId === viewportId ? known : { mask: known.mask };
    const { colour, edit } = target;
    const { hidden } = edit;
    this.#quietly(() => {
      if (written.colour !== colour) {
        // Segmentations share one table of colours unless each is given its own. Segments that the
        // reader adds to a target are of that target.
        const { color } = window.cornerstoneTools.segmentation.config;
        const segments = Array(MOST_SEGMENTS).fill([...colour, 255]);
        color.setColorLUT(viewportId, id, color.addColorLUT([[0, 0, 0, 0], ...segments]));
      }
      if (written.hidden !== hidden) {
        segmentationService.setSegmentVisibility(viewportId, id, SEGMENT, !hidden, TYPE);
      }
      if (written.name !== edit.name) this.#label(id, edit.name);
    });
    this.#written.set(id, { ...written, viewportId, colour, hidden, name: edit.name });
  }

  /** The viewer's panel names both the segmentation and its segment. */
  #label(id, name) {
    const { segmentationService } = this.#services;
    segmentationService.getSegmentation(id).label = name;
    segmentationService.setSegmentLabel(id, SEGMENT, name);
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
