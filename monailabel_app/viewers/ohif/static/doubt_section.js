// SPDX-License-Identifier: Apache-2.0
// The tab's section on doubt: readings by name, the map over the viewport, going from one doubtful
// slice to the next.

import {
  BANDS,
  centreOf,
  describeDoubt,
  describeDoubtful,
  doubtfulAt,
  indexAt,
  nextDoubtful,
  pictureOf,
  unpackCounts,
} from './doubt.js';
import { setDisabled } from './focus.js';
import { cutAxis } from './grid.js';
import { isWithAlt } from './keys.js';
import { IMAGE_RENDERED } from './viewer.js';

const ALPHA = 128;
// By their place on the keyboard, since Alt makes other letters of them.
const KEYS = { Comma: -1, Period: 1 };

/** `attempt(action)` gives a function that tells the reader of its faults. */
export class DoubtSection {
  #viewer;
  #target = null;
  #values = null;
  #canvas = element('canvas', { className: 'medreasoner-doubt' });
  #element = null;
  #readings = element('ul', { className: 'readings' });
  #here = element('p', { className: 'hint' });
  #map = element('button', { type: 'button', textContent: 'Map of agreement (Alt+M)' });
  #previous = element('button', { type: 'button', textContent: 'Previous doubtful slice (Alt+,)' });
  #next = element('button', { type: 'button', textContent: 'Next doubtful slice (Alt+.)' });
  #legend = element('ul', { className: 'legend' });

  constructor(viewer, attempt) {
    this.#viewer = viewer;
    this.#canvas.setAttribute('aria-hidden', 'true');
    this.#readings.setAttribute('aria-label', 'What the readings say');
    this.#here.setAttribute('role', 'status');
    this.#legend.setAttribute('aria-label', 'Share of the readings');
    this.#legend.append(...BANDS.map(legendItem));
    this.#map.onclick = () => this.#toggle();
    this.go = attempt(step => this.#go(step));
    this.#previous.onclick = () => this.go(-1);
    this.#next.onclick = () => this.go(1);
    const row = element('div', { className: 'medreasoner-row' });
    row.append(this.#map, this.#previous, this.#next);
    this.section = element('section', { className: 'section-doubt', hidden: true });
    const heading = element('h2', { textContent: 'Doubt' });
    this.section.append(heading, this.#readings, row, this.#legend, this.#here);
    this.#press(false);
  }

  /** Show the doubt of a target of the series that is shown; `null` for none. */
  show(target) {
    const doubt = target?.doubt ?? null;
    if (doubt !== (this.#target?.doubt ?? null)) {
      this.#values = null;
      this.#readings.replaceChildren(...(doubt === null ? [] : describeDoubt(doubt).map(line)));
    }
    this.#target = doubt === null ? null : target;
    this.section.hidden = doubt === null;
    if (doubt !== null) {
      this.#map.hidden = doubt.map === null;
      const isFew = doubt.doubtful_slices.length === 0 || this.#affine === null;
      for (const button of [this.#previous, this.#next]) setDisabled(button, isFew);
    }
    this.draw();
  }

  /** Whether a key was one of this section's. */
  takesKey(event) {
    if (!isWithAlt(event) || this.#target === null) return false;
    const step = KEYS[event.code];
    if (event.code === 'KeyM' && !this.#map.hidden) this.#toggle();
    else if (step !== undefined && !this.#next.disabled) this.go(step);
    else return false;
    return true;
  }

  /** Draw anew; called whenever the image was. */
  draw = () => {
    this.#attach();
    const { viewport } = this.#viewer;
    const isDrawn = this.#isPressed && Boolean(this.#target?.doubt.map) && viewport;
    if (isDrawn) this.#element.append(this.#canvas);
    else this.#canvas.remove();
    this.#legend.hidden = !isDrawn;
    const doubtful = this.#target === null || !viewport ? null : this.#doubtfulHere();
    const text = doubtful === null ? '' : describeDoubtful(doubtful);
    if (this.#here.textContent !== text) this.#here.textContent = text;
    if (isDrawn) this.#drawMap();
  };

  /** Remove the map from the page. */
  remove() {
    this.#element?.removeEventListener(IMAGE_RENDERED, this.draw);
    this.#canvas.remove();
    this.#element = null;
  }

  get #affine() {
    const { doubt, edit } = this.#target;
    return doubt.map?.ijk_to_lps ?? edit.grid?.ijk_to_lps ?? edit.answer?.ijk_to_lps ?? null;
  }

  /** The answer that was doubted, whatever was corrected since. */
  get #answer() {
    return this.#target.first?.answer ?? this.#target.edit.answer;
  }

  get #isPressed() {
    return this.#map.getAttribute('aria-pressed') === 'true';
  }

  #press(isPressed) {
    this.#map.setAttribute('aria-pressed', String(isPressed));
  }

  #toggle() {
    this.#press(!this.#isPressed);
    this.draw();
  }

  /** The index along the cut axis of `plane` of the slice that is shown. */
  #indexOf(plane) {
    return indexAt(this.#affine, plane, this.#viewer.fromCanvas([0, 0]));
  }

  #doubtfulHere() {
    const { plane } = this.#answer.slice;
    if (this.#affine === null || this.#viewer.plane !== plane) return null;
    return doubtfulAt(this.#target.doubt, this.#indexOf(plane));
  }

  async #go(step) {
    const { slice } = this.#answer;
    const from = this.#viewer.plane === slice.plane ? this.#indexOf(slice.plane) : slice.index;
    const next = nextDoubtful(this.#target.doubt, from, step);
    if (next !== null) await this.#viewer.jumpTo(centreOf(this.#answer, this.#affine, next.index));
    this.draw();
  }

  #drawMap() {
    const { map, readings } = this.#target.doubt;
    this.#values ??= unpackCounts(map);
    const axis = cutAxis(map.ijk_to_lps, this.#viewer.plane);
    const index = this.#indexOf(this.#viewer.plane);
    const { clientWidth, clientHeight } = this.#element;
    Object.assign(this.#canvas, { width: clientWidth, height: clientHeight });
    if (index < 0 || index >= map.shape_ijk[axis]) return;
    const picture = pictureOf(this.#values, map, readings, { axis, index }, ALPHA);
    const { width, height } = picture;
    const sheet = element('canvas', { width, height });
    const drawing = sheet.getContext('2d');
    const sheetPixels = drawing.createImageData(width, height);
    sheetPixels.data.set(picture.pixels);
    drawing.putImageData(sheetPixels, 0, 0);
    const [first, right, down] = picture.corners.map(place => this.#viewer.toCanvas(place));
    const along = (end, count) => [0, 1].map(at => (end[at] - first[at]) / count);
    const context = this.#canvas.getContext('2d');
    context.setTransform(...along(right, width), ...along(down, height), ...first);
    context.imageSmoothingEnabled = false;
    context.drawImage(sheet, 0, 0);
  }

  #attach() {
    const holder = this.#viewer.viewport?.element ?? null;
    if (holder === this.#element) return;
    this.remove();
    if (holder === null) return;
    holder.addEventListener(IMAGE_RENDERED, this.draw);
    this.#element = holder;
  }
}

function element(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

function line({ text, alert }) {
  return element('li', { textContent: text, className: alert ? 'alert' : '' });
}

function legendItem({ upTo, colour }) {
  const swatch = element('span', { className: 'swatch' });
  swatch.style.background = `rgb(${colour.join(',')})`;
  const item = element('li', {});
  item.append(swatch, `up to ${upTo * 100} %`);
  return item;
}
