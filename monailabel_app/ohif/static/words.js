// SPDX-License-Identifier: Apache-2.0
// Sentences for the reader.

const LOW_AGREEMENT = 0.5;
const LOW_CONFIDENCE = 0.5;

/** What an answer says, as `{text, alert}` lines; `alert` marks what needs a second look. */
export function describeAnswer(answer) {
  const lines = [presence(answer)];
  lines.push({ text: answer.slice_choice.explanation, alert: false });
  const { agreement, confidence } = answer;
  if (agreement !== null && agreement !== undefined) {
    const low = agreement < LOW_AGREEMENT;
    const text = `Several answers agree to ${percent(agreement)}${low ? ': low, look closely' : ''}.`;
    lines.push({ text, alert: low });
  }
  if (confidence !== null && confidence !== undefined) {
    const low = confidence < LOW_CONFIDENCE;
    lines.push({ text: `Confidence of the answer: ${percent(confidence)}.`, alert: low });
  }
  for (const text of answer.warnings ?? []) lines.push({ text, alert: true });
  return lines;
}

function presence(answer) {
  return answer.present
    ? { text: 'The target is on this slice.', alert: false }
    : { text: 'Not present: the target was not found on this slice.', alert: true };
}

function percent(share) {
  return `${Math.round(share * 100)} %`;
}

/** One line for an earlier question. */
export function describeRecord(record) {
  const asked = new Date(record.created_at).toLocaleString();
  const outcome = record.decision?.outcome ?? (record.present ? 'open' : 'not present');
  return `${record.result.query} (${outcome}, ${asked})`;
}

/** A fault as a sentence. */
export function describeFault(error) {
  if (error instanceof TypeError) return 'The server cannot be reached; is it running?';
  return error?.message || 'Something went wrong; ask again.';
}
