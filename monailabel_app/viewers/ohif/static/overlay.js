// SPDX-License-Identifier: Apache-2.0
// Box and points drawn over the slice they belong to, and drawing new ones.

import { halfSlice } from './grid.js';
import { isClick, lassoed, scribbled } from './stroke.js';
import { IMAGE_RENDERED } from './viewer.js';

const SVG = 'http://www.w3.org/2000/svg';
const NUDGE_PX = 4;
const FIRST_BOX_SHARE = 0.25;
const POINT_RADIUS = 5;
const SCRIBBLE_RADIUS = 3;
// The viewer's own tools listen to these; drawing must not change the window as well.
const TOOL_EVENTS = ['mousedown', 'mousemove', 'touchstart', 'touchmove'];

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** An SVG layer over a viewport. All positions are LPS mm. */
export class Overlay {
  #viewer;
  #layer = shape('svg', { class: 'medreasoner-overlay', 'aria-hidden': 'true' });
  #element = null;
  #content = { box: null, points: [], affine: null };
  // Where the hand has been since it pressed, in px of the canvas; `null` while it does not.
  #path = null;

  /**
   * When the reader has drawn, `onBox(corners)`, `onPoint(position)`, `onScribble(positions)` or
   * `onLasso(position, contour)` is called; the position lies within the contour.
   */
  constructor(viewer, on) {
    this.#viewer = viewer;
    // Diameters, each by its two ends.
    this.lines = [];
    this.mode = null;
    const at = event => this.#canvasAt(event);
    for (const name of TOOL_EVENTS) {
      this.#layer.addEventListener(name, event => event.stopPropagation());
    }
    this.#layer.addEventListener('pointerdown', event => {
      event.stopPropagation();
      if (event.button !== 0) return;
      // The hand may leave the image and lift elsewhere.
      this.#layer.setPointerCapture(event.pointerId);
      this.#path = [at(event)];
    });
    this.#layer.addEventListener('pointercancel', () => {
      this.#path = null;
      this.draw();
    });
    this.#layer.addEventListener('pointermove', event => {
      if (this.#path === null) return;
      this.#path.push(at(event));
      if (this.mode === 'box') this.#content = { ...this.#content, box: this.#ends };
      this.draw();
    });
    this.#layer.addEventListener('pointerup', event => {
      event.stopPropagation();
      if (this.#path === null) return;
      this.#path.push(at(event));
      this.#tell(on);
    });
  }

  #tell(on) {
    const [path, ends] = [this.#path, this.#ends];
    const world = place => this.#viewer.fromCanvas(place);
    this.#path = null;
    if (this.mode === 'box') on.onBox(ends);
    else if (!isLasso(this.mode)) {
      if (isClick(path)) on.onPoint(ends[1]);
      else on.onScribble(scribbled(path).map(world));
    } else {
      const drawn = lassoed(path);
      if (drawn === null) this.draw();
      else on.onLasso(world(drawn.place), drawn.contour.map(world));
    }
  }

  get #ends() {
    return [this.#path[0], this.#path.at(-1)].map(place => this.#viewer.fromCanvas(place));
  }

  /**
   * Draw in `mode`: `box`, `inside`, `outside`, `lassoInside`, `lassoOutside`, or `null` for looking
   * only; ends any drag.
   */
  setMode(mode) {
    this.mode = mode;
    this.#path = null;
    this.#layer.classList.toggle('drawing', mode !== null);
  }

  /** Show prompts (of target.js; `null` for none) on their slice; `affine` is the image's. */
  show(prompts, affine = null) {
    this.#content = { box: prompts?.box ?? null, points: prompts?.points ?? [], affine };
    this.draw();
  }

  /** The box as drawn now; `null` where there is none. */
  get box() {
    return this.#content.box;
  }

  /** Move the box on the screen or, with `resize`, its far corner; the first one is made here. */
  nudgeBox(right, down, resize) {
    if (!this.#viewer.viewport) return;
    const move = position => {
      const [x, y] = this.#viewer.toCanvas(position);
      return this.#viewer.fromCanvas([x + right * NUDGE_PX, y + down * NUDGE_PX]);
    };
    const [first, second] = this.#content.box ?? this.#middleBox();
    this.#content = { ...this.#content, box: [resize ? first : move(first), move(second)] };
    this.draw();
  }

  #middleBox() {
    const { width, height } = this.#layer.getBoundingClientRect();
    return [0.5 - FIRST_BOX_SHARE / 2, 0.5 + FIRST_BOX_SHARE / 2].map(share =>
      this.#viewer.fromCanvas([width * share, height * share])
    );
  }

  /** Draw anew; called whenever the image was. */
  draw = () => {
    this.#attach();
    const { viewport } = this.#viewer;
    if (!viewport) return;
    const { box, points, affine } = this.#content;
    const half = affine === null ? 0 : halfSlice(affine, viewport.getCamera().viewPlaneNormal);
    const isHere = position => this.#viewer.isOnSlice(position, half);
    const parts = points
      .filter(({ position }) => isHere(position))
      .map(point => this.#pointShape(point));
    for (const ends of this.lines.filter(line => line.every(isHere))) {
      parts.push(diameterShape(ends.map(end => this.#viewer.toCanvas(end))));
    }
    if (box?.every(isHere)) {
      parts.unshift(boxShape(box.map(corner => this.#viewer.toCanvas(corner))));
    }
    if (this.#path !== null && this.mode !== 'box') parts.push(lineShape(this.#path, this.mode));
    this.#layer.replaceChildren(...parts);
  };

  #pointShape({ position, inside, contour, stroke }) {
    const side = inside ? 'inside' : 'outside';
    const onCanvas = place => this.#viewer.toCanvas(place);
    if (contour) return shape('polygon', { points: contour.map(onCanvas).join(' '), class: side });
    const [cx, cy] = onCanvas(position);
    return shape('circle', { cx, cy, r: stroke ? SCRIBBLE_RADIUS : POINT_RADIUS, class: side });
  }

  /** Remove the layer from the page. */
  remove() {
    this.#element?.removeEventListener(IMAGE_RENDERED, this.draw);
    this.#layer.remove();
    this.#element = null;
  }

  #attach() {
    const element = this.#viewer.viewport?.element ?? null;
    if (element === this.#element && this.#layer.isConnected) return;
    this.remove();
    if (element === null) return;
    element.append(this.#layer);
    element.addEventListener(IMAGE_RENDERED, this.draw);
    this.#element = element;
  }

  #canvasAt(event) {
    const bounds = this.#layer.getBoundingClientRect();
    return [event.clientX - bounds.left, event.clientY - bounds.top];
  }
}

const isLasso = mode => mode === 'lassoInside' || mode === 'lassoOutside';

/** Whether what is drawn in a mode is to be added, and not taken away. */
export function isInsideMode(mode) {
  return mode === 'inside' || mode === 'lassoInside';
}

function lineShape(path, mode) {
  const side = isInsideMode(mode) ? 'inside' : 'outside';
  return shape(isLasso(mode) ? 'polygon' : 'polyline', { points: path.join(' '), class: side });
}

function diameterShape([[x1, y1], [x2, y2]]) {
  return shape('line', { x1, y1, x2, y2, class: 'diameter' });
}

function boxShape([[x1, y1], [x2, y2]]) {
  return shape('rect', {
    x: Math.min(x1, x2),
    y: Math.min(y1, y2),
    width: Math.abs(x2 - x1),
    height: Math.abs(y2 - y1),
  });
}
