// SPDX-License-Identifier: Apache-2.0
// Earlier examinations of the patient: choose one, ask both, read what has changed.

import { setDisabled } from './focus.js';

/** YYYYMMDD as YYYY-MM-DD; other texts as they are. */
export function shownDate(date) {
  return /^\d{8}$/.test(date) ? `${date.slice(0, 4)}-${date.slice(4, 6)}-${date.slice(6)}` : date;
}

/** One line about an earlier series. */
export function describePrior({ study_date, modality, body_part, description }) {
  const what = [modality, body_part].filter(Boolean).join(' ');
  return [shownDate(study_date), what, description].filter(Boolean).join(', ');
}

/** Head and rows of the table of a comparison, as texts. */
export function tableOf({ prior_date, current_date, rows }) {
  const head = ['', `prior ${shownDate(prior_date)}`, `current ${shownDate(current_date)}`, 'change', ''];
  return {
    head: head.map(text => text.trim()),
    rows: rows.map(({ name, before, after, change, verdict }) => [name, before, after, change, verdict]),
  };
}

/** Statement and all that goes with it; `alert` marks what needs a second look. */
export function linesOf({ change, alignment }) {
  const cautions = [...alignment.warnings, ...change.cautions];
  return [
    { text: change.statement, alert: change.kind !== 'within_uncertainty' },
    { text: alignment.told, alert: false },
    ...cautions.map(text => ({ text, alert: true })),
  ];
}

function element(tag, properties = {}, children = []) {
  const { attributes = {}, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * The section of the tab, `root`. `asked()` is what the reader asks, with slice and window;
 * `recorded()` is called when both answers are recorded; `attempt(action)` makes a handler whose
 * faults are shown.
 */
export class Priors {
  #api;
  #asked;
  #recorded;
  #series = null;
  #told = null;
  #leave = null;

  constructor({ api, attempt, asked, recorded }) {
    this.#api = api;
    this.#asked = asked;
    this.#recorded = recorded;
    this.choice = element('select', { attributes: { 'aria-label': 'Earlier examination' } });
    const button = (textContent, action) =>
      element('button', { type: 'button', textContent, onclick: attempt(action) });
    this.compare = button('Compare', () => this.#compare());
    this.store = button('Store comparison', () => this.#store());
    this.status = element('p', { className: 'comparing', attributes: { role: 'status' } });
    this.table = element('table', { attributes: { 'aria-label': 'Change since the prior' } });
    this.lines = element('ul', { attributes: { 'aria-label': 'About the change' } });
    this.picture = element('a', {
      textContent: 'Picture of both',
      target: '_blank',
      rel: 'noopener',
    });
    this.root = element('section', { className: 'section-priors', hidden: true }, [
      element('h2', { textContent: 'Compare with a prior' }),
      element('div', { className: 'medreasoner-row' }, [this.choice, this.compare]),
      this.status,
      this.table,
      this.lines,
      element('div', { className: 'medreasoner-row' }, [this.picture, this.store]),
    ]);
    this.#show(null);
  }

  /** List the priors of the series that is shown; the section is hidden where there are none. */
  async follow(series) {
    if (series === null || series === this.#series) return;
    this.leave();
    this.#series = series;
    this.#show(null);
    this.root.hidden = true;
    const priors = await this.#api.priors(series);
    if (series !== this.#series) return;
    const options = priors.map(prior =>
      element('option', { value: prior.image_id, textContent: describePrior(prior) })
    );
    this.choice.replaceChildren(...options);
    this.root.hidden = options.length === 0;
  }

  /** Stop a comparison under way; the server stops its work. */
  leave() {
    this.#leave?.abort();
    this.#leave = null;
  }

  async #compare() {
    const values = { ...this.#asked(), prior: this.choice.value };
    this.leave();
    const leaving = new AbortController();
    this.#leave = leaving;
    this.#show(null);
    this.#work('Comparing both examinations');
    try {
      this.#show(await this.#api.compare(this.#series, values, leaving.signal), values.query);
      await this.#recorded();
    } finally {
      if (this.#leave === leaving || this.#leave === null) this.#work('');
    }
  }

  async #store() {
    const { prior } = this.#told;
    this.#work('Storing the comparison');
    try {
      await this.#api.storeComparison(prior);
      this.#work('');
      this.status.textContent = 'Stored in both studies, marked as not reviewed.';
    } catch (error) {
      this.#work('');
      throw error;
    }
  }

  #work(text) {
    this.status.textContent = text;
    this.status.classList.toggle('working', text !== '');
    for (const button of [this.compare, this.store]) setDisabled(button, text !== '');
  }

  #show(told, query = '') {
    this.#told = told;
    const isEmpty = told === null;
    for (const part of [this.table, this.lines, this.picture, this.store]) part.hidden = isEmpty;
    if (isEmpty) return;
    const { head, rows } = tableOf(told);
    const cells = (tag, texts) => texts.map(textContent => element(tag, { textContent }));
    this.table.hidden = rows.length === 0;
    this.table.replaceChildren(
      element('thead', {}, [element('tr', {}, cells('th', head))]),
      element('tbody', {}, rows.map(row => element('tr', {}, cells('td', row))))
    );
    const asked = { text: `Asked of both: ${query}`, alert: false };
    this.lines.replaceChildren(
      ...[...linesOf(told), asked].map(({ text, alert }) =>
        element('li', { textContent: text, className: alert ? 'alert' : '' })
      )
    );
    this.picture.href = `/medreasoner/priors/${encodeURIComponent(told.prior)}/picture`;
  }
}
