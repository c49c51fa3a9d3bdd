// SPDX-License-Identifier: Apache-2.0
// The tab: what the reader does goes to the server, what it answers goes to page and viewport.

import { unpackRuns } from './grid.js';
import { nrrdOf } from './nrrd.js';
import { Overlay } from './overlay.js';
import { initialState, reduce } from './session.js';
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
  #series = null;
  #points = { inside: [], outside: [] };

  constructor(root, viewer, api) {
    this.#viewer = viewer;
    this.#api = api;
    const attempt = action => (...values) => this.#attempt(() => action(...values));
    this.#view = new View(root, {
      ask: attempt(() => this.#ask()),
      cancel: attempt(() => this.#api.cancel(this.#state.streamId)),
      jump: attempt(() => {
        this.#needSameSeries();
        viewer.jumpTo(this.#state.answer.slice.center_lps_mm);
      }),
      mode: mode => this.#setMode(this.#overlay.mode === mode ? null : mode),
      nudge: (right, down, resize) => this.#overlay.nudgedBox(right, down, resize),
      segmentBox: attempt(() => this.#correctBox(this.#overlay.nudgedBox(0, 0, false))),
      accept: attempt(() => this.#decide('accepted')),
      submit: attempt(() => this.#submit()),
      reject: attempt(() => this.#reject()),
      show: attempt(record => this.#show(record)),
    });
    this.#overlay = new Overlay(viewer, {
      onBox: attempt(corners => this.#correctBox(corners)),
      onPoint: attempt(position => this.#correctPoint(position)),
    });
    this.#unsubscribe = viewer.onChange(() => this.#attempt(() => this.#follow()));
    this.#render();
    this.#attempt(() => this.#follow());
  }

  /** Leave the page; a question under way is stopped by the server. */
  close() {
    this.#leave?.abort();
    this.#unsubscribe();
    this.#overlay.remove();
  }

  /** What is shown, for tests. */
  get state() {
    return this.#state;
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
    const { series } = this.#viewer;
    if (series === null || series === this.#series) return;
    this.#series = series;
    await this.#list();
  }

  async #list() {
    this.#dispatch({ type: 'listed', history: await this.#api.history(this.#series) });
  }

  async #ask() {
    const question = this.#view.question.value.trim();
    if (question === '') throw new Error('Type a question first.');
    if (!this.#series) throw new Error('No image is shown; open a series first.');
    this.#setMode(null);
    this.#points = { inside: [], outside: [] };
    this.#dispatch({ type: 'asked', question, series: this.#series });
    this.#overlay.show(null, null);
    const values = { query: question, propagate: this.#view.propagate.checked };
    await this.#consume(signal =>
      this.#api.ask(this.#series, { ...values, ...this.#viewer.slice }, signal)
    );
    await this.#list();
  }

  async #correctBox(box) {
    if (box === null) throw new Error('There is no box to move; draw one.');
    await this.#correct({ box, ...this.#points });
  }

  async #correctPoint(position) {
    this.#points[this.#overlay.mode].push(position);
    const box = this.#state.answer?.prompts?.bbox_corners_lps_mm ?? [];
    await this.#correct({ box, ...this.#points });
  }

  async #correct(prompt) {
    this.#needSameSeries();
    const { plane } = this.#viewer.slice;
    const values = { ...prompt, plane, propagate: this.#view.propagate.checked };
    this.#dispatch({ type: 'corrected' });
    await this.#consume(signal => this.#api.segment(this.#state.series, values, signal));
  }

  async #consume(open) {
    this.#leave?.abort();
    this.#leave = new AbortController();
    for await (const { event, data } of await open(this.#leave.signal)) {
      this.#dispatch({ type: 'event', name: event, data });
      await this.#draw(event, data);
    }
    this.#dispatch({ type: 'ended' });
  }

  async #draw(event, data) {
    if (this.#viewer.series !== this.#state.series) return;
    if (event === 'answer') {
      this.#overlay.show(data.prompts, null);
      if (!data.present) await this.#viewer.showMask(null);
    }
    if (event === 'mask') {
      this.#overlay.show(this.#state.answer.prompts, data);
      await this.#viewer.showMask(data);
    }
  }

  async #decide(outcome, reason = null) {
    const mask = this.#mask;
    if (outcome === 'accepted' && mask !== null) await this.#send(mask, unpackRuns(mask.runs));
    await this.#api.decide(this.#state.inferenceId, outcome, reason);
    this.#dispatch({ type: 'decided', decision: outcome });
    await this.#list();
  }

  async #submit() {
    this.#needSameSeries();
    await this.#send(this.#mask, await this.#viewer.readMask(this.#mask));
    await this.#api.decide(this.#state.inferenceId, 'edited');
    this.#dispatch({ type: 'decided', decision: 'edited' });
    await this.#list();
  }

  get #mask() {
    return this.#state.masks.volume ?? this.#state.masks.slice;
  }

  async #send(mask, values) {
    const file = nrrdOf(values, mask.shape_ijk, mask.ijk_to_lps);
    await this.#api.submit(this.#state.series, file, this.#state.inferenceId);
  }

  #needSameSeries() {
    if (this.#viewer.series !== this.#state.series) {
      throw new Error('The question is about another series; show that one first.');
    }
  }

  async #reject() {
    const reason = this.#view.reason.value.trim();
    if (reason === '') throw new Error('Say why the answer is rejected.');
    await this.#decide('rejected', reason);
    this.#view.reason.value = '';
  }

  async #show(record) {
    this.#dispatch({ type: 'shown', record, mask: await this.#api.mask(record) });
    this.#view.question.value = this.#state.question;
    this.#viewer.jumpTo(record.result.slice.center_lps_mm);
    await this.#viewer.showMask(this.#state.masks.volume);
    this.#overlay.show(record.result.prompts, this.#state.masks.volume);
  }

  #setMode(mode) {
    this.#overlay.setMode(mode);
    this.#render();
  }
}
