// SPDX-License-Identifier: Apache-2.0
// The tab's offer of the next image; run by: node --test tests/ohif
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';

const at = name => import(new URL(`../../monailabel_app/viewers/ohif/static/${name}`, import.meta.url));
const { NextImage, STRATEGIES, addressOf, describeOffer } = await at('next.js');
const { Api } = await at('api.js');

const OFFER = {
  id: '1.2.3.4567890',
  Modality: 'MR',
  StudyInstanceUID: '1.2.3',
  strategy: 'combined',
  reason: 'Nothing of modality MR is approved or with a reader.',
};

test('an offer is named by its modality and the end of its UID, with the reason', () => {
  assert.equal(
    describeOffer(OFFER),
    'Next: MR image …567890, because nothing of modality MR is approved or with a reader.'
  );
  assert.equal(describeOffer({ id: 'a' }), 'Next: an image …a.');
  assert.equal(describeOffer(null), 'Every image has an approved mask, or there is none.');
});

test('the address keeps the mode and names study and series', () => {
  const address = new URL(addressOf(OFFER, '/ohif/segmentation'), 'http://server');
  assert.equal(address.pathname, '/ohif/segmentation');
  assert.equal(address.searchParams.get('StudyInstanceUIDs'), '1.2.3');
  assert.equal(address.searchParams.get('initialSeriesInstanceUID'), OFFER.id);
  const strange = { id: 'a&b=c', StudyInstanceUID: 'x#?&y' };
  const { searchParams } = new URL(addressOf(strange, '/ohif/viewer'), 'http://server');
  assert.equal(searchParams.get('StudyInstanceUIDs'), 'x#?&y');
  assert.equal(searchParams.get('initialSeriesInstanceUID'), 'a&b=c');
});

test('without a study there is nothing to open', () => {
  assert.equal(addressOf({ id: 'a' }, '/ohif/viewer'), null);
  assert.equal(addressOf(null, '/ohif/viewer'), null);
});

test('the server is asked as other clients of MONAI Label ask it', async () => {
  const calls = [];
  const answers = [OFFER, {}];
  const api = new Api(async (path, options) => {
    calls.push([path, options.method, options.body]);
    return { ok: true, json: async () => answers.shift() };
  });
  assert.deepEqual(await api.next('combined'), OFFER);
  assert.equal(await api.next('no/path'), null);
  assert.deepEqual(calls, [
    ['/activelearning/combined', 'POST', '{}'],
    ['/activelearning/no%2Fpath', 'POST', '{}'],
  ]);
});

// As much of a page as the section needs.
class Element {
  constructor(tag) {
    Object.assign(this, { tag, children: [], listeners: {}, attributes: {} });
  }
  append(...children) {
    this.children.push(...children);
  }
  setAttribute(name, value) {
    this.attributes[name] = value;
  }
  addEventListener(name, listener) {
    this.listeners[name] = listener;
  }
  all() {
    return [this, ...this.children.flatMap(child => child.all())];
  }
  find(tag) {
    return this.all().find(element => element.tag === tag);
  }
}

function sectionWith(next) {
  globalThis.document = { createElement: tag => new Element(tag) };
  const section = new NextImage({ next }, () => '/ohif/segmentation').element;
  const [select, button, said, link] = ['select', 'button', 'p', 'a'].map(tag => section.find(tag));
  select.value = 'combined';
  return { select, button, said, link };
}

test('one click takes one image, and the next one only when that is told', async () => {
  const asked = [];
  let answer;
  const { button, said, link } = sectionWith(strategy => {
    asked.push(strategy);
    return new Promise(done => (answer = done));
  });
  const clicked = button.listeners.click();
  assert.equal(button.disabled, true);
  answer(OFFER);
  await clicked;
  await wait(0);
  assert.equal(button.disabled, false);
  assert.deepEqual(asked, ['combined']);
  assert.match(said.textContent, /^Next: MR image …567890, because /);
  assert.equal(link.hidden, false);
  assert.match(link.href, /^\/ohif\/segmentation\?StudyInstanceUIDs=1\.2\.3&/);
});

test('a refusal is said, and nothing can be opened', async () => {
  const { button, said, link } = sectionWith(async () => {
    throw new Error('The PACS does not answer.');
  });
  button.listeners.click();
  await wait(0);
  assert.equal(said.textContent, 'The PACS does not answer.');
  assert.equal(link.hidden, true);
  assert.equal(button.disabled, false);
});

test('all reasons together are the first choice', () => {
  assert.equal(Object.keys(STRATEGIES)[0], 'combined');
});
