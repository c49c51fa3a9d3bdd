// SPDX-License-Identifier: Apache-2.0
// The tab: what the reader does goes to the server, what it answers goes to page and viewport.

import { unpackRuns } from './grid.js';
import { nrrdOf } from './nrrd.js';
import { Overlay } from './overlay.js';
import { WORKING, initialState, reduce } from './session.js';
import { View } from './view.js';
import { describeFault } from './words.js';

/** One tab in `root`, until `close` is called. */
export class Panel {
  #viewer;
  #api;
  #view;
  #overlay;
  #state = initialState();
  #leave = null;
  #unsubscribe;
  #study = null;
  #points = { inside: [], outside: [] };

  constructor(root, viewer, api) {
    this.#viewer = viewer;
    this.#api = api;
    const attempt = action => (...values) => this.#attempt(() => action(...values));
    this.#view = new View(root, {
      ask: attempt(() => this.#ask()),
      cancel: attempt(() => this.#cancel()),
      jump: attempt(() => this.#jump()),
      mode: mode => this.#setMode(this.#overlay.mode === mode ? null : mode),
      nudge: attempt((...move) => this.#overlay.nudgeBox(...move)),
      segmentBox: attempt(() => this.#correctBox(this.#overlay.box)),
      accept: attempt(() => this.#accept()),
      submit: attempt(() => this.#submit()),
      reject: attempt(() => this.#reject()),
      show: attempt(record => this.#show(record)),
      readAgain: attempt(() => this.#listArchived()),
    });
    this.#overlay = new Overlay(viewer, {
      onBox: attempt(corners => this.#correctBox(corners)),
      onPoint: attempt(position => this.#correctPoint(position)),
    });
    this.#unsubscribe = viewer.onChange(() => this.#attempt(() => this.#follow()));
    this.#render();
    this.#attempt(() => this.#follow());
  }

  /** Put the cursor into the question. */
  focus() {
    this.#view.question.focus();
  }

  /** Leave the page; a question under way is stopped by the server. */
  close() {
    this.#leave?.abort();
    this.#unsubscribe();
    this.#overlay.remove();
  }

  #dispatch(action) {
    this.#state = reduce(this.#state, action);
    this.#render();
  }

  #render() {
    this.#view.render(this.#state, this.#overlay?.mode ?? null);
  }

  async #attempt(action) {
    try {
      await action();
    } catch (error) {
      if (error.name === 'AbortError') return;
      this.#dispatch({ type: 'failed', error: describeFault(error) });
    }
  }

  async #follow() {
    this.#overlay.draw();
    const { study } = this.#viewer;
    if (study === null || study === this.#study) return;
    this.#study = study;
    this.#dispatch({ type: 'opened' });
    await Promise.all([this.#list(), this.#listArchived()]);
  }

  async #list() {
    this.#dispatch({ type: 'listed', records: await this.#api.history(this.#study) });
  }

  async #listArchived() {
    try {
      this.#dispatch({ type: 'archived', ...(await this.#api.archived(this.#study)) });
    } catch (error) {
      // The server's own records are listed all the same.
      this.#dispatch({ type: 'archived', records: [], unreadable: [describeFault(error)] });
    }
  }

  async #ask() {
    if (this.#state.phase === WORKING) return;
    const question = this.#view.question.value.trim();
    if (question === '') throw new Error('Type a question first.');
    const { series } = this.#viewer;
    if (!series) throw new Error('No image is shown; open a series first.');
    this.#setMode(null);
    this.#points = { inside: [], outside: [] };
    const search = this.#view.search.checked;
    const signal = this.#enter();
    this.#dispatch({ type: 'asked', question, series, search });
    // What an earlier answer marked says nothing about this question.
    this.#overlay.show(null);
    await this.#viewer.showMask(null);
    const place = search ? { plane: this.#viewer.plane } : this.#viewer.slice;
    const values = { query: question, propagate: this.#view.propagate.checked, ...place };
    await this.#consume(signal, () => this.#api.ask(series, values, signal));
    await this.#list();
  }

  /** Leave the stream, at whatever stage it is; the server stops its work when the reader leaves. */
  async #cancel() {
    if (this.#state.phase !== WORKING) return;
    this.#leave?.abort();
    this.#dispatch({ type: 'cancelled' });
  }

  async #jump() {
    this.#needSameSeries();
    await this.#viewer.jumpTo(this.#state.answer.slice.center_lps_mm);
    this.#overlay.draw();
  }

  async #correctBox(box) {
    if (box === null) throw new Error('There is no box yet; draw one, or make one by arrow keys.');
    await this.#correct({ box, ...this.#points });
  }

  async #correctPoint(position) {
    this.#points[this.#overlay.mode].push(position);
    await this.#correct({ box: this.#overlay.box ?? [], ...this.#points });
  }

  async #correct(prompt) {
    this.#needSameSeries();
    const values = {
      ...prompt,
      plane: this.#viewer.plane,
      propagate: this.#view.propagate.checked,
    };
    const signal = this.#enter();
    this.#dispatch({ type: 'corrected' });
    await this.#consume(signal, () => this.#api.segment(this.#state.series, values, signal));
  }

  /** The signal by which one leaves the stream that is about to be opened. */
  #enter() {
    this.#leave?.abort();
    this.#leave = new AbortController();
    return this.#leave.signal;
  }

  async #consume(signal, open) {
    for await (const { event, data } of await open(signal)) {
      signal.throwIfAborted(); // what arrived just before the reader left counts no more
      this.#dispatch({ type: 'event', name: event, data });
      await this.#draw(event, data);
    }
    this.#dispatch({ type: 'ended' });
  }

  async #draw(event, data) {
    if (this.#viewer.series !== this.#state.series) return;
    if (event === 'answer') {
      this.#viewer.setGrid(data.ijk_to_lps, data.slice);
      this.#overlay.show(data.prompts, data.ijk_to_lps);
      if (!data.present) await this.#viewer.showMask(null);
      await this.#jump();
    }
    if (event === 'mask') await this.#viewer.showMask(data);
  }

  async #accept() {
    const mask = this.#mask;
    if (mask === null) {
      await this.#api.decide(this.#state.inferenceId, 'accepted');
    } else {
      await this.#send(mask, unpackRuns(mask.runs), 'accepted');
    }
    await this.#decided();
  }

  async #submit() {
    this.#needSameSeries();
    await this.#send(this.#mask, await this.#viewer.readMask(this.#mask));
    await this.#decided();
  }

  async #reject() {
    const reason = this.#view.reason.value.trim();
    if (reason === '') throw new Error('Say why the answer is rejected.');
    await this.#api.decide(this.#state.inferenceId, 'rejected', reason);
    this.#view.reason.value = '';
    await this.#decided();
  }

  async #send(mask, values, outcome) {
    const file = nrrdOf(values, mask.shape_ijk, mask.ijk_to_lps);
    await this.#api.submit(this.#state.series, file, this.#state.inferenceId, outcome);
  }

  /** Say what was recorded, and what the PACS has of it. */
  async #decided() {
    const record = await this.#api.record(this.#state.inferenceId);
    this.#dispatch({ type: 'decided', record });
    await Promise.all([this.#list(), this.#listArchived()]);
  }

  get #mask() {
    return this.#state.masks.volume ?? this.#state.masks.slice;
  }

  #needSameSeries() {
    if (this.#viewer.series !== this.#state.series) {
      throw new Error('The question is about another series; show that one first.');
    }
  }

  async #show(record) {
    this.#setMode(null);
    this.#points = { inside: [], outside: [] };
    const mask = await this.#api.mask(record);
    await this.#viewer.showSeries(record.image_id);
    this.#dispatch({ type: 'shown', record, mask });
    this.#view.question.value = this.#state.question;
    const { prompts, slice } = record.result;
    if (mask !== null) this.#viewer.setGrid(mask.ijk_to_lps, slice);
    await this.#viewer.jumpTo(slice.center_lps_mm);
    await this.#viewer.showMask(mask);
    this.#overlay.show(prompts, mask?.ijk_to_lps);
  }

  #setMode(mode) {
    this.#overlay.setMode(mode);
    this.#render();
  }
}
