// SPDX-License-Identifier: Apache-2.0
// Server-sent events over fetch: EventSource itself can neither POST nor be given a body.

/** Parses an event stream (HTML standard, section 9.2.6) however the network has cut it. */
export class EventParser {
  #rest = '';

  /** The events that `text` completes, as `{event, data}` with the data still text. */
  push(text) {
    const blocks = (this.#rest + text).replace(/\r\n/g, '\n').split('\n\n');
    this.#rest = blocks.pop();
    return blocks.map(parseBlock).filter(event => event !== null);
  }
}

function parseBlock(block) {
  let event = 'message';
  const data = [];
  for (const line of block.split('\n')) {
    const colon = line.indexOf(':');
    if (colon === 0) continue; // a comment, by which the server keeps the connection open
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') event = value;
    if (field === 'data') data.push(value);
  }
  return data.length > 0 ? { event, data: data.join('\n') } : null;
}

/** The events of a response's body, their data read as JSON. */
export async function* readEvents(body) {
  const parser = new EventParser();
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      for (const { event, data } of parser.push(value)) yield { event, data: JSON.parse(data) };
    }
  } finally {
    await reader.cancel();
  }
}
