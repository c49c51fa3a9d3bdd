// SPDX-License-Identifier: Apache-2.0
// Which keys mean what, wherever on the page they are pressed.

/**
 * Whether Alt, and nothing with it, is held. Where AltGr is Ctrl and Alt it writes letters, such as
 * "@" with Q in German.
 */
export function isWithAlt(event) {
  return event.altKey && !event.ctrlKey && !event.metaKey && !event.getModifierState?.('AltGraph');
}

/** What a key asks for: `undo`, `redo`, `store`, `escape`, or `null`. */
export function meaningOf(event) {
  if (isWithAlt(event) && event.key === 'Enter') return 'store';
  // The name of a target that is being typed has its own.
  if (event.key === 'Escape') return event.target.closest?.('.medreasoner .targets input') ? null : 'escape';
  // In a text field these keys edit the text.
  if (!(event.ctrlKey || event.metaKey) || event.altKey || isText(event.target)) return null;
  const again = event.shiftKey ? 'redo' : 'undo';
  return { z: again, y: 'redo' }[event.key.toLowerCase()] ?? null;
}

function isText(element) {
  return element.matches?.('textarea, select, [contenteditable], input:not([type="checkbox"])') ?? false;
}
