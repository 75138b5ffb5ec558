// Small helpers that every module shares. Holds no state, so loading it twice does no harm.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => Array.from(root.querySelectorAll(selector));

/** Listens on the document for events of elements that match, now or later: swaps need no re-wiring. */
export function on(type, selector, handler, options) {
  document.addEventListener(type, (event) => {
    const match = event.target instanceof Element ? event.target.closest(selector) : null;
    if (match) { handler(event, match); }
  }, options);
}

/** Calls `fn(root)` once the page is there and again after each htmx swap. `fn` must bear being called twice. */
export function onContent(fn) {
  const start = () => fn(document.body);
  if (document.readyState === "loading") { document.addEventListener("DOMContentLoaded", start); } else { start(); }
  document.addEventListener("htmx:after:swap", () => fn(document.body));
}

export const meta = (name) => $(`meta[name="${name}"]`)?.content ?? "";

/** True while the event's target takes text, so that single-letter keys are left alone. */
export function isTyping(event) {
  const at = event.target;
  if (!(at instanceof Element)) { return false; }
  if (at.isContentEditable || at.matches("textarea, select")) { return true; }
  return at.matches("input") && !/^(checkbox|radio|button|submit|reset|range|file|color)$/.test(at.type);
}

/** Says something to screen readers without showing it. */
export function say(text) {
  const box = $("#say");
  if (!box) { return; }
  box.textContent = "";
  setTimeout(() => { box.textContent = text; }, 50);
}

export const focusable = (root) => $$(
  "a[href], button:not([disabled]), input:not([disabled]):not([type=hidden]), select:not([disabled]), textarea:not([disabled]), summary, [tabindex='0']", root,
).filter((element) => element.checkVisibility?.({ visibilityProperty: true }) ?? element.offsetParent);
