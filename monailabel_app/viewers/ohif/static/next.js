// SPDX-License-Identifier: Apache-2.0
// What to label next: which image, by which strategy, and why.

import { setDisabled } from './focus.js';
import { describeFault } from './words.js';

export const STRATEGIES = {
  combined: 'All reasons',
  uncertainty: 'Unsure answers',
  disagreement: 'Little support',
  coverage: 'Few masks yet',
  novelty: 'Looks new',
  random: 'At random',
};
// The end of a UID tells series apart and fits into the tab.
const SHOWN_DIGITS = 6;

/** What is said of an offer of the server; `null` where no image waits. */
export function describeOffer(offer) {
  if (offer === null) return 'Every image has an approved mask, or there is none.';
  const modality = typeof offer.Modality === 'string' ? offer.Modality : 'an';
  const name = `${modality} image …${String(offer.id).slice(-SHOWN_DIGITS)}`;
  if (typeof offer.reason !== 'string') return `Next: ${name}.`;
  return `Next: ${name}, because ${offer.reason.charAt(0).toLowerCase()}${offer.reason.slice(1)}`;
}

/** Where the viewer shows an offered image; `null` where its study is not known. */
export function addressOf(offer, path) {
  const study = offer?.StudyInstanceUID;
  if (typeof study !== 'string' || study === '') return null;
  const query = new URLSearchParams({
    StudyInstanceUIDs: study,
    initialSeriesInstanceUID: String(offer.id),
  });
  return `${path}?${query}`;
}

/** The section of the tab; `element` is put into the page by whoever makes it. */
export class NextImage {
  #api;
  #path;
  #parts;

  /** `path()` is that of the viewer in its present mode. */
  constructor(api, path = () => window.location.pathname) {
    this.#api = api;
    this.#path = path;
    this.#parts = this.#make();
  }

  get element() {
    return this.#parts.section;
  }

  #make() {
    const made = (tag, properties) => Object.assign(document.createElement(tag), properties);
    const strategy = made('select', {});
    strategy.setAttribute('aria-label', 'What the next image is chosen by');
    const options = Object.entries(STRATEGIES);
    strategy.append(...options.map(([value, textContent]) => made('option', { value, textContent })));
    const suggest = made('button', { type: 'button', textContent: 'Next image' });
    suggest.addEventListener('click', () => this.#suggest());
    const said = made('p', { className: 'hint' });
    said.setAttribute('role', 'status');
    const open = made('a', { textContent: 'Open it', hidden: true });
    const row = made('div', { className: 'medreasoner-row' });
    row.append(strategy, suggest);
    const section = made('section', { className: 'section-next' });
    section.setAttribute('aria-label', 'What to label next');
    section.append(row, said, open);
    return { section, strategy, suggest, said, open };
  }

  async #suggest() {
    const { strategy, suggest, said, open } = this.#parts;
    // Each offer counts as taken, so that two clicks would take two.
    setDisabled(suggest, true);
    open.hidden = true;
    try {
      const offer = await this.#api.next(strategy.value);
      said.textContent = describeOffer(offer);
      const address = addressOf(offer, this.#path());
      open.hidden = address === null;
      if (address !== null) open.href = address;
    } catch (error) {
      said.textContent = describeFault(error);
    } finally {
      setDisabled(suggest, false);
    }
  }
}
