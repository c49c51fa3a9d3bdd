// SPDX-License-Identifier: Apache-2.0
// The tab's page: elements and what they show. Text of the model is only ever set as textContent.

import { WORKING, allowed, earlierQuestions } from './session.js';
import { describeAnswer, describeDecision, describeRecord } from './words.js';

function element(tag, properties = {}, children = []) {
  const { attributes = {}, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const MODES = { inside: 'Click inside', outside: 'Click outside', box: 'Draw box' };
const BUTTONS = {
  ask: 'Ask (Enter)',
  cancel: 'Cancel (Esc)',
  jump: 'Go to slice',
  accept: 'Accept',
  submit: 'Submit mask as edited',
  reject: 'Reject',
};
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Builds the page in `root`; `on` holds what the reader may do, by name. */
export class View {
  constructor(root, on) {
    this.on = on;
    this.#makeFields();
    this.buttons = this.#makeButtons();
    this.modes = Object.fromEntries(
      Object.entries(MODES).map(([mode, text]) => [mode, this.#modeButton(mode, text)])
    );
    this.box = this.#boxControl();
    this.sections = this.#makeSections();
    root.replaceChildren(...Object.values(this.sections));
    root.addEventListener('keydown', event => this.#onKey(event));
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
    this.sections.answer.hidden = state.reasoning === '' && state.answer === null;
    this.sections.correct.hidden = state.answer === null;
    this.sections.decide.hidden = state.inferenceId === null;
    this.#set(this.status, state.step ?? '');
    this.status.classList.toggle('working', state.phase === WORKING);
    this.#set(this.error, state.error ?? '');
    this.#set(this.reasoning, state.reasoning);
    const facts = state.answer ? describeAnswer(state.answer, state.sizes) : [];
    this.facts.replaceChildren(...facts.map(line));
    const decided = state.decision ? [describeDecision(state.decision, state.pacs)] : [];
    this.decision.replaceChildren(...decided.map(line));
    this.#renderHistory(state);
  }

  #renderHistory(state) {
    const records = earlierQuestions(state.history);
    const items = records.map(record => this.#historyItem(record, state.inferenceId));
    this.history.replaceChildren(...items);
    const { unreadable } = state.history;
    const none = records.length === 0 && unreadable.length === 0;
    this.#set(this.noHistory, none ? 'None on this study.' : '');
    this.unreadable.replaceChildren(...unreadable.map(text => line({ text, alert: true })));
    this.readAgain.hidden = unreadable.length === 0;
  }

  #set(target, text) {
    // Unchanged text is left alone, or a screen reader would say it again.
    if (target.textContent !== text) target.textContent = text;
  }

  #onKey(event) {
    // The viewer's own shortcuts must not fire while the reader types here; ours may.
    if (!event.altKey) event.stopPropagation();
    if (event.key === 'Escape') this.on.cancel();
  }

  #makeFields() {
    this.question = element('textarea', {
      id: 'medreasoner-question',
      rows: 3,
      placeholder: 'What do you want to see?',
      attributes: { 'aria-describedby': 'medreasoner-hint' },
    });
    this.question.addEventListener('keydown', event => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.on.ask();
    });
    this.propagate = element('input', { type: 'checkbox', checked: true });
    this.search = element('input', { type: 'checkbox' });
    this.reason = element('input', { type: 'text', id: 'medreasoner-reason' });
    this.reason.addEventListener('keydown', event => {
      if (event.key === 'Enter' && !event.isComposing) this.on.reject();
    });
    this.status = element('p', { className: 'status', attributes: { role: 'status' } });
    this.error = element('p', { className: 'error', attributes: { role: 'alert' } });
    this.reasoning = element('p', {
      className: 'reasoning',
      attributes: { 'aria-label': 'Reasoning' },
    });
    this.facts = element('ul', { attributes: { 'aria-label': 'About the answer' } });
    this.decision = element('ul', { attributes: { 'aria-label': 'Decision', role: 'status' } });
    this.history = element('ul', { className: 'history' });
    this.noHistory = element('p', { className: 'hint' });
    this.unreadable = element('ul', { attributes: { 'aria-label': 'About the history' } });
    this.readAgain = element('button', {
      type: 'button',
      textContent: 'Read again',
      hidden: true,
      onclick: () => this.on.readAgain(),
    });
  }

  #makeButtons() {
    return Object.fromEntries(
      Object.entries(BUTTONS).map(([name, text]) => [
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
    const control = element('button', {
      type: 'button',
      textContent: 'Box by keys',
      onclick: () => this.on.segmentBox(),
      attributes: { 'aria-describedby': 'medreasoner-box-hint' },
    });
    control.addEventListener('keydown', event => {
      const move = MOVES[event.key];
      if (!move) return;
      event.preventDefault();
      this.on.nudge(...move, event.shiftKey);
    });
    return control;
  }

  #historyItem(record, shownId) {
    const { question, details } = describeRecord(record);
    const button = element(
      'button',
      { type: 'button', onclick: () => this.on.show(record) },
      [element('span', { textContent: question }), element('small', { textContent: details })]
    );
    if (record.inference_id === shownId) button.setAttribute('aria-current', 'true');
    return element('li', {}, [button]);
  }

  #makeSections() {
    const { ask, cancel, jump, accept, submit, reject } = this.buttons;
    const row = (...items) => element('div', { className: 'medreasoner-row' }, items);
    const label = (text, target) => element('label', { htmlFor: target.id, textContent: text });
    const heading = text => element('h2', { textContent: text });
    const hint = (id, text) => element('small', { id, className: 'hint', textContent: text });
    const box_hint = 'Arrow keys move the box, with Shift they resize it, Enter segments.';
    const parts = {
      ask: [
        label('Question about this slice', this.question),
        this.question,
        hint('medreasoner-hint', 'Shift+Enter makes a new line. Alt+Q comes back here.'),
        element('label', { className: 'choice' }, [this.search, 'Find the slice in the whole series']),
        element('label', { className: 'choice' }, [this.propagate, 'Segment through the volume']),
        row(ask, cancel),
        this.status,
        this.error,
      ],
      answer: [heading('Answer'), this.reasoning, this.facts, row(jump)],
      correct: [
        heading('Correct the mask'),
        row(...Object.values(this.modes), this.box),
        hint('medreasoner-box-hint', box_hint),
      ],
      decide: [
        heading('Decide'),
        row(accept, submit),
        label('Reason for rejecting', this.reason),
        row(this.reason, reject),
        this.decision,
      ],
      history: [
        heading('Earlier questions'),
        this.history,
        this.noHistory,
        this.unreadable,
        this.readAgain,
      ],
    };
    return Object.fromEntries(
      Object.entries(parts).map(([name, children]) => [name, element('section', {}, children)])
    );
  }
}

function line({ text, alert }) {
  return element('li', { textContent: text, className: alert ? 'alert' : '' });
}
