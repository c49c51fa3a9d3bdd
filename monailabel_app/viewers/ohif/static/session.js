// SPDX-License-Identifier: Apache-2.0
// What the tab knows, as plain values, and how it changes: no page, no network.

export const IDLE = 'idle';
export const WORKING = 'working';
export const ANSWERED = 'answered';
export const FAILED = 'failed';

const NO_HISTORY = { local: [], archived: [], unreadable: [] };

/** Nothing asked yet. */
export function initialState() {
  return {
    phase: IDLE,
    // The series that the question is about; the viewer may show another one meanwhile.
    series: null,
    question: '',
    step: null,
    reasoning: '',
    answer: null,
    masks: { slice: null, volume: null },
    // Sizes of the mask, as the server measured them.
    sizes: null,
    // The question that a submitted label belongs to; a correction keeps the question's.
    inferenceId: null,
    corrected: false,
    decision: null,
    // What the PACS has of the decision, or why it has not.
    pacs: null,
    error: null,
    // Earlier questions: what the server recorded, what the PACS has, what of it is unreadable.
    history: NO_HISTORY,
  };
}

/** The state after `action`; unknown actions change nothing. */
export function reduce(state, action) {
  const change = CHANGES[action.type];
  return change === undefined ? state : { ...state, ...change(state, action) };
}

const CHANGES = {
  opened: () => initialState(),
  asked: (state, { question, series, search }) => ({
    ...initialState(),
    history: state.history,
    phase: WORKING,
    series,
    question,
    step: search ? 'Looking through the series.' : 'Reading the slice that is shown.',
  }),
  corrected: () => ({
    phase: WORKING,
    step: 'Segmenting.',
    error: null,
    corrected: true,
  }),
  event: (state, { name, data }) => (EVENTS[name] ?? (() => ({})))(state, data),
  ended: state =>
    state.phase === WORKING
      ? { phase: FAILED, step: null, error: 'The server ended the answer early; ask again.' }
      : {},
  failed: (state, { error }) => ({ phase: FAILED, step: null, error }),
  cancelled: () => ({ phase: IDLE, step: 'Cancelled.', error: null }),
  decided: (state, { record }) => ({
    decision: record.decision?.outcome ?? null,
    pacs: record.pacs.at(-1) ?? null,
    error: null,
  }),
  listed: (state, { records }) => ({ history: { ...state.history, local: records } }),
  archived: (state, { records, unreadable }) => ({
    history: { ...state.history, archived: records, unreadable },
  }),
  shown: (state, { record, mask }) => ({
    ...initialState(),
    history: state.history,
    phase: ANSWERED,
    series: record.image_id,
    question: record.result.query ?? '',
    reasoning: record.result.reasoning ?? '',
    answer: record.result,
    masks: { slice: null, volume: mask },
    sizes: record.result.mask,
    inferenceId: record.inference_id,
    decision: record.decision?.outcome ?? null,
    pacs: record.archived ? { state: 'sent' } : null,
  }),
};

const EVENTS = {
  progress: (state, data) => ({ step: `${STAGES[data.stage]}: ${data.done} of ${data.total}.` }),
  text: (state, data) => ({ reasoning: state.reasoning + data.text, step: 'Reasoning.' }),
  answer: (state, data) => ({
    answer: data,
    reasoning: data.reasoning ?? state.reasoning,
    sizes: null,
    step: data.present ? 'Segmenting.' : null,
  }),
  mask: (state, data) =>
    data.scope === 'volume'
      ? { masks: { ...state.masks, volume: data } }
      : { masks: { slice: data, volume: null }, step: 'Segmenting through the volume.' },
  record: (state, data) => ({
    phase: ANSWERED,
    step: null,
    sizes: data.medreasoner?.mask ?? null,
    inferenceId: state.inferenceId ?? data.inference_id,
  }),
  error: (state, data) =>
    data.status === 499
      ? CHANGES.cancelled()
      : { phase: FAILED, step: null, error: data.detail },
};

const STAGES = { search: 'Slices looked at', propagate: 'Slices segmented' };

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

/** Which buttons may be pressed. */
export function allowed(state) {
  const working = state.phase === WORKING;
  const answered = state.inferenceId !== null && !working;
  const hasMask = state.masks.slice !== null || state.masks.volume !== null;
  // A record that only the PACS has cannot be decided upon anew here.
  const ours = answered && state.history.local.some(known => known.inference_id === state.inferenceId);
  return {
    ask: !working,
    cancel: working,
    jump: state.answer !== null,
    correct: !working && state.answer !== null,
    accept: ours && state.decision === null && !state.corrected,
    submit: ours && hasMask,
    reject: ours && state.decision === null,
  };
}
