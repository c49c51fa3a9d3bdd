// SPDX-License-Identifier: Apache-2.0
// What the tab knows, as plain values, and how it changes: no page, no network. It holds targets,
// what a running stream is making of one (`draft`), and the commands that made them what they are.
// A command is `{kind, id, before, after}`, edits of a target; its inverse exchanges the two.

import { isMeasurement, measuredIn, withSizes } from './measure.js';
import {
  calledAs,
  gridOf,
  hasVoxels,
  isEdited,
  isPuzzled,
  isStored,
  modelsOf,
  newTarget,
  targetOfRecord,
  withAnswer,
  withBrush,
  withCorrection,
  withModel,
  withModelOnSlice,
} from './target.js';
import { withChecks } from './checks.js';
import { doubtOf } from './doubt.js';
import { sameRuns } from './runs.js';

export const IDLE = 'idle';
const MOST_ASKED = 12;
export const WORKING = 'working';
export const FAILED = 'failed';

const NO_HISTORY = { local: [], archived: [], unreadable: [] };
const AT_REST = { phase: IDLE, step: null, error: null, draft: null };

/** Nothing asked yet. */
export function initialState() {
  return {
    phase: IDLE,
    step: null,
    error: null,
    targets: [],
    activeId: null,
    // The target that the next question follows up on, by the reader's choice.
    aboutId: null,
    // What a stream has made so far: `{kind, target, sent}`; it becomes a command when it is
    // recorded. `sent` is the mask on the clicked slice that a click corrects.
    draft: null,
    past: [],
    future: [],
    // Earlier questions: what the server recorded, what the PACS has, what of it is unreadable.
    history: NO_HISTORY,
  };
}

/** The state after `action`; unknown actions change nothing. */
export function reduce(state, action) {
  const change = CHANGES[action.type];
  return change === undefined ? state : { ...state, ...change(state, action) };
}

/** The targets of the list, without those that were deleted. */
export function listed(state) {
  return state.targets.filter(target => target.edit.listed);
}

/** What is shown: each target of the study, the one that is being made in place of its last state. */
export function shown(state) {
  const { draft, targets } = state;
  if (draft === null) return targets;
  const known = targets.some(target => target.id === draft.target.id);
  return known
    ? targets.map(target => (target.id === draft.target.id ? draft.target : target))
    : [...targets, draft.target];
}

/** The target that the reader works on; `null` where there is none. */
export function active(state) {
  if (state.draft !== null) return state.draft.target;
  return listed(state).find(target => target.id === state.activeId) ?? null;
}

/** The target that the next question follows up on; `null` where there is none. */
export function followedUp(state) {
  return listed(state).find(({ id, edit }) => id === state.aboutId && canFollow(edit)) ?? null;
}

/** What a question refers to that refers to an answer without naming it; `null` for none there is. */
export function lastAnswered(state, series) {
  const latest = [active(state), ...listed(state).toReversed()];
  return latest.find(target => target?.series === series && canFollow(target.edit)) ?? null;
}

const canFollow = ({ answer }) => answer !== null && !isPuzzled(answer);

const CHANGES = {
  // Another study is shown; `kept` is what this page knew of it when it was shown last.
  opened: (state, { kept = initialState() }) => ({ ...kept, ...AT_REST }),
  asked: (state, { question, series, search }) => ({
    phase: WORKING,
    error: null,
    step: search ? 'Looking through the series.' : 'Reading the slice that is shown.',
    draft: { kind: 'question', target: newTarget(state.targets.length + 1, series, question) },
  }),
  corrected: (state, { kind, prompts, sent = null }) => ({
    phase: WORKING,
    error: null,
    step: 'Segmenting.',
    draft: { kind, target: changed(active(state), { prompts }), sent },
  }),
  event: (state, { name, data }) => (EVENTS[name] ?? (() => ({})))(state, data),
  ended: state =>
    state.phase === WORKING ? failed('The server ended the answer early; ask again.') : {},
  failed: (state, { error }) => failed(error),
  said: (state, { error }) => ({ error }),
  cancelled: () => ({ ...AT_REST, step: 'Cancelled.' }),

  // The screen showed `before` and now shows `after`.
  brushed: (state, { id, before, after }) => {
    const paint = target => ({ ...target, edit: withBrush(target.edit, before, after) });
    const { draft } = state;
    const painted = draft?.target.id === id ? { draft: { ...draft, target: paint(draft.target) } } : {};
    const target = find(state, id);
    return target ? { ...painted, ...done(state, 'brush', id, paint(target).edit) } : painted;
  },
  pointRemoved: (state, { prompts }) => {
    const target = active(state);
    const { model, grid } = target.first;
    const edit = { ...target.edit, prompts };
    return done(state, 'point', target.id, model ? withModel(edit, model, grid) : edit);
  },
  reset: state => {
    const { id, edit, first } = active(state);
    return done(state, 'reset', id, { ...first, name: edit.name, hidden: edit.hidden });
  },
  renamed: (state, { id, name }) => given(state, 'rename', id, { name }),
  removed: (state, { id }) => ({
    ...given(state, 'delete', id, { listed: false }),
    ...(state.draft?.target.id === id ? CHANGES.cancelled() : {}),
  }),
  hidden: (state, { id }) => {
    const target = shown(state).find(known => known.id === id);
    return given(state, 'hide', id, { hidden: !target.edit.hidden });
  },
  coloured: (state, { id, colour }) => ({
    targets: state.targets.map(target => (target.id === id ? { ...target, colour } : target)),
  }),
  undone: state => {
    const command = state.past.at(-1);
    return {
      ...applied(state, inverseOf(command)),
      past: state.past.slice(0, -1),
      future: [...state.future, command],
    };
  },
  redone: state => {
    const command = state.future.at(-1);
    return {
      ...applied(state, command),
      past: [...state.past, command],
      future: state.future.slice(0, -1),
    };
  },

  followUp: (state, { id }) => ({ aboutId: id, error: null }),
  selected: (state, { id }) => ({ activeId: id, error: null }),
  stored: (state, { id, record, mask, name, check }) => ({
    error: null,
    targets: state.targets.map(target =>
      target.id === id ? { ...target, stored: storedAs(record, { mask, name, check }) } : target
    ),
  }),
  listed: (state, { records }) => ({
    history: { ...state.history, local: records },
    targets: state.targets.map(target => withDecision(target, records)),
  }),
  archived: (state, { records, unreadable }) => ({
    history: { ...state.history, archived: records, unreadable },
  }),
  shown: (state, { record, mask, doubt }) => {
    const known = listed(state).find(target => target.inferenceId === record.inference_id);
    if (known) return { ...AT_REST, activeId: known.id };
    const target = targetOfRecord(state.targets.length + 1, record, mask, doubt);
    return { ...AT_REST, ...added(state, target) };
  },
};

const EVENTS = {
  progress: (state, data) => ({ step: `${STAGES[data.stage]}: ${data.done} of ${data.total}.` }),
  text: (state, data) => ({
    step: 'Reasoning.',
    draft: drafted(state, target => ({ ...target, reasoning: target.reasoning + data.text })),
  }),
  answer: (state, data) => (isMeasurement(data) ? measuring(state) : ({
    step: data.present ? 'Segmenting.' : null,
    draft: drafted(state, target => {
      const { prompts } = target.edit;
      const edit = withAnswer(target.edit, data);
      return isQuestion(state)
        ? { ...target, edit, reasoning: data.reasoning ?? target.reasoning }
        : { ...target, edit: { ...edit, prompts } };
    }),
  })),
  mask: (state, data) => (state.draft.measures ? {} : ({
    step: data.scope === 'slice' ? 'Segmenting through the volume.' : state.step,
    draft: drafted(state, target => {
      const earlier = isQuestion(state) ? null : find(state, target.id).edit.model;
      return { ...target, edit: withMask(target.edit, data, earlier, state.draft.sent) };
    }),
  })),
  doubt: (state, data) => ({
    draft: drafted(state, target => ({ ...target, doubt: doubtOf(data) })),
  }),
  record: (state, data) => {
    const { kind, target } = state.draft;
    if (!isQuestion(state)) return { ...AT_REST, ...done(state, kind, target.id, target.edit) };
    if (state.draft.measures) return { ...AT_REST, ...measured(state, data.medreasoner) };
    const checked = withChecks(target, data.medreasoner?.checks);
    const named = calledAs(checked, data.target ?? {});
    const answered = {
      ...withSizes(named, data.medreasoner ?? {}),
      inferenceId: data.inference_id,
      models: modelsOf(data.medreasoner ?? {}),
      first: named.edit,
    };
    return { ...AT_REST, aboutId: null, ...added(state, answered) };
  },
  error: (state, data) =>
    data.status === 499 ? CHANGES.cancelled() : failed(data.detail),
};

/** Sizes of a target that is there make no new one. */
const measuring = ({ draft }) => ({ step: 'Measuring.', draft: { ...draft, measures: true } });

function measured(state, result) {
  const { targets, id } = measuredIn(state.targets, result);
  return { targets, activeId: id ?? state.activeId, aboutId: null };
}

function withMask(edit, data, earlier, sent) {
  const grid = gridOf(data);
  if (data.scope === 'volume') return withModel(edit, data.runs, grid);
  return sent
    ? withCorrection(edit, data.runs, grid, earlier, sent)
    : withModelOnSlice(edit, data.runs, grid, earlier);
}

const STAGES = { search: 'Slices looked at', propagate: 'Slices segmented', doubt: 'Readings' };

const failed = error => ({ phase: FAILED, step: null, error, draft: null });
const find = (state, id) => state.targets.find(target => target.id === id);
const isQuestion = state => state.draft.kind === 'question';
const changed = (target, values) => ({ ...target, edit: { ...target.edit, ...values } });
const inverseOf = ({ kind, id, before, after }) => ({ kind, id, before: after, after: before });

function drafted({ draft }, change) {
  return { ...draft, target: change(draft.target) };
}

/** A command of the reader's that may be given while the segmenter works on the same target. */
function given(state, kind, id, values) {
  const { draft } = state;
  const isDrafted = draft?.target.id === id;
  const drafting = isDrafted ? { draft: { ...draft, target: changed(draft.target, values) } } : {};
  const target = find(state, id);
  return target ? { ...drafting, ...done(state, kind, id, { ...target.edit, ...values }) } : drafting;
}

/** A command was given: nothing that was undone before can be done again. */
function done(state, kind, id, after) {
  const command = { kind, id, before: find(state, id).edit, after };
  return { ...applied(state, command), past: [...state.past, command], future: [] };
}

function added(state, target) {
  const before = { ...target.edit, listed: false };
  const targets = [...state.targets, { ...target, edit: before }];
  return done({ ...state, targets }, 'question', target.id, target.edit);
}

/**
 * The target of a command is the one to look at, unless the command has taken it away or tells only
 * whether it shows.
 */
function applied(state, { kind, id, after }) {
  const targets = state.targets.map(target => (target.id === id ? { ...target, edit: after } : target));
  const left = listed({ targets }).map(target => target.id);
  const first = kind === 'hide' ? state.activeId : id;
  const wanted = [first, state.activeId].find(candidate => left.includes(candidate));
  return { targets, activeId: wanted ?? left.at(-1) ?? null, error: null };
}

function storedAs(record, stored) {
  const pacs = record.pacs.at(-1) ?? null;
  const { outcome = null, decided_at: decidedAt = null } = record.decision ?? {};
  return { outcome, decidedAt, pacs, ...stored };
}

/** The target with what was decided of it elsewhere, as in another tab, since it was decided here. */
function withDecision(target, records) {
  const record = records.find(({ inference_id: id }) => id === target.inferenceId);
  const known = target.stored?.decidedAt ?? null;
  if (!record?.decision || (target.stored !== null && known === null)) return target;
  if (known !== null && new Date(record.decision.decided_at) <= new Date(known)) return target;
  // What was edited elsewhere is not known here.
  const mask = record.decision.outcome === 'edited' ? null : target.first.mask;
  const name = record.target?.name ?? target.edit.name;
  return { ...target, stored: storedAs(record, { mask, name, check: null }) };
}

/** Whether the reader has made something that nobody keeps yet. */
export function hasUnstored(state) {
  return listed(state).some(target => isEdited(target) && !isStored(target));
}

/**
 * Earlier questions, the latest first. One that the PACS has is `archived`, and shown as the PACS
 * has it.
 */
export function earlierQuestions({ local, archived }) {
  const byId = new Map(local.map(record => [record.inference_id, record]));
  for (const record of archived) {
    const known = byId.get(record.inference_id);
    byId.set(record.inference_id, { ...record, ...known, archived: true });
  }
  return [...byId.values()].sort((a, b) => new Date(b.created_at) - new Date(a.created_at));
}

/** What was asked on this study in words, the latest first, each once. */
export function askedTexts(history) {
  const texts = earlierQuestions(history).map(record => record.result?.query ?? '');
  return [...new Set(texts.filter(text => text !== ''))].slice(0, MOST_ASKED);
}

/** Which buttons may be pressed. */
export function allowed(state) {
  const working = state.phase === WORKING;
  const target = active(state);
  const answered = !working && target !== null && target.edit.answer !== null;
  // A record that only the PACS has cannot be decided upon anew here.
  const ours =
    answered && state.history.local.some(known => known.inference_id === target.inferenceId);
  const isNew = ours && !isStored(target);
  // Nothing was answered; accepted, it would stand for a target that is not there.
  const saysNothing = isPuzzled(target?.edit.answer) && !hasVoxels(target);
  return {
    ask: !working,
    cancel: working,
    undo: !working && state.past.length > 0,
    redo: !working && state.future.length > 0,
    jump: Boolean(target?.edit.answer),
    followUp: answered && canFollow(target.edit) && followedUp(state) !== target,
    correct: answered,
    reset: answered && (isEdited(target) || !sameRuns(target.edit.model, target.first.model)),
    accept: isNew && !isEdited(target) && !saysNothing,
    submit: isNew && isEdited(target) && hasVoxels(target),
    reject: ours && target.stored === null,
  };
}
