// SPDX-License-Identifier: Apache-2.0
// Keys stay where the reader has put them: what had the focus may be disabled or drawn anew, and the
// browser would then give the next key to the viewer.

/** Enable or disable a control; a focus that it has goes to its section. */
export function setDisabled(control, isDisabled) {
  if (isDisabled && control === document.activeElement) hold(control.closest('section'));
  control.disabled = isDisabled;
}

/** Replace the items of a list; a focus within goes to the same control of the same item. */
export function replaceItems(list, items) {
  const at = [...list.children].findIndex(child => child.contains(document.activeElement));
  const control = at < 0 ? -1 : controlsOf(list.children[at]).indexOf(document.activeElement);
  list.replaceChildren(...items);
  if (at < 0) return;
  const controls = items.length > 0 ? controlsOf(items[Math.min(at, items.length - 1)]) : [];
  const next = [controls[control], ...controls].find(found => found && !found.disabled);
  if (next) next.focus();
  else hold(list.closest('section'));
}

const controlsOf = item => [...item.querySelectorAll('button, input')];

/** A section has the focus until another element gets it. */
function hold(section) {
  section.tabIndex = -1;
  section.focus();
  section.addEventListener('blur', () => section.removeAttribute('tabindex'), { once: true });
}
