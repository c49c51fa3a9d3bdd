// SPDX-License-Identifier: Apache-2.0
// What the server has checked of an answer: each statement marked in the reasoning, and listed with
// what was measured. Signs and words tell the verdicts apart, colours only besides.

import { aboutOf } from './target.js';

const SIGNS = { holds: '✓', 'does not hold': '✗', 'cannot be checked': '?' };
const CLASSES = { holds: 'holds', 'does not hold': 'fails', 'cannot be checked': 'unknown' };

/** The checks of the question's own answer; a correction of its mask has none. */
export function checksOf({ edit, first }) {
  return first?.answer?.checks ?? edit.answer?.checks ?? null;
}

/** A target whose answer got checks when all was done: those of the removal test come last. */
export function withChecks(target, checks) {
  if (!checks || target.edit.answer === null) return target;
  return { ...target, edit: { ...target.edit, answer: { ...target.edit.answer, checks } } };
}

/**
 * The reasoning in pieces, `{text, statement}`; `statement` is `null` where nothing was checked. Places
 * are counted in code points, as the server counts them.
 */
export function piecesOf(reasoning, checks) {
  const letters = Array.from(reasoning);
  const pieces = [];
  let at = 0;
  const add = (end, statement) => {
    if (end > at) pieces.push({ text: letters.slice(at, end).join(''), statement });
    at = Math.max(at, end);
  };
  for (const statement of checks?.statements ?? []) {
    // While it is written the text is shorter than what was checked.
    if (statement.start < at || statement.end > letters.length) continue;
    add(statement.start, null);
    add(statement.end, statement);
  }
  add(letters.length, null);
  return pieces;
}

/** A statement's verdict and what was measured. */
export function describeStatement({ claim, verdict, measured }) {
  return `${verdict}: ${claim}; ${measured}`;
}

/** What the checks say, as `{text, alert}` lines, the removal test first. */
export function describeChecks(reasoning, checks) {
  if (checks === null) return [];
  const letters = Array.from(reasoning);
  const { removal, statements } = checks;
  const first = removal ? [{ text: removal.explanation, alert: !removal.depends }] : [];
  const rest = statements.map(statement => {
    const said = letters.slice(statement.start, statement.end).join('');
    const text = `${SIGNS[statement.verdict]} “${said}” ${describeStatement(statement)}`;
    return { text, alert: statement.verdict === 'does not hold' };
  });
  return [...first, ...rest];
}

/** Elements of the reasoning's pieces. */
export function markedTrace(reasoning, checks) {
  return piecesOf(reasoning, checks).map(({ text, statement }) => {
    if (statement === null) return document.createTextNode(text);
    const made = document.createElement('span');
    made.className = `statement ${CLASSES[statement.verdict]}`;
    made.textContent = text;
    made.title = describeStatement(statement);
    return made;
  });
}

/** The targets of the page with a place on `series`, by which a reasoning about it can be checked. */
export function knownTargets(targets, series) {
  return targets
    .filter(target => target.series === series && target.edit.answer?.present)
    .map(aboutOf)
    .filter(({ name, box }) => box !== null && name !== '')
    .map(({ name, plane, slice, box }) => ({ name, plane, slice, box }));
}
