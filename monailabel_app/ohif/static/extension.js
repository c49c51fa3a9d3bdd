// SPDX-License-Identifier: Apache-2.0
// The extension that OHIF registers: one tab on the right.

import { Api } from './api.js';
import { Panel } from './panel.js';
import { Viewer } from './viewer.js';

const PANEL = 'medreasoner.panelModule.question';

/** The extension's modules and life cycle. */
export function createExtension({ servicesManager }) {
  const viewer = new Viewer(servicesManager);
  let panel = null;

  function mount(root) {
    panel?.close();
    panel = root === null ? null : new Panel(root, viewer, new Api());
  }

  return {
    getPanelModule: () => [
      {
        name: 'question',
        iconName: 'tab-linear',
        iconLabel: 'MedReasoner',
        label: 'MedReasoner',
        component: () => reactElement({ className: 'medreasoner' }, mount),
      },
    ],
    onModeEnter() {
      addStyles();
      // The mode itself sets its panels right after this.
      setTimeout(() => servicesManager.services.panelService.addPanel('right', PANEL), 0);
    },
    onModeExit: () => mount(null),
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
