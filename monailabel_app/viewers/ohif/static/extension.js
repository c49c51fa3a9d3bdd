// SPDX-License-Identifier: Apache-2.0
// The extension that OHIF registers: one tab on the right.

import { Api } from './api.js';
import { isWithAlt } from './keys.js';
import { NextImage } from './next.js';
import { Panel } from './panel.js';
import { Viewer } from './viewer.js';

const PANEL = 'medreasoner.panelModule.question';
const SHORTCUT = 'KeyQ'; // with Alt
const FRAMES_TO_SHOW = 300;

/** The extension's modules and life cycle. */
export function createExtension({ servicesManager, commandsManager, extensionManager }) {
  const { panelService } = servicesManager.services;
  // Outlives the tab, which OHIF takes from the page whenever another one is opened.
  const page = Object.assign(document.createElement('div'), { className: 'medreasoner' });
  const openTab = () => panelService.activatePanel(PANEL, true);
  // Of the studies that were shown, so that a look at the worklist loses nothing.
  const kept = new Map();
  let panel = null;

  function onShortcut(event) {
    if (!isWithAlt(event) || event.code !== SHORTCUT) return;
    event.preventDefault();
    if (!page.isConnected) openTab();
    focusWhenShown();
  }

  // React shows the tab some frames later, and an element that is not shown takes no focus.
  function focusWhenShown(frames = FRAMES_TO_SHOW) {
    if (page.isConnected) panel?.focus();
    if (page.contains(document.activeElement) || frames === 0) return;
    requestAnimationFrame(() => focusWhenShown(frames - 1));
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
      mendExport(commandsManager, extensionManager);
      // OHIF opens its own tab of segmentations when there is a new one; the reader stays here.
      const stay = () => setTimeout(openTab, 0);
      const { services } = servicesManager;
      const viewer = new Viewer(services);
      const api = new Api();
      panel = new Panel(page, { viewer, services, api, onSegmentation: stay, kept });
      page.querySelector('.middle').append(new NextImage(api).element);
      document.addEventListener('keydown', onShortcut, true);
      // The mode itself sets its panels right after this.
      setTimeout(() => panelService.addPanel('right', PANEL), 0);
    },
    onModeExit() {
      document.removeEventListener('keydown', onShortcut, true);
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

/**
 * OHIF's "Export DICOM SEG" runs its command without saying where to store, and throws.
 */
function mendExport(commandsManager, extensionManager) {
  const command = commandsManager.getCommand('storeSegmentation');
  if (!command || command.isMended) return;
  const { commandFn } = command;
  const store = ({ dataSource = extensionManager.getActiveDataSource()[0], ...values }) =>
    commandFn({ ...values, dataSource });
  Object.assign(command, { commandFn: store, isMended: true });
}

function addStyles() {
  const href = '/medreasoner/ohif/panel.css';
  if (document.querySelector(`link[href="${href}"]`)) return;
  document.head.append(Object.assign(document.createElement('link'), { rel: 'stylesheet', href }));
}
