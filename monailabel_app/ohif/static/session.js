// SPDX-License-Identifier: Apache-2.0
// What the tab knows, as plain values, and how it changes: no page, no network.

export const IDLE = 'idle';
export const WORKING = 'working';
export const ANSWERED = 'answered';
export const FAILED = 'failed';

/** Nothing asked yet. */
export function initialState() {
  return {
    phase: IDLE,
    // The series that the question is about; the viewer may show another one meanwhile.
    series: null,
    question: '',
    streamId: null,
    step: null,
    reasoning: '',
    answer: null,
    masks: { slice: null, volume: null },
    // The question that a submitted label belongs to; a correction keeps the question's.
    inferenceId: null,
    corrected: false,
    decision: null,
    error: null,
    history: [],
  };
}

/** The state after `action`; unknown actions change nothing. */
export function reduce(state, action) {
  const change = CHANGES[action.type];
  return change === undefined ? state : { ...state, ...change(state, action) };
}

const CHANGES = {
  asked: (state, { question, series }) => ({
    ...initialState(),
    history: state.history,
    phase: WORKING,
    series,
    question,
    step: 'Waiting for the model.',
  }),
  corrected: () => ({
    phase: WORKING,
    step: 'Segmenting.',
    error: null,
    streamId: null,
    corrected: true,
  }),
  event: (state, { name, data }) => (EVENTS[name] ?? (() => ({})))(state, data),
  ended: state =>
    state.phase === WORKING
      ? { phase: FAILED, step: null, error: 'The server ended the answer early; ask again.' }
      : {},
  failed: (state, { error }) => ({ phase: FAILED, step: null, streamId: null, error }),
  cancelled: () => ({ phase: IDLE, step: null, streamId: null, error: null }),
  decided: (state, { decision }) => ({ decision, error: null }),
  listed: (state, { history }) => ({ history }),
  shown: (state, { record, mask }) => ({
    ...initialState(),
    history: state.history,
    phase: ANSWERED,
    series: record.image_id,
    question: record.result.query ?? '',
    reasoning: record.result.reasoning ?? '',
    answer: record.result,
    masks: { slice: null, volume: mask },
    inferenceId: record.inference_id,
    decision: record.decision?.outcome ?? null,
  }),
};

const EVENTS = {
  accepted: (state, data) => ({ streamId: data.stream_id }),
  slice: (state, data) => ({ step: `Reading the ${data.plane} slice. ${data.explanation}` }),
  progress: (state, data) => ({ step: `${STAGES[data.stage]}: ${data.done} of ${data.total}.` }),
  text: (state, data) => ({ reasoning: state.reasoning + data.text, step: 'Reasoning.' }),
  answer: (state, data) => ({
    answer: data,
    reasoning: data.reasoning ?? state.reasoning,
    step: data.present ? 'Segmenting through the volume.' : null,
  }),
  mask: (state, data) =>
    data.scope === 'volume'
      ? { masks: { ...state.masks, volume: data } }
      : { masks: { slice: data, volume: null } },
  record: (state, data) => ({
    phase: ANSWERED,
    step: null,
    streamId: null,
    inferenceId: state.inferenceId ?? data.inference_id,
  }),
  error: (state, data) =>
    data.status === 499
      ? CHANGES.cancelled()
      : { phase: FAILED, step: null, streamId: null, error: data.detail },
};

const STAGES = { search: 'Slices looked at', propagate: 'Slices segmented' };

/** Which buttons may be pressed. */
export function allowed(state) {
  const working = state.phase === WORKING;
  const answered = state.inferenceId !== null && !working;
  const hasMask = state.masks.slice !== null || state.masks.volume !== null;
  return {
    ask: !working,
    cancel: working && state.streamId !== null,
    jump: state.answer !== null,
    correct: !working && state.answer !== null,
    accept: answered && state.decision === null && !state.corrected,
    submit: answered && hasMask,
    reject: answered && state.decision === null,
  };
}
