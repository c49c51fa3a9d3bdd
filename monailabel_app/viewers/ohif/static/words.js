// SPDX-License-Identifier: Apache-2.0
// Sentences for the reader.

const LOW_AGREEMENT = 0.5;
const LOW_CONFIDENCE = 0.5;
const MM2_PER_CM2 = 100;
const MM3_PER_CM3 = 1000;

/** What an answer says, as `{text, alert}` lines; `alert` marks what needs a second look. */
export function describeAnswer(answer, sizes = null) {
  const lines = [presence(answer)];
  const search = describeSearch(answer.slice_choice);
  if (search !== null) lines.push({ text: search, alert: false });
  const { agreement, confidence } = answer;
  if (agreement !== null && agreement !== undefined) {
    const low = agreement < LOW_AGREEMENT;
    const text = `Several answers agree to ${percent(agreement)}${low ? ': low, look closely' : ''}.`;
    lines.push({ text, alert: low });
  }
  if (confidence !== null && confidence !== undefined) {
    const low = confidence < LOW_CONFIDENCE;
    const text = `Confidence of the answer: ${percent(confidence)}${low ? ': low' : ''}.`;
    lines.push({ text, alert: low });
  }
  const size = describeSize(answer, sizes);
  if (size !== null) lines.push({ text: size, alert: false });
  for (const text of answer.warnings ?? []) lines.push({ text, alert: true });
  return lines;
}

function presence(answer) {
  return answer.present
    ? { text: 'The target is on this slice.', alert: false }
    : { text: 'Not present: the target was not found on this slice.', alert: true };
}

// The viewer may count slices from the other end, so no number of a slice is ever said.
function describeSearch({ method, candidates }) {
  if (method !== 'search') return null;
  const seen = candidates.filter(candidate => candidate.present).length;
  return seen === 0
    ? `None of the ${candidates.length} slices looked at shows the target.`
    : `Of ${candidates.length} slices looked at, ${seen} show the target; this one shows it best.`;
}

function describeSize(answer, sizes) {
  // A projection magnifies, so its millimetres are none of the patient.
  if (!sizes?.voxels || answer.slice.plane === 'acquired') return null;
  const area = (sizes.slice_area_mm2 / MM2_PER_CM2).toFixed(1);
  const volume = (sizes.volume_mm3 / MM3_PER_CM3).toFixed(1);
  const [first, last] = sizes.slice_range;
  const area_text = `Area on this slice: ${area} cm²`;
  return first === last ? `${area_text}.` : `${area_text}; volume: ${volume} cm³.`;
}

function percent(share) {
  return `${Math.round(share * 100)} %`;
}

/** What was decided, and where it is kept: `{text, alert}`. */
export function describeDecision(decision, pacs) {
  const decided = `This answer is ${decision}.`;
  if (pacs === null) return { text: decided, alert: false };
  const kept = {
    sent: 'The PACS has it.',
    pending: `It is kept here and goes to the PACS as soon as that answers. ${pacs.error ?? ''}`,
    failed: `It is kept here, but the PACS has not got it. ${pacs.error ?? ''}`,
    superseded: 'A newer version has taken its place.',
  };
  return { text: `${decided} ${kept[pacs.state]}`.trim(), alert: pacs.state === 'failed' };
}

/** An earlier question: `{question, details}`. */
export function describeRecord(record) {
  const asked = new Date(record.created_at).toLocaleString(undefined, {
    dateStyle: 'medium',
    timeStyle: 'short',
  });
  const found = record.present ? 'present' : 'not present';
  const outcome = record.decision?.outcome ?? 'not decided';
  const details = [outcome, found, asked, ...(record.archived ? ['in the PACS'] : [])];
  return { question: record.result.query, details: details.join(' · ') };
}

/** A fault as a sentence. */
export function describeFault(error) {
  if (error instanceof TypeError) return 'The server cannot be reached; is it running?';
  return error?.message || 'Something went wrong; ask again.';
}
