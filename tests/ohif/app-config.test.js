// SPDX-License-Identifier: Apache-2.0
// The viewer's configuration, run as OHIF runs it: a classic script in a page.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';

const FILE = new URL('../../monailabel_app/viewers/ohif/static/app-config.js', import.meta.url);
const SOURCE = await readFile(FILE, 'utf8');

/** A page of `origin` that has run the script. */
function page(cookie = '', origin = 'https://reading.example:8443') {
  const document = { cookie };
  const window = { location: { origin } };
  runInNewContext(SOURCE, { document, window, encodeURIComponent });
  return { document, config: window.config };
}

/** All texts within a value of the configuration. */
function textsOf(value) {
  if (typeof value === 'string') return [value];
  return value && typeof value === 'object' ? Object.values(value).flatMap(textsOf) : [];
}

test("MONAI Label's own panel is told that this server is its server", () => {
  const { document } = page();
  const [setting, ...attributes] = document.cookie.split('; ');
  const [name, server] = setting.split('=');
  assert.equal(name, 'MONAILABEL_SERVER_URL');
  assert.equal(decodeURIComponent(server), 'https://reading.example:8443/');
  assert.deepEqual(attributes.sort(), ['SameSite=Lax', 'path=/']);
});

test('a server that was chosen before stays chosen', () => {
  const chosen = 'theme=dark; MONAILABEL_SERVER_URL=https%3A%2F%2Fother.example%2F';
  assert.equal(page(chosen).document.cookie, chosen);
});

test('images come from the archive behind this server and from nowhere else', () => {
  const { config } = page();
  assert.equal(config.dataSources.length, 1);
  const [{ sourceName, configuration }] = config.dataSources;
  assert.equal(config.defaultDataSourceName, sourceName);
  assert.equal(configuration.qidoRoot, '/proxy/dicom/qido');
  assert.equal(configuration.wadoRoot, '/proxy/dicom/wado');
  assert.equal(configuration.wadoUriRoot, '/proxy/dicom/wado');
  assert.deepEqual(textsOf(config).filter(text => /^([a-z]+:)?\/\//i.test(text)), []);
});

test('nothing is sent to the archive by the viewer itself', () => {
  const [{ configuration }] = page().config.dataSources;
  assert.equal(configuration.dicomUploadEnabled, false);
});

test('the tab is registered before its module is loaded', () => {
  const { extensions, modes } = page().config;
  assert.equal(extensions.length, 1);
  const [{ id, preRegistration, getPanelModule }] = extensions;
  assert.equal(id, 'medreasoner');
  assert.equal(typeof preRegistration, 'function');
  // No module has been asked for yet, so there is no panel to give.
  assert.throws(getPanelModule, { name: 'TypeError' });
  assert.equal(modes.length, 0);
});
