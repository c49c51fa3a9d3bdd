// SPDX-License-Identifier: Apache-2.0
// The extension that OHIF registers: one tab on the right.

import { Api } from './api.js';
import { Panel } from './panel.js';
import { Viewer } from './viewer.js';

const PANEL = 'medreasoner.panelModule.question';
const SHORTCUT = 'KeyQ'; // with Alt

/** The extension's modules and life cycle. */
export function createExtension({ servicesManager }) {
  const { panelService } = servicesManager.services;
  // Outlives the tab, which OHIF takes from the page whenever another one is opened.
  const page = Object.assign(document.createElement('div'), { className: 'medreasoner' });
  const openTab = () => panelService.activatePanel(PANEL, true);
  let panel = null;

  function onShortcut(event) {
    if (!event.altKey || event.code !== SHORTCUT) return;
    event.preventDefault();
    if (!page.isConnected) openTab();
    setTimeout(() => panel?.focus(), 0);
  }

  return {
    getPanelModule: () => [
      {
        name: 'question',
        iconName: 'info',
        iconLabel: 'MedReasoner',
        label: 'MedReasoner',
        component: () =>
          reactElement({ className: 'medreasoner-tab' }, root => root?.append(page)),
      },
    ],
    onModeEnter() {
      addStyles();
      // OHIF opens its own tab of segmentations when there is a new one; the reader stays here.
      const stay = () => setTimeout(openTab, 0);
      panel = new Panel(page, new Viewer(servicesManager, stay), new Api());
      document.addEventListener('keydown', onShortcut);
      // The mode itself sets its panels right after this.
      setTimeout(() => panelService.addPanel('right', PANEL), 0);
    },
    onModeExit() {
      document.removeEventListener('keydown', onShortcut);
      panel?.close();
      panel = null;
    },
  };
}

// OHIF's bundle keeps its React to itself; this is what React.createElement('div') returns.
function reactElement(props, ref) {
  const type = 'div';
  return { $$typeof: Symbol.for('react.element'), type, key: null, ref, props, _owner: null };
}

function addStyles() {
  const href = '/medreasoner/ohif/panel.css';
  if (document.querySelector(`link[href="${href}"]`)) return;
  document.head.append(Object.assign(document.createElement('link'), { rel: 'stylesheet', href }));
}
