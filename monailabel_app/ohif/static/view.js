// SPDX-License-Identifier: Apache-2.0
// The tab's page: elements and what they show. Text of the model is only ever set as textContent.

import { WORKING, allowed } from './session.js';
import { describeAnswer, describeRecord } from './words.js';

function element(tag, properties = {}, children = []) {
  const { attributes = {}, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const MODES = { inside: 'Click inside', outside: 'Click outside', box: 'Draw box' };

/** Builds the page in `root`; `on` holds what the reader may do, by name. */
export class View {
  constructor(root, on) {
    this.on = on;
    this.question = element('textarea', {
      id: 'medreasoner-question',
      rows: 3,
      attributes: { 'aria-describedby': 'medreasoner-hint' },
    });
    this.propagate = element('input', { type: 'checkbox', checked: true });
    this.reason = element('input', { type: 'text', id: 'medreasoner-reason' });
    this.status = element('p', { attributes: { role: 'status', 'aria-live': 'polite' } });
    this.error = element('p', { className: 'error', attributes: { role: 'alert' } });
    this.reasoning = element('p', {
      className: 'reasoning',
      attributes: { 'aria-label': 'Reasoning' },
    });
    this.facts = element('ul', { attributes: { 'aria-label': 'About the answer' } });
    this.history = element('ul');
    this.buttons = this.#makeButtons();
    this.modes = Object.fromEntries(
      Object.entries(MODES).map(([mode, text]) => [mode, this.#modeButton(mode, text)])
    );
    this.box = this.#boxControl();
    root.replaceChildren(...this.#layout());
    // The viewer's own shortcuts must not fire while the reader types here.
    root.addEventListener('keydown', event => event.stopPropagation());
    this.question.addEventListener('keydown', event => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      on.ask();
    });
  }

  /** Show a state of session.js. */
  render(state, mode) {
    const may = allowed(state);
    for (const [name, button] of Object.entries(this.buttons)) button.disabled = !may[name];
    for (const [name, button] of Object.entries(this.modes)) {
      button.disabled = !may.correct;
      button.setAttribute('aria-pressed', String(mode === name));
    }
    this.box.disabled = !may.correct;
    this.#set(this.status, statusOf(state));
    this.#set(this.error, state.error ?? '');
    this.#set(this.reasoning, state.reasoning);
    this.facts.replaceChildren(...(state.answer ? describeAnswer(state.answer) : []).map(fact));
    this.history.replaceChildren(...state.history.map(record => this.#historyItem(record)));
  }

  #set(target, text) {
    // Unchanged text is left alone, or a screen reader would say it again.
    if (target.textContent !== text) target.textContent = text;
  }

  #makeButtons() {
    const texts = {
      ask: 'Ask (Enter)',
      cancel: 'Cancel',
      jump: 'Go to slice',
      accept: 'Accept',
      submit: 'Submit mask as edited',
      reject: 'Reject',
    };
    return Object.fromEntries(
      Object.entries(texts).map(([name, text]) => [
        name,
        element('button', { type: 'button', textContent: text, onclick: () => this.on[name]() }),
      ])
    );
  }

  #modeButton(mode, text) {
    return element('button', {
      type: 'button',
      textContent: text,
      onclick: () => this.on.mode(mode),
      attributes: { 'aria-pressed': 'false' },
    });
  }

  #boxControl() {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const control = element('button', {
      type: 'button',
      textContent: 'Move box by arrow keys',
      title: 'Arrow keys move the box, with Shift they resize it, Enter segments again',
      onclick: () => this.on.segmentBox(),
    });
    control.addEventListener('keydown', event => {
      const move = moves[event.key];
      if (!move) return;
      event.preventDefault();
      this.on.nudge(...move, event.shiftKey);
    });
    return control;
  }

  #historyItem(record) {
    const show = () => this.on.show(record);
    const text = describeRecord(record);
    return element('li', {}, [
      element('button', { type: 'button', textContent: text, onclick: show }),
    ]);
  }

  #layout() {
    const { ask, cancel, jump, accept, submit, reject } = this.buttons;
    const row = (...items) => element('div', { className: 'medreasoner-row' }, items);
    const label = (text, target) =>
      element('label', { htmlFor: target.id, textContent: text });
    return [
      label('Question about this slice', this.question),
      this.question,
      element('small', { id: 'medreasoner-hint', textContent: 'Shift+Enter makes a new line.' }),
      element('label', {}, [this.propagate, ' Segment through the volume']),
      row(ask, cancel),
      this.status,
      this.error,
      this.reasoning,
      this.facts,
      row(jump, ...Object.values(this.modes), this.box),
      row(accept, submit),
      label('Reason for rejecting', this.reason),
      this.reason,
      row(reject),
      element('h2', { textContent: 'Earlier questions' }),
      this.history,
    ];
  }
}

function fact({ text, alert }) {
  return element('li', { textContent: text, className: alert ? 'alert' : '' });
}

function statusOf(state) {
  if (state.phase === WORKING) return state.step ?? 'Working.';
  if (state.decision !== null) return `This answer is ${state.decision}.`;
  return '';
}
