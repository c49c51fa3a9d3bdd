// SPDX-License-Identifier: Apache-2.0
// The tab: what the reader does goes to the server, what it answers goes to page and viewport.

import { knownTargets } from './checks.js';
import { DoubtSection } from './doubt_section.js';
import { meaningOf } from './keys.js';
import { isMeasurement, sentAbout, shownSizes } from './measure.js';
import { nrrdOf } from './nrrd.js';
import { Overlay, isInsideMode } from './overlay.js';
import { Priors } from './priors.js';
import { hashOf, sameRuns, unpackRuns } from './runs.js';
import { Segments } from './segments.js';
import {
  FAILED,
  WORKING,
  active,
  allowed,
  followedUp,
  hasUnstored,
  initialState,
  listed,
  lastAnswered,
  reduce,
  shown,
} from './session.js';
import {
  calling,
  hasVoxels,
  isEdited,
  onSliceAt,
  sentPrompts,
  withLasso,
  withPoint,
  withScribble,
  withoutPoint,
} from './target.js';
import { View } from './view.js';
import { describeFault } from './words.js';

// A stroke of the brush tells of itself many times; this long after the last one it is over.
const STROKE_ENDS_MS = 200;
// Other tabs of this browser list what was recorded here.
const CHANNEL = 'medreasoner';

/** One tab in `root`, until `close` is called. */
export class Panel {
  #viewer;
  #segments;
  #api;
  #view;
  #overlay;
  #doubt;
  #priors;
  #state = initialState();
  #leave = null;
  #study = null;
  // What was known of each study when another one was shown.
  #kept;
  // Targets that are on their way to the server.
  #storing = new Set();
  // Masks are shown one state after the other.
  #turn = Promise.resolve();
  #stroke = null;
  #isPressed = false;
  #drawnPrompts = null;
  #channel = new BroadcastChannel(CHANNEL);
  #closing = new AbortController();

  /**
   * `onSegmentation()` is called when a segmentation was added, which may change the tab; `kept` is a
   * Map of the sessions of studies that were shown before.
   */
  constructor(root, { viewer, services, api, onSegmentation, kept }) {
    this.#viewer = viewer;
    this.#api = api;
    this.#kept = kept;
    const attempt = action => (...values) => this.#attempt(() => action(...values));
    this.#doubt = new DoubtSection(viewer, attempt);
    this.#view = new View(root, {
      ask: attempt(() => this.#ask()),
      cancel: attempt(() => this.#cancel()),
      jump: attempt(() => this.#jump()),
      followUp: () => this.#followUp(active(this.#state).id),
      standAlone: () => this.#followUp(null),
      mode: mode => this.#setMode(this.#overlay.mode === mode ? null : mode),
      nudge: attempt((...move) => this.#overlay.nudgeBox(...move)),
      segmentBox: attempt(() => this.#correctBox(this.#overlay.box)),
      removePoint: attempt(number => this.#removePoint(number)),
      reset: attempt(() => this.#change({ type: 'reset' })),
      undo: attempt(() => this.#undo('undo')),
      redo: attempt(() => this.#undo('redo')),
      select: attempt(id => this.#select(id)),
      hide: attempt(id => this.#change({ type: 'hidden', id })),
      rename: attempt((id, name) => this.#change({ type: 'renamed', id, name })),
      remove: attempt(id => this.#remove(id)),
      accept: attempt(() => this.#store()),
      submit: attempt(() => this.#store()),
      reject: attempt(() => this.#reject()),
      show: attempt(record => this.#show(record)),
      readAgain: attempt(() => this.#listArchived()),
      seriesName: series => this.#viewer.seriesName(series),
    }, [this.#doubt.section]);
    const recorded = () => this.#tellRecorded();
    this.#priors = new Priors({ api, attempt, asked: () => this.#asked(), recorded });
    root.querySelector('.middle').append(this.#priors.root);
    this.#overlay = new Overlay(viewer, {
      onBox: attempt(corners => this.#correctBox(corners)),
      onPoint: attempt(position => this.#correctPoint(position)),
      onScribble: attempt(positions => this.#correctScribble(positions)),
      onLasso: attempt((...drawn) => this.#correctLasso(...drawn)),
    });
    this.#segments = new Segments(services, {
      painted: () => this.#awaitStroke(),
      removed: id => this.#drop(id),
      renamed: (id, name) => this.#dispatch({ type: 'renamed', id, name }),
      coloured: (id, colour) => this.#dispatch({ type: 'coloured', id, colour }),
      hidden: id => this.#dispatch({ type: 'hidden', id }),
      added: onSegmentation,
    });
    this.#listen(attempt);
    this.#render();
    this.#attempt(() => this.#follow());
  }

  #listen(attempt) {
    const { signal } = this.#closing;
    const unsubscribe = this.#viewer.onChange(attempt(() => this.#follow()));
    signal.addEventListener('abort', unsubscribe);
    const options = { signal, capture: true };
    document.addEventListener('keydown', event => this.#onKey(event), options);
    document.addEventListener('pointerdown', () => (this.#isPressed = true), options);
    for (const name of ['pointerup', 'pointercancel']) {
      document.addEventListener(name, () => this.#release(), options);
    }
    window.addEventListener('beforeunload', event => this.#onUnload(event), { signal });
    this.#channel.addEventListener('message', attempt(() => this.#readHistory()), { signal });
  }

  /** The browser asks before what nobody keeps is lost. */
  #onUnload(event) {
    if ([...this.#kept.values(), this.#state].some(hasUnstored)) event.preventDefault();
  }

  /** Put the cursor into the question. */
  focus() {
    this.#view.question.focus();
  }

  /** Leave the page; a question under way is stopped by the server. */
  close() {
    this.#leave?.abort();
    this.#priors.leave();
    this.#keep();
    this.#closing.abort();
    this.#channel.close();
    this.#segments.close();
    this.#overlay.remove();
    this.#doubt.remove();
  }

  #dispatch(action) {
    const before = this.#state;
    this.#state = reduce(before, action);
    this.#render();
    const { targets, draft, activeId } = this.#state;
    const isSame =
      targets === before.targets && draft === before.draft && activeId === before.activeId;
    if (!isSame) this.#attempt(() => this.#draw());
  }

  #render() {
    this.#view.render(this.#state, this.#overlay?.mode ?? null);
  }

  async #attempt(action) {
    try {
      await action();
    } catch (error) {
      if (error.name === 'AbortError') return;
      this.#dispatch({ type: 'said', error: describeFault(error) });
    }
  }

  // --- keys --------------------------------------------------------------------------------------

  #onKey(event) {
    const meaning = meaningOf(event);
    if (meaning === 'escape') this.#attempt(() => this.#escape());
    else if (meaning !== null || this.#doubt.takesKey(event)) {
      event.preventDefault();
      event.stopPropagation();
    }
    if (meaning === 'store') this.#attempt(() => this.#storeByKey());
    if (meaning === 'undo' || meaning === 'redo') this.#attempt(() => this.#undo(meaning));
  }

  #escape() {
    if (this.#overlay.mode === null) {
      this.#priors.leave();
      return this.#cancel();
    }
    this.#setMode(null);
    this.#drawnPrompts = null;
    return this.#drawPrompts();
  }

  // --- the study ---------------------------------------------------------------------------------

  async #follow() {
    const { study } = this.#viewer;
    if (study !== null && study !== this.#study) {
      this.#leave?.abort();
      this.#setMode(null);
      shown(this.#state).forEach(target => this.#takeStroke(target));
      this.#keep();
      this.#study = study;
      this.#segments.clear();
      const kept = this.#kept.get(study);
      this.#kept.delete(study);
      this.#dispatch({ type: 'opened', kept });
      await this.#readHistory();
    }
    await this.#draw();
    await this.#priors.follow(this.#viewer.series);
  }

  /** Another study, or none, is about to be shown; what was made of this one is there again later. */
  #keep() {
    if (this.#study !== null) this.#kept.set(this.#study, this.#state);
  }

  /** What both examinations are asked: the question, or that of the target, on this slice. */
  #asked() {
    const query = this.#view.question.value.trim() || (active(this.#state)?.question ?? '');
    if (query === '') throw new Error('Type a question first.');
    const samples = Number(this.#view.times.value);
    return { query, samples, ...this.#viewer.slice, ...this.#viewer.window };
  }

  async #readHistory() {
    await Promise.all([this.#list(), this.#listArchived()]);
  }

  async #list() {
    const study = this.#study;
    if (study === null) return;
    const records = await this.#api.history(study);
    if (study === this.#study) this.#dispatch({ type: 'listed', records });
  }

  async #listArchived() {
    const study = this.#study;
    if (study === null) return;
    // The server's own records are listed all the same.
    const unread = error => ({ records: [], unreadable: [describeFault(error)] });
    const found = await this.#api.archived(study).catch(unread);
    if (study === this.#study) this.#dispatch({ type: 'archived', ...found });
  }

  /** List what was recorded here, in other tabs as well. */
  async #tellRecorded() {
    this.#channel.postMessage('recorded');
    await this.#readHistory();
  }

  // --- masks and prompts on the screen -----------------------------------------------------------

  /** Show the state; what the reader has painted since becomes a command before. */
  #draw() {
    const drawn = this.#turn.then(() => this.#drawNow());
    this.#turn = drawn.catch(() => {});
    return drawn;
  }

  async #drawNow() {
    const { series } = this.#viewer;
    if (series === null) return;
    const here = () => shown(this.#state).filter(target => target.series === series);
    here().forEach(target => this.#takeStroke(target));
    this.#placePicture(here());
    await this.#segments.show(here(), active(this.#state)?.id, this.#viewer.place);
    this.#drawPrompts();
  }

  /** Of a study that is shown again the viewer may not know yet where the pixels of a picture lie. */
  #placePicture(targets) {
    const known = targets.find(({ edit }) => edit.grid !== null);
    if (known && !this.#viewer.hasGrid) {
      this.#viewer.setGrid(known.edit.grid.ijk_to_lps, known.edit.answer.slice);
    }
  }

  #drawPrompts() {
    const target = active(this.#state);
    const isHere = target !== null && target.series === this.#viewer.series;
    this.#doubt.show(isHere ? target : null);
    const prompts = isHere ? target.edit.prompts : null;
    this.#overlay.lines = (isHere && shownSizes(target)?.lines) || [];
    // A box that the reader is moving by keys is drawn on.
    if (prompts === this.#drawnPrompts) this.#overlay.draw();
    else this.#overlay.show(prompts, target?.edit.answer?.ijk_to_lps);
    this.#drawnPrompts = prompts;
  }

  #takeStroke(target) {
    const mappingOf = (...grids) => this.#viewer.mappingOf(...grids, target.series);
    const painted = this.#segments.takePainted(target, mappingOf);
    if (painted === null || sameRuns(painted.before, painted.after)) return;
    this.#dispatch({ type: 'brushed', id: target.id, ...painted });
    const { mask } = shown(this.#state).find(({ id }) => id === target.id).edit;
    if (sameRuns(mask, painted.after)) this.#segments.keep(target, mask);
  }

  #awaitStroke() {
    clearTimeout(this.#stroke);
    if (this.#isPressed) return;
    this.#stroke = setTimeout(() => this.#attempt(() => this.#draw()), STROKE_ENDS_MS);
  }

  #release() {
    this.#isPressed = false;
    if (this.#segments.isPainted) this.#awaitStroke();
  }

  // --- questions ---------------------------------------------------------------------------------

  async #ask() {
    if (this.#state.phase === WORKING) return;
    const question = this.#view.question.value.trim();
    if (question === '') throw new Error('Type a question first.');
    const { series } = this.#viewer;
    if (!series) throw new Error('No image is shown; open a series first.');
    this.#setMode(null);
    const search = this.#view.search.checked;
    const place = search ? { plane: this.#viewer.plane } : this.#viewer.slice;
    const propagate = this.#view.propagate.checked;
    const samples = Number(this.#view.times.value);
    const removal_test = this.#view.removal.checked;
    const chosen = followedUp(this.#state);
    const last = lastAnswered(this.#state, series);
    this.#requireSeries(chosen, series);
    await this.#draw();
    const signal = this.#enter();
    this.#dispatch({ type: 'asked', question, series, search });
    const { questions, follows_up: refers } = await this.#questionsOf(question, signal);
    // What refers to an answer without having been put to one refers to the last one here.
    const followed = chosen ?? (refers ? last : null);
    const about = followed === null ? {} : sentAbout(followed);
    const asking = { propagate, samples, removal_test };
    const values = { ...asking, ...place, ...this.#viewer.window, ...about };
    for (const query of questions) {
      signal.throwIfAborted();
      this.#dispatch({ type: 'asked', question: query, series, search });
      const known = knownTargets(listed(this.#state), series);
      await this.#consume(signal, () => this.#api.ask(series, { ...values, known, query }, signal));
      await this.#list();
      this.#channel.postMessage('recorded');
      if (this.#state.phase === FAILED) break;
    }
  }

  /** The next question goes on from a target, or from none. */
  #followUp(id) {
    this.#dispatch({ type: 'followUp', id });
    this.focus();
  }

  #requireSeries(target, series) {
    if (target !== null && target.series !== series) {
      throw new Error('The question follows up on another series; show that one, or take it away.');
    }
  }

  /** A list of targets is asked one by one. */
  async #questionsOf(text, signal) {
    try {
      return await this.#api.questions(text, signal);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      this.#dispatch({ type: 'failed', error: describeFault(error) });
      return { questions: [], follows_up: false };
    }
  }

  /** Leave the stream, at whatever stage it is; the server stops its work when the reader leaves. */
  #cancel() {
    if (this.#state.phase !== WORKING) return;
    this.#leave?.abort();
    this.#dispatch({ type: 'cancelled' });
  }

  /** The signal by which one leaves the stream that is about to be opened. */
  #enter() {
    this.#leave?.abort();
    this.#leave = new AbortController();
    return this.#leave.signal;
  }

  async #consume(signal, open) {
    try {
      for await (const { event, data } of await open(signal)) {
        signal.throwIfAborted(); // what arrived just before the reader left counts no more
        this.#dispatch({ type: 'event', name: event, data });
        if (event === 'answer' && !isMeasurement(data)) await this.#showAnswer(data);
        if (event === 'mask') await this.#draw();
      }
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      this.#dispatch({ type: 'failed', error: describeFault(error) });
    }
    this.#dispatch({ type: 'ended' });
  }

  async #showAnswer(answer) {
    if (this.#viewer.series !== active(this.#state).series) return;
    this.#viewer.setGrid(answer.ijk_to_lps, answer.slice);
    await this.#draw();
    await this.#jump();
  }

  async #jump() {
    this.#needSameSeries();
    await this.#viewer.jumpTo(active(this.#state).edit.answer.slice.center_lps_mm);
    this.#overlay.draw();
  }

  #needSameSeries() {
    if (this.#viewer.series !== active(this.#state)?.series) {
      throw new Error('The question is about another series; show that one first.');
    }
  }

  // --- corrections -------------------------------------------------------------------------------

  async #correctBox(box) {
    if (box === null) throw new Error('There is no box yet; draw one, or make one by arrow keys.');
    const prompts = { ...this.#prompts, box, boxByReader: true };
    await this.#correct('box', prompts, sentPrompts(prompts));
  }

  async #correctPoint(position) {
    await this.#correctMark('click', position, withPoint, position);
  }

  async #correctScribble(positions) {
    await this.#correctMark('scribble', positions[0], withScribble, positions);
  }

  async #correctLasso(position, contour) {
    await this.#correctMark('lasso', position, withLasso, position, contour);
  }

  /** What was marked corrects what is on the screen, brush strokes included. */
  async #correctMark(kind, position, withMark, ...mark) {
    const isInside = isInsideMode(this.#overlay.mode);
    await this.#draw();
    const known = this.#prompts;
    const prompts = withMark(known, ...mark, isInside);
    const values = sentPrompts(prompts, (_, number) => number >= known.points.length);
    const { mask, grid } = active(this.#state).edit;
    const sent = onSliceAt(mask, grid, this.#viewer.plane, position);
    await this.#correct(kind, prompts, { ...values, ...lastOf(sent, grid) }, sent);
  }

  /** The reader's other clicks on the model's mask; without any it is the model's mask again. */
  async #removePoint(number) {
    const { edit, first } = active(this.#state);
    const { position } = edit.prompts.points[number];
    const prompts = withoutPoint(edit.prompts, number);
    if (prompts.points.some(({ byReader }) => byReader)) {
      const values = sentPrompts(prompts, ({ byReader }) => byReader);
      const { model, grid } = first;
      const last = lastOf(onSliceAt(model, grid, this.#viewer.plane, position), grid);
      await this.#correct('point', prompts, { ...values, ...last, position });
    } else await this.#change({ type: 'pointRemoved', prompts: first.prompts });
  }

  /** As drawn; the reader may have moved the box. */
  get #prompts() {
    const { prompts } = active(this.#state).edit;
    const { box } = this.#overlay;
    return { ...prompts, box, boxByReader: prompts.boxByReader || box !== prompts.box };
  }

  async #correct(kind, prompts, drawn, sent = null) {
    this.#needSameSeries();
    const propagate = this.#view.propagate.checked;
    const values = { ...drawn, plane: this.#viewer.plane, propagate, ...this.#viewer.window };
    const signal = this.#enter();
    const { series } = active(this.#state);
    this.#dispatch({ type: 'corrected', kind, prompts, sent });
    await this.#consume(signal, () => this.#api.segment(series, values, signal));
  }

  /** A command of the reader's, after what they have painted before. */
  async #change(action) {
    await this.#draw();
    this.#dispatch(action);
    await this.#draw();
  }

  async #remove(id) {
    await this.#draw();
    this.#drop(id);
    await this.#draw();
  }

  /** A target goes, and with it what is being made of it. */
  #drop(id) {
    if (this.#state.draft?.target.id === id) this.#leave?.abort();
    this.#dispatch({ type: 'removed', id });
  }

  async #undo(name) {
    await this.#draw();
    if (allowed(this.#state)[name]) await this.#change({ type: `${name === 'undo' ? 'un' : 're'}done` });
  }

  async #select(id) {
    if (this.#state.phase === WORKING) return;
    this.#setMode(null);
    this.#dispatch({ type: 'selected', id });
    const { series } = active(this.#state);
    if (series !== this.#viewer.series) await this.#viewer.showSeries(series);
    await this.#draw();
    await this.#jump();
  }

  // --- decisions ---------------------------------------------------------------------------------

  /** Have the server keep what is on the screen, once however often it is pressed. */
  async #store() {
    const { id } = active(this.#state);
    if (this.#storing.has(id)) return;
    this.#storing.add(id);
    try {
      await this.#storeShown(id);
    } finally {
      this.#storing.delete(id);
    }
    await this.#tellRecorded();
  }

  async #storeShown(id) {
    this.#needSameSeries();
    await this.#draw();
    const target = listed(this.#state).find(known => known.id === id);
    if (target.edit.hidden && target.edit.mask !== null) {
      throw new Error('The mask is hidden; show it, so that what is stored has been seen.');
    }
    const { series, inferenceId, edit } = target;
    const { mask, grid } = edit;
    let check = null;
    if (mask === null) await this.#api.decide(inferenceId, calling(target), 'accepted');
    else {
      if (!hasVoxels(target)) {
        throw new Error('Nothing of the mask is left to be stored; undo that, or reject the answer.');
      }
      const file = nrrdOf(unpackRuns(mask), grid.shape_ijk, grid.ijk_to_lps);
      const outcome = isEdited(target) ? undefined : 'accepted';
      const stored = await this.#api.submit(series, file, inferenceId, calling(target), outcome);
      check = { stored, screen: await hashOf(mask) };
    }
    await this.#decided(target, check);
  }

  async #storeByKey() {
    await this.#draw();
    const { accept, submit } = allowed(this.#state);
    if (accept || submit) await this.#store();
  }

  async #reject() {
    const reason = this.#view.reason.value.trim();
    if (reason === '') throw new Error('Say why the answer is rejected.');
    const target = active(this.#state);
    await this.#api.decide(target.inferenceId, calling(target), 'rejected', reason);
    this.#view.reason.value = '';
    await this.#decided(target, null);
    await this.#tellRecorded();
  }

  /** Say what was recorded, and what the PACS has of it. */
  async #decided({ id, inferenceId, edit }, check) {
    const record = await this.#api.record(inferenceId);
    this.#dispatch({ type: 'stored', id, record, mask: edit.mask, name: edit.name, check });
  }

  async #show(record) {
    this.#setMode(null);
    this.#leave?.abort();
    const [mask, doubt] = await Promise.all([this.#api.mask(record), this.#api.doubt(record)]);
    await this.#viewer.showSeries(record.image_id);
    if (mask !== null) this.#viewer.setGrid(mask.ijk_to_lps, record.result.slice);
    this.#dispatch({ type: 'shown', record, mask, doubt });
    this.#view.question.value = active(this.#state).question;
    await this.#draw();
    await this.#jump();
  }

  #setMode(mode) {
    this.#overlay.setMode(mode);
    this.#render();
  }
}

/** The mask that new points correct, as the server takes it; nothing where there is none. */
function lastOf(runs, grid) {
  return runs === null ? {} : { last: { shape_ijk: grid.shape_ijk, runs: runs.join(',') } };
}
