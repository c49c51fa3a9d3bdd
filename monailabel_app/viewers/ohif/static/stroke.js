// SPDX-License-Identifier: Apache-2.0
// What a hand has drawn, in px of the canvas: a click, a scribble or a lasso. Knows no page.

// Nearer than this a press and its release are a click.
const CLICK_PX = 4;
const SCRIBBLE_PX = 12;
const MOST_SCRIBBLE_POINTS = 16;
const LASSO_PX = 2;
// The server takes twice as many.
const MOST_LASSO_POINTS = 256;
const SCAN_LINES = 9;

const distance = ([x1, y1], [x2, y2]) => Math.hypot(x2 - x1, y2 - y1);

/** Whether the hand stayed where it was. */
export function isClick(path) {
  return path.every(place => distance(place, path[0]) < CLICK_PX);
}

/** Places along a stroke, evenly apart, its ends among them. */
export function scribbled(path) {
  return spread(path, SCRIBBLE_PX, MOST_SCRIBBLE_POINTS);
}

/**
 * A closed contour and a place within it that lies well away from its edges, `{contour, place}`;
 * `null` where the contour holds nothing.
 */
export function lassoed(path) {
  const contour = spread(path, LASSO_PX, MOST_LASSO_POINTS);
  const place = placeWithin(contour);
  return contour.length < 3 || place === null ? null : { contour, place };
}

function spread(path, least, most) {
  const lengths = path.slice(1).map((place, at) => distance(path[at], place));
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const count = Math.min(most, Math.floor(total / least) + 1);
  if (count < 2) return [path[0]];
  return Array.from({ length: count }, (_, at) => along(path, lengths, (total * at) / (count - 1)));
}

function along(path, lengths, way) {
  let left = way;
  for (const [at, length] of lengths.entries()) {
    if (left <= length && length > 0) {
      const [[x1, y1], [x2, y2]] = [path[at], path[at + 1]];
      const share = left / length;
      return [x1 + share * (x2 - x1), y1 + share * (y2 - y1)];
    }
    left -= length;
  }
  return path.at(-1);
}

/** The middle of the widest piece that lines across a contour have in it. */
function placeWithin(contour) {
  const heights = contour.map(([, y]) => y);
  const [top, bottom] = [Math.min(...heights), Math.max(...heights)];
  let widest = { width: 0, place: null };
  for (let line = 0; line < SCAN_LINES; line += 1) {
    const y = top + ((bottom - top) * (line + 0.5)) / SCAN_LINES;
    const edges = crossings(contour, y);
    for (let at = 0; at + 1 < edges.length; at += 2) {
      const width = edges[at + 1] - edges[at];
      if (width > widest.width) widest = { width, place: [(edges[at] + edges[at + 1]) / 2, y] };
    }
  }
  return widest.place;
}

/** Where a line at height `y` crosses the contour, from left to right: in, out, in, out. */
function crossings(contour, y) {
  return contour
    .map((place, at) => [place, contour[(at + 1) % contour.length]])
    .filter(([[, y1], [, y2]]) => y1 > y !== y2 > y)
    .map(([[x1, y1], [x2, y2]]) => x1 + ((y - y1) / (y2 - y1)) * (x2 - x1))
    .sort((a, b) => a - b);
}
