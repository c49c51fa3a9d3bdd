// SPDX-License-Identifier: Apache-2.0
// The server's routes.

import { readEvents } from './sse.js';

/** Calls the server; every refusal becomes an Error with the server's sentence. */
export class Api {
  #fetch;

  constructor(fetchFunction = (...call) => globalThis.fetch(...call)) {
    this.#fetch = fetchFunction;
  }

  /**
   * What a text comes to: `{questions, follows_up}`, one question for each target of a list, and
   * whether it says nothing without an earlier answer.
   */
  async questions(query, signal) {
    const answer = await this.#call('/medreasoner/questions', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ query }),
      signal,
    });
    return answer.json();
  }

  /** The image to label next, chosen by a strategy; `null` where none waits. */
  async next(strategy) {
    const answer = await this.#call(`/activelearning/${encodeURIComponent(strategy)}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: '{}',
    });
    const offer = await answer.json();
    return offer.id === undefined ? null : offer;
  }

  /** The events of a question about an image. */
  async ask(image, values, signal) {
    return this.#stream('ask', image, values, signal);
  }

  /** The events of a segmentation by the reader's own box or points (LPS mm). */
  async segment(image, values, signal) {
    return this.#stream('segment', image, values, signal);
  }

  /** Questions about a study that the server has recorded, the latest first. */
  async history(study) {
    const answer = await this.#call(`/medreasoner/inferences?${new URLSearchParams({ study })}`);
    const records = await answer.json();
    return records.filter(record => record.result.query);
  }

  /** Questions about a study that the PACS has: `{records, unreadable}`. */
  async archived(study) {
    const path = `/medreasoner/history?${new URLSearchParams({ study })}`;
    return (await this.#call(path)).json();
  }

  /** One recorded question with its decision, and how far it is on its way to the PACS. */
  async record(inferenceId) {
    const id = encodeURIComponent(inferenceId);
    return (await this.#call(`/medreasoner/inferences/${id}`)).json();
  }

  /** The mask of an earlier question, as approved if the PACS has it; `null` if nobody has. */
  async mask(record) {
    const id = encodeURIComponent(record.inference_id);
    if (record.archived) {
      const query = new URLSearchParams({ study: record.study_uid });
      return (await this.#call(`/medreasoner/history/${id}/mask?${query}`)).json();
    }
    if (!record.mask_kept) return null;
    return (await this.#call(`/medreasoner/masks/${id}`)).json();
  }

  /** The data of a `doubt` event of an earlier question; `null` where no map of it is kept. */
  async doubt(record) {
    if (!record.doubt_map_kept) return null;
    const id = encodeURIComponent(record.inference_id);
    return (await this.#call(`/medreasoner/doubts/${id}`)).json();
  }

  /** Record what the reader makes of an answer, and what they call it: `{name, color}`. */
  async decide(inferenceId, target, outcome, reason = null) {
    await this.#call(`/medreasoner/inferences/${encodeURIComponent(inferenceId)}/decision`, {
      method: 'PUT',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ outcome, reason, target }),
    });
  }

  /**
   * Submit a label map as the image's final label; without an `outcome` the server tells by
   * comparing whether it was edited; `target` is what the reader calls it: `{name, color}`. Returns
   * the SHA-256 of the voxels that it keeps, as hashOf of runs.js.
   */
  async submit(image, file, inferenceId, target, outcome) {
    const form = new FormData();
    const segment = { ...target, idx: 1, inference_id: inferenceId };
    const said = { inference_id: inferenceId, outcome, label_info: [segment] };
    form.append('params', JSON.stringify(said));
    form.append('label', file, 'label.nrrd');
    const query = new URLSearchParams({ image, tag: 'final' });
    const answer = await this.#call(`/datastore/label?${query}`, { method: 'PUT', body: form });
    return (await answer.json()).medreasoner?.voxels_sha256 ?? null;
  }

  /** Earlier series of an image's patient, the latest first. */
  async priors(image) {
    return (await this.#call(`/medreasoner/priors?${new URLSearchParams({ image })}`)).json();
  }

  /** What has changed since `values.prior`: both are asked `values.query`, and recorded. */
  async compare(image, values, signal) {
    const answer = await this.#call(`/medreasoner/priors?${new URLSearchParams({ image })}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(values),
      signal,
    });
    return answer.json();
  }

  /** Have the PACS keep a comparison, by the id of the answer about the prior. */
  async storeComparison(inferenceId) {
    const id = encodeURIComponent(inferenceId);
    await this.#call(`/medreasoner/priors/${id}/report`, { method: 'POST' });
  }

  async #stream(kind, image, values, signal) {
    const path = `/medreasoner/streams/${kind}?${new URLSearchParams({ image })}`;
    const answer = await this.#call(path, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(values),
      signal,
    });
    return readEvents(answer.body);
  }

  async #call(path, options = {}) {
    const answer = await this.#fetch(path, { credentials: 'same-origin', ...options });
    if (!answer.ok) throw new Error(await sentenceOf(answer));
    return answer;
  }
}

// Of refusals that come without one, or with one that is meant for other clients.
const OWN_SENTENCES = {
  401: 'The login has expired; reload the page to log in again.',
  413: 'This is larger than the server takes; its administrator can raise the limit.',
};

async function sentenceOf(answer) {
  const own = OWN_SENTENCES[answer.status];
  if (own !== undefined) return own;
  const text = await answer.text();
  try {
    const { detail } = JSON.parse(text);
    if (typeof detail === 'string') return detail;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return `The server refused this (HTTP ${answer.status}).`;
}
