// SPDX-License-Identifier: Apache-2.0
// The tab's page: elements and what they show. Text of the model is only ever set as textContent.

import {
  WORKING,
  active,
  allowed,
  askedTexts,
  earlierQuestions,
  followedUp,
  listed,
} from './session.js';
import { checksOf, describeChecks, markedTrace } from './checks.js';
import { replaceItems, setDisabled } from './focus.js';
import { shownSizes } from './measure.js';
import { LONGEST_NAME, aboutOf, marksOf } from './target.js';
import {
  describeAbout,
  describeAnswer,
  describeCheck,
  describeCommand,
  describeDecision,
  describeModels,
  describePoint,
  describeRecord,
  describeTarget,
} from './words.js';

function element(tag, properties = {}, children = []) {
  const { attributes = {}, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const MODES = {
  inside: 'Click inside',
  outside: 'Click outside',
  lassoInside: 'Lasso inside',
  lassoOutside: 'Lasso outside',
  box: 'Draw box',
};
const BUTTONS = {
  ask: 'Ask (Enter)',
  cancel: 'Cancel (Esc)',
  followUp: 'Follow up',
  jump: 'Go to slice',
  undo: 'Undo',
  redo: 'Redo',
  reset: 'Back to the answer',
  accept: 'Accept',
  submit: 'Submit mask as edited',
  reject: 'Reject',
};
// How many answers are drawn; of several, the tab tells how far they agree.
const TIMES = { 1: 'once', 3: '3 times', 5: '5 times' };
const EXAMPLES = ['Segment the liver.', 'Which organ makes bile?', 'Where is the left kidney?'];
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const KEY_EVENTS = ['keydown', 'keypress', 'keyup'];

/**
 * Builds the page in `root`; `on` holds what the reader may do, by name, and `seriesName(uid)`, what
 * the viewer calls a series. Elements of `further` follow the answer.
 */
export class View {
  // The target whose name is being typed, and what was drawn of lists last.
  #renaming = null;
  #state = null;
  #drawn = new Map();

  constructor(root, on, further = []) {
    this.on = on;
    this.#makeFields();
    this.buttons = this.#makeButtons();
    this.modes = Object.fromEntries(
      Object.entries(MODES).map(([mode, text]) => [mode, this.#modeButton(mode, text)])
    );
    this.box = this.#boxControl();
    this.sections = this.#makeSections();
    const { ask, targets, answer, correct, history, decide } = this.sections;
    const middle = element('div', { className: 'middle' }, [answer, ...further, correct, history]);
    const notice = element('div', { className: 'notice' }, [
      this.models,
      'Not for clinical use.',
      keysCard(),
    ]);
    root.replaceChildren(ask, targets, middle, decide, notice);
    // The viewer's own shortcuts must not fire while the reader types here; ours are caught before.
    for (const name of KEY_EVENTS) {
      root.addEventListener(name, event => event.stopPropagation());
    }
  }

  /** Show a state of session.js. */
  render(state, mode) {
    this.#state = state;
    const may = allowed(state);
    const target = active(state);
    for (const [name, button] of Object.entries(this.buttons)) setDisabled(button, !may[name]);
    for (const [name, button] of Object.entries(this.modes)) {
      setDisabled(button, !may.correct);
      button.setAttribute('aria-pressed', String(mode === name));
    }
    setDisabled(this.box, !may.correct);
    this.#title('undo', state.past.at(-1));
    this.#title('redo', state.future.at(-1));
    this.#set(this.status, state.step ?? '');
    this.status.classList.toggle('working', state.phase === WORKING);
    this.#set(this.error, state.error ?? '');
    this.#renderTargets(state);
    this.#renderTarget(target, may);
    this.#renderAbout(followedUp(state));
    this.#renderHistory(state, target);
    this.#renderQuestions(state.history);
  }

  #renderTarget(target, may) {
    const { answer, correct, decide } = this.sections;
    answer.hidden = target === null || (target.reasoning === '' && target.edit.answer === null);
    correct.hidden = !target?.edit.answer;
    decide.hidden = target === null || target.inferenceId === null;
    const checks = target === null ? null : checksOf(target);
    const reasoning = target?.reasoning ?? '';
    this.#list(this.reasoning, [reasoning, checks], () => markedTrace(reasoning, checks));
    this.#list(this.checks, [reasoning, checks], () =>
      describeChecks(reasoning, checks).map(line)
    );
    this.#set(this.models, target?.models ? `${describeModels(target.models)} ` : '');
    const told = shownSizes(target)?.text ?? null;
    this.#list(this.facts, [target?.edit, told], () => [
      ...(told === null ? [] : [line({ text: told, alert: false })]),
      ...(target?.edit.answer ? describeAnswer(target.edit.answer, target.edit.sizes).map(line) : []),
    ]);
    this.#list(this.decision, target?.stored, () =>
      target?.stored ? [line(describeDecision(target.stored.outcome, target.stored.pacs))] : []
    );
    const check = target?.stored?.check ?? null;
    this.#list(this.check, check, () => (check === null ? [] : [line(describeCheck(check))]));
    this.#list(this.points, [target?.edit.prompts, may.correct], () => this.#pointItems(target, may));
  }

  #renderAbout(target) {
    this.#list(this.about, target, () => (target === null ? [] : [this.#chip(aboutOf(target))]));
  }

  #chip(about) {
    const remove = element('button', {
      type: 'button',
      className: 'small',
      textContent: '✕',
      title: 'The question stands by itself',
      onclick: () => this.on.standAlone(),
      attributes: { 'aria-label': `Do not follow up on ${about.name}` },
    });
    return element('li', {}, [element('span', { textContent: describeAbout(about) }), remove]);
  }

  #renderTargets(state) {
    const targets = listed(state);
    // The last one may have been deleted, and that undone.
    const commands = state.past.length + state.future.length;
    this.sections.targets.hidden = targets.length === 0 && commands === 0;
    const current = active(state)?.id;
    // A name that is being typed stays.
    if (this.#renaming !== null && this.targets.querySelector('input') !== null) return;
    this.#list(this.targets, [state.targets, current, this.#renaming], () =>
      targets.map(target => this.#targetItem(target, target.id === current))
    );
  }

  #renderHistory(state, target) {
    this.#list(this.history, [state.history, target?.inferenceId], () =>
      earlierQuestions(state.history).map((record, number) =>
        this.#historyItem(record, target?.inferenceId, number)
      )
    );
    const { unreadable } = state.history;
    const none = this.history.childElementCount === 0 && unreadable.length === 0;
    this.#set(this.noHistory, none ? 'None on this study.' : '');
    this.#list(this.unreadable, unreadable, () =>
      unreadable.map(text => line({ text, alert: true }))
    );
    this.readAgain.hidden = unreadable.length === 0;
  }

  #set(target, text) {
    // Unchanged text is left alone, or a screen reader would say it again.
    if (target.textContent !== text) target.textContent = text;
  }

  /** Items are made anew only if `from` has changed: focus and what was typed stay. */
  #list(list, from, makeItems) {
    const parts = [from].flat();
    const last = this.#drawn.get(list);
    if (last?.length === parts.length && last.every((part, at) => part === parts[at])) return;
    this.#drawn.set(list, parts);
    replaceItems(list, makeItems());
  }

  #title(name, command) {
    this.buttons[name].title = command ? describeCommand(command) : '';
  }

  #makeFields() {
    this.question = element('textarea', {
      id: 'medreasoner-question',
      rows: 2,
      placeholder: 'What do you want to see?',
      attributes: { 'aria-describedby': 'medreasoner-hint' },
    });
    this.question.addEventListener('keydown', event => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.on.ask();
    });
    this.about = element('ul', {
      className: 'about',
      attributes: { 'aria-label': 'What the question follows up on', 'aria-live': 'polite' },
    });
    this.times = element(
      'select',
      { attributes: { 'aria-label': 'How often to ask' } },
      Object.entries(TIMES).map(([value, textContent]) => element('option', { value, textContent }))
    );
    this.again = element('select', { attributes: { 'aria-label': 'A question to ask again' } });
    this.again.addEventListener('change', () => this.#takeQuestion());
    this.propagate = element('input', { type: 'checkbox', checked: true });
    this.search = element('input', { type: 'checkbox' });
    this.removal = element('input', { type: 'checkbox' });
    this.reason = element('input', {
      type: 'text',
      id: 'medreasoner-reason',
      placeholder: 'Reason for rejecting',
    });
    this.reason.addEventListener('keydown', event => {
      if (event.key === 'Enter' && !event.isComposing) this.on.reject();
    });
    this.status = element('p', { className: 'status', attributes: { role: 'status' } });
    this.error = element('p', { className: 'error', attributes: { role: 'alert' } });
    this.targets = element('ul', { className: 'targets' });
    this.reasoning = element('p', { className: 'reasoning' });
    this.checks = element('ul', { attributes: { 'aria-label': 'Checked statements' } });
    this.facts = element('ul', { attributes: { 'aria-label': 'About the answer' } });
    this.points = element('ul', { className: 'points', attributes: { 'aria-label': 'Your points' } });
    this.decision = element('ul', { attributes: { 'aria-label': 'Decision', 'aria-live': 'polite' } });
    this.check = element('ul', { attributes: { 'aria-label': 'Stored mask' } });
    this.models = element('span', { className: 'models' });
    this.history = element('ul', { className: 'history' });
    for (const list of [this.targets, this.history]) {
      list.addEventListener('keydown', event => moveInList(list, event));
    }
    this.noHistory = element('p', { className: 'hint' });
    this.unreadable = element('ul', { attributes: { 'aria-label': 'About the history' } });
    this.readAgain = element('button', {
      type: 'button',
      textContent: 'Read again',
      hidden: true,
      onclick: () => this.on.readAgain(),
    });
  }

  #takeQuestion() {
    this.question.value = this.again.value;
    this.again.selectedIndex = 0;
    this.question.focus();
  }

  #renderQuestions(history) {
    this.#list(this.again, [history.local, history.archived], () => {
      const option = text => element('option', { value: text, textContent: text });
      const group = (label, texts) => element('optgroup', { label }, texts.map(option));
      const asked = askedTexts(history);
      return [
        element('option', { value: '', textContent: 'Questions …', disabled: true, selected: true }),
        ...(asked.length > 0 ? [group('Asked on this study', asked)] : []),
        group('Examples', EXAMPLES),
      ];
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

  #targetItem(target, isCurrent) {
    const { id, edit, colour } = target;
    const { hidden } = edit;
    const { state, ...marks } = describeTarget(target);
    // Of a long list only the current one is a stop of the tabulator; arrows go through the others.
    const tabIndex = isCurrent ? 0 : -1;
    const swatch = element('span', { className: 'swatch' });
    swatch.style.background = `rgb(${colour.join(',')})`;
    const small = (text, name, action, attributes = {}) =>
      element('button', {
        type: 'button',
        className: 'small',
        textContent: text,
        title: name,
        onclick: action,
        tabIndex,
        attributes: { 'aria-label': `${name} ${edit.name}`, ...attributes },
      });
    const go = element(
      'button',
      {
        type: 'button',
        className: 'go',
        title: target.question,
        tabIndex,
        onclick: () => this.on.select(id),
      },
      [
        element('span', { textContent: edit.name }),
        element('small', { textContent: state, className: classOf(marks) }),
      ]
    );
    if (isCurrent) go.setAttribute('aria-current', 'true');
    const name = this.#renaming === id ? this.#nameField(target) : go;
    const hide = small(hidden ? '◌' : '●', 'Hide', () => this.on.hide(id), {
      'aria-pressed': String(hidden),
    });
    const rename = small('✎', 'Rename', () => this.#rename(id));
    const remove = small('✕', 'Delete', () => this.on.remove(id));
    return element('li', {}, [swatch, name, hide, rename, remove]);
  }

  #rename(id) {
    this.#renaming = id;
    this.#renderTargets(this.#state);
    // At once, or what is typed goes elsewhere.
    this.targets.querySelector('input').select();
  }

  #nameField({ id, edit }) {
    const field = element('input', {
      type: 'text',
      value: edit.name,
      maxLength: LONGEST_NAME,
      attributes: { 'aria-label': `Name of ${edit.name}` },
    });
    const end = isKept => {
      if (this.#renaming !== id) return;
      this.#renaming = null;
      const name = field.value.trim();
      if (isKept && name !== '' && name !== edit.name) this.on.rename(id, name);
      else this.#renderTargets(this.#state);
    };
    field.addEventListener('keydown', event => {
      if (event.key === 'Enter' && !event.isComposing) end(true);
      if (event.key !== 'Escape') return;
      event.stopPropagation();
      end(false);
    });
    field.addEventListener('blur', () => end(true));
    return field;
  }

  #pointItems(target, may) {
    return (target === null ? [] : marksOf(target.edit.prompts)).map(({ point, number }, at) => {
      const button = element('button', {
        type: 'button',
        className: 'small',
        textContent: `${describePoint(point, at + 1)} ✕`,
        disabled: !may.correct,
        onclick: () => this.on.removePoint(number),
        attributes: { 'aria-label': `Take away ${describePoint(point, at + 1)}` },
      });
      return element('li', {}, [button]);
    });
  }

  #historyItem(record, shownId, number) {
    const { question, details } = describeRecord(record, this.on.seriesName(record.image_id));
    const button = element(
      'button',
      { type: 'button', tabIndex: number === 0 ? 0 : -1, onclick: () => this.on.show(record) },
      [element('span', { textContent: question }), element('small', { textContent: details })]
    );
    if (record.inference_id === shownId) button.setAttribute('aria-current', 'true');
    return element('li', {}, [button]);
  }

  #makeSections() {
    const { ask, cancel, followUp, jump, undo, redo, reset, accept, submit, reject } = this.buttons;
    const row = (...items) => element('div', { className: 'medreasoner-row' }, items);
    const label = (text, target) => element('label', { htmlFor: target.id, textContent: text });
    const heading = text => element('h2', { textContent: text });
    const hint = (id, text) => element('small', { id, className: 'hint', textContent: text });
    const box_hint = 'Arrow keys move the box, with Shift they resize it, Enter segments.';
    const parts = {
      ask: [
        label('Question about this slice', this.question),
        this.question,
        this.about,
        hint('medreasoner-hint', 'Shift+Enter makes a new line. Alt+Q comes back here.'),
        element('label', { className: 'choice' }, [this.search, 'Find the slice in the whole series']),
        element('label', { className: 'choice' }, [this.propagate, 'Segment through the volume']),
        element('label', { className: 'choice' }, [this.removal, 'Ask again without what it points to']),
        row(ask, this.times, cancel, this.again),
        this.status,
        this.error,
      ],
      targets: [row(heading('Targets'), undo, redo), this.targets],
      answer: [row(heading('Answer'), followUp, jump), this.reasoning, this.facts, this.checks],
      correct: [
        heading('Correct the mask'),
        row(...Object.values(this.modes), this.box, reset),
        this.points,
        hint('medreasoner-box-hint', box_hint),
      ],
      decide: [
        row(accept, submit),
        label('Reason for rejecting', this.reason),
        row(this.reason, reject),
        this.decision,
        this.check,
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
      Object.entries(parts).map(([name, children]) => [
        name,
        element('section', { className: `section-${name}` }, children),
      ])
    );
  }
}

const KEYS = {
  'Alt+Q': 'to the question',
  Enter: 'ask',
  'Shift+Enter': 'new line',
  'Alt+Enter': 'accept, or submit as edited',
  'Ctrl+Z': 'undo (in a text field: its text)',
  'Ctrl+Shift+Z': 'redo',
  Esc: 'leave a mode of drawing; cancel',
  'Alt+M': 'map of agreement',
  'Alt+, Alt+.': 'previous, next doubtful slice',
  '↑ ↓': 'through targets and earlier questions',
};

function keysCard() {
  const rows = Object.entries(KEYS).map(([key, does]) =>
    element('li', {}, [element('kbd', { textContent: key }), ` ${does}`])
  );
  const summary = element('summary', { textContent: 'Keys' });
  return element('details', {}, [summary, element('ul', {}, rows)]);
}

/** Arrows up and down go from one item's first button to the next one's. */
function moveInList(list, event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const items = [...list.children];
  const at = items.findIndex(item => item.contains(document.activeElement));
  const next = step && items[at + step]?.querySelector('button');
  if (!next || at < 0) return;
  event.preventDefault();
  next.focus();
}

function line({ text, ...marks }) {
  return element('li', { textContent: text, className: classOf(marks) });
}

function classOf({ alert, puzzled = false }) {
  const marked = alert ? 'alert' : '';
  return puzzled ? 'puzzled' : marked;
}
